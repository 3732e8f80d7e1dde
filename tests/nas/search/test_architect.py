"""The gradients of the alphas, against exact differentiation in float64. Nothing of the supernet is left changed."""

import itertools
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells.execution import USUAL, Execution
from cells.supernet import Supernet
from nas.search import architect
from nas.search.architect import Unrolling, first_order_gradients, second_order_gradients
from search_spaces import SearchSpace
from search_spaces.space import load_space
from textbook_twin import supernet_and_textbook_twin

SPACE = SearchSpace("small", ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "sandglass"), nodes=2)


def batch(seed, count=6, classes=3, size=8):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator).double()
    return images, torch.randint(classes, (count,), generator=generator)


TRAIN, VALIDATION = batch(1), batch(2, count=4)


def unrolling_of(weights, momentum_buffers="random", learning_rate=0.05, momentum=0.9, weight_decay=3e-3):
    generator = torch.Generator().manual_seed(3)
    buffers = [0.1 * torch.randn(weight.shape, generator=generator).to(weight.dtype) for weight in weights]
    choices = {"random": buffers, "zero": [0 * buffer for buffer in buffers], "none yet": None}
    return Unrolling(learning_rate, momentum, weight_decay, choices[momentum_buffers])


def gradients_of_order(order, supernet, train=TRAIN, validation=VALIDATION, unrolling=None):
    if order == 1:
        return first_order_gradients(supernet, validation)
    return second_order_gradients(supernet, train, validation, unrolling or unrolling_of(supernet.weights()))


def exact_second_order(forward, weights, alphas, train, validation, unrolling):
    """dL_val(w'(a), a)/da through the whole unrolled step, by differentiating twice. `forward` is (weights, images)."""
    loss = F.cross_entropy(forward(weights, train[0]), train[1])
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    buffers = unrolling.buffers or [torch.zeros_like(weight) for weight in weights]
    stepped = [
        w - unrolling.learning_rate * (unrolling.momentum * buffer + gradient + unrolling.weight_decay * w)
        for w, buffer, gradient in zip(weights, buffers, gradients, strict=True)
    ]
    loss = F.cross_entropy(forward(stepped, validation[0]), validation[1])
    return torch.autograd.grad(loss, alphas), loss


def relative_error(gradients, exact):
    difference = sum((ours - theirs).square().sum() for ours, theirs in zip(gradients, exact, strict=True))
    return (difference / sum(theirs.square().sum() for theirs in exact)).sqrt().item()


class Smooth(nn.Module):
    """A supernet without the kinks of ReLU: two layers that mix tanh, sin and the identity by softmax weights."""

    execution = USUAL

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        shapes = [(2, 3), (6, 12), (6, 6), (3, 6)]
        tables, *layers = (nn.Parameter(torch.randn(shape, generator=generator).double()) for shape in shapes)
        self.table, self.layers = tables, nn.ParameterList(layers)

    def alphas(self):
        return [self.table]

    def weights(self):
        return list(self.layers)

    def forward(self, images):
        x = F.avg_pool2d(images, 4).flatten(1)
        for layer, row in zip(self.layers, self.table.softmax(dim=1), strict=False):
            x = x @ layer.t()
            x = row[0] * x.tanh() + row[1] * x.sin() + row[2] * x
        return x @ self.layers[2].t()


# Against exact differentiation


@pytest.fixture(scope="module")
def twins():
    return supernet_and_textbook_twin(SPACE)


def test_first_order_is_the_gradient_of_the_validation_loss(twins):
    supernet, plain = twins
    result = first_order_gradients(supernet, VALIDATION)
    logits = plain(VALIDATION[0])
    loss = F.cross_entropy(logits, VALIDATION[1])
    assert relative_error(result.gradients, torch.autograd.grad(loss, list(plain.tables))) < 1e-10
    torch.testing.assert_close(result.loss, loss.detach())
    torch.testing.assert_close(result.logits, logits.detach())


@pytest.mark.parametrize("momentum_buffers", ["none yet", "zero", "random"])
def test_second_order_is_the_gradient_through_the_unrolled_step(twins, momentum_buffers):
    supernet, plain = twins
    names = [name for name, _ in plain.named_parameters() if not name.startswith("tables")]
    weights = plain.weights()
    unrolling = unrolling_of(weights, momentum_buffers)

    def forward(values, images):
        return torch.func.functional_call(plain, dict(zip(names, values, strict=True)), (images,))

    exact, loss = exact_second_order(forward, weights, list(plain.tables), TRAIN, VALIDATION, unrolling)
    # Found: 5e-10. The radius is small enough that no ReLU changes its sign between w+ and w-; beyond, each that does
    # adds its kink to the difference, which is no error of O(R^2). The smooth model below shows that one.
    result = second_order_gradients(supernet, TRAIN, VALIDATION, unrolling, radius=1e-6)
    assert relative_error(result.gradients, exact) < 1e-7
    torch.testing.assert_close(result.loss, loss.detach())
    first = first_order_gradients(supernet, VALIDATION)
    assert relative_error(first.gradients, exact) > 0.1  # the second term is no small change


def test_the_error_of_the_finite_difference_falls_with_the_square_of_its_radius():
    model = Smooth()
    unrolling = unrolling_of(model.weights())

    def forward(values, images):
        return torch.func.functional_call(model, {f"layers.{i}": value for i, value in enumerate(values)}, (images,))

    exact, _ = exact_second_order(forward, model.weights(), model.alphas(), TRAIN, VALIDATION, unrolling)
    errors = [
        relative_error(second_order_gradients(model, TRAIN, VALIDATION, unrolling, radius).gradients, exact)
        for radius in (1e-1, 1e-2, 1e-3, 1e-4)
    ]
    for larger, smaller in itertools.pairwise(errors):
        assert 90 < larger / smaller < 110
    assert errors[1] < 1e-5  # at DARTS' own radius; found: 2.4e-6
    assert relative_error(first_order_gradients(model, VALIDATION).gradients, exact) > 0.1


class Figure2(nn.Module):
    """L_val = aw - 2a + 1 and L_train = w^2 - 2aw + a^2 (DARTS, figure 2) as a supernet of one alpha and one weight.

    The "images" say which loss is wanted. Logits (-L, 0) with the "labels" (1, -1) have the cross entropy L.
    """

    execution = USUAL

    TRAIN = (torch.tensor(0), torch.tensor([[1.0, -1.0]]).double())
    VALIDATION = (torch.tensor(1), torch.tensor([[1.0, -1.0]]).double())

    def __init__(self, a, w, dtype=torch.float64):
        super().__init__()
        self.a, self.w = (nn.Parameter(torch.tensor([value], dtype=dtype)) for value in (a, w))

    def alphas(self):
        return [self.a]

    def weights(self):
        return [self.w]

    def forward(self, images):
        a, w = self.a, self.w
        loss = a * w - 2 * a + 1 if images else (w - a).square()
        return torch.stack([-loss, torch.zeros_like(loss)], dim=1)


def test_both_orders_are_the_closed_forms_of_figure_2():
    model, step_size = Figure2(a=2.0, w=-2.0), 0.25
    first = first_order_gradients(model, Figure2.VALIDATION)
    torch.testing.assert_close(first.loss.item(), -7.0)
    torch.testing.assert_close(first.gradients[0].item(), -4.0)  # w - 2
    second = second_order_gradients(model, Figure2.TRAIN, Figure2.VALIDATION, Unrolling(step_size, 0.0, 0.0, None))
    stepped = -2.0 - step_size * 2 * (-2.0 - 2.0)  # w' = w - xi (2w - 2a)
    torch.testing.assert_close(second.loss.item(), 2.0 * stepped - 4.0 + 1.0)
    torch.testing.assert_close(second.gradients[0].item(), stepped - 2.0 + 2.0 * 2 * step_size)  # w' - 2 + a dw'/da


@pytest.mark.parametrize("order, fixed_point", [(1, 2.0), (2, 1.0)])
def test_in_figure_2_second_order_finds_the_minimum_and_first_order_does_not(order, fixed_point):
    """With w*(a) = a the validation loss is (a - 1)^2: its minimum is at 1, but w - 2 vanishes at 2."""
    model = Figure2(a=2.0, w=-2.0)
    for _ in range(400):
        unrolling = Unrolling(0.5, 0.0, 0.0, None)
        (gradient,), *_ = gradients_of_order(order, model, Figure2.TRAIN, Figure2.VALIDATION, unrolling)
        with torch.no_grad():
            model.a -= 0.05 * gradient
            model.w -= 0.5 * 2 * (model.w - model.a)
    assert model.a.item() == pytest.approx(fixed_point, abs=1e-6)
    assert model.w.item() == pytest.approx(fixed_point, abs=1e-6)


# What the step ahead is made of


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("a", [0.0, 1e-30])
def test_a_validation_gradient_of_zero_leaves_the_second_term_zero(a, dtype):
    model = Figure2(a, w=3.0, dtype=dtype)  # dL_val/dw = a
    train, validation = ((which, labels.to(dtype)) for which, labels in (Figure2.TRAIN, Figure2.VALIDATION))
    result = second_order_gradients(model, train, validation, Unrolling(0.25, 0.9, 1e-3, [torch.ones(1, dtype=dtype)]))
    stepped = 3.0 - 0.25 * (0.9 + 6.0 + 3e-3)
    torch.testing.assert_close(result.gradients[0], torch.tensor([stepped - 2], dtype=dtype))


def test_a_step_of_length_zero_is_first_order(twins):
    supernet, _ = twins
    unrolling = unrolling_of(supernet.weights(), learning_rate=0.0)
    second = second_order_gradients(supernet, TRAIN, VALIDATION, unrolling)
    first = first_order_gradients(supernet, VALIDATION)
    assert relative_error(second.gradients, first.gradients) < 1e-12
    assert torch.equal(second.loss, first.loss) and torch.equal(second.logits, first.logits)


def test_the_unrolled_gradient_is_not_clipped():
    a, w = 2.0, -200.0  # a gradient of norm 404, where the weights' own step clips at 5
    unrolling = Unrolling(0.25, 0.0, 0.0, None)
    result = second_order_gradients(Figure2(a, w), Figure2.TRAIN, Figure2.VALIDATION, unrolling)
    assert result.loss.item() == pytest.approx(a * (w - 0.25 * 2 * (w - a)) - 2 * a + 1)


# What is left as it was


def snapshot(supernet):
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    switches = [(m.training, getattr(m, "track_running_stats", None)) for m in supernet.modules()]
    return state, switches, [(p.requires_grad, p.grad) for p in supernet.parameters()]


def assert_unchanged(supernet, before):
    state, *rest = snapshot(supernet)
    assert rest == list(before[1:])
    assert all(torch.equal(value, before[0][name]) for name, value in state.items())


@pytest.fixture
def trained(twins):
    """The supernet after a pass, so that its BatchNorm statistics are not those of a new one."""
    supernet, _ = twins
    supernet(TRAIN[0])
    return supernet


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_alphas_and_statistics_stay_bit_for_bit(order, dtype):
    torch.manual_seed(0)
    supernet = Supernet(SPACE, channels=4, layers=3, classes=3).to(dtype)
    train, validation = ((images.to(dtype), labels) for images, labels in (TRAIN, VALIDATION))
    supernet(train[0])
    before = snapshot(supernet)
    gradients_of_order(order, supernet, train, validation)
    assert_unchanged(supernet, before)


@pytest.mark.parametrize("order, passes", [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4)])
def test_an_exception_in_any_pass_leaves_everything_as_it_was(trained, monkeypatch, order, passes):
    before, forward, calls = snapshot(trained), trained.forward, []

    def failing(images):
        calls.append(images)
        logits = forward(images)
        if len(calls) == passes:
            raise KeyboardInterrupt
        return logits

    monkeypatch.setattr(trained, "forward", failing)
    with pytest.raises(KeyboardInterrupt):
        gradients_of_order(order, trained)
    monkeypatch.undo()
    assert len(calls) == passes
    assert_unchanged(trained, before)


def test_momentum_buffers_are_read_only(trained):
    unrolling = unrolling_of(trained.weights())
    before = [buffer.clone() for buffer in unrolling.buffers]
    second_order_gradients(trained, TRAIN, VALIDATION, unrolling)
    assert all(torch.equal(buffer, copy) for buffer, copy in zip(unrolling.buffers, before, strict=True))


def test_a_layer_that_keeps_no_statistics_still_keeps_none(trained, monkeypatch):
    layer = next(module for module in trained.modules() if isinstance(module, nn.BatchNorm2d))
    monkeypatch.setattr(layer, "track_running_stats", False)
    gradients_of_order(1, trained)
    assert layer.track_running_stats is False


@pytest.mark.parametrize("order", [1, 2])
def test_the_gradients_come_in_the_order_and_shape_of_the_alphas_and_hold_no_graph(trained, order):
    result = gradients_of_order(order, trained)
    assert [gradient.shape for gradient in result.gradients] == [alphas.shape for alphas in trained.alphas()]
    assert result.logits.shape == (4, 3) and result.loss.shape == ()
    assert not any(tensor.requires_grad for tensor in (*result.gradients, result.loss, result.logits))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_the_passes_of_the_finite_difference_are_in_float32(precision, monkeypatch):
    supernet = Supernet(SPACE, channels=4, layers=3, classes=3, execution=Execution(precision=precision))
    loss, seen = architect._loss, []

    def noted(model, batch):
        seen.append(model.execution.precision)
        return loss(model, batch)

    monkeypatch.setattr(architect, "_loss", noted)
    train, validation = ((images.float(), labels) for images, labels in (TRAIN, VALIDATION))
    second_order_gradients(supernet, train, validation, unrolling_of(supernet.weights()))
    assert seen == [precision, precision, torch.float32, torch.float32]  # at w, at w', at w+ and at w-
    assert supernet.execution.precision == precision


@pytest.mark.slow
def test_the_finite_difference_of_bfloat16_is_made_in_float32(monkeypatch):
    """As rounding would drown it: cosine with the gradient in float64, at 5 cells of 8 channels, 16x16 pixels."""
    torch.manual_seed(0)
    supernet = Supernet(load_space("darts"), 8, 5, 10, execution=Execution(compiled=False))
    reference = deepcopy(supernet).double()
    batches = [(torch.randn(32, 3, 16, 16), torch.randint(10, (32,))) for _ in range(2)]
    unrolling = Unrolling(0.025, 0.9, 3e-4, None)

    def gradient(model, dtype):
        found = second_order_gradients(model, *((x.to(dtype), y) for x, y in batches), unrolling).gradients
        return torch.cat([part.flatten().double() for part in found])

    exact, cosines = gradient(reference, torch.float64), {}
    cosines["float32"] = F.cosine_similarity(gradient(supernet, torch.float32), exact, dim=0)
    supernet.execution = replace(supernet.execution, precision=torch.bfloat16)
    cosines["bfloat16"] = F.cosine_similarity(gradient(supernet, torch.float32), exact, dim=0)
    assert supernet.execution.precision == torch.bfloat16
    monkeypatch.setattr(architect, "in_float32", lambda _: nullcontext())
    cosines["bfloat16 throughout"] = F.cosine_similarity(gradient(supernet, torch.float32), exact, dim=0)
    print({name: round(cosine.item(), 3) for name, cosine in cosines.items()})
    assert cosines["float32"] > 0.99 and cosines["bfloat16"] > 0.9 > 0.8 > cosines["bfloat16 throughout"]
