"""A video file."""

from __future__ import annotations

import os
from pathlib import Path

from edge import pyav
from edge.errors import UserError
from edge.images import utf8
from edge.sources.capture import Video
from edge.sources.decoded import Decoded
from edge.sources.plain import Plain
from edge.sources.record import LostError, Reader, Settings


def open_video(path: Path, settings: Settings) -> Video:
    """Raises UserError for a file that cannot be read, or holds no video."""
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: permission denied.")
    if not utf8(path):
        raise UserError(f"{ascii(str(path))} has a name that is not UTF-8, which videos need; rename it.")

    def opener() -> Reader:
        try:
            if pyav.library() is None:
                return Plain(str(path))
            # A playlist must not send anyone to other places.
            return Decoded(f"file:{path}", options={"protocol_whitelist": "file"}, sound=settings.sound)
        except LostError as error:
            raise UserError(
                f"{path} is neither an image nor a video that can be decoded; it may be damaged or cut short."
            ) from error

    return Video(str(path), opener, settings, path=path)
