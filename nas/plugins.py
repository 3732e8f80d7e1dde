"""Plug-ins are code: whoever names one, or a folder that holds one, is told that it was run."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def load_plugins(paths: Iterable[str | Path], say: Callable[[str], None] | None = None) -> None:
    """Runs these files; `say` is told of each, or else the user, on standard error, apart from what is printed.

    Raises InputError for a file that is no plug-in.
    """
    from search_spaces.registry import load_plugin  # which imports torch, and --help does not wait for that

    for path in paths:
        line = f"plug-in {path} was run; it registers {', '.join(load_plugin(path).operators)}"
        if say is None:
            print(line, file=sys.stderr)
        else:
            say(line)
