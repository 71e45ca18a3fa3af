"""Row operations at both ends: grey levels in, restored ones out."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place, take
from simulator.engine.records import MOST_CHANGE, PICTURE, PIXELS, READOUT, RESTORED
from simulator.engine.vectors import (
    I16X16,
    I16X32,
    I32X32,
    bytes_of_rows,
    clamp,
    depth_to_pixels,
    load,
    load_i8,
    load_i16,
    load_i32,
    load_u8,
    narrow,
    pixels_to_depth,
    select,
    splat,
    store,
    store_8,
    store_16,
    store_rows_of_bytes,
    three_bytes,
)


@force_inline
def _level(op: Any, picture: int, c: int, y: int, x: int) -> Any:
    """Grey level - 128 at row y and column x of the picture whose fields start at `picture`."""
    row = min(y, op[picture + PICTURE.last_row]) * op[picture + PICTURE.row]
    column = min(x, op[picture + PICTURE.last_column]) * op[picture + PICTURE.column]
    at = op[picture + PICTURE.address] + row + column + c * op[picture + PICTURE.channel]
    more = op[picture + PICTURE.level] - 1  # without a branch: both loads are inside the level
    return load_u8(at) + (load_i8(at + more) << 8) * more - op[picture + PICTURE.middle]


@force_inline
def _packed(op: Any, picture: int) -> Any:
    """Whether the picture holds the three bytes of a pixel, and its pixels, side by side."""
    one_byte = op[picture + PICTURE.level] == 1
    return op[picture + PICTURE.column] == 3 and op[picture + PICTURE.channel] == 1 and one_byte


@force_inline
def _pairs(op: Any, picture: int, y: int, x: int, n: int) -> Any:
    """How many of n positions of 2x2 pixels from column x on can be read two at a time, 16 bytes of each row.

    Of these, 12 count: another two pixels must lie on the right, or a row below.
    """
    last_row, last_column = op[picture + PICTURE.last_row], op[picture + PICTURE.last_column]
    inside = (last_column + 1) // 2 - x
    if op[picture + PICTURE.row] < 0 or 2 * y + 1 >= last_row:
        inside -= 1
    return max(min(inside, n), 0) // 2 * 2


@inline
def pixels(op: Any, y: int, x: int, n: int) -> None:
    put_pixels(op, PIXELS.picture, op[PIXELS.factor], op[PIXELS.lanes], place(op, PIXELS.out, y, x), y, x, n)


@inline
def put_pixels(op: Any, picture: int, factor: int, lanes: int, out: int, y: int, x: int, n: int) -> None:
    """Space-to-depth of n positions of the picture whose fields start at `picture`, channels last, lanes beyond
    3 factor^2 zero."""
    done = 0
    if factor == 2 and lanes == 16 and _packed(op, picture):
        first, row, last = op[picture + PICTURE.address], op[picture + PICTURE.row], op[picture + PICTURE.last_row]
        upper = first + min(2 * y, last) * row + 6 * x
        lower = first + min(2 * y + 1, last) * row + 6 * x
        middle = splat(I16X32, op[picture + PICTURE.middle])
        done = _pairs(op, picture, y, x, n)
        for i in range(0, done, 2):
            store(out + 32 * i, pixels_to_depth(bytes_of_rows(upper + 6 * i, lower + 6 * i) - middle))
    zero = splat(I16X16, 0)
    if factor == 1 and lanes == 16 and _packed(op, picture):
        at = op[picture + PICTURE.address] + min(y, op[picture + PICTURE.last_row]) * op[picture + PICTURE.row] + 3 * x
        middles = select(7, splat(I16X16, op[picture + PICTURE.middle]), zero)
        done = min(max(op[picture + PICTURE.last_column] - x, 0), n)  # four bytes are read of each
        for i in range(done):
            store(out + 32 * i, three_bytes(at + 3 * i) - middles)
    for i in range(2 * done * lanes, 2 * n * lanes, 32):
        store(out + i, zero)
    for i in range(done, n):
        for c in range(3):
            for dy in range(factor):
                for dx in range(factor):
                    level = _level(op, picture, c, y * factor + dy, (x + i) * factor + dx)
                    store_16(out + 2 * (i * lanes + (c * factor + dy) * factor + dx), level)


@force_inline
def _put_pair(upper: int, lower: int, to_upper: int, to_lower: int, change: Any) -> None:
    """Two positions of 2x2 pixels, of which each row is 12 bytes."""
    grey = bytes_of_rows(upper, lower) + depth_to_pixels(change)
    store_rows_of_bytes(to_upper, to_lower, clamp(grey, splat(I16X32, 0), splat(I16X32, 255)))


@inline
def readout(op: Any, y: int, x: int, n: int) -> None:
    """PixelShuffle (factor > 1), then clip(u8 + ((change + half) >> shift))."""
    source, lanes, wide = place(op, READOUT.source, y, x), op[READOUT.lanes], op[READOUT.wide_source]
    factor, shift = op[READOUT.factor], op[READOUT.shift]
    picture, restored = READOUT.picture, READOUT.restored
    to, to_row = op[restored + RESTORED.address], op[restored + RESTORED.row]
    to_column, to_channel = op[restored + RESTORED.column], op[restored + RESTORED.channel]
    first_row, end_row = op[restored + RESTORED.first_row], op[restored + RESTORED.end_row]
    first_column, end_column = op[restored + RESTORED.first_column], op[restored + RESTORED.end_column]
    rounding = (1 << shift) >> 1
    size = 4 if wide else 2
    begin = end = 0  # positions of the input that are done two at a time
    if factor == 2 and lanes == 16 and _packed(op, picture) and to_column == 3 and to_channel == 1:
        if first_row <= 2 * y and 2 * y + 1 < end_row:
            begin = min(max((first_column + 1) // 2 - x, 0), n)
            end = begin + _pairs(op, picture, y, x + begin, min(end_column // 2 - x, n) - begin)
        upper = op[picture + PICTURE.address] + 2 * y * op[picture + PICTURE.row] + 6 * x
        lower = upper + op[picture + PICTURE.row]
        to_upper = to + 2 * y * to_row + 6 * x
        to_lower = to_upper + to_row
        if shift == 0 and wide == 0:
            least, most = splat(I16X32, -MOST_CHANGE), splat(I16X32, MOST_CHANGE)
            for i in range(begin, end, 2):
                change = clamp(load(I16X32, source + 32 * i), least, most)
                _put_pair(upper + 6 * i, lower + 6 * i, to_upper + 6 * i, to_lower + 6 * i, change)
        else:
            low, high = splat(I32X32, -MOST_CHANGE), splat(I32X32, MOST_CHANGE)
            half, shifts = splat(I32X32, rounding), splat(I32X32, shift)
            for i in range(begin, end, 2):
                value = clamp((take(source + size * 16 * i, 0, wide) + half) >> shifts, low, high)
                _put_pair(upper + 6 * i, lower + 6 * i, to_upper + 6 * i, to_lower + 6 * i, narrow(value))
    for i in range(n):
        if begin <= i < end:
            continue
        for dy in range(factor):
            row = y * factor + dy
            if not first_row <= row < end_row:
                continue
            for dx in range(factor):
                column = (x + i) * factor + dx
                if not first_column <= column < end_column:
                    continue
                for c in range(3):
                    at = source + (i * lanes + (c * factor + dy) * factor + dx) * size
                    value = load_i32(at) if wide else load_i16(at)
                    grey = _level(op, picture, c, row, column) + 128 + ((value + rounding) >> shift)
                    store_8(to + row * to_row + column * to_column + c * to_channel, min(max(grey, 0), 255))
