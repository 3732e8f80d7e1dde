"""A genotype as a notebook shows it: both cells as pictures."""

import base64
import html

from cells.genotype import Genotype
from cells.pictures.diagram import cell_dot, cell_title
from cells.pictures.rendering import find_renderers, render


def genotype_html(genotype: Genotype) -> str:
    """The pictures of both cells, one below the other, as HTML that needs nothing else."""
    programs, style = find_renderers("svg"), "display: block; max-width: 100%; height: auto"
    images = []
    for kind, cell in genotype.cells.items():
        title = cell_title(genotype, kind)
        svg = base64.b64encode(render(cell_dot(cell, title, kind == "reduce"), "svg", programs)).decode()
        # an image, not an inline drawing: two drawings in one page would share their ids
        images.append(f'<img alt="{html.escape(title)}" style="{style}" src="data:image/svg+xml;base64,{svg}">')
    return "\n".join(images)
