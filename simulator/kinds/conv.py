"""Spikes in, currents out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulator.kinds.convolution import Convolution, draw_convolution
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, Random, Synapses, Value, around_zero
from simulator.kinds.sketch import Draw, Sketch


class Conv(Convolution):
    """The sum of the weights of the synapses at which a spike arrives, plus an optional bias.

    Of spikes of window neurons it is the sum over the T steps, static.
    """

    name = "conv"
    equation = "bias + the sum of the weights at which a spike arrives; weight [C_out, C_in/groups, k, k] on grid q"

    def check(self, layer: Layer) -> None:
        if not layer.inputs[0].spikes:
            layer.refuse("its input is not spikes; a dense_conv takes real values")
        super().check(layer)

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(layer["channels"], x.scale * layer["stride"], x.static or x.window, spikes=False, q=layer["q"])

    def bounds(self, layer: Layer, own: Mapping[str, Integers]) -> Bounds:
        x = layer.inputs[0]
        if x.window:
            layer = replace(layer, inputs=(replace(x, lo=x.lo * layer.time_steps, hi=x.hi * layer.time_steps),))
        return super().bounds(layer, own)

    def compute(self, layer: Layer, inputs: Sequence[Array], own: Mapping[str, Array]) -> Array:
        x = inputs[0]
        return super().compute(layer, (x.sum(0, keepdims=True) if layer.inputs[0].window else x,), own)

    def draw_weight(self, rng: Random, shape: tuple[int, ...], spread: int) -> Integers:
        """Sums of spikes stay small, so that weights up to the largest are possible."""
        spread = int(rng.choice([spread, 2 * spread, 2048])) if math.prod(shape[1:]) < 200 else spread
        return around_zero(rng, shape, spread)

    def synapses(self, layer: Layer) -> Synapses:
        return Synapses(layer["kernel"], layer["stride"], layer["padding"], layer["channels"] // layer["groups"])

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        return 0, 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,) * 3


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=True)
    if x:
        sketch.keep(draw_convolution(sketch, x, "conv", 1 << 15))
