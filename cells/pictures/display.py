"""A genotype as a notebook shows it: both cells as pictures."""

import base64
import html

from cells.genotype import Genotype
from cells.pictures.diagram import cell_dot, cell_title
from cells.pictures.rendering import find_renderers, render


def genotype_html(genotype: Genotype) -> str:
    """The pictures of both cells, one below the other, as HTML that needs nothing else."""
    titles, programs = {kind: cell_title(genotype, kind) for kind in genotype.cells}, find_renderers("svg")
    dots = {kind: cell_dot(cell, titles[kind], kind == "reduce") for kind, cell in genotype.cells.items()}
    return "\n".join(_image(render(dot, "svg", programs), titles[kind]) for kind, dot in dots.items())


def _image(svg: bytes, title: str) -> str:
    """An image, not an inline drawing: two drawings in one page would share their ids."""
    content = base64.b64encode(svg).decode()
    style = "display: block; max-width: 100%; height: auto"
    return f'<img alt="{html.escape(title)}" style="{style}" src="data:image/svg+xml;base64,{content}">'
