"""The continuous relaxation of a search space (DARTS, section 2.2): every edge computes all of its operators.

    node = sum over its edges of  sum over operators of  softmax(alpha)[edge, operator] * operator(source)

What is not computed as it is written: "none" adds zero, so it only takes its share of the softmax. An operator without
parameters gives the same tensor on every edge that leaves a node, so it runs once a node. On a CPU, cells/compiled has
the same sums in fewer passes over memory.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cells.compiled.fused import accelerate, runs_compiled
from cells.compiled.mixed import add_nodes, add_weighted
from cells.execution import USUAL, Execution
from cells.relaxation import softmax
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
        self.compiled = compiled
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
        own = [edge.candidates for edge in self.edges]
        if self.compiled and runs_compiled(nodes[0]):
            add_nodes(nodes, self.space, self.shared, own, weights)
            return torch.cat(nodes[2:], dim=1)
        free: list[dict[str, torch.Tensor]] = []  # for each node, what its operators without parameters give
        for target in range(2, self.space.nodes + 2):
            for source in range(len(free), target):
                free.append({name: operator(nodes[source]) for name, operator in self.shared[source].items()})
            node = None  # every node has an edge, and every edge an operator
            for edge, (source, end) in enumerate(self.space.edges):
                for column, name in enumerate(self.space.operators):
                    if end == target and name != "none":
                        y = free[source][name] if name in free[source] else own[edge][name](nodes[source])
                        node = add_weighted(node, weights[edge, column], y)
            nodes.append(node)  # type: ignore[arg-type]
        return torch.cat(nodes[2:], dim=1)


class Supernet(nn.Module):
    """The network whose weights and alphas are learned together: images (N, 3, H, W) -> logits (N, classes).

    All normal cells share one table of alphas, all reduction cells the other; each is (edges, operators), in the
    order of `space.edges` and `space.operators`, and starts at 1e-3 times standard normal noise (reference code).

    `relax` makes operator weights of the alphas.
    """

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        layers: int,
        classes: int,
        execution: Execution = USUAL,
        relax: Callable[[torch.Tensor], torch.Tensor] = softmax,
    ):
        super().__init__()
        self.space = space
        self.execution = execution
        self.relax = relax
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, space.nodes, space.nodes)
        self.cells: Any = nn.ModuleList(SearchCell(space, spec, execution.compiled) for spec in specs)
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
        """What the alphas weigh the operators of the normal and the reduction cells by, each (edges, operators)."""
        return self.relax(self.alphas_normal), self.relax(self.alphas_reduce)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        recompute = self.execution.recompute and torch.is_grad_enabled()
        if self.execution.recompute:
            give_back_freed_memory()
        with self.execution.computing_on(images.device):
            tables = self.operator_weights()
            input0 = input1 = self.stem(images)
            for cell in self.cells:
                run = recomputed(cell) if recompute else cell
                input0, input1 = input1, run(input0, input1, tables[cell.reduction])
            return self.execution.as_result(self.classifier(input1.mean(dim=(2, 3))))


def recomputed(cell: nn.Module) -> Callable[..., torch.Tensor]:
    """The cell, which keeps its inputs only and runs a second time in the backward pass."""
    return partial(checkpoint, cell, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_statistics(cell)))


@contextmanager
def in_float32(supernet: Supernet) -> Iterator[None]:
    """Inside, the supernet's forward passes round to nothing less than its parameters do."""
    execution, supernet.execution = supernet.execution, replace(supernet.execution, precision=torch.float32)
    try:
        yield
    finally:
        supernet.execution = execution


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
