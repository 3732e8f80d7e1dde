"""One process writes into a run's folder at a time.

It holds a lock on .lock, which the system takes from it when it ends, however it ends; .owner.json says who holds it.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nas.run.begin import refuse_foreign_files
from nas.run.files import write_atomically
from nas.run.folder import RunDir, as_json
from search_spaces.errors import InputError


@contextmanager
def locked(run: RunDir, say: Callable[[str], None]) -> Iterator[None]:
    """Inside, no other process may write into the folder.

    Raises InputError if one does; takes over what a process that is no more has left, and says so.
    """
    refuse_foreign_files(run)
    run.path.mkdir(parents=True, exist_ok=True)
    owner = run.path / ".owner.json"
    with _lock(run):
        if owner.exists():
            say(f"{run.path} was left by {_read_owner(owner)}, which is no more; taking over")
        write_atomically(owner, as_json({"process": os.getpid(), "host": socket.gethostname()}))
        try:
            yield
        finally:
            owner.unlink(missing_ok=True)


def refuse_if_in_use(run: RunDir) -> None:
    """Raises InputError if a process writes into the folder."""
    if (run.path / ".owner.json").exists():
        with _lock(run):
            pass


@contextmanager
def _lock(run: RunDir) -> Iterator[None]:
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = _read_owner(run.path / ".owner.json")
        raise InputError(f"{run.path} is in use by {owner}; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _read_owner(path: Path) -> str:
    """Who holds a lock, for people."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
