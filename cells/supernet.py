"""The continuous relaxation of a search space (DARTS, section 2.2): every edge computes all of its operators.

    node = sum over its edges of  sum over operators of  softmax(alpha)[edge, operator] * operator(source)

What is not computed as it is written: "none" adds zero, so it only takes its share of the softmax. An operator without
parameters gives the same tensor on every edge that leaves a node, so it runs once a node; so does the ReLU with which
DARTS' convolutions begin. How an operator's layers run on a CPU is in cells/fast.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cells.fast import FastSequential, accelerate, weighted_sum
from cells.stacking import CellInputs, CellSpec, build_stem, edge_stride, stack_cells
from search_spaces.registry import get_operator
from search_spaces.space import SearchSpace


def build_candidate(name: str, channels: int, stride: int) -> nn.Module:
    """An operator as it stands in the supernet: no learnable scale and shift, normalised where it asks for it."""
    operator = get_operator(name)
    module = operator.build(channels, stride, False)
    if operator.supernet_norm:
        module = nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
    return accelerate(module)


class SourceNode:
    """A node's tensor and what all edges that leave it share: its ReLU and its operators without parameters."""

    def __init__(self, x: torch.Tensor, shared: nn.ModuleDict):
        self.x = x
        self.shared = {name: candidate(x) for name, candidate in shared.items()}
        self._rectified: torch.Tensor | None = None

    def rectified(self) -> torch.Tensor:
        if self._rectified is None:
            self._rectified = self.x.relu()
        return self._rectified


class MixedOperation(nn.Module):
    """The weighted sum of all operators on one edge: source (N, C, H, W) -> (N, C, H / stride, W / stride)."""

    def __init__(self, candidates: dict[str, nn.Module]):
        super().__init__()
        self.candidates = nn.ModuleDict(candidates)

    def forward(self, source: SourceNode, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        terms = [(weights[name], output) for name, output in source.shared.items()]
        scaled = []
        for name, candidate in self.candidates.items():
            if not isinstance(candidate, FastSequential):
                terms.append((weights[name], candidate(source.x)))
            elif type(candidate[0]) is nn.ReLU:
                scaled.append(candidate(source.rectified(), scale=weights[name], skip=1))
            else:
                scaled.append(candidate(source.x, scale=weights[name]))
        return weighted_sum(terms, scaled)


class SearchCell(nn.Module):
    """A cell in which every node is joined to all nodes before it. Its output has all intermediate nodes' channels."""

    def __init__(self, space: SearchSpace, spec: CellSpec):
        super().__init__()
        self.edge_list = space.edges
        self.reduction = spec.reduction
        self.inputs = accelerate(CellInputs(spec, affine=False))
        self.edges = nn.ModuleList()
        self.shared = nn.ModuleList(nn.ModuleDict() for _ in range(space.nodes + 1))  # one a source, no parameters
        for source, _ in space.edges:
            mixed = {}
            for name in space.operators:
                if name != "none":
                    candidate = build_candidate(name, spec.channels, edge_stride(spec, source))
                    if any(True for _ in candidate.parameters()):
                        mixed[name] = candidate
                    elif name not in self.shared[source]:
                        self.shared[source][name] = candidate
            self.edges.append(MixedOperation(mixed))

    def forward(self, input0, input1, weights: list[dict[str, torch.Tensor]]):
        nodes = list(self.inputs(input0, input1))
        sources: list[SourceNode] = []
        totals: dict[int, torch.Tensor] = {}
        for (source, target), mixed, row in zip(self.edge_list, self.edges, weights, strict=True):
            if source == len(sources):
                sources.append(SourceNode(nodes[source], self.shared[source]))
            term = mixed(sources[source], row)
            totals[target] = totals[target].add_(term) if target in totals else term
            if source == target - 1:
                nodes.append(totals[target])
        return torch.cat(nodes[2:], dim=1)


class Supernet(nn.Module):
    """The network whose weights and alphas are learned together: images (N, 3, H, W) -> logits (N, classes).

    All normal cells share one table of alphas, all reduction cells the other; each is (edges, operators), in the
    order of `space.edges` and `space.operators`, and starts at 1e-3 times standard normal noise (reference code).

    With `recompute`, a backward pass computes each cell's tensors again instead of having stored them: the same bits
    for a fraction of the memory, in about 1.7 times the time.
    """

    def __init__(self, space: SearchSpace, channels: int, layers: int, classes: int, recompute: bool = False):
        super().__init__()
        self.space = space
        self.recompute = recompute
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, space.nodes, space.nodes)
        self.cells = nn.ModuleList(SearchCell(space, spec) for spec in specs)
        self.classifier = nn.Linear(specs[-1].output_channels, classes)
        shape = (len(space.edges), len(space.operators))
        self.alphas_normal = nn.Parameter(1e-3 * torch.randn(shape))
        self.alphas_reduce = nn.Parameter(1e-3 * torch.randn(shape))

    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters: normal, reduce."""
        return [self.alphas_normal, self.alphas_reduce]

    def weights(self) -> list[nn.Parameter]:
        """All other parameters, in a fixed order."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("alphas_")]

    def operator_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """softmax(alphas) of the normal and the reduction cells, each (edges, operators)."""
        return tuple(alphas.softmax(dim=-1) for alphas in self.alphas())

    def forward(self, images):
        tables = [
            [dict(zip(self.space.operators, row.unbind(), strict=True)) for row in table.unbind()]
            for table in self.operator_weights()
        ]
        input0 = input1 = self.stem(images)
        for cell in self.cells:
            arguments = (input0, input1, tables[cell.reduction])
            if self.recompute and torch.is_grad_enabled():
                output = checkpoint(
                    cell,
                    *arguments,
                    use_reentrant=False,
                    context_fn=lambda cell=cell: (nullcontext(), frozen_statistics(cell)),
                )
            else:
                output = cell(*arguments)
            input0, input1 = input1, output
        return self.classifier(input1.mean(dim=(2, 3)))


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm's running statistics are copies that are thrown away; a pass is otherwise the same."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    kept = [dict(layer._buffers) for layer in layers]
    for layer in layers:
        layer._buffers.update({name: buffer.clone() for name, buffer in layer._buffers.items() if buffer is not None})
    try:
        yield
    finally:
        for layer, buffers in zip(layers, kept, strict=True):
            layer._buffers.update(buffers)
