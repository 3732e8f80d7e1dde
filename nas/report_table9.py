"""What the report of a Table 9 shows: errors with intervals, size, operators beside chance, every cell, conclusions."""

from collections import Counter
from pathlib import Path
from typing import Any

from nas.cell_pictures import TITLES, cell_picture
from nas.figures import SERIES, Chart
from nas.loop import readable_time
from nas.statistics import summarize
from nas.table9_figures import Cloud, clouds, removals, spreads, usage
from nas.table9_jobs import STAGES
from nas.table9_results import PAPER
from nas.table9_runs import TableRun, TableSpace, read_table

STAGE_NAMES = {"train": "selected cell", "random": "random cells"}


def table_content(folder: Path, identifier: str) -> dict[str, Any]:
    """What the template table9.html shows; ids in it begin with `identifier`.

    Raises InputError if table9.json or a run below the folder is damaged.
    """
    content, spaces = read_table(folder)
    behind = sum(_runs_since(space, content) for space in spaces.values())
    open_runs = sum(sum(space.begun.values()) - sum(space.finished.values()) for space in spaces.values())
    is_whole = all(space.selected_seed is not None and space.runs["train"] for space in spaces.values())
    finished = bool(content) and is_whole and not behind and not open_runs
    done = sum(len(runs) for space in spaces.values() for runs in space.runs.values())
    return {
        "kind": "table 9",
        "template": "table9.html",
        "id": identifier,
        "title": f"Table 9: {', '.join(spaces)}",
        "path": str(folder),
        "data": content.get("data", ""),
        "preset": content.get("preset", ""),
        "command": content.get("command", ""),
        "finished": finished,
        "status": "finished"
        if finished
        else f"unfinished: {done} {'run' if done == 1 else 'runs'} in it, {open_runs} begun",
        "behind": behind,
        "results": [_result_row(space) for space in spaces.values()],
        "stages": STAGES,
        "progress": [
            (name, [(space.finished[stage], space.begun[stage]) for stage in STAGES]) for name, space in spaces.items()
        ],
        "has_folders": any(sum(space.begun.values()) for space in spaces.values()),
        "conclusions": [str(line) for line in content.get("conclusions", [])],
        "charts": _charts(spaces, identifier),
        "galleries": [_gallery(space) for space in spaces.values()],
        "titles": TITLES,
        "budget": _budget(spaces),
        "summary": {"runs": str(done), "time": _time(spaces)},
    }


def _runs_since(space: TableSpace, content: dict[str, Any]) -> int:
    """Runs that were finished since the table was written."""
    listed = content.get("spaces", {}).get(space.name, {})
    names = {"search": "searches", "train": "retrainings", "random": "random"}
    return sum(max(0, len(space.runs[stage]) - len(listed.get(key, []))) for stage, key in names.items())


def _result_row(space: TableSpace) -> dict[str, Any]:
    row, error, parameters = PAPER.get(space.name, (None, None, None))
    return {
        "space": space.name,
        "row": row,
        "paper_error": error,
        "paper_parameters": parameters,
        "errors": {name: spread(space.values(stage, "test_error_percent")) for stage, name in STAGE_NAMES.items()},
        "found": spread([value / 1e6 for value in space.values("search", "parameters")]),
        "trained": {
            name: spread([value / 1e6 for value in space.values(stage, "parameters")], 3)
            for stage, name in STAGE_NAMES.items()
        },
    }


def spread(values: list[float], digits: int = 2) -> dict[str, str]:
    """Mean ± sd, the 95 % interval of the mean, and the number of values, as text; empty where they are not known."""
    found = summarize(values)
    if not found["n"]:
        return {"mean": "—", "interval": "", "n": "0"}
    mean = f"{found['mean']:.{digits}f}"
    if found["sd"]:
        mean += f" ± {found['sd']:.{digits}f}"
    interval = "{:.{d}f} to {:.{d}f}".format(*found["t_interval"], d=digits) if found["sd"] else ""
    return {"mean": mean, "interval": interval, "n": str(found["n"])}


def _charts(spaces: dict[str, TableSpace], identifier: str) -> list[Chart]:
    paper = {name: PAPER[name] for name in spaces if name in PAPER}
    errors = {
        name: {shown: space.values(stage, "test_error_percent") for stage, shown in STAGE_NAMES.items()}
        for name, space in spaces.items()
    }
    found = {
        name: {"found cells": [value / 1e6 for value in space.values("search", "parameters")]}
        for name, space in spaces.items()
    }
    comparable = _is_near([value for group in errors.values() for part in group.values() for value in part], paper)
    charts = [
        spreads(
            "Test error, %",
            errors,
            f"{identifier}-e-",
            {name: error for name, (_, error, _) in paper.items()} if comparable else {},
            "Dots are runs, a diamond is their mean, its line the 95 % interval by Student's t."
            + ("" if comparable else " The paper's errors are far from these and not drawn."),
        ),
        spreads(
            "Parameters at 36 channels and 20 cells, M",
            found,
            f"{identifier}-p-",
            {name: parameters for name, (_, _, parameters) in paper.items()},
            "Of every cell that a search found, without the auxiliary head.",
        ),
        *_error_by_size(spaces, identifier),
    ]
    for number, (name, space) in enumerate(spaces.items()):
        charts.append(
            usage(
                f"Operators of the found cells, {name}",
                _operator_counts(space),
                f"{identifier}-u{number}-",
                "The grey bracket is where 95 % of the counts lie if each edge draws an operator evenly, on its own.",
            )
        )
        charts.append(
            removals(
                f"What a supernet loses without an operator, {name}",
                space.summary.get("error_points_without_operator", {}),
                f"{identifier}-r{number}-",
                "Right of zero: the finished supernet needs it. Mean over the searches, and its 95 % interval.",
            )
        )
    return [chart for chart in charts if chart is not None]


def _is_near(errors: list[float], paper: dict[str, tuple]) -> bool:
    """Whether the measured errors can share an axis with the paper's."""
    return bool(errors and paper) and max(errors) < 2 * max(error for _, error, _ in paper.values())


def _error_by_size(spaces: dict[str, TableSpace], identifier: str) -> list[Chart | None]:
    """Measured networks, and the paper's; two figures, as the networks of a small preset are of another size."""
    labels = ("parameters, M", "test error, %")
    measured, paper = [], []
    sizes = [size for space in spaces.values() for stage in STAGE_NAMES for size in space.values(stage, "parameters")]
    small = bool(sizes) and max(sizes) < 1e5
    for (name, space), colour in zip(spaces.items(), SERIES * len(spaces), strict=False):
        for stage, mark in (("train", "o"), ("random", "s")):
            points = [
                (run.parameters / (1e3 if small else 1e6), run.test_error_percent)
                for run in space.runs[stage]
                if run.parameters is not None and run.test_error_percent is not None
            ]
            measured.append(Cloud(f"{name}, {STAGE_NAMES[stage].split()[0]}", points, colour, mark))
        if name in PAPER:
            _, error, parameters = PAPER[name]
            paper.append(Cloud(name, [(parameters, error)], colour, "D"))
    here = ("parameters, thousands", labels[1]) if small else labels
    return [
        clouds("Error and size, as trained here", measured, f"{identifier}-s-", here, "Without the auxiliary head."),
        clouds("Error and size in the paper", paper, f"{identifier}-q-", labels, "Zhou et al., ECCV 2020, Table 9."),
    ]


def _operator_counts(space: TableSpace) -> dict[str, dict[str, int]]:
    counts = {}
    for kind in TITLES:
        cells = [getattr(run.genotype, kind) for run in space.runs["search"] if run.genotype is not None]
        found = Counter(edge.operator for cell in cells for _, edge in cell.edges)
        counts[kind] = {name: found[name] for name in dict.fromkeys([*space.operators, *found])}
    return counts


def _gallery(space: TableSpace) -> dict[str, Any]:
    return {
        "space": space.name,
        "found": [_card(run, run.seed == space.selected_seed) for run in space.runs["search"] if run.genotype],
        "random": [_card(run, False) for run in space.runs["random"] if run.genotype],
    }


def _card(run: TableRun, is_selected: bool) -> dict[str, Any]:
    """A cell among small multiples: its pictures and its numbers."""
    facts = []
    if run.held_out_error_percent is not None:
        facts.append(f"held-out error {run.held_out_error_percent:.2f} %")
    if run.test_error_percent is not None:
        facts.append(f"test error {run.test_error_percent:.2f} %")
    if run.parameters is not None:
        facts.append(f"{readable_count(run.parameters)} parameters")
    pictures = {kind: cell_picture(getattr(run.genotype, kind), kind) for kind in TITLES}
    return {"seed": run.seed, "selected": is_selected, "facts": ", ".join(facts), "pictures": pictures}


def readable_count(number: float) -> str:
    """`3.02 M`, or `17.6 k` below 100,000."""
    return f"{number / 1e6:.2f} M" if number >= 1e5 else f"{number / 1e3:.1f} k"


def _budget(spaces: dict[str, TableSpace]) -> list[list[str]]:
    names = ("epochs", "train_images", "test_images", "hold_out", "image_size", "channels", "layers", "order")
    rows = []
    for name, space in spaces.items():
        for stage, done in space.summary.get("budget", {}).items():
            seeds = ", ".join(map(str, done.get("seeds", [])))
            time = readable_time(done["seconds"]) if "seconds" in done else "—"
            rows.append([name, STAGES.get(stage, stage), *(str(done.get(key, "—")) for key in names), seeds, time])
    return rows


def _time(spaces: dict[str, TableSpace]) -> str:
    seconds = sum(
        done.get("seconds", 0) for space in spaces.values() for done in space.summary.get("budget", {}).values()
    )
    return readable_time(seconds) if seconds else "—"
