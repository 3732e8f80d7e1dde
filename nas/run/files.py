"""Files that are whole or not there: written beside their place, synced, then renamed over it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Replaces `path` by `content` so that a reader, or a crash at any instant, finds the old file or the new one.

    With `keep`, the old one is renamed to that; a crash between the two renames leaves it there alone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(temporary, "wb", content.encode() if isinstance(content, str) else content)
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Adds a line to a text file; it is on the disk when this returns."""
    with _named(path):
        _write(path, "ab", f"{line}\n".encode())


def _write(path: Path, mode: str, content: bytes) -> None:
    with open(path, mode) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Inside, an error of the file system says which file it is about, as that of a full disk does not by itself."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, where the system lets a folder be opened (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
