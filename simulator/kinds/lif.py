"""Leaky integrate-and-fire neurons: currents in, spikes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import (
    Array,
    Bounds,
    Integers,
    Layer,
    Random,
    TensorSpec,
    Value,
    Whole,
    Word,
    draw_threshold,
)
from simulator.kinds.sketch import Draw, Sketch


def lif(
    current: Array, threshold: Array, bias: Array, leak: Array, time_steps: int, leak_kind: str, reset: str,
    potentials: Array | None = None, fine: int = 0, above: int = 0,
) -> Array:  # fmt: skip
    """Leaky integrate-and-fire: v <- leak(v) + I + b; a spike where v >= threshold; then reset. v starts at 0.

    leak "shift": v >> k; "decay": v - (v >> k); both with floor. reset "zero": v = 0; "subtract": v -= threshold.
    fine: binary digits that v has below the grid of I, b and threshold; k (T - 1) of them, and no leak is rounded.
    above: 1 for a spike where v > threshold, the rule of NIR and Loihi; then reset is "zero".
    threshold, leak: [C], or [1] for all channels. `potentials` [T, C, H, W], if given, takes v as it is compared with
    the threshold, before the reset.
    """
    current, threshold, bias = current << fine, (threshold << fine) + above, bias << fine
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


class Lif(ByPosition):
    """A neuron per number of its input; threshold, bias and leak shift per channel, or, `shared`, one threshold and one
    leak for the layer. v has `fine` more binary digits than its input; with `above` it must exceed the threshold."""

    name = "lif"
    equation = "v <- leak(v) + x + b; a spike where v >= threshold; then v = 0 or v -= threshold; v starts at 0"
    attributes = {
        "leak": Word(("shift", "decay")),
        "reset": Word(("zero", "subtract")),
        "fine": Whole(0, 16, default=0),
        "shared": Whole(0, 1, default=0),
        "above": Whole(0, 1, default=0),
    }
    inputs = (1, 1)
    neurons = True

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        if layer["above"] and layer["reset"] != "zero":
            layer.refuse("above = 1 is for neurons that reset to zero")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        channels, q = layer.inputs[0].channels, layer.inputs[0].q
        own = (1,) if layer["shared"] else (channels,)
        return {
            "threshold": TensorSpec(own, q, least=1, draw=draw_threshold),
            "bias": TensorSpec((channels,), q),
            "leak": TensorSpec(own, 0, least=0, most=15, draw=_draw_leak),
        }

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(x.channels, x.scale, static=layer.time_steps == 1, spikes=True, q=0)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """Of |v| over T steps while current and bias are added, in any order (v starts at 0, steps are monotone)."""
        source, leak = layer.inputs[0], own["leak"]
        threshold, bias, *drive = (x << layer["fine"] for x in (own["threshold"], own["bias"], source.lo, source.hi))
        threshold = threshold + layer["above"]
        low = high = np.zeros(source.channels, np.int64)
        most = np.maximum(source.magnitudes << layer["fine"], np.maximum(np.abs(bias), threshold))
        for _ in range(layer.time_steps):
            if layer["leak"] == "shift":
                low, high = low >> leak, high >> leak
            else:
                low, high = low - (low >> leak), high - (high >> leak)
            low, high = low + np.minimum(drive[0], 0), high + np.maximum(drive[1], 0)
            most = np.maximum(most, np.maximum(high + np.maximum(bias, 0), -(low + np.minimum(bias, 0))))
            low, high = low + bias, high + bias
            after = high - threshold if layer["reset"] == "subtract" else np.zeros_like(high)
            fires = high >= threshold
            low = np.where(fires, np.minimum(low, 0), low)
            high = np.where(fires, np.maximum(threshold - 1, after), high)
        return Bounds(np.zeros(source.channels, np.int64), np.ones(source.channels, np.int64), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return lif(
            inputs[0], own["threshold"], own["bias"], own["leak"], layer.time_steps, layer["leak"], layer["reset"],
            fine=layer["fine"], above=layer["above"],
        )  # fmt: skip

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,) * 2

    def later_draws(self) -> Sequence[Draw]:
        return (_draw_fine,) * 2


def _draw_leak(rng: Random, shape: tuple[int, ...], spread: int) -> Integers:
    return rng.integers(0, 5, shape) if rng.random() < 0.5 else np.full(shape, rng.integers(0, 16))


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        leak, reset = sketch.rng.choice(["shift", "decay"]), sketch.rng.choice(["zero", "subtract"])
        sketch.keep(sketch.add(sketch.name("lif"), "lif", (x,), 1, leak=str(leak), reset=str(reset)))


def _draw_fine(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        leak, reset = sketch.rng.choice(["shift", "decay"]), sketch.rng.choice(["zero", "subtract"])
        more = {"fine": sketch.pick((0, 1, 3, 6, 9)), "shared": int(sketch.chance(0.5))}
        more["above"] = int(reset == "zero" and sketch.chance(0.5))
        sketch.keep(sketch.add(sketch.name("lif"), "lif", (x,), 1, leak=str(leak), reset=str(reset), **more))
