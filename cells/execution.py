"""How a network computes, apart from what: the three choices that travel together from the settings to its layers."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Execution:
    """Results differ by rounding at most, but for a `precision` of less than float32.

    `compiled` lets the loops of cells/compiled run on a CPU. With `recompute`, a supernet's backward pass computes each
    cell's tensors again instead of having stored them: the same bits for a fraction of the memory, in about 1.6 times
    the time. Convolutions and matrix products are made in `precision`; parameters and logits are float32 in any case.
    """

    compiled: bool = True
    recompute: bool = False
    precision: torch.dtype = torch.float32

    def computing_on(self, device: torch.device) -> AbstractContextManager:
        """Inside, products are made in the precision, by PyTorch's autocast if it is not float32."""
        return nullcontext() if self.precision == torch.float32 else torch.autocast(device.type, self.precision)

    def as_result(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits in float32 where they are less; float64 stays."""
        return logits if self.precision == torch.float32 else logits.float()


USUAL = Execution()
