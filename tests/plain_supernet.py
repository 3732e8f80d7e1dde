"""The supernet as the paper writes it, with nothing shared and nothing left out: what the fast one is compared with."""

import torch
from torch import nn

from cells.stacking import CellInputs, build_stem, edge_stride, stack_cells
from cells.supernet import Supernet
from search_spaces.registry import get_operator


class PlainSupernet(nn.Module):
    """Every edge computes every operator, "none" too. Its weights come in the order of `Supernet.weights()`."""

    def __init__(self, space, channels: int, layers: int, classes: int):
        super().__init__()
        self.space = space
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, space.nodes, space.nodes)
        self.cells = nn.ModuleList(nn.ModuleList(_cell_parts(space, spec)) for spec in specs)
        self.reductions = [spec.reduction for spec in specs]
        self.classifier = nn.Linear(specs[-1].output_channels, classes)
        self.tables = nn.ParameterList(torch.zeros(len(space.edges), len(space.operators)) for _ in range(2))

    def forward(self, images):
        softmax = [table.softmax(dim=1) for table in self.tables]
        input0 = input1 = self.stem(images)
        for (inputs, *edges), reduction in zip(self.cells, self.reductions, strict=True):
            nodes = list(inputs(input0, input1))
            for target in range(2, self.space.nodes + 2):
                total = 0
                for row, (source, edge_target) in enumerate(self.space.edges):
                    if edge_target == target:
                        for column, operator in enumerate(edges[row]):
                            total = total + softmax[reduction][row, column] * operator(nodes[source])
                nodes.append(total)
            input0, input1 = input1, torch.cat(nodes[2:], dim=1)
        return self.classifier(input1.mean(dim=(2, 3)))


def _cell_parts(space, spec):
    yield CellInputs(spec, affine=False)
    for source, _ in space.edges:
        yield nn.ModuleList(_candidate(name, spec.channels, edge_stride(spec, source)) for name in space.operators)


def _candidate(name, channels, stride):
    operator = get_operator(name)
    module = operator.build(channels, stride, False)
    return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False)) if operator.supernet_norm else module


def supernet_and_plain_twin(space, channels=4, layers=3, classes=3):
    """A float64 Supernet with alphas that differ, and a PlainSupernet with the same weights and alphas."""
    torch.manual_seed(0)
    supernet = Supernet(space, channels, layers, classes).double()
    plain = PlainSupernet(space, channels, layers, classes).double()
    with torch.no_grad():
        for alphas in supernet.alphas():
            alphas.copy_(torch.randn(alphas.shape))
        for mine, theirs in zip(
            [*weights_of(plain).values(), *plain.tables], [*supernet.weights(), *supernet.alphas()], strict=True
        ):
            assert mine.shape == theirs.shape
            mine.copy_(theirs)
    return supernet, plain


def weights_of(plain: PlainSupernet) -> dict[str, nn.Parameter]:
    """Its weights by name, in the order of `Supernet.weights()`."""
    return {name: parameter for name, parameter in plain.named_parameters() if not name.startswith("tables")}
