"""The compiled bookkeeping of video: which positions changed, which must be computed anew, and what came of it.

What changed is a map of bits per value, int64 words [h, ceil(w / 64)], 1 where it differs from the frame before; all
maps lie in one array `bits`, and `alive` says of each whether it holds a one in this frame (if not, it holds anything).
Tables of maps, of what reads them and of neurons are rows of `records.py`. Positions to compute become tasks.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from simulator.engine.compiling import compile_kernel
from simulator.engine.kernels.neurons import count_positions
from simulator.engine.kernels.places import inline
from simulator.engine.records import MAP, NEURONS, READING, SUM, TASK
from simulator.engine.vectors import count_ones

GAP = 8  # columns: runs of changed positions that lie closer are computed as one
COUNTED = 16  # positions whose spikes are counted at once
CELL = 16  # pixels, a divisor of 64: side of the squares in which changes of the picture are counted


@inline
def _next(bits: Any, row: int, x: int, end: int, inverted: int) -> Any:
    """The first column from `x` on whose bit is one (`inverted` 0) or zero (-1), in the row that starts at word `row`;
    `end` if there is none before."""
    if x >= end:
        return end
    word = x >> 6
    found = (bits[row + word] ^ inverted) & (-1 << (x & 63))
    while found == 0:
        word += 1
        if word << 6 >= end:
            return end
        found = bits[row + word] ^ inverted
    return min((word << 6) + count_ones((found & -found) - 1), end)


@inline
def _fill(bits: Any, row: int, begin: int, end: int) -> None:
    """Ones in the columns begin .. end - 1, at least one."""
    first, last = begin >> 6, (end - 1) >> 6
    for word in range(first, last + 1):
        mask = -1
        if word == first:
            mask &= -1 << (begin & 63)
        if word == last and end & 63:
            mask &= (1 << (end & 63)) - 1
        bits[row + word] |= mask


def _find_changes(frame: Any, used: Any, still: int, rows: int, columns: int, bits: Any, cells: Any) -> int:
    """Take over the pixels of `frame` [h, w, 3] that differ from `used` by more than `still` grey levels.

    They go into `used` and are marked in the map that `bits` starts with, of `rows` x `columns` positions: what lies
    right of the frame or below it repeats the last ones. `cells` [ceil(rows / CELL) + 2, ceil(columns / CELL) + 2] gets
    ones around those that hold a change. Returns how many pixels of the frame changed.
    """
    height, width = frame.shape[:2]
    words = (columns + 63) // 64
    cells[:] = 0
    over = np.empty(3 * CELL, np.uint8)  # channels that differ by more
    total = 0
    for y in range(rows):
        for i in range(words):
            bits[y * words + i] = 0
        if y >= height:  # below the picture: as its last row
            for i in range(words):
                bits[y * words + i] = bits[(height - 1) * words + i]
            continue
        new, old = frame[y].reshape(3 * width), used[y].reshape(3 * width)
        differs = numba.uint8(0)
        for i in range(3 * width):
            differs |= new[i] ^ old[i]
        if differs == 0:
            continue
        for cell in range((width + CELL - 1) // CELL):
            first, count = cell * CELL, min(CELL, width - cell * CELL)
            mine, theirs = old[3 * first : 3 * (first + count)], new[3 * first : 3 * (first + count)]
            for i in range(3 * count):
                over[i] = max(mine[i], theirs[i]) - min(mine[i], theirs[i]) > still
            taken = 0
            for x in range(count):
                taken |= numba.int64(over[3 * x] | over[3 * x + 1] | over[3 * x + 2]) << x
            if taken == 0:
                continue
            total += count_ones(taken)
            bits[y * words + first // 64] |= taken << first % 64
            cells[y // CELL : y // CELL + 3, cell : cell + 3] = 1
            for x in range(count):
                if taken >> x & 1:
                    for i in range(3 * x, 3 * x + 3):
                        mine[i] = theirs[i]
        if width < columns and bits[y * words + (width - 1) // 64] >> (width - 1) % 64 & 1:
            _fill(bits, y * words, width, columns)
    return total


def _mark(bits: Any, alive: Any, reads: Any, target: Any, template: Any, neurons: Any, tasks: Any) -> tuple[int, int]:
    """Mark the positions of a pass that read a changed one, and list tasks that cover them.

    reads: rows of `records.Reading`. target: the map of the positions to compute. template: a task for the whole pass.
    neurons: rows of `records.Neurons`, whose maps are cleared for `compare`.
    Returns the number of tasks and of positions in them: runs are rounded outwards to even columns and joined across
    small gaps, and rows that are computed together go together.
    """
    index, first, words, width = target[MAP.number], target[MAP.first], target[MAP.words], target[MAP.columns]
    rows, height = template[TASK.end_row], template[TASK.height]
    bits[first : first + rows * words] = 0
    for n in range(neurons.shape[0]):
        layer = neurons[n]
        spikes = layer[NEURONS.map + MAP.first]
        bits[spikes : spikes + layer[NEURONS.rows] * layer[NEURONS.map + MAP.words]] = 0
        alive[layer[NEURONS.map + MAP.number]] = 0
    # Rows that any changed row reaches: the others are not looked at.
    begin_row, end_row = rows, 0
    for r in range(reads.shape[0]):
        read = reads[r]
        if not alive[read[READING.map + MAP.number]]:
            continue
        source, source_words = read[READING.map + MAP.first], read[READING.map + MAP.words]
        source_rows, kernel, stride = read[READING.rows], read[READING.kernel], read[READING.stride]
        padding, factor = read[READING.padding], read[READING.factor]
        changed = bits[source : source + source_rows * source_words]
        above, below = 0, len(changed)
        while above < below and changed[above] == 0:
            above += 1
        while below > above and changed[below - 1] == 0:
            below -= 1
        above, below = above // source_words, (below - 1) // source_words
        begin_row = min(begin_row, above * factor if factor > 1 else (above + padding - kernel + stride) // stride)
        end_row = max(end_row, (below + 1) * factor if factor > 1 else (below + padding) // stride + 1)
    begin_row, end_row = max(begin_row, 0) // height * height, min(end_row, rows)
    count = positions = 0
    for top in range(begin_row, end_row, height):
        bottom = min(top + height, rows)
        for y in range(top, bottom):
            row = first + y * words
            for r in range(reads.shape[0]):
                read = reads[r]
                if not alive[read[READING.map + MAP.number]]:
                    continue
                source, source_words = read[READING.map + MAP.first], read[READING.map + MAP.words]
                source_width, source_rows = read[READING.map + MAP.columns], read[READING.rows]
                kernel, stride = read[READING.kernel], read[READING.stride]
                padding, factor = read[READING.padding], read[READING.factor]
                above = max(0, y * stride - padding) // factor
                below = min(source_rows, (y * stride - padding + kernel - 1) // factor + 1)
                for source_y in range(above, below):
                    source_row = source + source_y * source_words
                    left = _next(bits, source_row, 0, source_width, 0)
                    while left < source_width:
                        right = _next(bits, source_row, left, source_width, -1)
                        # Outputs whose x * stride - padding .. + kernel - 1 (or x // factor) meet left .. right.
                        begin = left * factor if factor > 1 else max(0, (left + padding - kernel + stride) // stride)
                        end = min(width, right * factor if factor > 1 else (right - 1 + padding) // stride + 1)
                        if begin < end:
                            _fill(bits, row, begin, end)
                        left = _next(bits, source_row, right, source_width, 0)
        left = width
        for y in range(top, bottom):
            left = min(left, _next(bits, first + y * words, 0, width, 0))
        while left < width:
            right = left
            following = left
            while following < width and following - right < GAP:
                for y in range(top, bottom):
                    if bits[first + y * words + (following >> 6)] >> (following & 63) & 1:
                        right = max(right, _next(bits, first + y * words, following, width, -1))
                following = width
                for y in range(top, bottom):
                    following = min(following, _next(bits, first + y * words, right, width, 0))
            task = tasks[count]
            task[:] = template
            task[TASK.first_row] = top
            task[TASK.end_row] = bottom
            task[TASK.first_column] = left & ~1
            task[TASK.end_column] = min((right + 1) & ~1, width)
            positions += (task[TASK.end_column] - task[TASK.first_column]) * (bottom - top)
            count += 1
            left = following
    alive[index] = count > 0
    return count, positions


def _save(
    tasks: Any, neurons: Any, words: Any, counts: Any, old_words: Any, sums: Any, taps: Any, totals: Any
) -> None:  # fmt: skip
    """Copy the spikes that the tasks are about to overwrite, one row of a task after another, and take what they count
    for off the totals, to which the new ones will be added. counts: room for those of a row, and COUNTED."""
    for n in range(neurons.shape[0]):
        layer = neurons[n]
        base = layer[NEURONS.first]
        step, row = layer[NEURONS.step], layer[NEURONS.row]
        size, steps = layer[NEURONS.position], layer[NEURONS.steps]
        to = 0
        for k in range(tasks.shape[0]):
            task = tasks[k]
            left, width = task[TASK.first_column], task[TASK.end_column] - task[TASK.first_column]
            spikes = counts[:width]
            for y in range(task[TASK.first_row], task[TASK.end_row]):
                at = base + y * row + left * size
                several = -(-width // COUNTED) * COUNTED
                count_positions(counts.ctypes.data, words.ctypes.data + 2 * at, steps, 2 * step, size, several)
                for _ in range(steps):
                    # Views: an index that counts up from 0 is known not to count from the end, which would be slow.
                    old, new = old_words[n, to : to + width * size], words[at : at + width * size]
                    for i in range(width * size):
                        old[i] = new[i]
                    to += width * size
                    at += step
                for s in range(layer[NEURONS.first_sum], layer[NEURONS.end_sum]):
                    by_row = taps[sums[s, SUM.rows] + y]
                    if by_row:
                        by_column = taps[sums[s, SUM.columns] + left : sums[s, SUM.columns] + left + width]
                        total = 0
                        for x in range(width):
                            total += spikes[x] * by_column[x]
                        totals[sums[s, SUM.total]] -= total * by_row


def _compare(
    tasks: Any, neurons: Any, words: Any, old_words: Any, differences: Any, bits: Any, alive: Any
) -> None:  # fmt: skip
    """Mark the positions whose spikes are others than those saved, in maps that `mark` cleared. differences: room for
    a row."""
    for n in range(neurons.shape[0]):
        layer = neurons[n]
        index, first = layer[NEURONS.map + MAP.number], layer[NEURONS.map + MAP.first]
        row_words = layer[NEURONS.map + MAP.words]
        base, step, row = layer[NEURONS.first], layer[NEURONS.step], layer[NEURONS.row]
        size, steps = layer[NEURONS.position], layer[NEURONS.steps]
        at_old = 0
        for k in range(tasks.shape[0]):
            task = tasks[k]
            left, width = task[TASK.first_column], task[TASK.end_column] - task[TASK.first_column]
            differs = differences[: width * size]
            for y in range(task[TASK.first_row], task[TASK.end_row]):
                some = numba.uint16(0)
                differs[:] = 0
                for t in range(steps):
                    at = base + t * step + y * row + left * size
                    old, new = old_words[n, at_old : at_old + width * size], words[at : at + width * size]
                    for i in range(width * size):
                        differs[i] |= old[i] ^ new[i]
                    at_old += width * size
                for i in range(width * size):
                    some |= differs[i]
                if some == 0:
                    continue
                alive[index] = 1
                for x in range(width):
                    some = differs[x * size]
                    for i in range(x * size + 1, x * size + size):
                        some |= differs[i]
                    at = left + x
                    bits[first + y * row_words + (at >> 6)] |= numba.int64(some != 0) << (at & 63)


# Compiled, or loaded, with this module: only video imports it.
find_changes = compile_kernel(
    _find_changes, "int64(uint8[:,:,::1], uint8[:,:,::1], int64, int64, int64, int64[::1], uint8[:,::1])"
)
mark = compile_kernel(
    _mark,
    "UniTuple(int64, 2)(int64[::1], uint8[::1], int64[:,::1], int64[::1], int64[::1], int64[:,::1], int64[:,::1])",
)
save = compile_kernel(
    _save,
    "void(int64[:,::1], int64[:,::1], uint16[::1], int32[::1], uint16[:,::1], int64[:,::1], int64[::1], int64[::1])",
)
compare = compile_kernel(
    _compare, "void(int64[:,::1], int64[:,::1], uint16[::1], uint16[:,::1], uint16[::1], int64[::1], uint8[::1])"
)
