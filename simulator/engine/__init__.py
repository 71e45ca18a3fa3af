"""The event-driven engine: bit-identical to `simulator/reference.py`, on a plain CPU, compiled by Numba.

Spikes travel between layers as bits. For each output row of a convolution the bits under the kernel are turned into
one compact list of events, ordered by column, so that the events of an output pixel are one contiguous run; its sums
stay in vector registers while the run's weight rows are added. (Under a 1x1 kernel there are too few for a list: the
sums of each four channels come from a table.) Neurons, residual sums and roundings happen on the same row while it is
in the cache. See `kernels.py` for the row operations and `plan.py` for what is fused with what, and in which order.

Environment: SIMULATOR_TIMING=1 prints the milliseconds of each pass; NUMBA_CACHE_DIR places compiled kernels.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core import event

from simulator.analysis import Analysis
from simulator.engine import kernels, whole
from simulator.engine.plan import BAND_ROWS, PATCH_FIELDS, Layout, Pass, Plan, Program, Runner, build_plan, padded
from simulator.statistics import Counter, Population

Observer = Callable[[str, npt.NDArray[np.int64]], None]
Span = tuple[int, int]  # first, one past the last

MOST_THREADS = 64
CGROUP = Path("/sys/fs/cgroup")
FUNCTIONS = 100  # that are compiled, about
TALL = 32  # bands of rows, from where on the arena does not grow with a picture: values are kept in rings of rows
FEW_BYTES = 32 << 20  # of working memory need no closer look
KEPT_LAYOUTS = 8  # picture sizes whose records are kept


class _Announce(event.Listener):
    """Says that compilation began, and on a terminal how far it is: a first start that is silent looks like a hang."""

    begun = 0  # functions whose compilation has begun
    when = "once"

    def on_start(self, event: Any) -> None:
        self.begun += 1
        text = f"compiling kernels for this processor ({self.when}, about 20 s) ..."
        if sys.stderr.isatty():
            # The machine code of all comes last: it takes the last third of the time, and cannot be counted.
            print(f"\r{text} {min(self.begun / FUNCTIONS, 1) * 2 / 3:4.0%}", end="", file=sys.stderr, flush=True)
        elif self.begun == 1:
            print(text, file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass

    def close(self) -> None:
        if self.begun and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@functools.cache
def compiled() -> Runner:
    """`kernels.run_tasks`, compiled or loaded from the cache on disk; without a cache where no folder is writable."""
    folder = Path(__file__).parent
    sources = hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in ("kernels", "vectors")))
    function = kernels.build(sources.hexdigest())
    signature = "void(int64[:,::1], int64[:,::1], int64, int64, int64)"
    announce = _Announce()
    with event.install_listener("numba:compile", announce):
        try:
            run_tasks = numba.njit(nogil=True, cache=True)(function)
            run_tasks.compile(signature)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
                raise
            announce.when = "at every start, for no folder can keep them: set NUMBA_CACHE_DIR to a writable one"
            run_tasks = numba.njit(nogil=True)(function)
            run_tasks.compile(signature)
        finally:
            announce.close()
    runner: Runner = run_tasks
    return runner


def cache_folder() -> str | None:
    """Where the compiled kernels are kept for the next start; None if no folder is writable."""
    statistics: Any = getattr(compiled(), "stats")  # noqa: B009 (a Runner has none; what Numba makes has)
    folder: str | None = statistics.cache_path
    return folder


def available_threads() -> int:
    """Processors this process may use: the affinity mask, limited by the cgroup's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    for folder, files in ((CGROUP, ("cpu.max",)), (CGROUP / "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))):
        try:
            quota, period = map(int, " ".join((folder / name).read_text() for name in files).split())
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        if quota > 0 and period > 0:
            count = min(count, max(1, quota // period))
    return max(1, count)


def _fields(image: npt.NDArray[Any], top: int, left: int, middle: int = 0) -> tuple[int, ...]:
    """An image [H, W, 3] as kernels know it (`kernels.PIXELS`), seen from row `top` and column `left`."""
    row, column, channel = image.strides
    address = image.ctypes.data + top * row + left * column
    last = image.shape[0] - 1 - top, image.shape[1] - 1 - left
    return address, row, column, channel, image.itemsize, middle, *last


class Engine:
    """Backend "numba": same interface and same bits as `simulator.reference.Reference`. Calls from several
    threads take turns: the buffers are reused."""

    name = "numba"

    def __init__(self, analysis: Analysis, tensors: Mapping[str, npt.NDArray[np.int32]], threads: int | None = None):
        self.analysis, self.graph = analysis, analysis.graph
        # More threads than processors would only wait for one another.
        self.threads = max(1, min(threads or MOST_THREADS, available_threads(), MOST_THREADS))
        self._tensors = {name: np.ascontiguousarray(tensor, np.int32) for name, tensor in tensors.items()}
        self._own: dict[str, dict[str, npt.NDArray[np.int32]]] = {node.name: {} for node in self.graph.nodes}
        for key, tensor in self._tensors.items():
            layer, _, part = key.rpartition(".")
            self._own[layer][part] = tensor
        self._plan = build_plan(analysis, self._tensors)
        self._plan_observed: Plan | None = None
        self._arena = np.zeros(0, np.uint8)
        self._counts = np.zeros(0, np.int32)
        self._arena_sizes: dict[tuple[int, int], int] = {}
        self._layouts: dict[tuple[int, int, bool], Layout] = {}
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self._helping: list[Future[None]] = []
        self._run = compiled()
        self._lock = threading.Lock()
        self._timing = bool(os.environ.get("SIMULATOR_TIMING"))

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
        restored = np.empty((3, height, width), np.uint8)
        with self._lock:
            layout = self._layout(height, width, observe is not None)
            counts = np.empty(layout.map_size, np.int32)
            source = _fields(pixels.transpose(1, 2, 0), 0, 0)
            target = (*_fields(restored.transpose(1, 2, 0), 0, 0)[:4], 0, height, 0, width)
            self._compute(layout, pixels, source, restored, target, counts, observe)
        maps = {name: counts[first : first + h * w].reshape(h, w) for name, (first, h, w) in layout.maps.items()}
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
        with self._lock:
            layout = self._layout(rows[1] - rows[0], columns[1] - columns[0], observed=False)
            self._weigh(layout, counter.population, rows, columns, inner)
            if len(self._counts) < layout.map_size:
                self._counts = np.zeros(layout.map_size, np.int32)
            source = _fields(pixels, rows[0], columns[0], 128)
            height, width = pixels.shape[:2]
            target = _fields(restored, rows[0], columns[0])[:4]
            for span, first, extent in ((inner[0], rows[0], height), (inner[1], columns[0], width)):
                target += (span[0] - first, min(span[1], extent) - first)
            layout.totals[:] = 0
            self._compute(layout, pixels, source, restored, target, self._counts, None)
            counter.add_sums(int(total) for total in layout.totals.sum(0)[: len(layout.weights)])

    def memory(self, height: int, width: int) -> int:
        """Bytes of working memory that `restore` needs for a part of that size (multiples of the stride), or a small
        number that is more."""
        if height * width * self.analysis.bytes_per_pixel() < FEW_BYTES:  # if all rows of all values were kept
            return FEW_BYTES
        rows = min(height, padded(TALL * BAND_ROWS * self.threads, self.analysis.stride))
        if (rows, width) not in self._arena_sizes:
            if len(self._arena_sizes) >= KEPT_LAYOUTS:
                self._arena_sizes.clear()
            self._arena_sizes[rows, width] = Layout(self._plan, rows, width, self.threads).arena_size
        arena = self._arena_sizes[rows, width]
        if any(step.kind == "whole" for step in self._plan.passes):
            arena = arena * height // rows
        scales = [self.analysis.values[node.name].scale for node in self.graph.nodes if node.kind == "lif"]
        return arena + sum(4 * (height // scale) * (width // scale) for scale in scales)

    def _weigh(
        self, layout: Layout, population: Population, rows: Span, columns: Span, inner: tuple[Span, Span]
    ) -> None:
        """Fill in what spikes count for: what they do in the whole image, nothing outside the inner part."""
        key = (population, rows, columns, inner)
        if layout.weighed == key:
            return
        for weights, (name, own_rows, own_columns) in zip(layout.weights, population.weights(), strict=True):
            scale = self.analysis.values[name].scale
            axes: tuple[tuple[npt.NDArray[Any], npt.NDArray[np.int64], Span, Span], ...] = (
                (weights.rows, own_rows, rows, inner[0]), (weights.columns, own_columns, columns, inner[1]),
            )  # fmt: skip
            for target, weight, part, span in axes:
                first, last = span[0] // scale, min(span[1] // scale, len(weight))
                target[:] = 0
                target[first - part[0] // scale : last - part[0] // scale] = weight[first:last]
        layout.weighed = key

    def _compute(
        self,
        layout: Layout,
        pixels: npt.NDArray[Any],
        source: tuple[int, ...],
        restored: npt.NDArray[np.uint8],
        target: tuple[int, ...],
        counts: npt.NDArray[np.int32],
        observe: Observer | None,
    ) -> None:
        """Run all passes. source, target: the fields of `kernels.PIXELS` and READOUT for `pixels` and `restored`."""
        held = (pixels, restored, counts)  # kernels know them by address only
        fields = {"picture": source, "restored": target, "maps": (counts.ctypes.data,)}
        for record, index, what, offset in layout.patches:
            layout.records[:, record, index : index + PATCH_FIELDS[what]] = fields[what]
            layout.records[:, record, index] += offset
        spent: dict[str, float] = {}
        for segment in layout.segments:
            if isinstance(segment, Pass):
                begin = time.perf_counter()
                self._whole(layout, segment)
                spent[segment.root] = time.perf_counter() - begin
                if observe:
                    observe(segment.root, self._expanded(layout, segment.root))
            elif observe or self._timing:
                for i in range(len(segment)):
                    name = layout.names[int(segment[i, 0])]
                    begin = time.perf_counter()
                    self._tasks(layout, segment[i : i + 1], held)
                    spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
                    if observe:
                        for part in name.split(" + "):
                            last = part == self.graph.nodes[-1].name
                            observe(part, restored[None].astype(np.int64) if last else self._expanded(layout, part))
            else:
                self._tasks(layout, segment, held)
        if self._timing:
            for name, seconds in spent.items():
                print(f"{1e3 * seconds:8.3f} ms  {name}", file=sys.stderr)

    def _layout(self, height: int, width: int, observed: bool) -> Layout:
        wait(self._helping)  # after an interrupted call, threads may still be writing to the arena
        self._helping.clear()
        key = (height, width, observed)
        layout = self._layouts.pop(key, None)
        if layout is None:
            if observed and self._plan_observed is None:
                self._plan_observed = build_plan(self.analysis, self._tensors, fused=False)
            plan = self._plan_observed if observed and self._plan_observed else self._plan
            layout = Layout(plan, height, width, self.threads, banded=not observed)
            if len(self._layouts) >= KEPT_LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            if layout.arena_size + 64 > self._arena.nbytes:
                self._layouts.clear()
                self._arena = np.zeros(layout.arena_size + 64, np.uint8)
            layout.bind(self._arena)
        # The row of zeros lies at another offset in each layout, where others keep values.
        first = layout.base - self._arena.ctypes.data + layout.zero_offset
        self._arena[first : first + layout.arena_size - layout.zero_offset] = 0
        self._layouts[key] = layout  # the most recently used one last
        return layout

    def _tasks(self, layout: Layout, tasks: Program, held: tuple[npt.NDArray[Any], ...]) -> None:
        """Run tasks on all threads. Who computes which rows varies from run to run, the bits do not.

        The other threads are not waited for: one that comes late finds nothing left to begin. Each holds the arrays
        that it writes to, because Ctrl-C may take this thread away from here while others compute.
        """
        counters = np.zeros(16 + len(tasks), np.int64)
        for i in range(1, self.threads):
            assert self._pool is not None
            helper = self._pool.submit(self._help, layout.records[i], tasks, i, counters, held)
            self._helping.append(helper)
        self._run(layout.records[0], tasks, 0, self.threads, counters.ctypes.data)

    def _help(
        self,
        records: Program,
        tasks: Program,
        thread: int,
        counters: npt.NDArray[np.int64],
        held: tuple[npt.NDArray[Any], ...],
    ) -> None:
        self._run(records, tasks, thread, self.threads, counters.ctypes.data)

    def _expanded(self, layout: Layout, name: str) -> npt.NDArray[np.int64]:
        """A stored value as the reference holds it, [T or 1, C, H, W]."""
        value: npt.NDArray[np.int64] = self._view(layout, name).transpose(0, 3, 1, 2).astype(np.int64)
        return value

    def _memory(self, layout: Layout, name: str) -> npt.NDArray[Any]:
        """A stored value with its padding: numbers [T or 1, H, W', Cp], or bytes of spikes [T or 1, H, W', Cp / 8]."""
        form = layout.plan.forms[name]
        first = layout.place(name).address - layout.memory.ctypes.data
        kinds: dict[int, Any] = {0: np.uint8, 2: np.int16, 4: np.int32}
        flat: npt.NDArray[Any] = layout.memory[first : first + layout.bytes_of(name)].view(kinds[form.size])
        return flat.reshape(form.steps, layout.rows_kept[name], layout.pitch(name), -1)

    def _view(self, layout: Layout, name: str) -> npt.NDArray[Any]:
        """A stored value [T or 1, H, W, C] without its padding; spikes as a new uint8 array of zeros and ones."""
        form, width = layout.plan.forms[name], layout.extent(name)[1]
        memory = self._memory(layout, name)[:, :, :width]
        if form.size == 0:
            memory = np.unpackbits(memory, axis=3, bitorder="little")
        return memory[..., : form.channels]

    def _whole(self, layout: Layout, step: Pass) -> None:
        """Compute a node with NumPy (`simulator.engine.whole`)."""
        node, values = self.graph.node(step.root), self.analysis.values
        form, width = layout.plan.forms[node.name], layout.extent(node.name)[1]
        memory = self._memory(layout, node.name)[:, :, :width]
        numbers = memory if form.size else np.zeros((*memory.shape[:3], form.lanes), np.uint8)
        numbers[..., form.channels :] = 0
        whole.evaluate(
            node, [self._view(layout, name) for name in node.inputs],
            [values[node.name].q - values[name].q for name in node.inputs], self._own[node.name],
            values[node.inputs[0]], self.graph.time_steps, numbers[..., : form.channels],
        )  # fmt: skip
        if form.size == 0:
            memory[...] = np.packbits(numbers, axis=3, bitorder="little")
