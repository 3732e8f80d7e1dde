"""The figures of a Table 9: single runs beside their mean and its interval, operators beside chance, error by size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from nas.report.figures import GREY, SERIES, Chart, legend_above, picture
from nas.statistics import LEVEL, summarize

NAMES = {"normal": "normal", "reduce": "reduction"}
RANGE = 0.6  # of the values' range is left free above and below; intervals of few runs may reach beyond the figure


@dataclass(frozen=True)
class Cloud:
    """Points (x, y) of one name, in one of the colours and marks."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    mark: str = "o"


def spreads(
    title: str,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    prefix: str,
    marks: Mapping[str, float],
    note: str = "",
) -> Chart | None:
    """For each group and name the single values as dots, beside them their mean with its 95 % interval.

    `marks` is a value of the paper for a group. None if there is no value.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    shift = 0.7 / max(1, len(names))
    everything = [value for group in groups.values() for values in group.values() for value in values]
    if not everything:
        return None
    everything += marks.values()
    free = RANGE * (max(everything) - min(everything)) or 0.05 * abs(max(everything)) or 1

    def draw(axes: Axes) -> None:
        for number, (name, colour) in enumerate(zip(names, SERIES, strict=False)):
            for place, group in enumerate(groups.values()):
                values = group.get(name, ())
                if values:
                    _draw_spread(axes, place + (number - (len(names) - 1) / 2) * shift, values, colour)
            axes.plot([], [], "D", color=colour, ms=4.5, mew=0, label=name)
        for place, title in enumerate(groups):
            if title in marks:
                axes.plot([place - 0.4, place + 0.4], [marks[title]] * 2, color=GREY, lw=1.2, ls="--")
        if marks:
            axes.plot([], [], color=GREY, lw=1.2, ls="--", label="paper")
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylim(max(min(everything) - free, 0), max(everything) + free)
        axes.grid(False, axis="x")
        legend_above(axes)

    said = [
        f"{group}, {name}: mean {summarize(values)['mean']:.4g} of {len(values)}"
        for group, parts in groups.items()
        for name, values in parts.items()
        if values
    ]
    return Chart(title, picture(draw, prefix, f"{title}. {'; '.join(said)}."), note)


def _draw_spread(axes: Axes, x: float, values: Sequence[float], colour: str) -> None:
    summary = summarize(values)
    axes.plot([x - 0.07] * len(values), values, "o", color=colour, ms=4, alpha=0.5, mew=0)
    if summary["t_interval"]:
        axes.plot([x + 0.07] * 2, summary["t_interval"], color=colour, lw=1.6)
    axes.plot([x + 0.07], [summary["mean"]], "D", color=colour, ms=4.5, mew=0)


def clouds(title: str, points: Sequence[Cloud], prefix: str, labels: tuple[str, str], note: str = "") -> Chart | None:
    """A scatter of named clouds, or None if all are empty."""
    shown = [cloud for cloud in points if cloud.points]
    if not shown:
        return None
    columns = 3 if max(len(cloud.name) for cloud in shown) < 17 else 2  # what the width has room for

    def draw(axes: Axes) -> None:
        for cloud in shown:
            xs, ys = zip(*cloud.points, strict=True)
            inside = "auto" if cloud.mark == "o" else "none"
            axes.plot(xs, ys, cloud.mark, color=cloud.colour, mfc=inside, ms=5, mew=1.2, label=cloud.name)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.margins(0.12)
        legend_above(axes, columns)

    said = [f"{cloud.name}: {', '.join(f'{x:.3g} and {y:.3g}' for x, y in cloud.points)}" for cloud in shown]
    label = f"{title} ({labels[0]} and {labels[1]}). {'; '.join(said)}."
    rows = -(-len(shown) // columns)
    return Chart(title, picture(draw, prefix, label, 2.5 + 0.2 * rows, rows=rows), note)


def usage(title: str, counts: Mapping[str, Mapping[str, int]], prefix: str, note: str = "") -> Chart | None:
    """Bars of how many edges each operator has, by kind of cell, over the band in which chance has 95 % of its counts.

    Chance: each edge draws an operator evenly, and on its own.
    """
    operators = list(dict.fromkeys(name for found in counts.values() for name in found))
    edges = {kind: sum(found.values()) for kind, found in counts.items()}
    if not any(edges.values()):
        return None
    thickness = 0.8 / len(counts)

    def draw(axes: Axes) -> None:
        for number, ((kind, found), colour) in enumerate(zip(counts.items(), SERIES, strict=False)):
            places = [row + (number - (len(counts) - 1) / 2) * thickness for row in range(len(operators))]
            widths = [found.get(name, 0) for name in operators]
            axes.barh(places, widths, 0.8 * thickness, color=colour, label=f"{NAMES[kind]}, {edges[kind]} edges")
            low, high = stats.binom.interval(LEVEL, edges[kind], 1 / len(operators))
            for place in places:
                axes.plot([low, high], [place] * 2, color=GREY, lw=1.2, alpha=0.9, marker="|", ms=4)
        axes.plot([], [], color=GREY, lw=1.2, marker="|", ms=4, label="chance, 95 %")
        axes.set_yticks(range(len(operators)), operators)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_xlabel("edges")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        legend_above(axes)

    said = [f"{kind}: {', '.join(f'{name} {n}' for name, n in found.items())}" for kind, found in counts.items()]
    height = 0.95 + 0.26 * len(operators)
    return Chart(title, picture(draw, prefix, f"{title}. {'; '.join(said)}.", height, _margin(operators)), note)


def removals(title: str, points: Mapping[str, Mapping[str, Any]], prefix: str, note: str = "") -> Chart | None:
    """For each operator the points that a supernet's error rises without it: mean and 95 % interval."""
    operators = sorted(points, key=lambda name: -points[name]["mean"])
    if not operators:
        return None

    def draw(axes: Axes) -> None:
        for row, name in enumerate(operators):
            if points[name]["t_interval"]:
                axes.plot(points[name]["t_interval"], [row] * 2, color=SERIES[0], lw=1.6)
            axes.plot([points[name]["mean"]], [row], "D", color=SERIES[0], ms=4.5, mew=0)
        axes.axvline(0, color=GREY, lw=1)
        means = [found["mean"] for found in points.values()] + [0]
        free = RANGE * (max(means) - min(means)) or 1
        axes.set_xlim(min(means) - free, max(means) + free)
        axes.set_yticks(range(len(operators)), operators)
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel("points of validation error")

    said = ", ".join(f"{name} {points[name]['mean']:+.1f}" for name in operators)
    height = 0.75 + 0.2 * len(operators)
    return Chart(title, picture(draw, prefix, f"{title}: {said}.", height, _margin(operators), rows=0), note)


def _margin(names: Sequence[str]) -> float:
    """The share of a figure's width that names beside it take."""
    return min(0.45, 0.05 + 0.0165 * max(map(len, names)))
