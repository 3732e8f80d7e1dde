"""The two commands: argv -> checked settings -> one call -> what to look at and what to type next."""

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cells.genotype import Genotype, load_genotype, published_genotypes
from nas.config import (
    PRESETS,
    RUN_CONTROL,
    SearchConfig,
    Settings,
    TrainConfig,
    build_config,
    config_to_yaml,
    read_preset,
    read_settings,
)
from nas.interrupt import Stopped, StopRequest
from nas.run_dir import RunDir, finished_searches
from search_spaces.errors import InputError, suggest

LONG_RUN_SECONDS = 3600
_PROGRAMS = {"search": ("search.py", "darts-search"), "train": ("train_genotype.py", "darts-train")}
_CONTROL_FLAGS = ("preset", "config", "run_dir", "resume", "force", "dry_run")


def search(argv: Sequence[str] | None = None) -> int:
    """`python search.py`: returns the exit status."""
    return run_command(_search, argv)


def train(argv: Sequence[str] | None = None) -> int:
    """`python train_genotype.py`: returns the exit status."""
    return run_command(_train, argv)


def run_command(command: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None) -> int:
    """Runs a command; a mistake in what was given, or a want of disk or memory, becomes one line and exit status 2."""
    try:
        return command(argv) or 0
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again as it ends
        return _fail("standard output was closed before the end")
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot read or write{where}: {error.strerror or error}; what was saved before is intact")
    except Stopped as stopped:
        return stopped.status
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except Exception as error:
        reason = _out_of_memory(error) or _failing_plugin(error)
        if not reason:
            raise
        return _fail(reason)


def _fail(message: str, status: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _out_of_memory(error: Exception) -> str:
    words = ("out of memory", "can't allocate memory", "not enough memory")  # CUDA, MPS and CPU
    if not isinstance(error, MemoryError) and not any(said in str(error) for said in words):
        return ""
    return "out of memory; give a smaller --batch-size or --channels (--dry-run says what a run needs)"


def _failing_plugin(error: Exception) -> str:
    """What a plug-in did wrong where its check does not look, such as at a run's number of channels."""
    from search_spaces.registry import operator_names, plugins_of

    plugins = {os.path.abspath(plugin.path): plugin.path for plugin in plugins_of(operator_names())}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in plugins:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return f"plug-in {plugins[frame.filename]}, line {frame.lineno}: {said}"
    return ""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with a guess at a misspelt flag."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message):
        raise InputError(f"{message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """The flags that were given, by name."""
        known, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            guess = suggest(unknown[0].split("=")[0], flags)
            raise InputError(f"unknown argument {unknown[0]}{guess} see {self.prog} --help for all")
        return vars(known)


def settings_parser(program: str, description: str, kind: type[Settings]) -> Parser:
    """A parser with one flag for each setting, and the flags that say how to run."""
    parser = Parser(prog=program, description=description, argument_default=argparse.SUPPRESS)
    running = parser.add_argument_group("run")
    running.add_argument("--preset", help=f"{', '.join(PRESETS)}; paper is the default, quick takes minutes")
    running.add_argument("--config", type=Path, metavar="FILE.yaml", help="settings, under the flags, over the preset")
    running.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="where the run's files go; under runs/ if not given"
    )
    anew = running.add_mutually_exclusive_group()
    anew.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    anew.add_argument("--force", action="store_true", help="overwrite what an earlier run left in the folder")
    running.add_argument("--dry-run", action="store_true", help="print settings, time, memory and disk; write nothing")
    settings = parser.add_argument_group("settings")
    for name, field in kind.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = "" if field.default in (None, ()) else f" (default: {field.default})"
        text = (field.description + default).replace("%", "%%")
        if isinstance(field.default, bool) or name == "flip":
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif field.default == ():
            settings.add_argument(flag, action="append", metavar="FILE.py", help=text)
        else:
            settings.add_argument(flag, metavar=name.upper(), help=text)
    return parser


class Run:
    """What a command line asks for: the checked settings, the folder, and whether the run in it goes on."""

    def __init__(
        self, kind: type[Settings], command: str, flags: dict[str, Any], default_folder: Callable[[Settings], Path]
    ):
        self.control = {name: flags.get(name) for name in _CONTROL_FLAGS}
        self.command = command
        self.preset = self.control["preset"]
        self.given = self._given(kind, flags)
        self.config = build_config(kind, self.given)
        self.folder = RunDir(self.control["run_dir"] or default_folder(self.config))
        self.is_taken_up = bool(self.control["resume"]) and self.folder.exists()
        self.is_done = False
        if self.is_taken_up:
            self._take_up(kind)
        elif self.control["resume"]:
            self.say(f"nothing to resume in {self.folder.path}; starting from the beginning")
        elif not self.control["force"] and not self.control["dry_run"]:
            self.folder.refuse_to_overwrite()

    def _given(self, kind: type[Settings], flags: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """(where it is from, settings) of preset, `--config` and flags, the later ones winning."""
        layers = []
        if self.preset:
            layers.append((f"preset {self.preset}", read_preset(self.preset, self.command)))
        if self.control["config"]:
            path = self.control["config"]
            layers.append((f"--config {path}", read_settings(path, self.command)))
        settings = {name: value for name, value in flags.items() if name in kind.model_fields}
        return layers + [(f"--{name.replace('_', '-')}", {name: value}) for name, value in settings.items()]

    def _take_up(self, kind: type[Settings]):
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
        self.is_done = self.folder.is_finished() and self.config.epochs == stored.epochs

        old, new = stored.model_dump(), self.config.model_dump()
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

    def say(self, line: str):
        """Prints a line, as a comment where the output of a dry run is YAML."""
        print(f"# {line}" if self.control["dry_run"] else line, flush=True)

    def load_plugins(self, *more: Path):
        """Runs the plug-ins: of the folder if the run goes on, else the given ones and `more`."""
        from search_spaces.registry import load_plugin

        for path in self.folder.plugins if self.is_taken_up else (*more, *self.config.plugin):
            plugin = load_plugin(path)
            self.say(f"plug-in {path} was run; it registers {', '.join(plugin.operators)}")

    def mention_unused_plugins(self, operators: Sequence[str], user: str):
        """Says which given plug-ins have no effect, as the space or the genotype uses none of their operators."""
        from search_spaces.registry import load_plugin

        for path in self.config.plugin:
            added = load_plugin(path).operators
            if not set(added) & set(operators):
                self.say(f"note: {user} uses nothing of plug-in {path}, which registers {', '.join(added)}")

    def plan(self, estimate: Callable, subject, least_images: int):
        """The images to run on, or None for a dry run; says what the run will take.

        Raises InputError if the device is not here or the data have too few images for the settings.
        """
        import torch

        from nas.data import load_data, summarize_data
        from nas.device import resolve_device
        from nas.loop import readable_time

        resolve_device(self.config.device)
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        source = self.config.data, self.config.image_size
        summary = summarize_data(*source)
        for name, least in (("train_images", least_images), ("test_images", 1)):
            has, asked = getattr(summary, name), getattr(self.config, name, None)
            if has < least:
                raise InputError(f"{self.config.data} has {has} {name}; at least {least} are needed")
            if asked is not None and not least <= asked <= has:
                raise InputError(f"{name} is {asked}; {self.config.data} has {has}, give {least} to that")
        data = None if self.control["dry_run"] else load_data(*source)
        expected = estimate(self.config, subject, summary)
        amount = f"{readable_time(expected.seconds)} and {expected.memory_bytes / 1e9:.1f} GB of memory"
        if expected.memory is not None:  # decided once, kept with the run
            self.config = self.config.model_copy(update={"memory": expected.memory})
            amount += f" at its peak (--memory {expected.memory})"
        if self.control["dry_run"]:
            print(config_to_yaml(self.config), end="")
            self.say(f"run folder: {self.folder.path}")
            self.say(f"estimate: {amount}, {expected.disk_bytes / 1e6:.0f} MB on disk")
        else:
            hint = "; --preset quick takes minutes" if expected.seconds > LONG_RUN_SECONDS else ""
            self.say(f"this run will take about {amount} here{hint}")
        return data

    def begin(self, data, operators: Sequence[str], space=None, genotype: Genotype | None = None) -> bool:
        """Makes the folder ready; returns whether there is a checkpoint to go on from."""
        from search_spaces.registry import load_plugin, plugins_of

        path = self.folder.path
        if self.is_taken_up and self.folder.load_checkpoint("cpu") is not None:  # damaged: refused before any change
            self.folder.check_data(data.fingerprint)
            self.folder.extend(config_to_yaml(self.config))
            return True
        if self.is_taken_up and self.folder.is_finished():
            raise InputError(f"{path} is finished and has no checkpoint to go on from; start anew with --force")
        if self.is_taken_up:
            self.say(f"{path} has no checkpoint; starting from the beginning")
        plugins = dict.fromkeys((*map(load_plugin, self.config.plugin), *plugins_of(operators)))
        self.folder.create(config_to_yaml(self.config), data.fingerprint, tuple(plugins), space, genotype)
        return False

    def carry_out(self, body: Callable[[StopRequest], Any]) -> Any:
        """Calls `body`; if a signal or the clock ends it early, says how to go on."""
        try:
            with StopRequest(self.config.stop_after) as stop:
                return body(stop)
        except Stopped:
            start = _program(self.command)
            print(f"saved; go on with: {start} --run-dir {_quoted(self.folder.path)} --resume", file=sys.stderr)
            raise


def _program(command: str) -> str:
    """How to call "search" or "train": as a file if this program was called so, else by its entry point."""
    file, entry_point = _PROGRAMS[command]
    called = Path(sys.argv[0])
    is_file = called.name in (name for name, _ in _PROGRAMS.values())
    return f"python {_quoted(called.with_name(file))}" if is_file else entry_point


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def _search(argv: Sequence[str] | None) -> int:
    parser = settings_parser("search.py", "Search for a cell by differentiable architecture search.", SearchConfig)
    asked = Run(SearchConfig, "search", parser.parse(argv), _search_folder)
    config, run = asked.config, asked.folder
    if asked.is_done:
        asked.say(f"{run.path} is finished; its genotype is {run.genotype}")
        return 0

    from nas.estimate import estimate_search
    from nas.search import run_search
    from search_spaces.space import load_space

    asked.load_plugins()
    space = load_space(run.space if asked.is_taken_up else config.space)
    if asked.is_taken_up and asked.names("space") and replace(load_space(config.space), name=space.name) != space:
        raise InputError(f"space {config.space} is not what it was when {run.path} was begun: {run.space}")
    asked.mention_unused_plugins(space.operators, f"space {space.name}")
    data = asked.plan(estimate_search, space, least_images=4)  # two for the weights, two for the alphas
    if data is None:
        return 0
    config = asked.config  # with the memory decided
    resume = asked.begin(data, space.operators, space=space)
    genotype = asked.carry_out(lambda stop: run_search(config, space, data, run, resume=resume, stop=stop))

    print(f"genotype  {run.genotype}")
    print(f"pictures  {run.diagrams / 'normal.svg'}, {run.diagrams / 'reduce.svg'} (and .png)")
    if space.edges_per_node == 2:
        print(f"printed   {genotype.to_notation()}")
    print(f"next      {_training_command(asked)}")
    return 0


def _search_folder(config: SearchConfig) -> Path:
    """runs/search/<space>/seedN; a space in a YAML file goes by the name it has there."""
    name = config.space
    if name.endswith((".yaml", ".yml")):
        from search_spaces.registry import load_plugin
        from search_spaces.space import load_space

        for plugin in config.plugin:
            load_plugin(plugin)
        name = load_space(name).name
    return Path("runs", "search", _file_name(name), f"seed{config.seed}")


def _training_command(search: Run) -> str:
    """What to type to train the cell that a search found, on the same data."""
    preset = search.preset
    usual = build_config(TrainConfig, [(preset, read_preset(preset, "train"))] if preset else [])
    words = [_program("train"), _quoted(search.folder.path)]
    if preset:
        words += ["--preset", preset]
    for name in ("data", "image_size"):
        value = getattr(search.config, name)
        if value not in (getattr(usual, name), None):
            words += [f"--{name.replace('_', '-')}", _quoted(str(value))]
    if search.config.flip not in (usual.flip, None):
        words.append("--flip" if search.config.flip else "--no-flip")
    return " ".join(words)


def _train(argv: Sequence[str] | None) -> int:
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
    argument = flags.get("genotype")
    if argument is None and not (flags.get("resume") and "run_dir" in flags and RunDir(flags["run_dir"]).exists()):
        argument, reason = _default_genotype()
        print(f"{'# ' if flags.get('dry_run') else ''}training {argument}: {reason}", flush=True)
    asked = Run(
        TrainConfig, "train", flags, lambda config: Path("runs", "train", genotype_name(argument), f"seed{config.seed}")
    )
    config, run = asked.config, asked.folder
    if asked.is_done:
        asked.say(f"{run.path} is finished; its test error is {run.result()['test_error_percent']:.2f} %")
        return 0

    from cells.network import check_operators
    from nas.estimate import estimate_training
    from nas.train import run_training

    asked.load_plugins(*_plugins_beside(argument))
    genotype = load_genotype(run.genotype if asked.is_taken_up else argument)
    if asked.is_taken_up and argument is not None and load_genotype(argument) != genotype:
        raise InputError(f"{argument} is not the genotype {run.path} was begun with: {run.genotype}")
    check_operators(genotype)
    asked.mention_unused_plugins(genotype.operators, "the genotype")
    data = asked.plan(estimate_training, genotype, least_images=2)
    if data is None:
        return 0
    resume = asked.begin(data, genotype.operators, genotype=genotype)
    result = asked.carry_out(lambda stop: run_training(config, genotype, data, run, resume=resume, stop=stop))

    print(f"test error {result['test_error_percent']:.2f} % on {result['test_images']} images of {result['data']}")
    print(f"parameters {result['parameters'] / 1e6:.3f} M, multiply-adds {result['madds'] / 1e6:.1f} M")
    print(f"weights    {run.weights}")
    print(f"result     {run.path / 'result.json'}")
    return 0


def _default_genotype() -> tuple[str, str]:
    """(GENOTYPE argument, why) where none was given."""
    finished = finished_searches(Path("runs"))
    if finished:
        return str(finished[-1].path), "the newest finished search under runs/"
    return "darts_v2", "no finished search under runs/, so DARTS' published cell"


def _plugins_beside(argument: str | None) -> tuple[Path, ...]:
    """The plug-ins of the search that found a genotype, if the argument is its run folder or the file in it."""
    path = _existing(argument or "")
    if path is not None and path.name == "genotype.json":
        path = path.parent
    return RunDir(path).plugins if path is not None and path.is_dir() else ()


def genotype_name(argument: str) -> str:
    """What its run is called: the published name, the search's folder, the file's name, or a hash of the text."""
    path = _existing(argument)
    if path:
        path = path.resolve()
        folder = path.parent if path.name == "genotype.json" else path
        name = f"{folder.parent.name}-{folder.name}" if folder.is_dir() else path.stem
    elif "(" in argument or "{" in argument:
        name = f"genotype-{sha256(argument.encode()).hexdigest()[:8]}"
    else:
        name = argument.lower()
    return _file_name(name)


def _existing(argument: str) -> Path | None:
    """The file or folder that a GENOTYPE argument names, if it does; a published name comes first."""
    is_path = argument.lower() not in published_genotypes() and os.path.exists(argument)
    return Path(argument) if is_path else None


def _file_name(name: str) -> str:
    """A name for one folder: nothing in it leads elsewhere."""
    name = "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in name)
    return name.strip(".") or "unnamed"
