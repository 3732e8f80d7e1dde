"""Units give what PyTorch's own layers give, and whatever is no unit is let alone."""

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cells.compiled import kernels, simd
from cells.compiled.fused import Sums, accelerate, as_units, fused_sums
from cells.compiled.units import read_units
from project_root import ROOT
from search_spaces.layers import FactorizedReduce
from search_spaces.registry import build_operator, operator_names


def doubles(*shape):
    x = torch.randn(*shape, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def compare(plain: nn.Module, x, rtol=1e-9, atol=1e-11):
    """Output, all gradients, statistics and evaluation of a module and of its accelerated copy."""
    results = []
    for module in (plain, accelerate(copy.deepcopy(plain))):
        inputs = [x.clone().requires_grad_(), *module.parameters()]
        y = module(inputs[0])
        gradients = torch.autograd.grad(y, inputs, torch.linspace(0, 1, y.numel(), dtype=y.dtype).view(y.shape))
        results.append([y, *gradients, *module.buffers(), module.eval()(x)])
    torch.testing.assert_close(results[1], results[0], rtol=rtol, atol=atol)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", [name for name in operator_names() if name != "none"])
def test_every_operator_runs_alike_and_keeps_its_names(name, affine, stride):
    torch.manual_seed(0)
    plain = build_operator(name, 6, stride, affine).double()
    assert list(accelerate(copy.deepcopy(plain)).state_dict()) == list(plain.state_dict())
    compare(plain, doubles(4, 6, 8, 8))


@pytest.mark.parametrize("size", [(8, 8), (8, 6), (7, 9), (1, 5), (2, 2)], ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_a_depthwise_convolution_of_any_geometry(kernel, stride, dilation, size):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 5, kernel, stride, dilation * (kernel // 2), dilation, groups=5, bias=False)
    layers = nn.Sequential(conv, nn.Conv2d(5, 3, 1, bias=False), nn.BatchNorm2d(3)).double()
    compare(layers, doubles(3, 5, *size))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (3, 3)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("pool", ["max", "average"])
def test_a_pooling_of_any_geometry(pool, kernel, stride, size):
    torch.manual_seed(0)
    if pool == "max":
        layer = nn.MaxPool2d(kernel, stride, kernel // 2)
    else:
        layer = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
    layers = nn.Sequential(layer, nn.BatchNorm2d(5, affine=False)).double()
    compare(layers, doubles(3, 5, *size))
    compare(layers, doubles(3, 5, *size).relu())  # with ties: the first of the largest has the gradient


@pytest.mark.parametrize("channels", [1, 4, 8, 15, 16, 17, 40])
def test_any_number_of_channels(channels):
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(channels, 2 * channels, 1, bias=False),
        nn.BatchNorm2d(2 * channels),
        nn.ReLU6(),
        nn.Conv2d(2 * channels, 2 * channels, 3, 1, 1, groups=2 * channels, bias=False),
        nn.BatchNorm2d(2 * channels),
        nn.Hardtanh(-0.5, 0.7),
        nn.Conv2d(2 * channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ).double()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn_like(parameter))
    assert len(read_units(list(layers))[0]) == 3
    compare(layers, doubles(4, channels, 5, 5), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (8, 5), (1, 3)], ids=str)
@pytest.mark.parametrize(("channels", "outputs"), [(1, 2), (6, 8), (16, 16), (17, 34), (40, 16)])
def test_a_factorized_reduction_is_one_unit(channels, outputs, size):
    torch.manual_seed(0)
    layers = FactorizedReduce(channels, outputs).double()
    (unit,), rest = read_units(list(layers))
    assert not rest and unit.output_shape((2, *size, channels))[1:] == (*(-(-n // 2) for n in size), outputs)
    compare(layers, doubles(4, channels, *size))


def test_single_precision_agrees_with_double_to_its_rounding():
    torch.manual_seed(0)
    plain = build_operator("sep_conv_5x5", 16, 1, False).double()
    fast = accelerate(copy.deepcopy(plain).float())
    x = doubles(8, 16, 16, 16) + 2  # a mean that is large beside the spread, as behind a ReLU
    torch.testing.assert_close(fast(x.float()).double(), plain(x), rtol=0, atol=2e-5)


def test_a_mean_far_from_zero_costs_no_precision():
    """Variances come from the images' own deviations, not from a difference of large sums."""
    layers = accelerate(nn.Sequential(nn.Conv2d(4, 4, 1, groups=4, bias=False), nn.BatchNorm2d(4, affine=False)))
    with torch.no_grad():
        layers[0].weight.fill_(1)
    x = torch.randn(8, 4, 16, 16) + 1000
    expected = nn.functional.batch_norm(x.double(), None, None, training=True)
    torch.testing.assert_close(layers(x).double(), expected, rtol=0, atol=1e-3)


def test_the_sums_of_what_leaves_a_node_and_all_their_gradients():
    """Two sums with chains of their own, shared chains, the identity, and a base for one of them."""
    torch.manual_seed(0)
    build = {name: lambda name=name: build_operator(name, 3, 1, True).double() for name in operator_names()}
    pool = nn.Sequential(build["max_pool_3x3"](), nn.BatchNorm2d(3)).double()
    own = [[build["sep_conv_3x3"](), build["dil_conv_5x5"]()] for _ in range(2)]
    x, base = doubles(2, 3, 6, 6).requires_grad_(), doubles(2, 3, 6, 6).requires_grad_()
    weights = torch.rand(2, 4, dtype=torch.float64).requires_grad_()
    parameters = [p for module in (pool, *own[0], *own[1]) for p in module.parameters()]

    expected = []
    for m in range(2):
        terms = [pool(x), x, *(module(x) for module in own[m])]
        expected.append(sum(weight * term for weight, term in zip(weights[m], terms, strict=True)))
    expected[1] = expected[1] + base

    shared = [read_units(list(pool))[0], []]
    chains = [[read_units(list(module))[0] for module in modules] for modules in own]
    results = fused_sums(x, Sums(chains, shared), weights, [None, base])
    assert as_units(accelerate(nn.Identity()), x) == []
    inputs = [x, weights, base, *parameters]
    gradient = torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view(x.shape)
    for wanted in (inputs, [weights], [x, weights], parameters):
        ours = torch.autograd.grad(results, wanted, [gradient, gradient**2], retain_graph=True)
        theirs = torch.autograd.grad(expected, wanted, [gradient, gradient**2], retain_graph=True)
        torch.testing.assert_close([*results, *ours], [*expected, *theirs], rtol=1e-9, atol=1e-10)


def test_the_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layers = accelerate(nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)).double())
    assert torch.autograd.gradcheck(layers, doubles(3, 2, 2, 3).requires_grad_())


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    plain, x = build_operator("sep_conv_3x3", 16, 1, True), torch.randn(37, 16, 6, 6)
    results, threads = [], torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        module = accelerate(copy.deepcopy(plain))
        given = x.clone().requires_grad_()
        y = module(given)
        results.append([y, *torch.autograd.grad(y.square().sum(), [given, *module.parameters()]), *module.buffers()])
    torch.set_num_threads(threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.slow
def test_the_loops_leave_pytorch_its_number_of_threads():
    """Numba's start sets OpenMP's, which is PyTorch's, too; in a process of its own, as it starts once."""
    program = """
import torch
torch.set_num_threads(1)
from torch import nn
from cells.compiled.fused import accelerate
layers = accelerate(nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)))
layers(torch.randn(2, 1, 2, 2)).sum().backward()
print(torch.get_num_threads())
"""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert ran.stdout == "1\n", ran.stderr


def test_what_is_not_finite_stays_visible():
    for bad in (float("nan"), float("inf")):
        x = torch.ones(2, 4, 5, 5)
        x[0, 0, 2, 2] = bad
        assert not accelerate(build_operator("sep_conv_3x3", 4, 1, False))(x).isfinite().all()


def test_layers_that_do_more_than_their_forward_are_called():
    """Weight normalisation in a hook, a frozen BatchNorm, a cumulative one, a Sequential with a forward of its own."""

    class Doubling(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    class Leaky(nn.ReLU):
        def forward(self, x):
            return nn.functional.leaky_relu(x)

    frozen = nn.BatchNorm2d(2)
    frozen.running_mean += 1
    modules = [
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1, bias=False)), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), frozen.eval()),
        nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2, momentum=None)),
        nn.Sequential(Leaky(), nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, groups=2, padding_mode="reflect", bias=False), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 2, 3, 1, 1, groups=2), nn.BatchNorm2d(2)),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(2)),
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
    assert layers.eval()(torch.randn(1, 2, 1, 1)).shape == (1, 2, 1, 1)


def test_a_change_of_the_vectors_reaches_compiled_loops_that_are_cached():
    content = Path(simd.__file__).read_bytes().replace(b"\r\n", b"\n")
    assert hashlib.sha256(content).hexdigest()[:16] == kernels.SIMD_VERSION


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_do_what_they_say(dtype):
    @kernels.njit
    def run(x, y, out):
        total = simd.fma(simd.read(x, 1), simd.splat(y, 0), simd.fill(y[1]))
        simd.write(out, 0, total)
        simd.write_part(out, simd.LANES, simd.read_part(x, 0, 2), 3)

    x, y = np.arange(40, dtype=dtype) - 7, np.array([3, 0.5], dtype)
    out = np.full(3 * simd.LANES, 9, dtype)
    run(x, y, out)
    assert np.array_equal(out[: simd.LANES], x[1 : simd.LANES + 1] * 3 + 0.5)
    assert out[simd.LANES : simd.LANES + 5].tolist() == [-7, -6, 0, 9, 9]
