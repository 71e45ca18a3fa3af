"""Writes TFLite models directly, with the flatbuffer's object API. The schema comes with ai-edge-litert, which is not
needed to run a model: any TFLite runtime reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.files import ExportError, missing_package

IDENTIFIER = b"TFL3"
VERSION = 3
ANY = -1  # a length that is known only when the model is prepared


def _schema() -> Any:
    """The classes of the format; ExportError where they are missing."""
    try:
        import flatbuffers  # noqa: F401
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ExportError(missing_package("ai-edge-litert")) from error
    return schema_py_generated


class Writer:
    """Collects tensors, buffers and operators of one subgraph.

    A tensor is its index. Numbers are NHWC; `quantised` tensors carry (scales, zero point).
    """

    def __init__(self) -> None:
        self.schema = _schema()
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[int, int] = {}
        self.buffers = [self.schema.BufferT()]  # the first one is empty, by the format's rule

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: str, quantised: tuple[npt.ArrayLike, int] | None = None,
        data: npt.NDArray[Any] | None = None,
    ) -> int:  # fmt: skip
        """dtype: "float32", "int32", "int8" or "uint8". data: a constant's numbers. Lengths in `shape` may be ANY."""
        one = self.schema.TensorT()
        one.name, one.shape = name.encode(), [1 if length == ANY else length for length in shape]
        if ANY in shape:
            one.shapeSignature = list(shape)
        one.type = getattr(self.schema.TensorType, dtype.upper())
        one.buffer = 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            one.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if quantised is not None:
            scales = np.atleast_1d(np.asarray(quantised[0], np.float32))
            parameters = self.schema.QuantizationParametersT()
            parameters.scale, parameters.zeroPoint = scales, np.full(len(scales), quantised[1], np.int64)
            one.quantization = parameters
        self.tensors.append(one)
        return len(self.tensors) - 1

    def constant(self, name: str, values: npt.ArrayLike, dtype: str) -> int:
        array = np.asarray(values, dtype)
        return self.tensor(name, array.shape, dtype, data=array)

    def op(self, kind: str, inputs: list[int], output: int, options: str = "", **settings: Any) -> int:
        """kind: a name of BuiltinOperator. options: of a class of options, without its T, with its settings."""
        schema = self.schema
        code = getattr(schema.BuiltinOperator, kind)
        one = schema.OperatorT()
        one.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        one.inputs, one.outputs = inputs, [output]
        if options:
            one.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            one.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in settings.items():
                setattr(one.builtinOptions, key, value)
        self.operators.append(one)
        return output

    def finish(
        self, inputs: Sequence[int], outputs: Sequence[int], description: str,
        version: Callable[[Any, int], int] = lambda names, code: 1,
    ) -> bytes:  # fmt: skip
        """The file's bytes. version: of an operator, from the schema's BuiltinOperator and its code."""
        import flatbuffers

        schema = self.schema
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = (
            self.tensors,
            self.operators,
            list(inputs),
            list(outputs),
        )
        model = schema.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = VERSION, description, [graph], self.buffers
        model.operatorCodes = []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
            entry.version = version(schema.BuiltinOperator, code)
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())
