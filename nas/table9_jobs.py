"""The jobs of a Table 9: a search and a retraining a space, each a run folder as the two commands write it."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cells.genotype import load_genotype
from nas import cli
from nas.config import (
    RUN_CONTROL,
    SearchConfig,
    Settings,
    TrainConfig,
    build_config,
    read_preset,
    read_settings,
)
from nas.run_dir import RunDir
from search_spaces.errors import InputError

FAILED = 1  # exit status: a job failed, so the table lacks it
SHARED = ("preset", "config", "data", "image_size", "seed", "device", "threads")  # given for all jobs alike
_CONFIGS = {"search": SearchConfig, "train": TrainConfig}


@dataclass(frozen=True)
class Job:
    """One run of the table: the `stage` "search" or "train" of a space, and the command line that starts it."""

    space: str
    stage: str
    config: Settings
    run: RunDir
    arguments: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.space}, {'search' if self.stage == 'search' else 'retraining'}, seed {self.config.seed}"

    @property
    def state(self) -> str:
        if self.run.is_finished():
            return "finished"
        return "unfinished" if self.run.exists() else "to do"

    def carry_out(self) -> int:
        """Starts or resumes the run, as its command would, and returns the exit status; a crash is printed."""
        arguments = [*self.arguments, "--run-dir", str(self.run.path)]
        if self.run.exists():
            arguments.append("--resume")  # with the plug-ins that are in the folder
        else:
            arguments += [part for path in self.config.plugin for part in ("--plugin", path)]
        try:
            return (cli.search if self.stage == "search" else cli.train)(arguments)
        except Exception:
            traceback.print_exc()
            return FAILED


def plan_jobs(flags: dict[str, Any]) -> list[Job]:
    """The search and the retraining of each space, in the order in which they are carried out.

    Runs the plug-ins and loads the spaces. Raises InputError if a setting or a space is not valid.
    """
    from search_spaces.registry import load_plugin
    from search_spaces.space import load_space

    given = {name: flags[name] for name in SHARED if flags[name] is not None}
    arguments = [part for name, value in given.items() for part in ("--" + name.replace("_", "-"), value)]
    configs = {stage: _configure(stage, flags) for stage in _CONFIGS}
    for path in configs["search"].plugin:
        load_plugin(path)
    jobs: list[Job] = []
    for space in flags["spaces"]:
        name = load_space(space).name
        if any(job.space == name for job in jobs):
            raise InputError(f'--spaces names "{name}" twice; give each space once, under a name of its own')
        searched, trained = (
            RunDir(flags["out"] / name / stage / f"seed{config.seed}") for stage, config in configs.items()
        )
        search_config = configs["search"].model_copy(update={"space": space})
        jobs.append(Job(name, "search", search_config, searched, ("--space", space, *arguments)))
        jobs.append(Job(name, "train", configs["train"], trained, (str(searched.path), *arguments)))
    return jobs


def _configure(stage: str, flags: dict[str, Any]) -> Settings:
    preset = flags["preset"] or "paper"
    layers = [(f"preset {preset}", read_preset(preset, stage))]
    if flags["config"]:
        layers.append((f"--config {flags['config']}", read_settings(Path(flags["config"]), stage)))
    for name in Settings.model_fields:
        if flags.get(name) is not None:
            layers.append((f"--{name.replace('_', '-')}", {name: flags[name]}))
    return build_config(_CONFIGS[stage], layers)


def check_unchanged(job: Job):
    """Raises InputError if the run in the job's folder is not the one asked for: a table does not mix settings."""
    from search_spaces.registry import plugins_of
    from search_spaces.space import load_space

    if not job.run.exists():
        return
    advice = "give --out another folder, or remove that one"
    stored = build_config(_CONFIGS[job.stage], [(str(job.run.config), read_settings(job.run.config, job.stage))])
    for name, before in stored.model_dump(exclude=set(RUN_CONTROL)).items():
        now = getattr(job.config, name)
        if now != before:
            raise InputError(f"{job.run.path} was run with {name} {before!r}, asked for is {now!r}; {advice}")

    if job.stage == "search":
        operators = load_space(job.config.space).operators
    else:
        operators = load_genotype(job.run.genotype).operators
    copies = {sha256(path.read_bytes()).hexdigest() for path in job.run.plugins}
    if not {plugin.sha256 for plugin in plugins_of(operators)} <= copies:
        raise InputError(f"{job.run.path} was run with other plug-ins than are given now; {advice}")
    if job.stage == "search" and load_space(job.run.space) != load_space(job.config.space):
        raise InputError(f"{job.run.path} was run in another space than {job.config.space} is now; {advice}")
    if job.stage == "train":
        searched = RunDir(job.arguments[0])
        if not searched.is_finished() or load_genotype(job.run.genotype) != load_genotype(searched.genotype):
            raise InputError(f"{job.run.path} trained another cell than that of {searched.path}; {advice}")


def check_data(jobs: Sequence[Job]):
    """Raises InputError if the jobs that are left have no data, or other data than those that were begun."""
    from nas.data import load_data

    if all(job.run.is_finished() for job in jobs):
        return
    loaded: dict[tuple, Any] = {}
    for job in jobs:
        source = job.config.data, job.config.image_size
        if source not in loaded:
            loaded[source] = load_data(*source)
        loaded[source].first(job.config.train_images, getattr(job.config, "test_images", None))
        if job.run.exists():
            job.run.check_data(loaded[source].fingerprint)
