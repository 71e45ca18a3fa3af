"""Boards by name, each in a file of this folder. `python -m firmware_bridge.boards` lists them.

The other files are what boards have in common: `base` (any board), `core` (it runs the C core), `linked` (at the end of
a link, or at a serial port), `emulated` (in an emulator), `remote` (at an address in the network).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from firmware_bridge.boards.base import Board, BoardError, BoardResult, Unusable
from firmware_bridge.boards.linked import by_address
from firmware_bridge.boards.remote import SCHEME, Remote

__all__ = ["BOARDS", "Board", "BoardError", "BoardResult", "Unusable", "open_board"]


def _named_boards() -> Iterator[type[Board]]:
    """The classes in the files of this folder that have a name of their own."""
    for found in pkgutil.iter_modules(__path__):
        if found.name != "__main__":
            module = importlib.import_module(f"{__name__}.{found.name}")
            for kind in vars(module).values():
                if isinstance(kind, type) and issubclass(kind, Board) and kind.__module__ == module.__name__:
                    if kind.name:
                        yield kind


# Those of this machine first.
BOARDS = {board.name: board for board in sorted(_named_boards(), key=lambda board: (not board.here, board.name))}


def open_board(name: str) -> Board:
    """The board called `name`, or at an address: tcp://HOST:PORT of an agent, serial:///DEVICE?baud=N.

    To be used as a context manager; raises `BoardError`, `Unusable` where trying again is of no use.
    """
    if name.startswith(SCHEME):
        return Remote(name)
    if name.startswith("serial:"):
        return by_address(name)
    if name not in BOARDS:
        raise Unusable(
            f"there is no board called {name!r}; choose one of {', '.join(BOARDS)}, {SCHEME}HOST:PORT "
            "or serial:///dev/ttyACM0?baud=115200"
        )
    missing = BOARDS[name].missing()
    if missing:
        raise Unusable(f"board {name} cannot be used yet: {missing}")
    return BOARDS[name]()
