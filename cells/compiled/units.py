"""Which layers run as one: runs of activation, window, 1x1 convolution and BatchNorm, read from a Sequential."""

import math
from typing import NamedTuple

from torch import nn

from search_spaces.layers import EvenAndOddPixels


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


def read_units(layers: list[nn.Module]) -> tuple[list[Unit], list[nn.Module]]:
    """The units at the front of `layers`, and what is left behind the last of them."""
    units, position = [], 0
    while found := _read_unit(layers, position):
        unit, position = found
        units.append(unit)
    return units, layers[position:]


def _read_unit(layers: list[nn.Module], position: int) -> tuple[Unit, int] | None:
    low, high, window, pointwise = -math.inf, math.inf, None, None
    for index in range(position, len(layers)):
        layer = layers[index]
        if has_hooks(layer):
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


def has_hooks(module: nn.Module) -> bool:
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
    one_pixel = type(layer) is nn.Conv2d and layer.kernel_size == layer.stride == layer.dilation == (1, 1)
    return one_pixel and layer.padding == (0, 0) and layer.groups == groups and layer.bias is None


def _is_batch_norm(layer) -> bool:
    return type(layer) is nn.BatchNorm2d and layer.training and layer.momentum is not None
