"""What the report of a search shows: both cells and their alphas at every epoch, curves, figures, settings."""

from typing import Any

from cells.genotype import KINDS
from nas.config import PRESETS, SearchConfig, read_preset
from nas.formatting import readable_time
from nas.report.cell_pictures import TITLES, cell_picture
from nas.report.epochs import Epoch, describe_changes, distinct_cells, edge_names, read_epochs, slider_content
from nas.report.figures import Chart, curves
from nas.report.rows import column, metrics, search_settings
from nas.report.settings import describe_state, environment_rows, settings_rows
from nas.run.folder import RunDir
from nas.run.next_command import training_command
from search_spaces.space import load_space

NAMES = {"normal": "normal cell", "reduce": "reduction cell"}


def search_content(run: RunDir, identifier: str) -> dict[str, Any]:
    """What the template search.html shows; ids in it begin with `identifier`.

    The run's plug-ins must be loaded. Raises InputError if a file of the run is damaged.
    """
    config = search_settings(run)
    space = load_space(run.space)
    rows = metrics(run)
    epochs = read_epochs(run, space, rows)
    result = run.result() if run.is_finished() else None
    taken = result.get("genotype_after_epochs") if result else None
    start = next((i for i, epoch in enumerate(epochs) if epoch.number == taken), len(epochs) - 1)
    found = epochs[start].genotype if epochs else None
    readouts = [epoch.readouts() for epoch in epochs]
    names = list(dict.fromkeys(name for readout in readouts for name in readout))
    cells = {kind: distinct_cells(epochs, kind) for kind in KINDS}
    return {
        "kind": "search",
        "template": "search.html",
        "id": identifier,
        "title": f"{space.name}, seed {config.seed}",
        "path": str(run.path),
        "data": config.data,
        "finished": result is not None,
        "status": describe_state(result, len(rows), config.epochs),
        "epochs": epochs,
        "start": start,
        "names": names,
        "readouts": [[readout.get(name, "—") for name in names] for readout in readouts],
        "cells": {kind: [cell_picture(cell, kind) for cell in found] for kind, (found, _) in cells.items()},
        "changes": {kind: describe_changes(epochs, shown) for kind, (_, shown) in cells.items()},
        "titles": TITLES,
        "operators": space.operators,
        "edges": edge_names(space),
        "slider": slider_content(epochs, space, {kind: shown for kind, (_, shown) in cells.items()}),
        "charts": _charts(rows, epochs, identifier),
        "settings": settings_rows(config),
        "environment": environment_rows(run),
        "result": result,
        "command": training_command(config, run.path, preset_of(config)),
        "notation": found.to_notation() if found is not None and found.has_notation() else "",
        "summary": _summary(config, epochs[start] if epochs else None, result),
    }


def _charts(rows: list[dict[str, Any]], epochs: list[Epoch], identifier: str) -> list[Chart]:
    costs = [(epoch.number, epoch.costs) for epoch in epochs]
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
        ("Parameters, M", {"parameters": [(epoch, cost.parameters / 1e6) for epoch, cost in costs]}, size),
        ("Multiply-adds, M", {"multiply-adds": [(epoch, cost.madds / 1e6) for epoch, cost in costs]}, size),
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
