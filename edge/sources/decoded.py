"""Videos and streams through PyAV: frames with their times, turned as the video says, and its sound to be copied."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

from edge import pyav
from edge.sources.record import BrokenFrameError, Facts, LostError, Taken, credible

# What a player would show otherwise, and what comes out instead.
_HIGH_RANGE = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273
_LEFT_OUT = ("subtitles", "data", "attachments")
# What says something of the file that is read, not of what it shows.
_NO_MEANING = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "handler_name", "vendor_id", "duration", "bps",
    "number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_writing_date_utc",
    "_statistics_tags",
}  # fmt: skip
_LENGTH = re.compile(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)")


class Readable(Protocol):
    def read(self, count: int, /) -> bytes: ...


class Decoded:
    """A reader (`edge.sources.record.Reader`) for everything that FFmpeg can demux."""

    def __init__(
        self,
        place: str | Readable,
        *,
        form: str | None = None,
        options: dict[str, str] | None = None,
        timeout_s: float | None = None,
        live: bool = False,
        sound: bool = False,
    ):
        """place: an address, "file:" and a path, or an object to read from; form: FFmpeg's name of the container.

        Raises LostError where it cannot be opened or holds no video.
        """
        av = pyav.library()
        assert av is not None
        self._av, self._live, self._timeout_s = av, live, timeout_s
        self._hangs_up = live and isinstance(place, str)  # a server has no other way to end
        given = dict(options or {})
        if live:
            given["analyzeduration"] = "1000000"
        try:
            self._container = av.open(place, format=form, options=given, timeout=timeout_s, metadata_errors="replace")
        except av.ExitError as error:
            raise LostError("does not answer") from error
        except (av.FFmpegError, ValueError, EOFError) as error:
            raise LostError(f"cannot be opened: {pyav.reason(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise LostError("has no pictures in it")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise LostError("is coded in a way that is not known")
        if live:
            self._stream.codec_context.flags |= av.codec.context.Flags.low_delay
        tracks = tuple(self._container.streams.audio) if sound else ()
        self._converter = pyav.Converter()
        self._sound: list[tuple[int, Any]] = []
        self._first: Fraction | None = None  # when the first frame is shown, in seconds
        self._last = Fraction(0)  # the last, from then on
        self.facts = self._facts(tracks)
        self._frames = self._decode(tracks)

    def read(self) -> Taken | None:
        frame = next(self._frames, None)
        if frame is None:
            return None
        if frame.is_corrupt:
            raise BrokenFrameError
        shown = None
        if frame.pts is not None:
            at = frame.pts * frame.time_base
            self._first = at if self._first is None else self._first
            self._last = at - self._first
            shown = float(at)
        try:
            return Taken(pyav.rgb(frame, self._converter), shown, self.rest())
        except (self._av.FFmpegError, ValueError, MemoryError) as error:  # a format or a size that cannot be
            raise BrokenFrameError from error

    def rest(self) -> tuple[tuple[int, Any], ...]:
        sound, self._sound = tuple(self._sound), []
        return sound

    def ends_early(self, passed: int) -> bool:
        return falls_short(self.facts, passed, float(self._last))

    def key_frames(self) -> list[float]:
        """When the key frames are shown, in seconds, rising; empty where not every frame has a time of its own.

        Reads the whole file without decoding it; nothing else can be read afterwards but by `go_to`.
        """
        times = []
        if self._container.format.name == "mjpeg":  # JPEGs in a row
            return []
        for packet in self._container.demux(self._stream):
            if packet.size and packet.pts is None:
                return []
            if packet.size and packet.is_keyframe:
                times.append(float(packet.pts * packet.time_base))
        return sorted(set(times))

    def go_to(self, time: float) -> None:
        """Goes on reading at the key frame that is shown then, or at one before it; in a file without an index it may
        be one behind it."""
        self._container.seek(round(time / self._stream.time_base), stream=self._stream)
        self._frames = self._decode(())

    def sounds(self) -> Iterator[tuple[float, tuple[int, Any]]]:
        """(when it is heard, in seconds, and what `Taken.sound` holds) of all packets of sound, and no frames."""
        for packet in self._container.demux(*self.facts.tracks) if self.facts.tracks else ():
            if packet.dts is not None:
                yield float(packet.dts * packet.time_base), (packet.stream.index, packet)

    def close(self) -> None:
        self._container.close()

    def _decode(self, tracks: tuple[Any, ...]) -> Iterator[Any]:
        """Decoded frames; the generator survives errors by being one that catches them itself."""
        av = self._av
        packets = self._container.demux(self._stream, *tracks)
        stalled = False
        while True:
            if stalled:
                raise LostError(f"has given no picture for {self._timeout_s:g} s")
            begin = time.monotonic()
            try:
                packet = next(packets)
            except (StopIteration, av.EOFError):
                if self._hangs_up:
                    raise LostError("broke off") from None
                return
            except av.InvalidDataError:
                yield _BROKEN
                continue
            except av.ExitError:
                stalled = True
                continue
            except av.FFmpegError as error:
                raise LostError(f"broke off: {pyav.reason(error)}") from error
            # Of RTSP, FFmpeg holds a picture back until the next comes, and gives it when it has waited for too long.
            stalled = self._timeout_s is not None and time.monotonic() - begin >= self._timeout_s
            if packet.stream is not self._stream:
                if packet.dts is not None:
                    self._sound.append((packet.stream.index, packet))
                continue
            try:
                yield from packet.decode()
            except av.FFmpegError:
                yield _BROKEN

    def _facts(self, tracks: tuple[Any, ...]) -> Facts:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate
        fps = credible(float(rate)) if rate else None
        count = stream.frames or None
        if count is None and not self._live and fps is not None and (length := self._length()) is not None:
            count = math.ceil(length * rate - Fraction(1, 2))  # half a frame more is none
        metadata = {**self._container.metadata, **stream.metadata}
        kept = tuple((name, text) for name, text in metadata.items() if _bare(name) not in _NO_MEANING)
        aspect = stream.sample_aspect_ratio
        return Facts(fps, count or None, tracks, aspect or Fraction(1), kept, tuple(self._notes()), self._live)

    def _length(self) -> Fraction | None:
        """Seconds of the pictures alone, where the file says so: its sound may well be longer."""
        stream, container = self._stream, self._container
        if stream.duration is not None:
            return Fraction(stream.duration * stream.time_base)
        begin = Fraction((stream.start_time or 0) * stream.time_base)
        lengths = [text for name, text in stream.metadata.items() if _bare(name) == "duration"]
        if lengths and (end := _LENGTH.fullmatch(lengths[0])):  # Matroska's, counted from zero
            return int(end[1]) * 3600 + int(end[2]) * 60 + Fraction(end[3]) - begin
        if container.duration is not None and len(container.streams) == 1:
            return Fraction(container.duration + (container.start_time or 0), self._av.time_base) - begin
        return None

    def _notes(self) -> Iterator[str]:
        """What of the file does not survive."""
        if self._live:
            return
        context = self._stream.codec_context
        if context.color_trc in _HIGH_RANGE:
            yield (
                f"its brightness is coded for displays of high range ({_HIGH_RANGE[context.color_trc]}), and taken for"
                " that of ordinary ones: colours will look pale."
            )
        elif context.format is not None and any(component.bits > 8 for component in context.format.components):
            yield "its frames have more than 8 bits per channel, and are restored with 8."
        others = self._container.streams
        left_out = [f"{len(found)} of {kind}" for kind in _LEFT_OUT if (found := getattr(others, kind))]
        if len(others.video) > 1:
            left_out.append(f"{len(others.video) - 1} of pictures")
        if left_out:
            yield f"left out of its streams: {', '.join(left_out)}."


def _bare(name: str) -> str:
    """The name of an entry without the language that Matroska may put behind it, in small letters."""
    return name.lower().partition("-")[0]


def falls_short(facts: Facts, passed: int, last: float) -> bool:
    """Whether the end of the last frame, shown at `last` seconds behind the first, falls short of the announced end by
    more than half a frame.

    The count alone would not do: where frames come at uneven times it is only an estimate.
    """
    fps, count = facts.fps, facts.count
    return fps is not None and count is not None and passed < count and count / fps - last > 1.5 / fps


class _Broken:
    """Stands for a frame that could not be decoded."""

    is_corrupt = True


_BROKEN = _Broken()
