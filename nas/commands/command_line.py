"""argv -> flags, and a user's mistake -> one line on standard error and exit status 2."""

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nas.config import PRESETS, Settings
from nas.experiment.request import Config, Request, settings_layers
from nas.run.exit_status import exit_status
from search_spaces.errors import InputError, suggest


def command(action: Callable[[Sequence[str] | None], int | None]) -> Callable[..., int]:
    """Makes a function of argv a command: called with None, it reads the program's; it returns the exit status."""

    @functools.wraps(action)
    def run(argv: Sequence[str] | None = None) -> int:
        return exit_status(lambda: action(argv))

    return run


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with a guess at a misspelt flag."""

    def __init__(self, **options: Any):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**options | {"allow_abbrev": False, "formatter_class": formatter})

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """The flags that were given, by name."""
        known, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            guess = suggest(unknown[0].split("=")[0], flags)
            raise InputError(f"unknown argument {unknown[0]}{guess} see {self.prog} --help for all")
        return vars(known)


def request_from(
    flags: dict[str, Any], kind: type[Config], default_folder: Callable[[Config], Path], **about: Any
) -> Request[Config]:
    """What the flags of a `settings_parser` ask for; in a dry run, all that is said is a comment in its YAML."""
    settings = {name: value for name, value in flags.items() if name in kind.model_fields}
    layers = settings_layers(kind.command, flags.get("preset"), flags.get("config"), settings)
    about |= {name: bool(flags.get(name)) for name in ("resume", "force", "dry_run")}
    comment = "# " if about["dry_run"] else ""
    about |= {"preset": flags.get("preset"), "say": lambda line: print(f"{comment}{line}", flush=True)}
    folder = flags.get("run_dir") or default_folder(Request(kind, layers).config)
    return Request(kind, layers, folder, **about)


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
        text = ((field.description or "") + default).replace("%", "%%")
        if isinstance(field.default, bool) or name in ("flip", "compile"):
            settings.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        elif field.default == ():
            settings.add_argument(flag, action="append", metavar="FILE.py", help=text)
        else:
            settings.add_argument(flag, metavar=name.upper(), help=text)
    return parser
