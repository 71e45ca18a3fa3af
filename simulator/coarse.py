"""A coarse path over the whole picture, for networks that must see all of it: haze is judged by the whole.

The picture is shrunk until a network's view covers it, restored there, and what the network did is carried over to the
full picture: around each coarse pixel a line J = a I + b through what came and what was restored, one slope for the
three colours and one offset for each, both interpolated (He, Sun, Tang, Guided Image Filtering, TPAMI 2013, and Fast
Guided Filter, 2015, with the picture as its own guide). Koschmieder's law is such a line with a = 1 / t, so haze loses
nothing by it, and a picture of any size costs the network what a small one does.

Integers throughout: whatever runs the network, in whatever tiles, and whatever machine does the rest, the bits are the
same. A bundle says in `network.coarse` that it is to be run so, and up to what side (simulator/BUNDLE.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from simulator.bundle import COARSE

Pixels = npt.NDArray[np.uint8]
Told = TypeVar("Told")
Integers = npt.NDArray[np.int64]

RADIUS = 2  # coarse pixels: the line is through the (2 RADIUS + 1)^2 around one
GRID = 8  # bits behind the point of slopes and offsets
STEEPEST = 8  # a slope has at most this; haze of a transmission below an eighth hides what was behind it
CALM = 4  # grey levels: where neighbours differ by less, the slope tends to 1
BAND = 64  # rows of the full picture at a time


def side_of(meta: Mapping[str, str]) -> int | None:
    """The longest side, in pixels, at which the network of a bundle with these metadata works; None for as it comes."""
    return int(meta[COARSE]) if COARSE in meta else None


def shrinking(pixels: Pixels, side: int) -> int:
    """The least whole number that a picture [H, W, C] must be shrunk by for no side to be longer than `side` pixels."""
    height, width = pixels.shape[:2]
    return -(-max(int(height), int(width)) // side)


def shrunk(pixels: Pixels, by: int) -> Pixels:
    """uint8 [H, W, C] -> [ceil(H / by), ceil(W / by), C]: means of by x by pixels, halves up.

    Where the last ones are cut by the border, its pixels are repeated.
    """
    if by == 1:
        return pixels
    sums: Integers = _sums(_sums(pixels, by, 0), by, 1)
    means: Integers = (2 * sums + by * by) // (2 * by * by)
    return means.astype(np.uint8)


def _sums(x: Pixels | Integers, by: int, axis: int) -> Integers:
    """Sums of `by` positions along an axis, the last repeated.

    What is repeated is not written out: a picture of one long row would have to be as high as a block.
    """
    length = x.shape[axis]
    sums: Integers = np.add.reduceat(x, np.arange(0, length, by), axis, dtype=np.int64)
    last = [slice(None)] * x.ndim
    last[axis] = slice(-1, None)
    sums[tuple(last)] += x[tuple(last)] * np.int64(-length % by)
    return sums


def _around(x: Integers) -> Integers:
    """Sums over the (2 RADIUS + 1)^2 positions around each of [H, W, C], the border repeated."""
    for axis in (0, 1):
        margins = [(0, 0)] * x.ndim
        margins[axis] = (RADIUS + 1, RADIUS)
        running = np.cumsum(np.pad(x, margins, mode="edge"), axis=axis)
        last = np.take(running, np.arange(2 * RADIUS + 1, running.shape[axis]), axis)
        x = last - np.take(running, np.arange(running.shape[axis] - 2 * RADIUS - 1), axis)
    return x


def _lines(came: Pixels, restored: Pixels) -> tuple[Integers, Integers]:
    """Slopes [h, w, 1] and offsets [h, w, 3] on the grid 2^-GRID of the lines around each pixel, smoothed."""
    n = (2 * RADIUS + 1) ** 2
    x, y = came.astype(np.int64), restored.astype(np.int64)
    sum_x, sum_y = _around(x), _around(y)
    calm = 3 * (n * CALM) ** 2
    variance = (n * _around(x * x) - sum_x**2).sum(2, keepdims=True) + calm
    covariance = (n * _around(x * y) - sum_x * sum_y).sum(2, keepdims=True) + calm
    slope = np.clip((covariance << GRID) // variance, 0, STEEPEST << GRID)
    offset = ((sum_y << GRID) - slope * sum_x) // n
    return (_around(slope) + n // 2) // n, (_around(offset) + n // 2) // n


def _between(x: Integers, by: int, axis: int, start: int, stop: int) -> Integers:
    """Positions `start` to `stop` of the full picture along an axis, interpolated linearly, times 2 by."""
    at = 2 * np.arange(start, stop) + 1 - by
    lower = at // (2 * by)
    weight = (at - lower * 2 * by).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    most = x.shape[axis] - 1
    first, second = (np.take(x, np.clip(lower + more, 0, most), axis) for more in (0, 1))
    return first * (2 * by - weight) + second * weight


def carried_over(pixels: Pixels, came: Pixels, restored: Pixels, by: int) -> Pixels:
    """The full picture [H, W, 3] with what turned `came`, which is `pixels` shrunk by `by`, into `restored`."""
    if by == 1:
        return restored
    height, width = pixels.shape[:2]
    slope, offset = (_between(x, by, 1, 0, width) for x in _lines(came, restored))
    result = np.empty_like(pixels)
    scale = (2 * by) ** 2 << GRID
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        a, b = (_between(x, by, 0, top, bottom) for x in (slope, offset))
        result[top:bottom] = np.clip((a * pixels[top:bottom] + b + scale // 2) // scale, 0, 255)
    return result


def seen(meta: Mapping[str, str], pixels: Pixels) -> tuple[Pixels, int]:
    """What the network of a bundle with these metadata sees of a picture uint8 [H, W, C]; by how much it is shrunk."""
    side = side_of(meta)
    by = 1 if side is None else shrinking(pixels, side)
    return shrunk(pixels, by), by


def restore(
    meta: Mapping[str, str], pixels: Pixels, run: Callable[[Pixels], tuple[Pixels, Told]]
) -> tuple[Pixels, Told]:
    """A picture uint8 [H, W, 3] restored as a bundle with these metadata wants it, and what `run` told beside it.

    run: restores a picture by the network alone: (restored, anything else that is to be passed on).
    """
    came, by = seen(meta, pixels)
    restored, told = run(came)
    return carried_over(pixels, came, restored, by), told
