"""Plans that are damaged, on purpose or not: a named answer, never a crash, never a byte out of bounds."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from firmware_bridge import fuzz, native, toolchain
from firmware_bridge.link import Refused
from firmware_bridge.machine import Machine
from firmware_bridge.native import Core, CoreError
from firmware_bridge.plan import compile_plan
from firmware_bridge.plan.records import (
    FIELDS,
    HEADER_AT,
    HEADER_BYTES,
    NONE,
    OPERATION,
    OPERATION_BYTES,
    OPERATIONS,
    VALUE_BYTES,
    sealed,
)
from firmware_bridge.protocol import Kind, Why
from firmware_bridge.runner import Runner
from firmware_bridge.tiles import Tile
from simulator.analysis import analyse
from simulator.kinds import KINDS
from simulator.random_networks import random_network

HEADER = HEADER_BYTES


@pytest.fixture(scope="module")
def plan() -> bytes:
    """A strided network: operation 0 is a convolution of the picture with neurons behind it, 1 one of their spikes."""
    return fuzz.seed_plans()[0]


def changed(plan: bytes, at: int, *words: int) -> bytes:
    """The plan with other words from byte `at`, and a hash that fits."""
    data = bytearray(plan)
    struct.pack_into(f"<{len(words)}I", data, at, *words)
    return sealed(bytes(data))


def counts(plan: bytes) -> tuple[int, int, int, int]:
    """Numbers of values, operations, terms and projections."""
    return struct.unpack_from("<4I", plan, HEADER_AT["values"])


def word(plan: bytes, at: int) -> int:
    return struct.unpack_from("<I", plan, at)[0]


def operation(plan: bytes, index: int, field: str, kind: str = "pixels") -> int:
    """Where a field of an operation lies."""
    place = (*OPERATION, *FIELDS[kind]).index(field)
    return HEADER + VALUE_BYTES * counts(plan)[0] + OPERATION_BYTES * index + 4 * place


def answer(data: bytes) -> str:
    try:
        Core(data)
    except CoreError as error:
        return error.status
    return "SNN_OK"


def test_a_sound_plan_is_opened(plan):
    assert answer(plan) == "SNN_OK"


def test_every_shorter_plan_is_refused(plan):
    for size in (0, 1, 127, 128, 129, len(plan) // 2, len(plan) - 4, len(plan) - 1):
        assert answer(plan[:size]) == "SNN_TRUNCATED"
        if size >= HEADER:
            cut = bytearray(plan[: size // 4 * 4])
            struct.pack_into("<I", cut, 12, len(cut))
            assert answer(sealed(bytes(cut))) in ("SNN_TRUNCATED", "SNN_CONSTANT", "SNN_OPERATION")


def test_any_changed_bit_is_noticed(plan):
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(plan), 300):
        data = bytearray(plan)
        data[at] ^= 1 << int(rng.integers(8))
        assert answer(bytes(data)) != "SNN_OK"


@pytest.mark.parametrize(
    ("at", "word", "status"),
    [
        (0, 0x12345678, "SNN_NOT_A_PLAN"),
        (4, 2, "SNN_VERSION"),
        (4, 4, "SNN_VERSION"),
        (8, 2, "SNN_VERSION"),
        (12, 1 << 30, "SNN_TRUNCATED"),
        (80, 3, "SNN_HEADER"),  # T is no power of two
        (80, 128, "SNN_HEADER"),
        (84, 0, "SNN_HEADER"),
        (88, 0, "SNN_HEADER"),
        (92, 1, "SNN_HEADER"),
        (96, 4000, "SNN_HEADER"),
        (100, 1 << 31, "SNN_TRUNCATED"),
        (104, NONE, "SNN_TRUNCATED"),
        (116, 8, "SNN_VALUE"),  # an arena in which nothing has room
        (HEADER + 4, 0, "SNN_VALUE"),  # channels
        (HEADER + 8, 3, "SNN_VALUE"),  # a scale that does not divide the stride
        (HEADER + 12, 2, "SNN_VALUE"),  # steps
        (HEADER + 16, 6, "SNN_VALUE"),  # storage
        (HEADER + 16, 5, "SNN_VALUE"),  # counts, with another number of digits
        (HEADER + 20, NONE - 3, "SNN_VALUE"),  # offset
        (HEADER + 24, 0, "SNN_VALUE"),  # rows
        (HEADER + 24, 1 << 19, "SNN_VALUE"),
        (HEADER + 28, NONE - 7, "SNN_VALUE"),  # their offset
    ],
)
def test_faults_of_the_header_and_of_values_have_their_own_answer(plan, at, word, status):
    assert answer(changed(plan, at, word)) == status


@pytest.mark.parametrize(
    ("index", "field", "word", "status"),
    [
        (0, "kind", 0, "SNN_OPERATION"),
        (0, "kind", 5, "SNN_OPERATION"),
        (0, "kind", NONE, "SNN_OPERATION"),
        (0, "layer", 1 << 20, "SNN_OPERATION"),
        (0, "output", 1 << 20, "SNN_OPERATION"),
        (0, "used", 2, "SNN_OPERATION"),  # not aligned
        (0, "used", 0, "SNN_OPERATION"),  # the scratch would lie where the output does
        (0, "used", NONE - 3, "SNN_OPERATION"),
        (0, "lead", NONE, "SNN_OPERATION"),
        (0, "input", 0, "SNN_OPERATION"),  # of a convolution of the picture
        (0, "factor", 3, "SNN_OPERATION"),
        (0, "factor", 0, "SNN_OPERATION"),
        (1, "input", NONE, "SNN_OPERATION"),
        (1, "terms", 1 << 30, "SNN_OPERATION"),
        (1, "head", 4, "SNN_OPERATION"),
        (1, "kernel", 8, "SNN_OPERATION"),
        (1, "stride", 0, "SNN_OPERATION"),
        (1, "groups", 0, "SNN_OPERATION"),
        (1, "narrow", 0, "SNN_OPERATION"),
        (1, "head_shift", 31, "SNN_OPERATION"),
        (1, "weight", 1 << 30, "SNN_CONSTANT"),
        (1, "weight", 2, "SNN_CONSTANT"),  # not aligned
        (1, "bias", NONE - 3, "SNN_CONSTANT"),
        (1, "steps", 2, "SNN_OPERATION"),
        (1, "restores", 2, "SNN_OPERATION"),  # what is stored does not change the picture, too
        (1, "neurons", 3, "SNN_OPERATION"),
        (1, "projections", NONE, "SNN_OPERATION"),
    ],
)
def test_faults_of_operations_have_their_own_answer(plan, index, field, word, status):
    assert answer(changed(plan, operation(plan, index, field), word)) == status


@pytest.mark.parametrize(("field", "number"), [("kind", OPERATIONS["spikes"]), ("restores", 2)])
def test_an_operation_that_writes_no_numbers_must_not_name_any(plan, field, number):
    """The size of what an operation writes is taken from its output."""
    numbers = [word(plan, operation(plan, index, field)) for index in range(counts(plan)[1])]
    assert answer(changed(plan, operation(plan, numbers.index(number), "output"), 0)) == "SNN_OPERATION"


@pytest.mark.parametrize("kind", [0, max(OPERATIONS.values()) + 1, 1 << 31, NONE])
def test_an_operation_of_an_unknown_kind_is_refused_by_the_runner_too(plan, kind):
    """A plan that changes after it was opened."""
    core, picture = Core(plan), np.zeros((8, 8, 3), np.uint8)
    core.run(picture)
    core._bytes[operation(plan, 1, "kind") :][:4] = np.frombuffer(struct.pack("<I", kind), np.uint8)
    for by_rows in (False, True):
        with pytest.raises(CoreError, match="SNN_OPERATION"):
            core.memory_size(Tile.whole(8, 8), by_rows)
        core.memory_size = lambda tile, by_rows: 1 << 20
        with pytest.raises(CoreError, match="SNN_OPERATION"):
            core.run(picture, by_rows=by_rows)
        del core.memory_size


def test_a_plan_of_another_version_is_refused_with_a_sentence_here_and_by_a_board(plan):
    told = "it runs plans of version 3 with nodes of version 1; have the bundle compiled"
    with pytest.raises(CoreError, match=told):
        Core(changed(plan, HEADER_AT["version"], 2))
    assert told in str(Refused(Kind.DATA, Why.REFUSED, native.STATUSES.index("SNN_VERSION")))
    assert told not in str(Refused(Kind.DATA, Why.REFUSED, native.STATUSES.index("SNN_HASH")))


def test_a_fault_says_in_which_record_it_lies(plan):
    with pytest.raises(CoreError, match=r"SNN_OPERATION .*\(record 2\)"):
        Core(changed(plan, operation(plan, 2, "kind"), 77))


def test_a_plan_must_start_at_a_multiple_of_eight(plan):
    import ctypes

    memory = native._aligned(len(plan) + 8)
    memory[4 : 4 + len(plan)] = np.frombuffer(plan, np.uint8)
    status = native._library().snn_open(ctypes.byref(native._Plan()), memory.ctypes.data + 4, len(plan), None)
    assert native.STATUSES[status] == "SNN_ALIGNMENT"


def test_the_networks_that_are_fuzzed_have_every_kind_of_node():
    assert {node.kind for graph in fuzz.small_networks() for node in graph.nodes} == set(KINDS)


SECONDS = 30.0 if os.environ.get("CI") else 4.0


def test_fuzzed_plans_and_pictures_never_leave_their_bounds():
    clean, said = fuzz.fuzz("plans", seed=0, count=0, seconds=SECONDS)
    assert clean, said
    tally = {name: int(count) for name, count in (line.split() for line in said.splitlines()[1:])}
    assert set(tally) == set(native.STATUSES)
    assert all(tally[name] for name in ("SNN_OK", "SNN_HASH", "SNN_VALUE", "SNN_OPERATION", "SNN_TERM", "SNN_SIZE"))


def test_fuzzed_frames_never_leave_their_bounds_and_are_answered_soundly():
    clean, said = fuzz.fuzz("frames", seed=0, count=0, seconds=SECONDS)
    assert clean, said
    frames, sessions, pictures = (int(said.split()[at]) for at in (0, 3, 8))
    assert frames > 5_000 and sessions > 50 and pictures > 100


@pytest.mark.parametrize(
    ("sound", "faulty"),
    [
        ("&& count <= upload->size - upload->have", ""),
        ("count > link->most_body - 8", "0"),
        ("if (link->filled == link->frame_room) link->lost = 1;\n                else ", ""),
    ],
    ids=["a piece too long", "an answer too long", "a frame too long"],
)
def test_a_check_that_is_missing_from_the_link_is_found_and_the_seed_repeats_it(sound, faulty, tmp_path, monkeypatch):
    source = (toolchain.FIRMWARE / "link" / "link.c").read_text()
    assert source.count(sound) == 1
    (tmp_path / "link.c").write_text(source.replace(sound, faulty))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    program = toolchain.fuzzer("frames", link=tmp_path / "link.c")
    clean, said = fuzz.fuzz("frames", seed=0, count=2_000_000, seconds=60, program=program)
    assert not clean
    seed = int(said.rpartition("seed ")[2].split()[0])
    again, said = fuzz.fuzz("frames", seed=seed, count=1, seconds=60, program=program)
    assert not again and f"seed {seed}" in said


def test_the_fuzzer_answers_a_bad_command_with_exit_code_2():
    for arguments in (["--count", "0"], ["--minutes", "-1"], ["--seed", "-3"]):
        with pytest.raises(SystemExit) as stopped:
            fuzz.main(arguments)
        assert stopped.value.code == 2


def test_sound_networks_run_clean_under_the_sanitizers():
    with Runner(Machine(toolchain.SANITIZING_COMPILER)) as runner:
        for seed in range(20):
            graph, tensors = random_network(seed)
            data = compile_plan(analyse(graph, tensors), tensors).data
            rng = np.random.default_rng(seed)
            image = rng.integers(0, 256, (*rng.integers(1, 24, 2), 3)).astype(np.uint8)
            runner.open(data)
            found, expected = runner.run(image, trace=True), Core(data).run(image, trace=True)
            assert np.array_equal(found.image, expected.image)
            assert np.array_equal(found.counts, expected.counts) and np.array_equal(found.trace, expected.trace)
            assert np.array_equal(runner.run(image, by_rows=True).image, expected.image)
