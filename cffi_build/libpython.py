"""Links a libpython without the built-in modules that the stage does not import.

Debian's libpython carries megabytes that nobody needs at shutdown (Unicode names, expat, pickle,
hashes). All of it would be locked in memory. Debian also ships the same objects as an archive, and
the table of built-in modules as C (`config.c`): linking a smaller one takes a quarter of a second.
"""

import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Set
from pathlib import Path

from cffi_build import project

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
    "cmath": ("cmathmodule.o",),
    "pyexpat": ("pyexpat.o",),
    "spwd": ("spwdmodule.o",),
    "syslog": ("syslogmodule.o",),
    "unicodedata": ("unicodedata.o",),
    "xxsubtype": ("xxsubtype.o",),
}


def small_libpython(needed: Set[str]) -> Path:
    """A libpython with the built-in modules `needed`, linked from the distribution's objects.

    Where those are not to be had it is the distribution's own library, whole.
    """
    stock = stock_libpython()
    config = Path(_variable("LIBPL"))
    archive = config / f"libpython{sysconfig.get_python_version()}-pic.a"
    if not archive.exists():
        project.say(f"no {archive}: the whole {stock.name} goes into the tree")
        return stock

    dropped = sorted(OPTIONAL.keys() - needed)
    tools = (project.python_identity(), project.compiler_version(), Path(__file__).read_text())
    key = project.digest(" ".join(dropped), *tools)
    folder = project.BUILD / "libpython" / key[:12]
    library = folder / stock.name
    if not library.exists():
        project.say(f"linking {library.name} without {', '.join(dropped)}")
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            _link(library, archive, (config / "config.c").read_text(), dropped)
        except subprocess.CalledProcessError:
            project.say(f"that does not link: the whole {stock.name} goes into the tree")
            return stock
    return library


def stock_libpython() -> Path:
    """The distribution's shared library of the Python that runs this."""
    folders = [Path(_variable("LIBDIR")), Path(_variable("LIBDIR"), _variable("MULTIARCH"))]
    for folder in folders:
        if (folder / _variable("INSTSONAME")).exists():
            return folder / _variable("INSTSONAME")
    raise project.die("this Python has no shared library", "make setup installs one that has")


def _link(library: Path, archive: Path, table: str, dropped: list[str]) -> None:
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
    command += ["-Wl,--whole-archive", str(objects), "-Wl,--no-whole-archive", "-lz"]
    command += [*_variable("LIBS").split(), *_variable("SYSLIBS").split()]
    subprocess.run(command, check=True)
    subprocess.run(["strip", "--strip-unneeded", unfinished], check=True)
    objects.unlink()
    unfinished.rename(library)


def _variable(name: str) -> str:
    return str(sysconfig.get_config_var(name) or "")
