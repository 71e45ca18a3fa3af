"""Films as people have them: sound that goes on behind the pictures, subtitles, codecs that nobody knows, noise."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from edge.errors import UserError
from edge.sinks.video import VideoFile
from edge.sources.bytewise import Jpegs
from edge.sources.record import BrokenFrameError, Facts, Frame
from tests.edge.files import load_video, mux_tone
from tests.edge.servers import free_port, jpeg, number_of, numbered

FRAMES, FPS = 20, 10


def a_film(path: Path, sound_s: float = FRAMES / FPS, subtitles: bool = False) -> Path:
    """H.264 with so many seconds of AAC."""
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.metadata["NUMBER_OF_FRAMES-eng"] = "1"  # as mkvmerge writes it
        audio = film.add_stream("aac", rate=48000, layout="mono")
        if subtitles:
            film.add_attachment("letters.ttf", "font/ttf", b"what subtitles are shown with")
        for number in range(FRAMES):
            film.mux(video.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        mux_tone(film, audio, int(48000 * sound_s))
        film.mux([*video.encode(None), *audio.encode(None)])
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".ts", ".mp4"])
def test_a_film_whose_sound_goes_on_longer_is_whole(work, restore, suffix):
    run = restore(a_film(work / f"a{suffix}", sound_s=3.0), "--out", work / "b.mkv")
    assert (run.code, run.err) == (0, "") and len(load_video(work / "b.mkv")[0]) == FRAMES


def test_a_film_with_sound_that_is_cut_off_is_said_to_end_early(work, restore):
    whole = a_film(work / "a.mkv", sound_s=3.0).read_bytes()
    (work / "a.mkv").write_bytes(whole[: len(whole) // 3])
    run = restore(work / "a.mkv", "--out", work / "b.mkv")
    assert run.code == 2 and f"of {FRAMES} announced frames" in run.err


def test_streams_that_are_neither_pictures_nor_sound_are_left_out_with_a_word(work, restore):
    run = restore(a_film(work / "a.mkv", subtitles=True), "--out", work / "b.mkv")
    assert run.code == 0 and "left out of its streams: 1 of attachments." in run.err


def test_what_the_file_said_of_itself_is_no_title_of_the_new_one(work, restore):
    restore(a_film(work / "a.mkv"), "--out", work / "b.mkv")
    with av.open(str(work / "b.mkv")) as film:
        assert {name.lower() for name in film.metadata} == {"encoder"}


@pytest.mark.parametrize("out", ["b.avi", "server"])
def test_sound_that_does_not_go_along_is_said(work, restore, out):
    target = f"rtsp://127.0.0.1:{free_port()}/a" if out == "server" else str(work / out)
    run = restore(a_film(work / "a.mp4"), "--out", target)
    assert ("sound is not pushed" if out == "server" else "does not go into .avi") in run.err


def test_sound_of_a_codec_that_nobody_knows_is_left_out_with_a_word(work, restore):
    content = a_film(work / "a.mp4").read_bytes()
    (work / "a.mp4").write_bytes(content.replace(b"mp4a", b"apac").replace(b"esds", b"dapa"))
    run = restore(work / "a.mp4", "--out", work / "b.mp4")
    assert run.code == 0 and "something unknown does not go into .mp4 and is left out.\n" in run.err
    assert len(load_video(work / "b.mp4")[0]) == FRAMES


@pytest.mark.parametrize("kind", ["h264", "matroska"])
def test_a_command_s_first_pictures_are_restored_too(work, restore, kind):
    with av.open(str(work / "a"), "w", format=kind) as film:
        video = film.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            film.mux(video.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        film.mux(video.encode(None))
    run = restore(f"exec:cat {work}/a", "--drop", "none", "--out", work / "b.mkv")
    assert run.code == 0 and len(load_video(work / "b.mkv")[0]) == FRAMES


def noisy(seed: int) -> bytes:
    """Fifty JPEGs in a row, in the middle of which a kilobyte is noise."""
    random = np.random.RandomState(seed)
    film = bytearray(b"".join(jpeg(number) for number in range(50)))
    at = random.randint(10_000, len(film) - 10_000)
    film[at : at + 1000] = random.bytes(1000)
    return bytes(film)


def test_noise_in_jpegs_in_a_row_costs_the_pictures_that_it_hits_and_no_others():
    lost = []
    for seed in range(100):
        film = io.BytesIO(noisy(seed))
        reader, found = Jpegs(film.read, film.close, live=False), []
        while True:
            try:
                if (taken := reader.read()) is None:
                    break
                found.append(number_of(taken.pixels))
            except BrokenFrameError:
                pass
        lost.append(len(set(range(50)) - set(found)))
    assert max(lost) <= 1000 // len(jpeg(0)) + 2, lost


def test_noise_in_a_file_of_jpegs_is_said_and_what_follows_is_restored(work, restore):
    (work / "a.mjpeg").write_bytes(noisy(0))
    run = restore(work / "a.mjpeg", "--out", work / "b.mkv")
    assert run.code == 2 and "cannot be decoded" in run.err
    assert [number_of(frame) for frame in load_video(work / "b.mkv")[0]][-10:] == list(range(40, 50))


def test_that_the_last_jpeg_of_a_row_is_cut_off_is_said(work, restore):
    (work / "a.mjpeg").write_bytes(b"".join(jpeg(number) for number in range(5))[:-50])
    run = restore(work / "a.mjpeg", "--out", work / "b.mkv")
    assert run.code == 2 and "frame 5 of" in run.err and "is left out" in run.err
    assert len(load_video(work / "b.mkv")[0]) == 4


def test_jpegs_in_a_row_are_the_same_in_parts(work, restore):
    (work / "a.mjpeg").write_bytes(noisy(0))
    assert restore(work / "a.mjpeg", "--out", work / "b.mkv", "--jobs", "2").code == 2
    restore(work / "a.mjpeg", "--out", work / "c.mkv")
    assert np.array_equal(load_video(work / "b.mkv")[0], load_video(work / "c.mkv")[0])


def test_pictures_that_are_too_large_for_h264_are_one_sentence(work):
    sink = VideoFile(work / "b.mp4", Facts(10.0))
    pixels = np.zeros((2, 20_000, 3), np.uint8)
    with pytest.raises(UserError, match="H.264 holds 16384 pixels a side at most, not 20000x2; .mkv holds more"):
        sink.write(Frame("x", pixels), pixels)
