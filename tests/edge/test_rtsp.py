"""Streams of a real RTSP server (GStreamer's), killed, frozen and restarted; pictures pushed to one (FFmpeg's)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import av
import pytest

from edge.sources import Settings, open_source
from edge.sources.capture import Video
from edge.sources.record import Frame, Remark, Unreadable
from tests.edge.files import load_video, store_frames
from tests.edge.servers import RtspCamera, free_port, garbling, has_rtsp_server, number_of, numbered

pytestmark = pytest.mark.skipif(not has_rtsp_server(), reason="GStreamer's RTSP server is not installed")

FPS = 30
LONG = 8  # pictures after which it shows whether they wait for one another


@pytest.fixture
def camera() -> Iterator[RtspCamera]:
    camera = RtspCamera(fps=FPS)
    yield camera
    camera.kill()


def milliseconds(frame: Frame) -> int:
    """When the picture was made, from what it shows; modulo 2^24."""
    return number_of(frame.pixels, 24)


@pytest.mark.parametrize(("transport", "installed"), [("tcp", True), ("udp", True), ("tcp", False)])
def test_what_is_shown_is_new_even_if_each_picture_takes_long(camera, monkeypatch, transport, installed):
    if not installed:
        library = av
        monkeypatch.setattr("edge.pyav.library", lambda: None)
        assert library
    video = open_source(camera.address, None, Settings(transport=transport))
    assert of_its_age_without_a_thread(video) < 0.5
    assert video.dropped > 0
    video.close()


def of_its_age_without_a_thread(video: Video) -> float:
    """The age of a picture through the age that it would have if every one had waited for the one before it.

    After n pictures that took longer than they come, that would be what has passed without n times what lies between
    two: so it grows, and what a slow machine adds counts for less and less. Pictures are taken until one of the first
    100 shows less than a half, or all do not.
    """
    begin, share = time.monotonic(), 1.0
    for number, item in enumerate(item for item in video.frames(100) if isinstance(item, Frame)):
        waited = time.monotonic() - begin - number / FPS
        if number >= LONG:
            share = (int(time.monotonic() * 1000) - milliseconds(item)) % 2**24 / 1000 / waited
            if share < 0.5:
                break
        time.sleep(0.2)
    return share


@pytest.mark.parametrize("what", ["kill", "freeze"])
def test_a_server_that_dies_or_freezes_ends_the_run_in_time(camera, what):
    video = open_source(camera.address, None, Settings(timeout_s=1.5, reconnect=0))
    done, said, stopped = 0, [], 0.0
    for item in video.frames():
        if isinstance(item, Frame):
            done += 1
            if done == 10:
                camera.kill() if what == "kill" else camera.freeze()
                stopped = time.monotonic()
        elif isinstance(item, Unreadable):
            said.append(item.reason)
    assert time.monotonic() - stopped < 1.5 + 3
    assert done >= 10 and len(said) == 1 and "what was restored is kept" in said[0]
    video.close()


def test_a_server_that_is_restarted_is_connected_to_again(camera):
    video = open_source(camera.address, None, Settings(timeout_s=2, reconnect=10))
    done = after = 0
    for item in video.frames():
        if isinstance(item, Frame):
            done += 1
            after += video.reconnects > 0
            if done == 5:
                camera.kill()
                camera.start()
            if after == 5:
                break
        assert isinstance(item, Frame | Remark)
    video.close()
    assert after == 5


def test_garbage_on_the_way_is_passed_over_or_ends_the_run_in_time(camera):
    with garbling(camera.port) as port:
        settings = Settings(timeout_s=1.5, reconnect=1, transport="tcp")
        video = open_source(f"rtsp://127.0.0.1:{port}/live", None, settings)
        begin, done = time.monotonic(), 0
        for item in video.frames():
            done += isinstance(item, Frame)
            if time.monotonic() - begin > 8:
                break
        assert done > 0 and time.monotonic() - begin < 8 + 1.5 + 3
        video.close()


def test_restored_pictures_are_pushed_to_a_server_that_records(work, restore):
    frames = [numbered(number) for number in range(20)]
    store_frames(work / "a.mkv", frames, 10.0)
    address = f"rtsp://127.0.0.1:{free_port()}/live"
    arrived: list[int] = []

    def record() -> None:
        with av.open(address, options={"rtsp_flags": "listen", "listen_timeout": "30"}) as container:
            for frame in container.decode(video=0):
                arrived.append(number_of(frame.to_ndarray(format="rgb24")))

    server = threading.Thread(target=record, daemon=True)
    server.start()
    time.sleep(0.5)
    run = restore(work / "a.mkv", "--out", address)
    server.join(20)
    assert run.code == 0 and "frames to rtsp://127.0.0.1" in run.out
    assert arrived and arrived == sorted(arrived) and arrived[-1] == 19


def test_a_server_that_is_not_there_is_said(work, restore):
    store_frames(work / "a.mkv", [numbered(number) for number in range(3)], 10.0)
    run = restore(work / "a.mkv", "--out", f"rtsp://user:secret@127.0.0.1:{free_port()}/live")
    assert run.code == 2 and "took no picture" in run.err and "secret" not in run.err
    assert len(load_video(work / "a.mkv")[0]) == 3


def test_a_server_that_is_not_there_yet_is_said_while_it_is_tried_again(work, capfd):
    from edge.sinks.push import Push
    from edge.sources.record import Facts

    push = Push(f"rtsp://127.0.0.1:{free_port()}/live", Facts(10.0, live=True))
    said = ""
    for number in range(100):
        push.write(Frame("x", numbered(number)), numbered(number))
        time.sleep(0.05)
        if said := said + capfd.readouterr().err:
            break
    push.discard()
    assert "takes no picture: connection refused; trying again and again.\n" in said
