"""The continuous relaxation of a search space (DARTS, section 2.2): every edge computes all of its operators.

    node = sum over its edges of  sum over operators of  softmax(alpha)[edge, operator] * operator(source)

What is not computed as it is written: "none" adds zero, so it only takes its share of the softmax. An operator without
parameters gives the same tensor on every edge that leaves a node, so it runs once a node. How an operator's layers run
on a CPU is in cells/fast.py.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cells.fast import Sums, accelerate, as_units, fused_sums
from cells.precision import computing_in
from cells.stacking import CellInputs, CellSpec, build_stem, edge_stride, stack_cells
from search_spaces.registry import get_operator
from search_spaces.space import SearchSpace


def build_candidate(name: str, channels: int, stride: int, compiled: bool = True) -> nn.Module:
    """An operator as it stands in the supernet: no learnable scale and shift, normalised where it asks for it."""
    operator = get_operator(name)
    module = operator.build(channels, stride, False)
    if operator.supernet_norm:
        module = nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
    return accelerate(module) if compiled else module


class MixedOperation(nn.Module):
    """All operators on one edge that have parameters of their own."""

    def __init__(self, candidates: dict[str, nn.Module]):
        super().__init__()
        self.candidates: Any = nn.ModuleDict(candidates)  # Any: PyTorch types its items as plain modules


class SearchCell(nn.Module):
    """A cell in which every node is joined to all nodes before it. Its output has all intermediate nodes' channels."""

    def __init__(self, space: SearchSpace, spec: CellSpec, compiled: bool = True):
        super().__init__()
        self.space = space
        self.reduction = spec.reduction
        inputs = CellInputs(spec, affine=False)
        self.inputs = accelerate(inputs) if compiled else inputs
        self.edges: Any = nn.ModuleList()
        shared = [nn.ModuleDict() for _ in range(space.nodes + 1)]  # one a source, no parameters
        self.shared: Any = nn.ModuleList(shared)
        for source, _ in space.edges:
            mixed = {}
            for name in space.operators:
                if name != "none":
                    candidate = build_candidate(name, spec.channels, edge_stride(spec, source), compiled)
                    if any(True for _ in candidate.parameters()):
                        mixed[name] = candidate
                    elif name not in shared[source]:
                        shared[source][name] = candidate
            self.edges.append(MixedOperation(mixed))

    def places(self) -> dict[str, str]:
        """Names of the operators' modules -> the operators, for people, as "sep_conv_3x3 on edge 0 -> 2"."""
        own = {
            f"edges.{index}.candidates.{name}": f"{name} on edge {source} -> {target}"
            for index, (source, target) in enumerate(self.space.edges)
            for name in self.edges[index].candidates
        }
        shared = {
            f"shared.{source}.{name}": f"{name} on all edges from {source}"
            for source, candidates in enumerate(self.shared)
            for name in candidates
        }
        return own | shared

    def forward(self, input0: torch.Tensor, input1: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """weights: (edges, operators), the softmax of the alphas."""
        nodes = list(self.inputs(input0, input1))
        totals: dict[int, torch.Tensor] = {}
        for source in range(self.space.nodes + 1):
            edges = [edge for edge, (start, _) in enumerate(self.space.edges) if start == source]
            self._add_mixed_operations(source, edges, nodes[source], weights, totals)
            if source:  # the next node has now all its edges
                nodes.append(totals[source + 1])
        return torch.cat(nodes[2:], dim=1)

    def _add_mixed_operations(
        self, source: int, edges: list[int], x: torch.Tensor, weights: torch.Tensor, totals: dict[int, torch.Tensor]
    ) -> None:
        """Adds, for each edge that leaves x, sum over operators of weights[edge, operator] * operator(x) to its target.

        What is a chain of units goes into one call for all edges (`fused_sums`), the rest is added one by one.
        """
        targets = [self.space.edges[edge][1] for edge in edges]
        column = {name: index for index, name in enumerate(self.space.operators)}
        shared, own = self.shared[source], [self.edges[edge].candidates for edge in edges]

        def add(edge: int, name: str, y: torch.Tensor) -> None:
            target, weight = self.space.edges[edge][1], weights[edge, column[name]]
            totals[target] = torch.addcmul(totals[target], y, weight) if target in totals else weight * y

        chains: list[dict[str, Any]] = [
            {name: as_units(operator, x) for name, operator in candidates.items()} for candidates in own
        ]
        fused = [name for name in own[0] if all(units[name] for units in chains)]
        as_shared = {name: as_units(operator, x) for name, operator in shared.items()} if fused else {}
        fused_shared = {name: units for name, units in as_shared.items() if units is not None}
        for name, operator in shared.items():
            if name not in fused_shared:
                y = operator(x)
                for edge in edges:
                    add(edge, name, y)
        for edge, candidates in zip(edges, own, strict=True):
            for name, operator in candidates.items():
                if name not in fused:
                    add(edge, name, operator(x))
        if fused:
            sums = Sums([[units[name] for name in fused] for units in chains], list(fused_shared.values()))
            matrix = weights[edges][:, [column[name] for name in (*fused_shared, *fused)]]
            bases = [totals.get(target) for target in targets]
            totals.update(zip(targets, fused_sums(x, sums, matrix, bases), strict=True))


class Supernet(nn.Module):
    """The network whose weights and alphas are learned together: images (N, 3, H, W) -> logits (N, classes).

    All normal cells share one table of alphas, all reduction cells the other; each is (edges, operators), in the
    order of `space.edges` and `space.operators`, and starts at 1e-3 times standard normal noise (reference code).

    With `recompute`, a backward pass computes each cell's tensors again instead of having stored them: the same bits
    for a fraction of the memory, in about 1.6 times the time. Without `compiled`, PyTorch's own layers run on a CPU.
    With a `precision` of less than float32, products are made in it (autocast); logits and parameters are float32.
    """

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        layers: int,
        classes: int,
        recompute: bool = False,
        compiled: bool = True,
        precision: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.space = space
        self.recompute = recompute
        self.precision = precision
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, space.nodes, space.nodes)
        self.cells: Any = nn.ModuleList(SearchCell(space, spec, compiled) for spec in specs)
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
        return self.alphas_normal.softmax(dim=-1), self.alphas_reduce.softmax(dim=-1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.recompute:
            give_back_freed_memory()
        with computing_in(self.precision, images.device):
            logits = self._logits(images)
        return logits if self.precision == torch.float32 else logits.float()  # float64 stays

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        tables = self.operator_weights()
        input0 = input1 = self.stem(images)
        for cell in self.cells:
            arguments = (input0, input1, tables[cell.reduction])
            if self.recompute and torch.is_grad_enabled():
                output = checkpoint(
                    cell,
                    *arguments,
                    use_reentrant=False,
                    context_fn=lambda cell=cell: (nullcontext(), frozen_statistics(cell)),  # type: ignore[misc]
                )
            else:
                output = cell(*arguments)
            input0, input1 = input1, output
        return self.classifier(input1.mean(dim=(2, 3)))


def give_back_freed_memory() -> None:
    """Returns to the system what the C library keeps for later: pieces that the next pass would not fit into again."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


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
