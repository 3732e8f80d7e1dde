"""BatchNorm whose mean and variance are those of the batches of all processes (Peng et al., MegDet, CVPR 2018).

PyTorch's own SyncBatchNorm runs on GPUs only; this one runs wherever the processes can talk to each other.
"""

from typing import Any

import torch
from torch import nn

from nas.machine import processes


class Total(torch.autograd.Function):
    """The sum over all processes; each one's result depends on each one's input, so the gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return processes.total(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return processes.total(gradient.contiguous())


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """(N, C, H, W) -> (N, C, H, W), normalised by the images of all processes; in evaluation mode as BatchNorm2d."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        z = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        sums = Total.apply(torch.cat([z.sum((0, 2, 3)), z.new_tensor([z.numel() / z.shape[1]])]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = z - mean[:, None, None]
        variance = Total.apply(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        y = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Moves the running statistics towards these; momentum None: towards the mean of all batches so far."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        factor = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += factor * (mean - self.running_mean)
        self.running_var += factor * (variance - self.running_var)


def synchronize_batch_norm(module: nn.Module) -> None:
    """Makes every BatchNorm2d in the module a synchronised one, in place; names and parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SynchronizedBatchNorm2d
