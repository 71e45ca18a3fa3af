"""A batch's note: whether somebody has begun it, and who is at it.

It lies in the folder `.edge-restore/underway` of the output from when its batch is given out until it is answered, so
that a worker that comes to the batch too late finds none and does nothing. Whoever begins the batch writes a line into
it. Whoever finds that line does the batch again, after a worker was lost: pictures whose outputs stand there, with the
bytes that they would have, are left as they are. The note is locked meanwhile, so that a worker that was given up, and
is still at it, and the one that has its batch now do not both write; a lock ends with the process that has it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from edge.archive.journal import FOLDER
from edge.archive.picture import Made
from edge.archive.places import place_of

UNDERWAY = "underway"
OLD_S = 7 * 86400.0  # after which a note is nobody's
LOCK_S = 600.0  # for a worker that was given up to end what it does; then one does without the lock
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system that has none


class Unwanted(RuntimeError):
    """A batch that whoever gave it out has had from another worker."""


class Note:
    """The note of one batch; a context manager, which holds its lock. again: whether the batch was begun before.

    Raises `Unwanted` where there is none any more, OSError where it cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self.again = False

    def __enter__(self) -> Note:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError as error:
            raise Unwanted(f"{self._path} is gone: the batch was done by somebody else") from error
        try:
            _lock(self._file)
            self.again = os.fstat(self._file).st_size > 0
            os.write(self._file, f"{socket.gethostname()}:{os.getpid()}\n".encode())
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def stands(self, made: Made) -> bool:
        """Whether the picture's output stands there, whole, from an earlier attempt."""
        if not self.again or made.work.target is None or made.content is None:
            return False
        place = place_of(made.work.target)
        place.clear(made.work.target)  # nobody else is at it
        try:
            return place.read(made.work.target) == made.content
        except OSError:
            return False


def path_of(out: str, run: str, batch: int) -> str:
    """The note of a run's batch, for an output folder."""
    return os.path.join(out, FOLDER, UNDERWAY, f"{run}-{batch}.jsonl")


def create(path: str) -> None:
    """Before the batch is given out; an earlier attempt's stays. Raises OSError."""
    for last in (False, False, True):
        try:
            Path(path).touch()
            return
        except FileNotFoundError:  # at first, and when another run has ended meanwhile
            if last:
                raise
            Path(path).parent.mkdir(parents=True, exist_ok=True)


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
