"""Others that a table can hold beside this project's networks: `--peer` of `python -m train.evaluate`.

  nlm          OpenCV's non-local means (`fastNlMeansDenoisingColored`, windows of 7 and 21 pixels), told the noise's
               sigma: h = hColor = 0.6 sigma. On ten training images of BSDS500 with sigma 5, 10, 15, 25 and 50 the best
               whole h were 3, 6, 9, 15 and 27, and the same for colour no worse than 0.5 to 2.5 times as much. Where
               the level is unknown, as with cameras, h = 4.
  bm3d         the package of that name (its authors' own code), told sigma; sets without a known level are left out
  FILE[:NAME]  an ONNX file in ONNX Runtime on the CPU

An ONNX file takes one picture [1, 3, H, W] or [1, H, W, 3], RGB, float32 (0 to 1) or uint8, and returns one of the same
layout, float32 (0 to 1, clipped and rounded here) or uint8. It may take a second float32 input of a single number: the
noise's sigma by 255, and is then run where that is known. Sides may be free, or fixed to those of every picture that it
is given. Pictures are padded to multiples of 16 pixels by repeating the last row and column, and cut again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simulator.statistics import BITS_32
from train.backends import BackendError, onnx_session
from train.operations import counts

Picture = np.ndarray  # uint8 RGB [H, W, 3]
PER_SIGMA = 0.6  # h of the non-local means by sigma
CAMERA_H = 4.0  # and where sigma is not known
MULTIPLE = 16  # pixels, of the sides that an ONNX file sees


@dataclass(frozen=True)
class Peer:
    """restore: (picture uint8 [H, W, 3], sigma in 8-bit levels or None where it is not known) -> restored.

    tasks: whose sets it takes part in; empty: all that a network is scored on. told: it needs sigma. parameters: how
    many it has; None where that means nothing. energy_uj: of a picture of that height and width, estimated; or None.
    Raises BackendError, a sentence, from `restore` where it cannot take a picture.
    """

    name: str
    backend: str
    restore: Callable[[Picture, float | None], Picture]
    tasks: tuple[str, ...] = ()
    told: bool = False
    parameters: int | None = None
    energy_uj: Callable[[int, int], float | None] = lambda height, width: None


def open_peer(word: str, threads: int | None = None) -> Peer:
    """A peer by what --peer says. Raises BackendError, a sentence, for what cannot be used."""
    if word == "nlm":
        return Peer("non-local means", "OpenCV", non_local_means, ("denoise",))
    if word == "bm3d":
        return _bm3d()
    file, name = _file_and_name(word)
    return _onnx(file, name, threads)


def non_local_means(image: Picture, sigma: float | None) -> Picture:
    h = CAMERA_H if sigma is None else PER_SIGMA * sigma
    if h == 0:
        return image
    restored = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(image[..., ::-1]), None, h, h, 7, 21)
    return np.ascontiguousarray(restored[..., ::-1])


def _bm3d() -> Peer:
    try:
        import bm3d
    except (ImportError, OSError) as error:  # its compiled part may not load
        raise BackendError(
            f"BM3D is left out: its package cannot be imported ({error}); pip install 'spikerir-edge[bm3d]' brings it."
        ) from error

    def restore(image: Picture, sigma: float | None) -> Picture:
        if not sigma:
            return image
        return _pixels(bm3d.bm3d_rgb(image / 255.0, sigma / 255.0))

    return Peer("BM3D", "bm3d", restore, ("denoise",), told=True)


def _pixels(values: np.ndarray) -> Picture:
    """0..1 as 8 bits."""
    restored: Picture = np.clip(np.rint(np.asarray(values, np.float64) * 255), 0, 255).astype(np.uint8)
    return restored


def _file_and_name(word: str) -> tuple[Path, str]:
    """FILE or FILE:NAME; a file of the whole name comes first, so a colon in its own name does no harm."""
    file, colon, name = word.rpartition(":")
    if colon and file and name and not Path(word).is_file():
        return Path(file), name
    return Path(word), Path(word).stem


def _onnx(file: Path, name: str, threads: int | None) -> Peer:
    absent = f"--peer {file}: there is no such file; expected nlm, bm3d, or an ONNX file as FILE[:NAME]."
    session = onnx_session(file, threads, what=f"--peer {file}", absent=absent)
    picture, level = _inputs(file, session.get_inputs())
    (target, *more) = session.get_outputs()
    planes = _planes(picture.shape)
    if more or planes is None or _planes(target.shape) != planes or target.type not in TYPES:
        raise _refused(file, [*session.get_inputs(), target, *more])

    def restore(image: Picture, sigma: float | None) -> Picture:
        height, width = image.shape[:2]
        rows, columns = -height % MULTIPLE, -width % MULTIPLE
        padded = np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge")
        seen = padded if _fits(picture.shape, planes, padded) else image
        if not _fits(picture.shape, planes, seen):
            raise BackendError(f"{file} takes pictures of {picture.shape}, not of {height}x{width} pixels.")
        values = np.ascontiguousarray(seen.transpose(2, 0, 1) if planes else seen)[None]
        feed = {picture.name: values if picture.type == TYPES[1] else values.astype(np.float32) / np.float32(255)}
        if level is not None:
            feed[level.name] = np.full([1] * len(level.shape), (sigma or 0.0) / 255, np.float32)
        found = session.run(None, feed)[0][0]
        found = found.transpose(1, 2, 0) if planes else found
        if found.shape[0] < height or found.shape[1] < width:
            raise BackendError(f"{file} returned {list(found.shape)} for {list(seen.shape)}; expected the same size.")
        found = found if found.dtype == np.uint8 else _pixels(found)
        return np.ascontiguousarray(found[:height, :width])

    parameters, macs = counts(file)

    def energy(height: int, width: int) -> float | None:
        found = macs(picture.name, height + -height % MULTIPLE, width + -width % MULTIPLE)
        return None if found is None else found * BITS_32.mac_pj * 1e-6

    return Peer(
        name, "ONNX Runtime", restore, told=level is not None, parameters=parameters, energy_uj=energy
    )  # fmt: skip


TYPES = ("tensor(float)", "tensor(uint8)")


def _planes(shape: list[Any]) -> bool | None:
    """Whether a picture has its channels first ([1, 3, H, W]); None if that shape is of no picture."""
    if len(shape) != 4 or (isinstance(shape[0], int) and shape[0] != 1):
        return None
    return True if shape[1] == 3 else False if shape[3] == 3 else None


def _fits(shape: list[Any], planes: bool, image: Picture) -> bool:
    sides = shape[2:] if planes else shape[1:3]
    return all(not isinstance(side, int) or side == own for side, own in zip(sides, image.shape, strict=False))


def _inputs(file: Path, inputs: list[Any]) -> tuple[Any, Any]:
    """(the picture's, the noise level's or None)."""
    pictures = [one for one in inputs if _planes(one.shape) is not None and one.type in TYPES]
    others = [one for one in inputs if one not in pictures]
    numbers = [one for one in others if one.type == TYPES[0] and all(side == 1 for side in one.shape)]
    if len(pictures) != 1 or len(others) > 1 or numbers != others:
        raise _refused(file, inputs)
    return pictures[0], numbers[0] if numbers else None


def _refused(file: Path, ends: list[Any]) -> BackendError:
    told = ", ".join(f"{one.name} {one.type[7:-1]} {list(one.shape)}" for one in ends)
    return BackendError(
        f"{file} has {told}; expected one picture [1, 3, H, W] or [1, H, W, 3] of float (0 to 1) or uint8 in and out, "
        "and at most one float number beside it ([1], [1, 1, 1, 1]), the noise's sigma by 255."
    )
