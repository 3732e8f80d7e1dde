"""The operator contract: what every registered operator does on an edge."""

import pytest
import torch
from torch import nn

from search_spaces import build_operator, check_operator, operator_names

CASES = [
    pytest.param(name, channels, stride, affine, id=f"{name}, C={channels}, stride {stride}, affine {affine}")
    for name in operator_names()
    for channels in (16, 33)
    for stride in (1, 2)
    for affine in (True, False)
    if not (name == "skip_connect" and stride == 2 and channels % 2)  # a factorized reduction makes two halves
]


@pytest.mark.parametrize("name, channels, stride, affine", CASES)
def test_every_operator_keeps_the_contract(name, channels, stride, affine):
    torch.manual_seed(0)
    module = build_operator(name, channels, stride, affine)
    for height, width in ((8, 8), (7, 5)):
        original = torch.randn(2, channels, height, width)
        x = original.clone().requires_grad_()
        y = module(x)
        assert y.shape == (2, channels, -(-height // stride), -(-width // stride))
        assert torch.equal(x, original), "the input was changed in place"
        assert torch.isfinite(y).all()

    parameters = list(module.parameters())
    if parameters:
        assert all(torch.any(g != 0) for g in torch.autograd.grad(y.square().sum() + y.sum(), parameters))
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(layer.affine == affine for layer in norms)
    assert len(parameters) == sum(isinstance(m, nn.Conv2d) for m in module.modules()) + 2 * affine * len(norms)


@pytest.mark.parametrize("name", operator_names())
def test_every_operator_follows_its_input_to_float64_and_eval_mode(name):
    module = build_operator(name, 16, 2, True).double().eval()
    x = torch.randn(1, 16, 8, 8, dtype=torch.float64)
    y = module(x)
    assert y.dtype == torch.float64
    assert torch.equal(y, module(x))


@pytest.mark.parametrize("name", operator_names())
def test_every_operator_passes_the_check_that_plugins_get(name):
    report = check_operator(name)
    assert report["name"] == name
    assert [(cost["channels"], cost["stride"]) for cost in report["costs"]] == [(16, 1), (16, 2), (36, 1), (36, 2)]
    for cost in report["costs"]:
        built = build_operator(name, cost["channels"], cost["stride"], True)
        assert cost["parameters"] == sum(parameter.numel() for parameter in built.parameters())
        assert (cost["madds"] > 0) == (cost["parameters"] > 0)


def test_costs_are_those_of_a_32x32_image():
    costs = check_operator("sep_conv_3x3")["costs"]
    one_pixel = 9 * 36 + 36**2  # depthwise and pointwise
    assert costs[2] == {"channels": 36, "stride": 1, "parameters": 3384, "madds": 2 * one_pixel * 32**2}
    assert costs[3]["madds"] == 2 * one_pixel * 16**2
    assert check_operator("skip_connect")["costs"][2] == {"channels": 36, "stride": 1, "parameters": 0, "madds": 0}


def test_a_check_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_operator("sandglass")
    assert torch.equal(torch.rand(4), expected)
