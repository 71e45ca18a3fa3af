"""A video device that other programs take for a camera: v4l2loopback's, or any that V4L2 can write to."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import cv2
import numpy as np

from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import Pixels, shallow
from edge.sinks.sink import Sink, cannot_write
from edge.sources.record import Frame
from simulator.files import reason

_OUTPUT = 2  # the type of buffers that a device takes
_NO_FIELDS = 1  # frames are not interlaced
_SRGB = 8
# struct v4l2_format of linux/videodev2.h: its type, then 200 bytes aligned like a pointer, of which these come first:
# width, height, pixel format, field, bytes per line, bytes per image, colour space.
_POINTER = struct.calcsize("P")
_FORMAT = struct.Struct(f"I{_POINTER - 4}xIIIIIII{200 - 28}x")
_SET_FORMAT = 3 << 30 | _FORMAT.size << 16 | ord("V") << 8 | 5
_YU12 = int.from_bytes(b"YU12", "little")


class Loopback(Sink):
    """Writes every picture to a device of the system, as planes of brightness and colours (YU12)."""

    def __init__(self, path: Path) -> None:
        """Raises UserError where the device cannot be opened."""
        super().__init__()
        self.path = path
        self._size: tuple[int, int] | None = None
        self._written = 0
        try:
            self._device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written to: {reason(error)}; sudo modprobe v4l2loopback makes such a device."
            ) from error

    def write(self, frame: Frame, pixels: Samples) -> None:
        flat = shallow(pixels)
        even = np.pad(flat, ((0, flat.shape[0] % 2), (0, flat.shape[1] % 2), (0, 0)), mode="edge")
        size = even.shape[1], even.shape[0]
        try:
            if size != self._size:
                self._set(size)
            os.write(self._device, _planes(even))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._written += 1

    def finish(self) -> str:
        return f"{self._written} frames to {self.path}" if self._written else ""

    def discard(self) -> None:
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def _set(self, size: tuple[int, int]) -> None:
        width, height = size
        wanted = bytearray(
            _FORMAT.pack(_OUTPUT, width, height, _YU12, _NO_FIELDS, width, width * height * 3 // 2, _SRGB)
        )
        fcntl.ioctl(self._device, _SET_FORMAT, wanted)
        _, got_width, got_height, letters, *_ = _FORMAT.unpack(wanted)
        if (got_width, got_height, letters) != (width, height, _YU12):
            raise UserError(f"{self.path} takes {got_width}x{got_height} pixels, not {width}x{height} as YU12.")
        self._size = size


def _planes(pixels: Pixels) -> bytes:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)).tobytes()
