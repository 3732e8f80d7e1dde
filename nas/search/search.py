"""The search: per step the alphas first, then the weights (DARTS, algorithm 1); per epoch what the alphas now mean."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cells.costs import network_costs
from cells.discretization import discretize
from cells.genotype import KINDS, Genotype
from nas.config import SearchConfig
from nas.data.batches import Batch, Batches
from nas.data.image_data import ImageData
from nas.loop.epochs import Epochs, run_epochs
from nas.loop.listener import Listener
from nas.loop.not_finite import find_trouble
from nas.machine import processes
from nas.machine.cuda_graph import as_graph
from nas.machine.device import arithmetic, resolve_device
from nas.run.record import InMemory, Record
from nas.run.stop import StopRequest
from nas.run.upgrade import cells_by_epoch
from nas.search.bilevel import SearchState, bilevel_step
from nas.search.collapse import (
    AlphaHessian,
    check_early_stop,
    epoch_before_collapse,
    epochs_between_eigenvalues,
    mean_entropy,
    skip_connections,
)
from nas.search.strategies import strategy_of
from search_spaces.space import SearchSpace


class Search(Epochs[SearchState, SearchConfig]):
    """The epochs of a search, and what is recorded of each."""

    def __init__(self, config: SearchConfig, space: SearchSpace, data: ImageData, record: Record | None = None):
        device = resolve_device(config.device)
        self.config, self.space, self.device = config, space, device
        self.record: Record = InMemory() if record is None else record
        self.strategy = strategy_of(config)
        self.data = data.first(config.train_images, None).to(device)
        weight_images, weight_labels, alpha_images, alpha_labels = self.data.search_halves()
        self.weight_batches = Batches(weight_images, weight_labels, self.data, config, "weights")
        self.alpha_batches = Batches(alpha_images, alpha_labels, self.data, config, "alphas")
        self.steps = self.weight_batches.steps
        self.state = SearchState(config, space, len(data.classes), device)
        self.whole_step = as_graph(self._tensor_step, config, device)
        self.rows: list[dict[str, Any]] = []  # of metrics.jsonl
        self.cells: dict[int, Genotype] = {}  # by epoch

    def resume(self) -> None:
        """Goes on from the record's checkpoint, if it has one."""
        self.state.resume_from(self.record)
        recorded = self.record.rows("metrics"), cells_by_epoch(self.record, self.space)
        self.rows, self.cells = processes.from_first(recorded)

    def _tensor_step(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        validation_images: torch.Tensor,
        validation_labels: torch.Tensor,
        learning_rate: float | torch.Tensor,
    ) -> torch.Tensor:
        validation = validation_images, validation_labels
        return bilevel_step(self.state, (images, labels), validation, self.config, learning_rate)

    def _batches(self, epoch: int, step: int) -> tuple[Batch, Batch]:
        """One to train the weights, one to train the alphas."""
        return self.weight_batches.shuffled(epoch, step), self.alpha_batches.drawn(epoch, step)

    def train_step(self, epoch: int, step: int) -> torch.Tensor:
        train, validation = map(processes.share, self._batches(epoch, step))
        return self.whole_step(*train, *validation, self.learning_rate(epoch))

    def find_trouble(self, epoch: int, step: int) -> str:
        return find_trouble(self.state.supernet, self._batches(epoch, step))

    def end_epoch(self, epoch: int, sums: list[float], seconds: float) -> str:
        tables = [alphas.detach().cpu() for alphas in self.state.supernet.alphas()]
        weights = [self.strategy.relax(table) for table in tables]
        found_by, rule = self._found_by(epoch + 1), self.strategy.selection
        genotype = discretize(weights[0], weights[1], self.space, found_by, rule)
        skips = [skip_connections(cell) for cell in genotype.cells.values()]
        entropies = [mean_entropy(table) for table in weights]
        row = {
            "epoch": epoch,
            "learning_rate": self.learning_rate(epoch),
            "train_loss": sums[0] / sums[2],
            "train_error_percent": 100 * sums[1] / sums[2],
            "validation_loss": sums[3] / sums[5],
            "validation_error_percent": 100 * sums[4] / sums[5],
            "normal_skip_connections": skips[0],
            "reduce_skip_connections": skips[1],
            "normal_entropy": entropies[0],
            "reduce_entropy": entropies[1],
        }
        said = f", skips {skips[0]} + {skips[1]}, entropy {entropies[0]:.3f} + {entropies[1]:.3f}"
        every = epochs_between_eigenvalues(self.config)
        if every and (epoch + 1) % every == 0:
            start = time.perf_counter()
            row["dominant_eigenvalue"] = self._dominant_eigenvalue(epoch)
            seconds += time.perf_counter() - start
            said += f", eigenvalue {row['dominant_eigenvalue']:.4g}"
        row["seconds"] = round(seconds, 3)
        self.rows.append(row)
        self.cells[epoch] = genotype
        alphas = {kind: table.tolist() for kind, table in zip(KINDS, tables, strict=True)}
        self.record.append("alphas", {"epoch": epoch, **alphas})
        self.record.append("cells", {"epoch": epoch, **genotype.cells_as_json()})
        self.record.append("metrics", row)
        self.record.write_genotype(genotype)
        before = self.epoch_before_collapse()
        return said if before is None else f"{said}, which rises: stopping, with the cell of epoch {before + 1}"

    def _dominant_eigenvalue(self, epoch: int) -> float:
        hessian = AlphaHessian(self.state.supernet, self.config.channels, self.config.layers, len(self.data.classes))
        found = hessian.dominant_eigenvalue(self.alpha_batches.drawn(epoch, self.steps))  # no step draws this batch
        return processes.from_first(found)

    def epoch_before_collapse(self) -> int | None:
        """The epoch whose alphas are taken instead of the last ones, if the settings ask for RobustDARTS' rule."""
        named = [(row["epoch"], row["dominant_eigenvalue"]) for row in self.rows if "dominant_eigenvalue" in row]
        return epoch_before_collapse(named) if self.config.early_stop else None

    def is_over(self) -> bool:
        return self.epoch_before_collapse() is not None

    def _found_by(self, epochs: int) -> dict[str, Any]:
        """What a genotype says of the search that found it, after so many epochs."""
        return {
            "seed": self.config.seed,
            "order": self.config.order,
            "epochs": epochs,
            "data": self.data.name,
            "train_images": len(self.data.train_images),
            "image_size": self.data.image_size,
            "channels": self.config.channels,
            "layers": self.config.layers,
        }

    def found(self) -> Genotype:
        """The cell of the last epoch, or of before a collapse; the record has it from now on."""
        before = self.epoch_before_collapse()
        epoch = max(self.cells) if before is None else before
        genotype = replace(self.cells[epoch], found_by=self._found_by(epoch + 1))
        if before is not None:
            self.record.write_genotype(genotype)
        return genotype


def run_search(
    config: SearchConfig,
    space: SearchSpace,
    data: ImageData,
    record: Record | None = None,
    *,
    listeners: Sequence[Listener] = (),
    resume: bool = False,
    stop: StopRequest | None = None,
    progress: bool = True,
) -> Genotype:
    """Searches and returns the genotype of the alphas after the last epoch, or of before a collapse.

    Each epoch writes its metrics, alphas, cell, genotype and a checkpoint into the record (a `RunDir` that was begun
    before, or nothing that is kept), and the end its result. `resume` goes on from its checkpoint if there is one.
    """
    check_early_stop(config)
    search = Search(config, space, data, record)
    if resume:
        search.resume()
    with arithmetic(config.precision, config.deterministic, search.device):
        run_epochs(search, search.record, listeners, stop, progress)
    genotype = search.found()
    row = search.rows[-1]
    search.record.finish(
        {
            "space": space.name,
            "seed": config.seed,
            "order": config.order,
            "epochs": config.epochs,
            "epochs_run": row["epoch"] + 1,
            "genotype_after_epochs": genotype.found_by["epochs"],
            "data": search.data.name,
            "data_fingerprint": search.data.fingerprint,
            "train_images": len(search.data.train_images),
            "image_size": search.data.image_size,
            "device": str(search.device),
            "train_error_percent": row["train_error_percent"],
            "validation_error_percent": row["validation_error_percent"],
            "network_36_channels_20_layers": network_costs(genotype)._asdict(),
            "seconds": round(sum(row["seconds"] for row in search.rows), 1),
        }
    )
    for listener in listeners:
        listener.ended()
    return genotype
