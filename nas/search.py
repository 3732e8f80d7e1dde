"""The search: per step the alphas first, then the weights (DARTS, algorithm 1); per epoch what the alphas now mean."""

import time
from typing import Any

import torch
import torch.nn.functional as F

from cells.diagram import draw_genotype
from cells.discretize import discretize
from cells.genotype import Genotype
from cells.network import describe_network
from cells.supernet import Supernet
from nas import parallel
from nas.architect import Unrolling, first_order_gradients, held_fixed, second_order_gradients
from nas.augment import step_seed
from nas.batch_norm import synchronize_batch_norm
from nas.batches import Batch, Batches
from nas.captured import as_graph
from nas.collapse import (
    AlphaHessian,
    check_early_stop,
    epoch_before_collapse,
    epochs_between_eigenvalues,
    mean_entropy,
    skip_connections,
)
from nas.config import SearchConfig
from nas.data import ImageData
from nas.device import DTYPES, arithmetic, resolve_device
from nas.interrupt import StopRequest
from nas.loop import Epochs, RunState, apply_gradients, batch_sums, has_fused_optimizers, run_epochs, sgd
from nas.parallel import gradients_of_mean
from nas.report.live import LiveReport
from nas.run_dir import RunDir
from nas.tensorboard import curves_of
from nas.trouble import find_trouble
from search_spaces.space import SearchSpace

ALPHA_BETAS = (0.5, 0.999)  # of the alphas' Adam (DARTS, A.1.2)


class SearchState(RunState):
    """The supernet, its two optimizers, and where the search stands."""

    def __init__(self, config: SearchConfig, space: SearchSpace, classes: int, device: torch.device):
        torch.manual_seed(step_seed(config.seed, "initial weights", 0, 0))
        compiled, recompute = config.compile is not False, config.memory == "recompute"
        precision = DTYPES[config.precision]
        self.supernet = Supernet(space, config.channels, config.layers, classes, recompute, compiled, precision)
        self.supernet.to(device).to(memory_format=torch.channels_last)
        if config.sync_batch_norm and parallel.size() > 1:
            synchronize_batch_norm(self.supernet)
        self.weight_optimizer = sgd(self.supernet.weights(), config, device)
        self.alpha_optimizer = torch.optim.Adam(
            self.supernet.alphas(),
            config.alpha_learning_rate,
            ALPHA_BETAS,
            weight_decay=config.alpha_weight_decay,
            fused=has_fused_optimizers(device),
            capturable=device.type == "cuda",
        )
        parts = {name: getattr(self, name) for name in ("supernet", "weight_optimizer", "alpha_optimizer")}
        super().__init__(parts, sums=6, device=device)

    def momentum_buffers(self) -> list[torch.Tensor] | None:
        """The weights' momentum, or None before the first step."""
        states = [self.weight_optimizer.state[weight] for weight in self.supernet.weights()]
        return [state["momentum_buffer"] for state in states] if all(states) else None


def bilevel_step(
    state: SearchState, train: Batch, validation: Batch, config: SearchConfig, learning_rate: float | torch.Tensor
) -> torch.Tensor:
    """One step on the alphas, then one on the weights, in place.

    Returns `batch_sums` of the weight step, then of the validation pass that gave the alphas their gradient (at w for
    first order, at w' for second): six numbers, not finite if a gradient is not.
    """
    supernet = state.supernet
    if config.order == 1:
        alpha = first_order_gradients(supernet, validation)
    else:
        unrolling = Unrolling(learning_rate, config.momentum, config.weight_decay, state.momentum_buffers())
        alpha = second_order_gradients(supernet, train, validation, unrolling)
    alpha_norm = apply_gradients(state.alpha_optimizer, supernet.alphas(), alpha.gradients)

    images, labels = train
    with held_fixed(supernet.alphas()):
        logits = supernet(images)
        loss = F.cross_entropy(logits, labels)
        gradients = gradients_of_mean(loss, supernet.weights(), train)
    for group in state.weight_optimizer.param_groups:
        group["lr"] = learning_rate
    norm = apply_gradients(state.weight_optimizer, supernet.weights(), gradients, config.gradient_clip)
    sums = [batch_sums(loss, logits, labels), batch_sums(alpha.loss, alpha.logits, validation[1])]
    return torch.cat(sums) + 0 * (norm + alpha_norm)


class Search(Epochs[SearchState, SearchConfig]):
    """The epochs of a search, and what is recorded of each; without a run folder, in `rows` and `alphas` alone."""

    def __init__(self, config: SearchConfig, space: SearchSpace, data: ImageData, run: RunDir | None):
        device = resolve_device(config.device)
        self.config, self.space, self.run, self.device = config, space, run, device
        self.data = data.first(config.train_images, None).to(device)
        weight_images, weight_labels, alpha_images, alpha_labels = self.data.search_halves()
        self.weight_batches = Batches(weight_images, weight_labels, self.data, config, "weights")
        self.alpha_batches = Batches(alpha_images, alpha_labels, self.data, config, "alphas")
        self.steps = self.weight_batches.steps
        self.state = SearchState(config, space, len(data.classes), device)
        self.whole_step = as_graph(self._tensor_step, config, device)
        self.rows: list[dict[str, Any]] = []  # of metrics.jsonl
        self.alphas: list[dict[str, Any]] = []  # of alphas.jsonl
        self.curves = curves_of(run, config, space)
        self.report = LiveReport(None if run is None else run.path, config.report)

    def resume(self) -> None:
        """Goes on from the run's checkpoint, if it has one."""
        self.state.resume_from(self.run)
        rows = ([], []) if self.run is None else (self.run.rows("metrics"), self.run.rows("alphas"))
        self.rows, self.alphas = parallel.from_first(rows)
        self.curves.write(self.rows, self.alphas)

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
        train, validation = map(parallel.share, self._batches(epoch, step))
        return self.whole_step(*train, *validation, self.learning_rate(epoch))

    def find_trouble(self, epoch: int, step: int) -> str:
        return find_trouble(self.state.supernet, self._batches(epoch, step))

    def end_epoch(self, epoch: int, sums: list[float], seconds: float) -> str:
        tables = [alphas.detach().cpu() for alphas in self.state.supernet.alphas()]
        normal, reduce = (table.tolist() for table in tables)
        genotype = self.genotype_of(normal, reduce, epoch + 1)
        skips = [skip_connections(cell) for cell in (genotype.normal, genotype.reduce)]
        entropies = [mean_entropy(table.softmax(dim=-1)) for table in tables]
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
        self.alphas.append({"epoch": epoch, "normal": normal, "reduce": reduce})
        self.rows.append(row)
        if self.run is not None:
            self.run.append("alphas", self.alphas[-1])
            self.run.append("metrics", row)
            self.run.write_genotype(genotype)
            draw_genotype(genotype, self.run.diagrams)
            self.curves.write(self.rows, self.alphas)
        self.report.epoch_ended()
        before = self.epoch_before_collapse()
        return said if before is None else f"{said}, which rises: stopping, with the cell of epoch {before + 1}"

    def _dominant_eigenvalue(self, epoch: int) -> float:
        hessian = AlphaHessian(self.state.supernet, self.config.channels, self.config.layers, len(self.data.classes))
        found = hessian.dominant_eigenvalue(self.alpha_batches.drawn(epoch, self.steps))  # no step draws this batch
        return parallel.from_first(found)

    def epoch_before_collapse(self) -> int | None:
        """The epoch whose alphas are taken instead of the last ones, if the settings ask for RobustDARTS' rule."""
        named = [(row["epoch"], row["dominant_eigenvalue"]) for row in self.rows if "dominant_eigenvalue" in row]
        return epoch_before_collapse(named) if self.config.early_stop else None

    def is_over(self) -> bool:
        return self.epoch_before_collapse() is not None

    def genotype_of(self, normal: list, reduce: list, epochs: int) -> Genotype:
        """The genotype of these alphas, which so many epochs have found."""
        found_by = {
            "seed": self.config.seed,
            "order": self.config.order,
            "epochs": epochs,
            "data": self.data.name,
            "train_images": len(self.data.train_images),
            "image_size": self.data.image_size,
            "channels": self.config.channels,
            "layers": self.config.layers,
        }
        weights = [torch.tensor(alphas).softmax(dim=-1) for alphas in (normal, reduce)]
        return discretize(weights[0], weights[1], self.space, found_by)

    def result(self) -> Genotype:
        """The genotype that was found; it is the one in the run folder from now on."""
        before = self.epoch_before_collapse()
        row = self.alphas[-1] if before is None else next(row for row in self.alphas if row["epoch"] == before)
        genotype = self.genotype_of(row["normal"], row["reduce"], row["epoch"] + 1)
        if before is not None and self.run is not None:
            self.run.write_genotype(genotype)
            draw_genotype(genotype, self.run.diagrams)
        return genotype


def run_search(
    config: SearchConfig,
    space: SearchSpace,
    data: ImageData,
    run: RunDir | None = None,
    *,
    resume: bool = False,
    stop: StopRequest | None = None,
    progress: bool = True,
) -> Genotype:
    """Searches and returns the genotype of the alphas after the last epoch, or of before a collapse.

    With a run folder (created before), each epoch writes its metrics, alphas, genotype, pictures and a checkpoint
    there, and the end writes result.json. `resume` goes on from the folder's checkpoint if there is one.
    """
    check_early_stop(config)
    search = Search(config, space, data, run)
    if resume:
        search.resume()
    with arithmetic(config.precision, config.deterministic, search.device):
        run_epochs(search, run, stop, progress)
    genotype = search.result()
    if run is not None:
        row = search.rows[-1]
        run.finish(
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
                "network_36_channels_20_layers": describe_network(genotype),
                "seconds": round(sum(row["seconds"] for row in search.rows), 1),
            }
        )
        search.report.write()
    return genotype
