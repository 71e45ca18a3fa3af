"""Recordings of a night: clocks stray, jump and are put back, the folder goes away."""

from __future__ import annotations

import errno
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from edge.errors import UserError
from edge.sinks import video
from edge.sinks.video import Segments, VideoFile
from edge.sources.capture import Clock
from edge.sources.record import Facts, Frame
from tests.edge.files import load_video, names
from tests.edge.servers import number_of, numbered

FPS = 10.0


def record(sink: Segments | VideoFile, numbers: range) -> None:
    for number in numbers:
        pixels = numbered(number)
        sink.write(Frame("x", pixels, time=number / FPS), pixels)


def shown(path: Path) -> list[int]:
    return [number_of(frame) for frame in load_video(path)[0]]


def test_with_the_clock_put_back_the_newest_files_stay_all_the_same(work, monkeypatch):
    times = iter(
        datetime(2026, 11, 25, 23, 59, 59, tzinfo=timezone.utc) + timedelta(hours=hours) for hours in (0, -2, -1)
    )

    class Put(datetime):
        @classmethod
        def now(cls, tz=None):
            return next(times)

    monkeypatch.setattr(video, "datetime", Put)
    (work / "c_20261125T235000Z.mkv").touch()  # of a run before
    sink = Segments(work / "c.mkv", Facts(FPS), seconds=1.0, keep=2)
    record(sink, range(30))
    assert "2 segments" in sink.finish()
    assert names(work) == ["c_20261125T215959Z.mkv", "c_20261125T225959Z.mkv"]
    assert [shown(work / name) for name in names(work)] == [list(range(10, 20)), list(range(20, 30))]


def test_a_run_over_midnight_and_the_next_one_go_on_in_order(work, monkeypatch):
    for clock in (23, 24, 25, 26):
        at = datetime(2026, 12, 31, tzinfo=timezone.utc) + timedelta(hours=clock)
        monkeypatch.setattr(video, "datetime", type("Put", (), {"now": staticmethod(lambda tz, at=at: at)}))
        sink = Segments(work / "c.mkv", Facts(FPS), seconds=9.0, keep=3)
        record(sink, range(clock, clock + 2))
        sink.finish()
    assert [shown(path)[0] for path in video.segments(work / "c.mkv")] == [24, 25, 26]


@pytest.mark.parametrize("gone", ["removed", "renamed"])
@pytest.mark.parametrize("segmented", [True, False])
def test_a_folder_that_goes_away_is_one_sentence(work, gone, segmented):
    folder = work / "recordings"
    folder.mkdir()
    facts = Facts(FPS)
    sink = Segments(folder / "c.mkv", facts, 60.0, 3) if segmented else VideoFile(folder / "c.mkv", facts)
    record(sink, range(5))
    if gone == "removed":
        shutil.rmtree(folder)
    else:
        folder.rename(work / "elsewhere")
    with pytest.raises(UserError, match=r"cannot be written to any more \(no such file or directory\) after 5 frames"):
        record(sink, range(5, 6))
    with pytest.raises(UserError, match="cannot be written: no such file or directory"):
        sink.finish()
    sink.discard()
    if gone == "renamed":
        [left] = (work / "elsewhere").iterdir()
        assert shown(left) == list(range(5))


def test_a_share_that_knows_no_locks_is_recorded_to(work, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    sink = VideoFile(work / "c.mkv", Facts(FPS))
    record(sink, range(3))
    sink.finish()
    sink.discard()
    assert shown(work / "c.mkv") == [0, 1, 2]


def shown_times(own: list[float], arrived: list[float]) -> np.ndarray:
    clock = Clock()
    return np.array([clock.time(*both) for both in zip(own, arrived, strict=True)])


@pytest.mark.parametrize("strays", [80e-6, -80e-6])
def test_a_camera_whose_clock_strays_by_seconds_in_a_day_is_shown_without_jumps(strays):
    arrived = np.arange(0, 30 * 3600, 1 / 4)
    jitter = np.random.RandomState(0).uniform(0, 0.1, arrived.size)
    times = shown_times(list(1000 + arrived * (1 + strays)), list(arrived + jitter))
    assert np.abs(np.diff(times) - 1 / 4).max() < 0.002 and np.abs(times - arrived).max() < 0.2


def test_a_camera_whose_clock_jumps_is_shown_without_gaps_and_smoothly_behind_it():
    arrived = np.arange(0, 600, 1 / 10)
    own = arrived + np.where(arrived < 300, 0, -250)
    jitter = np.random.RandomState(0).uniform(0, 0.05, arrived.size)
    steps = np.diff(shown_times(list(own), list(arrived + jitter)))
    assert steps.min() > 0 and steps.max() < 0.2 and np.abs(steps[3010:] - 0.1).max() < 0.001


def test_a_clock_that_goes_at_another_rate_is_not_believed():
    arrived = np.arange(0, 120, 1 / 10)
    times = shown_times(list(3 * arrived), list(arrived))
    assert np.array_equal(times[100:], arrived[100:])
