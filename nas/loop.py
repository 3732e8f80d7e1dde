"""The loop that searching and retraining share: epochs of steps, a checkpoint after each epoch, exact resume.

What a step draws at random depends on (seed, epoch, step) alone, so a checkpoint needs no generator's state.
"""

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from nas import parallel
from nas.augment import step_seed
from nas.config import SearchConfig, TrainConfig
from nas.interrupt import StopRequest
from nas.run_dir import RunDir
from search_spaces.errors import InputError

SHOWN_SECONDS = 1.0  # between two looks at the loss in the progress bar


class RunState:
    """What a checkpoint holds: the parts that learn, where the run stands, and the running epoch's sums."""

    def __init__(self, parts: dict[str, Any], sums: int, device: torch.device):
        self.parts = parts
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.sums = torch.zeros(sums, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self.good_steps = torch.zeros((), device=device, dtype=torch.int64)  # of this epoch, before the first bad one

    def state_dict(self) -> dict[str, Any]:
        saved = {name: part.state_dict() for name, part in self.parts.items()}
        return saved | {"epoch": self.epoch, "step": self.step, "seconds": self.seconds, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            saved = state[name]
            if isinstance(part, torch.optim.Optimizer):  # the checkpoint may come from another device
                pairs = zip(saved["param_groups"], part.param_groups, strict=True)
                saved = saved | {"param_groups": [group | _how_computed(own) for group, own in pairs]}
            part.load_state_dict(saved)
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.sums.copy_(state["sums"])
        self.good_steps.fill_(self.step)  # or it would not have been saved

    def add(self, sums: torch.Tensor) -> None:
        """Counts a step that was taken, in all processes; nothing waits for the device."""
        self.sums += parallel.total(sums)
        self.good_steps += self.sums.isfinite().all()  # what is not finite once stays so
        self.step += 1

    def next_epoch(self) -> None:
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()
        self.good_steps.zero_()

    def first_bad_step(self) -> int | None:
        """The first step of this epoch whose sums were not finite; waits for the device."""
        good = int(self.good_steps)
        return None if good == self.step else good

    def resume_from(self, run: RunDir | None) -> None:
        """Takes up the run's last checkpoint, if it has one, and drops the rows that will be written again.

        Of several processes, the first one reads and writes for all; the others have no `run`.

        Raises InputError if the checkpoint is damaged or of another network.
        """
        saved = parallel.from_first(None if run is None else run.load_checkpoint())
        if saved is not None:
            try:
                self.load_state_dict(saved)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                reason = str(error).split("\n")[0]
                place = "" if run is None else f" {run.checkpoint}"
                raise InputError(f"checkpoint{place} does not fit these settings: {reason}") from None
        if run is not None:
            run.forget_rows_from(self.epoch)


State = TypeVar("State", bound=RunState)
Config = TypeVar("Config", SearchConfig, TrainConfig)


class Epochs(ABC, Generic[State, Config]):
    """What `run_epochs` runs: a search or a training, with its state, its settings and its steps in an epoch."""

    state: State
    config: Config
    steps: int

    def learning_rate(self, epoch: int) -> float:
        """Of the weights."""
        return cosine(self.config.learning_rate, self.config.learning_rate_min, epoch, self.config.epochs)

    @abstractmethod
    def train_step(self, epoch: int, step: int) -> torch.Tensor:
        """Takes a step; returns what is added to `state.sums`, on the device, not finite if a gradient is not."""

    @abstractmethod
    def end_epoch(self, epoch: int, sums: list[float], seconds: float) -> str:
        """Records an epoch; returns what is said of it beside its losses."""

    @abstractmethod
    def find_trouble(self, epoch: int, step: int) -> str:
        """Words for where a number that is not finite came from, in a step that was just taken."""

    def is_over(self) -> bool:
        """Whether to end before the last epoch, by what is recorded of the epochs so far."""
        return False


def run_epochs(
    work: Epochs[Any, Any],
    run: RunDir | None = None,
    stop: StopRequest | None = None,
    progress: bool = True,
) -> None:
    """Runs from where `work.state` stands to the end of the last epoch.

    A checkpoint is saved after each epoch, and within long ones every `config.save_every` minutes.

    Raises InputError if a loss or a gradient is not a finite number: on a CPU after the step, elsewhere before the next
    checkpoint. No checkpoint has seen it.
    """
    state, config, steps = work.state, work.config, work.steps
    done = state.epoch * steps + state.step
    progress = progress and parallel.is_first()
    silent = None if progress else True  # None: no bar where standard error is not a terminal
    stream = "step" if parallel.is_first() else f"step/{parallel.rank()}"  # of what the network draws at random
    bar = tqdm(total=config.epochs * steps, initial=done, unit="step", disable=silent, leave=False, dynamic_ncols=True)
    last = shown = saved = time.perf_counter()

    def clock() -> float:
        nonlocal last
        now = time.perf_counter()
        state.seconds, last = state.seconds + now - last, now
        return now

    def check() -> None:
        bad = state.first_bad_step()
        if bad is not None:
            raise InputError(
                f"the loss or a gradient is not a finite number in epoch {state.epoch + 1}, step {bad + 1} of {steps},"
                f" learning rate {work.learning_rate(state.epoch):.3g}; {work.find_trouble(state.epoch, bad)}; start"
                " anew with --force and a smaller --learning-rate"
            )

    def save() -> None:
        check()
        if run is not None:
            run.save_checkpoint(state.state_dict())

    with bar:
        while state.epoch < config.epochs and not work.is_over():
            last = time.perf_counter()
            bar.set_description(f"epoch {state.epoch + 1}/{config.epochs}")
            while state.step < steps:
                torch.manual_seed(step_seed(config.seed, stream, state.epoch, state.step))
                state.add(work.train_step(state.epoch, state.step))
                bar.update()
                now = clock()
                if state.sums.device.type == "cpu":  # elsewhere a look would wait for the device
                    check()
                    if not bar.disable and now - shown > SHOWN_SECONDS:
                        bar.set_postfix_str(describe_sums(state.sums.tolist()))
                        shown = now
                if now - saved > 60 * config.save_every:
                    save()
                    saved = now
                if stop is not None:
                    stop.check(save)
            check()
            sums = state.sums.tolist()
            clock()
            more = work.end_epoch(state.epoch, sums, state.seconds)
            message = f"epoch {state.epoch + 1}/{config.epochs}  {describe_sums(sums)}{more}"
            message += f"  {readable_time(state.seconds)}"
            if state.epoch + 1 < config.epochs:
                message += f", {readable_time((config.epochs - state.epoch - 1) * state.seconds)} left"
            if progress:
                tqdm.write(message)
                sys.stdout.flush()
            if run is not None:
                run.log(message)
            state.next_epoch()
            save()


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


def _how_computed(group: dict) -> dict:
    return {name: group[name] for name in ("fused", "capturable", "foreach") if name in group}


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


def readable_time(seconds: float) -> str:
    """`42 s`, `3 min`, `5.2 h` or `4.1 days`."""
    for unit, size, limit in (("s", 1, 99), ("min", 60, 99 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} h" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
