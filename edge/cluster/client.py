"""The run's side of a cluster: batches handed out, answers put in order, and what was lost handed out again."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import queue
import secrets
import socket
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from edge import terminal
from edge.archive.places import place_of
from edge.archive.work import CRASHED, RESTORED, Done, Recipe, Work, failed
from edge.cluster import note
from edge.cluster.local import Local
from edge.cluster.task import WIRE, Answer, Batch, restore
from edge.cluster.where import Where, quieten, spare
from edge.errors import UserError
from edge.sinks.sink import cannot_write
from simulator.statistics import Tally

# That a batch should take: long against what handing it out costs, 7 ms of client and scheduler, and short against
# losing it.
BATCH_S = 0.5
BATCHES_A_SECOND = 30.0  # that a scheduler has to do at most; of many workers batches take longer
MOST_IN_BATCH = 256
EACH = 2  # batches under way for each worker: one that it does, one that it has next
LEAST_SHARE = 8  # batches become smaller at the end of the list, down to one of so many parts
UNTOLD = 8  # batches for each worker that wait for one before them
ATTEMPTS = 2  # at a picture with which workers go down, or fail in an unknown way
ASK_S, ASK_AGAIN_S = 1.0, 2.0  # between questions to the scheduler how many workers there are; once there are some
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0  # before a scheduler that is gone is tried again
CONNECT_S = 10.0
END_S = 5.0  # for batches under way, when the run is ended


@dataclass(eq=False)
class _Part:
    """A batch: the pictures with their places in the list. path: of its note."""

    number: int
    works: list[tuple[int, Work]]
    path: str | None
    attempts: int = 0


class Cluster:
    """`Workers` on other machines, or on this one through a scheduler. For one call of `results`.

    bundle: its hash. out: the folder of the outputs, None where they are in none. say: gets sentences about what is
    lost and there again. Raises UserError where Dask is not installed.
    """

    backend = "numba"

    def __init__(self, where: Where, recipe: Recipe, bundle: str, out: str | None, say: Callable[[str], None]) -> None:
        try:
            import distributed.client  # noqa: F401
        except ImportError as error:
            raise UserError(
                "--cluster needs Dask, which is not installed: pip install 'spikerir-edge[cluster]'."
            ) from error
        quieten()
        spare()
        self._where, self._bundle, self._say = where, bundle, say
        self._recipe = dataclasses.replace(recipe, bundle=recipe.bundle.resolve())
        self._out = None if out is None or terminal.is_url(out) else os.path.abspath(os.path.expanduser(out))
        self._run = secrets.token_hex(4)
        self._local: Local | None = None
        self._client: Any = None
        self._arrivals: queue.Queue[tuple[_Part, Any]] = queue.Queue()
        self._under_way: dict[_Part, Any] = {}  # -> its future
        self._parts = 0
        self._seconds: float | None = None  # a picture's, as batches have shown
        self._bytes = 1.0  # of its file, likewise
        self._ahead: collections.deque[Work | Done] = collections.deque()  # of the list
        self._listed_all = False
        self._results: dict[int, Done] = {}
        self._listed = self._told = 0
        self._asked, self._known = -ASK_S, 0  # when the scheduler was asked for its workers, and what it said
        self._notes: collections.Counter[str] = collections.Counter()  # batches that share one
        self._again: collections.deque[_Part] = collections.deque()
        self.batches, self.cpu_s = 0, 0.0  # that came back, and what they took of the workers' cores
        self._workers: collections.Counter[str] = collections.Counter()  # HOST:PID -> pictures

    def results(self, items: Iterator[Work | Done], arrived: Callable[[Done], None]) -> Generator[Done, None, None]:
        with contextlib.ExitStack() as stack:
            if self._where.local:
                self._local = stack.enter_context(Local(self._where, self._recipe.threads))
                self._where = self._local.where
            self._connect()
            stack.callback(self._end, arrived)
            if self._local is not None and self._local.dashboard:
                self._say(f"the dashboard is at {self._client.dashboard_link.removeprefix('http://')}")
            while True:
                while self._again and self._is_idle():
                    self._submit(self._again.popleft())
                while self._is_idle() and self._has_room() and self._hand_out(items):
                    yield from self._next()
                if self._under_way:
                    self._wait(arrived)
                elif not self._again and self._listed_all and not self._ahead:
                    return
                yield from self._next()

    def report(self) -> dict[str, Any]:
        """What a `--stats` file has besides: the pictures that each worker, HOST:PID, did."""
        return {"workers": dict(self._workers)}

    @property
    def processes(self) -> dict[str, int]:
        """Those of our own: "scheduler" and "workers", which has one more for each."""
        return {} if self._local is None else {name: each.pid for name, each in self._local.processes.items()}

    # the list

    def _next(self) -> Iterator[Done]:
        while self._told in self._results:
            done = self._results.pop(self._told)
            self._told += 1
            yield done

    def _is_idle(self) -> bool:
        """Whether some worker has nothing waiting for it."""
        return len(self._under_way) < EACH * max(1, self._threads()) + 1

    def _has_room(self) -> bool:
        """Whether the list may go on: what waits for a result before it is kept in memory."""
        return self._listed - self._told < UNTOLD * max(1, self._threads()) * self._in_batch()

    def _in_batch(self) -> int:
        return 1 if self._seconds is None else in_batch(self._seconds, self._threads())  # the first result soon

    def _hand_out(self, items: Iterator[Work | Done]) -> bool:
        """Submits the next batch; False when the list has ended.

        A picture that is larger than they were so far counts for several: thumbnails may be followed by photographs.
        """
        wanted, workers = self._in_batch(), max(1, self._threads())
        while not self._listed_all and len(self._ahead) < EACH * workers * wanted:
            item = next(items, None)
            self._listed_all = item is None
            if item is not None:
                self._ahead.append(item)
        wanted = at_end(wanted, len(self._ahead), workers)
        works: list[tuple[int, Work]] = []
        expected = 0.0
        while self._ahead and expected < wanted:
            item, place = self._ahead.popleft(), self._listed
            self._listed += 1
            if isinstance(item, Work):
                works.append((place, item))
                expected += max(1.0, item.size / self._bytes)
                continue
            self._results[place] = item
            if not works:
                return True
        if works:
            self._submit(self._part(works))
        return bool(works)

    def _part(self, works: list[tuple[int, Work]]) -> _Part:
        self._parts += 1
        path = None
        if self._out is not None and works[0][1].target is not None:
            path = note.path_of(self._out, self._run, self._parts)
            self._notes[path] += 1
        return _Part(self._parts, works, path)

    # the cluster

    def _connect(self) -> None:
        """Finds the scheduler, which may take a while. Raises UserError when it has been waited for in vain."""
        from distributed import Client

        end = time.monotonic() + self._where.wait_s
        wait_s, told = FIRST_WAIT_S, self._local is not None
        security = self._where.certificates.security() if self._where.certificates else None
        while True:
            if self._local is not None:
                self._local.keep_up()
            try:
                self._client = Client(self._where.address, timeout=CONNECT_S, security=security, set_as_default=False)
                return
            except (OSError, TimeoutError) as error:
                if time.monotonic() > end:
                    raise UserError(f"{self._missing()}, after {self._where.wait_s:g} s of waiting.") from error
            if not told:
                told = True
                self._say(f"{self._missing()}; it is waited for")
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _missing(self) -> str:
        """Why there is no connection, as far as can be told."""
        host, _, port = self._where.scheduler.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), ASK_S).close()
        except (OSError, ValueError):
            return f"no scheduler is at {self._where.scheduler}"
        return (
            f"no scheduler that lets this client in is at {self._where.scheduler} (what listens there may want other"
            " certificates: --cluster FILE.yaml names them)"
        )

    def _threads(self) -> int:
        """Pictures that the workers can restore at once."""
        if time.monotonic() - self._asked > (ASK_AGAIN_S if self._known else ASK_S):
            self._asked = time.monotonic()
            with contextlib.suppress(OSError, TimeoutError):  # what is lost shows in the client's status
                self._known = int(self._client.scheduler_info(n_workers=0).get("total_threads", 0))
        return self._known

    def _submit(self, part: _Part) -> None:
        part.attempts += 1
        if part.path is not None:
            try:
                note.create(part.path)
            except OSError as error:
                raise cannot_write(part.path, error) from error
        works = tuple(_everywhere(work) for _, work in part.works)
        batch = Batch(self._recipe, self._bundle, self._recipe.options, works, part.path)
        key = f"restore-{self._run}-{part.number}-{secrets.token_hex(4)}"
        future = self._client.submit(restore, batch, WIRE, key=key, pure=False)
        self._under_way[part] = future
        future.add_done_callback(lambda done, part=part: self._arrivals.put((part, done)))

    def _wait(self, arrived: Callable[[Done], None]) -> None:
        """Until a batch has come back, however it has; raises UserError where it is of no use to go on."""
        since = time.monotonic()
        told = False
        while True:
            try:
                part, future = self._arrivals.get(timeout=0.5)
            except queue.Empty:
                if self._local is not None:
                    self._local.keep_up()
                if self._client.status != "running":
                    self._lost()
                    return
                if self._threads():
                    since = time.monotonic()
                elif time.monotonic() - since > self._where.wait_s:
                    raise UserError(
                        f"no worker has come to {self._where.scheduler} for {self._where.wait_s:g} s."
                    ) from None
                elif time.monotonic() - since > CONNECT_S and not told:
                    told = True
                    self._say(f"no worker is at {self._where.scheduler}: python -m edge.worker starts one; waiting")
                continue
            if self._under_way.get(part) is not future:
                continue  # of an attempt that was given up
            self._take(part, future, arrived)
            return

    def _take(self, part: _Part, future: Any, arrived: Callable[[Done], None]) -> None:
        from distributed import KilledWorker

        try:
            answer: Answer = future.result()
        except CancelledError:
            self._lost()
            return
        except UserError:
            del self._under_way[part]
            raise
        except (ImportError, AttributeError, TypeError) as error:  # the batch cannot be read there, or was never known
            del self._under_way[part]
            raise UserError(
                f"the workers have another version of spikerir-edge ({error}); install the same."
            ) from error
        except KilledWorker:
            del self._under_way[part]
            self._once_more(part, "its worker went down with it; is there enough memory?", arrived)
            return
        except Exception as error:  # of Dask or of a worker's machine, which another may not have
            del self._under_way[part]
            self._once_more(part, f"its worker failed: {type(error).__name__}: {error}", arrived)
            return
        del self._under_way[part]
        self.batches += 1
        self.cpu_s += answer.cpu_s
        together: Tally | None = answer.statistics
        for (place, work), told in zip(part.works, answer.told, strict=False):
            statistics = None
            if told.record["status"] == RESTORED:  # the first of them brings the statistics of all
                statistics, together = together, None
            done = Done(work, told.record, statistics, told.notes, told.fatal)
            self._results[place] = done
            arrived(done)
        self._through_with(part)
        self._workers[answer.worker] += len(answer.told)
        if answer.told:
            self._learn(answer.seconds, [work.size for _, work in part.works[: len(answer.told)]])

    def _learn(self, seconds: float, sizes: list[int]) -> None:
        """What a picture takes, from a batch of files of so many bytes."""
        each, size = seconds / len(sizes), max(1.0, sum(sizes) / len(sizes))
        if self._seconds is None:
            self._seconds, self._bytes = each, size
        weight = min(0.5, 0.2 * len(sizes))
        self._seconds += weight * (each - self._seconds)
        self._bytes += weight * (size - self._bytes)

    def _once_more(self, part: _Part, why: str, arrived: Callable[[Done], None]) -> None:
        """A batch with which something went wrong goes again; then its pictures one by one, to find the one it is."""
        if part.attempts < ATTEMPTS and len(part.works) == 1:
            self._again.append(part)
        elif len(part.works) > 1:
            self._again.extend(_Part(part.number, [each], part.path) for each in part.works)
            if part.path is not None:
                self._notes[part.path] += len(part.works) - 1
        else:
            place, work = part.works[0]
            label = place_of(work.source).label(work.source)
            done = failed(work, CRASHED, f"{label} could not be restored in {part.attempts} attempts: {why}")
            self._results[place] = done
            self._through_with(part)
            arrived(done)

    def _through_with(self, part: _Part) -> None:
        """Removes its note, if no other part of the batch needs it."""
        if part.path is not None:
            self._notes[part.path] -= 1
            if not self._notes[part.path]:
                del self._notes[part.path]
                note.remove(part.path)

    def _lost(self) -> None:
        """The scheduler is gone, and with it what it knew: everything under way is handed out again."""
        self._say(f"the scheduler at {self._where.scheduler} is lost; it is waited for")
        with contextlib.suppress(Exception):  # there is nobody left to say goodbye to
            self._client.close(timeout=1)
        self._again.extend(self._under_way)
        self._under_way.clear()
        self._connect()
        self._say(f"a scheduler is there again; {len(self._again)} batches are handed out once more")

    def _end(self, arrived: Callable[[Done], None]) -> None:
        """What is under way may end, and counts; the rest is called off."""
        end = time.monotonic() + END_S
        while self._under_way and self._client.status == "running" and time.monotonic() < end:
            with contextlib.suppress(queue.Empty, UserError):
                part, future = self._arrivals.get(timeout=0.2)
                if future.status == "finished" and self._under_way.get(part) is future:
                    self._take(part, future, arrived)
                else:
                    self._under_way.pop(part, None)
        with contextlib.suppress(Exception):  # it may be gone by now
            self._client.cancel(list(self._under_way.values()))
            self._client.close(timeout=2)
        for path in self._notes:  # whoever comes to one of those batches now does nothing
            note.remove(path)
        if self._out is not None:
            note.remove_old(self._out)


def in_batch(seconds: float, workers: int) -> int:
    """Pictures of a batch, where each takes so many seconds."""
    return max(1, min(MOST_IN_BATCH, round(max(BATCH_S, workers / BATCHES_A_SECOND) / max(seconds, 1e-4))))


def at_end(pictures: int, left: int, workers: int) -> int:
    """Of a batch of so many pictures those that it has where so many are left in all: fewer and fewer, so that all
    workers end at about the same time."""
    return min(pictures, max(-(-left // (EACH * workers)), -(-pictures // LEAST_SHARE)))


def _everywhere(work: Work) -> Work:
    """The same picture for a process that works in another folder. A target is absolute already."""
    if os.path.isabs(work.source) or terminal.is_url(work.source):
        return work
    return dataclasses.replace(work, source=os.path.join(os.getcwd(), work.source))
