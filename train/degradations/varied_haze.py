"""dehaze, for training: from a breath of haze to dense fog, over depths of several kinds, the sky far away.

Koschmieder's I = J t + A (1 - t) with t = exp(-beta d), as everywhere (Narasimhan and Nayar, Vision and the Atmosphere,
IJCV 2002); A and beta cover RESIDE's outdoor set (Li et al., TIP 2019: 0.8 to 1, beta 0.04 to 0.2 per unit of depth)
and more. Photographs without depths get one that is drawn: what lies higher is farther, haze drifts, objects are steps,
and what is bright and without texture may be sky, which is farthest of all.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from train.degradations.pictures import Picture, log_uniform, smooth_field

Plane = npt.NDArray[np.float32]  # [H, W]

OPTICAL = (0.08, 3.5)  # beta d of what is farthest
AIRLIGHT = (0.65, 1.0)


def _mean(x: Plane, radius: int) -> Plane:
    size = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.boxFilter(x, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT), np.float32)


def _bent(field: Plane, guide: Plane, radius: int, smoothing: float) -> Plane:
    """The field bent to the guide's edges (guided filter; He, Sun, Tang, 2010)."""
    guide_mean, field_mean = _mean(guide, radius), _mean(field, radius)
    variance = _mean(guide * guide, radius) - guide_mean * guide_mean
    covariance = _mean(guide * field, radius) - guide_mean * field_mean
    slope = np.asarray(covariance / (variance + smoothing), np.float32)
    bent: Plane = _mean(slope, radius) * guide + _mean(field_mean - slope * guide_mean, radius)
    return bent


def _objects(grey: Plane, rng: np.random.Generator) -> Plane:
    """Steps of depth, one for each range of the smoothed brightness: objects differ from what is behind them."""
    levels = rng.integers(2, 6)
    smooth = cv2.blur(grey, (7, 7))
    low, high = float(smooth.min()), float(smooth.max())
    place = np.clip((smooth - low) * np.float32(levels / max(high - low, 0.02)), 0, levels - 1).astype(np.intp)
    return np.asarray(rng.uniform(0, 1, levels).astype(np.float32)[place])


def sky(grey: Plane) -> Plane:
    """0..1: how much a place looks like sky, that is bright and without texture."""
    rough = _mean(np.abs(grey - _mean(grey, 2)), 4)
    bright = np.clip((grey - np.float32(0.5)) * 5, 0, 1)
    return np.asarray(bright * np.clip(1.4 - rough * np.float32(100), 0, 1), np.float32)


def drawn_depth(clean: Picture, rng: np.random.Generator, extent: float) -> Plane:
    """A depth 0..1 of the picture: a ramp, drifts of two sizes and steps, in shares drawn by chance; sky is at 1.

    extent: height of the whole photograph, pixels.
    """
    height, width = clean.shape[:2]
    grey = np.asarray(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY) * np.float32(1 / 255), np.float32)
    rows = (np.arange(height) + rng.uniform(0, max(0.0, extent - height))) / extent
    ramp = np.clip(1 - rows / rng.uniform(0.5, 1), 0, 1) ** rng.uniform(0.5, 2)
    shares = rng.dirichlet((1, 1, 0.5, 0.7)).astype(np.float32)
    field = shares[0] * ramp[:, None].astype(np.float32) + shares[3] * _objects(grey, rng)
    field += shares[1] * smooth_field(clean.shape, rng, extent).astype(np.float32)
    field += shares[2] * smooth_field(clean.shape, rng, extent / 4).astype(np.float32)
    if rng.uniform() < 0.7:
        above = sky(grey)
        field += (1 - field) * above
    return np.clip(_bent(field, grey, int(rng.integers(3, 13)), log_uniform(rng, (1e-4, 1e-2))), 0, 1)


def varied_haze(clean: Picture, rng: np.random.Generator, extent: float | None = None) -> Picture:
    """Haze as `drawn_depth` and Koschmieder's law make it; airlight near grey, a little warm or cold.

    extent: height of the whole photograph if `clean` is a part of it, pixels.
    """
    depth = drawn_depth(clean, rng, extent or len(clean))
    far = log_uniform(rng, OPTICAL)
    near = far * rng.uniform(0, 0.7) * rng.integers(2)
    transmission = np.exp(-(np.float32(near) + np.float32(far - near) * depth))[..., None]
    airlight = rng.uniform(*AIRLIGHT) + rng.normal(0, 0.03) * np.array([1, 0, -1]) + rng.normal(0, 0.01, 3)
    airlight = (255 * np.clip(airlight, 0, 1)).astype(np.float32)
    hazy = airlight + (clean.astype(np.float32) - airlight) * transmission
    return np.asarray(np.clip(np.rint(hazy), 0, 255), np.uint8)
