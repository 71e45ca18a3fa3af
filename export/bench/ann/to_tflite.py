"""The equivalent ANN as TFLite models, float32 and int8, run by LiteRT.

    picture    uint8 [1, H, W, 3], RGB; H and W are fixed when the model is built
    restored   uint8 [1, H, W, 3]

Both ends carry the scale 1/128 with zero point 128, which is what (u8 - 128) / 128 says. The int8 model has int8
activations (one scale per tensor) and int8 weights (one scale per output channel), as TFLite's converter makes them;
inputs of a concatenation are brought to one scale first. Gates of attention stay in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.bench.ann import INPUT_SCALE, ZERO_PIXEL, Ann, Op, Spans
from export.files import no_form
from export.tflite_writer import Writer

WEIGHT_LEVELS = 127
SIGNED = 128  # int8 zero points are the uint8 ones less this


def _version(names: Any, code: int) -> int:
    """The operator's version from which on int8 (and grouped convolutions) are part of it."""
    later = {names.CONV_2D: 3, names.DEPTHWISE_CONV_2D: 3, names.RESIZE_NEAREST_NEIGHBOR: 3}
    plain = {names.DEPTH_TO_SPACE: 1, names.QUANTIZE: 1, names.RELU_0_TO_1: 1}
    return later.get(code, plain.get(code, 2))


class _AnnWriter:
    """Writes the ANN's ops for one size. values: for each op its tensor; scales: (step, zero), None for float32."""

    def __init__(self, ann: Ann, height: int, width: int, spans: Spans | None):
        self.ann, self.size, self.spans = ann, (height, width), spans
        self.w = Writer()
        self.values: dict[str, int] = {}
        self.scales: dict[str, tuple[float, int] | None] = {}
        self.count = 0

    def model(self) -> bytes:
        ends = INPUT_SCALE, ZERO_PIXEL
        picture = self.w.tensor("picture", (1, *self.size, 3), "uint8", ends)
        restored = self.w.tensor("restored", (1, *self.size, 3), "uint8", ends)
        for op in self.ann.ops:
            if op.kind == "input":
                scale = None if self.spans is None else (INPUT_SCALE, ZERO_PIXEL - SIGNED)
                self.values[op.name] = self.w.op(
                    "DEQUANTIZE" if scale is None else "QUANTIZE", [picture], self.output(op.name, scale)
                )
            elif op.kind == "output":
                first = next(one.name for one in self.ann.ops if one.kind == "input")
                scale = None if self.spans is None else (INPUT_SCALE, ZERO_PIXEL - SIGNED)
                total = self.new((1, *self.size, 3), scale)
                self.w.op("ADD", [self.values[first], self.values[op.inputs[0]]], total, "AddOptions")
                self.w.op("QUANTIZE", [total], restored)
            elif op.name not in self.values:  # a ReLU may have been written with its convolution
                self.write(op)
        return self.w.finish([picture], [restored], "equivalent ANN", _version)

    def shape(self, name: str) -> tuple[int, ...]:
        return (1, *self.ann.extent(name, *self.size), self.ann.channels[name])

    def new(self, shape: tuple[int, ...], scale: tuple[float, int] | None, name: str = "") -> int:
        self.count += 1
        dtype = "float32" if scale is None else "int8"
        return self.w.tensor(name or f"t{self.count}", shape, dtype, scale)

    def output(self, name: str, scale: tuple[float, int] | None) -> int:
        self.scales[name] = scale
        return self.new(self.shape(name), scale, name)

    def own_scale(self, name: str) -> tuple[float, int] | None:
        """From the range that the op's output had on the sample; None in a float32 model."""
        if self.spans is None:
            return None
        low, high = self.spans[name]
        step = max(high - low, 1e-6) / 255
        return step, int(np.clip(round(-low / step), 0, 255)) - SIGNED

    def write(self, op: Op) -> None:
        if self.spans is not None and (op.gating or op.kind == "gate"):
            self.in_float(op)
            return
        inputs = [self.values[name] for name in op.inputs]
        kind, like = op.kind, self.scales[op.inputs[0]]
        if kind == "conv":
            self.convolution(op, inputs[0], like)
        elif kind == "relu":
            self.relu(op, inputs[0], like)
        elif kind == "add":
            self.add(op, inputs)
        elif kind == "concat":
            scale = self.own_scale(op.name)
            if scale is not None:
                shapes = [self.shape(name) for name in op.inputs]
                inputs = [self.w.op("QUANTIZE", [x], self.new(s, scale)) for x, s in zip(inputs, shapes, strict=True)]
            self.values[op.name] = self.w.op(
                "CONCATENATION", inputs, self.output(op.name, scale), "ConcatenationOptions", axis=3
            )
        elif kind == "nearest":
            self.values[op.name] = self.enlarged(inputs[0], self.shape(op.name), like, op.name)
            self.scales[op.name] = like
        elif kind in ("space_to_depth", "depth_to_space"):
            options = "SpaceToDepthOptions" if kind == "space_to_depth" else "DepthToSpaceOptions"
            target = self.output(op.name, like)
            self.values[op.name] = self.w.op(kind.upper(), inputs, target, options, blockSize=op["factor"])
        else:
            self.attention(op, inputs)

    def attention(self, op: Op, inputs: list[int]) -> None:
        """Always float32. Raises ExportError for a kind that has no rule here."""
        kind = op.kind
        target = self.output(op.name, None)
        if kind == "clip":
            self.w.op("RELU_0_TO_1", inputs, target)
        elif kind == "channel_mean":
            axes = self.w.constant(f"{op.name}.axis", [3], "int32")
            self.w.op("MEAN", [inputs[0], axes], target, "ReducerOptions", keepDims=True)
        elif kind == "pool":
            w, (_, rows, columns, c) = op["window"], self.shape(op.inputs[0])
            x, below, right = inputs[0], -rows % w, -columns % w
            if below or right:
                x = self.padded(x, (0, below, 0, right), (1, rows + below, columns + right, c), None)
            settings = {"padding": 1, "strideH": w, "strideW": w, "filterHeight": w, "filterWidth": w}
            self.w.op("AVERAGE_POOL_2D", [x], target, "Pool2DOptions", **settings)
        elif kind != "gate":
            raise no_form(op.name, kind, "TFLite form")
        else:
            x, gate = inputs
            shape = self.shape(op.name)
            if op["factor"] > 1:
                _, rows, columns, c = self.shape(op.inputs[1])
                whole = (1, rows * op["factor"], columns * op["factor"], c)
                gate = self.enlarged(gate, whole, None)
                if whole != shape:
                    begin = self.w.constant(f"{op.name}.begin", [0, 0, 0, 0], "int32")
                    size = self.w.constant(f"{op.name}.size", list(shape), "int32")
                    gate = self.w.op("SLICE", [gate, begin, size], self.new(shape, None), "SliceOptions")
            self.w.op("MUL", [x, gate], target, "MulOptions")
        self.values[op.name] = target

    def in_float(self, op: Op) -> None:
        """An op of an attention in an int8 model: its inputs back to float32, its own output int8 again if a gate."""
        before, spans = dict(self.values), self.spans
        for name in op.inputs:
            if self.scales[name] is not None:
                self.values[name] = self.w.op("DEQUANTIZE", [before[name]], self.new(self.shape(name), None))
        scales = {name: self.scales[name] for name in op.inputs}
        self.scales.update(dict.fromkeys(op.inputs))
        self.spans = None
        self.write(op)
        self.spans = spans
        self.scales.update(scales)
        self.values.update({name: before[name] for name in op.inputs})
        if not op.gating:
            target = self.new(self.shape(op.name), self.own_scale(op.name))
            self.values[op.name] = self.w.op("QUANTIZE", [self.values[op.name]], target)
            self.scales[op.name] = self.own_scale(op.name)

    def add(self, op: Op, inputs: list[int]) -> None:
        total, scale = inputs[0], self.own_scale(op.name)
        for i, other in enumerate(inputs[1:], 2):
            last = i == len(inputs)
            target = self.output(op.name, scale) if last else self.new(self.shape(op.name), scale)
            total = self.w.op("ADD", [total, other], target, "AddOptions")
        self.values[op.name] = total

    def relu(self, op: Op, x: int, scale: tuple[float, int] | None) -> None:
        """XNNPACK takes no RELU of int8, but an addition of zero whose result is cut at 0."""
        target = self.output(op.name, scale)
        self.values[op.name] = target
        if scale is None:
            self.w.op("RELU", [x], target)
        else:
            zero = self.w.tensor(f"{op.name}.zero", (1,), "int8", scale, np.array([scale[1]]))
            self.w.op("ADD", [x, zero], target, "AddOptions", fusedActivationFunction=1)

    def convolution(self, op: Op, x: int, scale: tuple[float, int] | None) -> None:
        """The ReLU that alone reads it is fused, as TFLite's converter does."""
        w, ann = self.w, self.ann
        _, rows, columns, c_in = self.shape(op.inputs[0])
        pad, stride, kernel = op["padding"], op["stride"], op["kernel"]
        same = pad > 0 and stride == 1 and kernel == 2 * pad + 1
        if pad and not same:
            x = self.padded(x, (pad, pad, pad, pad), (1, rows + 2 * pad, columns + 2 * pad, c_in), scale)
        readers = ann.readers(op.name)
        fused = len(readers) == 1 and readers[0].kind == "relu"
        depthwise = op["groups"] == c_in > 1
        weight = ann.weights[f"{op.name}.weight"].transpose(1, 2, 3, 0) if depthwise else (
            ann.weights[f"{op.name}.weight"].transpose(0, 2, 3, 1)
        )  # fmt: skip
        bias = ann.weights[f"{op.name}.bias"]
        name = readers[0].name if fused else op.name
        if scale is None:
            parameters = [w.constant(f"{op.name}.weight", weight, "float32")]
            parameters.append(w.constant(f"{op.name}.bias", bias, "float32"))
            target = self.output(name, None)
        else:
            axis = 3 if depthwise else 0
            others = tuple(i for i in range(4) if i != axis)
            steps = np.maximum(np.abs(weight).max(others), 1e-6) / WEIGHT_LEVELS
            units = np.rint(weight / (steps if depthwise else steps[:, None, None, None]))
            parameters = [w.tensor(f"{op.name}.weight", weight.shape, "int8", (steps, 0), units)]
            w.tensors[-1].quantization.quantizedDimension = axis
            sums = np.rint(bias / (steps * scale[0]))
            parameters.append(w.tensor(f"{op.name}.bias", bias.shape, "int32", (steps * scale[0], 0), sums))
            target = self.output(name, self.own_scale(name))
        settings: dict[str, Any] = {"padding": 0 if same else 1, "strideH": stride, "strideW": stride}
        settings["fusedActivationFunction"] = int(fused)
        if depthwise:
            settings["depthMultiplier"] = ann.channels[op.name] // c_in
        kind, options = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions") if depthwise else ("CONV_2D", "Conv2DOptions")
        w.op(kind, [x, *parameters], target, options, **settings)
        self.values[op.name] = self.values[name] = target
        self.scales[op.name] = self.scales[name]

    def padded(
        self, x: int, sides: tuple[int, int, int, int], shape: tuple[int, ...], scale: tuple[float, int] | None
    ) -> int:
        """Zeros (the zero point) above, below, left and right of x; `shape` is the result's."""
        above, below, left, right = sides
        self.count += 1
        amounts = self.w.constant(f"pad{self.count}", [[0, 0], [above, below], [left, right], [0, 0]], "int32")
        return self.w.op("PAD", [x, amounts], self.new(shape, scale), "PadOptions")

    def enlarged(self, x: int, shape: tuple[int, ...], scale: tuple[float, int] | None, name: str = "") -> int:
        self.count += 1
        size = self.w.constant(f"size{self.count}", list(shape[1:3]), "int32")
        target = self.new(shape, scale, name)
        return self.w.op("RESIZE_NEAREST_NEIGHBOR", [x, size], target, "ResizeNearestNeighborOptions")


def float_model(ann: Ann, height: int, width: int) -> bytes:
    """The ANN in float32 for pictures of that size (multiples of `ann.stride`). ExportError without the package."""
    return _AnnWriter(ann, height, width, None).model()


def integer_model(ann: Ann, height: int, width: int, spans: Spans) -> bytes:
    """The ANN in int8; `spans` (`ranges`) is what activations are scaled by. ExportError as above."""
    return _AnnWriter(ann, height, width, spans).model()
