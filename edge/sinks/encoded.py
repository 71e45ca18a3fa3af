"""Frames, sound and times into a container, through PyAV: what video files, segments and pushed streams share."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from edge import pyav
from edge.errors import UserError
from edge.images import Pixels
from edge.sources.record import Facts, Sound

ASSUMED_FPS = 25.0
_TICKS = 90_000  # a second, at least; what RTP and MPEG have
_ROUNDED_S = 0.0006  # what rounding to milliseconds does to a time, and a little more
UNKNOWN = "something unknown"
FRAGMENT_S = 1  # what the loss of power costs at most


@dataclass(frozen=True)
class Codec:
    """How a container holds its frames. even: it cannot hold odd sides."""

    name: str
    pixels: str
    even: bool = False
    lossless: bool = True
    longest: int | None = None  # pixels of a side, if there is a limit that pictures may reach
    own_times: bool = True  # whether frames can come at uneven times, and sound beside them


CODECS = {
    ".mkv": Codec("ffv1", "bgr0"),
    ".avi": Codec("ffv1", "bgr0", own_times=False),
    ".mov": Codec("png", "rgb24"),
    ".mp4": Codec("libx264", "yuv420p", even=True, lossless=False, longest=16384),
}
# So that a file which was never closed can be played: MP4 in fragments, which become one index when it is closed;
# Matroska in clusters.
_FRAGMENTS = {"movflags": "hybrid_fragmented", "frag_duration": str(FRAGMENT_S * 1_000_000)}
_WRITING = {
    ".mkv": {"cluster_time_limit": str(FRAGMENT_S * 1000)},
    ".mov": _FRAGMENTS,
    ".mp4": _FRAGMENTS,
    ".avi": {},
}
_LIVE = {"preset": "ultrafast", "tune": "zerolatency"}  # a frame goes out when it comes in
_ONE_THREAD = 1920 * 1088  # pixels, of which one thread encodes enough a second; more would take the network's cores
_FILES = {"preset": "veryfast", "bf": "0"}  # with frames out of order, fragments would begin behind zero
_QUALITY = {"crf": "18"}  # close to what the eye can see
_BT709, _LIMITED = 1, 1  # of ITU-T H.273, and of FFmpeg


class Encoder:
    """An open container. All of it raises OSError where FFmpeg fails, as at a full disk or a server that is gone."""

    def __init__(
        self,
        place: str,
        suffix: str,
        size: tuple[int, int],
        facts: Facts,
        *,
        form: str | None = None,
        options: dict[str, str] | None = None,
        timeout_s: float | None = None,
    ):
        """place: an address or a file. suffix: one of CODECS. size: width, height. form: FFmpeg's name of a container.

        Raises UserError where there is no such encoder, or no such video.
        """
        av = pyav.library()
        assert av is not None
        self.codec = CODECS[suffix]
        if self.codec.longest is not None and max(size) > self.codec.longest:
            raise UserError(
                f"H.264 holds {self.codec.longest} pixels a side at most, not {size[0]}x{size[1]}; .mkv holds more."
            )
        self.size = size[0] + size[0] % 2 * self.codec.even, size[1] + size[1] % 2 * self.codec.even
        self._given_size = size
        self.lost: list[str] = []  # names of codecs of sound that do not go into this container
        self.frames = 0
        self.fps = facts.fps or ASSUMED_FPS
        self._rate = Fraction(self.fps).limit_denominator(1001) or Fraction(1, round(1 / self.fps))
        # A second; even frames fall on one.
        self._ticks = self._rate.numerator * math.ceil(_TICKS / self._rate.numerator)
        self._converter = pyav.Converter()
        self._open = True
        self._last = -1  # time of the last frame, in ticks
        self._heard: dict[Any, int] = {}  # of each track, when its last packet is decoded
        given = {**_WRITING[suffix], "flush_packets": "1", **(options or {})}
        with pyav.os_errors():
            self._container = av.open(place, "w", format=form, container_options=given, timeout=timeout_s)
        try:
            self._video = self._stream(facts)
            self._tracks = self._sound(facts)
            self._container.metadata.update(dict(facts.metadata))
            with pyav.os_errors():
                self._container.start_encoding()
        except (LookupError, ValueError) as error:
            self.abandon()
            raise UserError(
                f"no {self.codec.name} of {size[0]}x{size[1]} can be made: {pyav.reason(error)}."
            ) from error
        except OSError:
            self.abandon()
            raise

    def takes(self, pixels: Pixels) -> bool:
        """Whether they have the size that it began with."""
        return (pixels.shape[1], pixels.shape[0]) == self._given_size

    def add(self, pixels: Pixels, time: float | None) -> None:
        """The next frame, uint8 RGB [H, W, 3] of the size it began with, to be shown at `time` seconds."""
        at = self._tick(time)
        height, width = pixels.shape[:2]
        below, right = self.size[1] - height, self.size[0] - width
        if below or right:
            pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge")
        frame = self._av_frame(pixels)
        frame.pts, frame.time_base = at, self._video.codec_context.time_base
        with pyav.os_errors():
            self._container.mux(self._video.encode(frame))
        self._last = at
        self.frames += 1

    def add_sound(self, sound: Sound) -> None:
        """Copies packets of the tracks that the source named when it was opened."""
        for number, packet in sound.packets:
            track = self._tracks.get(number)
            if track is None or packet.dts is None or packet.pts is None:
                continue
            shift = round(sound.shift / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            # What was heard before the first frame, or over again after a new connection, has no place.
            if packet.pts < 0 or packet.dts <= self._heard.get(track, -1):
                continue
            self._heard[track] = packet.dts
            packet.stream = track
            with pyav.os_errors():
                self._container.mux(packet)

    def close(self) -> None:
        """Writes what is still to come, and the index."""
        with pyav.os_errors():
            try:
                if self.frames:
                    self._container.mux(self._video.encode(None))
            finally:
                self._close()

    def abandon(self) -> None:
        """Closes a file that will be removed, or a connection that is lost."""
        with contextlib.suppress(OSError), pyav.os_errors():
            self._close()

    def _close(self) -> None:
        """Once: a container whose closing failed would crash when it is closed again."""
        if self._open:
            self._open = False
            self._container.close()

    def _tick(self, time: float | None) -> int:
        """When the next frame is shown, in units of the time base, behind the frame before it."""
        if not self.codec.own_times:
            return self._last + 1
        even = self.frames if time is None else round(time * self._rate)
        # Matroska rounds times to milliseconds: those of even frames are even again.
        if time is None or abs(even / self._rate - time) < _ROUNDED_S:
            at = even / self._rate * self._ticks
        else:
            at = Fraction(round(time * self._ticks))
        return max(round(at), self._last + 1)

    def _stream(self, facts: Facts) -> Any:
        stream = self._container.add_stream(self.codec.name, rate=self._rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = self.codec.pixels
        stream.sample_aspect_ratio = facts.aspect
        context = stream.codec_context
        context.time_base = Fraction(1, self._ticks) if self.codec.own_times else 1 / self._rate
        if not self.codec.lossless:
            stream.options = {**(_LIVE if facts.live else _FILES), **_QUALITY}
            if facts.live and self.size[0] * self.size[1] <= _ONE_THREAD:
                stream.options |= {"threads": "1"}
            context.gop_size = max(round(2 * self.fps), 1)  # two seconds: where players can jump to
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
        return stream

    def _sound(self, facts: Facts) -> dict[int, Any]:
        """The streams that sound is copied to, by the source's number of the track."""
        av = pyav.library()
        assert av is not None
        tracks = {}
        for track in facts.tracks:
            # Of a codec that FFmpeg does not know, as an iPhone's APAC, there is no context.
            name = UNKNOWN if track.codec_context is None else track.codec_context.name
            if self.codec.own_times and name in self._container.supported_codecs:
                try:
                    tracks[track.index] = self._container.add_stream_from_template(track)
                    continue
                except (av.FFmpegError, ValueError):
                    pass
            self.lost.append(name)
        return tracks

    def _av_frame(self, pixels: Pixels) -> Any:
        av = pyav.library()
        assert av is not None
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if self.codec.lossless:
            return frame
        wanted = {"format": self.codec.pixels, "dst_colorspace": "ITU709", "dst_color_range": "MPEG"}
        return self._converter.changed(frame, **wanted)
