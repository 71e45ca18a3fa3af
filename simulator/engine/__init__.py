"""The event-driven engine: bit-identical to `simulator/reference.py`, on a plain CPU, compiled by Numba.

Spikes travel between layers as bits. For each output row of a convolution the bits under the kernel are turned into
one compact list of events, ordered by column, so that the events of an output pixel are one contiguous run; its sums
stay in vector registers while the run's weight rows are added. (Under a 1x1 kernel there are too few for a list: the
sums of each four channels come from a table.) Where neurons integrate before they fire, the spikes of up to four steps
of a neuron are one event with a row of weights of its own, and all that follows happens once. Real-valued convolutions
multiply pairs of int16, most 3x3 ones by Winograd's filtering, which is exact on integers; the first one reads the
picture itself. Neurons, residual sums and roundings happen on the same row while it is in the cache.

The way from a graph to its pixels: `plan.py` says what is fused with what, with the weights' tables (`tables.py`);
`layout.py` where values of one size of picture lie and in which order rows are computed; `writer.py` writes the records
(`records.py`) of row operations (`kernels/`); `program.py` keeps all of that for one size and runs it on the threads of
`workers.py`; `whole.py` computes what has no row operation. `video.py` computes only what changed.

Environment: SIMULATOR_TIMING=1 prints the milliseconds of each pass; NUMBA_CACHE_DIR places compiled
kernels (`cache.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.engine.compiling import cache_folder, compiled
from simulator.engine.layout import BAND_ROWS, Layout, arena_bytes
from simulator.engine.plan import Plan, build_plan, neurons_of
from simulator.engine.program import Observer, Program, Span
from simulator.engine.records import Picture, Restored
from simulator.engine.tables import padded
from simulator.engine.whole import MEANING_BYTES, by_meaning, form_of, taps_apart
from simulator.engine.workers import Workers, available_threads
from simulator.statistics import Counter

__all__ = ["Engine", "available_threads", "cache_folder", "compiled", "picture_fields", "restored_fields"]

MOST_THREADS = 64
RING_BANDS = 32  # bands of rows: a taller picture needs no more memory, for values are kept in rings of rows
LITTLE_MEMORY = 32 << 20  # bytes that need no closer look
KEPT_LAYOUTS = 8  # picture sizes whose records are kept


def picture_fields(image: npt.NDArray[Any], top: int = 0, left: int = 0, middle: int = 0) -> Picture:
    """Grey levels [H, W, 3] of any strides as kernels know them, seen from row `top` and column `left`."""
    row, column, channel = image.strides
    return Picture(
        address=image.ctypes.data + top * row + left * column, row=row, column=column, channel=channel,
        level=image.itemsize, middle=middle, last_row=image.shape[0] - 1 - top, last_column=image.shape[1] - 1 - left,
    )  # fmt: skip


def restored_fields(
    image: npt.NDArray[np.uint8], top: int = 0, left: int = 0, inner: tuple[Span, Span] | None = None
) -> Restored:
    """The same for a picture to be written, of which only the `inner` rows and columns are."""
    row, column, channel = image.strides
    (first_row, end_row), (first_column, end_column) = inner or ((0, image.shape[0]), (0, image.shape[1]))
    return Restored(
        address=image.ctypes.data + top * row + left * column, row=row, column=column, channel=channel,
        first_row=first_row - top, end_row=min(end_row, image.shape[0]) - top, first_column=first_column - left,
        end_column=min(end_column, image.shape[1]) - left,
    )  # fmt: skip


class Engine:
    """Backend "numba": same interface and same bits as `simulator.reference.Reference`. Calls from several
    threads take turns: the buffers are reused.

    plan, workers: of the network and of this engine; lock: held while they are at work.
    """

    name = "numba"

    def __init__(self, analysis: Analysis, tensors: Mapping[str, npt.NDArray[np.int32]], threads: int | None = None):
        self.analysis, self.graph = analysis, analysis.graph
        # More threads than processors would only wait for one another.
        self.threads = max(1, min(threads or MOST_THREADS, available_threads(), MOST_THREADS))
        self._tensors = {name: np.ascontiguousarray(tensor, np.int32) for name, tensor in tensors.items()}
        self.plan = build_plan(analysis, self._tensors)
        self._plan_observed: Plan | None = None
        self.workers = Workers(self.threads)
        self.lock = threading.Lock()
        self._arena = np.zeros(0, np.uint8)
        self._counts = np.zeros(0, np.int32)
        self._bytes_per_pixel = analysis.bytes_per_pixel()
        self._arena_sizes: dict[tuple[int, int], int] = {}
        self._programs: dict[tuple[int, int, bool], Program] = {}

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore `pixels` (int16 [3, H, W], u8 - 128, H and W multiples of the stride).

        Returns the picture uint8 [3, H, W] and for each lif node its spikes per position, int32 [h, w], summed over
        channels and time. `observe(name, value)` sees the output int64 [T or 1, C, h, w] of every node; nothing is
        fused then.
        """
        pixels = np.ascontiguousarray(pixels, np.int16)
        height, width = pixels.shape[1:]
        source, middle = pixels.transpose(1, 2, 0), 0
        if pixels.min() >= -128 and pixels.max() <= 127:  # kernels are at their fastest with 8 bits side by side
            source, middle = np.empty((height, width, 3), np.uint8), 128
            for channel in range(3):
                np.add(pixels[channel], middle, out=source[..., channel], casting="unsafe")
        target = np.empty((height, width, 3), np.uint8)
        with self.lock:
            program = self._program(height, width, observe is not None)
            counts = np.empty(program.layout.map_size, np.int32)
            fields = picture_fields(source, middle=middle)
            program.run(self.workers, (source, fields), (target, restored_fields(target)), counts, observe)
        restored = np.ascontiguousarray(target.transpose(2, 0, 1))
        maps = {n: counts[first : first + h * w].reshape(h, w) for n, (first, h, w) in program.layout.maps.items()}
        return restored, maps

    def restore(
        self,
        pixels: npt.NDArray[np.uint8] | npt.NDArray[np.int16],
        rows: Span,
        columns: Span,
        inner: tuple[Span, Span],
        restored: npt.NDArray[np.uint8],
        counter: Counter,
    ) -> None:
        """Restore a part of an image: read from and written to its own arrays, without copies.

        pixels: grey levels [H, W, 3], of any strides. rows, columns: the first and one past the last of what is
        computed, multiples of the stride; beyond the image's right and bottom border its last pixels are repeated.
        inner: those rows and columns whose pixels are written to `restored` (uint8 [H, W, 3]) and whose spikes are
        added to `counter` (of the same image), multiples of the stride.
        """
        with self.lock:
            program = self._program(rows[1] - rows[0], columns[1] - columns[0], observed=False)
            program.weigh(counter.population, rows, columns, inner)
            if len(self._counts) < program.layout.map_size:
                self._counts = np.zeros(program.layout.map_size, np.int32)
            source = picture_fields(pixels, rows[0], columns[0], 128)
            target = restored_fields(restored, rows[0], columns[0], inner)
            program.totals[:] = 0
            program.run(self.workers, (pixels, source), (restored, target), self._counts)
            counter.add_sums(program.sums())

    def memory(self, height: int, width: int) -> int:
        """Bytes of working memory that `restore` needs for a part of that size (multiples of the stride), or a small
        number that is more."""
        if height * width * self._bytes_per_pixel < LITTLE_MEMORY:  # if all rows of all values were kept
            return LITTLE_MEMORY
        rows = min(height, padded(RING_BANDS * BAND_ROWS * self.threads, self.analysis.stride))
        if (rows, width) not in self._arena_sizes:
            if len(self._arena_sizes) >= KEPT_LAYOUTS:
                self._arena_sizes.clear()
            self._arena_sizes[rows, width] = Layout(self.plan, rows, width, self.threads).arena_size
        arena = self._arena_sizes[rows, width]
        if not all(step.by_rows for step in self.plan.passes):
            arena = arena * height // rows
        scales = [self.analysis.values[name].scale for name in neurons_of(self.graph)]
        counts = sum(4 * (height // scale) * (width // scale) for scale in scales)
        return arena + counts + self._passing_bytes(height, width)

    def _passing_bytes(self, height: int, width: int) -> int:
        """Bytes that nodes which are computed by their meaning take in passing, the largest of them."""
        most = 0
        for node in (self.graph.node(step.root) for step in self.plan.passes if not step.by_rows):
            if form_of(node) in (by_meaning, taps_apart):
                forms = [self.plan.forms[name] for name in (node.name, *node.inputs)]
                numbers = sum(f.steps * f.channels * (height // f.scale) * (width // f.scale) for f in forms)
                most = max(most, MEANING_BYTES * numbers)
        return most

    def _program(self, height: int, width: int, observed: bool) -> Program:
        """The program for that size, most recently used ones kept; observed: nothing is fused."""
        self.workers.wait()
        key = (height, width, observed)
        program = self._programs.pop(key, None)
        if program is None:
            if observed and self._plan_observed is None:
                self._plan_observed = build_plan(self.analysis, self._tensors, fused=False)
            plan = self._plan_observed if observed and self._plan_observed else self.plan
            layout = Layout(plan, height, width, self.threads, banded=not observed)
            if len(self._programs) >= KEPT_LAYOUTS:
                self._programs.pop(next(iter(self._programs)))
            if arena_bytes(layout) > self._arena.nbytes:
                self._programs.clear()
                self._arena = np.zeros(arena_bytes(layout), np.uint8)
            program = Program(layout, self._arena)
        program.memory.clear_zeros()
        self._programs[key] = program  # the most recently used one last
        return program
