"""The ConvNeXt block with a BatchNorm in the place of its LayerNorm, as cells of DARTS normalise everywhere.

Liu et al., A ConvNet for the 2020s, CVPR 2022: a 7x7 depthwise convolution, one normalisation, then two 1x1
convolutions with GELU between them, four times as wide inside. At stride 2 the depthwise convolution has the stride,
and there is no shortcut. The layer scale starts at 1, not at 1e-6: a block that starts as the identity would look like
a skip connection to the alphas. In the supernet (affine off) there is none: it would scale the block against the
others, which is what the alphas are for.
"""

import torch
from torch import nn

from search_spaces import register_operator


@register_operator("convnext_7x7", label="ConvNeXt")
class ConvNeXt(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        self.is_residual = stride == 1
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, stride, 3, groups=channels, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
        )
        self.scale = nn.Parameter(torch.ones(channels, 1, 1)) if affine else 1.0

    def forward(self, x):
        y = self.scale * self.block(x)
        return x + y if self.is_residual else y
