"""One picture after the other through a warm network, from where it is read to where it stands under its new name."""

from __future__ import annotations

import errno
import functools
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import pipeline
from edge.archive import work as kinds
from edge.archive.places import Place, place_of
from edge.archive.work import Done, Recipe, Work, digest, failed, skipped
from edge.errors import UserError
from edge.images import LARGEST_FILE, UnfitError, decoded_image, encode_image, too_large
from edge.loading import load_network
from edge.sinks.sink import cannot_write
from edge.sources.record import Frame
from simulator.files import reason
from simulator.statistics import BITS_32, Statistics

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from simulator.network import Network

# What the next picture would meet as well.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)


@dataclass(frozen=True)
class Made:
    """A picture that is restored and not yet stored. content: of the file; None where nothing is stored."""

    work: Work
    input: str
    content: bytes | None
    statistics: Statistics
    notes: tuple[str, ...]


class Restorer:
    """A warm network and what is to be done with it."""

    def __init__(self, recipe: Recipe, network: Network | BoardNetwork | None = None) -> None:
        """network: of the recipe's bundle, on a board; None: loads it here. Raises UserError."""
        if network is None:
            network = load_network(recipe.bundle, recipe.task, recipe.threads, recipe.tile)
            gc.freeze()  # what is loaded stays: looking through it for garbage again and again costs up to a tenth
        self.recipe, self.network = recipe, network
        self._run = functools.partial(network.run, tile=recipe.tile)
        self._options = recipe.options

    def run(self, work: Work) -> Done:
        """Restores and stores one picture. What goes wrong with it is told, not raised."""
        made = self.make(work)
        return made if isinstance(made, Done) else self.keep(made)

    def make(self, work: Work) -> Made | Done:
        """The first half of `run`: it may be broken off anywhere."""
        place = place_of(work.source)
        label = place.label(work.source)
        try:
            content = _read(place, work, label)
        except UserError as error:
            return failed(work, kinds.READ, str(error))
        found = digest(content, self.network.bundle_hash, self._options)
        if work.known and work.target is not None and found.startswith(work.known):
            return Done(work, skipped(work).record | {"input": found, "bytes": work.there})
        try:
            picture = decoded_image(content, label)
        except UserError as error:
            return failed(work, kinds.DECODED, str(error))
        frame = Frame(label, picture.pixels, None, picture.deep, picture.metadata, picture.notes)
        recipe = self.recipe
        try:
            restored = pipeline.restored(
                self.network, frame, self._run, check=recipe.check, side_by_side=recipe.side_by_side
            )
        except UnfitError as error:
            return failed(work, kinds.COMPUTED, str(error))
        except UserError as error:  # a board that is gone
            return failed(work, kinds.COMPUTED, str(error), fatal=True)
        notes = (*frame.notes, restored.remark) if restored.remark else frame.notes
        if work.target is None:
            return Made(work, found, None, restored.stats, notes)
        try:
            named = Path(place_of(work.target).name(work.target))
            encoded, more = encode_image(restored.samples, named, frame.metadata)
        except UnfitError as error:
            return failed(work, kinds.FITTED, str(error))
        return Made(work, found, encoded, restored.stats, (*notes, *more))

    def keep(self, made: Made) -> Done:
        """The second half of `run`: what may not be broken off between storing and telling."""
        work = made.work
        if work.target is not None and made.content is not None:
            place = place_of(work.target)
            try:
                place.write(work.target, made.content)
            except OSError as error:
                text = str(cannot_write(place.label(work.target), error))
                return failed(work, kinds.STORED, text, fatal=error.errno in _NO_ROOM)
        return told(made)


def _read(place: Place, work: Work, label: str) -> bytes:
    if work.size > LARGEST_FILE:
        raise too_large(label, work.size)
    try:
        return place.read(work.source)
    except OSError as error:
        raise UserError(f"{label} cannot be read: {reason(error)}.") from error


def told(made: Made) -> Done:
    """What is to be said of a picture that is stored."""
    work = made.work
    record: dict[str, Any] = {
        "source": work.name,
        "target": work.target,
        "status": kinds.RESTORED,
        "input": made.input,
    }
    if made.content is not None:
        record["bytes"] = len(made.content)
    record |= _figures(made.statistics)
    return Done(work, record, made.statistics, made.notes)


def _figures(statistics: Statistics) -> dict[str, Any]:
    """One picture in numbers, named as `edge.live.line` names them."""
    counted = bool(statistics.layers)
    return {
        "size": [statistics.width, statistics.height],
        "latency_ms": round(statistics.latency_s * 1e3, 3),
        "spike_rate": round(statistics.spike_rate, 5) if counted else None,
        "synops": statistics.synops if counted else None,
        "macs": statistics.macs if counted else None,
        "estimated_uj": round(statistics.estimated_uj(BITS_32), 2) if counted else None,
    }
