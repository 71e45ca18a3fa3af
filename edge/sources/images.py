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
_NAMED = 5  # of the files that are left out


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
        held = f" (but {_counted(left_out)})" if left_out else ""
        raise UserError(
            f"the folder {folder} holds no images{held}; put some there ({', '.join(sorted(READABLE))}), or give a"
            " pattern such as '**/*.png' for those in folders below."
        )
    return Images(paths, notes=_left_out(f"the folder {folder}", left_out))


def open_pattern(pattern: str) -> Images:
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
