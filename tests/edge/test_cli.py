"""The command on real files: what it restores, what it leaves behind, what it says, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import simulator
from edge import cli, shipped
from tests.edge.files import Run, assert_refused, load, load_video, names, picture, store, store_video

ROOT = Path(__file__).parents[2]


# --- what comes out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_is_restored_with_its_channels(work, restore, network, channels):
    pixels = picture(channels=channels)
    source = store(work / "a.png", pixels)
    run = restore(source, "--out", work / "b.png")
    assert run.code == 0, run
    assert np.array_equal(load(work / "b.png"), network.run(pixels).image)
    assert names(work) == ["a.png", "b.png"]
    assert run.err == ""


def test_the_summary_says_frames_latency_spike_rate_and_estimated_energy(work, restore):
    run = restore(store(work / "a.png", picture()), "--out", work / "b.png")
    summary, written = run.out.splitlines()
    for word in ("denoise (", "): 1 frame,", "ms median", "ms p95", "spike rate", "energy", "estimated"):
        assert word in summary
    assert written == f"wrote {work / 'b.png'}"


def test_without_out_nothing_is_stored_and_that_is_said(work, restore):
    run = restore(store(work / "a.png", picture()))
    assert run.code == 0
    assert "nothing was stored: give --out" in run.out
    assert names(work) == ["a.png"]


def test_the_sample_is_restored_and_measured_against_its_clean_picture(work, restore):
    run = restore("sample", "--out", work / "b.png")
    assert run.code == 0
    assert load(work / "b.png").shape == (321, 481, 3)
    assert "PSNR 20.81 dB before" in run.out


def test_the_shipped_bundle_makes_the_sample_better(capfd):
    assert cli.main(["sample", "--task", "denoise"]) == 0
    before, after = map(float, re.findall(r"([\d.]+) dB", capfd.readouterr().out))
    assert after > before + 6


@pytest.mark.parametrize("task", [task for task in cli.TASKS if task != "auto"])
def test_every_task_has_a_bundle_that_makes_its_own_sample_better(task, capfd):
    assert cli.main(["sample", "--task", task]) == 0
    before, after = map(float, re.findall(r"([\d.]+) dB", capfd.readouterr().out))
    assert before < 37 and after > before  # each sample is degraded as its task asks


def test_missing_output_folders_are_made(work, restore):
    assert restore(store(work / "a.png", picture()), "--out", work / "x" / "y" / "b.png").code == 0
    assert names(work / "x") == ["y", "y/b.png"]


def test_an_existing_output_is_replaced_also_through_a_link(work, restore, network):
    pixels = picture()
    source = store(work / "a.png", pixels)
    (work / "old.png").write_bytes(b"old")
    (work / "link.png").symlink_to("old.png")
    assert restore(source, "--out", work / "link.png").code == 0
    assert (work / "link.png").is_symlink()
    assert np.array_equal(load(work / "old.png"), network.run(pixels).image)


def test_side_by_side_stores_the_picture_as_it_came_and_restored(work, restore, network):
    pixels = picture(24, 33)
    assert restore(store(work / "a.png", pixels), "--out", work / "b.png", "--side-by-side").code == 0
    both = load(work / "b.png")
    assert np.array_equal(both[:, :33], pixels)
    assert np.array_equal(both[:, 33:], network.run(pixels).image)


def test_statistics_are_stored_as_json(work, restore, network):
    run = restore(store(work / "a.png", picture()), "--stats", work / "s.json")
    assert run.code == 0
    figures = json.loads((work / "s.json").read_text())
    contract = {"task", "bundle", "backend", "T", "frames", "latency_ms", "layers", "totals", "energy", "power"}
    assert contract <= set(figures)
    assert figures["frames"] == 1
    assert figures["power"] is None and figures["power_reason"] == "no power sensor was found"
    assert figures["bundle"] == network.bundle_hash
    assert names(work) == ["a.png", "s.json"]


def test_a_jpeg_with_exif_orientation_is_restored_upright(work, restore):
    pixels = np.zeros((16, 32, 3), np.uint8)
    _, jpeg = cv2.imencode(".jpg", pixels)
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (work / "a.jpg").write_bytes(jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:])
    assert restore(work / "a.jpg", "--out", work / "b.png").code == 0
    assert load(work / "b.png").shape == (32, 16, 3)


def test_a_reader_that_has_gone_is_no_error(work, bundle):
    store(work / "a.png", picture())
    command = [sys.executable, "-m", "edge.cli", work / "a.png", "--task", "denoise", "--bundle", bundle]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*command, "--out", work / "b.png"], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=300
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert names(work) == ["a.png", "b.png"]


def test_more_threads_than_processors_are_not_started(work, restore):
    assert restore(store(work / "a.png", picture()), "--threads", 10**9).code == 0


# --- folders and patterns -------------------------------------------------------------------------------------------


def test_the_images_of_a_folder_keep_their_names(work, restore, network):
    photos = work / "photos"
    photos.mkdir()
    pixels = {name: picture(seed=seed) for seed, name in enumerate(["a.png", "b.bmp", "c.tif"])}
    for name, image in pixels.items():
        store(photos / name, image)
    (photos / "notes.txt").write_text("not an image")
    store(photos / ".hidden.png", picture())
    run = restore(photos, "--out", work / "out")
    assert run.code == 0, run
    assert names(work / "out") == ["a.png", "b.bmp", "c.tif"]
    for name, image in pixels.items():
        assert np.array_equal(load(work / "out" / name), network.run(image).image)
    assert "3 frames" in run.out and "wrote 3 images in" in run.out


def test_pictures_whose_names_differ_only_in_the_suffix_lose_nothing(work, restore):
    photos = work / "photos"
    photos.mkdir()
    for seed, name in enumerate(["a.png", "a.jpg", "a.gif", "a.gif.png"]):
        store(photos / name, picture(seed=seed))
    assert restore(photos, "--out", work / "out").code == 0
    assert names(work / "out") == ["a.gif.png", "a.gif.png.png", "a.jpg", "a.png"]


def test_a_pattern_keeps_the_folders_below_the_common_one(work, restore):
    for name in ("x", "y"):
        (work / name).mkdir()
        store(work / name / "a.png", picture())
    assert restore(work / "*" / "a.png", "--out", work / "out").code == 0
    assert names(work / "out") == ["x", "x/a.png", "y", "y/a.png"]


def test_max_frames_limits_a_folder(work, restore):
    for name in ("a.png", "b.png", "c.png"):
        store(work / name, picture())
    assert restore(work, "--out", work / "out", "--max-frames", 2).code == 0
    assert names(work / "out") == ["a.png", "b.png"]


def test_one_bad_image_in_a_folder_is_named_the_others_are_restored_and_the_code_is_1(work, restore):
    photos = work / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        store(photos / name, picture(100, 100))
    whole = (photos / "b.png").read_bytes()
    (photos / "b.png").write_bytes(whole[: len(whole) // 2])
    run = restore(photos, "--out", work / "out", "--stats", work / "s.json")
    assert run.code == 1
    assert names(work / "out") == ["a.png", "c.png"]
    assert len(run.err.splitlines()) == 1 and str(photos / "b.png") in run.err
    assert json.loads((work / "s.json").read_text())["frames"] == 2


def test_a_folder_with_nothing_but_bad_images_leaves_nothing_and_ends_with_2(work, restore):
    photos = work / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        (photos / name).write_bytes(b"nothing")
    run = restore(photos, "--out", work / "out", "--stats", work / "s.json")
    assert run.code == 2
    assert len(run.err.splitlines()) == 2
    assert names(work) == ["photos", "photos/a.png", "photos/b.png"]


# --- how far it is --------------------------------------------------------------------------------------------------


def test_progress_is_plain_lines_where_there_is_no_terminal(work, restore, monkeypatch):
    monkeypatch.setattr("edge.pipeline.Progress.SECONDS_BETWEEN_LINES", 0.0)
    for name in ("a.png", "b.png"):
        store(work / name, picture())
    run = restore(work)
    assert run.err.splitlines() == ["edge-restore: 1 of 2 frames", "edge-restore: 2 of 2 frames"]


def test_progress_is_a_bar_on_a_terminal(work, bundle):
    for name in ("a.png", "b.png"):
        store(work / name, picture())
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a bar needs a width
    command = [sys.executable, "-m", "edge.cli", work, "--task", "denoise", "--bundle", bundle]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=end, timeout=300)
    os.set_blocking(terminal, False)
    shown = os.read(terminal, 1 << 16)
    os.close(end)
    os.close(terminal)
    assert done.returncode == 0
    assert b"0/2" in shown and b"frame" in shown


# --- bad input: one sentence, exit code 2, nothing half-written -----------------------------------------------------


def test_a_missing_source(work, restore):
    assert_refused(restore(work / "a.png", "--out", work / "b.png"), "a.png does not exist", "SOURCE can be")
    assert names(work) == []


def test_an_image_cut_short(work, restore):
    path = store(work / "a.png", picture(100, 100))
    path.write_bytes(path.read_bytes()[:5000])
    assert_refused(restore(path, "--out", work / "b.png"), "a.png", "cut short")
    assert names(work) == ["a.png"]


def test_a_file_that_is_neither_image_nor_video(work, restore):
    (work / "a.txt").write_text("hello")
    assert_refused(restore(work / "a.txt"), "neither an image nor a video")


def test_a_pipe_is_not_waited_for(work, restore):
    os.mkfifo(work / "pipe")
    assert_refused(restore(work / "pipe"), "neither a file nor a folder")


def test_a_folder_without_images(work, restore):
    (work / "notes.txt").write_text("hello")
    assert_refused(restore(work), "holds no images")


@pytest.mark.parametrize("pattern", ["*.png", "*", "**/*.jpg"])
def test_a_pattern_without_images(work, restore, pattern):
    (work / "notes.txt").write_text("hello")
    assert_refused(restore(work / pattern), "matches", "image files")


@pytest.mark.skipif(Path("/dev/video77").exists(), reason="there is such a camera")
@pytest.mark.parametrize("name", ["camera77", "/dev/video77"])
def test_a_camera_that_is_not_there(restore, name):
    assert_refused(restore(name), "camera77", "is not there")


def test_a_stream_that_does_not_answer_is_named_without_its_password(restore):
    run = restore("http://user:secret@127.0.0.1:9/stream.mjpg")
    assert_refused(run, "http://127.0.0.1:9/...")
    assert "secret" not in run.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--task", "colourise"], "colourise"),
        (["--tile", "0"], "--tile"),
        (["--still", "-1"], "--still"),
        (["--still", "256"], "--still"),
        (["--still", "2.5"], "--still"),
        (["--tile", "-5"], "--tile"),
        (["--threads", "0"], "--threads"),
        (["--threads", "two"], "two"),
        (["--max-frames", "0"], "--max-frames"),
        (["--max-frames", "1.5"], "1.5"),
        (["--colour"], "--colour"),
    ],
)
def test_arguments_that_make_no_sense(restore, options, word):
    assert_refused(restore("sample", *options), word, "see edge-restore --help")


def test_a_missing_task_is_asked_for(capfd):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sample"])
    assert stop.value.code == 2
    assert "--task" in capfd.readouterr().err


def test_a_tile_that_is_too_small(work, restore, network):
    run = restore("sample", "--tile", network.min_tile - 1, "--out", work / "b.png")
    assert_refused(run, "--tile", f"at least {network.min_tile}")
    assert names(work) == []


def test_a_task_without_a_shipped_bundle(tmp_path, monkeypatch, capfd):
    (tmp_path / "derain.safetensors").touch()
    monkeypatch.setattr(shipped, "BUNDLES", tmp_path)
    code = cli.main(["sample", "--task", "defocus"])
    out, err = capfd.readouterr()
    assert_refused(Run(code, out, err), "no bundle ships for defocus", "derain", "--bundle")


def test_a_bundle_for_another_task(restore):
    assert_refused(restore("sample", "--task", "derain"), "is for denoise, not derain")


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("b.gif", [".gif cannot be written", ".png"]),
        ("b.mkv", ["is a video, but the source is no video"]),
        ("a.png", ["would be overwritten"]),
        ("link.png", ["would be overwritten"]),
        ("a.png/b.png", ["is not a folder"]),
        ("pipe.png", ["not an ordinary file"]),
    ],
)
def test_an_output_that_is_impossible_is_refused_before_anything_is_restored(work, restore, monkeypatch, out, words):
    store(work / "a.png", picture())
    (work / "link.png").symlink_to("a.png")
    os.mkfifo(work / "pipe.png")
    before = names(work), (work / "a.png").read_bytes()
    monkeypatch.setattr("simulator.load", None)  # calling it would fail
    assert_refused(restore(work / "a.png", "--out", work / out), *words)
    assert (names(work), (work / "a.png").read_bytes()) == before


def test_a_folder_is_not_restored_onto_itself(work, restore):
    store(work / "a.png", picture())
    assert_refused(restore(work, "--out", work), "would be overwritten")


def test_a_video_is_not_restored_onto_itself(work, restore):
    store_video(work / "a.mkv")
    assert_refused(restore(work / "a.mkv", "--out", work / "a.mkv"), "would be overwritten")


def test_the_bundle_is_not_overwritten_by_the_statistics(restore, bundle):
    before = bundle.read_bytes()
    assert_refused(restore("sample", "--stats", bundle), "would be overwritten")
    assert bundle.read_bytes() == before


def test_statistics_and_output_need_two_names(work, restore):
    assert_refused(restore("sample", "--out", work / "b.png", "--stats", work / "b.png"), "different names")


def test_several_images_do_not_go_into_one(work, restore):
    for name in ("a.png", "b.png"):
        store(work / name, picture())
    assert_refused(restore(work, "--out", work / "c.png"), "2 pictures", "a folder")


def test_a_video_does_not_go_into_an_image(work, restore):
    store_video(work / "a.mkv")
    assert_refused(restore(work / "a.mkv", "--out", work / "c.png"), "a folder or a video", "--max-frames 1")


def test_an_output_that_may_not_be_written(restore):
    run = restore("sample", "--out", "/proc/b.png")
    assert run.code == 2 and len(run.err.splitlines()) == 1 and "/proc/b.png cannot be written" in run.err


@pytest.mark.parametrize("out", ["b.png", "out", "b.mkv"])
def test_no_space_for_the_output_leaves_nothing_half_written(work, bundle, out):
    store_video(work / "a.mkv", size=(320, 240))
    # The limit on the size of a file stands for the full disk: the same write fails, without a disk to fill. It is set
    # when the kernels have been compiled, because their cache is files, too.
    code = (
        "import resource, sys, numpy, simulator\n"
        "from edge.cli import main\n"
        "simulator.load(sys.argv[1]).run(numpy.zeros((8, 8, 3), numpy.uint8))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "sys.exit(main(['--task', 'denoise', '--bundle', *sys.argv[1:]]))"
    )
    options = [bundle, work / "a.mkv", "--out", work / out]
    if out == "b.png":
        options += ["--max-frames", "1"]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 2, done
    said = [line for line in done.stderr.splitlines() if " of 12 frames" not in line]  # how far a slow machine is
    assert len(said) == 1 and out in said[0] and "Traceback" not in done.stderr
    assert [path for path in work.rglob("*") if path.is_file()] == [work / "a.mkv"]


def test_a_nearly_full_disk_ends_a_video_while_it_can_still_be_closed(work, restore, monkeypatch):
    store_video(work / "a.mkv")
    free = iter([10**9] * 5 + [10_000] * 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=next(free)))
    run = restore(work / "a.mkv", "--out", work / "b.mkv")
    assert run.code == 2 and len(run.err.splitlines()) == 1 and "is full" in run.err
    assert len(load_video(work / "b.mkv")[0]) == 5
    assert names(work) == ["a.mkv", "b.mkv"]


def test_a_shipped_bundle_goes_by_its_name_unless_a_file_is_called_so(work, restore, monkeypatch):
    monkeypatch.chdir(work)
    assert restore("sample", "--bundle", "denoise-lean", "--stats", work / "s.json").code == 0
    assert simulator.load(shipped.BUNDLES / "denoise-lean.safetensors").bundle_hash in (work / "s.json").read_text()
    (work / "denoise-lean").write_bytes(b"no bundle")
    assert_refused(restore("sample", "--bundle", "denoise-lean", "--out", work / "b.png"), "denoise-lean")


def test_a_missing_bundle(work, restore):
    assert_refused(restore("sample", "--bundle", work / "x.safetensors", "--out", work / "b.png"), "x.safetensors")
    assert names(work) == []


@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.99])
def test_a_bundle_cut_short(work, restore, bundle, part):
    whole = bundle.read_bytes()
    cut = work / "cut.safetensors"
    cut.write_bytes(whole[: int(len(whole) * part)])
    assert_refused(restore("sample", "--bundle", cut, "--out", work / "b.png"), "cut.safetensors")
    assert names(work) == ["cut.safetensors"]


def test_a_damaged_bundle(work, restore, bundle):
    content = bytearray(bundle.read_bytes())
    content[-10] ^= 1
    (work / "x.safetensors").write_bytes(content)
    assert_refused(restore("sample", "--bundle", work / "x.safetensors"), "x.safetensors")


def test_an_oversized_bundle(work, restore):
    with open(work / "x.safetensors", "wb") as file:
        file.truncate(1 << 34)
    assert_refused(restore("sample", "--bundle", work / "x.safetensors"), "x.safetensors")


# --- stopping it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_closes_its_video_and_keeps_what_is_done(work, bundle, number):
    store_video(work / "a.mkv", count=200, size=(192, 128))
    options = ["--task", "denoise", "--bundle", bundle, "--out", work / "b.mkv", "--stats", work / "s.json"]
    run = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", work / "a.mkv", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT may be ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size > 200_000 for path in work.glob(".b.*.mkv")):
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()
        time.sleep(0.02)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, (out, err)
    assert "Traceback" not in err
    restored, _ = load_video(work / "b.mkv")
    assert 0 < len(restored) < 200
    assert json.loads((work / "s.json").read_text())["frames"] == len(restored)
    assert names(work) == ["a.mkv", "b.mkv", "s.json"]


def test_a_run_stopped_before_its_first_picture_leaves_nothing(work, restore, monkeypatch):
    def stop(path, threads=None):
        raise KeyboardInterrupt

    monkeypatch.setattr("simulator.load", stop)
    assert restore("sample", "--out", work / "b.png").code == 130
    assert names(work) == []


def test_a_name_that_is_no_network_is_a_sentence(restore):
    assert_refused(restore("sample", "--bundle", "denoise-window"), "denoise-window is neither a file nor the name of")


def test_help_says_what_the_addresses_of_a_broker_look_like(restore):
    """Help goes through what cuts addresses behind their host."""
    text = " ".join(restore("--help").out.split())
    assert "publish at mqtt://HOST:PORT, with USER:PASSWORD@ before HOST" in text


# --- how fast it answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["--help"], ["sample"], ["sample", "--task", "x"], ["sample", "--task", "defocus"]]
)
def test_help_and_mistakes_need_no_heavy_import(arguments):
    code = (
        "import pathlib, sys\nfrom edge import cli, shipped\nshipped.BUNDLES = pathlib.Path('nowhere')\n"
        "try: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted({'cv2', 'numpy', 'numba', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_a_name_that_is_not_utf8_is_restored_as_an_image_and_refused_as_a_video(work, bundle):
    store(work / "a.png", picture(16, 16))
    odd = os.fsencode(work) + b"/\xe4.png"
    shutil.copy(work / "a.png", odd)
    command = [sys.executable, "-m", "edge.cli", "--task", "denoise", "--bundle", str(bundle)]
    done = subprocess.run([*command, odd, "--out", work / "out" / ""], capture_output=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done
    assert len(list((work / "out").iterdir())) == 1
    Path(os.fsdecode(os.fsencode(work) + b"/\xe4.avi")).write_bytes(b"a video")
    done = subprocess.run([*command, os.fsencode(work) + b"/\xe4.avi"], capture_output=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2 and b"UTF-8" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_summary_that_cannot_be_printed_is_one_sentence(work, bundle):
    store(work / "a.png", picture(16, 16))
    command = [sys.executable, "-m", "edge.cli", "--task", "denoise", "--bundle", str(bundle), str(work / "a.png")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2 and "cannot be printed" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("empty", [["", "--out", "b.png"], ["a.png", "--out", ""], ["a.png", "--stats", ""]])
def test_an_empty_name_is_refused(capsys, empty):
    with pytest.raises(SystemExit) as caught:
        cli.main([*empty, "--task", "denoise"])
    assert caught.value.code == 2
    assert "empty name" in capsys.readouterr().err


def test_an_image_of_too_many_pixels_is_refused_before_it_fills_the_memory(work, bundle):
    cv2.imwrite(str(work / "bomb.png"), np.zeros((12_000, 12_000), np.uint8))
    command = [sys.executable, "-m", "edge.cli", "--task", "denoise", "--bundle", str(bundle), str(work / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2 and "134 million pixels" in done.stderr and "Traceback" not in done.stderr


# --- --warmup -------------------------------------------------------------------------------------------------------


def test_warmup_needs_no_source_and_says_how_long_it_took_and_where_the_kernels_are(capsys, bundle):
    assert cli.main(["--warmup"]) == 0
    out = capsys.readouterr().out
    assert re.fullmatch(r"kernels are compiled: [\d.]+ s; they are kept in .+\n", out)
    assert any(Path(out.rpartition("kept in ")[2].strip()).glob("*.kernel"))
    assert cli.main(["--warmup", "--task", "denoise", "--bundle", str(bundle)]) == 0
    assert f"{bundle} is loaded" in capsys.readouterr().out


def test_warmup_says_when_no_folder_keeps_the_kernels(capsys, monkeypatch):
    monkeypatch.setattr("simulator.engine.cache_folder", lambda: None)
    assert cli.main(["--warmup"]) == 0
    assert "no folder is writable" in capsys.readouterr().out


def test_warmup_with_an_unusable_bundle_ends_with_2(capsys, work):
    (work / "b.safetensors").write_bytes(b"nothing")
    assert cli.main(["--warmup", "--bundle", str(work / "b.safetensors")]) == 2
    assert "b.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["simulator", "edge.cli", "simulator.network", "simulator.engine"])
def test_libraries_that_are_not_needed_yet_are_not_imported(module):
    code = f"import sys, {module}; print([m for m in ('cv2', 'tqdm', 'serial', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("fps", ["1e-12", "1001"])
def test_a_rate_that_no_video_has_is_refused(restore, fps):
    assert_refused(restore("exec:true", "--fps", fps), f"{fps} pictures a second", "1000 at most")
