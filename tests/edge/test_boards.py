"""`edge-restore --board` gives the same pictures on every board, and says which board it was."""

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import simulator
from edge import careful, cli
from firmware_bridge import boards
from firmware_bridge.boards import BOARDS, BoardError
from firmware_bridge.boards.native import Native
from simulator.bundle import read_bundle, write_bundle
from tests.edge.files import assert_refused, load, load_video, names, picture, store, store_video

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("board", list(BOARDS))
@pytest.mark.parametrize("shape", [(24, 33, 3), (17, 20)])
def test_a_board_restores_a_picture_as_the_simulator_does(work, restore, network, board, shape):
    if BOARDS[board].missing():
        pytest.skip(BOARDS[board].missing())
    pixels = picture(*shape[:2])
    pixels = pixels if len(shape) == 3 else np.ascontiguousarray(pixels[..., 0])
    run = restore(store(work / "a.png", pixels), "--board", board, "--out", work / "b.png", "--stats", work / "s.json")
    assert run.code == 0, run.err
    expected = network.run(pixels)
    assert np.array_equal(load(work / "b.png").squeeze(), expected.image)
    figures = json.loads((work / "s.json").read_text())
    assert figures["backend"] == {"sim": "numba"}.get(board, board)
    assert figures["bundle"] == network.bundle_hash
    assert figures["totals"]["synops"] == expected.stats.synops and figures["totals"]["macs"] == expected.stats.macs
    assert figures["latency_ms"]["median"] > 0 and figures["power"] is None
    if board != "sim":
        assert f"on {board}, whose latency is {BOARDS[board].clock}; end to end " in run.out
        assert figures["end_to_end_ms"]["median"] > 0 and figures["latency_clock"] == BOARDS[board].clock
    assert ("instructions_per_synop" in figures) == board.startswith("qemu-mps")
    if board.startswith("qemu"):
        assert figures["power_reason"] == f"board {board} has no power sensor; use an external meter"


def test_a_folder_of_pictures_goes_through_one_board(work, restore, network):
    photos = work / "photos"
    photos.mkdir()
    for name, side in (("a.png", 12), ("b.png", 31)):
        store(photos / name, picture(side, 20))
    assert restore(photos, "--board", "native", "--out", work / "out").code == 0
    for name, side in (("a.png", 12), ("b.png", 31)):
        assert np.array_equal(load(work / "out" / name), network.run(picture(side, 20)).image)


def test_a_video_goes_frame_by_frame_through_a_board(work, restore, network):
    frames = store_video(work / "a.mkv", 3)
    run = restore(work / "a.mkv", "--board", "native", "--out", work / "b.mkv", "--stats", work / "s.json")
    assert run.code == 0
    for found, frame in zip(load_video(work / "b.mkv")[0], frames, strict=True):
        assert np.array_equal(found, network.run(frame).image)
    assert json.loads((work / "s.json").read_text())["frames"] == 3
    assert_refused(restore(work / "a.mkv", "--board", "native", "--still", "3"), "--still is for the board sim")


def test_a_board_takes_the_coarse_path_as_the_simulator_does(work, bundle, capfd):
    wide = read_bundle(bundle)
    write_bundle(work / "coarse.safetensors", wide.graph, wide.tensors, {**wide.meta, "network.coarse": "64"})
    network = simulator.load(work / "coarse.safetensors")
    pixels = picture(90, 131)
    command = ["--task", "denoise", "--bundle", work / "coarse.safetensors", store(work / "a.png", pixels)]
    assert cli.main([*map(str, command), "--board", "native", "--out", str(work / "b.png")]) == 0, (
        capfd.readouterr().err
    )
    assert np.array_equal(load(work / "b.png"), careful.restore("denoise", pixels, network.run).image)
    assert not np.array_equal(load(work / "b.png"), network.restore(pixels)[0])  # it would be another picture


def test_an_unknown_board_is_answered_with_those_there_are(work, restore):
    run = restore(store(work / "a.png", picture()), "--board", "atari", "--out", work / "b.png")
    assert_refused(run, "no board called 'atari'; choose one of native, reference, sim")
    assert names(work) == ["a.png"]


@pytest.mark.parametrize("option", [["--threads", "1"], ["--tile", "32"]])
def test_options_of_the_simulator_are_refused_for_boards(work, restore, option):
    run = restore(store(work / "a.png", picture()), "--board", "native", *option)
    assert_refused(run, option[0], "leave it out")


def test_a_bundle_of_another_task_is_refused_and_the_board_closed(work, restore, monkeypatch):
    closed = []
    monkeypatch.setattr(Native, "close", lambda self: closed.append(1))
    run = restore(store(work / "a.png", picture()), "--board", "native", "--task", "derain")
    assert_refused(run, "is for denoise, not derain")
    assert closed


def test_a_board_that_fails_in_the_run_ends_it_with_a_sentence_and_is_closed(work, restore, monkeypatch):
    closed = []

    class Failing(Native):
        def run(self, image):
            raise BoardError("the cable has come off")

        def close(self):
            closed.append(1)

    monkeypatch.setitem(boards.BOARDS, "failing", Failing)
    run = restore(store(work / "a.png", picture()), "--board", "failing", "--out", work / "b.png")
    assert_refused(run, "the cable has come off")
    assert closed and names(work) == ["a.png"]


def test_a_board_with_little_memory_says_how_many_pixels_it_computed(work, restore, monkeypatch):
    monkeypatch.setattr(Native, "memory_bytes", 2200 << 10)
    run = restore("sample", "--board", "native", "--bundle", "denoise", "--stats", work / "s.json")
    assert run.code == 0, run.err
    computed = json.loads((work / "s.json").read_text())["computed_pixels_per_pixel"]
    assert computed > 1 and f"in tiles, {computed:.2f} pixels computed" in run.out


# --- several boards -------------------------------------------------------------------------------------------------


def test_several_boards_share_a_folder_and_each_is_told_of(work, restore, network):
    photos = work / "photos"
    photos.mkdir()
    for seed in range(6):
        store(photos / f"{seed}.png", picture(20, 31, seed=seed))
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    boards = ("--board", "native", "--board", "reference", "--board", "native")
    run = restore(photos, *boards, "--out", work / "out", "--stats", work / "s.json")
    assert run.code == 1 and "bad.png" in run.err
    for seed in range(6):
        assert np.array_equal(load(work / "out" / f"{seed}.png"), network.run(picture(20, 31, seed=seed)).image)
    figures = json.loads((work / "s.json").read_text())
    assert figures["backend"] == "native + reference + native" and figures["frames"] == 6
    assert [board["board"] for board in figures["boards"]] == ["native", "reference", "native (2)"]
    assert sum(board["pictures"] for board in figures["boards"]) == pytest.approx(6)
    assert "  native (2): " in run.out


def test_frames_of_a_video_stay_in_order_on_several_boards(work, restore, network):
    frames = store_video(work / "a.mkv", 7)
    run = restore(work / "a.mkv", "--board", "native", "--board", "reference", "--out", work / "b.mkv")
    assert run.code == 0, run.err
    for found, frame in zip(load_video(work / "b.mkv")[0], frames, strict=True):
        assert np.array_equal(found, network.run(frame).image)


def test_a_board_of_several_that_fails_is_said_and_the_pictures_are_right(work, restore, network, monkeypatch):
    class Failing(Native):
        def run_part(self, given, part):
            raise BoardError("the cable has come off")

    monkeypatch.setitem(boards.BOARDS, "failing", Failing)
    photos = work / "photos"
    photos.mkdir()
    for seed in range(6):
        store(photos / f"{seed}.png", picture(seed=seed))
    run = restore(photos, "--board", "failing", "--board", "native", "--out", work / "out")
    assert run.code == 0
    assert "board failing failed: the cable has come off; 1 of 2 boards go on, it is tried again" in run.err
    assert "the last time because the cable has come off" in run.out
    for seed in range(6):
        assert np.array_equal(load(work / "out" / f"{seed}.png"), network.run(picture(seed=seed)).image)
    run = restore(photos, "--board", "failing", "--board", "failing", "--out", work / "none")
    assert run.code == 2 and "none of the boards is left: the cable has come off." in run.err


def test_a_wrong_name_among_several_boards_is_refused(work, restore):
    run = restore(store(work / "a.png", picture()), "--board", "native", "--board", "atari")
    assert_refused(run, "no board called 'atari'")


def test_boards_of_the_command_line_win_over_those_of_a_file(work, restore):
    (work / "c.toml").write_text("board = ['atari', 'native']\n")
    assert restore(store(work / "a.png", picture()), "--config", work / "c.toml", "--board", "native").code == 0


def test_an_agent_that_is_killed_in_the_middle_of_a_run_costs_no_picture(work, bundle, restore, network):
    """One of two boards, then the only one: what it restored is kept, and a rerun with another board goes on."""
    (work / "in").mkdir()
    for number in range(24):
        store(work / "in" / f"{number:02d}.png", picture(64, 64, seed=number))
    for others in (("--board", "native"), ()):
        agent = subprocess.Popen(
            [sys.executable, "-m", "firmware_bridge.agent", "--listen", "127.0.0.1:0"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            address = re.search(r"127\.0\.0\.1:\d+", agent.stdout.readline())[0]
            given = (work / "in", "--skip-existing", "--out", work / f"out{len(others)}", "--board", f"tcp://{address}")
            threading.Thread(target=_kill_when_there_are, args=(agent, work / f"out{len(others)}", 6)).start()
            run = restore(*given, *others)
        finally:
            agent.kill()
            agent.wait()
            agent.stdout.close()
        if others:
            assert run.code == 0, run.err
            assert f"board tcp://{address} failed" in run.err and "1 of 2 boards go on" in run.err, run.err
        else:
            assert run.code == 2 and address in run.err, run.err
            there = len(list((work / "out0").glob("*.png")))
            assert 6 <= there < 24
            again = restore(*given[:-2], "--board", "native")
            assert again.code == 0 and f"{there} already restored by an earlier run" in again.out, again
        for number in range(24):
            restored = load(work / f"out{len(others)}" / f"{number:02d}.png")
            assert np.array_equal(restored, network.run(picture(64, 64, seed=number)).image)


def _kill_when_there_are(process: subprocess.Popen, folder: Path, count: int) -> None:
    end = time.monotonic() + 200
    while len(list(folder.glob("*.png"))) < count and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
