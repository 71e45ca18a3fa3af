"""The equivalent ANN in 8 bits by ONNX Runtime's own post-training static quantisation, as its users would do it.

uint8 activations, int8 weights with one scale per output channel, written as Quantize and Dequantize around every op
(QDQ), which the runtime fuses to integer ones when it loads the model. What makes real numbers of pixels and pixels of
real numbers stays in float32.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.bench.ann import Ann, Picture
from export.bench.ann.to_onnx import float_model
from export.files import ExportError, missing_package

if TYPE_CHECKING:
    import onnx


class _Pictures:
    """Calibration pictures one by one, as ONNX Runtime asks for them."""

    def __init__(self, pictures: Sequence[Picture]):
        self.left = list(pictures)

    def get_next(self) -> dict[str, Any] | None:
        return {"picture": self.left.pop(0)[None]} if self.left else None


def quantised_model(ann: Ann, pictures: Sequence[Picture], share: float) -> onnx.ModelProto:
    """The ANN in 8 bits for pictures of the size of `pictures` (uint8 [3, H, W], at least one), which calibrate it.

    share: of the values that an activation's scale covers, 1 for all. `at_size` gives the model to pictures of another
    size. ExportError without the package.
    """
    model = float_model(ann, *pictures[0].shape[1:])
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise ExportError(missing_package("onnxruntime")) from error
    import onnx

    names = [node.name for node in model.graph.node]
    first = next(op.name for op in ann.ops if op.kind == "input")
    last = next(op.inputs[0] for op in ann.ops if op.kind == "output")
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        file = Path(folder) / "int8.onnx"
        quantize_static(
            model, file, _Pictures(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=[*names[: names.index(first) + 1], *names[names.index(last) + 1 :]],
            calibrate_method=CalibrationMethod.MinMax if share == 1 else CalibrationMethod.Percentile,
            extra_options={} if share == 1 else {"CalibPercentile": 100 * share},
        )  # fmt: skip
        return onnx.load(str(file))


def at_size(model: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """The same model for pictures of another size; its ops must not hold sizes, as only those of attention do."""
    import onnx

    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.graph.value_info[:]  # shapes between the ops, for the size before
    for end in (*other.graph.input, *other.graph.output):
        for place, side in ((2, height), (3, width)):
            end.type.tensor_type.shape.dim[place].dim_value = side
    return other


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """ONNX Runtime recommends a pre-processing that these models have nothing for, and prints what it is doing."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
