"""A video device that other programs take for a camera: v4l2loopback's, or any other that V4L2 has for output.

v4l2loopback takes pictures by write() and shows each at once. What the kernel's own framework makes of write() fails in
some of its versions, so all others are lent pictures in buffers of their own (streaming i/o), and give these back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge import terminal
from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import Pixels, shallow
from edge.sinks.sink import Sink, cannot_write
from edge.sources import v4l2
from edge.sources.record import Frame
from simulator.files import reason

_MAKES_ONE = "sudo modprobe v4l2loopback makes a device that does"
_HELD_S = 1.0  # so long a picture waits for a device that is busy with those before it
_LOOK_S = 0.1  # between looks whether the run is to stop
_ASK_S = 0.005  # between questions whether the device is ready
_BUFFERS = 4

# linux/videodev2.h.
_OUTPUT = 2  # the type of buffers that a device takes
_MAPPED = 1  # the kind of memory: the device's own
_NO_FIELDS = 1  # frames are not interlaced
_SRGB = 8
# struct v4l2_format: its type, then 200 bytes aligned like a pointer, of which these come first: width, height, pixel
# format, field, bytes per line, bytes per image, colour space.
_POINTER = struct.calcsize("P")
_FORMAT = struct.Struct(f"I{_POINTER - 4}xIIIIIII{200 - 28}x")
_WANTED_BUFFERS = struct.Struct("IIIII")  # count, type, memory
# struct v4l2_buffer: index, type, bytes used, flags, field, time, timecode, sequence, memory, offset, length.
_BUFFER = struct.Struct("5I2l16s2IL2Ii0l")
_NUMBER = struct.Struct("i")
_SET_FORMAT = v4l2.request(v4l2.BOTH, 5, _FORMAT.size)
_ASK_BUFFERS = v4l2.request(v4l2.BOTH, 8, _WANTED_BUFFERS.size)
_QUERY_BUFFER = v4l2.request(v4l2.BOTH, 9, _BUFFER.size)
_LEND = v4l2.request(v4l2.BOTH, 15, _BUFFER.size)
_GET_BACK = v4l2.request(v4l2.BOTH, 17, _BUFFER.size)
_BEGIN = v4l2.request(v4l2.WRITE, 18, _NUMBER.size)

# The pixel formats that there are pictures in, the one that most programs read first: planes of brightness and colours,
# or rows of pixels.
_PLANES = "YU12"
_ROWS = {
    "YUYV": cv2.COLOR_RGB2YUV_YUYV,
    "UYVY": cv2.COLOR_RGB2YUV_UYVY,
    "BGR3": cv2.COLOR_RGB2BGR,
    "RGB3": None,
}


class Loopback(Sink):
    """Gives every picture to a device of the system, in a pixel format that it takes.

    Frames that have times and do not come from a live source are shown at these times. A device that takes no more
    pictures, because nobody looks or because they come too fast, holds nothing up: what it does not take is counted.
    """

    def __init__(self, path: Path, live: bool, stopping: Callable[[], bool]) -> None:
        """live: whether frames come when they come. stopping: whether the run is to stop. Raises UserError where the
        device takes no pictures."""
        super().__init__()
        self.path = path
        self._live, self._stopping = live, stopping
        self._begin: float | None = None  # when the frame of time 0 was shown, or would have been
        self._taken = self._missed = 0
        self._takes = True  # it took the last picture
        self._device = -1
        self._way: _Way | None = None
        self._open()

    def write(self, frame: Frame, pixels: Samples) -> None:
        flat = shallow(pixels)
        even = np.pad(flat, ((0, flat.shape[0] % 2), (0, flat.shape[1] % 2), (0, 0)), mode="edge")
        try:
            if self._way is None or self._way.shape.size != (even.shape[1], even.shape[0]):
                self._way = self._agree((even.shape[1], even.shape[0]))
            content = self._way.shape.content(even)
            self._wait_for(frame)
            # One that does not take pictures at the moment is not waited for again and again.
            self._takes = self._way.put(content, self._until(_HELD_S if self._takes else 0.0))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._taken += self._takes
        self._missed += not self._takes

    def finish(self) -> str:
        if self._taken:
            with contextlib.suppress(OSError):
                if self._way is not None:
                    self._way.settle(self._until(_HELD_S))
        elif self._missed:
            raise UserError(f"{self.path} took no picture; is something connected to it?")
        missed = f", {self._missed} not taken by the device" if self._missed else ""
        return f"{terminal.frames(self._taken)} to {self.path}{missed}" if self._taken else ""

    def discard(self) -> None:
        if self._way is not None:
            self._way.close()
            self._way = None
        if self._device >= 0:
            os.close(self._device)
            self._device = -1

    def _open(self) -> None:
        """Raises UserError."""
        try:
            self._device = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            missing = "; sudo modprobe v4l2loopback makes such a device" if error.errno == errno.ENOENT else ""
            raise UserError(f"{self.path} cannot be written to: {reason(error)}{missing}.") from error
        try:
            self._able = v4l2.capability(self._device)
        except OSError as error:
            self.discard()
            raise UserError(f"{self.path} is no video device; {_MAKES_ONE}.") from error
        if self._able.outputs:
            return
        loopback = self._able.driver == v4l2.LOOPBACK
        if loopback and not self._able.captures:
            return  # a program that did what `_Written` warns of has left it so, but it takes pictures
        self.discard()
        if loopback:
            raise UserError(f"{self.path} is in use: another program gives it pictures; end that first.")
        what = f"is a camera ({self._able.name})" if self._able.captures else f"is for other things ({self._able.name})"
        raise UserError(f"{self.path} {what} and takes no pictures; {_MAKES_ONE}.")

    def _agree(self, size: tuple[int, int]) -> _Way:
        """Raises UserError, OSError."""
        if self._way is not None:  # a device that nobody looks at takes another size when it is opened anew
            self.discard()
            self._open()
        shape = _agreed(self.path, self._device, size)
        written = self._able.driver == v4l2.LOOPBACK or not self._able.streams
        return _Written(self._device, shape) if written else _Lent(self._device, shape)

    def _wait_for(self, frame: Frame) -> None:
        """Until it is time to show `frame`."""
        if self._live or frame.time is None:
            return
        if self._begin is None:
            self._begin = time.monotonic() - frame.time
        until = self._begin + frame.time
        while (left := until - time.monotonic()) > 0 and not self._stopping():
            time.sleep(min(left, _LOOK_S))

    def _until(self, seconds: float) -> Callable[[], bool]:
        """What says whether to wait on: for `seconds` from now, unless the run is to stop."""
        until = time.monotonic() + seconds
        return lambda: time.monotonic() < until and not self._stopping()


class _Shape:
    """How a device wants its pictures: (width, height), the pixel format, how its rows are interlaced, and how far they
    are apart in bytes."""

    def __init__(self, size: tuple[int, int], letters: str, field: int, stride: int) -> None:
        self.size, self.field = size, field
        self._letters, self._stride = letters, stride

    def content(self, pixels: Pixels) -> bytes:
        """Of pixels RGB [H, W, 3], both sides even."""
        if self._letters != _PLANES:
            code = _ROWS[self._letters]
            return _rows(pixels if code is None else cv2.cvtColor(pixels, code), self._stride)
        planes = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420))
        height, width = pixels.shape[:2]
        colours = planes[height:].reshape(height, width // 2)
        return _rows(planes[:height], self._stride) + _rows(colours, self._stride // 2)


def _rows(values: np.ndarray, stride: int) -> bytes:
    rows = values.reshape(len(values), -1)
    return np.pad(rows, ((0, 0), (0, max(stride - rows.shape[1], 0)))).tobytes()


def _agreed(path: Path, device: int, size: tuple[int, int]) -> _Shape:
    """Asks for one pixel format after the other; a device answers with what it would take instead. Raises UserError."""
    width, height = size
    for letters in (_PLANES, *_ROWS):
        number = int.from_bytes(letters.encode(), "little")
        wanted = bytearray(_FORMAT.pack(_OUTPUT, width, height, number, _NO_FIELDS, 0, 0, _SRGB))
        try:
            fcntl.ioctl(device, _SET_FORMAT, wanted)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise UserError(f"{path} is in use: another program gives it pictures; end that first.") from error
            if error.errno != errno.EINVAL:
                raise
            continue
        _, got_width, got_height, number, field, stride, *_ = _FORMAT.unpack(wanted)
        if (got_width, got_height) != size:
            raise UserError(f"{path} takes {got_width}x{got_height} pixels, not {width}x{height}.")
        got = number.to_bytes(4, "little").decode("latin-1")
        if got == _PLANES or got in _ROWS:
            return _Shape(size, got, field, stride)
    raise UserError(f"{path} takes none of the pixel formats {', '.join((_PLANES, *_ROWS)).lower()}.")


class _Way(ABC):
    """How pictures get into a device. All raise OSError."""

    def __init__(self, device: int, shape: _Shape) -> None:
        self.shape = shape
        self._device = device

    def put(self, content: bytes, wait: Callable[[], bool]) -> bool:
        """Whether it took the picture; `wait` says whether to wait on for that."""
        while not self._put(content):
            if not wait():
                return False
            time.sleep(_ASK_S)
        return True

    @abstractmethod
    def _put(self, content: bytes) -> bool:
        """Whether it took the picture, at once."""

    @abstractmethod
    def settle(self, wait: Callable[[], bool]) -> None:
        """Waits until everything is shown."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the device's memory."""


class _Written(_Way):
    """By write(), which shows a picture at once."""

    def __init__(self, device: int, shape: _Shape) -> None:
        """Says first that it writes: v4l2loopback 0.12 forgets otherwise, when the writer has gone, that it takes
        pictures. Later versions need not be told, and refuse."""
        super().__init__(device, shape)
        try:
            fcntl.ioctl(device, _BEGIN, _NUMBER.pack(_OUTPUT))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    def _put(self, content: bytes) -> bool:
        try:
            os.write(self._device, content)
        except BlockingIOError:
            return False
        return True

    def settle(self, wait: Callable[[], bool]) -> None:
        """Everything is shown."""

    def close(self) -> None:
        """It has none of the device's memory."""


class _Lent(_Way):
    """In the device's own buffers, which it gives back when they have been shown."""

    def __init__(self, device: int, shape: _Shape) -> None:
        super().__init__(device, shape)
        wanted = bytearray(_WANTED_BUFFERS.pack(_BUFFERS, _OUTPUT, _MAPPED, 0, 0))
        fcntl.ioctl(device, _ASK_BUFFERS, wanted)
        self._maps = [self._mapped(index) for index in range(_WANTED_BUFFERS.unpack(wanted)[0])]
        self._free = list(range(len(self._maps)))
        self._running = False

    def _put(self, content: bytes) -> bool:
        self._get_back()
        if not self._free:
            return False
        index = self._free.pop(0)
        self._maps[index][: len(content)] = content
        fcntl.ioctl(self._device, _LEND, self._buffer(index, len(content)))
        if not self._running:
            fcntl.ioctl(self._device, _BEGIN, _NUMBER.pack(_OUTPUT))
            self._running = True
        return True

    def settle(self, wait: Callable[[], bool]) -> None:
        while len(self._free) < len(self._maps) - 1 and wait():  # the last one stays in sight
            self._get_back()
            time.sleep(_ASK_S)

    def close(self) -> None:
        for each in self._maps:
            each.close()

    def _get_back(self) -> None:
        """All buffers that have been shown."""
        while len(self._free) < len(self._maps):
            answer = self._buffer(0, 0)
            try:
                fcntl.ioctl(self._device, _GET_BACK, answer)
            except BlockingIOError:
                return
            self._free.append(_BUFFER.unpack(answer)[0])

    def _mapped(self, index: int) -> mmap.mmap:
        answer = self._buffer(index, 0)
        fcntl.ioctl(self._device, _QUERY_BUFFER, answer)
        *_, offset, length, _, _ = _BUFFER.unpack(answer)
        return mmap.mmap(self._device, length, offset=offset)

    def _buffer(self, index: int, used: int) -> bytearray:
        return bytearray(_BUFFER.pack(index, _OUTPUT, used, 0, self.shape.field, 0, 0, b"", 0, _MAPPED, 0, 0, 0, 0))
