"""Row operations that multiply: real-valued convolutions, with the rounding that follows them.

Both add up in int32, exactly, by an outer product at a time: the weights of 16 or 32 output lanes, for one pair of
input channels, times that pair of several pixels (`vectors.outer_product`). So the processor's multipliers are what
bounds them, for each number that is loaded serves several products.
"""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.records import DENSE_CONV, PLACE, WINOGRAD
from simulator.engine.vectors import (
    I16X32,
    I32X16,
    clamp,
    load,
    load_i64,
    narrow,
    outer_product,
    splat,
    store,
    store_64,
    x86_features,
)

SUMS = 16 if "avx512bw" in x86_features() else 4  # of 16 lanes, that the registers hold
TILES = 8  # 2x2 output pixels each, that share a load of weights
BOTH = 5  # the product (of 16) that is added to all four pixels of a tile


@force_inline
def _put_rounded(out: int, wide: int, sums: Any, shift: Any, low: Any, high: Any) -> None:
    value = clamp(sums >> shift, low, high)
    if wide:
        store(out, value)
    else:
        store(out, narrow(value))


@inline
def _find_rows(op: Any, t: int, y: int) -> Any:
    """Note where the input rows under the kernel begin; returns the first and one past the last there is."""
    top = y * op[DENSE_CONV.stride] - op[DENSE_CONV.padding]
    first = max(0, -top)
    end = max(min(op[DENSE_CONV.kernel], op[DENSE_CONV.height] - top), first)
    for k in range(first, end):
        row = place(op, DENSE_CONV.source, top + k, 0) + t * op[DENSE_CONV.source + PLACE.step]
        store_64(op[DENSE_CONV.rows] + 8 * k, row)
    return first, end


@inline
def _copy_columns(op: Any, first: int, end: int, column: int, columns: int) -> None:
    """Copy input rows first .. end - 1 under the kernel to scratch memory, `columns` from `column` on, some of which
    lie beyond the border: zeros."""
    pixel, step = op[DENSE_CONV.taps], op[DENSE_CONV.source + PLACE.column]
    zero = splat(I16X32, 0)
    for k in range(first, end):
        source, to = load_i64(op[DENSE_CONV.rows] + 8 * k), op[DENSE_CONV.strip] + k * columns * step
        # Every copy may run over by less than a vector: the next column, or row, overwrites what it left there.
        for c in range(column, column + columns):
            if 0 <= c < op[DENSE_CONV.width]:
                for i in range(0, pixel, 64):
                    store(to + i, load(I16X32, source + c * step + i))
            else:
                for i in range(0, pixel, 64):
                    store(to + i, zero)
            to += step


def _dense(bits: int, vectors: int) -> Any:
    """One row of a convolution for inputs of `bits` and `vectors` of 16 output lanes at a time."""
    pixels = SUMS // vectors
    begin, advance, keep = outer_product(bits, pixels, vectors)

    @inline
    def convolve(op: Any, t: int, y: int, x: int, n: int) -> None:
        kernel, stride = op[DENSE_CONV.kernel], op[DENSE_CONV.stride]
        column, taps = op[DENSE_CONV.source + PLACE.column], op[DENSE_CONV.taps]
        pixel, wide, strip, sums = op[DENSE_CONV.pixel], op[DENSE_CONV.wide], op[DENSE_CONV.strip], op[DENSE_CONV.sums]
        columns = (pixels - 1) * stride + kernel
        step = stride * column
        row_weights = kernel * taps * 16 * vectors  # 4 bytes of input meet `vectors` of weights
        gap = column - taps
        shift, piece = splat(I32X16, op[DENSE_CONV.shift]), 64 if wide else 32
        low, high = splat(I32X16, op[DENSE_CONV.low]), splat(I32X16, op[DENSE_CONV.high])
        first, end = _find_rows(op, t, y)
        out = place(op, DENSE_CONV.out, y, 0) + t * op[DENSE_CONV.out + PLACE.step]
        for p in range(0, n, pixels):
            left = (x + p) * stride - op[DENSE_CONV.padding]
            direct = left >= 0 and left + columns <= op[DENSE_CONV.width]
            if not direct:
                _copy_columns(op, first, end, left, columns)
            for chunk in range(op[DENSE_CONV.chunks]):
                added = begin(op[DENSE_CONV.bias] + 64 * vectors * chunk)
                weights = op[DENSE_CONV.weight] + (chunk * kernel + first) * row_weights
                for k in range(first, end):
                    at = (
                        load_i64(op[DENSE_CONV.rows] + 8 * k) + left * column
                        if direct
                        else strip + k * columns * column
                    )
                    for _ in range(kernel):
                        stop = at + taps
                        while at < stop:
                            added = advance(added, weights, at, step)
                            weights += 64 * vectors
                            at += 4
                        at += gap
                keep(added, sums)
                for i in range(pixels):
                    for v in range(vectors):
                        value = load(I32X16, sums + 64 * (vectors * i + v))
                        to = out + (p + i) * pixel + (vectors * chunk + v) * piece
                        _put_rounded(to, wide, value, shift, low, high)

    return convolve


_dense_one, _dense_two, _dense_wide = _dense(16, 1), _dense(16, 2), _dense(32, 1)


@inline
def dense_conv(op: Any, y: int, x: int, n: int) -> None:
    """Pairs of int16 channels, or int32 by int32 where the input is wide. The input is read where it lies, but for
    columns at the border of the picture."""
    for t in range(op[DENSE_CONV.steps]):
        if op[DENSE_CONV.wide_source]:
            _dense_wide(op, t, y, x, n)
        elif op[DENSE_CONV.vectors] == 1:
            _dense_one(op, t, y, x, n)
        else:
            _dense_two(op, t, y, x, n)


@force_inline
def _column(rows: Any, steps: Any, c: int, inside: bool, zeros: int) -> Any:
    """Four inputs of column c one below the other, combined."""
    a = load(I16X32, rows[0] + c * steps[0] if inside else zeros)
    b = load(I16X32, rows[1] + c * steps[1] if inside else zeros)
    d = load(I16X32, rows[2] + c * steps[2] if inside else zeros)
    e = load(I16X32, rows[3] + c * steps[3] if inside else zeros)
    return a - d, b + d, d - b, b - e


@force_inline
def _row(op: Any, t: int, y: int) -> Any:
    """Address of the input's row y and bytes from column to column; beyond the border all columns are one zero."""
    if 0 <= y < op[WINOGRAD.height]:
        row = place(op, WINOGRAD.source, y, 0) + t * op[WINOGRAD.source + PLACE.step]
        return row, op[WINOGRAD.source + PLACE.column]
    return op[WINOGRAD.zeros], 0


@force_inline
def _put_tile(to: int, apart: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Four columns of a row of combined inputs, combined."""
    store(to, a - c)
    store(to + apart, b + c)
    store(to + 2 * apart, c - b)
    store(to + 3 * apart, b - d)


@inline
def _transform(op: Any, t: int, y: int, x: int) -> None:
    """B^T d B of the inputs d of each of TILES tiles: 16 times [tiles, vectors of 32 channels]."""
    top, left = y - op[WINOGRAD.padding], x - op[WINOGRAD.padding]
    (r0, s0), (r1, s1), (r2, s2), (r3, s3) = (
        _row(op, t, top),
        _row(op, t, top + 1),
        _row(op, t, top + 2),
        _row(op, t, top + 3),
    )
    zeros, width, steps = op[WINOGRAD.zeros], op[WINOGRAD.width], (s0, s1, s2, s3)
    tile = 64 * op[WINOGRAD.vectors_in]
    apart = TILES * tile
    for v in range(op[WINOGRAD.vectors_in]):
        rows = r0 + 64 * v, r1 + 64 * v, r2 + 64 * v, r3 + 64 * v
        a0, a1, a2, a3 = _column(rows, steps, left, 0 <= left < width, zeros)
        b0, b1, b2, b3 = _column(rows, steps, left + 1, 0 <= left + 1 < width, zeros)
        for i in range(TILES):
            c = left + 2 * i + 2
            c0, c1, c2, c3 = _column(rows, steps, c, 0 <= c < width, zeros)
            d0, d1, d2, d3 = _column(rows, steps, c + 1, 0 <= c + 1 < width, zeros)
            to = op[WINOGRAD.inputs] + tile * i + 64 * v
            _put_tile(to, apart, a0, b0, c0, d0)
            _put_tile(to + 4 * apart, apart, a1, b1, c1, d1)
            _put_tile(to + 8 * apart, apart, a2, b2, c2, d2)
            _put_tile(to + 12 * apart, apart, a3, b3, c3, d3)
            a0, a1, a2, a3, b0, b1, b2, b3 = c0, c1, c2, c3, d0, d1, d2, d3


def _winograd(vectors: int) -> Any:
    """TILES tiles of a convolution, `vectors` of 16 output lanes at a time."""
    pixels = min(TILES, SUMS // vectors)
    begin, advance, keep = outer_product(16, pixels, vectors)

    @inline
    def multiply(op: Any, chunk: int) -> None:
        """Products of each of the 16 combinations: 16 times [tiles, vectors of 16 lanes]."""
        tile = 64 * op[WINOGRAD.vectors_in]
        pairs = op[WINOGRAD.pairs]
        bias = op[WINOGRAD.bias] + 128 * vectors * chunk
        weights_of_all = op[WINOGRAD.weight] + chunk * 16 * pairs * 64 * vectors
        to = op[WINOGRAD.products]
        at_all = op[WINOGRAD.inputs]
        for m in range(16):
            for _ in range(0, TILES, pixels):
                weights, at = weights_of_all, at_all
                added = begin(bias + 64 * vectors if m == BOTH else bias)
                for _ in range(pairs):
                    added = advance(added, weights, at, tile)
                    weights += 64 * vectors
                    at += 4
                keep(added, to)
                to += pixels * vectors * 64
                at_all += pixels * tile
            weights_of_all += pairs * 64 * vectors

    @inline
    def convolve(op: Any, t: int, y: int, x: int, n: int) -> None:
        pixel, wide = op[WINOGRAD.pixel], op[WINOGRAD.wide]
        shift, piece = splat(I32X16, op[WINOGRAD.shift]), 64 if wide else 32
        low, high = splat(I32X16, op[WINOGRAD.low]), splat(I32X16, op[WINOGRAD.high])
        upper = place(op, WINOGRAD.out, y, 0) + t * op[WINOGRAD.out + PLACE.step]
        lower = upper + op[WINOGRAD.out + PLACE.row]
        for p in range(0, n, 2 * TILES):
            _transform(op, t, y, x + p)
            for chunk in range(op[WINOGRAD.chunks]):
                multiply(op, chunk)
                for i in range(TILES * vectors):
                    at = op[WINOGRAD.products] + 64 * i
                    a, b = _down(at, 0, vectors)
                    c, d = _down(at, 1, vectors)
                    e, f = _down(at, 2, vectors)
                    g, h = _down(at, 3, vectors)
                    to = (p + 2 * (i // vectors)) * pixel + (vectors * chunk + i % vectors) * piece
                    _put_rounded(upper + to, wide, a + c + e, shift, low, high)
                    _put_rounded(upper + to + pixel, wide, c - e - g, shift, low, high)
                    _put_rounded(lower + to, wide, b + d + f, shift, low, high)
                    _put_rounded(lower + to + pixel, wide, d - f - h, shift, low, high)

    return convolve


@force_inline
def _down(at: int, column: int, vectors: int) -> Any:
    """A column of four products, combined."""
    apart = TILES * vectors * 64
    a, b = load(I32X16, at + column * apart), load(I32X16, at + (4 + column) * apart)
    c, d = load(I32X16, at + (8 + column) * apart), load(I32X16, at + (12 + column) * apart)
    return a + b + c, b - c - d


_winograd_one, _winograd_two = _winograd(1), _winograd(2)


@inline
def winograd(op: Any, y: int, x: int, n: int) -> None:
    """A 3x3 convolution of stride 1 by tiles of 2x2 output pixels, in rows y and y + 1.

    Winograd's minimal filtering F(2x2, 3x3) takes 16 products for the 36 of each tile, pair of channels by channels:
    A^T [(G g G^T) * (B^T d B)] A, with g the weights and d 4x4 inputs. Of the weights' G, 2 G is taken, which is
    whole: so sums are four times what they would be, and exact. Combined inputs are within 4 |d|, in int16.
    (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.)
    """
    for t in range(op[WINOGRAD.steps]):
        if op[WINOGRAD.vectors] == 1:
            _winograd_one(op, t, y, x, n)
        else:
            _winograd_two(op, t, y, x, n)
