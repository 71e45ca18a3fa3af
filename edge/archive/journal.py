"""The journal: what was restored from what, by which bundle and options, and what it gave.

It lies in a folder `.edge-restore` in the output, a file for each run that did something, of one line of JSON for each
picture: `name`, `input` (the `digest` of its content, the bundle and the options), `meant` (bundle and options alone),
`size` and `stamp` of the source, `bytes` of the output. A line is added when its output stands under its name. No line
is ever changed and no file is written by two runs, so that shards may run side by side in one folder, and a kill costs
at most the last line; a picture without a whole line is restored again. The files may be put into one, in the order of
their names, or removed: then everything is restored again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from array import array
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.archive.work import Done, Work
from edge.errors import UserError
from edge.sinks.sink import cannot_write
from simulator.files import reason

FOLDER = ".edge-restore"

Numbers = npt.NDArray[np.uint64]


class Journal:
    """The journal in the output folder `out`, for a run whose bundle and options have these hashes.

    Of each picture four numbers are kept in memory, 32 bytes, however long its name.
    """

    def __init__(self, out: str, bundle: str, options: str, *, read: bool = True) -> None:
        """read: whether what was done before matters. Raises UserError where that cannot be read."""
        self._folder = Path(out).expanduser() / FOLDER
        self._meant = f"{bundle} {options}"
        self._file = -1
        self._names, self._states, self._digests, self._bytes = _index(_lines(self._folder) if read else iter(()))

    def __len__(self) -> int:
        return len(self._names)

    def unchanged(self, work: Work) -> bool:
        """Whether nothing is to be done: the source says that it is as it was, and its output has its size still."""
        at = self._find(work)
        return (
            at is not None and bool(work.stamp) and int(self._states[at]) == _number(work.size, work.stamp, self._meant)
        )

    def known(self, work: Work) -> str:
        """`Work.known`, for a picture that may have been touched without being changed."""
        at = self._find(work)
        return "" if at is None else f"{int(self._digests[at]):016x}"

    def add(self, done: Done) -> None:
        """Remembers a picture whose output stands under its name. Raises UserError."""
        entry = {
            "name": done.work.name,
            "input": done.record["input"],
            "meant": self._meant,
            "size": done.work.size,
            "stamp": done.work.stamp,
            "bytes": done.record["bytes"],
        }
        line = json.dumps(entry, separators=(",", ":")) + "\n"
        try:
            if self._file < 0:
                self._file = _create(self._folder)
            os.write(self._file, line.encode())  # all of it or, on a full disk, a part that no reader takes for a line
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def close(self) -> None:
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def _find(self, work: Work) -> int | None:
        """The last entry of that name, if what it gave is still there."""
        number = np.uint64(_number(work.name))
        at = int(self._names.searchsorted(number, side="right")) - 1
        if at < 0 or self._names[at] != number or work.there is None or int(self._bytes[at]) != work.there:
            return None
        return at


def _number(*parts: object) -> int:
    """A hash of 64 bits; two of a million names have the same with a chance of one to 30 million."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _create(folder: Path) -> int:
    """Opens a file of this run's own, whose name sorts behind those before."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(4)}.jsonl"
    return os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)


def _lines(folder: Path) -> Iterator[bytes]:
    """The lines of all runs, the oldest first. Raises UserError."""
    try:
        for path in sorted(folder.glob("*.jsonl")):
            with path.open("rb") as file:
                yield from file
    except OSError as error:
        raise UserError(f"the journal {folder} cannot be read: {reason(error)}.") from error


def _index(lines: Iterator[bytes]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(names, states, digests, bytes) sorted by name, those of one name in the order of the lines."""
    columns = tuple(array("Q") for _ in range(4))
    for line in lines:
        try:
            entry = json.loads(line)
            row = (
                _number(entry["name"]),
                _number(entry["size"], entry["stamp"], entry["meant"]),
                int(entry["input"][:16], 16),
                entry["bytes"],
            )
            if not 0 <= row[3] < 1 << 63:
                continue
        except (ValueError, TypeError, LookupError):  # a line that a kill or a full disk cut short
            continue
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    names, states, digests, sizes = (np.frombuffer(column, np.uint64) for column in columns)
    order = names.argsort(kind="stable")
    return names[order], states[order], digests[order], sizes[order]
