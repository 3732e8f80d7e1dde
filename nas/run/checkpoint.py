"""Files that are whole or not there: written beside their place, synced, then renamed over it.

A checkpoint ends with a SHA-256 of its content, as the comment that a ZIP file may have, so it is still a file that
torch.load reads. torch is imported where it is needed: a run folder can be looked at without it.
"""

import io
from hashlib import sha256
from pathlib import Path
from typing import Any

from nas.run.files import write_atomically
from search_spaces.errors import InputError

_CHECKSUM = b"sha256:"
_CHECKSUM_LENGTH = len(_CHECKSUM) + 64


def save_checkpoint(path: Path, state: dict[str, Any], keep: Path | None = None) -> None:
    """Saves tensors, numbers, strings and containers of them; the file before stays until this one is whole.

    With `keep`, the file before goes there if it is whole: at any instant, one of the two is.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, _signed(buffer.getvalue()), keep if keep is not None and _is_whole(path) else None)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` saved, on the CPU. No code in the file is run. Raises InputError if it is damaged."""
    import torch

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        _check_signature(content)
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        first_line = str(error).strip().split("\n")[0][:120]
        raise InputError(
            f"checkpoint {path} is damaged or not a checkpoint ({first_line}); start anew with --force"
        ) from None


def _signed(archive: bytes) -> bytes:
    """A ZIP file without a comment, and the checksum of all before as its comment."""
    body = archive[:-2]  # what follows is the length of the comment
    comment = _CHECKSUM + sha256(body).hexdigest().encode()
    return body + len(comment).to_bytes(2, "little") + comment


def _is_whole(path: Path) -> bool:
    try:
        _check_signature(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _check_signature(content: bytes) -> None:
    comment, body = content[-_CHECKSUM_LENGTH:], content[: -_CHECKSUM_LENGTH - 2]
    if not comment.startswith(_CHECKSUM):
        raise ValueError("it does not end with its checksum")
    if comment != _CHECKSUM + sha256(body).hexdigest().encode():
        raise ValueError("its checksum is that of another content")
