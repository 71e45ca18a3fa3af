"""The equivalent ANN of a spiking network: what a dense runtime would run in its place, one pass (T = 1).

Built from the same graph: ReLU where the neurons are, the same convolutions (kernels, strides, groups), skips,
concatenations and enlargements; the T-sum and the roundings fall away, and so does attention over time, which has
nothing to choose from. Attention over channels and space stays (the hard sigmoid's slope and offset are part of the
convolution before it). Every convolution has a bias, as after folding a normalisation.

The weights are random (He initialisation, the last convolution small): this network was never trained, it is there to
be timed and counted. Time does not depend on their values; that activations are ordinary numbers is tested.

Channels of space_to_depth and depth_to_space are ordered (dy, dx, c) here, the one order that ONNX and TFLite share.
`to_onnx`, `to_tflite` and `to_torch` write it for their runtimes; `evaluate` is what they must equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from export.files import check_attributes, no_form
from simulator.analysis import Analysis
from simulator.graph import Node
from simulator.kinds import KnownAttributes
from simulator.kinds.attend import SPACE_KERNEL
from simulator.kinds.convolution import arrivals
from simulator.statistics import real_size

Array = npt.NDArray[np.float32]
Value = npt.NDArray[Any]  # float32, but for the output
Picture = npt.NDArray[np.uint8]
Spans = Mapping[str, tuple[float, float]]  # of each op's output, least and largest value

FORM = "equivalent in an ANN"
KNOWN: KnownAttributes = {
    # ReLU replaces neurons of any sort; attention over time has nothing to choose from in one pass.
    "lif": {"leak": (), "reset": (), "fine": (), "shared": (), "above": ()},
    "conv": {"limit": ()},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},
}

INPUT_SCALE = 1 / 128  # a pixel enters as (u8 - 128) / 128, and so it leaves
ZERO_PIXEL = 128
LAST_GAIN = 0.02  # the last convolution's weights, relative to He initialisation: a small change to the picture
BRANCH_GAIN = 0.5  # of convolutions that a sum reads: residual streams grow slowly


@dataclass(frozen=True)
class Op:
    """One step. Kinds, with x of shape [C, H, W] and what `attrs` holds:

    input           the picture as real numbers
    conv            kernel, stride, padding, groups; weight and bias in `Ann.weights`
    relu, clip      max(x, 0); x clipped to 0..1
    add, concat     of all inputs
    nearest         factor: each value repeated factor x factor times
    space_to_depth, depth_to_space    factor; channels (dy, dx, c)
    pool            window: means over windows aligned to the origin, zeros where the border cuts one
    channel_mean    one channel
    gate            factor: inputs (x, g): x times g enlarged by `factor` and cut to x's size (one channel: broadcast)
    output          inputs (change): the picture plus the change, uint8
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, int] = field(default_factory=dict)
    gating: bool = False  # part of what computes an attention's gate

    def __getitem__(self, key: str) -> int:
        return self.attrs[key]


@dataclass(frozen=True)
class Ann:
    """ops in topological order. weights: float32, `<op>.weight` [C_out, C_in/groups, k, k] and `<op>.bias` [C_out].

    channels, scales: of each op's output, the scale being its stride relative to the picture (times the window where
    pooled). stride: the picture's sides are multiples of it.
    """

    ops: tuple[Op, ...]
    weights: Mapping[str, Array]
    channels: Mapping[str, int]
    scales: Mapping[str, int]
    stride: int

    def readers(self, name: str) -> tuple[Op, ...]:
        return tuple(op for op in self.ops if name in op.inputs)

    def extent(self, name: str, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of an op's output for a picture of that size."""
        return real_size(height, width, self.scales[name])

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of one pass, border-exact; products with gates included."""
        return sum(self.op_macs(op, height, width) for op in self.ops)

    def op_macs(self, op: Op, height: int, width: int) -> int:
        outputs = self.extent(op.name, height, width)
        if op.kind == "gate":
            return self.channels[op.name] * outputs[0] * outputs[1]
        if op.kind != "conv":
            return 0
        inputs = self.extent(op.inputs[0], height, width)
        rows, columns = (
            int(arrivals(n, m, op["kernel"], op["stride"], op["padding"]).sum())
            for n, m in zip(inputs, outputs, strict=True)
        )
        return rows * columns * self.channels[op.inputs[0]] * (self.channels[op.name] // op["groups"])


class _Builder:
    """Writes a graph's nodes as ops; `alias` says which op holds a node's value."""

    def __init__(self, analysis: Analysis, seed: int):
        self.analysis, self.graph = analysis, analysis.graph
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.ops: list[Op] = []
        self.weights: dict[str, Array] = {}
        self.channels: dict[str, int] = {}
        self.scales: dict[str, int] = {}
        self.alias: dict[str, str] = {}

    def add(
        self, name: str, kind: str, inputs: tuple[str, ...], channels: int, scale: int, gating: bool = False,
        **attrs: int,
    ) -> str:  # fmt: skip
        self.ops.append(Op(name, kind, inputs, attrs, gating))
        self.channels[name], self.scales[name] = channels, scale
        return name

    def conv(
        self, name: str, x: str, channels: int, scale: int, *, kernel: int, stride: int = 1, padding: int = 0,
        groups: int = 1, gain: float = 1.0, gating: bool = False,
    ) -> str:  # fmt: skip
        shape = (channels, self.channels[x] // groups, kernel, kernel)
        spread = gain * np.sqrt(2 / np.prod(shape[1:]))
        self.weights[f"{name}.weight"] = self.rng.normal(0, spread, shape).astype(np.float32)
        self.weights[f"{name}.bias"] = self.rng.normal(0, 0.05 * gain, channels).astype(np.float32)
        return self.add(
            name, "conv", (x,), channels, scale, gating, kernel=kernel, stride=stride, padding=padding, groups=groups
        )  # fmt: skip

    def node(self, node: Node) -> str:
        """The op that computes this node, or that computed what it passes on; ExportError for an unknown kind."""
        inputs = tuple(self.alias[name] for name in node.inputs)
        value = self.analysis.values[node.name]
        c, scale, kind = value.channels, value.scale, node.kind
        if kind in ("requantise", "time_sum") or (kind == "attend" and node["over"] == "time"):
            return inputs[0]
        if kind in ("conv", "dense_conv"):
            attrs = {key: node[key] for key in ("kernel", "stride", "padding", "groups")}
            return self.conv(node.name, inputs[0], c, scale, gain=self._gain(node), **attrs)
        if kind == "attend":
            return self.attend(node, inputs[0], c, scale)
        if kind in ("space_to_depth", "upsample"):
            word = node["mode"] if kind == "upsample" else kind
            return self.add(node.name, word, inputs, c, scale, factor=node["factor"])
        words = {
            "image": "input",
            "lif": "relu",
            "window": "relu",
            "sum": "add",
            "concat": "concat",
            "readout": "output",
        }
        if kind not in words:
            raise no_form(node.name, kind, FORM)
        return self.add(node.name, words[kind], inputs, c, scale)

    def attend(self, node: Node, x: str, channels: int, scale: int) -> str:
        """Gates of `simulator.kinds.attend.attend`; (a + 2) / 4 is left to the random weights before the clip."""
        name = node.name
        if node["over"] == "space":
            mean = self.add(f"{name}.mean", "channel_mean", (x,), 1, scale, True)
            gate = self.conv(
                f"{name}.conv", mean, 1, scale, kernel=SPACE_KERNEL, padding=SPACE_KERNEL // 2, gating=True
            )
            window = 1
        else:
            window = node["window"]
            mean = self.add(f"{name}.pool", "pool", (x,), channels, scale * window, True, window=window)
            hidden = self.conv(f"{name}.squeeze", mean, node["hidden"], scale * window, kernel=1, gating=True)
            hidden = self.add(f"{name}.relu", "relu", (hidden,), node["hidden"], scale * window, True)
            gate = self.conv(f"{name}.excite", hidden, channels, scale * window, kernel=1, gating=True)
        self.weights[f"{self.ops[-1].name}.bias"] += np.float32(0.5)
        gate = self.add(f"{name}.clip", "clip", (gate,), self.channels[gate], scale * window, True)
        return self.add(name, "gate", (x, gate), channels, scale, factor=window)

    def _gain(self, node: Node) -> float:
        """Small where the readout is what follows, smaller than 1 where the result is added to a stream."""
        following = {n.kind for n in self._followers(node.name)}
        if "readout" in following:
            return LAST_GAIN
        return BRANCH_GAIN if "sum" in following else 1.0

    def _followers(self, name: str) -> list[Node]:
        """Readers of a value, looking through what only moves or rounds it."""
        found = []
        for node in self.graph.consumers(name):
            found += self._followers(node.name) if node.kind in ("upsample", "requantise") else [node]
        return found


def build_ann(analysis: Analysis, seed: int = 0) -> Ann:
    """The equivalent ANN of a graph, the same one for the same seed. ExportError for a kind without one."""
    b = _Builder(analysis, seed)
    for node in analysis.graph.nodes:
        check_attributes(node, KNOWN, FORM)
        b.alias[node.name] = b.node(node)
    return Ann(tuple(b.ops), b.weights, b.channels, b.scales, analysis.stride)


def evaluate(ann: Ann, pixels: Picture) -> dict[str, Value]:
    """Every op's output, float32 [C, h, w] ("output": uint8), on uint8 [3, H, W]. Plain NumPy, for tests and ranges."""
    values: dict[str, Value] = {}
    for op in ann.ops:
        inputs = [values[name] for name in op.inputs]
        values[op.name] = _evaluate(ann, op, inputs, pixels)
    return values


def ranges(ann: Ann, *pictures: Picture, share: float = 1.0) -> dict[str, tuple[float, float]]:
    """What int8 models are scaled by: for each op the least and the largest value of its output, 0 included.

    share: of each picture's values that lie between the two; the widest span of all pictures counts. Below 1 the rare
    largest values are clipped and all others keep more of their precision.
    """
    spans: dict[str, tuple[float, float]] = {op.name: (0.0, 0.0) for op in ann.ops}
    for pixels in pictures:
        for name, value in evaluate(ann, pixels).items():
            low, high = spans[name]
            ends = np.quantile(value, [1 - share, share]) if share < 1 else (value.min(), value.max())
            spans[name] = min(low, float(ends[0])), max(high, float(ends[1]))
    return spans


def _evaluate(ann: Ann, op: Op, inputs: list[Value], pixels: Picture) -> Value:
    if op.kind == "input":
        return (pixels.astype(np.float32) - ZERO_PIXEL) * np.float32(INPUT_SCALE)
    x = inputs[0]
    c, height, width = x.shape
    if op.kind == "conv":
        return _convolve(x, ann.weights[f"{op.name}.weight"], op) + ann.weights[f"{op.name}.bias"][:, None, None]
    if op.kind == "relu":
        return np.maximum(x, 0)
    if op.kind == "clip":
        return np.clip(x, 0, 1)
    if op.kind == "add":
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total
    if op.kind == "concat":
        return np.concatenate(inputs)
    if op.kind == "nearest":
        return x.repeat(op["factor"], 1).repeat(op["factor"], 2)
    if op.kind == "space_to_depth":
        f = op["factor"]
        y = x.reshape(c, height // f, f, width // f, f).transpose(2, 4, 0, 1, 3)
        return y.reshape(c * f**2, height // f, width // f)
    if op.kind == "depth_to_space":
        f = op["factor"]
        y = x.reshape(f, f, c // f**2, height, width).transpose(2, 3, 0, 4, 1)
        return y.reshape(c // f**2, height * f, width * f)
    if op.kind == "pool":
        w = op["window"]
        y = np.pad(x, ((0, 0), (0, -height % w), (0, -width % w)))
        means: Array = y.reshape(c, y.shape[1] // w, w, y.shape[2] // w, w).mean((2, 4), dtype=np.float32)
        return means
    if op.kind == "channel_mean":
        mean: Array = x.mean(0, keepdims=True, dtype=np.float32)
        return mean
    if op.kind == "gate":
        gate = inputs[1].repeat(op["factor"], 1).repeat(op["factor"], 2)
        return x * gate[:, :height, :width]
    if op.kind == "output":
        change = np.rint(x * np.float32(1 / INPUT_SCALE))
        restored: Picture = np.clip(pixels.astype(np.float32) + change, 0, 255).astype(np.uint8)
        return restored
    raise no_form(op.name, op.kind, "meaning in NumPy")


def _convolve(x: Array, weight: Array, op: Op) -> Array:
    stride, pad, groups = op["stride"], op["padding"], op["groups"]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    kernel = op["kernel"]
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
    parts = zip(np.split(windows, groups), np.split(weight, groups), strict=True)
    return np.concatenate([np.einsum("chwyx,ocyx->ohw", part, w, optimize=True) for part, w in parts])
