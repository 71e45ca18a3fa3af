"""Row operations on spikes: convolutions that add up the weights of what is listed."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.events import list_events
from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.records import CONV, PLACE
from simulator.engine.vectors import (
    I16X16,
    I16X32,
    I32X16,
    joined,
    load,
    load_i64,
    load_u16,
    lower_half,
    select,
    splat,
    store,
    upper_half,
    widen,
)


@force_inline
def _put(out: int, pieces: int, keep: int, wide: int, bias: int, sums: Any) -> None:
    """Two pieces of 16 lanes to their places, added to what is there if `keep`. Where the output is int32, the bias
    is added too if not: sums that are written have it already."""
    first, second = out + load_i64(pieces), out + load_i64(pieces + 8)
    low, high = lower_half(sums), upper_half(sums)
    if wide:
        store(first, widen(low) + load(I32X16, first if keep else bias))
        store(second, widen(high) + load(I32X16, second if keep else bias + 64))
        return
    if keep:
        low, high = low + load(I16X16, first), high + load(I16X16, second)
    store(first, low)
    store(second, high)


@force_inline
def _offset(four: int, shift: int) -> Any:
    """Bytes into the table, of one of four events that were loaded at once (loads are what this loop waits for)."""
    return (four >> shift & 0xFFFF) << 3


@inline
def _run_one(op: Any, out: int, at: int, blocks: int, table: int, zero_row: int, bias: int, pieces: int) -> None:
    events, step, reach, back, start = _run_fields(op, 1)
    most, wide, zero = op[CONV.most], op[CONV.wide], splat(I16X32, 0)
    initial = zero if wide else load(I16X32, bias)
    for _ in range(blocks):
        first = load_i64(at)
        n = load_i64(at + reach) - first
        event, keep = events + 2 * first, op[CONV.adds]
        while True:
            m = min(n, most)
            a, b, c, d = initial, zero, zero, zero
            end = event + 2 * (m & ~3)
            while event < end:
                four = load_i64(event)
                a = a + load(I16X32, table + _offset(four, 0))
                b = b + load(I16X32, table + _offset(four, 16))
                c = c + load(I16X32, table + _offset(four, 32))
                d = d + load(I16X32, table + _offset(four, 48))
                event += 8
            four = load_i64(event)
            a = a + load(I16X32, table + _offset(four, 0) if m & 3 > 0 else zero_row)
            b = b + load(I16X32, table + _offset(four, 16) if m & 3 > 1 else zero_row)
            c = c + load(I16X32, table + _offset(four, 32) if m & 3 > 2 else zero_row)
            _put(out, pieces, keep, wide, bias, (a + c) + (b + d))
            n -= m
            if n == 0:
                break
            keep = 1
        table -= back
        out += step
        at += start


@inline
def _run_two(op: Any, out: int, at: int, blocks: int, table: int, zero_row: int, bias: int, pieces: int) -> None:
    events, step, reach, back, start = _run_fields(op, 2)
    most, wide, zero = op[CONV.most], op[CONV.wide], splat(I16X32, 0)
    initial = zero if wide else load(I16X32, bias)
    initial2 = zero if wide else load(I16X32, bias + 64)
    for _ in range(blocks):
        first = load_i64(at)
        n = load_i64(at + reach) - first
        event, keep = events + 2 * first, op[CONV.adds]
        while True:
            m = min(n, most)
            a, b, c, d = initial, initial2, zero, zero
            end = event + 2 * (m & ~3)
            while event < end:
                four = load_i64(event)
                row = table + _offset(four, 0)
                a, b = a + load(I16X32, row), b + load(I16X32, row + 64)
                row = table + _offset(four, 16)
                c, d = c + load(I16X32, row), d + load(I16X32, row + 64)
                row = table + _offset(four, 32)
                a, b = a + load(I16X32, row), b + load(I16X32, row + 64)
                row = table + _offset(four, 48)
                c, d = c + load(I16X32, row), d + load(I16X32, row + 64)
                event += 8
            four = load_i64(event)
            row = table + _offset(four, 0) if m & 3 > 0 else zero_row
            a, b = a + load(I16X32, row), b + load(I16X32, row + 64)
            row = table + _offset(four, 16) if m & 3 > 1 else zero_row
            c, d = c + load(I16X32, row), d + load(I16X32, row + 64)
            row = table + _offset(four, 32) if m & 3 > 2 else zero_row
            a, b = a + load(I16X32, row), b + load(I16X32, row + 64)
            _put(out, pieces, keep, wide, bias, a + c)
            _put(out, pieces + 16, keep, wide, bias + 128, b + d)
            n -= m
            if n == 0:
                break
            keep = 1
        table -= back
        out += step
        at += start


@inline
def _run_three(op: Any, out: int, at: int, blocks: int, table: int, bias: int, pieces: int) -> None:
    events, step, reach, back, start = _run_fields(op, 3)
    most, wide, zero = op[CONV.most], op[CONV.wide], splat(I16X32, 0)
    for _ in range(blocks):
        event, keep = events + 2 * load_i64(at), op[CONV.adds]
        end = events + 2 * load_i64(at + reach)
        while True:
            a, b, c = zero, zero, zero
            if wide == 0:
                a, b, c = load(I16X32, bias), load(I16X32, bias + 64), load(I16X32, bias + 128)
            stop = min(end, event + 2 * most)
            while event < stop:
                row = table + (load_u16(event) << 3)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 64), c + load(I16X32, row + 128)
                event += 2
            _put(out, pieces, keep, wide, bias, a)
            _put(out, pieces + 16, keep, wide, bias + 128, b)
            _put(out, pieces + 32, keep, wide, bias + 256, c)
            if event == end:
                break
            keep = 1
        table -= back
        out += step
        at += start


@inline
def _run_four(op: Any, out: int, at: int, blocks: int, table: int, bias: int, pieces: int) -> None:
    events, step, reach, back, start = _run_fields(op, 4)
    most, wide, zero = op[CONV.most], op[CONV.wide], splat(I16X32, 0)
    for _ in range(blocks):
        event, keep = events + 2 * load_i64(at), op[CONV.adds]
        end = events + 2 * load_i64(at + reach)
        while True:
            a, b, c, d = zero, zero, zero, zero
            if wide == 0:
                a, b = load(I16X32, bias), load(I16X32, bias + 64)
                c, d = load(I16X32, bias + 128), load(I16X32, bias + 192)
            stop = min(end, event + 2 * most)
            while event < stop:
                row = table + (load_u16(event) << 3)
                a, b = a + load(I16X32, row), b + load(I16X32, row + 64)
                c, d = c + load(I16X32, row + 128), d + load(I16X32, row + 192)
                event += 2
            _put(out, pieces, keep, wide, bias, a)
            _put(out, pieces + 16, keep, wide, bias + 128, b)
            _put(out, pieces + 32, keep, wide, bias + 256, c)
            _put(out, pieces + 48, keep, wide, bias + 384, d)
            if event == end:
                break
            keep = 1
        table -= back
        out += step
        at += start


@force_inline
def _run_fields(op: Any, vectors: int) -> Any:
    """Events, bytes of output per block, of starts per run, of table per block, bytes of starts per block."""
    stride, kernel = op[CONV.stride], op[CONV.kernel]
    rows = (op[CONV.rows] - 1) * stride + kernel
    reach = (op[CONV.columns] - 1) * stride + kernel
    back = op[CONV.columns] * stride * rows * op[CONV.words] * 16 * vectors * 64
    return op[CONV.events], op[CONV.block], 8 * reach, back, 8 * op[CONV.columns] * stride


# The sums of a 3x3 kernel of stride 1 column by column, for 1 and 2 vectors of int16 per output pixel (or 1 for two of
# them, one below the other).
#
# A spike in column c adds to the output columns c - 1, c and c + 1, all within three columns of sums that stay in
# registers: a row of the table has its weights for the three, leftmost first. After each input column one column of
# sums is complete, and another begins. So an event is read once, not three times.
#
# A column's events come in groups of four, the last of which, and only that, ends in the table's row of zeros (see
# `events_of`). Where the output is int16 the sums move on by a mask, not by a branch, for the number of a column's
# groups would be mispredicted about every other time. What is stored before the last group is overwritten by the next.
# Offsets are loaded two groups ahead: loads that wait for them would keep the queue from those that need not.
# Where it is int32, a column's sums are widened once it is complete, or after as many events as surely fit int16. The
# first two columns end left of `out`, in the margin of scratch memory.


@force_inline
def _put_halves(out: int, first: int, second: int, sums: Any) -> None:
    store(out + first, lower_half(sums))
    store(out + second, upper_half(sums))


@force_inline
def _take_halves(out: int, first: int, second: int) -> Any:
    return joined(load(I16X16, out + first), load(I16X16, out + second))


@inline
def _slide_one16(op: Any, out: int, end: int, table: int, zero_row: int, bias: int, pieces: int) -> None:
    event, step, keep = op[CONV.events], op[CONV.block], op[CONV.adds]
    first, second = load_i64(pieces), load_i64(pieces + 8)
    initial, zero = load(I16X32, bias), splat(I16X32, 0)
    out -= 2 * step
    a, b, c = initial, initial, initial + _take_halves(out + 2 * step, first, second) if keep else initial
    d, e, f = zero, zero, zero  # two sums of each: a chain of additions is what would take longest
    four, following, ahead_of = 0, load_i64(event), load_i64(event + 8)
    while event < end:
        four, following, ahead_of = following, ahead_of, load_i64(event + 16)
        event += 8
        row = table + _offset(four, 0)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 64), c + load(I16X32, row + 128)
        row = table + _offset(four, 16)
        d, e, f = d + load(I16X32, row), e + load(I16X32, row + 64), f + load(I16X32, row + 128)
        row = table + _offset(four, 32)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 64), c + load(I16X32, row + 128)
        row = table + _offset(four, 48)
        d, e, f = d + load(I16X32, row), e + load(I16X32, row + 64), f + load(I16X32, row + 128)
        _put_halves(out, first, second, a + d)
        last = -((four >> 48 & 0xFFFF) == zero_row)
        fresh = initial + _take_halves(out + 3 * step, first, second) if keep else initial
        a, b, c = select(last, b, a), select(last, c, b), select(last, fresh, c)
        d, e, f = select(last, e, d), select(last, f, e), select(last, zero, f)
        out += step & last


@inline
def _slide_two16(op: Any, out: int, end: int, table: int, zero_row: int, bias: int, pieces: int) -> None:
    event, step, keep = op[CONV.events], op[CONV.block], op[CONV.adds]
    initial, initial2 = load(I16X32, bias), load(I16X32, bias + 64)
    out += load_i64(pieces) - 2 * step
    ahead = out + 2 * step
    a, b, c = initial, initial, initial + load(I16X32, ahead) if keep else initial
    d, e, f = initial2, initial2, initial2 + load(I16X32, ahead + 64) if keep else initial2
    four, following, ahead_of = 0, load_i64(event), load_i64(event + 8)
    while event < end:
        four, following, ahead_of = following, ahead_of, load_i64(event + 16)
        event += 8
        row = table + _offset(four, 0)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
        d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
        row = table + _offset(four, 16)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
        d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
        row = table + _offset(four, 32)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
        d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
        row = table + _offset(four, 48)
        a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
        d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
        store(out, a)
        store(out + 64, d)
        last = -((four >> 48 & 0xFFFF) == zero_row)
        ahead = out + 3 * step
        fresh = initial + load(I16X32, ahead) if keep else initial
        fresh2 = initial2 + load(I16X32, ahead + 64) if keep else initial2
        a, b, c = select(last, b, a), select(last, c, b), select(last, fresh, c)
        d, e, f = select(last, e, d), select(last, f, e), select(last, fresh2, f)
        out += step & last


@force_inline
def _fresh(initial: Any, address: int, keep: int) -> Any:
    """What a sum starts with."""
    return initial + load(I32X16, address) if keep else initial


@force_inline
def _widened(sums: Any, low: Any, high: Any) -> Any:
    """Two vectors of int32, with one of int16 added to them."""
    return low + widen(lower_half(sums)), high + widen(upper_half(sums))


@inline
def _slide_one32(op: Any, out: int, columns: int, table: int, bias: int, pieces: int) -> None:
    event, step, keep, starts = op[CONV.events], op[CONV.block], op[CONV.adds], op[CONV.starts]
    events, most = event, 2 * op[CONV.most]
    first, second = load_i64(pieces), load_i64(pieces + 8)
    low, high, zero = load(I32X16, bias), load(I32X16, bias + 64), splat(I16X32, 0)
    out -= 2 * step
    a0, a1, b0, b1 = low, high, low, high
    c0, c1 = _fresh(low, out + 2 * step + first, keep), _fresh(high, out + 2 * step + second, keep)
    four, following, ahead_of = 0, load_i64(event), load_i64(event + 8)
    for column in range(columns):
        end = events + 2 * load_i64(starts + 8 * column + 8)
        while event < end:
            stop = min(end, event + most)
            a, b, c, d, e, f = zero, zero, zero, zero, zero, zero
            while event < stop:
                four, following, ahead_of = following, ahead_of, load_i64(event + 16)
                event += 8
                row = table + _offset(four, 0)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 64), c + load(I16X32, row + 128)
                row = table + _offset(four, 16)
                d, e, f = d + load(I16X32, row), e + load(I16X32, row + 64), f + load(I16X32, row + 128)
                row = table + _offset(four, 32)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 64), c + load(I16X32, row + 128)
                row = table + _offset(four, 48)
                d, e, f = d + load(I16X32, row), e + load(I16X32, row + 64), f + load(I16X32, row + 128)
            a0, a1 = _widened(a + d, a0, a1)
            b0, b1 = _widened(b + e, b0, b1)
            c0, c1 = _widened(c + f, c0, c1)
        store(out + first, a0)
        store(out + second, a1)
        a0, a1, b0, b1 = b0, b1, c0, c1
        out += step
        c0, c1 = _fresh(low, out + 2 * step + first, keep), _fresh(high, out + 2 * step + second, keep)


@inline
def _slide_two32(op: Any, out: int, columns: int, table: int, bias: int, pieces: int) -> None:
    event, step, keep, starts = op[CONV.events], op[CONV.block], op[CONV.adds], op[CONV.starts]
    events, most = event, 2 * op[CONV.most]
    bias0, bias1 = load(I32X16, bias), load(I32X16, bias + 64)
    bias2, bias3 = load(I32X16, bias + 128), load(I32X16, bias + 192)
    zero = splat(I16X32, 0)
    out += load_i64(pieces) - 2 * step
    ahead = out + 2 * step
    a0, a1, a2, a3, b0, b1, b2, b3 = bias0, bias1, bias2, bias3, bias0, bias1, bias2, bias3
    c0, c1 = _fresh(bias0, ahead, keep), _fresh(bias1, ahead + 64, keep)
    c2, c3 = _fresh(bias2, ahead + 128, keep), _fresh(bias3, ahead + 192, keep)
    four, following, ahead_of = 0, load_i64(event), load_i64(event + 8)
    for column in range(columns):
        end = events + 2 * load_i64(starts + 8 * column + 8)
        while event < end:
            stop = min(end, event + most)
            a, b, c, d, e, f = zero, zero, zero, zero, zero, zero
            while event < stop:
                four, following, ahead_of = following, ahead_of, load_i64(event + 16)
                event += 8
                row = table + _offset(four, 0)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
                d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
                row = table + _offset(four, 16)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
                d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
                row = table + _offset(four, 32)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
                d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
                row = table + _offset(four, 48)
                a, b, c = a + load(I16X32, row), b + load(I16X32, row + 128), c + load(I16X32, row + 256)
                d, e, f = d + load(I16X32, row + 64), e + load(I16X32, row + 192), f + load(I16X32, row + 320)
            a0, a1 = _widened(a, a0, a1)
            a2, a3 = _widened(d, a2, a3)
            b0, b1 = _widened(b, b0, b1)
            b2, b3 = _widened(e, b2, b3)
            c0, c1 = _widened(c, c0, c1)
            c2, c3 = _widened(f, c2, c3)
        store(out, a0)
        store(out + 64, a1)
        store(out + 128, a2)
        store(out + 192, a3)
        a0, a1, a2, a3, b0, b1, b2, b3 = b0, b1, b2, b3, c0, c1, c2, c3
        out += step
        ahead = out + 2 * step
        c0, c1 = _fresh(bias0, ahead, keep), _fresh(bias1, ahead + 64, keep)
        c2, c3 = _fresh(bias2, ahead + 128, keep), _fresh(bias3, ahead + 192, keep)


@inline
def _slide(op: Any, out: int, end: int, columns: int) -> None:
    """Sums of `columns` columns, from a list of events that ends at `end`."""
    wide, vectors = op[CONV.wide] != 0, op[CONV.vectors]
    candidates = (op[CONV.rows] + 2) * op[CONV.words] * 16 * op[CONV.together]
    row = 3 * vectors * 64  # bytes of the table
    zero_row = candidates * row >> 3
    table, bias, pieces = op[CONV.table], op[CONV.bias], op[CONV.pieces]
    for _ in range(op[CONV.chunks]):
        if wide:
            if vectors == 1:
                _slide_one32(op, out, columns, table, bias, pieces)
            else:
                _slide_two32(op, out, columns, table, bias, pieces)
        elif vectors == 1:
            _slide_one16(op, out, end, table, zero_row, bias, pieces)
        else:
            _slide_two16(op, out, end, table, zero_row, bias, pieces)
        table += (candidates + 1) * row
        bias += vectors * (128 if wide else 64)
        pieces += vectors * 16


@inline
def _run(op: Any, out: int, blocks: int) -> None:
    """Sums of `blocks` blocks, from the list of events."""
    vectors, kernel, stride, starts = op[CONV.vectors], op[CONV.kernel], op[CONV.stride], op[CONV.starts]
    cells = ((op[CONV.columns] - 1) * stride + kernel) * ((op[CONV.rows] - 1) * stride + kernel)
    rows = cells * op[CONV.words] * 16 * op[CONV.together] + 1
    table, bias, pieces = op[CONV.table], op[CONV.bias], op[CONV.pieces]
    for _ in range(op[CONV.chunks]):
        zero_row = table + (rows - 1) * vectors * 64
        if vectors == 1:
            _run_one(op, out, starts, blocks, table, zero_row, bias, pieces)
        elif vectors == 2:
            _run_two(op, out, starts, blocks, table, zero_row, bias, pieces)
        elif vectors == 3:
            _run_three(op, out, starts, blocks, table, bias, pieces)
        else:
            _run_four(op, out, starts, blocks, table, bias, pieces)
        table += rows * vectors * 64
        bias += vectors * (128 if op[CONV.wide] else 64)
        pieces += vectors * 16


@inline
def conv(op: Any, y: int, x: int, n: int) -> None:
    blocks = (n + op[CONV.columns] - 1) // op[CONV.columns]
    for t in range(op[CONV.steps]):
        end = op[CONV.events] + 2 * list_events(op, t, y, x, blocks)
        out = place(op, CONV.out, y, 0) + t * op[CONV.out + PLACE.step]
        if op[CONV.slides]:
            _slide(op, out, end, n + 2)
        else:
            _run(op, out, blocks)
