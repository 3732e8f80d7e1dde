"""The nodes of a searched cell in fewer passes: the same sums as in `SearchCell.forward`, in another order.

All edges that leave a node read the same tensor. So their operators that are chains of units go into one call
(`fused_sums`), which reads that tensor once and adds up in cache; the other operators are added one by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cells.compiled.fused import Sums, as_units, fused_sums

Candidates = Mapping[str, nn.Module]  # operators by name


def add_nodes(
    nodes: list[torch.Tensor],
    edges: Sequence[tuple[int, int]],
    operators: Sequence[str],
    shared: Sequence[Candidates],
    own: Sequence[Candidates],
    weights: torch.Tensor,
) -> None:
    """Appends all intermediate nodes to `nodes`, which holds the cell's two inputs.

    `edges` are (source, target). An edge has the operators that `shared` has for its source, and those of its own;
    `weights` is (edges, operators).
    """
    totals: dict[int, torch.Tensor] = {}
    for source, candidates in enumerate(shared):
        leaving = [edge for edge, (start, _) in enumerate(edges) if start == source]
        targets = [edges[edge][1] for edge in leaving]
        rows = weights[leaving]
        _add_source(nodes[source], targets, operators, candidates, [own[edge] for edge in leaving], rows, totals)
        if source:  # the next node has now all its edges
            nodes.append(totals[source + 1])


def _add_source(
    x: torch.Tensor,
    targets: list[int],
    operators: Sequence[str],
    shared: Candidates,
    own: Sequence[Candidates],
    weights: torch.Tensor,
    totals: dict[int, torch.Tensor],
) -> None:
    """Adds, for each edge that leaves x, sum over operators of weights[edge, operator] * operator(x) to its target."""
    column = {name: index for index, name in enumerate(operators)}

    def add(edge: int, name: str, y: torch.Tensor) -> None:
        totals[targets[edge]] = add_weighted(totals.get(targets[edge]), weights[edge, column[name]], y)

    chains: list[dict[str, Any]] = [
        {name: as_units(operator, x) for name, operator in candidates.items()} for candidates in own
    ]
    fused = [name for name in own[0] if all(units[name] for units in chains)]
    as_shared = {name: as_units(operator, x) for name, operator in shared.items()} if fused else {}
    fused_shared = {name: units for name, units in as_shared.items() if units is not None}
    for name, operator in shared.items():
        if name not in fused_shared:
            y = operator(x)
            for edge in range(len(own)):
                add(edge, name, y)
    for edge, candidates in enumerate(own):
        for name, operator in candidates.items():
            if name not in fused:
                add(edge, name, operator(x))
    if fused:
        sums = Sums([[units[name] for name in fused] for units in chains], list(fused_shared.values()))
        matrix = weights[:, [column[name] for name in (*fused_shared, *fused)]]
        bases = [totals.get(target) for target in targets]
        totals.update(zip(targets, fused_sums(x, sums, matrix, bases), strict=True))


def add_weighted(total: torch.Tensor | None, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """total + weight * y; None is zero."""
    return weight * y if total is None else torch.addcmul(total, y, weight)
