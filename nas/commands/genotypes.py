"""The small commands: draw a genotype's cells, count what its network costs, list the operators, check one of them."""

import json
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cells.genotype import Genotype
from cells.genotype_file import load_genotype, published_genotypes
from nas.commands.command_line import Parser, command
from nas.experiment.names import genotype_name, plugins_beside
from search_spaces.errors import InputError
from search_spaces.plugins import load_plugins


@command
def draw_cells(argv: Sequence[str] | None) -> None:
    """`python scripts/draw_cells.py GENOTYPE --out DIR`: returns the exit status."""
    parser = tool_parser("draw_cells.py", "Draw the normal and the reduction cell of genotypes.", genotypes="+")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for normal.* and reduce.*; of several, DIR/NAME"
    )
    parser.add_argument("--format", nargs="+", default=["svg", "png"], help="svg, png, pdf; svg png if not given")
    parser.add_argument(
        "--width",
        metavar="column|page|CM",
        help="as wide as a paper's column (8.4 cm) or page (17.4 cm), or so many cm",
    )
    parser.add_argument("--together", action="store_true", help="both cells in one picture, cells.*")
    parser.add_argument("--style", default="colour", help="colour, or grey, which needs no colour to be read")
    flags = parser.parse(argv)
    arguments = flags["genotype"]
    folders = [flags["out"] / genotype_name(argument) if len(arguments) > 1 else flags["out"] for argument in arguments]
    if len(set(folders)) < len(folders):
        twice = next(folder for folder in folders if folders.count(folder) > 1)
        raise InputError(f"two of the genotypes would both be drawn in {twice}; draw them one by one")
    plugins = [path for argument in arguments for path in plugins_beside(argument)]
    load_plugins(dict.fromkeys([*plugins, *flags["plugin"]]))
    genotypes = [load_genotype(argument) for argument in arguments]

    from cells.pictures.figure import draw_genotype

    options = {option: flags[option] for option in ("width", "together", "style")}
    for argument, genotype, folder in zip(arguments, genotypes, folders, strict=True):
        name = argument.lower() if argument.lower() in published_genotypes() else None
        for path in draw_genotype(genotype, folder, flags["format"], name, **options):
            print(path)


@command
def describe_genotype(argv: Sequence[str] | None) -> None:
    """`python scripts/describe_genotype.py GENOTYPE`: prints JSON and returns the exit status."""
    parser = tool_parser("describe_genotype.py", "Count what the network of a genotype costs, as JSON.", genotypes=None)
    parser.add_argument("--channels", type=whole_number(1), default=36, help="initial channels (default: 36)")
    parser.add_argument("--layers", type=whole_number(1), default=20, help="cells (default: 20)")
    parser.add_argument("--classes", type=whole_number(1), default=10, help="classes (default: 10)")
    parser.add_argument("--image-size", type=whole_number(4), default=32, help="pixels a side (default: 32)")
    flags = parser.parse(argv)
    genotype = given_genotype(flags)

    from cells.costs import network_costs

    size = {name: flags[name] for name in ("channels", "layers", "classes", "image_size")}
    operators = {
        kind: dict(Counter(edge.operator for _, edge in getattr(genotype, kind).edges)) for kind in ("normal", "reduce")
    }
    print(json.dumps(network_costs(genotype, **size)._asdict() | {"operators": operators} | size, indent=1))


def tool_parser(program: str, description: str, genotypes: str | int | None = 0) -> Parser:
    """A parser with `--plugin`; `genotypes` is how many GENOTYPE arguments it takes: 0, None for one, or "+"."""
    parser = Parser(prog=program, description=description)
    if genotypes != 0:
        parser.add_argument(
            "genotype",
            nargs=genotypes,
            metavar="GENOTYPE",
            help="a JSON file, a published name such as darts_v2, a search's run folder, or Genotype(normal=[…], …)",
        )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="a file that registers operators; repeatable"
    )
    return parser


def given_genotype(flags: dict) -> Genotype:
    """The genotype that is asked for, once the plug-ins that were given or lie in its run folder have been run."""
    load_plugins([*plugins_beside(flags["genotype"]), *flags["plugin"]])
    return load_genotype(flags["genotype"])


def whole_number(smallest: int) -> Callable[[str], int]:
    """An argument type: a whole number of at least `smallest`."""

    def convert(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < smallest:
            raise ArgumentTypeError(f"{text!r} is not a whole number of at least {smallest}")
        return int(text)

    return convert


def aligned(rows: Sequence[Sequence[str]], texts: int = 0) -> list[str]:
    """The rows as lines of aligned columns: the first `texts` to the left, the numbers after them to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
