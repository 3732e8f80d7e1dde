"""A run's measurements as TensorBoard reads them, after each epoch: `tensorboard --logdir runs`.

    metrics/<key>                          every number of metrics.jsonl, under its key
    <cell> <source> to <target>/<operator> the softmax weight of an operator on an edge, one group an edge
    cells                                  (Images) both cells, with a slider over the epochs

Under Custom Scalars, curves that are compared share a chart: losses, errors, the operators of an edge. The step is the
epoch, from 0 as in metrics.jsonl; the time is that of the run's beginning and the seconds it has computed since.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cells.genotype import KINDS, Genotype
from cells.pictures.diagram import node_name
from nas.config import Settings
from nas.loop.listener import Listener
from nas.report.animation import cells_frame
from nas.report.rows import checked_cells, operator_weights
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space

if TYPE_CHECKING:  # an optional package writes the files
    from torch.utils.tensorboard import SummaryWriter

CHARTS = {  # of metrics that are compared
    "loss": ("train_loss", "validation_loss"),
    "error in percent": ("train_error_percent", "validation_error_percent"),
    "entropy of the alphas in nats": ("normal_entropy", "reduce_entropy"),
    "skip connections": ("normal_skip_connections", "reduce_skip_connections"),
}


def check_tensorboard(config: Settings) -> None:
    """Raises InputError if the settings ask for TensorBoard's files and the package that writes them is not here."""
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard; pip install tensorboard, or leave it out")


class Curves(Listener):
    """TensorBoard's event files of a run.

    The first write of a process removes those that an earlier one has left and writes all rows anew: so no epoch is
    missing or there twice, however the run was stopped, and also if it was begun without TensorBoard.
    """

    def __init__(self, run: RunDir):
        self.run, self.space = run, load_space(run.space) if run.is_search() else None
        self.writer: SummaryWriter | None = None
        self.written = 0

    def begun(self) -> None:
        self.epoch_ended()

    def epoch_ended(self) -> None:
        """Writes the epochs that are not yet written; on the disk when it returns."""
        rows = self.run.rows("metrics")
        if len(rows) == self.written:
            return
        writer = self.writer = self.writer or self._open(rows[0])
        began = self.run.environment.stat().st_mtime
        alphas = {} if self.space is None else operator_weights(self.run, self.space)
        cells = {} if self.space is None else checked_cells(self.run, self.space)
        for number in range(self.written, len(rows)):
            time, epoch = began + sum(row["seconds"] for row in rows[: number + 1]), rows[number]["epoch"]
            _write_metrics(writer, rows[number], time)
            if self.space is not None:
                _write_cells(writer, self.space, epoch, cells[epoch], alphas[epoch], time)
        self.written = len(rows)
        writer.flush()

    def _open(self, row: dict[str, Any]) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        for file in self.run.tensorboard.glob("events.out.tfevents.*"):
            file.unlink()
        writer = SummaryWriter(self.run.tensorboard)
        writer.add_custom_scalars(_layout(row, self.space))
        return writer


def _layout(row: dict[str, Any], space: SearchSpace | None) -> dict[str, dict[str, list]]:
    """What Custom Scalars shows in one chart, of the metrics that a run has and of its edges."""
    metrics = {title: [f"metrics/{key}" for key in keys if key in row] for title, keys in CHARTS.items()}
    layout = {"metrics": {title: _chart(tags) for title, tags in metrics.items() if tags}}
    if space is not None:
        for cell in KINDS:
            layout[f"{cell} cell"] = {
                group: _chart([f"{group}/{operator}" for operator in space.operators])
                for group in _edge_groups(space, cell)
            }
    return layout


def _edge_groups(space: SearchSpace, cell: str) -> list[str]:
    return [f"{cell} {node_name(source)} to {node_name(target)}" for source, target in space.edges]


def _write_metrics(writer: "SummaryWriter", row: dict[str, Any], time: float) -> None:
    for key, value in row.items():
        if key != "epoch":
            writer.add_scalar(f"metrics/{key}", value, row["epoch"], time)


def _write_cells(
    writer: "SummaryWriter",
    space: SearchSpace,
    epoch: int,
    genotype: Genotype,
    weights: Mapping[str, np.ndarray],
    time: float,
) -> None:
    for cell in KINDS:
        for group, row in zip(_edge_groups(space, cell), weights[cell].tolist(), strict=True):
            for operator, weight in zip(space.operators, row, strict=True):
                writer.add_scalar(f"{group}/{operator}", weight, epoch, time)
    picture = cells_frame(space, genotype, weights, f"epoch {epoch + 1}")
    writer.add_image("cells", np.asarray(picture), epoch, time, dataformats="HWC")


def _chart(tags: Sequence[str]) -> list:
    """One chart of these curves; TensorBoard takes them for regular expressions, and for beginnings of tags."""
    return ["Multiline", [f"{re.escape(tag)}$" for tag in tags]]
