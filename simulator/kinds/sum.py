"""Streams added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import MAX_INPUTS, Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Attribute, Bounds, Integers, Layer, TensorSpec, Value
from simulator.kinds.sketch import Draw, Sketch


class Sum(ByPosition):
    name = "sum"
    equation = "the inputs on the finest grid among them, added; what is static is added at every step"
    attributes: Mapping[str, Attribute] = {}
    inputs = (2, MAX_INPUTS)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        layer.need_equal_scales()
        channels = [value.channels for value in layer.inputs]
        if len(set(channels)) > 1:
            layer.refuse(f"its inputs have {channels} channels; they must be equal")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x, static = layer.inputs[0], all(value.static for value in layer.inputs)
        return Value(x.channels, x.scale, static, spikes=False, q=layer.finest)

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        """Any order of adding is allowed, so partial sums count with their signs."""
        los, his = layer.aligned_bounds()
        most = np.maximum(np.sum(np.maximum(his, 0), axis=0), -np.sum(np.minimum(los, 0), axis=0))
        return Bounds(np.sum(los, axis=0), np.sum(his, axis=0), most)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        total, *others = layer.aligned(inputs)
        for other in others:
            total = total + other
        return total

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,) * 2


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x:
        inputs = (x, *(sketch.alike(x, channels=True) for _ in range(sketch.pick((1, 1, 2)))))
        limit = sum(sketch.reach(inputs))
        if limit < 1 << 28:
            sketch.keep(sketch.add(sketch.name("sum"), "sum", inputs, limit))
