"""The operator contract, tested: what every operator, built in or plugged in, must do on an edge."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from search_spaces.complexity import count_madds, count_parameters
from search_spaces.errors import InputError
from search_spaces.operator import Operator
from search_spaces.registry import get_operator

CHANNELS = (16, 36)  # the initial widths of DARTS' search and of its retrained network
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def check_operator(name: str) -> dict:
    """`check_contract` of a registered operator."""
    return check_contract(get_operator(name))


def check_contract(operator: Operator) -> dict:
    """Parameters and multiply-adds (at 32x32 pixels) at C = 16 and 36, of an operator that keeps the contract.

    The contract: x (N, C, H, W) -> (N, C, H / stride, W / stride) for stride 1 and 2; x is not changed in place;
    gradients reach every parameter; with `affine=False` no normalisation has a learnable scale or shift.
    Returns {"name", "label", "supernet_norm", "kind", "costs": [{"channels", "stride", "parameters", "madds"}, …]}.
    Raises InputError that names the first breach. The global random state stays as it was.
    """
    costs = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for channels in CHANNELS:
            for stride in (1, 2):
                for affine in (False, True):
                    module = _build(operator, channels, stride, affine)
                    _check_module(operator, module, channels, stride, affine)
                parameters, madds = count_parameters(module), _count_madds(operator, module, channels)
                costs.append({"channels": channels, "stride": stride, "parameters": parameters, "madds": madds})
    return {
        "name": operator.name,
        "label": operator.label,
        "supernet_norm": operator.supernet_norm,
        "kind": operator.kind,
        "costs": costs,
    }


def _build(operator: Operator, channels: int, stride: int, affine: bool) -> nn.Module:
    try:
        module = operator.build(channels, stride, affine)
    except Exception as error:
        raise InputError(
            f'operator "{operator.name}" cannot be built as (channels={channels}, stride={stride}, affine={affine}): '
            f"{type(error).__name__}: {error}"
        ) from None
    if not isinstance(module, nn.Module):
        raise InputError(f'operator "{operator.name}" builds a {type(module).__name__}; it must be a torch.nn.Module')
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise InputError(f'operator "{operator.name}": {name} has no shape yet; use channels, not a lazy layer')
        if not parameter.requires_grad:
            raise InputError(f'operator "{operator.name}": {name} is not learned; register it as a buffer')
    return module


def _check_module(operator: Operator, module: nn.Module, channels: int, stride: int, affine: bool) -> None:
    here = f'operator "{operator.name}" at C={channels}, stride {stride}'
    original = torch.randn(2, channels, 8, 8, requires_grad=True)
    x = original.clone()
    try:
        y = module(x)
    except Exception as error:
        raise InputError(
            f"{here} fails on an input of shape {tuple(x.shape)}: {type(error).__name__}: {error}"
        ) from None
    expected = (2, channels, 8 // stride, 8 // stride)
    if not isinstance(y, torch.Tensor) or tuple(y.shape) != expected:
        got = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise InputError(f"{here} returns {got} for an input of shape {tuple(x.shape)}; it must return {expected}")
    if not torch.equal(x, original):
        raise InputError(f"{here} changes its input in place; use inplace=False, other edges read the same tensor")
    if not torch.isfinite(y).all():
        raise InputError(f"{here} returns numbers that are not finite for a standard normal input")

    names, parameters = zip(("x", original), *module.named_parameters(), strict=True)
    gradients: Sequence[torch.Tensor | None] = [None] * len(names)
    if y.requires_grad:
        try:
            gradients = torch.autograd.grad((y * torch.randn_like(y)).sum(), parameters, allow_unused=True)
        except Exception as error:
            raise InputError(f"{here} fails in the backward pass: {type(error).__name__}: {error}") from None
    for name, gradient in zip(names[1:], gradients[1:], strict=True):  # "none" has no gradient to x
        if gradient is None:
            raise InputError(f"{here}: no gradient reaches its parameter {name}; use it in forward or drop it")
    if not affine:
        for name, layer in module.named_modules():
            if isinstance(layer, _NORMS) and any(True for _ in layer.parameters(recurse=False)):
                raise InputError(
                    f"{here}: {name} learns a scale or shift although affine=False; pass affine on to its normalisation"
                )


def _count_madds(operator: Operator, module: nn.Module, channels: int) -> int:
    try:
        return count_madds(module, (1, channels, 32, 32))
    except Exception as error:
        raise InputError(
            f'the multiply-adds of operator "{operator.name}" cannot be counted on a tensor without data (device'
            f' "meta"): {type(error).__name__}: {error}; its forward must not depend on the values of x'
        ) from None
