"""A block that was typed into a notebook, as the text of a plug-in file that stands on its own.

A notebook has no file that a run folder could keep. What it has is the text of its cells, which Python's linecache
holds for tracebacks, and a namespace. The block's definition is cut out of its cell, and what it uses is added: an
import for what can be imported, a value for a plain constant, the definition for a class or function of the notebook.
Nothing else of the cells is kept, so nothing else is run when the file is loaded.
"""

import ast
import builtins
import inspect
import linecache
import symtable
import sys
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType
from typing import Any

from search_spaces.errors import InputError

_DEFINITIONS = (ast.ClassDef, ast.FunctionDef)


@dataclass(frozen=True, eq=False)
class TypedBlock:
    """Where an operator was registered: the text of the class or function, "" if there is none, and its namespace."""

    text: str
    namespace: dict[str, Any]


def typed_block(frame: FrameType | None) -> TypedBlock | None:
    """The block that the code in `frame` is registering, or None if that is this package or a plug-in file."""
    if frame is None:
        return None
    module = str(frame.f_globals.get("__name__"))
    if module.startswith("_plugin_") or module.partition(".")[0] == __name__.partition(".")[0]:
        return None
    is_top_level = frame.f_locals is frame.f_globals
    text = _definition(frame.f_code.co_filename, frame.f_lineno) if is_top_level else ""
    return TypedBlock(text, frame.f_globals)


def plugin_source(name: str, block: TypedBlock) -> str:
    """The text of a file that registers the operator `name`, with all that its block uses.

    Raises InputError if the text of the block, or something that it uses, cannot be had.
    """
    if not block.text:
        raise InputError(
            f'the source of operator "{name}" cannot be kept in a run folder: it is no class or function at the top'
            " level of a cell whose text Python has; put it into a file and load_plugin that, or give no run folder"
        )
    imports: dict[str, None] = {}
    definitions: dict[str, str] = {}

    def add(used: str) -> None:
        """Adds what the name means, after what that needs itself."""
        if used in definitions or (used not in block.namespace and hasattr(builtins, used)):
            return
        if used not in block.namespace:  # Python would raise NameError where it is used, if it ever is
            return
        value = block.namespace[used]
        if line := _import_line(used, value, block.namespace):
            imports[line] = None
        elif _is_plain(value):
            definitions[used] = f"{used} = {value!r}\n"
        else:
            text = _definition_of(value, block.namespace)
            if not text:
                raise InputError(
                    f'operator "{name}" uses {used}, a {type(value).__name__} that cannot be written into a run folder;'
                    " define it inside the block, or put the block into a file and load_plugin that"
                )
            text = _without_registration(text)
            definitions[used] = ""  # a function may use itself
            for needed in _free_names(text):
                add(needed)
            del definitions[used]
            definitions[used] = text  # after what it needs

    for used in _free_names(block.text):
        add(used)
    head = f'"""The operator "{name}", as it was typed."""\n\n' + "".join(f"{line}\n" for line in sorted(imports))
    return "\n\n".join([head, *definitions.values(), block.text])


def _definition(file: str, line: int) -> str:
    """The class or function at the top level of a file or cell that includes a line, with its decorators, or ""."""
    lines = linecache.getlines(file)
    try:
        statements = ast.parse("".join(lines)).body
    except (SyntaxError, ValueError):
        return ""
    for statement in statements:
        if isinstance(statement, _DEFINITIONS):
            first = min(node.lineno for node in (statement, *statement.decorator_list))
            if first <= line <= (statement.end_lineno or first):
                return "".join(lines[first - 1 : statement.end_lineno]).rstrip("\n") + "\n"
    return ""


def _definition_of(value: Any, namespace: dict[str, Any]) -> str:
    """The definition of a class or function of this namespace, or ""."""
    code = _code(value) if getattr(value, "__module__", None) == namespace.get("__name__") else None
    return _definition(code.co_filename, code.co_firstlineno) if code is not None else ""


def _code(value: Any) -> CodeType | None:
    """The code of a function, or of one of a class's own methods, which says where the class stands."""
    if inspect.isfunction(value):
        return inspect.unwrap(value).__code__
    if not isinstance(value, type):
        return None
    members = [getattr(member, "fget", None) or inspect.unwrap(member) for member in vars(value).values()]
    codes = [member.__code__ for member in members if inspect.isfunction(member)]
    return next((code for code in codes if linecache.getlines(code.co_filename)), None)  # not a dataclass's __init__


def _without_registration(text: str) -> str:
    """A definition without its @register_operator lines: what another block is derived from registers nothing."""
    lines = text.splitlines(keepends=True)
    for decorator in ast.parse(text).body[0].decorator_list:  # type: ignore[attr-defined]
        if "register_operator" in ast.unparse(decorator):
            lines[decorator.lineno - 1 : decorator.end_lineno] = [""] * (decorator.end_lineno - decorator.lineno + 1)
    return "".join(lines)


def _free_names(text: str) -> list[str]:
    """The names that a definition takes from outside of it, sorted."""
    top = symtable.symtable(text, "<block>", "exec")
    names, tables = set(), [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return sorted(names - {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()})


def _import_line(name: str, value: Any, namespace: dict[str, Any]) -> str:
    """The statement that imports `value` as `name` in another process, or "" if none does."""
    if isinstance(value, ModuleType):
        if value.__name__.startswith("_plugin_"):
            return ""
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    if _is_plain(value):
        return ""
    own_name = getattr(value, "__qualname__", name)
    modules = [(str(getattr(value, "__module__", None)), own_name)]
    by_depth = sorted(sys.modules, key=lambda module: (module.count("."), module))
    modules += [(module, name) for module in by_depth]  # what does not say its module, such as torch.cat
    for module, attribute in modules:
        names = vars(sys.modules.get(module, object))
        is_here = names is namespace or module.startswith(("__main__", "__mp_main__", "_plugin_"))
        if not is_here and names.get(attribute) is value:
            return f"from {module} import {attribute}" + ("" if attribute == name else f" as {name}")
    return ""


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a text, or a container of such."""
    if not isinstance(value, bool | int | float | complex | str | bytes | tuple | list | dict | set | None):
        return False
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False
