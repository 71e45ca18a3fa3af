"""The NumPy reference: what every node means, in int64, plain loops over taps and time steps, no tricks.

This file is the meaning of the bundle. It is slow on purpose; `simulator/engine.py` and every other backend must
equal it to the last bit. Arrays are `[T, C, H, W]` (`[1, C, H, W]` where a value is static), int64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from simulator.analysis import SPACE_KERNEL, Analysis, Value, attend_cap, attend_pool_shift
from simulator.graph import IMAGE_GRID, Graph, Node

Array = npt.NDArray[np.int64]
Observer = Callable[[str, Array], None]


def requantise(x: Array, shift: int, lo: int, hi: int) -> Array:
    """The one rounding of the contract: clip((x + 2^(shift-1)) >> shift, lo, hi); the shift floors."""
    half = (1 << shift) >> 1
    y: Array = np.clip((x + half) >> shift, lo, hi)
    return y


def convolve(x: Array, weight: Array, bias: Array | None, stride: int, padding: int, groups: int) -> Array:
    """Cross-correlation of [T, C_in, H, W] with [C_out, C_in/groups, k, k], zeros beyond the border."""
    steps, _, height, width = x.shape
    c_out, per_group, kernel, _ = weight.shape
    out_h, out_w = (height + 2 * padding - kernel) // stride + 1, (width + 2 * padding - kernel) // stride + 1
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    out = np.zeros((steps, c_out, out_h, out_w), np.int64)
    for group in range(groups):
        source = padded[:, group * per_group : (group + 1) * per_group]
        rows = slice(group * (c_out // groups), (group + 1) * (c_out // groups))
        for dy in range(kernel):
            for dx in range(kernel):
                tap = source[:, :, dy : dy + stride * out_h : stride, dx : dx + stride * out_w : stride]
                out[:, rows] += np.einsum("oc,tchw->tohw", weight[rows, :, dy, dx], tap)
    return out if bias is None else out + bias[:, None, None]


def lif(
    current: Array, threshold: Array, bias: Array, leak: Array, time_steps: int, leak_kind: str, reset: str,
    potentials: Array | None = None,
) -> Array:  # fmt: skip
    """Leaky integrate-and-fire: v <- leak(v) + I + b; a spike where v >= threshold; then reset. v starts at 0.

    leak "shift": v >> k; "decay": v - (v >> k); both with floor. reset "zero": v = 0; "subtract": v -= threshold.
    `potentials` [T, C, H, W], if given, takes v as it is compared with the threshold, before the reset.
    """
    threshold, bias, leak = (p[:, None, None] for p in (threshold, bias, leak))
    v = np.zeros(current.shape[1:], np.int64)
    spikes = np.zeros((time_steps, *current.shape[1:]), np.int64)
    for t in range(time_steps):
        v = v >> leak if leak_kind == "shift" else v - (v >> leak)
        v = v + current[min(t, len(current) - 1)] + bias
        if potentials is not None:
            potentials[t] = v
        fired = v >= threshold
        v = np.where(fired, 0 if reset == "zero" else v - threshold, v)
        spikes[t] = fired
    return spikes


def space_to_depth(x: Array, factor: int) -> Array:
    steps, c, h, w = x.shape
    x = x.reshape(steps, c, h // factor, factor, w // factor, factor)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(steps, c * factor**2, h // factor, w // factor)


def depth_to_space(x: Array, factor: int) -> Array:
    steps, c, h, w = x.shape
    x = x.reshape(steps, c // factor**2, factor, factor, h, w)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(steps, c // factor**2, h * factor, w * factor)


def window_sums(x: Array, window: int) -> Array:
    """Sums of [..., H, W] over windows aligned to the origin; one that the border cuts sums what is there."""
    height, width = x.shape[-2:]
    rows, columns = -(-height // window), -(-width // window)
    pad = [(0, 0)] * (x.ndim - 2) + [(0, rows * window - height), (0, columns * window - width)]
    blocks = np.pad(x, pad).reshape(*x.shape[:-2], rows, window, columns, window)
    sums: Array = blocks.sum((-3, -1), dtype=np.int64)
    return sums


def attend(x: Array, node: Node, own: Mapping[str, Array], value: Value, time_steps: int) -> Array:
    """x times a gate in 0..1 computed from pooled sums: hard sigmoid clip((a + 2) / 4, 0, 1) on grid `gate_q`.

    "channel": mean over T and window -> C values; "time": mean over channels and window -> T values; both through a
    two-layer perceptron (squeeze, ReLU, excite), as in squeeze-and-excitation. "space": mean over channels at each
    step -> 3x3 convolution. `value` is what the analysis knows of x.
    """
    q, pool_q, gate_q, cap = node["q"], node["pool_q"], node["gate_q"], attend_cap(node)
    shift = attend_pool_shift(node, value, time_steps)
    over, window = node["over"], node["window"]
    if over != "channel" and len(x) < time_steps:
        x = np.repeat(x, time_steps, axis=0) if over == "time" else x
    if over == "space":
        mean = requantise(x.sum(1, keepdims=True), shift, -cap, cap)
        gate = convolve(mean, own["weight"][None, None], own["bias"], 1, SPACE_KERNEL // 2, 1)
    else:
        if over == "channel":
            pooled = window_sums(x.sum(0) * (time_steps if len(x) == 1 else 1), window)  # [C, rows, columns]
        else:
            pooled = window_sums(x.sum(1), window)  # [T, rows, columns]
        mean = requantise(pooled, shift, -cap, cap)
        hidden = np.einsum("hs,syx->hyx", own["squeeze"], mean) + own["squeeze_bias"][:, None, None]
        hidden = requantise(hidden, q, 0, cap)
        gate = np.einsum("sh,hyx->syx", own["excite"], hidden) + own["excite_bias"][:, None, None]
        gate = gate[None] if over == "channel" else gate[:, None]
    gate = requantise(gate + (2 << (pool_q + q)), pool_q + q + 2 - gate_q, 0, 1 << gate_q)
    if over != "space":
        gate = gate.repeat(window, -2).repeat(window, -1)[..., : x.shape[-2], : x.shape[-1]]
    return requantise(x * gate, gate_q, -(2**31), 2**31)


def evaluate_node(node: Node, inputs: list[Array], own: Mapping[str, Array], analysis: Analysis) -> Array:
    """The output of any node but `image` and `readout`, from its inputs and its own tensors (int64)."""
    kind, x = node.kind, inputs[0]
    value = analysis.values[node.name]
    steps = analysis.graph.time_steps
    if kind == "space_to_depth":
        return space_to_depth(x, node["factor"])
    if kind in ("conv", "dense_conv"):
        return convolve(x, own["weight"], own.get("bias"), node["stride"], node["padding"], node["groups"])
    if kind == "requantise":
        return requantise(x, node["shift"], node["lo"], node["hi"])
    if kind == "lif":
        return lif(x, own["threshold"], own["bias"], own["leak"], steps, node["leak"], node["reset"])
    if kind in ("sum", "concat"):
        aligned = [y << (value.q - analysis.values[name].q) for y, name in zip(inputs, node.inputs, strict=True)]
        if kind == "concat":
            longest = max(len(y) for y in aligned)
            return np.concatenate([np.broadcast_to(y, (longest, *y.shape[1:])) for y in aligned], axis=1)
        total = aligned[0]
        for other in aligned[1:]:
            total = total + other
        return total
    if kind == "upsample":
        if node["mode"] == "depth_to_space":
            return depth_to_space(x, node["factor"])
        return x.repeat(node["factor"], -2).repeat(node["factor"], -1)
    if kind == "attend":
        return attend(x, node, own, analysis.values[node.inputs[0]], steps)
    if kind == "time_sum":
        over_time: Array = x.sum(0, keepdims=True)
        return over_time * steps if len(x) == 1 else over_time
    raise ValueError(f"layer {node.name!r}: the reference has no meaning for the kind {node.kind!r}")


def readout(pixels: Array, x: Array, q: int) -> npt.NDArray[np.uint8]:
    """The restored picture [3, H, W]: clip(u8 + ((x + half) >> n)), n = q - 7; `pixels` holds u8 - 128."""
    shift = q - IMAGE_GRID
    change = (x + ((1 << shift) >> 1)) >> shift
    return np.clip(pixels + 128 + change, 0, 255).astype(np.uint8)


class Reference:
    """Backend over the functions above: one padded image (or tile) at a time."""

    name = "reference"

    def __init__(self, analysis: Analysis, tensors: Mapping[str, npt.NDArray[np.int32]], threads: int | None = None):
        self.analysis = analysis
        self.graph: Graph = analysis.graph
        self.own: dict[str, dict[str, Array]] = {node.name: {} for node in self.graph.nodes}
        for key, tensor in tensors.items():
            layer, _, part = key.rpartition(".")
            self.own[layer][part] = tensor.astype(np.int64)

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore `pixels` (int16 [3, H, W], u8 - 128, H and W multiples of the stride).

        Returns the picture uint8 [3, H, W] and for each lif node its spikes per position, int32 [h, w], summed over
        channels and time. `observe(name, value)` sees the output [T or 1, C, h, w] of every node.
        """
        graph = self.graph
        last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        values: dict[str, Array] = {graph.nodes[0].name: pixels.astype(np.int64)[None]}
        maps: dict[str, npt.NDArray[np.int32]] = {}
        for i, node in enumerate(graph.nodes):
            inputs = [values[name] for name in node.inputs]
            if node.kind == "readout":
                x = inputs[0][0]
                restored = readout(pixels.astype(np.int64), x, self.analysis.values[node.inputs[0]].q)
                if observe:
                    observe(node.name, restored.astype(np.int64)[None])
                return restored, maps
            if node.kind != "image":
                values[node.name] = evaluate_node(node, inputs, self.own[node.name], self.analysis)
            if node.kind == "lif":
                maps[node.name] = values[node.name].sum((0, 1)).astype(np.int32)
            if observe:
                observe(node.name, values[node.name])
            for name in node.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
        raise AssertionError("a checked graph ends with a readout")
