"""Source text cut out of our own modules: definitions, with all that they need.

So an exported file says the same as the package it came from, and there is one truth to maintain.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module

WIDTH = 120  # of a line
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
    """A function, class, constant or import at the top of a module: its text without `register_operator`, its names.

    `module` is where it is defined, and nothing of an import.
    """

    module: str
    text: str
    names: frozenset[str] = frozenset()


def read_definitions() -> dict[str, Definition]:
    """What the `MODULES` define and import, by name and in their order."""
    found: dict[str, Definition] = {}
    for module in MODULES:
        text = inspect.getsource(import_module(module))
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in list(node.names):
                    node.names = [alias]
                    found.setdefault(alias.asname or alias.name, Definition("", ast.unparse(node)))
                continue
            for name in _defined(node):
                lines = text.splitlines()[node.lineno - 1 : node.end_lineno]  # from `def` or `class` on
                kept = [f"@{ast.unparse(decorator)}" for decorator in getattr(node, "decorator_list", ())]
                needed = frozenset(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
                found[name] = Definition(module, "\n".join([*kept, *lines]), needed)
    return found


def cut_out(definitions: dict[str, Definition], names: Iterable[str]) -> list[Definition]:
    """These and all that they need, in the order of their modules."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in wanted:
            wanted.add(name)
            waiting += definitions[name].names
    return [definition for name, definition in definitions.items() if name in wanted]


def module_comment(module: str) -> str:
    """What a module says of itself, as a comment."""
    paragraphs = (inspect.getdoc(import_module(module)) or "").split("\n\n")
    text = "\n\n".join(textwrap.fill(paragraph, WIDTH - 2) for paragraph in paragraphs)
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines. Takes `register_operator` from a function's or class's decorators."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        node.decorator_list = [part for part in node.decorator_list if "register_operator" not in ast.unparse(part)]
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]
