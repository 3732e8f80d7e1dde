"""What a checkpoint holds: the parts that learn, where the run stands, and the running epoch's sums."""

from typing import Any

import torch

from nas.machine import processes
from nas.run.record import Record
from search_spaces.errors import InputError


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
            if isinstance(part, torch.optim.Optimizer):
                _lay_out_as_parameters(part)
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.sums.copy_(state["sums"])
        self.good_steps.fill_(self.step)  # or it would not have been saved

    def add(self, sums: torch.Tensor) -> None:
        """Counts a step that was taken, in all processes; nothing waits for the device."""
        self.sums += processes.total(sums)
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

    def resume_from(self, record: Record) -> None:
        """Takes up the record's last checkpoint, if it has one, and drops the rows that will be written again.

        Of several processes, the first one reads and writes for all.

        Raises InputError if the checkpoint is damaged or of another network.
        """
        saved = processes.from_first(record.load_checkpoint())
        if saved is not None:
            try:
                self.load_state_dict(saved)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                reason = str(error).split("\n")[0]
                raise InputError(f"the checkpoint does not fit these settings: {reason}") from None
        record.forget_rows_from(self.epoch)


def _how_computed(group: dict) -> dict:
    return {name: group[name] for name in ("fused", "capturable", "foreach") if name in group}


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """A fused optimizer goes through memory, and a checkpoint of another device may be in another memory format."""
    for parameter, held in optimizer.state.items():
        for name, value in held.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                held[name] = torch.empty_like(parameter).copy_(value)
