"""DARTS' eight primitives (Liu et al., ICLR 2019, section 3.1.1), and two more that published cells use."""

import torch
from torch import nn

from search_spaces.layers import FactorizedReduce, depthwise_separable
from search_spaces.operator import register_operator


@register_operator("none", kind="none")
class Zero(nn.Module):
    """No connection: zeros of the size that the edge must return. Searched over, never kept in a cell."""

    def __init__(self, channels: int, stride: int, affine: bool):
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


@register_operator("max_pool_3x3", supernet_norm=True, kind="pooling")
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.MaxPool2d(3, stride, padding=1)


@register_operator("avg_pool_3x3", supernet_norm=True, kind="pooling")
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


@register_operator("skip_connect", kind="skip")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


class SeparableConv(nn.Sequential):
    """The depthwise separable convolution applied twice, the stride in the first."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool):
        super().__init__(
            *depthwise_separable(channels, kernel_size, stride, 1, affine),
            *depthwise_separable(channels, kernel_size, 1, 1, affine),
        )


class DilatedConv(nn.Sequential):
    """One depthwise separable convolution of dilation 2."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool):
        super().__init__(*depthwise_separable(channels, kernel_size, stride, 2, affine))


@register_operator("sep_conv_3x3", kind="separable")
def sep_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 3, stride, affine)


@register_operator("sep_conv_5x5", kind="separable")
def sep_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 5, stride, affine)


@register_operator("dil_conv_3x3", kind="dilated")
def dil_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return DilatedConv(channels, 3, stride, affine)


@register_operator("dil_conv_5x5", kind="dilated")
def dil_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    return DilatedConv(channels, 5, stride, affine)


@register_operator("sep_conv_7x7", kind="separable")
def sep_conv_7x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 7, stride, affine)


@register_operator("conv_7x1_1x7", kind="convolution")
def conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    """A 7x7 convolution factorized into 1x7 and 7x1 (Zoph et al., CVPR 2018)."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )
