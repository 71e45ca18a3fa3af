"""What SOURCE can be, and the pictures that come out of it.

    sample                       the picture that ships with the project, degraded as the task asks
    camera0, /dev/video0         a camera
    photo.png                    an image
    photos/, 'photos/*.png'      the images of a folder, or those that a pattern matches
    clip.mkv                     a video
    http://..., rtsp://...       a stream

`open_source` looks at the text and at the file system; nothing is decoded before `frames` is iterated, but for a
video's or camera's first contact.
"""

from __future__ import annotations

import glob
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import cv2
import numpy as np

from edge.errors import UserError
from edge.images import READABLE, Pixels, read_image, utf8
from simulator.files import reason

EXPECTED = "sample, camera0, /dev/video0, an image, a folder, a 'glob*', a video, or an http/rtsp URL"
_SAMPLES = Path(__file__).resolve().parent / "samples"
_URL = re.compile(r"(https?|rtsps?|rtmp)://", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """One picture to restore: uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, and what to call it in a message.

    For the rest see `edge.images.Picture`.
    """

    name: str
    pixels: Pixels
    path: Path | None = None  # of an image file; None for a frame of a video
    profile: bytes | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """A part of the source that could not be had; `reason` is a whole sentence that names it."""

    reason: str


@dataclass(frozen=True)
class Images:
    """Image files, at least one, in the order in which they are restored."""

    paths: tuple[Path, ...]
    reference: Path | None = None  # the undegraded picture, where it is known (the sample)

    @property
    def count(self) -> int | None:
        return len(self.paths)


@dataclass(frozen=True)
class Video:
    """An opened video file, stream or camera. `label` is fit for messages: no password of a URL is in it."""

    label: str
    capture: cv2.VideoCapture
    fps: float | None  # None: not known
    count: int | None  # frames announced; None: not known
    camera: bool = False
    path: Path | None = None  # of a file; None for a camera or stream


Source = Images | Video


def open_source(text: str, task: str | None = None) -> Source:
    """Finds out what `text` names, see the top of this file. Raises UserError if there is no such thing.

    task: which of the samples "sample" is, the noisy one if there is none of the task.
    """
    if text == "sample":
        clean, degraded = _SAMPLES / "clean.png", _SAMPLES / f"{task}.png"
        return Images((degraded if degraded.exists() else _SAMPLES / "noisy.png",), clean if clean.exists() else None)
    if camera := re.fullmatch(r"(?:camera|/dev/video)(\d+)", text):
        return _open_camera(int(camera[1]))
    if _URL.match(text):
        return _open_video(text, _without_password(text), None)
    path = Path(text).expanduser()
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_file():
            return _open_file(path)
        if not path.exists() and glob.has_magic(text):
            return _open_pattern(text)
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{text} cannot be looked up: {reason(error)}.") from error
    if exists:
        raise UserError(f"{text} is neither a file nor a folder; SOURCE can be {EXPECTED}.")
    raise UserError(f"{text} does not exist; SOURCE can be {EXPECTED}.")


def files(source: Source) -> list[Path]:
    """The files that `source` is read from: what no output may overwrite."""
    if isinstance(source, Images):
        return [*source.paths, *([source.reference] if source.reference else [])]
    return [source.path] if source.path else []


def frames(source: Source, limit: int | None = None) -> Iterator[Frame | Unreadable]:
    """The pictures of `source`, at most `limit`, and in their place what could not be read.

    A video that ends before its announced end closes with an Unreadable.
    """
    if isinstance(source, Images):
        for path in source.paths[:limit]:
            try:
                picture = read_image(path)
            except UserError as error:
                yield Unreadable(str(error))
            else:
                yield Frame(path.name, picture.pixels, path, picture.profile, picture.notes)
    else:
        yield from _video_frames(source, limit)


def _open_file(path: Path) -> Source:
    """An image or a video; the suffix decides, and where it says nothing, the content."""
    if path.suffix.lower() in READABLE or (utf8(path) and cv2.haveImageReader(str(path))):
        return Images((path,))
    return _open_video(str(path), str(path), path)


def _open_folder(folder: Path) -> Images:
    try:
        paths = sorted(path for path in folder.iterdir() if _looks_like_image(path))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {reason(error)}.") from error
    if not paths:
        raise UserError(f"the folder {folder} holds no images; put some there ({', '.join(sorted(READABLE))}).")
    return Images(tuple(paths))


def _open_pattern(pattern: str) -> Images:
    matches = [Path(match) for match in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
    paths = tuple(path for path in matches if _looks_like_image(path))
    if not paths:
        found = "nothing" if not matches else f"{len(matches)} name(s), none of them an image"
        raise UserError(f"the pattern {pattern} matches {found}; give one that matches image files.")
    return Images(paths)


def _looks_like_image(path: Path) -> bool:
    # Hidden files are left out: among them are the temporary files of a run that writes into the same folder.
    return path.suffix.lower() in READABLE and not path.name.startswith(".") and path.is_file()


def _open_camera(number: int) -> Video:
    label = f"camera{number}"
    if sys.platform == "linux":
        device = Path(f"/dev/video{number}")
        if not device.exists():
            there = sorted(int(match[1]) for node in Path("/dev").iterdir() if (match := _video_node(node.name)))
            cameras = ", ".join(f"camera{n}" for n in there)
            found = f"this machine has {cameras}" if cameras else "this machine has no camera"
            raise UserError(f"{label} ({device}) is not there; {found}.")
        if not os.access(device, os.R_OK | os.W_OK):
            raise UserError(f"{label} ({device}) may not be used by this user; join the group `video`.")
    capture = cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
    if not capture.isOpened():
        capture.release()
        raise UserError(f"{label} gives no pictures; another program may be using it, or it is not a capture device.")
    return Video(label, capture, _frame_rate(capture), None, camera=True)


def _video_node(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"video(\d+)", name)


def _open_video(address: str, label: str, path: Path | None) -> Video:
    if path is not None and not os.access(path, os.R_OK):
        raise UserError(f"{label} cannot be read: permission denied.")
    if path is not None and not utf8(path):
        raise UserError(f"{ascii(label)} has a name that is not UTF-8, which videos need; rename it.")
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        if path is None:
            raise UserError(f"{label} cannot be opened as a stream; check the address and that its server is running.")
        raise UserError(f"{label} is neither an image nor a video that can be decoded; it may be damaged or cut short.")
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    # Streams announce nothing, which arrives as zero, a negative or an absurd number.
    count = round(announced) if 1 <= announced < 1e9 else None
    return Video(label, capture, _frame_rate(capture), count, path=path)


def _frame_rate(capture: cv2.VideoCapture) -> float | None:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0 < fps <= 1000 else None


def _video_frames(video: Video, limit: int | None) -> Iterator[Frame | Unreadable]:
    done = 0
    last = 0.0  # when the last frame starts, in seconds
    while limit is None or done < limit:
        more, bgr = video.capture.read()
        if not more:
            break
        done += 1
        last = video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        yield Frame(f"frame {done} of {video.label}", rgb)
    else:
        return
    if done == 0:
        yield Unreadable(f"{video.label} holds no frame that can be decoded; give a whole video.")
    elif video.camera:
        yield Unreadable(f"{video.label} stopped giving pictures after {done} frames; what was restored is kept.")
    elif video.count is not None and done < video.count and _ends_early(video, last):
        yield Unreadable(
            f"{video.label} ends early: {done} of {video.count} announced frames could be decoded;"
            " what was restored is kept."
        )


def _ends_early(video: Video, last: float) -> bool:
    """Whether the end of the last frame falls short of the announced end by more than half a frame.

    The count alone would not do: where frames come at uneven times it is only an estimate.
    """
    if video.fps is None or video.count is None:
        return False
    return video.count / video.fps - (last + 1 / video.fps) > 0.5 / video.fps


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
