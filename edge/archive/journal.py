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
from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge.archive.places import place_of
from edge.archive.work import Done, Work
from edge.errors import UserError
from edge.sinks.sink import cannot_write
from simulator.files import reason

FOLDER = ".edge-restore"

_line = json.JSONEncoder(separators=(",", ":")).encode

Numbers = npt.NDArray[np.uint64]


class Journal:
    """The journal in the output folder `out`, for a run whose bundle and options have these hashes.

    Of each picture four numbers are kept in memory, 32 bytes, however long its name.
    """

    def __init__(self, out: str, bundle: str, options: str, *, read: bool = True) -> None:
        """read: whether what was done before matters. Raises UserError where that cannot be read."""
        place, folder = place_of(out), f"{os.path.expanduser(out).rstrip('/')}/{FOLDER}"
        self._label = place.label(folder)
        self._log = place.log(folder)
        self._meant = f"{bundle} {options}"
        try:
            self._names, self._states, self._digests, self._bytes = _index(self._log.lines() if read else iter(()))
        except OSError as error:
            raise UserError(f"the journal {self._label} cannot be read: {reason(error)}.") from error

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
        with self._told():
            self._log.add(_line(entry).encode() + b"\n")

    def close(self) -> None:
        """Raises UserError."""
        with self._told():
            self._log.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise cannot_write(self._label, error) from error

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


def _index(lines: Iterator[bytes]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """(names, states, digests, bytes) sorted by name, those of one name in the order of the lines."""
    columns = tuple(array("Q") for _ in range(4))
    for line in lines:
        try:
            entry = json.loads(line)
            row = array(
                "Q",
                (
                    _number(entry["name"]),
                    _number(entry["size"], entry["stamp"], entry["meant"]),
                    int(entry["input"][:16], 16),
                    entry["bytes"],
                ),
            )
        # A line that a kill or a full disk cut short, or that no run wrote.
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            continue
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    names, states, digests, sizes = (np.frombuffer(column, np.uint64) for column in columns)
    order = names.argsort(kind="stable")
    return names[order], states[order], digests[order], sizes[order]
