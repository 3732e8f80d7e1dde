"""The macro skeleton, one plan for both networks: which cells reduce, what channels each sees, how its inputs fit."""

from dataclasses import dataclass

import torch
from torch import nn

from search_spaces.layers import FactorizedReduce, ReLUConvBN

STEM_MULTIPLIER = 3  # the stem has three times the initial channels (reference code)


@dataclass(frozen=True)
class CellSpec:
    """What one cell is given: the channels of its two inputs, its own, and where the resolution halves.

    `previous_reduction` says that the cell before it reduced, so that input 0 has twice the resolution of input 1.
    `output_channels` is the width of the concatenation that the cell returns.
    """

    input_channels: tuple[int, int]
    channels: int
    output_channels: int
    reduction: bool
    previous_reduction: bool


def stack_cells(layers: int, channels: int, normal_outputs: int, reduce_outputs: int) -> tuple[CellSpec, ...]:
    """One spec a cell: reductions at a third and at two thirds of the depth, where the channels double.

    `normal_outputs` and `reduce_outputs` are the lengths of the two cells' concats.
    """
    specs = []
    inputs = (STEM_MULTIPLIER * channels, STEM_MULTIPLIER * channels)
    previous_reduction = False
    for index in range(layers):
        reduction = index in (layers // 3, 2 * layers // 3)
        if reduction:
            channels *= 2
        outputs = (reduce_outputs if reduction else normal_outputs) * channels
        specs.append(CellSpec(inputs, channels, outputs, reduction, previous_reduction))
        inputs = (inputs[1], outputs)
        previous_reduction = reduction
    return tuple(specs)


def build_stem(channels: int) -> nn.Sequential:
    """3x3 convolution and BatchNorm: images (N, 3, H, W) -> (N, 3 * channels, H, W)."""
    width = STEM_MULTIPLIER * channels
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


class CellInputs(nn.Module):
    """Brings both inputs of a cell to its channels and to one resolution."""

    def __init__(self, spec: CellSpec, affine: bool):
        super().__init__()
        before_previous, previous = spec.input_channels
        adapt = FactorizedReduce if spec.previous_reduction else ReLUConvBN
        self.preprocess0 = adapt(before_previous, spec.channels, affine)
        self.preprocess1 = ReLUConvBN(previous, spec.channels, affine)

    def forward(self, input0: torch.Tensor, input1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.preprocess0(input0), self.preprocess1(input1)


def edge_stride(spec: CellSpec, source: int) -> int:
    """2 on the edges that leave the two inputs of a reduction cell, else 1."""
    return 2 if spec.reduction and source < 2 else 1
