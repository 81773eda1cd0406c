# SPDX-License-Identifier: Apache-2.0
"""The package as syntax trees: what every module imports and calls, without importing any of it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "supervisor"


class Import(NamedTuple):
    """One imported module; ``name`` is what is taken from it, empty for the module itself."""

    module: str
    name: str
    line: int
    typing_only: bool


class Module(NamedTuple):
    """One source file."""

    dotted: str
    path: Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        """Its package below ``supervisor``, its own name at the top, empty for ``supervisor`` itself."""
        return self.dotted.partition(".")[2].partition(".")[0]

    def imports(self) -> list[Import]:
        """Every import, those inside functions too."""
        guarded = {id(inner) for node in ast.walk(self.tree) if _is_typing_guard(node) for inner in ast.walk(node)}
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(alias.name, "", node.lineno, id(node) in guarded) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                found += [Import(module, alias.name, node.lineno, id(node) in guarded) for alias in node.names]
        return found

    def names_called(self) -> set[str]:
        """Plain names that are called: ``open(...)``, not ``file.open(...)``."""
        return {node.func.id for node in ast.walk(self.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    def classes(self) -> list[str]:
        return [node.name for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def modules() -> Iterator[Module]:
    """Every module of the package, tracked or not yet."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(dotted, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))


MODULES = list(modules())
