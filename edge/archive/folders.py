"""The folders of this machine as a place of pictures; an address is a path."""

from __future__ import annotations

import collections
import contextlib
import functools
import glob
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge.archive.names import log_name
from edge.archive.places import FILE, FOLDER, PATTERN, Entry, Look, Top, Unlisted
from edge.errors import UserError
from edge.sources.images import AGAIN, LeftOut, called_image, is_image, what_else
from simulator import files
from simulator.files import reason

_LONGEST_LINE = 1 << 20  # bytes, of a journal; what is longer is none of a run's


class Folders:
    def read(self, address: str) -> bytes:
        with open(address, "rb") as file:
            return file.read()

    def write(self, address: str, content: bytes) -> None:
        try:
            files.write_atomically(address, content)
        except FileNotFoundError:
            Path(os.path.realpath(address)).parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(address, content)

    def clear(self, address: str) -> None:
        files.remove_temporaries(address)

    def name(self, address: str) -> str:
        return address

    def label(self, address: str) -> str:
        return address

    def looks(self) -> Look:
        return _look

    def top(self, source: str) -> Top:
        path = os.path.expanduser(source)
        path = path.rstrip(os.sep) or os.sep
        whole = os.path.abspath(path)
        expected = "each SOURCE here is an image, a folder or a 'glob*'"
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                os.scandir(path).close()
                return Top(path, whole, FOLDER)
            if stat.S_ISREG(mode) and (called_image(path) or is_image(Path(path))):
                return Top(path, whole, FILE)
        except (FileNotFoundError, NotADirectoryError) as error:
            if glob.has_magic(path):
                return Top(_firm(path), os.path.abspath(_firm(path)), PATTERN, path)
            raise UserError(f"{source} does not exist; {expected}.") from error
        except OSError as error:
            raise UserError(f"{source} cannot be looked up: {reason(error)}.") from error
        if stat.S_ISREG(mode):
            raise UserError(
                f"{source} is no image; several SOURCEs, and the options of archives, are for images, folders and"
                " 'glob*' of these."
            )
        raise UserError(f"{source} is neither a file nor a folder; {expected}.")

    def entries(self, top: Top, recursive: bool, without: str | None, left_out: LeftOut) -> Iterator[Entry | Unlisted]:
        if top.kind == FOLDER:
            yield from self._walk(top.path, recursive, without, left_out)
        elif top.kind == PATTERN:
            for path, again in _matched(top.pattern):
                if not os.path.isfile(path):
                    continue
                if again:
                    left_out.add(AGAIN, os.path.basename(path))
                else:
                    yield from self._entry(path, left_out)
        else:
            yield from self._entry(top.path, left_out)

    def _walk(self, folder: str, recursive: bool, without: str | None, left_out: LeftOut) -> Iterator[Entry | Unlisted]:
        """Folder by folder, each while it is listed: a folder is never in memory as a whole."""
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                with os.scandir(current) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if not entry.is_dir(follow_symlinks=False):
                            yield from self._entry(entry.path, left_out)
                        elif not recursive:
                            left_out.add("folder", entry.name)
                        elif without is None or os.path.realpath(entry.path) != os.path.realpath(without):
                            waiting.append(entry.path)
            except OSError as error:
                yield Unlisted(current, f"the folder {current} cannot be read: {reason(error)}.")

    def _entry(self, path: str, left_out: LeftOut) -> Iterator[Entry | Unlisted]:
        """One, or none where `path` is no image; only those are looked into whose name says nothing."""
        state = None
        if called_image(path):
            with contextlib.suppress(OSError):
                state = os.stat(path)
        if state is None or not stat.S_ISREG(state.st_mode):
            try:
                kind = what_else(path)
            except OSError:
                kind = "file that cannot be read"
            if kind is not None:
                left_out.add(kind, os.path.basename(path))
                return
            try:
                state = os.stat(path)
            except OSError as error:
                yield Unlisted(path, f"{path} cannot be looked up: {reason(error)}.")
                return
        # Neither time alone tells of every change: one may be set back, the other be that of a coarse clock.
        stamp = f"{state.st_mtime_ns}-{state.st_ctime_ns}"
        yield Entry(path, state.st_size, stamp, (state.st_dev, state.st_ino))

    def log(self, folder: str) -> FolderLog:
        return FolderLog(Path(folder))


FOLDERS = Folders()


def _matched(pattern: str) -> Iterator[tuple[str, bool]]:
    """(path, whether there is a shorter way to it, by links to folders) of all that a pattern matches, by name.

    All is listed first: which of several ways to a picture is taken, and so what it is called, and in which shard it
    is, shall not depend on the order in which a system lists names.
    """
    paths = sorted({path for path in glob.iglob(pattern, recursive=True) if not os.path.basename(path).startswith(".")})
    places = {folder: os.path.realpath(folder) for folder in dict.fromkeys(map(os.path.dirname, paths))}
    ways = collections.Counter(places.values())
    seen, again = set(), set()
    for path in sorted(paths, key=lambda path: (path.count(os.sep), path)):
        folder, name = os.path.split(path)
        place = places[folder]
        if ways[place] == 1:
            continue
        if (place, name) in seen:
            again.add(path)
        seen.add((place, name))
    for path in paths:
        yield path, path in again


class FolderLog:
    """Lines in files of a folder. Each is in its file, at the latest, when `add` returns: a kill loses none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = -1

    def lines(self) -> Iterator[bytes]:
        for path in sorted(self._folder.glob("*.jsonl")):
            if path.is_file():  # a pipe would wait for ever
                with path.open("rb") as file:
                    yield from iter(functools.partial(file.readline, _LONGEST_LINE), b"")

    def add(self, line: bytes) -> None:
        if self._file < 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._folder / log_name(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        os.write(self._file, line)  # all of it or, on a full disk, a part that no reader takes for a line

    def close(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):  # as of a pipe; a disk that fails has failed before
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def _look(address: str) -> tuple[int, tuple[int, int]] | None:
    try:
        state = os.stat(address)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_size, (state.st_dev, state.st_ino)


def _firm(pattern: str) -> str:
    """The part of a pattern in front of the first that is none; "" for the folder that the process works in."""
    firm = os.sep.join(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.split(os.sep)))
    return firm or (os.sep if pattern.startswith(os.sep) else "")
