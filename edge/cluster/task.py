"""What a worker does with a batch of pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from edge import shipped, terminal
from edge.archive.picture import Restorer
from edge.archive.picture import told as told_of
from edge.archive.work import STORED, Done, Recipe, Work, failed
from edge.cluster.note import Note
from edge.errors import UserError
from simulator.files import reason
from simulator.statistics import Tally

WIRE = 3  # to be raised when a Batch or an Answer gets another form
THREADS = "EDGE_RESTORE_THREADS"  # the environment's: of each of a machine's workers


@dataclass(frozen=True)
class Batch:
    """Some pictures. bundle, options: hashes of what the recipe stands for where it was written. note: where the
    batch's note lies; None where outputs are in no folder."""

    recipe: Recipe
    bundle: str
    options: str
    works: tuple[Work, ...]
    note: str | None


class Told(NamedTuple):
    """Of one picture, what of `Done` is not known where it was given out."""

    record: dict[str, Any]
    notes: tuple[str, ...]
    fatal: bool


@dataclass(frozen=True)
class Answer:
    """told: what came of the pictures, in their order; fewer than were given where the rest would fare no better.

    statistics: of all of them together, for each would be larger than all else that is said of it. seconds: that they
    took with a warm network; cpu_s: of a core, in that time. worker: HOST:PID.
    """

    told: tuple[Told, ...]
    statistics: Tally
    seconds: float
    cpu_s: float
    worker: str


def restore(batch: Batch, wire: int) -> Answer:
    """Restores and stores the pictures. wire: the WIRE of whoever asks. Raises UserError where this worker cannot do
    any."""
    if wire != WIRE:
        raise UserError(f"the worker on {socket.gethostname()} has another version of spikerir-edge; install the same.")
    restorer = _restorer(batch)
    begin, before = time.perf_counter(), time.process_time()
    told: list[Told] = []
    statistics = Tally()
    try:
        with Note(batch.note) if batch.note is not None else contextlib.nullcontext() as note:
            for work in batch.works:
                done = _restored(restorer, note, work)
                if done.statistics is not None:
                    statistics.add(done.statistics)
                told.append(Told(done.record, done.notes, done.fatal))
                if done.fatal:
                    break
    except OSError as error:  # of the note: there will be no room for the output either
        text = f"{batch.note} cannot be written: {reason(error)}."
        told.append(Told(failed(batch.works[len(told)], STORED, text).record, (), fatal=True))
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return Answer(tuple(told), statistics, time.perf_counter() - begin, time.process_time() - before, worker)


def _restored(restorer: Restorer, note: Note | None, work: Work) -> Done:
    made = restorer.make(work)
    if isinstance(made, Done):
        return made
    return told_of(made) if note is not None and note.stands(made) else restorer.keep(made)


def warm_up() -> None:
    """Before a worker takes work: the kernels are loaded, or compiled."""
    from simulator.engine import cache_folder

    terminal.silence_libraries()
    cache_folder()


def _restorer(batch: Batch) -> Restorer:
    restorer = _warm(batch.recipe, batch.bundle)
    found = (restorer.network.bundle_hash, restorer.recipe.options)
    if found != (batch.bundle, batch.options):
        what = "network" if found[0] != batch.bundle else "version of spikerir-edge"
        raise UserError(
            f"the worker on {socket.gethostname()} has another {what} ({restorer.recipe.bundle}); install the same"
            " there."
        )
    return restorer


@functools.lru_cache(maxsize=2)
def _warm(recipe: Recipe, bundle_hash: str) -> Restorer:
    """Loaded anew where the hash is another one: the file may have changed. Raises UserError."""
    terminal.silence_libraries()
    own = shipped.BUNDLES / recipe.bundle.name
    bundle = own if not recipe.bundle.exists() and own.exists() else recipe.bundle
    threads = recipe.threads or int(os.environ.get(THREADS, "1"))
    restorer = Restorer(dataclasses.replace(recipe, bundle=bundle, threads=threads))
    # The first run takes longer, and batches go by what one takes.
    restorer.network.run(np.zeros((16, 16, 3), np.uint8))
    return restorer
