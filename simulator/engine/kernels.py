"""The compiled part of the engine: row operations, and the loop that runs lists of them over bands of an image.

A pass (`simulator/engine/plan.py`) is a short list of row operations that share scratch memory: for each output row
(or pair of rows) and block of columns, the whole list is executed before the next, so that what one operation leaves
for another stays in the first-level cache. Operations are records of int64; everything is reached by address, which
keeps the compiled code independent of shapes, and one compilation serves every network.

Layouts: real values [T, H, W', Cp] int16 or int32, channels last, Cp = C rounded up to 16, the lanes beyond C zero;
W' = W rounded up to even. Spikes are bits: uint16 words [T, H, W', Cp / 16], channel c at bit c % 16 of word c / 16.
A place is five fields of a record: address, bytes from time step to step, from row to row, from column to column, and
a mask for row numbers (-1: all rows are kept; 2^k - 1: a ring of the last 2^k rows). Static values have 0 bytes from
step to step; scratch holds one block of columns and has 0 from column to column.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from simulator.engine.vectors import (
    I16X16,
    I16X32,
    I32X16,
    I32X32,
    add_atomic,
    at_least,
    bytes_of_rows,
    claim,
    clamp,
    count_ones,
    depth_to_pixels,
    dot,
    joined,
    list_ones,
    list_ones_64,
    load,
    load_atomic,
    load_i8,
    load_i16,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    load_u32,
    lower_half,
    narrow,
    pairs,
    pixels_to_depth,
    select,
    splat,
    store,
    store_8,
    store_16,
    store_32,
    store_64,
    store_rows_of_bytes,
    sum_of_lanes,
    upper_half,
    wait_a_moment,
    widen,
    yield_processor,
)

FIELDS = 32  # int64 per record; 0 is always the operation
TASK_FIELDS = 8
(PIXELS, CONV, POINT_CONV, DENSE_CONV, ADD, REQUANTISE, TIME_SUM, STORE, LIF, COUNT, READOUT) = range(1, 12)
TABLE_VECTORS = 4  # widest row of a weight table, in vectors of 64 bytes
SHARES = 2  # per thread, that a task is cut into
MOST_SHARES = 63  # bits of a word
PATIENCE = 1000  # looks at a counter before the processor is offered to others
DIRECT_BYTES = 512  # `plan.SLACK`
COUNTED = 512  # columns whose weighted spike counts are added up in int32
OVERRUN = 8  # pixels beyond a block of columns that an operation may compute in scratch
MARGIN = 2  # and to the left of it
ROOM = 4  # events that may fill up a column of a list

inline = njit(nogil=True)
force_inline = njit(nogil=True, forceinline=True)


@force_inline
def _place(op: Any, field: int, y: int, x: int) -> Any:
    """Address of step 0, row y, column x of the place whose five fields start at `field`."""
    return op[field] + (y & op[field + 4]) * op[field + 2] + x * op[field + 3]


# A picture is eight fields: address of row 0, column 0, channel 0; bytes from row to row, column to column, channel to
# channel; bytes per level (1: uint8, 2: int16); what to subtract from a level; the last row and the last column there
# are, which are repeated beyond.
@force_inline
def _level(op: Any, field: int, c: int, y: int, x: int) -> Any:
    """Grey level - 128 at row y and column x of the picture whose fields start at `field`."""
    at = op[field] + min(y, op[field + 6]) * op[field + 1] + min(x, op[field + 7]) * op[field + 2] + c * op[field + 3]
    more = op[field + 4] - 1  # without a branch: both loads are inside the level
    return load_u8(at) + (load_i8(at + more) << 8) * more - op[field + 5]


@force_inline
def _packed(op: Any, field: int) -> Any:
    """Whether the picture holds the three bytes of a pixel, and its pixels, side by side."""
    return op[field + 2] == 3 and op[field + 3] == 1 and op[field + 4] == 1


# PIXELS: 1-5 output (int16), 6 factor, 7 Cp, 8-15 the picture
@inline
def _pixels(op: Any, y: int, x: int, n: int) -> None:
    """Space-to-depth of the picture, channels last, lanes beyond 3 factor^2 zero."""
    out, factor, lanes = _place(op, 1, y, x), op[6], op[7]
    done = 0
    if factor == 2 and lanes == 16 and _packed(op, 8):
        upper = op[8] + min(2 * y, op[14]) * op[9] + 6 * x
        lower = op[8] + min(2 * y + 1, op[14]) * op[9] + 6 * x
        middle = splat(I16X16, op[13])
        # Eight bytes are loaded of which six count: another pixel must lie on the right.
        while done < n and 2 * (x + done) + 2 <= op[15]:
            store(out + 32 * done, pixels_to_depth(bytes_of_rows(upper + 6 * done, lower + 6 * done) - middle))
            done += 1
    zero = splat(I16X16, 0)
    for i in range(2 * done * lanes, 2 * n * lanes, 32):
        store(out + i, zero)
    for i in range(done, n):
        for c in range(3):
            for dy in range(factor):
                for dx in range(factor):
                    level = _level(op, 8, c, y * factor + dy, (x + i) * factor + dx)
                    store_16(out + 2 * (i * lanes + (c * factor + dy) * factor + dx), level)


# CONV: 1 T, 2-6 spikes from the group's first word, 7 address of a row of zeros, 8 words per group, 9 H, 10 W of the
# input, 11 kernel, 12 stride, 13 padding, 14 rows and 15 columns of a block of output pixels that share one run of
# events, 16 scratch for events, 17 for run starts, 18 table, 19 vectors of output lanes in each of its chunks, 20-24
# output, 25 its bytes per block, 26 bias, 27 where each piece of 16 lanes goes, 28 accumulators are int32, 29 add to
# what is there, 30 chunks, 31 columns of sums that slide along (0: blocks; else 15 is 1)
@force_inline
def _fill_up(events: int, count: int, fill: int, room: int) -> Any:
    """End a column of the list of events: with `room` = 4 after the next multiple of four, with 0 where it is."""
    # Not a branch: where nothing is to be filled up, the next column overwrites this.
    store_64(events + 2 * count, fill)
    return count + room & -max(room, 1)


@inline
def _events(op: Any, t: int, y: int, x: int, blocks: int) -> int:
    """List the spikes under the kernel for the output rows of a block: uint16 offsets into the weight table.

    The list goes column by column (0 = x * stride - padding); a column's spikes are starts[c] .. starts[c + 1]. All
    input rows under the kernel follow one another there, so the taps of a block of output pixels are one run. Offset:
    (candidate within the column, row by row, plus, for blocks, candidates per column * c) * bytes of a table row / 8,
    which x86 multiplies for free. Returns the length of the list.

    Where sums slide, each column is filled up to a multiple of four by 1 to 4 times the offset of the table's last row,
    also outside the image.
    """
    words, stride, step = op[8], op[12], op[5]
    events, starts = op[16], op[17]
    first = x * stride - op[13]
    columns = (blocks * op[15] - 1) * stride + op[11]
    rows = (op[14] - 1) * stride + op[11]
    left = min(max(-first, 0), columns)  # columns left of the image
    right = max(min(op[10] - first, columns), left)  # and where those right of it start
    sources = starts + 8 * (columns + 1)  # addresses of the input rows
    unit = 8 * op[19] * max(op[31], 1)
    per_column = 0 if op[31] else rows * words * 16 * unit
    for k in range(rows):
        row = y * stride - op[13] + k
        inside = 0 <= row < op[9]
        store_64(sources + 8 * k, (_place(op, 2, row, 0) + t * op[3] if inside else op[7]) + first * step)
    row0, row1, row2 = load_i64(sources), load_i64(sources + 8), load_i64(sources + 16)
    fill = rows * words * 16 * unit * 0x0001000100010001
    room = ROOM if op[31] else 0
    count = 0
    for c in range(left):
        store_64(starts + 8 * c, count)
        count = _fill_up(events, count, fill, room)
    if words == 1 and rows == 4:  # four words make one vector of candidates
        row3 = load_i64(sources + 24)
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            mask = load_u16(row0 + c * step) | (load_u16(row1 + c * step) << 16)
            mask |= (load_u16(row2 + c * step) << 32) | (load_u16(row3 + c * step) << 48)
            count += list_ones_64(events + 2 * count, c * per_column, unit, mask)
            count = _fill_up(events, count, fill, room)
    elif words == 2 and rows == 3:
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            mask = load_u32(row0 + c * step) | (load_u32(row1 + c * step) << 32)
            count += list_ones_64(events + 2 * count, c * per_column, unit, mask)
            count += list_ones(events + 2 * count, c * per_column + 64 * unit, unit, load_u32(row2 + c * step))
            count = _fill_up(events, count, fill, room)
    elif words == 2:
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            base = c * per_column
            for k in range(0, rows - 1, 2):
                mask = load_u32(load_i64(sources + 8 * k) + c * step)
                mask |= load_u32(load_i64(sources + 8 * k + 8) + c * step) << 32
                count += list_ones_64(events + 2 * count, base, unit, mask)
                base += 64 * unit
            if rows % 2:
                mask = load_u32(load_i64(sources + 8 * (rows - 1)) + c * step)
                count += list_ones(events + 2 * count, base, unit, mask)
            count = _fill_up(events, count, fill, room)
    elif words % 4 == 0:
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            base = c * per_column
            for k in range(rows):
                at = load_i64(sources + 8 * k) + c * step
                for w in range(0, words, 4):
                    count += list_ones_64(events + 2 * count, base, unit, load_i64(at + 2 * w))
                    base += 64 * unit
            count = _fill_up(events, count, fill, room)
    else:
        for c in range(left, right):
            store_64(starts + 8 * c, count)
            base = c * per_column
            for k in range(rows):
                at = load_i64(sources + 8 * k) + c * step
                for w in range(words):
                    count += list_ones(events + 2 * count, base, unit, load_u16(at + 2 * w))
                    base += 16 * unit
            count = _fill_up(events, count, fill, room)
    for c in range(right, columns):
        store_64(starts + 8 * c, count)
        count = _fill_up(events, count, fill, room)
    store_64(starts + 8 * columns, count)
    return count


@force_inline
def _put_sums16(out: int, pieces: int, keep: int, sums: Any) -> None:
    """Two pieces of 16 lanes to their places, added to what is there if `keep`."""
    first, second = out + load_i64(pieces), out + load_i64(pieces + 8)
    low, high = lower_half(sums), upper_half(sums)
    if keep:
        low, high = low + load(I16X16, first), high + load(I16X16, second)
    store(first, low)
    store(second, high)


@force_inline
def _put_sums32(out: int, pieces: int, keep: int, sums: Any) -> None:
    place = out + load_i64(pieces)
    store(place, sums + load(I32X16, place) if keep else sums)


@force_inline
def _offset(four: int, shift: int) -> Any:
    """Bytes into the table, of one of four events that were loaded at once (loads are what this loop waits for)."""
    return (four >> shift & 0xFFFF) << 3


def _runs(kind: Any) -> tuple[Any, ...]:
    """Functions that sum, block by block, the table rows of its run of events, for 1 to 4 vectors of `kind` per row.

    The sums of a block stay in registers. (op, out, starts, blocks, table, bias, pieces); the table's last row is zero
    and fills up runs of odd length, so that only the number of rounds is left to the branch predictor.
    """
    put = _put_sums16 if kind.bits == 16 else _put_sums32
    piece = 16 if kind.bits == 16 else 8  # bytes of `pieces` per vector

    @inline
    def one(op: Any, out: int, at: int, blocks: int, table: int, none: int, bias: int, pieces: int) -> None:
        events, step, reach, back, keep, start = _run_fields(op, 1)
        initial = load(kind, bias)
        for _ in range(blocks):
            first = load_i64(at)
            n = load_i64(at + reach) - first
            event = events + 2 * first
            a = initial
            b, c, d = splat(kind, 0), splat(kind, 0), splat(kind, 0)
            end = event + 2 * (n & ~3)
            while event < end:
                four = load_i64(event)
                a = a + load(kind, table + _offset(four, 0))
                b = b + load(kind, table + _offset(four, 16))
                c = c + load(kind, table + _offset(four, 32))
                d = d + load(kind, table + _offset(four, 48))
                event += 8
            four = load_i64(event)
            a = a + load(kind, table + _offset(four, 0) if n & 3 > 0 else none)
            b = b + load(kind, table + _offset(four, 16) if n & 3 > 1 else none)
            c = c + load(kind, table + _offset(four, 32) if n & 3 > 2 else none)
            a, b = a + c, b + d
            put(out, pieces, keep, a + b)
            table -= back
            out += step
            at += start

    @inline
    def two(op: Any, out: int, at: int, blocks: int, table: int, none: int, bias: int, pieces: int) -> None:
        events, step, reach, back, keep, start = _run_fields(op, 2)
        for _ in range(blocks):
            first = load_i64(at)
            n = load_i64(at + reach) - first
            event = events + 2 * first
            a, b = load(kind, bias), load(kind, bias + 64)
            c, d = splat(kind, 0), splat(kind, 0)
            end = event + 2 * (n & ~3)
            while event < end:
                four = load_i64(event)
                row = table + _offset(four, 0)
                a, b = a + load(kind, row), b + load(kind, row + 64)
                row = table + _offset(four, 16)
                c, d = c + load(kind, row), d + load(kind, row + 64)
                row = table + _offset(four, 32)
                a, b = a + load(kind, row), b + load(kind, row + 64)
                row = table + _offset(four, 48)
                c, d = c + load(kind, row), d + load(kind, row + 64)
                event += 8
            four = load_i64(event)
            row = table + _offset(four, 0) if n & 3 > 0 else none
            a, b = a + load(kind, row), b + load(kind, row + 64)
            row = table + _offset(four, 16) if n & 3 > 1 else none
            c, d = c + load(kind, row), d + load(kind, row + 64)
            row = table + _offset(four, 32) if n & 3 > 2 else none
            a, b = a + load(kind, row), b + load(kind, row + 64)
            put(out, pieces, keep, a + c)
            put(out, pieces + piece, keep, b + d)
            table -= back
            out += step
            at += start

    @inline
    def three(op: Any, out: int, at: int, blocks: int, table: int, none: int, bias: int, pieces: int) -> None:
        events, step, reach, back, keep, start = _run_fields(op, 3)
        for _ in range(blocks):
            event = events + 2 * load_i64(at)
            end = events + 2 * load_i64(at + reach)
            a, b, c = load(kind, bias), load(kind, bias + 64), load(kind, bias + 128)
            while event < end:
                row = table + (load_u16(event) << 3)
                a, b, c = a + load(kind, row), b + load(kind, row + 64), c + load(kind, row + 128)
                event += 2
            put(out, pieces, keep, a)
            put(out, pieces + piece, keep, b)
            put(out, pieces + 2 * piece, keep, c)
            table -= back
            out += step
            at += start

    @inline
    def four(op: Any, out: int, at: int, blocks: int, table: int, none: int, bias: int, pieces: int) -> None:
        events, step, reach, back, keep, start = _run_fields(op, 4)
        for _ in range(blocks):
            event = events + 2 * load_i64(at)
            end = events + 2 * load_i64(at + reach)
            a, b, c, d = load(kind, bias), load(kind, bias + 64), load(kind, bias + 128), load(kind, bias + 192)
            while event < end:
                row = table + (load_u16(event) << 3)
                a, b = a + load(kind, row), b + load(kind, row + 64)
                c, d = c + load(kind, row + 128), d + load(kind, row + 192)
                event += 2
            put(out, pieces, keep, a)
            put(out, pieces + piece, keep, b)
            put(out, pieces + 2 * piece, keep, c)
            put(out, pieces + 3 * piece, keep, d)
            table -= back
            out += step
            at += start

    return one, two, three, four


@force_inline
def _run_fields(op: Any, vectors: int) -> Any:
    """Events, bytes of output per block, of starts per run, of table per block, add?, bytes of starts per block."""
    rows = (op[14] - 1) * op[12] + op[11]
    back = op[15] * op[12] * rows * op[8] * 16 * vectors * 64
    return op[16], op[25], 8 * ((op[15] - 1) * op[12] + op[11]), back, op[29], 8 * op[15] * op[12]


_one16, _two16, _three16, _four16 = _runs(I16X32)
_one32, _two32, _three32, _four32 = _runs(I32X16)


def _slides(kind: Any) -> tuple[Any, ...]:
    """Functions that sum a 3x3 kernel of stride 1 column by column, for 1 and 2 vectors of `kind` per output pixel (or
    two of them, one below the other).

    A spike in column c adds to the output columns c - 1, c and c + 1, all within three columns of sums that stay in
    registers: a row of the table has its weights for the three, leftmost first. After each input column one column of
    sums is complete, and another begins. So an event is read once, not three times.

    A column's events come in groups of four, the last of which, and only that, ends in the table's row of zeros
    (`_sliding_events`). The sums move on by a mask, not by a branch, for the number of a column's groups would be
    mispredicted about every other time. What is stored before the last group is overwritten by the next; the first two
    columns end left of `out`, in the margin of scratch memory.
    """
    if kind.bits == 16:

        @force_inline
        def put(out: int, first: int, second: int, sums: Any) -> None:
            store(out + first, lower_half(sums))
            store(out + second, upper_half(sums))

        @force_inline
        def take(out: int, first: int, second: int) -> Any:
            return joined(load(I16X16, out + first), load(I16X16, out + second))

    else:

        @force_inline
        def put(out: int, first: int, second: int, sums: Any) -> None:
            store(out + first, sums)

        @force_inline
        def take(out: int, first: int, second: int) -> Any:
            return load(kind, out + first)

    @inline
    def one(op: Any, out: int, end: int, table: int, none: int, bias: int, pieces: int) -> None:
        event, step, keep = op[16], op[25], op[29]
        first, second = load_i64(pieces), load_i64(pieces + 8)
        initial, zero = load(kind, bias), splat(kind, 0)
        out -= 2 * step
        a, b, c = initial, initial, initial + take(out + 2 * step, first, second) if keep else initial
        d, e, f = zero, zero, zero  # two sums of each: a chain of additions is what would take longest
        while event < end:
            four = load_i64(event)
            event += 8
            row = table + _offset(four, 0)
            a, b, c = a + load(kind, row), b + load(kind, row + 64), c + load(kind, row + 128)
            row = table + _offset(four, 16)
            d, e, f = d + load(kind, row), e + load(kind, row + 64), f + load(kind, row + 128)
            row = table + _offset(four, 32)
            a, b, c = a + load(kind, row), b + load(kind, row + 64), c + load(kind, row + 128)
            row = table + _offset(four, 48)
            d, e, f = d + load(kind, row), e + load(kind, row + 64), f + load(kind, row + 128)
            put(out, first, second, a + d)
            last = -((four >> 48 & 0xFFFF) == none)
            fresh = initial + take(out + 3 * step, first, second) if keep else initial
            a, b, c = select(last, b, a), select(last, c, b), select(last, fresh, c)
            d, e, f = select(last, e, d), select(last, f, e), select(last, zero, f)
            out += step & last

    @inline
    def two(op: Any, out: int, end: int, table: int, none: int, bias: int, pieces: int) -> None:
        event, step, keep = op[16], op[25], op[29]
        initial, initial2 = load(kind, bias), load(kind, bias + 64)
        out += load_i64(pieces) - 2 * step
        ahead = out + 2 * step
        a, b, c = initial, initial, initial + load(kind, ahead) if keep else initial
        d, e, f = initial2, initial2, initial2 + load(kind, ahead + 64) if keep else initial2
        while event < end:
            four = load_i64(event)
            event += 8
            row = table + _offset(four, 0)
            a, b, c = a + load(kind, row), b + load(kind, row + 128), c + load(kind, row + 256)
            d, e, f = d + load(kind, row + 64), e + load(kind, row + 192), f + load(kind, row + 320)
            row = table + _offset(four, 16)
            a, b, c = a + load(kind, row), b + load(kind, row + 128), c + load(kind, row + 256)
            d, e, f = d + load(kind, row + 64), e + load(kind, row + 192), f + load(kind, row + 320)
            row = table + _offset(four, 32)
            a, b, c = a + load(kind, row), b + load(kind, row + 128), c + load(kind, row + 256)
            d, e, f = d + load(kind, row + 64), e + load(kind, row + 192), f + load(kind, row + 320)
            row = table + _offset(four, 48)
            a, b, c = a + load(kind, row), b + load(kind, row + 128), c + load(kind, row + 256)
            d, e, f = d + load(kind, row + 64), e + load(kind, row + 192), f + load(kind, row + 320)
            store(out, a)
            store(out + 64, d)
            last = -((four >> 48 & 0xFFFF) == none)
            ahead = out + 3 * step
            fresh = initial + load(kind, ahead) if keep else initial
            fresh2 = initial2 + load(kind, ahead + 64) if keep else initial2
            a, b, c = select(last, b, a), select(last, c, b), select(last, fresh, c)
            d, e, f = select(last, e, d), select(last, f, e), select(last, fresh2, f)
            out += step & last

    return one, two


_slide_one16, _slide_two16 = _slides(I16X32)
_slide_one32, _slide_two32 = _slides(I32X16)


@inline
def _sliding_conv(op: Any, y: int, x: int, n: int) -> None:
    wide, vectors = op[28] != 0, op[19]
    candidates = (op[14] + 2) * op[8] * 16
    row = 3 * vectors * 64  # bytes of the table
    none = candidates * row >> 3
    for t in range(op[1]):
        end = op[16] + 2 * _events(op, t, y, x, n)
        out = _place(op, 20, y, 0) + t * op[21]
        table, bias, pieces = op[18], op[26], op[27]
        for _ in range(op[30]):
            if wide:
                if vectors == 1:
                    _slide_one32(op, out, end, table, none, bias, pieces)
                else:
                    _slide_two32(op, out, end, table, none, bias, pieces)
            elif vectors == 1:
                _slide_one16(op, out, end, table, none, bias, pieces)
            else:
                _slide_two16(op, out, end, table, none, bias, pieces)
            table += (candidates + 1) * row
            bias += vectors * 64
            pieces += vectors * (8 if wide else 16)


@inline
def _conv(op: Any, y: int, x: int, n: int) -> None:
    if op[31]:
        _sliding_conv(op, y, x, n)
        return
    blocks = (n + op[15] - 1) // op[15]
    wide, vectors = op[28] != 0, op[19]
    rows = ((op[15] - 1) * op[12] + op[11]) * ((op[14] - 1) * op[12] + op[11]) * op[8] * 16 + 1
    for t in range(op[1]):
        _events(op, t, y, x, blocks)
        out = _place(op, 20, y, 0) + t * op[21]
        table, bias, pieces = op[18], op[26], op[27]
        for _ in range(op[30]):
            none = table + (rows - 1) * vectors * 64
            if wide:
                if vectors == 1:
                    _one32(op, out, op[17], blocks, table, none, bias, pieces)
                elif vectors == 2:
                    _two32(op, out, op[17], blocks, table, none, bias, pieces)
                elif vectors == 3:
                    _three32(op, out, op[17], blocks, table, none, bias, pieces)
                else:
                    _four32(op, out, op[17], blocks, table, none, bias, pieces)
            else:
                if vectors == 1:
                    _one16(op, out, op[17], blocks, table, none, bias, pieces)
                elif vectors == 2:
                    _two16(op, out, op[17], blocks, table, none, bias, pieces)
                elif vectors == 3:
                    _three16(op, out, op[17], blocks, table, none, bias, pieces)
                else:
                    _four16(op, out, op[17], blocks, table, none, bias, pieces)
            table += rows * vectors * 64
            bias += vectors * 64
            pieces += vectors * (8 if wide else 16)


# POINT_CONV (1x1, stride 1): 1 T, 2-6 spikes, 7 words of 16 channels, 8 table [vectors, words, 4, 16 rows, 64 bytes],
# 9 vectors of output lanes, 10-14 output, 15 its bytes per pixel, 16 bias, 17 accumulators are int32, 18-22 what to add
# to (0: none)
def _points(kind: Any) -> Any:
    """Sums of one vector of output lanes at each pixel, straight from the bits.

    Each four channels have a table of what their 16 combinations of spikes add up to. A pixel has so few spikes under
    a 1x1 kernel that this costs less than a list of them, whose end is mispredicted.
    """

    @force_inline
    def of_word(table: int, bits: int) -> Any:
        low = load(kind, table + (bits << 6 & 0x3C0)) + load(kind, table + 0x400 + (bits << 2 & 0x3C0))
        return low + load(kind, table + 0x800 + (bits >> 2 & 0x3C0)) + load(kind, table + 0xC00 + (bits >> 6 & 0x3C0))

    @inline
    def points(op: Any, out: int, source: int, base: int, n: int, table: int, bias: int) -> None:
        words, step, pixel, keep = op[7], op[5], op[15], op[18]
        initial = load(kind, bias)
        if words == 2:  # the common case, without a loop over words
            for _ in range(n):
                bits = load_u32(source)
                sums = of_word(table, bits) + of_word(table + 0x1000, bits >> 16) + initial
                store(out, sums + load(kind, base) if keep else sums)
                source += step
                out += pixel
                base += pixel
            return
        for _ in range(n):
            sums = initial + load(kind, base) if keep else initial
            for w in range(words):
                sums = sums + of_word(table + 0x1000 * w, load_u16(source + 2 * w))
            store(out, sums)
            source += step
            out += pixel
            base += pixel

    return points


_points16, _points32 = _points(I16X32), _points(I32X16)


@inline
def _point_conv(op: Any, y: int, x: int, n: int) -> None:
    per_vector = op[7] * 0x1000
    for t in range(op[1]):
        source = _place(op, 2, y, x) + t * op[3]
        for v in range(op[9]):
            out = _place(op, 10, y, x) + t * op[11] + 64 * v
            base = _place(op, 18, y, x) + t * op[19] + 64 * v
            if op[17]:
                _points32(op, out, source, base, n, op[8] + v * per_vector, op[16] + 64 * v)
            else:
                _points16(op, out, source, base, n, op[8] + v * per_vector, op[16] + 64 * v)


# DENSE_CONV: 1 T, 2-6 input, 7 H, 8 W of it, 9 kernel, 10 stride, 11 padding, 12 input is int32, 13 scratch rows, 14
# channels per scratch pixel (even), 15 weights, 16 bytes per chunk of 16 output lanes, 17 chunks, 18-22 output, 23 its
# bytes per pixel, 24 bias int32, 25 output is int32
@inline
def _dense_rows(op: Any, t: int, y: int, x: int, n: int) -> None:
    """Copy the input rows under the kernel to scratch [kernel, columns, channels], zeros beyond the border."""
    kernel, stride, channels = op[9], op[10], op[14]
    pixel = channels * (4 if op[12] else 2)
    columns = (n - 1) * stride + kernel
    first = x * stride - op[11]
    left = min(max(-first, 0), columns)
    right = max(min(op[8] - first, columns), left)
    zero = splat(I16X32, 0)
    for k in range(kernel):
        row = y * stride - op[11] + k
        to = op[13] + k * columns * pixel
        # Every copy may run over by less than a vector: the next column, or row, overwrites what it left there.
        if not 0 <= row < op[7]:
            for i in range(0, columns * pixel, 64):
                store(to + i, zero)
            continue
        for i in range(0, left * pixel, 64):
            store(to + i, zero)
        to += left * pixel
        step = op[5]
        source = _place(op, 2, row, first + left) + t * op[3]
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
    if op[25]:
        store(out, value)
    else:
        store(out, narrow(value))


@inline
def _dense_conv(op: Any, y: int, x: int, n: int) -> None:
    """Multiply and add: pairs of int16 channels into int32 lanes, or int32 by int32 where the input is wide.

    Eight output pixels share each weight vector, their 16 lanes each in one accumulator.
    """
    kernel, stride, channels, wide = op[9], op[10], op[14], op[12] != 0
    size = 4 if wide else 2
    padded = (n + 7) // 8 * 8
    columns = (padded - 1) * stride + kernel
    s = stride * channels * size  # scratch bytes from output pixel to pixel
    taps = kernel * channels * size  # a kernel row's taps are contiguous: bytes
    pixel = op[23]
    # A 1x1 kernel reads its input where it lies; up to seven pixels too many, which must not leave the arena.
    direct = kernel == 1 and 8 * stride * op[5] <= DIRECT_BYTES
    if direct:
        s = stride * op[5]
    for t in range(op[1]):
        rows = op[13]
        if direct:
            rows = _place(op, 2, y * stride, x * stride) + t * op[3]
        else:
            _dense_rows(op, t, y, x, padded)
        for chunk in range(op[17]):
            initial = load(I32X16, op[24] + 64 * chunk)
            for p in range(0, padded, 8):
                a, b, c, d, e, f, g, h = initial, initial, initial, initial, initial, initial, initial, initial
                weight = op[15] + chunk * op[16]
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
                out = _place(op, 18, y, 0) + t * op[19] + p * pixel + chunk * (64 if op[25] else 32)
                _put_dense(op, out, a)
                _put_dense(op, out + pixel, b)
                _put_dense(op, out + 2 * pixel, c)
                _put_dense(op, out + 3 * pixel, d)
                _put_dense(op, out + 4 * pixel, e)
                _put_dense(op, out + 5 * pixel, f)
                _put_dense(op, out + 6 * pixel, g)
                _put_dense(op, out + 7 * pixel, h)


# Helpers of the operations on rows of numbers: 32 lanes at a time, computed in 32 bits.
@force_inline
def _take(address: int, i: int, wide: int) -> Any:
    """Elements 32 i .. 32 i + 31 of a row of int16 or int32, as 32 bits."""
    return load(I32X32, address + 128 * i) if wide else widen(load(I16X32, address + 64 * i))


@force_inline
def _put(address: int, i: int, wide: int, value: Any) -> None:
    if wide:
        store(address + 128 * i, value)
    else:
        store(address + 64 * i, narrow(value))


# ADD: 1 T, 2-6 output, 7-11 input, 12 Cp, 13 left shift of the input, 14 its upsampling factor, 15 output is int32,
# 16 input is int32, 17-21 what to add to, of the output's type (0: none)
@inline
def _add(op: Any, y: int, x: int, n: int) -> None:
    lanes, factor, wide_out, wide_in, keep = op[12], op[14], op[15], op[16], op[17]
    simple = wide_out == 0 and op[13] == 0 and keep
    for t in range(op[1]):
        out = _place(op, 2, y, x) + t * op[3]
        source = _place(op, 7, y // factor, x // factor) + t * op[8]
        base = _place(op, 17, y, x) + t * op[18]
        if factor == 1:
            count = (n * lanes + 31) // 32
            if simple and wide_in == 0:
                for i in range(count):
                    store(out + 64 * i, load(I16X32, base + 64 * i) + load(I16X32, source + 64 * i))
            else:
                shift = splat(I32X32, op[13])
                for i in range(count):
                    value = _take(source, i, wide_in) << shift
                    _put(out, i, wide_out, value + _take(base, i, wide_out) if keep else value)
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
            narrow_shift = splat(I32X16, op[13])
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


# REQUANTISE: 1 T, 2-6 output, 7-11 input, 12 Cp, 13 shift, 14 lo, 15 hi, 16 output is int32, 17 input is int32
@inline
def _requantise(op: Any, y: int, x: int, n: int) -> None:
    shift, low, high = splat(I32X32, op[13]), splat(I32X32, op[14]), splat(I32X32, op[15])
    rounding = splat(I32X32, (1 << op[13]) >> 1)
    for t in range(op[1]):
        out = _place(op, 2, y, x) + t * op[3]
        source = _place(op, 7, y, x) + t * op[8]
        for i in range((n * op[12] + 31) // 32):
            value = (_take(source, i, op[17]) + rounding) >> shift
            _put(out, i, op[16], clamp(value, low, high))


# TIME_SUM: 1 steps of the input, 2-6 output, 7-11 input, 12 Cp, 13 left shift (a static input counts T times),
# 14 output is int32, 15 input is int32
@inline
def _time_sum(op: Any, y: int, x: int, n: int) -> None:
    out, source = _place(op, 2, y, x), _place(op, 7, y, x)
    shift = splat(I32X32, op[13])
    for i in range((n * op[12] + 31) // 32):
        total = _take(source, i, op[15])
        for t in range(1, op[1]):
            total = total + _take(source + t * op[8], i, op[15])
        _put(out, i, op[14], total << shift)


# STORE: 1 T, 2-6 output, 7-11 input, 12 bytes per pixel
@inline
def _store(op: Any, y: int, x: int, n: int) -> None:
    for t in range(op[1]):
        out = _place(op, 2, y, x) + t * op[3]
        source = _place(op, 7, y, x) + t * op[8]
        for i in range(0, n * op[12], 64):
            store(out + i, load(I16X32, source + i))


# LIF: 1 T, 2-6 output (bits), 7-11 input, 12 Cp, 13 parameters, 14 vectors of 32 lanes until they repeat, 15 membrane
# is int32, 16 input is int32, 17 leak is a decay, 18 reset subtracts, 19 spike counts int32 [H, W], 20 W of these
def _neuron(kind: Any) -> Any:
    """One pass over T for vectors of 32 neurons; `kind` is the membrane's type. Parameters: threshold, bias, leak."""
    size = kind.bits // 8

    if kind.bits == 16:

        @force_inline
        def current(address: int, i: int, wide: int) -> Any:
            return load(kind, address + 64 * i)

    else:
        current = _take

    @force_inline
    def step(v: Any, drive: Any, threshold: Any, leak: Any, after: Any, decay: int, subtract: int, out: int) -> Any:
        v = (v - (v >> leak) if decay else v >> leak) + drive
        fired = at_least(v, threshold)
        store_32(out, fired)
        return select(fired, v - threshold if subtract else after, v)

    @force_inline
    def layer(op: Any, out: int, source: int, count: int, decay: int, subtract: int) -> None:
        steps, step_out, step_in, repeat, wide_in = op[1], op[3], op[8], op[14], op[16]
        zero = splat(kind, 0)
        for phase in range(repeat):
            at = op[13] + phase * 96 * size
            threshold, bias, leak = load(kind, at), load(kind, at + 32 * size), load(kind, at + 64 * size)
            for i in range(phase, count, repeat):
                v = zero
                bits, drive = out + 4 * i, source
                for _ in range(steps):
                    v = step(v, current(drive, i, wide_in) + bias, threshold, leak, zero, decay, subtract, bits)
                    bits += step_out
                    drive += step_in

    @inline
    def lif(op: Any, out: int, source: int, count: int) -> None:
        if op[17]:
            if op[18]:
                layer(op, out, source, count, 1, 1)
            else:
                layer(op, out, source, count, 1, 0)
        elif op[18]:
            layer(op, out, source, count, 0, 1)
        else:
            layer(op, out, source, count, 0, 0)

    return lif


_lif16, _lif32 = _neuron(I16X32), _neuron(I32X32)


@inline
def _lif(op: Any, y: int, x: int, n: int) -> None:
    out, source = _place(op, 2, y, x), _place(op, 7, y, x)
    count = (n * op[12] + 31) // 32
    if op[15]:
        _lif32(op, out, source, count)
    else:
        _lif16(op, out, source, count)
    counts = op[19] + 4 * (y * op[20] + x)
    steps, step, words = op[1], op[3], op[12] // 16
    if words == 2 and steps == 4:
        for p in range(n):
            early = count_ones(load_u32(out) | (load_u32(out + step) << 32))
            late = count_ones(load_u32(out + 2 * step) | (load_u32(out + 3 * step) << 32))
            store_32(counts + 4 * p, early + late)
            out += 4
        return
    for p in range(n):
        spikes = 0
        for t in range(steps):
            at = out + t * step + 2 * words * p
            for w in range(words):
                spikes += count_ones(load_u16(at + 2 * w))
        store_32(counts + 4 * p, spikes)


# COUNT: 1 spike counts int32 [H, W] of a layer, 2 W, 3 a weight for each column (int32), 4 for each row (int64), 5
# address of the weighted total (int64)
@inline
def _count(op: Any, y: int, x: int, n: int) -> None:
    row = load_i64(op[4] + 8 * y)
    if row == 0:
        return
    counts, columns = op[1] + 4 * (y * op[2] + x), op[3] + 4 * x
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
    store_64(op[5], load_i64(op[5]) + row * total)


# READOUT: 1-5 input, 6 Cp, 7 input is int32, 8 factor, 9 shift, 10-17 the picture, 18 address of the restored uint8 at
# row 0, column 0, 19 bytes from row to row, 20 column to column, 21 channel to channel, 22 first and 23 one past the
# last row to be written, 24 and 25 columns
@inline
def _readout(op: Any, y: int, x: int, n: int) -> None:
    """PixelShuffle (factor > 1), then clip(u8 + ((change + half) >> shift))."""
    source, lanes, wide, factor, shift = _place(op, 1, y, x), op[6], op[7], op[8], op[9]
    rounding = (1 << shift) >> 1
    size = 4 if wide else 2
    begin = end = 0  # pixels of the input that are done together
    if factor == 2 and lanes == 16 and _packed(op, 10) and op[20] == 3 and op[21] == 1:
        if op[22] <= 2 * y and 2 * y + 1 < op[23]:
            # Eight bytes are stored of which six count: the next pixel of this block, which comes after, overwrites
            # the others; what lies beyond the block may have to stay as it is.
            begin = min(max((op[24] + 1) // 2 - x, 0), n)
            end = max(min((op[25] - 1) // 2 - x, n - 1), begin)
        upper, lower = op[10] + 2 * y * op[11] + 6 * x, op[10] + (2 * y + 1) * op[11] + 6 * x
        to_upper, to_lower = op[18] + 2 * y * op[19] + 6 * x, op[18] + (2 * y + 1) * op[19] + 6 * x
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
            if not op[22] <= row < op[23]:
                continue
            for dx in range(factor):
                column = (x + i) * factor + dx
                if not op[24] <= column < op[25]:
                    continue
                for c in range(3):
                    at = source + (i * lanes + (c * factor + dy) * factor + dx) * size
                    value = load_i32(at) if wide else load_i16(at)
                    grey = _level(op, 10, c, row, column) + 128 + ((value + rounding) >> shift)
                    store_8(op[18] + row * op[19] + column * op[20] + c * op[21], min(max(grey, 0), 255))


@inline
def _run(records: Any, first_record: int, last_record: int, first: int, last: int, height: int, left: int, right: int,
         block: int) -> None:  # fmt: skip
    """Run records first_record .. last_record - 1 over rows first .. last - 1 and columns left .. right - 1, `block` of
    these at a time. `left` is even, and so is `right` unless it is the row's end: 32 lanes are written at once.

    `height` rows (1, or 2 with `first` even) go through the records together: a CONV computes both at once if its
    blocks are two rows high; the others take them one by one.
    """
    for top in range(first, last, height):
        for x in range(left, right, block):
            n = min(block, right - x)
            for i in range(first_record, last_record):
                op = records[i]
                kind = op[0]
                if kind == CONV and op[14] == 2:
                    _conv(op, top, x, n)
                    continue
                for y in range(top, min(top + height, last)):
                    if kind == CONV:
                        _conv(op, y, x, n)
                    elif kind == POINT_CONV:
                        _point_conv(op, y, x, n)
                    elif kind == LIF:
                        _lif(op, y, x, n)
                    elif kind == ADD:
                        _add(op, y, x, n)
                    elif kind == STORE:
                        _store(op, y, x, n)
                    elif kind == DENSE_CONV:
                        _dense_conv(op, y, x, n)
                    elif kind == REQUANTISE:
                        _requantise(op, y, x, n)
                    elif kind == TIME_SUM:
                        _time_sum(op, y, x, n)
                    elif kind == COUNT:
                        _count(op, y, x, n)
                    elif kind == PIXELS:
                        _pixels(op, y, x, n)
                    elif kind == READOUT:
                        _readout(op, y, x, n)


@inline
def _groups(task: Any) -> Any:
    """How many times `height` rows a task has."""
    return (task[3] - task[2] + task[4] - 1) // task[4]


@inline
def _wait_for(done: int, count: int) -> None:
    patience = PATIENCE
    while load_atomic(done) < count:
        wait_a_moment()
        patience -= 1
        if patience < 0:  # somebody else may need this processor
            yield_processor()


@inline
def _share(records: Any, tasks: Any, thread: int, threads: int, done: int, claimed: int, stay: bool) -> None:
    """Work on tasks together with other threads, until every share is claimed, or done if `stay`.

    A task is cut into shares, which are claimed once all shares of the tasks before it are done. A thread takes those
    of its own part of the rows first, for what it wrote in the last task is in its processor's cache, and then what
    others have not begun. One that waits holds no share, so one that gets no processor (or starts late, or never) holds
    nobody up. `done` is the address of the number of shares done, `claimed` of a word of bits for each task; all are 0
    at first.
    """
    first = 0  # shares of the tasks before
    for i in range(tasks.shape[0]):
        task = tasks[i]
        groups, height = _groups(task), task[4]
        shares = min(groups, SHARES * threads, MOST_SHARES)
        if i > 0:
            _wait_for(done, first)
        own = thread * shares // threads
        for k in range(shares):
            share = (own + k) % shares
            if not claim(claimed + 8 * i, 1 << share):
                continue
            begin = task[2] + groups * share // shares * height
            end = min(task[2] + groups * (share + 1) // shares * height, task[3])
            _run(records, task[0], task[1], begin, end, height, task[5], task[6], task[7])
            add_atomic(done, 1)
        first += shares
    if stay:
        _wait_for(done, first)


def build(sources: str) -> Any:
    """`run_tasks(records, tasks, thread, threads, counters)`, not yet compiled.

    `sources` (a hash of the engine's files) becomes part of the compiled function's key in Numba's cache on disk, which
    otherwise looks at the file of the outermost function only.
    """

    def run_tasks(records: Any, tasks: Any, thread: int, threads: int, counters: int) -> None:
        """Run `tasks` (int64 [n, TASK_FIELDS]: first and last record, first and last row, height, first and
        last column, block) in order, thread 0 until all of it is done, others as long as there is something to begin.

        records: the thread's own (int64 [m, FIELDS]), alike but for the addresses of scratch memory. counters: address
        of 16 int64 and one for each task, 0 at first, common to the threads.
        """
        if sources == "":
            return
        if threads > 1:
            _share(records, tasks, thread, threads, counters, counters + 128, thread == 0)
            return
        for i in range(tasks.shape[0]):
            task = tasks[i]
            _run(records, task[0], task[1], task[2], task[3], task[4], task[5], task[6], task[7])

    return run_tasks
