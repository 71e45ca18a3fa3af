"""The device plan: the same bytes every time, memory that is shared but never at the same time, and the marks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.native import Core
from firmware_bridge.plan import Plan, PlanError, compile_bundle, compile_plan
from firmware_bridge.plan import __main__ as planning
from firmware_bridge.plan.compiler import most_in_int16
from firmware_bridge.plan.memory import place_rows
from firmware_bridge.plan.program import Operation
from firmware_bridge.plan.records import NONE, OPERATION, header_hash, sealed
from firmware_bridge.tiles import Tile, tiles
from simulator.analysis import analyse
from simulator.bundle import read_bundle
from simulator.random_networks import random_network
from tests.simulator.networks import small_network

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*.safetensors"))
# Those at full resolution are for larger machines.
SMALL = [path for path in SHIPPED if not path.stem.endswith(("-fine", "-large"))]


def plan_of(seed: int, fuse: bool = True) -> Plan:
    graph, tensors = random_network(seed)
    return compile_plan(analyse(graph, tensors), tensors, fuse=fuse)


def test_the_same_network_gives_the_same_bytes_and_another_one_does_not():
    assert plan_of(4).data == plan_of(4).data
    assert plan_of(4).hash != plan_of(5).hash
    assert plan_of(4).hash != plan_of(4, fuse=False).hash


def test_a_plan_names_the_bundle_that_it_was_compiled_from():
    bundle = read_bundle(SMALL[0])
    assert header_hash(compile_bundle(bundle).data, "bundle_hash").hex() == bundle.content_hash


def test_sealing_a_sealed_plan_changes_nothing():
    data = plan_of(1).data
    assert sealed(data) == data


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "every node"])
@pytest.mark.parametrize("seed", range(4))
def test_a_kind_that_the_plan_does_not_have_is_refused_by_name_wherever_it_stands(seed, fuse):
    graph, tensors = random_network(seed)
    analysis = analyse(graph, tensors)
    for at, node in enumerate(graph.nodes):
        nodes = (*graph.nodes[:at], replace(node, kind="unheard_of"), *graph.nodes[at + 1 :])
        unknown = replace(analysis, graph=replace(graph, nodes=nodes))
        with pytest.raises(PlanError, match=f"layer '{node.name}' is of the kind 'unheard_of', which the device plan"):
            compile_plan(unknown, tensors, fuse=fuse)


def test_rows_of_an_operation_that_is_not_known_are_not_planned():
    fields = dict.fromkeys(OPERATION, 0) | {"output": NONE, "spikes": NONE, "restores": 1}
    with pytest.raises(NotImplementedError, match="rows the operation 'window' reads"):
        place_rows([], [Operation("window", "x", fields)], [], 2, 2)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "every node"])
@pytest.mark.parametrize("seed", range(30))
def test_values_share_memory_only_when_one_takes_over_from_the_other(seed, fuse):
    plan = plan_of(seed, fuse)
    for i, a in enumerate(plan.values):
        assert a.offset + a.unit_bytes <= plan.unit
        for b in plan.values[i + 1 :]:
            apart = a.offset + a.unit_bytes <= b.offset or b.offset + b.unit_bytes <= a.offset
            at_different_times = a.last < b.first or b.last < a.first
            takes_over = a.last == b.first and a.offset == b.offset and a.unit_bytes == b.unit_bytes
            assert apart or at_different_times or takes_over, f"{a} and {b}"


def test_without_fusion_every_node_but_the_readout_is_stored():
    for seed in range(8):
        graph, tensors = random_network(seed)
        plan = compile_plan(analyse(graph, tensors), tensors, fuse=False)
        assert [value.node for value in plan.values] == [node.name for node in graph.nodes[:-1]]


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_a_64x64_picture_fits_a_microcontroller(path):
    plan = compile_bundle(read_bundle(path))
    working = Core(plan.data).memory_size(Tile.whole(64, 64))
    picture = 64 * 64 * 3  # restored in place
    assert working + picture <= 512 << 10
    assert len(plan.data) <= 160 << 10


@pytest.mark.parametrize("by_rows", [False, True], ids=["at once", "by rows"])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (64, 64), (900, 64)])
def test_the_core_asks_for_the_planned_arena_and_for_lists_of_a_few_rows(size, by_rows):
    plan = compile_bundle(read_bundle(SMALL[0]))
    arena = plan.arena_bytes(*size, by_rows)
    assert 0 <= Core(plan.data).memory_size(Tile.whole(*size), by_rows) - arena <= 12288 + 450 * size[1]


def test_by_rows_memory_does_not_grow_with_the_height():
    plan = compile_bundle(read_bundle(SMALL[0]))
    core = Core(plan.data)
    assert core.memory_size(Tile.whole(4000, 64), True) == core.memory_size(Tile.whole(64, 64), True)
    assert core.memory_size(Tile.whole(480, 640), True) < core.memory_size(Tile.whole(480, 640)) / 3


def test_the_overhead_of_tiles_is_that_of_the_tiles_that_are_run():
    plan, analysis = compile_bundle(read_bundle(SMALL[0])), read_bundle(SMALL[0]).analysis
    for height, width, side in ((300, 200, 64), (64, 64, 64), (65, 500, 16), (1, 1, 16)):
        parts = tiles(analysis, height, width, side)
        computed = sum(part.height * part.width for part in parts)
        largest = max(part.height for part in parts), max(part.width for part in parts)
        assert plan.tiled(height, width, side) == (*largest, computed / (height * width))
    assert plan.tiled(64, 64, 64)[2] == 1


@pytest.mark.parametrize("seed", range(30))
def test_by_rows_nothing_shares_memory(seed):
    plan = plan_of(seed)
    ends = []
    for value in plan.values:
        columns = plan.stride // value.scale
        position = (
            -(-value.channels // 32) * 4 if value.storage == "bits" else value.channels * int(value.storage[3:]) // 8
        )
        ends.append((value.row_offset, value.row_offset + value.rows * columns * value.steps * position))
    ends.sort()
    assert all(end <= start for (_, end), (start, _) in zip(ends, ends[1:], strict=False))
    assert not ends or ends[-1][1] <= plan.row_unit


def test_the_command_writes_the_plan_and_says_what_sets_its_memory(tmp_path, capsys):
    out = tmp_path / "denoise.plan"
    assert planning.main([str(SMALL[0]), "--out", str(out), "--size", "64x64"]) == 0
    plan = compile_bundle(read_bundle(SMALL[0]))
    assert out.read_bytes() == plan.data
    said = capsys.readouterr().out
    assert plan.hash in said and f"{plan.units(64, 64) * plan.unit:,} bytes for 64x64" in said
    assert f"{4 * plan.row_unit:,} bytes for any height at a width of 64" in said
    assert f"{plan.units(64, 64) * max(v.unit_bytes for v in plan.values):,} encoder1.1.add" in said


@pytest.mark.parametrize("arguments", [["no such file"], [str(SHIPPED[0]), "--out", "/no/such/folder/x.plan"]])
def test_the_command_answers_faults_with_one_sentence(arguments, capsys):
    assert planning.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("size", ["64", "0x8", "axb", "8x-1"])
def test_the_command_refuses_a_size_that_is_none(size, capsys):
    with pytest.raises(SystemExit) as stopped:
        planning.main([str(SHIPPED[0]), "--size", size])
    assert stopped.value.code == 2


@pytest.mark.parametrize("times", [1, 4])
def test_no_spikes_that_int16_is_said_to_hold_are_too_many_and_one_more_may_be(times):
    weight = np.random.default_rng(0).integers(-2048, 2049, (5, 6, 3, 3)).astype(np.int32)
    most = most_in_int16(weight, times)

    def largest(spikes: int) -> int:
        return max(np.sort(sign * row.ravel().repeat(times))[::-1][:spikes].sum() for row in weight for sign in (1, -1))

    assert largest(most) <= (1 << 15) - 1 < largest(most + 1)
    assert most_in_int16(weight // 256, times) == NONE


def test_the_fewest_bytes_are_used_that_the_bounds_allow():
    graph, tensors = small_network()
    for name, limit in (("int16", 1), ("larger", 40)):
        larger = {key: np.array(t * limit) if key.startswith("head.") else t for key, t in tensors.items()}
        larger = {key: np.clip(t, -2048, 2048) if key.endswith("weight") else t for key, t in larger.items()}
        analysis = analyse(graph, larger)
        for value in compile_plan(analysis, larger, fuse=False).values:
            if value.storage != "bits":
                known = analysis.values[value.node]
                larger = "int24" if known.magnitude < 1 << 23 and known.channels % 2 == 0 else "int32"
                assert value.storage == ("int16" if known.magnitude < 1 << 15 else larger), name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_memory_that_plan_md_states_is_what_the_core_asks_for(path):
    table = (ROOT / "firmware_bridge" / "PLAN.md").read_text()
    (row,) = (line for line in table.splitlines() if line.startswith(f"| {path.stem} |"))
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    stated = [int(cell) for cell in cells if cell.isdigit()]
    plan, whole = compile_bundle(read_bundle(path)), Tile.whole(64, 64)
    arena, working = plan.arena_bytes(64, 64), Core(plan.data).memory_size(whole)
    by_rows = round(Core(plan.data).memory_size(whole, by_rows=True) / 64)
    assert stated == [len(plan.data), arena, working - arena, working + 64 * 64 * 3, by_rows]
