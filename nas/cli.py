"""The two commands: argv -> checked settings -> one call -> what to look at and what to type next."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from cells.genotype import Genotype, load_genotype
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
from nas.run_dir import RunDir
from search_spaces.errors import InputError, suggest

LONG_RUN_SECONDS = 3600
_CONTROL_FLAGS = ("preset", "config", "run_dir", "resume", "force", "dry_run")


def search(argv: Sequence[str] | None = None) -> int:
    """`python search.py`: returns the exit status."""
    return run_command(_search, argv)


def train(argv: Sequence[str] | None = None) -> int:
    """`python train_genotype.py`: returns the exit status."""
    return run_command(_train, argv)


def run_command(command: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None) -> int:
    """Runs a command; a user's mistake or a full disk becomes one line on standard error and exit status 2."""
    try:
        return command(argv) or 0
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:
        return _fail("standard output was closed")
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        return _fail(f"cannot read or write{where}: {error.strerror or error}; what was saved before is intact")
    except Stopped as stopped:
        return stopped.status
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)


def _fail(message: str, status: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


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
    running.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    running.add_argument("--force", action="store_true", help="overwrite what an earlier run left in the folder")
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

    def __init__(self, kind: type[Settings], command: str, flags: dict[str, Any], default_folder: Callable):
        self.control = {name: flags.pop(name, None) for name in _CONTROL_FLAGS}
        self.preset = self.control["preset"]
        self.config = self._configure(kind, command, flags)
        self.folder = RunDir(self.control["run_dir"] or default_folder(self.config))
        self.is_taken_up = bool(self.control["resume"]) and self.folder.exists()
        if self.is_taken_up:
            stored = build_config(kind, [(str(self.folder.config), read_settings(self.folder.config, command))])
            self.config = self._configure(kind, command, flags, stored)
            self._check_same(stored, flags.get("plugin", ()))
            self.is_done = self.folder.is_finished() and self.config.epochs == stored.epochs
        else:
            self.is_done = False
            if self.control["resume"]:
                print(f"nothing to resume in {self.folder.path}; starting from the beginning")
            elif not self.control["force"] and not self.control["dry_run"]:
                self.folder.refuse_to_overwrite()

    def _configure(self, kind, command: str, flags: dict[str, Any], stored: Settings | None = None):
        layers = []
        if stored is not None:
            layers.append((str(self.folder.config), stored.model_dump(exclude=set(RUN_CONTROL))))
        if stored is None or self.preset:
            preset = self.preset or "paper"
            layers.append((f"preset {preset}", read_preset(preset, command)))
        if self.control["config"]:
            layers.append((f"--config {self.control['config']}", read_settings(self.control["config"], command)))
        for name, value in flags.items():
            layers.append((f"--{name.replace('_', '-')}", {name: value}))
        return build_config(kind, layers)

    def _check_same(self, stored: Settings, plugins: Sequence[str]):
        """Raises InputError if the run in the folder was begun with other settings; more epochs are allowed."""
        old, new = stored.model_dump(), self.config.model_dump()
        differing = [name for name in old if name not in RUN_CONTROL and old[name] != new[name]]
        if "epochs" in differing and new["epochs"] > old["epochs"]:
            differing.remove("epochs")
        if differing:
            said = ", ".join(f"{name} was {old[name]!r} and is now {new[name]!r}" for name in differing)
            raise InputError(f"{self.folder.path} was begun with other settings: {said}; leave them as they were")
        copies = {sha256(path.read_bytes()).hexdigest() for path in self.folder.plugins}
        for path in plugins:
            if not Path(path).is_file() or sha256(Path(path).read_bytes()).hexdigest() not in copies:
                raise InputError(
                    f"plug-in {path} is not that of {self.folder.path}; leave --plugin out to use its own copy"
                )

    def load_plugins(self, *more: Path):
        """Runs the plug-ins: of the folder if the run goes on, else the given ones and `more`."""
        from search_spaces.registry import load_plugin

        for path in self.folder.plugins if self.is_taken_up else (*more, *self.config.plugin):
            plugin = load_plugin(path)
            print(f"plug-in {path} was run; it registers {', '.join(plugin.operators)}", flush=True)

    def plan(self, estimate: Callable, subject) -> bool:
        """Prints what the run will take if that is hours, or if it is a dry run: then returns False."""
        import torch

        from nas.data import summarize_data
        from nas.loop import readable_time

        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        with torch.random.fork_rng():
            expected = estimate(self.config, subject, summarize_data(self.config.data, self.config.image_size))
        amount = f"{readable_time(expected.seconds)}, {expected.memory_bytes / 1e9:.1f} GB of memory"
        if self.control["dry_run"]:
            print(config_to_yaml(self.config), end="")
            print(f"# run folder: {self.folder.path}")
            print(f"# estimate: {amount}, {expected.disk_bytes / 1e6:.0f} MB on disk")
        elif expected.seconds > LONG_RUN_SECONDS:
            print(f"this run will take about {amount} here; --preset quick takes minutes", flush=True)
        return not self.control["dry_run"]

    def begin(self, data, operators: Sequence[str], space=None, genotype: Genotype | None = None) -> bool:
        """Makes the folder ready; returns whether there is a checkpoint to go on from."""
        from search_spaces.registry import plugins_of

        if self.is_taken_up and self.folder.checkpoint.is_file():
            self.folder.check_data(data.fingerprint)
            self.folder.extend(config_to_yaml(self.config))
            return True
        if self.is_taken_up:
            print(f"{self.folder.path} has no checkpoint; starting from the beginning")
        self.folder.create(config_to_yaml(self.config), data.fingerprint, plugins_of(operators), space, genotype)
        return False

    def carry_out(self, body: Callable[[StopRequest], Any]) -> Any:
        """Calls `body`; if a signal or the clock ends it early, says how to go on."""
        program = sys.argv[0] if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name
        start = f"python {program}" if program.endswith(".py") else program
        try:
            with StopRequest(self.config.stop_after) as stop:
                return body(stop)
        except Stopped:
            print(f"saved; go on with: {start} --run-dir {_quoted(self.folder.path)} --resume", file=sys.stderr)
            raise


def _quoted(path: Path | str) -> str:
    return shlex.quote(str(path))


def _search(argv: Sequence[str] | None) -> int:
    parser = settings_parser("search.py", "Search for a cell by differentiable architecture search.", SearchConfig)
    flags = parser.parse(argv)

    def default_folder(config: SearchConfig) -> Path:
        name = Path(config.space).stem if config.space.endswith((".yaml", ".yml")) else config.space
        return Path("runs", "search", name.replace("/", "_"), f"seed{config.seed}")

    asked = Run(SearchConfig, "search", flags, default_folder)
    config, run = asked.config, asked.folder
    if asked.is_done:
        print(f"{run.path} is finished; its genotype is {run.genotype}")
        return 0

    from nas.data import load_data
    from nas.estimate import estimate_search
    from nas.search import run_search
    from search_spaces.space import load_space

    asked.load_plugins()
    space = load_space(run.space if asked.is_taken_up else config.space)
    if asked.is_taken_up and "space" in flags and load_space(flags["space"]).operators != space.operators:
        raise InputError(f"--space {flags['space']} is not the space {run.path} was begun with: {run.space}")
    if not asked.plan(estimate_search, space):
        return 0
    data = load_data(config.data, config.image_size)
    data.first(config.train_images, None)
    resume = asked.begin(data, space.operators, space=space)
    genotype = asked.carry_out(lambda stop: run_search(config, space, data, run, resume=resume, stop=stop))

    print(f"genotype  {run.genotype}")
    print(f"pictures  {run.diagrams / 'normal.svg'}, {run.diagrams / 'reduce.svg'} (and .png)")
    if space.edges_per_node == 2:
        print(f"printed   {genotype.to_notation()}")
    preset = f" --preset {asked.preset}" if asked.preset else ""
    print(f"next      python train_genotype.py {_quoted(run.path)}{preset}")
    return 0


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
    argument = flags.pop("genotype", None)
    if argument is None and not (flags.get("resume") and flags.get("run_dir")):
        argument, reason = _default_genotype()
        print(f"training {argument}: {reason}", flush=True)
    asked = Run(
        TrainConfig, "train", flags, lambda config: Path("runs", "train", genotype_name(argument), f"seed{config.seed}")
    )
    config, run = asked.config, asked.folder
    if asked.is_done:
        print(f"{run.path} is finished; its test error is {run.result()['test_error_percent']:.2f} %")
        return 0
    if argument is None and not asked.is_taken_up:
        raise InputError(f"{run.path} holds no run to resume; name the genotype to train")

    from cells.network import check_operators
    from nas.data import load_data
    from nas.estimate import estimate_training
    from nas.train import run_training

    asked.load_plugins(*_plugins_beside(argument))
    genotype = load_genotype(run.genotype if asked.is_taken_up else argument)
    if asked.is_taken_up and argument is not None and load_genotype(argument) != genotype:
        raise InputError(f"{argument} is not the genotype {run.path} was begun with: {run.genotype}")
    check_operators(genotype)
    if not asked.plan(estimate_training, genotype):
        return 0
    data = load_data(config.data, config.image_size)
    data.first(config.train_images, config.test_images)
    resume = asked.begin(data, genotype.operators, genotype=genotype)
    result = asked.carry_out(lambda stop: run_training(config, genotype, data, run, resume=resume, stop=stop))

    print(f"test error {result['test_error_percent']:.2f} % on {result['test_images']} images of {result['data']}")
    print(f"parameters {result['parameters'] / 1e6:.3f} M, multiply-adds {result['madds'] / 1e6:.1f} M")
    print(f"weights    {run.weights}")
    print(f"result     {run.path / 'result.json'}")
    return 0


def _default_genotype() -> tuple[str, str]:
    """(GENOTYPE argument, why) where none was given."""
    finished = sorted(Path("runs", "search").glob("*/*/result.json"), key=lambda path: path.stat().st_mtime)
    if finished:
        return str(finished[-1].parent), "the newest finished search under runs/"
    return "darts_v2", "no finished search under runs/, so DARTS' published cell"


def _plugins_beside(argument: str | None) -> tuple[Path, ...]:
    """The plug-ins of the search that found a genotype, if the argument is its run folder or the file in it."""
    if argument is None or len(argument) > 1000:
        return ()
    path = Path(argument)
    return RunDir(path if path.is_dir() else path.parent).plugins if path.exists() else ()


def genotype_name(argument: str) -> str:
    """What its run is called: the published name, the search's folder, the file's name, or a hash of the text."""
    path = Path(argument)
    if len(argument) < 1000 and path.exists():
        path = path.resolve()
        folder = path.parent if path.name == "genotype.json" else path
        name = f"{folder.parent.name}-{folder.name}" if folder.is_dir() else path.stem
    elif "(" in argument or "{" in argument:
        name = f"genotype-{sha256(argument.encode()).hexdigest()[:8]}"
    else:
        name = argument.lower()
    return "".join(letter if letter.isalnum() or letter in "._+-" else "_" for letter in name)
