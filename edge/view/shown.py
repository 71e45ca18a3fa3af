"""The newest picture, as it came and restored, encoded once for all who look and only if somebody does."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from edge.images import Pixels
from edge.live import Step

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
WHAT = ("both", "before", "after")
_LONGEST = 65_500  # pixels of a side of a JPEG


class Shown:
    """Holds a picture; `number` is its step's, 0 before the first."""

    def __init__(self) -> None:
        self.number = 0
        self._before: Pixels | None = None
        self._after: Pixels | None = None
        self._lock = threading.Lock()  # of the picture
        self._encoding = threading.Lock()
        self._jpegs: dict[str, tuple[int, bytes]] = {}

    def seen(self, step: Step) -> None:
        with self._lock:
            self.number, self._before, self._after = step.number, step.frame.pixels, step.restored

    def jpeg(self, what: str) -> tuple[int, bytes]:
        """(number, JPEG) of the newest picture, one of WHAT; both: as it came | restored. (0, b"") if there is none."""
        with self._encoding:
            number, pixels = self._pixels(what)
            if pixels is None:
                return 0, b""
            if self._jpegs.get(what, (0, b""))[0] != number:
                self._jpegs[what] = number, _encoded(".jpg", _fitting(pixels), _QUALITY)
            return self._jpegs[what]

    def png(self, what: str) -> bytes:
        """The newest picture without loss; b"" if there is none."""
        _, pixels = self._pixels(what)
        return b"" if pixels is None else _encoded(".png", pixels, [])

    def _pixels(self, what: str) -> tuple[int, Pixels | None]:
        with self._lock:
            number, before, after = self.number, self._before, self._after
        if before is None or after is None:
            return 0, None
        if what == "both":
            return number, np.concatenate([before, after], axis=1)
        return number, before if what == "before" else after


def _fitting(pixels: Pixels) -> Pixels:
    """`pixels`, shrunk where they are longer than a JPEG can be; of both side by side the middle stays between them."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest <= _LONGEST:
        return pixels
    size = max(width * _LONGEST // longest // 2 * 2, 1), max(height * _LONGEST // longest, 1)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(suffix: str, pixels: Pixels, settings: list[int]) -> bytes:
    bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, bgr, settings)[1].tobytes()
