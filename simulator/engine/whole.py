"""Nodes that are computed on whole values with NumPy: what `edge` does not use, or only at its deepest level.

Values are views [T or 1, H, W, C] into the arena (channels last, without padding lanes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.graph import Node
from simulator.kinds.attend import SPACE_KERNEL, attend_cap, attend_pool_shift
from simulator.kinds.layer import Value
from simulator.kinds.requantise import requantise

Array = npt.NDArray[Any]


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


def attend(x: Array, node: Node, own: Mapping[str, Array], value: Value, time_steps: int, out: Array) -> None:
    """`simulator.kinds.attend.attend` with channels last, x [T or 1, H, W, C], into `out` of the same kind."""
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


def evaluate(
    node: Node, inputs: list[Array], shifts: list[int], own: Mapping[str, Array], value: Value, time_steps: int,
    out: Array,
) -> None:  # fmt: skip
    """Compute a node that is not computed by rows into `out` [T or 1, H, W, C].

    `shifts` align the inputs to one grid; `value` is what the analysis knows of the first.
    """
    x = inputs[0]
    if node.kind == "space_to_depth":
        out[...] = space_to_depth(x, node["factor"])
    elif node.kind == "concat":
        first = 0
        for y, shift in zip(inputs, shifts, strict=True):
            part = out[..., first : first + y.shape[3]]
            part[...] = y
            part <<= shift
            first += y.shape[3]
    elif node.kind == "upsample" and node["mode"] == "depth_to_space":
        out[...] = depth_to_space(x, node["factor"])
    elif node.kind == "upsample":
        factor = node["factor"]
        for dy in range(factor):
            for dx in range(factor):
                out[:, dy::factor, dx::factor] = x
    elif node.kind == "attend":
        attend(x, node, own, value, time_steps, out)
    else:
        raise AssertionError(f"{node.kind} is computed by rows")
