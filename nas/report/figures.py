"""The figures of a report, by Matplotlib, as <svg> elements of the page: its typeface, its colours, light and dark.

Each is made for 440 pixels of width, the column of a page and nearly a phone's, so that its text stays readable.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nas.report.inline_svg import inline_svg

if TYPE_CHECKING:  # newer than the oldest Matplotlib that will do
    from matplotlib.typing import RcKeyType

BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f"  # Okabe and Ito, 2008
SERIES = (BLUE, ORANGE, GREEN, PINK)
_INK, _LINE, _SURFACE = "#000000", "#cccccc", "#ffffff"
_COLOURS = {
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    PINK: "var(--pink)",
    GREY: "var(--grey)",
    _INK: "currentColor",
    _LINE: "var(--line)",
    _SURFACE: "var(--surface)",
}
_STYLE: dict["RcKeyType", Any] = {
    "svg.fonttype": "none",  # text as text
    "svg.hashsalt": "darts-blocks",  # the same figure has the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
WIDTH, HEIGHT = 4.4, 2.7  # inches of 72 units
ROOM = 6  # pixels left of the numbers, as the browser's typeface may be wider than the one they were measured in
_MANY = 12  # points; a curve of more has no markers


@dataclass(frozen=True)
class Chart:
    """A figure and the words around it. `picture` is an <svg> element."""

    title: str
    picture: str
    note: str = ""

    def as_file(self) -> str:
        """The picture as an SVG file of its own, under its title: the colours of a light page, on white."""
        picture = self.picture
        for colour, value in _COLOURS.items():
            picture = picture.replace(value, colour)
        root = ElementTree.fromstring(picture)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        above = 18
        root.attrib |= {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 {-above} {width:g} {height + above:g}",
            "width": f"{WIDTH * 100:g}",
            "font-family": "sans-serif",
            "style": "background: white",
        }
        size = min(10, (width - 2 * ROOM) / (0.65 * len(self.title)))  # so that a long one fits, too
        title = ElementTree.Element("text", {"x": str(ROOM), "y": "-4", "font-size": f"{size:.3g}"})
        title.attrib["font-weight"] = "bold"
        title.text = self.title
        root.insert(0, title)
        return ElementTree.tostring(root, encoding="unicode") + "\n"


def curves(title: str, series: Mapping[str, Sequence[tuple[int, float]]], prefix: str, note: str = "") -> Chart | None:
    """Named curves of (epoch, value), or None if they have no points; a single point is drawn as one."""
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None

    def draw(axes: Axes) -> None:
        for (name, points), colour in zip(series.items(), SERIES, strict=False):
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, color=colour, marker="o" if len(points) <= _MANY else "", ms=3.5, label=name)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if all(isinstance(value, int) for points in series.values() for _, value in points):
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if len(series) > 1:
            legend_above(axes)

    ends = [f"{name} {points[-1][1]:.4g} after epoch {points[-1][0]}" for name, points in series.items()]
    label = f"{title}, by epoch: {'; '.join(ends)}."
    return Chart(title, picture(draw, prefix, label, rows=int(len(series) > 1)), note)


def legend_above(axes: Axes, columns: int = 3) -> None:
    """Names the colours at the top of the figure, from its left edge."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0.01, 1),
        bbox_transform=axes.figure.transFigure,
        ncols=columns,
        borderaxespad=0,
        handlelength=1.3,
        columnspacing=1.2,
    )


def picture(
    draw: Callable[[Axes], object],
    prefix: str,
    label: str,
    height: float = HEIGHT,
    left: float = 0.13,
    rows: int = 1,
) -> str:
    """What `draw(axes)` draws, as an <svg> element that says `label`; its ids begin with `prefix`.

    `height` is in inches, `left` the share of the width for what stands left of the axes, `rows` those of the legend.
    """
    above = 0.08 + 0.23 * rows
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((left, 0.5 / height, 0.97 - left, 1 - (0.5 + above) / height))
        draw(axes)
        figure.draw_without_rendering()
        labels = axes.yaxis.get_tightbbox()
        if labels is not None and labels.x0 < ROOM:  # long numbers, such as 2.197224, push the axes to the right
            left += (ROOM - labels.x0) / figure.bbox.width
            axes.set_position((left, 0.5 / height, 0.97 - left, 1 - (0.5 + above) / height))
        content = io.BytesIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return inline_svg(content.getvalue(), prefix, label, _COLOURS)
