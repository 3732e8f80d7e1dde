"""Pictures of a genotype's two cells: Genotype -> DOT -> SVG and PNG, and PDF where a system Graphviz is found.

The picture of the DARTS paper (arXiv:1806.09055, figures 4 and 5), from left to right, except that an operator is a box on
its edge and not a text beside it: two edges between the same nodes stay apart, and no label can be taken for another edge's.

`pip install` brings graphviz-pure, one program that needs nothing else and carries its fonts. A system Graphviz is
preferred where there is one, for its text layout and its PDF. Both give the same picture. Attributes that only one of them
draws well are avoided: <SUB> and lists of fonts in fontname.
"""

import importlib.metadata
import os
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

import graphviz

from cells.genotype import CellGenotype, Genotype
from search_spaces.errors import InputError, suggest
from search_spaces.registry import get_operator

FORMATS = ("dot", "svg", "png", "pdf")  # the DOT source is always written
PNG_DOTS_PER_INCH = 200  # about 2000 pixels wide for a DARTS cell: a slide, or a column of print

# Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008): kinds differ for colour-blind readers too. Skips are grey, since they compute
# nothing; vermilion, the warmest, is for what the user brought.
COLOURS = {
    "none": "#BBBBBB",
    "skip": "#7F7F7F",
    "pooling": "#56B4E9",
    "convolution": "#0072B2",
    "separable": "#E69F00",
    "dilated": "#CC79A7",
    "bottleneck": "#009E73",
    "block": "#D55E00",
}
DARK, GREY = "#444444", "#AAAAAA"
BOX = {"fillcolor": "#E8EAED", "color": DARK, "width": "0.8", "height": "0.55"}
CIRCLE = {"shape": "circle", "style": "filled", "fillcolor": DARK, "color": DARK, "fontcolor": "white"}
CIRCLE |= {"width": "0.5", "fixedsize": "true"}


def draw_genotype(
    genotype: Genotype, folder: Path, formats: Sequence[str] = ("svg", "png"), name: str | None = None
) -> list[Path]:
    """Writes normal.* and reduce.* into `folder`, as DOT and in each of `formats`, and returns their paths.

    The title names the space, or `name` in its place (a published cell's), and the seed or else the method that found it.

    Raises InputError for an unknown format, and for PDF without a system Graphviz, before anything is written.
    """
    renderers = {file_format: find_renderers(file_format) for file_format in formats if file_format != "dot"}
    files = {}
    for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        dot = cell_dot(cell, cell_title(genotype, kind, name), reduction=kind == "reduce")
        files[f"{kind}.dot"] = dot.encode()
        for file_format, programs in renderers.items():
            files[f"{kind}.{file_format}"] = render(dot, file_format, programs)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in files.items():
        temporary = folder / f".{file_name}.{os.getpid()}"
        temporary.write_bytes(content)
        os.replace(temporary, folder / file_name)
    return [folder / file_name for file_name in files]


def cell_title(genotype: Genotype, kind: str, name: str | None = None) -> str:
    """One line: "Normal cell — darts+sandglass, seed 0"."""
    title = f"{'Normal' if kind == 'normal' else 'Reduction'} cell — {name or genotype.space}"
    if "seed" in genotype.found_by:
        return f"{title}, seed {genotype.found_by['seed']}"
    return f"{title}, {genotype.found_by['method']}" if "method" in genotype.found_by else title


def cell_dot(cell: CellGenotype, title: str, reduction: bool = False) -> str:
    """The DOT source of one cell. In a reduction cell the operators on its inputs have stride 2 and are marked "/2"."""
    edges = [(target, edge) for target, node in enumerate(cell.nodes, start=2) for edge in node]
    looks = [operator_look(edge.operator, " /2" if reduction and edge.source < 2 else "") for _, edge in edges]
    # 16-point Arial takes about 0.1 inch a character: boxes of one width make columns
    width = f"{0.24 + 0.1 * min(24, max((len(label) for label, _ in looks), default=0)):.2f}"

    dot = graphviz.Digraph("cell")
    dot.attr(rankdir="LR", ranksep="0.8", nodesep="0.18", pad="0.15", bgcolor="white")
    dot.attr(label=literal("\n".join(textwrap.wrap(title, 90))), labelloc="t")
    dot.attr(fontname="Arial", fontsize="18", fontcolor="#222222")
    dot.attr("node", fontname="Arial", fontsize="16", fontcolor="#111111", shape="box", style="filled,rounded")
    dot.attr("node", height="0.42", margin="0.12,0.05", penwidth="1.4")
    dot.attr("edge", arrowsize="0.7", penwidth="1.6")
    with dot.subgraph() as inputs:
        inputs.attr(rank="source")
        inputs.node(identifier(0), label=state_label("k−2"), **BOX)
        inputs.node(identifier(1), label=state_label("k−1"), **BOX)
        inputs.edge(identifier(0), identifier(1), style="invis")  # c_{k-2} above c_{k-1}
    for node in range(2, len(cell.nodes) + 2):
        dot.node(identifier(node), **CIRCLE)
    for number, ((target, edge), (label, colour)) in enumerate(zip(edges, looks, strict=True)):
        box = f"edge{number}"
        dot.node(box, label=literal(label), color=colour, fillcolor=tint(colour), width=width)
        dot.edge(identifier(edge.source), f"{box}:w", color=colour, arrowhead="none")
        dot.edge(f"{box}:e", identifier(target), color=colour)
    with dot.subgraph() as output:
        output.attr(rank="sink")
        output.node("c_{k}", label=state_label("k"), **BOX)
    for node in cell.concat:
        dot.edge(identifier(node), "c_{k}", color=GREY, penwidth="1")
    return dot.source


def identifier(index: int) -> str:
    """The DOT name of a node of the cell, as in the DARTS pictures: c_{k-2}, c_{k-1}, 0, 1, …"""
    return ("c_{k-2}", "c_{k-1}")[index] if index < 2 else str(index - 2)


def operator_look(name: str, mark: str) -> tuple[str, str]:
    """The label and colour of an operator; a plug-in's that is not loaded here goes by its name."""
    try:
        operator = get_operator(name)
    except InputError:
        return name + mark, COLOURS["block"]
    return (operator.label or name) + mark, COLOURS[operator.kind]


def state_label(subscript: str) -> str:
    """c with a subscript, in Graphviz' HTML: a table, because <SUB> is drawn on the line by graphviz-pure."""
    cells = f'<TD><I>c</I></TD><TD VALIGN="BOTTOM"><FONT POINT-SIZE="12">{subscript}</FONT></TD>'
    return f'<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>{cells}</TR></TABLE>>'


def literal(text: str) -> str:
    """`text` as a DOT label that shows it as it is, whatever DOT or XML would make of its characters."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return graphviz.escape(printable.replace("&", "&amp;"))


def tint(colour: str) -> str:
    """The colour at 28% on white, as an opaque colour: dark text on it stays readable, also printed in grey."""
    channels = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.28 * (255 - channel)):02X}" for channel in channels)


def find_renderers(file_format: str) -> list[str]:
    """The programs that can write a format, the preferred first: a system Graphviz, then graphviz-pure (not for PDF)."""
    if file_format not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise InputError(f'unknown diagram format "{file_format}"{suggest(file_format, FORMATS)}; known: {allowed}')
    programs = [program for program in (system_graphviz(), graphviz_pure()) if program]
    ...
