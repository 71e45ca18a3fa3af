"""Real values in, real values out."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.kinds.convolution import Convolution, draw_convolution, taps
from simulator.kinds.layer import Extent, Layer, Value
from simulator.kinds.sketch import Draw, Known, Sketch


class DenseConv(Convolution):
    """Multiply-accumulates with a real-valued input; a grid of the input's and the weights' together."""

    name = "dense_conv"
    equation = "bias + the sum of weight times x: multiply-accumulates; output on x's grid + q"

    def check(self, layer: Layer) -> None:
        layer.need_real_values()
        super().check(layer)

    def output(self, layer: Layer) -> Value:
        x = layer.inputs[0]
        return Value(layer["channels"], x.scale * layer["stride"], x.static, spikes=False, q=x.q + layer["q"])

    def synapses(self, layer: Layer) -> None:
        return None

    def macs(self, layer: Layer, inputs: Extent, outputs: Extent) -> tuple[int, int]:
        x = layer.inputs[0]
        pairs = taps(inputs, outputs, layer["kernel"], layer["stride"], layer["padding"])
        total = pairs * x.channels * (layer["channels"] // layer["groups"])
        return (total, 0) if x.static else (0, total)

    def draws(self) -> Sequence[Draw]:
        return (_draw,)


def draw_rounded(sketch: Sketch, x: Known) -> None:
    """Adds a random dense_conv of x and the rounding that every one needs; only what is rounded can be chosen."""
    wide = draw_convolution(sketch, x, "dense_conv", x.limit)
    shift = max(0, wide.value.q - sketch.pick((6, 8, 10)))
    limit = 1 << sketch.pick((8, 12, 14, 15))
    sketch.keep(
        sketch.add(sketch.name("round"), "requantise", (wide,), limit, shift=shift, lo=-limit, hi=limit - 1)
    )  # fmt: skip


def _draw(sketch: Sketch) -> None:
    x = sketch.choose(spikes=False)
    if x and x.limit < 1 << 16:
        draw_rounded(sketch, x)
