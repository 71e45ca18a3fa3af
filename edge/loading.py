"""A network loaded for a run, on this machine or a board, and what measures its power."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import simulator
from edge.errors import UserError, sentence
from edge.options import SIMULATOR
from simulator.network import Network
from simulator.tasks import ALL_IN_ONE

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from firmware_bridge.power.recording import Recording


def open_network(
    bundle: Path, task: str | None, board: str, threads: int | None, tile: int | None
) -> Network | BoardNetwork:
    """What computes, ready to run. Raises UserError."""
    if board == SIMULATOR:
        return load_network(bundle, task, threads, tile)
    for option, value in (("--threads", threads), ("--tile", tile)):
        if value is not None:
            raise other_way(option, board)
    return open_board(bundle, task, board)


def open_board(bundle: Path, task: str | None, board: str) -> BoardNetwork:
    """A network on a board; close it. Raises UserError."""
    from edge.boards import BoardNetwork

    network = BoardNetwork(bundle, board)
    try:
        check_task(bundle, network.task, task)
    except UserError:
        network.close()
        raise
    return network


def other_way(option: str, board: str) -> UserError:
    return UserError(f"{option} is for the board {SIMULATOR}; {board} goes its own way: leave it out.")


def load_network(bundle: Path, task: str | None, threads: int | None, tile: int | None) -> Network:
    """Loads `bundle`. Raises UserError if it is unusable, of another task, or has no use for so small a tile."""
    if threads is not None:
        threads = min(threads, os.cpu_count() or 1)  # more would only wait for each other
    try:
        network = simulator.load(bundle, threads=threads)
    except (ValueError, OSError) as error:
        raise UserError(sentence(error)) from error
    check_task(bundle, network.task, task)
    if tile is not None and tile < network.min_tile:
        raise UserError(f"--tile {tile} is too small for this network; give at least {network.min_tile} or none.")
    return network


def check_task(bundle: Path, found: str, wanted: str | None) -> None:
    """Raises UserError for a bundle whose task is not the one that is wanted."""
    if wanted is not None and found not in (wanted, ALL_IN_ONE):
        raise UserError(f"{bundle} is for {found}, not {wanted}; give --task {found} or another bundle.")


def open_recording(wanted: str, board: BoardNetwork | None) -> Recording:
    """What --power names, ready to measure. Raises UserError if it cannot be used."""
    from firmware_bridge.power import meter_file, recording, sensors

    if wanted == "auto" and board is not None and not board.board.here:
        return board.board.recording()
    try:
        return recording.open_recording(wanted)
    except (sensors.SensorError, meter_file.MeterFileError) as error:
        raise UserError(sentence(error)) from error
