"""One picture of the list, what is to be done with all of them, and what came of one: what passes between processes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.statistics import Statistics, Tally

# To be raised when what goes around the network, or the way that files are written, makes other pictures.
_MEANING = 1

RESTORED, SKIPPED, FAILED = "restored", "skipped", "failed"  # what becomes of a picture
# Of those that failed, where: `kind` of a record.
LISTED, READ, DECODED, COMPUTED, FITTED, STORED, CRASHED = KINDS = (
    "listed",
    "read",
    "decoded",
    "restored",
    "fitted",
    "stored",
    "crashed",
)


@dataclass(frozen=True)
class Work:
    """One picture.

    name: its way below the folder that all have in common, with slashes: what it is called in the journal, in lines of
    JSON and in the sharing out. source, target: what is read and written, a path or an address; target None: nothing is
    stored. size, stamp: bytes of the source, and what the place says of its state, which changes with its content, ""
    if it says nothing. there: bytes of what stands under the target's name, None for nothing. known: the beginning of
    the `digest` with which it was restored before, if what it gave then is still there.
    """

    name: str
    source: str
    target: str | None
    size: int = 0
    stamp: str = ""
    there: int | None = None
    known: str = ""


@dataclass(frozen=True)
class Recipe:
    """What is done with every picture. Of these, `options` are those on which the bits of the output depend."""

    bundle: Path
    task: str | None = None
    threads: int | None = None
    tile: int | None = None
    side_by_side: bool = False
    check: bool = False

    @property
    def options(self) -> str:
        """A hash."""
        meant = {"meaning": _MEANING, "side_by_side": self.side_by_side, "check": self.check}
        return hashlib.blake2b(json.dumps(meant, sort_keys=True).encode(), digest_size=8).hexdigest()


def digest(content: bytes, bundle: str, options: str) -> str:
    """The hash of all that decides about an output: the bytes that are read, the bundle by its hash, the options."""
    state = hashlib.blake2b(digest_size=16)
    state.update(f"{bundle} {options} ".encode())
    state.update(content)
    return state.hexdigest()


@dataclass(frozen=True)
class Done:
    """What came of one picture.

    record: fit for a line of JSON; "source", "target" and "status" are in every one, "kind" and "reason" in those of
    failures. statistics: of those that were restored; with --cluster the first of a batch has those of all. notes:
    sentences for the person. fatal: the others would fare no better, as with a full disk.
    """

    work: Work
    record: dict[str, Any]
    statistics: Statistics | Tally | None = None
    notes: tuple[str, ...] = ()
    fatal: bool = False

    @property
    def status(self) -> str:
        return str(self.record["status"])


def skipped(work: Work) -> Done:
    """Of a picture that was restored before, with the same content, bundle and options, and whose output is there."""
    return Done(work, {"source": work.name, "target": work.target, "status": SKIPPED})


def failed(work: Work, kind: str, reason: str, *, fatal: bool = False) -> Done:
    """reason: a whole sentence that names the picture; kind: one of KINDS."""
    record = {"source": work.name, "target": work.target, "status": FAILED, "kind": kind, "reason": reason}
    return Done(work, record, fatal=fatal)
