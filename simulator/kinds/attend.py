"""Attention over time, channels or space: values times a gate that is computed from integer pooled sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import MAX_CHANNELS, MAX_GRID, Node
from simulator.kinds.base import Kind
from simulator.kinds.convolution import convolve, taps
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, TensorSpec, Value, Whole, Word
from simulator.kinds.requantise import requantise
from simulator.kinds.sketch import Draw, Sketch

SPACE_KERNEL = 3  # the convolution over space


def attend_cap(node: Node) -> int:
    """Pooled means and hidden units of an attend node are clipped to +-cap (12 bits) on grid `pool_q`."""
    return 2047


def attend_pool_shift(node: Node, value: Value, time_steps: int) -> int:
    """Right shift that turns an attend node's pooled sum into a mean on grid `pool_q`.

    The sum is divided by the full window area (also at borders), times T ("channel") or the channels rounded up to a
    power of two ("time", "space"); what that rounding leaves is the weights' to absorb.
    """
    area = {
        "channel": node["window"] ** 2 * time_steps,
        "time": node["window"] ** 2 * _next_power(value.channels),
        "space": _next_power(value.channels),
    }[node["over"]]
    return int(value.q + area.bit_length() - 1 - node["pool_q"])


def _next_power(n: int) -> int:
    return 1 << (n - 1).bit_length()


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


class Attend(Kind):
    name = "attend"
    equation = "(x gate) >> gate_q, rounded, with gate = clip((a + 2) / 4, 0, 1); a from pooled sums"
    attributes = {
        "over": Word(("time", "channel", "space")),
        "window": Whole(1, 1024, power_of_two=True),
        "hidden": Whole(0, MAX_CHANNELS),
        "pool_q": Whole(0, MAX_GRID),
        "q": Whole(0, MAX_GRID),
        "gate_q": Whole(1, 10),
    }
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        shift = attend_pool_shift(layer.node, layer.inputs[0], layer.time_steps)
        if not 0 <= shift <= 30:
            layer.refuse(f"its pooled sum would be shifted by {shift}; 0 to 30 is supported")
        if layer["over"] != "space" and layer["hidden"] < 1:
            layer.refuse("needs at least one hidden unit")
        if layer["pool_q"] + layer["q"] + 2 < layer["gate_q"]:
            layer.refuse("its gate's grid is finer than what feeds it")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        q, fine = layer["q"], layer["pool_q"] + layer["q"]
        if layer["over"] == "space":
            return {
                "weight": TensorSpec((SPACE_KERNEL, SPACE_KERNEL), q, weight=True),
                "bias": TensorSpec((1,), fine),
            }
        hidden = layer["hidden"]
        size = layer.time_steps if layer["over"] == "time" else layer.inputs[0].channels
        return {
            "squeeze": TensorSpec((hidden, size), q, weight=True),
            "squeeze_bias": TensorSpec((hidden,), fine),
            "excite": TensorSpec((size, hidden), q, weight=True),
            "excite_bias": TensorSpec((size,), fine),
        }

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(x.channels, x.scale, x.static and layer["over"] != "time", spikes=False, q=x.q)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """The gate lies in 0..2^gate_q, so the output stays within the input's range (0 included)."""
        source, magnitude, window = layer.inputs[0], layer.inputs[0].magnitudes, layer["window"]
        pooled = {
            "channel": int(magnitude.max()) * window**2 * layer.time_steps,
            "time": int(magnitude.sum()) * window**2,
            "space": int(magnitude.sum()),
        }[layer["over"]]
        inner = [pooled]
        cap = attend_cap(layer.node)
        if layer["over"] == "space":
            inner.append(int(np.abs(own["weight"]).sum()) * cap + int(np.abs(own["bias"]).max()))
        else:
            squeeze = np.abs(own["squeeze"]).sum(1) * cap + np.abs(own["squeeze_bias"]) + (1 << layer["q"])
            excite = np.abs(own["excite"]).sum(1) * cap + np.abs(own["excite_bias"])
            inner += [int(squeeze.max()), int(excite.max())]
        # The gate's offset and roundings: at most 2 in real value, on the grid of what feeds it.
        inner[-1] += 1 << (layer["pool_q"] + layer["q"] + 2)
        rounding = 1 << attend_pool_shift(layer.node, source, layer.time_steps)
        product = magnitude << layer["gate_q"]
        most = np.maximum(product + (1 << layer["gate_q"]), max(inner) + rounding)
        return Bounds(np.minimum(source.lo, 0), np.maximum(source.hi, 0), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return attend(inputs[0], layer.node, own, layer.inputs[0], layer.time_steps)

    def span(self, node: Node, first: int, last: int) -> tuple[int, int]:
        if node["over"] == "space":
            return first - SPACE_KERNEL // 2, last + SPACE_KERNEL // 2
        window = node["window"]
        return first // window * window, -(-last // window) * window

    def alignment(self, node: Node) -> int:
        return int(node["window"])

    def copies(self, node: Node) -> int:
        return 0

    def synapses(self, layer: Layer) -> None:
        return None

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        """The perceptron's or the convolution's, and one product per element for the gate."""
        x = layer.inputs[0]
        gated = x.channels * outputs[0] * outputs[1]
        once, each = (gated, 0) if self.output(layer).static else (0, gated)
        if layer["over"] == "space":
            gates = taps(inputs, outputs, SPACE_KERNEL, 1, SPACE_KERNEL // 2)
            return (once + gates, each) if x.static else (once, each + gates)
        rows, columns = (-(-length // layer["window"]) for length in inputs)
        size = layer.time_steps if layer["over"] == "time" else x.channels
        return once + rows * columns * 2 * size * layer["hidden"], each

    def draws(self) -> Sequence[Draw]:
        return (_draw,) * 2


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x and x.limit < 1 << 20:
        over = str(sketch.rng.choice(["time", "channel", "space"]))
        window = sketch.pick((1, 2, 4, 8))
        hidden = 0 if over == "space" else sketch.pick((1, 3, 8))
        name = sketch.name(over)
        pool_q, q, gate_q = min(x.value.q, sketch.pick((4, 6, 8))), sketch.pick((6, 8)), sketch.pick((4, 6, 8))
        sketch.keep(
            sketch.add(
                name,
                "attend",
                (x,),
                x.limit,
                over=over,
                window=window,
                hidden=hidden,
                pool_q=pool_q,
                q=q,
                gate_q=gate_q,
            )  # fmt: skip
        )
