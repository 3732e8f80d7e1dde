"""Pictures of single cells put into one picture, in a row or in a column.

Graphviz could draw both cells as clusters of one graph, but then swaps their order and that of their inputs at will.
"""

import io
import re
from collections.abc import Sequence

from PIL import Image

from cells.pictures.rendering import size_in_points

GAP_POINTS = 18.0  # between two cells whose text has the size of `TEXT_POINTS`


def join_svg(svgs: Sequence[bytes], in_row: bool, gap: float, width: float | None = None) -> bytes:
    """One SVG of several that Graphviz drew, centred in a row or a column with `gap` points between them."""
    sizes = [size_in_points(svg) for svg in svgs]
    (whole_width, height), places = _arrange(sizes, in_row, gap, width)
    parts = []
    for number, (svg, (x, y)) in enumerate(zip(svgs, places, strict=True)):
        text = svg.decode()
        inside = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
        inside = re.sub(r'\bid="(\w+)"', rf'id="cell{number}-\1"', inside)  # an id stands once in a document
        parts.append(f'<g transform="translate({x:.2f} {y:.2f})">{inside}</g>')
    head = f'<svg width="{whole_width:.2f}pt" height="{height:.2f}pt" viewBox="0 0 {whole_width:.2f} {height:.2f}"'
    body = "\n".join(parts)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    ).encode()


def join_png(pngs: Sequence[bytes], in_row: bool, gap: float, dots_per_inch: int, width: float | None = None) -> bytes:
    """The same of PNGs; `gap` and `width` are in points here, too."""
    images = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    scale = dots_per_inch / 72
    (whole_width, height), places = _arrange(
        [image.size for image in images], in_row, gap * scale, None if width is None else width * scale
    )
    whole = Image.new("RGB", (round(whole_width), round(height)), "white")
    for image, (x, y) in zip(images, places, strict=True):
        whole.paste(image, (round(x), round(y)))
    content = io.BytesIO()
    whole.save(content, "PNG", dpi=(dots_per_inch, dots_per_inch))
    return content.getvalue()


def _arrange(
    sizes: Sequence[tuple[float, float]], in_row: bool, gap: float, width: float | None
) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """The size of the whole, and the upper left corner of each part; the whole may be asked to be wider than needed."""
    along, across = (0, 1) if in_row else (1, 0)
    length = sum(size[along] for size in sizes) + gap * (len(sizes) - 1)
    whole = (length, max(size[across] for size in sizes)) if in_row else (max(size[0] for size in sizes), length)
    margin = 0.0 if width is None else (width - whole[0]) / 2
    position, places = 0.0, []
    for size in sizes:
        centred = (whole[across] - size[across]) / 2
        places.append((position + margin, centred) if in_row else (centred + margin, position))
        position += size[along] + gap
    return (whole[0] + 2 * margin, whole[1]), places
