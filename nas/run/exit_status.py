"""A user's mistake, a signal, a full disk -> one line on standard error and an exit status."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable

from nas.machine import processes
from nas.run.stop import Stopped
from search_spaces.errors import InputError


def exit_status(action: Callable[[], int | None]) -> int:
    """Of what a command does; a mistake in what was given, or a want of disk or memory, is one line and status 2."""
    try:
        if not processes.is_first():
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                return action() or 0
        return action() or 0
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
    from search_spaces.plugins import loaded_plugins  # which imports torch, and --help does not wait for that

    plugins = {os.path.abspath(plugin.path): plugin.path for plugin in loaded_plugins()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in plugins:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            return f"plug-in {plugins[frame.filename]}, line {frame.lineno}: {said}"
    return ""
