"""Cameras, streams and commands that drop, stall, break off and come back; what of a video survives."""

from __future__ import annotations

import io
import math
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edge.errors import UserError
from edge.sinks.video import segments
from edge.sources import Settings
from edge.sources.capture import Video
from edge.sources.record import BrokenFrameError, Facts, Frame, LostError, Remark, Taken, Unreadable
from tests.edge.files import assert_refused, frame_times, load, load_video, mux_tone, names, picture, store
from tests.edge.formats import smooth
from tests.edge.servers import http_camera, jpeg, number_of, numbered

ROOT = Path(__file__).parents[2]
QUICK = ("--timeout", "1", "--reconnect", "0")


def command(bundle: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "--task", "denoise", "--bundle", str(bundle), *map(str, arguments)]


# --- the thread in front of the network -----------------------------------------------------------------------------


class Scripted:
    """A reader that does what a list says: pixels, an exception, or a number of seconds to wait."""

    def __init__(self, script: list, live: bool = True):
        self.facts = Facts(25.0, live=live)
        self.script = iter(script)
        self.closed = False

    def read(self) -> Taken | None:
        for step in self.script:
            if isinstance(step, float):
                time.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                return Taken(numbered(step))
        return None

    def rest(self) -> tuple:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def taken(video: Video, limit: int | None = None, pause_s: float = 0.0) -> tuple[list[int], list[str]]:
    """(numbers of the frames, what was said) of a video whose frames take `pause_s` each."""
    numbers, said = [], []
    for item in video.frames(limit):
        if isinstance(item, Frame):
            numbers.append(number_of(item.pixels))
            time.sleep(pause_s)
        elif isinstance(item, Remark):
            said.append(item.text)
        elif isinstance(item, Unreadable):
            said.append(f"failed: {item.reason}")
    video.close()
    return numbers, said


def test_of_what_is_live_the_newest_picture_is_taken_and_the_others_are_counted():
    script = [x for n in range(20) for x in (n, 0.01)]
    video = Video("x", lambda: Scripted(script), Settings())
    numbers, said = taken(video, pause_s=0.05)
    assert numbers[-1] == 19 and len(numbers) < 15 and numbers == sorted(numbers)
    assert video.dropped == 20 - len(numbers)
    assert f"and {video.dropped} were dropped for newer ones; --drop none restores all;" in said[0]


def test_nothing_is_dropped_where_that_is_asked_for():
    video = Video("x", lambda: Scripted(list(range(20))), Settings(drop="none"))
    numbers, _ = taken(video, pause_s=0.005)
    assert numbers == list(range(20)) and video.dropped == 0


def test_broken_frames_are_left_out_counted_and_said():
    script = [0, 0.1, BrokenFrameError(), BrokenFrameError(), 1, 0.1, 2]
    video = Video("x", lambda: Scripted(script), Settings(drop="none"))
    numbers, said = taken(video)
    assert numbers == [0, 1, 2] and video.broken == 2
    assert said == [
        "2 frames of x could not be decoded and were left out.",
        "x ended after 3 frames; what was restored is kept.",
    ]


def test_a_file_is_given_up_after_many_broken_frames_in_a_row():
    script = [0, *[BrokenFrameError() for _ in range(40)], 1]
    numbers, said = taken(Video("x", lambda: Scripted(script, live=False), Settings()))
    assert numbers == [0] and said == ["failed: 32 frames before frame 34 of x cannot be decoded and are left out."]


def test_a_source_that_breaks_off_is_connected_to_again(monkeypatch):
    monkeypatch.setattr("edge.sources.capture._BACK_OFF_S", (0.01,))
    scripts = iter([[0, 1, LostError("broke off")], [LostError("broke off")], [2, 3]])
    video = Video("x", lambda: Scripted(next(scripts)), Settings(drop="none"), attempts=5)
    numbers, said = taken(video)
    assert numbers == [0, 1, 2, 3] and video.reconnects == 2 and "connecting again" in said[0]


def test_a_source_that_is_not_there_yet_is_waited_for_where_that_is_asked_for(monkeypatch, capfd):
    monkeypatch.setattr("edge.sources.capture._BACK_OFF_S", (0.01,))
    tries = iter([LostError("cannot be reached"), LostError("cannot be reached"), Scripted([0])])

    def opener():
        if isinstance(found := next(tries), LostError):
            raise found
        return found

    assert taken(Video("x", opener, Settings(reconnect=math.inf)))[0] == [0]
    assert capfd.readouterr().err == "edge-restore: x cannot be reached; trying again.\n" * 2


def test_a_reader_that_hangs_is_left_behind_in_time(monkeypatch):
    monkeypatch.setattr("edge.sources.capture._GRACE_S", 0.0)
    video = Video("x", lambda: Scripted([0, 60.0, 1]), Settings(timeout_s=0.2))
    begin = time.monotonic()
    numbers, said = taken(video)
    assert time.monotonic() - begin < 3
    assert numbers == [0] and said == [
        "failed: x has given no picture for 0.2 s after 1 frame; what was restored is kept."
    ]


def test_opening_that_hangs_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr("edge.sources.capture._GRACE_S", 0.0)
    with pytest.raises(UserError, match="x does not answer"):
        Video("x", lambda: time.sleep(60) or Scripted([]), Settings(timeout_s=0.2))


def test_a_source_that_gives_few_pictures_is_not_late():
    reader = Scripted([0, 0.9, 1, 0.9, 2])
    numbers, said = taken(Video("x", lambda: reader, Settings(timeout_s=0.2, fps=1.0), attempts=0))
    assert numbers == [0, 1, 2] and "ended after 3 frames" in said[0]


def test_whoever_writes_to_standard_input_may_begin_late(monkeypatch):
    monkeypatch.setattr("edge.sources.record.TIMEOUT_S", 0.1)
    late = Video("x", lambda: time.sleep(0.9) or Scripted([0], live=False), Settings(), opens_late=True)
    assert taken(late)[0] == [0]


# --- HTTP -----------------------------------------------------------------------------------------------------------


def test_a_server_that_freezes_ends_the_run_in_time_and_its_frames_are_kept(work, restore):
    with http_camera() as camera:
        camera.freezes = True
        begin = time.monotonic()
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", "--drop", "none", *QUICK)
    assert run.code == 2 and "after 10 frames; what was restored is kept" in run.err
    assert time.monotonic() - begin < 30
    assert len(load_video(work / "b.mkv")[0]) == 10


def test_a_server_that_never_answers_ends_the_run_in_time(work, restore):
    with http_camera() as camera:
        camera.silent = True
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", *QUICK)
    assert_refused(run, camera.address, "check the address")
    assert names(work) == []


def test_a_server_that_comes_back_is_connected_to_again(work, restore, monkeypatch):
    monkeypatch.setattr("edge.sources.capture._BACK_OFF_S", (0.01,))
    with http_camera() as camera:
        camera.frames = 5
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", "--drop", "none", "--max-frames", "12")
    assert run.code == 0 and "connecting again" in run.err and camera.connections == 3
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("garbage", [b"\xff\xd8\xff" + bytes(100), jpeg(7)[:200], os.urandom(500), b"\0" * 70_000])
def test_garbage_between_pictures_is_passed_over(work, restore, garbage):
    with http_camera() as camera:
        camera.garbage = garbage
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", "--drop", "none", *QUICK)
    assert run.code == 2 and "broke off after 10 frames" in run.err
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == list(range(10))


def test_the_address_of_one_picture_is_asked_for_again_and_again(work, restore):
    with http_camera() as camera:
        options = ("--max-frames", 4, "--fps", 50, "--drop", "none")
        run = restore(f"{camera.address}/s.jpg", "--out", work / "b.mkv", *options)
    assert run.code == 0
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == [1, 2, 3, 4]


def test_options_that_mean_nothing_to_a_source_are_refused(work, restore):
    store(work / "a.png", picture())
    assert_refused(restore(work / "a.png", "--drop", "none"), "--drop", "leave it out")
    assert_refused(restore("http://127.0.0.1:9/x", "--control", "gain=1"), "--control", "leave it out")
    assert_refused(restore("sample", "--keep", "3"), "--segment")
    assert_refused(restore("sample", "--segment", "3"), "--segment")
    assert_refused(restore("sample", "--size", "640"), "640x480")


# --- commands and standard input ------------------------------------------------------------------------------------

WRITES_JPEGS = "import sys; from tests.edge.servers import jpeg; [sys.stdout.buffer.write(jpeg(n)) for n in range(8)]"


def python(program: str) -> str:
    return f"exec:{sys.executable} -c '{program}'"


def test_what_a_command_writes_is_restored(work, restore, monkeypatch):
    monkeypatch.chdir(ROOT)
    run = restore(python(WRITES_JPEGS), "--out", work / "b.mkv", "--drop", "none")
    assert run.code == 0 and "ended after 8 frames" in run.err
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == list(range(8))


def test_one_picture_of_another_size_is_a_broken_one_and_several_are_another_size():
    from edge.sources.bytewise import Jpegs

    other = bytearray(jpeg(1))
    at = other.index(b"\xff\xc0") + 7
    other[at : at + 2] = (40).to_bytes(2, "big")  # what noise on a line can do
    stream = io.BytesIO(b"".join([jpeg(0), other, jpeg(2), other, other, other]))
    reader = Jpegs(stream.read, stream.close)
    sizes: list[int | None] = []
    for _ in range(6):
        try:
            taken = reader.read()
            assert taken is not None
            sizes.append(taken.pixels.shape[1])
        except BrokenFrameError:
            sizes.append(None)
    assert sizes == [64, None, 64, None, 40, 40] and reader.read() is None


def test_raw_frames_of_a_command_have_the_colours_of_their_planes(work, restore, network):
    pixels = smooth(3, 5)[:24, :32]
    planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)
    (work / "raw").write_bytes(planes.tobytes() * 3 + b"half a frame")
    run = restore(f"exec:cat {work / 'raw'}", "--size", "32x24", "--out", work / "b.mkv", "--drop", "none")
    assert run.code == 0
    frames = load_video(work / "b.mkv")[0]
    assert len(frames) == 3
    assert np.array_equal(frames[0], network.run(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)).image)


def test_raw_frames_of_high_definition_have_the_other_matrix():
    from edge.sources.bytewise import Raw

    colours = np.zeros((720, 1280, 3), np.uint8)
    colours[:, :640], colours[:, 640:] = (200, 40, 60), (30, 180, 220)
    frame = av.VideoFrame.from_ndarray(colours, format="rgb24")
    planes = frame.reformat(format="yuv420p", dst_colorspace="ITU709").to_ndarray().tobytes()
    found = Raw(iter([planes, b""]).__next__ and (lambda count: planes), lambda: None, (1280, 720)).read()
    assert found is not None
    assert np.abs(found.pixels[:, 8:600].astype(int) - colours[:, 8:600]).max() <= 3
    assert np.abs(found.pixels[:, 700:].astype(int) - colours[:, 700:]).max() <= 3


def test_a_command_that_fails_is_named_with_its_last_words(restore):
    program = 'import sys; sys.exit("no cameras available")'
    run = restore(python(program))
    assert_refused(run, "exit code 1", "no cameras available")


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("import time; time.sleep(60)", "has given no picture for 4 s after 8 frames"),
        ("import os; os.kill(os.getpid(), 9)", "ended with exit code -9 after 8 frames"),
        ("import os; sys.stdout.buffer.write(os.urandom(10**6))", ""),
    ],
    ids=["freezes", "is killed", "writes garbage"],
)
def test_a_command_that_freezes_is_killed_or_writes_garbage_loses_no_good_picture(
    work, restore, monkeypatch, then, words
):
    monkeypatch.chdir(ROOT)
    program = f"{WRITES_JPEGS}; sys.stdout.flush(); {then}"
    run = restore(python(program), "--out", work / "b.mkv", "--drop", "none", "--timeout", "4")
    assert run.code == (2 if words else 0) and words in run.err
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == list(range(8))


def test_a_slow_server_is_no_lost_one(work, restore):
    with http_camera() as camera:
        camera.frames, camera.between_s = 4, 0.5
        run = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mkv", "--max-frames", "4", *QUICK)
    assert run.code == 0
    assert frame_times(work / "b.mkv")[3] == pytest.approx(1.5, abs=0.7)


def test_a_command_that_is_not_there_is_named(restore):
    assert_refused(restore("exec:no-such-command --x"), "no-such-command is not there")
    assert_refused(restore("exec:"), "names no command")
    if not any(Path(folder, "rpicam-vid").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        assert_refused(restore("picam0"), "rpicam-vid")


def test_a_command_does_not_outlive_the_run(work, restore, monkeypatch):
    monkeypatch.chdir(ROOT)
    marker = f"for_{os.getpid()}"
    program = f"{marker} = 1; {WRITES_JPEGS}; sys.stdout.flush(); import time; time.sleep(60)"
    assert restore(python(program), "--max-frames", "3", "--drop", "none").code == 0
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(marker.encode() in line for line in lines)


def test_a_picam_is_what_rpicam_vid_writes(work, restore, monkeypatch):
    script = work / "rpicam-vid"
    script.write_text(f'#!/bin/sh\necho "$@" > {work}/arguments\nhead -c $((64 * 48 * 3 / 2 * 4)) /dev/zero\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(work), prepend=os.pathsep)
    run = restore("picam1", "--size", "64x48", "--fps", "15", "--drop", "none", "--out", work / "b.mkv")
    assert run.code == 0 and len(load_video(work / "b.mkv")[0]) == 4
    arguments = (work / "arguments").read_text()
    assert "--camera 1" in arguments and "--denoise off" in arguments and "--framerate 15" in arguments


def test_standard_input_is_read(work, bundle):
    stream = b"".join(jpeg(number) for number in range(6))
    done = subprocess.run(command(bundle, "-", "--out", work / "b.mkv"), input=stream, cwd=ROOT, timeout=300)
    assert done.returncode == 0
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]] == list(range(6))


# --- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["silent", "frozen"])
def test_ctrl_c_ends_a_run_that_waits_and_keeps_what_is_recorded(work, bundle, state):
    with http_camera() as camera:
        camera.silent, camera.freezes = state == "silent", True
        run = subprocess.Popen(
            command(bundle, f"{camera.address}/s.mjpg", "--out", work / "b.mp4", "--drop", "none", "--timeout", "600"),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        until = time.monotonic() + 120
        while not (
            camera.connections if state == "silent" else any(p.stat().st_size > 2000 for p in work.glob(".b.*"))
        ):
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        time.sleep(0.6)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert run.returncode == 130 and "Traceback" not in err
    assert names(work) == ([] if state == "silent" else ["b.mp4"])
    if state == "frozen":
        assert len(load_video(work / "b.mp4")[0]) > 3


# --- what of a video survives ---------------------------------------------------------------------------------------


def a_film(path: Path, frames: int = 20) -> Path:
    """H.264 and AAC, with a title, and pixels that are not square."""
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=10, options={"crf": "18"})
        video.width, video.height, video.pix_fmt, video.sample_aspect_ratio = 64, 48, "yuv420p", 2
        audio = film.add_stream("aac", rate=48000, layout="mono")
        film.metadata["title"] = "a title"
        for number in range(frames):
            film.mux(video.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        mux_tone(film, audio, 48000 * frames // 10)
        film.mux([*video.encode(None), *audio.encode(None)])
    return path


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(audio=0) if packet.dts is not None]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets if packet.pts >= 0]


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.mov"])
def test_sound_title_times_and_the_shape_of_pixels_survive(work, restore, name):
    film = a_film(work / "a.mp4")
    run = restore(film, "--out", work / name)
    assert run.code == 0, run
    heard, before = sound_of(work / name), sound_of(film)
    assert [content for _, content in heard] == [content for _, content in before] and len(before) > 80
    assert [at for at, _ in heard] == pytest.approx([at for at, _ in before], abs=2e-3)
    assert frame_times(work / name) == pytest.approx(frame_times(film), abs=1e-3)
    with av.open(str(work / name)) as found:
        assert {key.lower(): value for key, value in found.metadata.items()}["title"] == "a title"
        shape = found.streams.video[0].sample_aspect_ratio
    assert shape == 2 if name != "b.mkv" else "pixels that are not square" in run.err


def test_without_pyav_a_film_is_restored_with_the_same_bits_and_what_is_lost_is_said(work, restore, monkeypatch):
    film = a_film(work / "a.mp4")
    assert restore(film, "--out", work / "with.mkv").code == 0
    monkeypatch.setattr("edge.pyav.library", lambda: None)
    run = restore(film, "--out", work / "without.mkv")
    assert run.code == 0 and "sound" in run.err and "spikerir-edge[video]" in run.err
    for a, b in zip(load_video(work / "with.mkv")[0], load_video(work / "without.mkv")[0], strict=True):
        assert np.array_equal(a, b)
    run = restore(film, "--out", work / "b.mp4")
    assert run.code == 0 and "browsers do not play" in run.err


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0)])
def test_a_turned_film_is_turned(work, restore, network, matrix):
    film = a_film(work / "a.mp4", 2)
    content = bytearray(film.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    film.write_bytes(content)
    with av.open(str(film)) as container:
        upright = next(container.decode(video=0)).to_ndarray(format="rgb24")
    rows, columns = np.mgrid[: upright.shape[0], : upright.shape[1]]
    x, y = matrix[0] * columns + matrix[2] * rows, matrix[1] * columns + matrix[3] * rows
    turned = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1, 3), np.uint8)
    turned[y - y.min(), x - x.min()] = upright
    assert restore(film, "--out", work / "b.png", "--max-frames", 1).code == 0
    assert np.array_equal(load(work / "b.png"), network.run(turned).image)


def test_what_a_killed_run_recorded_is_found_at_the_next_start(work, bundle, restore):
    with http_camera() as camera:
        camera.frames, camera.between_s = 10_000, 0.02
        run = subprocess.Popen(
            command(bundle, f"{camera.address}/s.mjpg", "--out", work / "b.mp4"), cwd=ROOT, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 120
        while not any(path.stat().st_size > 15_000 for path in work.glob(".b.*.mp4")):
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        run.kill()
        run.wait()
        camera.frames = 3
        found = restore(f"{camera.address}/s.mjpg", "--out", work / "b.mp4", "--max-frames", "2", "--drop", "none")
    assert found.code == 0 and f"{work / 'b.recovered.mp4'} is what an earlier run had recorded" in found.err
    assert names(work) == ["b.mp4", "b.recovered.mp4"]
    assert len(load_video(work / "b.recovered.mp4")[0]) > 5


def test_an_endless_recording_is_cut_into_files_of_which_the_newest_stay(work, restore):
    film = a_film(work / "a.mp4", 50)
    run = restore(film, "--out", work / "c.mp4", "--segment", "1", "--keep", "2")
    assert run.code == 0 and "2 segments" in run.out and "(20 frames; 3 before them removed)" in run.out
    kept = [name for name in names(work) if name != "a.mp4"]
    assert len(kept) == 2 and all(name.startswith("c_2") and name.endswith(".mp4") for name in kept)
    shown = [number_of(frame) for name in kept for frame in load_video(work / name)[0]]
    assert len(shown) == 20
    assert all(abs(frame_times(work / name)[0]) < 1e-3 and len(sound_of(work / name)) > 30 for name in kept)


def test_files_of_one_second_are_in_order_too(work):
    later = "c_20261125T230101Z.mp4"
    in_order = [*(f"c_20261125T230100Z{number}.mp4" for number in ("", "-002", "-010", "-1000")), later]
    for name in (*in_order, "c.mp4", "c_20261125T230100Z.mkv", "d_20261125T230100Z.mp4"):
        (work / name).touch()
    assert [path.name for path in segments(work / "c.mp4")] == in_order


# --- nothing of this is imported when a picture is restored ---------------------------------------------------------


def test_a_picture_is_restored_without_what_cameras_and_videos_need(work, bundle):
    store(work / "a.png", picture())
    program = (
        "import sys\nfrom edge import cli\n"
        "assert cli.main(['--task', 'denoise', '--bundle', *sys.argv[1:]]) == 0\n"
        "unwanted = ('av', 'aiohttp', 'tomllib', 'edge.pyav', 'edge.view', 'edge.sources.capture',"
        " 'edge.sources.stream',"
        " 'edge.sources.v4l2', 'edge.sinks.video', 'urllib.request')\n"
        "print([name for name in unwanted if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, bundle, work / "a.png", "--out", work / "b.png"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done


def test_the_last_words_of_a_command_that_fails_at_once_are_said(restore):
    run = restore("exec:sh -c 'echo no such lens >&2; exit 3'", "--format", "mjpeg", "--task", "denoise")
    assert run.code == 2 and "ended with exit code 3 (no such lens) after 0 frames" in run.err
