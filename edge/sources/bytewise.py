"""Pictures out of a flow of bytes, each told from the next here: JPEGs in a row, and raw frames."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from edge.containers import MOST_PIXELS, jpeg
from edge.containers.record import BROKEN
from edge.images import Pixels
from edge.sources.record import BrokenFrameError, Facts, Taken

Read = Callable[[int], bytes]  # up to so many bytes, at least one; b"" at the end; raises LostError

_CHUNK = 1 << 16
_LARGEST_JPEG = 64 << 20
_START = b"\xff\xd8\xff"
# RGB of Y, Cb, Cr of 8 bits and limited range, ITU-R BT.709: R = 255/219 (Y - 16) + 1.5748 * 255/224 (Cr - 128), ...
_Y, _KR, _KB = 255 / 219, 0.2126, 0.0722
_R, _B = 2 * (1 - _KR) * 255 / 224, 2 * (1 - _KB) * 255 / 224
_GR, _GB = -_R * _KR / (1 - _KR - _KB), -_B * _KB / (1 - _KR - _KB)
_BT709 = np.array(
    [
        [_Y, 0, _R, -16 * _Y - 128 * _R],
        [_Y, _GB, _GR, -16 * _Y - 128 * (_GB + _GR)],
        [_Y, _B, 0, -16 * _Y - 128 * _B],
    ]
)


class Jpegs:
    """A reader of JPEGs in a row, with anything between them: Motion JPEG, also as a multipart answer over HTTP."""

    def __init__(self, read: Read, close: Callable[[], None], fps: float | None = None, live: bool = True):
        self.facts = Facts(fps, live=live)
        self._read, self.close = read, close
        self._buffer = bytearray()
        self._steady = Steady()

    def read(self) -> Taken | None:
        while True:
            picture = self._next()
            if picture is not None:
                return Taken(self._steady.checked(decoded(picture)))
            chunk = self._read(_CHUNK)
            if not chunk:
                if self._buffer.startswith(_START):  # one that was cut off
                    self._buffer.clear()
                    raise BrokenFrameError
                return None
            self._buffer += chunk

    def _next(self) -> bytes | None:
        """The next whole picture of the buffer, if there is one. Raises BrokenFrameError for one that has no end."""
        buffer = self._buffer
        start = buffer.find(_START)
        if start < 0:
            del buffer[: max(len(buffer) - len(_START) + 1, 0)]
            return None
        del buffer[:start]
        reached, whole = jpeg.extent(buffer)
        if whole:
            picture = bytes(buffer[:reached])
            del buffer[:reached]
            return picture
        another = buffer.find(_START, reached)
        if another >= 0 or len(buffer) > _LARGEST_JPEG:
            del buffer[: another if another >= 0 else len(_START)]
            raise BrokenFrameError
        return None

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False


class Raw:
    """A reader of raw frames, planes of 8 bits with colours at half the size (yuv420, also called I420).

    Their matrix is BT.709 from 1280x720 on and BT.601 below, both with limited range, as cameras have it.
    """

    def __init__(
        self,
        read: Read,
        close: Callable[[], None],
        size: tuple[int, int],
        fps: float | None = None,
        live: bool = True,
    ):
        self.facts = Facts(fps, live=live)
        self._read, self.close = read, close
        self._width, self._height = size
        self._buffer = bytearray()

    def read(self) -> Taken | None:
        bytes_each = self._width * self._height * 3 // 2
        while len(self._buffer) < bytes_each:
            chunk = self._read(bytes_each - len(self._buffer))
            if not chunk:
                if self._buffer:
                    self._buffer.clear()
                    raise BrokenFrameError
                return None
            self._buffer += chunk
        planes = np.frombuffer(bytes(self._buffer), np.uint8).reshape(self._height * 3 // 2, self._width)
        self._buffer.clear()
        return Taken(self._rgb(planes))

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False

    def _rgb(self, planes: Pixels) -> Pixels:
        if self._width < 1280 and self._height < 720:
            return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), np.uint8)
        luma = planes[: self._height]
        half = planes[self._height :].reshape(2, self._height // 2, self._width // 2)
        size = (self._width, self._height)
        blue, red = (cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in half)
        return np.asarray(cv2.transform(cv2.merge([luma, blue, red]), _BT709), np.uint8)


class Steady:
    """One picture of another size is a damaged one; a camera that is set to another keeps to it."""

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """shape: that pictures will have, if it is known."""
        self._shape = shape  # of the pictures so far
        self._odd: tuple[int, ...] = ()  # of one before this that had another

    def checked(self, pixels: Pixels) -> Pixels:
        """`pixels` themselves. Raises BrokenFrameError."""
        if self._shape and pixels.shape not in (self._shape, self._odd):
            self._odd = pixels.shape
            raise BrokenFrameError
        self._shape, self._odd = pixels.shape, ()
        return pixels


def decoded(picture: bytes) -> Pixels:
    """A JPEG's pixels, uint8 RGB [H, W, 3]. Raises BrokenFrameError.

    By Pillow, which keeps quiet about broken ones where OpenCV's library writes to standard error.
    """
    try:
        with Image.open(io.BytesIO(picture)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BrokenFrameError
            return np.array(image.convert("RGB"))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise BrokenFrameError from error
