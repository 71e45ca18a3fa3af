"""A network loaded for a run, on this machine or a board, and what measures its power."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

import simulator
from edge.errors import UserError, sentence
from edge.options import SIMULATOR
from simulator.network import Network
from simulator.tasks import ALL_IN_ONE

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from firmware_bridge.power.recording import Recording


_KEPT = (32 << 20) - (64 << 10)  # bytes; of larger blocks glibc draws no conclusion


def open_network(args: argparse.Namespace, bundle: Path, *, alone: bool, follow: bool) -> Network | BoardNetwork:
    """What computes, as the options say, ready to run: nothing is compiled after this. Raises UserError.

    alone: there is one picture only. follow: frames come that follow one another.
    """
    if args.board == [SIMULATOR]:
        network = load_network(bundle, args.task, args.threads, args.tile)
        if follow:
            compile_for_video()
        return network
    return open_boards(args, bundle, alone=alone)


def open_boards(args: argparse.Namespace, bundle: Path, *, alone: bool) -> BoardNetwork:
    """A network on the boards that the options name; close it. Raises UserError."""
    for option, value in (("--threads", args.threads), ("--tile", args.tile)):
        if value is not None:
            raise other_way(option, args.board)
    from edge.boards import ManyBoards, OneBoard

    network: BoardNetwork
    if len(args.board) == 1:
        network = OneBoard(bundle, args.board[0])
    else:
        measuring = args.power == "auto" or (args.power is None and args.stats is not None)
        network = ManyBoards(bundle, args.board, alone=alone, measuring=measuring)
    try:
        check_task(bundle, network.task, args.task)
    except UserError:
        network.close()
        raise
    return network


def other_way(option: str, boards: list[str]) -> UserError:
    return UserError(f"{option} is for the board {SIMULATOR}; {boards[0]} goes its own way: leave it out.")


def load_network(bundle: Path, task: str | None, threads: int | None, tile: int | None) -> Network:
    """Loads `bundle`. Raises UserError if it is unusable, of another task, or has no use for so small a tile."""
    keep_freed_memory()
    if threads is not None:
        threads = min(threads, os.cpu_count() or 1)  # more would only wait for each other
        cv2.setNumThreads(threads)  # of what is done around the network
    try:
        network = simulator.load(bundle, threads=threads)
    except (ValueError, OSError) as error:
        raise UserError(sentence(error)) from error
    check_task(bundle, network.task, task)
    if tile is not None and tile < network.min_tile:
        raise UserError(f"--tile {tile} is too small for this network; give at least {network.min_tile} or none.")
    return network


def keep_freed_memory() -> None:
    """Has glibc keep what is freed, up to twice `_KEPT`, for the next picture.

    It gives freed memory back to the system from twice the largest block on that has been freed so far, and a megabyte
    that comes from the system again costs 256 page faults: of a fast network and small pictures a seventh of the time,
    in the processes in which it happens to come to that. One large block, which is never touched, settles it. Other
    libraries of C, and glibc on systems of 32 bits, draw no such conclusions and are left as they are.
    """
    np.empty(_KEPT, np.uint8)


def compile_for_video() -> None:
    """Compiles or loads the kernels that only frames need which follow one another."""
    import simulator.engine.changes  # noqa: F401  it is done with the import


def check_task(bundle: Path, found: str, wanted: str | None) -> None:
    """Raises UserError for a bundle whose task is not the one that is wanted."""
    if wanted is not None and found not in (wanted, ALL_IN_ONE):
        raise UserError(f"{bundle} is for {found}, not {wanted}; give --task {found} or another bundle.")


def open_recording(wanted: str, board: BoardNetwork | None) -> Recording:
    """What --power names, ready to measure. Raises UserError if it cannot be used."""
    from firmware_bridge.power import meter_file, recording, sensors

    if wanted == "auto" and board is not None and not board.here:
        return board.recording()
    try:
        return recording.open_recording(wanted)
    except (sensors.SensorError, meter_file.MeterFileError) as error:
        raise UserError(sentence(error)) from error
