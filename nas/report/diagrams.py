"""The pictures of the cell that a search would choose now, in its folder after every epoch."""

from cells.pictures.figure import draw_genotype
from cells.pictures.rendering import find_renderers
from nas.loop.listener import Listener
from nas.run.folder import RunDir

FORMATS = ("svg", "png")


def check_diagrams() -> None:
    """Raises InputError if nothing here draws them."""
    for file_format in FORMATS:
        find_renderers(file_format)


class Diagrams(Listener):
    """Draws the genotype that is in a search's folder."""

    def __init__(self, run: RunDir):
        self.run = run

    def epoch_ended(self) -> None:
        draw_genotype(self.run.read_genotype(), self.run.diagrams, FORMATS)

    def ended(self) -> None:
        if self.run.result()["genotype_after_epochs"] != self.run.result()["epochs_run"]:  # that of an earlier epoch
            self.epoch_ended()
