"""The small commands: draw a genotype's cells, count what its network costs, list the operators, check one of them."""

import json
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cells.genotype import Genotype, load_genotype, published_genotypes
from nas.cli import genotype_name, plugins_beside
from nas.command_line import Parser, run_command
from nas.plugins import load_plugins
from search_spaces.errors import InputError

COST_SIZE = 32  # pixels a side of the maps for which an operator's multiply-adds are counted


def draw_cells(argv: Sequence[str] | None = None) -> int:
    """`python scripts/draw_cells.py GENOTYPE --out DIR`: returns the exit status."""
    return run_command(_draw_cells, argv)


def describe_genotype(argv: Sequence[str] | None = None) -> int:
    """`python scripts/describe_genotype.py GENOTYPE`: prints JSON and returns the exit status."""
    return run_command(_describe_genotype, argv)


def list_operators(argv: Sequence[str] | None = None) -> int:
    """`python scripts/list_operators.py`: prints a table and returns the exit status."""
    return run_command(_list_operators, argv)


def check_operator(argv: Sequence[str] | None = None) -> int:
    """`python scripts/check_operator.py NAME`: exit status 2, with one line, if the operator breaks its contract."""
    return run_command(_check_operator, argv)


def _draw_cells(argv: Sequence[str] | None) -> None:
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

    from cells.figure import draw_figure

    options = {option: flags[option] for option in ("width", "together", "style")}
    for argument, genotype, folder in zip(arguments, genotypes, folders, strict=True):
        name = argument.lower() if argument.lower() in published_genotypes() else None
        for path in draw_figure(genotype, folder, flags["format"], name, **options):
            print(path)


def _describe_genotype(argv: Sequence[str] | None) -> None:
    parser = tool_parser("describe_genotype.py", "Count what the network of a genotype costs, as JSON.", genotypes=None)
    parser.add_argument("--channels", type=whole_number(1), default=36, help="initial channels (default: 36)")
    parser.add_argument("--layers", type=whole_number(1), default=20, help="cells (default: 20)")
    parser.add_argument("--classes", type=whole_number(1), default=10, help="classes (default: 10)")
    parser.add_argument("--image-size", type=whole_number(4), default=32, help="pixels a side (default: 32)")
    flags = parser.parse(argv)
    genotype = given_genotype(flags)

    from cells.network import describe_network

    size = {name: flags[name] for name in ("channels", "layers", "classes", "image_size")}
    operators = {
        kind: dict(Counter(edge.operator for _, edge in getattr(genotype, kind).edges)) for kind in ("normal", "reduce")
    }
    print(json.dumps(describe_network(genotype, **size) | {"operators": operators} | size, indent=1))


def _list_operators(argv: Sequence[str] | None) -> None:
    parser = tool_parser("list_operators.py", "List the operators that may stand on an edge, and what they cost.")
    load_plugins(parser.parse(argv)["plugin"])

    from search_spaces.complexity import count_madds, count_parameters
    from search_spaces.contract import CHANNELS
    from search_spaces.registry import KINDS, get_operator, operator_names

    rows = [["name", "label", "kind"]]
    rows[0] += [f"{cost} C={channels}" for channels in CHANNELS for cost in ("parameters", "multiply-adds")]
    for operator in sorted(map(get_operator, operator_names()), key=lambda operator: KINDS.index(operator.kind)):
        row = [operator.name, operator.label, operator.kind]
        for channels in CHANNELS:
            module = operator.build(channels, 1, True)
            madds = count_madds(module, (1, channels, COST_SIZE, COST_SIZE))
            row += [f"{count_parameters(module):,}", f"{madds:,}"]
        rows.append(row)
    print("\n".join(aligned(rows, texts=3)))
    print(f"stride 1, with affine BatchNorm; multiply-adds of one {COST_SIZE}x{COST_SIZE} map")


def _check_operator(argv: Sequence[str] | None) -> None:
    parser = tool_parser("check_operator.py", "Test the operator contract on an operator, and count what it costs.")
    parser.add_argument("name", metavar="NAME", help="an operator's name, as in --space darts+NAME")
    flags = parser.parse(argv)
    load_plugins(flags["plugin"])

    from search_spaces.registry import check_operator

    report = check_operator(flags["name"])
    widths = " and ".join(str(channels) for channels in dict.fromkeys(cost["channels"] for cost in report["costs"]))
    print(f'operator "{report["name"]}", labelled "{report["label"]}", keeps the operator contract. Checked:')
    print(f"  (N, C, H, W) -> (N, C, H / stride, W / stride) for C = {widths}, stride 1 and 2; finite numbers")
    print("  the input is not changed in place")
    print("  gradients reach every parameter")
    print("  affine=False leaves no learnable scale or shift in a normalisation")
    print(f"BatchNorm behind it in the supernet: {'yes' if report['supernet_norm'] else 'no'}")
    rows = [["channels", "stride", "parameters", "multiply-adds"]]
    rows += [[f"{cost[key]:,}" for key in ("channels", "stride", "parameters", "madds")] for cost in report["costs"]]
    print("\n".join(aligned(rows)))
    print(f"with affine BatchNorm; multiply-adds of one {COST_SIZE}x{COST_SIZE} map")


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
