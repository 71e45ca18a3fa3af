"""A camera of this machine: V4L2 on Linux, through OpenCV."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.sources import v4l2
from edge.sources.bytewise import Steady, decoded
from edge.sources.capture import Video
from edge.sources.record import BrokenFrameError, Facts, LostError, Reader, Settings, Taken, credible
from simulator.files import reason

_AT_ONCE_S = 0.5  # a picture that does not come, but is given up sooner, will not come at all
_BUFFERS = 2  # one is filled while the other is read: with one, drivers lose each second picture, with more they age
_JPEGS = ("MJPG", "JPEG")
_OTHER_NAMES = {"mjpeg": "mjpg"}
# The pixel formats that OpenCV makes pictures of, with the right colours, of all that the kernel's driver vivid has.
_READABLE = (
    *(*_JPEGS, "YUYV", "UYVY", "YU12", "YV12", "NV12", "NV21", "RGB3", "BGR3", "XR24", "AR24"),
    *("GREY", "Y10 ", "Y12 ", "Y16 ", "BA81", "GBRG", "GRBG", "RGGB"),
)


def open_camera(which: int | Path, settings: Settings) -> Video:
    """The camera with that number, or at that path, such as /dev/v4l/by-id/.... Raises UserError."""
    linux = sys.platform == "linux"
    device = Path(f"/dev/video{which}") if isinstance(which, int) else which
    label = f"camera{which}" if isinstance(which, int) else str(which)
    if linux:
        if device.exists() or not settings.reconnect:
            _check(label, device)
        # OpenCV looks up then whether anybody still waits; of itself it gives a picture ten seconds.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
    elif settings.controls:
        raise UserError("--control is for Linux; leave it out.")

    def opener() -> Reader:
        if linux and not device.exists():
            raise LostError("is not there")
        for name, value in settings.controls:  # each time: a camera that was turned off has forgotten them
            _set(label, device, name, value)
        return _Camera(label, device if linux else which, settings)

    hint = "; another program may be using it, and a Raspberry Pi's own camera is picam0"
    return Video(label, opener, settings, hint=hint)


def describe() -> list[str]:
    """Lines for --list-cameras."""
    if sys.platform != "linux":
        return ["cameras are listed on Linux only; try camera0"]
    lines = []
    for camera in v4l2.cameras():
        lines.append(f"{_short(camera)}  {camera.name}  {camera.path}" + (f"  {camera.by_id}" if camera.by_id else ""))
        readable = [(letters, sizes) for letters, sizes in camera.formats if letters in _READABLE]
        lines += [f"    --format {_name(letters)}  --size {', '.join(sizes)}" for letters, sizes in readable]
        if not readable:
            others = ", ".join(_name(letters) for letters, _ in camera.formats) or "none"
            lines.append(f"    it has no pixel format that can be read here: {others}")
        for control in v4l2.controls(camera.path):
            choices = f"; {_choices(control)}" if control.choices else ""
            limits = f"{control.low}..{control.high}  (default {control.default}{choices})"
            lines.append(f"    --control {control.name}={limits}")
    return lines or ["no camera is there that this user may open; a Raspberry Pi's own camera is picam0"]


def _short(camera: v4l2.Camera) -> str:
    return f"camera{camera.path.name.removeprefix('video')}"


def _choices(control: v4l2.Control) -> str:
    return ", ".join(f"{number}: {word}" for number, word in control.choices)


def _name(letters: str) -> str:
    """Of a pixel format, as --format has it."""
    return letters.strip().lower()


class _Camera:
    """A reader of a capture device."""

    def __init__(self, label: str, place: Path | int, settings: Settings):
        """Raises LostError, UserError."""
        letters = None if settings.format is None else _wanted_letters(label, place, settings.format)
        if isinstance(place, Path):
            self._capture = cv2.VideoCapture(str(place), cv2.CAP_V4L2)
        else:
            self._capture = cv2.VideoCapture(place, cv2.CAP_ANY)
        if not self._capture.isOpened():
            self._capture.release()
            raise LostError("gives no pictures")
        self._patience_s = settings.patience_s + (1 / settings.fps if settings.fps else 0.0)
        notes = tuple(self._set(settings, letters))
        width, height = self._size()
        self._steady = Steady((height, width, 3))
        # JPEGs come as they are, for OpenCV's library writes to standard error of broken ones.
        jpegs = isinstance(place, Path) and self._letters() in _JPEGS
        self._jpegs = jpegs and self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self.facts = Facts(credible(self._capture.get(cv2.CAP_PROP_FPS)), notes=notes, live=True)

    def read(self) -> Taken:
        until = time.monotonic() + self._patience_s
        while True:
            begin = time.monotonic()
            if self._capture.grab():
                break
            now = time.monotonic()
            if now - begin < _AT_ONCE_S:
                raise LostError("stopped giving pictures")
            if now >= until:
                raise LostError(f"has given no picture for {round(self._patience_s, 1):g} s")
        try:
            more, bgr = self._capture.retrieve()
        except cv2.error as error:
            raise BrokenFrameError from error
        if not more:
            raise BrokenFrameError
        if self._jpegs:
            return Taken(self._steady.checked(decoded(bgr.tobytes())))
        return Taken(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False

    def close(self) -> None:
        self._capture.release()

    def _set(self, settings: Settings, letters: str | None) -> list[str]:
        """Asks for what the settings say; returns what the camera made of it where that is something else."""
        notes = []
        capture = self._capture
        if letters is not None:  # first, for sizes and rates depend on it
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*letters))
            got = self._letters()
            if got != letters:
                notes.append(f"the camera gives the format {_name(got)}, not {settings.format}.")
        if settings.size is not None:
            width, height = settings.size
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            size = self._size()
            if size != settings.size:
                notes.append(f"the camera gives {size[0]}x{size[1]} pixels, not {width}x{height}.")
        if settings.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, settings.fps)
            fps = credible(capture.get(cv2.CAP_PROP_FPS))
            if fps is not None and abs(fps - settings.fps) > 0.5:
                notes.append(f"the camera gives {fps:g} frames a second, not {settings.fps:g}.")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
        return notes

    def _letters(self) -> str:
        """Of the pixel format that the camera gives."""
        return (int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")

    def _size(self) -> tuple[int, int]:
        """(width, height)."""
        return (
            round(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            round(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )


def _wanted_letters(label: str, place: Path | int, wanted: str) -> str:
    """The four letters of the pixel format `wanted`, which the camera has and OpenCV can read. Raises UserError."""
    name = _OTHER_NAMES.get(wanted.lower(), wanted.lower())
    there: Iterable[str] = _READABLE
    if isinstance(place, Path):
        try:
            there = v4l2.formats(place)
        except OSError as error:
            raise LostError("gives no pictures") from error
    usable = [letters for letters in there if letters in _READABLE]
    for letters in usable:
        if _name(letters) == name:
            return letters
    unread = ", which cannot be read here" if name in map(_name, there) else ""
    raise UserError(f"--format {wanted}{unread}: {label} has {', '.join(map(_name, usable)) or 'no format'}.")


def _check(label: str, device: Path) -> None:
    """Raises UserError where `device` is not there, not for this user, or no camera."""
    where = label if label == str(device) else f"{label} ({device})"
    if not device.exists():
        raise UserError(f"{where} is not there; {_there()}.")
    if not os.access(device, os.R_OK | os.W_OK):
        raise UserError(f"{where} may not be used by this user; join the group `video`.")
    try:
        able = v4l2.device_capability(device)
    except OSError as error:
        raise UserError(f"{where} is no camera: {reason(error)}; {_there()}.") from error
    if not able.captures:
        waits = able.driver == v4l2.LOOPBACK
        what = "gives pictures only while a program writes to it" if waits else "gives no pictures"
        raise UserError(f"{where}, {able.name}, {what}; {_there()}.")


def _there() -> str:
    cameras = ", ".join(_short(camera) for camera in v4l2.cameras())
    return f"this machine has {cameras}" if cameras else "this machine has no camera"


def _set(label: str, device: Path, name: str, value: int) -> None:
    try:
        known = v4l2.controls(device)
        control = next((control for control in known if control.name == name), None)
        if control is None:
            names = ", ".join(control.name for control in known) or "none"
            raise UserError(f"{label} has no control {name}; it has {names}.")
        if control.choices and value not in dict(control.choices):
            raise UserError(f"--control {name}={value}: {label} takes {_choices(control)}.")
        if not control.low <= value <= control.high:
            raise UserError(f"--control {name}={value}: {label} takes {control.low} to {control.high}.")
        v4l2.set_control(device, control, value)
    except OSError as error:
        raise UserError(f"{label} does not take --control {name}={value}: {reason(error)}.") from error
