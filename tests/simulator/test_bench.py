"""`python -m simulator.bench`: one table and one JSON file; what is missing is named, what differs is an error."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from simulator import bench
from simulator.bundle import write_bundle
from tests.simulator.networks import META, random_network


@pytest.fixture(scope="module")
def bundle_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "denoise.safetensors"
    write_bundle(path, *random_network(2), META)
    return path


def test_times_ratios_and_differences_are_reported(bundle_file, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "bench.json"
    sizes = ["--sizes", "24", "150"]
    assert bench.main(["--bundle", str(bundle_file), "--repeats", "3", "--json", str(out), *sizes]) == 0
    report = json.loads(out.read_text())
    assert report["threads"] == 1 and report["missing"] == {}
    small, large = report["sizes"]
    names = [entry["name"] for entry in small["contenders"]]
    assert names == ["event-driven engine (Numba)", "NumPy reference", "ONNX Runtime float32, same network"]
    assert [entry["name"] for entry in large["contenders"]] == [names[0], names[2]]  # the reference is too slow for it
    for entry in (*small["contenders"], *large["contenders"]):
        assert len(entry["times_ms"]) == 3 and min(entry["times_ms"]) > 0 and entry["differing_pixels"] == 0
        assert entry["median_ms"] == sorted(entry["times_ms"])[1]
    assert small["contenders"][0]["ratio"] == 1 and 0 < small["spike_rate"] < 1
    printed = capsys.readouterr().out
    assert all(name in printed for name in names) and f"{large['width']}x{large['height']} pixels" in printed


def test_a_missing_package_is_named_and_no_mistake(bundle_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "bench.json"
    run = ["--bundle", str(bundle_file), "--repeats", "1", "--sizes", "8", "--json", str(out)]
    assert bench.main(run) == 0
    assert "missing: ONNX Runtime float32, same network: The package onnxruntime" in capsys.readouterr().out
    assert list(json.loads(out.read_text())["missing"]) == ["ONNX Runtime float32, same network"]


def test_the_picture_is_the_middle_of_the_sample_mirrored_on_where_it_ends():
    what, small = bench.noisy_picture(100)
    _, large = bench.noisy_picture(1000)
    assert what == "the noisy sample picture" and small.shape == (3, 100, 100) and large.shape == (3, 1000, 1000)
    assert np.array_equal(large[:, 450:550, 450:550], small)
    assert np.array_equal(large[:, :, 259], large[:, :, 260])  # the sample's left border


def test_without_the_sample_the_picture_is_synthetic(tmp_path):
    what, picture = bench.noisy_picture(64, tmp_path / "none.png")
    assert "synthetic" in what and picture.shape == (3, 64, 64) and picture.std() > 25


@pytest.mark.parametrize("wrong", ["--threads 0", "--repeats 0", "--sizes 0", "--sizes 5000"])
def test_a_wrong_option_is_refused(wrong, bundle_file, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(["--bundle", str(bundle_file), *wrong.split()])
    assert stop.value.code == 2 and wrong.split()[0] in capsys.readouterr().err


def test_bad_files_are_answered_with_one_sentence(bundle_file, tmp_path, capsys):
    assert bench.main(["--bundle", str(tmp_path / "none.safetensors")]) == 2
    nowhere = tmp_path / "nowhere" / "a.json"
    assert bench.main(["--bundle", str(bundle_file), "--repeats", "1", "--sizes", "8", "--json", str(nowhere)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "none.safetensors" in first and str(nowhere) in second
