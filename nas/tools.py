"""The small commands: draw a genotype's cells, count what its network costs, list the operators, check one of them."""

import json
import sys
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cells.genotype import Genotype, load_genotype, published_genotypes
from nas.cli import plugins_beside
from nas.command_line import Parser, run_command

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
    parser = _parser("draw_cells.py", "Draw the normal and the reduction cell of a genotype.", genotype=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for normal.* and reduce.*")
    parser.add_argument(
        "--format", nargs="+", default=["svg", "png"], help="svg, png, pdf (which needs a system Graphviz); svg png"
    )
    flags = parser.parse(argv)
    genotype = _load(flags)

    from cells.diagram import draw_genotype

    published = flags["genotype"].lower()
    name = published if published in published_genotypes() else None
    for path in draw_genotype(genotype, flags["out"], flags["format"], name):
        print(path)


def _describe_genotype(argv: Sequence[str] | None) -> None:
    parser = _parser("describe_genotype.py", "Count what the network of a genotype costs, as JSON.", genotype=True)
    parser.add_argument("--channels", type=_whole_number(1), default=36, help="initial channels (default: 36)")
    parser.add_argument("--layers", type=_whole_number(1), default=20, help="cells (default: 20)")
    parser.add_argument("--classes", type=_whole_number(1), default=10, help="classes (default: 10)")
    parser.add_argument("--image-size", type=_whole_number(4), default=32, help="pixels a side (default: 32)")
    flags = parser.parse(argv)
    genotype = _load(flags)

    from cells.network import describe_network

    size = {name: flags[name] for name in ("channels", "layers", "classes", "image_size")}
    operators = {
        kind: dict(Counter(edge.operator for _, edge in getattr(genotype, kind).edges)) for kind in ("normal", "reduce")
    }
    print(json.dumps(describe_network(genotype, **size) | {"operators": operators} | size, indent=1))


def _list_operators(argv: Sequence[str] | None) -> None:
    parser = _parser("list_operators.py", "List the operators that may stand on an edge, and what they cost.")
    _load_plugins(parser.parse(argv)["plugin"])

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
    parser = _parser("check_operator.py", "Test the operator contract on an operator, and count what it costs.")
    parser.add_argument("name", metavar="NAME", help="an operator's name, as in --space darts+NAME")
    flags = parser.parse(argv)
    _load_plugins(flags["plugin"])

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


def _parser(program: str, description: str, genotype: bool = False) -> Parser:
    parser = Parser(prog=program, description=description)
    if genotype:
        parser.add_argument(
            "genotype",
            metavar="GENOTYPE",
            help="a JSON file, a published name such as darts_v2, a search's run folder, or Genotype(normal=[…], …)",
        )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="a file that registers operators; repeatable"
    )
    return parser


def _load(flags: dict) -> Genotype:
    """The genotype that is asked for, once the plug-ins that were given or lie in its run folder have been run."""
    _load_plugins([*plugins_beside(flags["genotype"]), *flags["plugin"]])
    return load_genotype(flags["genotype"])


def _load_plugins(paths: Iterable[str | Path]) -> None:
    from search_spaces.registry import load_plugin

    for path in paths:
        operators = load_plugin(path).operators
        print(f"plug-in {path} was run; it registers {', '.join(operators)}", file=sys.stderr)


def _whole_number(smallest: int) -> Callable[[str], int]:
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
