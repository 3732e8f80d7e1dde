"""An operator's own mathematics in fewer passes over memory, for training on a CPU.

An operator is a plain module and knows nothing of this. `accelerate` gives its Sequential parts another forward, with
the same layers under the same names: runs of activation, depthwise convolution or pooling, 1x1 convolution and
BatchNorm, which is what DARTS' operators, MobileNet's and most of their kin are made of, become *units* (a unit ends
with its BatchNorm), each of which the compiled loops of kernels.py do in one pass over memory. What is between two
BatchNorms is computed again in the backward pass, in cache, and never stored. Layers that are not of this kind, other
devices, evaluation: PyTorch's own layers run.

All of it is exact: results differ from PyTorch's own by rounding.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from cells.compiled.units import Unit, has_hooks, read_units
from search_spaces.layers import EvenAndOddPixels

try:
    from cells.compiled import kernels

    WHY_NOT_COMPILED = ""
except (ImportError, RuntimeError) as error:  # no Numba, or no folder that its cache may be written to
    kernels, WHY_NOT_COMPILED = None, str(error).partition("\n")[0]


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
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not has_hooks(module):
        fast = FastSequential()
        for name, child in module.named_children():
            fast.add_module(name, child)
        fast.training = module.training  # not train(), which would thaw a layer that is frozen on purpose
        return fast
    return module


def as_units(module: nn.Module, x) -> list[Unit] | None:
    """An accelerated `module` as units for an input like x, none for the identity; None if it is more than units."""
    if type(module) is nn.Identity and not has_hooks(module):
        return []
    if not isinstance(module, FastSequential) or not runs_compiled(x):
        return None
    units, rest = read_units(list(module))
    return None if rest else units


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
                dx, found[id(chain)] = own.backward(k, g, total, moment[k], scale, x, dx, wants_x, wants[id(chain)])
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
    ones = (np.arange(len(zeros)) < x.shape[3]).astype(zeros.dtype)
    return kernels.Norm(ones, zeros, zeros, ones)


def _forward(unit: Unit, x, before, y):
    """Runs `unit` on before(x) into y, and gives its BatchNorm."""
    N, H, W, D = y.shape
    norm = unit.norm
    if N * H * W < 2:
        raise ValueError(f"BatchNorm needs more than one value a channel in training, not shape {(N, D, H, W)}")
    statistics = (_nothing(x), _nothing(x), 0.0)
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
