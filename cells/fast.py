"""An operator's own mathematics in fewer passes over memory, for training on a CPU.

An operator is a plain module and knows nothing of this. `accelerate` gives its Sequential parts another forward, with
the same parameters under the same names, in which three patterns run as one function each:

depthwise convolution   a dilation of 2 is an ordinary convolution on the four even/odd phases of the image, and the
                        weight gradient of a 5x5 kernel is put together from 3x3 ones, for which CPUs have a fast path.
1x1 convolution + BN    is one matrix product: the mean and variance of W z follow from the mean and covariance of z, so
                        BatchNorm's scale and shift fold into W before it is used. The backward pass needs z alone;
                        the convolution's own output is never stored.
weighted sum            one pass a term, and a dot product for a weight's gradient.

All of it is exact: results differ from PyTorch's own by rounding. On other devices PyTorch's own layers run.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

# Folding costs three more matrix products of W's size; beyond this width they take longer than BatchNorm's passes.
WIDEST_FOLDED = 16


class FastSequential(nn.Sequential):
    """A Sequential that runs its layers by the patterns above, and can multiply its result by `scale` on the way.

    `skip` leaves out that many layers at the front, whose result the caller has at hand. With `fast` off, and where
    the patterns do not help, its layers run one by one as in any Sequential.
    """

    fast = True

    def forward(self, x, scale: torch.Tensor | None = None, skip: int = 0):
        layers = list(self)[skip:]
        fast = self.fast and self.training and x.device.type == "cpu"
        owned = False  # whether x was made here and is needed by no backward pass, so that it may be overwritten
        while layers:
            layer = layers.pop(0)
            if not fast or _has_hooks(layer):
                x, owned = layer(x), False
            elif _is_depthwise(layer):
                x, owned = depthwise_conv(x, layer), False
            elif _is_pointwise(layer) and layers and _is_batch_norm(layers[0]):
                norm = layers.pop(0)
                x, owned = pointwise_norm(x, layer, norm, None if layers else scale), True
                scale = scale if layers else None
            elif owned and type(layer) is nn.ReLU:
                x, owned = x.relu_(), False
            elif owned and type(layer) in (nn.Hardtanh, nn.ReLU6):
                x, owned = F.hardtanh_(x, layer.min_val, layer.max_val), False
            else:
                x, owned = layer(x), False
        return x if scale is None else x * scale


def accelerate(module: nn.Module) -> nn.Module:
    """`module` with every Sequential in it, and itself if it is one, run by patterns; parameters keep their names."""
    for name, child in module.named_children():
        setattr(module, name, accelerate(child))
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward and not _has_hooks(module):
        fast = FastSequential()
        for name, child in module.named_children():
            fast.add_module(name, child)
        fast.training = module.training  # not train(), which would thaw a layer that is frozen on purpose
        return fast
    return module


def _has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its forward: weight normalisation, say, is done in a hook."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _is_depthwise(layer) -> bool:
    if type(layer) is not nn.Conv2d or not layer.groups == layer.in_channels == layer.out_channels > 1:
        return False
    (k, k2), (d, d2), (s, s2) = layer.kernel_size, layer.dilation, layer.stride
    same_padding = layer.padding == (d * (k // 2),) * 2 and layer.padding_mode == "zeros"
    return k == k2 and k % 2 == 1 and d == d2 and s == s2 and same_padding and layer.bias is None


def _is_pointwise(layer) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == layer.dilation == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.bias is None
        and layer.in_channels <= WIDEST_FOLDED
    )


def _is_batch_norm(layer) -> bool:
    return type(layer) is nn.BatchNorm2d and layer.training and layer.momentum is not None and not _has_hooks(layer)


def depthwise_conv(x, conv: nn.Conv2d):
    """The depthwise convolution `conv` of x (N, C, H, W)."""
    stride, dilation = conv.stride[0], conv.dilation[0]
    if stride == dilation == 2:  # reads even pixels only
        x, stride, dilation = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), 1, 1
    return DepthwiseConv.apply(x, conv.weight, stride, dilation)


def pointwise_norm(z, conv: nn.Conv2d, norm: nn.BatchNorm2d, scale: torch.Tensor | None = None):
    """scale * norm(conv(z)) in training mode; updates the running statistics as `norm` would."""
    count = z.numel() // z.shape[1]
    if count < 2:
        raise ValueError(
            f"BatchNorm needs more than one value a channel in training, not input of shape {tuple(z.shape)}"
        )
    gamma, beta = norm.weight, norm.bias
    if scale is not None:
        gamma = scale.expand(conv.out_channels) if gamma is None else scale * gamma
        beta = None if beta is None else scale * beta
    y, mean, variance = PointwiseNorm.apply(z, conv.weight, gamma, beta, norm.eps)
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return y


class DepthwiseConv(torch.autograd.Function):
    """Depthwise convolution of x (N, C, H, W) by weight (C, 1, k, k), padded by dilation * (k // 2)."""

    @staticmethod
    def forward(ctx, x, weight, stride, dilation):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return F.conv2d(x, weight, None, stride, dilation * (weight.shape[-1] // 2), dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        stride, dilation, size = ctx.stride, ctx.dilation, weight.shape[-1]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        even = x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0
        dx = dw = None
        if ctx.needs_input_grad[0]:
            if stride == 1:
                dx = F.conv2d(gradient, weight.flip(2, 3), None, 1, dilation * (size // 2), dilation, len(weight))
            else:
                dx = _plain_gradients(x, gradient, weight, stride, dilation, (True, False))[0]
        if ctx.needs_input_grad[1]:
            if stride == dilation == 1:
                dw = _weight_gradient(x, gradient, size)
            elif stride == 1 and dilation == 2 and even:
                dw = _weight_gradient(_images_of_phases(x), _images_of_phases(gradient), size)
            elif stride == 2 and dilation == 1 and even and size == 5:
                dw = _strided_weight_gradient(x, gradient)
            else:
                dw = _plain_gradients(x, gradient, weight, stride, dilation, (False, True))[1]
        return dx, dw, None, None


def _plain_gradients(x, gradient, weight, stride, dilation, wanted: tuple[bool, bool]):
    padding = dilation * (weight.shape[-1] // 2)
    arguments = ([stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], len(weight), [*wanted, False])
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *arguments)


def _weight_gradient(x, gradient, size: int):
    """Sum over images and pixels p of gradient[p] * x[p + tap], for the size x size taps around p: (C, 1, k, k)."""
    if size == 5:
        return _corners(x, gradient)
    return _plain_gradients(x, gradient, x.new_empty(x.shape[1], 1, size, size), 1, 1, (False, True))[1]


def _corners(x, gradient):
    """The 5x5 weight gradient as four overlapping 3x3 ones: in a padded image, moving the taps moves the start."""
    (N, C, H, _), V = x.shape, x.shape[3] + 4
    size, margin = N * (H + 4) * V * C, (V + 1) * C
    memory = x.new_zeros(size + 2 * margin)
    memory[margin:-margin].view(N, H + 4, V, C)[:, 2:-2, 2:-2] = x.permute(0, 2, 3, 1)
    spread = F.pad(gradient.permute(0, 2, 3, 1), (0, 0, 2, 2, 2, 2)).permute(0, 3, 1, 2)
    dw = x.new_empty(C, 1, 5, 5)
    for i in (0, 2):
        for j in (0, 2):
            start = margin + ((i - 1) * V + (j - 1)) * C
            moved = memory[start : start + size].view(N, H + 4, V, C).permute(0, 3, 1, 2)
            dw[:, :, i : i + 3, j : j + 3] = _weight_gradient(moved, spread, 3)
    return dw


def _strided_weight_gradient(x, gradient):
    """The 5x5 weight gradient at stride 2: even taps meet even pixels, odd taps odd ones, each by a 3x3 gradient."""
    N, C, H, W = x.shape
    phases = _phases(x).reshape(2, 2, N, H // 2, W // 2, C)
    dw = x.new_empty(C, 1, 5, 5)
    for i in (0, 1):
        for j in (0, 1):
            part = _weight_gradient(phases[i, j].permute(0, 3, 1, 2), gradient, 3)
            dw[:, :, i::2, j::2] = part[:, :, : 3 - i, : 3 - j]
    return dw


def _images_of_phases(x):
    """(N, C, H, W) -> (4 N, C, H / 2, W / 2): each phase as an image of its own."""
    phases = _phases(x)
    return phases.view(-1, *phases.shape[3:]).permute(0, 3, 1, 2)


def _phases(x):
    """(N, C, H, W) -> (2, 2, N, H / 2, W / 2, C): even and odd rows, even and odd columns."""
    N, C, H, W = x.shape
    return x.permute(0, 2, 3, 1).reshape(N, H // 2, 2, W // 2, 2, C).permute(2, 4, 0, 1, 3, 5).contiguous()


class PointwiseNorm(torch.autograd.Function):
    """gamma * BatchNorm(W z) + beta for z (N, C, H, W), W (D, C, 1, 1), gamma and beta (D) or None for 1 and 0.

    Returns the result (N, D, H, W), and the mean and biased variance (D) of W z.
    """

    @staticmethod
    def forward(ctx, z, weight, gamma, beta, eps):
        rows, W = _rows(z), weight.flatten(1)
        mean = rows.mean(0)
        covariance = torch.addmm(torch.outer(mean, mean), rows.t(), rows, beta=-1, alpha=1 / len(rows))
        W_covariance, W_mean = W @ covariance, W @ mean
        variance = (W_covariance * W).sum(1).clamp_min(0)
        inverse = (variance + eps).rsqrt()
        factor = inverse if gamma is None else inverse * gamma
        folded = factor[:, None] * W
        shift = -(folded @ mean) if beta is None else beta - folded @ mean
        ctx.save_for_backward(z, weight, gamma, mean, W_covariance, W_mean, inverse)
        ctx.mark_non_differentiable(W_mean, variance)
        y = torch.empty_like(z[:, :1].expand(-1, len(W), -1, -1), memory_format=torch.channels_last)
        torch.addmm(shift, rows, folded.t(), out=_rows(y))  # into y itself: a view could not be overwritten by a ReLU
        return y, W_mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, _mean, _variance):
        z, weight, gamma, mean, W_covariance, W_mean, inverse = ctx.saved_tensors
        g, rows, W = _rows(gradient), _rows(z), weight.flatten(1)
        count = len(rows)
        g_sum = g.sum(0)
        g_z = g.t() @ rows  # (D, C)
        g_normalized = inverse * ((g_z * W).sum(1) - W_mean * g_sum)  # sum of gradient * BatchNorm(W z)
        factor = inverse if gamma is None else inverse * gamma
        dz = dW = None
        if ctx.needs_input_grad[0]:
            q = factor * inverse * g_normalized / count
            constant = (q * W_mean - factor * g_sum / count) @ W
            dz = torch.addmm(constant, g, factor[:, None] * W)
            dz = _images(dz.addmm_(rows, W.t() @ (q[:, None] * W), alpha=-1), z)
        if ctx.needs_input_grad[1]:
            dW = factor[:, None] * (g_z - torch.outer(g_sum, mean) - (inverse * g_normalized)[:, None] * W_covariance)
            dW = dW.view_as(weight)
        dgamma = g_normalized if ctx.needs_input_grad[2] else None
        dbeta = g_sum if ctx.needs_input_grad[3] else None
        return dz, dW, dgamma, dbeta, None


def _rows(x):
    """(N, C, H, W) -> (N H W, C), a view where x is channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _images(rows, like):
    N, _, H, W = like.shape
    return rows.view(N, H, W, -1).permute(0, 3, 1, 2)


class WeightedSum(torch.autograd.Function):
    """Sum of weights[i] * tensors[i], for weights (k) and k tensors of one shape, in one pass a term."""

    @staticmethod
    def forward(ctx, weights, *tensors):
        ctx.save_for_backward(weights, *tensors)
        first, *others = weights.tolist()
        total = tensors[0] * first
        for weight, tensor in zip(others, tensors[1:], strict=True):
            total.add_(tensor, alpha=weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        weights, *tensors = ctx.saved_tensors
        dtensors = [
            gradient * weight if needed else None
            for weight, needed in zip(weights.tolist(), ctx.needs_input_grad[1:], strict=True)
        ]
        dweights = None
        if ctx.needs_input_grad[0]:
            flat = _rows(gradient).flatten()
            dweights = torch.stack([flat.dot(_rows(tensor).flatten()) for tensor in tensors])
        return dweights, *dtensors


def weighted_sum(terms: list[tuple[torch.Tensor, torch.Tensor]], scaled: list[torch.Tensor]) -> torch.Tensor:
    """Sum of weight * tensor over `terms`, plus the tensors in `scaled`, the first of which may be overwritten."""
    total = None
    if terms:
        weights, tensors = zip(*terms, strict=True)
        if tensors[0].device.type == "cpu":
            total = WeightedSum.apply(torch.stack(weights), *tensors)
        else:
            total = sum(weight * tensor for weight, tensor in terms)
    for tensor in scaled:
        total = tensor if total is None else total.add_(tensor)
    return total
