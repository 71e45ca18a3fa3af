"""PyAV, FFmpeg's libraries for Python: the extra `video`. Without it OpenCV reads and writes what it can."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from edge.images import Pixels

INSTALL = "pip install 'spikerir-edge[video]'"
_DISPLAY_MATRIX = "DISPLAYMATRIX"


@functools.cache
def library() -> ModuleType | None:
    """The module `av`; None where it is not installed. Its messages on standard error are off."""
    try:
        av = importlib.import_module("av")
    except ImportError:
        return None
    av.logging.set_level(None)
    return av


class Converter:
    """Changes the pixel format of the frames of one video, by the thread that asks.

    FFmpeg would make threads for each single frame, which take the network's cores.
    """

    def __init__(self) -> None:
        self._reformatter = importlib.import_module("av.video.reformatter").VideoReformatter()

    def changed(self, frame: Any, **wanted: str) -> Any:
        """wanted: as PyAV's `VideoReformatter.reformat` has it, the pixel format for one. Raises what that does."""
        return self._reformatter.reformat(frame, threads=1, **wanted)


def rgb(frame: Any, converter: Converter) -> Pixels:
    """A decoded frame as uint8 RGB [H, W, 3], turned as the video says; of 8 bits, the bits that OpenCV gives."""
    pixels = np.asarray(converter.changed(frame, format="rgb24").to_ndarray(), np.uint8)
    quarter_turns, mirrored = turn(frame)
    if mirrored:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def turn(frame: Any) -> tuple[int, bool]:
    """(quarter turns against the clock, after mirroring left and right or not) that show a frame upright."""
    for side in frame.side_data:
        if side.type.name == _DISPLAY_MATRIX and len(bytes(side)) >= 20:
            a, b, _, c, d = np.frombuffer(bytes(side)[:20], "<i4").astype(np.int64)
            # Rows of [[a, b], [c, d]] say where the right and the lower edge go; a mirror turns the plane over.
            mirrored = a * d - b * c < 0
            if mirrored:
                a, b = -a, -b
            angle = np.degrees(np.arctan2(float(b), float(a)))
            return int(round(-angle / 90)) % 4, bool(mirrored)
    return 0, False


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """In the block, whatever FFmpeg fails with is an OSError; of itself it has many, and some of them are none."""
    av = library()
    assert av is not None
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def reason(error: Exception) -> str:
    """What went wrong, without the address, which may hold a password."""
    text = getattr(error, "strerror", None) or type(error).__name__
    return str(text).lower()
