"""Every operator by its name.

An operator is a plain module for one edge of a cell: x (N, C, H, W) -> (N, C, H / stride, W / stride), built from
(channels, stride, affine). A user adds one by decorating a class in a file of their own:

    @register_operator("ghost_3x3", label="Ghost")
    class Ghost(nn.Module):
        def __init__(self, channels, stride, affine): ...
"""

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

from torch import nn

from search_spaces.errors import InputError, suggest

KINDS = ("none", "pooling", "skip", "separable", "dilated", "convolution", "bottleneck", "block")


@dataclass(frozen=True)
class Operator:
    """A named way to build one edge.

    `build(channels, stride, affine)` returns the module. `label` is what diagrams print. `supernet_norm` asks for a
    BatchNorm (affine off) behind the operator in the supernet only, as DARTS does for pooling. `kind` chooses the
    colour in diagrams.
    """

    name: str
    build: Callable[[int, int, bool], nn.Module]
    label: str
    supernet_norm: bool = False
    kind: str = "block"


@dataclass(frozen=True)
class Plugin:
    """A user's file that has been run: its path, its source and the operators it registered."""

    path: Path
    source: bytes
    operators: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()


_OPERATORS: dict[str, Operator] = {}
_PLUGINS: dict[str, Plugin] = {}


def register_operator(name: str, *, label: str | None = None, supernet_norm: bool = False, kind: str = "block"):
    """A decorator that registers a module class (or any callable) taking (channels, stride, affine).

    Raises InputError for a name that is taken, or reserved, or is not letters, digits and underscores.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise InputError(f'operator name "{name}": allowed are a letter, then letters, digits and "_"')
    if hasattr(nn.ModuleDict(), name):  # the supernet keeps its operators in one
        raise InputError(f'operator name "{name}" means something to PyTorch\'s modules; give yours another name')
    if kind not in KINDS:
        raise InputError(f'operator "{name}": unknown kind "{kind}"; known: {", ".join(KINDS)}')
    if name in _OPERATORS:
        raise InputError(f'operator "{name}" is registered already; give yours another name')

    def register(build):
        _OPERATORS[name] = Operator(name, build, name if label is None else str(label), supernet_norm, kind)
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

    A file whose content was loaded before is not run again. Raises InputError, and registers nothing, if the file
    cannot be read or run, registers no operator, or registers one that breaks the operator contract.
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

    before = dict(_OPERATORS)
    module_name = f"_plugin_{digest[:16]}"
    try:
        _run_file(path, source, module_name)
        added = tuple(name for name in _OPERATORS if name not in before)
        if not added:
            raise InputError(f"plug-in {path} registers no operator; decorate a class with @register_operator")
        for name in added:
            check_operator(name)
    except BaseException:
        _OPERATORS.clear()
        _OPERATORS.update(before)
        sys.modules.pop(module_name, None)
        raise
    _PLUGINS[digest] = Plugin(path, source, added)
    return _PLUGINS[digest]


def plugins_of(operators: Iterable[str]) -> tuple[Plugin, ...]:
    """The loaded plug-ins that registered any of these operators."""
    wanted = set(operators)
    return tuple(plugin for plugin in _PLUGINS.values() if wanted & set(plugin.operators))


class _PluginLoader(SourceFileLoader):
    """Runs the bytes that were read, and neither reads nor leaves byte code beside the user's file."""

    def __init__(self, module_name: str, path: Path, source: bytes):
        super().__init__(module_name, str(path.absolute()))
        self._source = source

    def get_data(self, path):
        return self._source

    def path_stats(self, path):
        raise OSError("no byte code is kept")


def _run_file(path: Path, source: bytes, module_name: str):
    loader = _PluginLoader(module_name, path, source)
    spec = importlib.util.spec_from_file_location(module_name, loader.path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look up the module of a class there
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        raise InputError(f"plug-in {path}: {error}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        if isinstance(error, SyntaxError) and error.filename == spec.origin:
            lines.append(error.lineno)
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise InputError(f"plug-in {where}: {type(error).__name__}: {error}") from None


def check_operator(name: str) -> dict:
    """Tests the operator contract and returns what the operator costs; see `search_spaces.contract`."""
    from search_spaces.contract import check_contract

    return check_contract(get_operator(name))


def _register_built_in():
    """The operators that ship with the package register themselves as their modules are imported."""
    from search_spaces import bottleneck_ops, darts_ops  # noqa: F401


_register_built_in()
