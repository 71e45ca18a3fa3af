"""A long video by several processes: cut at its key frames, each part read and restored by one, joined in order here.

The parts are times, so that frames that are stored behind a key frame and shown before it belong to the part before.
Of what is whole every frame is the one that a single run gives, and so is the output, which one encoder writes here,
with sound and times. A reader like any other (`edge.sources.record.Reader`) gives the frames; the results that belong
to them wait in `Parts.results`. What comes before its turn waits in memory, or, if it is much, in temporary files.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import pickle
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from edge import careful, terminal
from edge.archive.work import Recipe
from edge.errors import UserError
from edge.images import Pixels
from edge.loading import load_network
from edge.signals import Stop
from edge.sources.capture import Video
from edge.sources.decoded import Decoded, falls_short
from edge.sources.record import BrokenFrameError, Facts, LostError, Settings, Taken
from simulator.network import Result

LEAST_S = 2.0  # of a part: the first frame of each is computed as a whole
_IN_MEMORY = 64 << 20  # bytes of one part
_ATTEMPTS = 2
_BEFORE_S = (1.0, 4.0, 16.0)  # a key frame, if the way to it ended behind it
_LOCAL = {"protocol_whitelist": "file"}  # a playlist must not send anyone to other places

# What a process says of a part: a frame, None for one that is broken.
_Message = tuple[Pixels, float, Result] | None


@dataclass(frozen=True)
class Part:
    """Of a video: the frames that are shown from `begin` on, before `end`, in seconds; None: from the first, to the
    last."""

    begin: float | None
    end: float | None


def cut(key_frames: list[float]) -> list[Part]:
    """Parts that begin with a key frame and last LEAST_S at least, but for the last."""
    begins: list[float] = []
    for time in key_frames:
        if not begins or time - begins[-1] >= LEAST_S:
            begins.append(time)
    inner = begins[1:]
    return [Part(begin, end) for begin, end in zip([None, *inner], [*inner, None], strict=True)]


def open_parts(path: Path, settings: Settings, recipe: Recipe, jobs: int) -> tuple[Video, Parts] | None:
    """A video of that file, whose frames `jobs` processes restore; None where it has no two parts. Raises UserError."""
    place = f"file:{path}"
    try:
        scout = Decoded(place, options=_LOCAL)
    except LostError as error:
        raise UserError(
            f"{path} is neither an image nor a video that can be decoded; it may be damaged or cut short."
        ) from error
    parts = cut(scout.key_frames())
    scout.close()
    if len(parts) < 2:
        return None
    reader = Parts(place, parts, settings, recipe, min(jobs, len(parts)))
    return Video(str(path), lambda: reader, settings, path=path, clean_up=reader.close), reader


@dataclass
class _Ahead:
    """What has come of a part: messages, pickled, in a file that is read behind what is written."""

    part: Part
    file: Any = field(default_factory=lambda: tempfile.SpooledTemporaryFile(_IN_MEMORY))
    lengths: collections.deque[int] = field(default_factory=collections.deque)
    read_at: int = 0
    came: int = 0
    attempts: int = 0
    ended: bool = False

    def put(self, message: bytes) -> None:
        self.file.seek(0, 2)
        self.file.write(message)
        self.lengths.append(len(message))
        self.came += 1

    def get(self) -> _Message:
        self.file.seek(self.read_at)
        length = self.lengths.popleft()
        self.read_at += length
        message: _Message = pickle.loads(self.file.read(length))
        return message


class Parts:
    """Reads the frames of all parts in order. results: of the network, for each frame that was given."""

    def __init__(self, place: str, parts: list[Part], settings: Settings, recipe: Recipe, jobs: int) -> None:
        self._listener = Decoded(place, options=_LOCAL, sound=settings.sound)  # to the sound
        self.facts: Facts = self._listener.facts
        self.results: collections.deque[Result] = collections.deque()
        self._sounds = self._listener.sounds()
        self._next_sound = next(self._sounds, None)
        self._first: float | None = None
        self._last = 0.0
        self._ahead = collections.deque(_Ahead(part) for part in parts)
        self._waiting = collections.deque(self._ahead)
        self._changed = threading.Condition()
        self._failure: str | None = None
        self._closed = False
        self._place, self._recipe, self._jobs = place, recipe, jobs
        self._workers: dict[Connection, tuple[Any, _Ahead, int]] = {}  # process, its part, messages to pass over
        threading.Thread(target=self._gather, name="parts", daemon=True).start()

    def read(self) -> Taken | None:
        while self._ahead:
            with self._changed:
                current = self._ahead[0]
                while not current.lengths and not current.ended and self._failure is None and not self._closed:
                    self._changed.wait()
                if self._closed or (self._failure is not None and not current.lengths):
                    raise LostError(self._failure or "was closed")
                if not current.lengths:
                    self._ahead.popleft().file.close()
                    self._changed.notify_all()
                    continue
                message = current.get()
            if message is None:
                raise BrokenFrameError
            pixels, time, result = message
            self.results.append(result)
            self._first = time if self._first is None else self._first
            self._last = time - self._first
            return Taken(pixels, time, tuple(self._heard(time)))
        return None

    def result(self, pixels: Pixels) -> Result:
        """Of the frame that was given first of those not asked for yet; in the place of a network's `run`."""
        return self.results.popleft()

    def rest(self) -> tuple[tuple[int, Any], ...]:
        return tuple(self._heard(None))

    def ends_early(self, passed: int) -> bool:
        return falls_short(self.facts, passed, self._last)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for process, _, _ in list(self._workers.values()):
            process.terminate()

    def _heard(self, until: float | None) -> Iterator[tuple[int, Any]]:
        """The packets of sound up to a time; None: all that are left."""
        while self._next_sound is not None and (until is None or self._next_sound[0] <= until):
            yield self._next_sound[1]
            self._next_sound = next(self._sounds, None)

    def _gather(self) -> None:
        """A thread: gives parts out, and puts what comes of them where `read` finds it."""
        context = multiprocessing.get_context("spawn")
        while not self._closed:
            with self._changed:
                # Not farther ahead than that: what waits takes room.
                near = 2 * self._jobs - (len(self._ahead) - len(self._waiting))
            while self._waiting and near > 0 and len(self._workers) < self._jobs:
                self._start(context, self._waiting.popleft())
                near -= 1
            if not self._workers:
                if not self._waiting:
                    return
                with self._changed:
                    self._changed.wait(0.1)
                continue
            for connection in multiprocessing.connection.wait(list(self._workers), timeout=0.1):
                self._take(connection)  # type: ignore[arg-type]

    def _start(self, context: Any, ahead: _Ahead) -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._place, ahead.part, self._recipe), daemon=True)
        process.start()
        theirs.close()
        self._workers[ours] = process, ahead, ahead.came

    def _take(self, connection: Connection) -> None:
        process, ahead, known = self._workers[connection]
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            del self._workers[connection]
            connection.close()
            process.join()
            ahead.attempts += 1
            if not self._closed and ahead.attempts < _ATTEMPTS:
                self._waiting.appendleft(ahead)
            else:
                self._fail("cannot be restored: a process that did it has ended, twice")
            return
        kind, content = message[:1], message[1:]
        if kind == b"!":
            self._fail(content.decode())
        with self._changed:
            if kind == b"m" and known:  # what another process had sent before it was lost
                self._workers[connection] = process, ahead, known - 1
            elif kind == b"m":
                ahead.put(content)
            else:
                ahead.ended = True
                del self._workers[connection]
                connection.close()
            self._changed.notify_all()

    def _fail(self, reason: str) -> None:
        with self._changed:
            self._failure = reason
            self._changed.notify_all()


def _serve(connection: Connection, place: str, part: Part, recipe: Recipe) -> None:
    """A process: sends b"m" and a message for each frame of a part, b"e" at its end, or b"!" and why it cannot."""
    stop = Stop()
    with contextlib.suppress(OSError, KeyboardInterrupt):
        terminal.silence_libraries()
        try:
            with stop.leaving(connection.close):
                network = load_network(recipe.bundle, recipe.task, recipe.threads, recipe.tile)
            run = network.video(0, recipe.tile).run
            for taken in _frames(place, part):
                message: _Message = None
                if taken is not None:
                    assert taken.time is not None  # or the video would not have been cut
                    message = taken.pixels, taken.time, run(careful.surrounded(taken.pixels))
                connection.send_bytes(b"m" + pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
        except (UserError, LostError, ValueError, MemoryError) as error:
            connection.send_bytes(b"!" + str(error).encode())
            return
        connection.send_bytes(b"e")


def _frames(place: str, part: Part) -> Iterator[Taken | None]:
    """The frames of a part, and None for each that is broken."""
    reader, taken = (Decoded(place, options=_LOCAL), None) if part.begin is None else _found(place, part.begin)
    first = [] if part.begin is None else [taken]
    try:
        while True:
            try:
                taken = first.pop() if first else reader.read()
            except BrokenFrameError:
                yield None
                continue
            if taken is None or (part.end is not None and taken.time is not None and taken.time >= part.end):
                return
            yield taken
    finally:
        reader.close()


def _found(place: str, begin: float) -> tuple[Decoded, Taken | None]:
    """A reader that has just read the frame shown at `begin`, and that frame; the first behind it if it is broken.

    In a file without an index (MPEG-TS) the way to a key frame may end behind it, so that the next one is found: then
    it begins farther in front, and at last with the file.
    """
    for before_s in (0.0, *(each for each in _BEFORE_S if each < begin), None):
        reader = Decoded(place, options=_LOCAL)
        if before_s is not None:
            reader.go_to(begin - before_s)
        taken = _behind(reader, begin)
        if before_s is None or (taken is not None and taken.time == begin):
            break
        reader.close()
    return reader, taken


def _behind(reader: Decoded, begin: float) -> Taken | None:
    """The first frame that is shown at `begin` or later; what is broken before it belongs to the part before."""
    while True:
        with contextlib.suppress(BrokenFrameError):
            taken = reader.read()
            if taken is None or taken.time is None or taken.time >= begin:
                return taken
