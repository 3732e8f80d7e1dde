"""What the built-in operators compute, beyond the contract: their layers, their shortcuts, their widths."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import build_operator, operator_names
from search_spaces.blocks import hidden_channels, released_hidden_channels
from search_spaces.layers import FactorizedReduce

BOTTLENECKS = [name for name in operator_names() if any(part in name for part in ("sandglass", "bottleneck", "invert"))]
LAYERS = {  # at stride 2: "dw3/2d2" is a depthwise 3x3 convolution of stride 2 and dilation 2, "pw" a 1x1 convolution
    "sep_conv_3x3": "relu dw3/2 pw bn relu dw3 pw bn",
    "sep_conv_5x5": "relu dw5/2 pw bn relu dw5 pw bn",
    "sep_conv_7x7": "relu dw7/2 pw bn relu dw7 pw bn",
    "dil_conv_3x3": "relu dw3/2d2 pw bn",
    "dil_conv_5x5": "relu dw5/2d2 pw bn",
    "conv_7x1_1x7": "relu (1, 7)/(1, 2) (7, 1)/(2, 1) bn",
    "inverted_residual": "pw bn relu6 dw3/2 bn relu6 pw bn",
    "inverted_residual_t3": "pw bn relu6 dw3/2 bn relu6 pw bn",
    "sandglass": "dw3 bn relu6 pw bn pw bn relu6 dw3/2 bn",
    "sandglass_released": "dw3 bn relu6 pw bn pw bn relu6 dw3/2 bn",
    "sandglass_half": "dw3 bn relu6 pw bn pw bn relu6 dw3/2 bn",
    "bottleneck_depthwise": "pw bn relu6 dw3/2 bn relu6 pw bn",
    "bottleneck_depthwise2": "pw bn relu6 dw3 bn relu6 dw3/2 bn relu6 pw bn",
    "inverted_low_depthwise": "dw3 bn relu6 pw bn relu6 pw bn dw3/2 bn",
}


def layer_names(module):
    """The layers in the order of their definition, in the words of LAYERS."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            (size, other), (stride, _) = layer.kernel_size, layer.stride
            if size != other:
                yield f"{layer.kernel_size}/{layer.stride}"
            elif size == 1:
                assert layer.groups == 1 and stride == 1
                yield "pw"
            else:
                assert layer.groups == layer.in_channels == layer.out_channels
                dilation = "d2" if layer.dilation == (2, 2) else ""
                yield f"dw{size}" + (f"/{stride}{dilation}" if stride > 1 else "")
        elif not list(layer.children()):
            yield {nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.ReLU6: "relu6"}[type(layer)]


@pytest.mark.parametrize("name", LAYERS)
def test_an_operator_has_the_layers_of_its_paper_in_their_order(name):
    assert " ".join(layer_names(build_operator(name, 16, 2, True))) == LAYERS[name]


@pytest.mark.parametrize("name", ["avg_pool_3x3", "max_pool_3x3"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_does_not_count_the_padding(name, sign, stride):
    image = torch.full((1, 4, 6, 6), sign)
    assert torch.equal(build_operator(name, 4, stride, True)(image), image[:, :, ::stride, ::stride])


def test_pools_have_no_normalisation_of_their_own():
    x = torch.randn(2, 4, 6, 6)
    for name in ("avg_pool_3x3", "max_pool_3x3"):
        pool = build_operator(name, 4, 1, True)
        torch.testing.assert_close(pool(5 * x + 1), 5 * pool(x) + 1)


def test_none_is_zero_and_skip_connect_at_stride_1_is_the_identity():
    x = torch.randn(2, 4, 6, 6)
    for stride, size in ((1, 6), (2, 3)):
        assert torch.equal(build_operator("none", 4, stride, True)(x), torch.zeros(2, 4, size, size))
    assert torch.equal(build_operator("skip_connect", 4, 1, True)(x), x)
    assert isinstance(build_operator("skip_connect", 4, 2, True), FactorizedReduce)


@pytest.mark.parametrize("height, width", [(8, 8), (7, 9), (7, 8), (1, 1)])
def test_a_factorized_reduction_sees_the_image_and_the_image_shifted_by_one_pixel(height, width):
    reduction = FactorizedReduce(3, 4).eval()
    x = torch.randn(2, 3, height, width)
    shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # zeros come in from the right and from below
    _, _, convolutions, norm = reduction
    halves = [
        F.conv2d(image[:, :, ::2, ::2].relu(), weight)
        for image, weight in zip((x, shifted), convolutions.weight.chunk(2), strict=True)
    ]
    expected = torch.cat(halves, dim=1) / (1 + norm.eps) ** 0.5
    assert expected.shape == (2, 4, (height + 1) // 2, (width + 1) // 2)
    torch.testing.assert_close(reduction(x), expected, atol=1e-5, rtol=1e-4)


def test_a_factorized_reduction_refuses_an_odd_number_of_channels():
    with pytest.raises(ValueError, match="even number"):
        FactorizedReduce(4, 33)


@pytest.mark.parametrize("channels", [16, 33])
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_shortcut_is_there_at_stride_1_only(name, channels):
    x = torch.randn(2, channels, 6, 6)
    for stride in (1, 2):
        block = build_operator(name, channels, stride, True)
        for parameter in block.parameters():
            nn.init.zeros_(parameter)  # what is left is the shortcut
        expected = x.clone() if stride == 1 else torch.zeros(2, channels, 3, 3)
        if name == "sandglass_half":
            expected[:, channels // 2 :] = 0
        assert torch.equal(block(x), expected)


@pytest.mark.parametrize(
    "channels, table_1, released",
    [(16, 2, 16), (32, 5, 16), (64, 10, 16), (36, 6, 6), (72, 12, 12), (144, 24, 24), (3, 1, 16), (200, 33, 32)],
)
def test_the_hidden_width_is_that_of_table_1_or_of_the_released_code(channels, table_1, released):
    assert hidden_channels(channels, 6) == table_1
    assert released_hidden_channels(channels, 6) == released
    for name, width in (("sandglass", table_1), ("sandglass_half", table_1), ("sandglass_released", released)):
        layers = build_operator(name, channels, 1, True).modules()
        widths = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d)]
        assert widths == [channels, width, channels, channels]


def test_the_released_width_is_never_more_than_a_tenth_below_a_sixth():
    for channels in range(1, 1000):
        released = released_hidden_channels(channels, 6)
        assert released >= 0.9 * channels / 6
        assert released % 16 == 0 or released == channels / 6
