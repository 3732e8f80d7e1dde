"""The jobs of a Table 9. Each is a run folder as the two commands write it.

For each space: searches with different seeds; a short training of each found cell on part of the training images,
judged by the rest of them, which selects one cell; retrainings of that cell with different seeds; and a retraining of
each of some random cells of the space. A seed draws the same images in the same order in all spaces, so that spaces
can be compared in pairs.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cells.genotype import Genotype
from cells.genotype_file import load_genotype
from cells.random_cells import random_genotype
from nas.config import (
    RUN_CONTROL,
    Count,
    CountOrZero,
    SearchConfig,
    Settings,
    TrainConfig,
    build_config,
    read_settings,
)
from nas.data.datasets import load_data
from nas.experiment.answer import answer
from nas.experiment.request import Layer, Request, settings_layers
from nas.run.begin import check_data as check_run_data
from nas.run.exit_status import exit_status
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.plugins import load_plugin, plugins_of
from search_spaces.space import SearchSpace, load_space

FAILED = 1  # exit status: a job failed, so the table lacks it
SHARED = ("preset", "config", "data", "image_size", "device", "threads")  # given for all jobs alike
STAGES = {"search": "search", "select": "short training", "train": "retraining", "random": "random cell"}


class Protocol(BaseModel):
    """How many runs of each kind a space gets. The paper of DARTS: 4 searches, 10 retrainings, some random cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    searches: Count = Field(4, description="searches of a space, with seeds 0, 1, …")
    retrainings: Count = Field(4, description="retrainings of the selected cell, with seeds 0, 1, …")
    random: CountOrZero = Field(8, description="random cells of a space, each retrained once")


@dataclass(frozen=True)
class Job:
    """One run of the table, of one of the `STAGES`. `subject` is its space, or where its genotype comes from."""

    space: SearchSpace
    stage: str
    config: Settings
    run: RunDir
    subject: "Subject"

    @property
    def title(self) -> str:
        return f"{self.space.name}, {STAGES[self.stage]}, seed {self.config.seed}"

    @property
    def state(self) -> str:
        if self.run.is_finished():
            return "finished"
        return "unfinished" if self.run.exists() else "to do"

    def genotype(self) -> Genotype:
        """The cell that this job trains or, a search, has found. Raises InputError if it is not known yet."""
        known = self.known_genotype()
        if known is None:
            raise InputError(f"{self.title}: its cell is not known yet")
        return known

    def known_genotype(self) -> Genotype | None:
        """The same, or None if it is not known yet."""
        if isinstance(self.subject, Genotype):
            return self.subject
        if isinstance(self.subject, Selection):
            selected = self.subject.selected()
            return None if selected is None else selected.known_genotype()
        found = self.subject if isinstance(self.subject, Job) else self
        return load_genotype(found.run.genotype) if found.run.is_finished() else None

    def is_ready(self) -> bool:
        """Whether all that this job needs is there."""
        return self.stage == "search" or self.known_genotype() is not None

    def request(self) -> Request:
        """What the job asks for: a new run, or that in its folder with the plug-ins that are there."""
        goes_on = self.run.exists()
        settings = self.config.model_dump(exclude_defaults=True, exclude={"space", "plugin"} if goes_on else set())
        genotype = None if self.stage == "search" or goes_on else self.genotype()
        layers = ((self.title, settings),)
        return Request(type(self.config), layers, self.run.path, genotype, resume=goes_on)

    def carry_out(self) -> int:
        """Starts or resumes the run and returns the exit status that its command would; a crash is printed."""
        try:
            return exit_status(lambda: answer(self.request()))
        except Exception:
            traceback.print_exc()
            return FAILED


@dataclass(frozen=True)
class Selection:
    """The choice of one cell of a space: that with the least error on held-out training images, the first of equals."""

    searches: tuple[Job, ...]
    trainings: tuple[Job, ...]  # one a search; none if there is one search only

    def selected(self) -> Job | None:
        """The search that found the cell; None as long as a search or a short training is not finished."""
        if not all(job.run.is_finished() for job in (*self.searches, *self.trainings)):
            return None
        if not self.trainings:
            return self.searches[0]
        errors = [job.run.result()["test_error_percent"] for job in self.trainings]
        return self.searches[errors.index(min(errors))]


Subject = str | Job | Selection | Genotype


@dataclass(frozen=True)
class Plan:
    """All jobs in the order in which they are carried out, and what selects the cells, by the spaces' names."""

    jobs: tuple[Job, ...]
    selections: dict[str, Selection]
    protocol: Protocol

    def of(self, space: str, stage: str) -> list[Job]:
        return [job for job in self.jobs if (job.space.name, job.stage) == (space, stage)]


def plan_jobs(flags: dict[str, Any]) -> Plan:
    """The jobs of all spaces: stage by stage, seed by seed, so that what is there at any time can be compared.

    Runs the plug-ins and loads the spaces. Raises InputError if a setting or a space is not valid.
    """
    kinds: dict[str, type[Settings]] = {"search": SearchConfig, "select": TrainConfig, "train": TrainConfig}
    configs = {stage: build_config(kind, _layers(stage, flags, Settings)) for stage, kind in kinds.items()}
    protocol = build_config(Protocol, _layers("table9", flags, Protocol))
    for path in configs["search"].plugin:
        load_plugin(path)
    spaces = {}
    for given in flags["spaces"]:
        space = load_space(given)
        if space.name in spaces:
            raise InputError(f'--spaces names "{space.name}" twice; give each space once, under a name of its own')
        spaces[space.name] = given, space

    def of_all_spaces(stage: str, seeds: int, subject: Callable[[str, int], Subject]) -> dict[str, tuple[Job, ...]]:
        config = configs["train" if stage == "random" else stage]
        found = {}
        for name, (given, space) in spaces.items():
            about = {"space": given} if stage == "search" else {}
            found[name] = tuple(
                Job(
                    space,
                    stage,
                    config.model_copy(update={"seed": seed, **about}),
                    RunDir(flags["out"] / name / stage / f"seed{seed}"),
                    subject(name, seed),
                )
                for seed in range(seeds)
            )
        return found

    searches = of_all_spaces("search", protocol.searches, lambda name, _: spaces[name][0])
    several = protocol.searches if protocol.searches > 1 else 0
    trainings = of_all_spaces("select", several, lambda name, seed: searches[name][seed])
    selections = {name: Selection(searches[name], trainings[name]) for name in spaces}
    retrainings = of_all_spaces("train", protocol.retrainings, lambda name, _: selections[name])
    randoms = of_all_spaces("random", protocol.random, lambda name, seed: random_genotype(spaces[name][1], seed))
    stages = (searches, trainings, retrainings, randoms)
    ordered = [one for stage in stages for of_one_seed in zip(*stage.values(), strict=True) for one in of_one_seed]
    return Plan(tuple(ordered), selections, protocol)


def _layers(section: str, flags: dict[str, Any], kind: type[BaseModel]) -> tuple[Layer, ...]:
    """Settings of the preset, of `--config` and of the flags that `kind` knows."""
    given = {name: flags[name] for name in kind.model_fields if flags.get(name) is not None}
    return settings_layers(section, flags["preset"] or "paper", flags["config"], given)


def check_unchanged(job: Job) -> None:
    """Raises InputError if the run in the job's folder is not the one asked for: a table does not mix settings."""
    if not job.run.exists():
        return
    advice = "give --out another folder, or remove that one"
    kept = read_settings(job.run.config, job.config.command)
    stored = build_config(type(job.config), [(str(job.run.config), kept)])
    for name, before in stored.model_dump(exclude=set(RUN_CONTROL)).items():
        now = getattr(job.config, name)
        if now != before:
            raise InputError(f"{job.run.path} was run with {name} {before!r}, asked for is {now!r}; {advice}")
    if job.stage == "search":
        operators = job.space.operators
        if load_space(job.run.space) != job.space:
            raise InputError(f"{job.run.path} was run in another space than {job.subject} is now; {advice}")
    else:
        trained = load_genotype(job.run.genotype)
        operators = trained.operators
        if trained != job.known_genotype():
            raise InputError(f"{job.run.path} trained another cell than the one that is now asked for; {advice}")
    copies = {sha256(path.read_bytes()).hexdigest() for path in job.run.plugins}
    if not {plugin.sha256 for plugin in plugins_of(operators)} <= copies:
        raise InputError(f"{job.run.path} was run with other plug-ins than are given now; {advice}")


def check_data(jobs: Sequence[Job]) -> None:
    """Raises InputError if the jobs that are left have no data, or other data than those that were begun."""
    if all(job.run.is_finished() for job in jobs):
        return
    loaded: dict[tuple, Any] = {}
    for job in jobs:
        source = job.config.data, job.config.image_size
        if source not in loaded:
            loaded[source] = load_data(*source)
        loaded[source].first(job.config.train_images, getattr(job.config, "test_images", None))
        if job.run.exists():
            check_run_data(job.run, loaded[source].fingerprint)
