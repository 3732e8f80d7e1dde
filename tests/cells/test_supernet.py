"""The supernet: the formula of the paper, whatever is computed to get there."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from cells.execution import Execution
from cells.supernet import Supernet
from search_spaces import SearchSpace, load_space, register_operator
from some_cells import Scaled
from textbook_twin import supernet_and_textbook_twin


@pytest.fixture
def parameter_free():
    """Operators without parameters, so that supernets of one seed have the same weights whatever they hold."""
    register_operator("keep")(lambda channels, stride, affine: Scaled(1, stride))
    register_operator("triple")(lambda channels, stride, affine: Scaled(3, stride))
    register_operator("minus")(lambda channels, stride, affine: Scaled(-1, stride))


def logits(operators, alphas, nodes=2, layers=3):
    """Logits of a supernet of seed 0 whose alphas are given by operator name, the same on every edge."""
    torch.manual_seed(0)
    supernet = Supernet(SearchSpace("test", tuple(operators), nodes), channels=4, layers=layers, classes=3).double()
    with torch.no_grad():
        for table in supernet.alphas():
            table.copy_(torch.tensor([alphas[name] for name in operators]).expand_as(table))
    return supernet(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double())


@pytest.mark.parametrize(
    "image_size, memory_format", [(8, torch.channels_last), (9, torch.channels_last), (14, torch.contiguous_format)]
)
@pytest.mark.parametrize("name", ["darts", "darts+ir+sandglass", "darts+bottleneck_depthwise2+conv_7x1_1x7"])
def test_the_supernet_is_the_formula_in_logits_gradients_and_statistics(name, image_size, memory_format):
    supernet, plain = supernet_and_textbook_twin(replace(load_space(name), nodes=2))
    supernet.to(memory_format=memory_format)
    images, labels = torch.randn(2, 3, image_size, image_size).double(), torch.tensor([0, 2])
    ours, theirs = supernet(images.contiguous(memory_format=memory_format)), plain(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    gradients = [
        torch.autograd.grad(nn.functional.cross_entropy(logits, labels), [*model.weights(), *model.alphas()])
        for model, logits in ((supernet, ours), (plain, theirs))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(supernet.eval()(images), plain.eval()(images), rtol=1e-8, atol=1e-9)


def test_alphas_and_weights_are_disjoint_and_together_all_parameters():
    supernet = Supernet(load_space("darts"), channels=2, layers=3, classes=3)
    alphas, weights = ([id(p) for p in group] for group in (supernet.alphas(), supernet.weights()))
    assert not set(alphas) & set(weights)
    assert sorted(alphas + weights) == sorted(id(p) for p in supernet.parameters())
    assert weights == [id(p) for p in supernet.weights()]
    assert {*supernet.state_dict()} >= {name for name, p in supernet.named_parameters() if id(p) in alphas}


def test_there_is_one_small_random_table_for_normal_and_one_for_reduction_cells():
    torch.manual_seed(0)
    tables = Supernet(load_space("darts+sandglass"), channels=2, layers=8, classes=3).alphas()
    assert [table.shape for table in tables] == [(14, 9), (14, 9)]
    assert not torch.equal(*tables)
    for table in tables:
        assert 0.8e-3 < table.std() < 1.2e-3 and table.mean().abs() < 3e-4


def test_operator_weights_are_the_softmax_of_each_edge():
    supernet = Supernet(load_space("darts"), channels=2, layers=1, classes=3)
    for table, alphas in zip(supernet.operator_weights(), supernet.alphas(), strict=True):
        torch.testing.assert_close(table, alphas.exp() / alphas.exp().sum(1, keepdim=True))


def test_reduction_cells_read_the_other_table():
    supernet = Supernet(load_space("darts"), channels=2, layers=3, classes=3)  # one normal cell, then two reductions
    images = torch.randn(4, 3, 8, 8)
    before = supernet(images)
    for table in supernet.alphas():
        with torch.no_grad():
            table[:, -1] += 3
        after = supernet(images)
        assert not torch.allclose(before, after, atol=1e-4)
        before = after


def test_only_the_stem_learns_a_scale_and_shift():
    supernet = Supernet(load_space("darts+ir+sandglass"), channels=2, layers=3, classes=3)
    vectors = [tuple(weight.shape) for weight in supernet.weights() if weight.ndim == 1]
    assert vectors == [(6,), (6,), (3,)]  # the stem's BatchNorm, the classifier's bias


@pytest.mark.parametrize("nodes, layers", [(1, 1), (2, 3), (4, 8)])
def test_all_intermediate_nodes_go_into_the_output(nodes, layers):
    supernet = Supernet(SearchSpace("test", ("skip_connect",), nodes), channels=2, layers=layers, classes=3)
    width = 2 * (2 if layers == 1 else 4)  # a network of one layer has one reduction
    assert [tuple(w.shape) for w in supernet.weights()][-2:] == [(3, nodes * width), (3,)]
    assert supernet(torch.randn(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.usefixtures("parameter_free")
def test_the_order_of_the_operators_changes_nothing():
    alphas = {"none": 0.5, "keep": -0.3, "triple": 0.2, "minus": 1.0}
    expected = logits(alphas, alphas)
    for operators in itertools.permutations(alphas):
        torch.testing.assert_close(logits(operators, alphas), expected)


@pytest.mark.usefixtures("parameter_free")
def test_appending_an_operator_of_no_weight_changes_nothing():
    alphas = {"none": 0.5, "keep": -0.3, "minus": 1.0, "triple": -1000.0}
    torch.testing.assert_close(logits(alphas, alphas), logits(["none", "keep", "minus"], alphas))


@pytest.mark.usefixtures("parameter_free")
@pytest.mark.parametrize("place", [0, 1])
def test_none_adds_nothing_and_takes_its_share_wherever_it_stands(place):
    operators = ["keep"]
    operators.insert(place, "none")
    shares = []
    for none in (-1000.0, 1.0986122886681098):  # the logarithm of 3
        outputs = logits(operators, {"keep": 0.0, "none": none}, nodes=1, layers=1)
        shares.append(outputs[0] - outputs[1])  # without the classifier's bias; one cell of one node is linear
    torch.testing.assert_close(shares[1], shares[0] / 4)


def test_what_asks_for_a_norm_has_it_in_the_supernet():
    def loud_pool(channels, stride, affine):
        return nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), Scaled(100, 1))

    register_operator("loud_pool", supernet_norm=True)(loud_pool)
    register_operator("bare_pool")(loud_pool)
    quiet = logits(["none", "avg_pool_3x3"], {"none": 0.0, "avg_pool_3x3": 0.0}, layers=1)
    loud = logits(["none", "loud_pool"], {"none": 0.0, "loud_pool": 0.0}, layers=1)
    bare = logits(["none", "bare_pool"], {"none": 0.0, "bare_pool": 0.0}, layers=1)
    torch.testing.assert_close(loud, quiet, rtol=1e-3, atol=1e-3)  # BatchNorm takes the factor away, but for its eps
    assert not torch.allclose(bare, quiet, atol=0.1)


def test_a_state_dict_restores_weights_alphas_and_statistics():
    space, images = load_space("darts+sandglass"), torch.randn(4, 3, 8, 8)
    first, second = (Supernet(space, channels=2, layers=3, classes=3) for _ in range(2))
    first(images)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(images), second.eval()(images))


@pytest.mark.parametrize("batch", [1, 3])
def test_evaluation_mode_uses_the_running_statistics_and_leaves_them(batch):
    supernet = Supernet(load_space("darts+sandglass"), channels=2, layers=3, classes=3)
    supernet(torch.randn(8, 3, 8, 8))
    supernet.eval()
    images = torch.randn(batch, 3, 8, 8)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    together = supernet(images)
    torch.testing.assert_close(torch.cat([supernet(image[None]) for image in images]), together, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())


def test_recomputed_cells_give_the_same_bits_and_statistics():
    space = load_space("darts+sandglass")
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        supernet = Supernet(space, 2, 4, 3, Execution(recompute=recompute))
        logits = supernet(images)
        loss = nn.functional.cross_entropy(logits, labels)
        gradients = torch.autograd.grad(loss, [*supernet.weights(), *supernet.alphas()])
        results.append([logits, *gradients, *supernet.buffers()])
    assert all(torch.equal(stored, recomputed) for stored, recomputed in zip(*results, strict=True))


def test_a_relu_with_a_forward_of_its_own_is_not_taken_for_a_relu():
    class Negated(nn.ReLU):
        def forward(self, x):
            return -super().forward(x)

    @register_operator("negated_conv")
    def negated_conv(channels, stride, affine):
        conv = nn.Conv2d(channels, channels, 1, stride, bias=False)
        return nn.Sequential(Negated(), conv, nn.BatchNorm2d(channels, affine=affine), Negated())

    supernet, textbook = supernet_and_textbook_twin(SearchSpace("mine", ("negated_conv", "skip_connect")))
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(supernet(images), textbook(images))
