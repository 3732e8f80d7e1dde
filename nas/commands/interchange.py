"""The commands by which genotypes and trained networks leave for other programs and come in from them."""

import json
from collections.abc import Sequence
from pathlib import Path

from cells.nni import to_nni
from nas.commands.command_line import command
from nas.commands.genotypes import given_genotype, tool_parser, whole_number
from nas.run.folder import RunDir
from search_spaces.errors import check_known
from search_spaces.plugins import load_plugins

GENOTYPE_FORMATS = ("json", "notation", "nni")


@command
def export_network(argv: Sequence[str] | None) -> None:
    """`python scripts/export_network.py RUN --format torch onnx python`: returns the exit status."""
    parser = tool_parser("export_network.py", "Write a trained network as files for use elsewhere.")
    parser.add_argument(
        "weights", type=Path, metavar="RUN|weights.pt", help="a training's run folder, or the weights.pt that it left"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        default=["torch", "python"],
        help="torch (a torch.export program), onnx, python (one file that needs PyTorch only); default: torch python",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for network.*; default: export/ beside the weights"
    )
    flags = parser.parse(argv)

    from nas.interchange.export import TOLERANCE, export_network
    from nas.training.weights_file import load_trained, weights_file
    from search_spaces.registry import operator_names

    weights = weights_file(flags["weights"])
    trained = load_trained(weights)
    load_plugins(flags["plugin"])
    if not set(trained.parsed_genotype().operators) <= set(operator_names()):
        load_plugins(RunDir(weights.parent).plugins)
    folder = flags["out"] or weights.parent / "export"
    for exported in export_network(trained, weights, flags["format"], folder):
        print(f"{exported.path}  logits differ by at most {exported.difference:.1e} (allowed: {TOLERANCE:.0e})")
    print(
        f"input: RGB pixels from 0 to 1, float32 (N, 3, {trained.image_size}, {trained.image_size}); normalised inside"
    )


@command
def export_genotype(argv: Sequence[str] | None) -> None:
    """`python scripts/export_genotype.py GENOTYPE --format nni`: prints it and returns the exit status."""
    parser = tool_parser("export_genotype.py", "Print a genotype in the form of another program.", genotypes=None)
    parser.add_argument(
        "--format", default="notation", help="notation (as papers print it), nni (NNI's dictionary), json; notation"
    )
    flags = parser.parse(argv)
    name = flags["format"]
    check_known("format", name, GENOTYPE_FORMATS)
    genotype = given_genotype(flags)
    if name == "nni":
        print(json.dumps(to_nni(genotype), indent=1))
    else:
        print(genotype.to_notation() if name == "notation" else genotype.to_json().rstrip())


@command
def import_reference(argv: Sequence[str] | None) -> None:
    """`python scripts/import_reference.py CHECKPOINT GENOTYPE --out weights.pt`: returns the exit status."""
    parser = tool_parser(
        "import_reference.py",
        "Take over a network that DARTS' own code (quark0/darts, cnn/) or a port of it has trained on CIFAR-10.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a state_dict of its NetworkCIFAR")
    parser.add_argument("genotype", metavar="GENOTYPE", help="the genotype of that network, such as darts_v2")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the weights.pt to write")
    parser.add_argument("--channels", type=whole_number(1), default=36, help="initial channels (default: 36)")
    parser.add_argument("--layers", type=whole_number(1), default=20, help="cells (default: 20)")
    flags = parser.parse(argv)
    genotype = given_genotype(flags)

    from nas.interchange.reference import read_reference
    from nas.run.checkpoint import save_checkpoint

    trained = read_reference(flags["checkpoint"], genotype, flags["channels"], flags["layers"])
    save_checkpoint(flags["out"], trained.content())
    print(f"{flags['out']}  {len(trained.state_dict)} tensors, {flags['layers']} cells, {flags['channels']} channels")
