"""What compiled kernels read, by name: records of row operations, tasks, and video's tables of what changed.

Everything here becomes rows of int64. The fields of a row are those of a NamedTuple, in that order. To write a row is
to make the tuple (`Task(first_record=..., ...)`, so no field is left out, given twice or unknown); to read one is to
index it with the table of positions that is made of the same class (`task[TASK.height]`). Numba takes these tables for
constants: a named field costs what a number would. A field may be a tuple itself; then its position is that of the
first of its fields, and `op[CONV.out + PLACE.step]` is one of them.

A new row operation is a class here and its table; a function in `kernels/` and a branch in `kernels/loop.py`; a method
of `writer.Writer` that makes its record; and, where it computes a kind of node, that kind in `plan.ROW_KINDS`.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any, NamedTuple, TypeAlias, get_type_hints

FIELDS = 40  # int64 per record of a row operation
OPERATION = 0  # the field that says which

# What both sides keep to: kernels write so far beyond what they were asked for, and there must be room for it.
SLACK = 512  # bytes: vectors may run over the end of anything by less than this
OVERRUN = 32  # pixels beyond a block of columns that an operation may compute in scratch memory
MARGIN = 2  # and to the left of it
ROOM = 4  # events that may fill up a column of a list
TABLE_VECTORS = 4  # widest row of a weight table, in vectors of 64 bytes
MOST_CHANGE = 1 << 14  # grey levels: a larger change is clipped in any case
COUNTERS = 16  # int64 of which threads that share tasks use the first; then come those of claims, one for each task

# A number that is known when the record is written, or something that `writer.Writer` turns into one: an array (its
# address), a part of a thread's scratch memory, or what is known only when a picture is given.
Number: TypeAlias = Any


def positions(row: Any, first: int = 0, **more: int) -> Any:
    """A row's table of positions: a tuple of the same fields (and of `more`, whose values are given), where each is."""
    places = {**more}
    for name, size in zip(row._fields, widths(row), strict=True):
        places[name] = first
        first += size
    return namedtuple(row.__name__, places)(**places)


def width(kind: Any) -> int:
    """Numbers that a field of that type takes, or a row."""
    return sum(widths(kind)) if hasattr(kind, "_fields") else 1


@functools.cache
def widths(row: Any) -> tuple[int, ...]:
    """Numbers that each field of a row takes."""
    return tuple(map(width, get_type_hints(row).values()))


def numbers(row: Any) -> list[int]:
    """The fields of a row one after another, those of its tuples in their place."""
    return [number for field in row for number in (numbers(field) if isinstance(field, tuple) else (int(field),))]


class Place(NamedTuple):
    """Where a value lies. Static values have 0 bytes from step to step; scratch memory holds one block of columns and
    has 0 from column to column."""

    address: Number  # of step 0, row 0, column 0
    step: int  # bytes from time step to step
    row: int  # from row to row
    column: int  # from column to column
    mask: int  # for row numbers. -1: all rows are kept; 2^k - 1: a ring of the last 2^k rows


class Picture(NamedTuple):
    """Grey levels to read. The last row and column there are are repeated beyond."""

    address: Number  # of row 0, column 0, channel 0
    row: int  # bytes from row to row
    column: int  # from column to column
    channel: int  # from channel to channel
    level: int  # bytes per level. 1: uint8; 2: int16
    middle: int  # what to subtract from a level to get level - 128
    last_row: int
    last_column: int


class Restored(NamedTuple):
    """Grey levels (uint8) to write."""

    address: Number  # of row 0, column 0, channel 0
    row: int  # bytes from row to row
    column: int  # from column to column
    channel: int  # from channel to channel
    first_row: int  # of those that are to be written, and one past the last
    end_row: int
    first_column: int
    end_column: int


PLACE, PICTURE, RESTORED = positions(Place), positions(Picture), positions(Restored)

OPERATIONS: dict[type, int] = {}  # the class of each row operation -> its number


def _operation(row: type) -> Any:
    """Number a row operation; its table of positions, in which `operation` is that number."""
    OPERATIONS[row] = len(OPERATIONS) + 1
    if width(row) >= FIELDS:
        raise AssertionError(f"{row.__name__} has {width(row)} fields; {FIELDS - 1} fit a record")
    return positions(row, OPERATION + 1, operation=OPERATIONS[row])


# In all of them: steps, how often to do it, T or 1 (of the output, where there is one); wide, whether the output (or
# what sums are kept in) is int32 and not int16; wide_source, the same for the input; lanes, channels rounded up to 16.


class Pixels(NamedTuple):
    """Space-to-depth of the picture."""

    out: Place  # int16
    factor: int
    lanes: int
    picture: Picture


class Conv(NamedTuple):
    """Sums of the weights of spikes, from lists of events (`tables.SpikeTable`)."""

    steps: int
    planes: int  # of the input, that enter one sum: 1, or T where neurons integrate before they fire
    plane: int  # bytes from one of them to the next
    together: int  # of these planes, whose spikes of a neuron are one event
    spikes: Place  # from the first word of this table on
    zeros: int  # address of a row of zeros
    words: int  # of 16 channels, in this table
    height: int  # of the input, and its width
    width: int
    kernel: int
    stride: int
    padding: int
    rows: int  # of a block of output pixels that share one run of events, and its columns
    columns: int
    events: Number  # scratch memory for the list
    starts: Number  # and for where the columns' events start
    table: Number
    vectors: int  # of output lanes in each of the table's chunks
    out: Place
    block: int  # bytes of the output from block to block
    bias: Number
    pieces: Number  # where each piece of 16 lanes goes
    wide: int
    adds: int  # whether to add to what is there
    chunks: int
    slides: int  # columns of sums that slide along (0: blocks; else `columns` is 1)
    most: int  # events, a multiple of four, whose weights add up in int16 before the sums are widened


class PointConv(NamedTuple):
    """The same under a 1x1 kernel of stride 1, from a table of what combinations add up to (`tables.PointTable`)."""

    steps: int
    planes: int  # as in `Conv`
    plane: int
    spikes: Place
    words: int
    table: Number
    vectors: int  # of output lanes
    out: Place
    pixel: int  # bytes of the output from pixel to pixel
    bias: Number
    wide: int
    base: Place  # what to add to (address 0: nothing)


class DenseConv(NamedTuple):
    """clip(sums >> shift, low, high): a real-valued convolution (`tables.DenseTable`) and the rounding after it."""

    steps: int
    source: Place
    factor: int  # 0; or of the space-to-depth of the picture, which is the input
    picture: Picture
    height: int  # of the input, and its width
    width: int
    kernel: int
    stride: int
    padding: int
    wide_source: int
    rows: Number  # scratch memory for the addresses of rows under the kernel
    strip: Number  # and for their columns, at the border and of the picture
    sums: Number  # and for sums
    taps: int  # bytes of a pixel's channels
    weight: Number
    chunks: int  # of 16 output lanes
    out: Place
    pixel: int  # bytes of the output from pixel to pixel
    bias: Number  # int32, with half of what the shift rounds to
    wide: int
    shift: int
    low: int
    high: int


class Winograd(NamedTuple):
    """The same for a 3x3 kernel of stride 1, two rows at a time (`tables.WinogradTable`)."""

    steps: int
    source: Place
    factor: int  # as in `DenseConv`
    picture: Picture
    height: int
    width: int
    padding: int
    strip: Number  # scratch memory for columns at the border and of the picture
    inputs: Number  # and for combined inputs
    products: Number  # and for products
    pairs: int  # of channels
    weight: Number
    vectors: int  # of 16 output lanes in each chunk
    chunks: int
    out: Place
    pixel: int
    bias: Number  # zeros and the bias, of each chunk
    wide: int
    shift: int
    low: int
    high: int


class Add(NamedTuple):
    """out = base + (source << shift)."""

    steps: int
    out: Place
    source: Place
    lanes: int
    shift: int
    factor: int  # by which the source is enlarged by repetition
    wide: int
    wide_source: int
    base: Place  # of the output's type (address 0: nothing)


class Requantise(NamedTuple):
    """out = clip((source + 2^(shift - 1)) >> shift, low, high)."""

    steps: int
    out: Place
    source: Place
    lanes: int
    shift: int
    low: int
    high: int
    wide: int
    wide_source: int


class TimeSum(NamedTuple):
    """The sum over the steps of the input, << shift (a static input counts T times)."""

    steps: int  # of the input
    out: Place
    source: Place
    lanes: int
    shift: int
    wide: int
    wide_source: int


class Store(NamedTuple):
    """A row of scratch memory to where it is kept."""

    steps: int
    out: Place
    source: Place
    pixel: int  # bytes


class Lif(NamedTuple):
    """Leaky integrate-and-fire neurons (`tables.NeuronTable`)."""

    steps: int
    out: Place  # bits
    source: Place
    lanes: int
    parameters: Number
    repeat: int  # vectors of 32 lanes until the parameters repeat
    wide: int  # the membrane
    wide_source: int
    fine: int  # binary digits that the membrane, where it is wide, has below its input
    decay: int  # whether the leak is v - (v >> k), and not v >> k
    subtract: int  # whether a spike subtracts the threshold, and not all
    counts: Number  # spikes per position, int32 [H, W]
    width: int  # W of these


class Window(NamedTuple):
    """Neurons that integrate before they fire (`tables.NeuronTable`, without leaks)."""

    steps: int  # T, planes of the output
    terms: int  # steps of the input
    out: Place  # bits
    source: Place
    lanes: int
    parameters: Number
    repeat: int  # vectors of 32 lanes until the parameters repeat
    wide: int  # the membrane
    wide_source: int
    counts: Number  # spikes per position, int32 [H, W]
    width: int  # W of these


class Count(NamedTuple):
    """Add what the spikes of a layer count for."""

    counts: Number  # as in `Lif` and `Window`
    width: int
    columns: Number  # a weight for each column, int32
    rows: Number  # and for each row, int64
    total: Number  # address of the sum, int64


class Readout(NamedTuple):
    """PixelShuffle (factor > 1), then clip(level + ((source + half) >> shift))."""

    source: Place
    lanes: int
    wide_source: int
    factor: int
    shift: int
    picture: Picture
    restored: Restored


PIXELS, CONV, POINT_CONV, DENSE_CONV = (_operation(row) for row in (Pixels, Conv, PointConv, DenseConv))
ADD, REQUANTISE, TIME_SUM, STORE = (_operation(row) for row in (Add, Requantise, TimeSum, Store))
LIF, WINDOW, COUNT, READOUT, WINOGRAD = (_operation(row) for row in (Lif, Window, Count, Readout, Winograd))


class Task(NamedTuple):
    """Run some records over a part of a picture."""

    first_record: int
    end_record: int
    first_row: int
    end_row: int
    height: int  # rows that go through the records together, 1 or 2
    first_column: int
    end_column: int
    block: int  # columns that do


TASK = positions(Task)
TASK_FIELDS = width(Task)

# Tables of `changes.py`.


class Map(NamedTuple):
    """A map of bits."""

    number: int  # among the maps
    first: int  # word
    words: int  # per row
    columns: int


class Reading(NamedTuple):
    """A stored value that a pass reads, as `layout.Read` has it."""

    map: Map
    rows: int
    kernel: int
    stride: int
    padding: int
    factor: int


class Neurons(NamedTuple):
    """A layer of neurons whose spikes a pass computes. Words are of 16 bits."""

    map: Map  # of the positions whose spikes changed
    rows: int
    first: int  # word of its spikes
    step: int  # words from step to step
    row: int  # from row to row
    position: int  # from position to position
    steps: int
    first_sum: int  # of the sums that it counts for, and one past the last
    end_sum: int


class Sum(NamedTuple):
    """A weighted sum of spike counts."""

    rows: int  # first of the weights for rows, and for columns
    columns: int
    total: int  # its place among the totals


MAP, READING, NEURONS, SUM = (positions(row) for row in (Map, Reading, Neurons, Sum))
