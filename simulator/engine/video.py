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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.engine import Engine, changes, picture_fields, restored_fields
from simulator.engine.layout import Layout, Read, arena_bytes
from simulator.engine.plan import Pass
from simulator.engine.program import Program
from simulator.engine.records import (
    MAP,
    READING,
    TASK,
    TASK_FIELDS,
    Map,
    Neurons,
    Reading,
    Sum,
    Task,
    numbers,
    width,
)
from simulator.engine.tables import padded
from simulator.statistics import Counter, Population

Integers = npt.NDArray[np.int64]

REACH_LIMIT = 0.7  # of the picture's cells: beyond it a full run is cheaper, for it needs no maps
SAVED_WORDS = 1 << 16  # of 16 bits, of spikes that are about to be computed anew
OTHER_BYTES = 10  # per pixel of a state, beside values, counts and copies of spikes: pictures, maps, tasks
LEAST_SHARE = 2048  # positions per thread below which a pass is not worth waking another one


@dataclass
class _Work:
    """What one pass needs between frames: rows of `records.py`. weight: numbers per position; reads: `Reading`s;
    target: the `Map` of positions to compute; template: a `Task` for all of them; neurons: `Neurons`; saved: words of
    spikes per position, of the layer that has most."""

    step: Pass
    rows: int
    columns: int
    weight: int
    target: Integers
    reads: Integers
    template: Integers
    neurons: Integers
    saved: int


class VideoState:
    """The network's state for pictures of one size, and the picture itself.

    used: the pixels that count, uint8 [h, w, 3]; image: what they were restored to; recomputed: the share of the
    network's numbers (channels and time steps at each position) that the last frame computed; size: bytes that all of
    it takes, about. Memory is taken with the first frame.
    """

    def __init__(self, engine: Engine, height: int, width: int):
        self.engine = engine
        self.layout = Layout(engine.plan, *engine.analysis.padded(height, width), engine.threads, keep=True)
        self.height, self.width = self.layout.height, self.layout.width
        self.used = np.zeros((height, width, 3), np.uint8)
        self.image = np.zeros((height, width, 3), np.uint8)
        self.recomputed = 1.0
        self.current = False  # whether the state belongs to the pixels in `used`
        self._busy = False  # whether the last frame changed nearly everywhere, and so it is expected of the next
        self.size = self.layout.arena_size + 4 * self.layout.map_size + OTHER_BYTES * self.height * self.width
        self.size += 2 * self._saved_words() * max(len(self._layers(step)) for step in engine.plan.passes)
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
            with self.engine.lock:
                self._run_all()
        elif found:
            with self.engine.lock:
                self._run_changed()
        else:
            self.recomputed = 0.0

    def counted(self) -> Counter:
        """Spikes and synaptic operations of the picture."""
        if not self.current:
            return self._counter
        counter = Counter(self._population)
        counter.add_sums(self._program.sums())
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
        self.current = False  # until all of it is done: Ctrl-C may come at any time
        self.engine.workers.wait()
        self._program.totals[:] = 0
        source = self.used, picture_fields(self.used, middle=128)
        target = self.image, restored_fields(self.image)
        self._program.run(self.engine.workers, source, target, self._counts)
        self.current, self.recomputed = True, 1.0

    def _run_changed(self) -> None:
        """Pass by pass, compute the positions that read something that changed."""
        self.current = False
        self._alive[0] = 1  # the picture
        computed = 0
        for work in self._works:
            if not work.step.by_rows:
                if self._alive[work.reads[:, READING.map + MAP.number]].any():
                    self._compute_whole(work)
                    computed += work.weight * work.rows * work.columns
                else:
                    self._alive[work.target[MAP.number]] = 0
                continue
            count, positions = changes.mark(
                self._bits, self._alive, work.reads, work.target, work.template, work.neurons, self._tasks
            )
            if not count:
                continue
            tasks = self._tasks[:count]
            computed += work.weight * positions
            if not len(work.neurons):
                self._run(tasks)
                continue
            for some in self._portions(tasks, positions * work.saved):
                changes.save(
                    some, work.neurons, self._words, self._row_counts, self._old_words, self._sums, self._taps,
                    self._program.totals[0],
                )  # fmt: skip
                self._run(some)
                changes.compare(
                    some, work.neurons, self._words, self._old_words, self._differences, self._bits, self._alive
                )
        self.current, self.recomputed = True, computed / self._all_numbers

    def _portions(self, tasks: Integers, words: int) -> list[Integers]:
        """Tasks that overwrite so many words of spikes, in portions whose old spikes there is room for."""
        room = self._old_words.shape[1]
        if words <= room:
            return [tasks]
        positions = _positions(tasks)
        each = words // int(positions.sum())
        portions = np.cumsum(positions) * each // (room - int(positions.max()) * each + 1)
        return np.split(tasks, np.flatnonzero(np.diff(portions)) + 1)

    def _run(self, tasks: Integers) -> None:
        """Run tasks that do not depend on one another, on as many threads as they are worth."""
        workers, records = self.engine.workers, self._program.records
        if workers.count == 1:
            workers.run_alone(records, tasks)
            return
        positions = np.cumsum(_positions(tasks))
        threads = max(1, min(workers.count, int(positions[-1]) // LEAST_SHARE, len(tasks)))
        ends = np.searchsorted(positions, positions[-1] * np.arange(1, threads) // threads, "right")
        workers.run_apart(records, np.split(tasks, ends))

    def _compute_whole(self, work: _Work) -> None:
        """Compute a node with NumPy and mark where it differs."""
        index, first, words, _ = work.target.tolist()
        name = work.step.root
        memory = self._program.memory.stored(name)
        old = memory.copy()
        if name in self.layout.maps:
            self._program.uncount(name)
        self._program.evaluate(work.step)
        differs = (memory != old).any((0, 3))
        packed = np.packbits(differs, axis=1, bitorder="little")
        rows = self._bits[first : first + work.rows * words].view(np.uint8).reshape(work.rows, -1)
        rows[...] = 0
        rows[:, : packed.shape[1]] = packed
        self._alive[index] = differs.any()

    def _allocate(self) -> None:
        """Memory for the values, and tables that tell the compiled functions where everything is."""
        layout, plan, graph = self.layout, self.layout.plan, self.layout.graph
        self._arena = np.zeros(arena_bytes(layout), np.uint8)
        self._program = Program(layout, self._arena)
        self._words = self._arena.view(np.uint16)
        self._counts = np.zeros(layout.map_size, np.int32)
        self._cells = np.zeros([-(-side // changes.CELL) + 2 for side in (self.height, self.width)], np.uint8)
        whole = (0, self.height), (0, self.width)
        self._program.weigh(self._population, *whole, whole)
        self._maps: list[Map] = []
        self._rows: list[int] = []
        maps = {graph.nodes[0].name: self._add_map(self.height, self.width)}
        sums: list[Sum] = []
        taps: list[npt.NDArray[np.int64]] = []
        self._works: list[_Work] = []
        for i, step in enumerate(plan.passes):
            rows, columns = layout.domains[i]
            reads = []
            for read in (*layout.reads[i], *self._picture_reads(step)):
                m = maps[read.name]
                reads.append(
                    Reading(
                        map=self._maps[m], rows=self._rows[m], kernel=read.kernel, stride=read.stride,
                        padding=read.padding, factor=read.factor,
                    )
                )  # fmt: skip
            target = self._add_map(rows, columns)
            maps.setdefault(step.root, target)
            neurons = []
            for name in self._layers(step):
                maps[name] = self._add_map(rows, columns)
                first_sum = len(sums)
                for total, weights in enumerate(self._program.weights):
                    if weights.source == name:
                        first = sum(map(len, taps))
                        taps += [weights.rows, weights.columns.astype(np.int64)]
                        sums.append(Sum(rows=first, columns=first + rows, total=total))
                neurons.append(self._neurons(name, self._maps[maps[name]], rows, first_sum, len(sums)))
            form = plan.forms[layout.domain(step.root)]
            self._works.append(
                _Work(
                    step,
                    rows,
                    columns,
                    form.steps * form.channels,
                    _table([self._maps[target]], Map)[0],
                    _table(reads, Reading),
                    _table([self._program.task(i)], Task)[0],
                    _table(neurons, Neurons),
                    max((layer.position * layer.steps for layer in neurons), default=0),
                )  # fmt: skip
            )
        self._all_numbers = sum(work.weight * work.rows * work.columns for work in self._works)
        self._bits = np.zeros(sum(r * m.words for r, m in zip(self._rows, self._maps, strict=True)), np.int64)
        self._alive = np.zeros(len(self._maps), np.uint8)
        self._sums = _table(sums, Sum)
        self._taps = np.concatenate([*taps, np.zeros(0, np.int64)])
        most = max(
            -(-work.rows // work.template[TASK.height]) * (work.columns // (changes.GAP + 1) + 1)
            for work in self._works
        )
        self._tasks = np.zeros((most, TASK_FIELDS), np.int64)
        several = max(len(work.neurons) for work in self._works)
        self._old_words = np.zeros((several, self._saved_words()), np.uint16)
        widest = max(work.columns for work in self._works)
        self._row_counts = np.zeros(widest + changes.COUNTED, np.int32)
        self._differences = np.zeros(widest * max(work.saved for work in self._works), np.uint16)

    def _layers(self, step: Pass) -> tuple[str, ...]:
        """The layers of neurons whose spikes row operations of a pass compute."""
        return (step.root,) if step.by_rows and step.root in self.layout.maps else step.neurons

    def _saved_words(self) -> int:
        """Words of old spikes to keep at a time: those of all of a pass, or SAVED_WORDS, or two tasks at least."""
        layout = self.layout
        most = least = 0
        for number, step in enumerate(layout.plan.passes):
            rows, columns = layout.domains[number]
            for name in self._layers(step):
                words = columns * layout.plan.forms[name].steps * layout.plan.forms[name].pixel_bytes // 2
                most, least = max(most, rows * words), max(least, 2 * layout.blocks[number][0] * words)
        return min(most, max(least, SAVED_WORDS))

    def _add_map(self, rows: int, columns: int) -> int:
        first = self._maps[-1].first + self._rows[-1] * self._maps[-1].words if self._maps else 0
        words = padded(columns, 64) // 64
        self._maps.append(Map(number=len(self._maps), first=first, words=words, columns=columns))
        self._rows.append(rows)
        return len(self._maps) - 1

    def _picture_reads(self, step: Pass) -> list[Read]:
        """What a pass reads of the picture itself."""
        layout = self.layout
        graph, picture = layout.graph, layout.graph.nodes[0].name
        root = graph.node(step.root)
        reads = []
        for node in layout.computed_with(root):
            source = node.inputs[0] if node.inputs else ""
            if node.kind == "dense_conv" and source in layout.plan.inlined:
                factor = layout.plan.analysis.values[source].scale
                reads.append(Read(picture, node["kernel"] * factor, node["stride"] * factor, node["padding"] * factor))
        if root.kind == "image" or (root.kind == "space_to_depth" and root.inputs[0] in layout.plan.inlined):
            reads.append(Read(picture, layout.plan.forms[root.name].scale, layout.plan.forms[root.name].scale))
        if root.kind == "readout":
            factor = self.height // layout.domains[-1][0]
            reads.append(Read(picture, factor, factor))
        return reads

    def _neurons(self, name: str, spikes: Map, rows: int, first_sum: int, end_sum: int) -> Neurons:
        """A layer of neurons whose spikes are compared, in words of 16 bits."""
        place = self._program.memory.place(name)
        return Neurons(
            map=spikes, rows=rows, first=(place.address - self._arena.ctypes.data) // 2, step=place.step // 2,
            row=place.row // 2, position=place.column // 2, steps=self.layout.plan.forms[name].steps,
            first_sum=first_sum, end_sum=end_sum,
        )  # fmt: skip


def _positions(tasks: Integers) -> Integers:
    """How many positions each task computes."""
    rows, columns = tasks[:, TASK.end_row] - tasks[:, TASK.first_row], tasks[:, TASK.end_column]
    return rows * (columns - tasks[:, TASK.first_column])


def _table(rows: Sequence[Any], row: Any) -> Integers:
    """Rows of one sort (none, too) as kernels read them, int64 [n, fields]."""
    return np.array([numbers(found) for found in rows], np.int64).reshape(-1, width(row))
