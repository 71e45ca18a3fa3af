"""What comes out of a source, and what may be asked of one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from edge.containers.record import Metadata
from edge.images import Deep, Pixels

TIMEOUT_S = 10.0  # without a picture, after which a live source counts as stalled


@dataclass(frozen=True)
class Frame:
    """One picture to restore: uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, and what to call it in a message.

    For deep, metadata and notes see `edge.images.Picture`. Of a video: time is when it is shown, in seconds from the
    first frame, None where that is not known. Of a live source: taken is `time.monotonic()` when it arrived.
    """

    name: str
    pixels: Pixels
    path: Path | None = None  # of an image file; None for a frame of a video
    deep: Deep | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()
    time: float | None = None
    taken: float | None = None


@dataclass(frozen=True)
class Sound:
    """What was heard since the frame before the last: packets of PyAV, to be copied, each with its track's number, and
    by how many seconds their times come before those of the frames."""

    packets: tuple[tuple[int, Any], ...]
    shift: float


@dataclass(frozen=True)
class Unreadable:
    """A part of the source that could not be had; `reason` is a whole sentence that names it."""

    reason: str


@dataclass(frozen=True)
class Remark:
    """Something that the person should read; `text` is a whole sentence, and nothing failed."""

    text: str


@dataclass(frozen=True)
class Settings:
    """What the options say of a video, camera or stream; None where nothing was said."""

    size: tuple[int, int] | None = None  # width, height
    fps: float | None = None
    format: str | None = None  # yuv420, mjpeg, h264 of a command; a camera's pixel format
    controls: tuple[tuple[str, int], ...] = ()
    transport: str | None = None  # of RTSP: tcp or udp
    timeout_s: float | None = None
    reconnect: float | None = None  # how many times; infinity: for ever
    drop: str | None = None  # "latest" or "none"
    sound: bool = False  # whether the output can hold it, or says that it does not

    @property
    def patience_s(self) -> float:
        return TIMEOUT_S if self.timeout_s is None else self.timeout_s


class BrokenFrameError(Exception):
    """One frame that cannot be decoded; those behind it may be well."""


class LostError(Exception):
    """The source has broken off. str() says how, in words that go behind its name: "cannot be reached"."""


@dataclass(frozen=True)
class Taken:
    """What a reader gives for one frame: pixels uint8 RGB [H, W, 3]; time by the source's clock, in seconds, None where
    it has none; packets of sound that came before it."""

    pixels: Pixels
    time: float | None = None
    sound: tuple[tuple[int, Any], ...] = ()


def credible(fps: float) -> float | None:
    """A rate of frames as a file or a driver states it, if it can be one: a frame an hour to a thousand a second."""
    return fps if 1 / 3600 <= fps <= 1000 else None


@dataclass(frozen=True)
class Facts:
    """What a video says of itself when it is opened.

    fps, count: frames a second and frames announced, None where not known. tracks: the streams of sound, as PyAV has
    them. aspect: width of a pixel through its height. metadata: title, date and the like. notes: sentences for the
    person. live: its frames come when they come, and are gone when they are not taken.
    """

    fps: float | None = None
    count: int | None = None
    tracks: tuple[Any, ...] = ()
    aspect: Fraction = Fraction(1)
    metadata: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    live: bool = False


class Reader(Protocol):
    """An opened video, camera or stream, for one thread."""

    facts: Facts

    def read(self) -> Taken | None:
        """The next frame; None at the end. Raises BrokenFrameError for one that is left out, LostError."""

    def rest(self) -> tuple[tuple[int, Any], ...]:
        """The packets of sound behind the last frame."""

    def ends_early(self, passed: int) -> bool:
        """Whether a file that ended after `passed` frames, whole and broken ones, announced more."""

    def close(self) -> None:
        """Lets go of files, devices and connections."""
