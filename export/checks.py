"""How an exporter checks what it was asked for and what it has made."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from export.files import ExportError
from simulator.analysis import Analysis, Tensors
from simulator.coarse import side_of
from simulator.reference import Reference

LONGEST_SIDE = 1 << 14  # pixels
CHECKED = (45, 61)  # height and width of the picture with which models of any size are checked, at most


def size_of(text: str, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """An argument HEIGHTxWIDTH, pixels; argparse.ArgumentTypeError, a sentence, for anything else."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    size = tuple(map(int, match.groups())) if match else (0, 0)
    if not all(1 <= side <= longest for side in size):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: give height and width in pixels, as 256x384, up to {longest} each"
        )
    return size[0], size[1]


def check_size(analysis: Analysis, height: int, width: int) -> None:
    """Raises ExportError for a size that a model without padding cannot have."""
    rows, columns = analysis.padded(height, width)
    if (rows, columns) != (height, width):
        raise ExportError(
            f"A model for {height}x{width} pixels would need padding: height and width must be multiples of "
            f"{analysis.stride}; give {rows}x{columns}, and repeat the last row and column of the pictures."
        )


def coarse_note(meta: Mapping[str, str]) -> str | None:
    """What a model leaves to its user if the bundle with these metadata has a coarse path; None if it has none."""
    side = side_of(meta)
    if side is None:
        return None
    return (
        f"The model is the network alone: the device shrinks pictures to {side} pixels at most and carries over what"
        " the network did (simulator/coarse.py); on larger ones the model gives something else."
    )


def check_image(height: int = CHECKED[0], width: int = CHECKED[1]) -> npt.NDArray[np.uint8]:
    """A small odd-sized picture with edges, slopes and noise, uint8 RGB [H, W, 3], always the same."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([4 * x, 5 * y, 128 + 60 * np.sin(x / 5) * np.cos(y / 7)], 2)
    slopes[(x // 9 + y // 13) % 3 == 0] += 70
    noise = np.random.Generator(np.random.PCG64(0)).integers(-45, 46, slopes.shape)
    return np.clip(slopes + noise, 0, 255).astype(np.uint8)


def checked_size(analysis: Analysis, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width at which a model for pictures of that size, or of any, is checked: small, because the reference
    is slow, and multiples of the stride."""
    height, width = analysis.padded(*CHECKED)
    return (height, width) if size is None else (min(height, size[0]), min(width, size[1]))


def differing_pixels(
    restore: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]], analysis: Analysis, tensors: Tensors,
    size: tuple[int, int],
) -> int:  # fmt: skip
    """In how many pixels of a picture of that size what `restore` makes of it is not the reference's.

    restore: uint8 [3, H, W] -> the same.
    """
    height, width = size
    rows, columns = analysis.padded(height, width)
    pixels = np.ascontiguousarray(check_image(height, width).transpose(2, 0, 1))
    padded = np.pad(pixels, ((0, 0), (0, rows - height), (0, columns - width)), mode="edge")
    expected, _ = Reference(analysis, tensors).run_padded(padded.astype(np.int16) - 128)
    return int((restore(pixels) != expected[:, :height, :width]).any(0).sum())
