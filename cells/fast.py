"""An operator's own mathematics in fewer passes over memory, for training on a CPU.

An operator is a plain module and knows nothing of this. `accelerate` gives its Sequential parts another forward, with
the same layers under the same names: runs of activation, depthwise convolution or pooling, 1x1 convolution and
BatchNorm, which is what DARTS' operators, MobileNet's and most of their kin are made of, become *units* (a unit ends
with its BatchNorm), each of which the compiled loops of cells/kernels.py do in one pass over memory. What is between
two BatchNorms is computed again in the backward pass, in cache, and never stored. Layers that are not of this kind,
other devices, evaluation: PyTorch's own layers run.

All of it is exact: results differ from PyTorch's own by rounding.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from search_spaces.layers import EvenAndOddPixels

try:
    from cells import kernels

    WHY_NOT_COMPILED = ""
except (ImportError, RuntimeError) as error:  # no Numba, or no folder that its cache may be written to
    kernels, WHY_NOT_COMPILED = None, str(error).partition("\n")[0]


class Unit(NamedTuple):
    """Layers that run as one: clip to low .. high, then window, pointwise convolution (each or None), BatchNorm.

    A pointwise convolution behind `EvenAndOddPixels` has a group for each.
    """

    low: float
    high: float
    window: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d | EvenAndOddPixels | None
    pointwise: nn.Conv2d | None
    norm: nn.BatchNorm2d

    def parameters(self) -> list[nn.Parameter | None]:
        """Weights of window and pointwise convolution, scale, shift; None for what there is not."""
        window = self.window.weight if isinstance(self.window, nn.Conv2d) else None
        pointwise = None if self.pointwise is None else self.pointwise.weight
        return [window, pointwise, self.norm.weight, self.norm.bias]

    def geometry(self) -> tuple[int, int, int]:
        """The window's size, dilation and stride."""
        if self.window is None:
            return 1, 1, 1
        if isinstance(self.window, nn.Conv2d):
            return self.window.kernel_size[0], self.window.dilation[0], self.window.stride[0]
        if isinstance(self.window, EvenAndOddPixels):
            return 2, 1, 2
        return self.window.kernel_size, 1, self.window.stride

    def output_shape(self, shape) -> tuple[int, int, int, int]:
        """(N, H, W, C) of the output for that of the input."""
        N, H, W, C = shape
        stride = self.geometry()[2]
        channels = C if self.pointwise is None else self.pointwise.out_channels
        return N, -(-H // stride), -(-W // stride), channels


class FastSequential(nn.Sequential):
    """A Sequential whose units run as one; what is no unit runs layer by layer."""

    def forward(self, x):
        layers = list(self)
        while layers:
            units, rest = read_units(layers) if runs_compiled(x) else ([], layers)
            if units:
                (x,), layers = fused_sums(x, Sums([[units]], [])), rest
            else:
                x, layers = layers[0](x), layers[1:]
        return x


def can_compile() -> bool:
    """Whether Numba is here and works; if not, `WHY_NOT_COMPILED` says why."""
    return kernels is not None


def runs_compiled(x) -> bool:
    """Whether x is where and what the compiled loops work on."""
    return can_compile() and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def accelerate(module: nn.Module) -> nn.Module:
    """`module` with every Sequential in it, and itself if it is one, run by units; parameters keep their names."""
    for name, child in module.named_children():
        setattr(module, name, accelerate(child))
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not _has_hooks(module):
        fast = FastSequential()
        for name, child in module.named_children():
            fast.add_module(name, child)
        fast.training = module.training  # not train(), which would thaw a layer that is frozen on purpose
        return fast
    return module


def as_units(module: nn.Module, x) -> list[Unit] | None:
    """An accelerated `module` as units for an input like x, none for the identity; None if it is more than units."""
    if type(module) is nn.Identity and not _has_hooks(module):
        return []
    if not isinstance(module, FastSequential) or not runs_compiled(x):
        return None
    units, rest = read_units(list(module))
    return None if rest else units


def read_units(layers: list[nn.Module]) -> tuple[list[Unit], list[nn.Module]]:
    """The units at the front of `layers`, and what is left behind the last of them."""
    units, position = [], 0
    while True:
        found = _read_unit(layers, position)
        if found is None:
            return units, layers[position:]
        unit, position = found
        units.append(unit)


def _read_unit(layers: list[nn.Module], position: int) -> tuple[Unit, int] | None:
    low, high, window, pointwise = -math.inf, math.inf, None, None
    for index in range(position, len(layers)):
        layer = layers[index]
        if _has_hooks(layer):
            return None
        picks_pixels = type(window) is EvenAndOddPixels
        if _is_batch_norm(layer) and picks_pixels == (pointwise is not None and pointwise.groups == 2):
            return Unit(low, high, window, pointwise, layer), index + 1
        if pointwise is None and _is_pointwise(layer, 2 if picks_pixels else 1):
            pointwise = layer
        elif pointwise is None and window is None and _is_window(layer):
            window = layer
        elif pointwise is None and (window is None or picks_pixels) and type(layer) is nn.ReLU:
            low = max(low, 0.0)  # the same before and after picking pixels
        elif pointwise is None and window is None and type(layer) in (nn.ReLU6, nn.Hardtanh):
            low, high = max(low, layer.min_val), min(high, layer.max_val)
        else:
            return None
    return None


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its forward: weight normalisation, say, is done in a hook."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _is_window(layer) -> bool:
    """A square, odd window with "same" padding: a depthwise convolution without bias, a pooling; or pixels."""
    if type(layer) is EvenAndOddPixels:
        return True
    if type(layer) is nn.Conv2d:
        (k, k2), (d, d2), (s, s2) = layer.kernel_size, layer.dilation, layer.stride
        depthwise = layer.groups == layer.in_channels == layer.out_channels and layer.bias is None
        padding = (d * (k // 2),) * 2
        square = k == k2 and d == d2 and s == s2 and layer.padding == padding and layer.padding_mode == "zeros"
        return depthwise and square and k % 2 == 1
    if type(layer) not in (nn.MaxPool2d, nn.AvgPool2d) or layer.ceil_mode:
        return False
    k = layer.kernel_size
    if not isinstance(k, int) or k % 2 == 0 or layer.padding != k // 2 or not isinstance(layer.stride, int):
        return False
    if type(layer) is nn.MaxPool2d:
        return layer.dilation == 1 and not layer.return_indices
    return (not layer.count_include_pad or k == 1) and layer.divisor_override is None


def _is_pointwise(layer, groups: int) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == layer.dilation == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == groups
        and layer.bias is None
    )


def _is_batch_norm(layer) -> bool:
    return type(layer) is nn.BatchNorm2d and layer.training and layer.momentum is not None


class Sums(NamedTuple):
    """What leaves a node: M sums of chains of units, own[m] each, and of the shared chains, an empty one being x."""

    own: list[list[list[Unit]]]
    shared: list[list[Unit]]

    def chains(self) -> list[list[Unit]]:
        return [*self.shared, *(chain for chains in self.own for chain in chains)]


def fused_sums(x, sums: Sums, weights=None, bases=None) -> tuple[torch.Tensor, ...]:
    """For each m: bases[m] + the sum of weights[m, k] * chain[k](x), the shared chains first; x (N, C, H, W).

    weights (M, chains of a sum), or None for ones; bases, M tensors or Nones. All of one sum's chains have one output
    shape. Updates the running statistics as the BatchNorms would.
    """
    bases = [None] * len(sums.own) if bases is None else bases
    parameters = [parameter for chain in sums.chains() for unit in chain for parameter in unit.parameters()]
    return FusedSums.apply(x, weights, sums, *bases, *parameters)


class FusedSums(torch.autograd.Function):
    """`fused_sums`. Saved are x and each unit's output y before its BatchNorm, all as (N, H, W, C)."""

    @staticmethod
    def forward(ctx, x, weights, sums, *tensors):
        _share_threads()
        x, bases = _rows(x), tensors[: len(sums.own)]
        shape = x.shape
        for unit in sums.chains()[-1]:
            shape = unit.output_shape(shape)
        N, H, W, C = shape
        table = np.ones((1, 1), _dtype(x)) if weights is None else weights.detach().numpy()
        real = [index for index, chain in enumerate(sums.shared) if chain]
        shared = _Chains(x, [sums.shared[index] for index in real], shape)
        x_weights = table[:, [index for index, chain in enumerate(sums.shared) if not chain]].sum(1, dtype=table.dtype)
        outs, owns = [], []
        for row, x_weight, base, chains in zip(table, x_weights, bases, sums.own, strict=True):
            own = _Chains(x, chains, shape)
            out = torch.empty((N, C, H, W), dtype=x.dtype, memory_format=torch.channels_last)
            a, b = own.weighted(row[len(sums.shared) :])
            a_shared, b_shared = shared.weighted(row[real])
            target = _flat(_rows(out))
            start = target if base is None else _flat(_rows(base))
            kernels.mix(
                target, N, C, _flat(own.ends), a, _flat(shared.ends), a_shared, b + b_shared,
                _flat(x), x_weight, start, base is not None,
            )  # fmt: skip
            outs.append(out)
            owns.append(own)
        ctx.sums, ctx.table, ctx.real, ctx.norms = sums, table, real, [part.norms for part in (shared, *owns)]
        ctx.save_for_backward(x, *(tensor for part in (shared, *owns) for tensor in (part.ends, *part.inner)))
        return tuple(outs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        _share_threads()
        sums, table = ctx.sums, ctx.table
        x, *saved = ctx.saved_tensors
        saved = iter(saved)
        groups = [[sums.shared[index] for index in ctx.real], *sums.own]
        shared, *owns = [_Chains.restored(saved, *group) for group in zip(groups, ctx.norms, strict=True)]
        wants_x, wants_weights, _, *wanted = ctx.needs_input_grad
        wants_bases, wanted = wanted[: len(owns)], iter(wanted[len(owns) :])
        wants = {id(chain): [[next(wanted) for _ in range(4)] for _ in chain] for chain in sums.chains()}
        identities = [index for index, chain in enumerate(sums.shared) if not chain]

        rows = [_rows(gradient) for gradient in gradients]
        dweights, found = np.zeros_like(table), {}
        N, C = rows[0].shape[0], rows[0].shape[3]
        moments = []
        for m, (g, own) in enumerate(zip(rows, owns, strict=True)):
            total, moment, product = kernels.moments(
                _flat(g), N, C, _flat(own.ends), own.means(), _flat(shared.ends), shared.means(), _flat(x),
                bool(identities) and wants_weights,
            )  # fmt: skip
            moments.append((total, moment))
            if wants_weights:
                dweights[m, identities] = product.sum()
                for k, norm in enumerate([*own.last_norms(), *shared.last_norms()]):
                    column = len(sums.shared) + k if k < len(own.norms) else ctx.real[k - len(own.norms)]
                    dweights[m, column] = norm.a @ moment[k].sum(0) + (norm.b + norm.a * norm.mean) @ total.sum(0)

        dx = None
        if sums.shared and wants_x:
            mixed = x.new_empty(len(sums.shared), *rows[0].shape)
            flat = tuple(_flat(g) for g in rows)
            kernels.combine(mixed.view(len(mixed), -1).numpy(), flat, table[:, : len(sums.shared)])
            for index in identities:
                dx = mixed[index] if dx is None else dx.add_(mixed[index])
            for k, index in enumerate(ctx.real):
                scales = table[:, index, None, None]
                total = sum(scale * total for scale, (total, _) in zip(scales, moments, strict=True))
                moment = sum(s * m[len(o.norms) + k] for s, (_, m), o in zip(scales, moments, owns, strict=True))
                chain = sums.shared[index]
                dx, found[id(chain)] = shared.backward(k, mixed[index], total, moment, 1, x, dx, True, wants[id(chain)])
        for m, (g, own) in enumerate(zip(rows, owns, strict=True)):
            total, moment = moments[m]
            for k, chain in enumerate(sums.own[m]):
                scale = table[m, len(sums.shared) + k]
                arguments = (k, g, total, moment[k], scale, x, dx, wants_x, wants[id(chain)])
                dx, found[id(chain)] = own.backward(*arguments)
        dparameters = [
            value if want else None
            for chain in sums.chains()
            for row, want_row in zip(found.get(id(chain), [[None] * 4] * len(chain)), wants[id(chain)], strict=True)
            for value, want in zip(row, want_row, strict=True)
        ]
        return (
            dx.permute(0, 3, 1, 2) if wants_x else None,
            torch.from_numpy(dweights) if wants_weights else None,
            None,
            *(gradient if want else None for gradient, want in zip(gradients, wants_bases, strict=True)),
            *dparameters,
        )


class _Chains:
    """Chains of units of one output shape, run on one x: what their forward pass leaves for the backward pass."""

    def __init__(self, x, chains: list[list[Unit]], shape):
        self.chains = chains
        self.ends = x.new_empty(len(chains), *shape)
        self.inner: list[torch.Tensor] = []
        self.norms = []
        for chain, end in zip(chains, self.ends, strict=True):
            source, norms = x, [_identity(x)]
            for unit in chain:
                y = end if unit is chain[-1] else x.new_empty(unit.output_shape(source.shape))
                norms.append(_forward(unit, source, norms[-1], y))
                source = y
                if y is not end:
                    self.inner.append(y)
            self.norms.append(norms)

    @classmethod
    def restored(cls, saved, chains, norms) -> "_Chains":
        """From its saved tensors: an iterator over ends and inner."""
        self = cls.__new__(cls)
        self.chains, self.norms, self.ends = chains, norms, next(saved)
        self.inner = [next(saved) for chain in chains for _ in chain[1:]]
        return self

    def last_norms(self) -> list:
        return [norms[-1] for norms in self.norms]

    def means(self) -> np.ndarray:
        return self._stack([norm.mean for norm in self.last_norms()])

    def weighted(self, weights) -> tuple[np.ndarray, np.ndarray]:
        """Factors (chains, C) of the ends and the shift (C) of the sum of weights[k] * norm[k](ends[k])."""
        a = self._stack([weight * norm.a for weight, norm in zip(weights, self.last_norms(), strict=True)])
        b = [weight * norm.b for weight, norm in zip(weights, self.last_norms(), strict=True)]
        return a, self._stack(b).sum(0)

    def _stack(self, rows) -> np.ndarray:
        return np.stack(rows) if rows else np.zeros((0, kernels.whole_lanes(self.ends.shape[-1])), _dtype(self.ends))

    def backward(self, k: int, g, total, moment, scale, x, dx, wants_x: bool, wants: list[list[bool]]):
        """dx plus that of chain k, or None, and its parameters' gradients; total and moment are the sums of g."""
        chain, norms = self.chains[k], self.norms[k]
        before = sum(len(chain) - 1 for chain in self.chains[:k])
        outputs = [x, *self.inner[before : before + len(chain) - 1], self.ends[k]]
        found = [[None] * 4 for _ in chain]
        for index in reversed(range(len(chain))):
            unit, source, y = chain[index], outputs[index], outputs[index + 1]
            factor = scale if index + 1 == len(chain) else 1
            if not (wants_x or any(map(any, wants[: index + 1]))):
                break
            add = index == 0 and dx is not None
            into = dx if add else torch.empty_like(source)
            arguments = (unit, g, total, moment, y, norms[index + 1], factor, source, norms[index], into, add)
            found[index], total, moment = _backward(*arguments, wants[index])
            g = into
        else:
            dx = g
        return dx, found


def _share_threads() -> None:
    """Lets the loops run on as many threads as PyTorch does; PyTorch keeps them, whatever Numba's start sets."""
    count = torch.get_num_threads()
    kernels.use_threads(count)
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _identity(x):
    zeros = np.zeros(kernels.whole_lanes(x.shape[3]), _dtype(x))
    ones = zeros.copy()
    ones[: x.shape[3]] = 1
    return kernels.Norm(ones, zeros, zeros, ones)


def _forward(unit: Unit, x, before, y):
    """Runs `unit` on before(x) into y, and gives its BatchNorm."""
    N, H, W, D = y.shape
    norm = unit.norm
    if N * H * W < 2:
        raise ValueError(f"BatchNorm needs more than one value a channel in training, not shape {(N, D, H, W)}")
    empty = _nothing(x)
    statistics = (empty, empty, 0.0)
    if norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        statistics = (norm.running_mean.numpy(), norm.running_var.numpy(), norm.momentum)
    scales = (_values(norm.weight, x), _values(norm.bias, x))
    fixed = _fixed(unit, x)
    return kernels.forward(_flat(x), N, x.shape[3], before, *fixed, D, _flat(y), norm.eps, *scales, *statistics)


def _backward(unit: Unit, g, total, moment, y, norm, factor, x, before, into, add: bool, wants: list[bool]):
    """The gradients of `unit.parameters()`, and the sums over `into` that the BatchNorm before x needs.

    `into` takes the gradient for before(x), or with `add` has it added.
    """
    dtype, empty = _dtype(x), _nothing(x)
    window, pointwise, gamma, _ = unit.parameters()
    dwindow = torch.empty_like(window) if wants[0] else None
    dpointwise = torch.empty_like(pointwise, memory_format=torch.contiguous_format) if wants[1] else None
    N, C, D = x.shape[0], x.shape[3], y.shape[3]
    total, moment, sums, products = kernels.backward(
        _flat(g), total, moment, _flat(y), D, norm, dtype.type(factor), _flat(x), N, C, before, *_fixed(unit, x),
        _flat(into), add,
        empty if dwindow is None else _flat(dwindow), empty if dpointwise is None else _flat(dpointwise),
    )  # fmt: skip
    found = [dwindow, dpointwise, None, None]
    if gamma is not None:
        found[2:] = torch.from_numpy(factor * products), torch.from_numpy(factor * sums)
    return found, total, moment


def _fixed(unit: Unit, x):
    """What both kernels take alike: low, high, kind, window weight, window, pointwise weight."""
    dtype = _dtype(x)
    kind = {
        type(None): kernels.NO_WINDOW,
        nn.Conv2d: kernels.CONVOLUTION,
        nn.MaxPool2d: kernels.MAXIMUM,
        nn.AvgPool2d: kernels.AVERAGE,
        EvenAndOddPixels: kernels.EVEN_AND_ODD,
    }[type(unit.window)]
    window, pointwise, *_ = unit.parameters()
    geometry = kernels.window(*unit.geometry(), x.shape[1], x.shape[2], dtype)
    return dtype.type(unit.low), dtype.type(unit.high), kind, _values(window, x), geometry, _values(pointwise, x)


def _values(parameter, x) -> np.ndarray:
    """A parameter's numbers in PyTorch's order; none for None."""
    return _nothing(x) if parameter is None else parameter.detach().contiguous().view(-1).numpy()


def _nothing(x) -> np.ndarray:
    return np.empty(0, _dtype(x))


def _dtype(x) -> np.dtype:
    return _FLOAT32 if x.dtype == torch.float32 else _FLOAT64


_FLOAT32, _FLOAT64 = np.dtype("float32"), np.dtype("float64")


def _rows(x) -> torch.Tensor:
    """(N, C, H, W) -> (N, H, W, C), a view where x is channels_last."""
    return x.detach().permute(0, 2, 3, 1).contiguous()


def _flat(x) -> np.ndarray:
    return x.detach().view(-1).numpy()
