"""From a request to a plan: what will be computed, on what, where, and what it will take. Nothing is written for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch

from cells.architecture import Architecture, CellArchitecture
from cells.compiled.fused import WHY_NOT_COMPILED
from nas.config import SearchConfig, Settings, TrainConfig, config_to_yaml
from nas.data.datasets import load_data, summarize_data
from nas.data.image_data import DataSummary, ImageData
from nas.experiment.estimate import Estimate, estimate_search, estimate_training
from nas.experiment.held import Held, look_at_folder
from nas.experiment.request import Config, Request
from nas.experiment.subject import asked_architecture, asked_space
from nas.formatting import readable_time
from nas.machine import processes
from nas.machine.device import arithmetic, check_precision, resolve_device
from nas.report.diagrams import check_diagrams
from nas.report.tensorboard import check_tensorboard
from nas.run.folder import RunDir
from nas.search.collapse import check_early_stop
from search_spaces.errors import InputError
from search_spaces.plugins import Plugin, check_typed, load_plugin, load_plugins, plugins_of
from search_spaces.space import SearchSpace

LONG_RUN_SECONDS = 3600
LEAST_IMAGES = {"search": 4, "train": 2}  # to train on; of a search's two are for the weights, two for the alphas


@dataclass(frozen=True)
class Plan(Generic[Config]):
    """What a run is going to be: `carry_out` reads nothing else, and changes nothing in it.

    `config` has decided what `kept` (config.yaml) may leave open: memory, and what is compiled on this machine. `run`
    None keeps nothing. `goes_on`: with the run that is there; `is_done`: it has all that is asked for, so the plan has
    neither data nor an estimate, as a dry one has no data.
    """

    request: Request[Config]
    config: Config
    kept: str
    run: RunDir | None
    subject: SearchSpace | CellArchitecture
    plugins: tuple[Plugin, ...]
    goes_on: bool = False
    is_done: bool = False
    data: ImageData | None = None
    estimate: Estimate | None = None


def plan(request: Request[Config]) -> Plan[Config]:
    """Decides everything; says, for people, which plug-ins were run and what the run will take.

    Raises InputError for whatever of the request is not valid, does not fit together, or is not on this machine.
    """
    held = processes.from_first(look_at_folder(request) if processes.is_first() else Held(request.config))
    config, run = held.config, None if request.folder is None else RunDir(request.folder)
    kept_run = run if held.goes_on else None
    if isinstance(config, SearchConfig):
        check_early_stop(config)
    if request.folder is None and config.stop_after is not None:
        raise InputError("stop_after saves the run to go on with it later; give a folder for that as run_dir")
    load_plugins(_plugin_files(request, config, kept_run), request.say)
    subject: SearchSpace | CellArchitecture = _subject(request, config, kept_run)
    if held.is_done:
        return Plan(request, config, "", run, subject, (), goes_on=True, is_done=True)
    if isinstance(subject, Architecture):
        subject.check()
    check_typed(subject.operators, keep=run is not None)
    given: tuple[Plugin, ...] = tuple(map(load_plugin, config.plugin)) if kept_run is None else ()
    _mention_unused(request, given, subject)

    check_tensorboard(config)
    if run is not None and isinstance(config, SearchConfig):
        check_diagrams()
    device = resolve_device(config.device)
    check_precision(config.precision, device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    asked_compile = config.compile
    config = _decide_compile(config, device.type, request)
    with processes.one_at_first():
        summary = summarize_data(config.data, config.image_size)
        check_sizes(config, summary)
        data = None if request.dry_run else load_data(config.data, config.image_size)
    with arithmetic(config.precision, config.deterministic, device):
        estimate = processes.from_first(_estimate(config, subject, summary))
    if estimate.memory is not None:  # decided once, kept with the run
        config = config.model_copy(update={"memory": estimate.memory})
        if device.type == "cuda" and config.compile and estimate.memory == "recompute":
            request.say("the step is no CUDA graph, as recomputing draws on the random state in the middle of it")
    if not request.dry_run:
        hint = "; --preset quick takes minutes" if estimate.seconds > LONG_RUN_SECONDS else ""
        request.say(f"this run will take about {describe_estimate(estimate)} here{hint}")
    # What may be compiled is kept as asked: another machine may compile what this one cannot.
    kept = config_to_yaml(config.model_copy(update={"compile": asked_compile}))
    plugins = tuple(dict.fromkeys((*given, *plugins_of(subject.operators))))
    return Plan(request, config, kept, run, subject, plugins, held.goes_on, data=data, estimate=estimate)


def describe_estimate(estimate: Estimate) -> str:
    """Time and memory, for people."""
    amount = f"{readable_time(estimate.seconds)} and {estimate.memory_bytes / 1e9:.1f} GB of memory"
    return amount if estimate.memory is None else f"{amount} at its peak (--memory {estimate.memory})"


def check_sizes(config: Settings, summary: DataSummary) -> None:
    """Raises InputError if the data have fewer images than the settings ask for."""
    least_images = LEAST_IMAGES[config.command]
    for name, least in (("train_images", least_images), ("test_images", 1)):
        has, asked = getattr(summary, name), getattr(config, name, None)
        if has < least:
            raise InputError(f"{config.data} has {has} {name}; at least {least} are needed")
        if asked is not None and not least <= asked <= has:
            raise InputError(f"{name} is {asked}; {config.data} has {has}, give {least} to that")
    hold_out = getattr(config, "hold_out", 0)
    most = (config.train_images or summary.train_images) - least_images
    if hold_out > most:
        raise InputError(f"hold_out is {hold_out}; of {most + least_images} training images, give 0 to {most}")


def _plugin_files(request: Request[Config], config: Config, held: RunDir | None) -> Sequence[Path | str]:
    return held.plugins if held is not None else (*request.plugins, *config.plugin)


def _subject(request: Request[Config], config: Config, held: RunDir | None) -> SearchSpace | CellArchitecture:
    if isinstance(config, SearchConfig):
        return asked_space(config.space, request.names("space"), held)
    return asked_architecture(request.genotype, held)


def _mention_unused(request: Request, given: Sequence[Plugin], subject: SearchSpace | CellArchitecture) -> None:
    """Says which given plug-ins have no effect, as the space or the genotype uses none of their operators."""
    user = f"space {subject.name}" if isinstance(subject, SearchSpace) else "the genotype"
    for plugin in given:
        if not set(plugin.operators) & set(subject.operators):
            added = ", ".join(plugin.operators)
            request.say(f"note: {user} uses nothing of plug-in {plugin.path}, which registers {added}")


def _decide_compile(config: Config, device: str, request: Request[Config]) -> Config:
    """Whether operators run as compiled loops or the step as a graph on this machine; says if they do not."""
    asked = config.compile
    if asked is False:
        return config
    why_not = {
        "cpu": "the loops compute in float32" if config.precision != "float32" else WHY_NOT_COMPILED,
        "cuda": "",
    }.get(device, f"{device} has neither compiled loops nor graphs" if asked else "")
    if processes.size() > 1 and (device == "cuda" or config.sync_batch_norm):
        why_not = f"{processes.size()} processes exchange numbers within a step"
    if why_not:
        request.say(f"operators are not compiled ({why_not}); PyTorch's own layers run, several times slower")
    return config.model_copy(update={"compile": device in ("cpu", "cuda") and not why_not})


def _estimate(config: Settings, subject: SearchSpace | Architecture, summary: DataSummary) -> Estimate:
    if isinstance(config, SearchConfig) and isinstance(subject, SearchSpace):
        return estimate_search(config, subject, summary)
    assert isinstance(config, TrainConfig) and isinstance(subject, Architecture)
    return estimate_training(config, subject, summary)
