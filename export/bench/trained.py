"""Who is compared at equal quality: spiking bundles, and trained ANNs in float32 and in 8 bits.

The 8-bit ANNs are made by post-training static quantisation: uint8 or int8 activations with one scale per tensor,
weights with one scale per output channel. Scales come from calibration pictures, 128x128 pixels from the middle of
each, with noise of the three levels that the test uses; they cover all values that appear there, or 99.99 or 99.9 % of
them, whichever restores those pictures best. The test set has no part in that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.bench import dense
from export.bench.ann import Ann, ranges, to_onnx, to_tflite
from export.bench.ann.quantised import at_size, quantised_model
from export.bench.spiking import signed
from export.files import ExportError
from simulator.bundle import Bundle, read_bundle
from simulator.pictures import Pixels
from train.data import DataError, add_noise, image_paths, load_image
from train.metrics import psnr
from train.tasks import TASKS, removes_noise

Restore = Callable[[Pixels], Pixels]  # uint8 [3, H, W] in and out

SIGMAS = TASKS["denoise"].noise_levels
SHARES = (1.0, 0.9999, 0.999)  # of an activation's values that its 8 bits may cover
CROP = 128  # side of a calibration picture, pixels
CALIBRATION_PICTURES = 12
CALIBRATION_SEED = 1000  # of their noise; the test's noise has another


@dataclass(frozen=True)
class Trained:
    """One network in one runtime.

    name: of the bundle or run. network: "spiking" or "ann". bits: 8 or 32, of an ANN's numbers; 0 for spikes.
    stride: the picture's sides are multiples of it. build: from height, width and threads to what restores pictures
    of that size. about: how it was calibrated, if it was.
    """

    name: str
    runtime: str
    network: str
    bits: int
    parameters: int
    stride: int
    build: Callable[[int, int, int], Restore]
    content: str = ""
    about: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.runtime}"


@dataclass(frozen=True)
class Calibration:
    """Pictures that scales are chosen by, all of one size: degraded [3, H, W] and clean [H, W, 3], uint8."""

    degraded: Sequence[Pixels]
    clean: Sequence[Any]

    def score(self, restore: Restore) -> float:
        """Mean PSNR in dB of what comes back."""
        return float(np.mean([psnr(_image(restore(x)), y) for x, y in zip(self.degraded, self.clean, strict=True)]))


def calibration(folder: Path, stride: int) -> Calibration:
    """The first pictures of a folder that are large enough; DataError if there are none."""
    side = -(-CROP // stride) * stride
    degraded, clean = [], []
    for index, image in enumerate(_large_enough(folder, side)):
        top, left = ((length - side) // 2 for length in image.shape[:2])
        crop = image[top : top + side, left : left + side]
        for sigma in SIGMAS:
            degraded.append(_planes(add_noise(crop, sigma, CALIBRATION_SEED, True, index)))
            clean.append(crop)
    if not clean:
        raise DataError(f"No picture in {folder} has {side}x{side} pixels, which activations are calibrated with.")
    return Calibration(degraded, clean)


def _large_enough(folder: Path, side: int) -> Iterator[Any]:
    found = 0
    for path in image_paths(folder):
        image = load_image(path)
        if min(image.shape[:2]) >= side:
            yield image
            found += 1
        if found == CALIBRATION_PICTURES:
            return


def _planes(image: Any) -> Pixels:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def _image(pixels: Pixels) -> Any:
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def spiking(path: Path) -> Trained:
    """A bundle in the event-driven engine; BundleError, or ValueError for one that does not remove noise."""
    bundle = read_bundle(path)
    if not removes_noise(bundle.task):
        raise ValueError(f"{path} was trained to {bundle.task}; the comparison is of networks that remove noise.")

    def build(height: int, width: int, threads: int) -> Restore:
        return _engine(bundle, threads)

    return Trained(
        path.stem, "event-driven engine", "spiking", 0, bundle.analysis.parameters, bundle.analysis.stride, build,
        bundle.content_hash,
    )  # fmt: skip


def _engine(bundle: Bundle, threads: int) -> Restore:
    from simulator.engine import Engine

    engine = Engine(bundle.analysis, bundle.tensors, threads)

    def restore(pixels: Pixels) -> Pixels:
        restored: Pixels = engine.run_padded(signed(pixels))[0]
        return restored

    return restore


def anns(ann: Ann, name: str, folder: Path, missing: dict[str, str]) -> list[Trained]:
    """A trained ANN in every runtime, calibrated with the folder's pictures where it is in 8 bits.

    missing: takes why a runtime is not there, by its label. Raises DataError for a folder without usable pictures.
    """
    pictures = calibration(folder, ann.stride)
    parameters = sum(array.size for array in ann.weights.values())
    found = []
    for runtime, bits, make in RUNTIMES:
        try:
            build, about = make(ann, pictures)
        except (ImportError, ExportError) as error:
            missing[f"{name}, {runtime}"] = str(error)
            continue
        found.append(Trained(name, runtime, "ann", bits, parameters, ann.stride, build, about=about))
    return found


Build = Callable[[int, int, int], Restore]
Made = tuple[Build, str]


def _onnx_float(ann: Ann, pictures: Calibration) -> Made:
    return lambda h, w, threads: dense.onnx_restorer(to_onnx.float_model(ann, h, w), threads), ""


def _litert_float(ann: Ann, pictures: Calibration) -> Made:
    return lambda h, w, threads: dense.litert_restorer(to_tflite.float_model(ann, h, w), threads), ""


def _onnx_static(ann: Ann, pictures: Calibration) -> Made:
    def built(share: float) -> Build:
        model = quantised_model(ann, pictures.degraded, share)
        return lambda h, w, threads: dense.onnx_restorer(at_size(model, h, w), threads)

    return best(built, pictures)


def _onnx_direct(ann: Ann, pictures: Calibration) -> Made:
    def built(share: float) -> Build:
        spans = ranges(ann, *pictures.degraded, share=share)
        return lambda h, w, threads: dense.onnx_restorer(to_onnx.integer_model(ann, h, w, spans), threads)

    return best(built, pictures)


def _litert_int8(ann: Ann, pictures: Calibration) -> Made:
    def built(share: float) -> Build:
        spans = ranges(ann, *pictures.degraded, share=share)
        return lambda h, w, threads: dense.litert_restorer(to_tflite.integer_model(ann, h, w, spans), threads)

    return best(built, pictures)


def best(built: Callable[[float], Build], pictures: Calibration) -> Made:
    """Of the shares that 8 bits may cover the one that restores the calibration pictures best."""
    _, height, width = pictures.degraded[0].shape
    found = {share: built(share) for share in SHARES}
    scores = {share: pictures.score(build(height, width, 1)) for share, build in found.items()}
    chosen = max(scores, key=lambda share: scores[share])
    return found[chosen], f"scales cover {100 * chosen:g} % of the calibration pictures' values"


RUNTIMES: Sequence[tuple[str, int, Callable[[Ann, Calibration], Made]]] = (
    ("ONNX Runtime float32", 32, _onnx_float),
    ("LiteRT float32", 32, _litert_float),
    ("ONNX Runtime int8, quantize_static", 8, _onnx_static),
    ("ONNX Runtime int8, integer operators", 8, _onnx_direct),
    ("LiteRT int8", 8, _litert_int8),
)


def padded(pixels: Pixels, stride: int) -> Pixels:
    """Repeats the last row and column until both sides are multiples of the stride, as the device does."""
    rows, columns = (-side % stride for side in pixels.shape[1:])
    return np.pad(pixels, ((0, 0), (0, rows), (0, columns)), mode="edge")


def quality(
    one: Trained, images: Sequence[Any], seed: int, threads: int, progress: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Mean PSNR in dB by noise level, as `train.evaluate` measures it by its clipped protocol.

    images: clean, uint8 RGB [H, W, 3].
    """
    built: dict[tuple[int, int], Restore] = {}
    scores: dict[str, list[float]] = {f"{sigma:g}": [] for sigma in SIGMAS}
    for index, clean in enumerate(images):
        height, width = clean.shape[:2]
        for sigma in SIGMAS:
            pixels = padded(_planes(add_noise(clean, sigma, seed, True, index)), one.stride)
            size = (pixels.shape[1], pixels.shape[2])
            if size not in built:
                built[size] = one.build(*size, threads)
            restored = built[size](pixels)[:, :height, :width]
            scores[f"{sigma:g}"].append(psnr(_image(restored), clean))
        progress()
    return {sigma: float(np.mean(values)) for sigma, values in scores.items()}
