"""Links a libpython without the built-in modules that the stage does not import, and with the
modules in Python that it does.

Debian's libpython carries megabytes that nobody needs at shutdown (Unicode names, expat, pickle,
hashes). All of it would be locked in memory. Debian also ships the same objects as an archive, and
the table of built-in modules as C (`config.c`): linking a smaller one takes a quarter of a second.
"""

import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence, Set
from pathlib import Path

from cffi_build import frozen, project

# Built-in modules that Python itself can do without, and the objects that hold nothing else. Not
# every version has all of them.
OPTIONAL = {
    "_blake2": ("blake2module.o", "blake2b_impl.o", "blake2s_impl.o"),
    "_csv": ("_csv.o",),
    "_datetime": ("_datetimemodule.o",),
    "_elementtree": ("_elementtree.o",),
    "_json": ("_json.o",),
    "_md5": ("md5module.o", "Hacl_Hash_MD5.o"),
    "_opcode": ("_opcode.o",),
    "_pickle": ("_pickle.o",),
    "_posixsubprocess": ("_posixsubprocess.o",),
    "_random": ("_randommodule.o",),
    "_sha1": ("sha1module.o", "Hacl_Hash_SHA1.o"),
    "_sha2": ("sha2module.o",),
    "_sha256": ("sha256module.o",),
    "_sha3": ("sha3module.o", "Hacl_Hash_SHA3.o"),
    "_sha512": ("sha512module.o",),
    "_statistics": ("_statisticsmodule.o",),
    "_symtable": ("symtablemodule.o",),
    "binascii": ("binascii.o",),
    "cmath": ("cmathmodule.o",),
    "pyexpat": ("pyexpat.o",),
    "spwd": ("spwdmodule.o",),
    "syslog": ("syslogmodule.o",),
    "unicodedata": ("unicodedata.o",),
    "xxsubtype": ("xxsubtype.o",),
    "zlib": ("zlibmodule.o",),
}


def small_libpython(needed: Set[str], modules: Sequence[frozen.Module]) -> Path:
    """A libpython with the built-in modules `needed` and the frozen ones `modules`, linked from the
    distribution's objects."""
    config = Path(_variable("LIBPL"))
    archive = config / f"libpython{sysconfig.get_python_version()}-pic.a"
    if not archive.exists():
        raise project.die(f"no {archive}", "make setup installs a Python that has it")

    dropped = sorted(OPTIONAL.keys() - needed)
    tools = (project.python_identity(), project.compiler_version(), Path(__file__).read_text())
    marks = [f"{module.name} {project.digest(module.code)}" for module in modules]
    key = project.digest(" ".join(dropped), frozen.TABLE, *marks, *tools)
    folder = project.BUILD / "libpython" / key[:12]
    library = folder / _variable("INSTSONAME")
    if not library.exists():
        project.say(f"linking {library.name} with {len(modules)} modules")
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        _link(library, archive, (config / "config.c").read_text(), dropped, modules)
    return library


def _link(
    library: Path,
    archive: Path,
    table: str,
    dropped: list[str],
    modules: Sequence[frozen.Module],
) -> None:
    folder = library.parent
    names = "|".join(map(re.escape, dropped)) or "(?!)"
    reduced = folder / "config.c"
    reduced.write_text(re.sub(rf"^.*\bPyInit_({names})\b.*\n", "", table, flags=re.MULTILINE))
    objects = folder / archive.name
    shutil.copyfile(archive, objects)
    unwanted = ["config.o", *(member for name in dropped for member in OPTIONAL[name])]
    subprocess.run(["ar", "d", objects, *unwanted], check=True)

    linker = ["-O1", "-Bsymbolic-functions", "-z,defs", "-z,relro", "-z,now"]
    if tuple(map(int, platform.libc_ver()[1].split("."))) >= (2, 36):
        # Saves 0.6 MB. The ld.so that reads it is the tree's own, so no older one will meet it.
        linker.append("-z,pack-relative-relocs")
    unfinished = folder / "unfinished.so"
    command = ["gcc", "-shared", "-O2", "-fPIC", "-DNDEBUG", "-DPy_BUILD_CORE"]
    command += ["-I", sysconfig.get_path("include"), f"-Wl,{','.join(linker)}"]
    command += [f"-Wl,-soname,{library.name}", "-o", str(unfinished), str(reduced)]
    command += [*map(str, frozen.write_sources(modules, folder))]
    command += ["-Wl,--whole-archive", str(objects), "-Wl,--no-whole-archive"]
    command += [] if "zlib" in dropped else ["-lz"]
    command += [*_variable("LIBS").split(), *_variable("SYSLIBS").split()]
    subprocess.run(command, check=True)
    subprocess.run(["strip", "--strip-unneeded", unfinished], check=True)
    objects.unlink()
    unfinished.rename(library)


def _variable(name: str) -> str:
    return str(sysconfig.get_config_var(name) or "")
