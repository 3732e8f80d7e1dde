"""The nodes of a searched cell in fewer passes: the same sums as in `SearchCell.forward`, in another order.

All edges that leave a node read the same tensor. So their operators that are chains of units go into one call
(`fused_sums`), which reads that tensor once and adds up in cache; the other operators are added one by one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cells.compiled.fused import Sums, as_units, fused_sums
from search_spaces.space import SearchSpace

Candidates = Mapping[str, nn.Module]  # operators by name


def add_nodes(
    nodes: list[Tensor], space: SearchSpace, shared: Sequence[Candidates], own: Sequence[Candidates], weights: Tensor
) -> None:
    """Appends all intermediate nodes to `nodes`, which holds the cell's two inputs.

    An edge has the operators that `shared` has for its source, and those of its own; `weights` is (edges, operators).
    """
    edges, column = space.edges, {name: index for index, name in enumerate(space.operators)}
    totals: dict[int, Tensor] = {}

    def add(edge: int, name: str, y: Tensor) -> None:
        target = edges[edge][1]
        totals[target] = add_weighted(totals.get(target), weights[edge, column[name]], y)

    for source, candidates in enumerate(shared):
        x, leaving = nodes[source], [edge for edge, (start, _) in enumerate(edges) if start == source]
        chains: list[dict[str, Any]] = [
            {name: as_units(operator, x) for name, operator in own[edge].items()} for edge in leaving
        ]
        fused = [name for name in chains[0] if all(units[name] for units in chains)]
        as_shared = {name: as_units(operator, x) for name, operator in candidates.items()} if fused else {}
        fused_shared = {name: units for name, units in as_shared.items() if units is not None}
        for name, operator in candidates.items():
            if name not in fused_shared:
                y = operator(x)
                for edge in leaving:
                    add(edge, name, y)
        for edge in leaving:
            for name, operator in own[edge].items():
                if name not in fused:
                    add(edge, name, operator(x))
        if fused:
            sums = Sums([[units[name] for name in fused] for units in chains], list(fused_shared.values()))
            matrix = weights[leaving][:, [column[name] for name in (*fused_shared, *fused)]]
            targets = [edges[edge][1] for edge in leaving]
            bases = [totals.get(target) for target in targets]
            totals.update(zip(targets, fused_sums(x, sums, matrix, bases), strict=True))
        if source:  # the next node has now all its edges
            nodes.append(totals[source + 1])


def add_weighted(total: Tensor | None, weight: Tensor, y: Tensor) -> Tensor:
    """total + weight * y; None is zero."""
    return weight * y if total is None else torch.addcmul(total, y, weight)
