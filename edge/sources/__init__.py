"""Where pictures come from: the SOURCE of the command, and the pictures that come out of it.

    sample                       the picture that ships with the project, degraded as the task asks      images.py
    photo.png                    an image                                                                images.py
    photos/, 'photos/*.png'      the images of a folder, or those that a pattern matches                 images.py
    clip.mp4                     a video                                                                 video.py
    camera0, /dev/video0         a camera, also by /dev/v4l/by-id/...                                    camera.py
    http://..., rtsp://...       a stream, or the address of one picture, which is asked for again       stream.py
    exec:COMMAND, picam0         what a command writes to its standard output                            command.py
    -                            standard input                                                          command.py

Videos, cameras and streams are read by a thread in front of the network (capture.py), through PyAV (decoded.py), or
OpenCV where PyAV is not installed (plain.py), or picture by picture (bytewise.py). Of all that only what is needed is
imported. record.py has what the parts pass to one another.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import UserError
from edge.sources.images import Images, is_image, open_folder, open_pattern, open_sample
from edge.sources.record import Frame, Remark, Settings, Unreadable
from simulator.files import reason

if TYPE_CHECKING:
    from edge.sources.capture import Video

    Source = Images | Video

__all__ = ["Frame", "Images", "Remark", "Settings", "Unreadable", "files", "open_source"]

EXPECTED = "sample, camera0, /dev/video0, an image, a folder, a 'glob*', a video, an http/rtsp URL, exec:COMMAND or -"
_URL = re.compile(r"(https?|rtsps?|rtmp)://", re.IGNORECASE)
_CAMERA = re.compile(r"(?:camera|/dev/video)(\d+)")
_PI_CAMERA = re.compile(r"picam(\d+)")
_BY_ID = "/dev/v4l/"
_NOTHING_SAID = Settings()

# Which options mean something to which sources; a camera needs no transport, and a file no exposure.
_OPTIONS = {
    "size": "--size is for cameras, picam0 and exec:",
    "fps": "--fps is for cameras, picam0, exec: and addresses of single pictures",
    "format": "--format is for cameras, picam0, exec: and -",
    "controls": "--control is for cameras",
    "transport": "--transport is for rtsp:// addresses",
    "timeout_s": "--timeout is for cameras, streams, exec: and -",
    "reconnect": "--reconnect is for cameras, streams and exec:",
    "drop": "--drop is for videos, cameras and streams",
}


def open_source(text: str, task: str | None = None, settings: Settings = _NOTHING_SAID) -> Source:
    """Finds out what `text` names, see the top of this file, and opens it. Raises UserError if there is no such thing.

    task: which of the samples "sample" is, the noisy one if there is none of the task.
    """
    if text == "sample":
        _refuse_other(settings, text)
        return open_sample(task)
    if (number := _CAMERA.fullmatch(text)) or text.startswith(_BY_ID):
        from edge.sources.camera import open_camera

        _refuse_other(settings, text, "size", "fps", "format", "controls", "timeout_s", "reconnect", "drop")
        return open_camera(int(number[1]) if number else Path(text), settings)
    if number := _PI_CAMERA.fullmatch(text):
        from edge.sources.command import open_pi_camera

        _refuse_other(settings, text, "size", "fps", "format", "timeout_s", "reconnect", "drop")
        return open_pi_camera(int(number[1]), settings)
    if text.startswith("exec:"):
        from edge.sources.command import open_command

        _refuse_other(settings, "exec:", "size", "fps", "format", "timeout_s", "reconnect", "drop")
        return open_command(text.removeprefix("exec:"), settings)
    if text == "-":
        from edge.sources.command import open_standard_input

        _refuse_other(settings, text, "size", "fps", "format", "timeout_s", "drop")
        return open_standard_input(settings)
    if _URL.match(text):
        from edge.sources.stream import open_stream

        transport = ("transport",) if text[:4].lower() == "rtsp" else ()
        fps = ("fps",) if text[:4].lower() == "http" else ()
        _refuse_other(settings, text, "timeout_s", "reconnect", "drop", *transport, *fps)
        return open_stream(text, settings)
    return _open_path(text, settings)


def files(source: Source) -> Iterator[Path | str]:
    """The files that `source` is read from: what no output may overwrite."""
    if isinstance(source, Images):
        return source.files()
    return iter([source.path] if source.path else [])


def _open_path(text: str, settings: Settings) -> Source:
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            _refuse_other(settings, text)
            return open_folder(path)
        if path.is_file():
            # The content decides whether it is an image or a video, and where it says nothing, the suffix.
            if is_image(path):
                _refuse_other(settings, text)
                return Images([str(path)])
            from edge.sources.video import open_video

            _refuse_other(settings, text, "drop")
            return open_video(path, settings)
        if not path.exists() and glob.has_magic(text):
            _refuse_other(settings, text)
            return open_pattern(text)
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{text} cannot be looked up: {reason(error)}.") from error
    if exists:
        raise UserError(f"{text} is neither a file nor a folder; SOURCE can be {EXPECTED}.")
    raise UserError(f"{text} does not exist; SOURCE can be {EXPECTED}.")


def _refuse_other(settings: Settings, source: str, *known: str) -> None:
    """Raises UserError for an option that was given and means nothing to this source."""
    for name, what_for in _OPTIONS.items():
        if name not in known and getattr(settings, name) != getattr(_NOTHING_SAID, name):
            raise UserError(f"{what_for}, and {source} is none of these; leave it out.")
