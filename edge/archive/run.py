"""The run: the list through what restores, with the journal, and what is said of it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edge import terminal
from edge.ahead import under_way
from edge.archive.journal import Journal
from edge.archive.picture import Made, Restorer
from edge.archive.work import CRASHED, FAILED, KINDS, RESTORED, SKIPPED, Done, Work, skipped
from edge.errors import UserError
from edge.signals import Stop
from simulator.files import reason
from simulator.statistics import Tally

if TYPE_CHECKING:
    from edge.pipeline import Progress

_SAID = 20  # failures of one kind, and notes, that are said one by one


class Workers(Protocol):
    """What restores: in this process, in several, on several machines."""

    def results(self, items: Iterator[Work | Done], arrived: Callable[[Done], None]) -> Generator[Done, None, None]:
        """What came of each item, in their order; what is done already passes through. Closing it ends the work.

        `arrived` is called with what was worked on, once, as soon as it is stored or has failed, in any order. Raises
        UserError where nothing can be restored.
        """


class Serial:
    """`Workers` in this process, one picture after the other, or on several boards."""

    def __init__(self, restorer: Callable[[], Restorer], stop: Stop, ahead: int = 1) -> None:
        """restorer: called when there is something to restore. ahead: pictures in threads at once, for boards."""
        self._open, self._stop, self._ahead = restorer, stop, ahead

    def results(self, items: Iterator[Work | Done], arrived: Callable[[Done], None]) -> Generator[Done, None, None]:
        restorer: Restorer | None = None

        def make(work: Work) -> Made | Done:
            nonlocal restorer
            with opening:
                restorer = restorer or self._open()
            return restorer.make(work)

        opening = threading.Lock()
        for item, made_of in under_way(items, Work, make, self._ahead):
            if isinstance(item, Done):
                yield item
                continue
            made = made_of()
            assert restorer is not None
            with self._stop.unbroken():
                done = made if isinstance(made, Done) else restorer.keep(made)
                arrived(done)
            yield done


@dataclass
class Account:
    """What a run came to. The sentence `fatal` has been said already."""

    restored: int = 0
    skipped: int = 0
    failures: collections.Counter[str] = field(default_factory=collections.Counter)  # by kind
    statistics: Tally = field(default_factory=Tally)
    fatal: str | None = None  # what ended the run before the list did
    interrupted: bool = False

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def exit_code(self) -> int:
        """0 all went well, 1 some pictures are missing, 2 bad input or output, 130 interrupted."""
        if self.interrupted:
            return 130
        if self.fatal is not None:
            return 2
        if self.failed:
            return 1 if self.restored or self.skipped else 2
        return 0

    def add(self, done: Done) -> None:
        if done.status == RESTORED:
            self.restored += 1
            if done.statistics is not None:
                self.statistics.add(done.statistics)
        elif done.status == SKIPPED:
            self.skipped += 1
        else:
            self.failures[done.record["kind"]] += 1

    def report(self) -> dict[str, Any]:
        """What the `--stats` file has besides."""
        return {"restored": self.restored, "skipped": self.skipped, "failed": dict(self.failures)}

    def line(self) -> str:
        """Such as "90 pictures restored, 8 already restored by an earlier run, 2 failed (2 could not be read)"."""
        parts = [f"{self.restored} picture{'s' * (self.restored != 1)} restored"]
        if self.skipped:
            parts.append(f"{self.skipped} already restored by an earlier run")
        if self.failed:
            kinds = (f"{self.failures[kind]} {_words(kind)}" for kind in KINDS if self.failures[kind])
            parts.append(f"{self.failed} failed ({', '.join(kinds)})")
        return ", ".join(parts)


def _words(kind: str) -> str:
    return "ended the process" if kind == CRASHED else f"could not be {kind}"


def undone(items: Iterable[Work | Done], journal: Journal | None, limit: int | None) -> Iterator[Work | Done]:
    """The list, with those pictures answered of which the journal knows that there is nothing to do.

    limit: at most so many are given out to be restored.
    """
    given = 0
    for item in items:
        if isinstance(item, Work):
            if journal is not None:
                if journal.unchanged(item):
                    yield skipped(item)
                    continue
                if known := journal.known(item):
                    item = dataclasses.replace(item, known=known)
            if given == limit:
                return
            given += 1
        yield item


def run(
    items: Iterator[Work | Done],
    workers: Workers,
    progress: Progress,
    stop: Stop,
    *,
    journal: Journal | None = None,
    lines: bool = False,
    max_failures: int | None = None,
) -> Account:
    """Takes all items through the workers. journal: gets what is stored; lines: one of JSON each on standard output.

    What goes wrong is said through `progress` and counted, not raised.
    """
    account = Account()
    teller = _Teller(progress, lines)
    untold: dict[str, Done] = {}

    def arrived(done: Done) -> None:
        untold[done.work.name] = done
        if journal is not None and "bytes" in done.record:
            journal.add(done)

    def tell(done: Done) -> None:
        account.add(done)
        if done.fatal and account.fatal is None:
            account.fatal = done.record["reason"]
        teller.tell(done)

    try:
        with contextlib.closing(workers.results(items, arrived)) as results:
            for done in results:
                with stop.unbroken():
                    untold.pop(done.work.name, None)
                    tell(done)
                if account.fatal is not None:
                    break
                if max_failures is not None and account.failed > max_failures:
                    many = "1 picture has" if account.failed == 1 else f"{account.failed} pictures have"
                    raise UserError(
                        f"{many} failed, more than --max-failures {max_failures}; what was restored so far is kept."
                    )
    except KeyboardInterrupt:
        account.interrupted = True
    except UserError as error:
        account.fatal = str(error)
        progress.say(str(error))
    stop.no_more()
    for done in untold.values():  # it is stored, so it counts
        tell(done)
    return account


class _Teller:
    """Says what came of each picture."""

    def __init__(self, progress: Progress, lines: bool) -> None:
        self._progress, self._lines = progress, lines
        self._said: collections.Counter[str] = collections.Counter()

    def tell(self, done: Done) -> None:
        """Raises UserError where standard output cannot be written."""
        if self._lines:
            try:
                print(json.dumps(done.record), flush=True)
            except BrokenPipeError:
                terminal.silence(sys.stdout, 1)
            except OSError as error:
                raise UserError(f"--stats - cannot be written: {reason(error)}.") from error
        if done.status == FAILED:
            self._say(_words(done.record["kind"]), done.record["reason"])
        for note in done.notes:
            self._say("gave cause for a remark", note)
        if done.status != SKIPPED:
            self._progress.step()

    def _say(self, what: str, text: str) -> None:
        self._said[what] += 1
        if self._said[what] <= _SAID:
            self._progress.say(text)
        elif self._said[what] == _SAID + 1:
            self._progress.say(f"further pictures that {what} are only counted.")
