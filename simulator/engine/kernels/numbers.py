"""Row operations on numbers: sums, the one rounding, sums over time, stores."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import inline, place, put, take
from simulator.engine.records import ADD, PLACE, REQUANTISE, STORE, TIME_SUM
from simulator.engine.vectors import I16X16, I16X32, I32X16, I32X32, clamp, load, narrow, splat, store, widen


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
