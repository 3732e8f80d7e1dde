"""Bottleneck blocks: the inverted residual, the sandglass, and the variants that tell which choice matters.

Inverted residual: Sandler et al., MobileNetV2, CVPR 2018. Sandglass: Zhou et al., "Rethinking Bottleneck Structure
for Efficient Mobile Network Design", ECCV 2020; "the paper" below. All depthwise convolutions are 3x3, the stride is
in the last depthwise convolution, BatchNorm follows every convolution, and nothing stands in front of the first one.

Every block maps (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)). `ratio` is the paper's
t: how many times wider the wide part is than the narrow one.
"""

import math

import torch
from torch import nn

from search_spaces.layers import conv_norm


class Bottleneck(nn.Module):
    """A chain of layers with a shortcut around it where input and output have one shape.

    `identity_multiplier` is the paper's alpha (eq. 4): the shortcut adds the first alpha * C channels only.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        ratio: int = 6,
        identity_multiplier: float = 1.0,
        affine: bool = True,
    ):
        super().__init__()
        self.layers = nn.Sequential(*self.chain(in_channels, out_channels, stride, ratio, affine))
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.identity_multiplier = identity_multiplier

    def chain(self, in_channels: int, out_channels: int, stride: int, ratio: int, affine: bool) -> list[nn.Module]:
        """The layers, which is all that one block has and another has not."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        if not self.has_shortcut:
            return y
        kept = int(self.identity_multiplier * x.shape[1])
        if kept == x.shape[1]:
            return y + x
        return torch.cat([y[:, :kept] + x[:, :kept], y[:, kept:]], dim=1)


def hidden_channels(channels: int, ratio: int) -> int:
    """The width of a bottleneck: C // t, at least 1 (the paper's Table 1)."""
    return max(1, channels // ratio)


def released_hidden_channels(channels: int, ratio: int) -> int:
    """The width in the authors' released classification code.

    Where C // t lies below C / 6 it becomes the multiple of 16 nearest to C / 6 rounded up, at least 16 and not more
    than a tenth below: 16, 16, 16 at C = 16, 32, 64 where Table 1 gives 2, 5, 10. At 36, 72, 144 both agree.
    """
    hidden = channels // ratio
    if hidden >= channels / 6:
        return hidden
    wanted = math.ceil(channels / 6)
    rounded = max(16, (wanted + 8) // 16 * 16)
    return rounded + 16 if rounded < 0.9 * wanted else rounded


def depthwise(channels: int, stride: int, affine: bool) -> list[nn.Module]:
    return conv_norm(channels, channels, 3, stride, groups=channels, affine=affine)


class InvertedResidual(Bottleneck):
    """1x1 expand (ReLU6), depthwise (ReLU6), 1x1 project, linear; with `ratio` 1 nothing is expanded (MobileNetV2).

    Of equal widths C, 2tC^2 + 13tC + 2C parameters with affine.
    """

    def chain(self, in_channels: int, out_channels: int, stride: int, ratio: int, affine: bool) -> list[nn.Module]:
        wide = ratio * in_channels
        expand = [*conv_norm(in_channels, wide, affine=affine), nn.ReLU6()] if ratio != 1 else []
        return [
            *expand,
            *depthwise(wide, stride, affine),
            nn.ReLU6(),
            *conv_norm(wide, out_channels, affine=affine),
        ]


class Sandglass(Bottleneck):
    """Depthwise (ReLU6), 1x1 reduce, 1x1 expand (ReLU6), depthwise (the paper's Table 1).

    Of equal widths C, 2Ch + 2h + 24C parameters with affine; h is `narrow`, the width between the 1x1 convolutions.
    """

    narrow = staticmethod(hidden_channels)

    def chain(self, in_channels: int, out_channels: int, stride: int, ratio: int, affine: bool) -> list[nn.Module]:
        hidden = self.narrow(in_channels, ratio)
        return [
            *depthwise(in_channels, 1, affine),
            nn.ReLU6(),
            *conv_norm(in_channels, hidden, affine=affine),
            *conv_norm(hidden, out_channels, affine=affine),
            nn.ReLU6(),
            *depthwise(out_channels, stride, affine),
        ]


class ReleasedSandglass(Sandglass):
    """The sandglass with the hidden width of the authors' released code."""

    narrow = staticmethod(released_hidden_channels)


class DepthwiseBottleneck(Bottleneck):
    """Figure 4 (a): the classic bottleneck with a depthwise convolution in place of its 3x3 convolution."""

    depthwise_convolutions = 1

    def chain(self, in_channels: int, out_channels: int, stride: int, ratio: int, affine: bool) -> list[nn.Module]:
        hidden = hidden_channels(in_channels, ratio)
        layers = [*conv_norm(in_channels, hidden, affine=affine), nn.ReLU6()]
        for last in range(self.depthwise_convolutions - 1, -1, -1):
            layers += [*depthwise(hidden, 1 if last else stride, affine), nn.ReLU6()]
        return [*layers, *conv_norm(hidden, out_channels, affine=affine)]


class DoubleDepthwiseBottleneck(DepthwiseBottleneck):
    """Figure 4 (b): a second depthwise convolution in the bottleneck."""

    depthwise_convolutions = 2


class InvertedLowDepthwise(Bottleneck):
    """Figure 4 (c): the sandglass with its two pointwise convolutions switched, so that its ends are the narrow part.

    The paper does not print the activations of (c). Ours: ReLU6 after the first depthwise convolution and after the
    expansion, as linear bottlenecks ask for; the block ends linear.
    """

    def chain(self, in_channels: int, out_channels: int, stride: int, ratio: int, affine: bool) -> list[nn.Module]:
        wide = ratio * in_channels
        return [
            *depthwise(in_channels, 1, affine),
            nn.ReLU6(),
            *conv_norm(in_channels, wide, affine=affine),
            nn.ReLU6(),
            *conv_norm(wide, out_channels, affine=affine),
            *depthwise(out_channels, stride, affine),
        ]
