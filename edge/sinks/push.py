"""A stream pushed to an RTSP server that records or distributes it, such as MediaMTX, go2rtc or Frigate."""

from __future__ import annotations

import threading

from edge import pyav, terminal
from edge.containers.record import Samples
from edge.errors import UserError
from edge.images import Pixels, shallow
from edge.sinks.encoded import Encoder
from edge.sinks.sink import Sink
from edge.sources.record import Facts, Frame
from edge.terminal import without_secrets

_TIMEOUT_S = 5.0
_BACK_OFF_S = 2.0
_ENDS_S = 1.0  # that the server is given to take the last frame


class Push(Sink):
    """Pushes the newest picture, by a thread of its own: a slow or absent server holds nothing up."""

    def __init__(self, address: str, facts: Facts) -> None:
        """Raises UserError without PyAV."""
        super().__init__()
        if pyav.library() is None:
            raise UserError(f"an RTSP server is reached through PyAV, which is not installed: {pyav.INSTALL}")
        self.label = without_secrets(address)
        self._address = address
        # The server gets frames as they are restored: at no even rate, and without what only files have.
        self._facts = Facts(facts.fps, aspect=facts.aspect, live=True)
        self._waiting: tuple[Pixels, float | None] | None = None
        self._changed = threading.Condition()
        self._ending = False
        self._sent = self._missed = 0
        self._trouble = ""  # why the server did not take what came last
        if facts.tracks:
            self.notes.append(f"sound is not pushed to {self.label}.")
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, pixels: Samples) -> None:
        with self._changed:
            self._missed += self._waiting is not None
            self._waiting = shallow(pixels), frame.time
            self._changed.notify_all()

    def finish(self) -> str:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(_ENDS_S)
        missed = f", {self._missed} not taken by the server" if self._missed else ""
        if not self._sent:
            raise UserError(f"{self.label} took no picture: {self._trouble or 'it does not answer'}.")
        return f"{terminal.frames(self._sent)} to {self.label}{missed}"

    def discard(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def _run(self) -> None:
        encoder: Encoder | None = None
        while (item := self._next()) is not None:
            pixels, shown = item
            try:
                if encoder is not None and not encoder.takes(pixels):
                    encoder.close()
                    encoder = None
                if encoder is None:
                    encoder = self._connected((pixels.shape[1], pixels.shape[0]))
                encoder.add(pixels, shown)
                self._sent += 1
                self._trouble = ""
            except (OSError, UserError) as error:
                self._missed += 1
                before, self._trouble = self._trouble, _why(error)
                if not before and not self._ending:
                    terminal.say(f"{self.label} takes no picture: {self._trouble}; trying again and again.")
                if encoder is not None:
                    encoder.abandon()
                    encoder = None
                with self._changed:
                    self._changed.wait_for(lambda: self._ending, _BACK_OFF_S)
        if encoder is not None:
            try:
                encoder.close()
            except OSError:
                encoder.abandon()

    def _next(self) -> tuple[Pixels, float | None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ending)
            item, self._waiting = self._waiting, None
            return item

    def _connected(self, size: tuple[int, int]) -> Encoder:
        options = {"rtsp_transport": "tcp", "timeout": str(int(_TIMEOUT_S * 1e6))}
        return Encoder(self._address, ".mp4", size, self._facts, form="rtsp", options=options, timeout_s=_TIMEOUT_S)


def _why(error: OSError | UserError) -> str:
    return pyav.reason(error) if isinstance(error, OSError) else str(error).rstrip(".")
