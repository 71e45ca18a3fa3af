"""The row operation of 1x1 convolutions of spikes, straight from their bits."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.records import PLACE, POINT_CONV
from simulator.engine.vectors import I16X32, I32X16, load, load_u16, load_u32, store


def _points(kind: Any) -> Any:
    """Sums of one vector of output lanes at each pixel, straight from the bits.

    Each four channels have a table of what their 16 combinations of spikes add up to; or each eight, where the planes
    of 32 are looked up: of 256 combinations few are met. A pixel has so few spikes under a 1x1 kernel that this costs
    less than a list of them, whose end is mispredicted.
    """

    @force_inline
    def of_word(table: int, bits: int) -> Any:
        low = load(kind, table + (bits << 6 & 0x3C0)) + load(kind, table + 0x400 + (bits << 2 & 0x3C0))
        return low + load(kind, table + 0x800 + (bits >> 2 & 0x3C0)) + load(kind, table + 0xC00 + (bits >> 6 & 0x3C0))

    @force_inline
    def of_bytes(table: int, bits: int) -> Any:
        low = load(kind, table + (bits << 6 & 0x3FC0)) + load(kind, table + 0x4000 + (bits >> 2 & 0x3FC0))
        high = load(kind, table + 0x8000 + (bits >> 10 & 0x3FC0)) + load(kind, table + 0xC000 + (bits >> 18 & 0x3FC0))
        return low + high

    @inline
    def points(op: Any, out: int, source: int, base: int, n: int, table: int, bias: int) -> None:
        words, step, pixel = op[POINT_CONV.words], op[POINT_CONV.spikes + PLACE.column], op[POINT_CONV.pixel]
        planes, plane = op[POINT_CONV.planes], op[POINT_CONV.plane]
        keep = op[POINT_CONV.base + PLACE.address]
        initial = load(kind, bias)
        if words == 2 and planes == 1:  # the common cases, without loops over words and planes
            for _ in range(n):
                bits = load_u32(source)
                sums = of_word(table, bits) + of_word(table + 0x1000, bits >> 16) + initial
                store(out, sums + load(kind, base) if keep else sums)
                source += step
                out += pixel
                base += pixel
            return
        if words == 2 and planes == 4:  # a neuron that fires at step 2 did at step 1, and so on
            for _ in range(n):
                second, fourth = load_u32(source + plane), load_u32(source + 3 * plane)
                odd = load_u32(source) ^ second ^ load_u32(source + 2 * plane) ^ fourth
                even = of_bytes(table, second) + of_bytes(table, fourth)
                sums = of_bytes(table, odd) + initial + (even + even)
                store(out, sums + load(kind, base) if keep else sums)
                source += step
                out += pixel
                base += pixel
            return
        for _ in range(n):
            sums = initial + load(kind, base) if keep else initial
            for p in range(planes):
                at = source + p * plane
                for w in range(words):
                    sums = sums + of_word(table + 0x1000 * w, load_u16(at + 2 * w))
            store(out, sums)
            source += step
            out += pixel
            base += pixel

    return points


_points16, _points32 = _points(I16X32), _points(I32X16)


@inline
def point_conv(op: Any, y: int, x: int, n: int) -> None:
    eights = op[POINT_CONV.words] == 2 and op[POINT_CONV.planes] == 4
    per_vector = op[POINT_CONV.words] * (0x8000 if eights else 0x1000)
    for t in range(op[POINT_CONV.steps]):
        source = place(op, POINT_CONV.spikes, y, x) + t * op[POINT_CONV.spikes + PLACE.step]
        for v in range(op[POINT_CONV.vectors]):
            out = place(op, POINT_CONV.out, y, x) + t * op[POINT_CONV.out + PLACE.step] + 64 * v
            base = place(op, POINT_CONV.base, y, x) + t * op[POINT_CONV.base + PLACE.step] + 64 * v
            if op[POINT_CONV.wide]:
                _points32(op, out, source, base, n, op[POINT_CONV.table] + v * per_vector, op[POINT_CONV.bias] + 64 * v)
            else:
                _points16(op, out, source, base, n, op[POINT_CONV.table] + v * per_vector, op[POINT_CONV.bias] + 64 * v)
