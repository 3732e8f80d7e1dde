"""argv -> flags, and a user's mistake -> one line on standard error and exit status 2."""

import argparse
import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nas import parallel
from nas.config import PRESETS, Settings
from nas.interrupt import Stopped
from search_spaces.errors import InputError, suggest


def run_command(command: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None) -> int:
    """Runs a command; a mistake in what was given, or a want of disk or memory, becomes one line and exit status 2."""
    try:
        if not parallel.is_first():
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                return command(argv) or 0
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
    from search_spaces.registry import loaded_plugins

    plugins = {os.path.abspath(plugin.path): plugin.path for plugin in loaded_plugins()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in plugins:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return f"plug-in {plugins[frame.filename]}, line {frame.lineno}: {said}"
    return ""


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
