"""A batch's note: which of its pictures are stored, for whoever does the batch again after a worker was lost.

It lies in the folder `.edge-restore/underway` of the output from when its batch is given out until it is answered, so
that a worker that comes to the batch too late finds none and does nothing. It has one line of JSON a picture, written
before the output gets its name: the output's hash and what is to be said of the picture. Whoever does the batch again
takes a picture for done whose output has that hash. The note is locked meanwhile, so that a worker that was given up,
and is still at it, and the one that has its batch now do not both write; a lock ends with the process that has it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.archive.journal import FOLDER
from edge.archive.picture import Made
from edge.archive.places import place_of
from edge.archive.work import Work
from simulator.statistics import LayerStatistics, Statistics

UNDERWAY = "underway"
OLD_S = 7 * 86400.0  # after which a note is nobody's
LOCK_S = 600.0  # for a worker that was given up to end what it does; then one does without the lock
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system that has none


class Unwanted(RuntimeError):
    """A batch that whoever gave it out has had from another worker."""


class Note:
    """The note of one batch; a context manager, which holds its lock.

    Raises `Unwanted` where there is none any more, OSError where it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file, self._empty = -1, True
        self._lines: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Note:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError as error:
            raise Unwanted(f"{self._path} is gone: the batch was done by somebody else") from error
        try:
            _lock(self._file)
            content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        except BaseException:
            os.close(self._file)
            raise
        self._empty = not content
        for line in content.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last may have broken off
                entry = json.loads(line)
                self._lines[entry["name"]] = entry
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def stored(self, work: Work) -> Made | None:
        """The picture, if it was restored by an earlier attempt and its output stands there, whole."""
        entry = self._lines.get(work.name)
        if entry is None or work.target is None:
            return None
        place = place_of(work.target)
        place.clear(work.target)  # nobody else is at it
        try:
            content = place.read(work.target)
        except OSError:
            return None
        if _hash(content) != entry["output"]:
            return None
        return Made(work, entry["input"], content, _statistics(entry["statistics"]), tuple(entry["notes"]))

    def begins(self, made: Made) -> None:
        """To be called before a picture is stored."""
        if made.content is None:
            return
        entry = {
            "name": made.work.name,
            "output": _hash(made.content),
            "input": made.input,
            "statistics": dataclasses.asdict(made.statistics),
            "notes": made.notes,
        }
        os.write(self._file, b"\n"[self._empty :] + json.dumps(entry).encode() + b"\n")  # ends what broke off before
        self._empty = False


def path_of(out: str, run: str, batch: int) -> str:
    """The note of a run's batch, for an output folder."""
    return os.path.join(out, FOLDER, UNDERWAY, f"{run}-{batch}.jsonl")


def create(path: str) -> None:
    """Before the batch is given out; an earlier attempt's stays. Raises OSError."""
    try:
        Path(path).touch()
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def remove(path: str) -> None:
    """When whoever gave the batch out has its answer."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def remove_old(out: str) -> None:
    """Those of runs that were killed long ago, and the folder if nothing is left in it."""
    folder = Path(out, FOLDER, UNDERWAY)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > OLD_S:
                path.unlink()
        folder.rmdir()


def _lock(file: int) -> None:
    end = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(0.05)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            raise


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _statistics(figures: dict[str, Any]) -> Statistics:
    layers = tuple(LayerStatistics(**layer) for layer in figures["layers"])
    return Statistics(**figures | {"layers": layers})
