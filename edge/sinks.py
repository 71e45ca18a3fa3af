"""Where restored pictures go: an image file, a folder, a video file, or nowhere.

Every output is written under a temporary name in its own folder and renamed when it is whole, so that a name never
stands for half a file, whatever ends the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2

from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import WRITABLE, encode_image, shallow, utf8
from edge.sources import Frame, Images, Source
from edge.terminal import is_url
from simulator import files

# FFV1 and PNG keep every pixel; .mp4 is lossy and there because every player opens it.
CODECS = {".mkv": "FFV1", ".avi": "FFV1", ".mov": "png ", ".mp4": "mp4v"}
_LOSSY = frozenset({".mp4"})
_ASSUMED_FPS = 25.0

FileIdentity = tuple[int, int]  # device and inode: the same for every name of a file


class Sink:
    """Takes restored pictures in order. This one lets them go; the others store them.

    Call `finish` when the pictures end, however they end, and `discard` last, which removes what is not whole.
    `notes` collects sentences for the person.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def write(self, frame: Frame, pixels: Samples) -> None:
        """Stores `pixels`, the restored form of `frame`, of 8 or 16 bits.

        Raises UnfitError where this one cannot be stored, UserError where nothing can.
        """

    def finish(self) -> str:
        """Makes everything whole; returns what was written, in a few words, '' for nothing. Raises UserError."""
        return ""

    def discard(self) -> None:
        """Removes what is not whole; nothing after `finish`."""


class ImageFile(Sink):
    """One image file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.done = False

    def write(self, frame: Frame, pixels: Samples) -> None:
        content, notes = encode_image(pixels, self.path, frame.metadata)
        write_atomically(self.path, content)
        self.notes += notes
        self.done = True

    def finish(self) -> str:
        return str(self.path) if self.done else ""


class Folder(Sink):
    """A folder: `names` says where in it the image of a path goes; frames of a video are numbered PNGs."""

    def __init__(self, path: Path, names: dict[Path, Path]) -> None:
        super().__init__()
        self.path = path
        self.names = names
        self.done = 0

    def write(self, frame: Frame, pixels: Samples) -> None:
        name = self.names[frame.path] if frame.path is not None else Path(frame_name(self.done + 1))
        content, notes = encode_image(pixels, self.path / name, frame.metadata)
        write_atomically(self.path / name, content)
        self.notes += notes
        self.done += 1

    def finish(self) -> str:
        return f"{self.done} image{'s' * (self.done != 1)} in {self.path}" if self.done else ""


class VideoFile(Sink):
    """A video file of the source's frame rate, without sound."""

    def __init__(self, path: Path, fps: float | None) -> None:
        super().__init__()
        self.path = path
        self.fps = fps
        self.done = 0
        self.size = (0, 0)  # (width, height) in the file
        self.writer: cv2.VideoWriter | None = None
        self.temporary: Path | None = None

    def write(self, frame: Frame, pixels: Samples) -> None:
        bgr = cv2.cvtColor(shallow(pixels), cv2.COLOR_RGB2BGR)  # frames of videos have three channels
        height, width = bgr.shape[:2]
        # Video writers cut odd sizes down to even ones: repeat the last column and row instead of losing them.
        even = cv2.copyMakeBorder(bgr, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self.writer is None:
            if (height % 2, width % 2) != (0, 0):
                self.notes.append(
                    f"videos have even sizes, so the last column or row of {width}x{height} is repeated in {self.path}."
                )
            self._open((even.shape[1], even.shape[0]))
        elif (even.shape[1], even.shape[0]) != self.size:
            was = f"{self.size[0]}x{self.size[1]}"
            raise UserError(
                f"{frame.name} has {width}x{height} pixels where those before had {was}, which one video cannot hold;"
                " what was restored so far is kept."
            )
        assert self.writer is not None
        # A full disk goes unnoticed by the writer: stop while there is room to close the file properly.
        if self._free() < 4 * even.nbytes + (1 << 20):
            raise UserError(
                f"the disk of {self.path} is full but for {self._free() >> 10} KiB after {self.done} frames;"
                " what was restored so far is kept."
            )
        self.writer.write(even)
        self.done += 1

    def finish(self) -> str:
        if self.writer is None or self.temporary is None:
            return ""
        self.writer.release()
        self.writer = None
        if not self.done:
            return ""
        check = cv2.VideoCapture(str(self.temporary), cv2.CAP_FFMPEG)
        stored = 0  # frames that are really there: the header may announce more
        while check.grab():
            stored += 1
        check.release()
        if stored != self.done:
            raise UserError(
                f"{self.path} could not be written completely ({stored} of {self.done} frames can be read back) and "
                "was dropped; see whether the disk is full or a file may only be so large."
            )
        try:
            os.replace(self.temporary, os.path.realpath(self.path))
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        self.temporary = None
        return f"{self.path} ({self.done} frames)"

    def discard(self) -> None:
        if self.writer is not None:
            self.writer.release()
            self.writer = None
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)
            self.temporary = None

    def _open(self, size: tuple[int, int]) -> None:
        suffix = self.path.suffix.lower()
        if self.fps is None:
            self.notes.append(f"the frame rate of the source is not known; {self.path} gets {_ASSUMED_FPS:g} a second.")
        if suffix in _LOSSY:
            self.notes.append(f"{suffix} is lossy; .mkv keeps every restored pixel.")
        self.temporary = files.temporary_name(self.path)
        if not utf8(self.temporary):
            self.temporary = None
            raise UserError(f"{ascii(str(self.path))} is not a UTF-8 name, which videos need; choose another.")
        try:
            self.temporary.parent.mkdir(parents=True, exist_ok=True)
            self.temporary.touch()  # gives the reason, in words, where the video writer would only fail
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        fourcc = cv2.VideoWriter.fourcc(*CODECS[suffix])
        fps = self.fps or _ASSUMED_FPS
        self.writer = cv2.VideoWriter(str(self.temporary), cv2.CAP_FFMPEG, fourcc, fps, size)
        self.size = size
        if not self.writer.isOpened():
            raise UserError(
                f"{self.path} cannot be made: no video of {size[0]}x{size[1]} at {fps:g} frames a second goes into"
                f" {suffix}; give a folder instead."
            )

    def _free(self) -> int:
        assert self.temporary is not None
        return shutil.disk_usage(self.temporary.parent).free


def open_sink(out: str | None, source: Source, count: int | None, taken: set[FileIdentity]) -> Sink:
    """The sink that --out names for `count` pictures (None: not known) of `source`; without --out, none is stored.

    A name with an image's suffix is an image, one with a video's suffix a video, one without a suffix a folder, and
    so is a folder that exists or a name that ends with a slash. `taken` are the files that must not be overwritten.
    Raises UserError where the output is impossible, before anything is restored.
    """
    if out is None:
        return Sink()
    if is_url(out):
        raise UserError(f"--out {out} is an address; give the name of a file or folder.")
    path = Path(out).expanduser()
    suffix = path.suffix.lower()
    if out.endswith(("/", os.sep)) or not suffix or is_folder(path):
        names = _names(source.paths) if isinstance(source, Images) else {}
        for name in names.values() or [Path(frame_name(1))]:
            check_output(path / name, taken)
        return Folder(path, names)
    if suffix in WRITABLE:
        if count != 1:
            many = "many pictures" if count is None else f"{count} pictures"
            instead = "a folder" if isinstance(source, Images) else f"a folder or a video ({', '.join(CODECS)})"
            raise UserError(f"--out {out} is one image, but the source has {many}; give {instead}, or --max-frames 1.")
        check_output(path, taken)
        return ImageFile(path)
    if suffix in CODECS:
        if isinstance(source, Images):
            raise UserError(f"--out {out} is a video, but the source is no video; give an image's name or a folder.")
        check_output(path, taken)
        return VideoFile(path, source.fps)
    formats = ", ".join([*WRITABLE, *([] if isinstance(source, Images) else CODECS)])
    raise UserError(f"--out {out}: {suffix} cannot be written; choose one of {formats}, or end a folder's name with /.")


def identities(paths: Iterable[Path]) -> set[FileIdentity]:
    """The identities of those of `paths` that exist."""
    found = set()
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            continue  # what is not there cannot be overwritten
        found.add((state.st_dev, state.st_ino))
    return found


def check_output(path: Path, taken: set[FileIdentity]) -> None:
    """Raises UserError if the file `path` cannot be written or is one of `taken`."""
    try:
        if path.exists():
            if identities([path]) & taken:
                raise UserError(f"{path} is read by this run and would be overwritten; choose another output.")
            if not path.is_file():
                raise UserError(f"{path} is there already and not an ordinary file; choose another output.")
        folder = Path(os.path.realpath(path)).parent
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written: {folder} is not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: there is no permission to write in {folder}.")


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`. Raises UserError where the system cannot say, as of too long a name."""
    try:
        return path.is_dir()
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all; links are followed, missing folders made. Raises UserError."""
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def frame_name(number: int) -> str:
    """The file name of a video's frame, counted from 1."""
    return f"frame_{number:06d}.png"


def _names(paths: Iterable[Path]) -> dict[Path, Path]:
    """Where each image goes below an output folder: by its own name, below the folder that all have in common.

    A format that is not written gets .png behind its name: a.gif becomes a.gif.png, so nothing collides with a.png.
    """
    paths = list(paths)
    common = os.path.commonpath([path.parent for path in paths])
    names: dict[Path, Path] = {}
    used = set(paths)
    for path in paths:
        target = path
        while target.suffix.lower() not in WRITABLE or (target != path and target in used):
            target = target.with_name(target.name + ".png")
        used.add(target)
        names[path] = target.relative_to(common)
    return names


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {files.reason(error)}.")
