"""The core on other processors, in emulators: the same bits, and how many instructions that takes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from firmware_bridge import build, kernel_cost
from firmware_bridge.boards import BOARDS
from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.machine import HOST, INSTRUCTION_NS, CortexM, Machine
from firmware_bridge.native import Core, CoreError
from firmware_bridge.plan import compile_bundle, compile_plan
from firmware_bridge.runner import Runner, RunnerError
from firmware_bridge.toolchain import BuildError
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import read_bundle
from simulator.random_networks import random_network, random_tensors

ROOT = Path(__file__).parents[2]
MACHINES = {name: board.machine for name, board in BOARDS.items() if issubclass(board, Emulated)}
BARE = [name for name, machine in MACHINES.items() if isinstance(machine, CortexM)]


@pytest.fixture(scope="module", params=list(MACHINES))
def board(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Runner]]:
    machine = MACHINES[request.param]
    if machine.missing_packages():
        pytest.skip(f"{machine.missing_packages()} are not installed")
    with Runner(machine) as running:
        yield machine, running


def instructions(machine: Machine, ticks: int) -> float:
    return ticks * machine.tick_ns / INSTRUCTION_NS


def test_random_networks_have_the_same_bits_there(board):
    _, runner = board
    for seed in range(16):
        graph, tensors = random_network(seed, "window" if seed >= 12 else None)
        data = compile_plan(analyse(graph, tensors), tensors, fuse=seed % 2 == 0).data
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (*rng.integers(1, 24, 2), 3)).astype(np.uint8)
        runner.open(data)
        found, expected = runner.run(image, trace=True), Core(data).run(image, trace=True)
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.counts, expected.counts) and np.array_equal(found.trace, expected.trace)
        by_rows = runner.run(image, by_rows=True)
        assert np.array_equal(by_rows.image, expected.image) and np.array_equal(by_rows.counts, expected.counts)


def test_a_shipped_bundle_has_the_same_bits_there(board):
    _, runner = board
    data = compile_bundle(read_bundle(ROOT / "edge" / "bundles" / "denoise.safetensors")).data
    image = cv2.imread(str(ROOT / "edge" / "samples" / "noisy.png"))[100:164, 200:264, ::-1]
    runner.open(data)
    found, expected = runner.run(image), Core(data).run(image)
    assert np.array_equal(found.image, expected.image)
    assert np.array_equal(found.counts, expected.counts)
    assert found.memory + image.size <= 512 << 10


@pytest.mark.parametrize("name", BARE)
def test_the_plain_build_has_the_same_bits(name):
    machine = MACHINES[name]
    if machine.missing_packages():
        pytest.skip(f"{machine.missing_packages()} are not installed")
    plain = replace(machine, compiler=replace(machine.compiler, flags=(*machine.compiler.flags, "-DSNN_PLAIN")))
    with Runner(plain) as slow, Runner(machine) as fast:
        for seed in range(6):
            graph, tensors = random_network(seed, "window" if seed % 2 else None)
            image = np.random.default_rng(seed).integers(0, 256, (13, 18, 3)).astype(np.uint8)
            results = []
            for runner in (slow, fast):
                runner.open(compile_plan(analyse(graph, tensors), tensors, fuse=seed < 4).data)
                results.append(runner.run(image, trace=True))
            assert np.array_equal(results[0].image, results[1].image)
            assert np.array_equal(results[0].counts, results[1].counts)
            assert np.array_equal(results[0].trace, results[1].trace)


def test_a_picture_that_is_restored_in_place_by_rows_is_read_before():
    b = Builder(1)
    graph = b.finish(b.requantise("round", b.dense_conv("conv", b.image(), 3, 3, q=10), 10, 1 << 7))
    tensors = random_tensors(graph, np.random.default_rng(0), 900)
    image = np.random.default_rng(1).integers(0, 256, (40, 9, 3)).astype(np.uint8)
    data = compile_plan(analyse(graph, tensors), tensors).data
    with Runner(HOST) as runner:
        runner.open(data)
        assert np.array_equal(runner.run(image, by_rows=True).image, Core(data).run(image).image)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 15, 16, 24, 32, 34, 48, 126])
def test_the_fast_kernel_equals_the_plain_one(board, channels):
    _, runner = board
    rng = np.random.default_rng(channels)
    weight = rng.integers(-2048, 2049, (40, channels)).astype(np.int16)
    for count in (0, 1, 2, 33):
        runs = rng.integers(0, len(weight), count)
        expected = weight[runs].sum(0, dtype=np.int64).astype(np.int16)  # modulo 2^16
        for plain in (False, True):
            assert np.array_equal(runner.accumulate(weight, runs, plain)[0], expected)


@pytest.mark.parametrize("board", ["qemu-mps2-an500"], indirect=True)
def test_a_cortex_m7_takes_less_than_two_instructions_per_synaptic_operation(board):
    machine, runner = board
    rng = np.random.default_rng(0)
    weight = rng.integers(-99, 99, (288, 32)).astype(np.int16)
    few, many = (rng.integers(0, 288, count) for count in (10, 210))
    ticks = [runner.accumulate(weight, runs, plain=False)[1] for runs in (few, many)]
    assert instructions(machine, ticks[1] - ticks[0]) / (200 * 32) < 2
    assert instructions(machine, ticks[0]) / (10 * 32) < 4  # the call included, ten spikes at a position


def test_one_command_builds_everything_that_goes_onto_boards(tmp_path, capsys, monkeypatch):
    for machine in MACHINES.values():
        if machine.missing_packages():
            pytest.skip(f"{machine.missing_packages()} are not installed")
    assert build.main(["--out", str(tmp_path)]) == 0
    made = {path.name for path in tmp_path.iterdir()}
    assert made == set(build.programs()) and {"snn-link-mps2-an500.elf", "snn-link-aarch64"} <= made
    for name in (f"snn-link-{name.removeprefix('qemu-')}.elf" for name in BARE):
        said = subprocess.run(
            ["arm-none-eabi-size", tmp_path / name], capture_output=True, text=True, check=True
        ).stdout
        text, data, _ = (int(number) for number in said.splitlines()[1].split()[:3])
        assert text + data <= 64 << 10
    monkeypatch.setenv("PATH", "/nowhere")
    assert build.main(["--out", str(tmp_path)]) == 2
    assert "snn-link-arm: the compiler arm-linux-gnueabihf-gcc is not installed" in capsys.readouterr().err
    assert build.main(["--out", "/proc/nowhere"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_command_counts_instructions(capsys):
    name = "qemu-mps2-an500"
    if MACHINES[name].missing_packages():
        pytest.skip("the emulator or its compiler is not installed")
    assert kernel_cost.main([name]) == 0
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 2 * len(kernel_cost.CHANNELS)
    of_core, plain = (next(row for row in rows if row[1:3] == [loop, "32"]) for loop in ("the core", "plain C"))
    assert float(of_core[-1]) < 2 < float(plain[-1])  # one spike more
    assert float(of_core[4]) < 5  # three spikes at a position, the call included
    with pytest.raises(SystemExit) as ended:
        kernel_cost.main(["host"])
    assert ended.value.code == 2 and "instructions are not counted on host" in capsys.readouterr().err


@pytest.mark.parametrize("board", BARE, indirect=True)
def test_code_and_constants_fit_a_microcontroller_beside_the_bundle(board):
    machine, _ = board
    said = subprocess.run(["arm-none-eabi-size", machine.runner()], capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(number) for number in said.splitlines()[1].split()[:3])
    assert text + data <= 64 << 10 and bss <= 1 << 10


@pytest.mark.parametrize("board", BARE, indirect=True)
def test_instruction_counts_repeat_to_the_last_one(board):
    _, runner = board
    graph, tensors = random_network(1)
    runner.open(compile_plan(analyse(graph, tensors), tensors).data)
    image = np.full((8, 8, 3), 90, np.uint8)
    first, second = (runner.run(image).ticks for _ in range(2))
    assert abs(first - second) <= 64  # the clock's own interrupt may fall into one of them


def test_a_plan_that_the_core_refuses_leaves_the_board_usable(board):
    _, runner = board
    graph, tensors = random_network(2)
    data = compile_plan(analyse(graph, tensors), tensors).data
    with pytest.raises(CoreError, match="SNN_HASH"):
        runner.open(data[:-1] + bytes([data[-1] ^ 1]))
    runner.open(data)
    assert runner.run(np.zeros((4, 4, 3), np.uint8)).image.shape == (4, 4, 3)


def test_a_program_that_ends_is_an_error_and_not_a_wait():
    runner = Runner(HOST)
    with pytest.raises(RunnerError, match="ended before it answered"):
        runner.run(np.zeros((4, 4, 3), np.uint8))  # before any plan
    runner.close()


def test_a_missing_compiler_or_emulator_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for machine in (MACHINES["qemu-mps2-an500"], HOST):
        with pytest.raises(BuildError, match="is not installed; on Debian or Ubuntu: apt-get install"):
            machine.command()


def test_a_cache_that_cannot_be_written_is_said_with_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="cannot be compiled in .*; set XDG_CACHE_HOME to a folder"):
        HOST.command()


def test_a_probe_shows_the_same_numbers_there(board):
    _, runner = board
    graph, tensors = random_network(3)
    analysis = analyse(graph, tensors)
    data = compile_plan(analysis, tensors, fuse=False).data
    image = np.random.default_rng(3).integers(0, 256, (*analysis.padded(9, 11), 3)).astype(np.uint8)
    runner.open(data)
    for layer in range(0, len(graph.nodes) - 1, 3):
        assert np.array_equal(runner.look(image, layer, 0, 0), Core(data).look(image, layer, 0, 0))
