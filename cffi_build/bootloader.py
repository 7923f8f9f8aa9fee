"""Builds PyInstaller's bootloader from its source package, in the forms that finalstage needs.

The ready-made bootloader needs libz.so from the system before it finds its own, and takes ld.so
from /lib64, which an appliance's root may lack or hold in another version. Both are settled when it
is linked: PYI_STATIC_ZLIB compiles the zlib that the source package brings along, the stage's form
names its interpreter and its library folder by itself, and that of the one-file tool is static and
has the tool's other one started by the ld.so that it brings along (one_file.c).
"""

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from cffi_build import project
from cffi_build.project import HOST_INTERPRETER, INTERPRETER, LIBRARY_DIR
from cffi_build.tree import kernel_headers

# DT_RPATH (not the newer DT_RUNPATH) of the program also serves the libraries that its libraries
# need. It is an absolute path because ld.so reads /proc/self/exe to learn what $ORIGIN is, and
# there may be no /proc.
STAGE_LINK_FLAGS = (
    f"-Wl,--dynamic-linker={INTERPRETER} -Wl,--disable-new-dtags -Wl,-rpath,/{LIBRARY_DIR} "
    "-Wl,-z,relro,-z,now"
)


ONE_FILE = Path(__file__).with_name("one_file.c")
INNER = "bootloader"
"""In the folder into which the one-file tool unpacks itself: the bootloader that loads Python."""


def one_file_bootloader() -> Path:
    """The static bootloader of the one-file tool."""
    name = f"one-file-{project.file_digest(ONE_FILE)[:12]}"
    module = project.BUILD / "bootloader" / f"{name}.o"
    module.parent.mkdir(parents=True, exist_ok=True)
    names = (f'-DLOADER="{HOST_INTERPRETER.name}"', f'-DBOOTLOADER="{INNER}"')
    command = ["musl-gcc", "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", *names]
    command += ["-idirafter", str(kernel_headers()), "-c", str(ONE_FILE), "-o", str(module)]
    subprocess.run(command, check=True)
    # The last of the flags is for the C library, which comes after what waf calls shared libraries.
    wrapped = "-Wl,--wrap=execvp -Wl,--wrap=main"
    return bootloader(name, f"-static {wrapped} {module} -Wl,-Bstatic", "musl-gcc")


def bootloader(name: str, link_flags: str, compiler: str = "gcc") -> Path:
    """The bootloader `name`, linked with `link_flags`; built only if it is not there yet."""
    release = version("pyinstaller")
    key = project.digest(release, name, link_flags, compiler, project.compiler_version())
    program = project.BUILD / "bootloader" / f"{name}-{release}-{key[:12]}"
    if program.exists():
        return program
    project.say(f"building the bootloader of PyInstaller {release} ({name})")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        subprocess.run(["tar", "xf", _source_package(release), "-C", scratch], check=True)
        folder = Path(scratch) / f"pyinstaller-{release}" / "bootloader"
        subprocess.run(
            [sys.executable, "waf", "configure", "build_release"],
            cwd=folder,
            env={**os.environ, "PYI_STATIC_ZLIB": "1", "LDFLAGS": link_flags, "CC": compiler},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        built = folder / "build/release/run"
        subprocess.run(["strip", "--strip-all", built], check=True)
        built.replace(program)
    return program


def _source_package(release: str) -> Path:
    """PyInstaller's source package, fetched once by pip from its own index."""
    folder = project.BUILD / "downloads"
    package = folder / f"pyinstaller-{release}.tar.gz"
    if not package.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", str(folder), f"pyinstaller=={release}"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return package
