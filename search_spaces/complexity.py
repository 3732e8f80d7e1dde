"""What a module costs: its parameters, and its multiply-adds for one image."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Learnable numbers in `module`."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_madds(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and matrix products of one forward pass on an input of that shape.

    Bias, normalisation, activation and pooling are not counted, as in the DARTS literature. Nothing is computed:
    a copy of the module runs on PyTorch's shape-only "meta" device, in evaluation mode.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(module).eval().to("meta")(torch.empty(input_shape, device="meta"))
    return counter.get_total_flops() // 2
