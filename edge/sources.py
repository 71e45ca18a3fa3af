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
import mmap
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.containers.record import Metadata
from edge.errors import UserError
from edge.images import READABLE, Deep, Pixels, kind_of, read_image, utf8
from edge.terminal import without_secrets
from simulator.files import reason

EXPECTED = "sample, camera0, /dev/video0, an image, a folder, a 'glob*', a video, or an http/rtsp URL"
_SAMPLES = Path(__file__).resolve().parent / "samples"
_BROKEN_IN_A_ROW = 32  # frames of a file; after so many the rest is given up
_UNEVEN_S = 0.2  # how far frames may stray from even times without a word
_NAMED = 5  # of the files that are left out
_URL = re.compile(r"(https?|rtsps?|rtmp)://", re.IGNORECASE)


@dataclass(frozen=True)
class Frame:
    """One picture to restore: uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA, and what to call it in a message.

    For the rest see `edge.images.Picture`.
    """

    name: str
    pixels: Pixels
    path: Path | None = None  # of an image file; None for a frame of a video
    deep: Deep | None = None
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """A part of the source that could not be had; `reason` is a whole sentence that names it."""

    reason: str


@dataclass(frozen=True)
class Remark:
    """Something that the person should read; `text` is a whole sentence, and nothing failed."""

    text: str


@dataclass(frozen=True)
class Images:
    """Image files, at least one, in the order in which they are restored; `notes` say what was left out."""

    paths: tuple[Path, ...]
    reference: Path | None = None  # the undegraded picture, where it is known (the sample)
    notes: tuple[str, ...] = ()

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
        shown = degraded if degraded.exists() else _SAMPLES / "noisy.png"
        return Images((shown,), clean if clean.exists() else None)
    if camera := re.fullmatch(r"(?:camera|/dev/video)(\d+)", text):
        return _open_camera(int(camera[1]))
    if _URL.match(text):
        scheme, rest = text.split("://", 1)
        label = without_secrets(f"{scheme}://{rest.rpartition('@')[2]}")
        return _open_video(f"{scheme.lower()}://{rest}", label, None)  # FFmpeg knows small letters only
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


def frames(source: Source, limit: int | None = None) -> Iterator[Frame | Unreadable | Remark]:
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
                yield Frame(path.name, picture.pixels, path, picture.deep, picture.metadata, picture.notes)
    else:
        yield from _video_frames(source, limit)


def _open_file(path: Path) -> Source:
    """An image or a video: the content decides, and where it says nothing, the suffix."""
    if _is_image(path):
        return Images((path,))
    return _open_video(str(path), str(path), path)


def _open_folder(folder: Path) -> Images:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {reason(error)}.") from error
    paths, left_out = _sorted_out(found)
    if not paths:
        held = f" (but {_counted(left_out)})" if left_out else ""
        raise UserError(
            f"the folder {folder} holds no images{held}; put some there ({', '.join(sorted(READABLE))}), or give a"
            " pattern such as '**/*.png' for those in folders below."
        )
    return Images(paths, notes=_left_out(f"the folder {folder}", left_out))


def _open_pattern(pattern: str) -> Images:
    matches = [Path(match) for match in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
    paths, left_out = _sorted_out(matches)
    if not paths:
        found = "nothing" if not matches else f"{len(matches)} name(s), none of them an image"
        raise UserError(f"the pattern {pattern} matches {found}; give one that matches image files.")
    return Images(
        paths, notes=_left_out(f"the pattern {pattern}", {k: v for k, v in left_out.items() if k != "folder"})
    )


def _sorted_out(found: list[Path]) -> tuple[tuple[Path, ...], dict[str, list[str]]]:
    """(the images among `found`, names of the others by what they are).

    Hidden files are left out without a word: among them are those that a run into the same folder is writing.
    """
    images: dict[tuple[str, str], Path] = {}
    others: dict[str, list[str]] = {}
    folders: dict[Path, str] = {}
    for path in found:
        if path.name.startswith("."):
            continue
        try:
            kind = _what_else(path)
        except OSError:
            kind = "file that cannot be read"
        # A loop of links shows one file under many names.
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        place = (folders[path.parent], path.name)
        if kind is None and place in images:
            kind = "name of an image that is there already"
        if kind is None:
            images[place] = path
        else:
            others.setdefault(kind, []).append(path.name)
    return tuple(images.values()), others


def _what_else(path: Path) -> str | None:
    """What `path` is if it is no image, in words; None for an image. Raises OSError where the system cannot say."""
    if path.is_file():
        # Of many files only those are looked into whose name says nothing.
        return None if path.suffix.lower() in READABLE or _is_image(path) else "file that is no image"
    return "folder" if path.is_dir() else "file that is no image" if path.exists() else "link that leads nowhere"


def _is_image(path: Path) -> bool:
    """Whether a file is a still image, read here or not: its content decides, and where it says nothing, its suffix.

    Raises OSError for a file that cannot be read and is not called like an image.
    """
    try:
        kind = kind_of(path)
        if kind == "jpeg":
            from edge.containers import jpeg

            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                kind = None if jpeg.is_sequence(content) else kind
    except OSError:
        if path.suffix.lower() not in READABLE:
            raise
        kind = None
    return kind is not None or path.suffix.lower() in READABLE


def _left_out(where: str, names: dict[str, list[str]]) -> tuple[str, ...]:
    return (f"of {where} are left out: {_counted(names)}.",) if names else ()


def _counted(names: dict[str, list[str]]) -> str:
    """Such as "2 folders (a, b), 1 file that is no image (c.txt)"."""
    parts = []
    for kind, found in names.items():
        noun, _, rest = kind.partition(" ")
        if len(found) > 1:
            noun, rest = f"{noun}s", rest.replace("that is no image", "that are no images").replace("leads", "lead")
        shown = ", ".join(found[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
        parts.append(f"{len(found)} {noun}{' ' * bool(rest)}{rest} ({shown})")
    return ", ".join(parts)


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


def _video_frames(video: Video, limit: int | None) -> Iterator[Frame | Unreadable | Remark]:
    done = missed = 0  # frames decoded; frames that were not, with another behind them
    first = last = 0.0  # when the first and the last frame start, in seconds
    while limit is None or done < limit:
        bgr, failed = _next_frame(video, done + missed)
        if bgr is None:
            break
        if failed:
            missed += failed
            which = f"frame {done + missed}" if failed == 1 else f"{failed} frames before frame {done + missed + 1}"
            yield Unreadable(f"{which} of {video.label} cannot be decoded and is left out.")
        done += 1
        last = video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        first = last if done == 1 else first
        rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
        yield Frame(f"frame {done + missed} of {video.label}", rgb)
    else:
        return
    if done == 0:
        yield Unreadable(f"{video.label} holds no frame that can be decoded; give a whole video.")
    elif video.camera:
        yield Unreadable(f"{video.label} stopped giving pictures after {done} frames; what was restored is kept.")
    elif video.path is None:
        yield Remark(f"{video.label} ended or broke off after {done} frames; what was restored is kept.")
    elif video.count is not None and done + missed < video.count and _ends_early(video, last):
        yield Unreadable(
            f"{video.label} ends early: {done} of {video.count} announced frames could be decoded;"
            " what was restored is kept."
        )
    if video.path is not None and video.fps and abs(last - first - (done + missed - 1) / video.fps) > _UNEVEN_S:
        yield Remark(
            f"the frames of {video.label} come at uneven times, over {last - first:.1f} s; times are not kept, and at"
            f" {video.fps:g} a second they take {done / video.fps:.1f} s."
        )


def _next_frame(video: Video, passed: int) -> tuple[Pixels | None, int]:
    """(BGR or None, how many before it could not be decoded), after `passed` frames of the file.

    One broken frame does not end a file that announces more; of a stream nobody knows what is to come.
    """
    for failed in range(_BROKEN_IN_A_ROW):
        more, bgr = video.capture.read()
        if more:
            return np.asarray(bgr, np.uint8), failed
        if video.path is None or video.count is None or passed + failed + 1 >= video.count:
            break
    return None, 0


def _ends_early(video: Video, last: float) -> bool:
    """Whether the end of the last frame falls short of the announced end by more than half a frame.

    The count alone would not do: where frames come at uneven times it is only an estimate.
    """
    if video.fps is None or video.count is None:
        return False
    return video.count / video.fps - (last + 1 / video.fps) > 0.5 / video.fps
