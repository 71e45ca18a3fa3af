"""What an ONNX file holds and does: its parameters, and the multiply-accumulates of one picture.

Counted are convolutions, transposed convolutions, matrix products and Gemm, from shapes that ONNX infers; borders are
counted as if they were inside the picture. Anything else (normalisations, activations, resizing) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


def counts(file: Path) -> tuple[int | None, Callable[[str, int, int], int | None]]:
    """(numbers in the file's float and integer tensors, a function of an input's name, height and width to MACs).

    The function's input is a picture [1, 3, H, W] or [1, H, W, 3], and other inputs are single numbers. It returns
    None where a shape is not to be inferred. Both are unknown (None) without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        return None, lambda name, height, width: None
    model = onnx.load(str(file))
    weights = {one.name: tuple(one.dims) for one in model.graph.initializer}
    # A scale, a shape or an index is no parameter; weights and biases are the tensors that these ops read behind x.
    read = {name for node in model.graph.node if node.op_type in _RULES for name in node.input[1:]}
    parameters = sum(math.prod(shape) for name, shape in weights.items() if name in read)

    def macs(name: str, height: int, width: int) -> int | None:
        sized = onnx.ModelProto()
        sized.CopyFrom(model)
        del sized.graph.value_info[:]
        for one in sized.graph.input:
            dims = one.type.tensor_type.shape.dim
            if one.name == name:
                sides = [1, 3, height, width] if dims[1].dim_value == 3 else [1, height, width, 3]
            else:
                sides = [1] * len(dims)
            for dim, side in zip(dims, sides, strict=True):
                dim.dim_value = side
        for end in sized.graph.output:
            end.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
        shapes: dict[str, tuple[int, ...]] = dict(weights)
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
        try:
            found = [_RULES[node.op_type](node, shapes) for node in inferred.node if node.op_type in _RULES]
        except KeyError:
            return None
        return sum(found) if found and all(found) else None

    return parameters or None, macs


def _conv(node: Any, shapes: Shapes) -> int:
    """Each output sums over the weights of one output channel."""
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _transposed(node: Any, shapes: Shapes) -> int:
    """Each input is spread by the weights of one input channel."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: Any, shapes: Shapes) -> int:
    transposed = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


_RULES: dict[str, Callable[[Any, Shapes], int]] = {
    "Conv": _conv, "ConvTranspose": _transposed, "MatMul": _product, "Gemm": _gemm,
}  # fmt: skip
