"""Who computes the equivalent ANN (`export/bench/ann`): ReLU where the neurons are, one pass, random weights.

Its pictures mean nothing; its time is what a dense network of the same structure takes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from export.bench.ann import Ann, Spans, build_ann, ranges, to_onnx, to_tflite
from export.bench.spiking import compiled, in_inference, torch_with
from export.bench.timing import Call, Contender
from export.files import missing_package
from export.runners import litert_runner
from simulator.bundle import Bundle
from simulator.pictures import Pixels

SAMPLE_SIDE = 128  # pixels of the picture's corner from which activations get their scales


def contenders(bundle: Bundle) -> list[Contender]:
    return [
        Contender("ann-onnx", "ONNX Runtime float32", "ann", partial(_onnx, bundle, False)),
        Contender("ann-onnx-int8", "ONNX Runtime uint8 x int8", "ann", partial(_onnx, bundle, True)),
        Contender("ann-litert", "LiteRT (XNNPACK) float32", "ann", partial(_litert, bundle, False)),
        Contender("ann-litert-int8", "LiteRT (XNNPACK) int8", "ann", partial(_litert, bundle, True)),
        Contender("ann-torch", "PyTorch", "ann", partial(_torch, bundle, False)),
        Contender("ann-torch-compiled", "PyTorch, torch.compile", "ann", partial(_torch, bundle, True)),
    ]


def _spans(bundle: Bundle, ann: Ann, pixels: Pixels) -> Spans:
    side = max(SAMPLE_SIDE // bundle.analysis.stride, 1) * bundle.analysis.stride
    return ranges(ann, pixels[:, :side, :side])


def onnx_session(model: Any, threads: int) -> Any:
    """An inference session on the CPU; ImportError, a sentence, where ONNX Runtime is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(missing_package("onnxruntime")) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def onnx_restorer(model: Any, threads: int) -> Callable[[Pixels], Pixels]:
    """Restores pictures of the model's size; ImportError as above."""
    session = onnx_session(model, threads)

    def restore(pixels: Pixels) -> Pixels:
        restored: Pixels = session.run(None, {"picture": pixels[None]})[0][0]
        return restored

    return restore


def litert_restorer(model: bytes, threads: int) -> Callable[[Pixels], Pixels]:
    """Restores pictures of the model's size with LiteRT, whose package the model's writer has found to be there.

    It reads pixels with their channels together; `channels_together` arranges a picture so ahead of a timed call.
    """
    run = litert_runner(model, threads)

    def restore(pixels: Pixels) -> Pixels:
        restored: Pixels = run(np.ascontiguousarray(pixels.transpose(1, 2, 0))[None])[0].transpose(2, 0, 1)
        return restored

    return restore


def channels_together(pixels: Pixels) -> Pixels:
    """The same picture [3, H, W], held as [H, W, 3] in memory."""
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)).transpose(2, 0, 1)


def _onnx(bundle: Bundle, integer: bool, pixels: Pixels, threads: int) -> Call:
    ann, (_, height, width) = build_ann(bundle.analysis), pixels.shape
    if integer:
        model = to_onnx.integer_model(ann, height, width, _spans(bundle, ann, pixels))
    else:
        model = to_onnx.float_model(ann, height, width)
    return partial(onnx_restorer(model, threads), pixels)


def _litert(bundle: Bundle, integer: bool, pixels: Pixels, threads: int) -> Call:
    ann, (_, height, width) = build_ann(bundle.analysis), pixels.shape
    if integer:
        model = to_tflite.integer_model(ann, height, width, _spans(bundle, ann, pixels))
    else:
        model = to_tflite.float_model(ann, height, width)
    return partial(litert_restorer(model, threads), channels_together(pixels))


def _torch(bundle: Bundle, compile_it: bool, pixels: Pixels, threads: int) -> Call:
    torch = torch_with(threads)
    from export.bench.ann.to_torch import TorchAnn

    net = TorchAnn(build_ann(bundle.analysis)).eval()
    return (compiled if compile_it else in_inference)(torch, net, torch.from_numpy(pixels)[None])
