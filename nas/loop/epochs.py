"""The loop that searching and retraining share: epochs of steps, a checkpoint after each epoch, exact resume.

What a step draws at random depends on (seed, epoch, step) alone, so a checkpoint needs no generator's state.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from nas.config import SearchConfig, TrainConfig
from nas.data.randomness import Draw
from nas.formatting import readable_time
from nas.loop.listener import Listener
from nas.loop.state import RunState
from nas.loop.steps import cosine, describe_sums
from nas.machine import processes
from nas.run.record import InMemory, Record
from nas.run.stop import StopRequest
from search_spaces.errors import InputError

SHOWN_SECONDS = 1.0  # between two looks at the loss in the progress bar


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
    record: Record | None = None,
    listeners: Sequence[Listener] = (),
    stop: StopRequest | None = None,
    progress: bool = True,
) -> None:
    """Runs from where `work.state` stands to the end of the last epoch.

    A checkpoint is saved after each epoch, and within long ones every `config.save_every` minutes. Without a record,
    nothing is kept.

    Raises InputError if a loss or a gradient is not a finite number: on a CPU after the step, elsewhere before the next
    checkpoint. No checkpoint has seen it.
    """
    state, config, steps = work.state, work.config, work.steps
    record = InMemory() if record is None else record
    done = state.epoch * steps + state.step
    progress = progress and processes.is_first()
    silent = None if progress else True  # None: no bar where standard error is not a terminal
    stream = "step" if processes.is_first() else f"step/{processes.rank()}"  # of what the network draws at random
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
        record.save_checkpoint(state.state_dict())

    for listener in listeners:
        listener.begun()
    with bar:
        while state.epoch < config.epochs and not work.is_over():
            last = time.perf_counter()
            bar.set_description(f"epoch {state.epoch + 1}/{config.epochs}")
            while state.step < steps:
                torch.manual_seed(Draw(config.seed, stream, state.epoch, state.step).number())
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
            for listener in listeners:
                listener.epoch_ended()
            message = f"epoch {state.epoch + 1}/{config.epochs}  {describe_sums(sums)}{more}"
            message += f"  {readable_time(state.seconds)}"
            if state.epoch + 1 < config.epochs:
                message += f", {readable_time((config.epochs - state.epoch - 1) * state.seconds)} left"
            if progress:
                tqdm.write(message)
                sys.stdout.flush()
            record.log(message)
            state.next_epoch()
            save()
