"""The one exception for a user's mistake, and how its message shows what was given and guesses what was meant."""

import difflib
import reprlib
from collections.abc import Iterable

LONGEST_MESSAGE = 2000

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


class InputError(ValueError):
    """A mistake in what the user gave.

    Its message is the one line they see: what was given, what is allowed, what to do. The commands print it on
    standard error and exit with status 2. Of a message beyond 2,000 characters the middle is left out.
    """

    def __init__(self, message: str):
        line = " ".join(str(message).split())
        if len(line) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2 - 2
            line = f"{line[:half]} … {line[-half:]}"
        super().__init__(line)

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython shows in the place of a traceback."""
        return [f"InputError: {self}"]


def shown(value: object) -> str:
    """`repr(value)` of a bounded length, for a message about a value of any size and kind."""
    try:
        return _repr.repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number of thousands of digits"


def check_known(what: str, name: object, known: Iterable[str], where: str = "", more: str = "") -> None:
    """Raises InputError unless `name` is one of `known`; it says what they are, and which one is closest."""
    known = tuple(known)
    if name not in known:
        given = name if isinstance(name, str) else shown(name)
        raise InputError(f'{where}unknown {what} "{given}"{suggest(given, known)} known: {", ".join(known)}{more}')


def suggest(name: str, known: Iterable[str]) -> str:
    """What goes between a mistake and what is allowed: `; did you mean "x"?` if one of `known` is close, else `;`."""
    close = difflib.get_close_matches(name[:100], list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ";"
