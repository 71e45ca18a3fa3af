"""Where restored pictures go: an image file, a folder, a video, a stream, a device, or nowhere.

    sink.py        what they have in common            video.py      a video file, or segments of one
    encoded.py     frames, times and sound by PyAV     recovery.py   what a killed run left
    push.py        an RTSP server                      loopback.py   a device that is a camera to other programs
    writer.py      the thread that stores what comes of videos

Every file is written under a temporary name in its own folder and renamed when it is whole, so that a name never
stands for half a file, whatever ends the run. Only what is needed is imported.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import WRITABLE, encode_image
from edge.sinks.sink import Sink, cannot_write
from edge.sources.images import Images
from edge.sources.record import Frame
from edge.terminal import is_url
from simulator import files

if TYPE_CHECKING:
    from edge.sources import Source
    from edge.sources.capture import Video

VIDEOS = (".mkv", ".avi", ".mov", ".mp4")
_PUSHED = re.compile(r"rtsps?://", re.IGNORECASE)
_DEVICE = re.compile(r"/dev/video\d+")


class Inputs:
    """Files that a run reads, which no output may overwrite: `path in inputs` says whether a path is a name of one.

    They are looked up when an output is found to be there already, which seldom happens; of very many it takes a while.
    """

    def __init__(self, bundle: Path, files: Iterable[Path | str] = ()) -> None:
        self._paths = itertools.chain([bundle], files)

    def __contains__(self, path: Path | str) -> bool:
        identity = _identity(path)
        return identity is not None and identity in self._identities

    @functools.cached_property
    def _identities(self) -> frozenset[tuple[int, int] | None]:
        return frozenset(map(_identity, self._paths))


@dataclass(frozen=True)
class Pieces:
    """How an endless recording is cut: seconds of each file, and how many of them stay (None: all)."""

    seconds: float
    keep: int | None = None


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
    """A folder: `named` says where in it the image of a path goes; frames of a video are numbered PNGs."""

    def __init__(self, path: Path, named: Callable[[str], str]) -> None:
        super().__init__()
        self.path = path
        self.named = named
        self.done = 0

    def write(self, frame: Frame, pixels: Samples) -> None:
        name = frame_name(self.done + 1) if frame.path is None else self.named(str(frame.path))
        content, notes = encode_image(pixels, self.path / name, frame.metadata)
        write_atomically(self.path / name, content)
        self.notes += notes
        self.done += 1

    def finish(self) -> str:
        return f"{self.done} image{'s' * (self.done != 1)} in {self.path}" if self.done else ""


def open_sink(
    out: str | None,
    source: Source,
    count: int | None,
    taken: Inputs,
    pieces: Pieces | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Sink:
    """The sink that --out names for `count` pictures (None: not known) of `source`; without --out, none is stored.

    A name with an image's suffix is an image, one with a video's suffix a video, in `pieces` if they are given, one
    without a suffix a folder, and so is a folder that exists or a name that ends with a slash; rtsp:// is a server that
    is pushed to, /dev/videoN a device. `taken` are the files that must not be overwritten; `stopping` says whether the
    run is to stop. Raises UserError where the output is impossible, before anything is restored.
    """
    if pieces is not None and (out is None or not out.lower().endswith(VIDEOS)):
        raise UserError(f"--segment is for --out with a video's name ({', '.join(VIDEOS)}); leave it out.")
    if out is None:
        return Sink()
    if _PUSHED.match(out) or _DEVICE.fullmatch(out):
        if isinstance(source, Images):
            raise UserError(f"--out {out} takes a video, but the source is no video; give an image's name or a folder.")
        if _PUSHED.match(out):
            from edge.sinks.push import Push

            return Push(out, source.facts)
        from edge.sinks.loopback import Loopback

        return Loopback(Path(out), source.live, stopping)
    if is_url(out):
        raise UserError(f"--out {out} is an address; give the name of a file or folder, or of an RTSP server.")
    path = Path(out).expanduser()
    suffix = path.suffix.lower()
    if out.endswith(("/", os.sep)) or not suffix or is_folder(path):
        if not isinstance(source, Images):
            check_output(path / frame_name(1), taken)
            return Folder(path, str)
        return _open_folder(path, source, taken)
    if suffix in WRITABLE:
        if count != 1:
            many = "many pictures" if count is None else f"{count} pictures"
            instead = "a folder" if isinstance(source, Images) else f"a folder or a video ({', '.join(VIDEOS)})"
            raise UserError(f"--out {out} is one image, but the source has {many}; give {instead}, or --max-frames 1.")
        check_output(path, taken)
        return ImageFile(path)
    if suffix in VIDEOS:
        if isinstance(source, Images):
            raise UserError(f"--out {out} is a video, but the source is no video; give an image's name or a folder.")
        return _open_video(path, source, taken, pieces, stopping)
    formats = ", ".join([*WRITABLE, *([] if isinstance(source, Images) else VIDEOS)])
    raise UserError(f"--out {out}: {suffix} cannot be written; choose one of {formats}, or end a folder's name with /.")


def _open_video(path: Path, source: Video, taken: Inputs, pieces: Pieces | None, stopping: Callable[[], bool]) -> Sink:
    from edge.sinks.recovery import recover
    from edge.sinks.video import Segments, VideoFile
    from edge.sinks.writer import Writer

    check_output(path, taken)
    sink = (
        VideoFile(path, source.facts) if pieces is None else Segments(path, source.facts, pieces.seconds, pieces.keep)
    )
    sink.notes += recover(path, pieces is not None)
    return Writer(sink, str(path), stopping)


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Device and inode, the same for every name of a file; None for what is not there."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino


def check_output(path: Path, taken: Inputs) -> None:
    """Raises UserError if the file `path` cannot be written or is one of `taken`."""
    try:
        if path.exists():
            if path in taken:
                raise UserError(f"{path} is read by this run and would be overwritten; choose another output.")
            if not path.is_file():
                raise UserError(f"{path} is there already and not an ordinary file; choose another output.")
    except OSError as error:
        raise cannot_write(path, error) from error
    _check_folder(path)


def _check_folder(path: Path) -> None:
    """Raises UserError if there can be no file `path` because of the folder that it is in."""
    try:
        folder = Path(os.path.realpath(path)).parent
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        raise cannot_write(path, error) from error
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written: {folder} is not a folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} cannot be written: there is no permission to write in {folder}.")


def is_folder(path: Path) -> bool:
    """Whether a folder is at `path`. Raises UserError where the system cannot say, as of too long a name."""
    try:
        return path.is_dir()
    except OSError as error:
        raise cannot_write(path, error) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path`, whole or not at all; links are followed, missing folders made. Raises UserError."""
    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, content)
    except OSError as error:
        raise cannot_write(path, error) from error


def frame_name(number: int) -> str:
    """The file name of a video's frame, counted from 1."""
    return f"frame_{number:06d}.png"


def target_name(name: str, is_there: Callable[[str], bool]) -> str:
    """Where the picture of that name goes below the output folder.

    A format that is not written gets .png behind its name: a.gif becomes a.gif.png, and another .png where the source
    has a picture of that name.
    """
    target = name
    while os.path.splitext(target)[1].lower() not in WRITABLE or (target != name and is_there(target)):
        target += ".png"
    return target


def _open_folder(folder: Path, source: Images, taken: Inputs) -> Folder:
    """A folder for images, where each goes by its way below the folder that all have in common.

    Raises UserError if one cannot be written. Only for what is there already names are looked up beforehand.
    """
    prefix = source.prefix()

    def named(path: str) -> str:
        return target_name(path, source.holds).removeprefix(prefix)

    check_output(folder / named(next(source.paths())), taken)
    if is_folder(folder):
        targets: dict[str, dict[str, str]] = {}  # folder below, name: the path of what goes there, if it is an image
        for path in source.candidates():
            if path.startswith(prefix):
                below, name = os.path.split(named(path))
                targets.setdefault(below, {})[name] = path
        for below, names in targets.items():
            _check_targets(folder / below, names, source, taken)
    return Folder(folder, named)


def _check_targets(folder: Path, names: dict[str, str], source: Images, taken: Inputs) -> None:
    """`check_output` for those of `names` in a folder at which something is, if their paths are those of images."""
    _check_folder(folder / next(iter(names)))
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(folder, error) from error
    with entries:
        for entry in entries:
            plain = entry.name not in names or (entry.is_file(follow_symlinks=False) and entry.path not in taken)
            if not plain and source.holds(names[entry.name]):
                check_output(folder / entry.name, taken)
