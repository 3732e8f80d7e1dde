"""Users' files that register operators. They are code: whoever names one, or a folder that holds one, is told."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from search_spaces.contract import check_operator
from search_spaces.errors import InputError
from search_spaces.operator import OPERATORS, PLUGIN_MODULE
from search_spaces.plugin_file import run_plugin_file


@dataclass(frozen=True)
class Plugin:
    """A user's file that has been run: its path, its source and the operators that it registers."""

    path: Path
    source: bytes
    operators: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()


PLUGINS: dict[str, Plugin] = {}  # by the SHA-256 of their source


def load_plugin(path: str | Path) -> Plugin:
    """Runs a user's Python file and checks every operator that it registers.

    A file whose content was loaded before is not run again; one that was edited takes the place of what it was. Raises
    InputError, and registers nothing, if the file cannot be read or run, registers no operator, or registers one that
    breaks the operator contract.
    """
    path = Path(path)
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read plug-in {path}: {reason}; give the path of a Python file") from None
    if path.suffix != ".py":
        raise InputError(f"plug-in {path} is not a Python file; its name must end in .py")
    digest = hashlib.sha256(source).hexdigest()
    if digest in PLUGINS:
        return PLUGINS[digest]

    operators, plugins = dict(OPERATORS), dict(PLUGINS)
    try:
        for edited in [plugin for plugin in PLUGINS.values() if plugin.path.absolute() == path.absolute()]:
            del PLUGINS[edited.sha256]
            for name in edited.operators:
                del OPERATORS[name]
        PLUGINS[digest] = Plugin(path, source, _load(path, source, f"{PLUGIN_MODULE}{digest[:16]}"))
    except BaseException:
        OPERATORS.clear()
        OPERATORS.update(operators)
        PLUGINS.clear()
        PLUGINS.update(plugins)
        raise
    return PLUGINS[digest]


def load_plugins(paths: Iterable[str | Path], say: Callable[[str], None] | None = None) -> None:
    """Runs these files; `say` is told of each, or else the user, on standard error, apart from what is printed."""
    for path in paths:
        line = f"plug-in {path} was run; it registers {', '.join(load_plugin(path).operators)}"
        if say is None:
            print(line, file=sys.stderr)
        else:
            say(line)


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plug-in files that have been run."""
    return tuple(PLUGINS.values())


def plugins_of(operators: Iterable[str]) -> tuple[Plugin, ...]:
    """The loaded plug-ins that registered any of these operators."""
    names = set(operators)
    return tuple(plugin for plugin in loaded_plugins() if names & set(plugin.operators))


def check_typed(operators: Sequence[str], keep: bool) -> None:
    """Tests the contract on those operators that were typed, as no file's loading has.

    Raises InputError if one breaks it or, where the run is to be kept, says how it gets the file that this takes.
    """
    for name in operators:
        if name in OPERATORS and OPERATORS[name].is_typed:
            check_operator(name)
            if keep:
                raise InputError(
                    f'operator "{name}" was typed in here, and a run folder keeps the file of its block: begin its cell'
                    f' with %%writefile {name}.py, then load_plugin("{name}.py"); or give no run folder'
                )


def _load(path: Path, source: bytes, module_name: str) -> tuple[str, ...]:
    """Runs a plug-in's source and returns the operators that it registered, which keep the contract."""
    before = dict(OPERATORS)
    try:
        run_plugin_file(path, source, module_name)
        added = tuple(name for name, operator in OPERATORS.items() if operator is not before.get(name))
        if not added:
            raise InputError(f"plug-in {path} registers no operator; decorate a class with @register_operator")
        for name in added:
            OPERATORS[name] = replace(OPERATORS[name], module=module_name)  # also one of a module that the file imports
            check_operator(name)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    return added
