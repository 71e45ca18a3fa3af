"""The committed vectors: a change of the contract or of the file format must be deliberate (see make_golden.py)."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from simulator import load
from simulator.bundle import read_bundle, write_bundle
from simulator.kinds import KINDS
from simulator.trace import first_difference
from tests.golden.make_golden import FOLDER, NAMES, facts, read_picture

MEANING = "this changes what existing bundles compute; see tests/golden/make_golden.py"


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("name", NAMES)
def test_a_backend_gives_the_golden_picture_trace_and_counts(name, backend):
    expected = json.loads((FOLDER / f"{name}.json").read_text())
    found, restored = facts(load(FOLDER / f"{name}.safetensors", backend), read_picture(FOLDER / "input.png"))
    assert first_difference(expected["trace"], found["trace"]) is None, MEANING
    assert json.loads(json.dumps(found)) == expected, MEANING
    assert np.array_equal(restored, read_picture(FOLDER / f"{name}.png")), MEANING


@pytest.mark.parametrize("name", NAMES)
def test_the_file_format_is_the_golden_one(name, tmp_path):
    bundle = read_bundle(FOLDER / f"{name}.safetensors")
    write_bundle(tmp_path / "again", bundle.graph, bundle.tensors, bundle.meta)
    assert (tmp_path / "again").read_bytes() == (FOLDER / f"{name}.safetensors").read_bytes()


def test_every_kind_of_node_has_golden_files_with_that_kind_in_them():
    missing = [kind for kind in KINDS if not (FOLDER / f"{kind}.safetensors").exists()]
    assert missing == [], "run python -m tests.golden.make_golden"
    for kind in KINDS:
        assert kind in {node.kind for node in read_bundle(FOLDER / f"{kind}.safetensors").graph.nodes}


def test_nothing_lies_there_that_no_test_looks_at():
    names = {path.stem for path in FOLDER.iterdir() if path.suffix in (".json", ".png", ".safetensors")}
    assert names - {*NAMES, "input"} == set()


def test_the_largest_golden_network_has_every_neuron_and_attention():
    nodes = read_bundle(FOLDER / "kinds.safetensors").graph.nodes
    assert {(n["leak"], n["reset"]) for n in nodes if n.kind == "lif"} == {
        (leak, reset) for leak in ("shift", "decay") for reset in ("zero", "subtract")
    }
    assert {n["over"] for n in nodes if n.kind == "attend"} == {"time", "channel", "space"}


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_networks_are_alive(name):
    picture = read_picture(FOLDER / "input.png")
    assert picture.shape == (45, 61, 3)
    stats = load(FOLDER / f"{name}.safetensors", "reference").run(picture).stats
    assert all(0.01 < layer.spike_rate < 0.6 for layer in stats.layers if layer.neurons)
    change = cv2.absdiff(read_picture(FOLDER / f"{name}.png"), picture)
    assert 1 < change.mean() < 40
