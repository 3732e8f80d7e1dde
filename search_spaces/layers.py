"""The layers that operators and cells share (DARTS, Liu et al., ICLR 2019, section 3.1).

DARTS' convolutions put the ReLU in front: ReLU, convolution, BatchNorm. Convolutions have no bias.
"""

import torch
import torch.nn.functional as F
from torch import nn


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, *, groups: int = 1, affine: bool = True
) -> list[nn.Module]:
    """A convolution that keeps the size at stride 1, and its BatchNorm, as a list to splice into a Sequential."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    ]


def depthwise_separable(channels: int, kernel_size: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, BatchNorm; "same" padding."""
    padding = dilation * (kernel_size // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, BatchNorm: (N, C_in, H, W) -> (N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True):
        super().__init__(nn.ReLU(), *conv_norm(in_channels, out_channels, affine=affine))


class EvenAndOddPixels(nn.Module):
    """The pixels of even rows and columns, then those of odd ones: (N, C, H, W) -> (N, 2 C, ceil(H / 2), ceil(W / 2)).

    An odd size is filled up by a row or column of zeros, so that both halves agree.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        return torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]], dim=1)


class FactorizedReduce(nn.Sequential):
    """Half the resolution without losing every other pixel: (N, C_in, H, W) -> (N, C_out, ceil(H / 2), ceil(W / 2)).

    ReLU, a 1x1 convolution on the even pixels of both directions and one on the odd ones, concatenated; BatchNorm. The
    two convolutions are one with two groups.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True):
        if out_channels % 2:
            raise ValueError(f"a factorized reduction needs an even number of output channels, not {out_channels}")
        super().__init__(
            EvenAndOddPixels(), nn.ReLU(), *conv_norm(2 * in_channels, out_channels, groups=2, affine=affine)
        )
