"""A strategy of searching: how alphas weigh operators, how they are learned, which cell they mean in the end."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cells.relaxation import softmax
from cells.supernet import Supernet
from nas.data.batches import Batch
from nas.search.architect import AlphaGradients, Unrolling


@dataclass(frozen=True)
class Strategy:
    """A named way to search.

    `relax` makes operator weights of alphas, both (edges, operators). `alpha_gradients(supernet, train, validation,
    unrolling)` is called in each step, before the weights' own; `train` is the batch of the weight step that follows.
    `selection` is a rule of `cells.discretization.RULES`.
    """

    name: str
    alpha_gradients: Callable[[Supernet, Batch, Batch, Unrolling], AlphaGradients]
    relax: Callable[[torch.Tensor], torch.Tensor] = softmax
    selection: str = "strongest edges"
