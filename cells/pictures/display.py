"""A genotype as a notebook shows it: both cells as pictures."""

import base64
import html
import tempfile
from pathlib import Path

from cells.genotype import Genotype
from cells.pictures.diagram import cell_title, draw_genotype


def genotype_html(genotype: Genotype) -> str:
    """The pictures of both cells, one below the other, as HTML that needs nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        draw_genotype(genotype, Path(folder), ("svg",))
        pictures = {kind: (Path(folder) / f"{kind}.svg").read_bytes() for kind in ("normal", "reduce")}
    return "\n".join(_image(picture, cell_title(genotype, kind)) for kind, picture in pictures.items())


def _image(svg: bytes, title: str) -> str:
    """An image, not an inline drawing: two drawings in one page would share their ids."""
    content = base64.b64encode(svg).decode()
    style = "display: block; max-width: 100%; height: auto"
    return f'<img alt="{html.escape(title)}" style="{style}" src="data:image/svg+xml;base64,{content}">'
