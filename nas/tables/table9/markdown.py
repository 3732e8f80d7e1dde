"""table9.md: the results beside the paper's, what they can say, what was run, and what differs from the paper's."""

from collections.abc import Sequence
from typing import Any

from nas.config import RUN_CONTROL, read_preset
from nas.tables.table9.jobs import STAGES, Plan

# What its results say that a run really used
BUDGET = ("epochs", "train_images", "test_images", "hold_out", "image_size", "channels", "layers", "order")
_RUNS = {"searches": "searches", "retrainings": "retrainings of the selected cell", "random": "random cells"}
_UNSET = {"train_images": "all", "test_images": "all", "image_size": "the data's own", "flip": "as suits the data"}


def to_markdown(content: dict[str, Any], plan: Plan) -> str:
    """The text of the file for what table9.json holds."""
    unfinished = [f"- {job.title}: {job.run.path}" for job in plan.jobs if not job.run.is_finished()]
    differences = _differences_from_paper(content["data"], plan)
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
    rows: list[list[Any]] = []
    for name, space in spaces.items():
        summary = space["summary"]
        paper, trained, random = summary.get("paper", {}), summary["retrained"], summary["random"]
        row = [paper.get("row"), name, paper.get("test_error_percent")]
        row += [_spread(side["test_error_percent"], 1, 2) for side in (trained, random)]
        row += [paper.get("parameters_millions")]
        row += [_spread(summary["found_cells_36_channels_20_layers"]["parameters"], 1e6, 2)]
        rows.append([*row, *(_spread(side["parameters"], 1e6, 3) for side in (trained, random))])
    head = "row | space | test error %, paper | selected cell | random cells | parameters M, paper"
    return _table(f"{head} | found cells at 36 channels, 20 cells | selected as trained | random as trained", rows)


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
    rows: list[list[Any]] = []
    for name, space in spaces.items():
        for kind, usage in space["summary"]["operators"].items():
            counts = sorted(usage["counts"].items(), key=lambda pair: -pair[1])
            said = ", ".join(f"{operator} {count}" for operator, count in counts if count)
            rows.append([name, kind, usage["edges"], f"{usage['by_chance']:.1f}", said or None])
    return _table("space | cell | edges | each by chance | found", rows)


def _removal_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    for name, space in spaces.items():
        found = space["summary"]["error_points_without_operator"]
        ordered = sorted(found.items(), key=lambda pair: -pair[1]["mean"])
        rows.append([name, ", ".join(f"{operator} {points['mean']:+.1f}" for operator, points in ordered) or None])
    return _table("space | points, mean over the searches", rows)


def _budget_table(spaces: dict[str, Any]) -> str:
    rows: list[list[Any]] = []
    for name, space in spaces.items():
        for stage, done in space["summary"]["budget"].items():
            seeds, minutes = ", ".join(map(str, done["seeds"])), f"{done['seconds'] / 60:.1f}"
            rows.append([name, STAGES[stage], *map(done.get, BUDGET), seeds, minutes, done["device"]])
    head = "space | stage | epochs | training images | test images | held out | pixels | channels | cells"
    return _table(f"{head} | order | seeds | minutes in all | device", rows)


def _differences_from_paper(data: str, plan: Plan) -> list[str]:
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
            lines.append(f"- {_RUNS[name]} of a space: {runs} instead of {number}")
    return lines


def _table(head: str, rows: Sequence[Sequence[Any]]) -> str:
    texts = [" | ".join("—" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([f"| {head} |", "|" + "---|" * len(head.split(" | ")), *(f"| {text} |" for text in texts)])
