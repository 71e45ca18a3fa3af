"""`python -m export.compare`: counts pixels that differ, names the place, and refuses what it cannot compare."""

from __future__ import annotations

import numpy as np
import pytest

from export.compare import main
from train.backends import TorchBackend

pytest.importorskip("onnxruntime")  # exists for Python 3.11 and newer


def test_all_backends_agree_on_a_folder_of_images(bundle_file, photos, capsys):
    assert main([str(bundle_file), "--data", str(photos), "--threads", "1", "--sigma", "15", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Every bound is below 2^24: the float backends must agree, too."
    assert sum("0 of 6579 pixels differ from reference" in line for line in lines) == 2 * 3
    assert sum(line.startswith("sigma 50") for line in lines) == 4


def test_a_difference_is_counted_and_its_layer_and_step_are_named(bundle_file, photos, capsys, monkeypatch):
    thaw = TorchBackend.__init__

    def broken(self, analysis, tensors, threads=None):
        tensors = {name: np.array(tensor) for name, tensor in tensors.items()}
        tensors["decoder1.1.lif1.threshold"] //= 4
        thaw(self, analysis, tensors, threads)

    monkeypatch.setattr(TorchBackend, "__init__", broken)
    backends = ["--backends", "numba", "torch", "onnx", "--limit", "1", "--sigma", "25"]
    assert main([str(bundle_file), "--data", str(photos), *backends]) == 1
    _, _, numba, torch, onnx = capsys.readouterr().out.splitlines()
    assert numba.startswith("sigma 25  numba: 2193 pixels in ")
    assert "first at layer 'decoder1.1.lif1', step " in torch and " 0 of 2193 pixels differ" not in torch
    assert "onnx: 0 of 2193 pixels differ from numba" in onnx


def test_what_cannot_be_compared_is_answered_with_one_sentence(bundle_file, photos, tmp_path, capsys):
    for bundle, data in ((photos / "0.png", photos), (bundle_file, tmp_path), (bundle_file, tmp_path / "nowhere")):
        assert main([str(bundle), "--data", str(data)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("export.compare: ") and error.count("\n") == 1


@pytest.mark.parametrize("wrong", ["--limit 0", "--threads -1", "--sigma -3", "--backends numba", "--backends c numba"])
def test_a_wrong_option_is_refused(wrong, bundle_file, photos, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(bundle_file), "--data", str(photos), *wrong.split()])
    assert stop.value.code == 2 and wrong.split()[0] in capsys.readouterr().err
