"""Video4Linux: which cameras there are, what they are called, and what can be set on them; what a device is able to do.

Structures and request numbers are those of linux/videodev2.h, the same on all 64-bit and, but for nothing that is used
here, on 32-bit systems.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

LOOPBACK = "v4l2 loopback"  # the driver that makes a camera of what a program writes
WRITE, READ, BOTH = 1, 2, 3  # as seen from here
_CAPTURE = 1  # the type of buffers that a camera fills
_CAN_CAPTURE, _CAN_OUTPUT, _CAN_STREAM, _DEVICE_CAPS = 0x00000001, 0x00000002, 0x04000000, 0x80000000
_NEXT_CONTROL = 0x80000000
_DISABLED, _READ_ONLY = 0x0001, 0x0004
_MENU = 3
_SETTABLE = (1, 2, _MENU, 9)  # whole numbers, yes or no, menus of words and of numbers; the rest is text, or a heading
_DISCRETE = 1
_BIG_ENDIAN = 1 << 31  # of a pixel format that has the bytes of another the other way round
_MOST = 1000  # entries of any list; a driver that has no end shall not hold us up


def request(direction: int, number: int, size: int) -> int:
    """The number by which the system knows a request: which way `size` bytes go, and Video4Linux's own number."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


_CAPABILITY = struct.Struct("16s32s32sIII12x")
_FORMAT = struct.Struct("III32sI16x")
_FRAME_SIZE = struct.Struct("IIIIIIIII8x")
_RATE = struct.Struct("IIIII6I8x")
_CONTROL_INFO = struct.Struct("II32siiiiI8x")
_CONTROL = struct.Struct("Ii")
_MENU_ENTRY = struct.Struct("=II32s4x")
_QUERY_CAPABILITY = request(READ, 0, _CAPABILITY.size)
_LIST_FORMATS = request(BOTH, 2, _FORMAT.size)
_LIST_SIZES = request(BOTH, 74, _FRAME_SIZE.size)
_LIST_RATES = request(BOTH, 75, _RATE.size)
_QUERY_CONTROL = request(BOTH, 36, _CONTROL_INFO.size)
_QUERY_MENU = request(BOTH, 37, _MENU_ENTRY.size)
_SET_CONTROL = request(BOTH, 28, _CONTROL.size)


@dataclass(frozen=True)
class Camera:
    """A capture device. formats: (four letters, sizes such as "640x480 (30 fps)") in the driver's order."""

    path: Path
    name: str
    by_id: Path | None
    formats: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Capability:
    """What a device says of itself: what it is called, and what it does. streams: it lends its own buffers."""

    driver: str
    name: str
    captures: bool
    outputs: bool
    streams: bool


@dataclass(frozen=True)
class Control:
    """Something that can be set: exposure, gain, focus. name: as `v4l2-ctl` writes it. choices: of a menu, what the
    numbers between low and high mean that there are."""

    number: int
    name: str
    low: int
    high: int
    default: int
    choices: tuple[tuple[int, str], ...] = ()


def cameras(devices: Path = Path("/dev")) -> list[Camera]:
    """The capture devices that this user may open, by number."""
    found = []
    by_id = {os.path.realpath(link): link for link in sorted((devices / "v4l" / "by-id").glob("*"))}
    numbered = sorted((int(m[1]), n) for n in devices.iterdir() if (m := re.fullmatch(r"video(\d+)", n.name)))
    for _, path in numbered:
        try:
            with _opened(path) as device:
                able = capability(device)
                if able.captures:
                    found.append(Camera(path, able.name, by_id.get(os.path.realpath(path)), tuple(_formats(device))))
        except OSError:
            continue
    return found


def capability(device: FileIO | int) -> Capability:
    """Of an opened device. Raises OSError where it is none of Video4Linux."""
    answer = bytearray(_CAPABILITY.size)
    fcntl.ioctl(device, _QUERY_CAPABILITY, answer)
    driver, card, _, _, everything, own = _CAPABILITY.unpack(answer)
    able = own if everything & _DEVICE_CAPS else everything
    has = (bool(able & what) for what in (_CAN_CAPTURE, _CAN_OUTPUT, _CAN_STREAM))
    return Capability(_text(driver), _text(card), *has)


def device_capability(path: Path) -> Capability:
    """Of a device that is not opened. Raises OSError."""
    with _opened(path) as device:
        return capability(device)


def controls(path: Path) -> list[Control]:
    """What can be set on the camera `path`. Raises OSError."""
    with _opened(path) as device:
        return list(_controls(device))


def set_control(path: Path, control: Control, value: int) -> None:
    """Raises OSError where the camera refuses."""
    with _opened(path) as device:
        fcntl.ioctl(device, _SET_CONTROL, bytearray(_CONTROL.pack(control.number, value)))


def _opened(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), "r+")


def formats(path: Path) -> list[str]:
    """The four letters of each pixel format of the camera `path`. Raises OSError."""
    with _opened(path) as device:
        return [letters for letters, _ in _formats(device)]


def _formats(device: FileIO) -> Iterator[tuple[str, tuple[str, ...]]]:
    for index in range(_MOST):
        answer = bytearray(_FORMAT.pack(index, _CAPTURE, 0, b"", 0))
        try:
            fcntl.ioctl(device, _LIST_FORMATS, answer)
        except OSError:  # there are no more
            return
        letters = _FORMAT.unpack(answer)[4]
        if letters < _BIG_ENDIAN:
            yield letters.to_bytes(4, "little").decode("latin-1"), tuple(_sizes(device, letters))


def _sizes(device: FileIO, letters: int) -> Iterator[str]:
    for index in range(_MOST):
        answer = bytearray(_FRAME_SIZE.pack(index, letters, *[0] * 7))
        try:
            fcntl.ioctl(device, _LIST_SIZES, answer)
        except OSError:
            return
        _, _, kind, *sides = _FRAME_SIZE.unpack(answer)
        if kind != _DISCRETE:
            yield f"{sides[0]}x{sides[3]} to {sides[1]}x{sides[4]}"
            return
        rate = _highest_rate(device, letters, sides[0], sides[1])
        yield f"{sides[0]}x{sides[1]}" + (f" ({rate:.3g} fps)" if rate else "")


def _highest_rate(device: FileIO, letters: int, width: int, height: int) -> float | None:
    """Frames a second; None where the driver does not say."""
    highest = 0.0
    for index in range(_MOST):
        answer = bytearray(_RATE.pack(index, letters, width, height, *[0] * 7))
        try:
            fcntl.ioctl(device, _LIST_RATES, answer)
        except OSError:
            break
        kind, part, whole = _RATE.unpack(answer)[4:7]  # of a second; where it is a range, its shortest
        highest = max(highest, whole / part if part else 0.0)
        if kind != _DISCRETE:
            break
    return highest or None


def _controls(device: FileIO) -> Iterator[Control]:
    number = 0
    for _ in range(_MOST):
        answer = bytearray(_CONTROL_INFO.pack(number | _NEXT_CONTROL, 0, b"", 0, 0, 0, 0, 0))
        try:
            fcntl.ioctl(device, _QUERY_CONTROL, answer)
        except OSError:
            return
        number, kind, name, low, high, _, default, flags = _CONTROL_INFO.unpack(answer)
        if kind in _SETTABLE and low < high and not flags & (_DISABLED | _READ_ONLY):
            words = re.sub(r"[^a-z0-9]+", "_", _text(name).lower()).strip("_")
            choices = tuple(_choices(device, number, low, high)) if kind == _MENU else ()
            yield Control(number, words, low, high, default, choices)


def _choices(device: FileIO, number: int, low: int, high: int) -> Iterator[tuple[int, str]]:
    for index in range(low, min(high, low + _MOST) + 1):
        answer = bytearray(_MENU_ENTRY.pack(number, index, b""))
        try:
            fcntl.ioctl(device, _QUERY_MENU, answer)
        except OSError:  # there is none of that number
            continue
        yield index, _text(_MENU_ENTRY.unpack(answer)[2])


def _text(padded: bytes) -> str:
    return padded.split(b"\0")[0].decode("utf-8", "replace").strip()
