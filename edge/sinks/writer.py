"""The thread between the network and what stores its pictures: one is encoded while the next is computed."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

from edge.containers.record import Samples
from edge.errors import UserError
from edge.sinks.sink import Sink
from edge.sources.record import Frame, Sound

WAITING = 4  # pictures, and pieces of sound, that are not stored yet; the network waits when there are so many
ENDS_S = 2.0  # that are left to store them when the run is to stop
_LOOK_S = 0.1  # between looks whether it is


class Writer(Sink):
    """Passes everything on to another sink, in order and by a thread of its own; nothing is dropped.

    What goes wrong there is raised by the next call here, and what was given since then is not stored.
    """

    def __init__(self, sink: Sink, label: str, stopping: Callable[[], bool]) -> None:
        """label: of the output, for messages. stopping: whether the run is to stop; a disk that does not answer is then
        waited for no longer than ENDS_S."""
        super().__init__()
        self.notes = sink.notes
        self._sink, self._label, self._stopping = sink, label, stopping
        self._items: collections.deque[tuple[Frame, Samples] | Sound] = collections.deque()  # not stored yet
        self._failed: Exception | None = None
        self._told = False  # whether that has been raised
        self._until: float | None = None  # when waiting ends, once the run is to stop
        self._ending = False
        self._running = False
        self._changed = threading.Condition()

    def write(self, frame: Frame, pixels: Samples) -> None:
        self._put((frame, pixels))

    def add_sound(self, sound: Sound) -> None:
        self._put(sound)

    def settle(self) -> None:
        self._wait(lambda: not self._items)
        self._raise()

    def finish(self) -> str:
        if not self._end():
            raise UserError(
                f"{self._label} was not finished within {ENDS_S:g} s, because its disk does not answer; what is in it"
                " is found at the next start."
            )
        if isinstance(self._failed, UserError) and not self._told:
            self.notes.append(str(self._failed))
        elif not self._told:
            self._raise()
        return self._sink.finish()

    def discard(self) -> None:
        if self._end():
            self._sink.discard()

    def _put(self, item: tuple[Frame, Samples] | Sound) -> None:
        self._wait(lambda: len(self._items) < WAITING or self._stopping())
        self._raise()
        with self._changed:
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="writer", daemon=True).start()
            self._items.append(item)
            self._changed.notify_all()

    def _raise(self) -> None:
        if self._failed is not None:
            self._told = True
            raise self._failed

    def _end(self) -> bool:
        """Has the thread store what is left, and end; whether it has."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        return self._wait(lambda: not self._running)

    def _wait(self, condition: Callable[[], bool]) -> bool:
        """Waits for `condition`, but not longer than ENDS_S after the run was told to stop; whether it holds."""
        with self._changed:
            while not condition():
                if self._stopping():
                    now = time.monotonic()
                    self._until = now + ENDS_S if self._until is None else self._until
                    if now >= self._until:
                        return False
                self._changed.wait(_LOOK_S)
        return True

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if isinstance(item, Sound):
                    self._sink.add_sound(item)
                else:
                    self._sink.write(*item)
                with self._changed:
                    self._items.popleft()
                    self._changed.notify_all()
        except Exception as error:  # whatever it was, it belongs to the thread that gave the picture
            self._failed = error
        finally:
            with self._changed:
                self._items.clear()
                self._running = False
                self._changed.notify_all()

    def _next(self) -> tuple[Frame, Samples] | Sound | None:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ending)
            return self._items[0] if self._items else None
