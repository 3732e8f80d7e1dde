"""A trained network as one Python file that needs PyTorch, the weights.pt beside it, and nothing of this package.

The layers, the macro skeleton and the built-in operators are this package's own source text; the two cells are written
out edge by edge; a plug-in's text is kept whole. Parameters have the same names, so weights.pt is loaded as it is.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from cells.genotype import Genotype
from cells.stacking import CellSpec, edge_stride
from nas.interchange.plugin_source import INDENT, Body, as_function_body
from nas.interchange.source_code import Definitions, module_comment
from nas.training.weights_file import SavedNetwork
from search_spaces.errors import InputError
from search_spaces.plugins import Plugin, plugins_of
from search_spaces.registry import get_operator

WIDTH = 120  # of a line
_TEMPLATE = Path(__file__).parent / "stand_alone.py.template"
_IMPORTS = ("import sys", "from pathlib import Path", "import torch", "from torch import nn")  # of the template
_SKELETON = ("CellInputs", "build_stem", "stack_cells")
_FOR_PLUGINS = (
    "search_spaces.layers",
    "search_spaces.blocks",
    "search_spaces.darts_ops",
    "search_spaces.bottleneck_ops",
)


def export_python(trained: SavedNetwork) -> str:
    """The text of the file. Raises InputError if it cannot hold an operator's source."""
    genotype, definitions = trained.parsed_genotype(), Definitions()
    builders = {name: _builder(name, definitions) for name in genotype.operators}
    plugins = plugins_of(name for name, builder in builders.items() if builder is None)
    allowed = {name: found.module for name, found in definitions.found.items() if found.module in _FOR_PLUGINS}
    bodies = [as_function_body(plugin, allowed) for plugin in plugins]
    needed = [*_SKELETON, *filter(None, builders.values()), *(name for body in bodies for name in body.needs)]
    imports, texts = definitions.cut_out(needed)
    sections = [f"{module_comment(module)}\n\n\n" + "\n\n\n".join(parts) for module, parts in texts.items()]
    if plugins:
        sections.append(_plugins_text(plugins, bodies))
    sections += [_cell_text(genotype, kind, builders) for kind in ("normal", "reduce")]
    future = dict.fromkeys(name for body in bodies for name in body.future)
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        future=f"from __future__ import {', '.join(future)}\n\n" if future else "",
        imports=_imports_text({*imports, *_IMPORTS}),
        channels=trained.channels,
        layers=trained.layers,
        image_size=trained.image_size,
        classes=_tuple_text([_quoted(name) for name in trained.classes]),
        mean=_tuple_text([repr(value) for value in trained.mean]),
        std=_tuple_text([repr(value) for value in trained.std]),
        normal_outputs=len(genotype.normal.concat),
        reduce_outputs=len(genotype.reduce.concat),
        sections="\n\n\n".join(sections),
    )


def _builder(name: str, definitions: Definitions) -> str | None:
    """The definition of ours that builds the operator, or None if a plug-in brought it."""
    build = get_operator(name).build
    defined = getattr(build, "__name__", "")
    if defined in definitions.found and definitions.found[defined].module == getattr(build, "__module__", ""):
        return defined
    if not plugins_of([name]):
        raise InputError(f'the source of operator "{name}" is in no plug-in file; give it one with --plugin FILE.py')
    return None


def _plugins_text(plugins: Sequence[Plugin], bodies: Sequence[Body]) -> str:
    parts = [_REGISTER]
    for number, (plugin, body) in enumerate(zip(plugins, bodies, strict=True), start=1):
        name = ascii(plugin.path.name)[1:-1]  # a file's name may hold anything, a comment is one line
        parts.append(f"# The plug-in {name}, but for its imports from darts-blocks.\n")
        parts[-1] += f"def plugin_{number}():\n{body.text.rstrip()}\n\n\nplugin_{number}()"
    return "\n\n\n".join(parts)


def _cell_text(genotype: Genotype, kind: str, builders: Mapping[str, str | None]) -> str:
    """The class of one of the two cells, edge by edge."""
    cell, reduction = getattr(genotype, kind), kind == "reduce"
    spec = CellSpec((0, 0), 0, 0, reduction, previous_reduction=False)  # for the strides alone
    operators: list[str] = []
    sums: dict[int, list[str]] = {}
    for number, (target, edge) in enumerate(cell.edges):
        build = builders[edge.operator] or f'OPERATORS["{edge.operator}"]'
        stride = edge_stride(spec, edge.source)
        operators.append(f"{build}(channels, {stride}, True),  # node {edge.source} -> node {target}")
        sums.setdefault(target, []).append(f"self.operators[{number}](node{edge.source})")
    return Template(_CELL).substitute(
        name="ReductionCell" if reduction else "NormalCell",
        adjective="reduction" if reduction else "normal",
        nodes=", ".join(map(str, cell.concat)),
        operators=textwrap.indent("\n".join(operators), 4 * INDENT),
        sums=textwrap.indent("\n".join(_sum_text(target, terms) for target, terms in sums.items()), 2 * INDENT),
        concat=", ".join(f"node{node}" for node in cell.concat),
    )


def _sum_text(target: int, terms: Sequence[str]) -> str:
    """A node as the sum of its edges, on as many lines as it takes."""
    terms_line, room = " + ".join(terms), WIDTH - 2 * len(INDENT)
    if len(line := f"node{target} = {terms_line}") <= room:
        return line
    inside = terms_line if len(INDENT + terms_line) <= room else f"\n{INDENT}+ ".join(terms)
    return f"node{target} = (\n{INDENT}{inside}\n)"


def _imports_text(statements: set[str]) -> str:
    """Import statements, the standard library's first."""
    ordered = sorted(statements, key=lambda line: (line.startswith("from"), line))
    of_torch = [line for line in ordered if line.split()[1].startswith("torch")]
    return "\n".join([*(line for line in ordered if line not in of_torch), "", *of_torch])


def _quoted(text: str) -> str:
    """A string literal for any text."""
    literal = ascii(text)
    return literal if '"' in literal or "\\'" in literal else f'"{literal[1:-1]}"'


def _tuple_text(values: Sequence[str]) -> str:
    """A tuple with these texts as its values, on as many lines as it takes."""
    line = f"({', '.join(values)}{',' if len(values) == 1 else ''})"
    return line if len(line) <= 80 else "(\n" + "".join(f"{INDENT}{value},\n" for value in values) + ")"


_REGISTER = '''\
OPERATORS = {}  # of the plug-ins: name -> what builds it from (channels, stride, affine)


def register_operator(name, **_):
    """A decorator that keeps what a plug-in's text registers."""

    def register(build):
        OPERATORS[name] = build
        return build

    return register'''

_CELL = '''\
class $name(nn.Module):
    """The $adjective cell: (input 0, input 1) -> the concatenation of its nodes $nodes."""

    def __init__(self, spec: CellSpec):
        super().__init__()
        channels = spec.channels
        self.inputs = CellInputs(spec, affine=True)
        self.operators = nn.ModuleList(
            [
$operators
            ]
        )

    def forward(self, input0, input1):
        node0, node1 = self.inputs(input0, input1)
$sums
        return torch.cat([$concat], dim=1)'''
