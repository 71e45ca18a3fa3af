"""The equivalent ANN as ONNX models: float32, and uint8 activations with int8 weights.

    picture    uint8 [1, 3, H, W], RGB; H and W are fixed when the model is built
    restored   uint8 [1, 3, H, W]

The integer model calls the integer operators themselves (QLinearConv, and QLinearAdd and QLinearConcat of ONNX
Runtime's own domain), so that no optimiser has to find them between Quantize and Dequantize. Activations have one
scale and zero point per tensor, weights one scale per output channel. ReLU keeps its input's scale, which makes it a
Clip at the zero point; a ReLU that alone reads a convolution is that convolution's clipping at 0. What computes and
applies an attention's gate stays in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export.bench.ann import INPUT_SCALE, ZERO_PIXEL, Ann, Op, Spans
from export.files import ExportError, missing_package, no_form
from export.onnx import IR_VERSION, OPSET
from export.onnx_network import PRODUCER

if TYPE_CHECKING:
    import onnx

FORM = "ONNX form"
MICROSOFT = "com.microsoft"  # the domain of QLinearAdd and QLinearConcat
LEVELS = 255  # of uint8
WEIGHT_LEVELS = 127
FEW_GROUPS = 2  # groups that are written as one convolution


@dataclass(frozen=True)
class Scale:
    """What integer k of a tensor stands for: (k - zero) * step."""

    step: float
    zero: int

    @staticmethod
    def over(low: float, high: float) -> Scale:
        """Covers low..high (0 in between) with uint8, zero on an integer."""
        step = max(high - low, 1e-6) / LEVELS
        return Scale(float(np.float32(step)), int(np.clip(round(-low / step), 0, LEVELS)))


class _Writer:
    """Collects nodes and initialisers for one size of picture."""

    def __init__(self, ann: Ann, height: int, width: int):
        self.ann, self.size = ann, (height, width)
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32, name: str = "") -> str:
        from onnx import numpy_helper

        name = name or f"constant.{len(self.initialisers)}"
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self.initialisers.append(numpy_helper.from_array(array, name))
        return name

    def float_op(self, op: Op, inputs: list[str]) -> str:
        """Any op but input and output in float32. Raises ExportError for a kind that has no rule here."""
        kind, ann = op.kind, self.ann
        if kind == "conv":
            weight, bias = (self.constant(ann.weights[f"{op.name}.{part}"]) for part in ("weight", "bias"))
            return self.op("Conv", inputs[0], weight, bias, output=op.name, **_conv_attributes(op))
        if kind in ("relu", "add", "concat"):
            return self.simple(op, inputs)
        if kind == "clip":
            return self.op("Clip", inputs[0], self.constant(0), self.constant(1), output=op.name)
        if kind in ("nearest", "space_to_depth", "depth_to_space"):
            return self.moved(op, inputs[0], op.name)
        if kind == "pool":
            w, (rows, columns) = op["window"], ann.extent(op.inputs[0], *self.size)
            below, right = -rows % w, -columns % w
            x = inputs[0]
            if below or right:
                x = self.op("Pad", x, self.constant([0, 0, 0, 0, 0, 0, below, right], np.int64))
            return self.op("AveragePool", x, kernel_shape=[w] * 2, strides=[w] * 2, output=op.name)
        if kind == "channel_mean":
            return self.op("ReduceMean", inputs[0], self.constant([1], np.int64), keepdims=1, output=op.name)
        if kind != "gate":
            raise no_form(op.name, kind, FORM)
        x, gate = inputs
        if op["factor"] > 1:
            gate = self.enlarged(gate, op["factor"])
            if ann.extent(op.inputs[1], *self.size) != ann.extent(op.name, *self.size):
                ends = self.constant(ann.extent(op.name, *self.size), np.int64)
                gate = self.op("Slice", gate, self.constant([0, 0], np.int64), ends, self.constant([2, 3], np.int64))
        return self.op("Mul", x, gate, output=op.name)

    def simple(self, op: Op, inputs: list[str]) -> str:
        if op.kind == "relu":
            return self.op("Relu", inputs[0], output=op.name)
        if op.kind == "concat":
            return self.op("Concat", *inputs, axis=1, output=op.name)
        total = inputs[0]
        for i, other in enumerate(inputs[1:], 2):
            total = self.op("Add", total, other, output=op.name if i == len(inputs) else None)
        return total

    def moved(self, op: Op, x: str, output: str) -> str:
        """Values change place only: the same for numbers of any type."""
        if op.kind == "nearest":
            return self.enlarged(x, op["factor"], output)
        if op.kind == "space_to_depth":
            return self.op("SpaceToDepth", x, blocksize=op["factor"], output=output)
        if op.kind != "depth_to_space":
            raise no_form(op.name, op.kind, FORM)
        return self.op("DepthToSpace", x, blocksize=op["factor"], mode="DCR", output=output)

    def enlarged(self, x: str, factor: int, output: str | None = None) -> str:
        return self.op(
            "Resize", x, "", self.constant([1, 1, factor, factor]), mode="nearest", output=output,
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def model(self) -> onnx.ModelProto:
        from onnx import TensorProto, checker, helper

        shape = [1, 3, *self.size]
        ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("picture", "restored")]
        model = helper.make_model(
            helper.make_graph(self.nodes, "equivalent_ann", ends[:1], ends[1:], self.initialisers),
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        checker.check_model(model)
        return model


def _conv_attributes(op: Op) -> dict[str, Any]:
    return {
        "kernel_shape": [op["kernel"]] * 2,
        "strides": [op["stride"]] * 2,
        "pads": [op["padding"]] * 4,
        "group": op["groups"],
    }


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ExportError(missing_package("onnx")) from error


def float_model(ann: Ann, height: int, width: int) -> onnx.ModelProto:
    """The ANN in float32 for pictures of that size (multiples of `ann.stride`). ExportError without the package."""
    _require_onnx()
    from onnx import TensorProto

    w = _Writer(ann, height, width)
    values: dict[str, str] = {}
    for op in ann.ops:
        if op.kind == "input":
            pixels = w.op("Cast", "picture", to=TensorProto.FLOAT)
            centred = w.op("Sub", pixels, w.constant(ZERO_PIXEL))
            values[op.name] = w.op("Mul", centred, w.constant(INPUT_SCALE), output=op.name)
        elif op.kind == "output":
            change = w.op("Round", w.op("Mul", values[op.inputs[0]], w.constant(1 / INPUT_SCALE)))
            restored = w.op("Clip", w.op("Add", pixels, change), w.constant(0), w.constant(255))
            w.op("Cast", restored, to=TensorProto.UINT8, output="restored")
        else:
            values[op.name] = w.float_op(op, [values[name] for name in op.inputs])
    return w.model()


def integer_model(ann: Ann, height: int, width: int, spans: Spans) -> onnx.ModelProto:
    """The ANN with uint8 activations and int8 weights; `spans` (`ranges`) is what activations are scaled by.

    ExportError without the package.
    """
    _require_onnx()
    w = _IntegerWriter(ann, height, width, spans)
    for op in ann.ops:
        w.write(op)
    return w.model()


class _IntegerWriter(_Writer):
    """values: for each op its tensor of uint8 with its scale, or (gates) of float32 with None."""

    def __init__(self, ann: Ann, height: int, width: int, spans: Spans):
        super().__init__(ann, height, width)
        self.spans = spans
        self.values: dict[str, tuple[str, Scale | None]] = {}

    def write(self, op: Op) -> None:
        if op.kind == "input":
            self.values[op.name] = ("picture", Scale(INPUT_SCALE, ZERO_PIXEL))
            return
        inputs = [self.values[name] for name in op.inputs]
        if op.gating or op.kind == "gate":
            name = self.float_op(op, [self.real(value) for value in inputs])
            self.values[op.name] = (name, None) if op.gating else self.quantised(op, name)
            return
        (x, scale) = inputs[0]
        assert scale is not None
        if op.kind == "conv":
            self.values[op.name] = self.convolution(op, x, scale)
        elif op.kind == "relu":
            # A convolution's clipping at 0, where only this reads it, did it already.
            lowest = self.constant(scale.zero, np.uint8)
            self.values[op.name] = (x if scale.zero == 0 else self.op("Clip", x, lowest, output=op.name), scale)
        elif op.kind in ("add", "concat"):
            self.values[op.name] = self.joined(op, inputs)
        elif op.kind == "output":
            self.joined(op, [("picture", Scale(INPUT_SCALE, ZERO_PIXEL)), (x, scale)])
        else:
            self.values[op.name] = (self.moved(op, x, op.name), scale)

    def convolution(self, op: Op, x: str, scale: Scale) -> tuple[str, Scale]:
        weight, bias = self.ann.weights[f"{op.name}.weight"], self.ann.weights[f"{op.name}.bias"]
        steps = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-6) / WEIGHT_LEVELS
        units = np.rint(weight / steps[:, None, None, None])
        attributes = _conv_attributes(op)
        if op["groups"] == FEW_GROUPS:
            # Its integer kernels want many channels at once: zeros in place of the other group's weights are faster.
            half, per_group = len(units) // 2, units.shape[1]
            units = np.concatenate([units, np.zeros_like(units)], 1)
            units[half:] = np.roll(units[half:], per_group, 1)
            attributes["group"] = 1
        readers = self.ann.readers(op.name)
        low, high = self.spans[op.name]
        out = Scale.over(0.0 if len(readers) == 1 and readers[0].kind == "relu" else low, high)
        name = self.op(
            "QLinearConv", x, *self.parameters(scale),
            self.constant(units, np.int8), self.constant(steps), self.constant(np.zeros(len(steps)), np.int8),
            *self.parameters(out), self.constant(np.rint(bias / (steps * scale.step)), np.int32),
            output=op.name, **attributes,
        )  # fmt: skip
        return name, out

    def joined(self, op: Op, inputs: list[tuple[str, Scale | None]]) -> tuple[str, Scale]:
        out = Scale(INPUT_SCALE, ZERO_PIXEL) if op.kind == "output" else Scale.over(*self.spans[op.name])
        last = "restored" if op.kind == "output" else op.name
        parts = [(name, *self.parameters(scale)) for name, scale in inputs if scale is not None]
        if op.kind == "concat":
            flat = [name for part in parts for name in part]
            return self.op("QLinearConcat", *self.parameters(out), *flat, domain=MICROSOFT, axis=1, output=last), out
        total = parts[0]
        for i, other in enumerate(parts[1:], 2):
            name = self.op(
                "QLinearAdd", *total, *other, *self.parameters(out), domain=MICROSOFT,
                output=last if i == len(parts) else None,
            )  # fmt: skip
            total = (name, *self.parameters(out))
        return total[0], out

    def parameters(self, scale: Scale) -> tuple[str, str]:
        return self.constant(scale.step), self.constant(scale.zero, np.uint8)

    def real(self, value: tuple[str, Scale | None]) -> str:
        name, scale = value
        return name if scale is None else self.op("DequantizeLinear", name, *self.parameters(scale))

    def quantised(self, op: Op, name: str) -> tuple[str, Scale]:
        scale = Scale.over(*self.spans[op.name])
        return self.op("QuantizeLinear", name, *self.parameters(scale)), scale
