"""The one rounding of the numerics contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.graph import MAX_SHIFT, Node
from simulator.kinds.base import ByPosition
from simulator.kinds.layer import Array, Bounds, Integers, Layer, TensorSpec, Value, Whole
from simulator.kinds.sketch import Draw, Sketch


def requantise(x: Array, shift: int, lo: int, hi: int) -> Array:
    """clip((x + 2^(shift-1)) >> shift, lo, hi); the shift floors."""
    half = (1 << shift) >> 1
    y: Array = np.clip((x + half) >> shift, lo, hi)
    return y


class Requantise(ByPosition):
    """Rounds to a coarser grid and clips: its clip is the bound that holds downstream."""

    name = "requantise"
    equation = "clip((x + 2^(shift-1)) >> shift, lo, hi); the output's grid is x's - shift"
    attributes = {"shift": Whole(0, MAX_SHIFT), "lo": Whole(-(2**30), 0), "hi": Whole(0, 2**30)}
    inputs = (1, 1)
    neurons = False

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        if layer["shift"] > layer.inputs[0].q:
            layer.refuse(f"shift {layer['shift']} is larger than its input's grid {layer.inputs[0].q}")

    def tensors(self, layer: Layer) -> dict[str, TensorSpec]:
        return {}

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(x.channels, x.scale, x.static, spikes=False, q=x.q - layer["shift"])

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        x, shift = layer.inputs[0], layer["shift"]
        lo, hi = (requantise(edge, shift, layer["lo"], layer["hi"]) for edge in (x.lo, x.hi))
        return Bounds(lo, hi, x.magnitudes + ((1 << shift) >> 1))

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        return requantise(inputs[0], layer["shift"], layer["lo"], layer["hi"])

    def copies(self, node: Node) -> int:
        return 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x and x.value.q > 5:
        shift, lo, hi = sketch.pick((0, 1, 2)), -sketch.pick((0, 100, 5000)), sketch.pick((1, 100, 32768))
        sketch.keep(
            sketch.add(sketch.name("round"), "requantise", (x,), max(-lo, hi), shift=shift, lo=lo, hi=hi)
        )  # fmt: skip
