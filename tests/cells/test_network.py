"""The discrete network: what a cell computes, what drop path spares, when the auxiliary head speaks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells.costs import network_costs
from cells.execution import Execution
from cells.genotype_file import load_genotype
from cells.network import AuxiliaryHead, Network, check_operators, drop_path
from search_spaces import register_operator
from some_cells import Scaled, genotype_of

ALWAYS = 1 - 1e-12  # the probability that drops every path


def network(*arguments, layers=3, classes=3, channels=4, auxiliary=False, **nodes) -> Network:
    torch.manual_seed(0)
    return Network(genotype_of(*arguments, **nodes), channels, layers, classes, auxiliary)


def inputs_of(cell, size=8):
    """Two tensors that fit a cell after no reduction, and what its 1x1 convolutions make of them."""
    pair = [torch.randn(4, cell.inputs.preprocess0[1].in_channels, size, size) for _ in range(2)]
    return pair, cell.inputs(*pair)


# Cells


def test_a_node_is_the_sum_of_its_edges_and_the_output_the_concat_in_its_order():
    register_operator("twofold")(lambda channels, stride, affine: Scaled(2, stride))
    register_operator("minus")(lambda channels, stride, affine: Scaled(-1, stride))
    cell = network(
        "twofold 0, minus 1", "minus 2, minus 2", "twofold 3, twofold 1, minus 0", "twofold 4", concat=(5, 2, 4)
    ).cells[0]
    cell.eval()
    (input0, input1), (p0, p1) = inputs_of(cell)
    n2 = 2 * p0 - p1
    n3 = -2 * n2
    n4 = 2 * n3 + 2 * p1 - p0
    torch.testing.assert_close(cell(input0, input1), torch.cat([2 * n4, n2, n4], dim=1))


def test_pools_are_bare_in_the_network():
    cell = network("avg_pool_3x3 0, max_pool_3x3 1").cells[0].eval()
    (input0, input1), (p0, p1) = inputs_of(cell)
    expected = F.avg_pool2d(p0, 3, 1, 1, count_include_pad=False) + F.max_pool2d(p1, 3, 1, 1)
    torch.testing.assert_close(cell(input0, input1), expected)


def test_only_the_edges_from_the_inputs_of_a_reduction_cell_have_stride_2():
    strides = []

    def record(channels, stride, affine):
        strides.append((channels, stride, affine))
        return nn.AvgPool2d(stride)

    register_operator("record")(record)
    network("record 0, record 1", "record 2, record 0", layers=3, channels=4)
    of_reductions = [(channels, stride, True) for channels in (8, 16) for stride in (2, 2, 1, 2)]
    assert strides == [(4, 1, True)] * 4 + of_reductions


@pytest.mark.parametrize("layers, reductions", [(1, [0]), (2, [0, 1]), (3, [1, 2]), (8, [2, 5]), (20, [6, 13])])
def test_resolution_halves_at_a_third_and_two_thirds_of_the_depth(layers, reductions):
    sizes = []
    model = network("skip_connect 0, skip_connect 1", layers=layers, channels=2).eval()
    for cell in model.cells:
        cell.register_forward_hook(lambda module, arguments, output: sizes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 16, 16))
    expected, channels, size = [], 2, 16
    for index in range(layers):
        if index in reductions:
            channels, size = 2 * channels, size // 2
        expected.append((channels, size, size))
    assert sizes == expected


@pytest.mark.parametrize("image_size", [8, 9])
@pytest.mark.parametrize("name", ["darts_v2", "amoebanet"])
def test_the_compiled_layers_of_training_compute_what_pytorchs_own_do(name, image_size):
    images, results = torch.randn(3, 3, image_size, image_size).double(), []
    for compiled in (True, False):
        torch.manual_seed(0)
        model = Network(load_genotype(name), 4, 3, 3, auxiliary=False, execution=Execution(compiled=compiled)).double()
        logits, _ = model(images, 0.2)
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        results.append([logits, *gradients, *model.buffers()])
    torch.testing.assert_close(*results, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("image_size", [8, 9, 15, 32])
@pytest.mark.parametrize("name", ["darts_v2", "nasnet", "amoebanet", "fairdarts_a"])
def test_published_cells_train_at_any_image_size_and_odd_channels(name, image_size):
    torch.manual_seed(0)
    model = Network(load_genotype(name), channels=5, layers=4, classes=3)
    logits, auxiliary = model(torch.randn(2, 3, image_size, image_size), 0.2)
    assert logits.shape == auxiliary.shape == (2, 3)
    gradients = torch.autograd.grad((logits + auxiliary).square().sum(), list(model.parameters()), allow_unused=True)
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_a_cell_may_have_five_nodes_and_a_concat_of_three():
    reduce = genotype_of("sep_conv_3x3 0, skip_connect 1", "skip_connect 2, skip_connect 0", concat=(3,))
    model = network(*["sep_conv_3x3 0, skip_connect 1"] * 5, concat=(4, 5, 6), reduce=reduce, layers=6, auxiliary=True)
    assert model(torch.randn(2, 3, 16, 16))[0].shape == (2, 3)
    assert model.classifier.in_features == 3 * 16
    assert model.auxiliary_head.features[0].in_channels == 1 * 16


def test_an_operator_that_is_not_registered_is_named(refused):
    with refused('genotype: unknown operator "ghost_3x3"', "--plugin"):
        network("ghost_3x3 0, skip_connect 1")
    with refused('did you mean "sep_conv_3x3"?'):
        check_operators(genotype_of("sep_conv3x3 0"))


# Drop path


def test_drop_path_has_one_value_an_image_and_keeps_the_mean():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(20_000, 2, 2, 2), 0.3)
    one_an_image = dropped[:, :1, :1, :1]
    assert torch.equal(dropped, one_an_image.expand_as(dropped))
    torch.testing.assert_close(one_an_image.unique(), torch.tensor([0.0, 1 / 0.7]))
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("probability", [0.0, torch.tensor(0.0)])
def test_drop_path_of_probability_zero_changes_nothing(probability, dtype):
    x = torch.randn(5, 2, 3, 3, dtype=dtype)
    assert torch.equal(drop_path(x, probability), x)
    assert drop_path(x, probability).dtype == dtype


def test_drop_path_spares_the_identity_and_nothing_else():
    edges = ["sep_conv_3x3 0, dil_conv_3x3 1", "max_pool_3x3 0, avg_pool_3x3 1", "skip_connect 0, sandglass 1"]
    cell = network(*edges).cells[0]
    (input0, input1), (p0, _) = inputs_of(cell)
    zeros = torch.zeros(4, 4, 8, 8)
    torch.testing.assert_close(cell(input0, input1, ALWAYS), torch.cat([zeros, zeros, p0], dim=1))


def test_drop_path_does_not_spare_the_strided_skip():
    cell = network("skip_connect 0, skip_connect 1", layers=1).cells[0]
    inputs, _ = inputs_of(cell)
    assert cell(*inputs, 0.0).abs().sum() > 0
    assert torch.equal(cell(*inputs, ALWAYS), torch.zeros(4, 8, 4, 4))


def test_drop_path_is_for_training_only():
    model = network("sep_conv_3x3 0, sep_conv_3x3 1").eval()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model(images, ALWAYS)[0], model(images)[0])
    model.train()
    assert not torch.equal(model(images, ALWAYS)[0], model(images)[0])


# The auxiliary head


def test_auxiliary_logits_come_in_training_only_and_only_if_asked_for():
    images = torch.randn(2, 3, 32, 32)
    model = network("skip_connect 0, skip_connect 1", auxiliary=True, classes=7)
    assert model(images)[1].shape == (2, 7)
    assert model.eval()(images)[1] is None
    without = network("skip_connect 0, skip_connect 1", auxiliary=False)
    assert without(images)[1] is None and without.auxiliary_head is None


@pytest.mark.parametrize("layers, index", [(1, 0), (3, 2), (5, 3), (8, 5), (20, 13)])
def test_the_auxiliary_head_reads_the_cell_two_thirds_into_the_network(layers, index):
    model = network("skip_connect 0, skip_connect 1", layers=layers, channels=2, auxiliary=True)
    seen = []
    model.cells[index].register_forward_hook(lambda module, arguments, output: seen.append(output))
    model.auxiliary_head.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    model(torch.randn(2, 3, 16, 16))
    assert len(seen) == 2 and seen[0] is seen[1]


@pytest.mark.parametrize("size", [8, 1, 2, 4, 7, 9, 16])
def test_the_auxiliary_head_pools_8x8_maps_as_the_reference_and_others_adaptively(size):
    torch.manual_seed(0)
    head, x = AuxiliaryHead(6, 5), torch.randn(3, 6, size, size)
    if size == 8:
        pooled = F.avg_pool2d(x.relu(), 5, stride=3, padding=0, count_include_pad=False)
        assert not torch.allclose(pooled, F.adaptive_avg_pool2d(x.relu(), 2), atol=1e-3)
    else:
        pooled = F.adaptive_avg_pool2d(x.relu(), 2)
    y = head.features(pooled)
    assert y.shape == (3, 768, 1, 1)
    torch.testing.assert_close(head(x), head.classifier(y.flatten(1)))


# Counts


def test_a_description_counts_what_a_built_network_has_and_does():
    built = Network(load_genotype("amoebanet"), channels=6, layers=5, classes=7).eval()
    parameters = sum(p.numel() for p in built.parameters())
    head = sum(p.numel() for p in built.auxiliary_head.parameters())
    madds = []

    def count(layer, arguments, output):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            madds.append(output.numel() * layer.weight[0].numel())  # each output is a product with one filter

    for layer in built.modules():
        layer.register_forward_hook(count)
    built(torch.randn(1, 3, 24, 24))
    described = network_costs(load_genotype("amoebanet"), channels=6, layers=5, classes=7, image_size=24)
    assert described == (parameters - head, parameters, sum(madds))
