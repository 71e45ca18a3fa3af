"""Video devices that pictures are given to, against drivers that answer as linux/videodev2.h says; python -m
tests.edge.loopback has real ones."""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.errors import UserError
from edge.sinks import loopback
from edge.sources import v4l2
from edge.sources.record import Frame
from tests.edge.formats import smooth

FORMAT = struct.Struct(f"I{struct.calcsize('P') - 4}xIIIIIII172x")
BUFFER = struct.Struct("5I2l16s2IL2Ii0l")
PAGE = 4096
CAMERA, OUTPUT, STREAMS = 0x1, 0x2, 0x04000000


class Driver:
    """Of a device that is a file here: `able` what it does, `letters` the pixel formats that it takes, `padding` bytes
    behind each row, `size` the only one it takes. Buffers that are lent to it come back when `returned` are let go."""

    def __init__(self, path: Path, name: str = "a driver", able: int = OUTPUT | STREAMS) -> None:
        path.write_bytes(bytes(64 * PAGE))
        self.path, self.name, self.able = path, name, able
        self.letters: tuple[str, ...] = ("YU12",)
        self.padding, self.size = 0, None
        self.busy = False
        self.holds = False  # buffers are not given back
        self.lent: list[int] = []
        self.asked: list[int] = []
        self.shown: list[bytes] = []

    def ioctl(self, device: int, request: int, answer: bytearray) -> int:
        number = request & 0xFF
        assert request >> 16 & 0x3FFF == len(answer)
        self.asked.append(number)
        {0: self.capability, 5: self.format, 8: self.buffers, 9: self.buffer, 15: self.lend, 17: self.give_back}.get(
            number, self.begin
        )(answer)
        return 0

    def capability(self, answer: bytearray) -> None:
        struct.pack_into("16s32s32sIII", answer, 0, self.name.encode(), b"A Device", b"", 0, 1 << 31, self.able)

    def format(self, answer: bytearray) -> None:
        if self.busy:
            raise OSError(errno.EBUSY, "Device or resource busy")
        kind, width, height, letters, field, *_ = FORMAT.unpack(answer)
        name = letters.to_bytes(4, "little").decode()
        if name not in self.letters:
            name = self.letters[0] if self.letters else "GREY"
        width, height = self.size or (width, height)
        stride = width * {"YU12": 1, "YUYV": 2, "UYVY": 2}.get(name, 3) + self.padding
        answer[:] = FORMAT.pack(kind, width, height, int.from_bytes(name.encode(), "little"), field, stride, 0, 8)

    def buffers(self, answer: bytearray) -> None:
        struct.pack_into("I", answer, 0, 2)  # fewer than were asked for
        self.lent.clear()

    def buffer(self, answer: bytearray) -> None:
        index, *rest = BUFFER.unpack(answer)
        rest[9:11] = index * 8 * PAGE, 8 * PAGE
        answer[:] = BUFFER.pack(index, *rest)

    def lend(self, answer: bytearray) -> None:
        index, kind, used, *_ = BUFFER.unpack(answer)
        assert kind == 2 and index not in self.lent
        self.lent.append(index)
        self.shown.append(self.path.read_bytes()[index * 8 * PAGE :][:used])

    def give_back(self, answer: bytearray) -> None:
        if not self.lent or self.holds:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        _, *rest = BUFFER.unpack(answer)
        answer[:] = BUFFER.pack(self.lent.pop(0), *rest)

    def begin(self, answer: bytearray | bytes) -> None:
        assert struct.unpack("i", answer) == (2,)
        if self.name == "v4l2 loopback" and self.busy:
            raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture
def driver(tmp_path, monkeypatch) -> Driver:
    driver = Driver(tmp_path / "video9")
    for module in (loopback, v4l2):
        monkeypatch.setattr(module, "fcntl", SimpleNamespace(ioctl=driver.ioctl))
    return driver


def opened(driver: Driver, live: bool = True, stopping=lambda: False) -> loopback.Loopback:
    return loopback.Loopback(driver.path, live, stopping)


def give(sink: loopback.Loopback, *pictures: np.ndarray) -> None:
    for number, picture in enumerate(pictures):
        sink.write(Frame("x", picture, time=number / 10), picture)


def pictures(count: int, height: int = 23, width: int = 32) -> list[np.ndarray]:
    return [np.tile(smooth(3, seed), (2, 2, 1))[:height, :width] for seed in range(count)]


def test_v4l2loopback_is_written_to_in_planes_after_it_was_told_so(driver):
    driver.name = "v4l2 loopback"
    sink = opened(driver)
    give(sink, *pictures(2))
    assert sink.finish() == f"2 frames to {driver.path}"
    sink.discard()
    assert driver.asked == [0, 5, 18]
    planes = np.frombuffer(driver.path.read_bytes()[: 2 * 36 * 32], np.uint8).reshape(2, 36, 32)
    back = cv2.cvtColor(planes[1], cv2.COLOR_YUV2RGB_I420)
    assert np.abs(back[:23].astype(int) - pictures(2)[1]).mean() < 6


@pytest.mark.parametrize("letters", ["YU12", "YUYV", "UYVY", "BGR3", "RGB3"])
@pytest.mark.parametrize("padding", [0, 32])
def test_other_devices_are_lent_pictures_in_the_pixel_format_that_they_take(driver, letters, padding):
    driver.letters, driver.padding = (letters,), padding
    sink = opened(driver)
    give(sink, *pictures(5))
    assert sink.finish() == f"5 frames to {driver.path}"
    sink.discard()
    assert len(driver.shown) == 5 and driver.asked.count(18) == 1
    for shown, picture in zip(driver.shown, pictures(5), strict=True):
        assert np.abs(seen(shown, letters, padding)[:23].astype(int) - picture).mean() < 6


def seen(content: bytes, letters: str, padding: int) -> np.ndarray:
    """What a program makes of 32x24 pixels in that pixel format, RGB."""
    values = np.frombuffer(content, np.uint8)
    if letters == "YU12":
        stride = 32 + padding
        brightness = values[: 24 * stride].reshape(24, stride)[:, :32]
        colours = values[24 * stride :].reshape(24, stride // 2)[:, :16].reshape(12, 32)
        return cv2.cvtColor(np.concatenate([brightness, colours]), cv2.COLOR_YUV2RGB_I420)
    if letters in ("YUYV", "UYVY"):
        rows = np.ascontiguousarray(values.reshape(24, -1)[:, :64]).reshape(24, 32, 2)
        return cv2.cvtColor(rows, getattr(cv2, f"COLOR_YUV2RGB_{letters}"))
    rows = values.reshape(24, -1)[:, :96].reshape(24, 32, 3)
    return rows if letters == "RGB3" else rows[..., ::-1]


def test_a_device_that_gives_nothing_back_holds_nothing_up_and_what_it_did_not_take_is_counted(driver, monkeypatch):
    monkeypatch.setattr(loopback, "_HELD_S", 0.05)
    sink = opened(driver)
    driver.holds = True
    begin = time.monotonic()
    give(sink, *pictures(30))
    assert time.monotonic() - begin < 20 * 0.05  # one was waited for
    driver.holds = False
    give(sink, *pictures(1))
    assert sink.finish() == f"3 frames to {driver.path}, 28 not taken by the device"


def test_a_device_that_takes_nothing_at_all_is_said_to(driver, monkeypatch):
    monkeypatch.setattr(loopback, "_HELD_S", 0.01)
    driver.name, driver.able = "v4l2 loopback", OUTPUT
    sink = opened(driver)

    def refuse(device: int, content: bytes) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "write", refuse)
    give(sink, *pictures(2))
    monkeypatch.undo()
    with pytest.raises(UserError, match="took no picture"):
        sink.finish()


def test_pictures_of_another_size_have_the_device_opened_anew(driver):
    sink = opened(driver)
    give(sink, *pictures(1), *pictures(2, 48, 64))
    assert sink.finish() == f"3 frames to {driver.path}"
    assert [len(shown) for shown in driver.shown] == [32 * 24 * 3 // 2, 64 * 48 * 3 // 2, 64 * 48 * 3 // 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"able": CAMERA | STREAMS}, "is a camera \\(A Device\\) and takes no pictures; sudo modprobe v4l2loopback"),
        ({"able": STREAMS}, "is for other things \\(A Device\\) and takes no pictures"),
        ({"able": CAMERA, "name": "v4l2 loopback"}, "is in use: another program gives it pictures"),
        ({"busy": True}, "is in use: another program gives it pictures"),
        ({"size": (720, 576)}, "takes 720x576 pixels, not 32x24"),
        ({"letters": ()}, "takes none of the pixel formats yu12, yuyv, uyvy, bgr3, rgb3"),
    ],
)
def test_a_device_that_cannot_be_given_pictures_is_refused_with_the_reason(driver, changes, words):
    for name, value in changes.items():
        setattr(driver, name, value)
    with pytest.raises(UserError, match=words):
        give(opened(driver), *pictures(1))


def test_v4l2loopback_whose_last_writer_left_it_without_a_word_is_given_pictures(driver):
    driver.name, driver.able = "v4l2 loopback", 0
    sink = opened(driver)
    give(sink, *pictures(1))
    assert sink.finish() == f"1 frame to {driver.path}"


def test_a_later_v4l2loopback_need_not_be_told(driver):
    driver.name = "v4l2 loopback"
    sink = opened(driver)
    driver.begin = refuse_to_begin
    give(sink, *pictures(1))
    assert sink.finish() == f"1 frame to {driver.path}"


def refuse_to_begin(_) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


def test_what_is_no_device_is_refused(tmp_path):
    with pytest.raises(UserError, match="video9 cannot be written to: no such file or directory; sudo modprobe"):
        loopback.Loopback(tmp_path / "video9", True, lambda: False)
    (tmp_path / "video9").touch()
    with pytest.raises(UserError, match="is no video device"):
        loopback.Loopback(tmp_path / "video9", True, lambda: False)


def test_frames_of_a_file_are_shown_at_their_times_and_a_stop_does_not_wait_for_them(driver, monkeypatch):
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(loopback, "time", clock)
    stop = []
    sink = opened(driver, live=False, stopping=lambda: bool(stop))
    give(sink, *pictures(4))
    assert now[0] == pytest.approx(100.3)
    give_at_once = pictures(1)[0]
    stop.append(True)
    sink.write(Frame("x", give_at_once, time=3600.0), give_at_once)
    assert now[0] < 101.0
    assert sink.finish() == f"5 frames to {driver.path}"


def test_frames_of_what_is_live_are_shown_as_they_come(driver, monkeypatch):
    monkeypatch.setattr(loopback, "time", SimpleNamespace(monotonic=time.monotonic, sleep=None))
    sink = opened(driver)
    give(sink, *pictures(4))
    assert len(driver.shown) == 4
