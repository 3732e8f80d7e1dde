"""The bottleneck blocks as operators: equal widths in and out, one name for each variant."""

from torch import nn

from search_spaces.blocks import (
    DepthwiseBottleneck,
    DoubleDepthwiseBottleneck,
    InvertedLowDepthwise,
    InvertedResidual,
    ReleasedSandglass,
    Sandglass,
)
from search_spaces.operator import register_operator


@register_operator("inverted_residual", label="IRBlock", kind="bottleneck")
def inverted_residual(channels: int, stride: int, affine: bool) -> nn.Module:
    """Expansion t = 6, MobileNetV2's."""
    return InvertedResidual(channels, channels, stride, affine=affine)


@register_operator("inverted_residual_t3", label="IRBlock t=3", kind="bottleneck")
def inverted_residual_t3(channels: int, stride: int, affine: bool) -> nn.Module:
    """Expansion t = 3: with t = 6 a single normal edge already exceeds the 3.29 M of the paper's Table 9, row 2."""
    return InvertedResidual(channels, channels, stride, ratio=3, affine=affine)


@register_operator("sandglass", label="SGBlock", kind="bottleneck")
def sandglass(channels: int, stride: int, affine: bool) -> nn.Module:
    """Reduction t = 6 as in the paper's Table 1."""
    return Sandglass(channels, channels, stride, affine=affine)


@register_operator("sandglass_released", label="SGBlock released", kind="bottleneck")
def sandglass_released(channels: int, stride: int, affine: bool) -> nn.Module:
    """The sandglass with the hidden width of the authors' released code."""
    return ReleasedSandglass(channels, channels, stride, affine=affine)


@register_operator("sandglass_half", label="SGBlock 1/2", kind="bottleneck")
def sandglass_half(channels: int, stride: int, affine: bool) -> nn.Module:
    """The sandglass with identity tensor multiplier 1/2 (the paper's eq. 4 and Table 7)."""
    return Sandglass(channels, channels, stride, identity_multiplier=0.5, affine=affine)


@register_operator("bottleneck_depthwise", label="Bottleneck (a)", kind="bottleneck")
def bottleneck_depthwise(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (a)."""
    return DepthwiseBottleneck(channels, channels, stride, affine=affine)


@register_operator("bottleneck_depthwise2", label="Bottleneck (b)", kind="bottleneck")
def bottleneck_depthwise2(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (b)."""
    return DoubleDepthwiseBottleneck(channels, channels, stride, affine=affine)


@register_operator("inverted_low_depthwise", label="Inverted (c)", kind="bottleneck")
def inverted_low_depthwise(channels: int, stride: int, affine: bool) -> nn.Module:
    """Figure 4 (c)."""
    return InvertedLowDepthwise(channels, channels, stride, affine=affine)
