"""A network loaded for a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import simulator
from edge.errors import UserError, sentence
from simulator.network import Network
from simulator.tasks import ALL_IN_ONE

if TYPE_CHECKING:
    from edge.boards import BoardNetwork


def load_network(bundle: Path, task: str | None, threads: int | None, tile: int | None) -> Network:
    """Loads `bundle`. Raises UserError if it is unusable, of another task, or has no use for so small a tile."""
    if threads is not None:
        threads = min(threads, os.cpu_count() or 1)  # more would only wait for each other
    try:
        network = simulator.load(bundle, threads=threads)
    except (ValueError, OSError) as error:
        raise UserError(sentence(error)) from error
    check_task(bundle, network, task)
    if tile is not None and tile < network.min_tile:
        raise UserError(f"--tile {tile} is too small for this network; give at least {network.min_tile} or none.")
    return network


def check_task(bundle: Path, network: Network | BoardNetwork, task: str | None) -> None:
    """Raises UserError for a network that is for something else."""
    if task is not None and network.task not in (task, ALL_IN_ONE):
        raise UserError(f"{bundle} is for {network.task}, not {task}; give --task {network.task} or another bundle.")
