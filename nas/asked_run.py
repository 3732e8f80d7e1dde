"""What a command line asks for: settings, a run folder, and whether a new run begins there or an old one goes on."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cells.genotype import Genotype
from nas import parallel
from nas.config import RUN_CONTROL, Settings, build_config, config_to_yaml, read_preset, read_settings
from nas.interrupt import Stopped, StopRequest
from nas.plugins import load_plugins
from nas.run_dir import RunDir
from search_spaces.errors import InputError

if TYPE_CHECKING:  # --help does not wait for torch
    import torch

    from nas.data import DataSummary, ImageData
    from nas.estimate import Estimate
    from search_spaces.space import SearchSpace

LONG_RUN_SECONDS = 3600
_LEAST_IMAGES = {"search": 4, "train": 2}  # to train on; of a search's two are for the weights, two for the alphas
_PROGRAMS = {"search": ("search.py", "darts-search"), "train": ("train_genotype.py", "darts-train")}
_CONTROL_FLAGS = ("preset", "config", "run_dir", "resume", "force", "dry_run")


Config = TypeVar("Config", bound=Settings)


class AskedRun(Generic[Config]):
    """What a command line asks for: the checked settings, the folder, and whether the run in it goes on."""

    def __init__(
        self, kind: type[Config], command: str, flags: dict[str, Any], default_folder: Callable[[Config], Path]
    ):
        self.control = {name: flags.get(name) for name in _CONTROL_FLAGS}
        self.command = command
        self.preset = self.control["preset"]
        self.given = self._given(kind, flags)
        self.config: Config = build_config(kind, self.given)
        self.folder = RunDir(self.control["run_dir"] or default_folder(self.config))
        self.is_taken_up = bool(self.control["resume"]) and self.folder.exists()
        self.is_done = False
        if parallel.is_first():
            self._look_at_folder(kind)
        self.config, self.is_taken_up, self.is_done = parallel.from_first((self.config, self.is_taken_up, self.is_done))

    def _look_at_folder(self, kind: type[Config]) -> None:
        """Decides whether the run in the folder goes on. Raises InputError if it may not, or a new one not begin."""
        if not self.is_dry:
            self.folder.refuse_if_in_use()
        if self.is_taken_up:
            self._take_up(kind)
        elif self.control["resume"]:
            self.say(f"nothing to resume in {self.folder.path}; starting from the beginning")
        elif not self.control["force"] and not self.is_dry:
            self.folder.refuse_to_overwrite()

    def _given(self, kind: type[Config], flags: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """(where it is from, settings) of preset, `--config` and flags, the later ones winning."""
        layers = []
        if self.preset:
            layers.append((f"preset {self.preset}", read_preset(self.preset, self.command)))
        if self.control["config"]:
            path = self.control["config"]
            layers.append((f"--config {path}", read_settings(path, self.command)))
        settings = {name: value for name, value in flags.items() if name in kind.model_fields}
        return layers + [(f"--{name.replace('_', '-')}", {name: value}) for name, value in settings.items()]

    def _take_up(self, kind: type[Config]) -> None:
        """Goes on with the settings of the run in the folder. Raises InputError if others are given.

        More epochs are allowed, and whatever does not change what is computed.
        """
        path = self.folder.path
        held = "search" if self.folder.is_search() else "train"
        if held != self.command:
            raise InputError(f"{path} holds a run of {_PROGRAMS[held][0]}, not of {_PROGRAMS[self.command][0]}")
        stored = build_config(kind, [(str(self.folder.config), read_settings(self.folder.config, held))])
        kept = (str(self.folder.config), stored.model_dump(exclude={"plugin", "stop_after"}))
        self.config = build_config(kind, [kept, *self.given])
        old, new = stored.model_dump(), self.config.model_dump()
        self.is_done = self.folder.is_finished() and new["epochs"] == old["epochs"]

        differing = [name for name in old if name not in RUN_CONTROL and old[name] != new[name]]
        if new["epochs"] > old["epochs"]:
            differing.remove("epochs")
        if differing:
            said = ", ".join(f"{name} was {old[name]!r} and is now {new[name]!r}" for name in differing)
            raise InputError(f"{path} was begun with other settings: {said}; leave them as they were")
        copies = {sha256(copy.read_bytes()).hexdigest() for copy in self.folder.plugins}
        for plugin in self.config.plugin:
            if not Path(plugin).is_file() or sha256(Path(plugin).read_bytes()).hexdigest() not in copies:
                raise InputError(f"plug-in {plugin} is not that of {path}; leave --plugin out to use its own copy")

    def names(self, setting: str) -> bool:
        """Whether a preset, a file or a flag gives this setting."""
        return any(setting in layer for _, layer in self.given)

    def say(self, line: str) -> None:
        """Prints a line, as a comment where the output of a dry run is YAML."""
        print(f"# {line}" if self.is_dry else line, flush=True)

    def load_plugins(self, *more: Path) -> None:
        """Runs the plug-ins: of the folder if the run goes on, else the given ones and `more`."""
        load_plugins(self.folder.plugins if self.is_taken_up else (*more, *self.config.plugin), self.say)

    def mention_unused_plugins(self, operators: Sequence[str], user: str) -> None:
        """Says which given plug-ins have no effect, as the space or the genotype uses none of their operators."""
        from search_spaces.registry import load_plugin

        for path in self.config.plugin:
            added = load_plugin(path).operators
            if not set(added) & set(operators):
                self.say(f"note: {user} uses nothing of plug-in {path}, which registers {', '.join(added)}")

    @property
    def is_dry(self) -> bool:
        """Whether `print_plan` is asked for, and no run."""
        return bool(self.control["dry_run"])

    def plan(self, estimate: "Callable[..., Estimate]", subject: Any) -> "ImageData":
        """The images to run on; says what the run will take.

        Raises InputError if the device is not here or the data have too few images for the settings.
        """
        from nas.data import load_data

        device = self._ready_device()
        with parallel.one_at_first():
            summary = self._summary()
            data = load_data(self.config.data, self.config.image_size)
        expected, amount = self._expect(estimate, subject, summary, device)
        hint = "; --preset quick takes minutes" if expected.seconds > LONG_RUN_SECONDS else ""
        self.say(f"this run will take about {amount} here{hint}")
        return data

    def print_plan(self, estimate: "Callable[..., Estimate]", subject: Any) -> None:
        """Prints what `--dry-run` is for: settings, folder, and what the run would take. Raises as `plan` does."""
        device = self._ready_device()
        with parallel.one_at_first():
            summary = self._summary()
        expected, amount = self._expect(estimate, subject, summary, device)
        print(config_to_yaml(self.config), end="")
        self.say(f"run folder: {self.folder.path}")
        self.say(f"estimate: {amount}, {expected.disk_bytes / 1e6:.0f} MB on disk")

    def _ready_device(self) -> "torch.device":
        """The device, with the threads and the operators that are asked for on it, once all packages are there."""
        import torch

        from nas.device import check_precision, resolve_device
        from nas.tensorboard import check_tensorboard

        check_tensorboard(self.config)
        device = resolve_device(self.config.device)
        check_precision(self.config.precision, device)
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        self._decide_compile(device.type)
        return device

    def _summary(self) -> "DataSummary":
        from nas.data import summarize_data

        summary = summarize_data(self.config.data, self.config.image_size)
        self._check_sizes(summary)
        return summary

    def _expect(
        self, estimate: "Callable[..., Estimate]", subject: Any, summary: "DataSummary", device: "torch.device"
    ) -> "tuple[Estimate, str]":
        """What the run will take, and its time and memory in words; decides how memory is used."""
        from nas.device import arithmetic
        from nas.loop import readable_time

        with arithmetic(self.config.precision, self.config.deterministic, device):
            expected = parallel.from_first(estimate(self.config, subject, summary))
        amount = f"{readable_time(expected.seconds)} and {expected.memory_bytes / 1e9:.1f} GB of memory"
        if expected.memory is not None:  # decided once, kept with the run
            self.config = self.config.model_copy(update={"memory": expected.memory})
            amount += f" at its peak (--memory {expected.memory})"
            if device.type == "cuda" and self.config.compile and expected.memory == "recompute":
                self.say("the step is no CUDA graph, as recomputing draws on the random state in the middle of it")
        return expected, amount

    def _check_sizes(self, summary: "DataSummary") -> None:
        """Raises InputError if the data have fewer images than the settings ask for."""
        least_images = _LEAST_IMAGES[self.command]
        for name, least in (("train_images", least_images), ("test_images", 1)):
            has, asked = getattr(summary, name), getattr(self.config, name, None)
            if has < least:
                raise InputError(f"{self.config.data} has {has} {name}; at least {least} are needed")
            if asked is not None and not least <= asked <= has:
                raise InputError(f"{name} is {asked}; {self.config.data} has {has}, give {least} to that")
        hold_out = getattr(self.config, "hold_out", 0)
        most = (self.config.train_images or summary.train_images) - least_images
        if hold_out > most:
            raise InputError(f"hold_out is {hold_out}; of {most + least_images} training images, give 0 to {most}")

    def _decide_compile(self, device: str) -> None:
        """Whether operators run as compiled loops or the step as a graph on this machine; says if they do not."""
        from cells import fast

        asked = self.asked_compile = self.config.compile
        if asked is False:
            return
        why_not = {
            "cpu": "the loops compute in float32" if self.config.precision != "float32" else fast.WHY_NOT_COMPILED,
            "cuda": "",
        }.get(device, f"{device} has neither compiled loops nor graphs" if asked else "")
        if parallel.size() > 1 and (device == "cuda" or self.config.sync_batch_norm):
            why_not = f"{parallel.size()} processes exchange numbers within a step"
        self.config = self.config.model_copy(update={"compile": device in ("cpu", "cuda") and not why_not})
        if why_not:
            self.say(f"operators are not compiled ({why_not}); PyTorch's own layers run, several times slower")

    def _refuse_what_came_between(self) -> None:
        """Raises InputError if another process began a run in the folder while this one planned its own."""
        if self.control["resume"] and self.folder.exists() and not self.is_taken_up:
            raise InputError(f"another process has begun a run in {self.folder.path}; the same command goes on with it")
        if not self.control["resume"] and not self.control["force"]:
            self.folder.refuse_to_overwrite()

    def locked(self) -> AbstractContextManager:
        """Inside, the folder is this run's alone. Raises InputError if another process writes there."""
        return self.folder.locked(self.say) if parallel.is_first() else nullcontext()

    @property
    def written_folder(self) -> RunDir | None:
        """The folder for the process that writes there, None for the others."""
        return self.folder if parallel.is_first() else None

    def begin(
        self,
        data: "ImageData",
        operators: Sequence[str],
        space: "SearchSpace | None" = None,
        genotype: Genotype | None = None,
    ) -> bool:
        """Makes the folder ready; returns whether there is a checkpoint to go on from."""
        goes_on = self._begin(data, operators, space, genotype) if parallel.is_first() else False
        return parallel.from_first(goes_on)

    def _begin(
        self, data: "ImageData", operators: Sequence[str], space: "SearchSpace | None", genotype: Genotype | None
    ) -> bool:
        from search_spaces.registry import load_plugin, plugins_of

        path = self.folder.path
        self._refuse_what_came_between()
        if self.is_taken_up and self.folder.load_checkpoint(self.say) is not None:  # refused before any change
            self.folder.check_data(data.fingerprint)
            if changed := self.folder.changed_environment():
                self.say(f"note: {changed}, since {path} was begun; its numbers may differ in their last digits")
            self.folder.extend(self._settings_to_keep())
            return True
        if self.is_taken_up and self.folder.is_finished():
            raise InputError(f"{path} is finished and has no checkpoint to go on from; start anew with --force")
        if self.is_taken_up:
            self.say(f"{path} has no checkpoint; starting from the beginning")
        plugins = dict.fromkeys((*map(load_plugin, self.config.plugin), *plugins_of(operators)))
        self.folder.create(self._settings_to_keep(), data.fingerprint, tuple(plugins), space, genotype)
        return False

    def _settings_to_keep(self) -> str:
        """config.yaml: what may be compiled is kept as asked, as another machine may compile what this one cannot."""
        return config_to_yaml(self.config.model_copy(update={"compile": self.asked_compile}))

    def carry_out(self, body: Callable[[StopRequest], Any]) -> Any:
        """Calls `body`; if a signal or the clock ends it early, says how to go on."""
        try:
            with StopRequest(self.config.stop_after) as stop:
                return body(stop)
        except Stopped:
            start = program_name(self.command)
            if parallel.size() > 1:
                start = f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} {start.removeprefix('python ')}"
            if parallel.is_first():
                print(f"saved; go on with: {start} --run-dir {quoted(self.folder.path)} --resume", file=sys.stderr)
            raise


def program_name(command: str) -> str:
    """How to call "search" or "train": as a file if this program was called so, else by its entry point."""
    file, entry_point = _PROGRAMS[command]
    called = Path(sys.argv[0])
    is_file = called.name in (name for name, _ in _PROGRAMS.values())
    return f"python {quoted(called.with_name(file))}" if is_file else entry_point


def quoted(path: Path | str) -> str:
    """The path as one word of a shell command."""
    return shlex.quote(str(path))
