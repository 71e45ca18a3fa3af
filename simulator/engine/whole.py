"""Nodes of kinds without row operations, computed on whole values with NumPy.

Any kind that the reference gives a meaning can be computed so, with spikes or numbers in and out.

Values are views [T or 1, H, W, C] into the arena (channels last, without padding lanes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.analysis import Analysis
from simulator.engine.plan import KNOWN, known
from simulator.graph import Node
from simulator.kinds import unknown_attribute
from simulator.kinds.attend import SPACE_KERNEL, attend_cap, attend_pool_shift
from simulator.kinds.requantise import requantise
from simulator.reference import evaluate_node

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


def space_to_depth(x: Array, factor: int) -> Array:
    steps, h, w, c = x.shape
    x = x.reshape(steps, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(steps, h // factor, w // factor, c * factor**2)


def depth_to_space(x: Array, factor: int) -> Array:
    steps, h, w, c = x.shape
    x = x.reshape(steps, h, w, c // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(steps, h * factor, w * factor, c // factor**2)


def window_sums(x: Array, window: int) -> Array:
    """int64 sums of [H, W, ...] over windows aligned to the origin; one that the border cuts sums what is there."""
    height, width = x.shape[:2]
    rows = np.add.reduceat(x, np.arange(0, height, window), axis=0, dtype=np.int64)
    return np.add.reduceat(rows, np.arange(0, width, window), axis=1, dtype=np.int64)


def _attend(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    """`simulator.kinds.attend.attend` with channels last, x [T or 1, H, W, C], into `out` of the same kind."""
    x, value, time_steps = inputs[0], analysis.values[node.inputs[0]], analysis.graph.time_steps
    q, pool_q, gate_q, cap = node["q"], node["pool_q"], node["gate_q"], attend_cap(node)
    shift = attend_pool_shift(node, value, time_steps)
    height, width = x.shape[1:3]
    if node["over"] == "space":
        mean = requantise(x.sum(3, dtype=np.int64), shift, -cap, cap)
        border = SPACE_KERNEL // 2
        mean = np.pad(mean, ((0, 0), (border, border), (border, border)))
        gate = np.full(x.shape[:3], int(own["bias"][0]), np.int64)
        for dy in range(SPACE_KERNEL):
            for dx in range(SPACE_KERNEL):
                gate += mean[:, dy : dy + height, dx : dx + width] * int(own["weight"][dy, dx])
        gate = gate[..., None]
    else:
        window = node["window"]
        if node["over"] == "channel":
            pooled = window_sums(x.sum(0, dtype=np.int64), window) * (time_steps // len(x))  # [rows, columns, C]
        else:
            pooled = window_sums(x.sum(3, dtype=np.int64).transpose(1, 2, 0), window)  # [rows, columns, T or 1]
            pooled = np.broadcast_to(pooled, (*pooled.shape[:2], time_steps))
        mean = requantise(pooled, shift, -cap, cap)
        hidden = mean @ own["squeeze"].T.astype(np.int64) + own["squeeze_bias"]
        hidden = requantise(hidden, q, 0, cap)
        gate = hidden @ own["excite"].T.astype(np.int64) + own["excite_bias"]
        gate = gate[None] if node["over"] == "channel" else gate.transpose(2, 0, 1)[..., None]
    gate = requantise(gate + (2 << (pool_q + q)), pool_q + q + 2 - gate_q, 0, 1 << gate_q).astype(np.int32)
    if node["over"] != "space":
        window = node["window"]
        gate = gate.repeat(window, 1)[:, :height].repeat(window, 2)[:, :, :width]
    for t in range(len(out)):
        # The bound of the product, its rounding included, fits int32 (the analysis checks it).
        product = x[t % len(x)].astype(np.int32)
        product *= gate[t % len(gate)]
        product += 1 << (gate_q - 1)
        product >>= gate_q
        out[t] = product


def _space_to_depth(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    out[...] = space_to_depth(inputs[0], node["factor"])


def _concat(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    first, values = 0, analysis.values
    for name, x in zip(node.inputs, inputs, strict=True):
        part = out[..., first : first + x.shape[3]]
        part[...] = x
        part <<= values[node.name].q - values[name].q
        first += x.shape[3]


def _upsample(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    x, factor = inputs[0], node["factor"]
    if node["mode"] == "depth_to_space":
        out[...] = depth_to_space(x, factor)
        return
    for dy in range(factor):
        for dx in range(factor):
            out[:, dy::factor, dx::factor] = x


def by_meaning(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    """What the reference says, brought to its form (int64, channels first) and back: for any kind that it knows."""
    sources = [np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.int64) for x in inputs]
    tensors = {part: tensor.astype(np.int64) for part, tensor in own.items()}
    out[...] = evaluate_node(node, sources, tensors, analysis).transpose(0, 2, 3, 1)


def taps_apart(node: Node, inputs: list[Array], own: Tensors, analysis: Analysis, out: Array) -> None:
    """A dilated convolution of spikes, by products of matrices in floating point that holds every sum exactly."""
    x = inputs[0].sum(0, keepdims=True) if analysis.values[node.inputs[0]].window else inputs[0]
    number = np.float32 if analysis.float_exact(node.name) else np.float64
    stride, padding, dilation, groups = node["stride"], node["padding"], node["dilation"], node["groups"]
    padded = np.pad(x.astype(number), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    _, height, width, channels = out.shape
    weight = own["weight"].astype(number)
    per_group, kernel = weight.shape[1:3]
    sums = np.zeros(out.shape, number)
    for dy in range(kernel):
        for dx in range(kernel):
            rows, columns = (
                slice(d * dilation, d * dilation + stride * n, stride) for d, n in ((dy, height), (dx, width))
            )
            tap = padded[:, rows, columns]
            for group in range(groups):
                some = slice(group * (channels // groups), (group + 1) * (channels // groups))
                spikes = tap[..., group * per_group : (group + 1) * per_group]
                sums[..., some] += spikes @ weight[some, :, dy, dx].T
    out[...] = sums + own["bias"] if "bias" in own else sums


MEANING_BYTES = 24  # of each number in or out: int64, and about two copies of it on the way

# Kinds that networks do use here, as they lie in memory: faster than by their meaning, and the same.
FORMS: Mapping[str, Callable[[Node, list[Array], Tensors, Analysis, Array], None]] = {
    "space_to_depth": _space_to_depth,
    "concat": _concat,
    "upsample": _upsample,
    "attend": _attend,
}
# Row operations of convolutions do not know dilation.
WITH_TAPS_APART = {"conv": {**KNOWN["conv"], "dilation": ()}}


def form_of(node: Node) -> Callable[[Node, list[Array], Tensors, Analysis, Array], None]:
    """How to compute a node without row operations, from its inputs and its own tensors into `out` [T or 1, H, W, C]:
    a function (node, inputs, own, analysis, out)."""
    if node.kind == "conv" and not unknown_attribute(node, WITH_TAPS_APART):
        return taps_apart
    return FORMS.get(node.kind, by_meaning) if known(node) else by_meaning
