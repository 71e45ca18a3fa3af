"""Neurons that integrate before they fire: the whole window's input first, then up to T spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value, draw_threshold
from simulator.kinds.sketch import Draw, Sketch


def window(current: Array, threshold: Array, bias: Array, time_steps: int, potentials: Array | None = None) -> Array:
    """Spikes [T, C, H, W]: v = b + the sum of the currents [T or 1, C, H, W]; then, T times, a spike where
    v >= threshold, and v -= threshold where it fired.

    So a neuron fires at its first k steps, k = clip(floor(v / threshold), 0, T), and keeps nothing. On hardware it is
    an integrate-and-fire neuron without a leak, reset by subtraction, on a schedule that goes layer by layer.
    `potentials` [T, C, H, W], if given, takes v as it is compared with the threshold.
    """
    threshold, bias = threshold[:, None, None], bias[:, None, None]
    v = bias + current.sum(0)
    spikes = np.zeros((time_steps, *v.shape), np.int64)
    for t in range(time_steps):
        if potentials is not None:
            potentials[t] = v
        fired = v >= threshold
        v = v - threshold * fired
        spikes[t] = fired
    return spikes


class Window(ByPosition):
    """A neuron per number of its input; threshold and bias per channel. What is static enters once, not T times."""

    name = "window"
    equation = "v = b + the sum of x over its steps; then T times: a spike where v >= threshold, and v -= threshold"
    attributes: Mapping[str, Attribute] = {}
    inputs = (1, 1)
    neurons = True

    def check(self, layer: Layer) -> None:
        layer.need_real_values()

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        shape, q = (layer.inputs[0].channels,), layer.inputs[0].q
        return {"threshold": TensorSpec(shape, q, least=1, draw=draw_threshold), "bias": TensorSpec(shape, q)}

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(x.channels, x.scale, static=layer.time_steps == 1, spikes=True, q=0, window=True)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """Of v while currents and bias are added, in any order, and of what it is compared with: a backend may count
        the multiples of the threshold that v reaches, T of them at most."""
        source, threshold, bias = layer.inputs[0], own["threshold"], own["bias"]
        steps = 1 if source.static else layer.time_steps
        high = np.maximum(source.hi, 0) * steps + np.maximum(bias, 0)
        low = np.minimum(source.lo, 0) * steps + np.minimum(bias, 0)
        most = np.maximum(np.maximum(high, -low), threshold * layer.time_steps)
        return Bounds(np.zeros(source.channels, np.int64), np.ones(source.channels, np.int64), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return window(inputs[0], own["threshold"], own["bias"], layer.time_steps)

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        sketch.keep(sketch.add(sketch.name("window"), "window", (x,), 1))
