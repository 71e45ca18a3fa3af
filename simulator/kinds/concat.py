"""Channels one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import MAX_INPUTS, Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value, bounds_alone
from simulator.kinds.sketch import Draw, Sketch


class Concat(ByPosition):
    """Spikes or real values, but not both."""

    name = "concat"
    equation = "the inputs' channels one after another, on the finest grid among them"
    attributes: Mapping[str, Attribute] = {}
    inputs = (2, MAX_INPUTS)
    neurons = False

    def check(self, layer: Layer) -> None:
        if len({value.spikes for value in layer.inputs}) > 1:
            layer.refuse("spikes and real values cannot be concatenated")
        if len({value.window for value in layer.inputs}) > 1:
            layer.refuse("spikes of window neurons cannot be concatenated with those of neurons that fire step by step")
        layer.need_equal_scales()

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x, static = layer.inputs[0], all(value.static for value in layer.inputs)
        channels = sum(value.channels for value in layer.inputs)
        return Value(channels, x.scale, static, x.spikes, layer.finest, window=x.window)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        los, his = layer.aligned_bounds()
        return bounds_alone(np.concatenate(los), np.concatenate(his))

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        aligned = layer.aligned(inputs)
        longest = max(len(x) for x in aligned)
        return np.concatenate([np.broadcast_to(x, (longest, *x.shape[1:])) for x in aligned], axis=1)

    def copies(self, node: Node) -> int:
        return 1

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=sketch.chance(0.5))
    if x:
        inputs = (x, sketch.alike(x, channels=False))
        sketch.keep(sketch.add(sketch.name("concat"), "concat", inputs, max(sketch.reach(inputs))))
