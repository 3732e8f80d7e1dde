"""Pictures of a genotype's two cells: Genotype -> DOT -> SVG and PNG, and PDF where a system Graphviz is found.

The picture of the DARTS paper (arXiv:1806.09055, figures 4 and 5), except that an operator is a box on its edge, not a
text beside it: two edges between the same nodes stay apart, and a label cannot be taken for a neighbour's.

`pip install` brings graphviz-pure, one program with its own fonts that needs nothing else. A system Graphviz is
preferred where there is one, for its text layout. Both draw the same picture, as long as the DOT keeps away from <SUB>
and from lists of fonts, which graphviz-pure does not know.
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

FORMATS = {  # and the options that each is drawn with
    "svg": ["-Tsvg"],
    "png": ["-Tpng", "-Gdpi=200"],  # a DARTS cell is about 2000 pixels wide
    "pdf": ["-Tpdf", "-Gmargin=0"],  # cropped to the drawing, to stand in a paper
}

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart; grey for what computes nothing, the
# strongest, vermilion, for what the user brought.
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
BOX = {"style": "filled", "fillcolor": "#E8EAED", "color": "#444444", "width": "0.8", "height": "0.55"}
CIRCLE = {"shape": "circle", "style": "filled", "fillcolor": "#444444", "color": "#444444", "fontcolor": "white"}


def draw_genotype(
    genotype: Genotype, folder: Path, formats: Sequence[str] = ("svg", "png"), name: str | None = None
) -> list[Path]:
    """Writes normal.* and reduce.* into `folder`, as DOT and in each of `formats`, and returns their paths.

    The title is `name`, or else the space, with the seed (or, under the space's name, the method) that found the cells.

    Raises InputError, before anything is written, for an unknown format and for PDF without a system Graphviz.
    """
    renderers = {file_format: find_renderers(file_format) for file_format in formats}
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
    """One line, such as "Normal cell — darts+sandglass, seed 0"."""
    found_by = genotype.found_by
    title = f"{'Normal' if kind == 'normal' else 'Reduction'} cell — {name or genotype.space}"
    if "seed" in found_by:
        return f"{title}, seed {found_by['seed']}"
    return title if name or "method" not in found_by else f"{title}, {found_by['method']}"


def cell_dot(cell: CellGenotype, title: str, reduction: bool = False) -> str:
    """The DOT source of one cell. In a reduction cell, operators on the inputs have stride 2 and are marked "/2"."""
    looks = [operator_look(edge.operator, " /2" if reduction and edge.source < 2 else "") for _, edge in cell.edges]
    # boxes of one width make columns; 16-point Arial takes about 0.12 inch a character
    width = f"{0.24 + 0.12 * min(24, max(len(label) for label, _ in looks)):.2f}"

    dot = graphviz.Digraph("cell")
    dot.attr(rankdir="LR", ranksep="0.8", nodesep="0.18", pad="0.15", bgcolor="white")
    dot.attr(label=literal("\n".join(textwrap.wrap(title, 90))), labelloc="t", fontname="Arial", fontsize="18")
    dot.attr("node", fontname="Arial", fontsize="16", shape="box", style="filled,rounded", penwidth="1.4")
    dot.attr("node", height="0.42", margin="0.12,0.05")
    dot.attr("edge", arrowsize="0.7", penwidth="1.6")
    with dot.subgraph() as inputs:
        inputs.attr(rank="source")
        inputs.node(node_name(0), label=subscripted("k−2"), **BOX)
        inputs.node(node_name(1), label=subscripted("k−1"), **BOX)
        inputs.edge(node_name(0), node_name(1), style="invis")  # keeps c_{k-2} above c_{k-1}
    for node in range(2, len(cell.nodes) + 2):
        dot.node(node_name(node), width="0.5", fixedsize="true", **CIRCLE)
    for number, ((target, edge), (label, colour)) in enumerate(zip(cell.edges, looks, strict=True)):
        operator = f"edge{number}"
        dot.node(operator, label=literal(label), color=colour, fillcolor=tint(colour), width=width)
        dot.edge(f"{node_name(edge.source)}:e", f"{operator}:w", color=colour, arrowhead="none")
        dot.edge(f"{operator}:e", node_name(target), color=colour)
    with dot.subgraph() as output:
        output.attr(rank="sink")
        output.node("c_{k}", label=subscripted("k"), **BOX)
    for node in cell.concat:
        dot.edge(node_name(node), "c_{k}", color="#AAAAAA", penwidth="1")
    return dot.source


def node_name(index: int) -> str:
    """A node's name as in the DARTS pictures: c_{k-2}, c_{k-1}, 0, 1, …"""
    return ("c_{k-2}", "c_{k-1}")[index] if index < 2 else str(index - 2)


def operator_look(name: str, mark: str) -> tuple[str, str]:
    """The label and colour of an operator; one that is not registered here (a plug-in's) goes by its name."""
    try:
        operator = get_operator(name)
    except InputError:
        return name + mark, COLOURS["block"]
    return (operator.label or name) + mark, COLOURS[operator.kind]


def subscripted(subscript: str) -> str:
    """The letter c with a subscript, as a Graphviz HTML label."""
    cells = f'<TD><I>c</I></TD><TD VALIGN="BOTTOM"><FONT POINT-SIZE="12">{subscript}</FONT></TD>'
    return f'<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>{cells}</TR></TABLE>>'


def literal(text: str) -> str:
    """`text` as a label that shows it as it is, whatever DOT or XML would make of its characters."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return graphviz.escape(printable.replace("&", "&amp;"))


def tint(colour: str) -> str:
    """The colour at 28% on white: black text on it is readable, also printed in grey."""
    channels = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.28 * (255 - channel)):02X}" for channel in channels)


def find_renderers(file_format: str) -> list[str]:
    """The programs here that write a format, the preferred first. Raises InputError if there is none."""
    if file_format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f'unknown diagram format "{file_format}"{suggest(file_format, FORMATS)} known: {known}')
    programs = [program for program in (system_graphviz(), file_format != "pdf" and graphviz_pure()) if program]
    if not programs and file_format == "pdf":
        raise InputError(
            'diagram format "pdf" needs a system Graphviz, and no "dot" of one is on PATH; ask for svg or png, or'
            " install Graphviz (apt, brew or conda install graphviz)"
        )
    if not programs:
        raise InputError(f'nothing here draws diagram format "{file_format}"; pip install graphviz-pure')
    return programs


def system_graphviz() -> str | None:
    """The `dot` on PATH, if it works and is Graphviz itself, not another program under that name."""
    program = shutil.which("dot")
    try:
        version = subprocess.run([program, "-V"], capture_output=True).stderr if program else b""
    except OSError:
        return None
    return program if b"graphviz version" in version else None


def graphviz_pure() -> str | None:
    """The program of the graphviz-pure package, found through the package: its folder may not be on PATH."""
    try:
        files = importlib.metadata.files("graphviz-pure") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    installed = (str(file.locate()) for file in files if file.stem == "graphviz-pure")
    return next(filter(shutil.which, installed), None) or shutil.which("graphviz-pure")


def render(dot: str, file_format: str, programs: Sequence[str]) -> bytes:
    """The picture, by the first of the programs that can: a system Graphviz may lack the parts for PNG and PDF."""
    for program in programs:
        drawn = subprocess.run([program, *FORMATS[file_format]], input=dot.encode(), capture_output=True)
        if drawn.returncode == 0 and drawn.stdout:
            return drawn.stdout
    reason = drawn.stderr.decode(errors="replace")
    raise InputError(f"{program} cannot draw {file_format}: {reason}; reinstall it, or ask for another format")
