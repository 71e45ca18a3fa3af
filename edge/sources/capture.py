"""The thread between what gives pictures and the network that takes them.

A `Video` is read by a thread of its own, one for each connection, so that decoding goes on while the network computes,
and so that whoever waits for a picture can be told that none comes: a thread that hangs in a driver is left behind.
Of a live source only the newest picture waits (drop "latest"), so that what is shown is never older than one picture;
of files every one does (drop "none").
"""

from __future__ import annotations

import collections
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge import terminal
from edge.errors import UserError
from edge.sources.record import BrokenFrameError, Frame, LostError, Reader, Remark, Settings, Sound, Taken, Unreadable

WAITING = 2  # frames decoded ahead where none may be dropped
BROKEN_IN_A_ROW = 32  # frames of a file; after so many the rest is given up
_GRACE_S = 0.5  # a reader that knows why nothing comes shall be able to say so
_BACK_OFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each attempt to connect again; then always the last
_HELD_S = 60.0  # a connection that lasted so long makes the attempts before it forgotten
_BETWEEN_REMARKS_S = 10.0  # about broken frames of what is live
_CLOCKS_APART_S = 2.0  # by which a stream's own clock has jumped and not only strayed from this machine's
_FOLLOWED = 0.001  # of that, with each frame
ATTEMPTS = 5  # of a stream that breaks off

Opener = Callable[[], Reader]


class _Connection:
    """One opening of a source and the thread that reads it."""

    def __init__(self, opener: Opener, drop: str | None, patience_s: float | None):
        self.reader: Reader | None = None
        self.given = 0  # frames
        self.broken_in_a_row = 0
        self.patience_s = patience_s
        self._opener, self._drop = opener, drop
        self._latest = False
        self._items: collections.deque[tuple[Taken, float, int]] = collections.deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._end: Exception | None = None  # what ended it, if not the end of the source
        self._ended = False
        self._left = False  # nobody waits for this connection any more
        self.thread = threading.Thread(target=self._read, name="capture", daemon=True)
        self.thread.start()

    def wait_open(self) -> Reader:
        """Raises what opening raised, LostError where it takes too long."""
        self._wait(lambda: self.reader is not None or self._ended)
        if self.reader is None:
            raise self._end or LostError("does not answer")
        return self.reader

    def take(self) -> tuple[Taken, float, int] | None:
        """(frame, when it arrived, how many before it were broken); None at the end. Raises what ended it."""
        if not self._wait(lambda: bool(self._items) or self._ended):
            raise LostError(f"has given no picture for {round(self.patience_s or 0, 1):g} s")
        with self._changed:
            if self._items:
                item = self._items.popleft()
                self.given += 1
                self._changed.notify_all()
                return item
        if self._end is not None:
            raise self._end
        return None

    def take_dropped(self) -> int:
        """Frames dropped since this was last asked."""
        with self._changed:
            dropped, self._dropped = self._dropped, 0
        return dropped

    def leave(self) -> None:
        """Ends the thread, at the latest when the reader comes back to it."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool]) -> bool:
        until = math.inf if self.patience_s is None else time.monotonic() + self.patience_s + _GRACE_S
        with self._changed:
            while not condition():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 1.0))
        return True

    def _read(self) -> None:
        reader = None
        try:
            reader = self._opener()
            live = reader.facts.live
            self._latest = self._drop == "latest" or (self._drop is None and live)
            with self._changed:
                self.reader = reader
                self._changed.notify_all()
            while not self._left and (live or self.broken_in_a_row < BROKEN_IN_A_ROW):
                try:
                    taken = reader.read()
                except BrokenFrameError:
                    self.broken_in_a_row += 1
                    continue
                if taken is None:
                    break
                self._hand_over(taken)
        except Exception as error:  # whatever it was, it belongs to the thread that waits
            self._end = error
        finally:
            if reader is not None:
                reader.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _hand_over(self, taken: Taken) -> None:
        broken, self.broken_in_a_row = self.broken_in_a_row, 0
        with self._changed:
            if self._latest and self._items:
                before, _, broken_before = self._items.pop()
                taken = Taken(taken.pixels, taken.time, (*before.sound, *taken.sound))
                broken += broken_before
                self._dropped += 1
            while len(self._items) >= WAITING and not self._left:
                self._changed.wait()
            self._items.append((taken, time.monotonic(), broken))
            self._changed.notify_all()


class Video:
    """An opened video file, stream or camera. `label` is fit for messages: no password of a URL is in it.

    facts: what it said when it was opened. dropped: frames that came while the network was busy; broken: those that
    could not be decoded; reconnects: how often the connection was made again; status: opening, running, stalled, ended.
    """

    def __init__(
        self,
        label: str,
        opener: Opener,
        settings: Settings,
        *,
        path: Path | None = None,
        attempts: float = 0,
        hint: str = "",
        opens_late: bool = False,
        clean_up: Callable[[], None] = lambda: None,
    ):
        """Opens it. `attempts` to connect again unless the settings say; `hint`: what to do if nothing comes;
        `opens_late`: it is opened when somebody else begins, which may be any time from now; `clean_up` ends what must
        not outlive the run, such as a command. Raises UserError.
        """
        self.label, self.path = label, path
        self.dropped = self.broken = self.reconnects = 0
        self.status = "opening"
        self._opener, self._hint, self._drop, self._clean_up = opener, hint, settings.drop, clean_up
        # For opening; a disk may have to wake up.
        self._patience_s = settings.timeout_s if opens_late or path is not None else settings.patience_s
        self._told = -math.inf  # when broken frames were last spoken of, and how many have come since
        self._untold = 0
        self._connection = self._connect()
        try:
            reader = self._opened(settings.reconnect or 0)
        except LostError as error:
            self.close()
            raise UserError(f"{label} {error}{hint}.") from error
        except BaseException:
            self.close()
            raise
        self.facts = reader.facts
        self.live = self.facts.live
        # A file, or a pipe that holds one, may take its time.
        self._patience_s = settings.patience_s if self.live or settings.timeout_s is not None else None
        if self._patience_s is not None and settings.fps is not None:
            self._patience_s += 1 / settings.fps  # who asks for a picture a minute does not get it late
        self._connection.patience_s = self._patience_s
        self._attempts = settings.reconnect if settings.reconnect is not None else attempts if self.live else 0
        self.status = "running"

    @property
    def count(self) -> int | None:
        return self.facts.count

    def frames(self, limit: int | None = None) -> Iterator[Frame | Sound | Unreadable | Remark]:
        """At most `limit` frames with their sound, and in their place what could not be had.

        A live source that is lost is connected to again, as often as that is wanted. One that is lost for good,
        and a file that ends before its announced end, close with an Unreadable.
        """
        for note in self.facts.notes:
            yield Remark(note)
        done = failures = 0
        shift = 0.0  # of the sound against the frames
        begin = connected = time.monotonic()
        clock = Clock()
        while limit is None or done < limit:
            try:
                item = self._connection.take()
            except (LostError, UserError) as error:
                self._count()
                if self._connection.given and time.monotonic() - connected > _HELD_S:
                    failures = 0
                if failures >= self._attempts:
                    self.status = "ended"
                    yield Unreadable(self._lost(error, done, failures))
                    return
                failures += 1
                self.status = "stalled"
                if _is_said(failures):
                    yield Remark(f"{self.label} {self._why(error)}; connecting again.")
                self._connection.leave()
                time.sleep(_back_off_s(failures))
                self.reconnects += 1
                connected = time.monotonic()
                clock = Clock()
                self._connection = self._connect()
                continue
            if item is None:
                reader = self._connection.reader
                if reader is not None and done and (packets := reader.rest()):
                    yield Sound(packets, shift)
                yield from self._at_the_end(done)
                return
            self.status = "running"
            taken, arrived, broken = item
            self._count()
            if broken:
                yield from self._broken(broken, done)
            done += 1
            if done == 1:
                begin = arrived
            shown = clock.time(taken.time, arrived - begin) if self.live else clock.exactly(taken.time)
            name = f"frame {done + self.broken} of {self.label}"
            yield Frame(name, taken.pixels, time=shown, taken=arrived if self.live else None)
            shift = 0.0 if shown is None or taken.time is None else taken.time - shown
            if taken.sound:
                yield Sound(taken.sound, shift)

    def close(self) -> None:
        """Ends the reading; a thread that hangs is left behind."""
        self._connection.leave()
        self._clean_up()
        self._connection.thread.join(0.5)

    @property
    def hangs(self) -> bool:
        """Whether the reading thread has not come back from a driver or a connection."""
        return self._connection.thread.is_alive()

    def _opened(self, attempts: float) -> Reader:
        """The reader, of the first connection or one of so many `attempts` behind it. Raises LostError."""
        failures = 0
        while True:
            try:
                return self._connection.wait_open()
            except LostError as error:
                if failures >= attempts:
                    raise
                failures += 1
                if _is_said(failures):
                    terminal.say(f"{self.label} {self._why(error)}; trying again.")
            self._connection.leave()
            time.sleep(_back_off_s(failures))
            self._connection = self._connect()

    def _connect(self) -> _Connection:
        return _Connection(self._opener, self._drop, self._patience_s)

    def _count(self) -> None:
        self.dropped += self._connection.take_dropped()

    def _broken(self, broken: int, done: int) -> Iterator[Unreadable | Remark]:
        """What is said of `broken` frames behind the `done` that are well; of a live source not too often."""
        self.broken += broken
        if not self.live:
            last = done + self.broken
            which = f"frame {last}" if broken == 1 else f"{broken} frames before frame {last + 1}"
            are = "is" if broken == 1 else "are"
            yield Unreadable(f"{which} of {self.label} cannot be decoded and {are} left out.")
            return
        self._untold += broken
        if time.monotonic() - self._told > _BETWEEN_REMARKS_S:
            were = "was" if self._untold == 1 else "were"
            yield Remark(f"{terminal.frames(self._untold)} of {self.label} could not be decoded and {were} left out.")
            self._untold, self._told = 0, time.monotonic()

    def _at_the_end(self, done: int) -> Iterator[Unreadable | Remark]:
        self.status = "ended"
        self._count()
        reader = self._connection.reader
        behind = self._connection.broken_in_a_row
        if done == 0:
            yield Unreadable(f"{self.label} holds no frame that can be decoded; give a whole video.")
        elif reader is not None and reader.facts.count is not None:
            if reader.ends_early(done + self.broken):
                yield Unreadable(
                    f"{self.label} ends early: {done} of {reader.facts.count} announced frames could be decoded;"
                    " what was restored is kept."
                )
        elif behind:
            yield from self._broken(behind, done)
        if self.live and done:
            unasked = self.dropped if self._drop is None else 0
            others = f", and {unasked} were dropped for newer ones; --drop none restores all" if unasked else ""
            yield Remark(f"{self.label} ended after {terminal.frames(done)}{others}; what was restored is kept.")

    def _lost(self, error: Exception, done: int, failures: int) -> str:
        tried = f" ({failures} attempt{'s' * (failures != 1)} to connect again)" if failures else ""
        kept = "; what was restored is kept" if done else self._hint
        return f"{self.label} {self._why(error)} after {terminal.frames(done)}{tried}{kept}."

    def _why(self, error: Exception) -> str:
        return str(error).removeprefix(self.label).strip().rstrip(".")


def _is_said(failures: int) -> bool:
    """The first, second, fourth, eighth time."""
    return failures & (failures - 1) == 0


def _back_off_s(failures: int) -> float:
    return _BACK_OFF_S[min(failures, len(_BACK_OFF_S)) - 1]


class Clock:
    """Turns a stream's own times into times of the recording: it may begin anywhere, and anew when connected again."""

    def __init__(self) -> None:
        self._first: float | None = None  # what the stream said at the beginning of the recording
        self._believed, self._set = True, -math.inf  # when it was set after a jump, in seconds of the recording

    def exactly(self, own: float | None) -> float | None:
        """The time of a file's frame from its first one on, in seconds."""
        if own is None:
            return None
        if self._first is None:
            self._first = own
        return own - self._first

    def time(self, own: float | None, arrived: float) -> float:
        """own: what the stream says, in seconds, or None; arrived: when the frame came, in seconds of the recording.

        A stream's own clock has no jitter, so it is followed, and made to follow that of this machine little by little:
        in a day two clocks stray by seconds. Where it jumps it is set anew, and where it goes on jumping not believed.
        """
        if own is None or not self._believed:
            return arrived
        if self._first is None:
            self._first = own - arrived
        apart = own - self._first - arrived
        if abs(apart) >= _CLOCKS_APART_S:
            self._believed = arrived - self._set >= _HELD_S
            self._first, self._set = own - arrived, arrived
            return arrived
        self._first += apart * _FOLLOWED
        return own - self._first
