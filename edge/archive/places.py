"""Where pictures are read and written: `folders.py` of this machine, `stores.py` elsewhere; here what they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.sources.images import LeftOut
from edge.terminal import is_url

FILE, FOLDER, PATTERN = "file", "folder", "pattern"


@dataclass(frozen=True)
class Top:
    """A SOURCE. path: with which the addresses of its pictures begin; whole: the same place, however it is written."""

    path: str
    whole: str
    kind: str
    pattern: str = ""


@dataclass(frozen=True)
class Entry:
    """A picture that was found. size, stamp: see `Work`. identity: of the file, where files have one."""

    path: str
    size: int
    stamp: str
    identity: tuple[int, int] | None = None


@dataclass(frozen=True)
class Unlisted:
    """What of a list could not be had; reason: a whole sentence."""

    path: str
    reason: str


# Size and identity of what stands under an address; None for nothing. Raises OSError.
Look = Callable[[str], tuple[int, tuple[int, int] | None] | None]


class Log(Protocol):
    """Lines in a folder, of which nothing is ever changed. All of it raises OSError."""

    def lines(self) -> Iterator[bytes]:
        """Those of all runs, the oldest run first."""

    def add(self, line: bytes) -> None:
        """Appends to a file of this run's own, which is made with the first line."""

    def close(self) -> None: ...


class Place(Protocol):
    """Holds pictures under addresses."""

    def read(self, address: str) -> bytes:
        """Raises OSError."""

    def write(self, address: str, content: bytes) -> None:
        """`content` appears under the address whole, or not at all; missing folders are made. Raises OSError."""

    def clear(self, address: str) -> None:
        """Removes what a process that was killed while it wrote there may have left."""

    def name(self, address: str) -> str:
        """What it is called here: the path, without a host."""

    def label(self, address: str) -> str:
        """What it is called in a sentence: no password is in it."""

    def top(self, source: str) -> Top:
        """What a SOURCE is. Raises UserError for what is not there, or no picture."""

    def entries(self, top: Top, recursive: bool, without: str | None, left_out: LeftOut) -> Iterator[Entry | Unlisted]:
        """The pictures of a SOURCE, as they are found, without those below the address `without`."""

    def looks(self) -> Look:
        """What asks it what stands under an address, for one run."""

    def log(self, folder: str) -> Log: ...


def place_of(address: str) -> Place:
    """The place that holds `address`. Raises UserError where it is not known, or its package is not installed."""
    if is_url(address):
        from edge.archive.stores import store_of

        return store_of(address)
    from edge.archive.folders import FOLDERS

    return FOLDERS
