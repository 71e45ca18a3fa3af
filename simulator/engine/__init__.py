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
from simulator.engine.plan import Layout, Pass, Plan, Program, Runner, build_plan, padded

Observer = Callable[[str, npt.NDArray[np.int64]], None]

MOST_THREADS = 64
CGROUP = Path("/sys/fs/cgroup")
KEPT_LAYOUTS = 8  # picture sizes whose records are kept


class _Announce(event.Listener):
    """Says that compilation began, once: a first start that is silent for many seconds looks like a hang."""

    said = False
    when = "once"

    def on_start(self, event: Any) -> None:
        if not self.said:
            print(f"compiling kernels for this processor ({self.when}, about 20 s) ...", file=sys.stderr, flush=True)
            self.said = True

    def on_end(self, event: Any) -> None:
        pass


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
    runner: Runner = run_tasks
    return runner


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
        with self._lock:
            return self._run_padded(np.ascontiguousarray(pixels, np.int16), observe)

    def _run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        wait(self._helping)  # after an interrupted call, threads may still be writing to the arena
        self._helping.clear()
        height, width = pixels.shape[1:]
        layout = self._layout(height, width, observe is not None)
        restored = np.empty((3, height, width), np.uint8)
        counts = np.empty(layout.map_size, np.int32)
        held = (pixels, restored, counts)  # kernels know them by address only
        addresses = {"picture": pixels.ctypes.data, "restored": restored.ctypes.data, "maps": counts.ctypes.data}
        for record, index, what, offset in layout.patches:
            layout.records[:, record, index] = addresses[what] + offset
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
        maps = {name: counts[first : first + h * w].reshape(h, w) for name, (first, h, w) in layout.maps.items()}
        return restored, maps

    def _layout(self, height: int, width: int, observed: bool) -> Layout:
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
        counters = np.zeros(32, np.int64)
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
