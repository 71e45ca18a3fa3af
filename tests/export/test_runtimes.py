"""`python -m export.runtimes`: milliseconds and differences of all runtimes, and an error where bytes must be equal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from export import runtimes
from export.bench.runtimes import RUNTIMES
from export.files import ExportError
from export.runtimes import main

for package in ("onnxruntime", "openvino", "ncnn", "pnnx", "ai_edge_litert"):
    pytest.importorskip(package)  # for Python 3.11 and newer
BUNDLES = Path(__file__).parents[2] / "edge" / "bundles"
BUNDLE = str(BUNDLES / "dejpeg.safetensors")
QUICK = ["--bundle", BUNDLE, "--random", "1", "--size", "16", "--repeats", "1"]


def test_every_runtime_has_its_milliseconds_and_its_differences(photos, tmp_path, capsys):
    for path in photos.glob("*.png"):  # too small to be cropped as they are
        image = cv2.resize(cv2.imread(str(path)), (80, 70), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / path.name), image)
    out = tmp_path / "runtimes.json"
    assert main([*QUICK, "--data", str(tmp_path), "--photos", "2", "--json", str(out)]) == 0
    report, printed = json.loads(out.read_text()), capsys.readouterr().out
    keys = [runtime.key for runtime in RUNTIMES]
    assert report["missing"] == {} and list(report["times"]) == ["dejpeg"]
    rows = report["times"]["dejpeg"]
    assert [row["key"] for row in rows] == ["engine", *keys] and rows[0]["ratio"] == 1
    assert all(row["median_ms"] > 0 for row in rows)
    assert list(report["counts"]) == ["dejpeg", "1 random networks"]
    for found in report["counts"].values():
        assert list(found) == keys
        assert not any(found[runtime.key]["differing"] for runtime in RUNTIMES if runtime.exact)
    photographs = report["counts"]["dejpeg"]
    assert {one["values"] for one in photographs.values()} == {2 * 3 * 64 * 64}
    assert [len(photographs[runtime.key]["cost_db"]) for runtime in RUNTIMES] == [2 * (not r.exact) for r in RUNTIMES]
    assert "| LiteRT (XNNPACK), unrolled |" in printed and "| dejpeg | 24,576 | 0 | 0 | 0 |" in printed


def test_a_runtime_that_differs_where_it_must_not_is_named(capsys, monkeypatch):
    good = RUNTIMES[0]

    def broken(*network):
        restore = good.build(*network)
        return lambda pixels: 255 - restore(pixels)

    monkeypatch.setattr(runtimes, "RUNTIMES", (replace(good, build=broken),))
    assert main([*QUICK, "--random", "0"]) == 1
    assert "ONNX Runtime float32, unrolled must give the same bytes and does not" in capsys.readouterr().err


def test_a_runtime_that_is_not_installed_is_left_out_and_named(capsys, monkeypatch):
    def absent(*network):
        raise ExportError("The package ncnn is not installed.")

    monkeypatch.setattr(runtimes, "RUNTIMES", (RUNTIMES[0], replace(RUNTIMES[-1], build=absent)))
    assert main([*QUICK, "--random", "0"]) == 0
    assert "missing: ncnn-default: The package ncnn is not installed." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--bundle", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--data", "nowhere"], "nowhere"),
        (["--random", "-1"], "--random must be 0 to 10000, not -1"),
        (["--threads", "0"], "--threads must be 1 to 1024, not 0"),
    ],
)
def test_bad_input_is_answered_with_one_sentence(options, sentence, capsys):
    try:
        code = main([*QUICK, *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and sentence in capsys.readouterr().err
