"""Every operator by its name: those that ship with the package register themselves as this module is imported."""

from torch import nn

from search_spaces import bottleneck_ops, darts_ops
from search_spaces.errors import check_known
from search_spaces.operator import KINDS, OPERATORS, Operator, register_operator

__all__ = ["KINDS", "Operator", "build_operator", "get_operator", "operator_names", "register_operator"]
BUILT_IN = (darts_ops, bottleneck_ops)
OWN_OPERATOR = "; one of your own needs --plugin FILE.py"


def operator_names() -> tuple[str, ...]:
    """All registered names, in the order of registration."""
    return tuple(OPERATORS)


def get_operator(name: str) -> Operator:
    """The operator of that name. Raises InputError with the closest known name."""
    check_known("operator", name, OPERATORS, more=OWN_OPERATOR)
    return OPERATORS[name]


def build_operator(name: str, channels: int, stride: int, affine: bool) -> nn.Module:
    """A new module for one edge: x (N, channels, H, W) -> (N, channels, H / stride, W / stride)."""
    return get_operator(name).build(channels, stride, affine)
