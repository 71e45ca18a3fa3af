"""A video file."""

from __future__ import annotations

import os
from pathlib import Path

from edge import pyav
from edge.containers import kinds
from edge.errors import UserError
from edge.images import utf8
from edge.sources.bytewise import Jpegs
from edge.sources.capture import Video
from edge.sources.decoded import Decoded
from edge.sources.plain import Plain
from edge.sources.record import LostError, Reader, Settings
from simulator.files import reason


def open_video(path: Path, settings: Settings) -> Video:
    """Raises UserError for a file that cannot be read, or holds no video."""
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: permission denied.")
    if not utf8(path):
        raise UserError(f"{ascii(str(path))} has a name that is not UTF-8, which videos need; rename it.")

    def opener() -> Reader:
        try:
            if _begins_like_a_picture(path):
                # FFmpeg takes what follows a broken one for a part of it.
                return _jpegs(path)
            if pyav.library() is None:
                return Plain(str(path))
            # A playlist must not send anyone to other places.
            return Decoded(f"file:{path}", options={"protocol_whitelist": "file"}, sound=settings.sound)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason(error)}.") from error
        except LostError as error:
            raise UserError(
                f"{path} is neither an image nor a video that can be decoded; it may be damaged or cut short."
            ) from error

    return Video(str(path), opener, settings, path=path)


def _begins_like_a_picture(path: Path) -> bool:
    """Whether it is JPEGs in a row: one alone would be an image."""
    with path.open("rb") as file:
        return kinds.kind_of(file.read(kinds.HEAD)) == "jpeg"


def _jpegs(path: Path) -> Jpegs:
    file = path.open("rb")

    def read(count: int) -> bytes:
        try:
            return file.read(count)
        except OSError as error:
            raise LostError(f"cannot be read any further: {reason(error)}") from error

    return Jpegs(read, file.close, live=False)
