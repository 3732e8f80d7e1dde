"""One run in several processes, as torchrun starts them: each computes its share of every batch.

    torchrun --nproc-per-node 4 search.py --space darts+sandglass

All processes hold the same weights and alphas. A gradient is that of the mean over the whole batch: each process takes
its part of the loss, and the gradients are added up; so nothing else in the mathematics knows of processes. The first
process alone prints and writes; the others get from it what it read. Without torchrun, everything here does nothing.

BatchNorm is synchronised unless the settings say otherwise: its mean and variance are those of the whole batch, so
that the result is that of one process but for rounding, and but for what the network draws at random (dropped paths),
which each process draws for its own images.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from search_spaces.errors import InputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
WAIT = timedelta(minutes=30)  # for a process that is late: the first one may have to download the images


def is_launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def size() -> int:
    """How many processes carry out the run."""
    return int(os.environ["WORLD_SIZE"]) if is_launched() else 1


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ["RANK"]) if is_launched() else 0


def local_rank() -> int:
    """This process's number on its machine, from 0; also that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if is_launched() else 0


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def share(batch: tuple) -> tuple:
    """This process's part of each tensor of a batch, split along its first dimension as evenly as it can be."""
    return batch if size() == 1 else tuple(part.tensor_split(size())[rank()] for part in batch)


def gradients_of_mean(
    loss: "torch.Tensor", parameters: Sequence["torch.Tensor"], batch: tuple, allow_unused: bool = False
) -> list:
    """d loss / d parameters, as `torch.autograd.grad` has them, of the mean over the images of all processes.

    `loss` is the mean over this process's `batch`. Unused parameters have None.
    """
    import torch

    if size() == 1:
        return list(torch.autograd.grad(loss, parameters, allow_unused=allow_unused))
    images = len(batch[0])
    all_images = torch.tensor(float(images))
    _add_up(all_images)
    found = torch.autograd.grad(loss * (images / all_images.item()), parameters, allow_unused=allow_unused)
    used = [gradient for gradient in found if gradient is not None]
    flat = torch.cat([gradient.flatten() for gradient in used])
    _add_up(flat)
    parts = iter(flat.split([gradient.numel() for gradient in used]))
    return [None if gradient is None else next(parts).view(gradient.shape) for gradient in found]


def total(tensor: "torch.Tensor") -> "torch.Tensor":
    """The sum of the tensors that all processes give."""
    if size() == 1:
        return tensor
    tensor = tensor.clone()
    _add_up(tensor)
    return tensor


def largest(number: int) -> int:
    """The largest of all processes' numbers; nothing waits for a GPU."""
    if size() == 1:
        return number
    import torch

    found = torch.tensor(number)
    with _joined() as dist:
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def from_first(value: T) -> T:
    """The first process's value, whatever the others give."""
    if size() == 1:
        return value
    import torch

    values = [value]
    with _joined() as dist:
        dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


@contextmanager
def one_at_first() -> Iterator[None]:
    """Inside, one process of each machine is through before its others begin: it fills what they will find."""
    if size() > 1 and local_rank() > 0:
        largest(0)  # waits for all, on the CPU
    try:
        yield
    finally:
        if size() > 1 and local_rank() == 0:
            largest(0)  # waits for all, on the CPU


def _add_up(tensor: "torch.Tensor") -> None:
    with _joined() as dist:
        dist.all_reduce(tensor)


@contextmanager
def _joined() -> Iterator[Any]:
    """Inside, this process can call torch.distributed, which this yields; the first call joins the processes.

    Raises InputError if another process has ended.
    """
    import torch
    import torch.distributed as dist

    try:
        if not dist.is_initialized():
            has_cuda = torch.cuda.is_available()
            if has_cuda:
                torch.cuda.set_device(local_rank() % torch.cuda.device_count())
            dist.init_process_group("cpu:gloo,cuda:nccl" if has_cuda else "gloo", timeout=WAIT)
        yield dist
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"process {rank()} lost another process of this run ({reason}); what was saved before is intact, the same"
            " command goes on with --resume"
        ) from None
