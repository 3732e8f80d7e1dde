"""DARTS as the paper and its reference code run it: the yardstick for the fast supernet's results and speed.

Every edge computes every operator, "none" too, one after the other, in NCHW; the unrolled weights of the second order
live in a second model; backward passes compute all gradients. The weights are in the order of `Supernet.weights()`.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from cells.stacking import CellInputs, build_stem, edge_stride, stack_cells
from cells.supernet import Supernet
from search_spaces.registry import get_operator
from search_spaces.space import SearchSpace


class TextbookMixedOperation(nn.Module):
    def __init__(self, operators, channels, stride):
        super().__init__()
        self.operators = nn.ModuleList()
        for operator in map(get_operator, operators):
            module = operator.build(channels, stride, False)
            if operator.supernet_norm:
                module = nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
            self.operators.append(module)

    def forward(self, x, weights):
        return sum(weight * operator(x) for weight, operator in zip(weights, self.operators, strict=True))


class TextbookCell(nn.Module):
    def __init__(self, space: SearchSpace, spec):
        super().__init__()
        self.nodes, self.reduction = space.nodes, spec.reduction
        self.inputs = CellInputs(spec, affine=False)
        self.edges = nn.ModuleList(
            TextbookMixedOperation(space.operators, spec.channels, edge_stride(spec, source))
            for source, _ in space.edges
        )

    def forward(self, input0, input1, weights):
        nodes = list(self.inputs(input0, input1))
        edge = 0
        for _ in range(self.nodes):
            total = sum(self.edges[edge + j](node, weights[edge + j]) for j, node in enumerate(nodes))
            edge += len(nodes)
            nodes.append(total)
        return torch.cat(nodes[2:], dim=1)


class TextbookSupernet(nn.Module):
    """images (N, 3, H, W) -> logits (N, classes), with alphas of its own."""

    def __init__(self, space: SearchSpace, channels: int, layers: int, classes: int):
        super().__init__()
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, space.nodes, space.nodes)
        self.cells = nn.ModuleList(TextbookCell(space, spec) for spec in specs)
        self.classifier = nn.Linear(specs[-1].output_channels, classes)
        self.tables = nn.ParameterList(
            1e-3 * torch.randn(len(space.edges), len(space.operators)) for _ in ("normal", "reduce")
        )

    def alphas(self) -> list[nn.Parameter]:
        return list(self.tables)

    def weights(self) -> list[nn.Parameter]:
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("tables")]

    def forward(self, images):
        input0 = input1 = self.stem(images)
        for cell in self.cells:
            weights = F.softmax(self.tables[cell.reduction], dim=-1)
            input0, input1 = input1, cell(input0, input1, weights)
        return self.classifier(input1.mean(dim=(2, 3)))

    @torch.no_grad()
    def copy_from(self, supernet: Supernet):
        """Takes over the weights and alphas of the fast supernet of the same space and size."""
        pairs = zip(self.weights() + self.alphas(), supernet.weights() + supernet.alphas(), strict=True)
        for mine, theirs in pairs:
            mine.copy_(theirs)


def textbook_alpha_gradients(model, train, validation, order, learning_rate, momentum, weight_decay, buffers=None):
    """dL_val / da of first or second order, with the passes that the reference makes; leaves `model` as it was."""
    model.zero_grad()
    if order == 1:
        _loss(model, validation).backward()
        return [alpha.grad.clone() for alpha in model.alphas()]

    gradients = torch.autograd.grad(_loss(model, train), model.weights())
    unrolled = copy.deepcopy(model)
    with torch.no_grad():
        for index, (weight, gradient) in enumerate(zip(unrolled.weights(), gradients, strict=True)):
            step = gradient + weight_decay * weight
            if buffers is not None:
                step += momentum * buffers[index]
            weight -= learning_rate * step
    _loss(unrolled, validation).backward()
    direction = [weight.grad for weight in unrolled.weights()]
    radius = 0.01 / torch.cat([part.flatten() for part in direction]).norm()

    sides = []
    for distance in (radius, -2 * radius):
        _shift(model, direction, distance)
        sides.append(torch.autograd.grad(_loss(model, train), model.alphas()))
    _shift(model, direction, radius)
    return [
        alpha.grad - learning_rate * (plus - minus) / (2 * radius)
        for alpha, plus, minus in zip(unrolled.alphas(), *sides, strict=True)
    ]


def textbook_step(model, weight_optimizer, alpha_optimizer, train, validation, order, config):
    """One bilevel step, in place: the alphas, then the weights. `config` is a SearchConfig."""
    states = [weight_optimizer.state[weight] for weight in model.weights()]
    buffers = [state["momentum_buffer"] for state in states] if all(states) else None
    gradients = textbook_alpha_gradients(
        model, train, validation, order, config.learning_rate, config.momentum, config.weight_decay, buffers
    )
    for alpha, gradient in zip(model.alphas(), gradients, strict=True):
        alpha.grad = gradient
    alpha_optimizer.step()

    model.zero_grad()
    _loss(model, train).backward()
    nn.utils.clip_grad_norm_(model.weights(), config.gradient_clip)
    weight_optimizer.step()


@torch.no_grad()
def _shift(model, direction, distance):
    for weight, part in zip(model.weights(), direction, strict=True):
        weight += distance * part


def _loss(model, batch):
    images, labels = batch
    return F.cross_entropy(model(images), labels)
