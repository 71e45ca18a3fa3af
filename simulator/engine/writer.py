"""The records of row operations that compute one pass: one method for each operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.engine.kernels.dense import ABREAST, SUMS, TILE
from simulator.engine.layout import Memory
from simulator.engine.records import (
    FIELDS,
    MARGIN,
    OPERATIONS,
    OVERRUN,
    ROOM,
    SLACK,
    Add,
    Conv,
    Count,
    DenseConv,
    Lif,
    Picture,
    Pixels,
    Place,
    PointConv,
    Readout,
    Requantise,
    Store,
    TimeSum,
    Window,
    Winograd,
    numbers,
    widths,
)
from simulator.engine.tables import ALIGNMENT, LANES, padded
from simulator.graph import IMAGE_GRID, Node
from simulator.kinds import kind_of

NOWHERE = Place(0, 0, 0, 0, 0)
NO_PICTURE = Picture(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Weights:
    """What a spike of layer `source` counts for in one of the sums of `simulator.statistics.Population.weights`: the
    product of a number for its column (int32) and one for its row (int64). `Program.weigh` fills them in."""

    source: str
    columns: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]


class ScratchPlace(Place):
    """A place whose address is relative to the thread's scratch memory."""


@dataclass(frozen=True)
class Scratch:
    """An address relative to the thread's scratch memory."""

    offset: int


@dataclass(frozen=True)
class Given:
    """Fields that are filled in later: "picture" and "restored" (`records.Picture`, `Restored`) and the address of
    "counts" with each call, that of "totals" (of spike counts) for each thread. offset: bytes to add to the address."""

    what: str
    offset: int = 0


THE_PICTURE: Any = Given("picture")
THE_RESTORED: Any = Given("restored")


class Writer:
    """Writes the records of the pass number `number` of a plan.

    records: rows of FIELDS. relative: (record, field) of what must be added to the address of the thread's scratch
    memory, `scratch_size` bytes. given: (record, field, what) for each `Given`. arrays: what records point to.
    """

    def __init__(self, memory: Memory, number: int, weights: Sequence[Weights]):
        self.memory, self.layout, self.plan = memory, memory.layout, memory.layout.plan
        self.graph, self.weights = self.layout.graph, weights
        self.step = self.plan.passes[number]
        self.height, self.block = self.layout.blocks[number]
        self.records: list[list[int]] = []
        self.relative: list[tuple[int, int]] = []
        self.given: list[tuple[int, int, Given]] = []
        self.arrays: list[npt.NDArray[Any]] = []
        self.scratch_size = 0
        self._write()

    def _write(self) -> None:
        node = self.graph.node(self.step.root)
        if node.kind == "image":
            self._pixels(node.name, 1)
        elif node.kind == "space_to_depth":
            self._pixels(node.name, node["factor"])
        elif kind_of(node).neurons:
            self._fire(node.name, self.memory.place(node.inputs[0]))
        elif node.kind == "readout":
            self._readout(node)
        else:
            # A convolution's blocks run over the end of a row: they go to scratch. The others write where it is kept.
            blocks = node.kind in ("conv", "dense_conv") and node.name not in self.plan.point_tables
            blocks = blocks or self._multiplies(node)
            direct = self.step.stored and not blocks
            value = self.memory.place(node.name) if direct else self._scratch_row(node.name)
            self._evaluate(node, value)
            for name in self.step.neurons:
                self._fire(name, value)
            if self.step.stored and not direct:
                form = self.plan.forms[node.name]
                out = self.memory.place(node.name)
                self.emit(Store(steps=form.steps, out=out, source=value, pixel=form.pixel_bytes))

    def emit(self, row: Any) -> None:
        """Append the record of a row operation."""
        kind: Any = type(row)
        record = [OPERATIONS[kind]]
        for name, value, size in zip(row._fields, row, widths(kind), strict=True):
            at = len(record)
            if isinstance(value, Given):
                self.given.append((len(self.records), at, value))
                record += [0] * size
            elif isinstance(value, Scratch):
                self.relative.append((len(self.records), at))
                record.append(value.offset)
            elif isinstance(value, np.ndarray):
                self.arrays.append(value)
                record.append(value.ctypes.data)
            else:
                if isinstance(value, ScratchPlace):
                    self.relative.append((len(self.records), at))
                record += numbers((value,))
            if len(record) - at != size:
                raise AssertionError(f"{name} of {kind.__name__} takes {size} numbers, not {len(record) - at}")
        self.records.append(record + [0] * (FIELDS - len(record)))

    def _scratch(self, size: int) -> int:
        offset = self.scratch_size
        self.scratch_size += padded(size + SLACK, ALIGNMENT)
        return offset

    def _scratch_row(self, name: str) -> ScratchPlace:
        """Room, with a margin on the left, for the even and the odd row of a block (one where rows come singly)."""
        form = self.plan.forms[name]
        row = padded((self.block + OVERRUN) * form.pixel_bytes, ALIGNMENT)
        step = row * self.height
        margin = padded(MARGIN * form.pixel_bytes, ALIGNMENT)
        first = self._scratch(margin + step * form.steps) + margin
        return ScratchPlace(first, step if form.steps > 1 else 0, row, 0, self.height - 1)

    def _operand(self, name: str) -> Place:
        """A source: computed now into scratch if it belongs to this pass, else where it is stored."""
        if name not in self.plan.inlined:
            return self.memory.place(name)
        value = self._scratch_row(name)
        self._evaluate(self.graph.node(name), value)
        return value

    def _evaluate(self, node: Node, out: Place) -> None:
        """Records that leave the row of `node` in `out`."""
        if node.name in self.plan.point_tables:
            self._point_conv(node, out, NOWHERE)
        elif node.kind == "conv":
            self._conv(node, out, False)
        elif node.kind == "dense_conv":
            self._dense_conv(node, out)
        elif node.kind == "requantise":
            self._requantise(node, out)
        elif node.kind == "time_sum":
            self._time_sum(node, out)
        elif node.kind == "sum":
            self._sum(node, out)
        else:
            raise AssertionError(f"layer {node.name!r}: {node.kind} is not computed by rows")

    def _multiplies(self, node: Node) -> bool:
        """Whether a requantise is computed at once with the real-valued convolution before it."""
        source = node.inputs[0]
        return (
            node.kind == "requantise" and source in self.plan.inlined and self.graph.node(source).kind == "dense_conv"
        )

    def _requantise(self, node: Node, out: Place) -> None:
        form, given = self.plan.forms[node.name], self.plan.forms[node.inputs[0]]
        if self._multiplies(node):
            self._dense_conv(self.graph.node(node.inputs[0]), out)
            return
        source = self._operand(node.inputs[0])
        self.emit(
            Requantise(
                steps=form.steps, out=out, source=source, lanes=form.lanes, shift=node["shift"], low=node["lo"],
                high=node["hi"], wide=form.size == 4, wide_source=given.size == 4,
            )
        )  # fmt: skip

    def _time_sum(self, node: Node, out: Place) -> None:
        form, given = self.plan.forms[node.name], self.plan.forms[node.inputs[0]]
        repeats = self.graph.time_steps // given.steps
        source = self._operand(node.inputs[0])
        self.emit(
            TimeSum(
                steps=given.steps, out=out, source=source, lanes=form.lanes, shift=repeats.bit_length() - 1,
                wide=form.size == 4, wide_source=given.size == 4,
            )
        )  # fmt: skip

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
        base = NOWHERE
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
            elif isinstance(out, ScratchPlace) and (base is NOWHERE or base is out):
                self._conv(convolution, out, base is out)
                base = out
            else:
                sums = self._scratch_row(name)
                self._conv(convolution, sums, False)
                if base is NOWHERE:
                    base = sums
                else:
                    self._add(node, out, name, sums, base)
                    base = out
        for name in others:
            self._add(node, out, name, None, base)
            base = out

    def _add(self, node: Node, out: Place, name: str, value: Place | None, base: Place) -> None:
        """out = base + the value of `name`, brought to the grid and size of `node`."""
        form, values = self.plan.forms[node.name], self.plan.analysis.values
        factor, source = 1, name
        if name in self.plan.views:
            view = self.graph.node(name)
            factor, source = view["factor"], view.inputs[0]
        self.emit(
            Add(
                steps=form.steps, out=out, source=value or self._operand(source), lanes=form.lanes,
                shift=values[node.name].q - values[name].q, factor=factor, wide=form.size == 4,
                wide_source=self.plan.forms[source].size == 4, base=base,
            )
        )  # fmt: skip

    def _point_conv(self, node: Node, out: Place, base: Place) -> None:
        table, form = self.plan.point_tables[node.name], self.plan.forms[node.name]
        spikes = self.memory.place(node.inputs[0])
        self.emit(
            PointConv(
                steps=form.steps, planes=self.plan.forms[node.inputs[0]].steps // form.steps, plane=spikes.step,
                spikes=spikes, words=table.words, table=table.table, vectors=table.vectors, out=out,
                pixel=form.pixel_bytes, bias=table.bias, wide=form.size == 4, base=base,
            )
        )  # fmt: skip

    def _conv(self, node: Node, out: Place, adds: bool) -> None:
        source = node.inputs[0]
        form, given = self.plan.forms[node.name], self.plan.forms[source]
        height, width = self.layout.extent(source)
        place, planes = self.memory.place(source), given.steps // form.steps
        kernel, stride = node["kernel"], node["stride"]
        for table in self.plan.spike_tables[node.name]:
            columns = padded(self.block, table.columns) * stride + kernel
            rows = (table.rows - 1) * stride + kernel
            most = planes // table.together * rows * table.words * LANES  # events of a column
            events = self._scratch(2 * columns * (most + ROOM) + 128)
            masks = (columns + 2 * LANES) * planes * -(-rows * table.words // 4)  # see `kernels/events.py`
            starts = self._scratch(8 * (columns + 2 * rows + 8 + masks))
            self.emit(
                Conv(
                    steps=form.steps, planes=planes, plane=place.step, together=table.together,
                    spikes=place._replace(address=place.address + 2 * table.first_word), zeros=self.memory.zeros,
                    words=table.words, height=height, width=width, kernel=kernel,
                    stride=stride, padding=node["padding"], rows=table.rows, columns=table.columns,
                    events=Scratch(events), starts=Scratch(starts), table=table.table, vectors=table.vectors, out=out,
                    block=table.columns * form.pixel_bytes, bias=table.bias,
                    pieces=table.pieces + table.piece_rows * out.row, wide=form.size == 4, adds=adds or table.adds,
                    chunks=table.chunks, slides=table.slides, most=table.most,
                )
            )  # fmt: skip

    def _dense_conv(self, node: Node, out: Place) -> None:
        source, rounding = node.inputs[0], self.plan.roundings[node.name]
        given, pixel = self.plan.forms[source], self.plan.forms[node.name].lanes * rounding.size
        height, width = self.layout.extent(source)
        if source in self.plan.inlined:  # it is the picture
            place, picture = NOWHERE._replace(column=given.pixel_bytes), THE_PICTURE
            factor = self.graph.node(source).attrs.get("factor", 1)
        else:
            place, picture, factor = self.memory.place(source), NO_PICTURE, 0
        kernel, stride = node["kernel"], node["stride"]
        for table in self.plan.winograd_tables.get(node.name, ()):
            tiles = ABREAST // table.vectors
            inputs = padded(table.channels, 2 * LANES) // (2 * LANES) * tiles * TILE
            self.emit(
                Winograd(
                    steps=given.steps, source=place._replace(address=place.address + table.first_channel * given.size),
                    factor=factor, picture=picture, height=height, width=width, padding=node["padding"],
                    strip=Scratch(self._scratch(4 * (2 * tiles + 2) * given.pixel_bytes)),
                    inputs=Scratch(self._scratch(inputs)),
                    products=Scratch(self._scratch(ABREAST * TILE)), pairs=table.channels // 2,
                    weight=table.weight, vectors=table.vectors, chunks=table.chunks,
                    out=out._replace(address=out.address + table.first_lane * rounding.size), pixel=pixel,
                    bias=table.bias, wide=rounding.size == 4, shift=rounding.shift + 2, low=rounding.low,
                    high=rounding.high,
                )
            )  # fmt: skip
        for table in self.plan.dense_tables.get(node.name, ()):
            strip = kernel * ((SUMS - 1) * stride + kernel) * given.pixel_bytes
            self.emit(
                DenseConv(
                    steps=given.steps, source=place._replace(address=place.address + table.first_channel * given.size),
                    factor=factor, picture=picture, height=height, width=width, kernel=kernel, stride=stride,
                    padding=node["padding"], wide_source=given.size == 4, rows=Scratch(self._scratch(8 * kernel)),
                    strip=Scratch(self._scratch(strip)), sums=Scratch(self._scratch(SUMS * ALIGNMENT)),
                    taps=table.channels * given.size, weight=table.weight, chunks=table.chunks,
                    out=out._replace(address=out.address + table.first_lane * rounding.size), pixel=pixel,
                    bias=table.bias, wide=rounding.size == 4, shift=rounding.shift, low=rounding.low,
                    high=rounding.high,
                )
            )  # fmt: skip

    def _fire(self, name: str, source: Place) -> None:
        """The neurons of a layer, and what their spikes count for."""
        node = self.graph.node(name)
        form, given, table = self.plan.forms[name], self.plan.forms[node.inputs[0]], self.plan.neuron_tables[name]
        offset, _, width = self.layout.maps[name]
        counts = Given("counts", 4 * offset)
        alike: dict[str, Any] = {
            "steps": form.steps, "out": self.memory.place(name), "source": source, "lanes": form.lanes,
            "parameters": table.parameters, "repeat": table.repeat, "wide": table.wide,
            "wide_source": given.size == 4, "counts": counts, "width": width,
        }  # fmt: skip
        if node.kind == "window":
            self.emit(Window(terms=given.steps, **alike))
        else:
            self.emit(
                Lif(fine=table.fine, decay=node["leak"] == "decay", subtract=node["reset"] == "subtract", **alike)
            )
        for i, weights in enumerate(self.weights):
            if weights.source == name:
                total = Given("totals", 8 * i)
                self.emit(
                    Count(counts=counts, width=width, columns=weights.columns, rows=weights.rows, total=total)
                )  # fmt: skip

    def _pixels(self, name: str, factor: int) -> None:
        lanes = self.plan.forms[name].lanes
        self.emit(Pixels(out=self.memory.place(name), factor=factor, lanes=lanes, picture=THE_PICTURE))

    def _readout(self, node: Node) -> None:
        source, factor = node.inputs[0], 1
        if source in self.plan.inlined and self.graph.node(source).kind == "upsample":
            factor, source = self.graph.node(source)["factor"], self.graph.node(source).inputs[0]
        form = self.plan.forms[source]
        size, shift = form.size, self.plan.analysis.values[source].q - IMAGE_GRID
        if source in self.plan.inlined and source in self.plan.roundings:  # rounded by then
            size, shift = self.plan.roundings[source].size, 0
        self.emit(
            Readout(
                source=self._operand(source), lanes=form.lanes, wide_source=size == 4, factor=factor, shift=shift,
                picture=THE_PICTURE, restored=THE_RESTORED,
            )
        )  # fmt: skip
