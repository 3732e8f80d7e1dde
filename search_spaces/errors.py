"""The one exception for a user's mistake, and the guess at what was meant."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A mistake in what the user gave.

    Its message is the one line they see: what was given, what is allowed, what to do. The commands print it on
    standard error and exit with status 2.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the closest of `known`, or nothing if none is close."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
