"""A genotype's cells as pictures in a page, each drawn once: the renderer is a program, which takes 50 ms to start."""

from functools import lru_cache

from cells.genotype import CellGenotype
from cells.pictures.diagram import cell_dot, label_and_look, node_name
from cells.pictures.rendering import find_renderers, render
from nas.report.inline_svg import inline_svg, natural_width

TITLES = {"normal": "Normal cell", "reduce": "Reduction cell"}
_COLOURS = {  # of the diagrams -> of the page, which may be dark; an operator keeps its look, with the text in it
    "white": "var(--surface)",
    "#e8eaed": "var(--box)",
    "#444444": "var(--node)",
    "#aaaaaa": "var(--line)",
}


def cell_picture(cell: CellGenotype, kind: str) -> str:
    """The cell, of `kind` "normal" or "reduce", as an <svg> element."""
    return _picture(cell_dot(cell, "", reduction=kind == "reduce"), f"{TITLES[kind]}. {describe_cell(cell)}")


def describe_cell(cell: CellGenotype) -> str:
    """The cell in words: "Node 0: sep_conv_3x3 from c_{k-2}, skip_connect from c_{k-1}. Node 1: …"."""
    nodes = []
    for target, edges in enumerate(cell.nodes, start=2):
        terms = [f"{label_and_look(edge.operator)[0]} from {node_name(edge.source)}" for edge in edges]
        nodes.append(f"Node {node_name(target)}: {', '.join(terms)}.")
    return " ".join(nodes)


@lru_cache(maxsize=1000)
def _picture(dot: str, label: str) -> str:
    drawn = render(dot, "svg", _renderers())
    # all cells of a page at one scale, and not smaller than can be read: the page's style makes of it what has room
    return inline_svg(drawn, "", label, _COLOURS, {"style": f"--natural: {natural_width(drawn):.0f}px"})


@lru_cache(maxsize=1)
def _renderers() -> tuple[str, ...]:
    return tuple(find_renderers("svg"))
