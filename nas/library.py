"""What the commands do, as functions for a notebook or a script of one's own.

    found = search_cell("darts+sandglass", preset="quick")      # a notebook shows its two cells
    trained = train_over_seeds(found, seeds=3, preset="quick")  # and here the errors, their mean and interval

Settings are the commands' flags (`batch_size=64` for `--batch-size 64`) and checked alike: a mistake raises InputError
with the line that a command would print. Without `run_dir`, nothing is kept on the disk; with it, the folder is what a
command leaves, and the commands go on with it. A typed block is checked first, and its source kept in that folder.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cells.genotype import Genotype, load_genotype
from nas.asked_call import AskedCall, check_typed
from nas.asked_subject import asked_genotype, asked_space
from nas.cli import plugins_beside
from nas.collapse import check_early_stop
from nas.config import SearchConfig, TrainConfig
from nas.estimate import estimate_search, estimate_training
from nas.evaluation import load_trained_network
from nas.interrupt import StopRequest
from nas.outcomes import FoundCell, TrainedCell, TrainedCells
from nas.run_dir import RunDir
from nas.search import run_search
from nas.train import run_training
from search_spaces.errors import InputError, shown


def search_cell(
    space: str | None = None,
    *,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    **settings: Any,
) -> FoundCell:
    """Searches for a cell, as `search.py` does.

    `space` is what `--space` takes, `settings` are fields of SearchConfig. In a `run_dir`, `resume` goes on with the
    run there, or only reads it if it is finished, and `force` overwrites it. Without `progress`, nothing is printed.

    Raises InputError for a mistake in these, and nas.interrupt.Stopped if a run in a folder was stopped; it is saved.
    """
    given = settings if space is None else settings | {"space": space}
    asked = AskedCall(SearchConfig, "search", given, preset, run_dir, resume, force, progress)
    if asked.is_done:
        return _found_in(asked.folder, keep=True)
    check_early_stop(asked.config)
    asked.load_plugins()
    chosen = asked_space(asked)
    check_typed(chosen.operators, asked.keeps)
    data = asked.plan(estimate_search, chosen)

    def body(run: RunDir, goes_on: bool, stop: StopRequest | None) -> None:
        run_search(asked.config, chosen, data, run, resume=goes_on, stop=stop, progress=progress)

    with asked.carried_out(data, chosen.operators, body, space=chosen) as run:
        return _found_in(run, asked.keeps)


def train_cell(
    cell: FoundCell | Genotype | str | Path,
    *,
    preset: str | None = None,
    run_dir: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    **settings: Any,
) -> TrainedCell:
    """Trains a cell's network from scratch and tests it, as `train_genotype.py` does.

    `cell` is what a search found, a genotype, or what GENOTYPE is on the command line; `settings` are fields of
    TrainConfig. The rest is as for `search_cell`.
    """
    asked = AskedCall(TrainConfig, "train", settings, preset, run_dir, resume, force, progress)
    if isinstance(cell, FoundCell):
        cell = cell.genotype if cell.run is None else cell.run.path
    asked.load_plugins(*(() if isinstance(cell, Genotype) else plugins_beside(str(cell))))
    genotype = asked_genotype(asked, cell)
    if asked.is_done:
        return _trained_in(asked.folder, genotype, keep=True)
    check_typed(genotype.operators, asked.keeps)
    data = asked.plan(estimate_training, genotype)

    def body(run: RunDir, goes_on: bool, stop: StopRequest | None) -> None:
        run_training(asked.config, genotype, data, run, resume=goes_on, stop=stop, progress=progress)

    with asked.carried_out(data, genotype.operators, body, genotype=genotype) as run:
        return _trained_in(run, genotype, asked.keeps)


def train_over_seeds(
    cell: FoundCell | Genotype | str | Path,
    seeds: int | Iterable[int] = 3,
    *,
    run_dir: str | Path | None = None,
    **settings: Any,
) -> TrainedCells:
    """`train_cell` with each of the seeds (3: 0, 1 and 2), in folders seed0, seed1, … of `run_dir` if it is given."""
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if "seed" in settings:
        raise InputError("seed is one training's; give seeds, a number or a list")
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds is {shown(seeds)}; give a number of at least 1, or different seeds such as [0, 1, 2]")
    folders = [None if run_dir is None else Path(run_dir, f"seed{seed}") for seed in numbers]
    pairs = zip(numbers, folders, strict=True)
    return TrainedCells(tuple(train_cell(cell, run_dir=folder, seed=seed, **settings) for seed, folder in pairs))


def _found_in(run: RunDir, keep: bool) -> FoundCell:
    genotype = load_genotype(run.path)
    return FoundCell(genotype, run.result(), run.rows("metrics"), run.rows("alphas"), run if keep else None)


def _trained_in(run: RunDir, genotype: Genotype, keep: bool) -> TrainedCell:
    network = load_trained_network(run.weights)
    return TrainedCell(genotype, run.result(), run.rows("metrics"), network, run if keep else None)
