"""The thread that stores pictures: order, back-pressure, errors, a disk that does not answer."""

from __future__ import annotations

import threading
import time

import pytest

from edge.containers.record import Samples
from edge.errors import UserError
from edge.sinks.encoded import Encoder
from edge.sinks.sink import Sink
from edge.sinks.writer import WAITING, Writer
from edge.sources.record import Frame, Sound
from tests.edge.files import load_video, names, store_video
from tests.edge.servers import http_camera, number_of, numbered


class Slow(Sink):
    """Stores a picture when it is `let`; fails at the one with the number `fails_at`."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.let, self.fails_at = threading.Semaphore(0), fails_at
        self.stored: list[int | str] = []

    def write(self, frame: Frame, pixels: Samples) -> None:
        self.let.acquire()
        if number_of(pixels) == self.fails_at:
            raise UserError("the disk is full.")
        self.stored.append(number_of(pixels))

    def add_sound(self, sound: Sound) -> None:
        self.stored.append("sound")

    def finish(self) -> str:
        return f"{len(self.stored)} things"


def given(writer: Writer, number: int) -> None:
    pixels = numbered(number)
    writer.write(Frame("x", pixels), pixels)


def test_pictures_and_sound_are_stored_in_order_and_finishing_waits_for_them():
    sink = Slow()
    writer = Writer(sink, "x", lambda: False)
    given(writer, 0)
    writer.add_sound(Sound((), 0.0))
    given(writer, 1)
    threading.Timer(0.2, sink.let.release, [2]).start()
    assert writer.finish() == "3 things" and sink.stored == [0, "sound", 1]


def test_the_network_goes_on_until_so_many_wait_and_nothing_is_dropped():
    sink = Slow()
    writer = Writer(sink, "x", lambda: False)
    through: list[int] = []

    def give() -> None:
        for number in range(20):
            given(writer, number)
            through.append(number)
        writer.settle()

    network = threading.Thread(target=give)
    network.start()
    for stored in range(3):
        until = time.monotonic() + 10
        while len(through) < WAITING + stored and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(through) == WAITING + stored
        sink.let.release()
    sink.let.release(17)
    network.join(10)
    assert sink.stored == list(range(20))


def test_what_went_wrong_is_raised_once_and_what_was_stored_before_is_finished():
    sink = Slow(fails_at=1)
    sink.let.release(20)
    writer = Writer(sink, "x", lambda: False)
    with pytest.raises(UserError, match="the disk is full"):
        for number in range(20):
            given(writer, number)
            time.sleep(0.01)
    assert writer.finish() == "1 things" and writer.notes == []


def test_what_went_wrong_after_an_interrupt_is_a_note():
    sink = Slow(fails_at=1)
    sink.let.release(20)
    writer = Writer(sink, "x", lambda: True)
    given(writer, 0)
    given(writer, 1)
    assert writer.finish() == "1 things" and writer.notes == ["the disk is full."]


def test_a_disk_that_does_not_answer_does_not_keep_a_run_from_stopping(monkeypatch):
    monkeypatch.setattr("edge.sinks.writer.ENDS_S", 0.3)
    stopping = threading.Event()
    writer = Writer(Slow(), "b.mp4", stopping.is_set)
    for number in range(WAITING):
        given(writer, number)
    threading.Timer(0.2, stopping.set).start()
    begin = time.monotonic()
    given(writer, WAITING)
    with pytest.raises(UserError, match="b.mp4 was not finished within 0.3 s"):
        writer.finish()
    writer.discard()
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_disk_that_fails_is_one_sentence_whichever_picture_it_was(work, restore, monkeypatch, at):
    store_video(work / "a.mkv", 12)
    add = Encoder.add

    def failing(self, pixels, shown):
        if self.frames == at:
            raise OSError(28, "No space left on device")
        add(self, pixels, shown)

    monkeypatch.setattr(Encoder, "add", failing)
    run = restore(work / "a.mkv", "--out", work / "b.mkv")
    assert run.code == 2 and run.err.count("could not be written completely (no space left on device)") == 1
    assert "Traceback" not in run.err and names(work) == ["a.mkv"]


def test_a_recording_that_is_slower_than_the_camera_keeps_every_picture_that_was_restored(work, restore, monkeypatch):
    add = Encoder.add
    monkeypatch.setattr(Encoder, "add", lambda self, pixels, shown: (time.sleep(0.03), add(self, pixels, shown)))
    with http_camera() as camera:
        camera.frames = 60
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", "--max-frames", "20", "--stats", "-")
    assert run.code == 0 and "dropped" in run.err
    frames = load_video(work / "b.mkv")[0]
    assert len(frames) == len(run.out.splitlines()) == 20
