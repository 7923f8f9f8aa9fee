"""Python modules as part of the tree's libpython: CPython's own table of frozen modules.

A module from that table takes no file, no search along sys.path and no decompression. From
PyInstaller's archive the stage starts half as fast again. Source: Doc/c-api/import.rst
(PyImport_FrozenModules), find_frozen() in Python/import.c.
"""

import ast
import importlib.util
import marshal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLE = """\
#include <Python.h>

{declarations}

static const struct _frozen modules[] = {{
{rows}
    {{0}},
}};

__attribute__((constructor)) static void add_modules(void)
{{
    PyImport_FrozenModules = modules;
}}
"""


@dataclass(frozen=True)
class Module:
    """A module's name, its code as marshal writes it, and whether it is a package."""

    name: str
    code: bytes
    is_package: bool

    @property
    def symbol(self) -> str:
        """What its code is called in the library."""
        return f"frozen_{self.name.replace('.', '_')}"


def compiled(names: Iterable[str]) -> list[Module]:
    """Those of some modules that are written in Python, compiled."""
    found = []
    for name in sorted(names):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue  # built in, or an extension
        tree = _Unannotated().visit(ast.parse(Path(spec.origin).read_bytes()))
        place = f"{name.replace('.', '/')}.py"
        code = compile(
            ast.fix_missing_locations(tree), place, "exec", dont_inherit=True, optimize=2
        )
        is_package = spec.submodule_search_locations is not None
        found.append(Module(name, marshal.dumps(code), is_package))
    return found


class _Unannotated(ast.NodeTransformer):
    """Drops the annotations of functions: they are for type checkers, and cost a twentieth of the
    time that it takes to import everything. Those of classes are the fields of values."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        arguments = node.args
        every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
        for argument in (*every, arguments.vararg, arguments.kwarg):
            if argument is not None:
                argument.annotation = None
        return self.generic_visit(node)


def write_sources(modules: Iterable[Module], folder: Path) -> list[Path]:
    """Writes what has to be compiled and linked into libpython; returns the sources' paths."""
    assembly = ['.section .note.GNU-stack,"",@progbits', ".section .rodata"]
    declarations, rows = [], []
    for module in modules:
        blob = folder / f"{module.name}.marshal"
        blob.write_bytes(module.code)
        symbol = module.symbol
        assembly += [f".globl {symbol}", f".hidden {symbol}", f'{symbol}: .incbin "{blob}"']
        declarations.append(
            f'extern const unsigned char {symbol}[] __attribute__((visibility("hidden")));'
        )
        rows.append(
            f'    {{"{module.name}", {symbol}, {len(module.code)}, {module.is_package:d}}},'
        )
    table, code = folder / "frozen.c", folder / "frozen_code.S"
    table.write_text(TABLE.format(declarations="\n".join(declarations), rows="\n".join(rows)))
    code.write_text("\n".join(assembly) + "\n")
    return [table, code]
