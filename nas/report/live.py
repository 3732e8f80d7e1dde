"""The report of a run that goes on: made again after an epoch, to be watched, and never in the run's way."""

import sys
import time

from tqdm import tqdm

from nas.loop.listener import Listener
from nas.report import page
from nas.run.folder import RunDir

SHARE = 0.1  # of the run's time at most; where an epoch takes less than ten reports, some are left out


class LiveReport(Listener):
    """Writes report.html into a run's folder. What goes wrong is said in one line, once, and the run goes on."""

    def __init__(self, run: RunDir):
        self.run = run
        self.seconds = 0.0  # that the last one took
        self.written = -float("inf")  # when it was
        self.said = ""

    def epoch_ended(self) -> None:
        """Writes the report unless it would take more than its share of the time."""
        if time.perf_counter() - self.written >= self.seconds * (1 / SHARE - 1):
            self.ended()

    def ended(self) -> None:
        start = time.perf_counter()
        try:
            page.write_report(self.run)
        except Exception as error:  # whatever it is, hours of computing weigh more than a page
            self._say(f"note: {self.run.report} was not written ({type(error).__name__}: {error})")
        self.written = time.perf_counter()
        self.seconds = self.written - start

    def _say(self, message: str) -> None:
        line = " ".join(message.split())
        if line != self.said:
            tqdm.write(line, file=sys.stderr)
        self.said = line
