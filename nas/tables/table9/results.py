"""Finished runs -> table9.json and table9.md: what was measured, how sure it is, and what the paper printed."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from cells.genotype import Genotype
from nas.config import RUN_CONTROL, read_preset
from nas.run.files import write_atomically
from nas.statistics import summarize
from nas.tables.table9.comparisons import beside_random, compare_all, conclusions
from nas.tables.table9.jobs import STAGES, Job, Plan
from search_spaces.space import SearchSpace

PAPER = {  # space: row of the paper's Table 9, test error in percent, parameters in millions
    "darts": (1, 3.11, 3.25),
    "darts+ir": (2, 3.26, 3.29),
    "darts+sandglass": (3, 2.98, 2.45),
}
FORMAT = 1
FIGURES = ("test_error_percent", "parameters", "madds")

RUNS = {"searches": "searches", "retrainings": "retrainings of the selected cell", "random": "random cells"}
_UNSET = {"train_images": "all", "test_images": "all", "image_size": "the data's own", "flip": "as suits the data"}
_BUDGET = ("epochs", "train_images", "test_images", "hold_out", "image_size", "channels", "layers", "order")


def write_table(folder: Path, plan: Plan, preset: str, command: str) -> tuple[Path, Path]:
    """Writes table9.md and table9.json from the finished jobs and returns their paths."""
    content = table_content(plan, preset, command)
    markdown, data = folder / "table9.md", folder / "table9.json"
    write_atomically(data, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_atomically(markdown, to_markdown(content, plan))
    return markdown, data


def table_content(plan: Plan, preset: str, command: str) -> dict[str, Any]:
    """What table9.json holds."""
    names = [job.run.result()["data"] for job in plan.jobs if job.run.is_finished()]
    names = names or [Path(plan.jobs[0].config.data).name]
    spaces = {name: _space_content(name, plan) for name in plan.selections}
    comparisons = compare_all(spaces)
    return {
        "format": FORMAT,
        "data": ", ".join(dict.fromkeys(map(data_title, names))),
        "preset": preset,
        "command": command,
        "spaces": spaces,
        "comparisons": comparisons,
        "conclusions": conclusions(spaces, comparisons),
    }


def _space_content(name: str, plan: Plan) -> dict[str, Any]:
    finished = {stage: [job for job in plan.of(name, stage) if job.run.is_finished()] for stage in STAGES}
    held_out = {job.config.seed: job.run.result()["test_error_percent"] for job in finished["select"]}
    searches = []
    for job in finished["search"]:
        network = job.run.result()["network_36_channels_20_layers"]
        figures = {"parameters": network["parameters"], "madds": network["madds"]}
        searches.append(
            {
                "seed": job.config.seed,
                "genotype": _plain(job.genotype()),
                **figures,
                "held_out_error_percent": held_out.get(job.config.seed),
            }
        )
    selected = plan.selections[name].selected()
    retrainings = [{"seed": job.config.seed, **_figures(job)} for job in finished["train"]]
    randoms = [
        {"seed": job.config.seed, "genotype": _plain(job.genotype()), **_figures(job)} for job in finished["random"]
    ]
    summary: dict[str, Any] = {}
    if name in PAPER:
        summary["paper"] = dict(zip(("row", "test_error_percent", "parameters_millions"), PAPER[name], strict=True))
    summary["selected_seed"] = None if selected is None else selected.config.seed
    summary["found_cells_36_channels_20_layers"] = {
        figure: summarize([row[figure] for row in searches]) for figure in ("parameters", "madds")
    }
    summary["retrained"] = {figure: summarize([row[figure] for row in retrainings]) for figure in FIGURES}
    summary["random"] = {figure: summarize([row[figure] for row in randoms]) for figure in FIGURES}
    summary["selected_beside_random"] = beside_random(retrainings, randoms)
    space = plan.of(name, "search")[0].space
    summary["operators"] = operator_usage([job.genotype() for job in finished["search"]], space)
    summary["mean_operator_weights"] = mean_operator_weights(finished["search"], space)
    summary["error_points_without_operator"] = points_without_operators(finished["search"])
    summary["budget"] = {stage: _what_was_done(jobs) for stage, jobs in finished.items() if jobs}
    return {
        "searches": searches,
        "selected": None if selected is None else _plain(selected.genotype()),
        "retrainings": retrainings,
        "random": randoms,
        "summary": summary,
    }


def _figures(job: Job) -> dict[str, Any]:
    result = job.run.result()
    return {key: result[key] for key in FIGURES}


def _plain(genotype: Genotype) -> dict[str, Any]:
    return json.loads(genotype.to_json())


def _what_was_done(jobs: Sequence[Job]) -> dict[str, Any]:
    """The budget that finished runs of one stage really used, as their results have it."""
    done = jobs[0].config.model_dump() | jobs[0].run.result()
    seconds = sum(job.run.result()["seconds"] for job in jobs)
    return {key: done[key] for key in _BUDGET if key in done} | {
        "seeds": [job.config.seed for job in jobs],
        "device": done["device"],
        "seconds": round(seconds, 1),
    }


def operator_usage(genotypes: Sequence[Genotype], space: SearchSpace) -> dict[str, dict[str, Any]]:
    """For each kind of cell, and in it for each edge of the supernet: edges of the found cells, how many each operator
    has, and how many chance would give it (each source of a node, and each operator on an edge, as likely as another).
    """
    operators = [name for name in space.operators if name != "none"]

    def counted(names: list[str], expected: float) -> dict[str, Any]:
        counts = Counter(names)
        return {
            "edges": len(names),
            "by_chance": expected / len(operators),
            "counts": {name: counts[name] for name in operators},
        }

    found = {}
    for kind in ("normal", "reduce"):
        edges = [pair for genotype in genotypes for pair in getattr(genotype, kind).edges]
        found[kind] = counted([edge.operator for _, edge in edges], len(edges))
        found[kind]["by_edge"] = {
            f"{source} -> {target}": counted(
                [edge.operator for end, edge in edges if (edge.source, end) == (source, target)],
                len(genotypes) * min(1, space.edges_per_node / target),
            )
            for source, target in space.edges
        }
    return found


def mean_operator_weights(searches: Sequence[Job], space: SearchSpace) -> dict[str, dict[str, list[float]]]:
    """For each kind of cell and operator: the softmax weight after each epoch, the mean over edges and searches."""
    found = {}
    for kind in ("normal", "reduce"):
        runs = [np.array([row[kind] for row in job.run.rows("alphas")]) for job in searches]
        epochs = min((len(run) for run in runs), default=0)
        alphas = np.array([run[:epochs] for run in runs])  # (searches, epochs, edges, operators)
        if not alphas.size:
            continue
        means = softmax(alphas, axis=-1).mean((0, 2))
        found[kind] = {name: means[:, column].tolist() for column, name in enumerate(space.operators)}
    return found


def points_without_operators(searches: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """For each operator: what the supernets' validation errors rise by, in points, when it is removed.

    Of those searches from which operators were removed (nas/search/operator_removal.py).
    """
    found = [kept for kept in (job.run.removal() for job in searches) if kept is not None]
    operators = found[0]["without"] if found else {}
    return {name: summarize([one["without"][name] - one["error_percent"] for one in found]) for name in operators}


def data_title(name: str) -> str:
    """What a table calls a data set: images that were re-encoded as JPEG are not quite CIFAR-10, and say so."""
    if "cifar" in name.lower() and "jpeg" in name.lower():
        return "CIFAR-10 (JPEG)"
    return "CIFAR-10" if name == "cifar10" else name


def to_markdown(content: dict[str, Any], plan: Plan) -> str:
    """table9.md: the results beside the paper's, what they can say, what was run, and what differs from the paper's."""
    unfinished = [f"- {job.title}: {job.run.path}" for job in plan.jobs if not job.run.is_finished()]
    differences = differences_from_paper(content["data"], plan)
    parts = [
        "# Table 9: DARTS with one more block among its operators",
        f"Data: {content['data']}. Preset: {content['preset']}. Command:",
        f"    {content['command']}",
        _results_table(content["spaces"]),
        "The paper: Zhou et al., ECCV 2020, Table 9. Test errors are those after the last epoch of a training: mean ±\n"
        "sd [95 % interval of the mean by Student's t] (number of runs). The selected cell is retrained with several\n"
        "seeds; random cells are trained once each. Parameters are without the auxiliary head; those at 36 channels\n"
        "and 20 cells are of all cells found.",
        *(["Not finished, so not in the table:", "\n".join(unfinished)] if unfinished else []),
        "## What it says",
        "\n".join(f"- {line}" for line in content["conclusions"])
        or "Nothing: too few runs are finished, or there is nothing to compare.",
        "## Operators in the found cells, and by chance",
        _usage_table(content["spaces"]),
        "## What a supernet loses without an operator, in points of validation error",
        _removal_table(content["spaces"]),
        "## What was run",
        _budget_table(content["spaces"]),
        *(["## What differs from the paper's settings", "\n".join(differences)] if differences else []),
    ]
    return "\n\n".join(parts) + "\n"


def _results_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = [
        ["row", "space", "test error %, paper", "selected cell", "random cells", "parameters M, paper"]
    ]
    rows[0] += ["found cells at 36 channels, 20 cells", "selected as trained", "random as trained"]
    for name, space in spaces.items():
        summary = space["summary"]
        paper, trained, random = summary.get("paper", {}), summary["retrained"], summary["random"]
        row = [paper.get("row"), name, paper.get("test_error_percent")]
        row += [_spread(side["test_error_percent"], 1, 2) for side in (trained, random)]
        row += [paper.get("parameters_millions")]
        row += [_spread(summary["found_cells_36_channels_20_layers"]["parameters"], 1e6, 2)]
        rows.append([*row, *(_spread(side["parameters"], 1e6, 3) for side in (trained, random))])
    return _markdown_table(rows)


def _spread(found: dict[str, Any], scale: float, digits: int) -> str | None:
    """Mean ± sd [interval] (n) of what `summarize` gives; the mean alone where nothing varies."""
    if found["n"] == 0:
        return None
    mean = f"{found['mean'] / scale:.{digits}f}"
    if not found["sd"]:
        return f"{mean} ({found['n']})"
    low, high = (f"{bound / scale:.{digits}f}" for bound in found["t_interval"])
    return f"{mean} ± {found['sd'] / scale:.{digits}f} [{low}, {high}] ({found['n']})"


def _usage_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = [["space", "cell", "edges", "each by chance", "found"]]
    for name, space in spaces.items():
        for kind, usage in space["summary"]["operators"].items():
            counts = sorted(usage["counts"].items(), key=lambda pair: -pair[1])
            said = ", ".join(f"{operator} {count}" for operator, count in counts if count)
            rows.append([name, kind, usage["edges"], f"{usage['by_chance']:.1f}", said or None])
    return _markdown_table(rows)


def _removal_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = [["space", "points, mean over the searches"]]
    for name, space in spaces.items():
        found = space["summary"]["error_points_without_operator"]
        ordered = sorted(found.items(), key=lambda pair: -pair[1]["mean"])
        rows.append([name, ", ".join(f"{operator} {points['mean']:+.1f}" for operator, points in ordered) or None])
    return _markdown_table(rows)


def _budget_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = [
        ["space", "stage", "epochs", "training images", "test images", "held out", "pixels", "channels", "cells"]
    ]
    rows[0] += ["order", "seeds", "minutes in all", "device"]
    for name, space in spaces.items():
        for stage, done in space["summary"]["budget"].items():
            seeds, minutes = ", ".join(map(str, done["seeds"])), f"{done['seconds'] / 60:.1f}"
            rows.append([name, STAGES[stage], *map(done.get, _BUDGET), seeds, minutes, done["device"]])
    return _markdown_table(rows)


def differences_from_paper(data: str, plan: Plan) -> list[str]:
    """A line for the data, if they are not CIFAR-10, and one for each setting that is not the paper's.

    Those of a short training that are not named for it are those of a retraining.
    """
    lines = [] if data == "CIFAR-10" else [f"- data: {data} instead of CIFAR-10"]
    jobs = {job.stage: job for job in plan.jobs}  # all spaces have the same settings
    papers: dict[str, dict[str, Any]] = {
        stage: {name: field.default for name, field in type(jobs[stage].config).model_fields.items()}
        for stage in ("search", "train")
    }
    papers["select"] = read_preset("paper", "select") if "select" in jobs else {}
    for stage, settings in papers.items():
        for name, paper in settings.items():
            ours = getattr(jobs[stage].config, name)
            if name not in (*RUN_CONTROL, "data", "seed", "space") and ours != paper:
                said = [_UNSET.get(name, "none") if value is None else value for value in (ours, paper)]
                lines.append(f"- {STAGES[stage]}, {name.replace('_', ' ')}: {said[0]} instead of {said[1]}")
    for name, number in read_preset("paper", "table9").items():
        if (runs := getattr(plan.protocol, name)) != number:
            lines.append(f"- {RUNS[name]} of a space: {runs} instead of {number}")
    return lines


def _markdown_table(rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join("—" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
