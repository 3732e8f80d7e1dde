"""Bilevel steps of the fast supernet lead where those of DARTS as it is written lead: a few of them, and twenty."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cells.execution import Execution
from cells.supernet import Supernet
from nas.config import SearchConfig
from nas.search.architect import first_order_gradients
from nas.search.bilevel import SearchState, bilevel_step
from search_spaces import SearchSpace, register_operator
from search_spaces.registry import operator_names
from textbook import TextbookSupernet, textbook_alpha_gradients, textbook_step

BUILT_IN = operator_names()
ONE_OF_EACH = (  # way in which an operator is computed
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "dil_conv_5x5", "conv_7x1_1x7"),
    *("inverted_residual", "sandglass_half"),
)
CLASSES = 3
slow = pytest.mark.slow


@pytest.fixture
def plugged():
    @register_operator("plugged", label="Plugged", kind="convolution")
    class Plugged(nn.Module):  # half of it a chain of units, half of it not
        def __init__(self, channels, stride, affine):
            super().__init__()
            self.chain = nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
                nn.BatchNorm2d(channels, affine=affine),
            )
            self.gate = nn.Conv2d(channels, channels, 1)

        def forward(self, x):
            y = self.chain(x)
            return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


def after_steps(steps, operators, order, dtype) -> tuple[list[torch.Tensor], ...]:
    """Alphas of the fast supernet and of its textbook twin, after the same batches, and before."""
    config = SearchConfig(order=order, channels=4, layers=3, alpha_learning_rate=3e-3, device="cpu")
    space = SearchSpace("all", tuple(operators), nodes=2)
    state = SearchState(config, space, CLASSES, torch.device("cpu"))
    state.supernet.to(dtype)
    textbook = TextbookSupernet(space, config.channels, config.layers, CLASSES).to(dtype)
    textbook.copy_from(state.supernet)
    weights = torch.optim.SGD(
        textbook.weights(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )
    alphas = torch.optim.Adam(
        textbook.alphas(), config.alpha_learning_rate, (0.5, 0.999), weight_decay=config.alpha_weight_decay
    )
    start = [table.detach().clone() for table in textbook.alphas()]
    torch.manual_seed(1)
    for _ in range(steps):
        batches = [(torch.randn(8, 3, 8, 8).to(dtype), torch.randint(CLASSES, (8,))) for _ in range(2)]
        bilevel_step(state, *batches, config, config.learning_rate)
        textbook_step(textbook, weights, alphas, *batches, order, config)
    return state.supernet.alphas(), textbook.alphas(), start


@pytest.mark.parametrize(
    ("operators", "steps"),
    [pytest.param(ONE_OF_EACH, 3, id="one of each"), pytest.param(BUILT_IN, 20, id="all", marks=slow)],
)
@pytest.mark.parametrize("order", [1, 2])
def test_the_alphas_of_every_operator_and_a_plug_in_are_the_textbook_s(order, operators, steps, plugged):
    ours, textbook, _ = after_steps(steps, [*operators, "plugged"], order, torch.float64)
    assert all(table.std() > 3e-3 for table in ours)  # they have moved
    torch.testing.assert_close(ours, textbook, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("operators", "steps", "order", "cosine"),
    [
        (ONE_OF_EACH, 2, 1, 0.99),
        (ONE_OF_EACH, 2, 2, 0.99),
        pytest.param(BUILT_IN, 20, 1, 0.9, marks=slow),
        pytest.param(BUILT_IN, 20, 2, 0.5, marks=slow),
    ],
    ids=["one of each, order 1", "one of each, order 2", "all, order 1", "all, order 2"],
)
def test_in_single_precision_the_alphas_move_the_same_way(operators, steps, order, cosine):
    """Not to the same place: Adam makes a step of every rounding error in a small gradient, and the second order's
    finite difference rounds more. Seen: cosines of the two movements of 1.00 and 1.00 after two steps, of 0.96 and 0.71
    after twenty, by chance 0 +- 0.08."""
    torch.manual_seed(0)
    ours, textbook, start = map(torch.cat, after_steps(steps, operators, order, torch.float32))
    assert F.cosine_similarity((ours - start).flatten(), (textbook - start).flatten(), dim=0) > cosine


@pytest.mark.parametrize("operators", [ONE_OF_EACH, pytest.param(BUILT_IN, marks=slow)], ids=["one of each", "all"])
@pytest.mark.parametrize("compiled", [True, False])
def test_in_single_precision_outputs_and_gradients_agree_to_thousandths(compiled, operators):
    """Of one pass."""
    torch.manual_seed(0)
    space = SearchSpace("all", tuple(operators), nodes=2)
    ours = Supernet(space, 8, 3, CLASSES, execution=Execution(compiled=compiled))
    textbook = TextbookSupernet(space, 8, 3, CLASSES)
    textbook.copy_from(ours)
    batch = torch.randn(16, 3, 16, 16), torch.randint(CLASSES, (16,))
    for mine, theirs in zip(
        first_order_gradients(ours, batch).gradients,
        textbook_alpha_gradients(textbook, batch, batch, 1, 0.025, 0.9, 3e-4),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-3 * theirs.abs().max().item())
    logits, gradients = [], []
    for model in (ours, textbook):
        logits.append(model(batch[0]))
        gradients.append(torch.autograd.grad(F.cross_entropy(logits[-1], batch[1]), model.weights()))
    largest = max(gradient.abs().max().item() for gradient in gradients[1])
    torch.testing.assert_close(*logits, rtol=0, atol=1e-4 * logits[1].abs().max().item())
    torch.testing.assert_close(*gradients, rtol=0, atol=5e-3 * largest)
