"""The inverted residual, the sandglass block, and the variants that tell which choice matters.

Inverted residual: Sandler et al., MobileNetV2, CVPR 2018. Sandglass: Zhou et al., "Rethinking Bottleneck Structure
for Efficient Mobile Network Design", ECCV 2020; "the paper" below. All depthwise convolutions are 3x3, the stride is
in the last depthwise convolution, BatchNorm follows every convolution, and nothing stands in front of the first one.
"""

import math

import torch
from torch import nn

from search_spaces.layers import conv_norm
from search_spaces.registry import register_operator


class Bottleneck(nn.Module):
    """A chain of layers with a shortcut around it where input and output agree, that is at stride 1.

    `identity_multiplier` is the paper's alpha (eq. 4): the shortcut adds the first alpha * C channels only.
    """

    def __init__(self, layers: list[nn.Module], stride: int, identity_multiplier: float = 1.0):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1
        self.identity_multiplier = identity_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        if not self.shortcut:
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


def inverted_residual_block(channels: int, stride: int, affine: bool, expansion: int) -> Bottleneck:
    """1x1 expand (ReLU6), depthwise (ReLU6), 1x1 project, linear: 2tC^2 + 13tC + 2C parameters with affine."""
    wide = expansion * channels
    return Bottleneck(
        [
            *conv_norm(channels, wide, affine=affine),
            nn.ReLU6(),
            *depthwise(wide, stride, affine),
            nn.ReLU6(),
            *conv_norm(wide, channels, affine=affine),
        ],
        stride,
    )


def sandglass_block(
    channels: int, stride: int, affine: bool, hidden: int, identity_multiplier: float = 1.0
) -> Bottleneck:
    """Depthwise (ReLU6), 1x1 reduce, 1x1 expand (ReLU6), depthwise: 2Ch + 2h + 24C parameters with affine."""
    return Bottleneck(
        [
            *depthwise(channels, 1, affine),
            nn.ReLU6(),
            *conv_norm(channels, hidden, affine=affine),
            *conv_norm(hidden, channels, affine=affine),
            nn.ReLU6(),
            *depthwise(channels, stride, affine),
        ],
        stride,
        identity_multiplier,
    )


@register_operator("inverted_residual", label="IRBlock", kind="bottleneck")
def inverted_residual(channels: int, stride: int, affine: bool) -> nn.Module:
    """Expansion t = 6, MobileNetV2's."""
    return inverted_residual_block(channels, stride, affine, expansion=6)


@register_operator("inverted_residual_t3", label="IRBlock t=3", kind="bottleneck")
def inverted_residual_t3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Expansion t = 3: with t = 6 a single normal edge already exceeds the 3.29 M of the paper's Table 9, row 2."""
    return inverted_residual_block(channels, stride, affine, expansion=3)


@register_operator("sandglass", label="SGBlock", kind="bottleneck")
def sandglass(channels: int, stride: int, affine: bool) -> nn.Module:
    """Reduction t = 6 as in the paper's Table 1."""
    return sandglass_block(channels, stride, affine, hidden_channels(channels, 6))


@register_operator("sandglass_released", label="SGBlock released", kind="bottleneck")
def sandglass_released(channels: int, stride: int, affine: bool) -> nn.Module:
    """The sandglass with the hidden width of the authors' released code."""
    return sandglass_block(channels, stride, affine, released_hidden_channels(channels, 6))


@register_operator("sandglass_half", label="SGBlock 1/2", kind="bottleneck")
def sandglass_half(channels: int, stride: int, affine: bool) -> nn.Module:
    """The sandglass with identity tensor multiplier 1/2 (the paper's eq. 4 and Table 7)."""
    return sandglass_block(channels, stride, affine, hidden_channels(channels, 6), identity_multiplier=0.5)


@register_operator("bottleneck_depthwise", label="Bottleneck (a)", kind="bottleneck")
def bottleneck_depthwise(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (a): the classic bottleneck with a depthwise convolution in place of its 3x3 convolution."""
    hidden = hidden_channels(channels, 6)
    return Bottleneck(
        [
            *conv_norm(channels, hidden, affine=affine),
            nn.ReLU6(),
            *depthwise(hidden, stride, affine),
            nn.ReLU6(),
            *conv_norm(hidden, channels, affine=affine),
        ],
        stride,
    )


@register_operator("bottleneck_depthwise2", label="Bottleneck (b)", kind="bottleneck")
def bottleneck_depthwise2(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (b): (a) with a second depthwise convolution in the bottleneck."""
    hidden = hidden_channels(channels, 6)
    return Bottleneck(
        [
            *conv_norm(channels, hidden, affine=affine),
            nn.ReLU6(),
            *depthwise(hidden, 1, affine),
            nn.ReLU6(),
            *depthwise(hidden, stride, affine),
            nn.ReLU6(),
            *conv_norm(hidden, channels, affine=affine),
        ],
        stride,
    )


@register_operator("inverted_low_depthwise", label="Inverted (c)", kind="bottleneck")
def inverted_low_depthwise(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (c): the sandglass with its two pointwise convolutions switched, so that its ends are the narrow part.

    The paper does not print the activations of (c). Ours: ReLU6 after the first depthwise convolution and after the
    expansion, as linear bottlenecks ask for; the block ends linear.
    """
    wide = 6 * channels
    return Bottleneck(
        [
            *depthwise(channels, 1, affine),
            nn.ReLU6(),
            *conv_norm(channels, wide, affine=affine),
            nn.ReLU6(),
            *conv_norm(wide, channels, affine=affine),
            *depthwise(channels, stride, affine),
        ],
        stride,
    )
