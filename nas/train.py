"""Retraining: the network of a genotype from scratch, on all training images, tested once after the last epoch."""

from typing import Any

import torch
import torch.nn.functional as F

from cells.genotype import Genotype
from cells.network import Network, describe_network
from nas import parallel
from nas.augment import normalize, step_seed
from nas.batch_norm import synchronize_batch_norm
from nas.batches import Batch, Batches
from nas.captured import as_graph
from nas.config import TrainConfig
from nas.data import ImageData
from nas.device import DTYPES, arithmetic, resolve_device
from nas.interrupt import StopRequest
from nas.loop import Epochs, RunState, apply_gradients, batch_sums, run_epochs, sgd
from nas.parallel import gradients_of_mean
from nas.report.live import LiveReport
from nas.run_dir import RunDir
from nas.tensorboard import curves_of
from nas.trained_network import SavedNetwork
from nas.trouble import find_trouble

TEST_BATCH = 256  # images; changes memory, not the result


class TrainState(RunState):
    """The network, its optimizer, and where the training stands."""

    def __init__(self, config: TrainConfig, genotype: Genotype, classes: int, device: torch.device):
        torch.manual_seed(step_seed(config.seed, "initial weights", 0, 0))
        compiled, precision = config.compile is not False, DTYPES[config.precision]
        self.network = Network(genotype, config.channels, config.layers, classes, config.auxiliary, compiled, precision)
        self.network.to(device).to(memory_format=torch.channels_last)
        if config.sync_batch_norm and parallel.size() > 1:
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


@torch.no_grad()
def error_percent(network: Network, data: ImageData) -> float:
    """Percent of the test images that the network gets wrong, in evaluation mode."""
    training = network.training
    network.eval()
    errors = torch.zeros((), dtype=torch.long, device=data.test_labels.device)
    for images, labels in zip(data.test_images.split(TEST_BATCH), data.test_labels.split(TEST_BATCH), strict=True):
        logits, _ = network(normalize(images, data.mean, data.std))
        errors += (logits.argmax(dim=1) != labels).sum()
    network.train(training)
    return 100 * errors.item() / len(data.test_labels)


class Training(Epochs[TrainState, TrainConfig]):
    """The epochs of a retraining, and what is recorded of each."""

    def __init__(self, config: TrainConfig, genotype: Genotype, data: ImageData, run: RunDir | None):
        self.config, self.run, self.device = config, run, resolve_device(config.device)
        data = data.first(config.train_images, None if config.hold_out else config.test_images)
        self.data = data = data.hold_out(config.hold_out).to(self.device)
        self.batches = Batches(data.train_images, data.train_labels, data, config, "train", config.cutout)
        self.steps = self.batches.steps
        self.state = TrainState(config, genotype, len(data.classes), self.device)
        self.whole_step = as_graph(self._tensor_step, config, self.device)
        self.rows: list[dict[str, Any]] = []  # of metrics.jsonl
        self.curves = curves_of(run, config)
        self.report = LiveReport(None if run is None else run.path, config.report)

    def resume(self) -> None:
        """Goes on from the run's checkpoint, if it has one."""
        self.state.resume_from(self.run)
        self.rows = parallel.from_first([] if self.run is None else self.run.rows("metrics"))
        self.curves.write(self.rows)

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
        images, labels = parallel.share(self.batches.shuffled(epoch, step))
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
        if self.run is not None:
            self.run.append("metrics", self.rows[-1])
            self.curves.write(self.rows)
        self.report.epoch_ended()
        return ""


def run_training(
    config: TrainConfig,
    genotype: Genotype,
    data: ImageData,
    run: RunDir | None = None,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
    progress: bool = True,
) -> dict:
    """Trains the genotype's network and returns its result; the test images are read once, after the last epoch.

    The result: test error of the last epoch, parameters with and without the auxiliary head, multiply-adds, seconds.
    With a run folder (created before) each epoch writes metrics and a checkpoint, the end weights.pt and result.json.
    """
    training = Training(config, genotype, data, run)
    if resume:
        training.resume()
    data, network = training.data, training.state.network
    with arithmetic(config.precision, config.deterministic, training.device):
        run_epochs(training, run, stop, progress)
        test_error = error_percent(network, data)
    result = {
        "test_error_percent": test_error,
        "test_images": len(data.test_images),
        "hold_out": config.hold_out,
        **describe_network(genotype, config.channels, config.layers, len(data.classes), data.image_size),
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
    if run is not None:
        _saved(network, genotype, config, data).save(run.weights)
        run.finish(result)
        training.report.write()
    return result


def _saved(network: Network, genotype: Genotype, config: TrainConfig, data: ImageData) -> SavedNetwork:
    return SavedNetwork(
        state_dict=network.state_dict(),
        genotype=genotype.to_json(),
        channels=config.channels,
        layers=config.layers,
        auxiliary=config.auxiliary,
        classes=data.classes,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
    )
