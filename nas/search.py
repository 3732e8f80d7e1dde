"""The search: per step the alphas first, then the weights (DARTS, algorithm 1); per epoch what the alphas now mean."""

import torch
import torch.nn.functional as F

from cells.diagram import draw_genotype
from cells.discretize import discretize
from cells.genotype import Genotype
from cells.network import describe_network
from cells.supernet import Supernet
from nas.architect import Unrolling, first_order_gradients, held_fixed, second_order_gradients
from nas.augment import step_seed
from nas.batches import Batch, Batches
from nas.captured import as_graph
from nas.config import SearchConfig
from nas.data import ImageData
from nas.device import DTYPES, arithmetic, resolve_device, scalar
from nas.interrupt import StopRequest
from nas.loop import RunState, apply_gradients, batch_sums, cosine, has_fused_optimizers, run_epochs, sgd
from nas.run_dir import RunDir
from search_spaces.space import SearchSpace

ALPHA_BETAS = (0.5, 0.999)  # of the alphas' Adam (DARTS, A.1.2)


class SearchState(RunState):
    """The supernet, its two optimizers, and where the search stands."""

    def __init__(self, config: SearchConfig, space: SearchSpace, classes: int, device: torch.device):
        torch.manual_seed(step_seed(config.seed, "initial weights", 0, 0))
        compiled, recompute = config.compile is not False, config.memory == "recompute"
        precision = DTYPES[config.precision]
        self.supernet = Supernet(space, config.channels, config.layers, classes, recompute, compiled, precision)
        self.supernet.to(device, memory_format=torch.channels_last)
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
    first order, at w' for second): six numbers.
    """
    supernet = state.supernet
    if config.order == 1:
        alpha = first_order_gradients(supernet, validation)
    else:
        unrolling = Unrolling(learning_rate, config.momentum, config.weight_decay, state.momentum_buffers())
        alpha = second_order_gradients(supernet, train, validation, unrolling)
    apply_gradients(state.alpha_optimizer, supernet.alphas(), alpha.gradients)

    images, labels = train
    with held_fixed(supernet.alphas()):
        logits = supernet(images)
        loss = F.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, supernet.weights())
    for group in state.weight_optimizer.param_groups:
        group["lr"] = learning_rate
    apply_gradients(state.weight_optimizer, supernet.weights(), gradients, config.gradient_clip)
    return torch.cat([batch_sums(loss, logits, labels), batch_sums(alpha.loss, alpha.logits, validation[1])])


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
    """Searches and returns the genotype of the alphas after the last epoch.

    With a run folder (created before), each epoch writes its metrics, alphas, genotype, pictures and a checkpoint
    there, and the end writes result.json. `resume` goes on from the folder's checkpoint if there is one.
    """
    device = resolve_device(config.device)
    data = data.first(config.train_images, None).to(device)
    weight_images, weight_labels, alpha_images, alpha_labels = data.search_halves()
    weight_batches = Batches(weight_images, weight_labels, data, config, "weights")
    alpha_batches = Batches(alpha_images, alpha_labels, data, config, "alphas")
    state = SearchState(config, space, len(data.classes), device)
    if run is not None and resume:
        state.resume_from(run)

    def learning_rate(epoch: int) -> float:
        return cosine(config.learning_rate, config.learning_rate_min, epoch, config.epochs)

    def tensor_step(images, labels, validation_images, validation_labels, learning_rate) -> torch.Tensor:
        return bilevel_step(state, (images, labels), (validation_images, validation_labels), config, learning_rate)

    whole_step = as_graph(tensor_step, config, device)

    def train_step(epoch: int, step: int) -> torch.Tensor:
        train, validation = weight_batches.shuffled(epoch, step), alpha_batches.drawn(epoch, step)
        return whole_step(*train, *validation, scalar(learning_rate(epoch), device))

    def genotype_after(epochs: int) -> Genotype:
        found_by = {
            "seed": config.seed,
            "order": config.order,
            "epochs": epochs,
            "data": data.name,
            "train_images": len(data.train_images),
            "image_size": data.image_size,
            "channels": config.channels,
            "layers": config.layers,
        }
        normal, reduce = (table.detach().cpu() for table in state.supernet.operator_weights())
        return discretize(normal, reduce, space, found_by)

    def end_epoch(epoch: int, sums: list[float], seconds: float):
        if run is None:
            return
        normal, reduce = (alphas.detach().cpu().tolist() for alphas in state.supernet.alphas())
        run.append("alphas", {"epoch": epoch, "normal": normal, "reduce": reduce})
        run.append(
            "metrics",
            {
                "epoch": epoch,
                "learning_rate": learning_rate(epoch),
                "train_loss": sums[0] / sums[2],
                "train_error_percent": 100 * sums[1] / sums[2],
                "validation_loss": sums[3] / sums[5],
                "validation_error_percent": 100 * sums[4] / sums[5],
                "seconds": round(seconds, 3),
            },
        )
        genotype = genotype_after(epoch + 1)
        run.write_genotype(genotype)
        draw_genotype(genotype, run.diagrams)

    with arithmetic(config.precision, config.deterministic, device):
        run_epochs(state, config.epochs, weight_batches.steps, config.seed, train_step, end_epoch, run, stop, progress)
    genotype = genotype_after(config.epochs)
    if run is not None:
        rows = run.rows("metrics")
        run.finish(
            {
                "space": space.name,
                "seed": config.seed,
                "order": config.order,
                "epochs": config.epochs,
                "data": data.name,
                "data_fingerprint": data.fingerprint,
                "train_images": len(data.train_images),
                "image_size": data.image_size,
                "device": str(device),
                "train_error_percent": rows[-1]["train_error_percent"],
                "validation_error_percent": rows[-1]["validation_error_percent"],
                "network_36_channels_20_layers": describe_network(genotype),
                "seconds": round(sum(row["seconds"] for row in rows), 1),
            }
        )
    return genotype
