"""A plain ONNX model computed in float16, as a card with 16-bit arithmetic may: what that changes is measured with it.

    every    each operation's result is rounded to float16, each addition of a convolution too, in the order of its
             weights (channel, row, column)
    stored   convolutions add up in float32, and what they and the other operations give is rounded to float16

Rounding is to the nearest, halves to even. No card's own rounding is known; these are the two ends of what is usual.
The operators are those of the plain dialect (`export.onnx_plain`); numbers smaller than 2^-14 do not occur in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numba import njit

from export.files import ExportError, missing_package

if TYPE_CHECKING:
    import onnx

Half = npt.NDArray[np.float16]
Wide = npt.NDArray[np.float32]  # numbers that float16 holds, as float32
ROUNDINGS = ("stored", "every")


class HalfModel:
    """inputs, outputs: the shapes of what it takes and gives, by name, in order."""

    def __init__(self, model: onnx.ModelProto, rounding: str = "stored"):
        """Raises ExportError for an operator that is not of the plain dialect."""
        from onnx import helper, numpy_helper

        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding {rounding!r} is unknown; choose one of {', '.join(ROUNDINGS)}")
        self._every = rounding == "every"
        graph = model.graph
        self.inputs, self.outputs = (
            {one.name: tuple(length.dim_value for length in one.type.tensor_type.shape.dim) for one in group}
            for group in (graph.input, graph.output)
        )
        self._constants = {
            one.name: rounded(numpy_helper.to_array(one).astype(np.float32)) for one in graph.initializer
        }
        self._nodes = []
        for node in graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            rule = _OPERATORS.get(node.op_type)
            if rule is None or not _known(node.op_type, attributes):
                raise ExportError(f"{node.op_type} with {sorted(attributes)} is not of the plain dialect.")
            self._nodes.append((rule, list(node.input), node.output[0], attributes))
        self._readers: dict[str, int] = dict.fromkeys(self.outputs, 1)
        for _, inputs, _, _ in self._nodes:
            for name in inputs:
                self._readers[name] = self._readers.get(name, 0) + 1

    @classmethod
    def of_file(cls, path: Path, rounding: str = "stored") -> HalfModel:
        """The model in a file; ExportError if the package onnx is missing."""
        try:
            import onnx
        except ImportError as error:
            raise ExportError(missing_package("onnx")) from error
        return cls(onnx.load(str(path)), rounding)

    def run(self, given: Mapping[str, npt.NDArray[Any]]) -> dict[str, Half]:
        """What it gives, by name, for inputs of the shapes `inputs`, which are rounded to float16 first."""
        values: dict[str, Wide] = {name: rounded(given[name].astype(np.float32)) for name in self.inputs}
        left = dict(self._readers)
        for rule, inputs, output, attributes in self._nodes:
            arguments = [self._constants[one] if one in self._constants else values.get(one) for one in inputs]
            values[output] = rule(arguments, attributes, self._every)
            for name in inputs:
                left[name] -= 1
                if not left[name]:
                    values.pop(name, None)
        return {name: values[name].astype(np.float16) for name in self.outputs}


def rounded(x: Wide) -> Wide:
    """To float16 and back."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite, as on a card
        wide: Wide = x.astype(np.float16).astype(np.float32)
    return wide


def _known(operator: str, attributes: Mapping[str, Any]) -> bool:
    if operator == "Resize":
        return attributes.get("mode") == b"nearest" and attributes.get("nearest_mode", b"") == b"floor"
    if operator == "DepthToSpace":
        return attributes.get("mode") == b"CRD"
    return True


def _elementwise(function: Callable[..., Any]) -> Callable[[Sequence[Any], Mapping[str, Any], bool], Wide]:
    return lambda x, attributes, every: rounded(function(*x))


def _concat(x: Sequence[Any], attributes: Mapping[str, Any], every: bool) -> Wide:
    return np.concatenate(x, attributes["axis"])


def _resize(x: Sequence[Any], attributes: Mapping[str, Any], every: bool) -> Wide:
    rows, columns = (int(factor) for factor in x[2][2:])
    enlarged: Wide = x[0].repeat(rows, 2).repeat(columns, 3)
    return enlarged


def _depth_to_space(x: Sequence[Any], attributes: Mapping[str, Any], every: bool) -> Wide:
    factor, (batch, channels, height, width) = attributes["blocksize"], x[0].shape
    blocks = x[0].reshape(batch, channels // factor**2, factor, factor, height, width)
    shape = batch, channels // factor**2, height * factor, width * factor
    mixed: Wide = blocks.transpose(0, 1, 4, 2, 5, 3).reshape(shape)
    return mixed


def _conv(x: Sequence[Any], attributes: Mapping[str, Any], every: bool) -> Wide:
    stride, padding, groups = attributes["strides"][0], attributes["pads"][0], attributes.get("group", 1)
    apart = attributes.get("dilations", [1])[0]
    weight = x[1]
    out, per_group, kernel, _ = weight.shape
    # [groups, C_in / groups, k, k, C_out / groups]: what one input adds to all outputs lies together
    rows = weight.reshape(groups, out // groups, per_group, kernel, kernel).transpose(0, 2, 3, 4, 1)
    sums = _COMPILED(np.ascontiguousarray(x[0][0]), np.ascontiguousarray(rows), stride, padding, apart, every)
    return rounded(sums if len(x) < 3 else sums + x[2][:, None, None])[None]


def _sums(x: Wide, rows: Wide, stride: int, padding: int, apart: int, every: bool) -> Wide:
    """x [C, H, W], rows [groups, C / groups, k, k, outputs] -> [groups outputs, h, w].

    apart: positions from tap to tap (dilation). every: products and sums lose the 13 bits of their mantissas that
    float16 does not have, rounded.
    """
    groups, per_group, kernel, _, outputs = rows.shape
    _, height, width = x.shape
    reach = (kernel - 1) * apart + 1
    out_h, out_w = (height + 2 * padding - reach) // stride + 1, (width + 2 * padding - reach) // stride + 1
    out = np.empty((groups * outputs, out_h, out_w), np.float32)
    total = np.zeros(outputs, np.float32)
    bits = total.view(np.int32)
    product = np.zeros(outputs, np.float32)
    product_bits = product.view(np.int32)
    for group in range(groups):
        for i in range(out_h):
            for j in range(out_w):
                total[:] = 0
                for c in range(per_group):
                    for dy in range(kernel):
                        y = i * stride - padding + dy * apart
                        for dx in range(kernel):
                            z = j * stride - padding + dx * apart
                            if y < 0 or y >= height or z < 0 or z >= width or x[group * per_group + c, y, z] == 0:
                                continue
                            for o in range(outputs):
                                product[o] = rows[group, c, dy, dx, o] * x[group * per_group + c, y, z]
                            if every:
                                for o in range(outputs):
                                    product_bits[o] = (
                                        product_bits[o] + 0xFFF + ((product_bits[o] >> 13) & 1)
                                    ) & ~0x1FFF
                            for o in range(outputs):
                                total[o] += product[o]
                            if every:
                                for o in range(outputs):
                                    bits[o] = (bits[o] + 0xFFF + ((bits[o] >> 13) & 1)) & ~0x1FFF
                for o in range(outputs):
                    out[group * outputs + o, i, j] = total[o]
    return out


_COMPILED: Any = njit(_sums)  # loops over single numbers, of which most are 0

_OPERATORS = {
    "Conv": _conv,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Floor": _elementwise(np.floor),
    "Clip": _elementwise(np.clip),
    "Concat": _concat,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
}
