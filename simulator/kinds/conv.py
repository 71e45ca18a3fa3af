"""Spikes in, currents out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulator.graph import WEIGHT_LIMIT, Node
from simulator.kinds.convolution import ATTRIBUTES, Convolution, draw_convolution
from simulator.kinds.layer import Array, Bounds, Extent, Integers, Layer, Random, Synapses, Value, Whole, around_zero
from simulator.kinds.sketch import CHANNELS, Draw, Sketch

MOST_DILATION = 16


class Conv(Convolution):
    """The sum of the weights of the synapses at which a spike arrives, plus an optional bias.

    Of spikes of window neurons it is the sum over the T steps, static. The kernel's taps lie `dilation` positions
    apart. `limit`: no weight is larger, in units of its grid, for what holds fewer bits than float16: 127 are 8.
    """

    name = "conv"
    equation = "bias + the sum of the weights at which a spike arrives; weight [C_out, C_in/groups, k, k] on grid q"
    attributes = ATTRIBUTES | {
        "padding": Whole(0, 3 * MOST_DILATION),
        "dilation": Whole(1, MOST_DILATION, default=1),
        "limit": Whole(1, WEIGHT_LIMIT, default=WEIGHT_LIMIT),
    }

    def dilation(self, node: Node) -> int:
        return int(node["dilation"])

    def limit(self, node: Node) -> int:
        return int(node["limit"])

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
        fan_out = layer["channels"] // layer["groups"]
        return Synapses(layer["kernel"], layer["stride"], layer["padding"], layer["dilation"], fan_out)

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        return 0, 0

    def draws(self) -> Sequence[Draw]:
        return (_draw,) * 3

    def later_draws(self) -> Sequence[Draw]:
        return (_draw_dilated,) * 2


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=True)
    if x:
        sketch.keep(draw_convolution(sketch, x, "conv", 1 << 15))


def _draw_dilated(sketch: Sketch) -> None:
    """With taps apart and weights of fewer bits, some of either."""
    x = sketch.choose(spikes=True)
    if x:
        kernel, dilation = sketch.pick((2, 3, 3, 3, 5, 7)), sketch.pick((1, 2, 3, 4, 5, 8, 16))
        stride = sketch.pick((1, 1, 2)) if x.value.scale <= 3 else 1
        least = max(0, -(-((kernel - 1) * dilation + 1 - stride) // 2))
        if (kernel - 1) * dilation + 1 - 2 * least < 1:  # an even extent needs a stride of 2
            stride, kernel, least = 1, 3, dilation
        channels = sketch.pick(CHANNELS)
        divisors = [g for g in range(1, 17) if x.value.channels % g == 0 and channels % g == 0]
        sketch.keep(
            sketch.add(
                sketch.name("conv"), "conv", (x,), 1 << 15, channels=channels, kernel=kernel, stride=stride,
                padding=least, groups=int(sketch.rng.choice(divisors)), q=sketch.pick((6, 8, 10)),
                bias=int(sketch.chance(0.4)), dilation=dilation, limit=sketch.pick((127, WEIGHT_LIMIT)),
            )
        )  # fmt: skip
