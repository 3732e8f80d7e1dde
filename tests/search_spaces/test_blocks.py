"""The bottleneck blocks with any widths, stride and ratio: shapes, parameters, the shortcut, and MobileNetV2's own."""

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionsInvertedResidual

from search_spaces.blocks import (
    Bottleneck,
    DepthwiseBottleneck,
    DoubleDepthwiseBottleneck,
    InvertedLowDepthwise,
    InvertedResidual,
    ReleasedSandglass,
    Sandglass,
)
from search_spaces.complexity import count_parameters


def weights(block, i, o, t):
    """Of the convolutions of a block, by the closed form, and how many channels its BatchNorms have."""
    wide, hidden = t * i, max(1, i // t)
    released = hidden if hidden >= i / 6 else 16  # of up to 96 channels
    return {
        InvertedResidual: ((t > 1) * i * wide + 9 * wide + wide * o, (1 + (t > 1)) * wide + o),
        Sandglass: (9 * i + i * hidden + hidden * o + 9 * o, i + hidden + 2 * o),
        ReleasedSandglass: (9 * i + i * released + released * o + 9 * o, i + released + 2 * o),
        DepthwiseBottleneck: (i * hidden + 9 * hidden + hidden * o, 2 * hidden + o),
        DoubleDepthwiseBottleneck: (i * hidden + 18 * hidden + hidden * o, 3 * hidden + o),
        InvertedLowDepthwise: (9 * i + i * wide + wide * o + 9 * o, i + wide + 2 * o),
    }[block]


BLOCKS = Bottleneck.__subclasses__() + Sandglass.__subclasses__() + DepthwiseBottleneck.__subclasses__()
every_block = pytest.mark.parametrize("block", BLOCKS)


@every_block
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("ratio", [1, 3, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("inside", "outside"), [(6, 6), (6, 10), (13, 4)])
def test_a_block_has_the_shape_and_the_parameters_of_its_widths(block, inside, outside, stride, ratio, affine):
    built = block(inside, outside, stride, ratio, affine=affine)
    assert built(torch.randn(2, inside, 7, 4)).shape == (2, outside, -(-7 // stride), -(-4 // stride))
    convolutions, normed = weights(block, inside, outside, ratio)
    assert count_parameters(built) == convolutions + 2 * affine * normed


@every_block
@pytest.mark.parametrize("multiplier", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("outside", "stride", "has_shortcut"), [(6, 1, True), (6, 2, False), (8, 1, False)])
def test_the_shortcut_adds_its_share_of_the_channels_where_the_shapes_agree(
    block, outside, stride, has_shortcut, multiplier
):
    built = block(6, outside, stride, identity_multiplier=multiplier)
    for parameter in built.parameters():
        nn.init.zeros_(parameter)  # what is left is the shortcut
    x = torch.randn(2, 6, 4, 4)
    expected = torch.zeros(2, outside, 4 // stride, 4 // stride)
    if has_shortcut:
        expected[:, : int(6 * multiplier)] = x[:, : int(6 * multiplier)]
    assert torch.equal(built(x), expected)


@pytest.mark.parametrize("ratio", [1, 4, 6])
@pytest.mark.parametrize(("inside", "outside", "stride"), [(8, 8, 1), (8, 8, 2), (8, 12, 1), (8, 12, 2)])
def test_the_inverted_residual_is_torchvisions(inside, outside, stride, ratio):
    torch.manual_seed(0)
    blocks = TorchvisionsInvertedResidual, InvertedResidual
    theirs, ours = (block(inside, outside, stride, ratio) for block in blocks)
    assert count_parameters(theirs) == count_parameters(ours)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for train in (True, False):
        x = torch.randn(3, inside, 9, 9)
        torch.testing.assert_close(ours.train(train)(x), theirs.train(train)(x))
    torch.testing.assert_close(list(ours.buffers()), list(theirs.buffers()))
