"""The training command: argv -> a request -> a plan -> a finished run."""

from collections.abc import Sequence
from pathlib import Path

from nas.commands.command_line import command, request_from, settings_parser
from nas.config import TrainConfig
from nas.experiment.names import plugins_beside, training_folder
from nas.run.folder import RunDir, finished_searches


@command
def train(argv: Sequence[str] | None) -> None:
    """`python train_genotype.py`: returns the exit status."""
    parser = settings_parser(
        "train_genotype.py", "Train the network of a genotype from scratch and test it.", TrainConfig
    )
    parser.add_argument(
        "genotype",
        nargs="?",
        metavar="GENOTYPE",
        help="a JSON file, a published name such as darts_v2, a search's run folder, or Genotype(normal=[…], …);"
        " the newest finished search under runs/ if not given, else darts_v2",
    )
    flags = parser.parse(argv)
    argument = flags.pop("genotype", None)
    if argument is None and flags.get("resume") and "run_dir" in flags and RunDir(flags["run_dir"]).exists():
        request = request_from(flags, TrainConfig, lambda _: flags["run_dir"])  # the genotype that is there
    else:
        if argument is None:
            argument, reason = _default_genotype()
            print(f"{'# ' if flags.get('dry_run') else ''}training {argument}: {reason}", flush=True)
        about = {"genotype": argument, "plugins": plugins_beside(argument)}
        request = request_from(flags, TrainConfig, lambda config: training_folder(config, argument), **about)

    from nas.experiment.answer import answer

    answer(request)


def _default_genotype() -> tuple[str, str]:
    """(GENOTYPE argument, why) where none was given."""
    finished = finished_searches(Path("runs"))
    if finished:
        return str(finished[-1].path), "the newest finished search under runs/"
    return "darts_v2", "no finished search under runs/, so DARTS' published cell"
