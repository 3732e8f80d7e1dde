"""Finished runs -> what table9.json holds: what was measured, how sure it is, and what the paper printed."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cells.genotype import KINDS, Genotype
from nas.report.rows import search_settings
from nas.run.files import write_atomically
from nas.search.strategies import strategy_of
from nas.statistics import summarize
from nas.tables.table9.comparisons import beside_random, compare_all, conclusions
from nas.tables.table9.jobs import STAGES, Job, Plan
from nas.tables.table9.markdown import BUDGET, to_markdown
from search_spaces.space import SearchSpace

PAPER = {  # space: row of the paper's Table 9, test error in percent, parameters in millions
    "darts": (1, 3.11, 3.25),
    "darts+ir": (2, 3.26, 3.29),
    "darts+sandglass": (3, 2.98, 2.45),
}
FORMAT = 1
COSTS = ("parameters", "madds")
FIGURES = ("test_error_percent", *COSTS)


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
        costs = {figure: network[figure] for figure in COSTS}
        error = {"held_out_error_percent": held_out.get(job.config.seed)}
        searches.append({"seed": job.config.seed, "genotype": _plain(job.genotype())} | costs | error)
    selected = plan.selections[name].selected()
    retrainings = [{"seed": job.config.seed} | _figures(job) for job in finished["train"]]
    randoms = [
        {"seed": job.config.seed, "genotype": _plain(job.genotype())} | _figures(job) for job in finished["random"]
    ]
    space = plan.of(name, "search")[0].space
    named = zip(("row", "test_error_percent", "parameters_millions"), PAPER.get(name, ()), strict=False)
    summary = {
        "selected_seed": None if selected is None else selected.config.seed,
        "found_cells_36_channels_20_layers": _summaries(searches, COSTS),
        "retrained": _summaries(retrainings, FIGURES),
        "random": _summaries(randoms, FIGURES),
        "selected_beside_random": beside_random(retrainings, randoms),
        "operators": operator_usage([job.genotype() for job in finished["search"]], space),
        "mean_operator_weights": mean_operator_weights(finished["search"], space),
        "error_points_without_operator": points_without_operators(finished["search"]),
        "budget": {stage: _what_was_done(jobs) for stage, jobs in finished.items() if jobs},
    }
    return {
        "searches": searches,
        "selected": None if selected is None else _plain(selected.genotype()),
        "retrainings": retrainings,
        "random": randoms,
        "summary": ({"paper": dict(named)} if name in PAPER else {}) | summary,
    }


def _summaries(rows: Sequence[dict[str, Any]], figures: Sequence[str]) -> dict[str, Any]:
    return {figure: summarize([row[figure] for row in rows]) for figure in figures}


def _figures(job: Job) -> dict[str, Any]:
    result = job.run.result()
    return {key: result[key] for key in FIGURES}


def _plain(genotype: Genotype) -> dict[str, Any]:
    return json.loads(genotype.to_json())


def _what_was_done(jobs: Sequence[Job]) -> dict[str, Any]:
    """The budget that finished runs of one stage really used, as their results have it."""
    done = jobs[0].config.model_dump() | jobs[0].run.result()
    seconds = sum(job.run.result()["seconds"] for job in jobs)
    return {key: done[key] for key in BUDGET if key in done} | {
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
    for kind in KINDS:
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
    """For each kind of cell and operator: the weight after each epoch, the mean over edges and searches."""
    found = {}
    for kind in KINDS:
        runs = [np.array([row[kind] for row in job.run.rows("alphas")]) for job in searches]
        epochs = min((len(run) for run in runs), default=0)
        alphas = np.array([run[:epochs] for run in runs])  # (searches, epochs, edges, operators)
        if not alphas.size:
            continue
        means = strategy_of(search_settings(searches[0].run)).relax(torch.from_numpy(alphas)).mean((0, 2))
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
