"""The bilevel problem, step by step: the alphas first, then the weights (DARTS, algorithm 1)."""

import torch
import torch.nn.functional as F

from cells.execution import Execution
from cells.supernet import Supernet
from nas.config import SearchConfig
from nas.data.batches import Batch
from nas.data.randomness import Draw
from nas.loop.state import RunState
from nas.loop.steps import apply_gradients, batch_sums, has_fused_optimizers, sgd
from nas.machine import processes
from nas.machine.device import DTYPES, memory_format
from nas.machine.processes import gradients_of_mean
from nas.machine.sync_batch_norm import synchronize_batch_norm
from nas.search.architect import Unrolling, held_fixed
from nas.search.strategies import strategy_of
from search_spaces.space import SearchSpace

ALPHA_BETAS = (0.5, 0.999)  # of the alphas' Adam (DARTS, A.1.2)


class SearchState(RunState):
    """The supernet, its two optimizers, and where the search stands."""

    def __init__(self, config: SearchConfig, space: SearchSpace, classes: int, device: torch.device):
        torch.manual_seed(Draw(config.seed, "initial weights").number())
        execution = Execution(config.compile is not False, config.memory == "recompute", DTYPES[config.precision])
        relax = strategy_of(config).relax
        self.supernet = Supernet(space, config.channels, config.layers, classes, execution, relax)
        self.supernet.to(device).to(memory_format=memory_format(device))
        if config.sync_batch_norm and processes.size() > 1:
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
    unrolling = Unrolling(learning_rate, config.momentum, config.weight_decay, state.momentum_buffers())
    alpha = strategy_of(config).alpha_gradients(supernet, train, validation, unrolling)
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
