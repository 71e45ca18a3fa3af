"""Boards by name. `python -m firmware_bridge.boards` lists them."""

from __future__ import annotations

from firmware_bridge.boards.base import Board, BoardError, BoardResult
from firmware_bridge.boards.core import Native
from firmware_bridge.boards.linked import Arm64, ArmV7, CortexM7, CortexM55, by_address
from firmware_bridge.boards.remote import SCHEME, Remote
from firmware_bridge.boards.simulated import Reference, Simulator

__all__ = ["BOARDS", "Board", "BoardError", "BoardResult", "open_board"]

_KINDS: tuple[type[Board], ...] = (Simulator, Reference, Native, Arm64, ArmV7, CortexM7, CortexM55)
BOARDS = {kind.name: kind for kind in _KINDS}


def open_board(name: str) -> Board:
    """The board called `name`, or at an address: tcp://HOST:PORT of an agent, serial:///DEVICE?baud=N.

    To be used as a context manager; raises `BoardError`.
    """
    if name.startswith(SCHEME):
        return Remote(name)
    if name.startswith("serial:"):
        return by_address(name)
    if name not in BOARDS:
        raise BoardError(
            f"there is no board called {name!r}; choose one of {', '.join(BOARDS)}, {SCHEME}HOST:PORT "
            "or serial:///dev/ttyACM0?baud=115200"
        )
    missing = BOARDS[name].missing()
    if missing:
        raise BoardError(f"board {name} cannot be used yet: {missing}")
    return BOARDS[name]()
