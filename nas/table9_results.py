"""Finished runs -> table9.json and table9.md: what was measured, with which budget, beside what the paper printed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cells.genotype import load_genotype
from nas.checkpoint import write_atomically
from nas.config import RUN_CONTROL
from nas.table9_jobs import Job

PAPER = {  # space: row of the paper's Table 9, test error in percent, parameters in millions
    "darts": (1, 3.11, 3.25),
    "darts+ir": (2, 3.26, 3.29),
    "darts+sandglass": (3, 2.98, 2.45),
}
FORMAT = 1
_UNSET = {"train_images": "all", "test_images": "all", "image_size": "the data's own", "flip": "as suits the data"}
_BUDGET = ("epochs", "train_images", "test_images", "image_size", "channels", "layers", "order")


def write_table(folder: Path, jobs: Sequence[Job], preset: str, command: str) -> tuple[Path, Path]:
    """Writes table9.md and table9.json from the finished ones of `jobs` and returns their paths."""
    content = table_content(jobs, preset, command)
    markdown, data = folder / "table9.md", folder / "table9.json"
    write_atomically(data, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomically(markdown, to_markdown(content, jobs))
    return markdown, data


def table_content(jobs: Sequence[Job], preset: str, command: str) -> dict[str, Any]:
    """What table9.json holds."""
    finished = [job for job in jobs if job.run.is_finished()]
    names = [job.run.result()["data"] for job in finished] or [Path(jobs[0].config.data).name]
    data = ", ".join(dict.fromkeys(map(data_title, names)))
    spaces = {}
    for name in dict.fromkeys(job.space for job in jobs):
        stages = {job.stage: job for job in finished if job.space == name}
        spaces[name] = _space_content(name, stages.get("search"), stages.get("train"))
    return {"format": FORMAT, "data": data, "preset": preset, "command": command, "spaces": spaces}


def _space_content(name: str, search: Job | None, train: Job | None) -> dict[str, Any]:
    from cells.network import describe_network

    searches, retrainings, selected = [], [], None
    summary: dict[str, Any] = {}
    if name in PAPER:
        summary["paper"] = dict(zip(("row", "test_error_percent", "parameters_millions"), PAPER[name], strict=True))
    if search is not None:
        genotype = load_genotype(search.run.genotype)
        selected = json.loads(genotype.to_json())
        searches.append({"seed": search.config.seed, "genotype": selected})
        summary["parameters_36_channels_20_layers"] = describe_network(genotype)["parameters"]
        summary["search"] = _what_was_done(search)
    if train is not None:
        result = train.run.result()
        figures = {key: result[key] for key in ("test_error_percent", "parameters", "madds")}
        retrainings.append({"seed": train.config.seed, **figures})
        summary["retraining"] = _what_was_done(train)
    return {
        "searches": searches,
        "selected": selected,
        "retrainings": retrainings,
        "random": [],
        "summary": summary,
    }


def _what_was_done(job: Job) -> dict[str, Any]:
    """The budget that a finished run really used, as its result has it."""
    done = job.config.model_dump() | job.run.result()
    return {key: done[key] for key in _BUDGET if key in done} | {"seeds": [done["seed"]]}


def data_title(name: str) -> str:
    """What a table calls a data set: images that were re-encoded as JPEG are not quite CIFAR-10, and say so."""
    if "cifar" in name.lower() and "jpeg" in name.lower():
        return "CIFAR-10 (JPEG)"
    return "CIFAR-10" if name == "cifar10" else name


def to_markdown(content: dict[str, Any], jobs: Sequence[Job]) -> str:
    """table9.md: the results beside the paper's, what was run, and what differs from the paper's settings."""
    unfinished = [f"- {job.title}: {job.run.path}" for job in jobs if not job.run.is_finished()]
    differences = differences_from_paper(content["data"], jobs)
    parts = [
        "# Table 9: DARTS with one more block among its operators",
        f"Data: {content['data']}. Preset: {content['preset']}. Command:",
        f"    {content['command']}",
        _results_table(content["spaces"]),
        "The paper: Zhou et al., ECCV 2020, Table 9. Test errors are those after the last epoch of the retraining.\n"
        "Parameters are without the auxiliary head. One search and one retraining a space: differences between rows\n"
        "may be chance.",
        *(["Not finished, so not in the table:", "\n".join(unfinished)] if unfinished else []),
        "## What was run",
        _budget_table(content["spaces"]),
        *(["## What differs from the paper's settings", "\n".join(differences)] if differences else []),
    ]
    return "\n\n".join(parts) + "\n"


def _results_table(spaces: dict[str, Any]) -> str:
    rows = [["row", "space", "test error %, paper", "ours", "parameters M, paper"]]
    rows[0] += ["ours at 36 channels, 20 cells", "ours as trained", "multiply-adds M as trained"]
    for name, space in spaces.items():
        summary, trained = space["summary"], (space["retrainings"] or [{}])[0]
        paper = summary.get("paper", {})
        row = [paper.get("row"), name, paper.get("test_error_percent"), _rounded(trained.get("test_error_percent"), 2)]
        row += [paper.get("parameters_millions"), _millions(summary.get("parameters_36_channels_20_layers"), 3)]
        rows.append([*row, _millions(trained.get("parameters"), 3), _millions(trained.get("madds"), 1)])
    return _markdown_table(rows)


def _budget_table(spaces: dict[str, Any]) -> str:
    rows = [["space", "stage", "epochs", "training images", "test images", "pixels", "channels", "cells"]]
    rows[0] += ["order", "seeds"]
    for name, space in spaces.items():
        for stage in ("search", "retraining"):
            done = space["summary"].get(stage)
            if done is not None:
                rows.append([name, stage, *map(done.get, _BUDGET), ", ".join(map(str, done["seeds"]))])
    return _markdown_table(rows)


def differences_from_paper(data: str, jobs: Sequence[Job]) -> list[str]:
    """A line for the data, if they are not CIFAR-10, and one for each setting that is not the paper's."""
    lines = [] if data == "CIFAR-10" else [f"- data: {data} instead of CIFAR-10"]
    for job in jobs[:2]:  # a search and a retraining; all spaces have the same settings
        stage = "search" if job.stage == "search" else "retraining"
        for name, field in type(job.config).model_fields.items():
            values = getattr(job.config, name), field.default
            if name not in (*RUN_CONTROL, "data", "seed", "space") and values[0] != values[1]:
                ours, paper = (_UNSET.get(name, "none") if value is None else value for value in values)
                lines.append(f"- {stage}, {name.replace('_', ' ')}: {ours} instead of {paper}")
    return lines


def _markdown_table(rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join("—" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _millions(count: int | None, digits: int) -> str | None:
    return None if count is None else _rounded(count / 1e6, digits)


def _rounded(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
