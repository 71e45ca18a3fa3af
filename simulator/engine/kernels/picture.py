"""Row operations at both ends: grey levels in, restored ones out."""

from __future__ import annotations

from typing import Any

from simulator.engine.kernels.places import force_inline, inline, place
from simulator.engine.records import PICTURE, PIXELS, READOUT, RESTORED
from simulator.engine.vectors import (
    I16X16,
    I32X16,
    bytes_of_rows,
    clamp,
    depth_to_pixels,
    load,
    load_i8,
    load_i16,
    load_i32,
    load_u8,
    pixels_to_depth,
    splat,
    store,
    store_8,
    store_16,
    store_rows_of_bytes,
    widen,
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


@inline
def pixels(op: Any, y: int, x: int, n: int) -> None:
    """Space-to-depth of the picture, channels last, lanes beyond 3 factor^2 zero."""
    out, factor, lanes = place(op, PIXELS.out, y, x), op[PIXELS.factor], op[PIXELS.lanes]
    picture = PIXELS.picture
    done = 0
    if factor == 2 and lanes == 16 and _packed(op, picture):
        first, row, last = op[picture + PICTURE.address], op[picture + PICTURE.row], op[picture + PICTURE.last_row]
        upper = first + min(2 * y, last) * row + 6 * x
        lower = first + min(2 * y + 1, last) * row + 6 * x
        middle = splat(I16X16, op[picture + PICTURE.middle])
        # Eight bytes are loaded of which six count: another pixel must lie on the right.
        while done < n and 2 * (x + done) + 2 <= op[picture + PICTURE.last_column]:
            store(out + 32 * done, pixels_to_depth(bytes_of_rows(upper + 6 * done, lower + 6 * done) - middle))
            done += 1
    zero = splat(I16X16, 0)
    for i in range(2 * done * lanes, 2 * n * lanes, 32):
        store(out + i, zero)
    for i in range(done, n):
        for c in range(3):
            for dy in range(factor):
                for dx in range(factor):
                    level = _level(op, picture, c, y * factor + dy, (x + i) * factor + dx)
                    store_16(out + 2 * (i * lanes + (c * factor + dy) * factor + dx), level)


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
    begin = end = 0  # pixels of the input that are done together
    if factor == 2 and lanes == 16 and _packed(op, picture) and to_column == 3 and to_channel == 1:
        if first_row <= 2 * y and 2 * y + 1 < end_row:
            # Eight bytes are stored of which six count: the next pixel of this block, which comes after, overwrites
            # the others; what lies beyond the block may have to stay as it is.
            begin = min(max((first_column + 1) // 2 - x, 0), n)
            end = max(min((end_column - 1) // 2 - x, n - 1), begin)
        upper = op[picture + PICTURE.address] + 2 * y * op[picture + PICTURE.row] + 6 * x
        lower = upper + op[picture + PICTURE.row]
        to_upper = to + 2 * y * to_row + 6 * x
        to_lower = to_upper + to_row
        low, high = splat(I32X16, 0), splat(I32X16, 255)
        half, shifts = splat(I32X16, rounding), splat(I32X16, shift)
        for i in range(begin, end):
            value = load(I32X16, source + 64 * i) if wide else widen(load(I16X16, source + 32 * i))
            change = depth_to_pixels((value + half) >> shifts)
            grey = widen(bytes_of_rows(upper + 6 * i, lower + 6 * i)) + change
            store_rows_of_bytes(to_upper + 6 * i, to_lower + 6 * i, clamp(grey, low, high))
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
