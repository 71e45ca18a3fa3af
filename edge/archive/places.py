"""Where pictures are read and written: the folders of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from simulator import files


class Place(Protocol):
    """Holds content under addresses. All of it raises OSError."""

    def read(self, address: str) -> bytes: ...

    def write(self, address: str, content: bytes) -> None:
        """`content` appears under the address whole, or not at all; missing folders are made."""

    def clear(self, address: str) -> None:
        """Removes what a process that was killed while it wrote there may have left."""

    def label(self, address: str) -> str:
        """What it is called in a sentence: no password is in it."""


class Folders:
    """The file system of this machine; an address is a path."""

    def read(self, address: str) -> bytes:
        with open(address, "rb") as file:
            return file.read()

    def write(self, address: str, content: bytes) -> None:
        try:
            files.write_atomically(address, content)
        except FileNotFoundError:
            Path(os.path.realpath(address)).parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(address, content)

    def clear(self, address: str) -> None:
        files.remove_temporaries(address)

    def label(self, address: str) -> str:
        return address


_folders = Folders()


def place_of(address: str) -> Place:
    """The place that holds `address`."""
    return _folders
