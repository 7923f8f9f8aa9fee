"""Judges whether a tree is closed: whether ld.so finds in it all that its ELF files ask for.

Follows the rules of ld.so(8) for a stage that runs with the tree as `/`, no ld.so.cache, and no
LD_LIBRARY_PATH, which is stricter than what the bootloader sets. Written without the code that
builds the tree.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from elftools.elf.constants import P_FLAGS
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection, GNUVerSymSection
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import InterpSegment

DF_TEXTREL = 4
DF_1_PIE = 0x08000000
VER_NDX_HIDDEN = 0x8000


@dataclass(frozen=True)
class Symbol:
    """A symbol that a file asks for; `version` is empty if any will do."""

    name: str
    version: str = ""


@dataclass
class Elf:
    """What matters of one ELF file. Paths are as a program with the tree as its root sees them."""

    path: str
    interpreter: str = ""
    is_program: bool = False
    stack_is_executable: bool = True
    has_text_relocations: bool = False
    needed: list[str] = field(default_factory=list)
    rpath: list[str] = field(default_factory=list)
    runpath: list[str] = field(default_factory=list)
    wanted: set[Symbol] = field(default_factory=set)
    wanted_versions: set[tuple[str, str]] = field(default_factory=set)  # file, version
    versions: set[str] = field(default_factory=set)
    defined: set[tuple[str, str]] = field(default_factory=set)  # name, version

    @cached_property
    def defined_names(self) -> set[str]:
        """Names that satisfy a file which asks for no version."""
        return {name for name, _ in self.defined}


class Tree:
    """The ELF files of a tree, and the complaints about them."""

    def __init__(self, root: Path, stage: str, preloaded: str) -> None:
        """`stage` is the program that opens all libraries, `preloaded` part of the name of the one
        (libpython) whose symbols are global by the time any other is opened."""
        self.root = root
        self.files = {
            elf.path: elf
            for path in sorted(root.rglob("*"))
            if (elf := read_elf(root, path)) is not None
        }
        self.stage = self.files[stage]
        self.preloaded = [elf for elf in self.files.values() if preloaded in elf.path]

    def complaints(self) -> list[str]:
        """One line for each thing that is not met inside of the tree."""
        return [f"{elf.path}: {text}" for elf in self.files.values() for text in self._judge(elf)]

    def resolve(self, elf: Elf, name: str) -> Elf | None:
        """The file that ld.so takes for a name that `elf` needs."""
        if "/" in name:
            return self.files.get(name)
        folders = elf.runpath or [*elf.rpath, *self.stage.rpath]
        return next(
            (
                self.files[path]
                for path in (f"{folder}/{name}" for folder in folders)
                if path in self.files
            ),
            None,
        )

    def scope(self, *elves: Elf) -> list[Elf]:
        """The files, and all that they need, in the order of the search (breadth first)."""
        found = list(elves)
        for elf in found:
            for name in elf.needed:
                other = self.resolve(elf, name)
                if other is not None and other not in found:
                    found.append(other)
        return found

    def _judge(self, elf: Elf) -> list[str]:
        said = []
        if elf.is_program and elf.interpreter and elf.interpreter not in self.files:
            said.append(f"its interpreter {elf.interpreter} is not there")
        if elf.stack_is_executable:
            said.append("has an executable stack")
        if elf.has_text_relocations:
            said.append("has text relocations")
        for folder in elf.rpath + elf.runpath:
            if not (self.root / folder.lstrip("/")).is_dir():
                said.append(f"its RPATH {folder} is not there")
        said += [
            f"needs {name}, not there" for name in elf.needed if self.resolve(elf, name) is None
        ]
        for file, version in sorted(elf.wanted_versions):
            provider = self.resolve(elf, file)
            if provider is None or version not in provider.versions:
                said.append(f"needs version {version} of {file}, not there")
        scope = self.scope(elf)
        if ".so" in elf.path:
            scope = self.scope(self.stage, *self.preloaded, elf)
        for symbol in sorted(elf.wanted, key=str):
            if symbol.version:
                met = any((symbol.name, symbol.version) in other.defined for other in scope)
            else:
                met = any(symbol.name in other.defined_names for other in scope)
            if not met:
                said.append(f"symbol {symbol.name} {symbol.version} is defined nowhere")
        return said


def read_elf(root: Path, path: Path) -> Elf | None:
    """What an ELF file says about itself; None for anything else."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return None
        file = ELFFile(stream)
        elf = Elf(f"/{path.relative_to(root)}", is_program=file["e_type"] == "ET_EXEC")
        for segment in file.iter_segments():
            if isinstance(segment, InterpSegment):
                elf.interpreter = segment.get_interp_name()
            if segment["p_type"] == "PT_GNU_STACK":
                elf.stack_is_executable = bool(segment["p_flags"] & P_FLAGS.PF_X)
        for section in file.iter_sections():
            if isinstance(section, DynamicSection):
                _read_dynamic(elf, section)
        _read_symbols(elf, file)
    return elf


def _read_dynamic(elf: Elf, section: DynamicSection) -> None:
    origin = str(Path(elf.path).parent)

    def folders(text: str) -> list[str]:
        return [
            part.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for part in text.split(":")
        ]

    for tag in section.iter_tags():
        match tag.entry.d_tag:
            case "DT_NEEDED":
                elf.needed.append(vars(tag)["needed"])
            case "DT_RPATH":
                elf.rpath = folders(vars(tag)["rpath"])
            case "DT_RUNPATH":
                elf.runpath = folders(vars(tag)["runpath"])
            case "DT_TEXTREL":
                elf.has_text_relocations = True
            case "DT_FLAGS" if tag.entry.d_val & DF_TEXTREL:
                elf.has_text_relocations = True
            case "DT_FLAGS_1" if tag.entry.d_val & DF_1_PIE:
                elf.is_program = True


def _read_symbols(elf: Elf, file: ELFFile) -> None:
    asked: dict[int, tuple[str, str]] = {}  # index to file, version
    offered: dict[int, str] = {}
    numbers: list[int] = []
    for section in file.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for need, versions in section.iter_versions():
                for auxiliary in versions:
                    asked[auxiliary["vna_other"]] = (str(need.name), str(auxiliary.name))
        elif isinstance(section, GNUVerDefSection):
            for definition, names in section.iter_versions():
                offered[definition["vd_ndx"]] = next(iter(names)).name
        elif isinstance(section, GNUVerSymSection):
            numbers = [
                entry["ndx"] if isinstance(entry["ndx"], int) else 0
                for entry in (symbol.entry for symbol in section.iter_symbols())
            ]
    elf.wanted_versions = set(asked.values())
    elf.versions = set(offered.values())
    table = file.get_section_by_name(".dynsym")
    if not isinstance(table, SymbolTableSection):
        return
    for index, symbol in enumerate(table.iter_symbols()):
        number = numbers[index] & ~VER_NDX_HIDDEN if numbers else 0
        if not symbol.name or symbol["st_info"]["bind"] == "STB_LOCAL":
            continue
        if symbol["st_shndx"] != "SHN_UNDEF":
            elf.defined.add((symbol.name, offered.get(number, "")))
        elif symbol["st_info"]["bind"] != "STB_WEAK":
            elf.wanted.add(Symbol(symbol.name, asked.get(number, ("", ""))[1]))
