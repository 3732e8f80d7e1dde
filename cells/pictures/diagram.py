"""One cell of a genotype as a picture in DOT, which rendering.py makes SVG, PNG and PDF of.

The picture of the DARTS paper (arXiv:1806.09055, figures 4 and 5), except that an operator is a box on its edge, not a
text beside it: two edges between the same nodes stay apart, and a label cannot be taken for a neighbour's.
"""

import textwrap
from dataclasses import dataclass

import graphviz

from cells.genotype import CellGenotype, Genotype
from cells.pictures.operator_looks import Look, operator_look
from search_spaces.registry import OPERATORS

BOX = {"style": "filled", "fillcolor": "#E8EAED", "color": "#444444", "width": "0.8", "height": "0.55"}
CIRCLE = {"shape": "circle", "style": "filled", "fillcolor": "#444444", "color": "#444444", "fontcolor": "white"}
TEXT_POINTS = 16  # of the operators' labels; all lengths below go with it


@dataclass(frozen=True)
class Layout:
    """How a picture is laid out; lengths in inches.

    `direction` is LR, from left to right, or TB, from top to bottom. `broken` puts labels on two lines. `ranks` and
    `neighbours` are the gaps along and across the direction. `chained` puts the second of two cells behind the first,
    not beside it. `width`, in points, is what the whole picture is scaled to.
    """

    direction: str = "LR"
    broken: bool = False
    ranks: float = 0.8
    neighbours: float = 0.18
    padding: float = 0.15
    title_below: bool = False
    width: float | None = None


DEFAULT_LAYOUT = Layout()


def cell_title(genotype: Genotype, kind: str, name: str | None = None) -> str:
    """One line, such as "Normal cell — darts+sandglass, seed 0"."""
    found_by = genotype.found_by
    title = f"{'Normal' if kind == 'normal' else 'Reduction'} cell — {name or genotype.space}"
    if "seed" in found_by:
        return f"{title}, seed {found_by['seed']}"
    return title if name or "method" not in found_by else f"{title}, {found_by['method']}"


def cell_dot(
    cell: CellGenotype, title: str, reduction: bool = False, style: str = "colour", layout: Layout = DEFAULT_LAYOUT
) -> str:
    """The DOT source of one cell. In a reduction cell, operators on the inputs have stride 2 and are marked "/2"."""
    seen = [
        label_and_look(edge.operator, reduction and edge.source < 2, style, layout.broken) for _, edge in cell.edges
    ]
    # boxes of one width make columns; 16-point Arial takes about 0.12 inch a character
    longest = max(len(line) for label, _ in seen for line in label.split("\n"))
    width = f"{0.24 + 0.12 * min(24, longest):.2f}"
    leave, enter = (":e", ":w") if layout.direction == "LR" else (":s", ":n")

    dot = graphviz.Digraph("cell")
    dot.attr(rankdir=layout.direction, ranksep=f"{layout.ranks:.3g}", nodesep=f"{layout.neighbours:.3g}")
    dot.attr(pad=str(layout.padding), bgcolor="white")
    if layout.width is not None:
        dot.attr(size=f"{layout.width / 72:.4f},1000!")  # inches; as high as it comes
    if title:
        dot.attr(label=literal("\n".join(textwrap.wrap(title, 90))), labelloc="b" if layout.title_below else "t")
        dot.attr(fontname="Arial", fontsize="18")
    dot.attr("node", fontname="Arial", fontsize=str(TEXT_POINTS), shape="box", style="filled,rounded", penwidth="1.4")
    dot.attr("node", height="0.42", margin="0.12,0.05")
    dot.attr("edge", arrowsize="0.7", penwidth="1.6")
    with dot.subgraph() as inputs:
        inputs.attr(rank="source")
        inputs.node(node_name(0), label=subscripted("k−2"), **BOX)
        inputs.node(node_name(1), label=subscripted("k−1"), **BOX)
        inputs.edge(node_name(0), node_name(1), style="invis")  # keeps c_{k-2} above c_{k-1}
    for node in range(2, len(cell.nodes) + 2):
        dot.node(node_name(node), width="0.5", fixedsize="true", **CIRCLE)
    for number, ((target, edge), (label, look)) in enumerate(zip(cell.edges, seen, strict=True)):
        operator = f"edge{number}"
        line = {} if look.dash == "solid" else {"style": look.dash}
        box = line and {"style": f"filled,rounded,{look.dash}"}
        fill = {"fillcolor": look.fill, "fontcolor": look.text}
        dot.node(operator, label=literal(label), color=look.line, width=width, **fill, **box)
        dot.edge(node_name(edge.source) + leave, operator + enter, color=look.line, arrowhead="none", **line)
        dot.edge(operator + leave, node_name(target), color=look.line, **line)
    with dot.subgraph() as output:
        output.attr(rank="sink")
        output.node("c_{k}", label=subscripted("k"), **BOX)
    for node in cell.concat:
        dot.edge(node_name(node), "c_{k}", color="#AAAAAA", penwidth="1")
    return dot.source


def node_name(index: int) -> str:
    """A node's name as in the DARTS pictures: c_{k-2}, c_{k-1}, 0, 1, …"""
    return ("c_{k-2}", "c_{k-1}")[index] if index < 2 else str(index - 2)


def label_and_look(name: str, halves: bool = False, style: str = "colour", broken: bool = False) -> tuple[str, Look]:
    """The label and look of an operator; one that is not registered here (a plug-in's) goes by its name."""
    operator = OPERATORS.get(name)
    label, kind = (operator.label or name, operator.kind) if operator else (name, "block")
    if broken and (middle := max(label.rfind("_"), label.rfind(" "))) > 0:
        label = f"{label[:middle]}\n{label[middle + 1 :]}"
    return label + (" /2" if halves else ""), operator_look(name, kind, style)


def subscripted(subscript: str) -> str:
    """The letter c with a subscript, as a Graphviz HTML label."""
    cells = f'<TD><I>c</I></TD><TD VALIGN="BOTTOM"><FONT POINT-SIZE="12">{subscript}</FONT></TD>'
    return f'<<TABLE BORDER="0" CELLPADDING="0" CELLSPACING="0"><TR>{cells}</TR></TABLE>>'


def literal(text: str) -> str:
    """`text` as a label that shows it as it is, whatever DOT or XML would make of its characters."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return graphviz.escape(printable.replace("&", "&amp;"))
