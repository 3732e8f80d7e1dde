"""The loop that searching and retraining share: epochs of steps, a checkpoint after each epoch, exact resume.

What a step draws at random depends on (seed, epoch, step) alone, so a checkpoint needs no generator's state.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from nas.augment import step_seed
from nas.config import SearchConfig, TrainConfig
from nas.interrupt import StopRequest
from nas.run_dir import RunDir
from search_spaces.errors import InputError

SHOWN_SECONDS = 1.0  # between two looks at the loss in the progress bar; each copies it to the host
SAVED_SECONDS = 600.0  # between two checkpoints within an epoch


class RunState:
    """What a checkpoint holds: the parts that learn, where the run stands, and the running epoch's sums."""

    def __init__(self, parts: dict[str, Any], sums: int, device: torch.device):
        self.parts = parts
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.sums = torch.zeros(sums, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)

    def state_dict(self) -> dict[str, Any]:
        saved = {name: part.state_dict() for name, part in self.parts.items()}
        return saved | {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]):
        for name, part in self.parts.items():
            how = [_how_computed(group) for group in getattr(part, "param_groups", [])]
            part.load_state_dict(state[name])
            for group, own in zip(getattr(part, "param_groups", []), how, strict=True):
                group.update(own)  # the checkpoint may come from another device
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.sums.copy_(state["sums"])

    def resume_from(self, run: RunDir):
        """Takes up the run's last checkpoint, if it has one, and drops the rows that will be written again.

        Raises InputError if the checkpoint is damaged or of another network.
        """
        saved = run.load_checkpoint(self.sums.device)
        if saved is not None:
            try:
                self.load_state_dict(saved)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                reason = str(error).split("\n")[0]
                raise InputError(f"checkpoint {run.checkpoint} does not fit these settings: {reason}") from None
        run.forget_rows_from(self.epoch)


def run_epochs(
    state: RunState,
    epochs: int,
    steps: int,
    seed: int,
    train_step: Callable[[int, int], torch.Tensor],
    end_epoch: Callable[[int, list[float], float], None],
    run: RunDir | None = None,
    stop: StopRequest | None = None,
    progress: bool = True,
):
    """Runs from where `state` stands to the end of the last epoch.

    `train_step(epoch, step)` returns what is added to `state.sums`, on the device. `end_epoch(epoch, sums, seconds)`
    records an epoch. A checkpoint is saved after each epoch, and within long ones every ten minutes.

    Raises InputError if the loss is not a finite number at the end of an epoch; its checkpoint is not saved.
    """
    done = state.epoch * steps + state.step
    silent = None if progress else True  # None: no bar where standard error is not a terminal
    bar = tqdm(total=epochs * steps, initial=done, unit="step", disable=silent, leave=False, dynamic_ncols=True)
    last = shown = saved = time.perf_counter()

    def clock() -> float:
        nonlocal last
        now = time.perf_counter()
        state.seconds, last = state.seconds + now - last, now
        return now

    def save():
        if run is not None:
            run.save_checkpoint(state.state_dict())

    with bar:
        while state.epoch < epochs:
            last = time.perf_counter()
            bar.set_description(f"epoch {state.epoch + 1}/{epochs}")
            while state.step < steps:
                torch.manual_seed(step_seed(seed, "step", state.epoch, state.step))
                state.sums += train_step(state.epoch, state.step)
                state.step += 1
                bar.update()
                now = clock()
                if not bar.disable and now - shown > SHOWN_SECONDS:
                    bar.set_postfix_str(describe_sums(state.sums.tolist()))
                    shown = now
                if now - saved > SAVED_SECONDS:
                    save()
                    saved = now
                if stop is not None:
                    stop.check(save)
            sums = state.sums.tolist()
            clock()
            if not all(map(math.isfinite, sums)):
                raise InputError(
                    f"the loss is not a finite number in epoch {state.epoch + 1}; start anew with --force and a smaller"
                    " --learning-rate"
                )
            end_epoch(state.epoch, sums, state.seconds)
            message = f"epoch {state.epoch + 1}/{epochs}  {describe_sums(sums)}  {readable_time(state.seconds)}"
            if state.epoch + 1 < epochs:
                message += f", {readable_time((epochs - state.epoch - 1) * state.seconds)} left"
            if progress:
                tqdm.write(message)
                sys.stdout.flush()
            if run is not None:
                run.log(message)
            state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
            state.sums.zero_()
            save()


def has_fused_optimizers(device: torch.device) -> bool:
    """Whether PyTorch has one kernel for a whole optimizer step there."""
    return device.type in ("cpu", "cuda")


def sgd(parameters, config: SearchConfig | TrainConfig, device: torch.device) -> torch.optim.SGD:
    """The weights' optimizer; `config` gives learning rate, momentum and weight decay."""
    return torch.optim.SGD(
        parameters,
        config.learning_rate,
        config.momentum,
        weight_decay=config.weight_decay,
        fused=has_fused_optimizers(device),
    )


def _how_computed(group: dict) -> dict:
    return {name: group[name] for name in ("fused", "capturable", "foreach") if name in group}


def apply_gradients(optimizer: torch.optim.Optimizer, parameters, gradients, clip: float | None = None):
    """One optimizer step with these gradients, scaled down to the norm `clip` if theirs is larger."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.stride() != parameter.stride():  # fused optimizers go through memory
            gradient = torch.empty_like(parameter).copy_(gradient)
        parameter.grad = gradient
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
    optimizer.zero_grad()


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


def readable_time(seconds: float) -> str:
    """`42 s`, `3 min`, `5.2 h` or `4.1 days`."""
    for unit, size, limit in (("s", 1, 99), ("min", 60, 99 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} h" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
