"""Who computes the same spiking network, all T steps of it."""

from __future__ import annotations

import logging
import os
import shutil
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from export.bench.runtimes import RUNTIMES
from export.bench.timing import Call, Contender
from simulator.bundle import Bundle
from simulator.pictures import Pixels
from simulator.reference import Reference

REFERENCE_LIMIT = 128  # side of the largest picture, pixels, that the reference is asked for
FRAMEWORKS = ("SpikingJelly", "snnTorch", "Norse", "sinabs")


def contenders(bundle: Bundle) -> list[Contender]:
    """The engine first. SNN frameworks leave out the floor of the leak (`frameworks.py`)."""
    found = [
        Contender("engine", "event-driven engine", "spiking", partial(_engine, bundle), exact=True),
        Contender("reference", "NumPy reference", "spiking", partial(_reference, bundle), True, REFERENCE_LIMIT),
        *(runtime.contender(bundle) for runtime in RUNTIMES),
        Contender("torch", "PyTorch, fused neurons (train)", "spiking", partial(_student, bundle), exact=True),
        Contender(
            "torch-compiled", "PyTorch, torch.compile", "spiking", partial(_framework, bundle, "PyTorch", True), True
        ),
    ]
    for framework in FRAMEWORKS:
        prepare = partial(_framework, bundle, framework, False)
        found.append(Contender(framework.lower(), framework, "spiking", prepare))
    return found


def signed(pixels: Pixels) -> npt.NDArray[np.int16]:
    """What the integer backends take: grey level - 128."""
    return pixels.astype(np.int16) - np.int16(128)


def _engine(bundle: Bundle, pixels: Pixels, threads: int) -> Call:
    from simulator.engine import Engine  # brings Numba, which other contenders' memory does not include

    engine = Engine(bundle.analysis, bundle.tensors, threads)
    return lambda: engine.run_padded(signed(pixels))[0]


def _reference(bundle: Bundle, pixels: Pixels, threads: int) -> Call:
    reference = Reference(bundle.analysis, bundle.tensors, threads)
    return lambda: reference.run_padded(signed(pixels))[0]


def torch_with(threads: int) -> Any:
    """PyTorch with so many threads; ImportError, a sentence, where it is missing."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch is not installed; `pip install 'spikerir-edge[train]'` brings it.") from error
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # that there is no GPU compiler is no news
    torch.set_num_threads(threads)
    return torch


def compiled(torch: Any, function: Any, tensor: Any) -> Call:
    """`torch.compile` for one size, weights frozen. ValueError, a sentence, where there is no C++ compiler."""
    import torch._dynamo.config as dynamo
    import torch._inductor.config as inductor

    if not any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name):
        raise ValueError("torch.compile needs a C++ compiler and finds none; `apt-get install g++` brings one.")
    inductor.freezing = True
    dynamo.recompile_limit = 1000  # every size and number of threads is compiled for itself
    call = in_inference(torch, torch.compile(function, dynamic=False), tensor)
    call()
    return call


def in_inference(torch: Any, function: Any, tensor: Any) -> Call:
    """A call without gradients that returns the picture [3, H, W]."""

    def call() -> Pixels:
        with torch.inference_mode():
            restored: Pixels = function(tensor)[0].numpy()
        return restored

    return call


def _real(torch: Any, pixels: Pixels) -> Any:
    """float32 [1, 3, H, W], (u8 - 128) / 128; made once, as a framework's loader would."""
    return torch.from_numpy(signed(pixels).astype(np.float32) / 128)[None]


def _student(bundle: Bundle, pixels: Pixels, threads: int) -> Call:
    torch = torch_with(threads)
    from train.student import Student

    student = Student(bundle.graph)
    student.thaw(bundle.tensors)
    student.rounded = True
    return in_inference(torch, student.restore, _real(torch, pixels))


def _framework(bundle: Bundle, framework: str, compile_it: bool, pixels: Pixels, threads: int) -> Call:
    torch = torch_with(threads)
    from export.bench.frameworks import FrameworkNet

    net = FrameworkNet(bundle.graph, bundle.tensors, framework).eval()
    return (compiled if compile_it else in_inference)(torch, net.restore, _real(torch, pixels))
