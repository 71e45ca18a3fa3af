"""What a board is to the rest of the project: it loads a bundle and restores pictures, and says what that took."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from firmware_bridge.counts import add_counts
from firmware_bridge.first_difference import Tracer
from firmware_bridge.power.recording import Recording
from firmware_bridge.tiles import Tile, inner_slices
from simulator.bundle import Bundle


class BoardError(RuntimeError):
    """A board that is unknown, not there, or fails. str() is a sentence that says what to do."""


class Unusable(BoardError):
    """A board that no waiting makes usable: its name is unknown, or something has to be installed first."""


class NotCompiledError(Unusable):
    """A network that would have to be compiled for a board first, or cannot be."""


@dataclass(frozen=True)
class BoardResult:
    """What a board gives for a picture.

    image: uint8 RGB [H, W, 3]. counts: `counts.COUNTS` [nodes of the graph], of the whole picture; None where the board
    does not count. seconds: of the network alone, by the board's own clock. ticks: the same in the board's `unit`, or
    None. end_to_end_s: on this machine, transfers included. memory: bytes of working memory, 0 if unknown. overhead:
    pixels computed by pixels of the picture, more than 1 where it was cut into tiles.
    """

    image: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.void] | None
    seconds: float
    ticks: int | None
    end_to_end_s: float
    memory: int = 0
    overhead: float = 1.0


def assemble(parts: Sequence[tuple[Tile, BoardResult]], end_to_end_s: float) -> BoardResult:
    """The picture that all its parts make, with their counts and times added up; of a board that counts."""
    whole, first = parts[0]
    height, width = whole.image_height, whole.image_width
    image, counts = np.empty((height, width, 3), np.uint8), np.zeros_like(first.counts)
    for part, found in parts:
        place, source = inner_slices(part)
        image[place] = found.image[source]
        assert found.counts is not None
        add_counts(counts, found.counts)
    return BoardResult(
        image,
        counts,
        seconds=sum(found.seconds for _, found in parts),
        ticks=None if first.ticks is None else sum(found.ticks or 0 for _, found in parts),
        end_to_end_s=end_to_end_s,
        memory=max(found.memory for _, found in parts),
        overhead=sum(part.height * part.width for part, _ in parts) / (height * width),
    )


class Board(ABC):
    """A context manager; open by `open_board`. Facts of a kind of board are class attributes.

    about: a line for the list of boards. clock: what `BoardResult.seconds` is. unit: what its clock counts where that
    is not time, as "instructions". here: it computes on this machine, so that this machine's power is its power.
    tolerated: share of the pixels that may differ from the simulator's; 0 where every bit is promised.
    takes_parts: it restores parts of a picture one by one, so that several boards can share one (`run_part`).
    """

    name = ""
    about = ""
    clock = "wall time"
    unit = ""
    here = True
    tolerated = 0.0
    takes_parts = False

    @classmethod
    def packages(cls) -> tuple[str, ...]:
        """Debian packages that have to be installed before it can be used."""
        return ()

    @classmethod
    def missing(cls) -> str:
        """What has to be done before it can be used, a sentence; empty if nothing."""
        return f"apt-get install {' '.join(cls.packages())}" if cls.packages() else ""

    @abstractmethod
    def load(self, bundle: Bundle) -> None:
        """Makes the board ready to run a network, in place of the one before; raises `BoardError`."""

    @abstractmethod
    def run(self, image: npt.NDArray[np.uint8]) -> BoardResult:
        """Restores a picture of any size, uint8 RGB [H, W, 3]; raises `BoardError`."""

    def parts(self, height: int, width: int) -> Sequence[Tile]:
        """How this board would cut a picture of that size, with halos; raises `BoardError` if it has no way."""
        return [Tile.whole(height, width)]

    def run_part(self, given: npt.NDArray[np.uint8], part: Tile) -> BoardResult:
        """What `part` gives, whose pixels are `given`, uint8 RGB [part.height, part.width, 3], of which the inner ones
        are those of the whole picture; counts are of the part. Raises `BoardError`."""
        raise BoardError(f"{self.name} restores whole pictures only")

    @abstractmethod
    def tracer(self) -> Tracer | None:
        """Gives access to the layers of the loaded network, where the board does; raises `BoardError`."""

    @property
    def untraced(self) -> str:
        """Why there is no `tracer`, where there is none, in words that go on after the board's name."""
        return "does not give access to its layers; the first counts that differ are above"

    def least(self) -> tuple[int, int]:
        """Rows and columns of the smallest picture that it restores, and looks into if it does, for this network."""
        return 1, 1

    def traced_part(self, image: npt.NDArray[np.uint8], row: int, column: int) -> npt.NDArray[np.uint8]:
        """The part of a picture around a pixel that `tracer` can be given: all of it. Raises `BoardError`."""
        return image

    def recording(self) -> Recording:
        """Measures the power of a run where the board can by itself; else says why there is no figure."""
        return Recording(missing=f"board {self.name} has no power sensor; use an external meter")

    def close(self) -> None:  # noqa: B027  boards on this machine hold nothing
        """Gives back what the board holds. It may be closed twice."""

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
