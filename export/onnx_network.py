"""What `export.onnx` writes for each kind of node, and the writer that collects it.

Inside, integer k on grid q is the float32 number k * 2^-q, as in training: scaling by a power of two is exact, numbers
keep a size that other arithmetic can hold, too, and values on different grids add without a shift.

What each kind of node computes stands in `simulator/reference.py`; the functions below follow it kind by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from export.files import no_form
from export.forms import block_weight, folded_weight
from simulator.analysis import Analysis, Tensors
from simulator.graph import Graph, Node
from simulator.kinds import KnownAttributes
from simulator.kinds.attend import SPACE_KERNEL, attend_cap, attend_pool_shift
from simulator.kinds.layer import Value

if TYPE_CHECKING:  # imported only where it is used, so that a missing package is reported in a sentence
    import onnx

PRODUCER = "spikerir-edge"
FORM = "ONNX form"
KNOWN: KnownAttributes = {
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract")},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},
}

# A value of the network: one tensor's name if it is static, else one per time step. Spikes of window neurons are one
# tensor, too, the number of them in the window: what convolutions need of them.
Steps = tuple[str, ...]
_Item = TypeVar("_Item")


def observed_name(layer: str, step: int) -> str:
    """The name of a model's output that shows what a layer computes at a step."""
    return f"{layer}@{step}"


def model_entries(meta: Mapping[str, str]) -> dict[str, str]:
    """What a bundle says about its network, but for the graph, which the model is itself."""
    return {key: meta[key] for key in sorted(meta) if key not in ("network.graph", "network.bounds")}


def repeated(values: Steps, steps: int) -> Steps:
    """A static value at each of the steps; any other as it is."""
    return values * steps if len(values) == 1 else values


class Writer:
    """Collects ONNX nodes and initialisers. Names are unique by a running number; equal constants are stored once.

    half: weights are stored as float16 and cast to float32, which a runtime does once when it loads the model; if not,
    they are stored as float32.
    """

    def __init__(self, half: bool = True) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.scope = ""  # layer (and time step) that is being written, for readable names
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        name = output or f"{self.scope}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    def cast(self, x: str, dtype: str, output: str | None = None) -> str:
        from onnx import TensorProto

        return self.op("Cast", x, to=TensorProto.DataType.Value(dtype), output=output)

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = f"constant/{len(self._constants)}"
            self._initialise(self._constants[key], array)
        return self._constants[key]

    def weight(self, name: str, array: npt.NDArray[np.float16]) -> str:
        """float32 in use."""
        self._initialise(name, array if self.half else array.astype(np.float32))
        return self.cast(name, "FLOAT") if self.half else name

    def _initialise(self, name: str, array: npt.NDArray[Any]) -> None:
        from onnx import numpy_helper

        self.initialisers.append(numpy_helper.from_array(array, name))

    def times(self, x: str, factor: float) -> str:
        return x if factor == 1 else self.op("Mul", x, self.constant(factor))

    def add(self, *inputs: str) -> str:
        total = inputs[0]
        for other in inputs[1:]:
            total = self.op("Add", total, other)
        return total

    def requantise(
        self, x: str, q: int, shift: int, limits: tuple[int, int] | None, out_q: int, offset: int = 0
    ) -> str:
        """Units k of grid q become clip(floor(k * 2^-shift + offset + 1/2), limits) units of grid `out_q`.

        Without a shift nothing is rounded: adding a half to 24 bits would itself round.
        """
        x = self.times(x, 2.0 ** (q - shift))
        if offset or shift:
            x = self.op("Add", x, self.constant(offset + (0.5 if shift else 0.0)))
        if shift:
            x = self.op("Floor", x)
        if limits is not None:
            x = self.op("Clip", x, self.constant(limits[0]), self.constant(limits[1]))
        return self.times(x, 2.0**-out_q)


class Network:
    """Writes one graph's nodes, in their order. `values` holds what is computed so far."""

    def __init__(self, graph: Graph, tensors: Tensors, analysis: Analysis, writer: Writer):
        self.graph, self.tensors, self.analysis, self.writer = graph, tensors, analysis, writer
        self.steps = graph.time_steps
        self.values: dict[str, Steps] = {}

    def tensor(self, node: Node, part: str) -> npt.NDArray[np.int32]:
        return self.tensors[f"{node.name}.{part}"]

    def weight(self, node: Node, part: str, units: npt.NDArray[np.int32] | None = None) -> str:
        """A weight on the node's grid, as the bundle stores it. units: the same in another shape."""
        units = self.tensor(node, part) if units is None else units
        return self.writer.weight(f"{node.name}.{part}", (units * 2.0 ** -node["q"]).astype(np.float16))

    def bias(self, node: Node, part: str, q: int) -> str:
        return self.writer.constant(self.tensor(node, part) * 2.0**-q)

    def per_channel(self, values: npt.NDArray[Any]) -> str:
        """[C] as [C, 1, 1], or as one number if all are equal, which broadcasts faster."""
        same = bool((values == values[0]).all())
        return self.writer.constant(values[0] if same else values[:, None, None])

    def each(self, node: Node, values: Steps, function: Callable[[str], str]) -> Steps:
        """Once for a static value, else at every time step."""
        if len(values) == 1:
            return (function(values[0]),)
        return tuple(function(x) for x in self.in_steps(node, values))

    def in_steps(self, node: Node, values: Iterable[_Item]) -> Iterator[_Item]:
        """The values one by one; what is written meanwhile carries the time step in its name."""
        for t, x in enumerate(values):
            self.writer.scope = f"{node.name}/t{t}"
            yield x

    def write(self, node: Node) -> Steps:
        """Any node but `image` and `readout`. Raises ExportError for a kind without a rule."""
        if not node.inputs:  # the picture is the one source that is known
            raise no_form(node.name, node.kind, FORM)
        w, x, kind = self.writer, self.values[node.inputs[0]], node.kind
        source, value = self.analysis.values[node.inputs[0]], self.analysis.values[node.name]
        w.scope = node.name
        if kind == "space_to_depth":
            return self.space_to_depth(node, x, source.channels)
        if kind in ("conv", "dense_conv"):
            return self.convolution(node, x, value)
        if kind == "requantise":
            shift, limits = node["shift"], (node["lo"], node["hi"])
            return self.each(node, x, lambda one: w.requantise(one, source.q, shift, limits, value.q))
        if kind == "lif":
            return self.lif(node, x, source.q)
        if kind == "window":
            return (self.window(node, x, source.q),)
        if kind in ("sum", "concat"):
            return self.combine(node, [self.values[name] for name in node.inputs])
        if kind == "upsample":
            return self.each(node, x, lambda one: self.upsample(one, node["factor"], node["mode"]))
        if kind == "attend":
            return self.attend(node, x, source)
        if kind == "time_sum":
            return (w.times(x[0], self.steps) if len(x) == 1 else w.add(*x),)
        raise no_form(node.name, kind, FORM)

    def space_to_depth(self, node: Node, x: Steps, channels: int) -> Steps:
        weight = self.writer.weight(f"{node.name}.weight", block_weight(channels, node["factor"]).astype(np.float16))
        sides = [node["factor"]] * 2
        return self.each(node, x, lambda one: self.writer.op("Conv", one, weight, kernel_shape=sides, strides=sides))

    def combine(self, node: Node, inputs: list[Steps]) -> Steps:
        """Sum or concatenation; static inputs are presented at every step."""
        w, longest = self.writer, max(len(x) for x in inputs)
        together = zip(*(repeated(x, longest) for x in inputs), strict=True)
        steps = self.in_steps(node, together)
        return tuple(w.add(*parts) if node.kind == "sum" else w.op("Concat", *parts, axis=1) for parts in steps)

    def convolution(self, node: Node, x: Steps, value: Value, factor: int = 1) -> Steps:
        """factor: of the space_to_depth that stands between x and the convolution, and becomes part of it."""
        w = self.writer
        parameters = [self.weight(node, "weight", folded_weight(self.tensor(node, "weight"), factor))]
        if node["bias"]:
            parameters.append(self.bias(node, "bias", value.q))
        attributes: dict[str, Any] = {
            "kernel_shape": [factor * node["kernel"]] * 2,
            "strides": [factor * node["stride"]] * 2,
            "pads": [factor * node["padding"]] * 4,
            "group": node["groups"],
        }
        return self.each(node, x, lambda one: w.op("Conv", one, *parameters, **attributes))

    def lif(self, node: Node, current: Steps, q: int) -> Steps:
        """v <- leak(v) + I + b; a spike where v >= threshold; then reset. v starts at 0, so the first leak is none."""
        w = self.writer
        shifts, bias = self.tensor(node, "leak"), self.tensor(node, "bias")
        threshold = self.per_channel(self.tensor(node, "threshold") * 2.0**-q)
        down, up = self.per_channel(2.0 ** (q - shifts)), w.constant(2.0**-q)
        if bias.any():
            b = self.per_channel(bias * 2.0**-q)
            current = self.each(node, current, lambda one: w.op("Add", one, b))
        spikes: list[str] = []
        v = current[0]
        for t in self.in_steps(node, range(self.steps)):
            if t:
                shifted = w.op("Mul", w.op("Floor", w.op("Mul", v, down)), up)  # v >> k
                leaked = shifted if node["leak"] == "shift" else w.op("Sub", v, shifted)
                v = w.op("Add", leaked, current[min(t, len(current) - 1)])
            spikes.append(self.fired(node, v, q))
            if t + 1 < self.steps:
                v = w.op("Sub", v, w.op("Mul", spikes[-1], v if node["reset"] == "zero" else threshold))
        return tuple(spikes)

    def fired(self, node: Node, v: str, q: int) -> str:
        """1 where v reaches the threshold, else 0."""
        threshold = self.per_channel(self.tensor(node, "threshold") * 2.0**-q)
        return self.writer.cast(self.writer.op("GreaterOrEqual", v, threshold), "FLOAT")

    def window(self, node: Node, current: Steps, q: int) -> str:
        """clip(floor(v / threshold), 0, T) with v = b + I. Division rounds, but never up to a whole number n <= T: v at
        n thresholds less one unit is further from it than float32's spacing as long as T thresholds are below 2^24."""
        w, bias = self.writer, self.tensor(node, "bias")
        v = w.add(*current) if len(current) > 1 else current[0]
        if bias.any():
            v = w.op("Add", v, self.per_channel(bias * 2.0**-q))
        quotient = w.op("Div", v, self.per_channel(self.tensor(node, "threshold") * 2.0**-q))
        return w.op("Clip", w.op("Floor", quotient), w.constant(0), w.constant(self.steps))

    def upsample(self, x: str, factor: int, mode: str) -> str:
        if mode == "depth_to_space":
            return self.writer.op("DepthToSpace", x, blocksize=factor, mode="CRD")
        scales = self.writer.constant([1, 1, factor, factor])
        return self.writer.op(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def attend(self, node: Node, x: Steps, source: Value) -> Steps:
        """x times a gate from pooled sums; `simulator.kinds.attend.attend` says what the gates are."""
        w, over, window = self.writer, node["over"], node["window"]
        q, pool_q, gate_q, cap = node["q"], node["pool_q"], node["gate_q"], attend_cap(node)
        shift = attend_pool_shift(node, source, self.steps)
        if over == "time":
            x = repeated(x, self.steps)

        def gate_of(total: str) -> str:
            return w.requantise(total, pool_q + q, pool_q + q + 2 - gate_q, (0, 1 << gate_q), gate_q, 1 << (gate_q - 1))

        def means(total: str, grid: int) -> str:
            return w.requantise(total, grid, shift, (-cap, cap), pool_q)

        def gated(one: str, gate: str) -> str:
            return w.requantise(w.op("Mul", one, gate), source.q + gate_q, gate_q, None, source.q)

        axis = w.constant([1], np.int64)
        if over == "space":
            weight = self.weight(node, "weight", self.tensor(node, "weight").reshape(1, 1, SPACE_KERNEL, SPACE_KERNEL))
            bias = self.bias(node, "bias", pool_q + q)

            def space(one: str) -> str:
                mean = means(w.op("ReduceSum", one, axis, keepdims=1), source.q)
                return gated(one, gate_of(w.op("Conv", mean, weight, bias, pads=[SPACE_KERNEL // 2] * 4)))

            return self.each(node, x, space)

        size = w.op("Shape", x[0], start=2, end=4)
        if over == "channel":
            pooled = w.times(x[0], self.steps) if len(x) == 1 else w.add(*x)
        else:
            pooled = w.op("Concat", *(w.op("ReduceSum", one, axis, keepdims=1) for one in x), axis=1)
        grid = source.q
        if window > 1:
            # Zeros complete the windows that the border cuts; the average over the whole window is the sum / 2^n,
            # a shift of the grid.
            pooled = self.pad(pooled, size, window, "constant")
            pooled = w.op("AveragePool", pooled, kernel_shape=[window] * 2, strides=[window] * 2)
            grid += 2 * (window.bit_length() - 1)

        def layer(x: str, part: str) -> str:
            units = self.tensor(node, part)
            weight = self.weight(node, part, units[..., None, None])
            return w.op("Conv", x, weight, self.bias(node, f"{part}_bias", pool_q + q))

        hidden = w.requantise(layer(means(pooled, grid), "squeeze"), pool_q + q, q, (0, cap), pool_q)
        gate = gate_of(layer(hidden, "excite"))
        if window > 1:
            gate = self.crop(self.upsample(gate, window, "nearest"), size)
        if over == "channel":
            return self.each(node, x, lambda one: gated(one, gate))
        at_step = [w.constant([t], np.int64) for t in range(len(x) + 1)]
        return tuple(
            gated(one, w.op("Slice", gate, at_step[t], at_step[t + 1], axis))
            for t, one in enumerate(self.in_steps(node, x))
        )

    def pad(self, x: str, size: str, multiple: int, mode: str) -> str:
        """Pad right and bottom to a multiple; `size` is x's [H, W]. The remainder of -size is what is missing."""
        w = self.writer
        missing = w.op("Mod", w.op("Neg", size), w.constant([multiple], np.int64))
        pads = w.op("Concat", w.constant([0, 0], np.int64), missing, axis=0)
        return w.op("Pad", x, pads, "", w.constant([2, 3], np.int64), mode=mode)

    def crop(self, x: str, size: str, output: str | None = None) -> str:
        w = self.writer
        return w.op("Slice", x, w.constant([0, 0], np.int64), size, w.constant([2, 3], np.int64), output=output)
