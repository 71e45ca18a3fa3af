"""Lists of events: the spikes under a kernel as offsets into its table of weights."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.records import CONV, PLACE, ROOM
from simulator.engine.vectors import list_ones, list_ones_64, load_i64, load_u16, load_u32, store_64


@force_inline
def _fill_up(events: int, count: int, fill: int, room: int) -> Any:
    """End a column of the list of events: with `room` = 4 after the next multiple of four, with 0 where it is."""
    # Not a branch: where nothing is to be filled up, the next column overwrites this.
    store_64(events + 2 * count, fill)
    return count + room & -max(room, 1)


def _listing(many: bool) -> Any:
    """`events_of` for one plane of spikes, or as many as there are: a loop around one costs as much as its list."""

    @inline
    def events_of(op: Any, t: int, y: int, x: int, blocks: int) -> int:
        """List the spikes under the kernel for the output rows of a block: uint16 offsets into the weight table.

        The list goes column by column (0 = x * stride - padding); a column's spikes are starts[c] .. starts[c + 1].
        All planes of all input rows under the kernel follow one another there, so the taps of a block of output pixels
        are one run. Offset: (candidate within the column, row by row, plus, for blocks, candidates per column * c) *
        bytes of a table row / 8, which x86 multiplies for free. Returns the length of the list.

        Where sums slide, each column is filled up to a multiple of four by 1 to 4 times the offset of the table's last
        row, also outside the image.
        """
        words, stride, step = op[CONV.words], op[CONV.stride], op[CONV.spikes + PLACE.column]
        planes, plane = op[CONV.planes] if many else 1, op[CONV.plane]
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
        fill = rows * words * 16 * unit * 0x0001000100010001
        room = ROOM if op[CONV.slides] else 0
        count = 0
        for c in range(left):
            store_64(starts + 8 * c, count)
            count = _fill_up(events, count, fill, room)
        if words == 1 and rows == 4:  # four words make one vector of candidates
            row3, plane3 = load_i64(sources + 24), load_i64(ahead + 24)
            for c in range(left, right):
                store_64(starts + 8 * c, count)
                at0, at1, at2, at3 = row0 + c * step, row1 + c * step, row2 + c * step, row3 + c * step
                for _ in range(planes):
                    mask = load_u16(at0) | (load_u16(at1) << 16) | (load_u16(at2) << 32) | (load_u16(at3) << 48)
                    at0, at1, at2, at3 = at0 + plane0, at1 + plane1, at2 + plane2, at3 + plane3
                    count += list_ones_64(events + 2 * count, c * per_column, unit, mask)
                count = _fill_up(events, count, fill, room)
        elif words == 2 and rows == 3:
            for c in range(left, right):
                store_64(starts + 8 * c, count)
                at0, at1, at2 = row0 + c * step, row1 + c * step, row2 + c * step
                for _ in range(planes):
                    mask = load_u32(at0) | (load_u32(at1) << 32)
                    count += list_ones_64(events + 2 * count, c * per_column, unit, mask)
                    count += list_ones(events + 2 * count, c * per_column + 64 * unit, unit, load_u32(at2))
                    at0, at1, at2 = at0 + plane0, at1 + plane1, at2 + plane2
                count = _fill_up(events, count, fill, room)
        elif words == 4 and rows == 3:
            for c in range(left, right):
                store_64(starts + 8 * c, count)
                at0, at1, at2, base = row0 + c * step, row1 + c * step, row2 + c * step, c * per_column
                for _ in range(planes):
                    count += list_ones_64(events + 2 * count, base, unit, load_i64(at0))
                    count += list_ones_64(events + 2 * count, base + 64 * unit, unit, load_i64(at1))
                    count += list_ones_64(events + 2 * count, base + 128 * unit, unit, load_i64(at2))
                    at0, at1, at2 = at0 + plane0, at1 + plane1, at2 + plane2
                count = _fill_up(events, count, fill, room)
        elif words == 2:
            for c in range(left, right):
                store_64(starts + 8 * c, count)
                for p in range(planes):
                    at, base = c * step, c * per_column
                    for k in range(0, rows - 1, 2):
                        mask = load_u32(load_i64(sources + 8 * k) + p * load_i64(ahead + 8 * k) + at)
                        mask |= load_u32(load_i64(sources + 8 * k + 8) + p * load_i64(ahead + 8 * k + 8) + at) << 32
                        count += list_ones_64(events + 2 * count, base, unit, mask)
                        base += 64 * unit
                    if rows % 2:
                        k = rows - 1
                        mask = load_u32(load_i64(sources + 8 * k) + p * load_i64(ahead + 8 * k) + at)
                        count += list_ones(events + 2 * count, base, unit, mask)
                count = _fill_up(events, count, fill, room)
        else:
            rest = -1 if words % 4 == 0 else (1 << 16 * (words % 4)) - 1  # of the last four words
            for c in range(left, right):
                store_64(starts + 8 * c, count)
                for p in range(planes):
                    base = c * per_column
                    for k in range(rows):
                        at = load_i64(sources + 8 * k) + p * load_i64(ahead + 8 * k) + c * step
                        for _ in range((words - 1) // 4):
                            count += list_ones_64(events + 2 * count, base, unit, load_i64(at))
                            base += 64 * unit
                            at += 8
                        count += list_ones_64(events + 2 * count, base, unit, load_i64(at) & rest)
                        base += ((words - 1) % 4 + 1) * 16 * unit
                count = _fill_up(events, count, fill, room)
        for c in range(right, columns):
            store_64(starts + 8 * c, count)
            count = _fill_up(events, count, fill, room)
        store_64(starts + 8 * columns, count)
        return count

    return events_of


_events_of_one, _events_of_planes = _listing(many=False), _listing(many=True)


@inline
def list_events(op: Any, t: int, y: int, x: int, blocks: int) -> Any:
    """What `_listing` says."""
    if op[CONV.planes] == 1:
        return _events_of_one(op, t, y, x, blocks)
    return _events_of_planes(op, t, y, x, blocks)
