"""dejpeg: JPEG compression; for training also twice, and before the picture is resized."""

from __future__ import annotations

import cv2
import numpy as np

from train.degradations.pictures import Picture, log_uniform

QUALITY = (10, 95)
ENLARGED = (0.8, 2.0)  # side of what is compressed over the side of what is seen, where a picture is resized

_SUBSAMPLING = {True: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, False: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420}
_RESIZED_BY = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def jpeg(picture: Picture, quality: int, full_colour: bool = False) -> Picture:
    """A picture stored as JPEG and read again; quality 1 to 100 as libjpeg counts it.

    full_colour: colour at the picture's resolution (4:4:4); otherwise at half of it (4:2:0), as most JPEGs are.
    """
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SUBSAMPLING[full_colour]]
    _, stored = cv2.imencode(".jpg", picture[..., ::-1], parameters)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def compressed(picture: Picture, rng: np.random.Generator, quality: int) -> Picture:
    """The picture as JPEG whose blocks start anywhere; one in four 4:4:4, the others 4:2:0."""
    top, left = (int(start) for start in rng.integers(16, size=2))
    placed = np.asarray(cv2.copyMakeBorder(picture, top, 0, left, 0, cv2.BORDER_REPLICATE), np.uint8)
    return np.ascontiguousarray(jpeg(placed, quality, bool(rng.integers(4) == 0))[top:, left:])


def varied_jpeg(clean: Picture, rng: np.random.Generator) -> Picture:
    """JPEG of quality 10 to 95; one in four compressed twice, two in five resized after that."""
    height, width = clean.shape[:2]
    scale = log_uniform(rng, ENLARGED) if rng.uniform() < 0.4 else 1.0
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    stored = np.asarray(cv2.resize(clean, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(2 if rng.integers(4) == 0 else 1):
        stored = compressed(stored, rng, int(rng.integers(QUALITY[0], QUALITY[1] + 1)))
    way = _RESIZED_BY[rng.integers(len(_RESIZED_BY))]
    return np.asarray(cv2.resize(stored, (width, height), interpolation=way), np.uint8)
