"""The precision that a network computes in; its parameters are float32 in any case."""

from contextlib import AbstractContextManager, nullcontext

import torch


def computing_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager:
    """Inside, convolutions and matrix products are made in `precision`, by PyTorch's autocast if it is not float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)
