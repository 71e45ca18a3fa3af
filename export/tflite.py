"""`python -m export.tflite BUNDLE [--out FILE] [--size HxW]`: the whole spiking network as a TFLite model.

Unrolled over its T time steps, straight from the bundle, for LiteRT (TensorFlow Lite) on phones and boards; PyTorch and
TensorFlow are not needed. Shapes:

    image      uint8 [1, H, W, 3], RGB
    restored   uint8 [1, H, W, 3]

H and W are multiples of the network's stride; who runs the model repeats the last row and column of other pictures
(`numpy.pad` with mode "edge"). Without --size the model takes any such size (`resize_tensor_input`), with it that one.

Inside, integer k on grid q is the float32 number k * 2^-q; `export.forms` says how spikes are written, and which layers
float32 is not guaranteed to compute exactly. All operators have version 1, so that old runtimes read the file: CAST,
CONV_2D, PAD, ADD, SUB, MUL, FLOOR, MAXIMUM, MINIMUM, RELU_0_TO_1, CONCATENATION, DEPTH_TO_SPACE.

What each kind of node computes stands in `simulator/reference.py`; the functions below follow it kind by kind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.checks import check_size, checked_size, coarse_note, differing_pixels, size_of
from export.files import ExportError, check_attributes, no_form, write_atomically
from export.forms import block_weight, folded_weight, folds, inexact_nodes, reached, window_form
from export.runners import litert_runner
from export.tflite_writer import ANY, Writer
from simulator.analysis import Analysis, Tensors
from simulator.bundle import BundleError, read_bundle
from simulator.graph import IMAGE_GRID, INPUT_CHANNELS, Node
from simulator.kinds import KnownAttributes

FORM = "TFLite form"
KNOWN: KnownAttributes = {
    "conv": {"dilation": (), "limit": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},  # which is refused, whatever it is over
}
SHUFFLE = "depth_to_space"
SAME, VALID = 0, 1  # of the schema's Padding
RELU = 1  # of its ActivationFunctionType

# One tensor's index if a value is static, else one per time step; spikes of window neurons are their number.
Steps = tuple[int, ...]


class _Network:
    """Writes one graph's nodes, in their order, for one size or, where it is None, for all."""

    def __init__(self, analysis: Analysis, tensors: Tensors, size: tuple[int, int] | None):
        self.analysis, self.tensors, self.size = analysis, tensors, size
        self.graph, self.steps = analysis.graph, analysis.graph.time_steps
        self.w = Writer()
        self.values: dict[str, Steps] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}  # equal ones are stored once
        self.folded: dict[str, int] = {}  # space_to_depth that becomes part of its readers: the factor
        self.scope = ""  # the layer that is being written, for readable names

    def model(self) -> bytes:
        """The file's bytes."""
        image = self.tensor(INPUT_CHANNELS, 1, "image", "uint8")
        restored = self.tensor(INPUT_CHANNELS, 1, "restored", "uint8")
        needed = self.graph.needed()
        pixels = 0
        for node in self.graph.nodes:
            check_attributes(node, KNOWN, FORM)
            self.scope = node.name
            if node.kind == "image":
                pixels = self.w.op("CAST", [image], self.tensor(INPUT_CHANNELS, 1), "CastOptions")
                centred = self.constant_op("SUB", pixels, 128)
                self.values[node.name] = (self.constant_op("MUL", centred, 2.0**-IMAGE_GRID),)
            elif node.kind == "readout":
                q = self.analysis.values[node.inputs[0]].q
                change = self.requantise(self.values[node.inputs[0]][0], q, q - IMAGE_GRID, None, 0)
                self.w.op("CAST", [self.clip(self.op("ADD", [pixels, change]), 0, 255)], restored, "CastOptions")
            elif node.name in needed:
                self.values[node.name] = self.write(node)
        return self.w.finish([image], [restored], "spiking restoration network: float32 arithmetic on dyadic grids")

    def tensor(self, channels: int, scale: int, name: str = "", dtype: str = "float32") -> int:
        rows, columns = (length // scale for length in self.size) if self.size else (ANY, ANY)
        return self.w.tensor(name or f"{self.scope}:{len(self.w.tensors)}", (1, rows, columns, channels), dtype)

    def like(self, x: int) -> int:
        """A new tensor in the shape of x."""
        one = self.w.tensors[x]
        return self.w.tensor(f"{self.scope}:{len(self.w.tensors)}", tuple(one.shapeSignature or one.shape), "float32")

    def constant(self, values: npt.ArrayLike, dtype: str = "float32") -> int:
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        key = dtype, array.shape, array.tobytes()
        if key not in self.constants:
            self.constants[key] = self.w.constant(f"{self.scope}:{len(self.w.tensors)}", array, dtype)
        return self.constants[key]

    def op(self, kind: str, inputs: list[int], **settings: Any) -> int:
        """An operator whose result has the shape of its first input."""
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}.get(kind, "")
        return self.w.op(kind, inputs, self.like(inputs[0]), options, **settings)

    def constant_op(self, kind: str, x: int, value: npt.ArrayLike, **settings: Any) -> int:
        """x and a number, or one per channel."""
        numbers = np.asarray(value, np.float32)
        if numbers.ndim and (numbers == numbers[0]).all():
            numbers = numbers[0]
        return self.op(kind, [x, self.constant(numbers)], **settings)

    def times(self, x: int, factor: float) -> int:
        return x if factor == 1 else self.constant_op("MUL", x, factor)

    def clip(self, x: int, least: float, most: float) -> int:
        return self.constant_op("MINIMUM", self.constant_op("MAXIMUM", x, least), most)

    def add(self, *inputs: int) -> int:
        total = inputs[0]
        for other in inputs[1:]:
            total = self.op("ADD", [total, other])
        return total

    def requantise(self, x: int, q: int, shift: int, limits: tuple[int, int] | None, out_q: int) -> int:
        """Units k of grid q become clip(floor(k * 2^-shift + 1/2), limits) units of grid `out_q`."""
        x = self.times(x, 2.0 ** (q - shift))
        if shift:
            x = self.op("FLOOR", [self.constant_op("ADD", x, 0.5)])
        return self.times(x if limits is None else self.clip(x, *limits), 2.0**-out_q)

    def write(self, node: Node) -> Steps:
        """Any node but `image` and `readout`. Raises ExportError for a kind without a rule."""
        if not node.inputs:  # the picture is the one source that is known
            raise no_form(node.name, node.kind, FORM)
        kind, x = node.kind, self.values[node.inputs[0]]
        source, value = self.analysis.values[node.inputs[0]], self.analysis.values[node.name]
        if kind == "space_to_depth":
            return self.space_to_depth(node, x)
        if kind in ("conv", "dense_conv"):
            return self.convolution(node, x)
        if kind == "requantise":
            limits = node["lo"], node["hi"]
            return self.each(x, lambda one: self.requantise(one, source.q, node["shift"], limits, value.q))
        if kind == "lif":
            return self.lif(node, x, source.q)
        if kind == "window":
            return (self.window(node, x, source.q),)
        if kind in ("sum", "concat"):
            return self.combine(node, [self.values[name] for name in node.inputs])
        if kind == "upsample":
            return self.upsample(node, x)
        if kind == "time_sum":
            return (self.times(x[0], self.steps) if len(x) == 1 else self.add(*x),)
        raise no_form(node.name, kind, FORM)

    def each(self, x: Steps, function: Callable[[int], int]) -> Steps:
        return tuple(function(one) for one in x)

    def combine(self, node: Node, inputs: list[Steps]) -> Steps:
        """Sum or concatenation; static inputs are presented at every step."""
        longest = max(len(x) for x in inputs)
        together = zip(*(x * longest if len(x) == 1 else x for x in inputs), strict=True)
        return tuple(self.add(*parts) if node.kind == "sum" else self.joined(node, list(parts)) for parts in together)

    def joined(self, node: Node, parts: list[int]) -> int:
        """The channels of tensors at the scale of the node's first input, one after another."""
        channels = sum(self.w.tensors[x].shape[3] for x in parts)
        target = self.tensor(channels, self.analysis.values[node.inputs[0]].scale)
        return self.w.op("CONCATENATION", parts, target, "ConcatenationOptions", axis=3)

    def space_to_depth(self, node: Node, x: Steps) -> Steps:
        """Part of the convolutions that read it, or a convolution of its own."""
        factor, value = node["factor"], self.analysis.values[node.name]
        if folds(node, self.analysis):
            self.folded[node.name] = factor
            return x
        weight = block_weight(self.analysis.values[node.inputs[0]].channels, factor)
        return self.convolved(x, weight, None, value.channels, value.scale, factor, VALID)

    def convolution(self, node: Node, x: Steps) -> Steps:
        """What turns its channels into positions alone finds them in TFLite's order."""
        value, weight = self.analysis.values[node.name], self.tensors[f"{node.name}.weight"] * 2.0 ** -node["q"]
        bias = self.tensors[f"{node.name}.bias"] * 2.0**-value.q if node["bias"] else None
        factor = self.folded.get(node.inputs[0], 1)
        weight = folded_weight(weight, factor)
        stride, padding = factor * node["stride"], factor * node["padding"]
        order = self.order_for_reader(node)
        if order is not None:
            weight, bias = weight[order], None if bias is None else bias[order]
        dilation = node["dilation"] if node.kind == "conv" else 1
        if (weight.shape[2] - 1) * dilation + 1 - stride == 2 * padding:
            return self.convolved(x, weight, bias, value.channels, value.scale, stride, SAME, dilation)
        if padding:
            amounts = self.constant([[0, 0], [padding] * 2, [padding] * 2, [0, 0]], "int32")
            x = self.each(x, lambda one: self.padded(one, padding, amounts))
        return self.convolved(x, weight, bias, value.channels, value.scale, stride, VALID, dilation)

    def padded(self, x: int, padding: int, amounts: int) -> int:
        shape = [ANY if self.size is None else length + 2 * padding for length in self.w.tensors[x].shape[1:3]]
        target = self.w.tensor(
            f"{self.scope}:{len(self.w.tensors)}", (1, *shape, self.w.tensors[x].shape[3]), "float32"
        )  # fmt: skip
        return self.w.op("PAD", [x, amounts], target, "PadOptions")

    def convolved(
        self, x: Steps, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None, channels: int, scale: int, stride: int,
        padding: int, dilation: int = 1,
    ) -> Steps:  # fmt: skip
        """weight [O, C / groups, k, k], bias [O]: real numbers."""
        bias = np.zeros(channels) if bias is None else bias
        parameters = [self.constant(weight.transpose(0, 2, 3, 1)), self.constant(bias)]
        settings = {
            "strideH": stride, "strideW": stride, "padding": padding, "dilationHFactor": dilation,
            "dilationWFactor": dilation,
        }  # fmt: skip

        def convolve(one: int) -> int:
            target = self.tensor(channels, scale)
            return self.w.op("CONV_2D", [one, *parameters], target, "Conv2DOptions", **settings)

        return self.each(x, convolve)

    def order_for_reader(self, node: Node) -> npt.NDArray[np.int64] | None:
        """The order (dy, dx, c) of channels (c, dy, dx), if a depth_to_space and nobody else reads this convolution."""
        readers = self.graph.consumers(node.name)
        if node.kind not in ("conv", "dense_conv") or len(readers) != 1 or readers[0].attrs.get("mode") != SHUFFLE:
            return None
        return _block_order(self.analysis.values[node.name].channels, readers[0]["factor"])

    def lif(self, node: Node, current: Steps, q: int) -> Steps:
        """v <- leak(v) + I + b; a spike where v >= threshold; then reset. v starts at 0, so the first leak is none."""
        threshold, bias, leak = (self.tensors[f"{node.name}.{part}"] for part in ("threshold", "bias", "leak"))
        if bias.any():
            current = self.each(current, lambda one: self.constant_op("ADD", one, bias * 2.0**-q))
        units, grid = reached(node, threshold, q)
        spikes: list[int] = []
        v = current[0]
        for t in range(self.steps):
            if t:
                floored = self.op("FLOOR", [self.constant_op("MUL", v, 2.0 ** (grid - leak))])
                shifted = self.times(floored, 2.0**-grid)  # v >> k
                leaked = shifted if node["leak"] == "shift" else self.op("SUB", [v, shifted])
                v = self.add(leaked, current[min(t, len(current) - 1)])
            above = self.times(self.constant_op("SUB", v, (units - 1) * 2.0**-grid), 2.0**grid)
            spikes.append(self.op("RELU_0_TO_1", [above]))
            if t + 1 < self.steps:
                if node["reset"] == "zero":
                    taken = self.op("MUL", [v, spikes[-1]])
                else:
                    taken = self.constant_op("MUL", spikes[-1], threshold * 2.0**-q)
                v = self.op("SUB", [v, taken])
        return tuple(spikes)

    def window(self, node: Node, current: Steps, q: int) -> int:
        """The number of spikes; the product is cut at 0 before it is floored, which comes to the same."""
        offset, factor = window_form(self.tensors[f"{node.name}.threshold"], self.tensors[f"{node.name}.bias"], q)
        v = self.constant_op("ADD", self.add(*current), offset)
        count = self.op("FLOOR", [self.constant_op("MUL", v, factor, fusedActivationFunction=RELU)])
        return self.constant_op("MINIMUM", count, self.steps)

    def upsample(self, node: Node, x: Steps) -> Steps:
        """Nearest: as many copies of the channels, turned into positions; a resize would need to know the size."""
        factor, value = node["factor"], self.analysis.values[node.name]
        source = self.analysis.values[node.inputs[0]]
        if node["mode"] == "nearest":
            x = self.each(x, lambda one: self.joined(node, [one] * factor**2))
        elif self.order_for_reader(self.graph.node(node.inputs[0])) is None:
            exchange = np.eye(source.channels)[_block_order(source.channels, factor)]
            x = self.convolved(x, exchange[:, :, None, None], None, source.channels, source.scale, 1, VALID)

        def enlarge(one: int) -> int:
            target = self.tensor(value.channels, value.scale)
            return self.w.op("DEPTH_TO_SPACE", [one], target, "DepthToSpaceOptions", blockSize=factor)

        return self.each(x, enlarge)


def _block_order(channels: int, factor: int) -> npt.NDArray[np.int64]:
    """Of channels (c, dy, dx): which stands where in the order (dy, dx, c)."""
    return np.arange(channels).reshape(-1, factor, factor).transpose(1, 2, 0).ravel()


def build_tflite(analysis: Analysis, tensors: Tensors, size: tuple[int, int] | None = None) -> bytes:
    """The model's file, for pictures of one size (height, width) or of any; the same network gives the same bytes.

    Raises ExportError for a size that is no multiple of the stride, for a kind of node or an attribute without a form
    here, and if a package is missing.
    """
    if size:
        check_size(analysis, *size)
    return _Network(analysis, tensors, size).model()


def tflite_restorer(
    model: bytes, threads: int = 1, resolver: str = "AUTO"
) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]:
    """Pixels to restored pixels, uint8 [3, H, W], with LiteRT; resolver: one of `export.runners.RESOLVERS`."""
    run = litert_runner(model, threads, resolver)

    def restore(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        restored: npt.NDArray[np.uint8] = run(np.ascontiguousarray(pixels.transpose(1, 2, 0))[None])[0]
        return restored.transpose(2, 0, 1)

    return restore


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 1 if it would not equal the reference, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m export.tflite",
        description="Write a bundle's spiking network as a TFLite model: uint8 RGB [1, H, W, 3] in, the same out.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <name of the bundle>.tflite in this folder")
    parser.add_argument(
        "--size", type=size_of, metavar="HxW", help="for pictures of this size alone, in pixels; default: of any size"
    )
    options = parser.parse_args(arguments)
    out = options.out or Path(options.bundle.with_suffix(".tflite").name)
    try:
        bundle = read_bundle(options.bundle)
        analysis, tensors = bundle.analysis, bundle.tensors
        content = build_tflite(analysis, tensors, options.size)
        small = checked_size(analysis, options.size)
        checked = content if options.size is None else build_tflite(analysis, tensors, small)
        differing = differing_pixels(tflite_restorer(checked), analysis, tensors, small)
        print(f"LiteRT against the reference, one image: {differing} pixels differ.")
        inexact = inexact_nodes(analysis)
        if inexact:
            print(f"float32 is not guaranteed to be exact in {', '.join(inexact)}: their bounds are too large.")
        if differing and not inexact:
            print(f"export.tflite: {out} was not written, because it would not equal the device.", file=sys.stderr)
            return 1
        write_atomically(out, content)
    except (BundleError, ExportError) as error:
        print(f"export.tflite: {error}", file=sys.stderr)
        return 2
    size = f"{options.size[0]}x{options.size[1]} pixels" if options.size else f"multiples of {analysis.stride} pixels"
    print(f"wrote {out} ({len(content)} bytes, {bundle.graph.time_steps} time steps, {size})")
    if note := coarse_note(bundle.meta):
        print(note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
