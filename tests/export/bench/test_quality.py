"""`python -m export.bench.quality`: quality of what each runtime returns, times in turn, who wins at equal quality."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.bench import quality, quality_report, trained
from export.bench.ann.trained import trained_ann
from train import evaluate, hkd
from train.data import load_images

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

ANN = (
    "--task denoise --ann --stages none --channels 8 8 8 8 --patch 16 --batch 2 --threads 1 --device cpu --warmup 2 "
    "--steps 20 --validate-every 20"
).split()
INTEGER = [runtime for runtime, bits, _ in trained.RUNTIMES if bits == 8]


@pytest.fixture(scope="module")
def ann_run(photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "dense"
    assert hkd.main([*ANN, "--data", str(photos), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Path:
    """Two pictures of the size that calibration takes, and one that is too small."""
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(1)
    for i, side in enumerate((128, 140, 40)):
        coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def found(bundle_file, ann_run, photos, training, tmp_path_factory) -> tuple[dict, Path, str]:
    """(the report, the folder of its files, what was printed) of one run with a board's figures."""
    out = tmp_path_factory.mktemp("quality")
    content = trained.spiking(bundle_file).content
    stats = {"instructions_per_synop": 4.0, "totals": {"synops": 1000}, "frames": 1, "bundle": content}
    (out / "m7.json").write_text(json.dumps(stats | {"backend": "qemu-mps2-an500"}))
    arguments = ["--data", photos, "--bundles", bundle_file, "--ann-runs", ann_run, "--calibrate", training]
    arguments += ["--board-stats", out / "m7.json", "--sizes", 32, 48, "--threads", 1, 2, "--repeats", 3, "--out", out]
    assert quality.main(list(map(str, arguments))) == 0
    return json.loads((out / "quality.json").read_text()), out, (out / "quality.md").read_text()


def test_every_runtime_has_its_quality_and_its_times(found):
    report, out, page = found
    assert report["missing"] == {} and len(report["networks"]) == 6
    for row in report["networks"]:
        assert set(row["psnr"]) == {"15", "25", "50"} and row["mean"] == pytest.approx(np.mean([*row["psnr"].values()]))
        assert [(t["width"], t["threads"]) for t in row["timings"]] == [(32, 1), (48, 1), (32, 2), (48, 2)]
        assert all(len(t["times_ms"]) == 3 and t["median_ms"] > 0 for t in row["timings"])
        assert row["label"] in page
    lines = list(csv.DictReader((out / "quality.csv").read_text().splitlines()))
    assert len(lines) == 6 * 4 and {line["sort"] for line in lines} == {"spiking", "ann"}
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_the_quality_is_what_evaluation_finds(found, bundle_file, ann_run, photos, tmp_path):
    rows = {row["runtime"]: row for row in found[0]["networks"]}
    for option, path, runtime in (
        ("--bundle", bundle_file, "event-driven engine"),
        ("--checkpoint", ann_run, "ONNX Runtime float32"),
    ):
        out = tmp_path / "scores.json"
        arguments = [option, str(path), "--data", str(photos), "--protocol", "clipped", "--json", str(out)]
        assert evaluate.main(arguments) == 0
        results = json.loads(out.read_text())["results"]["clipped"]
        for sigma, value in rows[runtime]["psnr"].items():
            assert value == pytest.approx(results[sigma]["restored"]["psnr"], abs=0.01)


def test_the_8_bit_quality_is_of_the_8_bit_networks_own_output(found, ann_run, photos, training, monkeypatch):
    """With one weight level fewer than two its PSNR falls, though the float network is the same."""
    rows = {row["runtime"]: row for row in found[0]["networks"]}
    for runtime in INTEGER:
        assert rows[runtime]["psnr"]["15"] != rows["ONNX Runtime float32"]["psnr"]["15"]
        assert rows[runtime]["mean"] == pytest.approx(rows["ONNX Runtime float32"]["mean"], abs=0.5)
        assert "of the calibration pictures' values" in rows[runtime]["about"]
    monkeypatch.setattr(trained.to_tflite, "WEIGHT_LEVELS", 1)
    coarse = {one.runtime: one for one in trained.anns(trained_ann(ann_run), "dense", training, {})}["LiteRT int8"]
    images = load_images(photos)
    assert trained.quality(coarse, images, 0, 1)["15"] < rows["LiteRT int8"]["psnr"]["15"] - 0.01


def test_the_scales_that_restore_the_calibration_pictures_best_are_taken():
    pictures = trained.Calibration([np.zeros((3, 8, 8), np.uint8)], [np.full((8, 8, 3), 100, np.uint8)])

    def built(share: float) -> trained.Build:
        level = {1.0: 0, 0.9999: 90, 0.999: 50}[share]
        return lambda height, width, threads: lambda pixels: np.full_like(pixels, level)

    build, about = trained.best(built, pictures)
    assert build(8, 8, 1)(pictures.degraded[0])[0, 0, 0] == 90 and about.startswith("scales cover 99.99 %")


def row(label: str, network: str, mean: float, ms: float, bits: int = 0) -> dict:
    timing = {"width": 256, "height": 256, "threads": 1, "median_ms": ms}
    return {"label": label, "name": label, "network": network, "bits": bits, "mean": mean, "timings": [timing]}


def test_at_equal_quality_the_fastest_that_is_at_least_as_good_counts():
    rows = [
        row("small", "spiking", 29.0, 4.0),
        row("large", "spiking", 30.5, 20.0),
        row("poor", "ann", 28.0, 1.0, 8),
        row("good", "ann", 29.5, 6.0, 8),
        row("best", "ann", 30.0, 16.0, 32),
    ]
    found = {one["network"]: one for one in quality_report.equal_quality({"networks": rows})}
    assert (found["small"]["rival"], found["small"]["ratio"]) == ("good", 1.5)
    assert found["large"]["rival"] is None and found["large"]["ratio"] is None
    assert (found["poor"]["rival"], found["poor"]["ratio"]) == ("small", 4.0)
    assert found["best"]["rival"] == "large"


def test_instructions_stand_beside_what_is_cited(found):
    report, _, page = found
    assert report["boards"][0]["instructions"] == 4000
    assert "| Cortex-M7 | 0.0 |" in page and "CMSIS-NN (cited) | Cortex-M7 | 83.3 | - |" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle": "another"}, "add it to --bundles"),
        ({"frames": 3}, "is of 3 pictures; expected one"),
        ({"totals": {}}, "does not say how many instructions"),
    ],
)
def test_figures_of_a_board_that_do_not_fit_are_refused(change, words, bundle_file, photos, tmp_path, capsys):
    stats = {"instructions_per_synop": 4.0, "totals": {"synops": 1000}, "frames": 1, "backend": "qemu-mps2-an500"}
    stats["bundle"] = trained.spiking(bundle_file).content
    (tmp_path / "m7.json").write_text(json.dumps(stats | change))
    arguments = ["--data", photos, "--bundles", bundle_file, "--board-stats", tmp_path / "m7.json"]
    assert quality.main(list(map(str, arguments))) == 2
    assert words in capsys.readouterr().err


def test_the_test_set_does_not_calibrate(photos, ann_run, capsys):
    with pytest.raises(SystemExit) as ended:
        quality.main(["--data", str(photos), "--ann-runs", str(ann_run), "--calibrate", str(photos)])
    assert ended.value.code == 2 and "--calibrate is the test set" in capsys.readouterr().err


def test_mistakes_are_sentences(photos, run, ann_run, bundle_file, training, tmp_path, capsys):
    small = ["--data", str(photos), "--bundles", str(bundle_file), "--sizes", "16"]
    spiking = shutil.copytree(run, tmp_path / "spiking")
    assert quality.main([*small, "--ann-runs", str(spiking), "--calibrate", str(training)]) == 2
    assert "is a run of a spiking network" in capsys.readouterr().err
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    cv2.imwrite(str(tiny / "a.png"), np.zeros((20, 20, 3), np.uint8))
    assert quality.main([*small, "--ann-runs", str(ann_run), "--calibrate", str(tiny)]) == 2
    assert "has 128x128 pixels" in capsys.readouterr().err
    assert quality.main([*small, "--ann-runs", str(ann_run), str(ann_run), "--calibrate", str(training)]) == 2
    assert "Two networks are called 'dense'" in capsys.readouterr().err


def test_a_network_that_does_not_remove_noise_is_refused(photos, capsys):
    bundle = Path(quality.BUNDLE).with_name("derain.safetensors")
    assert quality.main(["--data", str(photos), "--bundles", str(bundle)]) == 2
    assert "was trained to derain" in capsys.readouterr().err
