"""The command on videos and streams: what comes out, what is computed again, and what an early end leaves."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edge.sinks.video import VideoFile
from edge.sources.record import Facts, Frame
from tests.edge.files import (
    assert_refused,
    frame_times,
    load,
    load_video,
    names,
    picture,
    store,
    store_frames,
    store_video,
)
from tests.edge.formats import smooth


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov"])
def test_a_video_is_restored_without_loss_at_its_frame_rate(work, restore, network, suffix):
    frames = store_video(work / "a.mkv", fps=29.97)
    run = restore(work / "a.mkv", "--out", work / f"b{suffix}")
    assert run.code == 0, run
    restored, fps = load_video(work / f"b{suffix}")
    assert fps == pytest.approx(29.97)
    assert len(restored) == len(frames)
    for before, after in zip(frames, restored, strict=True):
        assert np.array_equal(after, network.run(before).image)
    assert names(work) == sorted(["a.mkv", f"b{suffix}"])
    assert "12 frames" in run.out


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("between_s", [3600, 50_000])
def test_frames_may_be_hours_apart(work, restore, between_s, suffix):
    with av.open(str(work / "lapse.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(1, between_s))
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(picture(seed=number), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = number, Fraction(between_s)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    out = work / f"restored{suffix}"
    run = restore(work / "lapse.mkv", "--out", out)
    assert run.code == 0 and len(load_video(out)[0]) == 3
    if (between_s, suffix) != (50_000, ".mp4"):  # which counts the ticks of a frame in 32 bits
        assert frame_times(out) == pytest.approx([0, between_s, 2 * between_s], abs=0.01)


def a_square_that_moves(count: int = 6) -> list[np.ndarray]:
    """Frames [160, 224, 3] that differ where the square is."""
    frames = [picture(160, 224) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[40:52, 10 * i : 10 * i + 12] = 255
    return frames


def test_of_a_video_only_what_changes_is_computed_and_the_result_is_the_same(work, restore, network):
    frames = a_square_that_moves()
    source = store_frames(work / "a.mkv", frames)
    run = restore(source, "--out", work / "b.mkv", "--stats", work / "s.json")
    assert run.code == 0, run
    for before, after in zip(frames, load_video(work / "b.mkv")[0], strict=True):
        assert np.array_equal(after, network.run(before).image)
    share = json.loads((work / "s.json").read_text())["recomputed"]
    assert 1 / 6 < share < 1 / 2
    assert restore(source, "--tile", network.min_tile, "--stats", work / "t.json", "--max-frames", "2").code == 0
    assert json.loads((work / "t.json").read_text())["recomputed"] == 1


@pytest.mark.parametrize("tile", [(), ("--tile", "64")], ids=["state", "tiles"])
def test_with_still_noise_of_the_sensor_counts_as_unchanged(work, restore, network, tile):
    frames = a_square_that_moves()
    noise = np.random.RandomState(0)
    noisy = [np.clip(f + noise.randint(-2, 3, f.shape), 0, 255).astype(np.uint8) for f in frames]
    source = store_frames(work / "a.mkv", noisy)
    used = noisy[0]
    assert restore(source, "--still", "4", "--out", work / "b.mkv", "--stats", work / "s.json", *tile).code == 0
    for frame, after in zip(noisy, load_video(work / "b.mkv")[0], strict=True):
        moved = (np.abs(frame.astype(int) - used) > 4).any(2)
        used = np.where(moved[..., None], frame, used)
        assert np.array_equal(after, network.run(used).image)
    share = json.loads((work / "s.json").read_text())["recomputed"]
    assert share == 1 if tile else share < 1 / 2


def test_still_of_pictures_that_are_restored_one_by_one_is_refused(work, restore):
    store(work / "a.png", picture())
    for source in (work / "a.png", work, "sample"):
        assert_refused(restore(source, "--still", "0", "--out", work / "b.png"), "--still", "leave it out")
    assert names(work) == ["a.png"]


def test_a_lossy_video_format_is_written_and_called_lossy(work, restore):
    frames = store_video(work / "a.mkv")
    run = restore(work / "a.mkv", "--out", work / "b.mp4")
    assert run.code == 0
    assert len(load_video(work / "b.mp4")[0]) == len(frames)
    assert "lossy" in run.err


def test_a_video_goes_into_a_folder_frame_by_frame(work, restore, network):
    frames = store_video(work / "a.mkv")
    assert restore(work / "a.mkv", "--out", work / "frames", "--max-frames", 3).code == 0
    assert names(work / "frames") == ["frame_000001.png", "frame_000002.png", "frame_000003.png"]
    assert np.array_equal(load(work / "frames" / "frame_000003.png"), network.run(frames[2]).image)


def test_one_frame_of_a_video_goes_into_an_image(work, restore, network):
    frames = store_video(work / "a.mkv")
    assert restore(work / "a.mkv", "--out", work / "b.png", "--max-frames", 1).code == 0
    assert np.array_equal(load(work / "b.png"), network.run(frames[0]).image)


def test_frames_of_odd_size_repeat_their_last_row_in_a_video_instead_of_losing_it(work):
    sink = VideoFile(work / "b.mp4", Facts(10.0))
    for seed in range(3):
        frame = smooth(3, seed)[:23, :31]
        sink.write(Frame("a frame", frame), frame)
    assert sink.finish() == f"{work / 'b.mp4'} (3 frames)"
    restored, fps = load_video(work / "b.mp4")
    assert fps == 10.0 and len(restored) == 3
    for seed, after in enumerate(restored):
        before = np.pad(smooth(3, seed)[:23, :31], ((0, 1), (0, 1), (0, 0)), "edge")
        assert np.abs(after.astype(int) - before).mean() < 4
    assert any("repeated" in note for note in sink.notes)


@pytest.mark.parametrize("installed", [True, False], ids=["PyAV", "OpenCV"])
def test_frames_of_odd_size_lose_nothing_without_loss(work, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr("edge.pyav.library", lambda: None)
    frames = [picture(25, 33, seed=seed) for seed in range(3)]
    sink = VideoFile(work / "b.mkv", Facts(10.0))
    for frame in frames:
        sink.write(Frame("a frame", frame), frame)
    assert sink.finish() == f"{work / 'b.mkv'} (3 frames)"
    with av.open(str(work / "b.mkv")) as container:
        restored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for before, after in zip(frames, restored, strict=True):
        assert np.array_equal(after[:25, :33], before)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_video_that_ends_early_keeps_what_was_decoded_and_ends_with_2(work, restore, network, part):
    frames = store_video(work / "a.mkv", count=20)
    whole = (work / "a.mkv").read_bytes()
    (work / "a.mkv").write_bytes(whole[: int(len(whole) * part)])
    run = restore(work / "a.mkv", "--out", work / "b.mkv")
    assert run.code == 2
    assert len(run.err.splitlines()) == 1 and "ends early" in run.err and "of 20 announced frames" in run.err
    restored, _ = load_video(work / "b.mkv")
    assert 0 < len(restored) < 20
    for before, after in zip(frames, restored, strict=False):
        assert np.array_equal(after, network.run(before).image)
    assert names(work) == ["a.mkv", "b.mkv"]


def test_a_video_cut_inside_its_first_frame_leaves_nothing(work, restore):
    store_video(work / "a.mkv", size=(320, 240))
    (work / "a.mkv").write_bytes((work / "a.mkv").read_bytes()[:5000])
    assert_refused(restore(work / "a.mkv", "--out", work / "b.mkv"), "no frame that can be decoded")
    assert names(work) == ["a.mkv"]


def test_a_video_without_a_suffix_is_recognised(work, restore):
    store_video(work / "a.mkv", count=2)
    (work / "a.mkv").rename(work / "a")
    assert restore(work / "a", "--out", work / "b.mkv").code == 0
    assert len(load_video(work / "b.mkv")[0]) == 2


def test_a_stream_over_http_is_restored(work, restore):
    frames = [cv2.GaussianBlur(picture(48, 64, seed=seed), (0, 0), 3) for seed in range(5)]

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            with contextlib.suppress(OSError):  # the command leaves when it has enough
                for number in range(200):
                    _, jpeg = cv2.imencode(".jpg", frames[number % 5])
                    self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n")
                    self.wfile.write(b"Content-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg.tobytes()))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        run = restore(f"http://127.0.0.1:{server.server_port}/s.mjpg", "--out", work / "b.mkv", "--max-frames", 4)
        server.shutdown()
    assert run.code == 0, run
    restored, _ = load_video(work / "b.mkv")
    assert len(restored) == 4 and restored[0].shape == (48, 64, 3)


# --- by several processes ---------------------------------------------------------------------------------------------


def store_with_key_frames(path: Path, count: int = 90, fps: int = 12, begin: int = 0) -> None:
    """H.264 with B frames, a key frame every two seconds and uneven times from `begin` ms on, and a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        video.options = {"g": str(2 * fps), "bf": "2", "x264-params": "open-gop=1:scenecut=0"}
        sound = container.add_stream("aac", rate=8000)
        resampled = np.sin(np.arange(count * 8000 // fps) / 5).astype(np.float32)[None]
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(32, 48, seed=number // 4), format="rgb24")
            frame.pts, frame.time_base = begin + number * 1000 // fps + number % 3, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for first in range(0, resampled.shape[1] - 1023, 1024):
            piece = av.AudioFrame.from_ndarray(resampled[:, first : first + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = 8000, first, Fraction(1, 8000)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        return [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(audio=0) if packet.size
        ]


def test_a_video_in_parts_gives_the_same_frames_times_and_sound(work, restore):
    store_with_key_frames(work / "clip.mp4")
    one = restore(work / "clip.mp4", "--out", work / "one.mkv", "--stats", work / "one.json")
    two = restore(work / "clip.mp4", "--out", work / "two.mkv", "--stats", work / "two.json", "--jobs", 2)
    assert one.code == two.code == 0, (one, two)
    assert "(90 frames)" in two.out
    whole, parts = load_video(work / "one.mkv"), load_video(work / "two.mkv")
    assert len(whole[0]) == len(parts[0]) == 90
    assert all(np.array_equal(a, b) for a, b in zip(whole[0], parts[0], strict=True))
    assert frame_times(work / "one.mkv") == frame_times(work / "two.mkv")
    assert sound_of(work / "one.mkv") == sound_of(work / "two.mkv") != []
    first, second = (json.loads((work / name).read_text()) for name in ("one.json", "two.json"))
    assert first["totals"] == second["totals"]


def test_frames_behind_key_frames_that_are_hard_to_find_are_not_lost(work, restore):
    """MPEG-TS has no index, and the way to a time ends where packets of that time lie, behind the key frame."""
    store_with_key_frames(work / "clip.ts")
    for name, jobs in (("one.mkv", ()), ("two.mkv", ("--jobs", 2))):
        assert restore(work / "clip.ts", "--out", work / name, *jobs).code == 0
    whole, parts = load_video(work / "one.mkv")[0], load_video(work / "two.mkv")[0]
    assert len(whole) == 90 and all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_video_that_begins_after_its_sound_or_ends_before_it_is_whole(work, restore):
    store_with_key_frames(work / "clip.mkv", begin=1700)
    run = restore(work / "clip.mkv", "--out", work / "out.mkv")
    assert run.code == 0 and "ends early" not in run.err, run
    assert len(load_video(work / "out.mkv")[0]) == 90


def test_a_video_that_cannot_be_cut_is_restored_in_one_piece(work, restore):
    store_video(work / "clip.avi", count=3)
    run = restore(work / "clip.avi", "--out", work / "out.mkv", "--jobs", 2)
    assert run.code == 0 and "in one piece" in run.err
    assert_refused(restore(work / "clip.avi", "--jobs", 2, "--still", 3), "leave it or --jobs out")
