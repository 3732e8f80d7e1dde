"""The gradients of the validation loss with respect to the alphas (DARTS, section 2.3): the maths and nothing else.

    minimise over a    L_val(w*(a), a)    where    w*(a) = argmin over w of L_train(w, a)

First order takes w for w*. Second order takes one step of gradient descent,

    w' = w - lr * (momentum * buffer + dL_train/dw + weight_decay * w),

and differentiates through it (eq. 7), the Hessian-vector product by a central finite difference (eq. 8):

    dL_val(w', a)/da - lr * (dL_train(w+, a)/da - dL_train(w-, a)/da) / (2 R),
    w+- = w +- R * dL_val(w', a)/dw',    R = 0.01 / ||dL_val(w', a)/dw'||.

The difference of two nearly equal gradients needs float32, whatever the supernet's precision: in bfloat16 it is noise.

The passes at w', w+ and w- write into the supernet's own weights and put the saved ones back bit for bit, so there is
no second model. BatchNorm's running statistics are left alone: they stay those of the supernet's own weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cells.supernet import Supernet, frozen_statistics, in_float32
from nas.data.batches import Batch
from nas.machine.processes import gradients_of_mean

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]


class AlphaGradients(NamedTuple):
    """Gradients in the order of `supernet.alphas()`, and the validation pass they come from (at w or at w')."""

    gradients: list[torch.Tensor]
    loss: torch.Tensor
    logits: torch.Tensor


class Unrolling(NamedTuple):
    """The step of gradient descent that second order looks ahead; buffers are the weights' momentum, or None."""

    learning_rate: float | torch.Tensor
    momentum: float
    weight_decay: float
    buffers: list[torch.Tensor] | None


def first_order_gradients(supernet: Supernet, validation: Batch) -> AlphaGradients:
    """dL_val(w, a) / da."""
    with frozen_statistics(supernet), held_fixed(supernet.weights()):
        loss, logits = _loss(supernet, validation)
        gradients = gradients_of_mean(loss, supernet.alphas(), validation)
    return AlphaGradients(gradients, loss.detach(), logits.detach())


def second_order_gradients(
    supernet: Supernet, train: Batch, validation: Batch, unrolling: Unrolling, radius: float = 0.01
) -> AlphaGradients:
    """dL_val(w'(a), a) / da. `train` is the batch of the weight step that follows; its gradient is not clipped.

    A validation gradient of norm zero leaves the second term zero.
    """
    alphas, weights = supernet.alphas(), supernet.weights()
    with frozen_statistics(supernet), _restored(weights) as saved:
        with held_fixed(alphas):
            train_loss, _ = _loss(supernet, train)
            step = _descent(saved, gradients_of_mean(train_loss, weights, train), unrolling)
        _move(weights, saved, step, -unrolling.learning_rate)
        loss, logits = _loss(supernet, validation)
        gradients = gradients_of_mean(loss, [*alphas, *weights], validation)
        direct, direction = gradients[: len(alphas)], gradients[len(alphas) :]

        norm = torch.stack(torch._foreach_norm(direction)).norm()
        r = radius / norm.clamp_min(torch.finfo(norm.dtype).tiny ** 0.5)
        sides = []
        with held_fixed(weights), in_float32(supernet):
            for signed in (r, -r):
                _move(weights, saved, direction, signed)
                sides.append(gradients_of_mean(_loss(supernet, train)[0], alphas, train))
    scale = unrolling.learning_rate / (2 * r)
    total = [d - scale * (plus - minus) for d, plus, minus in zip(direct, *sides, strict=True)]
    return AlphaGradients(total, loss.detach(), logits.detach())


@contextmanager
def held_fixed(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, forward passes save nothing for a gradient of these parameters, and backward passes compute none."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def _restored(weights: list[nn.Parameter]) -> Iterator[list[torch.Tensor]]:
    """Yields a copy of the weights and writes it back at the end, whatever happens."""
    saved = [weight.detach().clone() for weight in weights]
    try:
        yield saved
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(weights), saved)


@torch.no_grad()
def _move(weights: Sequence[torch.Tensor], origin: Tensors, direction: Tensors, distance: float | torch.Tensor) -> None:
    """weights = origin + distance * direction."""
    torch._foreach_copy_(tuple(weights), torch._foreach_add(origin, torch._foreach_mul(direction, distance)))


def _descent(weights: Tensors, gradients: Tensors, unrolling: Unrolling) -> list[torch.Tensor]:
    """momentum * buffer + gradient + weight_decay * weight."""
    step = torch._foreach_add(gradients, weights, alpha=unrolling.weight_decay)
    if unrolling.buffers is not None:
        torch._foreach_add_(step, unrolling.buffers, alpha=unrolling.momentum)
    return list(step)


def _loss(supernet: Supernet, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batch
    logits = supernet(images)
    return F.cross_entropy(logits, labels), logits
