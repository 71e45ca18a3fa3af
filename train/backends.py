"""What can compute a bundle's network on this machine, by name: one table for `train.evaluate` and `export.compare`.

`export` adds what it writes other formats with; the integer backends are the simulator's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.analysis import Analysis, Tensors
from simulator.bundle import Bundle
from simulator.graph import IMAGE_GRID, Node
from simulator.network import Backend, Network
from simulator.trace import Trace, digest
from train.student import Student

Picture = npt.NDArray[np.uint8]
Observer = Callable[[str, npt.NDArray[Any]], None]


class BackendError(ValueError):
    """A backend that cannot be used here, or not for this; the message is a sentence for the person at the keyboard."""


@dataclass(frozen=True)
class Restorer:
    """One backend with one network.

    run: (restored uint8, total spike rate or None) of a whole picture [H, W, 3], uint8 RGB, or int16 in the same units
    and not clipped; raises BackendError for int16 where only 8 bits are taken.
    trace: a hash of every node's values on a uint8 picture; raises BackendError where a backend shows none.
    """

    name: str
    run: Callable[[npt.NDArray[Any]], tuple[Picture, float | None]]
    trace: Callable[[Picture], Trace]

    def restore(self, image: npt.NDArray[Any]) -> Picture:
        """The restored picture alone."""
        return self.run(image)[0]


class TorchBackend:
    """The student in PyTorch (CPU, float32, batch 1); the interface of `simulator.reference.Reference`, but for maps.

    Its threads are PyTorch's own (`torch.set_num_threads`).
    """

    name = "torch"

    def __init__(self, analysis: Analysis, tensors: Tensors, threads: int | None = None):
        self.analysis = analysis
        self.student = _Observed(analysis.graph)
        self.student.thaw(tensors)
        self.student.rounded = True

    def run_padded(
        self, pixels: npt.NDArray[np.int16], observe: Observer | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, npt.NDArray[np.int32]]]:
        """Restore int16 [3, H, W] (u8 - 128); `observe(name, value)` sees every node's integers, [T or 1, C, h, w].

        Spikes per position are counted by the integer backends; the dictionary that they return is empty here.
        """
        first, *_, last = self.analysis.graph.nodes
        if observe:
            observe(first.name, pixels[None].astype(np.int64))
        self.student.observe = observe
        with torch.no_grad():
            restored = self.student.restore(torch.from_numpy(pixels.astype(np.float32))[None] * 2.0**-IMAGE_GRID)[0]
        self.student.observe = None
        if observe:
            observe(last.name, restored.numpy().astype(np.int64)[None])
        return restored.contiguous().numpy(), {}


class _Observed(Student):
    """A student that shows each node's output while it evaluates one image."""

    observe: Observer | None = None

    def _show(self, node: Node, value: Tensor) -> Tensor:
        if self.observe is not None:
            units = value.double().numpy() * 2.0 ** self.analysis.values[node.name].q
            if self.analysis.values[node.name].window:  # k spikes are those of the first k steps
                units = np.greater(units, np.arange(self.graph.time_steps)[:, None, None, None]).astype(np.int64)
            self.observe(node.name, np.rint(units).astype(np.int64))
        return value

    def evaluate_node(self, node: Node, inputs: list[Tensor]) -> Tensor:
        return self._show(node, super().evaluate_node(node, inputs))

    def fire(self, node: Node, current: Tensor) -> tuple[Tensor, Tensor]:
        spikes, count = super().fire(node, current)
        return self._show(node, spikes), count


def whole_pictures(name: str, backend: Backend, analysis: Analysis, eight_bits: bool = False) -> Restorer:
    """A restorer of whole pictures from a backend that takes padded ones. eight_bits: it takes no others."""

    def padded(image: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
        if eight_bits and image.dtype != np.uint8:
            raise BackendError(f"The {name} backend takes 8-bit pixels: the unclipped protocol cannot be run on it.")
        rows, columns = analysis.padded(*image.shape[:2])
        missing = ((0, rows - image.shape[0]), (0, columns - image.shape[1]), (0, 0))
        return np.pad(image, missing, mode="edge").transpose(2, 0, 1).astype(np.int16) - np.int16(128)

    def run(image: npt.NDArray[Any]) -> tuple[Picture, float | None]:
        restored, _ = backend.run_padded(padded(image))
        return np.ascontiguousarray(restored[:, : image.shape[0], : image.shape[1]].transpose(1, 2, 0)), None

    def trace(image: Picture) -> Trace:
        found: Trace = {}
        backend.run_padded(padded(image), lambda layer, value: found.__setitem__(layer, digest(value)))
        return found

    return Restorer(name, run, trace)


def _simulated(name: str) -> Callable[[Bundle, int | None], Restorer]:
    """One of the simulator's backends; its spikes are counted."""

    def open_(bundle: Bundle, threads: int | None) -> Restorer:
        network = Network(bundle, name, threads)

        def run(image: npt.NDArray[Any]) -> tuple[Picture, float | None]:
            result = network.run(image) if image.dtype == np.uint8 else network.run_unclipped(image)
            return result.image, result.stats.spike_rate

        return Restorer(name, run, network.trace)

    return open_


def _torch(bundle: Bundle, threads: int | None) -> Restorer:
    backend = TorchBackend(bundle.analysis, bundle.tensors, threads)
    return whole_pictures(backend.name, backend, bundle.analysis)


# (bundle, threads) -> restorer; threads: at most so many, None leaves it to the backend.
BACKENDS: dict[str, Callable[[Bundle, int | None], Restorer]] = {
    "numba": _simulated("numba"),
    "reference": _simulated("reference"),
    "torch": _torch,
}


def onnx_session(file: Path, threads: int | None, *, what: str, absent: str) -> Any:
    """`file` opened by ONNX Runtime on the CPU. threads: None for as many as it likes.

    Raises BackendError: `what` needs a package that is missing, `absent` if there is no such file, or what the runtime
    says of it.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendError(f"{what} needs a package that is missing ({error.name}): install .[export].") from error
    if not file.is_file():
        raise BackendError(absent)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises kinds of its own
        raise BackendError(f"{file} is not a model that ONNX Runtime opens: {error}.") from error


def onnx_file(file: Path, bundle: Bundle, threads: int | None) -> Restorer:
    """The ONNX file that `python -m export.onnx` wrote of this bundle, in ONNX Runtime on the CPU.

    Raises BackendError if it is not there or of another bundle, or if the package is missing.
    """
    session = onnx_session(
        file,
        threads,
        what="The onnx backend",
        absent=f"The onnx backend runs {file}; write it with `python -m export.onnx BUNDLE --out {file}`.",
    )
    if session.get_modelmeta().custom_metadata_map.get("bundle.content_hash") != bundle.content_hash:
        raise BackendError(f"{file} was not written of this bundle; write it anew with `python -m export.onnx`.")

    def run(image: npt.NDArray[Any]) -> tuple[Picture, float | None]:
        if image.dtype != np.uint8:
            raise BackendError("The onnx backend takes 8-bit pixels: the unclipped protocol cannot be run on it.")
        restored = session.run(["restored"], {"image": image.transpose(2, 0, 1)[None]})[0]
        return np.ascontiguousarray(restored[0].transpose(1, 2, 0)), None

    def trace(image: Picture) -> Trace:
        raise BackendError(f"{file} shows no layer's values; python -m export.compare traces the onnx backend.")

    return Restorer("onnx", run, trace)
