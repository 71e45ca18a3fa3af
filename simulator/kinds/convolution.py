"""What `conv`, `dense_conv` and the convolution within `attend` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import MAX_CHANNELS, MAX_GRID, WEIGHT_LIMIT, Node
from simulator.kinds.base import Kind
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, Random, TensorSpec, Whole, around_zero
from simulator.kinds.sketch import CHANNELS, SCALES, Known, Sketch

ATTRIBUTES = {
    "channels": Whole(1, MAX_CHANNELS),
    "kernel": Whole(1, 7),
    "stride": Whole(1, 4),
    "padding": Whole(0, 3),
    "groups": Whole(1, MAX_CHANNELS),
    "q": Whole(0, MAX_GRID),
    "bias": Whole(0, 1),
}


def convolve(
    x: Array, weight: Array, bias: Array | None, stride: int, padding: int, groups: int, dilation: int = 1
) -> Array:
    """Cross-correlation of [T, C_in, H, W] with [C_out, C_in/groups, k, k], zeros beyond the border.

    y[o, i, j] = bias[o] + sum over c, dy, dx of weight[o, c, dy, dx] x[c, i stride - padding + dy dilation, j stride -
    padding + dx dilation], c over the input channels of o's group.
    """
    steps, _, height, width = x.shape
    c_out, per_group, kernel, _ = weight.shape
    out_h, out_w = ((side + 2 * padding - extent(kernel, dilation)) // stride + 1 for side in (height, width))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = np.zeros((steps, c_out, out_h, out_w), np.int64)
    for group in range(groups):
        source = padded[:, group * per_group : (group + 1) * per_group]
        rows = slice(group * (c_out // groups), (group + 1) * (c_out // groups))
        for dy in range(kernel):
            for dx in range(kernel):
                top, left = dy * dilation, dx * dilation
                tap = source[:, :, top : top + stride * out_h : stride, left : left + stride * out_w : stride]
                out[:, rows] += np.einsum("oc,tchw->tohw", weight[rows, :, dy, dx], tap)
    return out if bias is None else out + bias[:, None, None]


def extent(kernel: int, dilation: int) -> int:
    """Positions from the first tap of a kernel's row to the last."""
    return (kernel - 1) * dilation + 1


def arrivals(length_in: int, length_out: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> Integers:
    """For each of `length_in` input positions along one axis, how many taps lead to one of `length_out` outputs."""
    place = np.arange(length_in)
    count = np.zeros(length_in, np.int64)
    for tap in range(kernel):
        target = place + padding - tap * dilation
        count += (target % stride == 0) & (target >= 0) & (target < length_out * stride)
    return count


def taps(inputs: Extent, outputs: Extent, kernel: int, stride: int, padding: int) -> int:
    """Pairs (input position, output position) that a kernel joins."""
    rows, columns = (int(arrivals(n, m, kernel, stride, padding).sum()) for n, m in zip(inputs, outputs, strict=True))
    return rows * columns


class Convolution(Kind):
    """A convolution with integer weights on grid `q` and a bias, if `bias` is 1, on the output's grid."""

    attributes = ATTRIBUTES
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        channels, groups = layer.inputs[0].channels, layer["groups"]
        if channels % groups or layer["channels"] % groups:
            layer.refuse(f"{channels} -> {layer['channels']} channels do not divide into {groups} groups")
        if not 0 < extent(layer["kernel"], self.dilation(layer.node)) - 2 * layer["padding"] <= layer["stride"]:
            layer.refuse(
                "what the kernel covers, (kernel - 1) dilation + 1, less 2 padding must be 1 to stride, so that the "
                "output is the input's size / stride"
            )

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        kernel = layer["kernel"]
        shape = (layer["channels"], layer.inputs[0].channels // layer["groups"], kernel, kernel)
        limit = self.limit(layer.node)
        found = {"weight": TensorSpec(shape, layer["q"], weight=True, limit=limit, draw=self.draw_weight)}
        if layer["bias"]:
            found["bias"] = TensorSpec((layer["channels"],), self.output(layer).q)
        return found

    def dilation(self, node: Node) -> int:
        """Positions from one tap of the kernel to the next."""
        return 1

    def limit(self, node: Node) -> int:
        """The largest magnitude of a weight, in units."""
        return WEIGHT_LIMIT

    def draw_weight(self, rng: Random, shape: tuple[int, ...], spread: int) -> Integers:
        return around_zero(rng, shape, spread)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """Of the output and of every partial sum: zero padding and missing spikes leave any subset of the terms."""
        source, weight = layer.inputs[0], own["weight"]
        bias = own.get("bias", np.zeros(len(weight), np.int64))
        per_group = weight.shape[1]
        first = (np.arange(len(weight)) // (len(weight) // layer["groups"])) * per_group
        index = first[:, None] + np.arange(per_group)  # [C_out, C_in/groups]: which input channel a weight belongs to
        low = np.minimum(source.lo, 0)[index][:, :, None, None]
        high = np.maximum(source.hi, 0)[index][:, :, None, None]
        up = np.maximum(weight * low, weight * high).sum((1, 2, 3))
        down = np.minimum(weight * low, weight * high).sum((1, 2, 3))
        most = np.maximum(up + np.maximum(bias, 0), -(down + np.minimum(bias, 0)))
        return Bounds(down + bias, up + bias, most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return convolve(
            inputs[0], own["weight"], own.get("bias"), layer["stride"], layer["padding"], layer["groups"],
            self.dilation(layer.node),
        )  # fmt: skip

    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        stride, padding = node["stride"], node["padding"]
        reach = extent(node["kernel"], self.dilation(node))
        return first * stride - padding, (last - 1) * stride - padding + reach

    def alignment(self, node: Node) -> int:
        return 1

    def copies(self, node: Node) -> int:
        return 0


def draw_convolution(sketch: Sketch, x: Known, kind: str, limit: int) -> Known:
    """Adds a convolution of x with random attributes."""
    rng = sketch.rng
    stride = int(rng.choice([s for s in (1, 1, 1, 2, 3, 4) if x.value.scale * s in SCALES]))
    kernel = sketch.pick((1, 2, 3, 3, 3, 4, 5, 7))
    paddings = [p for p in range(4) if 0 < kernel - 2 * p <= stride]
    if not paddings:
        kernel, paddings = 3 if stride == 1 else stride, [1 if stride == 1 else 0]
    channels = sketch.pick(CHANNELS)
    divisors = [g for g in range(1, 17) if x.value.channels % g == 0 and channels % g == 0]
    groups = int(rng.choice(divisors)) if sketch.chance(0.5) else 1
    if sketch.chance(0.15):  # depth-wise
        channels = groups = x.value.channels
    q = sketch.pick((6, 8, 10))
    return sketch.add(
        sketch.name(kind), kind, (x,), limit, channels=channels, kernel=kernel, stride=stride,
        padding=int(rng.choice(paddings)), groups=groups, q=q, bias=int(sketch.chance(0.4)),
    )  # fmt: skip
