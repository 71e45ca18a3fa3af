"""Every board gives the simulator's bits, and `compare` says so, or where it does not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from firmware_bridge import boards, compare
from firmware_bridge.boards import BOARDS, Board, BoardError, open_board
from firmware_bridge.boards.native import Native
from firmware_bridge.first_difference import NetworkTracer, first_place
from firmware_bridge.machine import HOST
from simulator.bundle import read_bundle, write_bundle
from simulator.network import Network
from simulator.random_networks import random_network
from tests.conformance.agreement import META, bundled
from tests.simulator.networks import random_image

ROOT = Path(__file__).parents[2]
CAMERA = ROOT / "edge" / "bundles" / "denoise-camera.safetensors"


@pytest.fixture(params=list(BOARDS))
def board(request):
    missing = BOARDS[request.param].missing()
    if missing:
        pytest.skip(missing)
    with open_board(request.param) as opened:
        yield opened


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "a.png"
    whole = cv2.imread(str(ROOT / "edge" / "samples" / "noisy.png"))
    cv2.imwrite(str(path), whole[100:143, 200:258])
    return path


@pytest.fixture
def bundle(tmp_path) -> Path:
    path = tmp_path / "denoise.safetensors"
    write_bundle(path, *random_network(5), META)
    return path


def test_a_board_can_be_inspected_between_two_pictures(board):
    bundle, image = bundled(*random_network(5)), random_image(np.random.default_rng(3), 13, 18, 3)
    board.load(bundle)
    before = board.run(image)
    assert first_place(NetworkTracer(Network(bundle)), board.tracer(), image) is None
    assert np.array_equal(board.run(image).counts, before.counts)


def test_a_board_gives_the_pixels_and_counts_of_the_simulator(board, picture):
    bundle = read_bundle(CAMERA)
    board.load(bundle)
    image = compare.read(picture)
    found = board.run(image)
    assert compare.compare(bundle.analysis, Network(bundle).run(image), found.image, found.counts).equal
    assert 0 < found.seconds and 0 < found.end_to_end_s and found.overhead == 1
    assert board.clock and board.about


def test_a_board_loads_one_network_after_the_other(board):
    rng = np.random.default_rng(0)
    for seed in (2, 7):
        bundle = bundled(*random_network(seed))
        board.load(bundle)
        image = random_image(rng, 9, 14, 3)
        found = board.run(image)
        assert compare.compare(bundle.analysis, Network(bundle).run(image), found.image, found.counts).equal


@pytest.mark.parametrize(("kilobytes", "tiled"), [(5000, False), (2900, False), (2200, True)])
def test_what_does_not_fit_at_once_goes_by_rows_and_then_in_tiles_with_the_same_bits(kilobytes, tiled):
    class Small(Native):
        memory_bytes = kilobytes << 10

    bundle = read_bundle(CAMERA)
    image = random_image(np.random.default_rng(1), 200, 200, 3)
    with Small() as small:
        small.load(bundle)
        found = small.run(image)
    assert compare.compare(bundle.analysis, Network(bundle).run(image), found.image, found.counts).equal
    assert found.memory <= Small.memory_bytes
    assert (found.overhead > 1) == tiled


def test_a_board_too_small_for_any_tile_says_so():
    class Tiny(Native):
        name = "tiny"
        memory_bytes = 160 << 10

    with Tiny() as tiny:
        tiny.load(read_bundle(CAMERA))
        with pytest.raises(BoardError, match="tiny has too little memory for the smallest tile"):
            tiny.run(np.zeros((64, 64, 3), np.uint8))


def test_an_unknown_board_is_answered_with_those_there_are():
    with pytest.raises(BoardError, match="no board called 'qemu'; choose one of native, reference, sim"):
        open_board("qemu")


def test_a_file_has_one_board_and_boards_of_this_machine_come_first():
    files = [board.__module__ for board in BOARDS.values()]
    assert len(set(files)) == len(files) and list(BOARDS)[:3] == ["native", "reference", "sim"]
    assert all(file.rpartition(".")[2] == name.replace("-", "_") for file, name in zip(files, BOARDS, strict=True))


def test_a_network_with_a_kind_that_the_device_plan_does_not_have_is_refused_when_it_is_loaded():
    bundle = bundled(*random_network(5))
    nodes = tuple(replace(node, kind="unheard_of") if node.kind == "lif" else node for node in bundle.graph.nodes)
    analysis = replace(bundle.analysis, graph=replace(bundle.graph, nodes=nodes))
    with Native() as native, pytest.raises(BoardError, match="is of the kind 'unheard_of'"):
        native.load(replace(bundle, graph=analysis.graph, analysis=analysis))


def test_the_packages_that_are_missing_are_printed_for_scripts(monkeypatch, capsys):
    from firmware_bridge.boards.__main__ import main

    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["--packages"]) == 0
    assert {"gcc", "libc6-dev", "gcc-arm-none-eabi", "qemu-system-arm", "qemu-user"} <= set(
        capsys.readouterr().out.split()
    )


def test_a_board_without_its_tools_names_the_packages(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BoardError, match="qemu-arm cannot be used yet: apt-get install gcc-arm-linux.* qemu-user"):
        open_board("qemu-arm")


def test_the_list_of_boards_has_every_one_of_them():
    done = subprocess.run(
        [sys.executable, "-m", "firmware_bridge.boards"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *BOARDS, "tcp://HOST:PORT", "serial:///DEV?baud=115200", "lynxi://N",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["tcp://", "tcp://host", "tcp://host:port", "tcp://host:99999", "tcp://h:1/x"])
def test_an_address_that_is_none_says_what_one_looks_like(name):
    with pytest.raises(BoardError, match="expected something like 127.0.0.1:7700"):
        open_board(name)


@pytest.mark.parametrize("name", ["serial:x", "serial://host/dev", "serial:///dev/x?baud=fast", "serial:///dev/x?b=1"])
def test_a_serial_port_that_is_none_says_what_one_looks_like(name):
    with pytest.raises(BoardError, match="expected something like serial:///dev/ttyACM0"):
        open_board(name)


def test_a_board_where_nobody_listens_is_named(capsys):
    from firmware_bridge.boards.__main__ import main

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert main([f"tcp://127.0.0.1:{port}"]) == 2
    assert "cannot be reached: Connection refused" in capsys.readouterr().err


def test_a_daemon_on_tcp_restores_pictures_and_keeps_its_plan_between_clients(bundle):
    daemon = subprocess.Popen(
        [str(HOST.link_program()), "--listen", "0", "--memory", "64"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert daemon.stdout is not None
        name = "tcp://" + daemon.stdout.readline().split()[-1]
        image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        network, found = read_bundle(bundle), []
        for _ in range(2):
            with open_board(name) as board:
                board.load(network)
                found.append(board.run(image))
        with open_board("reference") as reference:
            reference.load(network)
            wanted = reference.run(image)
        for result in found:
            assert np.array_equal(result.image, wanted.image) and np.array_equal(result.counts, wanted.counts)
    finally:
        daemon.kill()
        daemon.wait()


def test_compare_finds_a_sound_board_equal(bundle, picture, capsys):
    assert compare.main(["--board", "native", "--bundle", str(bundle), str(picture)]) == 0
    assert "a.png: equal: 2,494 pixels" in capsys.readouterr().out


class Damaged(Native):
    """A board with one wrong weight in its memory."""

    weight = ""

    def load(self, bundle):
        tensors = {name: np.array(tensor, np.int32) for name, tensor in bundle.tensors.items()}
        tensors[self.weight].flat[tensors[self.weight].size // 2] += 37
        super().load(bundled(bundle.graph, tensors))


@pytest.fixture
def damaged(monkeypatch):
    weight = "decoder1.1.conv1.weight"
    monkeypatch.setattr(Damaged, "weight", weight)
    monkeypatch.setitem(boards.BOARDS, "damaged", Damaged)
    return weight.rpartition(".")[0]


def test_compare_names_the_first_difference_of_a_board_with_one_damaged_weight(picture, damaged, capsys):
    assert compare.main(["--board", "damaged", "--bundle", str(CAMERA), str(picture)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: " in out and "of 2,494 pixels (first at row" in out and "SyOps instead of" in out
    assert f"first difference: layer '{damaged}', step " in out
    assert "differs from the simulator on 1 of 1 pictures" in out


def test_compare_falls_back_on_counts_where_a_board_does_not_show_its_layers(picture, damaged, capsys, monkeypatch):
    monkeypatch.setattr(Damaged, "tracer", lambda self: None)
    assert compare.main(["--board", "damaged", "--bundle", str(CAMERA), str(picture)]) == 1
    assert "does not give access to its layers" in capsys.readouterr().out


def test_compare_says_when_layers_agree_one_by_one_and_the_picture_does_not(bundle, picture, monkeypatch, capsys):
    class Fused(Native):
        def run(self, image):
            found = super().run(image)
            found.image[3, 4, 1] ^= 1
            return found

    monkeypatch.setitem(boards.BOARDS, "fused", Fused)
    assert compare.main(["--board", "fused", "--bundle", str(bundle), str(picture)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: 1 of 2,494 pixels (first at row 3, column 4, channel 1: " in out
    assert "no layer differs when computed separately" in out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--board", "x"], "no board called 'x'"),
        (["--bundle", "missing.safetensors"], "missing.safetensors"),
        (["nothing.png"], "there is no image at nothing.png"),
        ([os.devnull], "there is no image at"),
        ([__file__], "cannot be read as an image"),
    ],
)
def test_compare_answers_bad_input_with_one_sentence(bundle, picture, options, complaint, capsys):
    arguments = ["--board", "native", "--bundle", str(bundle)]
    arguments += [str(picture)] if options[0].startswith("--") else []
    assert compare.main([*arguments, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and complaint in err and len(err.splitlines()) == 1


def test_a_board_whose_answer_has_another_form_is_refused(bundle):
    loaded = read_bundle(bundle)
    image = np.zeros((8, 8, 3), np.uint8)
    expected = Network(loaded).run(image)
    with pytest.raises(ValueError, match="the board gave a uint8 picture"):
        compare.compare(loaded.analysis, expected, image[:4], np.zeros(3))


def test_every_board_is_closed_after_use(board: Board):
    board.load(bundled(*random_network(1)))
    board.close()
    board.close()
