"""What the commands do, as functions for a notebook or a script of one's own.

    found = search_cell("darts+sandglass", preset="quick")      # a notebook shows its two cells
    trained = train_over_seeds(found, seeds=3, preset="quick")  # and here the errors, their mean and interval

Settings are the commands' flags (`batch_size=64` for `--batch-size 64`) and checked alike: a mistake raises InputError
with the line that a command would print. Without `run_dir`, nothing is kept on the disk; with it, the folder is what a
command leaves, and the commands go on with it. A typed block is checked first, and needs a file to be kept.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cells.architecture import CellArchitecture
from cells.genotype import Genotype
from nas.config import SearchConfig, TrainConfig
from nas.experiment.carry_out import carry_out
from nas.experiment.names import plugins_beside
from nas.experiment.plan import plan
from nas.experiment.request import Config, Request, settings_layers
from nas.notebook.outcomes import FoundCell, TrainedCell, TrainedCells
from nas.run.folder import RunDir
from nas.run.record import InMemory, Record
from nas.training.evaluation import load_trained_network, trained_network
from nas.training.weights_file import SavedNetwork
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

    Raises InputError for a mistake in these, and nas.run.stop.Stopped if a run in a folder was stopped; it is saved.
    """
    given = settings if space is None else settings | {"space": space}
    record = carry_out(plan(_request(SearchConfig, given, preset, run_dir, resume, force, progress)))
    return FoundCell(
        record.read_genotype(), record.result(), record.rows("metrics"), record.rows("alphas"), _folder(record)
    )


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
    if isinstance(cell, FoundCell):
        cell = cell.genotype if cell.run is None else cell.run.path
    given = cell if isinstance(cell, Genotype) else str(cell)
    about = {"genotype": given, "plugins": plugins_beside(given) if isinstance(given, str) else ()}
    planned = plan(_request(TrainConfig, settings, preset, run_dir, resume, force, progress, **about))
    record = carry_out(planned)
    network = (
        trained_network(SavedNetwork(**record.kept["weights"]))
        if isinstance(record, InMemory)
        else load_trained_network(RunDir(run_dir or "").weights)
    )
    assert isinstance(planned.subject, CellArchitecture)
    return TrainedCell(planned.subject.genotype, record.result(), record.rows("metrics"), network, _folder(record))


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


def _request(
    kind: type[Config],
    settings: dict[str, Any],
    preset: str | None,
    run_dir: str | Path | None,
    resume: bool,
    force: bool,
    progress: bool,
    **about: Any,
) -> Request[Config]:
    if run_dir is None and (resume or force):
        raise InputError(f"{'resume' if resume else 'force'} is about a run folder; give one as run_dir")
    if resume and force:
        raise InputError("resume goes on with the run in a folder, and force overwrites it; give one of them")
    layers = (*settings_layers(kind.command, preset, None, {}), ("the call", settings))
    folder = None if run_dir is None else Path(run_dir)
    how: dict[str, Any] = {"preset": preset, "resume": resume, "force": force, "progress": progress}
    return Request(kind, layers, folder, say=_say if progress else _say_nothing, **how, **about)


def _folder(record: Record) -> RunDir | None:
    return record if isinstance(record, RunDir) else None


def _say(line: str) -> None:
    print(line, flush=True)


def _say_nothing(line: str) -> None:
    """In the place of `_say`."""
