"""Row operations of neurons: they fire, and their spikes are counted."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place, take
from simulator.engine.records import COUNT, LIF, PLACE, WINDOW
from simulator.engine.vectors import (
    I16X32,
    I32X16,
    I32X32,
    I64X16,
    at_least,
    count_ones,
    load,
    load_i32,
    load_i64,
    load_u16,
    narrow,
    select,
    splat,
    store,
    store_32,
    store_64,
    sum_of_lanes,
)

COUNTED = 512  # columns whose weighted spike counts are added up in int32


def _neuron(kind: Any) -> Any:
    """One pass over T for vectors of 32 neurons; `kind` is the membrane's type. Parameters: threshold, bias, leak."""
    size = kind.bits // 8

    if kind.bits == 16:

        @force_inline
        def current(address: int, i: int, wide: int, fine: Any) -> Any:
            return load(kind, address + 64 * i)

    else:

        @force_inline
        def current(address: int, i: int, wide: int, fine: Any) -> Any:
            return take(address, i, wide) << fine

    @force_inline
    def step(v: Any, drive: Any, threshold: Any, leak: Any, after: Any, decay: int, subtract: int, out: int) -> Any:
        v = (v - (v >> leak) if decay else v >> leak) + drive
        fired = at_least(v, threshold)
        store_32(out, fired)
        return select(fired, v - threshold if subtract else after, v)

    @force_inline
    def layer(op: Any, out: int, source: int, count: int, decay: int, subtract: int) -> None:
        steps, step_out, step_in = op[LIF.steps], op[LIF.out + PLACE.step], op[LIF.source + PLACE.step]
        repeat, wide_in = op[LIF.repeat], op[LIF.wide_source]
        zero, fine = splat(kind, 0), splat(kind, op[LIF.fine])
        for phase in range(repeat):
            at = op[LIF.parameters] + phase * 96 * size
            threshold, bias, leak = load(kind, at), load(kind, at + 32 * size), load(kind, at + 64 * size)
            for i in range(phase, count, repeat):
                v = zero
                bits, drive = out + 4 * i, source
                for _ in range(steps):
                    v = step(v, current(drive, i, wide_in, fine) + bias, threshold, leak, zero, decay, subtract, bits)
                    bits += step_out
                    drive += step_in

    @inline
    def lif(op: Any, out: int, source: int, count: int) -> None:
        if op[LIF.decay]:
            if op[LIF.subtract]:
                layer(op, out, source, count, 1, 1)
            else:
                layer(op, out, source, count, 1, 0)
        elif op[LIF.subtract]:
            layer(op, out, source, count, 0, 1)
        else:
            layer(op, out, source, count, 0, 0)

    return lif


_lif16, _lif32 = _neuron(I16X32), _neuron(I32X32)


def _integrator(kind: Any) -> Any:
    """For vectors of 32 neurons: one sum, and a comparison with each multiple of the threshold that may be reached.
    Parameters: threshold, bias."""
    size = kind.bits // 8

    if kind.bits == 16:

        @force_inline
        def current(address: int, i: int, wide: int) -> Any:
            return load(kind, address + 64 * i)

    else:
        current = take

    @inline
    def layer(op: Any, out: int, source: int, count: int) -> None:
        steps, step_out = op[WINDOW.steps], op[WINDOW.out + PLACE.step]
        terms, step_in = op[WINDOW.terms], op[WINDOW.source + PLACE.step]
        repeat, wide_in = op[WINDOW.repeat], op[WINDOW.wide_source]
        for phase in range(repeat):
            at = op[WINDOW.parameters] + phase * 64 * size
            threshold, bias = load(kind, at), load(kind, at + 32 * size)
            if steps == 4 and terms == 1:  # the common case, without loops over them
                twice = threshold + threshold
                thrice, bits = twice + threshold, out + 4 * phase
                for i in range(phase, count, repeat):
                    v = bias + current(source, i, wide_in)
                    store_32(bits, at_least(v, threshold))
                    store_32(bits + step_out, at_least(v, twice))
                    store_32(bits + 2 * step_out, at_least(v, thrice))
                    store_32(bits + 3 * step_out, at_least(v, twice + twice))
                    bits += 4 * repeat
                continue
            for i in range(phase, count, repeat):
                v = bias
                for t in range(terms):
                    v = v + current(source + t * step_in, i, wide_in)
                bits, level = out + 4 * i, threshold
                for _ in range(steps):
                    store_32(bits, at_least(v, level))
                    level = level + threshold
                    bits += step_out

    return layer


_window16, _window32 = _integrator(I16X32), _integrator(I32X32)


@inline
def count_positions(counts: int, out: int, steps: int, step: int, words: int, n: int) -> None:
    """Write down how many spikes each of n positions has, int32, from bits in `words` words of 16 each."""
    whole = n // 16 * 16 if words == 2 or words == 4 else 0
    for p in range(0, whole, 16):
        several = splat(I32X16, 0)
        for t in range(steps):
            at = out + t * step + 2 * words * p
            if words == 2:
                several = several + count_ones(load(I32X16, at))
            else:
                several = several + narrow(count_ones(load(I64X16, at)))
        store(counts + 4 * p, several)
    for p in range(whole, n):
        spikes = 0
        for t in range(steps):
            at = out + t * step + 2 * words * p
            for w in range(words):
                spikes += count_ones(load_u16(at + 2 * w))
        store_32(counts + 4 * p, spikes)


@inline
def window(op: Any, y: int, x: int, n: int) -> None:
    out, source = place(op, WINDOW.out, y, x), place(op, WINDOW.source, y, x)
    count = (n * op[WINDOW.lanes] + 31) // 32
    if op[WINDOW.wide]:
        _window32(op, out, source, count)
    else:
        _window16(op, out, source, count)
    counts = op[WINDOW.counts] + 4 * (y * op[WINDOW.width] + x)
    count_positions(counts, out, op[WINDOW.steps], op[WINDOW.out + PLACE.step], op[WINDOW.lanes] // 16, n)


@inline
def lif(op: Any, y: int, x: int, n: int) -> None:
    out, source = place(op, LIF.out, y, x), place(op, LIF.source, y, x)
    count = (n * op[LIF.lanes] + 31) // 32
    if op[LIF.wide]:
        _lif32(op, out, source, count)
    else:
        _lif16(op, out, source, count)
    counts = op[LIF.counts] + 4 * (y * op[LIF.width] + x)
    count_positions(counts, out, op[LIF.steps], op[LIF.out + PLACE.step], op[LIF.lanes] // 16, n)


@inline
def count_spikes(op: Any, y: int, x: int, n: int) -> None:
    row = load_i64(op[COUNT.rows] + 8 * y)
    if row == 0:
        return
    counts, columns = op[COUNT.counts] + 4 * (y * op[COUNT.width] + x), op[COUNT.columns] + 4 * x
    total = 0
    for first in range(0, n, COUNTED):
        last = min(first + COUNTED, n)
        whole = first + (last - first) // 16 * 16
        sums = splat(I32X16, 0)
        for i in range(first, whole, 16):
            sums = sums + load(I32X16, counts + 4 * i) * load(I32X16, columns + 4 * i)
        total += sum_of_lanes(sums)
        for i in range(whole, last):
            total += load_i32(counts + 4 * i) * load_i32(columns + 4 * i)
    store_64(op[COUNT.total], load_i64(op[COUNT.total]) + row * total)
