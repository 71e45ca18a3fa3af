"""The compiled bookkeeping of video: which positions changed, which must be computed anew, and what came of it.

Changes are maps of bytes [h, w], 1 where a value differs from the frame before, all in one buffer `dirty`; `spans`
int64 [rows, 2] says for each of their rows between which columns ones may be found, and `alive` for each map whether it
has any at all in this frame. A map is known by four numbers: its index in `alive`, its first byte in `dirty`, its first
row in `spans`, and the columns of its rows. Everything costs time in proportion to the change, but for a look at each
row. Positions to compute become tasks of `kernels.run_tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

GAP = 8  # columns: runs of changed positions that lie closer are computed as one
CELL = 16  # pixels: side of the squares in which changes of the picture are counted


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


@_kernel("int64(uint8[:,:,::1], uint8[:,:,::1], int64, int16[:,:,::1], uint8[::1], int64[:,::1], uint8[:,::1])")
def find_changes(
    frame: Any, used: Any, still: int, pixels: Any, dirty: Any, spans: Any, cells: Any
) -> int:  # fmt: skip
    """Take over the pixels of `frame` [h, w, 3] that differ from `used` by more than `still` grey levels.

    They go into `used` and `pixels` (int16 [3, H, W], u8 - 128, replicated right and below) and are marked in the map
    that `dirty` starts with. `cells` [ceil(H / CELL) + 2, ceil(W / CELL) + 2] gets ones at those that hold a change,
    with a border around them. Returns how many pixels of h x w changed.
    """
    height, width = frame.shape[:2]
    rows, columns = pixels.shape[1:]
    cells[:] = 0
    total = 0
    for y in range(rows):
        for x in range(spans[y, 0], spans[y, 1]):
            dirty[y * columns + x] = 0
        spans[y, 0] = spans[y, 1] = 0
        source = min(y, height - 1)
        if y >= height:  # below the picture: as its last row
            for x in range(spans[source, 0], spans[source, 1]):
                if dirty[source * columns + x]:
                    dirty[y * columns + x] = 1
                    for c in range(3):
                        pixels[c, y, x] = pixels[c, source, x]
            spans[y] = spans[source]
            continue
        new, old = frame[y], used[y]
        differs = numba.uint8(0)
        for x in range(width):
            for c in range(3):
                differs |= new[x, c] ^ old[x, c]
        if differs == 0:
            continue
        low, high = columns, 0
        for x in range(width):
            most = 0
            for c in range(3):
                most = max(most, abs(numba.int64(new[x, c]) - numba.int64(old[x, c])))
            if most <= still:
                continue
            total += 1
            last = columns if x == width - 1 else x + 1
            for c in range(3):
                old[x, c] = new[x, c]
                for i in range(x, last):
                    pixels[c, y, i] = numba.int16(new[x, c]) - 128
            for i in range(x, last):
                dirty[y * columns + i] = 1
            for i in range(3):
                for j in range(3):
                    cells[y // CELL + i, x // CELL + j] = 1
            low, high = min(low, x), last
        if low < high:
            spans[y, 0], spans[y, 1] = low, high
    return total


# reads int64 [n, 9]: index, first, row and columns of the source's map, its rows, and kernel, stride, padding, factor
# of `plan.Read`. target: the map of the positions to compute. template: a task without its rows and columns.
@_kernel("UniTuple(int64, 2)(uint8[::1], int64[:,::1], uint8[::1], int64[:,::1], int64[::1], int64[::1], int64[:,::1])")
def mark(dirty: Any, spans: Any, alive: Any, reads: Any, target: Any, template: Any, tasks: Any) -> tuple[int, int]:
    """Mark the positions of a pass that read a changed one, and list tasks that cover them.

    Returns the number of tasks and of positions in them: runs are rounded outwards to even columns and joined across
    small gaps, and `height` rows go together.
    """
    first, row, width = target[1], target[2], target[3]
    rows, height = template[3], template[4]
    for y in range(rows):
        for x in range(spans[row + y, 0], spans[row + y, 1]):
            dirty[first + y * width + x] = 0
        spans[row + y, 0] = spans[row + y, 1] = 0
    count = positions = 0
    for top in range(0, rows, height):
        bottom = min(top + height, rows)
        low, high = width, 0
        for y in range(top, bottom):
            begin, end = width, 0
            for r in range(reads.shape[0]):
                if not alive[reads[r, 0]]:
                    continue
                source, source_row, columns, source_rows = reads[r, 1], reads[r, 2], reads[r, 3], reads[r, 4]
                kernel, stride, padding, factor = reads[r, 5], reads[r, 6], reads[r, 7], reads[r, 8]
                above = max(0, y * stride - padding) // factor
                below = min(source_rows, (y * stride - padding + kernel - 1) // factor + 1)
                for sy in range(above, below):
                    x, stop = spans[source_row + sy, 0], spans[source_row + sy, 1]
                    at = source + sy * columns
                    while x < stop:
                        if not dirty[at + x]:
                            x += 1
                            continue
                        left = x
                        while x < stop and dirty[at + x]:
                            x += 1
                        if factor > 1:
                            a, b = left * factor, x * factor
                        else:
                            a, b = (left + padding - kernel + stride) // stride, (x - 1 + padding) // stride + 1
                        a, b = max(a, 0), min(b, width)
                        for i in range(a, b):
                            dirty[first + y * width + i] = 1
                        if a < b:
                            begin, end = min(begin, a), max(end, b)
            if begin < end:
                spans[row + y, 0], spans[row + y, 1] = begin, end
                low, high = min(low, begin), max(high, end)
        x = low
        while x < high:
            left, right = x, -1  # no changed position found yet
            while x < high and (right < 0 or x - right < GAP):
                for y in range(top, bottom):
                    if dirty[first + y * width + x]:
                        if right < 0:
                            left = x
                        right = x + 1
                x += 1
            if right < 0:
                break
            task = tasks[count]
            task[:] = template
            task[2], task[3], task[5], task[6] = top, bottom, left & ~1, min((right + 1) & ~1, width)
            positions += (task[6] - task[5]) * (bottom - top)
            count += 1
    alive[target[0]] = count > 0
    return count, positions


# neurons int64 [n, 13]: 0-3 map of the layer's spikes, 4 its rows, 5 first word of its bits in `words`, words from 6
# step to step, 7 row to row and 8 position to position, 9 T, 10 first entry in `counts`, 11 and 12 first and last row
# of `weights`. One pass may have several.
@_kernel("void(int64[:,::1], int64[:,::1], uint16[::1], int32[::1], uint16[:,::1], int32[:,::1])")
def save(tasks: Any, neurons: Any, words: Any, counts: Any, old_words: Any, old_counts: Any) -> None:
    """Copy the spikes that the tasks are about to overwrite, one row of a task after another."""
    for n in range(neurons.shape[0]):
        _, _, _, columns, _, base, step, row, size, steps, count, _, _ = neurons[n]
        to = to_count = 0
        for k in range(tasks.shape[0]):
            left, right = tasks[k, 5], tasks[k, 6]
            for y in range(tasks[k, 2], tasks[k, 3]):
                for t in range(steps):
                    at = base + t * step + y * row + left * size
                    for i in range((right - left) * size):
                        old_words[n, to + i] = words[at + i]
                    to += (right - left) * size
                for i in range(right - left):
                    old_counts[n, to_count + i] = counts[count + y * columns + left + i]
                to_count += right - left


# weights int64 [m, 3]: first entry of a factor per row and of one per column in `taps`, and the total that the number
# of spikes times both adds to.
@_kernel(
    "void(int64[:,::1], int64[:,::1], uint16[::1], int32[::1], uint16[:,::1], int32[:,::1], uint16[::1], uint8[::1], "
    "int64[:,::1], uint8[::1], int64[:,::1], int64[::1], int64[::1])"
)
def compare(
    tasks: Any, neurons: Any, words: Any, counts: Any, old_words: Any, old_counts: Any, row_words: Any, dirty: Any,
    spans: Any, alive: Any, weights: Any, taps: Any, totals: Any,
) -> None:  # fmt: skip
    """Mark the positions whose spikes are others than those saved, and bring the totals up to date."""
    for n in range(neurons.shape[0]):
        index, first, span, columns, rows, base, step, row, size, steps, count, weight, last_weight = neurons[n]
        for y in range(rows):
            for x in range(spans[span + y, 0], spans[span + y, 1]):
                dirty[first + y * columns + x] = 0
            spans[span + y, 0] = spans[span + y, 1] = 0
        alive[index] = 0
        at_old = at_count = 0
        for k in range(tasks.shape[0]):
            left, right = tasks[k, 5], tasks[k, 6]
            length = (right - left) * size
            for y in range(tasks[k, 2], tasks[k, 3]):
                for i in range(length):
                    row_words[i] = 0
                for t in range(steps):
                    at = base + t * step + y * row + left * size
                    for i in range(length):
                        row_words[i] |= old_words[n, at_old + i] ^ words[at + i]
                    at_old += length
                low, high = columns, 0
                for x in range(left, right):
                    differs = numba.uint16(0)
                    for i in range(size):
                        differs |= row_words[(x - left) * size + i]
                    if differs == 0:
                        continue
                    dirty[first + y * columns + x] = 1
                    low, high = min(low, x), x + 1
                    more = numba.int64(counts[count + y * columns + x]) - old_counts[n, at_count + x - left]
                    if more:
                        for i in range(weight, last_weight):
                            totals[weights[i, 2]] += more * taps[weights[i, 0] + y] * taps[weights[i, 1] + x]
                at_count += right - left
                if low < high:
                    alive[index] = 1
                    if spans[span + y, 1] > 0:
                        low, high = min(low, spans[span + y, 0]), max(high, spans[span + y, 1])
                    spans[span + y, 0], spans[span + y, 1] = low, high


@_kernel("void(int64[:,::1], int32[::1], int64[:,::1], int64[::1], int64[::1])")
def count_all(neurons: Any, counts: Any, weights: Any, taps: Any, totals: Any) -> None:
    """The totals from all positions of these layers."""
    for n in range(neurons.shape[0]):
        _, _, _, columns, rows, _, _, _, _, _, count, weight, last_weight = neurons[n]
        for i in range(weight, last_weight):
            total = 0
            for y in range(rows):
                if taps[weights[i, 0] + y]:
                    in_row = 0
                    for x in range(columns):
                        in_row += counts[count + y * columns + x] * taps[weights[i, 1] + x]
                    total += in_row * taps[weights[i, 0] + y]
            totals[weights[i, 2]] = total


@_kernel("void(int64[:,::1], int64, uint8[:,:,::1], uint8[:,:,::1])")
def interleave(tasks: Any, factor: int, restored: Any, image: Any) -> None:
    """Copy what the readout's tasks restored, from planes [3, H, W] into `image` [h, w, 3]; factor: pixels per
    position."""
    height, width = image.shape[:2]
    for k in range(tasks.shape[0]):
        left, right = tasks[k, 5] * factor, min(tasks[k, 6] * factor, width)
        for y in range(tasks[k, 2] * factor, min(tasks[k, 3] * factor, height)):
            for x in range(left, right):
                for c in range(3):
                    image[y, x, c] = restored[c, y, x]
