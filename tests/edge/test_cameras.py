"""Cameras of this machine, against drivers that answer as linux/videodev2.h says and a capture as OpenCV's; real
drivers are behind python -m tests.edge.guest."""

from __future__ import annotations

import errno
import struct
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.errors import UserError
from edge.sources import Settings, camera, v4l2
from edge.sources.camera import describe, open_camera
from edge.sources.record import Frame, Remark, Unreadable
from tests.edge.servers import jpeg, number_of, numbered

CAPTURES, OUTPUTS = 1, 2
FORMATS = ("MJPG", "422P", "Y10 ")


class Driver:
    """A driver's answers: two sizes, three pixel formats, a number, a menu with a gap, and what cannot be set."""

    def __init__(self) -> None:
        self.able, self.name = CAPTURES, "uvcvideo"
        self.formats = FORMATS
        self.was_set: list[tuple[int, int]] = []

    def ioctl(self, device, request: int, answer: bytearray) -> None:
        number = request & 0xFF
        index = struct.unpack_from("I", answer)[0]
        if number == 0:
            struct.pack_into("16s32s", answer, 0, self.name.encode(), b"A Camera")
            struct.pack_into("I", answer, 84, self.able)
        elif number == 2 and index < len(self.formats) + 1:
            letters = [*self.formats, "Y16\xa0"][index]
            answer[44:48] = letters.encode("latin-1")
        elif number == 74 and index < 2:
            struct.pack_into("III", answer, 8, 1, *[(640, 480), (1280, 720)][index])
        elif number == 75 and index < 2:
            assert struct.unpack_from("II", answer, 8) in ((640, 480), (1280, 720))
            struct.pack_into("III", answer, 16, 1, 1, (15, 30)[index])
        elif number == 36:
            known = {0: (5, 1, b"Gain, Analog"), 5: (6, 3, b"Auto Exposure"), 6: (7, 7, b"Text"), 7: (8, 6, b"Class")}
            found = known.get(index & 0x7FFFFFFF)
            if found is None:
                raise OSError(errno.EINVAL, "Invalid argument")
            struct.pack_into("II32siiiiI", answer, 0, *found, 0, 3, 1, 1, 0)
        elif number == 37 and struct.unpack_from("II", answer) in ((6, 1), (6, 3)):
            entry = {1: b"Manual Mode", 3: b"Aperture Priority Mode"}[struct.unpack_from("I", answer, 4)[0]]
            struct.pack_into("32s", answer, 8, entry)
        elif number == 28:
            self.was_set.append(struct.unpack("Ii", answer))
        else:
            raise OSError(errno.EINVAL, "Invalid argument")


class Capture:
    """What a list says that OpenCV does: numbers are pictures, bytes JPEGs; None: nothing after a wait; False: nothing
    at once; "broken": a picture that cannot be decoded; "wrong": one that OpenCV raises at."""

    scripts: list[list] = []
    asked: list[tuple[int, float]] = []

    def __init__(self, place: str, backend: int) -> None:
        assert Path(place).exists() and backend == cv2.CAP_V4L2
        self.script = iter(Capture.scripts.pop(0))

    def isOpened(self) -> bool:
        return True

    def set(self, what: int, value: float) -> bool:
        Capture.asked.append((what, value))
        return True

    def get(self, what: int) -> float:
        size = {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}
        return (size | dict(Capture.asked)).get(what, 0.0)

    def grab(self) -> bool:
        self.step = next(self.script, False)
        if self.step is None:
            time.sleep(0.1)
        return self.step is not None and self.step is not False

    def retrieve(self):
        if self.step == "wrong":
            raise cv2.error("too large")
        if isinstance(self.step, bytes):
            assert (cv2.CAP_PROP_CONVERT_RGB, 0) in Capture.asked
            return True, np.frombuffer(self.step, np.uint8)[None]
        return (False, None) if self.step == "broken" else (True, numbered(self.step))

    def release(self) -> None:
        pass


@pytest.fixture
def device(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("cv2.VideoCapture", Capture)
    monkeypatch.setattr(camera, "_AT_ONCE_S", 0.05)
    monkeypatch.setattr("edge.sources.capture._BACK_OFF_S", (0.01,))
    Capture.asked = []
    (tmp_path / "video0").touch()
    return tmp_path / "video0"


@pytest.fixture
def driver(monkeypatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(v4l2, "fcntl", SimpleNamespace(ioctl=driver.ioctl))
    return driver


def taken(device: Path, script: list, *more: list, **settings: object) -> tuple[list[int], list, object]:
    """(numbers of the pictures, what was said, the video) of a camera that does what the scripts say, one after the
    other connection."""
    Capture.scripts = [script, *more]
    video = open_camera(device, Settings(drop="none", **{"timeout_s": 20, **settings}))
    items = list(video.frames())
    video.close()
    numbers = [number_of(item.pixels) for item in items if isinstance(item, Frame)]
    said = [item.text if isinstance(item, Remark) else item.reason for item in items if not isinstance(item, Frame)]
    assert not any(isinstance(item, Unreadable) for item in items[:-1])
    return numbers, said, video


def test_cameras_are_listed_with_what_can_be_read_and_set(tmp_path, driver, monkeypatch):
    (tmp_path / "v4l" / "by-id").mkdir(parents=True)
    (tmp_path / "video0").touch()
    by_id = tmp_path / "v4l" / "by-id" / "usb-A_Camera-index0"
    by_id.symlink_to(tmp_path / "video0")
    found = v4l2.cameras(tmp_path)
    assert found == [
        v4l2.Camera(
            tmp_path / "video0", "A Camera", by_id,
            tuple((letters, ("640x480 (30 fps)", "1280x720 (30 fps)")) for letters in FORMATS),
        )
    ]  # fmt: skip
    monkeypatch.setattr(v4l2, "cameras", lambda: found)
    assert describe() == [
        f"camera0  A Camera  {tmp_path / 'video0'}  {by_id}",
        "    --format mjpg  --size 640x480 (30 fps), 1280x720 (30 fps)",
        "    --format y10  --size 640x480 (30 fps), 1280x720 (30 fps)",
        "    --control gain_analog=0..3  (default 1)",
        "    --control auto_exposure=0..3  (default 1; 1: Manual Mode, 3: Aperture Priority Mode)",
    ]


def test_a_camera_that_has_nothing_to_read_says_what_it_has(tmp_path, driver, monkeypatch):
    (tmp_path / "video0").touch()
    driver.formats = ("HEVC", "422P")
    found = v4l2.cameras(tmp_path)
    monkeypatch.setattr(v4l2, "cameras", lambda: found)
    assert describe()[1] == "    it has no pixel format that can be read here: hevc, 422p"


def test_a_camera_that_takes_long_is_waited_for_and_one_that_fails_at_once_is_lost(device, driver):
    numbers, said, _ = taken(device, [None, None, 7, False])
    assert numbers == [7] and len(said) == 1 and "stopped giving pictures after 1 frame" in said[0]


def test_a_camera_that_freezes_is_given_up_when_the_time_is_over_and_its_thread_ends(device, driver):
    begin = time.monotonic()
    numbers, said, video = taken(device, [1, 2, *[None] * 100], timeout_s=0.3)
    assert numbers == [1, 2] and "has given no picture for 0.3 s after 2 frames" in said[-1]
    assert time.monotonic() - begin < 5 and not video.hangs


def test_pictures_that_a_camera_breaks_are_left_out_and_counted_and_all_others_kept(device, driver):
    numbers, said, video = taken(device, [1, "broken", 2, "wrong", "broken", 3, False])
    assert numbers == [1, 2, 3] and video.broken == 3
    assert any("could not be decoded and" in line for line in said)


def test_jpegs_that_a_camera_breaks_are_left_out_in_silence(device, driver, capfd):
    """Cut off, with an impossible size, with another than before, and nothing of a JPEG."""
    cut, other = jpeg(9)[:-200], bytearray(jpeg(9))
    at = other.index(b"\xff\xc0") + 5
    other[at : at + 2] = (207).to_bytes(2, "big")
    huge = bytearray(other)
    huge[at : at + 4] = b"\xff" * 4
    script = [other, jpeg(1), cut, huge, jpeg(2), bytes(300), other, jpeg(3), False]
    numbers, _, video = taken(device, [bytes(each) if each else each for each in script], format="mjpg")
    assert numbers == [1, 2, 3] and video.broken == 5
    assert capfd.readouterr().err == ""


def test_jpegs_of_another_size_than_was_agreed_on_are_taken_if_they_stay_so(device, driver):
    numbers, _, video = taken(device, [*[store_jpeg(number) for number in range(4)], False], format="mjpg")
    assert numbers == [1, 2, 3] and video.broken == 1


def store_jpeg(number: int) -> bytes:
    done, content = cv2.imencode(".jpg", numbered(number, 64, 56)[..., ::-1])
    assert done
    return content.tobytes()


def test_a_camera_that_comes_back_is_set_as_before(device, driver):
    numbers, said, video = taken(device, [1, False], [2, False], reconnect=1, controls=(("gain_analog", 3),))
    assert numbers == [1, 2] and video.reconnects == 1 and driver.was_set == [(5, 3), (5, 3)]


@pytest.mark.parametrize(("wanted", "letters"), [("mjpeg", "MJPG"), ("MJPG", "MJPG"), ("y10", "Y10 ")])
def test_a_pixel_format_is_asked_for_by_the_letters_that_the_camera_has_for_it(device, driver, wanted, letters):
    _, said, _ = taken(device, [1, False], format=wanted)
    assert (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*letters)) in Capture.asked
    assert not any("gives the format" in line for line in said)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "422p"}, "--format 422p, which cannot be read here: .*video0 has mjpg, y10"),
        ({"format": "yuyv"}, "--format yuyv: .*video0 has mjpg, y10"),
        ({"controls": (("gain_analog", 9),)}, "--control gain_analog=9: .*video0 takes 0 to 3"),
        ({"controls": (("auto_exposure", 2),)}, "takes 1: Manual Mode, 3: Aperture Priority Mode"),
        ({"controls": (("text", 1),)}, "has no control text; it has gain_analog, auto_exposure"),
    ],
)
def test_what_a_camera_does_not_have_is_refused_with_what_it_has(device, driver, settings, words):
    with pytest.raises(UserError, match=words):
        taken(device, [1, False], **settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"able": OUTPUTS}, ", A Camera, gives no pictures; this machine has camera4"),
        ({"able": 0}, ", A Camera, gives no pictures; this machine has camera4"),
        ({"able": OUTPUTS, "name": "v4l2 loopback"}, ", A Camera, gives pictures only while a program writes to it"),
    ],
)
def test_a_device_that_is_no_camera_is_said_to_be_none_and_cameras_are_named(
    device, driver, monkeypatch, changes, words
):
    there = v4l2.Camera(Path("/dev/video4"), "Another", None, ())
    monkeypatch.setattr(v4l2, "cameras", lambda: [there])
    for name, value in changes.items():
        setattr(driver, name, value)
    with pytest.raises(UserError, match=words):
        open_camera(device, Settings())


def test_a_file_that_is_no_device_is_no_camera(tmp_path):
    (tmp_path / "video0").touch()
    with pytest.raises(UserError, match="is no camera: inappropriate ioctl for device"):
        open_camera(tmp_path / "video0", Settings())
