"""Image files as a source: one, a folder of them, those that a pattern matches, and the sample."""

from __future__ import annotations

import errno
import functools
import glob
import itertools
import mmap
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.errors import UserError
from edge.images import READABLE, kind_of, read_image
from edge.sources.record import Frame, Unreadable
from simulator.files import reason

_SAMPLES = Path(__file__).resolve().parents[1] / "samples"
AGAIN = "name of an image that is there already"  # for `LeftOut`
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # what the system says of links


class LeftOut:
    """Counts what is no image, by what it is, and keeps the first few names. str() has all of it, for a sentence."""

    NAMED = 5

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """kind: such as "folder" or "file that is no image"."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= self.NAMED:
            self._names.setdefault(kind, []).append(name)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def __str__(self) -> str:
        """Such as "2 folders (a, b), 1 file that is no image (c.txt)"."""
        parts = []
        for kind, count in self._counts.items():
            noun, _, rest = kind.partition(" ")
            if count > 1:
                noun, rest = f"{noun}s", rest.replace("that is no image", "that are no images").replace("leads", "lead")
            shown = ", ".join(self._names[kind]) + (", ..." if count > self.NAMED else "")
            parts.append(f"{count} {noun}{' ' * bool(rest)}{rest} ({shown})")
        return ", ".join(parts)


class Images:
    """Image files, at least one, in the order in which they are restored.

    What a name stands for is looked up when its turn comes, since of very many that takes longer than anyone waits for
    the first picture. So `count` and `notes` become exact as it goes on; whether it is more than one is known at once.
    """

    def __init__(
        self, names: Sequence[str], folder: Path | None = None, *, where: str = "", reference: Path | None = None
    ) -> None:
        """names: in order, each once, below `folder` if there is one. where: what they are from, for `notes`.
        reference: the undegraded picture, where it is known (the sample)."""
        self.reference = reference
        self.left_out = LeftOut()
        self._names, self._where = names, where
        self._base = "" if folder in (None, Path()) else str(folder)
        self._says_folders = folder is not None  # a pattern matches folders as a matter of course
        self._next = 0
        self._found: list[str] = []  # those of images, of the names before the next
        self._called = sum(map(called_image, names))  # of the names from the next on
        self._folders = dict.fromkeys(map(os.path.dirname, names))
        self._unmet = iter(self._folders)
        self._ways: dict[str, list[str]] = {}  # those of _folders that lead to the same one
        self._earlier: dict[str, tuple[str, ...]] = {}  # of each of _folders, those before it that lead to the same one
        self._look_for(2)

    @property
    def count(self) -> int | None:
        return len(self._found) + self._called

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out so far."""
        return (f"left out of {self._where}: {self.left_out}.",) if self.left_out else ()

    def frames(self, limit: int | None = None) -> Iterator[Frame | Unreadable]:
        """The pictures, at most `limit`, and in their place what cannot be read."""
        for path in map(Path, itertools.islice(self.paths(), limit)):
            try:
                picture = read_image(path)
            except UserError as error:
                yield Unreadable(str(error))
            else:
                yield Frame(path.name, picture.pixels, path, picture.deep, picture.metadata, picture.notes)

    def paths(self) -> Iterator[str]:
        """Those of the images, each looked up when it is asked for."""
        at = 0
        while self._look_for(at + 1):
            yield self._path(self._found[at])
            at += 1

    def candidates(self) -> Iterator[str]:
        """The paths of all names, without looking up whether they are those of images."""
        return map(self._path, self._names)

    def files(self) -> Iterator[Path | str]:
        """The paths of all files that may be read; only those are looked up whose name says nothing."""
        for name in self._names:
            if called_image(name) or self._what_else(name) is None:
                yield self._path(name)
        if self.reference:
            yield self.reference

    def holds(self, path: str) -> bool:
        """Whether one of the images has that path."""
        name = path[len(self._path("")) :]
        return name in self._all and self._what_else(name) is None

    def prefix(self) -> str:
        """What the paths of all images begin with: the folder that they have in common, and a slash; or nothing.

        Only so many names are looked up as it takes to know.
        """
        least = os.path.commonpath(self._folders)  # that of all names
        common: str | None = None
        seen = set()
        for name in self._names:
            folder = os.path.dirname(name)
            if folder not in seen and self._what_else(name) is None:
                seen.add(folder)
                common = folder if common is None else os.path.commonpath([common, folder])
            if common == least:
                break
        return os.path.join(self._base, common or "", "")

    def close(self) -> None:
        """There is nothing to let go of."""

    def _path(self, name: str) -> str:
        return os.path.join(self._base, name)

    @functools.cached_property
    def _all(self) -> frozenset[str]:
        return frozenset(self._names)

    def _look_for(self, count: int) -> bool:
        """Looks names up until so many are found to be those of images; whether there are so many."""
        while len(self._found) < count and self._next < len(self._names):
            name = self._names[self._next]
            self._next += 1
            self._called -= called_image(name)
            kind = self._what_else(name)
            if kind is None:
                self._found.append(name)
            elif self._says_folders or kind != "folder":
                self.left_out.add(kind, os.path.basename(name))
        return len(self._found) >= count

    def _what_else(self, name: str) -> str | None:
        """What a name stands for if not for an image, in words; None for an image."""
        try:
            kind = what_else(self._path(name))
        except OSError:
            kind = "file that cannot be read"
        if kind is None and self._is_again(name):
            kind = AGAIN
        return kind

    def _is_again(self, name: str) -> bool:
        """Whether a folder before that of `name` is the same, and has the name: in a loop of links, files have many."""
        if len(self._folders) == 1:
            return False
        folder, last = os.path.split(name)
        while folder not in self._earlier:
            other = next(self._unmet)
            ways = self._ways.setdefault(os.path.realpath(self._path(other)), [])
            self._earlier[other] = tuple(ways)
            ways.append(other)
        return any(os.path.join(other, last) in self._all for other in self._earlier[folder])


def open_sample(task: str | None) -> Images:
    """The picture that ships with the command, degraded as the task asks; the noisy one if there is none for it."""
    clean, degraded = _SAMPLES / "clean.png", _SAMPLES / f"{task}.png"
    shown = degraded if degraded.exists() else _SAMPLES / "noisy.png"
    return Images([str(shown)], reference=clean if clean.exists() else None)


def open_folder(folder: Path) -> Images:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {reason(error)}.") from error
    images = Images(names, folder, where=f"the folder {folder}")
    if not images.count:
        held = f" (but {images.left_out})" if images.left_out else ""
        raise UserError(
            f"the folder {folder} holds no images{held}; put some there ({', '.join(sorted(READABLE))}), or give a"
            " pattern such as '**/*.png' for those in folders below."
        )
    return images


def open_pattern(pattern: str) -> Images:
    whole = os.path.expanduser(pattern)
    if not whole.endswith(os.sep):
        whole = re.sub("^//", "/", str(Path(whole)))  # so that paths are as `Path` writes them
    matches = glob.glob(whole, recursive=True)
    names = sorted({path for path in matches if not os.path.basename(path).startswith(".")})
    images = Images(names, where=f"the pattern {pattern}")
    if not images.count:
        found = "nothing" if not matches else f"{len(matches)} name(s), none of them an image"
        raise UserError(f"the pattern {pattern} matches {found}; give one that matches image files.")
    return images


def called_image(name: str) -> bool:
    """Whether a name says that the file is an image; its content has the last word."""
    return os.path.splitext(name)[1].lower() in READABLE


def what_else(path: str) -> str | None:
    """What is at `path` if it is no image, in words; None for an image. Raises OSError where the system cannot say.

    Of many files only those are looked into whose name says nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in _NOWHERE and os.path.islink(path):
            return "link that leads nowhere"
        if error.errno == errno.ENOENT and called_image(path):
            return None  # it has gone since it was listed, which whoever reads it will say
        raise
    if stat.S_ISREG(mode):
        return None if called_image(path) or is_image(Path(path)) else "file that is no image"
    return "folder" if stat.S_ISDIR(mode) else "file that is no image"


def is_image(path: Path) -> bool:
    """Whether a file is a still image, read here or not: one that is called so, else its content decides.

    Raises OSError for a file that cannot be read and is not called like an image.
    """
    if called_image(path.name):
        return True
    kind = kind_of(path)
    if kind == "jpeg":
        from edge.containers import jpeg

        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            kind = None if jpeg.is_sequence(content) else kind
    return kind is not None
