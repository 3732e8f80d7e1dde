"""MBConv, EfficientNet's block: an inverted residual whose wide part weighs its channels (squeeze and excitation).

Tan and Le, EfficientNet, ICML 2019; Hu et al., Squeeze-and-Excitation Networks, CVPR 2018. The squeeze is to a quarter
of the block's input and the activation is SiLU, as there; the expansion is 4, one of the two of EfficientNetV2.

    python search.py --plugin scripts/examples/mbconv_se.py --space darts+mbconv_se_3x3
"""

from torch import nn

from search_spaces import register_operator


class SqueezeExcite(nn.Module):
    """(N, C, H, W) -> the same, each channel scaled by a number in 0..1 that the means of all channels decide."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.gate(x.mean(dim=(2, 3), keepdim=True))


class MBConv(nn.Module):
    """1x1 to `expansion` times the channels, depthwise, squeeze and excitation, 1x1 back; a shortcut at stride 1."""

    def __init__(self, channels, stride, affine, kernel, expansion):
        super().__init__()
        wide = expansion * channels
        self.is_residual = stride == 1
        self.block = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide, affine=affine),
            nn.SiLU(),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide, affine=affine),
            nn.SiLU(),
            SqueezeExcite(wide, max(1, channels // 4)),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x):
        return x + self.block(x) if self.is_residual else self.block(x)


@register_operator("mbconv_se_3x3", label="MBConv 3x3")
def mbconv_3x3(channels, stride, affine):
    return MBConv(channels, stride, affine, kernel=3, expansion=4)


@register_operator("mbconv_se_5x5", label="MBConv 5x5")
def mbconv_5x5(channels, stride, affine):
    return MBConv(channels, stride, affine, kernel=5, expansion=4)
