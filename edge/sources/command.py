"""What a command writes to its standard output, and what comes on our own standard input.

This is how cameras are reached that are not V4L2 devices: a Raspberry Pi's by `rpicam-vid`, a Jetson's by GStreamer.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
from typing import IO

from edge import pyav
from edge.containers import MOST_PIXELS, kinds
from edge.errors import UserError
from edge.sources.bytewise import Jpegs, Raw
from edge.sources.capture import Video
from edge.sources.decoded import Decoded
from edge.sources.record import LostError, Reader, Settings
from simulator.files import reason

FORMATS = ("yuv420", "mjpeg", "h264")
_PI_SIZE, _PI_FPS = (1280, 720), 30.0
_PI_COMMANDS = ("rpicam-vid", "libcamera-vid")  # the second is what it was called before 2024
_ENDS_S = 1.0  # that a command is given to end by itself
_LOOK_S = 0.2  # between looks whether anybody still reads
_MOST_SAID = 4096  # bytes of a command's messages that are looked at


def open_command(line: str, settings: Settings) -> Video:
    """What the command `line` writes. It is no shell's: for pipes, exec:sh -c '...'. Raises UserError."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UserError(f"the command of exec: cannot be taken apart into words: {str(error).lower()}.") from error
    if not words:
        raise UserError("exec: names no command; give one, such as exec:'rpicam-vid -t 0 --codec mjpeg -o -'.")
    return _open(words, f"the command {words[0]}", settings)


def open_pi_camera(number: int, settings: Settings) -> Video:
    """A Raspberry Pi's own camera, raw and as it is: its denoising is off. Raises UserError."""
    program = next((name for name in _PI_COMMANDS if shutil.which(name)), None)
    if program is None:
        raise UserError(
            f"picam{number} needs the command rpicam-vid, which is not installed: sudo apt install rpicam-apps."
        )
    form = settings.format or "yuv420"
    _check_format(form)
    width, height = settings.size or _PI_SIZE
    fps = settings.fps or _PI_FPS
    options = f"--camera {number} --timeout 0 --nopreview --denoise off --flush --width {width} --height {height}"
    options += f" --framerate {fps:g} --codec {form} --output -"
    if form == "h264":
        options += " --inline"
    wanted = Settings((width, height), fps, form, (), None, settings.timeout_s, settings.reconnect, settings.drop)
    return _open([program, *options.split()], f"picam{number}", wanted)


def open_standard_input(settings: Settings) -> Video:
    """Standard input: what another command was told to write there. Raises UserError."""

    def opener() -> Reader:
        return _reader(_Pipe(0), settings, live=False)

    hint = "; give a video, JPEGs in a row, or raw frames with --size"
    return Video("standard input", opener, settings, hint=hint, opens_late=True)


def _open(words: list[str], label: str, settings: Settings) -> Video:
    _check_format(settings.format)
    if shutil.which(words[0]) is None:
        raise UserError(f"{label} is not there, or may not be run by this user.")
    running: list[_Process] = []

    def opener() -> Reader:
        for process in running:
            process.close()
        try:
            running[:] = [_Process(words)]
        except OSError as error:
            raise LostError(f"cannot be started: {reason(error)}") from error
        return _reader(running[0], settings, live=True)

    def clean_up() -> None:
        for process in running:
            process.close()

    hint = "" if settings.format or settings.size else "; say what it writes with --format, and --size for raw frames"
    return Video(label, opener, settings, hint=hint, clean_up=clean_up)


def _check_format(form: str | None) -> None:
    if form is not None and form not in FORMATS:
        raise UserError(f"--format {form} is not known of commands and standard input; it can be {', '.join(FORMATS)}.")


def _reader(pipe: _Pipe, settings: Settings, live: bool) -> Reader:
    """Reads what comes through `pipe`: as --format says, else raw if there is a --size, else by its beginning."""
    form = settings.format or ("yuv420" if settings.size else None)
    if form == "yuv420":
        if settings.size is None:
            raise UserError("raw frames do not say their size; give it with --size WIDTHxHEIGHT.")
        if settings.size[0] % 2 or settings.size[1] % 2:
            raise UserError(f"--size {settings.size[0]}x{settings.size[1]}: raw frames have even sides.")
        if settings.size[0] * settings.size[1] > MOST_PIXELS:
            most = MOST_PIXELS // 10**6
            raise UserError(f"--size {settings.size[0]}x{settings.size[1]}: that is over {most} million pixels.")
        return Raw(pipe.read, pipe.close, settings.size, settings.fps, live)
    head = pipe.head(kinds.HEAD) if form is None else b""
    if form == "mjpeg" or head.startswith(b"\xff\xd8\xff"):
        return Jpegs(pipe.read, pipe.close, settings.fps, live)
    if kinds.kind_of(head) is not None:
        raise LostError("holds an image and no video: give the image's file")
    if pyav.library() is None:
        raise LostError(f"holds no JPEGs in a row; other videos than these need PyAV: {pyav.INSTALL}")
    return Decoded(pipe, form=form, live=live, sound=settings.sound)


class _Pipe:
    """A file descriptor to read from, for `Decoded` as well, which wants an object with a method `read`."""

    def __init__(self, descriptor: int):
        self._descriptor, self._head, self.closed = descriptor, b"", False

    def read(self, count: int) -> bytes:
        """What is there, up to `count` bytes, as soon as there is something; b"" at the end and once closed."""
        if self._head:
            part, self._head = self._head[:count], self._head[count:]
            return part
        try:
            while not self.closed:
                if select.select([self._descriptor], [], [], _LOOK_S)[0]:
                    return os.read(self._descriptor, count)
        except (OSError, ValueError) as error:
            if not self.closed:
                raise LostError(f"cannot be read: {reason(error) if isinstance(error, OSError) else error}") from error
        return b""

    def head(self, count: int) -> bytes:
        """The first bytes, which will be read again."""
        found = b""
        while len(found) < count and (chunk := self.read(count - len(found))):
            found += chunk
        self._head = found
        return found

    def close(self) -> None:
        self.closed = True


class _Process(_Pipe):
    """A command that runs, in a group of its own: Ctrl-C is for us, and we end it with all that it started."""

    def __init__(self, words: list[str]):
        """Raises OSError."""
        self._command = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self._command.stdout is not None and self._command.stderr is not None
        super().__init__(self._command.stdout.fileno())
        self._said = b""
        self._listener = threading.Thread(
            target=self._listen, args=(self._command.stderr,), name="messages", daemon=True
        )
        self._listener.start()

    def read(self, count: int) -> bytes:
        chunk = super().read(count)
        if not chunk and not self.closed:
            try:
                code = self._command.wait(_ENDS_S)
            except subprocess.TimeoutExpired:
                code = 0  # it has closed its output and goes on
            if code:
                self._listener.join(_ENDS_S)  # what it said last may still be on its way
                raise LostError(f"ended with exit code {code}{self._last_words()}")
        return chunk

    def close(self) -> None:
        super().close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._command.pid, number)
                os.killpg(self._command.pid, signal.SIGCONT)  # one that stands still hears nothing else
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._command.wait(_ENDS_S)
                break

    def _listen(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError), stream:
            while chunk := os.read(stream.fileno(), _MOST_SAID):
                self._said = (self._said + chunk)[-_MOST_SAID:]

    def _last_words(self) -> str:
        lines = self._said.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f" ({last[-200:].rstrip('.')})" if last else ""
