"""Row operations that multiply: real-valued convolutions, with the rounding that follows them.

Both add up in int32, exactly, by one outer product at a time: the weights of 16 or 32 output lanes for a pair of input
channels, times that pair of several pixels (`vectors.outer_product`). Each number that is loaded serves several
products, so that the processor's multipliers are what bounds them.
"""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.picture import put_pixels
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
ABREAST = 16  # vectors of products of each combination: so many tiles of 2x2 output pixels go together, or half of it
APART = ABREAST * 64  # bytes from combination to combination
TILE = 16 * 64  # bytes of combined inputs of a tile, for 32 channels
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
def _copy_columns(to: int, row: int, step: int, column: int, columns: int, width: int) -> None:
    """Copy `columns` of an input row from `column` on to scratch memory, zeros for those that lie beyond the border
    (all of them if the row does: address 0). step: bytes from column to column.

    Every copy may run over by less than a vector: the next column, or row, overwrites what it left there.
    """
    zero = splat(I16X32, 0)
    first = min(max(-column, 0), columns)
    end = max(min(width - column, columns), first) if row != 0 else first
    for i in range(0, first * step, 64):
        store(to + i, zero)
    source = row + column * step
    for i in range(first * step, end * step, 64):
        store(to + i, load(I16X32, source + i))
    for i in range(end * step, columns * step, 64):
        store(to + i, zero)


@inline
def _copy_picture(
    op: Any, picture: int, factor: int, to: int, inside: int, y: int, step: int, column: int, columns: int, width: int
) -> None:
    """The same from row y of the space-to-depth of the picture whose fields start at `picture`; inside: whether there
    is such a row."""
    first = min(max(-column, 0), columns)
    end = max(min(width - column, columns), first) if inside else first
    zero = splat(I16X32, 0)
    for i in range(0, first * step, 64):
        store(to + i, zero)
    put_pixels(op, picture, factor, step // 2, to + first * step, y, column + first, end - first)
    for i in range(end * step, columns * step, 64):
        store(to + i, zero)


def _dense(bits: int) -> Any:
    """One row of a convolution for inputs of `bits`, 16 output lanes of SUMS pixels at a time."""
    begin, advance, keep = outer_product(bits, SUMS, 1)

    @inline
    def convolve(op: Any, t: int, y: int, x: int, n: int) -> None:
        kernel, stride, width = op[DENSE_CONV.kernel], op[DENSE_CONV.stride], op[DENSE_CONV.width]
        column, taps, rows = op[DENSE_CONV.source + PLACE.column], op[DENSE_CONV.taps], op[DENSE_CONV.rows]
        pixel, wide, strip, sums = op[DENSE_CONV.pixel], op[DENSE_CONV.wide], op[DENSE_CONV.strip], op[DENSE_CONV.sums]
        columns = (SUMS - 1) * stride + kernel
        pitch = columns * column
        step = stride * column
        row_weights = kernel * taps * 16  # 4 bytes of input meet a vector of weights
        shift = splat(I32X16, op[DENSE_CONV.shift])
        low, high = splat(I32X16, op[DENSE_CONV.low]), splat(I32X16, op[DENSE_CONV.high])
        top, factor = y * stride - op[DENSE_CONV.padding], op[DENSE_CONV.factor]
        first, end = _find_rows(op, t, y)
        row_out = place(op, DENSE_CONV.out, y, 0) + t * op[DENSE_CONV.out + PLACE.step]
        for p in range(0, n, SUMS):
            left = (x + p) * stride - op[DENSE_CONV.padding]
            direct = left >= 0 and left + columns <= width and factor == 0
            if not direct:
                for k in range(first, end):
                    to = strip + k * pitch
                    if factor:
                        _copy_picture(op, DENSE_CONV.picture, factor, to, 1, top + k, column, left, columns, width)
                    else:
                        _copy_columns(to, load_i64(rows + 8 * k), column, left, columns, width)
            for chunk in range(op[DENSE_CONV.chunks]):
                added = begin(op[DENSE_CONV.bias] + 64 * chunk)
                weights = op[DENSE_CONV.weight] + (chunk * kernel + first) * row_weights
                for k in range(first, end):
                    at = load_i64(rows + 8 * k) + left * column if direct else strip + k * pitch
                    for _ in range(kernel):
                        for i in range(0, taps, 4):
                            added = advance(added, weights, at + i, step)
                            weights += 64
                        at += column
                keep(added, sums)
                out = row_out + p * pixel + chunk * (64 if wide else 32)
                for i in range(min(SUMS, n - p)):
                    _put_rounded(out + i * pixel, wide, load(I32X16, sums + 64 * i), shift, low, high)

    return convolve


_dense16, _dense32 = _dense(16), _dense(32)


@inline
def dense_conv(op: Any, y: int, x: int, n: int) -> None:
    """Pairs of int16 channels, or int32 by int32 where the input is wide. The input is read where it lies, but for
    columns at its border, and for the picture: a strip of that is spread to int16 at a time."""
    for t in range(op[DENSE_CONV.steps]):
        if op[DENSE_CONV.wide_source]:
            _dense32(op, t, y, x, n)
        else:
            _dense16(op, t, y, x, n)


@force_inline
def _column(r0: int, r1: int, r2: int, r3: int, at: int) -> Any:
    """Four inputs one below the other, combined."""
    a, b, c, d = load(I16X32, r0 + at), load(I16X32, r1 + at), load(I16X32, r2 + at), load(I16X32, r3 + at)
    return a - c, b + c, c - b, b - d


@force_inline
def _put_tile(to: int, a: Any, b: Any, c: Any, d: Any) -> None:
    """Four columns of a row of combined inputs, combined."""
    store(to, a - c)
    store(to + 64, b + c)
    store(to + 128, c - b)
    store(to + 192, b - d)


@inline
def _transform(
    r0: int, r1: int, r2: int, r3: int, at: int, step: int, pairs: int, tiles: int, inputs: int, apart: int
) -> None:
    """B^T d B of the inputs d of each of so many tiles: [vectors of 32 channels, tiles, 16, 32].

    r0 .. r3: addresses of four rows of input; at: bytes to the first column; step: from column to column; apart: bytes
    from one vector's tiles to the next's.
    """
    to = inputs
    for v in range(0, pairs, 16):
        column = at + 4 * v
        a0, a1, a2, a3 = _column(r0, r1, r2, r3, column)
        b0, b1, b2, b3 = _column(r0, r1, r2, r3, column + step)
        for _ in range(tiles):
            column += 2 * step
            c0, c1, c2, c3 = _column(r0, r1, r2, r3, column)
            d0, d1, d2, d3 = _column(r0, r1, r2, r3, column + step)
            _put_tile(to, a0, b0, c0, d0)
            _put_tile(to + 256, a1, b1, c1, d1)
            _put_tile(to + 512, a2, b2, c2, d2)
            _put_tile(to + 768, a3, b3, c3, d3)
            to += TILE
            a0, a1, a2, a3, b0, b1, b2, b3 = c0, c1, c2, c3, d0, d1, d2, d3
        to += apart - tiles * TILE


def _multiply(vectors: int) -> Any:
    """Products of combined inputs and weights of each of the 16 combinations, for `vectors` of 16 output lanes."""
    tiles, pixels = ABREAST // vectors, SUMS // vectors
    begin, advance, keep = outer_product(16, pixels, vectors)

    @inline
    def multiply(inputs: int, pairs: int, weights: int, bias: int, to: int) -> None:
        """To [16, tiles, vectors]. Takes what the operation is given as numbers, for to pass a record costs time."""
        for m in range(16):
            row = weights
            for i in range(0, tiles, pixels):
                weights, at = row, inputs + i * TILE + 64 * m
                added = begin(bias + 64 * vectors if m == BOTH else bias)
                for v in range(0, pairs, 16):
                    for k in range(min(16, pairs - v)):
                        added = advance(added, weights, at + 4 * k, TILE)
                        weights += 64 * vectors
                    at += tiles * TILE
                keep(added, to)
                to += pixels * vectors * 64

    return multiply


_multiply_one, _multiply_two = _multiply(1), _multiply(2)


@force_inline
def _down(at: int) -> Any:
    """A column of four products, combined."""
    a, b = load(I32X16, at), load(I32X16, at + 4 * APART)
    c, d = load(I32X16, at + 8 * APART), load(I32X16, at + 12 * APART)
    return a + b + c, b - c - d


@inline
def _sum_tiles(
    products: int, vectors: int, tiles: int, upper: int, lower: int, pixel: int, wide: int, shift: Any, low: Any,
    high: Any,
) -> None:  # fmt: skip
    """A^T m A of the products m of each tile, rounded, to two rows of output."""
    for v in range(vectors):
        to, at = v * (64 if wide else 32), products + 64 * v
        for _ in range(tiles):
            a, b = _down(at)
            c, d = _down(at + APART)
            e, f = _down(at + 2 * APART)
            g, h = _down(at + 3 * APART)
            _put_rounded(upper + to, wide, a + c + e, shift, low, high)
            _put_rounded(upper + to + pixel, wide, c - e - g, shift, low, high)
            _put_rounded(lower + to, wide, b + d + f, shift, low, high)
            _put_rounded(lower + to + pixel, wide, d - f - h, shift, low, high)
            to += 2 * pixel
            at += 64 * vectors


@inline
def winograd(op: Any, y: int, x: int, n: int) -> None:
    """A 3x3 convolution of stride 1 by tiles of 2x2 output pixels, in rows y and y + 1.

    Winograd's minimal filtering F(2x2, 3x3) takes 16 products for the 36 of each tile, pair of channels by channels:
    A^T [(G g G^T) * (B^T d B)] A, with g the weights and d 4x4 inputs. Of the weights' G, 2 G is taken, which is
    whole: so sums are four times what they would be, and exact. Combined inputs are within 4 |d|, in int16.
    (Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016.)
    """
    height, width, pairs, vectors = op[WINOGRAD.height], op[WINOGRAD.width], op[WINOGRAD.pairs], op[WINOGRAD.vectors]
    step, strip, inputs = op[WINOGRAD.source + PLACE.column], op[WINOGRAD.strip], op[WINOGRAD.inputs]
    products, weight, bias, chunks = op[WINOGRAD.products], op[WINOGRAD.weight], op[WINOGRAD.bias], op[WINOGRAD.chunks]
    pixel, wide, row = op[WINOGRAD.pixel], op[WINOGRAD.wide], op[WINOGRAD.out + PLACE.row]
    shift, low = splat(I32X16, op[WINOGRAD.shift]), splat(I32X16, op[WINOGRAD.low])
    high = splat(I32X16, op[WINOGRAD.high])
    top, left = y - op[WINOGRAD.padding], x - op[WINOGRAD.padding]
    factor = op[WINOGRAD.factor]
    direct = top >= 0 and top + 4 <= height and factor == 0
    tiles = ABREAST // vectors
    for t in range(op[WINOGRAD.steps]):
        source = t * op[WINOGRAD.source + PLACE.step]
        a = place(op, WINOGRAD.source, top, 0) + source if 0 <= top < height else 0
        b = place(op, WINOGRAD.source, top + 1, 0) + source if 0 <= top + 1 < height else 0
        c = place(op, WINOGRAD.source, top + 2, 0) + source if 0 <= top + 2 < height else 0
        d = place(op, WINOGRAD.source, top + 3, 0) + source if 0 <= top + 3 < height else 0
        out = place(op, WINOGRAD.out, y, 0) + t * op[WINOGRAD.out + PLACE.step]
        for p in range(0, n, 2 * tiles):
            some = min(tiles, (n - p + 1) // 2)
            column, columns = left + p, 2 * some + 2  # of the input under them
            pitch = columns * step
            r0, r1, r2, r3, at = a, b, c, d, column * step
            if not direct or column < 0 or column + columns > width:
                r0, r1, r2, r3, at = strip, strip + pitch, strip + 2 * pitch, strip + 3 * pitch, 0
                if factor:
                    for k in range(4):
                        inside = 0 <= top + k < height
                        to = strip + k * pitch
                        _copy_picture(op, WINOGRAD.picture, factor, to, inside, top + k, step, column, columns, width)
                else:
                    _copy_columns(r0, a, step, column, columns, width)
                    _copy_columns(r1, b, step, column, columns, width)
                    _copy_columns(r2, c, step, column, columns, width)
                    _copy_columns(r3, d, step, column, columns, width)
            _transform(r0, r1, r2, r3, at, step, pairs, some, inputs, tiles * TILE)
            to = out + p * pixel
            weights, biases = weight, bias
            for _ in range(chunks):
                if vectors == 1:
                    _multiply_one(inputs, pairs, weights, biases, products)
                else:
                    _multiply_two(inputs, pairs, weights, biases, products)
                _sum_tiles(products, vectors, some, to, to + row, pixel, wide, shift, low, high)
                weights += 16 * pairs * 64 * vectors
                biases += 128 * vectors
                to += vectors * (64 if wide else 32)
