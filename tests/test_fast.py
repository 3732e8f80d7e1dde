"""The fast patterns give what PyTorch's own layers give, and let alone whatever they do not know."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells.fast import FastSequential, PointwiseNorm, WeightedSum, accelerate, depthwise_conv
from search_spaces.registry import build_operator, operator_names


def doubles(*shape):
    x = torch.randn(*shape, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@pytest.mark.parametrize("size", [(8, 8), (8, 6), (7, 9)], ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_depthwise_convolution_has_the_gradients_of_pytorch_s(kernel, stride, dilation, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, kernel, stride, dilation * (kernel // 2), dilation, groups=4, bias=False).double()
    x = doubles(3, 4, *size).requires_grad_()
    expected, result = conv(x), depthwise_conv(x, conv)
    assert torch.equal(result, expected)
    gradient = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(result, (x, conv.weight), gradient),
        torch.autograd.grad(expected, (x, conv.weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_the_gradients_of_a_folded_batch_norm_are_those_of_finite_differences(affine):
    torch.manual_seed(0)
    z, weight = doubles(3, 2, 2, 3).requires_grad_(), doubles(4, 2, 1, 1).requires_grad_()
    scale_and_shift = [doubles(4).requires_grad_() if affine else None for _ in range(2)]
    assert torch.autograd.gradcheck(lambda *given: PointwiseNorm.apply(*given, 1e-5)[0], (z, weight, *scale_and_shift))


def test_the_weighted_sum_is_one_and_has_its_gradients():
    weights, tensors = doubles(3).requires_grad_(), [doubles(2, 2, 3, 3).requires_grad_() for _ in range(3)]
    assert torch.autograd.gradcheck(WeightedSum.apply, (weights, *tensors))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", [name for name in operator_names() if name != "none"])
def test_every_operator_runs_alike_and_keeps_its_names(name, affine, stride):
    torch.manual_seed(0)
    plain = build_operator(name, 6, stride, affine).double()
    fast = accelerate(build_operator(name, 6, stride, affine).double())
    fast.load_state_dict(plain.state_dict())
    x = doubles(4, 6, 8, 8)
    results = []
    for module in (plain, fast):
        inputs = [x.clone().requires_grad_(), *module.parameters()]
        y = module(inputs[0])
        gradients = torch.autograd.grad(y, inputs, torch.linspace(0, 1, y.numel(), dtype=y.dtype).view(y.shape))
        results.append([y, *gradients, *module.buffers(), module.eval()(x)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_single_precision_agrees_with_double_to_its_rounding():
    torch.manual_seed(0)
    plain = build_operator("sep_conv_5x5", 16, 1, False).double()
    fast = accelerate(build_operator("sep_conv_5x5", 16, 1, False))
    fast.load_state_dict(plain.state_dict())
    x = doubles(8, 16, 16, 16) + 2  # a mean that is large beside the spread, as behind a ReLU
    torch.testing.assert_close(fast(x.float()).double(), plain(x), rtol=0, atol=2e-5)


def test_a_scale_multiplies_the_result_whatever_the_last_layer_is():
    scale = torch.tensor(0.3, dtype=torch.float64)
    for last in (
        [nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)],
        [nn.BatchNorm2d(2)],
        [nn.Conv2d(2, 2, 1), nn.ReLU()],
    ):
        layers = FastSequential(nn.ReLU(), *last).double()
        x = doubles(2, 2, 4, 4)
        torch.testing.assert_close(layers(x, scale=scale), scale * layers(x))
        torch.testing.assert_close(layers(x.relu(), scale=scale, skip=1), scale * layers(x))


def test_layers_that_do_more_than_their_forward_are_called():
    """Weight normalisation in a hook, a frozen BatchNorm, a cumulative one, a Sequential with a forward of its own."""

    class Doubling(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    frozen = nn.BatchNorm2d(2)
    frozen.running_mean += 1
    modules = [
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1, bias=False)), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), frozen.eval()),
        nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2, momentum=None)),
        Doubling(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)),
    ]
    calls = []
    hooked = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2))
    hooked[0].register_forward_pre_hook(lambda module, inputs: calls.append(module))
    x = doubles(2, 2, 4, 4)
    for module in (*modules, hooked):
        expected = module.double()(x)
        torch.testing.assert_close(accelerate(module)(x), expected)
    assert len(calls) == 2


def test_one_value_a_channel_is_refused_as_by_batch_norm():
    layers = accelerate(nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)))
    with pytest.raises(ValueError, match="more than one value"):
        layers(torch.randn(1, 2, 1, 1))
    assert F.relu(layers.eval()(torch.randn(1, 2, 1, 1))).shape == (1, 2, 1, 1)
