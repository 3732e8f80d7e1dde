"""What steps share: the optimizer, its gradients, the losses that are summed up, the schedule."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch

from nas.config import SearchConfig, TrainConfig
from nas.data.augment import EVALUATION_BATCH, normalize
from nas.data.image_data import ImageData


def has_fused_optimizers(device: torch.device) -> bool:
    """Whether PyTorch has one kernel for a whole optimizer step there."""
    return device.type in ("cpu", "cuda")


def sgd(
    parameters: Iterable[torch.nn.Parameter], config: SearchConfig | TrainConfig, device: torch.device
) -> torch.optim.SGD:
    """The weights' optimizer; `config` gives learning rate, momentum and weight decay."""
    return torch.optim.SGD(
        parameters,
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        fused=has_fused_optimizers(device),
    )


def apply_gradients(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[torch.nn.Parameter],
    gradients: Sequence[torch.Tensor | None],
    clip: float | None = None,
) -> torch.Tensor:
    """One optimizer step with these gradients, scaled down to the norm `clip` if theirs is larger; returns their norm.

    Where the norm is not finite, a fused optimizer moves nothing; nothing waits for the device.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.stride() != parameter.stride():  # fused optimizers go through memory
            gradient = torch.empty_like(parameter).copy_(gradient)
        parameter.grad = gradient
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip)
    if optimizer.param_groups[0].get("fused"):
        setattr(optimizer, "found_inf", (~norm.isfinite()).float())  # noqa: B010 (PyTorch does not declare it)
    optimizer.step()
    optimizer.zero_grad()
    return norm


def batch_sums(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(summed loss, errors, images) of a batch, on its device; `loss` is the mean over the batch."""
    errors = (logits.argmax(dim=1) != labels).sum()
    count = torch.full_like(errors, len(labels))
    return torch.stack([loss.detach() * len(labels), errors, count])


def describe_sums(sums: list[float]) -> str:
    """`batch_sums` of the training batches, and of the validation batches if there are any, for people."""
    loss, errors, images = sums[:3]
    line = f"loss {loss / images:.3f}, error {100 * errors / images:.1f} %"
    return f"{line}; validation {describe_sums(sums[3:])}" if sums[3:] else line


def cosine(start: float, end: float, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch: `start` at epoch 0, towards `end`, which epoch `epochs` would have."""
    return end + (start - end) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@torch.no_grad()
def error_percent(
    predict: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, labels: torch.Tensor, data: ImageData
) -> float:
    """Percent of these images, not augmented, of which the largest of `predict`'s logits is not the label's."""
    errors = torch.zeros((), dtype=torch.long, device=labels.device)
    for part, expected in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
        errors += (predict(normalize(part, data.mean, data.std)).argmax(dim=1) != expected).sum()
    return 100 * errors.item() / len(labels)
