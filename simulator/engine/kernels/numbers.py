"""Row operations on numbers: real-valued convolutions, sums, the one rounding, sums over time, stores."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place, put, take
from simulator.engine.records import ADD, DENSE_CONV, PLACE, REQUANTISE, SLACK, STORE, TIME_SUM
from simulator.engine.vectors import (
    I16X16,
    I16X32,
    I32X16,
    I32X32,
    clamp,
    dot,
    load,
    load_u32,
    narrow,
    pairs,
    splat,
    store,
    widen,
)


@inline
def _dense_rows(op: Any, t: int, y: int, x: int, n: int) -> None:
    """Copy the input rows under the kernel to scratch [kernel, columns, channels], zeros beyond the border."""
    kernel, stride, channels = op[DENSE_CONV.kernel], op[DENSE_CONV.stride], op[DENSE_CONV.channels]
    pixel = channels * (4 if op[DENSE_CONV.wide_source] else 2)
    columns = (n - 1) * stride + kernel
    first = x * stride - op[DENSE_CONV.padding]
    left = min(max(-first, 0), columns)
    right = max(min(op[DENSE_CONV.width] - first, columns), left)
    zero = splat(I16X32, 0)
    for k in range(kernel):
        row = y * stride - op[DENSE_CONV.padding] + k
        to = op[DENSE_CONV.rows] + k * columns * pixel
        # Every copy may run over by less than a vector: the next column, or row, overwrites what it left there.
        if not 0 <= row < op[DENSE_CONV.height]:
            for i in range(0, columns * pixel, 64):
                store(to + i, zero)
            continue
        for i in range(0, left * pixel, 64):
            store(to + i, zero)
        to += left * pixel
        step = op[DENSE_CONV.source + PLACE.column]
        source = place(op, DENSE_CONV.source, row, first + left) + t * op[DENSE_CONV.source + PLACE.step]
        if pixel == step:
            for i in range(0, (right - left) * pixel, 64):
                store(to + i, load(I16X32, source + i))
            to += (right - left) * pixel
        else:
            for _ in range(left, right):
                for i in range(0, pixel, 64):
                    store(to + i, load(I16X32, source + i))
                to += pixel
                source += step
        for i in range(0, (columns - right) * pixel, 64):
            store(to + i, zero)


@force_inline
def _put_dense(op: Any, out: int, value: Any) -> None:
    if op[DENSE_CONV.wide]:
        store(out, value)
    else:
        store(out, narrow(value))


@inline
def dense_conv(op: Any, y: int, x: int, n: int) -> None:
    """Multiply and add: pairs of int16 channels into int32 lanes, or int32 by int32 where the input is wide.

    Eight output pixels share each weight vector, their 16 lanes each in one accumulator.
    """
    kernel, stride, channels = op[DENSE_CONV.kernel], op[DENSE_CONV.stride], op[DENSE_CONV.channels]
    wide = op[DENSE_CONV.wide_source] != 0
    size = 4 if wide else 2
    padded = (n + 7) // 8 * 8
    columns = (padded - 1) * stride + kernel
    s = stride * channels * size  # scratch bytes from output pixel to pixel
    taps = kernel * channels * size  # a kernel row's taps are contiguous: bytes
    pixel = op[DENSE_CONV.pixel]
    # A 1x1 kernel reads its input where it lies; up to seven pixels too many, which must not leave the arena.
    direct = kernel == 1 and 8 * stride * op[DENSE_CONV.source + PLACE.column] <= SLACK
    if direct:
        s = stride * op[DENSE_CONV.source + PLACE.column]
    for t in range(op[DENSE_CONV.steps]):
        rows = op[DENSE_CONV.rows]
        if direct:
            rows = place(op, DENSE_CONV.source, y * stride, x * stride) + t * op[DENSE_CONV.source + PLACE.step]
        else:
            _dense_rows(op, t, y, x, padded)
        for chunk in range(op[DENSE_CONV.chunks]):
            initial = load(I32X16, op[DENSE_CONV.bias] + 64 * chunk)
            for p in range(0, padded, 8):
                a, b, c, d, e, f, g, h = initial, initial, initial, initial, initial, initial, initial, initial
                weight = op[DENSE_CONV.weight] + chunk * op[DENSE_CONV.chunk]
                for k in range(kernel):
                    at = rows + k * columns * channels * size + p * s
                    end = at + taps
                    if wide:
                        while at < end:
                            w = load(I32X16, weight)
                            a = a + w * splat(I32X16, load_u32(at))
                            b = b + w * splat(I32X16, load_u32(at + s))
                            c = c + w * splat(I32X16, load_u32(at + 2 * s))
                            d = d + w * splat(I32X16, load_u32(at + 3 * s))
                            e = e + w * splat(I32X16, load_u32(at + 4 * s))
                            f = f + w * splat(I32X16, load_u32(at + 5 * s))
                            g = g + w * splat(I32X16, load_u32(at + 6 * s))
                            h = h + w * splat(I32X16, load_u32(at + 7 * s))
                            at += 4
                            weight += 64
                    else:
                        while at < end:
                            v = load(I16X32, weight)
                            a = dot(a, v, pairs(splat(I32X16, load_u32(at))))
                            b = dot(b, v, pairs(splat(I32X16, load_u32(at + s))))
                            c = dot(c, v, pairs(splat(I32X16, load_u32(at + 2 * s))))
                            d = dot(d, v, pairs(splat(I32X16, load_u32(at + 3 * s))))
                            e = dot(e, v, pairs(splat(I32X16, load_u32(at + 4 * s))))
                            f = dot(f, v, pairs(splat(I32X16, load_u32(at + 5 * s))))
                            g = dot(g, v, pairs(splat(I32X16, load_u32(at + 6 * s))))
                            h = dot(h, v, pairs(splat(I32X16, load_u32(at + 7 * s))))
                            at += 4
                            weight += 64
                out = place(op, DENSE_CONV.out, y, 0) + t * op[DENSE_CONV.out + PLACE.step] + p * pixel
                out += chunk * (64 if op[DENSE_CONV.wide] else 32)
                _put_dense(op, out, a)
                _put_dense(op, out + pixel, b)
                _put_dense(op, out + 2 * pixel, c)
                _put_dense(op, out + 3 * pixel, d)
                _put_dense(op, out + 4 * pixel, e)
                _put_dense(op, out + 5 * pixel, f)
                _put_dense(op, out + 6 * pixel, g)
                _put_dense(op, out + 7 * pixel, h)


@inline
def add(op: Any, y: int, x: int, n: int) -> None:
    lanes, factor, wide_out, wide_in = op[ADD.lanes], op[ADD.factor], op[ADD.wide], op[ADD.wide_source]
    keep = op[ADD.base + PLACE.address]
    simple = wide_out == 0 and op[ADD.shift] == 0 and keep
    for t in range(op[ADD.steps]):
        out = place(op, ADD.out, y, x) + t * op[ADD.out + PLACE.step]
        source = place(op, ADD.source, y // factor, x // factor) + t * op[ADD.source + PLACE.step]
        base = place(op, ADD.base, y, x) + t * op[ADD.base + PLACE.step]
        if factor == 1:
            count = (n * lanes + 31) // 32
            if simple and wide_in == 0:
                for i in range(count):
                    store(out + 64 * i, load(I16X32, base + 64 * i) + load(I16X32, source + 64 * i))
            else:
                shift = splat(I32X32, op[ADD.shift])
                for i in range(count):
                    value = take(source, i, wide_in) << shift
                    put(out, i, wide_out, value + take(base, i, wide_out) if keep else value)
        elif factor == 2 and x % 2 == 0 and n % 2 == 0 and lanes % 32 == 0 and simple and wide_in == 0:
            row = 2 * lanes  # bytes
            for _ in range(0, n, 2):
                for i in range(0, row, 64):
                    value = load(I16X32, source + i)
                    store(out + i, load(I16X32, base + i) + value)
                    store(out + row + i, load(I16X32, base + row + i) + value)
                out += 2 * row
                base += 2 * row
                source += row
        else:
            phase = x % factor
            narrow_shift = splat(I32X16, op[ADD.shift])
            for _ in range(n):
                for i in range(0, lanes, 16):
                    if wide_in:
                        value = load(I32X16, source + 4 * i) << narrow_shift
                    else:
                        value = widen(load(I16X16, source + 2 * i)) << narrow_shift
                    if wide_out:
                        store(out + 4 * i, value + load(I32X16, base + 4 * i) if keep else value)
                    else:
                        slim = narrow(value)
                        store(out + 2 * i, slim + load(I16X16, base + 2 * i) if keep else slim)
                out += lanes * (4 if wide_out else 2)
                base += lanes * (4 if wide_out else 2)
                phase += 1
                if phase == factor:
                    phase = 0
                    source += lanes * (4 if wide_in else 2)


@inline
def requantise(op: Any, y: int, x: int, n: int) -> None:
    shift = splat(I32X32, op[REQUANTISE.shift])
    low, high = splat(I32X32, op[REQUANTISE.low]), splat(I32X32, op[REQUANTISE.high])
    rounding = splat(I32X32, (1 << op[REQUANTISE.shift]) >> 1)
    for t in range(op[REQUANTISE.steps]):
        out = place(op, REQUANTISE.out, y, x) + t * op[REQUANTISE.out + PLACE.step]
        source = place(op, REQUANTISE.source, y, x) + t * op[REQUANTISE.source + PLACE.step]
        for i in range((n * op[REQUANTISE.lanes] + 31) // 32):
            value = (take(source, i, op[REQUANTISE.wide_source]) + rounding) >> shift
            put(out, i, op[REQUANTISE.wide], clamp(value, low, high))


@inline
def time_sum(op: Any, y: int, x: int, n: int) -> None:
    out, source = place(op, TIME_SUM.out, y, x), place(op, TIME_SUM.source, y, x)
    shift = splat(I32X32, op[TIME_SUM.shift])
    for i in range((n * op[TIME_SUM.lanes] + 31) // 32):
        total = take(source, i, op[TIME_SUM.wide_source])
        for t in range(1, op[TIME_SUM.steps]):
            total = total + take(source + t * op[TIME_SUM.source + PLACE.step], i, op[TIME_SUM.wide_source])
        put(out, i, op[TIME_SUM.wide], total << shift)


@inline
def store_row(op: Any, y: int, x: int, n: int) -> None:
    for t in range(op[STORE.steps]):
        out = place(op, STORE.out, y, x) + t * op[STORE.out + PLACE.step]
        source = place(op, STORE.source, y, x) + t * op[STORE.source + PLACE.step]
        for i in range(0, n * op[STORE.pixel], 64):
            store(out + i, load(I16X32, source + i))
