"""From a graph to passes of row operations: what is fused with what, in which order, and where it lies in memory.

`build_network` does everything that does not depend on the image's size (weight tables, which nodes share a pass);
`Layout` adds the size (places in one arena, records for `kernels.run_tasks`).

A *root* is a value that a whole pass computes: it has several readers, or one that needs all of it first (a convolution
needs its neighbour rows). Every other convolution, requantise, sum or time sum is computed inside the pass of its only
reader, row by row in scratch memory. The neurons that read a root fire in its pass; a root that nothing but neurons
reads is never stored. An upsampling by repetition that only sums read is an index, not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import INT16_LIMIT, Analysis
from simulator.engine import kernels
from simulator.graph import IMAGE_GRID, Graph, Node
from simulator.statistics import projections

Tensors = Mapping[str, npt.NDArray[np.int32]]
Program = npt.NDArray[np.int64]

LANES = 16  # channels are padded to this
ROW_KINDS = ("conv", "dense_conv", "requantise", "sum", "time_sum")
INDEX_LIMIT = 1 << 16  # events are uint16
SCRATCH_ROW_BYTES = 16 * 1024  # what a block of columns may take per row and value
TABLE_BYTES = 32 * 1024  # a weight table should stay in the first-level cache beside events and sums
LEAST_BLOCK = 8  # columns
SLIDES = 3  # columns of a kernel whose sums slide along
POINT_WORDS = 64  # of 4 KiB each, in the table of a 1x1 convolution
BAND_ROWS = 16  # of the picture and per thread, for each turn of a pass
SLACK = kernels.DIRECT_BYTES  # vectors may run over the end of anything by less than this
ALIGNMENT = 64
PATCH_FIELDS = {"picture": 8, "restored": 8, "maps": 1, "totals": 1}  # fields of records that change with the call


def padded(n: int, to: int = LANES) -> int:
    return -(-n // to) * to


def aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that starts at a multiple of 64 bytes: a vector that straddles two cache lines costs two loads."""
    memory = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@dataclass(frozen=True)
class Form:
    """How a value lies in memory: steps (1 if static), channels padded, bytes per number (0: bits of spikes)."""

    steps: int
    channels: int
    lanes: int
    size: int
    scale: int

    @property
    def pixel_bytes(self) -> int:
        return self.lanes * self.size if self.size else self.lanes // 8


@dataclass(frozen=True)
class SpikeTable:
    """Weights of some input channels of one group of a spiking convolution, for `kernels.CONV`.

    A block of `rows` x `columns` output pixels shares one run of events. table [chunks, candidates + 1, vectors * 64
    bytes of output lanes], the last row zero; bias [chunks, vectors * 64 bytes]; pieces: where each 16 lanes go, in
    bytes from the block's first pixel, without the `piece_rows` rows below it. With `slides` = 3 the sums of three
    columns slide over the row, and a row of the table has `vectors` for each, the leftmost first.
    """

    first_word: int
    words: int
    adds: bool  # to what another table left for the same outputs
    rows: int
    columns: int
    slides: int
    vectors: int
    chunks: int
    table: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    pieces: npt.NDArray[np.int64]
    piece_rows: npt.NDArray[np.int64]


@dataclass(frozen=True)
class PointTable:
    """Weights of a 1x1 spiking convolution for `kernels.POINT_CONV`: [vectors, words, 4, 16, 64 bytes], the sums of all
    combinations of each four channels."""

    words: int
    vectors: int
    table: npt.NDArray[Any]
    bias: npt.NDArray[Any]


@dataclass(frozen=True)
class DenseTable:
    """Weights of one group of a real-valued convolution, for `kernels.DENSE_CONV`: 16 output lanes per chunk."""

    first_channel: int
    channels: int
    first_lane: int
    chunks: int
    weight: npt.NDArray[Any]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True)
class NeuronTable:
    """Threshold, bias and leak of a layer's neurons, 32 lanes at a time, `repeat` times until they start again."""

    wide: bool
    repeat: int
    parameters: npt.NDArray[Any]


@dataclass(frozen=True)
class Pass:
    """One root and what is computed with it. kind "rows": by `kernels.run_tasks`; "whole": by `whole.evaluate`."""

    kind: str
    root: str
    neurons: tuple[str, ...]
    stored: bool


@dataclass(frozen=True)
class Plan:
    """All of a network that does not depend on the image's size."""

    analysis: Analysis
    forms: Mapping[str, Form]
    passes: tuple[Pass, ...]
    inlined: frozenset[str]
    views: frozenset[str]
    spike_tables: Mapping[str, tuple[SpikeTable, ...]]
    point_tables: Mapping[str, PointTable]
    dense_tables: Mapping[str, tuple[DenseTable, ...]]
    neuron_tables: Mapping[str, NeuronTable]


def _merged_groups(groups: int, inputs: int, outputs: int, size: int) -> int:
    """How many neighbouring groups are computed as one (zeros between them): both sides fill words of 16 lanes, and
    the outputs fill vectors of 64 bytes or half of one."""
    vector = 64 // size
    for merge in range(1, groups):
        lanes = merge * outputs
        fits = lanes % vector == 0 or lanes == LANES
        if groups % merge == 0 and merge * inputs % LANES == 0 and fits:
            return merge
    return groups


def _group_weights(weight: npt.NDArray[np.int32], groups: int, size: int) -> list[npt.NDArray[np.int32]]:
    """Dense weights [C_out, C_in, k, k] of each group, small groups merged into block-diagonal ones."""
    c_out, inputs, kernel, _ = weight.shape
    outputs = c_out // groups
    merge = _merged_groups(groups, inputs, outputs, size)
    result = []
    for first in range(0, groups, merge):
        whole = np.zeros((merge * outputs, merge * inputs, kernel, kernel), np.int32)
        for i in range(merge):
            rows, columns = slice(i * outputs, (i + 1) * outputs), slice(i * inputs, (i + 1) * inputs)
            whole[rows, columns] = weight[(first + i) * outputs : (first + i + 1) * outputs]
        result.append(whole)
    return result


def _block_shape(kernel: int, stride: int, words: int, lanes: int, size: int) -> tuple[int, int]:
    """Rows and columns of the block of output pixels that share a run of events: the cheapest that fits the cache.

    Per event a block loads a row of `lanes` for each of its pixels; a larger block reads more events that do not
    concern all of its pixels, but pays for the run's start and mispredicted end once. In cycles, at 10 % spikes.
    """

    def cost(rows: int, columns: int) -> float:
        events = 0.1 * ((rows - 1) * stride + kernel) * ((columns - 1) * stride + kernel) * words * LANES
        vectors = rows * columns * lanes * size / 64
        return (events * (vectors / 2 + 0.15) + 35) / (rows * columns)

    def table_bytes(rows: int, columns: int) -> int:
        cells = ((rows - 1) * stride + kernel) * ((columns - 1) * stride + kernel)
        return cells * words * LANES * rows * columns * lanes * size

    shapes = [s for s in ((1, 1), (1, 2), (2, 1), (2, 2)) if s[0] * s[1] * lanes * size % 64 == 0]
    small = [s for s in shapes if table_bytes(*s) <= TABLE_BYTES]
    return min(small or shapes[:1], key=lambda shape: cost(*shape))


def spike_tables(node: Node, own: Tensors, wide: bool) -> tuple[SpikeTable, ...]:
    kernel, stride = node["kernel"], node["stride"]
    size = 4 if wide else 2
    kind = np.int32 if wide else np.int16
    weights = _group_weights(own["weight"], node["groups"], size)
    c_out, c_in = weights[0].shape[:2]
    lanes, all_lanes = padded(c_out), padded(node["channels"])
    words = padded(c_in) // LANES
    rows, columns = _block_shape(kernel, stride, words, lanes, size)
    # Half a vector of lanes slides too, together with that of the row below.
    slides = SLIDES if (kernel, stride) == (SLIDES, 1) and (lanes * size % 64 == 0 or lanes * size == 32) else 0
    if slides:
        rows, columns = (1 if lanes * size % 64 == 0 else 2), 1
    cells = ((rows - 1) * stride + kernel, (columns - 1) * stride + kernel)
    total = rows * columns * lanes
    needed = total * size // 64
    vectors = max(v for v in range(1, (2 if slides else kernels.TABLE_VECTORS) + 1) if needed % v == 0)
    # As many input channels at once as leave room for the columns of a small block among 2^16 offsets.
    most_words = max(1, INDEX_LIMIT // ((LEAST_BLOCK * stride + kernel) * cells[0] * LANES * 8 * vectors))
    tables = []
    for g, weight in enumerate(weights):
        for first in range(0, words, most_words):
            count = min(most_words, words - first)
            part = weight[:, first * LANES : (first + count) * LANES]
            table = np.zeros((cells[1], cells[0], count * LANES, total), kind)
            bias, pieces, piece_rows = np.zeros(total, kind), [], []
            for p in range(rows * columns):
                row, column = divmod(p, columns)
                own_lanes = slice(p * lanes, p * lanes + c_out)
                for dy in range(kernel):
                    for dx in range(kernel):
                        place = table[column * stride + dx, row * stride + dy, : part.shape[1], own_lanes]
                        place[:] = part[:, :, dy, dx].T
                if "bias" in own and first == 0:
                    bias[own_lanes] = own["bias"][g * c_out : (g + 1) * c_out]
                pieces += [(column * all_lanes + g * c_out + i) * size for i in range(0, lanes, LANES)]
                piece_rows += [row] * (lanes // LANES)
            step = vectors * 64 // size
            if slides:  # the columns of the kernel side by side; the last is for the leftmost output column
                flat = np.ascontiguousarray(table[::-1].transpose(1, 2, 0, 3)).reshape(-1, slides, total)
            else:
                flat = table.reshape(-1, 1, total)
            flat = np.concatenate([flat, np.zeros_like(flat[:1])])
            chunks = [flat[:, :, i : i + step].reshape(-1) for i in range(0, total, step)]
            made = SpikeTable(
                g * (c_in // LANES) + first, count, first > 0, rows, columns, slides, vectors, needed // vectors,
                aligned(np.concatenate(chunks)), aligned(bias), np.array(pieces, np.int64),
                np.array(piece_rows, np.int64),
            )  # fmt: skip
            tables.append(made)
    return tuple(tables)


def point_table(node: Node, own: Tensors, wide: bool) -> PointTable | None:
    """For a 1x1 convolution without stride or groups whose output lanes fill vectors; None for any other.

    None also for so many channels that the table would outgrow the cache: lists of spikes need less.
    """
    lanes, kind = padded(node["channels"]), np.int32 if wide else np.int16
    per_vector = 16 if wide else 32
    weight = own["weight"][:, :, 0, 0]
    words = padded(weight.shape[1]) // LANES
    large = words * (lanes // per_vector) > POINT_WORDS
    if (node["kernel"], node["stride"], node["groups"]) != (1, 1, 1) or lanes % per_vector or large:
        return None
    whole = np.zeros((lanes, words * LANES), kind)
    whole[: weight.shape[0], : weight.shape[1]] = weight
    fours = whole.reshape(-1, per_vector, words, 4, 4)  # [vector, lane, word, fours, one of four]
    combinations = np.arange(16)[:, None] >> np.arange(4) & 1
    table = np.einsum("vlwfi,ci->vwfcl", fours, combinations.astype(kind))
    bias = np.zeros(lanes, kind)
    if "bias" in own:
        bias[: node["channels"]] = own["bias"]
    return PointTable(words, lanes // per_vector, aligned(table), aligned(bias))


def dense_tables(node: Node, own: Tensors, wide_input: bool) -> tuple[DenseTable, ...]:
    kernel = node["kernel"]
    tables = []
    for g, weight in enumerate(_group_weights(own["weight"], node["groups"], 4)):
        c_out, c_in = weight.shape[:2]
        channels, chunks = padded(c_in, 2), padded(c_out) // LANES
        full = np.zeros((chunks * LANES, channels, kernel, kernel), np.int32)
        full[:c_out, :c_in] = weight
        # [chunk, ky, kx, c, lane]; int16 pairs of channels lie side by side within a lane.
        order = full.reshape(chunks, LANES, channels, kernel, kernel).transpose(0, 3, 4, 2, 1)
        if not wide_input:
            order = order.reshape(chunks, kernel, kernel, channels // 2, 2, LANES).swapaxes(4, 5).astype(np.int16)
        bias = np.zeros(chunks * LANES, np.int32)
        if "bias" in own:
            bias[:c_out] = own["bias"][g * c_out : (g + 1) * c_out]
        tables.append(DenseTable(g * c_in, channels, g * c_out, chunks, aligned(order), aligned(bias)))
    return tuple(tables)


def neuron_table(own: Tensors, lanes: int, wide: bool) -> NeuronTable:
    kind = np.int32 if wide else np.int16
    repeat = int(np.lcm(lanes, 32)) // 32
    rows = []
    for part, beyond in (("threshold", np.iinfo(kind).max), ("bias", 0), ("leak", 0)):
        row = np.full(lanes, beyond, np.int64)  # lanes beyond the channels receive no current and never fire
        row[: len(own[part])] = own[part]
        rows.append(np.tile(row, repeat * 32 // lanes).reshape(repeat, 32))
    return NeuronTable(wide, repeat, aligned(np.stack(rows, axis=1).astype(kind)))


def build_plan(analysis: Analysis, tensors: Tensors, fused: bool = True) -> Plan:
    graph = analysis.graph
    own: dict[str, dict[str, npt.NDArray[np.int32]]] = {node.name: {} for node in graph.nodes}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        own[layer][part] = tensor
    forms = {node.name: _form(node, analysis) for node in graph.nodes}
    readers: dict[str, list[Node]] = {node.name: [] for node in graph.nodes}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name].append(node)
    inlined, views = set(), set()
    for node in graph.nodes if fused else ():
        kinds = [reader.kind for reader in readers[node.name]]
        if node.kind in ROW_KINDS and len(kinds) == 1 and kinds[0] in ("requantise", "sum", "time_sum", "readout"):
            inlined.add(node.name)
        if node.kind == "upsample" and not forms[node.name].size == 0:
            if node["mode"] == "nearest" and kinds and set(kinds) == {"sum"} and node.inputs[0] not in views:
                views.add(node.name)
    last = graph.nodes[-1]
    shuffle = graph.node(last.inputs[0])
    if fused and shuffle.kind == "upsample" and shuffle["mode"] == "depth_to_space" and len(readers[shuffle.name]) == 1:
        inlined.add(shuffle.name)
        if graph.node(shuffle.inputs[0]).kind in ROW_KINDS and len(readers[shuffle.inputs[0]]) == 1:
            inlined.add(shuffle.inputs[0])
    picture = graph.nodes[0].name
    if fused and [reader.kind for reader in readers[picture]] == ["space_to_depth"]:
        inlined.add(picture)

    passes = []
    for node in graph.nodes:
        name = node.name
        if name in inlined or name in views or (node.kind == "lif" and _fires_with_its_input(graph, node)):
            continue
        neurons = tuple(r.name for r in readers[name] if r.kind == "lif") if node.kind in ROW_KINDS else ()
        stored = not fused or node.kind not in ROW_KINDS or len(neurons) < len(readers[name])
        by_rows = node.kind in (*ROW_KINDS, "lif", "image", "readout") or (
            node.kind == "space_to_depth" and node.inputs[0] in inlined
        )
        passes.append(Pass("rows" if by_rows else "whole", name, neurons, stored))
    spikes: dict[str, tuple[SpikeTable, ...]] = {}
    points: dict[str, PointTable] = {}
    for node in graph.nodes:
        if node.kind == "conv":
            wide = forms[node.name].size == 4
            point = point_table(node, own[node.name], wide)
            if point:
                points[node.name] = point
            else:
                spikes[node.name] = spike_tables(node, own[node.name], wide)
    dense = {
        n.name: dense_tables(n, own[n.name], forms[n.inputs[0]].size == 4)
        for n in graph.nodes
        if n.kind == "dense_conv"
    }
    neurons_of = {
        n.name: neuron_table(own[n.name], forms[n.name].lanes, _wide_membrane(n, analysis, forms))
        for n in graph.nodes
        if n.kind == "lif"
    }
    return Plan(analysis, forms, tuple(passes), frozenset(inlined), frozenset(views), spikes, points, dense, neurons_of)


def _wide_membrane(node: Node, analysis: Analysis, forms: Mapping[str, Form]) -> bool:
    """Whether a neuron needs 32 bits; its input may, for partial sums larger than their total, where it does not."""
    return analysis.width(node.name) == "int32" or forms[node.inputs[0]].size == 4


def _fires_with_its_input(graph: Graph, node: Node) -> bool:
    return graph.node(node.inputs[0]).kind in ROW_KINDS


def _form(node: Node, analysis: Analysis) -> Form:
    value = analysis.values[node.name]
    steps = 1 if value.static else analysis.graph.time_steps
    if value.spikes:
        size = 0
    elif node.kind in ("conv", "dense_conv", "sum", "time_sum"):
        size = 2 if analysis.bounds[node.name] <= INT16_LIMIT else 4
    else:
        size = 2 if value.magnitude <= INT16_LIMIT else 4
    return Form(steps, value.channels, padded(value.channels), size, value.scale)


@dataclass
class Place:
    """Address of step 0, row 0, column 0; bytes to the next of each; mask of row numbers (see `kernels`)."""

    address: int
    step: int
    row: int
    column: int
    mask: int

    def fields(self) -> tuple[int, ...]:
        return self.address, self.step, self.row, self.column, self.mask


NOWHERE = Place(0, 0, 0, 0, 0)


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
    """Rows first .. last - 1 of a pass."""

    number: int
    first: int
    last: int


@dataclass(frozen=True)
class Weights:
    """What a spike of layer `source` counts for in one of the sums of `simulator.statistics.Population.weights`: the
    product of a number for its column (int32) and one for its row (int64). The engine fills them in."""

    source: str
    columns: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]


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
    """A plan for one size of picture: in which order rows are computed, where they lie, and the records that do it.

    Passes take turns, a band of rows each as soon as its inputs are there, so that most of what one writes is still in
    the second-level cache when the next reads it, and a value keeps only the rows that somebody still needs (a ring).

    records int64 [threads, n, FIELDS]; segments: tasks for `kernels.run_tasks`, or a pass computed as a whole; patches
    (record, field, what, offset) name the fields that change with every call (`PATCH_FIELDS` of them each, to the first
    of which the offset is added). weights: of the spike counts, one for each column of totals int64 [threads, n]. With
    `keep`, all rows of every stored value stay where they are, beside one another, for who computes parts of them anew
    (`simulator.engine.video`).
    """

    def __init__(self, plan: Plan, height: int, width: int, threads: int, banded: bool = True, keep: bool = False):
        self.plan, self.height, self.width, self.threads = plan, height, width, threads
        self.graph = plan.analysis.graph
        self.maps: dict[str, tuple[int, int, int]] = {}  # lif -> offset in int32, h, w
        self.map_size = 0
        for node in self.graph.nodes:
            if node.kind == "lif":
                h, w = self.extent(node.name)
                self.maps[node.name] = (self.map_size, h, w)
                self.map_size += padded(h * w, LANES)
        self.domains = [self.extent(self._domain(step.root)) for step in plan.passes]
        self.writers = [_Writer(self, step, self.domains[i][1]) for i, step in enumerate(plan.passes)]
        self.reads = [tuple(self._reads(step.root)) for step in plan.passes]
        self._schedule(banded, keep)
        self._assign_memory(keep)
        sources = [*self.maps, *(p.source for p in projections(plan.analysis, height, width))]
        self.weights = [
            Weights(name, np.zeros(self.maps[name][2], np.int32), np.zeros(self.maps[name][1], np.int64))
            for name in sources
        ]
        self.weighed: tuple[Any, ...] = ()  # what the weights are for
        self.totals = np.zeros((threads, padded(len(sources), ALIGNMENT // 8)), np.int64)

    def extent(self, name: str) -> tuple[int, int]:
        scale = self.plan.forms[name].scale
        return self.height // scale, self.width // scale

    def pitch(self, name: str) -> int:
        """Columns from one row to the next: even, so that 32 lanes that start in a row end in it."""
        return padded(self.extent(name)[1], 2)

    def bytes_of(self, name: str) -> int:
        form = self.plan.forms[name]
        return form.steps * self.rows_kept[name] * self.pitch(name) * form.pixel_bytes

    def place(self, name: str) -> Place:
        form = self.plan.forms[name]
        row = self.pitch(name) * form.pixel_bytes
        kept = self.rows_kept[name]
        step = row * kept if form.steps > 1 else 0
        mask = -1 if kept >= self.extent(name)[0] else kept - 1
        return Place(self.base + self.offsets[name], step, row, form.pixel_bytes, mask)

    def _domain(self, root: str) -> str:
        """The value whose rows a pass runs over: its root, or what the readout shuffles."""
        node = self.graph.node(root)
        if node.kind == "readout":
            source = self.graph.node(node.inputs[0])
            return source.inputs[0] if source.kind == "upsample" and source.name in self.plan.inlined else source.name
        return root

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
        whole = {r.name for i, step in enumerate(passes) if step.kind == "whole" for r in self.reads[i]}
        whole |= {step.root for step in passes if step.kind == "whole"}
        readers: dict[str, list[tuple[int, Read]]] = {name: [] for name in made_by}
        for i, reads in enumerate(self.reads):
            for read in reads:
                readers[read.name].append((i, read))
        image_rows = BAND_ROWS * self.threads
        self.order: list[Step] = []
        while any(done[i] < self.domains[i][0] for i in range(len(passes))):
            for i, step in enumerate(passes):
                rows = self.domains[i][0]
                height = self.writers[i].height
                band = max(height, image_rows * rows // self.height // height * height)
                limit = min(rows, done[i] + band) if banded and step.kind == "rows" else rows
                for read in self.reads[i]:
                    made = done[made_by[read.name]]
                    if made < self.extent(read.name)[0]:
                        limit = min(limit, read.ready(made) if step.kind == "rows" else 0)
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
        self.zero_offset = arena.size  # a row of zeros stands for spikes beyond the border
        widest = max((self.pitch(n) * f.pixel_bytes for n, f in self.plan.forms.items() if f.size == 0), default=0)
        self.arena_size = arena.size + padded(widest + SLACK, ALIGNMENT)

    def bind(self, memory: npt.NDArray[np.uint8]) -> None:
        """Make the records for an arena in `memory`, which has room to align it; scratch memory of the threads is the
        layout's own."""
        self.memory = memory
        self.base = padded(memory.ctypes.data, ALIGNMENT)
        self.kept: list[npt.NDArray[Any]] = []  # memory that records point to
        self.patches: list[tuple[int, int, str, int]] = []
        records: list[list[int]] = []
        relative: list[tuple[int, int]] = []
        self.spans: list[tuple[int, int]] = []  # of each pass: its first record and the one after its last
        for writer in self.writers:
            before = len(records)
            if writer.step.kind == "rows":
                writer.write()
                records += writer.records
                relative += [(before + record, index) for record, index in writer.relative]
                self.patches += [(before + record, i, what, offset) for record, i, what, offset in writer.patches]
            self.spans.append((before, len(records)))
        size = max((writer.scratch_size for writer in self.writers), default=0) + SLACK + ALIGNMENT
        self.records = np.array([records] * self.threads, np.int64).reshape(self.threads, -1, kernels.FIELDS)
        for thread in range(self.threads):
            scratch = np.zeros(size, np.uint8)
            self.kept.append(scratch)
            for record, index in relative:
                self.records[thread, record, index] += padded(scratch.ctypes.data, ALIGNMENT)
            for record, index, what, offset in self.patches:
                if what == "totals":
                    self.records[thread, record, index] = self.totals[thread, offset:].ctypes.data
        self.patches = [patch for patch in self.patches if patch[2] != "totals"]
        self.segments: list[Pass | Program] = []
        tasks: list[tuple[int, ...]] = []
        for step in self.order:
            writer = self.writers[step.number]
            if writer.step.kind == "whole":
                self._end_segment(tasks)
                self.segments.append(writer.step)
            else:
                tasks.append(
                    (*self.spans[step.number], step.first, step.last, writer.height, 0, writer.width, writer.block)
                )
        self._end_segment(tasks)
        self.names = {
            self.spans[i][0]: " + ".join((step.root, *step.neurons)) for i, step in enumerate(self.plan.passes)
        }

    def _end_segment(self, tasks: list[tuple[int, ...]]) -> None:
        if tasks:
            self.segments.append(np.array(tasks, np.int64))
            tasks.clear()


class _Writer:
    """Writes the records of one pass. Scratch addresses are relative to the thread's own, listed in `relative`."""

    def __init__(self, layout: Layout, step: Pass, width: int):
        self.layout, self.plan, self.step, self.width = layout, layout.plan, step, width
        self.graph = layout.graph
        self.height, self.block = self._block_size(self.graph.node(step.root))
        self._clear()

    def _clear(self) -> None:
        self.records: list[list[int]] = []
        self.relative: list[tuple[int, int]] = []
        self.patches: list[tuple[int, int, str, int]] = []
        self.scratch_size = 0

    def write(self) -> None:
        self._clear()
        node = self.graph.node(self.step.root)
        if node.kind == "image":
            self._pixels(node.name, 1)
        elif node.kind == "space_to_depth":
            self._pixels(node.name, node["factor"])
        elif node.kind == "lif":
            self._lif(node.name, self.layout.place(node.inputs[0]))
        elif node.kind == "readout":
            self._readout(node)
        else:
            # A convolution's blocks run over the end of a row: they go to scratch. The others write where it is kept.
            blocks = node.kind in ("conv", "dense_conv") and node.name not in self.plan.point_tables
            direct = self.step.stored and not blocks
            value = self.layout.place(node.name) if direct else self._scratch_row(node.name)
            self._evaluate(node, value)
            for name in self.step.neurons:
                self._lif(name, value)
            if self.step.stored and not direct:
                form = self.plan.forms[node.name]
                self._emit(kernels.STORE, form.steps, self.layout.place(node.name), value, form.pixel_bytes)

    def _inside(self, node: Node) -> list[Node]:
        """The node and everything computed in its pass before it."""
        result = [node]
        for name in node.inputs:
            if name in self.plan.inlined:
                result += self._inside(self.graph.node(name))
        return result

    def _block_size(self, node: Node) -> tuple[int, int]:
        """Rows and columns per block: scratch rows stay near the first-level cache, numbers of events in 16 bits."""
        inside = self._inside(node)
        tables = {inner.name: self.plan.spike_tables.get(inner.name, ()) for inner in inside}
        height = max((table.rows for parts in tables.values() for table in parts), default=1)
        most = padded(self.width, 16)
        for inner in inside:
            form = self.plan.forms[inner.name]
            if form.size:
                most = min(most, SCRATCH_ROW_BYTES // (form.steps * form.pixel_bytes))
            for table in tables[inner.name]:
                kernel, stride = inner["kernel"], inner["stride"]
                rows = (table.rows - 1) * stride + kernel
                per_column = rows * table.words * LANES * 8 * table.vectors
                if not table.slides:
                    most = min(most, (INDEX_LIMIT // per_column - kernel) // stride)
        return height, max(LEAST_BLOCK, most // LEAST_BLOCK * LEAST_BLOCK)

    def _emit(self, kind: int, *values: int | Place | _Scratch | npt.NDArray[Any] | tuple[str, int]) -> None:
        record: list[int] = [kind]
        for value in values:
            if isinstance(value, _ScratchPlace):
                self.relative.append((len(self.records), len(record)))
                record += value.fields()
            elif isinstance(value, Place):
                record += value.fields()
            elif isinstance(value, _Scratch):
                self.relative.append((len(self.records), len(record)))
                record.append(value.offset)
            elif isinstance(value, np.ndarray):
                record.append(value.ctypes.data)
            elif isinstance(value, tuple):
                self.patches.append((len(self.records), len(record), *value))
                record += [0] * PATCH_FIELDS[value[0]]
            else:
                record.append(int(value))
        self.records.append(record + [0] * (kernels.FIELDS - len(record)))

    def _scratch(self, size: int) -> int:
        offset = self.scratch_size
        self.scratch_size += padded(size + SLACK, ALIGNMENT)
        return offset

    def _scratch_row(self, name: str) -> _ScratchPlace:
        """Room, with a margin on the left, for the even and the odd row of a block (one where rows come singly)."""
        form = self.plan.forms[name]
        row = padded((self.block + kernels.OVERRUN) * form.pixel_bytes, ALIGNMENT)
        step = row * self.height
        margin = padded(kernels.MARGIN * form.pixel_bytes, ALIGNMENT)
        first = self._scratch(margin + step * form.steps) + margin
        return _ScratchPlace(first, step if form.steps > 1 else 0, row, 0, self.height - 1)

    def _operand(self, name: str) -> Place:
        """A source: computed now into scratch if it belongs to this pass, else where it is stored."""
        if name not in self.plan.inlined:
            return self.layout.place(name)
        value = self._scratch_row(name)
        self._evaluate(self.graph.node(name), value)
        return value

    def _evaluate(self, node: Node, out: Place) -> None:
        """Records that leave the row of `node` in `out`."""
        form, forms = self.plan.forms[node.name], self.plan.forms
        if node.name in self.plan.point_tables:
            self._point_conv(node, out, None)
        elif node.kind == "conv":
            self._conv(node, out, False)
        elif node.kind == "dense_conv":
            self._dense_conv(node, out)
        elif node.kind == "requantise":
            source, given = self._operand(node.inputs[0]), forms[node.inputs[0]]
            self._emit(
                kernels.REQUANTISE, form.steps, out, source, form.lanes, node["shift"], node["lo"], node["hi"],
                form.size == 4, given.size == 4,
            )  # fmt: skip
        elif node.kind == "time_sum":
            source, given = self._operand(node.inputs[0]), forms[node.inputs[0]]
            repeats = self.graph.time_steps // given.steps
            self._emit(
                kernels.TIME_SUM, given.steps, out, source, form.lanes, repeats.bit_length() - 1, form.size == 4,
                given.size == 4,
            )  # fmt: skip
        elif node.kind == "sum":
            self._sum(node, out)
        else:
            raise AssertionError(f"{node.kind} is not computed by rows")

    def _sum(self, node: Node, out: Place) -> None:
        """Add term by term, each time to `base`: another term as it lies in memory, or what is in `out` by then."""
        forms, values = self.plan.forms, self.plan.analysis.values
        form = forms[node.name]

        def aligned_alike(name: str) -> bool:
            return values[name].q == values[node.name].q and forms[name].size == form.size

        def joins(name: str) -> bool:  # a convolution of this pass that can add to `base` itself
            same = aligned_alike(name) and forms[name].steps == form.steps
            return same and name in self.plan.inlined and self.graph.node(name).kind == "conv"

        convolutions = [name for name in node.inputs if joins(name)]
        others = [name for name in node.inputs if name not in convolutions]
        base: Place | None = None
        for name in others:
            if aligned_alike(name) and name not in self.plan.views:
                base = self._operand(name)
                others.remove(name)
                break
        for name in convolutions:
            convolution = self.graph.node(name)
            if name in self.plan.point_tables:
                self._point_conv(convolution, out, base)
                base = out
            elif isinstance(out, _ScratchPlace) and (base is None or base is out):
                self._conv(convolution, out, base is out)
                base = out
            else:
                sums = self._scratch_row(name)
                self._conv(convolution, sums, False)
                if base is None:
                    base = sums
                else:
                    self._add(node, out, name, sums, base)
                    base = out
        for name in others:
            self._add(node, out, name, None, base)
            base = out

    def _add(self, node: Node, out: Place, name: str, value: Place | None, base: Place | None) -> None:
        """out = base + the value of `name`, brought to the grid and size of `node`."""
        form, values = self.plan.forms[node.name], self.plan.analysis.values
        factor, source = 1, name
        if name in self.plan.views:
            view = self.graph.node(name)
            factor, source = view["factor"], view.inputs[0]
        self._emit(
            kernels.ADD, form.steps, out, value or self._operand(source), form.lanes,
            values[node.name].q - values[name].q, factor, form.size == 4, self.plan.forms[source].size == 4,
            base or NOWHERE,
        )  # fmt: skip

    def _point_conv(self, node: Node, out: Place, base: Place | None) -> None:
        table, form = self.plan.point_tables[node.name], self.plan.forms[node.name]
        self._emit(
            kernels.POINT_CONV, form.steps, self.layout.place(node.inputs[0]), table.words,
            table.table, table.vectors, out, form.pixel_bytes, table.bias, form.size == 4, base or NOWHERE,
        )  # fmt: skip

    def _conv(self, node: Node, out: Place, keep: bool) -> None:
        source, layout = node.inputs[0], self.layout
        form, given = self.plan.forms[node.name], self.plan.forms[source]
        height, width = layout.extent(source)
        place = layout.place(source)
        kernel, stride = node["kernel"], node["stride"]
        for table in self.plan.spike_tables[node.name]:
            columns = padded(self.block, table.columns) * stride + kernel
            rows = (table.rows - 1) * stride + kernel
            events = self._scratch(2 * columns * (rows * table.words * LANES + kernels.ROOM) + 128)
            starts = self._scratch(8 * (columns + rows + 8))
            pieces = table.pieces + table.piece_rows * out.row
            layout.kept.append(pieces)
            group = Place(place.address + 2 * table.first_word, *place.fields()[1:])
            self._emit(
                kernels.CONV, given.steps, group, layout.base + layout.zero_offset, table.words, height, width, kernel,
                stride, node["padding"], table.rows, table.columns, _Scratch(events), _Scratch(starts), table.table,
                table.vectors, out, table.columns * form.pixel_bytes, table.bias, pieces, form.size == 4,
                keep or table.adds, table.chunks, table.slides,
            )  # fmt: skip

    def _dense_conv(self, node: Node, out: Place) -> None:
        source = node.inputs[0]
        given, form = self.plan.forms[source], self.plan.forms[node.name]
        height, width = self.layout.extent(source)
        place = self.layout.place(source)
        kernel, stride = node["kernel"], node["stride"]
        for table in self.plan.dense_tables[node.name]:
            columns = padded(self.block, 8) * stride + kernel
            rows = self._scratch(kernel * columns * table.channels * given.size + 128)
            channels = Place(place.address + table.first_channel * given.size, *place.fields()[1:])
            target = _ScratchPlace(out.address + table.first_lane * form.size, *out.fields()[1:])
            self._emit(
                kernels.DENSE_CONV, given.steps, channels, height, width, kernel, stride, node["padding"],
                given.size == 4, _Scratch(rows), table.channels, table.weight, table.weight[0].nbytes, table.chunks,
                target, form.pixel_bytes, table.bias, form.size == 4,
            )  # fmt: skip

    def _lif(self, name: str, source: Place) -> None:
        node = self.graph.node(name)
        form, given, table = self.plan.forms[name], self.plan.forms[node.inputs[0]], self.plan.neuron_tables[name]
        offset, _, width = self.layout.maps[name]
        self._emit(
            kernels.LIF, form.steps, self.layout.place(name), source, form.lanes, table.parameters, table.repeat,
            table.wide, given.size == 4, node["leak"] == "decay", node["reset"] == "subtract", ("maps", 4 * offset),
            width,
        )  # fmt: skip
        for i, weights in enumerate(self.layout.weights):
            if weights.source == name:
                self._emit(kernels.COUNT, ("maps", 4 * offset), width, weights.columns, weights.rows, ("totals", i))

    def _pixels(self, name: str, factor: int) -> None:
        self._emit(kernels.PIXELS, self.layout.place(name), factor, self.plan.forms[name].lanes, ("picture", 0))

    def _readout(self, node: Node) -> None:
        source, factor = node.inputs[0], 1
        if source in self.plan.inlined and self.graph.node(source).kind == "upsample":
            factor, source = self.graph.node(source)["factor"], self.graph.node(source).inputs[0]
        form = self.plan.forms[source]
        self._emit(
            kernels.READOUT, self._operand(source), form.lanes, form.size == 4, factor,
            self.plan.analysis.values[source].q - IMAGE_GRID, ("picture", 0), ("restored", 0),
        )  # fmt: skip


@dataclass
class _ScratchPlace(Place):
    """A place whose address is relative to the thread's scratch memory."""


@dataclass(frozen=True)
class _Scratch:
    offset: int


Runner = Callable[[Program, Program, int, int, int], None]
