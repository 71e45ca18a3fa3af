"""Boards by name, each in a file of this folder. `python -m firmware_bridge.boards` lists them.

The other files are what boards have in common: `base` (any board), `core` (it runs the C core), `linked` (at the end of
a link, or at a serial port), `emulated` (in an emulator), `remote` (at an address in the network), `card` (it computes
the neurons alone, in float16). Cards have an address, SCHEME://N, in the place of a name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from firmware_bridge.boards.base import Board, BoardError, BoardResult, NotCompiledError, Unusable
from firmware_bridge.boards.card import Card
from firmware_bridge.boards.linked import by_address
from firmware_bridge.boards.remote import SCHEME, Remote

__all__ = [
    "BOARDS",
    "CARDS",
    "Board",
    "BoardError",
    "BoardResult",
    "Card",
    "NotCompiledError",
    "Unusable",
    "open_board",
]


def _boards() -> Iterator[type[Board]]:
    """The classes in the files of this folder."""
    for found in pkgutil.iter_modules(__path__):
        if found.name != "__main__":
            module = importlib.import_module(f"{__name__}.{found.name}")
            for kind in vars(module).values():
                if isinstance(kind, type) and issubclass(kind, Board) and kind.__module__ == module.__name__:
                    yield kind


_FOUND = tuple(_boards())
# Those with a name of their own, of this machine first; and cards by the scheme of their addresses.
BOARDS = {kind.name: kind for kind in sorted(_FOUND, key=lambda kind: (not kind.here, kind.name)) if kind.name}
CARDS = {kind.scheme: kind for kind in _FOUND if issubclass(kind, Card) and kind.scheme}


def open_board(name: str) -> Board:
    """The board called `name`, or at an address: tcp://HOST:PORT of an agent, serial:///DEVICE?baud=N, a card's.

    To be used as a context manager; raises `BoardError`, `Unusable` where trying again is of no use.
    """
    if name.startswith(SCHEME):
        return Remote(name)
    if name.startswith("serial:"):
        return by_address(name)
    if name.partition("://")[0] in CARDS and "://" in name:
        return CARDS[name.partition("://")[0]](name)
    if name not in BOARDS:
        cards = ", ".join(f"{scheme}://0" for scheme in CARDS)
        raise Unusable(
            f"there is no board called {name!r}; choose one of {', '.join(BOARDS)}, {SCHEME}HOST:PORT, "
            f"serial:///dev/ttyACM0?baud=115200 or {cards}"
        )
    missing = BOARDS[name].missing()
    if missing:
        raise Unusable(f"board {name} cannot be used yet: {missing}")
    return BOARDS[name]()
