"""Every operator by its name.

An operator is a plain module for one edge of a cell: x (N, C, H, W) -> (N, C, H / stride, W / stride), built from
(channels, stride, affine). A user adds one by decorating a class in a file of their own:

    @register_operator("ghost_3x3", label="Ghost")
    class Ghost(nn.Module):
        def __init__(self, channels, stride, affine): ...

In a notebook, the cell with that class does the same, and does it anew each time it is run.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from search_spaces.errors import InputError, suggest
from search_spaces.plugin_file import run_plugin_file
from search_spaces.typed_block import TypedBlock, plugin_source, typed_block

Build = TypeVar("Build", bound=Callable[..., nn.Module])  # a class is such a callable, too
KINDS = ("none", "pooling", "skip", "separable", "dilated", "convolution", "bottleneck", "block")


@dataclass(frozen=True)
class Operator:
    """A named way to build one edge.

    `build(channels, stride, affine)` returns the module. `label` is what diagrams print. `supernet_norm` asks for a
    BatchNorm (affine off) behind the operator in the supernet only, as DARTS does for pooling. `kind` chooses the
    colour in diagrams. `typed` is where it stands if that is neither in this package nor in a plug-in file.
    """

    name: str
    build: Callable[[int, int, bool], nn.Module]
    label: str
    supernet_norm: bool = False
    kind: str = "block"
    typed: TypedBlock | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Plugin:
    """A user's file that has been run, or would be for a typed block: path, source and the operators it registers."""

    path: Path
    source: bytes
    operators: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()


_OPERATORS: dict[str, Operator] = {}
_PLUGINS: dict[str, Plugin] = {}


def register_operator(
    name: str, *, label: str | None = None, supernet_norm: bool = False, kind: str = "block"
) -> Callable[[Build], Build]:
    """A decorator that registers a module class (or any callable) taking (channels, stride, affine).

    A block that was typed into a notebook replaces the one that the same notebook gave this name before. Networks that
    were built from that keep it. Raises InputError for a name that is otherwise taken, or reserved, or is not letters,
    digits and underscores.
    """
    frame = inspect.currentframe()
    typed = typed_block(frame.f_back if frame is not None else None)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise InputError(f'operator name "{name}": allowed are a letter, then letters, digits and "_"')
    if hasattr(nn.ModuleDict(), name):  # the supernet keeps its operators in one
        raise InputError(f'operator name "{name}" means something to PyTorch\'s modules; give yours another name')
    if kind not in KINDS:
        raise InputError(f'operator "{name}": unknown kind "{kind}"; known: {", ".join(KINDS)}')
    taken = _OPERATORS.get(name)
    before = taken.typed if taken is not None else None
    if taken is not None and before is None:
        raise InputError(f'operator "{name}" is registered already; give yours another name')
    if before is not None and (typed is None or before.namespace is not typed.namespace):
        raise InputError(
            f'operator "{name}" was typed in here with another source; give it another name there, or start Python anew'
        )

    def register(build: Build) -> Build:
        _OPERATORS[name] = Operator(name, build, name if label is None else str(label), supernet_norm, kind, typed)
        return build

    return register


def operator_names() -> tuple[str, ...]:
    """All registered names, in the order of registration."""
    return tuple(_OPERATORS)


def get_operator(name: str) -> Operator:
    """The operator of that name. Raises InputError with the closest known name."""
    if name not in _OPERATORS:
        raise InputError(
            f'unknown operator "{name}"{suggest(name, _OPERATORS)}'
            f" known: {', '.join(_OPERATORS)}; one of your own needs --plugin FILE.py"
        )
    return _OPERATORS[name]


def build_operator(name: str, channels: int, stride: int, affine: bool) -> nn.Module:
    """A new module for one edge: x (N, channels, H, W) -> (N, channels, H / stride, W / stride)."""
    return get_operator(name).build(channels, stride, affine)


def load_plugin(path: str | Path) -> Plugin:
    """Runs a user's Python file and checks every operator that it registers.

    A file whose content was loaded before, or is that of a typed block, is not run again; one that was edited takes the
    place of what it was. Raises InputError, and
    registers nothing, if the file cannot be read or run, registers no operator, or registers one that breaks the
    operator contract.
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
    if digest in _PLUGINS:
        return _PLUGINS[digest]
    for name, block in [(name, operator.typed) for name, operator in _OPERATORS.items() if operator.typed is not None]:
        with suppress(InputError):  # of a block whose source cannot be had
            if plugin_source(name, block).encode() == source:
                return _typed_plugin(name, block)

    before = dict(_OPERATORS), dict(_PLUGINS)
    try:
        for edited in [plugin for plugin in _PLUGINS.values() if plugin.path.absolute() == path.absolute()]:
            del _PLUGINS[edited.sha256]
            for name in edited.operators:
                del _OPERATORS[name]
        _PLUGINS[digest] = Plugin(path, source, _load(path, source))
    except BaseException:
        _put_back(*before)
        raise
    return _PLUGINS[digest]


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plug-in files that have been run."""
    return tuple(_PLUGINS.values())


def plugins_of(operators: Iterable[str]) -> tuple[Plugin, ...]:
    """The loaded plug-ins that registered any of these operators, and files for those that were typed.

    Raises InputError if the source of a typed one cannot be had, or does not run by itself.
    """
    wanted = [_OPERATORS[name] for name in dict.fromkeys(operators) if name in _OPERATORS]
    names = {operator.name for operator in wanted}
    files = [plugin for plugin in loaded_plugins() if names & set(plugin.operators)]
    typed = [_typed_plugin(operator.name, operator.typed) for operator in wanted if operator.typed is not None]
    return tuple(dict.fromkeys(files + typed))


def _typed_plugin(name: str, block: TypedBlock) -> Plugin:
    """The plug-in file for a typed operator; it was run and checked, as another process would, and forgotten."""
    source = plugin_source(name, block)
    before = dict(_OPERATORS), dict(_PLUGINS)
    try:
        for other in [other for other, operator in _OPERATORS.items() if operator.typed is not None]:
            del _OPERATORS[other]
        added = _load(Path(f"{name}.py"), source.encode())
    except InputError as error:
        raise InputError(
            f'the source of operator "{name}" does not run by itself ({error}); put it into a file and load_plugin that'
        ) from None
    finally:
        _put_back(*before)
    return Plugin(Path(f"{added[0]}.py"), source.encode(), added)


def _load(path: Path, source: bytes) -> tuple[str, ...]:
    """Runs a plug-in's source and returns the operators that it registered, which keep the contract."""
    before = set(_OPERATORS)
    module_name = f"_plugin_{hashlib.sha256(source).hexdigest()[:16]}"
    try:
        run_plugin_file(path, source, module_name)
        added = tuple(name for name in _OPERATORS if name not in before)
        if not added:
            raise InputError(f"plug-in {path} registers no operator; decorate a class with @register_operator")
        for name in added:
            _OPERATORS[name] = replace(_OPERATORS[name], typed=None)  # a module that the file imports is kept with it
            check_operator(name)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    return added


def _put_back(operators: dict[str, Operator], plugins: dict[str, Plugin]) -> None:
    _OPERATORS.clear()
    _OPERATORS.update(operators)
    _PLUGINS.clear()
    _PLUGINS.update(plugins)


def check_operator(name: str) -> dict:
    """Tests the operator contract and returns what the operator costs; see `search_spaces.contract`."""
    from search_spaces.contract import check_contract

    return check_contract(get_operator(name))


def _register_built_in() -> None:
    """The operators that ship with the package register themselves as their modules are imported."""
    from search_spaces import bottleneck_ops, darts_ops  # noqa: F401


_register_built_in()
