"""Loihi 2's published arithmetic as an oracle: the neurons of the student for NIR in lava-nc's fixed-point models."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.nir import INPUT, body_of
from simulator.bundle import Bundle, read_bundle
from simulator.cut import Host, cut
from simulator.pictures import noisy_picture
from tests.conformance.agreement import bundled
from tests.export.nir_networks import untrained

HERE = Path(__file__).parent
SHIPPED = sorted((HERE.parents[1] / "edge" / "bundles").glob("*-nir.safetensors"))
LAVA = Path(sys.prefix) / "lava"  # where scripts/lava.sh puts it
EIGHT_BITS = 127  # the largest weight of a synapse
LARGEST_THRESHOLD = 2**17 - 1
LARGEST_MEMBRANE = 2**23 - 1

needs_lava = pytest.mark.skipif(
    not any(importlib.metadata.distributions(name="lava-nc", path=[str(LAVA)])),
    reason=f"lava-nc is not in {LAVA}; `scripts/lava.sh {sys.prefix}` puts it there",
)


def on_lava(bundle: Bundle, pixels: np.ndarray, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """({layer: spikes [T, C, H, W] of the reference}, the same of lava-nc) for a picture uint8 [3, H, W]."""
    body, analysis, steps = body_of(bundle), bundle.analysis, bundle.graph.time_steps
    host = Host(cut(analysis), bundle.tensors)
    entering = host.head(pixels.astype(np.int16) - 128)
    expected: dict[str, np.ndarray] = {}
    host.body(entering, lambda name, value: expected.__setitem__(name, value))
    layers, arrays = [], {}
    for node in body.neurons:
        threshold, bias = bundle.tensors[f"{node.name}.threshold"], bundle.tensors[f"{node.name}.bias"]
        assert node["above"] and node["reset"] == "zero" and node["leak"] == "decay"
        assert node["fine"] == 6 and threshold[0] <= LARGEST_THRESHOLD  # Loihi's own six digits below the current
        assert analysis.bounds[node.name] <= LARGEST_MEMBRANE
        current = np.zeros(expected[node.name].shape, np.int32) + bias[:, None, None]
        convolutions = []
        for source in body.sources[node.name]:
            if source == INPUT:
                current += entering[body.entering.name].astype(np.int32)
                continue
            one = bundle.graph.node(source)
            weight = bundle.tensors[f"{source}.weight"]
            assert np.abs(weight).max() <= EIGHT_BITS and not one["bias"]
            arrays[f"{source}.weight"] = weight
            attributes = {part: one[part] for part in ("padding", "stride", "dilation")}
            convolutions.append({"name": source, "neurons": one.inputs[0], "attributes": attributes})
        leak = int(bundle.tensors[f"{node.name}.leak"][0])
        layers.append({
            "name": node.name, "threshold": int(threshold[0]), "leak": leak, "convolutions": convolutions,
        })  # fmt: skip
        arrays[f"{node.name}.current"] = current
    assert steps == 4
    given, found = folder / "body.npz", folder / "spikes.npz"
    np.savez(given, layers=json.dumps(layers), **arrays)
    command = [sys.executable, str(HERE / "loihi2.py"), str(LAVA), str(given), str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {node.name: expected[node.name] for node in body.neurons}, dict(np.load(found))


def check(bundle: Bundle, pixels: np.ndarray, folder: Path) -> None:
    expected, found = on_lava(bundle, pixels, folder)
    assert list(found) == list(expected)
    for layer, spikes in expected.items():
        assert 0 < spikes.mean() < 1, layer
        assert np.array_equal(found[layer], spikes), layer


@needs_lava
def test_loihis_arithmetic_gives_the_spikes_of_an_untrained_student(tmp_path):
    check(untrained(width=12, dilations=(1, 3)), noisy_picture(24, 32)[1], tmp_path)


@needs_lava
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_loihis_arithmetic_gives_the_spikes_of_a_shipped_network(path, tmp_path):
    check(read_bundle(path), noisy_picture(32, 48)[1], tmp_path)


@needs_lava
def test_a_threshold_one_unit_higher_is_noticed(tmp_path):
    bundle = untrained(width=6, dilations=(2,))
    pixels = noisy_picture(48, 48)[1]
    expected, found = on_lava(bundle, pixels, tmp_path)
    assert all(np.array_equal(found[layer], expected[layer]) for layer in expected)
    changed = {**bundle.tensors, "body.1.lif1.threshold": bundle.tensors["body.1.lif1.threshold"] + 1}
    other, _ = on_lava(bundled(bundle.graph, changed), pixels, tmp_path)
    assert not np.array_equal(other["body.1.lif1"], found["body.1.lif1"])
