"""Retraining: the network of an architecture from scratch, on all training images, tested once after the last epoch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cells.architecture import Architecture, as_architecture
from cells.execution import Execution
from cells.genotype import Genotype
from nas.config import TrainConfig
from nas.data.batches import Batch, Batches
from nas.data.image_data import ImageData
from nas.data.randomness import Draw
from nas.loop.epochs import Epochs, run_epochs
from nas.loop.listener import Listener
from nas.loop.not_finite import find_trouble
from nas.loop.state import RunState
from nas.loop.steps import apply_gradients, batch_sums, error_percent, sgd
from nas.machine import processes
from nas.machine.cuda_graph import as_graph
from nas.machine.device import DTYPES, arithmetic, memory_format, resolve_device
from nas.machine.processes import gradients_of_mean
from nas.machine.sync_batch_norm import synchronize_batch_norm
from nas.run.record import InMemory, Record
from nas.run.stop import StopRequest
from nas.training.weights_file import SavedNetwork


class TrainState(RunState):
    """The network, its optimizer, and where the training stands."""

    def __init__(self, config: TrainConfig, architecture: Architecture, classes: int, device: torch.device):
        torch.manual_seed(Draw(config.seed, "initial weights").number())
        execution = Execution(config.compile is not False, precision=DTYPES[config.precision])
        self.network = architecture.build(config.channels, config.layers, classes, config.auxiliary, execution)
        self.network.to(device).to(memory_format=memory_format(device))
        if config.sync_batch_norm and processes.size() > 1:
            synchronize_batch_norm(self.network)
        self.optimizer = sgd(self.network.parameters(), config, device)
        super().__init__({"network": self.network, "optimizer": self.optimizer}, sums=3, device=device)


def training_step(
    state: TrainState,
    train: Batch,
    config: TrainConfig,
    learning_rate: float | torch.Tensor,
    drop_path_probability: float | torch.Tensor,
) -> torch.Tensor:
    """One step of SGD, in place. Returns `batch_sums`, not finite if a gradient is not, without the auxiliary loss."""
    images, labels = train
    logits, auxiliary_logits = state.network(images, drop_path_probability)
    loss = total = F.cross_entropy(logits, labels)
    if auxiliary_logits is not None:
        total = loss + config.auxiliary_weight * F.cross_entropy(auxiliary_logits, labels)
    parameters = list(state.network.parameters())
    gradients = gradients_of_mean(total, parameters, train, allow_unused=True)  # not all nodes are in the concat
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    norm = apply_gradients(state.optimizer, parameters, gradients, config.gradient_clip)
    return batch_sums(loss, logits, labels) + 0 * norm


class Training(Epochs[TrainState, TrainConfig]):
    """The epochs of a retraining, and what is recorded of each."""

    def __init__(self, config: TrainConfig, architecture: Architecture, data: ImageData, record: Record | None = None):
        self.config, self.device = config, resolve_device(config.device)
        self.record: Record = InMemory() if record is None else record
        data = data.first(config.train_images, None if config.hold_out else config.test_images)
        self.data = data = data.hold_out(config.hold_out).to(self.device)
        self.batches = Batches(data.train_images, data.train_labels, data, config, "train", config.cutout)
        self.steps = self.batches.steps
        self.state = TrainState(config, architecture, len(data.classes), self.device)
        self.whole_step = as_graph(self._tensor_step, config, self.device)
        self.rows: list[dict[str, Any]] = []  # of metrics.jsonl

    def resume(self) -> None:
        """Goes on from the record's checkpoint, if it has one."""
        self.state.resume_from(self.record)
        self.rows = processes.from_first(self.record.rows("metrics"))

    def _tensor_step(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        learning_rate: float | torch.Tensor,
        drop_path_probability: float | torch.Tensor,
    ) -> torch.Tensor:
        return training_step(self.state, (images, labels), self.config, learning_rate, drop_path_probability)

    def train_step(self, epoch: int, step: int) -> torch.Tensor:
        drop_path_probability = self.config.drop_path * epoch / self.config.epochs
        images, labels = processes.share(self.batches.shuffled(epoch, step))
        return self.whole_step(images, labels, self.learning_rate(epoch), drop_path_probability)

    def find_trouble(self, epoch: int, step: int) -> str:
        return find_trouble(self.state.network, [self.batches.shuffled(epoch, step)])

    def end_epoch(self, epoch: int, sums: list[float], seconds: float) -> str:
        self.rows.append(
            {
                "epoch": epoch,
                "learning_rate": self.learning_rate(epoch),
                "train_loss": sums[0] / sums[2],
                "train_error_percent": 100 * sums[1] / sums[2],
                "seconds": round(seconds, 3),
            }
        )
        self.record.append("metrics", self.rows[-1])
        return ""


def run_training(
    config: TrainConfig,
    architecture: Genotype | Architecture,
    data: ImageData,
    record: Record | None = None,
    *,
    listeners: Sequence[Listener] = (),
    resume: bool = False,
    stop: StopRequest | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Trains an architecture's network and returns its result; the test images are read once, after the last epoch.

    The result: test error of the last epoch, parameters with and without the auxiliary head, multiply-adds, seconds.
    Each epoch writes metrics and a checkpoint into the record (a `RunDir` that was begun before, or nothing that is
    kept), the end the weights and the result.
    """
    architecture = as_architecture(architecture)
    training = Training(config, architecture, data, record)
    if resume:
        training.resume()
    data, network = training.data, training.state.network
    with arithmetic(config.precision, config.deterministic, training.device):
        run_epochs(training, training.record, listeners, stop, progress)
        network.eval()
        test_error = error_percent(lambda images: network(images)[0], data.test_images, data.test_labels, data)
        network.train()
    training.record.write_weights(_saved(network, architecture, config, data).content())
    result = {
        "test_error_percent": test_error,
        "test_images": len(data.test_images),
        "hold_out": config.hold_out,
        **architecture.costs(config.channels, config.layers, len(data.classes), data.image_size)._asdict(),
        "seed": config.seed,
        "epochs": config.epochs,
        "channels": config.channels,
        "layers": config.layers,
        "data": data.name,
        "data_fingerprint": data.fingerprint,
        "train_images": len(data.train_images),
        "image_size": data.image_size,
        "device": str(training.device),
        "train_error_percent": training.rows[-1]["train_error_percent"],
        "seconds": round(sum(row["seconds"] for row in training.rows), 1),
    }
    training.record.finish(result)
    for listener in listeners:
        listener.ended()
    return result


def _saved(network: nn.Module, architecture: Architecture, config: TrainConfig, data: ImageData) -> SavedNetwork:
    return SavedNetwork(
        state_dict=network.state_dict(),
        genotype=architecture.to_json(),
        channels=config.channels,
        layers=config.layers,
        auxiliary=config.auxiliary,
        classes=data.classes,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
    )
