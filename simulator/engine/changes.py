"""The compiled bookkeeping of video: which positions changed, which must be computed anew, and what came of it.

What changed is a map of bits per value, int64 words [h, ceil(w / 64)], 1 where it differs from the frame before; all
maps lie in one array `bits`, and `alive` says of each whether it holds a one in this frame (if not, it holds anything).
A map is known by four numbers: its index in `alive`, its first word, its words per row, and its columns. Positions to
compute become tasks of `kernels.run_tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from simulator.engine.vectors import count_ones

GAP = 8  # columns: runs of changed positions that lie closer are computed as one
CELL = 16  # pixels, a divisor of 64: side of the squares in which changes of the picture are counted


def _kernel(signature: str) -> Callable[[Any], Any]:
    """Compile a function now, or load it from the cache on disk; without a cache where no folder is writable."""

    def compile_function(function: Any) -> Any:
        try:
            return numba.njit(signature, nogil=True, cache=True)(function)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
                raise
            return numba.njit(signature, nogil=True)(function)

    return compile_function


_inline = numba.njit(nogil=True)


@_inline
def _next(bits: Any, row: int, x: int, end: int, inverted: int) -> int:
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


@_inline
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


@_kernel("int64(uint8[:,:,::1], uint8[:,:,::1], int64, int16[:,:,::1], int64[::1], uint8[:,::1])")
def find_changes(frame: Any, used: Any, still: int, pixels: Any, bits: Any, cells: Any) -> int:
    """Take over the pixels of `frame` [h, w, 3] that differ from `used` by more than `still` grey levels.

    They go into `used` and `pixels` (int16 [3, H, W], u8 - 128, replicated right and below) and are marked in the map
    that `bits` starts with. `cells` [ceil(H / CELL) + 2, ceil(W / CELL) + 2] gets ones around those that hold a
    change. Returns how many pixels of h x w changed.
    """
    height, width = frame.shape[:2]
    rows, columns = pixels.shape[1:]
    words = (columns + 63) // 64
    cells[:] = 0
    total = 0
    for y in range(rows):
        for i in range(words):
            bits[y * words + i] = 0
        if y >= height:  # below the picture: as its last row
            for i in range(words):
                bits[y * words + i] = bits[(height - 1) * words + i]
            pixels[:, y] = pixels[:, height - 1]
            continue
        new, old = frame[y].reshape(3 * width), used[y].reshape(3 * width)
        differs = numba.uint8(0)
        for i in range(3 * width):
            differs |= new[i] ^ old[i]
        if differs == 0:
            continue
        for cell in range((width + CELL - 1) // CELL):
            first = cell * CELL
            taken = 0
            for x in range(min(CELL, width - first)):
                most = 0
                for i in range(3 * (first + x), 3 * (first + x) + 3):
                    most = max(most, abs(numba.int64(new[i]) - numba.int64(old[i])))
                taken |= numba.int64(most > still) << x
            if taken == 0:
                continue
            total += count_ones(taken)
            bits[y * words + first // 64] |= taken << first % 64
            cells[y // CELL : y // CELL + 3, cell : cell + 3] = 1
            for x in range(min(CELL, width - first)):
                if taken >> x & 1:
                    for c in range(3):
                        old[3 * (first + x) + c] = new[3 * (first + x) + c]
                        pixels[c, y, first + x] = numba.int16(new[3 * (first + x) + c]) - 128
        if width < columns and bits[y * words + (width - 1) // 64] >> (width - 1) % 64 & 1:
            _fill(bits, y * words, width, columns)
            for c in range(3):
                pixels[c, y, width:] = pixels[c, y, width - 1]
    return total


# reads int64 [n, 9]: index, first word, words per row and columns of the source's map, its rows, and kernel, stride,
# padding and factor of `plan.Read`. target: the map of the positions to compute. template: a task for the whole pass.
@_kernel("UniTuple(int64, 2)(int64[::1], uint8[::1], int64[:,::1], int64[::1], int64[::1], int64[:,::1])")
def mark(bits: Any, alive: Any, reads: Any, target: Any, template: Any, tasks: Any) -> tuple[int, int]:
    """Mark the positions of a pass that read a changed one, and list tasks that cover them.

    Returns the number of tasks and of positions in them: runs are rounded outwards to even columns and joined across
    small gaps, and rows that are computed together go together.
    """
    index, first, words, width = target[0], target[1], target[2], target[3]
    rows, height = template[3], template[4]
    count = positions = 0
    for top in range(0, rows, height):
        bottom = min(top + height, rows)
        for y in range(top, bottom):
            row = first + y * words
            for i in range(words):
                bits[row + i] = 0
            for r in range(reads.shape[0]):
                if not alive[reads[r, 0]]:
                    continue
                source, source_words, source_width, source_rows = reads[r, 1], reads[r, 2], reads[r, 3], reads[r, 4]
                kernel, stride, padding, factor = reads[r, 5], reads[r, 6], reads[r, 7], reads[r, 8]
                above = max(0, y * stride - padding) // factor
                below = min(source_rows, (y * stride - padding + kernel - 1) // factor + 1)
                for source_y in range(above, below):
                    source_row = source + source_y * source_words
                    left = _next(bits, source_row, 0, source_width, 0)
                    while left < source_width:
                        right = _next(bits, source_row, left, source_width, -1)
                        # Outputs whose columns x * stride - padding .. + kernel - 1 (or x // factor) meet left .. right.
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
            task[2], task[3], task[5], task[6] = top, bottom, left & ~1, min((right + 1) & ~1, width)
            positions += (task[6] - task[5]) * (bottom - top)
            count += 1
            left = following
    alive[index] = count > 0
    return count, positions


@_inline
def _parts(one: Any, first: int, other: Any, other_first: int, length: int) -> Any:
    """Views of `length` elements: an index that counts up from 0 cannot be one that counts from the end, and loops
    over it become vector instructions."""
    return one[first : first + length], other[other_first : other_first + length]


# neurons int64 [n, 13]: 0-3 map of the layer's spikes, 4 its rows, 5 first word of its spikes in `words`, words from 6
# step to step, 7 row to row and 8 position to position, 9 T, 10 first entry in `counts`, 11 and 12 first row of
# `weights` and the one after the last. One pass may have several.
@_kernel("void(int64[:,::1], int64[:,::1], uint16[::1], int32[::1], uint16[:,::1], int32[:,::1])")
def save(tasks: Any, neurons: Any, words: Any, counts: Any, old_words: Any, old_counts: Any) -> None:
    """Copy the spikes that the tasks are about to overwrite, one row of a task after another."""
    for n in range(neurons.shape[0]):
        columns, base, step, row = neurons[n, 3], neurons[n, 5], neurons[n, 6], neurons[n, 7]
        size, steps, count = neurons[n, 8], neurons[n, 9], neurons[n, 10]
        to = to_count = 0
        for k in range(tasks.shape[0]):
            left, width = tasks[k, 5], tasks[k, 6] - tasks[k, 5]
            for y in range(tasks[k, 2], tasks[k, 3]):
                for t in range(steps):
                    at = base + t * step + y * row + left * size
                    old, new = _parts(old_words[n], to, words, at, width * size)
                    for i in range(width * size):
                        old[i] = new[i]
                    to += width * size
                old_count, new_count = _parts(old_counts[n], to_count, counts, count + y * columns + left, width)
                for i in range(width):
                    old_count[i] = new_count[i]
                to_count += width


# weights int64 [m, 3]: first entry of a factor per row and of one per column in `taps`, and the total that the number
# of spikes times both adds to.
@_kernel(
    "void(int64[:,::1], int64[:,::1], uint16[::1], int32[::1], uint16[:,::1], int32[:,::1], uint16[::1], int64[::1], "
    "uint8[::1], int64[:,::1], int64[::1], int64[::1])"
)
def compare(
    tasks: Any, neurons: Any, words: Any, counts: Any, old_words: Any, old_counts: Any, differences: Any, bits: Any,
    alive: Any, weights: Any, taps: Any, totals: Any,
) -> None:  # fmt: skip
    """Mark the positions whose spikes are others than those saved, and bring the totals up to date.

    differences: room for a row.
    """
    for n in range(neurons.shape[0]):
        index, first, row_words, columns = neurons[n, 0], neurons[n, 1], neurons[n, 2], neurons[n, 3]
        rows, base, step, row = neurons[n, 4], neurons[n, 5], neurons[n, 6], neurons[n, 7]
        size, steps, count = neurons[n, 8], neurons[n, 9], neurons[n, 10]
        bits[first : first + rows * row_words] = 0
        alive[index] = 0
        at_old = at_count = 0
        for k in range(tasks.shape[0]):
            left, width = tasks[k, 5], tasks[k, 6] - tasks[k, 5]
            for y in range(tasks[k, 2], tasks[k, 3]):
                some = numba.uint16(0)
                differs = differences[: width * size]
                differs[:] = 0
                for t in range(steps):
                    at = base + t * step + y * row + left * size
                    old, new = _parts(old_words[n], at_old, words, at, width * size)
                    for i in range(width * size):
                        differs[i] |= old[i] ^ new[i]
                    at_old += width * size
                for i in range(width * size):
                    some |= differs[i]
                old_count, new_count = _parts(old_counts[n], at_count, counts, count + y * columns + left, width)
                at_count += width
                if some == 0:
                    continue
                alive[index] = 1
                for x in range(width):
                    some = differs[x * size]
                    for i in range(x * size + 1, x * size + size):
                        some |= differs[i]
                    at = left + x
                    bits[first + y * row_words + (at >> 6)] |= numba.int64(some != 0) << (at & 63)
                for w in range(neurons[n, 11], neurons[n, 12]):
                    by_column = taps[weights[w, 1] + left : weights[w, 1] + left + width]
                    more = 0
                    for x in range(width):
                        more += (numba.int64(new_count[x]) - numba.int64(old_count[x])) * by_column[x]
                    totals[weights[w, 2]] += more * taps[weights[w, 0] + y]


@_kernel("void(int64[:,::1], int32[::1], int64[:,::1], int64[::1], int64[::1])")
def count_all(neurons: Any, counts: Any, weights: Any, taps: Any, totals: Any) -> None:
    """The totals from all positions of these layers."""
    for n in range(neurons.shape[0]):
        columns, rows, count = neurons[n, 3], neurons[n, 4], neurons[n, 10]
        for w in range(neurons[n, 11], neurons[n, 12]):
            total = 0
            for y in range(rows):
                spikes, by_column = _parts(counts, count + y * columns, taps, weights[w, 1], columns)
                in_row = 0
                for x in range(columns):
                    in_row += spikes[x] * by_column[x]
                total += in_row * taps[weights[w, 0] + y]
            totals[weights[w, 2]] = total


@_kernel("void(int64[:,::1], int64, uint8[:,:,::1], uint8[:,:,::1])")
def interleave(tasks: Any, factor: int, restored: Any, image: Any) -> None:
    """Copy what the readout's tasks restored, from planes [3, H, W] into `image` [h, w, 3]; factor: pixels per
    position."""
    height, width = image.shape[:2]
    for k in range(tasks.shape[0]):
        left, right = tasks[k, 5] * factor, min(tasks[k, 6] * factor, width)
        for y in range(tasks[k, 2] * factor, min(tasks[k, 3] * factor, height)):
            for c in range(3):
                source = restored[c, y, left:right]
                for x in range(right - left):
                    image[y, left + x, c] = source[x]
