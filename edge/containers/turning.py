"""Turning pictures upright."""

from __future__ import annotations

import numpy as np

from edge.containers.record import Samples


def turned(pixels: Samples, orientation: int) -> Samples:
    """The picture as it is to be seen: `orientation` is 1 to 8 as EXIF numbers them; others mean 1."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels, pixels.dtype)
