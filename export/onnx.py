"""`python -m export.onnx BUNDLE [--out FILE]`: a bundle as an ONNX model that equals the device to the last bit.

The network is unrolled over its T time steps, straight from the bundle; PyTorch is not needed. Shapes:

    image     uint8 [N, 3, H, W], RGB; any N, H and W from 1 (the model pads and crops by itself)
    restored  uint8 [N, 3, H, W]

Inside, integer k on grid q is the float32 number k * 2^-q, as in training: scaling by a power of two is exact, numbers
keep a size that other arithmetic can hold, too, and values on different grids add without a shift. Weights are stored
as float16 (every k * 2^-q is one) and cast to float32, which a runtime does once when it loads the model. float32
computes a node exactly if its bound is below 2^24; `inexact_nodes` names the others.

What each kind of node computes stands in `simulator/reference.py`; the functions below follow it kind by kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from export.files import ExportError, check_attributes, no_form, write_atomically
from simulator.analysis import Analysis, Tensors
from simulator.bundle import BundleError, read_bundle
from simulator.graph import IMAGE_GRID, Graph, Node
from simulator.kinds import KnownAttributes
from simulator.kinds.attend import SPACE_KERNEL, attend_cap, attend_pool_shift
from simulator.kinds.layer import Value
from simulator.reference import Reference

if TYPE_CHECKING:  # imported only where they are used, so that a missing package is reported in a sentence
    import onnx
    import onnxruntime

OPSET = 18
IR_VERSION = 8  # what opset 18 came with: older runtimes refuse newer files
PRODUCER = "spikerir-edge"
FORM = "ONNX form"
KNOWN: KnownAttributes = {
    "conv": {"dilation": (), "limit": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},
}

# A value of the network: one tensor's name if it is static, else one per time step. Spikes of window neurons are one
# tensor, too, the number of them in the window: what convolutions need of them.
Steps = tuple[str, ...]
_Item = TypeVar("_Item")


def repeated(values: Steps, steps: int) -> Steps:
    """A static value at each of the steps; any other as it is."""
    return values * steps if len(values) == 1 else values


class _Writer:
    """Collects ONNX nodes and initialisers. Names are unique by a running number; equal constants are stored once."""

    def __init__(self) -> None:
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
        """float16 in the file, float32 in use."""
        self._initialise(name, array)
        return self.cast(name, "FLOAT")

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


class _Network:
    """Writes one graph's nodes, in their order. `values` holds what is computed so far."""

    def __init__(self, graph: Graph, tensors: Tensors, analysis: Analysis, writer: _Writer):
        self.graph, self.tensors, self.analysis, self.writer = graph, tensors, analysis, writer
        self.steps = graph.time_steps
        self.values: dict[str, Steps] = {}

    def tensor(self, node: Node, part: str) -> npt.NDArray[np.int32]:
        return self.tensors[f"{node.name}.{part}"]

    def weight(self, node: Node, part: str, shape: tuple[int, ...] | None = None) -> str:
        """A weight on the node's grid, as the bundle stores it."""
        units = self.tensor(node, part)
        array = (units * 2.0 ** -node["q"]).astype(np.float16)
        return self.writer.weight(f"{node.name}.{part}", array.reshape(shape or units.shape))

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
            return self.each(node, x, lambda one: self.space_to_depth(one, node["factor"], source.channels))
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

    def space_to_depth(self, x: str, factor: int, channels: int) -> str:
        """ONNX orders the result's channels (dy, dx, c); the contract (c, dy, dx)."""
        order = np.arange(factor**2 * channels).reshape(factor, factor, channels).transpose(2, 0, 1)
        x = self.writer.op("SpaceToDepth", x, blocksize=factor)
        return self.writer.op("Gather", x, self.writer.constant(order.ravel(), np.int64), axis=1)

    def combine(self, node: Node, inputs: list[Steps]) -> Steps:
        """Sum or concatenation; static inputs are presented at every step."""
        w, longest = self.writer, max(len(x) for x in inputs)
        together = zip(*(repeated(x, longest) for x in inputs), strict=True)
        steps = self.in_steps(node, together)
        return tuple(w.add(*parts) if node.kind == "sum" else w.op("Concat", *parts, axis=1) for parts in steps)

    def convolution(self, node: Node, x: Steps, value: Value) -> Steps:
        w = self.writer
        parameters = [self.weight(node, "weight")]
        if node["bias"]:
            parameters.append(self.bias(node, "bias", value.q))
        attributes: dict[str, Any] = {
            "kernel_shape": [node["kernel"]] * 2,
            "strides": [node["stride"]] * 2,
            "pads": [node["padding"]] * 4,
            "group": node["groups"],
        }
        if node.kind == "conv" and node["dilation"] > 1:
            attributes["dilations"] = [node["dilation"]] * 2
        return self.each(node, x, lambda one: w.op("Conv", one, *parameters, **attributes))

    def lif(self, node: Node, current: Steps, q: int) -> Steps:
        """v <- leak(v) + I + b; a spike where v >= threshold; then reset. v starts at 0, so the first leak is none."""
        w = self.writer
        shifts, bias = self.tensor(node, "leak"), self.tensor(node, "bias")
        grid = q + node["fine"]
        threshold = self.per_channel(self.tensor(node, "threshold") * 2.0**-q + node["above"] * 2.0**-grid)
        down, up = self.per_channel(2.0 ** (grid - shifts)), w.constant(2.0**-grid)
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
            spikes.append(w.cast(w.op("GreaterOrEqual", v, threshold), "FLOAT"))
            if t + 1 < self.steps:
                v = w.op("Sub", v, w.op("Mul", spikes[-1], v if node["reset"] == "zero" else threshold))
        return tuple(spikes)

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
            weight = self.weight(node, "weight", (1, 1, SPACE_KERNEL, SPACE_KERNEL))
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
            weight = self.weight(node, part, (*units.shape, 1, 1))
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


def build_model(
    graph: Graph, tensors: Tensors, analysis: Analysis, meta: Mapping[str, str], observe: Collection[str] = ()
) -> onnx.ModelProto:
    """The network as an ONNX model (opset 18); the same network and metadata give the same model.

    graph, tensors (int32 units), meta: as a bundle holds them. analysis: `analyse(graph, tensors)`.
    observe: names of nodes to have as further outputs, float32 real numbers k * 2^-q (their names: `observed_name`).
    Raises ExportError if the onnx package is missing, and for a kind of node, or an attribute, without a rule here.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise ExportError(missing_package("onnx")) from error
    w = _Writer()
    network = _Network(graph, tensors, analysis, w)
    stride = analysis.stride
    extra = []
    pixels = size = ""
    for node in graph.nodes:
        check_attributes(node, KNOWN, FORM)
        w.scope = node.name
        if node.kind == "image":
            pixels = w.cast("image", "FLOAT")
            if stride > 1:
                size = w.op("Shape", "image", start=2, end=4)
                pixels = network.pad(pixels, size, stride, "edge")
            network.values[node.name] = (w.times(w.op("Sub", pixels, w.constant(128)), 2.0**-IMAGE_GRID),)
        elif node.kind == "readout":
            source = analysis.values[node.inputs[0]]
            change = w.requantise(network.values[node.inputs[0]][0], source.q, source.q - IMAGE_GRID, None, 0)
            restored = w.op("Clip", w.op("Add", pixels, change), w.constant(0), w.constant(255))
            restored = w.cast(restored, "UINT8", None if stride > 1 else "restored")
            if stride > 1:
                network.crop(restored, size, "restored")
        else:
            network.values[node.name] = network.write(node)
        if node.name in observe and node.kind != "readout":
            observed = network.values[node.name]
            if analysis.values[node.name].window:  # k spikes are those of the first k steps
                observed = tuple(
                    w.cast(w.op("Greater", observed[0], w.constant(t)), "FLOAT") for t in range(graph.time_steps)
                )
            for t, name in enumerate(observed):
                extra.append(w.op("Identity", name, output=observed_name(node.name, t)))
    shape: list[str | int | None] = ["N", 3, "H", "W"]
    outputs = [helper.make_tensor_value_info("restored", TensorProto.UINT8, shape)]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None, None, None]) for name in extra]
    model = helper.make_model(
        helper.make_graph(
            w.nodes,
            "spiking_restoration",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
            outputs,
            w.initialisers,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
        doc_string="image: uint8 RGB [N, 3, H, W]; restored: the same. float32 arithmetic on dyadic grids, exact.",
    )
    # The graph is the model itself; everything else that the bundle says about the network goes along.
    left_out = ("network.graph", "network.bounds")
    helper.set_model_props(model, {key: meta[key] for key in sorted(meta) if key not in left_out})
    onnx.checker.check_model(model, full_check=True)
    return model


def observed_name(layer: str, step: int) -> str:
    return f"{layer}@{step}"


def missing_package(package: str) -> str:
    return f"The package {package} is not installed; `pip install 'spikerir-edge[export]'` brings it (Python 3.11 on)."


def inexact_nodes(analysis: Analysis) -> list[str]:
    """Layers whose bound reaches 2^24: there float32 is not guaranteed to be exact."""
    return [node.name for node in analysis.graph.nodes if not analysis.float_exact(node.name)]


class OnnxBackend:
    """The network in ONNX Runtime on the CPU; the interface of `simulator.reference.Reference`, but for the maps."""

    name = "onnx"

    def __init__(self, analysis: Analysis, tensors: Tensors, threads: int | None = None):
        self.analysis, self.tensors, self.threads = analysis, tensors, threads
        self._session = self._open(())
        self._observed: onnxruntime.InferenceSession | None = None

    def _open(self, observe: Collection[str]) -> onnxruntime.InferenceSession:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(missing_package("onnxruntime")) from error
        model = build_model(self.analysis.graph, self.tensors, self.analysis, {}, observe)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self.threads:
            options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 [N, 3, H, W] of any size -> restored, the same shape."""
        restored: npt.NDArray[np.uint8] = self._session.run(["restored"], {"image": images})[0]
        return restored

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Callable[[str, npt.NDArray[Any]], None] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore int16 [3, H, W] (u8 - 128); `observe(name, value)` sees every node's integers, [T or 1, C, h, w].

        Spikes per position are counted by the integer backends; the dictionary that they return is empty here.
        """
        image = (pixels + 128).astype(np.uint8)[None]
        if observe is None:
            return self.run(image)[0], {}
        *inner, last = self.analysis.graph.nodes
        if self._observed is None:
            self._observed = self._open([node.name for node in inner])
        names = [output.name for output in self._observed.get_outputs()]
        found = dict(zip(names, self._observed.run(names, {"image": image}), strict=True))
        for node in inner:
            steps: list[npt.NDArray[np.float32]] = []
            while (name := observed_name(node.name, len(steps))) in found:
                steps.append(found[name][0])
            units = np.stack(steps).astype(np.float64) * 2.0 ** self.analysis.values[node.name].q
            observe(node.name, np.rint(units).astype(np.int64))
        restored = found["restored"][0]
        observe(last.name, restored.astype(np.int64)[None])
        return restored, {}


def check_image(height: int = 45, width: int = 61) -> npt.NDArray[np.uint8]:
    """A small odd-sized picture with edges, slopes and noise, uint8 RGB [H, W, 3], always the same."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([4 * x, 5 * y, 128 + 60 * np.sin(x / 5) * np.cos(y / 7)], 2)
    slopes[(x // 9 + y // 13) % 3 == 0] += 70
    noise = np.random.Generator(np.random.PCG64(0)).integers(-45, 46, slopes.shape)
    return np.clip(slopes + noise, 0, 255).astype(np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 1 if it would not equal the reference, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.onnx",
        description="Write a bundle as an ONNX model: uint8 RGB [N, 3, H, W] in, the same out, any size.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <name of the bundle>.onnx in this folder")
    options = parser.parse_args(arguments)
    out = options.out or Path(options.bundle.with_suffix(".onnx").name)
    try:
        bundle = read_bundle(options.bundle)
        graph, tensors, analysis = bundle.graph, bundle.tensors, bundle.analysis
        content = build_model(graph, tensors, analysis, bundle.meta).SerializeToString(deterministic=True)
        inexact = inexact_nodes(analysis)
        if inexact:
            print(f"float32 is not guaranteed to be exact in {', '.join(inexact)}: their bounds reach 2^24.")
        try:
            differing = _differing_pixels(analysis, tensors, check_image())
        except ExportError as missing:
            print(f"Not compared with the reference: {missing}")
        else:
            print(f"ONNX Runtime against the reference, one image: {differing} pixels differ.")
            if differing and not inexact:
                print(f"export.onnx: {out} was not written, because it would not equal the device.", file=sys.stderr)
                return 1
        write_atomically(out, content)
    except (BundleError, ExportError) as error:
        print(f"export.onnx: {error}", file=sys.stderr)
        return 2
    print(f"wrote {out} ({len(content)} bytes, {graph.time_steps} time steps, opset {OPSET})")
    return 0


def _differing_pixels(analysis: Analysis, tensors: Tensors, image: npt.NDArray[np.uint8]) -> int:
    backend = OnnxBackend(analysis, tensors, threads=1)
    restored = backend.run(np.ascontiguousarray(image.transpose(2, 0, 1))[None])[0]
    height, width = image.shape[:2]
    rows, columns = analysis.padded(height, width)
    padded = np.pad(image, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    expected, _ = Reference(analysis, tensors).run_padded(padded.transpose(2, 0, 1).astype(np.int16) - 128)
    return int((restored != expected[:, :height, :width]).any(0).sum())


if __name__ == "__main__":
    sys.exit(main())
