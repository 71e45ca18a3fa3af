"""Image files as a source: one, a folder of them, those that a pattern matches, and the sample."""

from __future__ import annotations

import glob
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UserError
from edge.images import READABLE, kind_of, read_image
from edge.sources.record import Frame, Unreadable
from simulator.files import reason

_SAMPLES = Path(__file__).resolve().parents[1] / "samples"


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

    def forget(self, kind: str) -> None:
        self._counts.pop(kind, None)

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


@dataclass(frozen=True)
class Images:
    """Image files, at least one, in the order in which they are restored; `notes` say what was left out."""

    paths: tuple[Path, ...]
    reference: Path | None = None  # the undegraded picture, where it is known (the sample)
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        return len(self.paths)

    def frames(self, limit: int | None = None) -> Iterator[Frame | Unreadable]:
        """The pictures, at most `limit`, and in their place what cannot be read."""
        for path in self.paths[:limit]:
            try:
                picture = read_image(path)
            except UserError as error:
                yield Unreadable(str(error))
            else:
                yield Frame(path.name, picture.pixels, path, picture.deep, picture.metadata, picture.notes)

    def close(self) -> None:
        """There is nothing to let go of."""


def open_sample(task: str | None) -> Images:
    """The picture that ships with the command, degraded as the task asks; the noisy one if there is none for it."""
    clean, degraded = _SAMPLES / "clean.png", _SAMPLES / f"{task}.png"
    shown = degraded if degraded.exists() else _SAMPLES / "noisy.png"
    return Images((shown,), clean if clean.exists() else None)


def open_folder(folder: Path) -> Images:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {reason(error)}.") from error
    paths, left_out = _sorted_out(found)
    if not paths:
        held = f" (but {left_out})" if left_out else ""
        raise UserError(
            f"the folder {folder} holds no images{held}; put some there ({', '.join(sorted(READABLE))}), or give a"
            " pattern such as '**/*.png' for those in folders below."
        )
    return Images(paths, notes=_notes(f"the folder {folder}", left_out))


def open_pattern(pattern: str) -> Images:
    matches = [Path(match) for match in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
    paths, left_out = _sorted_out(matches)
    if not paths:
        found = "nothing" if not matches else f"{len(matches)} name(s), none of them an image"
        raise UserError(f"the pattern {pattern} matches {found}; give one that matches image files.")
    left_out.forget("folder")
    return Images(paths, notes=_notes(f"the pattern {pattern}", left_out))


def _notes(where: str, left_out: LeftOut) -> tuple[str, ...]:
    return (f"left out of {where}: {left_out}.",) if left_out else ()


def _sorted_out(found: list[Path]) -> tuple[tuple[Path, ...], LeftOut]:
    """(the images among `found`, what the others are).

    Hidden files are left out without a word: among them are those that a run into the same folder is writing.
    """
    images: dict[tuple[str, str], Path] = {}
    others = LeftOut()
    folders: dict[Path, str] = {}
    for path in found:
        if path.name.startswith("."):
            continue
        try:
            kind = what_else(path)
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
            others.add(kind, path.name)
    return tuple(images.values()), others


def what_else(path: Path) -> str | None:
    """What `path` is if it is no image, in words; None for an image. Raises OSError where the system cannot say."""
    if path.is_file():
        # Of many files only those are looked into whose name says nothing.
        return None if path.suffix.lower() in READABLE or is_image(path) else "file that is no image"
    return "folder" if path.is_dir() else "file that is no image" if path.exists() else "link that leads nowhere"


def is_image(path: Path) -> bool:
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
