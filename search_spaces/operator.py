"""An operator: a named way to build one edge of a cell, and the decorator that gives it its name.

An operator is a plain module for one edge of a cell: x (N, C, H, W) -> (N, C, H / stride, W / stride), built from
(channels, stride, affine). A user adds one by decorating a class in a file of their own:

    @register_operator("ghost_3x3", label="Ghost")
    class Ghost(nn.Module):
        def __init__(self, channels, stride, affine): ...

In a notebook, the cell with that class does the same, and does it anew each time it is run.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from torch import nn

from search_spaces.errors import InputError

Build = TypeVar("Build", bound=Callable[..., nn.Module])  # a class is such a callable, too
KINDS = ("none", "pooling", "skip", "separable", "dilated", "convolution", "bottleneck", "block")


@dataclass(frozen=True)
class Operator:
    """A named way to build one edge.

    `build(channels, stride, affine)` returns the module. `label` is what diagrams print. `supernet_norm` asks for a
    BatchNorm (affine off) behind the operator in the supernet only, as DARTS does for pooling. `kind` chooses the
    colour in diagrams. `module` is the name of the Python module whose code registered it.
    """

    name: str
    build: Callable[[int, int, bool], nn.Module]
    label: str
    supernet_norm: bool = False
    kind: str = "block"
    module: str = field(default="search_spaces", compare=False, repr=False)

    @property
    def is_typed(self) -> bool:
        """Whether it was typed into a notebook or a program: neither this package's nor a plug-in file's."""
        return self.module.partition(".")[0] != "search_spaces" and not self.module.startswith(PLUGIN_MODULE)


PLUGIN_MODULE = "_plugin_"  # how the module names of plug-in files begin
OPERATORS: dict[str, Operator] = {}  # by name, in the order of registration


def register_operator(
    name: str, *, label: str | None = None, supernet_norm: bool = False, kind: str = "block"
) -> Callable[[Build], Build]:
    """A decorator that registers a module class (or any callable) taking (channels, stride, affine).

    A block that was typed into a notebook gives way to one that the same notebook, or a plug-in, gives its name later;
    networks that were built from it keep it. Raises InputError for a name that is otherwise taken, or reserved, or is
    not letters, digits and underscores.
    """
    module = str(sys._getframe(1).f_globals.get("__name__"))
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise InputError(f'operator name "{name}": allowed are a letter, then letters, digits and "_"')
    if hasattr(nn.ModuleDict(), name):  # the supernet keeps its operators in one
        raise InputError(f'operator name "{name}" means something to PyTorch\'s modules; give yours another name')
    if kind not in KINDS:
        raise InputError(f'operator "{name}": unknown kind "{kind}"; known: {", ".join(KINDS)}')
    taken = OPERATORS.get(name)
    if taken is not None and not (taken.is_typed and (module == taken.module or module.startswith(PLUGIN_MODULE))):
        raise InputError(f'operator "{name}" is registered already; give yours another name')

    def register(build: Build) -> Build:
        OPERATORS[name] = Operator(name, build, name if label is None else str(label), supernet_norm, kind, module)
        return build

    return register
