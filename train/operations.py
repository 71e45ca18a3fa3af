"""What an ONNX file holds and does: its parameters, and the multiply-accumulates of one picture.

Counted are convolutions, transposed convolutions, matrix products and Gemm, in floats and in 8 bits, from shapes that
ONNX infers once ONNX Runtime has folded what depends on the picture's size alone; borders are counted as if they were
inside the picture. Anything else (normalisations, activations, resizing) is left out.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
# A weight may be stored otherwise than it is read: in half precision, in 8 bits, in another order.
STORED = ("Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose")


def counts(file: Path) -> tuple[int | None, Callable[[str, int, int], int | None]]:
    """(numbers in the file's weights and biases, a function of an input's name, height and width to MACs).

    The function's input is a picture [1, 3, H, W] or [1, H, W, 3], and other inputs are single numbers. It returns
    None where a shape is not to be inferred. Both are unknown (None) without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        return None, lambda name, height, width: None
    model = onnx.load(str(file))

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
        inferred = onnx.shape_inference.infer_shapes(_folded(sized), data_prop=True).graph
        shapes: dict[str, tuple[int, ...]] = {one.name: tuple(one.dims) for one in inferred.initializer}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
        try:
            found = [_RULES[node.op_type][0](node, shapes) for node in inferred.node if node.op_type in _RULES]
        except KeyError:
            return None
        return sum(found) if found and all(found) else None

    return _parameters(model.graph) or None, macs


def _folded(model: Any) -> Any:
    """The model with all that its inputs' shapes decide computed, as ONNX Runtime does before it runs it."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _parameters(graph: Any) -> int:
    """Numbers in the tensors that `_RULES` name: a scale, a shape or an index is no parameter."""
    stored = {one.name: math.prod(one.dims) for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            stored[node.output[0]] = sum(math.prod(one.t.dims) for one in node.attribute if one.name == "value")
    behind = {node.output[0]: node.input[0] for node in graph.node if node.op_type in STORED}
    read = set()
    for node in graph.node:
        for place in _RULES[node.op_type][1] if node.op_type in _RULES else ():
            name = node.input[place] if place < len(node.input) else ""
            while name in behind:
                name = behind[name]
            read.add(name)
    return sum(stored[name] for name in read & stored.keys())


def _conv(node: Any, shapes: Shapes, weight: int = 1) -> int:
    """Each output sums over the weights of one output channel. weight: the place of the weights among the inputs."""
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[weight]][1:])


def _transposed(node: Any, shapes: Shapes) -> int:
    """Each input is spread by the weights of one input channel."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: Any, shapes: Shapes) -> int:
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: Any, shapes: Shapes) -> int:
    transposed = any(one.name == "transA" and one.i for one in node.attribute)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]


# Operator -> (its multiply-accumulates, the places of weights and biases among its inputs).
_RULES: dict[str, tuple[Callable[[Any, Shapes], int], tuple[int, ...]]] = {
    "Conv": (_conv, (1, 2)),
    "ConvInteger": (_conv, (1,)),
    "QLinearConv": (partial(_conv, weight=3), (3, 8)),
    "ConvTranspose": (_transposed, (1, 2)),
    "MatMul": (_product, (1,)),
    "MatMulInteger": (_product, (1,)),
    "QLinearMatMul": (_product, (3,)),
    "Gemm": (_gemm, (1, 2)),
}
