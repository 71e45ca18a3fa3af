"""Several boards as one: each picture, or each part of one, goes to whichever board is free.

A thread a board takes work, and puts it back where the board fails; the board is then closed, and opened again after a
while, which doubles with each failure in a row. Work that takes much longer than it should is given to a free board as
well, and the first result counts: so a board that hangs holds nothing up, however long its link waits for it. Boards
compute the same bits, so it shows nowhere in a picture which of them did what.
"""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware_bridge.boards.base import Board, BoardError, BoardResult, Unusable, assemble
from firmware_bridge.power.recording import Recording
from firmware_bridge.tiles import Tile, cut, tiles
from simulator.bundle import Bundle

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0  # before a board that failed is tried again
MOST_IN_A_ROW = 5  # failures, after which nothing is expected of a board any more; it is tried again all the same
MOST_OF_ONE = 2  # failures of one board at one piece of work
LATE, LATE_S, LATE_UNKNOWN_S = 3.0, 1.0, 3.0  # times what it should take, and at least; where that is not known
STUCK_S = 900.0  # at one piece, after which nothing is expected of a board that cannot be interrupted
OPENING_S = 60.0  # for a board to be there, while others are; one may have to be compiled first
CLOSING_S = 3.0  # for boards to end what they do


@dataclass(eq=False)
class Unit:
    """A piece of work. part: of a picture, None for a whole one. given: its pixels. share: of the picture."""

    given: npt.NDArray[np.uint8]
    part: Tile | None
    share: float
    failed: Counter[Member] = field(default_factory=Counter)
    reasons: dict[Member, str] = field(default_factory=dict)
    running: dict[Member, float] = field(default_factory=dict)  # since when, of the monotonic clock
    found: BoardResult | None = None

    @property
    def pixels(self) -> int:
        height, width = self.given.shape[:2]
        return int(height * width)


@dataclass(eq=False)
class Member:
    """One board of the pool, and what it has done. in_a_row: failures since it last finished something. since: when it
    began what it is doing, of the monotonic clock; None while it has nothing to do."""

    name: str
    board: Board | None = None
    ready: bool = False
    since: float | None = None
    opened: int = 0
    in_a_row: int = 0
    failures: int = 0
    reason: str = ""
    late: int = 0  # pieces that another board had finished meanwhile
    pieces: int = 0
    pictures: float = 0.0
    pixels: int = 0
    busy_s: float = 0.0
    ticks: int = 0
    synops: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    power: dict[str, Any] = field(default_factory=dict)
    latency_ms: array[float] = field(default_factory=lambda: array("d"))
    end_to_end_ms: array[float] = field(default_factory=lambda: array("d"))

    def should_take(self, pixels: int) -> float | None:
        """Seconds for so many pixels, by what it has done so far."""
        return self.busy_s * pixels / self.pixels if self.pixels else None


class Pool:
    """Boards that run one bundle. `run` may be called by several threads at once, one for each picture under way.

    names: of the boards; one that is named twice is opened twice. opener: `boards.open_board`. sharing: one picture is
    cut so that all boards work on it, where there are not enough pictures for them. measuring: the power of boards that
    measure their own. say: gets sentences about boards that fail and that are back; from their threads.
    """

    def __init__(
        self,
        names: Sequence[str],
        bundle: Bundle,
        opener: Callable[[str], Board],
        *,
        sharing: bool = False,
        measuring: bool = False,
        say: Callable[[str], None] = lambda sentence: None,
    ):
        """Returns when each board has been tried, or time is up. Raises `BoardError` where none is there, `Unusable`
        where one never will be."""
        self.say = say
        self._bundle, self._opener, self._sharing, self._measuring = bundle, opener, sharing, measuring
        self._changed = threading.Condition()
        self._waiting: deque[Unit] = deque()
        self._unfinished: set[Unit] = set()
        self._closing = threading.Event()
        seen: Counter[str] = Counter()
        self.members = []
        for name in names:
            seen[name] += 1
            self.members.append(Member(name if seen[name] == 1 else f"{name} ({seen[name]})"))
        self._begun = time.monotonic()
        self._seconds = 0.0
        self._fatal: Unusable | None = None
        self._threads = [
            threading.Thread(target=self._serve, args=(member, name), name=f"board {member.name}", daemon=True)
            for member, name in zip(self.members, names, strict=True)
        ]
        for thread in self._threads:
            thread.start()
        with self._changed:
            while not self._fatal and not all(member.opened or member.in_a_row for member in self.members):
                if any(member.opened for member in self.members) and time.monotonic() - self._begun > OPENING_S:
                    break
                self._changed.wait(1.0)
            nobody = not any(member.opened for member in self.members)
        if self._fatal or nobody:
            self.close()
            raise self._fatal or BoardError(self._all_reasons({member: member.reason for member in self.members}))

    @property
    def boards(self) -> list[Board]:
        """Those that are open and loaded now."""
        with self._changed:
            return [member.board for member in self.members if member.ready and member.board is not None]

    def run(self, image: npt.NDArray[np.uint8]) -> BoardResult:
        """Restores a picture, uint8 RGB [H, W, 3]; raises `BoardError` when no board is left that could."""
        begin = time.perf_counter()
        parts = self._parts(*image.shape[:2])
        if parts is None:
            units = [Unit(image, None, 1.0)]
        else:
            whole = image.shape[0] * image.shape[1]
            units = [Unit(cut(image, part), part, part.inner_height * part.inner_width / whole) for part in parts]
        with self._changed:
            self._waiting.extend(units)
            self._unfinished.update(units)
            self._changed.notify_all()
            try:
                while any(unit.found is None for unit in units):
                    self._check(units)
                    self._changed.wait(1.0)
            finally:
                self._unfinished.difference_update(units)
                for unit in units:
                    if unit in self._waiting:
                        self._waiting.remove(unit)
        found = [unit.found for unit in units if unit.found is not None]
        if parts is None:
            return found[0]
        return assemble(list(zip(parts, found, strict=True)), time.perf_counter() - begin)

    def close(self) -> None:
        """Ends all boards. It may be closed twice."""
        with self._changed:
            if not self._seconds:
                self._seconds = time.monotonic() - self._begun
            self._closing.set()
            self._changed.notify_all()
        end = time.monotonic() + CLOSING_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        for member in self.members:
            if (board := member.board) is not None:
                board.close()  # ends what its thread waits for
        for thread in self._threads:
            thread.join(0.5)

    def report(self) -> list[dict[str, Any]]:
        """What each board did: the `boards` of a `--stats` file."""
        return [self._report(member) for member in self.members]

    def _report(self, member: Member) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "board": member.name,
            "pictures": round(member.pictures, 3),
            "pieces": member.pieces,
            "busy": round(member.busy_s / self._seconds, 4) if self._seconds else 0.0,
            "latency_ms": _spread(member.latency_ms),
            "end_to_end_ms": _spread(member.end_to_end_ms),
            "opened": member.opened,
            "late": member.late,
            "failures": member.failures,
            "reason": member.reason or None,
            **member.facts,
        }
        if member.ticks and member.synops:
            figures[f"{member.facts['unit']}_per_synop"] = member.ticks / member.synops
        figures.pop("unit", None)
        return figures | (member.power or {"power": None, "power_reason": "power was not asked for"})

    # the picture's side

    def _parts(self, height: int, width: int) -> list[Tile] | None:
        """The parts in which a picture goes to the boards; None: as a whole, and each board cuts it as it needs."""
        boards = self.boards
        if not boards or not all(board.takes_parts for board in boards):
            return None
        try:
            ways = [list(board.parts(height, width)) for board in boards]
        except BoardError:
            return None  # whoever can, does it whole
        parts = max(ways, key=lambda way: len(way))  # what the smallest can hold, the others can, too
        if not self._sharing:
            return parts
        align = self._bundle.analysis.align
        side = max(parts[0].inner_height, parts[0].inner_width)
        best, members = parts, len(self.members)
        while side > align and len(parts) < 2 * members:  # halos make smaller ones dearer
            side = -(-side // (2 * align)) * align
            parts = tiles(self._bundle.analysis, height, width, side)
            best = min(best, parts, key=lambda way: _longest(way, members))
        return best

    def _check(self, units: list[Unit]) -> None:
        """Raises `BoardError` if the pool is closed or one of the units cannot be finished any more."""
        if self._closing.is_set():
            raise BoardError("the boards were closed")
        for unit in units:
            if unit.found is None and all(self._gives_up(member, unit) for member in self.members):
                raise BoardError(
                    self._all_reasons({member: unit.reasons.get(member, member.reason) for member in self.members})
                )

    @staticmethod
    def _gives_up(member: Member, unit: Unit) -> bool:
        stuck = member.since is not None and time.monotonic() - member.since > STUCK_S
        if stuck or member in unit.running:
            return stuck
        return unit.failed[member] >= MOST_OF_ONE or member.in_a_row >= MOST_IN_A_ROW

    @staticmethod
    def _all_reasons(reasons: dict[Member, str]) -> str:
        told = dict.fromkeys(reason.rstrip(".") for reason in reasons.values() if reason)
        return f"none of the boards is left: {'; '.join(told)}"

    # a board's thread

    def _serve(self, member: Member, name: str) -> None:
        while not self._closing.is_set():
            try:
                self._session(member, name)
            except (BoardError, ValueError, MemoryError, OSError) as error:
                self._failed(member, error)
            if self._closing.wait(min(FIRST_WAIT_S * 2 ** max(member.in_a_row - 1, 0), LONGEST_WAIT_S)):
                return

    def _session(self, member: Member, name: str) -> None:
        """From opening the board until it fails, which raises, or the pool is closed."""
        member.since = time.monotonic()
        try:
            with self._opener(name) as board:
                member.board = board  # from here on `close` can end it
                board.load(self._bundle)
                member.facts = {"clock": board.clock, "unit": board.unit}
                recording = board.recording() if self._measuring and not board.here else None
                with self._changed:
                    back = member.opened > 0 or member.failures > 0
                    member.opened += 1
                    member.ready = True
                    self._changed.notify_all()
                if back:
                    self.say(f"board {member.name} is there again")
                before = member.pictures
                try:
                    with recording.run() if recording else contextlib.nullcontext():
                        self._work(member, board)
                finally:
                    member.power = self._power(member, board, recording, member.pictures - before)
        finally:
            with self._changed:
                member.ready, member.board, member.since = False, None, None

    def _power(self, member: Member, board: Board, recording: Recording | None, pictures: float) -> dict[str, Any]:
        if recording is not None and member.opened == 1 and pictures:
            return recording.report(pictures)
        reason = "power was not asked for"
        if self._measuring:
            reason = "it restored nothing" if member.opened == 1 else "it had to be started again in the run"
            reason = "it is part of this machine" if board.here else reason
        return {"power": None, "power_reason": reason}

    def _work(self, member: Member, board: Board) -> None:
        while (unit := self._next(member)) is not None:
            begin = time.monotonic()
            try:
                found = board.run(unit.given) if unit.part is None else board.run_part(unit.given, unit.part)
            except (BoardError, ValueError, MemoryError, OSError) as error:
                with self._changed:
                    del unit.running[member]
                    unit.failed[member] += 1
                    unit.reasons[member] = str(error)
                    if unit in self._unfinished and unit.found is None and unit not in self._waiting:
                        self._waiting.appendleft(unit)
                raise
            with self._changed:
                del unit.running[member]
                member.in_a_row = 0
                member.busy_s += time.monotonic() - begin
                member.pixels += unit.pixels
                if unit.found is not None:
                    member.late += 1
                    continue
                unit.found = found
                member.pieces += 1
                member.pictures += unit.share
                member.latency_ms.append(found.seconds * 1e3)
                member.end_to_end_ms.append(found.end_to_end_s * 1e3)
                member.ticks += found.ticks or 0
                member.synops += 0 if found.counts is None else int(found.counts["synops"].sum())
                self._changed.notify_all()

    def _next(self, member: Member) -> Unit | None:
        """What `member` does next; None when the pool is closed."""
        with self._changed:
            while not self._closing.is_set():
                unit = next((unit for unit in self._waiting if unit.failed[member] < MOST_OF_ONE), None)
                if unit is not None:
                    self._waiting.remove(unit)
                elif not self._waiting:
                    unit = self._late(member)
                if unit is not None:
                    unit.running[member] = member.since = time.monotonic()
                    return unit
                member.since = None
                self._changed.wait(0.25)
        return None

    def _late(self, member: Member) -> Unit | None:
        """What another board has been doing for too long for it to be waited for."""
        now = time.monotonic()
        for unit in self._unfinished:
            if unit.found is None and len(unit.running) == 1 and member not in unit.running:
                expected = member.should_take(unit.pixels)
                patience = LATE_UNKNOWN_S if expected is None else max(LATE * expected, LATE_S)
                if unit.failed[member] < MOST_OF_ONE and now - min(unit.running.values()) > patience:
                    return unit
        return None

    def _failed(self, member: Member, error: Exception) -> None:
        with self._changed:
            if self._closing.is_set():
                return
            if isinstance(error, Unusable):
                self._fatal = self._fatal or error
            member.in_a_row += 1
            member.failures += 1
            member.reason = str(error) or type(error).__name__
            told = member.in_a_row in (1, MOST_IN_A_ROW) and self._fatal is None
            left = len(self.members) - sum(other.in_a_row > 0 for other in self.members)
            self._changed.notify_all()
        if told:
            again = "it is tried again" if member.in_a_row < MOST_IN_A_ROW else "it is still tried now and again"
            others = f"{left} of {len(self.members)} boards go on" if left else "none of the boards is there now"
            self.say(f"board {member.name} failed: {member.reason.rstrip('.')}; {others}, {again}")


def _longest(parts: Sequence[Tile], boards: int) -> int:
    """Pixels that the busiest of equally fast boards computes."""
    return -(-len(parts) // boards) * max(part.height * part.width for part in parts)


def _spread(milliseconds: array[float]) -> dict[str, float] | None:
    if not milliseconds:
        return None
    median, p95 = np.percentile(milliseconds, [50, 95])
    return {"median": float(median), "p95": float(p95)}
