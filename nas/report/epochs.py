"""A search epoch by epoch, as its report shows it: which cells the alphas mean, their numbers, what a slider moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cells.costs import Costs, network_costs
from cells.genotype import KINDS, CellGenotype, Genotype
from cells.pictures.diagram import node_name
from nas.report.rows import checked_cells, operator_weights
from nas.run.folder import RunDir
from nas.search.collapse import skip_connections
from search_spaces.space import SearchSpace

NARROW = 200  # hundredths of a percent: weights that differ by less are shown with two digits


@dataclass(frozen=True)
class Epoch:
    """What one epoch's alphas mean. `weights` are softmax weights (edges, operators) of either kind of cell."""

    number: int  # counted from 1
    genotype: Genotype
    weights: dict[str, np.ndarray]
    row: dict[str, Any]  # of metrics.jsonl; empty if it is not written yet

    @property
    def costs(self) -> Costs:
        """Of the network of 36 channels and 20 cells."""
        return network_costs(self.genotype)

    def readouts(self) -> dict[str, str]:
        """Its numbers by their names, for people."""
        row, genotype, costs = self.row, self.genotype, self.costs
        skips = [skip_connections(cell) for cell in genotype.cells.values()]
        found = {"epoch": str(self.number)}
        for name, key, form in (
            ("training loss", "train_loss", "{:.3f}"),
            ("validation loss", "validation_loss", "{:.3f}"),
            ("training error", "train_error_percent", "{:.1f} %"),
            ("validation error", "validation_error_percent", "{:.1f} %"),
        ):
            found[name] = form.format(row[key]) if key in row else "—"
        found["skip connections"] = f"{skips[0]} + {skips[1]}"
        entropies = [row.get(f"{kind}_entropy") for kind in KINDS]
        found["entropy"] = " + ".join("—" if value is None else f"{value:.3f}" for value in entropies)
        if "dominant_eigenvalue" in row:
            found["eigenvalue"] = f"{row['dominant_eigenvalue']:.3g}"
        found["parameters"] = f"{costs.parameters / 1e6:.2f} M"
        found["multiply-adds"] = f"{costs.madds / 1e6:.0f} M"
        return found


def read_epochs(run: RunDir, space: SearchSpace, rows: Sequence[dict[str, Any]]) -> list[Epoch]:
    """The epochs in alphas.jsonl, with the `rows` of metrics.jsonl. Raises InputError if a line is damaged."""
    by_epoch = {row["epoch"]: row for row in rows}
    found = operator_weights(run, space)
    cells = checked_cells(run, space)
    return [Epoch(epoch + 1, cells[epoch], weights, by_epoch.get(epoch, {})) for epoch, weights in found.items()]


def distinct_cells(epochs: list[Epoch], kind: str) -> tuple[list[CellGenotype], list[int]]:
    """(each distinct cell once, the index of each epoch's)."""
    cells = [epoch.genotype.cells[kind] for epoch in epochs]
    distinct = list(dict.fromkeys(cells))
    return distinct, [distinct.index(cell) for cell in cells]


def describe_changes(epochs: list[Epoch], shown: list[int]) -> str:
    """When the cell was another one than an epoch before, in words."""
    changed = [epochs[i].number for i in range(1, len(shown)) if shown[i] != shown[i - 1]]
    if not changed:
        return "the same cell at every epoch" if len(shown) > 1 else ""
    last = f"last at epoch {changed[-1]} of {epochs[-1].number}"
    return f"{len(set(shown))} different cells; it changed {len(changed)} times, {last}"


def edge_names(space: SearchSpace) -> dict[str, list[str]]:
    """For each node, the names of the nodes that its edges come from, in the order of the alphas' rows."""
    return {
        node_name(node): [node_name(source) for source, target in space.edges if target == node]
        for node in range(2, space.nodes + 2)
    }


def slider_content(epochs: list[Epoch], space: SearchSpace, shown: dict[str, list[int]]) -> dict[str, Any]:
    """What the slider moves through, for each kind of cell and epoch.

    Which picture; the weights in hundredths of a percent, operator by operator; the places of those that are kept.
    """
    tables = [table for epoch in epochs for table in epoch.weights.values()]
    low = round(10_000 * float(min((table.min() for table in tables), default=0)))
    high = round(10_000 * float(max((table.max() for table in tables), default=1)))
    return {
        "low": low,
        "high": high,
        "digits": 1 if high - low > NARROW else 2,
        "shown": shown,
        "weights": {
            kind: [[round(10_000 * float(weight)) for weight in epoch.weights[kind].T.flat] for epoch in epochs]
            for kind in KINDS
        },
        "kept": {kind: [_kept(epoch.genotype.cells[kind], space) for epoch in epochs] for kind in KINDS},
    }


def _kept(cell: CellGenotype, space: SearchSpace) -> list[int]:
    """The places of the cell's edges in a table of operators by edges, row by row."""
    return sorted(
        space.operators.index(edge.operator) * len(space.edges) + space.edges.index((edge.source, target))
        for target, edge in cell.edges
    )
