"""What a worker does with a batch of pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import time
from dataclasses import dataclass

from edge import shipped, terminal
from edge.archive.picture import Restorer, told
from edge.archive.work import STORED, Done, Recipe, Work, failed
from edge.cluster.note import Note
from edge.errors import UserError
from simulator.files import reason
from simulator.statistics import Tally

WIRE = 2  # to be raised when a Batch or an Answer gets another form
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


@dataclass(frozen=True)
class Answer:
    """What came of the pictures, in their order; fewer than were given where the rest would fare no better.

    statistics: of all of them together, for each would be larger than all else that is said of it. seconds: that it
    took; cpu_s: of a core, in that time. worker: HOST:PID.
    """

    done: tuple[Done, ...]
    statistics: Tally
    seconds: float
    cpu_s: float
    worker: str


def restore(batch: Batch, wire: int) -> Answer:
    """Restores and stores the pictures. wire: the WIRE of whoever asks. Raises UserError where this worker cannot do
    any."""
    if wire != WIRE:
        raise UserError(f"the worker on {socket.gethostname()} has another version of spikerir-edge; install the same.")
    begin, before = time.perf_counter(), time.process_time()
    restorer = _restorer(batch)
    done: list[Done] = []
    statistics = Tally()
    try:
        with Note(batch.note) if batch.note is not None else contextlib.nullcontext() as note:
            for work in batch.works:
                one = _restored(restorer, note, work)
                if one.statistics is not None:
                    statistics.add(one.statistics)
                done.append(dataclasses.replace(one, statistics=None))
                if one.fatal:
                    break
    except OSError as error:  # of the note: there will be no room for the output either
        text = f"{batch.note} cannot be written: {reason(error)}."
        done.append(failed(batch.works[len(done)], STORED, text, fatal=True))
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return Answer(tuple(done), statistics, time.perf_counter() - begin, time.process_time() - before, worker)


def _restored(restorer: Restorer, note: Note | None, work: Work) -> Done:
    made = restorer.make(work)
    if isinstance(made, Done):
        return made
    return told(made) if note is not None and note.stands(made) else restorer.keep(made)


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
    return Restorer(dataclasses.replace(recipe, bundle=bundle, threads=threads))
