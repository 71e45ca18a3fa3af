"""Everything that runs a plan for one size of picture: records and tasks, and what spikes count for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.engine.compiling import Rows
from simulator.engine.layout import Layout, Memory
from simulator.engine.plan import Pass
from simulator.engine.records import FIELDS, SLACK, TASK, Picture, Restored, Task, numbers, width
from simulator.engine.tables import ALIGNMENT, padded
from simulator.engine.whole import form_of
from simulator.engine.workers import Workers
from simulator.engine.writer import Weights, Writer
from simulator.statistics import Population, projections

Observer = Callable[[str, npt.NDArray[np.int64]], None]
Span = tuple[int, int]  # first, one past the last


class Program:
    """A layout in memory, and all that computes it. Scratch memory of the threads is the program's own.

    records: int64 [threads, n, FIELDS]. spans: of each pass, its first record and the one after its last. segments:
    tasks (rows of `records.Task`) for the workers, or a pass computed as a whole; names: {first record: what a task
    computes}. weights: of the spike counts, one for each column of totals int64 [threads, n].
    """

    def __init__(self, layout: Layout, arena: npt.NDArray[np.uint8]):
        self.layout, self.plan, self.memory = layout, layout.plan, Memory(layout, arena)
        analysis, threads = self.plan.analysis, layout.threads
        self.weights = [
            Weights(name, np.zeros(layout.maps[name][2], np.int32), np.zeros(layout.maps[name][1], np.int64))
            for name in (*layout.maps, *(p.source for p in projections(analysis, layout.height, layout.width)))
        ]
        self._weighed: tuple[Any, ...] = ()  # what the weights are for
        self.totals = np.zeros((threads, padded(len(self.weights), ALIGNMENT // 8)), np.int64)
        self._counts = np.zeros(0, np.int32)
        self._write(threads)
        self._cut()

    def _write(self, threads: int) -> None:
        """Make the records."""
        self._kept: list[npt.NDArray[Any]] = []  # memory that records point to
        self.spans: list[Span] = []
        self.names: dict[int, str] = {}
        records: list[list[int]] = []
        relative: list[tuple[int, int]] = []
        given: dict[str, list[tuple[int, int, int]]] = {"picture": [], "restored": [], "counts": [], "totals": []}
        scratch_size = SLACK + ALIGNMENT
        for number, step in enumerate(self.plan.passes):
            before = len(records)
            if step.by_rows:
                writer = Writer(self.memory, number, self.weights)
                records += writer.records
                relative += [(before + record, at) for record, at in writer.relative]
                for record, at, what in writer.given:
                    given[what.what].append((before + record, at, what.offset))
                self._kept += writer.arrays
                scratch_size = max(scratch_size, writer.scratch_size + SLACK + ALIGNMENT)
                self.names[before] = " + ".join((step.root, *step.neurons))
            self.spans.append((before, len(records)))
        self.records = np.array([records] * threads, np.int64).reshape(threads, -1, FIELDS)
        for thread in range(threads):
            scratch = np.zeros(scratch_size, np.uint8)
            self._kept.append(scratch)
            for record, at in relative:
                self.records[thread, record, at] += padded(scratch.ctypes.data, ALIGNMENT)
            for record, at, offset in given["totals"]:
                self.records[thread, record, at] = self.totals[thread].ctypes.data + offset
        # What changes from call to call: columns of records, fields, and bytes to add to an address.
        self._pictures, self._restored, self._counted = (
            np.array(given[what], np.int64).reshape(-1, 3).T for what in ("picture", "restored", "counts")
        )

    def _cut(self) -> None:
        """Make tasks of the steps, in segments between passes that are computed as a whole."""
        self.segments: list[Pass | Rows] = []
        tasks: list[Task] = []
        for step in self.layout.order:
            if self.plan.passes[step.number].by_rows:
                tasks.append(self.task(step.number)._replace(first_row=step.first, end_row=step.end))
                continue
            if tasks:
                self.segments.append(np.array(tasks, np.int64))
                tasks = []
            self.segments.append(self.plan.passes[step.number])
        if tasks:
            self.segments.append(np.array(tasks, np.int64))

    def task(self, number: int) -> Task:
        """All rows and columns of a pass."""
        (first, end), (rows, columns) = self.spans[number], self.layout.domains[number]
        height, block = self.layout.blocks[number]
        return Task(
            first_record=first, end_record=end, first_row=0, end_row=rows, height=height, first_column=0,
            end_column=columns, block=block,
        )  # fmt: skip

    def weigh(self, population: Population, rows: Span, columns: Span, inner: tuple[Span, Span]) -> None:
        """Fill in what spikes count for: what they do in the whole image, nothing outside the inner part."""
        key = (population, rows, columns, inner)
        if self._weighed == key:
            return
        for weights, (name, own_rows, own_columns) in zip(self.weights, population.weights(), strict=True):
            scale = self.plan.forms[name].scale
            axes: tuple[tuple[npt.NDArray[Any], npt.NDArray[np.int64], Span, Span], ...] = (
                (weights.rows, own_rows, rows, inner[0]), (weights.columns, own_columns, columns, inner[1]),
            )  # fmt: skip
            for target, weight, part, span in axes:
                first, end = span[0] // scale, min(span[1] // scale, len(weight))
                target[:] = 0
                target[first - part[0] // scale : end - part[0] // scale] = weight[first:end]
        self._weighed = key

    def sums(self) -> list[int]:
        """What all spikes counted for, in the order of `Population.weights`."""
        return [int(total) for total in self.totals.sum(0)[: len(self.weights)]]

    def run(
        self,
        workers: Workers,
        picture: tuple[npt.NDArray[Any], Picture],
        restored: tuple[npt.NDArray[np.uint8], Restored],
        counts: npt.NDArray[np.int32],
        observe: Observer | None = None,
    ) -> None:
        """Run all passes on a picture; what spikes count for is added to the totals.

        picture, restored: arrays, and their fields. counts: int32, `map_size` of the layout at least. observe: sees the
        output of every node, if nothing is fused. SIMULATOR_TIMING=1 in the environment prints what each pass took.
        """
        held = (picture[0], restored[0], counts)  # kernels know them by address only
        for (places, fields, _), row in ((self._pictures, picture[1]), (self._restored, restored[1])):
            for record, at in zip(places, fields, strict=True):
                self.records[:, record, at : at + width(row)] = numbers(row)
        if self._counts is not counts:
            places, fields, offsets = self._counted
            self.records[:, places, fields] = counts.ctypes.data + offsets
            self._counts = counts
        timing = bool(os.environ.get("SIMULATOR_TIMING"))
        spent: dict[str, float] = {}
        for segment in self.segments:
            if isinstance(segment, Pass):
                begin = time.perf_counter()
                self.evaluate(segment)
                spent[segment.root] = time.perf_counter() - begin
                if observe:
                    observe(segment.root, self.memory.channels_first(segment.root))
            elif observe or timing:
                for i in range(len(segment)):
                    name = self.names[int(segment[i, TASK.first_record])]
                    begin = time.perf_counter()
                    workers.run_together(self.records, segment[i : i + 1], held)
                    spent[name] = spent.get(name, 0.0) + time.perf_counter() - begin
                    if observe:
                        for part in name.split(" + "):
                            self._show(observe, part, restored[0])
            else:
                workers.run_together(self.records, segment, held)
        if timing:
            for name, seconds in spent.items():
                print(f"{1e3 * seconds:8.3f} ms  {name}", file=sys.stderr)

    def evaluate(self, step: Pass) -> None:
        """Compute a pass without row operations, and count its spikes if it is a layer of neurons."""
        plan, name = self.plan, step.root
        form, stored = plan.forms[name], self.memory.stored(name)
        value = stored if form.size else np.zeros((*stored.shape[:3], form.lanes), np.uint8)
        value[..., form.channels :] = 0
        node = plan.analysis.graph.node(name)
        inputs = [self.memory.value(source) for source in node.inputs]
        form_of(node)(node, inputs, plan.tensors[name], plan.analysis, value[..., : form.channels])
        if form.size == 0:
            stored[...] = np.packbits(value, axis=3, bitorder="little")
        if name in self.layout.maps:
            self._count(name, value.sum((0, 3), dtype=np.int32))

    def _count(self, name: str, spikes: npt.NDArray[np.int32]) -> None:
        """Put down a layer's spikes, int32 [h, w], and add what they count for."""
        self._counts_of(name)[...] = spikes
        self._add(name, 1)

    def uncount(self, name: str) -> None:
        """Take what a layer's spikes counted for off the totals, before they are computed anew."""
        self._add(name, -1)

    def _counts_of(self, name: str) -> npt.NDArray[np.int32]:
        first, h, w = self.layout.maps[name]
        return self._counts[first : first + h * w].reshape(h, w)

    def _add(self, name: str, times: int) -> None:
        spikes = self._counts_of(name).astype(np.int64)
        for i, weights in enumerate(self.weights):
            if weights.source == name:
                self.totals[0, i] += times * int(weights.rows @ (spikes @ weights.columns))

    def _show(self, observe: Observer, name: str, restored: npt.NDArray[np.uint8]) -> None:
        """`restored` [H, W, 3] is what the readout gives."""
        if name == self.layout.graph.nodes[-1].name:
            observe(name, restored.transpose(2, 0, 1)[None].astype(np.int64))
        else:
            observe(name, self.memory.channels_first(name))
