"""The Ghost module: half of the channels by a 1x1 convolution, the others cheaply from those by a depthwise one.

Han et al., GhostNet: More Features from Cheap Operations, CVPR 2020, section 3.1. The stride is in the 1x1 convolution.
"""

import torch
from torch import nn

from search_spaces import register_operator


@register_operator("ghost_3x3", label="Ghost")
class Ghost(nn.Module):
    def __init__(self, channels, stride, affine):
        super().__init__()
        half = (channels + 1) // 2
        pointwise = nn.Conv2d(channels, half, 1, stride, bias=False)
        depthwise = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.primary = nn.Sequential(nn.ReLU(), pointwise, nn.BatchNorm2d(half, affine=affine))
        self.cheap = nn.Sequential(nn.ReLU(), depthwise, nn.BatchNorm2d(half, affine=affine))

    def forward(self, x):
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], dim=1)[:, : x.shape[1]]
