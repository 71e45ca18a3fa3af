"""The list of pictures, found while they are restored: memory and the time to the first do not grow with their number.

Of a folder its images are taken, with `recursive` those of the folders below as well; links to files are followed,
links to folders are not; hidden names are passed over. What is no image is counted, and the first few are named.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.archive.work import LISTED, Done, Work, failed
from edge.errors import UserError
from edge.images import READABLE, WRITABLE
from edge.sources.images import LeftOut, is_image, what_else
from simulator.files import reason

EXPECTED = "an image, a folder or a 'glob*' of images"


class Listing:
    """The pictures of several SOURCEs; iterate once. `left_out` counts what was no image, `found` the pictures."""

    def __init__(
        self,
        sources: Sequence[str],
        out: str | None = None,
        *,
        recursive: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> None:
        """out: the output folder. shard: (one share, from 1, of so many).

        Raises UserError for a SOURCE that is not there, or an output that is one of them.
        """
        self.left_out = LeftOut()
        self.found = 0
        self._recursive, self._shard = recursive, shard
        self._tops = [_top(source) for source in dict.fromkeys(sources)]
        self._root = os.path.commonpath([top.root for top in self._tops])
        self._out = None if out is None else os.path.abspath(os.path.expanduser(out))
        self._not_below = None if self._out is None else os.path.realpath(self._out)
        self._check()

    def __iter__(self) -> Iterator[Work | Done]:
        """Each picture, and in its place what of the list could not be had."""
        for top in self._tops:
            for path in self._paths(top):
                if isinstance(path, Done):
                    yield path
                    continue
                self.found += 1
                name = os.path.relpath(path, self._root)
                if self._shard is None or in_shard(name, *self._shard):
                    yield self._work(name, path)

    def _check(self) -> None:
        folders = [os.path.realpath(top.path) for top in self._tops if top.is_folder]
        for top in self._tops:
            place = os.path.realpath(top.path)
            above = next((folder for folder in folders if _below(place, folder) and place != folder), None)
            if above is not None and (self._recursive or (not top.is_folder and os.path.dirname(place) == above)):
                raise UserError(f"{top.path} lies in {above}, which is a SOURCE as well; give one of the two.")
            if self._not_below is not None and top.is_folder and _below(place, self._not_below):
                raise UserError(
                    f"--out {self._out} holds the pictures of {top.path}, which would be overwritten; choose a folder"
                    " beside it or in it."
                )

    def _paths(self, top: Top) -> Iterator[str | Done]:
        if top.is_folder:
            yield from self._walk(top.path)
        elif top.is_pattern:
            for path in glob.iglob(top.path, recursive=True):
                if not os.path.basename(path).startswith(".") and os.path.isfile(path) and self._is_image(path):
                    yield path
        else:
            yield top.path

    def _walk(self, folder: str) -> Iterator[str | Done]:
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            try:
                with os.scandir(current) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            if not self._recursive:
                                self.left_out.add("folder", entry.name)
                            elif self._not_below is None or os.path.realpath(entry.path) != self._not_below:
                                waiting.append(entry.path)
                        elif self._is_image(entry.path):
                            yield entry.path
            except OSError as error:
                name = os.path.relpath(current, self._root)
                text = f"the folder {current} cannot be read: {reason(error)}."
                yield failed(Work(name, current, None), LISTED, text)

    def _is_image(self, path: str) -> bool:
        """Of many files only those are looked into whose name says nothing."""
        if os.path.splitext(path)[1].lower() in READABLE and os.path.isfile(path):
            return True
        try:
            kind = what_else(Path(path))
        except OSError:
            kind = "file that cannot be read"
        if kind is not None:
            self.left_out.add(kind, os.path.basename(path))
        return kind is None

    def _work(self, name: str, path: str) -> Work | Done:
        try:
            state = os.stat(path)
        except OSError as error:
            return failed(Work(name, path, None), LISTED, f"{path} cannot be looked up: {reason(error)}.")
        target = there = None
        if self._out is not None:
            target = os.path.join(self._out, target_name(name, self._is_there))
            try:
                other = os.stat(target)
            except OSError:  # writing will say what is wrong, if it is
                pass
            else:
                there = other.st_size
                if os.path.samestat(state, other):
                    text = f"{path} is read by this run and would be overwritten; choose another output."
                    return failed(Work(name, path, target), LISTED, text)
        # Neither alone tells of every change: one may be set back, the other be that of a coarse clock.
        stamp = f"{state.st_mtime_ns}-{state.st_ctime_ns}"
        return Work(name, path, target, state.st_size, stamp, there)

    def _is_there(self, name: str) -> bool:
        return os.path.lexists(os.path.join(self._root, name))


@dataclass(frozen=True)
class Top:
    """A SOURCE. root: the folder below which its pictures have their names."""

    path: str
    root: str
    is_folder: bool = False
    is_pattern: bool = False


def _top(source: str) -> Top:
    """Raises UserError."""
    path = os.path.expanduser(source)
    whole = os.path.abspath(path)
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
            return Top(path, whole, is_folder=True)
        if os.path.isfile(path):
            if not is_image(Path(path)):
                raise UserError(f"{source} is no image; several SOURCEs can be images, folders and 'glob*' of these.")
            return Top(path, os.path.dirname(whole))
        if not os.path.exists(path) and glob.has_magic(path):
            firm = itertools.takewhile(lambda part: not glob.has_magic(part), whole.split(os.sep))
            return Top(path, os.sep.join(firm) or os.sep, is_pattern=True)
    except OSError as error:
        raise UserError(f"{source} cannot be looked up: {reason(error)}.") from error
    raise UserError(f"{source} does not exist; of several SOURCEs each can be {EXPECTED}.")


def in_shard(name: str, number: int, count: int) -> bool:
    """Whether a picture is in the share with that number, from 1, of so many; its name alone decides."""
    hashed = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(hashed, "big") % count == number - 1


def target_name(name: str, is_there: Callable[[str], bool]) -> str:
    """Where the picture of that name goes below the output folder.

    A format that is not written gets .png behind its name: a.gif becomes a.gif.png, and another .png where the source
    has a picture of that name.
    """
    target = name
    while os.path.splitext(target)[1].lower() not in WRITABLE or (target != name and is_there(target)):
        target += ".png"
    return target


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
