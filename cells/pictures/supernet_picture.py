"""A picture of a cell while it is searched: every edge faintly, those that would be kept now in their operator's look.

Nodes stand in a row, and the edge from node i to node j is an arc whose height is j - i, so that the tops of all arcs
are different points: a node or a label stays where it is from epoch to epoch, and no label covers another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from cells.genotype import CellGenotype
from cells.pictures.diagram import label_and_look
from search_spaces.space import SearchSpace

SPACING = 132  # pixels between two nodes
RISE = 44  # pixels by which an arc is higher than one over a node less
LABEL_WIDTH, LABEL_HEIGHT = 118, 36
RADIUS = 16  # of a node
MARGIN = 22
OVERSAMPLING = 2  # Pillow draws no smooth lines, so a picture is drawn larger
FAINT, STRONG = 1.0, 2.5  # pixels of an edge that is not kept and of one that is
SEGMENTS = 48  # straight pieces of an arc
LONGEST_LABEL = 17

Weights = Sequence[Sequence[float]]  # of the operators on each edge


@dataclass(frozen=True)
class Canvas:
    """What is drawn on, in pixels of the finished picture."""

    draw: ImageDraw.ImageDraw

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * OVERSAMPLING)), joint="curve")

    def box(
        self, centre: tuple[float, float], size: tuple[float, float], radius: float, fill: str, outline: str
    ) -> None:
        (x, y), (width, height) = centre, size
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        self.draw.rounded_rectangle([c * OVERSAMPLING for c in corners], radius * OVERSAMPLING, fill, outline, 3)

    def text(
        self, place: tuple[float, float], text: str, points: float, colour: str = "#000000", anchor: str = "mm"
    ) -> None:
        font = ImageFont.load_default(points * OVERSAMPLING)
        self.draw.text((place[0] * OVERSAMPLING, place[1] * OVERSAMPLING), text, colour, font, anchor)


def draw_supernet_cells(
    space: SearchSpace, cells: Sequence[tuple[str, CellGenotype, Weights]], caption: str
) -> Image.Image:
    """The picture of one moment: above each other, each of `cells`, and the caption on top.

    A cell is its title, the genotype that its weights mean, and the softmax weights of shape (edges, operators).
    """
    width, height = picture_size(space)
    whole = Image.new("RGB", (width * OVERSAMPLING, (48 + height * len(cells)) * OVERSAMPLING), "white")
    canvas = Canvas(ImageDraw.Draw(whole))
    canvas.text((width / 2, 24), caption, 17)
    for number, (title, cell, weights) in enumerate(cells):
        _draw_cell(canvas, space, title, cell, weights, 48 + (number + 1) * height - MARGIN - RADIUS)
    return whole.resize((whole.width // OVERSAMPLING, whole.height // OVERSAMPLING), Image.Resampling.LANCZOS)


def picture_size(space: SearchSpace) -> tuple[int, int]:
    """Width and height in pixels of one cell's part of the picture."""
    last = space.nodes + 1  # the node at the end of the longest arc, which node 0 begins
    width = 2 * MARGIN + 2 * RADIUS + LABEL_WIDTH // 2 + SPACING * last
    return width, 2 * MARGIN + RADIUS + RISE * last + LABEL_HEIGHT // 2


def _draw_cell(
    canvas: Canvas, space: SearchSpace, title: str, cell: CellGenotype, weights: Weights, baseline: float
) -> None:
    kept = {(edge.source, target): edge.operator for target, edge in cell.edges}
    reduction = title.startswith("Reduction")
    faint_first = sorted(range(len(space.edges)), key=lambda row: space.edges[row] in kept)
    labels = []
    for row in faint_first:
        source, target = space.edges[row]
        arc = [_on_arc(source, target, step / SEGMENTS, baseline) for step in range(SEGMENTS + 1)]
        if (source, target) not in kept:
            canvas.line(arc, "#CCD0D5", FAINT)
            continue
        operator = kept[source, target]
        label, look = label_and_look(operator, reduction and source < 2, "colour")
        canvas.line(arc, look.line, STRONG)
        labels.append((arc[SEGMENTS // 2], label, look, weights[row][space.operators.index(operator)]))
    for node in range(space.nodes + 2):
        _draw_node(canvas, node, baseline)
    for (x, y), label, look, weight in labels:
        canvas.box((x, y), (LABEL_WIDTH, LABEL_HEIGHT), 8, look.fill, look.line)
        canvas.text((x, y - 8), _shortened(label), 12.5, look.text)
        canvas.text((x, y + 8), f"{weight:.3f}", 12.5, look.text)
    canvas.text((MARGIN, baseline - RISE * (space.nodes + 1)), title, 15, anchor="lm")


def _place(node: int, baseline: float) -> tuple[float, float]:
    return MARGIN + RADIUS + LABEL_WIDTH / 4 + SPACING * node, baseline


def _on_arc(source: int, target: int, way: float, baseline: float) -> tuple[float, float]:
    """The point at `way` (0 to 1) of an edge's arc, a half ellipse flattened at its top."""
    start, end = _place(source, baseline)[0], _place(target, baseline)[0]
    height = 1 - abs(2 * way - 1) ** 2.5
    return start + way * (end - start), baseline - RISE * (target - source) * height


def _draw_node(canvas: Canvas, node: int, baseline: float) -> None:
    place = _place(node, baseline)
    if node >= 2:
        canvas.box(place, (2 * RADIUS, 2 * RADIUS), RADIUS, "#444444", "#444444")
        canvas.text(place, str(node - 2), 15, "#FFFFFF")
    else:
        canvas.box(place, (2.6 * RADIUS, 2 * RADIUS), 2, "#E8EAED", "#444444")
        canvas.text((place[0] - 9, place[1] - 1), "c", 15)
        canvas.text((place[0] + 5, place[1] + 4), f"k-{2 - node}", 11)


def _shortened(label: str) -> str:
    """A label on one line that fits its box; characters that do not print are blanks."""
    line = "".join(letter if letter.isprintable() else " " for letter in label)
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"
