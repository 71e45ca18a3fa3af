"""Ctrl-C and SIGTERM: a run ends at once, but never between what is stored and what is counted."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# A second signal so soon is the same wish; it must not break what the first one set off.
_SAME_SIGNAL_S = 0.5


class Stop:
    """Turns the first SIGINT or SIGTERM into a KeyboardInterrupt, at once or where `unbroken` ends.

    For the main thread of a process. A signal that is ignored, as SIGINT is in a background job, stays ignored.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False
        self._leave: Callable[[], None] | None = None
        self._last = -math.inf
        self._before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._leave:
            try:
                self._leave()
            finally:
                os._exit(130)
        self.requested = True
        again = time.monotonic() - self._last < _SAME_SIGNAL_S
        self._last = time.monotonic()
        if not self._held and not again:
            raise KeyboardInterrupt

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """The block runs to its end, then the interrupt comes.

        So does one that was lost before: a callback from compiled code swallows the exception.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def leaving(self, clean_up: Callable[[], None]) -> Iterator[None]:
        """In the block a signal ends the process on the spot, after `clean_up`, with exit code 130.

        For loading the network: an exception in the middle of LLVM's work can bring the process down later.
        """
        self._leave = clean_up
        try:
            yield
        finally:
            self._leave = None

    def no_more(self) -> None:
        """From here on there is nothing to stop: only a moment of putting things in order is left."""
        self._held = True

    def restore(self) -> None:
        """Puts back the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
