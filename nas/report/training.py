"""What the report of a retraining shows: the cells, the curves, the error on the test images, the settings."""

from typing import Any

from cells.genotype_file import load_genotype
from nas.config import TrainConfig, build_config, read_settings
from nas.formatting import readable_time
from nas.report.cell_pictures import TITLES, cell_picture
from nas.report.figures import Chart, curves
from nas.report.rows import column, metrics
from nas.report.settings import describe_state, environment_rows, settings_rows
from nas.run.folder import RunDir


def training_content(run: RunDir, identifier: str) -> dict[str, Any]:
    """What the template training.html shows; ids in it begin with `identifier`.

    Raises InputError if a file of the run is damaged.
    """
    config = build_config(TrainConfig, [(str(run.config), read_settings(run.config, "train"))])
    genotype = load_genotype(run.genotype)
    rows = metrics(run)
    result = run.result() if run.is_finished() else None
    found_by = ", ".join(f"{name} {value}" for name, value in genotype.found_by.items())
    return {
        "kind": "training",
        "template": "training.html",
        "id": identifier,
        "title": f"{genotype.space}, trained with seed {config.seed}",
        "path": str(run.path),
        "data": config.data,
        "finished": result is not None,
        "status": describe_state(result, len(rows), config.epochs),
        "cells": {kind: cell_picture(getattr(genotype, kind), kind) for kind in TITLES},
        "titles": TITLES,
        "found_by": found_by,
        "charts": _charts(rows, result, identifier),
        "names": ["epoch", "training loss", "training error", "learning rate", "seconds"],
        "readouts": [_readouts(row) for row in rows],
        "settings": settings_rows(config),
        "environment": environment_rows(run),
        "result": result,
        "summary": _summary(result, rows),
    }


def _readouts(row: dict[str, Any]) -> list[str]:
    found = [str(row["epoch"] + 1)]
    for name, form in (
        ("train_loss", "{:.3f}"),
        ("train_error_percent", "{:.2f} %"),
        ("learning_rate", "{:.2g}"),
        ("seconds", "{:.1f}"),
    ):
        found.append(form.format(row[name]) if name in row else "—")
    return found


def judged_on(result: dict[str, Any]) -> str:
    """Which images a training's error is of, in words."""
    return "held-out training images" if result.get("hold_out") else "test images"


def _charts(rows: list[dict[str, Any]], result: dict[str, Any] | None, identifier: str) -> list[Chart]:
    errors = {"training": column(rows, "train_error_percent")}
    if result and rows:
        errors[judged_on(result)] = [(rows[-1]["epoch"] + 1, result["test_error_percent"])]
    note = "Training images are augmented and paths dropped, which makes their error larger than it would be without."
    drawn = (
        curves("Loss", {"training": column(rows, "train_loss")}, f"{identifier}-c0-"),
        curves("Error, %", errors, f"{identifier}-c1-", note),
        curves("Learning rate", {"learning rate": column(rows, "learning_rate")}, f"{identifier}-c2-"),
    )
    return [chart for chart in drawn if chart is not None]


def _summary(result: dict[str, Any] | None, rows: list[dict[str, Any]]) -> dict[str, str]:
    """The row of a table of several runs, and the numbers at the top of one."""
    training = f"{rows[-1]['train_error_percent']:.2f} %" if rows and "train_error_percent" in rows[-1] else "—"
    if result is None:
        return {"training error": training}
    return {
        "error" if result.get("hold_out") else "test error": f"{result['test_error_percent']:.2f} %",
        "training error": training,
        "parameters": f"{result['parameters'] / 1e6:.3f} M",
        "multiply-adds": f"{result['madds'] / 1e6:.1f} M",
        "time": readable_time(result["seconds"]),
    }
