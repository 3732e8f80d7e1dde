"""Ends a run after its current step, when a signal asks for it or its time is up."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from nas.machine import processes

TIME_IS_UP = 75  # EX_TEMPFAIL: try again later
SIGNALLED = 128  # and the signal's number


class Stopped(Exception):
    """The run saved itself before its end; `status` is the exit status that says why."""

    def __init__(self, status: int):
        super().__init__(f"stopped with status {status}")
        self.status = status


class StopRequest:
    """Asked after every step. As a context manager it listens to SIGINT, SIGTERM and SIGUSR1.

    The first signal lets the step end and the run save itself; a second one has its usual effect at once. Python tells
    the main thread alone of signals, so in another one only the time counts. Several processes of one run stop at the
    same step; torchrun, which passes signals on once more, ends them if they do not.
    """

    def __init__(self, minutes: float | None = None):
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                number = getattr(signal, name)
                self._previous[number] = signal.signal(number, self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _listen(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
        with suppress(OSError):  # os.write: print could be what the signal interrupted
            if processes.is_first():
                os.write(2, b"\nstopping after this step; once more to stop at once, without saving\n")
        for listened in self._previous if processes.size() == 1 else ():
            signal.signal(listened, signal.SIG_DFL)

    def check(self, save: Callable[[], None]) -> None:
        """Calls `save()` and raises Stopped if a stop was asked for."""
        status = 0
        if self._signal is not None:
            status = SIGNALLED + self._signal
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            status = TIME_IS_UP
        status = processes.largest(status)
        if status:
            save()
            raise Stopped(status)
