"""How long a run on many machines takes: a formula, and a simulation of it, event by event.

Both know the same parts: a client that lists, hands out and keeps the books, a scheduler, cores, a store that all read
from and write to. The formula takes the narrowest of them; the simulation has batches wait for one another, vary, and
be lost with their workers.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from edge.cluster.client import EACH, at_end, in_batch


@dataclass(frozen=True)
class Costs:
    """Seconds of a core, as measured.

    picture_s, megapixel_s: of a worker, for a picture and for a megapixel of it; handed_s: of a worker, a batch.
    client_s: of the client, a picture. batch_s: of the scheduler, a batch. start_s: until a worker takes work. spread:
    standard deviation of a picture's time by its mean. bytes_a_pixel: read and written.
    """

    picture_s: float
    megapixel_s: float
    client_s: float
    batch_s: float
    start_s: float
    handed_s: float = 0.0
    spread: float = 0.2
    bytes_a_pixel: float = 3.0

    def worker_s(self, megapixels: float) -> float:
        return self.picture_s + megapixels * self.megapixel_s


@dataclass(frozen=True)
class Job:
    """What is to be done with what. together: client and scheduler are on the first machine, with workers.

    cores: of each machine, with a worker each, unless `workers` says how many there are in all. store_bytes_s: of the
    store, for all together. clients: shares of the list (`--shard`), each with a client and a scheduler of its own.
    failures_h: hours between failures of a worker.
    """

    pictures: int
    megapixels: float
    machines: int = 1
    cores: int = 1
    workers: int = 0
    clients: int = 1
    store_bytes_s: float = 1e9
    failures_h: float = 1000.0
    together: bool = False

    @property
    def in_all(self) -> int:
        return self.workers or self.machines * self.cores


class Prediction(NamedTuple):
    """narrowest: what sets the time: cores, client, scheduler or store."""

    seconds: float
    narrowest: str


def size_of_batch(costs: Costs, job: Job) -> int:
    """Pictures, as `client.Cluster` chooses them."""
    return in_batch(costs.worker_s(job.megapixels), max(1, job.in_all // job.clients))


def predict(costs: Costs, job: Job) -> Prediction:
    """By the narrowest part."""
    batch = size_of_batch(costs, job)
    own = costs.worker_s(job.megapixels) + costs.handed_s / batch
    if job.together:
        own += costs.client_s + costs.batch_s / batch
    lost = (batch * own / 2 + costs.start_s) / (job.failures_h * 3600)  # of a worker's time
    limits = {
        "cores": min(job.in_all, job.machines * job.cores) / (own * (1 + lost)),
        "client": job.clients / costs.client_s,
        "scheduler": job.clients * batch / costs.batch_s,
        "store": job.store_bytes_s / (job.megapixels * 1e6 * costs.bytes_a_pixel),
    }
    narrowest = min(limits, key=lambda name: limits[name])
    return Prediction(costs.start_s + job.pictures / limits[narrowest], narrowest)


def simulate(costs: Costs, job: Job, *, most_batches: int = 20_000, seed: int = 0) -> float:
    """Seconds, of one share's workers; a run of many more batches than `most_batches` is continued at its pace.

    The pace is that of its second half, when everything is under way.
    """
    workers = max(1, job.in_all // job.clients)
    most_batches = max(most_batches, 8 * (EACH * workers + 1))
    size = size_of_batch(costs, job)
    share = -(-job.pictures // job.clients)
    batches = -(-share // size)
    run = _Run(costs, job, workers, size, share, seed)
    if batches <= most_batches:
        return run.until(share)[-1]  # there are more batches than that: the last are smaller
    ended = run.until(most_batches)
    half = len(ended) // 2
    pace = (ended[-1] - ended[half]) / (len(ended) - 1 - half)
    return ended[-1] + (batches - most_batches) * pace


class _Server:
    """Does one thing after the other."""

    def __init__(self) -> None:
        self.free = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When it is done."""
        self.free = max(self.free, now) + seconds
        return self.free


class _Machine:
    """Cores; what wants one takes the one that is free first."""

    def __init__(self, cores: int) -> None:
        self._free = [0.0] * cores

    def serve(self, now: float, seconds: float) -> float:
        end = max(heapq.heappop(self._free), now) + seconds
        heapq.heappush(self._free, end)
        return end


class _Run:
    def __init__(self, costs: Costs, job: Job, workers: int, size: int, pictures: int, seed: int) -> None:
        self._costs, self._job, self._most, self._left = costs, job, size, pictures
        self._sizes: list[int] = []  # pictures of each batch that was given out
        self._random = random.Random(seed)
        machines = max(1, job.machines // job.clients)
        self._machines = [_Machine(job.cores) for _ in range(machines)]
        self._place = [worker % machines for worker in range(workers)]
        self._client, self._scheduler, self._store = _Server(), _Server(), _Server()
        self._idle = deque(range(workers))
        self._waiting: deque[int] = deque()  # batches at the scheduler
        self._events: list[tuple[float, int, str, int, int]] = []  # time, order, what, batch, worker
        self._order = 0

    def until(self, batches: int) -> list[float]:
        """When each of at most so many batches is in the books, in their order of arrival."""
        ended: list[float] = []
        for _ in range(min(EACH * len(self._place) + 1, batches)):
            self._give(self._costs.start_s)
        while self._events:
            now, _, what, batch, worker = heapq.heappop(self._events)
            if what == "at scheduler":
                self._waiting.append(batch)
            elif what == "lost":
                self._waiting.appendleft(batch)
                self._push(now + self._costs.start_s, "worker there", batch, worker)
            elif what == "worker there":
                self._idle.append(worker)
            elif what == "worked":
                self._idle.append(worker)
                self._push(self._serve(self._scheduler, now, self._costs.batch_s / 2), "told", batch, worker)
            elif what == "told":
                own = self._costs.client_s * self._sizes[batch] / 2
                self._push(self._serve(self._client, now, own), "in the books", batch, worker)
            else:
                ended.append(now)
                if len(self._sizes) < batches:
                    self._give(now)
            while self._waiting and self._idle:
                self._work(now, self._waiting.popleft(), self._idle.popleft())
        return ended

    def _give(self, now: float) -> None:
        """Hands out the next batch, if pictures are left."""
        if not self._left:
            return
        batch, size = len(self._sizes), min(self._left, at_end(self._most, self._left, len(self._place)))
        self._sizes.append(size)
        self._left -= size
        listed = self._serve(self._client, now, self._costs.client_s * size / 2)
        self._push(self._serve(self._scheduler, listed, self._costs.batch_s / 2), "at scheduler", batch, 0)

    def _work(self, now: float, batch: int, worker: int) -> None:
        costs, job, size = self._costs, self._job, self._sizes[batch]
        mean = costs.worker_s(job.megapixels) * size
        varying = self._random.gauss(mean, costs.spread * mean / size**0.5)
        seconds = max(0.1 * mean, varying) + costs.handed_s
        until_failure = self._random.expovariate(1 / (job.failures_h * 3600))
        if until_failure < seconds:
            self._push(self._machines[self._place[worker]].serve(now, until_failure), "lost", batch, worker)
            return
        share = job.megapixels * 1e6 * costs.bytes_a_pixel * size * job.clients / job.store_bytes_s
        read = self._store.serve(now, share)  # its writing, which waits for nobody, is counted in
        self._push(self._machines[self._place[worker]].serve(read, seconds), "worked", batch, worker)

    def _serve(self, server: _Server, now: float, seconds: float) -> float:
        """By client or scheduler, which share a machine with workers or have their own."""
        if not self._job.together:
            return server.serve(now, seconds)
        server.free = self._machines[0].serve(max(server.free, now), seconds)
        return server.free

    def _push(self, when: float, what: str, batch: int, worker: int) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, what, batch, worker))
