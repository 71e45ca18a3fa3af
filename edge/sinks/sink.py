"""What every output is, and the sentence for one that cannot be written."""

from __future__ import annotations

from pathlib import Path

from edge.containers.record import Samples
from edge.errors import UserError
from edge.sources.record import Frame, Sound
from simulator.files import reason


class Sink:
    """Takes restored pictures in order. This one lets them go; the others store them.

    Call `settle` when all pictures have come, `finish` when they end, however they end, and `discard` last, which
    removes what is not whole.
    `notes` collects sentences for the person.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []

    def write(self, frame: Frame, pixels: Samples) -> None:
        """Stores `pixels`, the restored form of `frame`, of 8 or 16 bits.

        Raises UnfitError where this one cannot be stored, UserError where nothing can.
        """

    def add_sound(self, sound: Sound) -> None:
        """Stores what was heard up to the frame that was written last, where there is room for sound."""

    def settle(self) -> None:
        """Waits until all that was given is stored. Raises UserError where something cannot be."""

    def finish(self) -> str:
        """Makes everything whole; returns what was written, in a few words, '' for nothing. Raises UserError."""
        return ""

    def discard(self) -> None:
        """Removes what is not whole; nothing after `finish`."""


def cannot_write(path: Path | str, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {reason(error)}.")
