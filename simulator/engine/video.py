"""Frames of one size, one after another: only what changed is computed anew, with the bits of a full run.

All stored values of the last frame stay in memory. Where pixels changed, the passes that read them compute those
positions again. The neurons' spikes are then compared with the old ones, and only where they differ do the next passes
follow. Most changes of a current do not carry a neuron over its threshold, so the part that is computed grows from
layer to layer by far less than the receptive field would allow. A stream's numbers are not compared: they count as
changed where anything that they are computed from did. Every value in memory is at all times the one that a full run
gives; nothing is added up over frames, so nothing drifts. See `changes.py` for the maps of what changed. Nodes that
NumPy computes as a whole (`whole.py`) are computed again if anything they read changed.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator.engine import Engine, _fields, changes, kernels
from simulator.engine.plan import Layout, Pass, Read, padded
from simulator.statistics import Counter, Population

Integers = npt.NDArray[np.int64]

REACH_LIMIT = 0.7  # of the picture's cells: beyond it a full run is cheaper, for it needs no maps
OTHER_BYTES = 32  # per pixel of a state, beside values and counts: pictures, maps, copies of spikes
LEAST_SHARE = 2048  # positions per thread below which a pass is not worth waking another one


@dataclass
class _Work:
    """What one pass needs between frames; the tables are described in `changes.py`. weight: numbers per position."""

    step: Pass
    rows: int
    columns: int
    weight: int
    target: Integers
    reads: Integers
    template: Integers
    neurons: Integers


class VideoState:
    """The network's state for pictures of one size, and the picture itself.

    used: the pixels that count, uint8 [h, w, 3]; image: what they were restored to; recomputed: the share of the
    network's numbers (channels and time steps at each position) that the last frame computed; size: bytes that all of
    it takes, about. Memory is taken with the first frame.
    """

    def __init__(self, engine: Engine, height: int, width: int):
        self.engine = engine
        self.layout = Layout(engine._plan, *engine.analysis.padded(height, width), engine.threads, keep=True)
        self.height, self.width = self.layout.height, self.layout.width
        self.used = np.zeros((height, width, 3), np.uint8)
        self.image = np.zeros((height, width, 3), np.uint8)
        self.recomputed = 1.0
        self.current = False  # whether the state belongs to the pixels in `used`
        self._busy = False  # whether the last frame changed nearly everywhere, and so it is expected of the next
        self.size = self.layout.arena_size + 4 * self.layout.map_size + OTHER_BYTES * self.height * self.width
        self._population = Population(engine.analysis, height, width)
        self._counter = Counter(self._population)  # of the picture while the state is not current

    def start(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take over a first frame, uint8 [h, w, 3], whole."""
        self._allocate()
        self.used[...] = ~frame
        self.update(frame, 0)
        self._busy = False

    def update(self, frame: npt.NDArray[np.uint8], still: int) -> None:
        """Take over the pixels of `frame` that differ from `used` by more than `still` grey levels in a channel."""
        found = changes.find_changes(frame, self.used, still, self.height, self.width, self._bits, self._cells)
        busy, expected = bool(self._cells[1:-1, 1:-1].mean() > REACH_LIMIT), self._busy
        self._busy = busy
        if busy and expected:
            self._run_without_state()
        elif busy or not self.current:
            with self.engine._lock:
                self._run_all()
        elif found:
            with self.engine._lock:
                self._run_changed()
        else:
            self.recomputed = 0.0

    def counted(self) -> Counter:
        """Spikes and synaptic operations of the picture."""
        if not self.current:
            return self._counter
        counter = Counter(self._population)
        counter.add_sums(int(total) for total in self.layout.totals.sum(0)[: len(self.layout.weights)])
        return counter

    def _run_without_state(self) -> None:
        """Restore `used` as a single picture, whose values soon leave the cache: about a tenth faster."""
        self.current = False
        self._counter = Counter(self._population)
        rows, columns = (0, self.height), (0, self.width)
        self.engine.restore(self.used, rows, columns, (rows, columns), self.image, self._counter)
        self.recomputed = 1.0

    def _run_all(self) -> None:
        """Compute everything from `used` and keep it."""
        engine, (height, width) = self.engine, self.used.shape[:2]
        self.current = False  # until all of it is done: Ctrl-C may come at any time
        wait(engine._helping)
        engine._helping.clear()
        self.layout.totals[:] = 0
        source, target = _fields(self.used, 0, 0, 128), (*_fields(self.image, 0, 0)[:4], 0, height, 0, width)
        engine._compute(self.layout, self.used, source, self.image, target, self._counts, None)
        self.current, self.recomputed = True, 1.0

    def _run_changed(self) -> None:
        """Pass by pass, compute the positions that read something that changed."""
        self.current = False
        self._alive[0] = 1  # the picture
        computed = 0
        for work in self._works:
            if work.step.kind == "whole":
                if self._alive[work.reads[:, 0]].any():
                    self._compute_whole(work)
                    computed += work.weight * work.rows * work.columns
                else:
                    self._alive[work.target[0]] = 0
                continue
            count, positions = changes.mark(
                self._bits, self._alive, work.reads, work.target, work.template, self._tasks
            )
            if not count:
                self._alive[work.neurons[:, 0]] = 0
                continue
            tasks = self._tasks[:count]
            computed += work.weight * positions
            if len(work.neurons):
                changes.save(
                    tasks, work.neurons, self._words, self._counts, self._old_words, self._sums, self._taps,
                    self.layout.totals[0],
                )  # fmt: skip
                self._run(tasks, positions)
                changes.compare(
                    tasks, work.neurons, self._words, self._old_words, self._differences, self._bits, self._alive
                )
            else:
                self._run(tasks, positions)
        self.current, self.recomputed = True, computed / self._all_numbers

    def _run(self, tasks: Integers, positions: int) -> None:
        """Run tasks that do not depend on one another, on as many threads as they are worth."""
        threads = max(1, min(self.engine.threads, positions // LEAST_SHARE, len(tasks)))
        ends = [len(tasks)]
        if threads > 1:
            columns = np.cumsum(tasks[:, 6] - tasks[:, 5])
            ends = np.searchsorted(columns, columns[-1] * np.arange(1, threads + 1) // threads, "right").tolist()
        helping: list[Future[None]] = []
        try:
            for i in range(1, threads):
                assert self.engine._pool is not None
                helping.append(self.engine._pool.submit(self._run_share, i, tasks[ends[i - 1] : ends[i]]))
            self._run_share(0, tasks[: ends[0]])
        finally:
            self.engine._helping += helping
            wait(helping)
            self.engine._helping.clear()
        for done in helping:
            done.result()

    def _run_share(self, thread: int, tasks: Integers) -> None:
        self.engine._run(self.layout.records[thread], tasks, 0, 1, 0)

    def _compute_whole(self, work: _Work) -> None:
        """Compute a node with NumPy and mark where it differs."""
        index, first, words, columns = work.target.tolist()
        memory = self.engine._memory(self.layout, work.step.root)[:, :, :columns]
        old = memory.copy()
        self.engine._whole(self.layout, work.step)
        differs = (memory != old).any((0, 3))
        packed = np.packbits(differs, axis=1, bitorder="little")
        rows = self._bits[first : first + work.rows * words].view(np.uint8).reshape(work.rows, -1)
        rows[...] = 0
        rows[:, : packed.shape[1]] = packed
        self._alive[index] = differs.any()

    def _allocate(self) -> None:
        """Memory for the values, and tables that tell the compiled functions where everything is."""
        layout, plan, graph = self.layout, self.layout.plan, self.layout.graph
        self._memory = np.zeros(layout.arena_size + 64, np.uint8)
        layout.bind(self._memory)
        self._words = self._memory.view(np.uint16)
        self._counts = np.zeros(layout.map_size, np.int32)
        self._cells = np.zeros([-(-side // changes.CELL) + 2 for side in (self.height, self.width)], np.uint8)
        whole = (0, self.height), (0, self.width)
        self.engine._weigh(layout, self._population, *whole, whole)
        self._places: list[tuple[int, int, int, int]] = []  # index, first word, words per row, columns of each map
        self._rows: list[int] = []
        maps = {graph.nodes[0].name: self._add_map(self.height, self.width)}
        sums: list[tuple[int, int, int]] = []
        taps: list[npt.NDArray[np.int64]] = []
        self._works: list[_Work] = []
        for i, step in enumerate(plan.passes):
            node, (rows, columns) = graph.node(step.root), layout.domains[i]
            reads = []
            for read in (*layout.reads[i], *self._picture_reads(step)):
                m = maps[read.name]
                reads.append(
                    (*self._places[m], self._rows[m], read.kernel, read.stride, read.padding, read.factor)
                )  # fmt: skip
            target = self._add_map(rows, columns)
            maps.setdefault(step.root, target)
            neurons = []
            for name in step.neurons if node.kind != "lif" else (step.root,):
                maps[name] = self._add_map(rows, columns)
                first_sum = len(sums)
                for total, weights in enumerate(layout.weights):
                    if weights.source == name:
                        first = sum(map(len, taps))
                        taps += [weights.rows, weights.columns.astype(np.int64)]
                        sums.append((first, first + rows, total))
                neurons.append((*self._places[maps[name]], rows, *self._spikes(name), first_sum, len(sums)))
            writer, span = layout.writers[i], layout.spans[i]
            template = [*span, 0, rows, writer.height, 0, columns, writer.block]
            form = plan.forms[layout._domain(step.root)]
            self._works.append(
                _Work(
                    step,
                    rows,
                    columns,
                    form.steps * form.channels,
                    np.array(self._places[target], np.int64),
                    np.array(reads, np.int64).reshape(-1, 9),
                    np.array(template, np.int64),
                    np.array(neurons, np.int64).reshape(-1, 13),
                )  # fmt: skip
            )
        self._all_numbers = sum(work.weight * work.rows * work.columns for work in self._works)
        self._bits = np.zeros(sum(r * p[2] for r, p in zip(self._rows, self._places, strict=True)), np.int64)
        self._alive = np.zeros(len(self._places), np.uint8)
        self._sums = np.array(sums, np.int64).reshape(-1, 3)
        self._taps = np.concatenate([*taps, np.zeros(0, np.int64)])
        most = max(-(-work.rows // work.template[4]) * (work.columns // (changes.GAP + 1) + 1) for work in self._works)
        self._tasks = np.zeros((most, kernels.TASK_FIELDS), np.int64)
        several = max(len(work.neurons) for work in self._works)
        spiking = [n for work in self._works for n in work.neurons.tolist()]
        self._old_words = np.zeros((several, max((n[4] * n[3] * n[8] * n[9] for n in spiking), default=0)), np.uint16)
        self._differences = np.zeros(max((n[3] * n[8] for n in spiking), default=0), np.uint16)

    def _add_map(self, rows: int, columns: int) -> int:
        first = 0
        if self._places:
            _, before, words, _ = self._places[-1]
            first = before + self._rows[-1] * words
        self._places.append((len(self._places), first, padded(columns, 64) // 64, columns))
        self._rows.append(rows)
        return len(self._places) - 1

    def _picture_reads(self, step: Pass) -> list[Read]:
        """What a pass reads of the picture itself."""
        graph = self.layout.graph
        node, picture = graph.node(step.root), graph.nodes[0].name
        factor = 0
        if node.kind == "image":
            factor = 1
        elif node.kind == "space_to_depth" and node.inputs[0] in self.layout.plan.inlined:
            factor = node["factor"]
        elif node.kind == "readout":
            factor = self.height // self.layout.domains[-1][0]
        return [Read(picture, factor, factor)] if factor else []

    def _spikes(self, name: str) -> tuple[int, ...]:
        """Where a layer's spikes lie, in words of 16 bits, and where its counts begin."""
        place, form = self.layout.place(name), self.layout.plan.forms[name]
        first = place.address - self._memory.ctypes.data
        return first // 2, place.step // 2, place.row // 2, place.column // 2, form.steps, self.layout.maps[name][0]
