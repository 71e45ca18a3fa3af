"""A video file, in one piece or in segments: through PyAV, or through OpenCV where that is not installed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from abc import ABC, abstractmethod
from datetime import datetime, timezone
from pathlib import Path

import cv2

from edge import pyav, terminal
from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import Pixels, shallow, utf8
from edge.sinks.encoded import ASSUMED_FPS, CODECS, UNKNOWN, Codec, Encoder
from edge.sinks.sink import Sink, cannot_write
from edge.sources.record import Facts, Frame, Sound
from simulator import files

# What OpenCV writes by itself: FFV1 and PNG keep every pixel, MPEG-4 Part 2 does not.
_OPENCV = {".mkv": "FFV1", ".avi": "FFV1", ".mov": "png ", ".mp4": "mp4v"}
_WITH_ASPECT = (".mp4", ".mov")
_UNEVEN_S = 0.2  # how far frames may stray from even times without a word
_ROOM = 1 << 20  # bytes of the disk that are left for closing a file


class VideoFile(Sink):
    """One video file, which appears under its name when it is whole."""

    def __init__(self, path: Path, facts: Facts) -> None:
        super().__init__()
        self.path = path
        self._facts = facts
        self._part: _Part | None = None

    def write(self, frame: Frame, pixels: Samples) -> None:
        flat = shallow(pixels)  # frames of videos have three channels
        if self._part is None:
            self._part = _Part.begun(self.path, _size(flat), self._facts, self.notes)
        self._part.write(frame, flat)

    def add_sound(self, sound: Sound) -> None:
        if self._part is not None:
            self._part.add_sound(sound)

    def finish(self) -> str:
        if self._part is None:
            return ""
        part, self._part = self._part, None
        try:
            frames = part.finish()
        finally:
            part.discard()
        return f"{self.path} ({terminal.frames(frames)})" if frames else ""

    def discard(self) -> None:
        if self._part is not None:
            self._part.discard()
            self._part = None


class Segments(Sink):
    """Video files of `seconds` each, named after the time at which they begin; of these the last `keep` stay."""

    def __init__(self, path: Path, facts: Facts, seconds: float, keep: int | None) -> None:
        super().__init__()
        self.path = path
        self._facts, self._seconds, self._keep = facts, seconds, keep
        self._part: _Part | None = None
        self._start = 0.0  # of the present one, in seconds of the recording
        self._frames = 0
        self._kept: dict[str, int] = {}  # whole segments of this run that are still there, and their frames
        self._gone = 0  # segments that were removed for newer ones

    def write(self, frame: Frame, pixels: Samples) -> None:
        flat = shallow(pixels)
        time = frame.time if frame.time is not None else self._frames / (self._facts.fps or ASSUMED_FPS)
        if self._part is not None and (time - self._start >= self._seconds or not self._part.fits(flat)):
            self._end()
        if self._part is None:
            self._part = _Part.begun(self._name(), _size(flat), self._facts, self.notes)
            self._start = time
        self._part.write(frame, flat, time - self._start)
        self._frames += 1

    def add_sound(self, sound: Sound) -> None:
        if self._part is not None:
            self._part.add_sound(Sound(sound.packets, sound.shift + self._start))

    def finish(self) -> str:
        self._end()
        count = len(self._kept)
        if not count:
            return ""
        gone = f"; {self._gone} before {'them' if count > 1 else 'it'} removed" if self._gone else ""
        kept = terminal.frames(sum(self._kept.values()))
        return f"{count} segment{'s' * (count != 1)} {pattern(self.path)} ({kept}{gone})"

    def discard(self) -> None:
        if self._part is not None:
            self._part.discard()
            self._part = None

    def _end(self) -> None:
        if self._part is None:
            return
        part, self._part = self._part, None
        try:
            if frames := part.finish():
                self._kept[part.path.name] = frames
        finally:
            part.discard()
        if self._keep is not None:
            # What this run has made is the newest, even where the clock was put back meanwhile.
            there = {segment.name: segment for segment in segments(self.path)}
            mine = [there.pop(name) for name in self._kept if name in there]
            for old in [*there.values(), *mine][: -self._keep]:
                with contextlib.suppress(OSError):  # someone else has removed it
                    old.unlink()
                self._gone += self._kept.pop(old.name, None) is not None

    def _name(self) -> Path:
        """After the time in UTC, so that names sort by it and a new start overwrites nothing."""
        stem = f"{self.path.stem}_{datetime.now(timezone.utc):%Y%m%dT%H%M%S}Z"
        path, number = self.path.with_name(stem + self.path.suffix), 1
        while path.exists():
            number += 1
            path = self.path.with_name(f"{stem}-{number:03d}{self.path.suffix}")
        return path


def segments(path: Path) -> list[Path]:
    """The whole segments beside `path`, the oldest first."""
    named = re.compile(rf"{re.escape(path.stem)}_(\d{{8}}T\d{{6}})Z(?:-(\d{{3,}}))?{re.escape(path.suffix)}")
    found = []
    with contextlib.suppress(OSError):  # the folder is gone
        for entry in Path(os.path.realpath(path)).parent.iterdir():
            if match := named.fullmatch(entry.name):
                found.append(((match[1], int(match[2] or 1)), entry))
    return [entry for _, entry in sorted(found)]


def pattern(path: Path) -> Path:
    """How the names of segments are shown."""
    return path.with_name(f"{path.stem}_*{path.suffix}")


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


class _Part(ABC):
    """A file that is being written, under a temporary name that is locked for as long as this process lives.

    `write`, `add_sound`, then `finish`; `discard` removes what is not whole. notes: of the sink.
    """

    def __init__(self, path: Path, size: tuple[int, int], facts: Facts, notes: list[str]) -> None:
        """Raises UserError where it cannot be made."""
        self.path, self.notes = path, notes
        self._size = size
        self.temporary = files.temporary_name(path)
        if not utf8(self.temporary):
            raise UserError(f"{ascii(str(path))} is not a UTF-8 name, which videos need; choose another.")
        try:
            self.temporary.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        with contextlib.suppress(OSError):  # of a file system without locks, where nothing is recovered either
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.done = 0
        self._failed = False
        if facts.fps is None and not facts.live:
            notes.append(f"the frame rate of the source is not known; {path} gets {ASSUMED_FPS:g} a second.")

    @staticmethod
    def begun(path: Path, size: tuple[int, int], facts: Facts, notes: list[str]) -> _Part:
        kind = _PlainPart if pyav.library() is None else _EncodedPart
        return kind(path, size, facts, notes)

    def fits(self, pixels: Pixels) -> bool:
        return _size(pixels) == self._size

    def write(self, frame: Frame, pixels: Pixels, time: float | None = None) -> None:
        """`time` in seconds of this file; None: that of the frame. Raises UserError."""
        width, height = _size(pixels)
        if not self.fits(pixels):
            was = f"{self._size[0]}x{self._size[1]}"
            raise UserError(
                f"{frame.name} has {width}x{height} pixels where those before had {was}, which one video cannot hold;"
                " what was restored so far is kept; --segment SECONDS would begin another."
            )
        # A full disk would be noticed too late: stop while there is room to close the file properly.
        folder = self.temporary.parent
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:  # it was removed, renamed or unmounted
            raise UserError(
                f"{folder} cannot be written to any more ({files.reason(error)}) after {self.done} frames."
            ) from error
        if free < 4 * pixels.nbytes + _ROOM:
            raise UserError(
                f"the disk of {self.path} is full but for {free >> 10} KiB after {self.done} frames;"
                " what was restored so far is kept."
            )
        self._add(pixels, frame.time if time is None else time)
        self.done += 1

    def add_sound(self, sound: Sound) -> None:  # noqa: B027  without PyAV there is no room for sound
        """Nothing, where there is no room for it."""

    def finish(self) -> int:
        """Gives the file its name; returns how many frames are in it. Raises UserError."""
        if self._failed:
            return 0
        self._close()
        if self.done:
            try:
                os.replace(self.temporary, os.path.realpath(self.path))
            except OSError as error:
                raise cannot_write(self.path, error) from error
            os.close(self._lock)
            self._lock = -1
        return self.done

    def discard(self) -> None:
        """Removes the file unless it has got its name."""
        if self._lock >= 0:
            self._abandon()
            with contextlib.suppress(OSError):  # a disk that is gone
                self.temporary.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    @abstractmethod
    def _add(self, pixels: Pixels, time: float | None) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _abandon(self) -> None: ...

    def _incomplete(self, stored: str) -> UserError:
        self._failed = True
        return UserError(
            f"{self.path} could not be written completely ({stored}) and was dropped; see whether the disk is full or"
            " a file may only be so large."
        )

    def _say_once(self, codec: Codec) -> None:
        width, height = self._size
        if not codec.lossless:
            self.notes.append(f"{self.path.suffix.lower()} is lossy; .mkv keeps every restored pixel.")
        if codec.even and (width % 2, height % 2) != (0, 0):
            self.notes.append(
                f"videos have even sizes, so the last column or row of {width}x{height} is repeated in {self.path}."
            )


class _Uneven:
    """Whether frames stray from even times, of which a file that has no times of its own says a word."""

    def __init__(self, fps: float):
        self._fps, self._count, self._first, self.said = fps, 0, 0.0, False

    def note(self, path: Path, time: float | None) -> list[str]:
        if time is None or self.said:
            return []
        self._first = time if self._count == 0 else self._first
        self.said = abs(time - self._first - self._count / self._fps) > _UNEVEN_S
        self._count += 1
        if not self.said:
            return []
        return [
            f"the frames come at uneven times, which {path} does not keep: there they are {1 / self._fps:.3g} s apart."
        ]


class _EncodedPart(_Part):
    """Through PyAV, with times, sound, aspect and title."""

    def __init__(self, path: Path, size: tuple[int, int], facts: Facts, notes: list[str]) -> None:
        super().__init__(path, size, facts, notes)
        suffix = path.suffix.lower()
        try:
            self._encoder = Encoder(f"file:{self.temporary}", suffix, size, facts)
        except (UserError, OSError) as error:
            self.temporary.unlink(missing_ok=True)
            os.close(self._lock)
            if isinstance(error, OSError):
                raise cannot_write(path, error) from error
            raise UserError(f"{path} cannot be made: {error}") from error
        self._uneven = None if self._encoder.codec.own_times else _Uneven(self._encoder.fps)
        self._say_once(self._encoder.codec)
        if facts.aspect != 1 and suffix not in _WITH_ASPECT:
            notes.append(f"{path} cannot say that it has pixels that are not square: .mp4 and .mov can.")
        if self._encoder.lost:
            names = ", ".join(self._encoder.lost)
            instead = "" if suffix == ".mkv" or UNKNOWN in self._encoder.lost else "; .mkv holds it"
            notes.append(f"sound coded as {names} does not go into {suffix} and is left out{instead}.")

    def add_sound(self, sound: Sound) -> None:
        try:
            self._encoder.add_sound(sound)
        except OSError as error:
            raise self._incomplete(pyav.reason(error)) from error

    def _add(self, pixels: Pixels, time: float | None) -> None:
        if self._uneven is not None:
            self.notes += self._uneven.note(self.path, time)
        try:
            self._encoder.add(pixels, time)
        except OSError as error:
            raise self._incomplete(pyav.reason(error)) from error

    def _close(self) -> None:
        try:
            self._encoder.close()
        except OSError as error:
            raise self._incomplete(pyav.reason(error)) from error

    def _abandon(self) -> None:
        self._encoder.abandon()


class _PlainPart(_Part):
    """Through OpenCV, at even times and without sound."""

    def __init__(self, path: Path, size: tuple[int, int], facts: Facts, notes: list[str]) -> None:
        super().__init__(path, size, facts, notes)
        suffix = path.suffix.lower()
        self._fps = facts.fps or ASSUMED_FPS
        self._uneven = _Uneven(self._fps)
        even = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._writer = cv2.VideoWriter(
            str(self.temporary), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*_OPENCV[suffix]), self._fps, even
        )
        if not self._writer.isOpened():
            self.discard()
            raise UserError(
                f"{path} cannot be made: no video of {even[0]}x{even[1]} at {self._fps:g} frames a second goes into"
                f" {suffix}; give a folder instead."
            )
        # OpenCV's writer cuts odd sizes down to even ones: the last column and row are repeated instead of lost.
        self._say_once(Codec(_OPENCV[suffix], "bgr24", even=True, lossless=CODECS[suffix].lossless))
        if not CODECS[suffix].lossless:
            notes.append(f"{path} is MPEG-4 Part 2, which browsers do not play; for H.264: {pyav.INSTALL}")
        notes.append(f"sound, titles and pixels that are not square are not kept without PyAV: {pyav.INSTALL}")

    def _add(self, pixels: Pixels, time: float | None) -> None:
        self.notes += self._uneven.note(self.path, time)
        width, height = self._size
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        self._writer.write(cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE))

    def _close(self) -> None:
        self._writer.release()
        if not self.done:
            return
        # The writer does not say when the disk was full: the header must know all frames, and the last be there.
        check = cv2.VideoCapture(str(self.temporary), cv2.CAP_FFMPEG)
        announced = round(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.set(cv2.CAP_PROP_POS_FRAMES, self.done - 1)
        whole = announced == self.done and check.grab()
        check.release()
        if not whole:
            raise self._incomplete(f"{max(announced, 0)} of {self.done} frames are in it, or fewer")

    def _abandon(self) -> None:
        self._writer.release()
