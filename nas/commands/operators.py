"""The commands about operators: list them, check one of them."""

from collections.abc import Sequence

from nas.commands.command_line import command
from nas.commands.genotypes import aligned, tool_parser
from search_spaces.plugins import load_plugins

COST_SIZE = 32  # pixels a side of the maps for which an operator's multiply-adds are counted


@command
def list_operators(argv: Sequence[str] | None) -> None:
    """`python scripts/list_operators.py`: prints a table and returns the exit status."""
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


@command
def check_operator(argv: Sequence[str] | None) -> None:
    """`python scripts/check_operator.py NAME`: exit status 2, with one line, if the operator breaks its contract."""
    parser = tool_parser("check_operator.py", "Test the operator contract on an operator, and count what it costs.")
    parser.add_argument("name", metavar="NAME", help="an operator's name, as in --space darts+NAME")
    flags = parser.parse(argv)
    load_plugins(flags["plugin"])

    from search_spaces.contract import check_operator

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
