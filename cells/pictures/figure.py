"""Pictures of a genotype's two cells; for a paper as wide as its column or page, with text that can be read there.

Scaled down to a column, a deep cell drawn from left to right would have text of two points. So each cell is laid out
with labels on one line or two, from left to right or from top to bottom, both cells in a row or in a column, and the
best layout is kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from cells.genotype import KINDS, Genotype
from cells.pictures.diagram import DEFAULT_LAYOUT, TEXT_POINTS, Layout, cell_dot, cell_title
from cells.pictures.operator_looks import STYLES
from cells.pictures.rendering import (
    PRINT_DOTS_PER_INCH,
    SCREEN_DOTS_PER_INCH,
    find_renderers,
    pdf_of,
    render,
    size_in_points,
    write_files,
)
from cells.pictures.side_by_side import GAP_POINTS, join_png, join_svg
from search_spaces.errors import InputError, check_known, suggest

WIDTHS_CM = {"column": 8.4, "page": 17.4}  # of two-column journals; LNCS' page is 12.2
SMALLEST_CM, LARGEST_CM = 3.0, 120.0  # from a margin figure to a poster
READABLE_POINTS = 7.0  # the least that most publishers accept in a figure
LARGEST_POINTS = 9.0  # a caption's; a figure's text should not outgrow it
POINTS_PER_CM = 72 / 2.54
CAPTIONS = {"normal": "(a) Normal cell", "reduce": "(b) Reduction cell"}

Build = Callable[[Layout], str]  # the DOT of a cell in a layout


@dataclass(frozen=True)
class Fitted:
    """How a figure's cells are laid out: the layout of each, whether they stand in a row, and the size of the text."""

    layouts: tuple[Layout, ...]
    in_row: bool
    text_points: float


def draw_genotype(
    genotype: Genotype,
    folder: Path,
    formats: Sequence[str] = ("svg", "png"),
    name: str | None = None,
    *,
    width: str | None = None,
    together: bool = False,
    style: str = "colour",
) -> list[Path]:
    """Writes normal.* and reduce.*, or cells.* with both cells `together`, as DOT and in each of `formats`.

    Returns the paths. The title is `name`, or else the space, with the seed (or, under the space's name, the method)
    that found the cells. With `width`, a number of centimetres or "column" or "page", there is none, as a paper's
    caption says it.

    Raises InputError, before anything is written, for a width, style or format that is not there, and for PDF where
    nothing here writes it.
    """
    check_known("style", style, STYLES)
    points = None if width is None else width_in_points(width)
    renderers = {file_format: find_renderers(file_format, joined=together) for file_format in formats}
    dots_per_inch = SCREEN_DOTS_PER_INCH if points is None else PRINT_DOTS_PER_INCH

    def builder(kind: str) -> Build:
        title = CAPTIONS[kind] if together else cell_title(genotype, kind, name) if points is None else ""
        return lambda layout: cell_dot(genotype.cells[kind], title, kind == "reduce", style, layout)

    files = {}
    for figure, kinds in {"cells": KINDS}.items() if together else [(kind, (kind,)) for kind in KINDS]:
        builds = [builder(kind) for kind in kinds]
        plain = Fitted(tuple(replace(DEFAULT_LAYOUT, title_below=together) for _ in kinds), True, TEXT_POINTS)
        fitted = plain if points is None else fit(builds, points)
        dots = [build(layout) for build, layout in zip(builds, fitted.layouts, strict=True)]
        files[f"{figure}.dot"] = "\n".join(dots).encode()
        for file_format, programs in renderers.items():
            files[f"{figure}.{file_format}"] = _picture(dots, file_format, programs, fitted, points, dots_per_inch)
    return write_files(files, folder)


def _picture(
    dots: list[str], file_format: str, programs: list[str], fitted: Fitted, width: float | None, dots_per_inch: int
) -> bytes:
    if len(dots) == 1:
        return render(dots[0], file_format, programs, dots_per_inch)
    part_format = "png" if file_format == "png" else "svg"
    parts = [render(dot, part_format, find_renderers(part_format), dots_per_inch) for dot in dots]
    gap = GAP_POINTS * fitted.text_points / TEXT_POINTS
    if file_format == "png":
        return join_png(parts, fitted.in_row, gap, dots_per_inch, width)
    svg = join_svg(parts, fitted.in_row, gap, width)
    return pdf_of(svg) if file_format == "pdf" else svg


def width_in_points(text: str) -> float:
    """Of "column", "page" or a number of centimetres. Raises InputError for anything else."""
    try:
        centimetres = WIDTHS_CM[text] if text in WIDTHS_CM else float(text)
    except ValueError:
        centimetres = float("nan")
    if not SMALLEST_CM <= centimetres <= LARGEST_CM:
        allowed = f"allowed are column, page, and {SMALLEST_CM:g} to {LARGEST_CM:g} centimetres"
        raise InputError(f'width "{text}"{suggest(text, WIDTHS_CM)} {allowed}')
    return centimetres * POINTS_PER_CM


def fit(builds: Sequence[Build], width: float) -> Fitted:
    """The layouts that suit a figure of these cells, `width` points wide.

    Of those whose text is readable, that of the lowest figure; if there is none, that with the largest text. Where text
    would be larger than a caption's, nodes are moved apart instead.
    """
    compact = [
        Layout(direction, broken, ranks=0.3, neighbours=0.12, padding=0.03, title_below=True)
        for direction, broken in product(("LR", "TB"), (False, True))
    ]
    measured = [[(layout, *_natural_size(build, layout)) for layout in compact] for build in builds]
    candidates = []
    for chosen in product(*measured):
        for in_row in (True, False)[: len(builds)]:
            gaps = GAP_POINTS * (len(builds) - 1)
            widths, heights = [w for _, w, _ in chosen], [h for _, _, h in chosen]
            across = sum(widths) + gaps if in_row else max(widths)
            down = max(heights) if in_row else sum(heights) + gaps
            text = min(TEXT_POINTS * width / across, LARGEST_POINTS)
            rank = (0, down * text) if text >= READABLE_POINTS else (1, -text)
            candidates.append((rank, chosen, in_row, text, across))
    _, chosen, in_row, text, across = min(candidates, key=lambda candidate: candidate[0])  # the first of equals

    wanted = width * TEXT_POINTS / text
    layouts = []
    for build, (layout, natural, _) in zip(builds, chosen, strict=True):
        least = natural + (wanted - across) / len(builds) if in_row else wanted
        if text == LARGEST_POINTS:
            layout, natural = _spread(build, layout, natural, least), max(natural, least)
        layouts.append(replace(layout, width=natural * text / TEXT_POINTS))
    return Fitted(tuple(layouts), in_row, text)


def _natural_size(build: Build, layout: Layout) -> tuple[float, float]:
    return size_in_points(render(build(layout), "svg", find_renderers("svg")))


def _spread(build: Build, layout: Layout, natural: float, least: float) -> Layout:
    """The layout with gaps that make the cell `least` points wide, not `natural`."""
    gap = "ranks" if layout.direction == "LR" else "neighbours"
    narrow = getattr(layout, gap)
    gained = _natural_size(build, replace(layout, **{gap: narrow + 1}))[0] - natural  # by one inch more
    return replace(layout, **{gap: narrow + (least - natural) / gained}) if gained > 0 else layout
