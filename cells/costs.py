"""What a genotype's network costs, summed from its parts, without building it.

A report asks after every epoch of a search; the cells of a space share their operators, so each is counted once for
each width, stride and resolution.
"""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import nn

from cells.genotype import Genotype
from cells.network import AuxiliaryHead, auxiliary_index, check_operators
from cells.stacking import CellInputs, CellSpec, build_stem, edge_stride, stack_cells
from search_spaces.complexity import count_madds, count_parameters
from search_spaces.operator import Operator
from search_spaces.registry import get_operator


class Costs(NamedTuple):
    """Learnable numbers without the auxiliary head, as the literature counts, and with it.

    Multiply-adds are those of convolutions and linear layers for one image, without it.
    """

    parameters: int
    parameters_with_auxiliary: int
    madds: int


def network_costs(
    genotype: Genotype, channels: int = 36, layers: int = 20, classes: int = 10, image_size: int = 32
) -> Costs:
    """Of the genotype's network. Raises InputError if it names an operator that is not registered."""
    check_operators(genotype)
    operators = tuple(map(get_operator, genotype.operators))  # a name may come to mean another operator
    return _network_costs(genotype, operators, channels, layers, classes, image_size)


@lru_cache(maxsize=1000)
def _network_costs(
    genotype: Genotype, operators: tuple[Operator, ...], channels: int, layers: int, classes: int, image_size: int
) -> Costs:
    with torch.device("meta"):  # no memory is taken, and nothing is drawn at random
        specs = stack_cells(layers, channels, len(genotype.normal.concat), len(genotype.reduce.concat))
        parameters, madds = map(sum, zip(*_parts(genotype, specs, channels, classes, image_size), strict=True))
        head = AuxiliaryHead(specs[auxiliary_index(layers)].output_channels, classes)
        return Costs(parameters, parameters + count_parameters(head), madds)


def _parts(
    genotype: Genotype, specs: tuple[CellSpec, ...], channels: int, classes: int, size: int
) -> Iterator[tuple[int, int]]:
    """The costs of stem, cells and classifier; `size` is in pixels a side."""
    yield _count(build_stem(channels), (1, 3, size, size))
    for spec in specs:
        yield from _inputs_costs(spec, size)
        smaller = -(-size // 2) if spec.reduction else size
        for _, edge in (genotype.reduce if spec.reduction else genotype.normal).edges:
            stride = edge_stride(spec, edge.source)
            entered = size if stride == 2 else smaller
            yield _operator_cost(get_operator(edge.operator), spec.channels, stride, entered)
        size = smaller
    yield _count(nn.Linear(specs[-1].output_channels, classes), (1, specs[-1].output_channels))


@cache
def _operator_cost(operator: Operator, channels: int, stride: int, size: int) -> tuple[int, int]:
    return _count(operator.build(channels, stride, True), (1, channels, size, size))


@cache
def _inputs_costs(spec: CellSpec, size: int) -> list[tuple[int, int]]:
    """Of what brings a cell's inputs to its channels; the input before the previous one may be twice as large."""
    inputs = CellInputs(spec, affine=True)
    before = 2 * size if spec.previous_reduction else size
    sides = zip((inputs.preprocess0, inputs.preprocess1), spec.input_channels, (before, size), strict=True)
    return [_count(module, (1, channels, side, side)) for module, channels, side in sides]


def _count(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    return count_parameters(module), count_madds(module, shape)
