"""The run: pictures out of the source, through the network, into the sink."""

from __future__ import annotations

import functools
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge import careful, terminal
from edge.ahead import under_way
from edge.containers.record import Samples
from edge.errors import UserError, sentence
from edge.images import Pixels, UnfitError, carried
from edge.live import Step
from edge.signals import Stop
from edge.sinks.sink import Sink
from edge.sources.images import Images
from edge.sources.record import Frame, Remark, Sound, Unreadable
from simulator.network import Network, Result
from simulator.statistics import Statistics, Tally

if TYPE_CHECKING:
    from edge.boards import BoardNetwork
    from edge.sources import Source
    from edge.watchers import Watchers


class Delays:
    """How old the pictures of a live source were when they were restored: their median and 95th percentile.

    Of a run without end a sample is kept, drawn from all that has been with equal chance.
    """

    MOST = 10_000

    def __init__(self) -> None:
        self._count = 0
        self._sample: list[float] = []
        self._random = random.Random(0)

    def add(self, seconds: float) -> None:
        self._count += 1
        if len(self._sample) < self.MOST:
            self._sample.append(seconds)
        elif (at := self._random.randrange(self._count)) < self.MOST:
            self._sample[at] = seconds

    def report(self) -> dict[str, float] | None:
        """{median, p95} in milliseconds; None without any."""
        if not self._sample:
            return None
        median, p95 = np.percentile(self._sample, [50, 95]) * 1e3
        return {"median": float(median), "p95": float(p95)}


@dataclass
class Outcome:
    """What a run came to. The sentences in `failures` and `fatal` have been said already."""

    statistics: Tally = field(default_factory=Tally)  # of the restored pictures
    failures: list[str] = field(default_factory=list)  # parts of the source that could not be restored
    fatal: str | None = None  # what ended the run before the source did
    interrupted: bool = False
    written: str = ""
    last: tuple[Pixels, Pixels] | None = None  # the last picture before and after
    delays: Delays = field(default_factory=Delays)

    def exit_code(self, source: Source) -> int:
        """0 all went well, 1 some images of several are missing, 2 bad input or output, 130 interrupted."""
        if self.interrupted:
            return 130
        if self.fatal is not None:
            return 2
        if self.failures:
            some = isinstance(source, Images) and source.count != 1 and self.statistics
            return 1 if some else 2
        return 0


class Progress:
    """Tells on standard error how far a run is: a bar on a terminal, else a line now and then."""

    SECONDS_BETWEEN_LINES = 5.0

    def __init__(self, total: int | None, quiet: bool = False) -> None:
        self.total, self.quiet = total, quiet
        self.done = 0
        self.told = time.monotonic()
        self.bar: Any = None
        if total != 1 and not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit="frame", file=sys.stderr, dynamic_ncols=True, leave=False)

    def step(self, total: int | None = None) -> None:
        """One more picture is through; total: of how many, where that is known better than before."""
        self.done += 1
        self.total = total or self.total
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.update()
        elif self.total != 1 and not self.quiet and time.monotonic() - self.told >= self.SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            self.say(
                f"{self.done} of {self.total} frames" if self.total else f"{self.done} frame{'s' * (self.done != 1)}"
            )

    def say(self, sentence: str) -> None:
        """Prints a line of its own."""
        if self.bar is not None:
            self.bar.clear()
        terminal.say(sentence)
        if self.bar is not None:
            self.bar.refresh()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def restore(
    source: Source,
    network: Network | BoardNetwork,
    sink: Sink,
    progress: Progress,
    stop: Stop,
    *,
    limit: int | None = None,
    tile: int | None = None,
    still: int = 0,
    side_by_side: bool = False,
    check: bool = False,
    watchers: Watchers | None = None,
    other: Callable[[], Network | None] = lambda: None,
    ahead: int = 1,
    elsewhere: Callable[[Pixels], Result] | None = None,
) -> Outcome:
    """Restores at most `limit` pictures of `source` and makes the output whole, also after `stop` or a full disk.

    Of a video, camera or stream, only what changes from frame to frame is computed, and differences of up to `still`
    grey levels count as unchanged (`simulator.video`); the pictures of other sources, and all on a board, are restored
    each by itself. Around the network goes what `edge.careful` does; check: also say of pictures that they need no
    restoring, and leave them as they came. `watchers` see every picture; `other` is asked before each for a network to
    go on with, whose figures are then those of the run. `ahead` pictures are under way at once, where `network.run` may
    be called by several threads; they are written in order. elsewhere: gives the network's results in its place, in
    order, where others compute them. What goes wrong is said through `progress` and recorded, not raised.
    """
    outcome = Outcome()
    number = 0
    frames_follow = isinstance(network, Network) and not isinstance(source, Images) and elsewhere is None
    video = network.video(still, tile) if isinstance(network, Network) and frames_follow else None
    run = elsewhere or (video.run if video else functools.partial(network.run, tile=tile))

    def make(frame: Frame) -> Restored:
        return restored(network, frame, run, check=check, side_by_side=side_by_side)

    def step() -> None:
        total = source.count if isinstance(source, Images) else None
        progress.step(total if total is None or limit is None else min(total, limit))

    try:
        for item, made_of in under_way(source.frames(limit), Frame, make, ahead):
            if isinstance(item, Remark):
                progress.say(item.text)
                continue
            if isinstance(item, Sound):
                with stop.unbroken():
                    sink.add_sound(item)
                continue
            if isinstance(item, Unreadable):
                outcome.failures.append(item.reason)
                progress.say(item.reason)
                step()
                continue
            for note in item.notes:
                progress.say(note)
            with stop.unbroken():
                new = other()
            if new is not None:
                network, outcome.statistics = new, Tally()
                video = network.video(still, tile)
                run = video.run
            try:
                made = made_of()
            except UnfitError as error:
                if not isinstance(source, Images):
                    raise UserError(str(error)) from error  # the next frame would fare no better
                outcome.failures.append(str(error))
                progress.say(str(error))
                step()
                continue
            if made.remark:
                progress.say(made.remark)
            with stop.unbroken():
                try:
                    sink.write(item, made.samples)
                except UnfitError as error:
                    outcome.failures.append(str(error))
                    progress.say(str(error))
                else:
                    outcome.statistics.add(made.stats)
                    outcome.last = (item.pixels, made.image)
                    number += 1
                    delay_s = None if item.taken is None else time.monotonic() - item.taken
                    if delay_s is not None:
                        outcome.delays.add(delay_s)
                    if watchers is not None:
                        watchers.seen(Step(number, item, made.image, made.stats, delay_s))
            step()
        sink.settle()
    except KeyboardInterrupt:
        outcome.interrupted = True
    except UserError as error:
        outcome.fatal = str(error)
        progress.say(str(error))
    stop.no_more()
    try:
        outcome.written = sink.finish()
    except UserError as error:
        outcome.fatal = str(error)
        progress.say(str(error))
    for note in dict.fromkeys(sink.notes):
        progress.say(note)
    return outcome


@dataclass(frozen=True)
class Restored:
    """image: the restored picture, uint8. samples: what is to be stored, of 8 or 16 bits. remark: a sentence, or ""."""

    image: Pixels
    samples: Samples
    stats: Statistics
    remark: str = ""


def restored(
    network: Network | BoardNetwork, frame: Frame, run: Callable[[Pixels], Result], *, check: bool, side_by_side: bool
) -> Restored:
    """`frame` through `run`, which is the network's, with the care that goes around it.

    For check and side_by_side see `restore`. Raises UnfitError where this picture cannot be restored.
    """
    try:
        result = careful.restore(network.task, frame.pixels, run)
    except (ValueError, MemoryError) as error:
        raise UnfitError(_cannot_restore(frame, error)) from error
    image, remark = result.image, ""
    if check and (judgement := careful.judge(network.task, network.meta, frame.pixels, image)):
        image = frame.pixels if judgement.keep else image
        kept = ", so it comes back as it came; --force restores it all the same" if judgement.keep else ""
        remark = f"{frame.path or frame.name} {judgement.reason}{kept}."
    came: Samples = frame.pixels if frame.deep is None else frame.deep
    samples: Samples = image if frame.deep is None else carried(frame.deep, frame.pixels, image)
    if side_by_side:
        samples = np.concatenate([came, samples], axis=1)
    return Restored(image, samples, result.stats, remark)


def psnr(image: Pixels, reference: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 arrays of one shape."""
    error = np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _cannot_restore(frame: Frame, error: Exception) -> str:
    height, width = frame.pixels.shape[:2]
    name = frame.path or frame.name
    if isinstance(error, MemoryError):
        return f"{name} ({width}x{height} pixels) needs more memory than there is; try a smaller --tile."
    return f"{name} cannot be restored: {sentence(error)}"
