"""Evaluation: the protocols, the table with the untouched input, and every backend on the same pixels."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from train import evaluate, hkd
from train.data import add_noise, load_images
from train.metrics import psnr

needs_onnx = pytest.mark.skipif(sys.version_info < (3, 11), reason="onnxruntime needs Python 3.11")
BUNDLE = Path(__file__).parents[1] / "golden" / "edge.safetensors"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 56), (33, 47)]):
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return folder


def report(arguments: list[str], tmp_path: Path) -> dict:
    path = tmp_path / "report.json"
    assert evaluate.main([*arguments, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_the_untouched_inputs_row_is_the_psnr_of_the_noise(photos, tmp_path, capsys):
    found = report(["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25", "--threads", "1"], tmp_path)
    images = load_images(photos)
    expected = np.mean([psnr(add_noise(im, 25, 0, True, i), im) for i, im in enumerate(images)])
    assert found["results"]["clipped"]["25"]["input"]["psnr"] == pytest.approx(expected)
    assert found["results"]["unclipped"]["25"]["input"]["psnr"] == pytest.approx(20.17, abs=0.15)  # 20 log10(255 / 25)
    table = capsys.readouterr().out
    for words in ("untouched input", "protocol: clipped", "protocol: unclipped", "seed 0", "as printed", "CBM3D"):
        assert words in table


@needs_onnx
def test_all_backends_of_a_bundle_give_the_same_scores(photos, tmp_path):
    arguments = ["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "15", "--protocol", "clipped"]
    results = {b: report([*arguments, "--backend", b], tmp_path)["results"]["clipped"]["15"] for b in evaluate.BACKENDS}
    scores = {(r["restored"]["psnr"], r["restored"]["ssim"]) for r in results.values()}
    assert len(scores) == 1
    assert results["numba"]["spike_rate"] == results["reference"]["spike_rate"] > 0


def test_the_unclipped_protocol_agrees_between_integer_backends_and_pytorch(photos, tmp_path):
    arguments = ["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "50", "--protocol", "unclipped"]
    results = [
        report([*arguments, "--backend", b], tmp_path)["results"]["unclipped"]["50"]["restored"]
        for b in ("numba", "reference", "torch")
    ]
    assert results[0] == results[1] == results[2]


def test_a_checkpoint_can_be_evaluated_before_it_is_exported(photos, tmp_path):
    run = tmp_path / "run"
    short = "--task denoise --channels 8 8 8 8 --patch 32 --batch 2 --threads 1 --device cpu --stages none --steps 2"
    assert hkd.main([*short.split(), "--data", str(photos), "--out", str(run)]) == 0
    found = report(["--checkpoint", str(run), "--data", str(photos), "--sigma", "25"], tmp_path)
    assert found["step"] == 2 and found["backend"] == "torch"


def test_a_test_set_of_another_size_is_said_to_be_one(photos, tmp_path, capsys):
    report(["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25"], tmp_path)
    assert "cbsd68 has 68 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bundle", "no/such.safetensors"], "no/such.safetensors"),
        (["--checkpoint", "no/such.pt"], "not a checkpoint"),
        pytest.param(
            ["--bundle", str(BUNDLE), "--backend", "onnx", "--protocol", "unclipped"], "8-bit pixels", marks=needs_onnx
        ),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(photos, capsys, arguments, sentence):
    assert evaluate.main([*arguments, "--data", str(photos)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
