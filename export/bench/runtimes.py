"""Who computes the same spiking network in a runtime that people have: exactly, or as it comes by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from export.bench.timing import Call, Contender
from export.onnx import OnnxBackend
from export.onnx_plain import Restore, build_whole, plain_restorer
from export.runners import OPENVINO_EXACT, Runner, ncnn_runner, onnx_runner, openvino_runner
from export.tflite import build_tflite, tflite_restorer
from simulator.analysis import Analysis, Tensors
from simulator.bundle import Bundle
from simulator.pictures import Pixels

if TYPE_CHECKING:
    import onnx

Size = tuple[int, int]  # height and width, multiples of the stride


@dataclass(frozen=True)
class Runtime:
    """One way to run networks.

    key: for --only. name: for tables. exact: it must give the reference's bytes where float32 is exact. build: from a
    network, a size and a number of threads to what restores uint8 [3, H, W]; ExportError, a sentence, if it cannot.
    """

    key: str
    name: str
    exact: bool
    build: Callable[[Analysis, Tensors, Size, int], Restore]

    def contender(self, bundle: Bundle) -> Contender:
        def prepare(pixels: Pixels, threads: int) -> Call:
            size = pixels.shape[1], pixels.shape[2]
            return partial(self.build(bundle.analysis, bundle.tensors, size, threads), pixels)

        return Contender(self.key, self.name, "spiking", prepare, self.exact)


def _onnx(analysis: Analysis, tensors: Tensors, size: Size, threads: int) -> Restore:
    backend = OnnxBackend(analysis, tensors, threads)
    return lambda pixels: backend.run(pixels[None])[0]


def _litert(analysis: Analysis, tensors: Tensors, size: Size, threads: int) -> Restore:
    return tflite_restorer(build_tflite(analysis, tensors, size), threads)


def _plain(make: Callable[[onnx.ModelProto, int], Runner]) -> Callable[[Analysis, Tensors, Size, int], Restore]:
    def build(analysis: Analysis, tensors: Tensors, size: Size, threads: int) -> Restore:
        return plain_restorer(build_whole(analysis, tensors, {}, *size), make, threads)

    return build


RUNTIMES = (
    Runtime("onnx", "ONNX Runtime float32, unrolled", True, _onnx),
    Runtime("onnx-plain", "ONNX Runtime, plain dialect", True, _plain(onnx_runner)),
    Runtime("litert", "LiteRT (XNNPACK), unrolled", True, _litert),
    Runtime("openvino", "OpenVINO, float32 asked for", OPENVINO_EXACT, _plain(openvino_runner)),
    Runtime("openvino-default", "OpenVINO by default", False, _plain(partial(openvino_runner, exact=False))),
    Runtime("ncnn", "ncnn without Winograd and float16", True, _plain(ncnn_runner)),
    Runtime("ncnn-default", "ncnn by default", False, _plain(partial(ncnn_runner, exact=False))),
)
