"""Source text cut out of our own modules: definitions, with all that they need.

So an exported file says the same as the package it came from, and there is one truth to maintain.
"""

import ast
import importlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Where layers, the macro skeleton and the built-in operators are defined, each after those that it imports from.
MODULES = (
    "search_spaces.layers",
    "search_spaces.blocks",
    "cells.stacking",
    "search_spaces.darts_ops",
    "search_spaces.bottleneck_ops",
)


@dataclass(frozen=True)
class Definition:
    """A function, class or constant at the top of a module: its text without `register_operator`, the names in it."""

    module: str
    text: str
    names: frozenset[str]


class Definitions:
    """What the modules define, by name, and where each gets the names that it imports."""

    def __init__(self, modules: Sequence[str] = MODULES):
        self.modules = modules
        self.found: dict[str, Definition] = {}
        self.imports: dict[tuple[str, str], str] = {}  # (module, name) -> the statement that gives it the name
        for module in modules:
            text = inspect.getsource(importlib.import_module(module))
            for node in ast.parse(text).body:
                self._read(module, text.splitlines(), node)

    def _read(self, module: str, lines: list[str], node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports |= {(module, name): statement for name, statement in _imported(node)}
            return
        first = node.lineno
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
            node.decorator_list = [part for part in node.decorator_list if "register_operator" not in ast.unparse(part)]
            first = min([first, *(part.lineno for part in node.decorator_list)])
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            return
        needed = frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        for name in names:
            self.found[name] = Definition(module, "\n".join(lines[first - 1 : node.end_lineno]), needed)

    def cut_out(self, names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
        """(imports, module -> texts in the order of the module) of these definitions and of all that they need."""
        wanted: set[str] = set()
        imports: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name in wanted:
                continue
            wanted.add(name)
            module = self.found[name].module
            for needed in self.found[name].names:
                if needed in self.found:
                    waiting.append(needed)
                elif (module, needed) in self.imports:
                    imports.add(self.imports[module, needed])
        texts: dict[str, list[str]] = {module: [] for module in self.modules}
        for name, definition in self.found.items():
            if name in wanted:
                texts[definition.module].append(definition.text)
        return sorted(imports), {module: parts for module, parts in texts.items() if parts}


def _imported(node: ast.Import | ast.ImportFrom) -> Iterable[tuple[str, str]]:
    """(the name that it binds, a statement that binds it alone) for each name of an import statement."""
    for alias in node.names:
        only = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level)
        yield alias.asname or alias.name.partition(".")[0], ast.unparse(only)


def module_comment(module: str) -> str:
    """What a module says of itself, as a comment."""
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())
