"""A trained network as one Python file that needs PyTorch, the weights.pt beside it, and nothing of this package.

The layers, the macro skeleton and the built-in operators are this package's own source text; the two cells are written
out edge by edge; a plug-in's text is kept whole. Parameters have the same names, so weights.pt is loaded as it is.
"""

import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from cells.genotype import CellGenotype
from nas.interchange.plugin_source import INDENT, as_function_body
from nas.interchange.source_code import WIDTH, Definition, cut_out, module_comment, read_definitions
from nas.training.weights_file import SavedNetwork
from search_spaces.errors import InputError
from search_spaces.plugins import plugins_of
from search_spaces.registry import get_operator

_TEMPLATE = Path(__file__).parent / "stand_alone.py.template"
_IMPORTS = ("import sys", "from pathlib import Path", "import torch", "from torch import nn")  # of the template
_SKELETON = ("CellInputs", "build_stem", "stack_cells")


def export_python(trained: SavedNetwork) -> str:
    """The text of the file. Raises InputError if it cannot hold an operator's source."""
    genotype, definitions = trained.parsed_genotype(), read_definitions()
    ours = {name: built for name in genotype.operators if (built := _definition_of(name, definitions))}
    plugins = plugins_of(name for name in genotype.operators if name not in ours)
    modules = {name: found.module for name, found in definitions.items()}
    allowed = {name: module for name, module in modules.items() if module.startswith("search_spaces.")}
    bodies = [as_function_body(plugin, allowed) for plugin in plugins]
    parts = cut_out(definitions, [*_SKELETON, *ours.values(), *(name for body in bodies for name in body.needs)])
    texts = [part for part in parts if part.module]
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        trained=trained,
        genotype=genotype,
        future=list(dict.fromkeys(name for body in bodies for name in body.future)),
        imports=_imports_text({*_IMPORTS, *(part.text for part in parts if not part.module)}),
        sections=[(name, [part.text for part in of_it]) for name, of_it in groupby(texts, lambda part: part.module)],
        # a file's name may hold anything, a comment is one line
        plugins=[
            (ascii(plugin.path.name)[1:-1], body.text.rstrip()) for plugin, body in zip(plugins, bodies, strict=True)
        ],
        cells=[("NormalCell", "normal", genotype.normal, 1), ("ReductionCell", "reduction", genotype.reduce, 2)],
        builders={name: ours.get(name, f'OPERATORS["{name}"]') for name in genotype.operators},
        comment=module_comment,
        quoted=_quoted,
        sums=_sums,
    )


def _definition_of(name: str, definitions: dict[str, Definition]) -> str | None:
    """The definition of ours that builds the operator, or None if a plug-in brought it."""
    build = get_operator(name).build
    defined = getattr(build, "__name__", "")
    if defined in definitions and definitions[defined].module == getattr(build, "__module__", ""):
        return defined
    if not plugins_of([name]):
        raise InputError(f'the source of operator "{name}" is in no plug-in file; give it one with --plugin FILE.py')
    return None


def _sums(cell: CellGenotype) -> Iterator[str]:
    """Each node as the sum of its edges, on as many lines as it takes."""
    room, numbered = WIDTH - 2 * len(INDENT), enumerate(cell.edges)
    for target, edges in groupby(numbered, lambda pair: pair[1][0]):
        terms = [f"self.operators[{number}](node{edge.source})" for number, (_, edge) in edges]
        text = f"node{target} = {' + '.join(terms)}"
        if len(text) > room:
            inside = " + ".join(terms)
            inside = inside if len(INDENT + inside) <= room else f"\n{INDENT}+ ".join(terms)
            text = f"node{target} = (\n{INDENT}{inside}\n)"
        yield textwrap.indent(text, 2 * INDENT)


def _imports_text(statements: set[str]) -> str:
    """Import statements, the standard library's first."""
    ordered = sorted(statements, key=lambda line: (line.startswith("from"), line))
    of_torch = [line for line in ordered if line.split()[1].startswith("torch")]
    return "\n".join([*(line for line in ordered if line not in of_torch), "", *of_torch])


def _quoted(text: str) -> str:
    """A string literal for any text."""
    literal = ascii(text)
    return literal if '"' in literal or "\\'" in literal else f'"{literal[1:-1]}"'
