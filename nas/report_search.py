"""What the report of a search shows: both cells and their alphas at every epoch, curves, figures, settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cells.costs import network_costs
from cells.diagram import node_name
from cells.discretize import discretize
from cells.genotype import CellGenotype, Genotype
from nas.cell_pictures import TITLES, cell_picture
from nas.cli import training_command
from nas.collapse import skip_connections
from nas.config import PRESETS, SearchConfig, build_config, read_preset, read_settings
from nas.figures import Chart, curves
from nas.loop import readable_time
from nas.report_rows import column, metrics, operator_weights
from nas.report_settings import environment_rows, settings_rows
from nas.run_dir import RunDir
from search_spaces.space import SearchSpace, load_space

KINDS = ("normal", "reduce")
NARROW = 200  # hundredths of a percent: weights that differ by less are shown with two digits
NAMES = {"normal": "normal cell", "reduce": "reduction cell"}


@dataclass(frozen=True)
class Epoch:
    """What one epoch's alphas mean. `weights` are softmax weights (edges, operators) of either kind of cell."""

    number: int  # counted from 1
    genotype: Genotype
    weights: dict[str, np.ndarray]
    row: dict[str, Any]  # of metrics.jsonl; empty if it is not written yet

    @property
    def costs(self) -> tuple[int, int]:
        """(parameters, multiply-adds) of the network of 36 channels and 20 cells."""
        return network_costs(self.genotype)

    def readouts(self) -> dict[str, str]:
        """Its numbers by their names, for people."""
        row, genotype, (parameters, madds) = self.row, self.genotype, self.costs
        skips = [skip_connections(getattr(genotype, kind)) for kind in KINDS]
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
        found["parameters"] = f"{parameters / 1e6:.2f} M"
        found["multiply-adds"] = f"{madds / 1e6:.0f} M"
        return found


def search_content(run: RunDir, identifier: str) -> dict[str, Any]:
    """What the template search.html shows; ids in it begin with `identifier`.

    The run's plug-ins must be loaded. Raises InputError if a file of the run is damaged.
    """
    config = build_config(SearchConfig, [(str(run.config), read_settings(run.config, "search"))])
    space = load_space(run.space)
    rows = metrics(run)
    by_epoch = {row["epoch"]: row for row in rows}
    epochs = [
        Epoch(epoch + 1, discretize(*weights.values(), space), weights, by_epoch.get(epoch, {}))
        for epoch, weights in operator_weights(run, space).items()
    ]
    result = run.result() if run.is_finished() else None
    taken = result.get("genotype_after_epochs") if result else None
    start = next((i for i, epoch in enumerate(epochs) if epoch.number == taken), len(epochs) - 1)
    readouts = [epoch.readouts() for epoch in epochs]
    names = list(dict.fromkeys(name for found in readouts for name in found))
    cells = {kind: _distinct(epochs, kind) for kind in KINDS}
    return {
        "kind": "search",
        "template": "search.html",
        "id": identifier,
        "title": f"{space.name}, seed {config.seed}",
        "path": str(run.path),
        "data": config.data,
        "finished": result is not None,
        "status": _status(result, len(rows), config.epochs),
        "epochs": epochs,
        "start": start,
        "names": names,
        "readouts": [[found.get(name, "—") for name in names] for found in readouts],
        "cells": {kind: [cell_picture(cell, kind) for cell in found] for kind, (found, _) in cells.items()},
        "changes": {kind: _changes(epochs, shown) for kind, (_, shown) in cells.items()},
        "titles": TITLES,
        "operators": space.operators,
        "edges": _edges(space),
        "slider": _slider(epochs, space, {kind: shown for kind, (_, shown) in cells.items()}),
        "charts": _charts(rows, epochs, identifier),
        "settings": settings_rows(config),
        "environment": environment_rows(run),
        "result": result,
        "command": training_command(config, run.path, preset_of(config)),
        "notation": _notation(epochs[start].genotype) if epochs else "",
        "summary": _summary(config, epochs[start] if epochs else None, result),
    }


def _status(result: dict[str, Any] | None, done: int, epochs: int) -> str:
    if result is None:
        return f"unfinished: {done} of {epochs} epochs"
    return f"finished: {done} epochs in {readable_time(result['seconds'])}"


def _distinct(epochs: list[Epoch], kind: str) -> tuple[list[CellGenotype], list[int]]:
    """(each distinct cell once, the index of each epoch's)."""
    cells = [getattr(epoch.genotype, kind) for epoch in epochs]
    distinct = list(dict.fromkeys(cells))
    return distinct, [distinct.index(cell) for cell in cells]


def _changes(epochs: list[Epoch], shown: list[int]) -> str:
    """When the cell was another one than an epoch before, in words."""
    changed = [epochs[i].number for i in range(1, len(shown)) if shown[i] != shown[i - 1]]
    if not changed:
        return "the same cell at every epoch" if len(shown) > 1 else ""
    last = f"last at epoch {changed[-1]} of {epochs[-1].number}"
    return f"{len(set(shown))} different cells; it changed {len(changed)} times, {last}"


def _edges(space: SearchSpace) -> dict[str, list[str]]:
    """For each node, the names of the nodes that its edges come from, in the order of the alphas' rows."""
    return {
        node_name(node): [node_name(source) for source, target in space.edges if target == node]
        for node in range(2, space.nodes + 2)
    }


def _slider(epochs: list[Epoch], space: SearchSpace, shown: dict[str, list[int]]) -> dict[str, Any]:
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
        "kept": {kind: [_kept(getattr(epoch.genotype, kind), space) for epoch in epochs] for kind in KINDS},
    }


def _kept(cell: CellGenotype, space: SearchSpace) -> list[int]:
    """The places of the cell's edges in a table of operators by edges, row by row."""
    return sorted(
        space.operators.index(edge.operator) * len(space.edges) + space.edges.index((edge.source, target))
        for target, edge in cell.edges
    )


def _charts(rows: list[dict[str, Any]], epochs: list[Epoch], identifier: str) -> list[Chart]:
    costs = [(epoch.number, *epoch.costs) for epoch in epochs]
    size = "Of the network of this epoch's cells with 36 channels and 20 cells, without the auxiliary head."
    charts = [
        ("Loss", {"training": column(rows, "train_loss"), "validation": column(rows, "validation_loss")}, ""),
        (
            "Error, %",
            {
                "training": column(rows, "train_error_percent"),
                "validation": column(rows, "validation_error_percent"),
            },
            "Of the supernet, all operators mixed; training on one half of the images, validation on the other.",
        ),
        (
            "Skip connections",
            {name: column(rows, f"{kind}_skip_connections") for kind, name in NAMES.items()},
            "Edges of the cell that would be skip connections. Where they take over, the search has collapsed.",
        ),
        (
            "Entropy of the alphas, nats",
            {name: column(rows, f"{kind}_entropy") for kind, name in NAMES.items()},
            "Mean over the edges. It falls as operators become preferred.",
        ),
        (
            "Dominant eigenvalue",
            {"of the Hessian": column(rows, "dominant_eigenvalue")},
            "Of the validation loss with respect to the alphas. A steep rise comes before a collapse.",
        ),
        ("Parameters, M", {"parameters": [(epoch, parameters / 1e6) for epoch, parameters, _ in costs]}, size),
        ("Multiply-adds, M", {"multiply-adds": [(epoch, madds / 1e6) for epoch, _, madds in costs]}, size),
    ]
    drawn = [curves(title, series, f"{identifier}-c{n}-", note) for n, (title, series, note) in enumerate(charts)]
    return [chart for chart in drawn if chart is not None]


def preset_of(config: SearchConfig) -> str | None:
    """The preset whose settings the search has, but for its epochs, or None; a run folder does not keep its name."""
    for name in PRESETS:
        given = {key: value for key, value in read_preset(name, "search").items() if key != "epochs"}
        if given and all(getattr(config, key) == value for key, value in given.items()):
            return name
    return None


def _notation(genotype: Genotype) -> str:
    return (
        genotype.to_notation()
        if all(len(edges) == 2 for cell in (genotype.normal, genotype.reduce) for edges in cell.nodes)
        else ""
    )


def _summary(config: SearchConfig, epoch: Epoch | None, result: dict[str, Any] | None) -> dict[str, str]:
    """The row of a table of several runs, and the numbers at the top of one."""
    readouts = epoch.readouts() if epoch else {}
    return {
        "validation error": readouts.get("validation error", "—"),
        "skip connections": readouts.get("skip connections", "—"),
        "parameters": readouts.get("parameters", "—"),
        "multiply-adds": readouts.get("multiply-adds", "—"),
        "time": readable_time(result["seconds"]) if result else "—",
    }
