"""A plug-in's text as the body of a function, so that a file which holds it needs neither the plug-in nor this package.

In a function of its own, its names cannot be taken for those of another plug-in or of the file around it.
"""

import ast
import importlib.util
import io
import tokenize
from dataclasses import dataclass

from search_spaces.errors import InputError
from search_spaces.plugins import Plugin

INDENT = "    "
_PACKAGES = ("search_spaces", "cells", "nas")
_REGISTRY = (
    "search_spaces",
    "search_spaces.registry",
    "search_spaces.operator",
)  # where a plug-in gets `register_operator`


@dataclass(frozen=True)
class Body:
    """The lines of the function, and the names of `allowed` definitions that it needs around it."""

    text: str
    needs: tuple[str, ...]
    future: tuple[str, ...]


def as_function_body(plugin: Plugin, allowed: dict[str, str]) -> Body:
    """The plug-in's text, indented, for a function in which `register_operator` is defined.

    `allowed` maps the names that it may import from this package, besides `register_operator`, to their modules. What
    it imports from `__future__` is for the top of the file.

    Raises InputError for what would mean something else in a function: another import from this package, `import *`,
    or a `global` statement.
    """
    text = importlib.util.decode_source(plugin.source)
    tree = ast.parse(text)
    _refuse(plugin, tree, allowed)
    needs: list[str] = []
    future: list[str] = []
    edits: list[tuple[ast.stmt, str]] = []
    for statement in tree.body:
        if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
            edits.append((statement, "pass"))  # what it does when run as a program
        elif isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            future += [alias.name for alias in statement.names]
            edits.append((statement, "pass"))
        elif isinstance(statement, ast.ImportFrom) and _is_ours(statement.module):
            renamed = [alias for alias in statement.names if alias.asname not in (None, alias.name)]
            aliases = [f"{alias.asname} = {alias.name}" for alias in renamed]
            needs += [alias.name for alias in statement.names if alias.name != "register_operator"]
            edits.append((statement, "; ".join(aliases) or "pass"))
    lines = io.StringIO(text).readlines()  # not splitlines, which also splits where Python does not
    for statement, replacement in reversed(edits):
        _replace(lines, statement, replacement)
    return Body(_indented("".join(lines)), tuple(needs), tuple(future))


def _refuse(plugin: Plugin, tree: ast.Module, allowed: dict[str, str]) -> None:
    for node in ast.walk(tree):
        here = f"plug-in {plugin.path}, line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Global):
            raise InputError(f"{here}: a stand-alone file cannot hold a `global` statement; keep the value elsewhere")
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            raise InputError(f"{here}: a stand-alone file cannot hold `import *`; import the names one by one")
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if _is_ours(alias.name)]
        elif isinstance(node, ast.ImportFrom) and (_is_ours(node.module) or node.level):
            at_top = node in tree.body and not node.level
            names = [alias.name for alias in node.names if not (at_top and _may_import(node.module, alias, allowed))]
        else:
            continue
        if names:
            raise InputError(
                f"{here}: a stand-alone file cannot import {names[0]} like this; it can hold register_operator and"
                f" what {', '.join(sorted(set(allowed.values())))} define, imported by name at the top of the plug-in"
            )


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _PACKAGES


def _may_import(module: str | None, alias: ast.alias, allowed: dict[str, str]) -> bool:
    if alias.name == "register_operator":
        return module in _REGISTRY
    return allowed.get(alias.name) == module


def _replace(lines: list[str], statement: ast.stmt, replacement: str) -> None:
    """Puts `replacement` in the place of a statement, in place; columns count bytes, as in `ast`."""
    first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
    before = lines[first].encode()[: statement.col_offset].decode()
    after = lines[last].encode()[statement.end_col_offset :].decode()
    alone = replacement == "pass" and not before.strip() and not after.strip()
    lines[first : last + 1] = [] if alone else [before + replacement + after]


def _indented(text: str) -> str:
    """Each line moved to the right, but for those that begin inside a string."""
    inside: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE", "TSTRING_MIDDLE"):
            inside |= set(range(token.start[0] + 1, token.end[0] + 1))
    return "".join(
        INDENT + line if line.strip() and number not in inside else line
        for number, line in enumerate(io.StringIO(text), start=1)
    )
