"""Lists of events: the spikes under a kernel as offsets into its table of weights."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.lists import list_counts, list_ones
from simulator.engine.records import CONV, PLACE, ROOM
from simulator.engine.vectors import (
    I32X16,
    load,
    load_i64,
    load_u16,
    load_u32,
    splat,
    store_64,
    store_pairs,
)


@force_inline
def _fill_up(events: int, count: int, fill: int, room: int) -> Any:
    """End a column of the list of events: with `room` = 4 after the next multiple of four, with 0 where it is."""
    # Not a branch: where nothing is to be filled up, the next column overwrites this.
    store_64(events + 2 * count, fill)
    return count + room & -max(room, 1)


@force_inline
def _two_words(upper: int, lower: int) -> Any:
    """The words of 16 neighbouring columns of 4 bytes each, from two rows."""
    return (load(I32X16, upper) & splat(I32X16, 0xFFFF)) ^ (load(I32X16, lower) << splat(I32X16, 16))


@inline
def _gather(op: Any, sources: int, rows: int, masks: int, pitch: int, left: int, right: int) -> None:
    """Put the words of four rows (or of two, with two words each) under one another: 64 bits for each column.

    sources: addresses of the rows, and bytes from plane to plane of each. masks: for each four (two) rows, for each
    plane, `pitch` bytes of columns, of which left .. right - 1 are written and as many as fill a vector.
    """
    words, step, ahead = op[CONV.words], op[CONV.spikes + PLACE.column], sources + 8 * rows
    planes, together = op[CONV.planes], 4 // words
    for k in range(0, rows, together):
        row0, row1, plane0, plane1 = load_i64(sources + 8 * k), op[CONV.zeros], load_i64(ahead + 8 * k), 0
        row2, row3, plane2, plane3 = op[CONV.zeros], op[CONV.zeros], 0, 0
        if k + 1 < rows:
            row1, plane1 = load_i64(sources + 8 * k + 8), load_i64(ahead + 8 * k + 8)
        if words == 1:
            row2, plane2 = load_i64(sources + 8 * k + 16), load_i64(ahead + 8 * k + 16)
            row3, plane3 = load_i64(sources + 8 * k + 24), load_i64(ahead + 8 * k + 24)
        for _ in range(planes):
            if step == 4:
                for c in range(left, right, 16):
                    if words == 1:
                        low, high = _two_words(row0 + 4 * c, row1 + 4 * c), _two_words(row2 + 4 * c, row3 + 4 * c)
                    else:
                        low, high = load(I32X16, row0 + 4 * c), load(I32X16, row1 + 4 * c)
                    store_pairs(masks + 8 * c, low, high)
            else:
                for c in range(left, right):
                    at0, at1, at2, at3 = row0 + c * step, row1 + c * step, row2 + c * step, row3 + c * step
                    if words == 1:
                        mask = load_u16(at0) | (load_u16(at1) << 16) | (load_u16(at2) << 32) | (load_u16(at3) << 48)
                    else:
                        mask = load_u32(at0) | (load_u32(at1) << 32)
                    store_64(masks + 8 * c, mask)
            row0, row1, row2, row3 = row0 + plane0, row1 + plane1, row2 + plane2, row3 + plane3
            masks += pitch


@inline
def _list(at: int, base: int, unit: int, once: int, within: int, words: int, pitch: int, mine: int) -> Any:
    """List the spikes of 64 neurons; how many events that were. words: address of those in the first of the planes
    that go together, of which there are within + 1 = 1, 2 or 4; pitch: bytes from plane to plane; mine: which of the
    64 bits count."""
    if within == 0:
        return list_ones(at, base, unit, load_i64(words) & mine)
    second, third, fourth = load_i64(words + pitch) & mine, 0, 0
    if within == 3:
        third, fourth = load_i64(words + 2 * pitch) & mine, load_i64(words + 3 * pitch) & mine
    return list_counts(at, base, unit, once, load_i64(words) & mine, second, third, fourth)


@inline
def list_events(op: Any, t: int, y: int, x: int, blocks: int) -> int:
    """List the spikes under the kernel for the output rows of a block: uint16 offsets into the weight table.

    The list goes column by column (0 = x * stride - padding); a column's spikes are starts[c] .. starts[c + 1].
    All planes of all input rows under the kernel follow one another there, so the taps of a block of output pixels
    are one run. Offset: (candidate within the column, row by row, plus, for blocks, candidates per column * c) *
    bytes of a table row / 8, which x86 multiplies for free. Returns the length of the list.

    A neuron that integrates before it fires and does so at step 2 did at step 1, and so on. So its spikes in four
    planes (`together`) are one event, with the offset of as many times the weight.

    Where sums slide, each column is filled up to a multiple of four by 1 to 4 times the offset of the table's last
    row, also outside the image.
    """
    words, stride, step = op[CONV.words], op[CONV.stride], op[CONV.spikes + PLACE.column]
    planes, plane, within = op[CONV.planes], op[CONV.plane], op[CONV.together] - 1
    events, starts = op[CONV.events], op[CONV.starts]
    first = x * stride - op[CONV.padding]
    columns = (blocks * op[CONV.columns] - 1) * stride + op[CONV.kernel]
    rows = (op[CONV.rows] - 1) * stride + op[CONV.kernel]
    left = min(max(-first, 0), columns)  # columns left of the image
    right = max(min(op[CONV.width] - first, columns), left)  # and where those right of it start
    sources = starts + 8 * (columns + 1)  # addresses of the input rows, ...
    ahead = sources + 8 * rows  # ... and bytes from plane to plane
    unit = 8 * op[CONV.vectors] * max(op[CONV.slides], 1)
    per_column = 0 if op[CONV.slides] else rows * words * 16 * unit
    for k in range(rows):
        row = y * stride - op[CONV.padding] + k
        inside = 0 <= row < op[CONV.height]
        address = place(op, CONV.spikes, row, 0) + t * op[CONV.spikes + PLACE.step]
        store_64(sources + 8 * k, (address if inside else op[CONV.zeros]) + first * step)
        store_64(ahead + 8 * k, plane if inside else 0)
    row0, row1, row2 = load_i64(sources), load_i64(sources + 8), load_i64(sources + 16)
    plane0, plane1, plane2 = load_i64(ahead), load_i64(ahead + 8), load_i64(ahead + 16)
    # The table: a row for each candidate (in blocks of all columns), the same for twice the weight and so on, zeros.
    once = rows * words * 16 * unit * (1 if op[CONV.slides] else (op[CONV.columns] - 1) * stride + op[CONV.kernel])
    fill = (within + 1) * once * 0x0001000100010001
    room = ROOM if op[CONV.slides] else 0
    count = 0
    for c in range(left):
        store_64(starts + 8 * c, count)
        count = _fill_up(events, count, fill, room)
    if words == 2 or (words == 1 and rows == 4):
        masks, pitch = ahead + 8 * rows, 8 * (columns + 16)
        _gather(op, sources, rows, masks, pitch, left, right)
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            at, base = masks + 8 * c, c * per_column
            if planes == 1:
                for _ in range(0, rows * words, 4):
                    count += list_ones(events + 2 * count, base, unit, load_i64(at))
                    at, base = at + pitch, base + 64 * unit
            else:
                for _ in range(0, rows * words, 4):
                    for _ in range(0, planes, within + 1):
                        count += _list(events + 2 * count, base, unit, once, within, at, pitch, -1)
                        at += (within + 1) * pitch
                    base += 64 * unit
            count = _fill_up(events, count, fill, room)
    elif words == 4 and rows == 3:
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            base, at0, at1, at2 = c * per_column, row0 + c * step, row1 + c * step, row2 + c * step
            for _ in range(0, planes, within + 1):
                count += _list(events + 2 * count, base, unit, once, within, at0, plane0, -1)
                count += _list(events + 2 * count, base + 64 * unit, unit, once, within, at1, plane1, -1)
                count += _list(events + 2 * count, base + 128 * unit, unit, once, within, at2, plane2, -1)
                at0, at1, at2 = at0 + (within + 1) * plane0, at1 + (within + 1) * plane1, at2 + (within + 1) * plane2
            count = _fill_up(events, count, fill, room)
    else:
        rest = -1 if words % 4 == 0 else (1 << 16 * (words % 4)) - 1  # of the last four words
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            base = c * per_column
            for k in range(rows):
                row, ahead_of = load_i64(sources + 8 * k) + c * step, load_i64(ahead + 8 * k)
                for w in range(0, words, 4):
                    at, mine = row + 2 * w, rest if w + 4 >= words else -1
                    for _ in range(0, planes, within + 1):
                        count += _list(events + 2 * count, base, unit, once, within, at, ahead_of, mine)
                        at += (within + 1) * ahead_of
                    base += min(words - w, 4) * 16 * unit
            count = _fill_up(events, count, fill, room)
    for c in range(right, columns):
        store_64(starts + 8 * c, count)
        count = _fill_up(events, count, fill, room)
    store_64(starts + 8 * columns, count)
    return count
