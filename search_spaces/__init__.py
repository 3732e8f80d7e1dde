"""WHAT may stand on an edge: operators, the registry that names them, and the spaces that list them.

The public names load on first use, so that reading a genotype or printing `--help` does not import torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "InputError": "errors",
    "Operator": "registry",
    "build_operator": "registry",
    "check_operator": "contract",
    "get_operator": "registry",
    "load_plugin": "plugins",
    "operator_names": "registry",
    "register_operator": "registry",
    "SearchSpace": "space",
    "load_space": "space",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
