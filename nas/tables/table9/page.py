"""What the report of a Table 9 shows: errors with intervals, size, operators beside chance, every cell, conclusions."""

import re
from pathlib import Path
from typing import Any

from nas.formatting import readable_time
from nas.report.cell_pictures import TITLES, cell_picture
from nas.report.page import build_page
from nas.run.files import write_atomically
from nas.statistics import summarize
from nas.tables.table9.charts import STAGE_NAMES, table_charts
from nas.tables.table9.jobs import STAGES
from nas.tables.table9.markdown import BUDGET
from nas.tables.table9.results import PAPER
from nas.tables.table9.runs import LISTS, TableRun, TableSpace, read_table


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
        "charts": table_charts(spaces, identifier),
        "galleries": [_gallery(space) for space in spaces.values()],
        "titles": TITLES,
        "budget": _budget(spaces),
        "summary": {"runs": str(done), "time": _time(spaces)},
    }


def write_page(folder: Path) -> Path:
    """Writes report.html into the folder of a table and returns its path. Raises InputError as `table_content` does."""
    path = folder / "report.html"
    write_atomically(path, build_page([table_content(folder, "r0")]))
    return path


def write_figures(folder: Path) -> Path:
    """Writes the report's charts as SVG files, for papers and slides, into figures/ in the folder; returns that path.

    Raises InputError if table9.json or a run below the folder is damaged.
    """
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for chart in table_charts(read_table(folder)[1], "table9"):
        name = re.sub(r"[^a-z0-9+]+", "-", chart.title.lower()).strip("-")
        write_atomically(figures / f"{name}.svg", chart.as_file())
    return figures


def _runs_since(space: TableSpace, content: dict[str, Any]) -> int:
    """Runs that were finished since the table was written."""
    listed = content.get("spaces", {}).get(space.name, {})
    return sum(max(0, len(space.runs[stage]) - len(listed.get(key, []))) for stage, key in LISTS.items())


def _result_row(space: TableSpace) -> dict[str, Any]:
    row, error, parameters = PAPER.get(space.name, (None, None, None))
    return {
        "space": space.name,
        "row": row,
        "paper_error": error,
        "paper_parameters": parameters,
        "errors": {name: spread(space.values(stage, "test_error_percent")) for stage, name in STAGE_NAMES.items()},
        "found": spread([value / 1e6 for value in space.values("search", "parameters")]),
    }


def spread(values: list[float]) -> dict[str, str]:
    """Mean ± sd, the 95 % interval of the mean, and the number of values, as text; empty where they are not known."""
    found = summarize(values)
    if not found["n"]:
        return {"mean": "—", "interval": "", "n": "0"}
    mean = f"{found['mean']:.2f}"
    if found["sd"]:
        mean += f" ± {found['sd']:.2f}"
    interval = "{:.2f} to {:.2f}".format(*found["t_interval"]) if found["sd"] else ""
    return {"mean": mean, "interval": interval, "n": str(found["n"])}


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
    rows = []
    for name, space in spaces.items():
        for stage, done in space.summary.get("budget", {}).items():
            seeds = ", ".join(map(str, done.get("seeds", [])))
            time = readable_time(done["seconds"]) if "seconds" in done else "—"
            rows.append([name, STAGES.get(stage, stage), *(str(done.get(key, "—")) for key in BUDGET), seeds, time])
    return rows


def _time(spaces: dict[str, TableSpace]) -> str:
    seconds = sum(
        done.get("seconds", 0) for space in spaces.values() for done in space.summary.get("budget", {}).values()
    )
    return readable_time(seconds) if seconds else "—"
