"""What the degradations share: 8 bits and linear light, smooth random fields, depth that follows a picture's edges."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]
# (clean, what is random, height of the whole photograph that `clean` is a part of, None if it is whole) -> degraded.
Degradation = Callable[[Picture, np.random.Generator, float | None], Picture]

GAMMA = 2.2
FIELD_CELLS = 4  # a field has so many cells along the longer side


def rounded(values: Field) -> Picture:
    """To 8 bits: nearest, clipped."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_LINEAR = (np.arange(256) / 255.0) ** GAMMA


def to_linear(picture: Picture) -> Field:
    """Linear light 0..1, float64 of the picture's shape."""
    return _LINEAR[picture]


def from_linear(light: Field) -> Picture:
    """The inverse of `to_linear`, rounded to 8 bits."""
    return rounded(255.0 * np.clip(light, 0, 1) ** (1 / GAMMA))


Light = npt.NDArray[np.float32]  # linear light, [H, W, 3]

FEW = 0.02  # share of a picture
_FINE = 8191  # steps of the square root of light that `shown` tells apart
_SHOWN = np.rint(255.0 * (np.arange(_FINE + 1) / _FINE) ** (2 / GAMMA)).astype(np.uint8)


def quick_light(picture: Picture, glare: float = 0.0) -> Light:
    """`to_linear` in float32, for training. glare: light beyond 1 that the brightest level stands for where few pixels
    have it: lamps and what glitters, not snow."""
    table = _LINEAR.astype(np.float32)
    if glare and (picture == 255).mean() < FEW:
        table[255] += np.float32(glare)
    return np.asarray(table[picture])


def shown(light: Light) -> Picture:
    """The inverse of `quick_light`, from a table."""
    return np.asarray(_SHOWN[(np.sqrt(np.clip(light, 0, 1)) * np.float32(_FINE) + np.float32(0.5)).astype(np.int32)])


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator, extent: float | None = None) -> Field:
    """A field of about 0..1 (cubic interpolation of uniform noise on a coarse grid).

    extent: longer side of the picture that the field would cover, if `shape` is that of a part of it, pixels.
    """
    height, width = shape[:2]
    cell = max(extent or 0, height, width, 64) / FIELD_CELLS
    coarse = rng.uniform(size=(int(height / cell) + 4, int(width / cell) + 4))
    shift = rng.uniform(1, 2, size=2)
    ys, xs = np.arange(height) / cell + shift[0], np.arange(width) / cell + shift[1]
    return _cubic(len(coarse), ys) @ coarse @ _cubic(coarse.shape[1], xs).T


def _cubic(count: int, places: Field) -> Field:
    """Weights [len(places), count] of a cubic B-spline: positive, so nothing overshoots."""
    distance = np.abs(places[:, None] - np.arange(count))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)


def follow_edges(field: Field, picture: Picture, radius: int = 12, smoothing: float = 1e-3) -> Field:
    """The field bent to the picture's edges by a guided filter (He, Sun, Tang, 2010) on the grey picture."""
    guide = picture.mean(2) / 255.0
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(x: Field) -> Field:
        return np.asarray(cv2.boxFilter(x, cv2.CV_64F, size, borderType=cv2.BORDER_REFLECT), np.float64)

    # The guide moves the field a little wherever it changes: objects are not where the smooth field says.
    field = field + 0.25 * (guide - mean(guide))
    guide_mean, field_mean = mean(guide), mean(field)
    slope = (mean(guide * field) - guide_mean * field_mean) / (mean(guide**2) - guide_mean**2 + smoothing)
    bent: Field = mean(slope) * guide + mean(field_mean - slope * guide_mean)
    return bent


def depth_field(picture: Picture, rng: np.random.Generator, extent: float) -> Field:
    """A depth of about 0..1 that rises upwards, with smooth variations, bent to the picture's edges.

    extent: rows over which the ramp rises by one: the height of the whole photograph where `picture` is a part of it.
    """
    height = len(picture)
    horizon = rng.uniform(0, max(0.0, extent - height))
    ramp = 1 - (np.arange(height) + horizon) / extent
    share = rng.uniform(0.3, 0.8)
    field = share * ramp[:, None] + (1 - share) * smooth_field(picture.shape, rng)
    return np.clip(follow_edges(field, picture), 0, 1)
