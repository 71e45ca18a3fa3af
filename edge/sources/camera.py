"""A camera of this machine: V4L2 on Linux, through OpenCV."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.sources import v4l2
from edge.sources.capture import Video
from edge.sources.record import Facts, LostError, Reader, Settings, Taken, credible
from simulator.files import reason

_GIVES_UP_S = 5.0  # an answer that took longer says that no picture came, not that none will
_LETTERS = {"mjpeg": "MJPG"}  # what drivers call a format, where that is not its name in capitals


def open_camera(which: int | Path, settings: Settings) -> Video:
    """The camera with that number, or at that path, such as /dev/v4l/by-id/.... Raises UserError."""
    linux = sys.platform == "linux"
    label = f"camera{which}" if isinstance(which, int) else str(which)
    device = Path(f"/dev/video{which}") if isinstance(which, int) else which
    if linux:
        _check(label, device)
        for name, value in settings.controls:
            _set(label, device, name, value)
    elif settings.controls:
        raise UserError("--control is for Linux; leave it out.")

    def opener() -> Reader:
        if linux and not device.exists():
            raise LostError("is not there any more")
        return _Camera(str(device) if linux else which, settings)

    hint = "; another program may be using it, and a Raspberry Pi's own camera is picam0"
    return Video(label, opener, settings, hint=hint)


def describe() -> list[str]:
    """Lines for --list-cameras."""
    if sys.platform != "linux":
        return ["cameras are listed on Linux only; try camera0"]
    found = v4l2.cameras()
    lines = []
    for camera in found:
        number = camera.path.name.removeprefix("video")
        lines.append(f"camera{number}  {camera.name}  {camera.path}" + (f"  {camera.by_id}" if camera.by_id else ""))
        lines += [f"    --format {letters.lower()}  --size {', '.join(sizes)}" for letters, sizes in camera.formats]
        lines += [
            f"    --control {control.name}={control.low}..{control.high}  (default {control.default})"
            for control in v4l2.controls(camera.path)
        ]
    return lines or ["no camera is there that this user may open; a Raspberry Pi's own camera is picam0"]


class _Camera:
    """A reader of a capture device."""

    def __init__(self, place: str | Path | int, settings: Settings):
        """Raises LostError."""
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        self._capture = cv2.VideoCapture(place, backend)  # type: ignore[call-overload, unused-ignore]
        if not self._capture.isOpened():
            self._capture.release()
            raise LostError("gives no pictures")
        self._patience_s = settings.patience_s
        notes = tuple(self._set(settings))
        self.facts = Facts(credible(self._capture.get(cv2.CAP_PROP_FPS)), notes=notes, live=True)

    def read(self) -> Taken | None:
        until = time.monotonic() + self._patience_s
        while True:
            begin = time.monotonic()
            more, bgr = self._capture.read()
            if more:
                break
            # OpenCV gives up after ten seconds; what fails at once is gone.
            now = time.monotonic()
            if now - begin < _GIVES_UP_S or now >= until:
                raise LostError("stopped giving pictures")
        return Taken(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False

    def close(self) -> None:
        self._capture.release()

    def _set(self, settings: Settings) -> list[str]:
        """Asks for what the settings say; returns what the camera made of it where that is something else."""
        notes = []
        capture = self._capture
        if settings.format is not None:  # first, for sizes and rates depend on it
            letters = _LETTERS.get(settings.format.lower(), settings.format.upper())
            if len(letters) != 4:
                raise UserError(f"--format {settings.format} is no camera's; --list-cameras says which there are.")
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*letters))
            got = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
            if got != letters:
                notes.append(f"the camera gives the format {got.lower()}, not {settings.format}.")
        if settings.size is not None:
            width, height = settings.size
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            size = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if size != settings.size:
                notes.append(f"the camera gives {size[0]}x{size[1]} pixels, not {width}x{height}.")
        if settings.fps is not None:
            capture.set(cv2.CAP_PROP_FPS, settings.fps)
            fps = credible(capture.get(cv2.CAP_PROP_FPS))
            if fps is not None and abs(fps - settings.fps) > 0.5:
                notes.append(f"the camera gives {fps:g} frames a second, not {settings.fps:g}.")
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return notes


def _check(label: str, device: Path) -> None:
    """Raises UserError where `device` is not there, or not for this user."""
    if not device.exists():
        names = (node.name for node in Path("/dev").iterdir())
        there = sorted(int(name[5:]) for name in names if name.startswith("video") and name[5:].isdigit())
        cameras = ", ".join(f"camera{number}" for number in there)
        found = f"this machine has {cameras}" if cameras else "this machine has no camera"
        raise UserError(f"{label} ({device}) is not there; {found}.")
    if not os.access(device, os.R_OK | os.W_OK):
        raise UserError(f"{label} ({device}) may not be used by this user; join the group `video`.")


def _set(label: str, device: Path, name: str, value: int) -> None:
    try:
        known = v4l2.controls(device)
        control = next((control for control in known if control.name == name), None)
        if control is None:
            names = ", ".join(control.name for control in known) or "none"
            raise UserError(f"{label} has no control {name}; it has {names}.")
        if not control.low <= value <= control.high:
            raise UserError(f"--control {name}={value}: {label} takes {control.low} to {control.high}.")
        v4l2.set_control(device, control, value)
    except OSError as error:
        raise UserError(f"{label} does not take --control {name}={value}: {reason(error)}.") from error
