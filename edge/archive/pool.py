"""Several processes that restore, each with a network of its own, while this one lists, hands out and keeps the books.

A process reads, decodes, restores, encodes and stores one picture after the other, so that of several these overlap.
Each has a few pictures waiting in its pipe. One that dies is replaced, and the picture it was at is tried once more.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from edge import terminal
from edge.archive.picture import Restorer
from edge.archive.places import place_of
from edge.archive.work import CRASHED, Done, Recipe, Work, failed
from edge.errors import UserError
from edge.signals import Stop

_WAITING = 3  # pictures in a process's pipe, with the one that it is at
_UNTOLD = 32  # for each process: results that wait for one before them
_ATTEMPTS = 2
_END_S = 10.0  # for what is being stored


@dataclass
class _Process:
    """A process, this end of its pipe, and the pictures that it has been given, with their places in the list."""

    process: Any
    connection: Connection
    given: collections.deque[tuple[int, Work]] = field(default_factory=collections.deque)
    ready: bool = False


class Pool:
    """`Workers` in `jobs` processes of this machine. For one call of `results`."""

    def __init__(self, recipe: Recipe, jobs: int) -> None:
        self._recipe, self._jobs = recipe, jobs
        self._context = multiprocessing.get_context("spawn")  # threads of the kernels do not survive a fork
        self._processes: list[_Process] = []
        self._lost: collections.deque[tuple[int, Work]] = collections.deque()  # with a process; to be given again
        self._attempts: collections.Counter[int] = collections.Counter()
        self._results: dict[int, Done] = {}
        self._listed = self._told = 0

    def results(self, items: Iterator[Work | Done], arrived: Callable[[Done], None]) -> Generator[Done, None, None]:
        try:
            while True:
                while self._has_room() and (given := self._following(items)) is not None:
                    self._give(*given)
                while self._told in self._results:
                    done = self._results.pop(self._told)
                    self._told += 1
                    yield done
                if any(process.given for process in self._processes):
                    self._listen(arrived)
                elif self._told == self._listed and (given := self._following(items)) is None and not self._results:
                    return
                elif given is not None:
                    self._give(*given)
        finally:
            self._end(arrived)

    def _following(self, items: Iterator[Work | Done]) -> tuple[int, Work] | None:
        """The next picture to be given out, and its place; None at the end, or while too many results wait."""
        if self._lost:
            return self._lost.popleft()
        while self._listed - self._told < _UNTOLD * self._jobs and (item := next(items, None)) is not None:
            place = self._listed
            self._listed += 1
            if isinstance(item, Work):
                return place, item
            self._results[place] = item
        return None

    def _has_room(self) -> bool:
        if any(len(process.given) < _WAITING for process in self._processes):
            return True
        return len(self._processes) < self._jobs and self._may_start()

    def _may_start(self) -> bool:
        """The first process compiles the kernels, if there are none yet, and the others load them."""
        return not self._processes or any(process.ready for process in self._processes)

    def _give(self, place: int, work: Work) -> None:
        least = min(self._processes, key=lambda process: len(process.given), default=None)
        if least is None or (least.given and len(self._processes) < self._jobs and self._may_start()):
            least = self._start()
        least.given.append((place, work))
        with contextlib.suppress(OSError):  # that it is dead is found where it is listened to
            least.connection.send(work)

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._recipe), daemon=True)
        process.start()
        theirs.close()
        self._processes.append(_Process(process, ours))
        return self._processes[-1]

    def _listen(self, arrived: Callable[[Done], None]) -> None:
        """Waits for at least one answer. Raises UserError where a process cannot begin."""
        by_connection = {process.connection: process for process in self._processes}
        for connection in multiprocessing.connection.wait(list(by_connection)):
            process = by_connection[connection]  # type: ignore[index]
            try:
                answer = process.connection.recv()
            except (EOFError, OSError):
                self._bury(process, arrived)
                continue
            if isinstance(answer, str):
                raise UserError(answer)
            if answer is None:
                process.ready = True
            else:
                self._answered(process, answer, arrived)

    def _answered(self, process: _Process, done: Done, arrived: Callable[[Done], None]) -> None:
        place, _ = process.given.popleft()
        self._results[place] = done
        arrived(done)

    def _bury(self, process: _Process, arrived: Callable[[Done], None]) -> None:
        """What a process that is dead was given goes to others."""
        process.process.join()
        process.connection.close()
        self._processes.remove(process)
        if not process.given:
            return
        place, work = process.given[0]
        if work.target is not None:
            place_of(work.target).clear(work.target)
        self._attempts[place] += 1
        if self._attempts[place] >= _ATTEMPTS:
            code = process.process.exitcode
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            reason = f"{work.source} was restored by a process that ended {how}, twice; is there enough memory?"
            self._answered(process, failed(work, CRASHED, reason), arrived)
        self._lost.extend(process.given)

    def _end(self, arrived: Callable[[Done], None]) -> None:
        """Ends the processes; what they are storing is stored and counts."""
        for process in self._processes:
            if process.given:
                process.process.terminate()
        for process in self._processes:
            with contextlib.suppress(EOFError, OSError):
                while process.given and process.connection.poll(_END_S):
                    answer = process.connection.recv()
                    if isinstance(answer, Done):
                        self._answered(process, answer, arrived)
            process.connection.close()
        for process in self._processes:
            process.process.join(_END_S)
            if process.process.is_alive():
                process.process.kill()
                process.process.join()
        self._processes = []


def _serve(connection: Connection, recipe: Recipe) -> None:
    """A process: says None when it is ready, or why it cannot be; then answers each `Work` with a `Done`."""
    stop = Stop()
    try:
        terminal.silence_libraries()
        try:
            with stop.leaving(connection.close):
                restorer = Restorer(recipe)
        except UserError as error:
            connection.send(str(error))
            return
        connection.send(None)
        while True:
            made = restorer.make(connection.recv())
            with stop.unbroken():
                connection.send(made if isinstance(made, Done) else restorer.keep(made))
    except (EOFError, OSError, KeyboardInterrupt):  # whoever gives the work out has gone, or wants no more
        pass
