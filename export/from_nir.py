"""`python -m export.from_nir FILE`: a NIR file of neurons and convolutions as a bundle, which runs on every backend.

Read are Input, Output, Conv2d and LIF nodes in a graph without cycles; several edges into a node are a sum. Time is
taken in steps of --dt seconds, T of them (a file that `export.nir` wrote says both). Numbers become integers on dyadic
grids: weights k * 2^-q with q as --grid says, coarser where they are large; the largest change is printed.

A picture enters as (u8 - 128) / 128 at every step, and leaves as picture + 128 times the Output's mean over the steps
(--readout sum: their sum), if Input and Output have 3 channels, or 12, 27 or 48: its pixels in blocks of 2x2, 3x3 or
4x4. For other numbers --ends BUNDLE lends its ends, as far as the first rounding and from the sum over time on: so what
`export.nir` wrote comes back, to the bit.

A file may come from anywhere; `export/nir_file.py` says what is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.files import ExportError
from export.nir import DT
from export.nir_file import LARGEST, Array, NirFile, NirNode, read_file
from simulator.analysis import Tensors, analyse
from simulator.builder import Builder
from simulator.bundle import Bundle, BundleError, read_bundle, write_bundle
from simulator.cut import Cut, CutError, cut
from simulator.graph import IMAGE_GRID, MAX_CHANNELS, MAX_GRID, MAX_TIME_STEPS, WEIGHT_LIMIT, Graph, GraphError
from simulator.tasks import TASKS

LARGEST_LEAK = 15
LARGEST_FINE = 16
GRID = 9  # of weights, where neither a file nor --grid says another
BLOCKS = {3 * side**2: side for side in (1, 2, 3, 4)}  # channels of Input and Output -> pixels a side
UNSTATED = "not stated: read from a NIR file"


@dataclass(frozen=True)
class Reading:
    """How a file is read. dt: seconds per step. grid: q of weights. readout: "mean" or "sum" of Output's steps."""

    time_steps: int
    dt: float = DT
    grid: int = GRID
    readout: str = "mean"


@dataclass(frozen=True)
class _Value:
    """A node's output in the bundle: a layer and, left to who reads it, a number for each channel.

    name: of the layer. magnitude: no number of the layer is larger, in units of 2^-q. offset: real numbers [C].
    """

    name: str
    channels: int
    q: int
    magnitude: int
    offset: Array
    spikes: bool = False


@dataclass
class _Importer:
    """Builds the graph and its tensors. rounding: the largest change of a weight or a bias, in real units."""

    file: NirFile
    reading: Reading
    builder: Builder
    tensors: dict[str, npt.NDArray[np.int32]] = field(default_factory=dict)
    rounding: float = 0.0

    def node(self, node: NirNode, name: str, x: _Value) -> _Value:
        """What a Conv2d or an LIF makes of x."""
        if node.kind == "LIF":
            return self.neurons(node, name, x)
        if node.kind == "Conv2d":
            return self.convolution(node, name, x)
        raise node.refused("Input, Output, Conv2d and LIF are supported")

    def sum(self, name: str, values: list[_Value]) -> _Value:
        """Several edges into one node."""
        if len(values) == 1:
            return values[0]
        if len({value.channels for value in values}) > 1:
            raise ExportError(f"What enters {name!r} has {[value.channels for value in values]} channels.")
        q = max(value.q for value in values)
        total = self.builder.sum(f"{name}.sum", *(value.name for value in values))
        magnitude = sum(value.magnitude << (q - value.q) for value in values)
        return _Value(total, values[0].channels, q, magnitude, sum(value.offset for value in values) + np.zeros(1))

    def convolution(self, node: NirNode, name: str, x: _Value) -> _Value:
        """A Conv2d. Its bias is left to who reads it; by the unit matrix it is nothing but that."""
        weight, bias = node.array("weight", 4), node.array("bias", 1)
        if len(bias) != len(weight) or weight.shape[2] != weight.shape[3] or max(weight.shape) > MAX_CHANNELS:
            raise node.refused(f"its weight has the shape {weight.shape} and its bias {bias.shape}")
        kernel, dilation = weight.shape[2], node.whole("dilation", 1, 16)
        stride, groups = node.whole("stride", 1, 4), node.whole("groups", 1, MAX_CHANNELS)
        if isinstance(node.values.get("padding"), str):
            raise node.refused(f"its padding is the word {node.values['padding']!r}; a number is supported")
        padding = node.whole("padding", 0, 48)
        if not x.spikes and _is_unit(weight, stride, padding, groups):
            return replace(x, offset=x.offset + bias)
        if x.offset.any() and (x.spikes or padding or groups > 1):
            raise node.refused("it reads real values with a bias, which its border or its groups would not pass on")
        q, units = self.on_grid(weight)
        attributes: dict[str, Any] = {
            "channels": len(weight), "kernel": kernel, "stride": stride, "padding": padding, "groups": groups, "q": q,
            "bias": 0,
        }  # fmt: skip
        self.tensors[f"{name}.weight"] = units
        through = np.abs(units.astype(np.int64)).sum((1, 2, 3)).max()
        if x.spikes:
            more = {"dilation": dilation} if dilation > 1 else {}
            self.builder.add(name, "conv", (x.name,), **attributes, **more)
            return _Value(name, len(weight), q, int(through), bias)
        if dilation > 1:
            raise node.refused("it has taps apart and reads real values; supported are those that read spikes")
        offset = bias + weight.sum((2, 3)) @ x.offset if x.offset.any() else bias
        self.builder.add(name, "dense_conv", (x.name,), **attributes)
        return self.bounded(_Value(name, len(weight), q + x.q, int(through) * x.magnitude, offset))

    def bounded(self, x: _Value) -> _Value:
        """Real-valued products need a rounding behind them; this one rounds nothing, and clips what cannot occur."""
        limit = 1 << x.magnitude.bit_length()
        if limit >= 1 << 30:
            raise ExportError(f"What {x.name!r} computes can reach {x.magnitude} units; lower --grid.")
        return replace(x, name=self.builder.requantise(f"{x.name}.bound", x.name, 0, limit))

    def neurons(self, node: NirNode, name: str, x: _Value) -> _Value:
        """An LIF: v' = v + dt/tau (r I - v); a spike where v' > v_threshold; then 0."""
        tau, r, level = (node.per_channel(part) for part in ("tau", "r", "v_threshold"))
        for part in ("v_leak", "v_reset"):
            if part in node.values and node.per_channel(part).any():
                raise node.refused(f"its {part} is not 0")
        if not {len(tau), len(r), len(level)} <= {1, x.channels}:
            raise node.refused(f"its tau, r and v_threshold have not one or as many numbers as channels, {x.channels}")
        if min(tau.min(), r.min(), level.min()) < 1 / LARGEST:
            raise node.refused("its tau, r and v_threshold must be above 0")
        shift = np.rint(np.log2(tau / self.reading.dt)).clip(0, LARGEST_LEAK)
        wrong = np.abs(self.reading.dt / tau * 2.0**shift - 1) > 1e-5
        if wrong.any():
            raise node.refused(
                f"its tau is {tau[wrong.argmax()] / self.reading.dt:g} steps of {self.reading.dt:g} s; powers of two "
                f"up to 2^{LARGEST_LEAK} are supported, for a leak is a shift (--dt names another step)"
            )
        fine = min(LARGEST_FINE, int(shift.max()) * (self.reading.time_steps - 1))
        # It resets to 0, so the membrane may be measured in units of what a current adds to it.
        level = _snapped(level / (r * self.reading.dt / tau) * 2.0**x.q, fine)
        if level.max() >= 2**31 - 1:
            raise node.refused(f"its v_threshold does not fit 31 bits on the grid 2^-{x.q}; lower --grid")
        # v' > level, where v' is a multiple of 2^-fine: more than a whole number, or at least one, or neither exactly.
        threshold, beyond = np.floor(level), (level - np.floor(level)) * 2.0**fine
        above = bool((beyond < 1).all() and (threshold >= 1).all())
        if not above:
            at_least = bool((beyond >= 2.0**fine - 1).all())
            threshold = np.maximum(threshold + 1 if at_least else np.rint(level), 1)
            if not at_least:
                self.rounding = max(self.rounding, float(np.abs(threshold - level).max() * 2.0**-x.q))
        units = np.broadcast_to(threshold, (x.channels,)).astype(np.int32)
        leaks = np.broadcast_to(shift, (x.channels,)).astype(np.int32)
        shared = bool((units == units[0]).all() and (leaks == leaks[0]).all())
        self.builder.lif(name, x.name, "decay", "zero", fine=fine, shared=int(shared), above=int(above))
        self.tensors[f"{name}.threshold"] = units[:1] if shared else units
        self.tensors[f"{name}.leak"] = leaks[:1] if shared else leaks
        self.tensors[f"{name}.bias"] = self.whole(name, np.broadcast_to(x.offset, (x.channels,)), x.q)
        return _Value(name, x.channels, 0, 1, np.zeros(x.channels), spikes=True)

    def on_grid(self, weight: Array) -> tuple[int, npt.NDArray[np.int32]]:
        """(q, units): --grid, or what is coarser and holds the largest weight."""
        largest = np.abs(weight).max()
        q = self.reading.grid
        while q > 0 and np.floor(largest * 2.0**q + 0.5) > WEIGHT_LIMIT:
            q -= 1
        if largest * 2.0**q > WEIGHT_LIMIT:
            raise ExportError(f"A weight of {largest:g} is too large; at most {WEIGHT_LIMIT} is supported.")
        units = np.floor(weight * 2.0**q + 0.5)
        self.rounding = max(self.rounding, float(np.abs(units * 2.0**-q - weight).max()))
        return q, units.astype(np.int32)

    def whole(self, name: str, numbers: Array, q: int) -> npt.NDArray[np.int32]:
        units = np.floor(numbers * 2.0**q + 0.5)
        if not (np.abs(units) < 2**31).all():
            raise ExportError(f"A bias of {name!r} does not fit 31 bits on the grid 2^-{q}.")
        self.rounding = max(self.rounding, float(np.abs(units * 2.0**-q - numbers).max()))
        return units.astype(np.int32)


def _snapped(level: Array, fine: int) -> Array:
    """Levels that lie next to a half of 2^-fine, there: quotients of times are not exact."""
    halves = level * 2.0 ** (fine + 1)
    return np.where(np.abs(halves - np.rint(halves)) < 1e-4, np.rint(halves), halves) * 2.0 ** -(fine + 1)


def _is_unit(weight: Array, stride: int, padding: int, groups: int) -> bool:
    alone = weight.shape[2:] == (1, 1) and (stride, padding, groups) == (1, 0, 1) and weight.shape[0] == weight.shape[1]
    return alone and np.array_equal(weight[:, :, 0, 0], np.eye(len(weight)))


def convert(file: NirFile, reading: Reading, ends: Bundle | None = None) -> tuple[Graph, Tensors, float]:
    """(graph, int32 tensors, largest change of a number by rounding) of a NIR file.

    ends: the bundle whose first and last layers stand before Input and after Output. Raises ExportError.
    """
    steps = reading.time_steps
    if not 1 <= steps <= MAX_TIME_STEPS or steps & (steps - 1):
        raise ExportError(f"{steps} time steps: a power of two up to {MAX_TIME_STEPS} is supported.")
    order = file.in_order()
    outer = {kind: [node for node in order if node.kind == kind] for kind in ("Input", "Output")}
    for kind, nodes in outer.items():
        if len(nodes) != 1:
            raise ExportError(f"It has {len(nodes)} {kind} nodes; one is supported.")
    builder = Builder(steps, reading.grid)
    work = _Importer(file, reading, builder)
    parts = _cut(ends, steps) if ends else None
    names = _layer_names(file, parts)
    values: dict[str, _Value] = {}
    for node in order:
        sources = file.sources(node.name)
        if node.kind == "Input":
            if sources:
                raise node.refused("an edge leads to it")
            values[node.name] = _enter(work, node, parts, ends)
            continue
        if not sources:
            raise node.refused("no edge leads to it")
        x = work.sum(names[node.name], [values[source] for source in sources])
        values[node.name] = x if node.kind == "Output" else work.node(node, names[node.name], x)
    x = values[outer["Output"][0].name]
    if x.spikes:
        raise outer["Output"][0].refused("what leaves is spikes; a Conv2d before it makes currents of them")
    try:
        graph = _leave(work, x, parts, ends)
        analyse(graph, work.tensors)
    except GraphError as error:
        raise ExportError(f"The network does not fit: {error}.") from error
    return graph, work.tensors, work.rounding


def _cut(ends: Bundle, steps: int) -> Cut:
    try:
        parts = cut(ends.analysis)
    except CutError as error:
        raise ExportError(f"The bundle of --ends has no ends of its own: {error}") from error
    if len(parts.entering) != 1 or len(parts.leaving) != 1 or ends.graph.time_steps != steps:
        raise ExportError(f"The bundle of --ends must have one stream in, one out, and {steps} time steps.")
    return parts


def _layer_names(file: NirFile, parts: Cut | None) -> dict[str, str]:
    """{node: name of its layer}: those that `export.nir` noted, else the file's own."""
    try:
        noted = json.loads(str(file.metadata.get("layers", "{}")))
    except (ValueError, RecursionError):
        noted = {}
    noted = noted if isinstance(noted, dict) else {}
    taken = {node.name for node in (*parts.head, *parts.tail)} if parts else {"image", "readout"}
    found = {}
    for name in file.nodes:
        wanted = noted.get(name, name)
        wanted = wanted if isinstance(wanted, str) and 0 < len(wanted) <= 60 and wanted.isprintable() else "layer"
        while wanted in taken:
            wanted += "'"
        taken.add(wanted)
        found[name] = wanted
    return found


def _enter(work: _Importer, node: NirNode, parts: Cut | None, ends: Bundle | None) -> _Value:
    """What stands before the Input."""
    shape = node.array("shape", 1)
    channels = int(shape[0])
    if channels != shape[0]:
        raise node.refused(f"it has {shape[0]:g} channels")
    if parts and ends:
        entering = parts.entering[0]
        if entering.channels != channels:
            raise node.refused(f"it has {channels} channels, and the ends give {entering.channels}")
        work.builder.nodes += parts.head
        work.tensors.update(_owned(ends, parts.head))
        return _Value(entering.name, channels, entering.q, entering.magnitude, np.zeros(channels))
    if channels not in BLOCKS:
        raise node.refused(f"it has {channels} channels; 3, 12, 27 and 48 are pixels, others need --ends BUNDLE")
    x = work.builder.image()
    if BLOCKS[channels] > 1:
        x = work.builder.space_to_depth("input.pixels", x, BLOCKS[channels])
    return _Value(x, channels, IMAGE_GRID, 128, np.zeros(channels))


def _leave(work: _Importer, x: _Value, parts: Cut | None, ends: Bundle | None) -> Graph:
    """What stands after the Output; the whole graph."""
    b, steps = work.builder, work.reading.time_steps
    offset = np.broadcast_to(x.offset, (x.channels,))
    if parts and ends:
        leaving = parts.leaving[0]
        if (leaving.channels, leaving.q) != (x.channels, x.q):
            raise ExportError(
                f"What leaves has {x.channels} channels on the grid 2^-{x.q}; the ends take {leaving.channels} on 2^-"
                f"{leaving.q} (--grid)."
            )
        name = x.name
        if offset.any():
            name = b.dense_conv("output.bias", name, x.channels, 1, q=0, bias=True)
            work.tensors["output.bias.weight"] = np.eye(x.channels, dtype=np.int32)[:, :, None, None]
            work.tensors["output.bias.bias"] = work.whole(name, offset, x.q)
            most = x.magnitude + int(np.abs(work.tensors["output.bias.bias"]).max())
            name = work.bounded(replace(x, name=name, magnitude=most)).name
        for node in parts.tail:
            b.nodes.append(replace(node, inputs=tuple(name if i == leaving.name else i for i in node.inputs)))
        work.tensors.update(_owned(ends, parts.tail))
        return Graph(tuple(b.nodes), steps, {})
    if x.channels not in BLOCKS:
        raise ExportError(f"Output has {x.channels} channels; 3, 12, 27 and 48 are pixels, others need --ends BUNDLE.")
    total = work.bounded(replace(x, name=b.time_sum("output.sum", x.name), magnitude=x.magnitude * steps))
    mean = steps.bit_length() - 1 if work.reading.readout == "mean" else 0
    q = max(mean, IMAGE_GRID - x.q)
    if q > MAX_GRID or 1 << (q - mean) > WEIGHT_LIMIT:
        raise ExportError(f"What leaves lies on the grid 2^-{x.q}, which is too coarse for grey levels; raise --grid.")
    y = b.dense_conv("output.scale", total.name, x.channels, 1, q=q, bias=bool(offset.any()))
    work.tensors["output.scale.weight"] = np.eye(x.channels, dtype=np.int32)[:, :, None, None] << (q - mean)
    if offset.any():
        work.tensors["output.scale.bias"] = work.whole(y, offset * steps * 2.0**-mean, x.q + q)
    side = BLOCKS[x.channels]
    return b.finish(b.upsample("output.pixels", y, side, "depth_to_space") if side > 1 else y)


def _owned(bundle: Bundle, nodes: tuple[Any, ...]) -> dict[str, npt.NDArray[np.int32]]:
    names = {node.name for node in nodes}
    return {key: tensor for key, tensor in bundle.tensors.items() if key.rpartition(".")[0] in names}


def reading_of(metadata: Mapping[str, Any], options: argparse.Namespace) -> Reading:
    """What the command says, else what the file says of itself. ExportError where neither says T."""

    def noted(key: str, kind: type) -> Any:
        value = metadata.get(key)
        fine = isinstance(value, np.ndarray) and value.ndim == 0 and np.isfinite(value) and 1 / LARGEST < value < 1e6
        return kind(value) if fine else None

    steps = options.time_steps or noted("time_steps", int)
    if steps is None:
        raise ExportError("NIR does not say how many time steps a network takes; pass --time-steps N.")
    grid = options.grid if options.grid is not None else noted("leaving_grid", int)
    dt = options.dt or noted("dt", float) or DT
    return Reading(steps, dt, GRID if grid is None else min(grid, MAX_GRID), options.readout)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.from_nir", description="Read a NIR file of neurons and convolutions into a bundle."
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="of NIR (HDF5)")
    add("--out", type=Path, metavar="FILE", help="default: <name of the file>.safetensors in this folder")
    add("--ends", type=Path, metavar="BUNDLE", help="whose layers before and after its neurons stand around the file's")
    add("--time-steps", type=int, metavar="T", help="a power of two (default: what the file says)")
    add("--dt", type=float, metavar="SECONDS", help=f"per step (default: what the file says, or {DT:g})")
    add("--grid", type=int, metavar="Q", help=f"weights are rounded to 2^-Q (default: what the file says, or {GRID})")
    add("--readout", choices=("mean", "sum"), default="mean", help="of Output over the steps, without --ends")
    add("--task", choices=TASKS, default="denoise", help="what the network does (default: %(default)s)")
    add("--licence", default=UNSTATED, metavar="TEXT", help="of the weights (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.grid is not None and not 0 <= options.grid <= MAX_GRID:
        parser.error(f"--grid is 0 to {MAX_GRID}, not {options.grid}")
    if options.dt is not None and not 1 / LARGEST < options.dt < 1e6:
        parser.error(f"--dt is {1 / LARGEST:.0e} to 1e6 seconds, not {options.dt:g}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 2 for what the user can mend."""
    options = parse_arguments(arguments)
    out = options.out or Path(options.file.with_suffix(".safetensors").name)
    try:
        file = read_file(options.file)
        reading = reading_of(file.metadata, options)
        graph, tensors, rounding = convert(file, reading, read_bundle(options.ends) if options.ends else None)
        meta = {
            "network.task": options.task, "training.data": UNSTATED, "training.terms": UNSTATED,
            "weights.licence": options.licence,
        }  # fmt: skip
        content_hash = write_bundle(out, graph, tensors, meta)
    except (BundleError, ExportError) as error:
        print(f"export.from_nir: {error}", file=sys.stderr)
        return 2
    print(
        f"{len(graph.nodes)} layers, {reading.time_steps} time steps of {reading.dt:g} s, weights on 2^-{reading.grid}"
    )
    print(
        "Every number is what the file says." if not rounding else f"Numbers were rounded, by {rounding:.3g} at most."
    )
    print(f"wrote {out} ({out.stat().st_size} bytes, {content_hash[:12]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
