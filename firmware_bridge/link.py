"""The host's end of the link: requests repeated until they are answered, uploads in windows, whole results.

Whatever the line does to the bytes, a picture that comes back is the board's: every frame has a CRC-32, every upload
and every result a BLAKE2b hash, and what does not fit is asked for again. What cannot be had ends in a `LinkError`
within the time that the settings give.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge import protocol
from firmware_bridge.counts import COUNTS
from firmware_bridge.native import OTHER_VERSION, STATUSES
from firmware_bridge.plan.records import header_word
from firmware_bridge.protocol import (
    ANSWER,
    Frame,
    Frames,
    Hello,
    How,
    Kind,
    Power,
    ProtocolError,
    Ran,
    Result,
    Upload,
    Why,
)  # fmt: skip
from firmware_bridge.runner import Measured
from firmware_bridge.tiles import Tile
from firmware_bridge.transport import Transport, TransportError


class LinkError(RuntimeError):
    """A board that does not answer, or not sensibly. str() is a sentence."""


class Refused(LinkError):
    """The board answered that it does not do what it was asked. why: of the protocol; detail: the core's status."""

    def __init__(self, request: int, why: int, detail: int):
        self.why, self.detail = why, detail
        known = Why(why).name.replace("_", " ").lower() if why in tuple(Why) else f"error {why}"
        core = f" ({STATUSES[detail]})" if why == Why.REFUSED and detail < len(STATUSES) else ""
        core += f": {OTHER_VERSION}" if "SNN_VERSION" in core else ""
        name = Kind(request).name.lower() if request in tuple(Kind) else f"request {request}"
        super().__init__(f"the board refused to {name}: {known}{core}")


@dataclass(frozen=True)
class Patience:
    """answer_s: until a request is repeated. tries: of a request. silence_s: without a sign of life while the board
    computes. run_s: of one run in all. window: bytes on their way in an upload or a download."""

    answer_s: float = 1.0
    tries: int = 10
    silence_s: float = 5.0
    run_s: float = 600.0
    window: int = 1 << 16


class Link:
    """Talks to one board over a transport, which it closes with itself. Raises `LinkError` from every method.

    `hello`: what the board said of itself. `repeated`: requests that had to be sent again.
    """

    def __init__(self, transport: Transport, patience: Patience | None = None):
        self._transport, self._patience = transport, patience or Patience()
        self._frames, self._sequence = Frames(), 0
        self._job = secrets.randbits(32)  # so that no other host's result is mistaken for this one's
        self._waiting: list[Frame] = []
        self._piece = 0
        self.repeated = 0
        self.plan = b""
        try:
            self._transport.send(b"\0", self._patience.answer_s)  # ends whatever the line left half said
            self.hello = self._hello()
        except TransportError as error:
            raise LinkError(str(error)) from error
        self._piece = self._largest_piece()

    def close(self) -> None:
        self._transport.close()

    def ping(self, body: bytes = b"") -> None:
        """Whether the board is there and says the same."""
        if self._ask(Kind.PING, body) != body:
            raise LinkError(f"{self._transport.name} does not return what it is sent")

    def reset(self) -> None:
        """The board forgets plan, picture and result."""
        self._ask(Kind.RESET)

    def statistics(self) -> dict[str, int]:
        """What the board counted since its start."""
        frames, bad, low, high, runs, errors = self._words(self._ask(Kind.STATISTICS), 6)
        return {"frames": frames, "bad_frames": bad, "bytes": low | high << 32, "runs": runs, "errors": errors}

    def load(self, plan: bytes) -> None:
        """Uploads a plan, or what of it the board does not have yet."""
        self.plan = plan
        self._upload(Upload.PLAN, plan)

    def run(
        self, picture: npt.NDArray[np.uint8], tile: Tile | None = None, *, trace: bool = False, by_rows: bool = False
    ) -> Measured:
        """Restores uint8 [height, width, 3], as `native.Core.run`; the ticks are the board's."""
        how = How.TRACED * trace | How.BY_ROWS * by_rows
        found, looked = self._job_of(picture, tile or Tile.whole(*picture.shape[:2]), How(how))
        if not trace:
            return found
        hashes = self._numbers(looked, "<u8")
        if hashes.size != self._layers() * self._time_steps():
            raise LinkError(f"{self._transport.name} gave a trace of {hashes.size} hashes")
        return replace(found, trace=hashes.reshape(self._layers(), -1))

    def look(self, picture: npt.NDArray[np.uint8], layer: int, step: int, channel: int) -> npt.NDArray[np.int32]:
        """One step and channel of a layer's output, as `native.Core.look`."""
        whole = Tile.whole(*picture.shape[:2])
        return self._numbers(self._job_of(picture, whole, How.LOOK, (layer, step, channel))[1], "<i4")

    def sensor(self) -> str:
        """The power sensor of the board, or nothing."""
        try:
            return self._ask(Kind.POWER, protocol.power(Power.SENSOR)).decode(errors="replace")
        except Refused:
            return ""

    def begin_power(self, patience_s: float) -> None:
        """Has the board measure its idle power, which takes a while, and from then on all that it takes."""
        self._patient(Kind.POWER, protocol.power(Power.BEGIN), patience_s)

    def end_power(self) -> dict[str, object]:
        """What the board took since: {"power": as `Power.report`} or {"power_reason": why there is no figure}."""
        answer = self._ask(Kind.POWER, protocol.power(Power.END))
        try:
            found = json.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise LinkError(f"{self._transport.name} gave a measurement of another form")
        return found

    def _job_of(
        self, picture: npt.NDArray[np.uint8], tile: Tile, how: How, look: tuple[int, int, int] = (0, 0, 0)
    ) -> tuple[Measured, bytes]:
        """Uploads, runs and reads everything; a board that was reset in between is given the plan again."""
        data = np.ascontiguousarray(picture).tobytes()
        for left in reversed(range(self._patience.tries)):
            self._job = (self._job + 1) & 0xFFFFFFFF
            try:
                self._upload(Upload.PICTURE, data)
                ran = self._ran(protocol.run(self._job, how, tile.fields(), look))
                restored = self._read(Result.RESTORED, len(data), ran.restored)
                counted = self._read(Result.COUNTED, self._layers() * COUNTS.itemsize, ran.counted)
                looked = self._looked(ran, 4 * tile.height * tile.width) if how & (How.TRACED | How.LOOK) else b""
            except Refused as error:
                lost = error.why in (Why.NO_PLAN, Why.NO_PICTURE, Why.NO_RESULT)
                if not (lost and self.plan and left):
                    raise
                self._upload(Upload.PLAN, self.plan)
                continue
            image = np.frombuffer(restored, np.uint8).reshape(picture.shape)
            seconds = ran.ticks / self.hello.ticks_per_second
            return Measured(image, np.frombuffer(counted, COUNTS), None, seconds, ran.ticks, ran.memory), looked
        raise LinkError(f"{self._transport.name} forgot its plan {self._patience.tries} times")

    def _looked(self, ran: Ran, numbers: int) -> bytes:
        most = max(numbers, 8 * self._layers() * self._time_steps())
        if ran.looked_bytes > most:
            raise LinkError(f"{self._transport.name} announced {ran.looked_bytes} bytes where at most {most} belong")
        return self._read(Result.LOOKED, ran.looked_bytes, ran.looked)

    def _numbers(self, looked: bytes, kind: str) -> npt.NDArray[Any]:
        if len(looked) % np.dtype(kind).itemsize:
            raise LinkError(f"{self._transport.name} gave {len(looked)} bytes that are no numbers")
        return np.frombuffer(looked, kind)

    def _time_steps(self) -> int:
        return header_word(self.plan, "time_steps")

    def _layers(self) -> int:
        return header_word(self.plan, "layers")

    def _hello(self) -> Hello:
        try:
            return protocol.parse_hello(self._ask(Kind.HELLO))
        except ProtocolError as error:
            raise LinkError(f"{self._transport.name}: {error}") from error

    def _words(self, body: bytes, count: int) -> tuple[int, ...]:
        try:
            return protocol.words(body, count)
        except ProtocolError as error:
            raise LinkError(f"{self._transport.name}: {error}") from error

    def _largest_piece(self) -> int:
        return int(min(self.hello.most_body - 8, max(64, self._patience.window // 4)))

    # one request, one answer

    def _ask(self, kind: Kind, body: bytes = b"") -> bytes:
        sequence = self._send(kind, body)
        for tried in range(self._patience.tries):
            if tried:
                self._send(kind, body, sequence)
                self.repeated += 1
            end = time.monotonic() + self._patience.answer_s
            while (frame := self._next(end)) is not None:
                if frame.sequence == sequence:
                    if frame.kind == kind + ANSWER:
                        return frame.body
                    self._refused(frame)
        raise LinkError(
            f"{self._transport.name} has not answered {self._patience.tries} times in {self._patience.answer_s:.2g} s "
            "each; is it running, and is this its port?"
        )

    def _ran(self, body: bytes) -> Ran:
        try:
            return protocol.parse_ran(self._patient(Kind.RUN, body, self._patience.run_s))
        except ProtocolError as error:
            raise LinkError(f"{self._transport.name}: {error}") from error

    def _patient(self, kind: Kind, body: bytes, longest_s: float) -> bytes:
        """The answer to what may take long, as long as the board says that it is alive."""
        doing = "restoring a picture" if kind == Kind.RUN else "measuring its power"
        sequence = self._send(kind, body)
        begun = heard = time.monotonic()
        while time.monotonic() - begun < longest_s:
            frame = self._next(time.monotonic() + self._patience.answer_s)
            if frame is None:
                silence = max(self._patience.silence_s, self._patience.tries * self._patience.answer_s)
                if time.monotonic() - heard > silence:
                    raise LinkError(f"{self._transport.name} fell silent while it was {doing}")
                self._send(kind, body, sequence)  # it is not done twice
                self.repeated += 1
            elif frame.sequence == sequence:
                heard = time.monotonic()
                if frame.kind == kind + ANSWER:
                    return frame.body
                if frame.kind != Kind.PROGRESS + ANSWER:
                    self._refused(frame)
        raise LinkError(f"{self._transport.name} has been {doing} for {longest_s:g} s; given up")

    def _refused(self, frame: Frame) -> None:
        if frame.kind == Kind.ERROR + ANSWER:
            raise Refused(*self._words(frame.body, 3))

    def _send(self, kind: Kind, body: bytes, sequence: int | None = None) -> int:
        if sequence is None:
            self._sequence = (self._sequence + 1) & 0xFFFF
            sequence = self._sequence
        try:
            self._transport.send(Frame(kind, sequence, body).encode(), self._patience.silence_s)
        except TransportError as error:
            raise LinkError(str(error)) from error
        return sequence

    def _next(self, end: float) -> Frame | None:
        """The next whole frame, None if there is none until `end` (of the monotonic clock)."""
        while not self._waiting:
            left = end - time.monotonic()
            if left <= 0:
                return None
            try:
                received = self._transport.receive(left)
            except TransportError as error:
                raise LinkError(str(error)) from error
            if not received:
                return None
            self._waiting = self._frames.take(received)
        return self._waiting.pop(0)

    # much at once

    def _upload(self, what: Upload, data: bytes) -> None:
        opening = protocol.begin(what, self._job, data)
        for _ in range(self._patience.tries):
            try:
                _, have, whole = self._words(self._ask(Kind.BEGIN, opening), 3)
                if whole:
                    return
                self._window(what, data, have)
            except Refused as error:
                if error.why != Why.BAD_HASH:
                    raise
        raise LinkError(f"{self._transport.name} has not got {len(data)} bytes whole in {self._patience.tries} tries")

    def _window(self, what: Upload, data: bytes, have: int) -> None:
        """Sends pieces ahead of the answers, which say how much is there; goes back to that after a silence."""
        failures = 0
        sent = have
        on_their_way: dict[int, int] = {}  # sequence -> end of the piece
        while have < len(data):
            while sent < len(data) and (sent - have < self._patience.window or not on_their_way):
                piece = data[sent : sent + self._piece]
                on_their_way[self._send(Kind.DATA, protocol.data(what, sent, piece))] = sent + len(piece)
                sent += len(piece)
            frame = self._next(time.monotonic() + self._patience.answer_s)
            if frame is None or (frame.sequence in on_their_way and frame.kind == Kind.DATA + ANSWER):
                there = have
                if frame is not None:
                    end = on_their_way.pop(frame.sequence)
                    there = self._words(frame.body, 2)[1]
                    if there > len(data):
                        raise LinkError(f"{self._transport.name} says that it has {there} of {len(data)} bytes")
                    if there >= end:
                        have, failures = max(have, there), 0
                        self._piece = min(self._piece + 16, self._largest_piece())
                        continue
                    have = max(have, there)
                    if on_their_way:
                        continue  # what is behind the gap is answered, too; then all of it goes again
                failures += 1
                self.repeated += 1
                self._piece = max(self._piece // 2, 24)
                if failures > 20 * self._patience.tries:
                    raise LinkError(f"{self._transport.name} takes no more data after {have} of {len(data)} bytes")
                sent = have
                on_their_way.clear()
            elif frame.sequence in on_their_way:
                self._refused(frame)

    def _read(self, what: Result, size: int, digest: bytes) -> bytes:
        """A result, whole; pieces that do not come are asked for again."""
        for _ in range(self._patience.tries):
            parts: dict[int, bytes] = {}
            asked: dict[int, tuple[int, int]] = {}  # sequence -> offset, length
            missing, failures = [(0, size)], 0
            while missing or asked:
                while missing and sum(length for _, length in asked.values()) < self._patience.window:
                    offset, length = missing.pop()
                    if length > self._piece:
                        missing.append((offset + self._piece, length - self._piece))
                        length = self._piece
                    asked[self._send(Kind.READ, protocol.read(what, self._job, offset, length))] = (offset, length)
                frame = self._next(time.monotonic() + self._patience.answer_s)
                if frame is None:
                    failures += 1
                    self.repeated += 1
                    if failures > 20 * self._patience.tries:
                        raise LinkError(f"{self._transport.name} does not give back its result")
                    self._piece = max(self._piece // 2, 24)
                    missing += asked.values()
                    asked.clear()
                elif frame.sequence in asked:
                    if frame.kind == Kind.READ + ANSWER:
                        offset, length = asked.pop(frame.sequence)
                        if len(frame.body) != 8 + length or self._words(frame.body[:8], 2) != (what, offset):
                            raise LinkError(f"{self._transport.name} answered with another part of its result")
                        parts[offset] = frame.body[8:]
                        failures = 0
                        self._piece = min(self._piece + 16, self._largest_piece())
                    else:
                        self._refused(frame)
            whole = b"".join(parts[offset] for offset in sorted(parts))
            if len(whole) == size and protocol.digest(whole) == digest:
                return whole
        raise LinkError(f"{self._transport.name} gives another result than it announced")
