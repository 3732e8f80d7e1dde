"""Which figures the report of a Table 9 shows, and what of its runs they draw."""

from collections import Counter

from nas.report.cell_pictures import TITLES
from nas.report.figures import SERIES, Chart
from nas.tables.table9.figures import Cloud, clouds, removals, spreads, usage
from nas.tables.table9.results import PAPER
from nas.tables.table9.runs import TableSpace

STAGE_NAMES = {"train": "selected cell", "random": "random cells"}


def table_charts(spaces: dict[str, TableSpace], identifier: str) -> list[Chart]:
    """The figures for which there are runs; ids in them begin with `identifier`."""
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
            + (" The paper's errors are far from these and not drawn." if paper and not comparable else ""),
        ),
        spreads(
            "Parameters at 36 channels and 20 cells, M",
            found,
            f"{identifier}-p-",
            {name: parameters for name, (_, _, parameters) in paper.items()},
            "Of every cell that a search found, without the auxiliary head.",
        ),
        *_error_by_size(spaces, identifier, comparable),
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


def _error_by_size(spaces: dict[str, TableSpace], identifier: str, near: bool) -> list[Chart | None]:
    """Measured networks and, with `near`, the paper's beside them; else those in a figure of their own."""
    sizes = [size for space in spaces.values() for stage in STAGE_NAMES for size in space.values(stage, "parameters")]
    unit, scale = ("thousands", 1e3) if sizes and max(sizes) < 1e5 else ("M", 1e6)
    near = near and 2 * max(sizes, default=0) > 1e6 * min(size for _, _, size in PAPER.values())
    measured, paper = [], []
    for (name, space), colour in zip(spaces.items(), SERIES * len(spaces), strict=False):
        for stage, mark in (("train", "o"), ("random", "s")):
            points = [
                (run.parameters / scale, run.test_error_percent)
                for run in space.runs[stage]
                if run.parameters is not None and run.test_error_percent is not None
            ]
            measured.append(Cloud(f"{name}, {STAGE_NAMES[stage].split()[0]}", points, colour, mark))
        if name in PAPER:
            _, error, parameters = PAPER[name]
            paper.append(Cloud(f"{name}, paper" if near else name, [(parameters, error)], colour, "D"))
    axes, note = "test error, %", "Zhou et al., ECCV 2020, Table 9."
    here = "Without the auxiliary head." + (f" The paper: {note}" if near else "")
    shown = measured + (paper if near else [])
    charts = [clouds("Error and size", shown, f"{identifier}-s-", (f"parameters, {unit}", axes), here)]
    if not near:
        charts.append(clouds("Error and size in the paper", paper, f"{identifier}-q-", ("parameters, M", axes), note))
    return charts


def _operator_counts(space: TableSpace) -> dict[str, dict[str, int]]:
    counts = {}
    for kind in TITLES:
        cells = [getattr(run.genotype, kind) for run in space.runs["search"] if run.genotype is not None]
        found = Counter(edge.operator for cell in cells for _, edge in cell.edges)
        counts[kind] = {name: found[name] for name in dict.fromkeys([*space.operators, *found])}
    return counts
