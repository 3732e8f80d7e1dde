"""The loops behind cells/compiled/fused.py, compiled by Numba at their first use and kept in its cache.

A unit is what stands between two BatchNorms: u = clip(a x + b), a window over u (depthwise convolution, pooling) or
none, a pointwise convolution or none. (Or u's even pixels and its odd ones, each with a pointwise convolution.) `a` and
`b` are the BatchNorm before it. A unit reads its input once and writes its output once; everything between stays in the
cache of the core that works on an image.

Images are flat arrays in the order N, H, W, C (channels_last). The loops work on blocks of `LANES` channels. Their
scratch is [block][pixel][lane] with the pixels filled up to a multiple of `TILE`, as many as are computed together, so
that every inner loop is `TILE` multiplications and additions for `TILE` + 1 loads. What belongs to channels (a, b,
weights) is filled up with zeros to whole blocks. Sums are taken for each of at most `PARTS` fixed parts of the batch
and then added, so results do not depend on the number of threads.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import config, njit, prange, set_num_threads

from cells.compiled.simd import (
    LANES,
    add,
    clip,
    fill,
    fma,
    mul,
    read,
    read_part,
    splat,
    sub,
    where_equal,
    where_inside,
    write,
    write_part,
)

# Numba's cache looks for changes in this file alone, so a change of simd.py must show here: its SHA-256's start.
SIMD_VERSION = "7f0fa6f8cf16b136"
PARTS = 16
TILE = 8
NO_WINDOW, CONVOLUTION, MAXIMUM, AVERAGE, EVEN_AND_ODD = range(5)

_jit = njit(fastmath={"contract"}, nogil=True, cache=True)
_jit_parallel = njit(fastmath={"contract"}, nogil=True, cache=True, parallel=True)


def whole(count: int, unit: int) -> int:
    """`count` rounded up to a multiple of `unit`."""
    return -(-count // unit) * unit


def use_threads(count: int):
    """Lets the loops run on so many threads, or as many as there are."""
    set_num_threads(min(count, config.NUMBA_NUM_THREADS))


class Window(NamedTuple):
    """Where a k x k window's taps lie in the padded copy of one block of channels; places count numbers."""

    pixels_in: int
    pixels_out: int
    stride: int
    size: int  # of the padded copy
    inside: np.ndarray  # (pixels in) the place of an input pixel
    base: np.ndarray  # (pixels out, filled up) tap t of an output pixel lies at base + offset[t]
    offset: np.ndarray  # (k k, filled up to a multiple of 5)
    taps: int  # k k
    inverse_count: np.ndarray  # (pixels out, filled up) one over the number of taps inside the image


@cache
def window(size: int, dilation: int, stride: int, height: int, width: int, dtype: np.dtype) -> Window:
    """The `Window` of a size x size kernel with "same" padding, or of size 2 the even and the odd pixels.

    The latter has two taps, (0, 0) and (1, 1), and an odd image is filled up by a row or column.
    """
    even_and_odd = size == 2
    padding = 0 if even_and_odd else dilation * (size // 2)
    pitch, rows = width + 2 * padding + even_and_odd, height + 2 * padding + even_and_odd
    steps = dilation * np.arange(size)
    rows_out, columns_out = stride * np.arange(-(-height // stride)), stride * np.arange(-(-width // stride))
    rows_in, columns_in = padding + np.arange(height), padding + np.arange(width)

    def places(rows, columns):
        return (LANES * (rows[:, None] * pitch + columns)).ravel()

    def count(starts, length):
        reached = starts[:, None] + steps - padding
        return ((reached >= 0) & (reached < length)).sum(1)

    base, offset = places(rows_out, columns_out), places(steps, steps)
    if even_and_odd:
        offset = offset[[0, 3]]
    inverse_count = 1 / np.outer(count(rows_out, height), count(columns_out, width)).ravel()
    fill_up = (0, whole(len(base), TILE) - len(base))
    return Window(
        pixels_in=height * width,
        pixels_out=len(base),
        stride=stride,
        size=rows * pitch * LANES,
        inside=places(rows_in, columns_in),
        base=np.pad(base, fill_up, mode="edge"),
        offset=np.pad(offset, (0, whole(len(offset), 5) - len(offset)), mode="edge"),
        taps=2 if even_and_odd else size**2,
        inverse_count=np.pad(inverse_count, fill_up).astype(dtype),
    )


@_jit
def _scratch(size, value, like):
    """`size` numbers of one value that begin on a cache line: a vector that lies across two is loaded half as fast."""
    out = np.full(size + LANES, value, like.dtype)
    first = -(out.ctypes.data // out.itemsize) % LANES
    return out[first : first + size]


@_jit
def _read_block(array, index, lanes):
    return read(array, index) if lanes == LANES else read_part(array, index, lanes)


@_jit
def _write_block(array, index, vector, lanes):
    if lanes == LANES:
        write(array, index, vector)
    else:
        write_part(array, index, vector, lanes)


@_jit
def _add_at(array, index, vector):
    write(array, index, add(read(array, index), vector))


@_jit
def _largest(padded, base, window):
    """The maximum over the taps of one output pixel."""
    best, infinity = read(padded, base), fill(padded.dtype.type(np.inf))
    for t in range(1, window.taps):
        best = clip(best, read(padded, base + window.offset[t]), infinity)
    return best


@_jit
def _activate(out, places, x, start, channels, lanes, a, b, low, high):
    """out at places[p] = clip(a x + b) of one block of channels of one image."""
    for p in range(len(places)):
        write(out, places[p], clip(fma(_read_block(x, start + p * channels, lanes), a, b), low, high))


@_jit
def _look(out, start, padded, kind, taps, first, window):
    """out = the window over the padded copy, for one block of channels; the weights are at `first` in taps."""
    base, offset = window.base, window.offset
    for p in range(0, len(base), 8):
        p0, p1, p2, p3 = base[p], base[p + 1], base[p + 2], base[p + 3]
        p4, p5, p6, p7 = base[p + 4], base[p + 5], base[p + 6], base[p + 7]
        if kind == MAXIMUM:
            for i in range(8):
                write(out, start + (p + i) * LANES, _largest(padded, base[p + i], window))
            continue
        zero = fill(padded.dtype.type(0))
        y0, y1, y2, y3, y4, y5, y6, y7 = zero, zero, zero, zero, zero, zero, zero, zero
        for t in range(window.taps):
            w, o = read(taps, first + t * LANES), offset[t]
            y0, y1 = fma(w, read(padded, p0 + o), y0), fma(w, read(padded, p1 + o), y1)
            y2, y3 = fma(w, read(padded, p2 + o), y2), fma(w, read(padded, p3 + o), y3)
            y4, y5 = fma(w, read(padded, p4 + o), y4), fma(w, read(padded, p5 + o), y5)
            y6, y7 = fma(w, read(padded, p6 + o), y6), fma(w, read(padded, p7 + o), y7)
        to = start + p * LANES
        _store_tile(out, to, y0, y1, y2, y3, y4, y5, y6, y7)
        if kind == AVERAGE:
            for i in range(8):
                place = to + i * LANES
                write(out, place, mul(read(out, place), splat(window.inverse_count, p + i)))


@_jit
def _store_tile(out, to, *tile):
    for i in range(len(tile)):
        write(out, to + i * LANES, tile[i])


@_jit
def _add_tile(out, to, pitch, *tile):
    for i in range(len(tile)):
        _add_at(out, to + i * pitch, tile[i])


@_jit
def _side_by_side(z, start, apart, padded, window):
    """The even pixels of one block of channels at `start` in z, the odd ones `apart` numbers behind."""
    for p in range(window.pixels_out):
        write(z, start + p * LANES, read(padded, window.base[p] + window.offset[0]))
        write(z, start + apart + p * LANES, read(padded, window.base[p] + window.offset[1]))


@_jit
def _scatter(spread, gradient, start, padded, kind, taps, first, window):
    """Adds to `spread` the gradient of `_look` for the padded copy."""
    for p in range(window.pixels_out):
        g = read(gradient, start + p * LANES)
        if kind == AVERAGE:
            g = mul(g, splat(window.inverse_count, p))
        base = window.base[p]
        if kind == MAXIMUM:  # to the first tap that attains it
            best = _largest(padded, base, window)
            for t in range(window.taps):
                place = base + window.offset[t]
                x, zero = read(padded, place), fill(padded.dtype.type(0))
                _add_at(spread, place, where_equal(x, best, g, zero))
                g = where_equal(x, best, zero, g)
        else:
            for t in range(window.taps):
                place = base + window.offset[t]
                write(spread, place, fma(read(taps, first + t * LANES), g, read(spread, place)))


@_jit
def _correlate(out, first, gradient, start, padded, window):
    """Adds to each tap's weight gradient, at `first` in out, the sum over pixels of gradient * input."""
    for t in range(0, len(window.offset), 5):
        o0, o1, o2 = window.offset[t], window.offset[t + 1], window.offset[t + 2]
        o3, o4 = window.offset[t + 3], window.offset[t + 4]
        zero = fill(padded.dtype.type(0))
        w0, w1, w2, w3, w4 = zero, zero, zero, zero, zero
        for p in range(window.pixels_out):
            g, base = read(gradient, start + p * LANES), window.base[p]
            w0, w1 = fma(g, read(padded, base + o0), w0), fma(g, read(padded, base + o1), w1)
            w2, w3 = fma(g, read(padded, base + o2), w2), fma(g, read(padded, base + o3), w3)
            w4 = fma(g, read(padded, base + o4), w4)
        _add_tile(out, first + t * LANES, LANES, w0, w1, w2, w3, w4)


@_jit
def _multiply(out, start, x, pixels, columns, W, first, pitch):
    """out (pixels, LANES) = x W for one block of W's columns, which begins at `first`; x has `columns` channels."""
    zero = fill(x.dtype.type(0))
    for p in range(0, pixels, 8):
        y0, y1, y2, y3, y4, y5, y6, y7 = zero, zero, zero, zero, zero, zero, zero, zero
        for block in range(0, columns, LANES):
            row, end = block * pixels + p * LANES, min(LANES, columns - block)
            for lane in range(end):
                w, c = read(W, first + (block + lane) * pitch), row + lane
                y0, y1 = fma(w, splat(x, c), y0), fma(w, splat(x, c + LANES), y1)
                y2, y3 = fma(w, splat(x, c + 2 * LANES), y2), fma(w, splat(x, c + 3 * LANES), y3)
                y4, y5 = fma(w, splat(x, c + 4 * LANES), y4), fma(w, splat(x, c + 5 * LANES), y5)
                y6, y7 = fma(w, splat(x, c + 6 * LANES), y6), fma(w, splat(x, c + 7 * LANES), y7)
        _store_tile(out, start + p * LANES, y0, y1, y2, y3, y4, y5, y6, y7)


@_jit
def _multiply_transposed(out, to, x, pixels, columns, g, start, pitch):
    """Adds to out (columns, LANES), rows `pitch` apart, the sum over pixels of x * g for one block of g."""
    zero = fill(x.dtype.type(0))
    for c in range(0, columns, 8):
        row = c // LANES * pixels * LANES + c % LANES
        w0, w1, w2, w3, w4, w5, w6, w7 = zero, zero, zero, zero, zero, zero, zero, zero
        for p in range(pixels):
            v, i = read(g, start + p * LANES), row + p * LANES
            w0, w1 = fma(v, splat(x, i), w0), fma(v, splat(x, i + 1), w1)
            w2, w3 = fma(v, splat(x, i + 2), w2), fma(v, splat(x, i + 3), w3)
            w4, w5 = fma(v, splat(x, i + 4), w4), fma(v, splat(x, i + 5), w5)
            w6, w7 = fma(v, splat(x, i + 6), w6), fma(v, splat(x, i + 7), w7)
        _add_tile(out, to + c * pitch, pitch, w0, w1, w2, w3, w4, w5, w6, w7)


@_jit
def _taps(weight, channels, taps, reverse):
    """The window's weights [block][k k][lane] from (C, k k); ones where there are none."""
    out = np.zeros(whole_lanes(channels) * taps, weight.dtype)
    for c in range(channels):
        for t in range(taps):
            place = c // LANES * taps * LANES + (taps - 1 - t if reverse else t) * LANES + c % LANES
            out[place] = weight[c * taps + t] if len(weight) else 1
    return out


@_jit
def _matrix(weight, rows, columns, groups, transpose):
    """A grouped pointwise weight (rows, columns) as a matrix (rows, groups * columns), zero outside the groups' blocks.

    Or its transpose; each group's columns are filled up to whole vectors, and so are the matrix's.
    """
    wide_rows, wide_columns = whole_lanes(rows), whole_lanes(columns)
    all_columns = groups * wide_columns
    out = np.zeros(((all_columns * wide_rows) if transpose else rows * all_columns) if len(weight) else 0, weight.dtype)
    for i in range(len(weight)):
        row = i // columns
        column = row * groups // rows * wide_columns + i % columns
        out[column * wide_rows + row if transpose else row * all_columns + column] = weight[i]
    return out


@_jit
def _add_parts(parts):
    """The sum of parts (parts, n)."""
    out = parts[0].copy()
    for part in range(1, len(parts)):
        for i in range(len(out)):
            out[i] += parts[part, i]
    return out


@_jit
def whole_lanes(channels):
    return (channels + LANES - 1) // LANES * LANES


class Norm(NamedTuple):
    """BatchNorm as an affine map: a y + b; with the batch's mean and 1 / sqrt(variance + eps).

    Each is (C), filled up with zeros to whole vectors.
    """

    a: np.ndarray
    b: np.ndarray
    mean: np.ndarray
    inverse: np.ndarray


@_jit
def _normalize(total, square, D, pixels, eps, gamma, beta, running_mean, running_var, momentum):
    """The BatchNorm of a batch whose images have these sums and squared deviations (N, D); moves the running ones."""
    N, wide = total.shape
    count = N * pixels
    dtype = total.dtype
    a, b, mean, inverse = np.zeros(wide, dtype), np.zeros(wide, dtype), np.zeros(wide, dtype), np.zeros(wide, dtype)
    for d in range(D):
        center, variance = 0.0, 0.0
        for n in range(N):
            center += total[n, d]
        center /= count
        for n in range(N):
            off = total[n, d] / pixels - center
            variance += max(square[n, d], 0.0) + pixels * off * off
        variance /= count
        mean[d], inverse[d] = center, 1 / np.sqrt(variance + eps)
        a[d] = inverse[d] * gamma[d] if len(gamma) else inverse[d]
        b[d] = (beta[d] if len(beta) else 0.0) - a[d] * mean[d]
        if len(running_mean):
            running_mean[d] += momentum * (center - running_mean[d])
            running_var[d] += momentum * (variance * count / (count - 1) - running_var[d])
    return Norm(a, b, mean, inverse)


@_jit_parallel
def forward(
    x, N, C, before, low, high, kind, window_weight, window, pointwise_weight, D, y,
    eps, gamma, beta, running_mean, running_var, momentum,
):  # fmt: skip
    """One unit: x (N, P, C) -> y (N, P', D) before its BatchNorm, which is given back.

    Weights are PyTorch's, (C, k k) and (D, C), empty where there are none; so are gamma, beta and running statistics.
    """
    Q, P, pixels = window.pixels_in, window.pixels_out, len(window.base)
    pointwise, pitch, groups = len(pointwise_weight) > 0, whole_lanes(D), 2 if kind == EVEN_AND_ODD else 1
    apart, columns = whole_lanes(C) * pixels, (groups - 1) * whole_lanes(C) + C
    taps, W = _taps(window_weight, C, window.taps, False), _matrix(pointwise_weight, D, C, groups, True)
    total, square = np.zeros((N, pitch), x.dtype), np.zeros((N, pitch), x.dtype)
    flat_total, flat_square = total.ravel(), square.ravel()
    inside = x.dtype.type(-np.inf if kind == MAXIMUM else 0)
    places = np.arange(Q) * LANES if kind == NO_WINDOW else window.inside
    parts = min(N, PARTS)
    for part in prange(parts):
        padded = _scratch(window.size, inside, x)
        z = _scratch(groups * apart, 0, x)
        tile = _scratch(pixels * LANES, 0, x)
        for n in range(part * N // parts, (part + 1) * N // parts):
            for c in range(0, C, LANES):
                target = z[c * pixels : (c + LANES) * pixels] if kind == NO_WINDOW else padded
                start, lanes = n * Q * C + c, min(LANES, C - c)
                a, b = read(before.a, c), read(before.b, c)
                _activate(target, places, x, start, C, lanes, a, b, fill(low), fill(high))
                if kind == EVEN_AND_ODD:
                    _side_by_side(z, c * pixels, apart, padded, window)
                elif kind != NO_WINDOW:
                    _look(z, c * pixels, padded, kind, taps, c * window.taps, window)
            for d in range(0, D, LANES):
                lanes, start = min(LANES, D - d), n * P * D + d
                result = tile if pointwise else z[d * pixels : (d + LANES) * pixels]
                if pointwise:
                    _multiply(tile, 0, z, pixels, columns, W, d, pitch)
                pivot = read(result, 0)
                first, second = fill(x.dtype.type(0)), fill(x.dtype.type(0))
                for p in range(P):
                    value = read(result, p * LANES)
                    _write_block(y, start + p * D, value, lanes)
                    value = sub(value, pivot)
                    first, second = add(first, value), fma(value, value, second)
                count, share = fill(x.dtype.type(P)), fill(x.dtype.type(1 / P))
                write(flat_total, n * pitch + d, fma(pivot, count, first))
                write(flat_square, n * pitch + d, sub(second, mul(mul(first, first), share)))
    return _normalize(total, square, D, P, eps, gamma, beta, running_mean, running_var, momentum)


@_jit_parallel
def backward(
    g, total, moment, y, D, norm, factor, x, N, C, before, low, high, kind, window_weight, window, pointwise_weight,
    dx, accumulate, dwindow, dpointwise,
):  # fmt: skip
    """Backwards through one unit, from the gradient g of factor * norm(y).

    total and moment (N, D) are each image's sums of g alone and times (y - mean). dx (N, P, C) is the gradient for
    before(x), written or, with `accumulate`, added. dwindow and dpointwise take the weights' gradients; they are empty
    if those are not asked for. Gives total and moment of dx for the BatchNorm before, and the sums over the batch of
    g and of g * (y - mean) * inverse.
    """
    Q, P, pixels = window.pixels_in, window.pixels_out, len(window.base)
    wide_C, wide_D, length = whole_lanes(C), whole_lanes(D), len(window.offset) * LANES
    sums, products = np.zeros(D, x.dtype), np.zeros(D, x.dtype)
    p, q, r = np.zeros(wide_D, x.dtype), np.zeros(wide_D, x.dtype), np.zeros(wide_D, x.dtype)
    for d in range(D):  # BatchNorm: the gradient of y is p g + q y + r
        first, second = 0.0, 0.0
        for n in range(N):
            first += total[n, d]
            second += moment[n, d]
        sums[d], products[d] = first, second * norm.inverse[d]
        slope = second * norm.inverse[d] * norm.inverse[d] / (N * P)
        p[d] = factor * norm.a[d]
        q[d] = -p[d] * slope
        r[d] = p[d] * (slope * norm.mean[d] - first / (N * P))

    pointwise, trains_window, trains_pointwise = len(pointwise_weight) > 0, len(dwindow) > 0, len(dpointwise) > 0
    groups = 2 if kind == EVEN_AND_ODD else 1
    apart, columns, all_columns = wide_C * pixels, (groups - 1) * wide_C + C, groups * wide_C
    taps, W = _taps(window_weight, C, window.taps, False), _matrix(pointwise_weight, D, C, groups, False)
    turned = _taps(window_weight, C, window.taps, True)
    total_x, moment_x = np.zeros((N, wide_C), x.dtype), np.zeros((N, wide_C), x.dtype)
    flat_total, flat_moment = total_x.ravel(), moment_x.ravel()
    inside = x.dtype.type(-np.inf if kind == MAXIMUM else 0)
    places = np.arange(Q) * LANES if kind == NO_WINDOW else window.inside
    gathers = window.stride == 1 and kind != MAXIMUM
    parts = min(N, PARTS)
    dtaps = np.zeros((parts, wide_C // LANES * length if trains_window else 0), x.dtype)
    dW = np.zeros((parts, all_columns * wide_D if trains_pointwise else 0), x.dtype)
    flat_dtaps, flat_dW = dtaps.ravel(), dW.ravel()
    for part in prange(parts):
        padded = _scratch(window.size, inside, x)
        spread = _scratch(window.size, 0, x)
        dy = _scratch(wide_D * pixels, 0, x)
        dz = _scratch(groups * apart, 0, x) if pointwise else dy
        z = _scratch(groups * apart if trains_pointwise else 0, 0, x)
        du = _scratch(pixels * LANES, 0, x)
        for n in range(part * N // parts, (part + 1) * N // parts):
            for d in range(0, D, LANES):
                start, lanes = n * P * D + d, min(LANES, D - d)
                pd, qd, rd = read(p, d), read(q, d), read(r, d)
                for i in range(P):
                    j = start + i * D
                    value = fma(pd, _read_block(g, j, lanes), fma(qd, _read_block(y, j, lanes), rd))
                    write(dy, d * pixels + i * LANES, value)
            for c in range(0, C, LANES):
                here = c * pixels
                if pointwise:
                    for group in range(groups):
                        _multiply(dz, here + group * apart, dy, pixels, D, W, group * wide_C + c, all_columns)
                start, lanes = n * Q * C + c, min(LANES, C - c)
                a, b, center, lo, hi = read(before.a, c), read(before.b, c), read(before.mean, c), fill(low), fill(high)
                if kind == NO_WINDOW:
                    if trains_pointwise:
                        _activate(z[here : here + Q * LANES], places, x, start, C, lanes, a, b, lo, hi)
                    source = dz[here : here + Q * LANES]
                elif kind == EVEN_AND_ODD:
                    if trains_pointwise:
                        _activate(padded, places, x, start, C, lanes, a, b, lo, hi)
                        _side_by_side(z, here, apart, padded, window)
                    for i in range(P):
                        for group in range(groups):
                            value = read(dz, here + group * apart + i * LANES)
                            write(spread, window.base[i] + window.offset[group], value)
                    source = spread
                else:
                    first_tap = c * window.taps
                    if trains_window or trains_pointwise or kind == MAXIMUM:
                        _activate(padded, places, x, start, C, lanes, a, b, lo, hi)
                    if trains_pointwise:
                        _look(z, here, padded, kind, taps, first_tap, window)
                    if trains_window:
                        to = part * dtaps.shape[1] + c // LANES * length
                        _correlate(flat_dtaps, to, dz, here, padded, window)
                    if gathers:
                        for i in range(P):
                            value = read(dz, here + i * LANES)
                            if kind == AVERAGE:
                                value = mul(value, splat(window.inverse_count, i))
                            write(spread, window.inside[i], value)
                        _look(du, 0, spread, CONVOLUTION, turned, first_tap, window)
                        source = du
                    else:
                        spread[:] = 0
                        _scatter(spread, dz, here, padded, kind, taps, first_tap, window)
                        source = spread
                first, second = fill(x.dtype.type(0)), fill(x.dtype.type(0))
                for i in range(Q):
                    j = start + i * C
                    value = _read_block(x, j, lanes)
                    slope = read(source, i * LANES if gathers else window.inside[i])
                    slope = where_inside(fma(value, a, b), lo, hi, slope)
                    first, second = add(first, slope), fma(slope, sub(value, center), second)
                    if accumulate:
                        slope = add(slope, _read_block(dx, j, lanes))
                    _write_block(dx, j, slope, lanes)
                write(flat_total, n * wide_C + c, first)
                write(flat_moment, n * wide_C + c, second)
            if trains_pointwise:
                for d in range(0, D, LANES):
                    to = part * all_columns * wide_D + d
                    _multiply_transposed(flat_dW, to, z, pixels, columns, dy, d * pixels, wide_D)
    if trains_window:
        summed = _add_parts(dtaps)
        for c in range(C):
            for t in range(window.taps):
                dwindow[c * window.taps + t] = summed[c // LANES * length + t * LANES + c % LANES]
    if trains_pointwise:
        summed = _add_parts(dW)
        for c in range(C):
            for d in range(D):
                dpointwise[d * C + c] = summed[(d * groups // D * wide_C + c) * wide_D + d]
    return total_x, moment_x, sums, products


@_jit_parallel
def mix(out, N, C, own, a, shared, a_shared, b, x, x_weight, base, has_base):
    """out (N, P, C) = sum over k of a[k] own[k] + sum over s of a_shared[s] shared[s] + b + x_weight x + base.

    own is (K, N, P, C) and shared (S, N, P, C). A zero x_weight leaves x unread, a false `has_base` base.
    """
    K, S, length = len(a), len(a_shared), len(out)
    P = length // (N * C)
    flat_a, flat_shared, pitch = a.ravel(), a_shared.ravel(), whole_lanes(C)
    for n in prange(N):
        for c in range(0, C, LANES):
            lanes, shift, skip = min(LANES, C - c), read(b, c), fill(x_weight)
            for p in range(n * P, (n + 1) * P):
                i = p * C + c
                value = shift
                if has_base:
                    value = add(value, _read_block(base, i, lanes))
                if x_weight != 0:
                    value = fma(skip, _read_block(x, i, lanes), value)
                for k in range(K):
                    value = fma(read(flat_a, k * pitch + c), _read_block(own, k * length + i, lanes), value)
                for s in range(S):
                    value = fma(read(flat_shared, s * pitch + c), _read_block(shared, s * length + i, lanes), value)
                _write_block(out, i, value, lanes)


@_jit_parallel
def moments(g, N, C, own, mean, shared, mean_shared, x, with_x):
    """Each image's sums of g (N, P, C): alone (N, C); times own[k] - mean[k] and shared[s] - mean_shared[s], together
    (K + S, N, C); and, if `with_x`, times x (N, C)."""
    K, S, length = len(mean), len(mean_shared), len(g)
    P, wide = length // (N * C), whole_lanes(C)
    total, product = np.zeros((N, wide), g.dtype), np.zeros((N, wide), g.dtype)
    moment = np.zeros((K + S, N, wide), g.dtype)
    flat_total, flat_moment, flat_product = total.ravel(), moment.ravel(), product.ravel()
    flat_mean, flat_shared = mean.ravel(), mean_shared.ravel()
    for n in prange(N):
        for c in range(0, C, LANES):
            lanes, start, zero = min(LANES, C - c), n * P * C + c, fill(g.dtype.type(0))
            sums, products = zero, zero
            for p in range(P):
                i = start + p * C
                value = _read_block(g, i, lanes)
                sums = add(sums, value)
                if with_x:
                    products = fma(value, _read_block(x, i, lanes), products)
            write(flat_total, n * wide + c, sums)
            write(flat_product, n * wide + c, products)
            for k in range(K + S):
                source, first = (own, k * length) if k < K else (shared, (k - K) * length)
                center = read(flat_mean, k * wide + c) if k < K else read(flat_shared, (k - K) * wide + c)
                products = zero
                for p in range(P):
                    i = start + p * C
                    value = sub(_read_block(source, first + i, lanes), center)
                    products = fma(_read_block(g, i, lanes), value, products)
                write(flat_moment, (k * N + n) * wide + c, products)
    return total, moment, product


@_jit_parallel
def combine(out, gradients, weights):
    """out[s] = sum over e of weights[e, s] gradients[e], for a tuple of flat gradients and out (S, length)."""
    S, length = out.shape
    chunks = (length + 4095) // 4096
    for chunk in prange(chunks):
        start, stop = chunk * 4096, min((chunk + 1) * 4096, length)
        for s in range(S):
            row = out[s, start:stop]
            for e in range(len(gradients)):
                weight, gradient = weights[e, s], gradients[e][start:stop]
                if e == 0:
                    for i in range(stop - start):
                        row[i] = weight * gradient[i]
                else:
                    for i in range(stop - start):
                        row[i] += weight * gradient[i]
