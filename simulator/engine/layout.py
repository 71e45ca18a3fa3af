"""A plan for one size of picture: where values lie in memory, and in which order rows are computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.engine.plan import Pass, Plan, fires_by_rows, neurons_of
from simulator.engine.records import SLACK, Place
from simulator.engine.tables import ALIGNMENT, INDEX_LIMIT, LANES, LEAST_BLOCK, padded
from simulator.graph import Node

SCRATCH_ROW_BYTES = 16 * 1024  # what a block of columns may take per row and value
BAND_ROWS = 16  # of the picture and per thread, for each turn of a pass


@dataclass(frozen=True)
class Read:
    """Rows of a stored value that a pass needs: y * stride - padding .. + kernel - 1 for its row y, or y // factor."""

    name: str
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    factor: int = 1

    def first(self, y: int) -> int:
        return max(0, y * self.stride - self.padding) // self.factor

    def ready(self, rows: int) -> int:
        """How many output rows can be computed from the first `rows` rows."""
        return max(0, (rows * self.factor - self.kernel + self.padding) // self.stride + 1)


@dataclass(frozen=True)
class Step:
    """Rows first .. end - 1 of a pass."""

    number: int
    first: int
    end: int


@dataclass
class _Arena:
    """Offsets in one block of memory: first fit among what is alive."""

    size: int = 0
    alive: list[tuple[int, int, str]] = field(default_factory=list)  # (first, end, name), sorted

    def take(self, name: str, size: int) -> int:
        size = padded(size + SLACK, ALIGNMENT)
        first = 0
        for begin, end, _ in self.alive:
            if begin - first >= size:
                break
            first = max(first, end)
        self.alive.append((first, first + size, name))
        self.alive.sort()
        self.size = max(self.size, first + size)
        return first

    def drop(self, name: str) -> None:
        self.alive = [entry for entry in self.alive if entry[2] != name]


class Layout:
    """Order and places for pictures of height x width pixels (multiples of the stride) on so many threads.

    Passes take turns, a band of rows each as soon as its inputs are there, so that most of what one writes is still in
    the second-level cache when the next reads it, and a value keeps only the rows that somebody still needs (a ring).
    Without `banded` each pass computes all of its rows at once. With `keep`, all rows of every stored value stay where
    they are, beside one another, so that parts of them can be computed anew (`simulator.engine.video`).

    maps: {layer of neurons: (offset in int32, h, w)} of spike counts, `map_size` int32 in all; with `keep`, those that
    row operations write are only there until the next pass. Of each pass: domains,
    rows and columns; blocks, rows and columns that go through its records together; reads, what it reads of stored
    values. order: the steps. rows_kept, offsets (bytes): of each stored value. arena_size: bytes for all of them and,
    from zero_offset on, a row of zeros, which stands for spikes beyond the border.
    """

    def __init__(self, plan: Plan, height: int, width: int, threads: int, banded: bool = True, keep: bool = False):
        self.plan, self.height, self.width, self.threads = plan, height, width, threads
        self.graph = plan.analysis.graph
        extents = {name: self.extent(name) for name in neurons_of(self.graph)}
        sizes = {name: padded(h * w, LANES) for name, (h, w) in extents.items()}
        # With `keep` nobody asks for the counts again where row operations count: they take turns in one place.
        passing = [name for name in sizes if keep and fires_by_rows(self.graph.node(name))]
        self.map_size = max((sizes[name] for name in passing), default=0)
        self.maps: dict[str, tuple[int, int, int]] = {}
        for name, (h, w) in extents.items():
            self.maps[name] = (0 if name in passing else self.map_size, h, w)
            self.map_size += 0 if name in passing else sizes[name]
        self.domains = [self.extent(self.domain(step.root)) for step in plan.passes]
        self.blocks = [self._block(step, self.domains[i][1]) for i, step in enumerate(plan.passes)]
        self.reads = [tuple(self._reads(step.root)) for step in plan.passes]
        self._schedule(banded, keep)
        self._assign_memory(keep)

    def extent(self, name: str) -> tuple[int, int]:
        """Rows and columns of a value."""
        scale = self.plan.forms[name].scale
        return self.height // scale, self.width // scale

    def pitch(self, name: str) -> int:
        """Columns from one row to the next: even, so that 32 lanes that start in a row end in it."""
        return padded(self.extent(name)[1], 2)

    def bytes_of(self, name: str) -> int:
        form = self.plan.forms[name]
        return form.steps * self.rows_kept[name] * self.pitch(name) * form.pixel_bytes

    def domain(self, root: str) -> str:
        """The value whose rows a pass runs over: its root, or what the readout shuffles."""
        node = self.graph.node(root)
        if node.kind == "readout":
            source = self.graph.node(node.inputs[0])
            return source.inputs[0] if source.kind == "upsample" and source.name in self.plan.inlined else source.name
        return root

    def computed_with(self, node: Node) -> list[Node]:
        """The node and everything computed in its pass before it."""
        result = [node]
        for name in node.inputs:
            if name in self.plan.inlined:
                result += self.computed_with(self.graph.node(name))
        return result

    def _block(self, step: Pass, width: int) -> tuple[int, int]:
        """Rows and columns per block: scratch rows stay near the first-level cache, numbers of events in 16 bits."""
        nodes = self.computed_with(self.graph.node(step.root))
        tables = {node.name: self.plan.spike_tables.get(node.name, ()) for node in nodes}
        height = max((table.rows for parts in tables.values() for table in parts), default=1)
        if any(self.plan.winograd_tables.get(node.name) for node in nodes):
            height = 2
        most = padded(width, 16)
        for node in nodes:
            form = self.plan.forms[node.name]
            if form.size:
                most = min(most, SCRATCH_ROW_BYTES // (form.steps * form.pixel_bytes))
            for table in tables[node.name]:
                kernel, stride = node["kernel"], node["stride"]
                rows = (table.rows - 1) * stride + kernel
                per_column = rows * table.words * LANES * 8 * table.vectors
                if not table.slides:
                    multiples = table.together * ((table.columns - 1) * stride + kernel)
                    most = min(most, (INDEX_LIMIT // per_column - kernel - multiples) // stride)
        return height, max(LEAST_BLOCK, most // LEAST_BLOCK * LEAST_BLOCK)

    def _reads(self, name: str) -> list[Read]:
        """What the pass of root `name` reads of stored values."""
        node = self.graph.node(name)
        result = []
        for source in node.inputs:
            if source in self.plan.views:
                view = self.graph.node(source)
                result.append(Read(view.inputs[0], factor=view["factor"]))
            elif source in self.plan.inlined:
                result += self._reads(source)
            elif node.kind in ("conv", "dense_conv"):
                result.append(Read(source, node["kernel"], node["stride"], node["padding"]))
            else:
                result.append(Read(source))
        return result

    def _schedule(self, banded: bool, keep: bool) -> None:
        """Order the rows of all passes (`order`) and find how many rows of each value are alive (`rows_kept`)."""
        passes = self.plan.passes
        made_by = {name: i for i, step in enumerate(passes) for name in (step.root, *step.neurons)}
        done = [0] * len(passes)
        alive = dict.fromkeys(made_by, 0)
        whole = {r.name for i, step in enumerate(passes) if not step.by_rows for r in self.reads[i]}
        whole |= {step.root for step in passes if not step.by_rows}
        readers: dict[str, list[tuple[int, Read]]] = {name: [] for name in made_by}
        for i, reads in enumerate(self.reads):
            for read in reads:
                readers[read.name].append((i, read))
        image_rows = BAND_ROWS * self.threads
        self.order: list[Step] = []
        while any(done[i] < self.domains[i][0] for i in range(len(passes))):
            for i, step in enumerate(passes):
                rows = self.domains[i][0]
                height = self.blocks[i][0]
                band = max(height, image_rows * rows // self.height // height * height)
                limit = min(rows, done[i] + band) if banded and step.by_rows else rows
                for read in self.reads[i]:
                    made = done[made_by[read.name]]
                    if made < self.extent(read.name)[0]:
                        limit = min(limit, read.ready(made) if step.by_rows else 0)
                if limit < rows:
                    limit = limit // height * height
                if limit <= done[i]:
                    continue
                self.order.append(Step(i, done[i], limit))
                for name in (step.root, *step.neurons):
                    first = [r.first(done[j]) for j, r in readers[name] if done[j] < self.domains[j][0]]
                    alive[name] = max(alive[name], limit - min([done[i], *first]))
                done[i] = limit
        self.rows_kept: dict[str, int] = {}
        for name, rows in alive.items():
            kept = 1 << (rows - 1).bit_length()
            every = self.extent(name)[0]
            self.rows_kept[name] = every if keep or name in whole or not banded else min(kept, every)

    def _assign_memory(self, keep: bool) -> None:
        passes = self.plan.passes
        first_use: dict[str, int] = {}
        last_use: dict[str, int] = {}
        for at, step in enumerate(self.order):
            root = passes[step.number]
            for name in (*((root.root,) if root.stored else ()), *root.neurons):
                first_use.setdefault(name, at)
                last_use[name] = max(last_use.get(name, 0), at)
            for read in self.reads[step.number]:
                last_use[read.name] = at
        arena = _Arena()
        self.offsets: dict[str, int] = {}
        begins: dict[int, list[str]] = {}
        ends: dict[int, list[str]] = {}
        for name, at in first_use.items():
            begins.setdefault(at, []).append(name)
            ends.setdefault(last_use[name], []).append(name)
        for at in range(len(self.order)):
            for name in begins.get(at, ()):
                self.offsets[name] = arena.take(name, self.bytes_of(name))
            for name in () if keep else ends.get(at, ()):
                arena.drop(name)
        self.zero_offset = arena.size
        widest = max((self.pitch(n) * f.pixel_bytes for n, f in self.plan.forms.items() if f.size == 0), default=0)
        self.arena_size = arena.size + padded(widest + SLACK, ALIGNMENT)


class Memory:
    """A layout's values in the array `arena`, uint8, of `arena_bytes(layout)` at least."""

    def __init__(self, layout: Layout, arena: npt.NDArray[np.uint8]):
        self.layout, self.arena = layout, arena
        self._base = padded(arena.ctypes.data, ALIGNMENT)

    @property
    def zeros(self) -> int:
        """Address of the row of zeros."""
        return self._base + self.layout.zero_offset

    def clear_zeros(self) -> None:
        """Make the row of zeros one: it lies at another offset in each layout, where others keep values."""
        first = self.zeros - self.arena.ctypes.data
        self.arena[first : first + self.layout.arena_size - self.layout.zero_offset] = 0

    def place(self, name: str) -> Place:
        """Where a stored value lies."""
        layout, form = self.layout, self.layout.plan.forms[name]
        row = layout.pitch(name) * form.pixel_bytes
        kept = layout.rows_kept[name]
        step = row * kept if form.steps > 1 else 0
        mask = -1 if kept >= layout.extent(name)[0] else kept - 1
        return Place(self._base + layout.offsets[name], step, row, form.pixel_bytes, mask)

    def stored(self, name: str) -> npt.NDArray[Any]:
        """A stored value as it lies there: numbers [T or 1, H, W, Cp], or bytes of spikes [T or 1, H, W, Cp / 8]."""
        layout, form = self.layout, self.layout.plan.forms[name]
        first = self.place(name).address - self.arena.ctypes.data
        kinds: dict[int, Any] = {0: np.uint8, 2: np.int16, 4: np.int32}
        flat: npt.NDArray[Any] = self.arena[first : first + layout.bytes_of(name)].view(kinds[form.size])
        rows = flat.reshape(form.steps, layout.rows_kept[name], layout.pitch(name), -1)
        return rows[:, :, : layout.extent(name)[1]]

    def value(self, name: str) -> npt.NDArray[Any]:
        """A stored value [T or 1, H, W, C] without its padding; spikes as a new uint8 array of zeros and ones."""
        form, stored = self.layout.plan.forms[name], self.stored(name)
        if form.size == 0:
            stored = np.unpackbits(stored, axis=3, bitorder="little")
        return stored[..., : form.channels]

    def channels_first(self, name: str) -> npt.NDArray[np.int64]:
        """A stored value as the reference holds it, [T or 1, C, H, W]."""
        value: npt.NDArray[np.int64] = self.value(name).transpose(0, 3, 1, 2).astype(np.int64)
        return value


def arena_bytes(layout: Layout) -> int:
    """Bytes of an array in which `Memory` can align a layout's values."""
    return layout.arena_size + ALIGNMENT
