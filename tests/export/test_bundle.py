"""`python -m export.bundle`: what was trained is what the device computes, or there is a sentence and no file."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import simulator
from export import bundle as export_bundle
from export.bundle import main, metadata, newest_finished
from simulator.bundle import quality, read_bundle
from train.checkpoint import read_checkpoint
from train.data import load_images
from train.frozen import freeze
from train.metrics import psnr
from train.run import hold_out, save_checkpoint, validation_pairs
from train.tasks import TASKS


def copy_of(run: Path, folder: Path, age: int = 0, **changes: object) -> Path:
    """The run's folder copied, entries of its checkpoint changed, last written `age` seconds ago."""
    shutil.copytree(run, folder)
    file = folder / "checkpoint.pt"
    save_checkpoint(file, torch.load(file, weights_only=True) | changes)
    now = file.stat().st_mtime
    os.utime(file, (now - age, now - age))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_run_becomes_a_bundle_that_all_backends_agree_about(run, tmp_path, capsys):
    out = tmp_path / "denoise.safetensors"
    assert main(["--checkpoint", str(run), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "numba: 0 of 19481 pixels differ" in printed and "torch: 0 of 19481 pixels differ" in printed
    assert "BSDS500: non-commercial research and education" in printed
    assert files(tmp_path) == [out.name]
    bundle = read_bundle(out)
    assert bundle.task == "denoise" and bundle.meta["training.steps"] == "12"
    assert json.loads(bundle.meta["training.settings"])["channels"] == [8, 8, 8, 8]
    assert bundle.analysis.parameters == sum(t.size for t in bundle.tensors.values())
    _, tensors, _ = freeze(read_checkpoint(run))
    assert all(np.array_equal(tensors[name], bundle.tensors[name]) for name in tensors)


def test_the_coarse_path_stands_in_the_bundle_and_no_folder_of_the_machine_does(run):
    checkpoint = read_checkpoint(run)
    assert "network.coarse" not in metadata(checkpoint, "-", "-", "-", {})
    settings = replace(checkpoint.settings, coarse=256, init="/home/ann/runs/first")
    meta = metadata(replace(checkpoint, settings=settings), "-", "-", "-", {})
    assert meta["network.coarse"] == "256"
    assert json.loads(meta["training.settings"])["init"] == "first" and "/home" not in "".join(meta.values())


def test_the_psnr_that_training_reported_is_the_psnr_of_the_bundle(run, photos, tmp_path):
    out = tmp_path / "denoise.safetensors"
    assert main(["--checkpoint", str(run), "--out", str(out)]) == 0
    with open(run / "log.csv", newline="") as file:
        reported = list(csv.DictReader(file))[-1]
    _, held_out = hold_out(load_images(photos))
    seed = read_checkpoint(run).settings.seed
    network = simulator.load(out, threads=1)
    for sigma in TASKS["denoise"].noise_levels:
        pairs = validation_pairs("denoise", held_out, seed, sigma)
        measured = np.mean([psnr(network.run(noisy).image, clean) for noisy, clean in pairs])
        assert float(reported[f"psnr_{sigma}"]) == pytest.approx(measured, abs=6e-4)
        assert quality(network.meta)[f"validation sigma {sigma}"] == float(reported[f"psnr_{sigma}"])


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    for name in ("a", "b"):
        assert main(["--checkpoint", str(run / "checkpoint.pt"), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_arguments_the_newest_finished_run_is_exported(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    copy_of(run, runs / "older", age=200, step=1)
    copy_of(run, runs / "newer", age=100, step=2)
    copy_of(run, runs / "going_on", age=50, step=3, finished=False)
    teacher = runs / "teacher_denoise"
    teacher.mkdir()
    save_checkpoint(teacher / "checkpoint.pt", {"settings": {"arch": "restormer"}, "step": 4, "finished": True})
    assert main([]) == 0
    assert "2 steps" in capsys.readouterr().out
    assert read_bundle("runs/newer/denoise.safetensors").meta["training.steps"] == "2"
    assert not list(runs.glob("*/.*"))


def test_without_arguments_and_without_a_finished_run_nothing_is_exported(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "There is no run of train.hkd in runs/" in capsys.readouterr().err
    copy_of(run, tmp_path / "runs" / "going_on", finished=False)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert "No run in runs/ is finished (runs/going_on" in error and error.count("\n") == 1
    assert "denoise.safetensors" not in files(tmp_path)


def test_an_unfinished_run_is_exported_if_it_is_named(run, tmp_path, capsys):
    going_on = copy_of(run, tmp_path / "run", finished=False)
    assert main(["--checkpoint", str(going_on)]) == 0
    assert "This run is not finished" in capsys.readouterr().out
    assert read_bundle(going_on / "denoise.safetensors").meta["training.finished"] == "no"


def test_a_run_without_a_rounding_phase_is_rounded_here(run, tmp_path, capsys):
    settings = torch.load(run / "checkpoint.pt", weights_only=True)["settings"]
    changed = copy_of(run, tmp_path / "run", settings=settings | {"rounding_phase": 0.0})
    assert main(["--checkpoint", str(changed)]) == 0
    assert "trained without the roundings" in capsys.readouterr().out


def test_terms_and_further_entries_are_stored_as_given(run, tmp_path):
    out = tmp_path / "denoise.safetensors"
    given = ["--data", "own photographs", "--data-terms", "CC0", "--licence", "CC-BY-4.0"]
    more = ["--meta", "note.author=A. Person", "note.contact=here = there"]
    assert main(["--checkpoint", str(run), "--out", str(out), *given, *more]) == 0
    meta = read_bundle(out).meta
    assert (meta["training.data"], meta["training.terms"]) == ("own photographs", "CC0")
    assert (meta["weights.licence"], meta["note.author"]) == ("CC-BY-4.0", "A. Person")
    assert meta["note.contact"] == "here = there"


@pytest.mark.parametrize("entry", ["author=me", "network.task=derain", "note.author", "note.Author=me"])
def test_an_entry_that_is_none_is_refused(entry, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--meta", entry])
    assert stop.value.code == 2 and entry in capsys.readouterr().err


class Trap:
    """Unpickled by an ordinary loader, this would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def bad_checkpoints(run: Path, folder: Path) -> dict[str, Path]:
    content = torch.load(run / "checkpoint.pt", weights_only=True)
    settings, average = content["settings"], content["average"]
    bias = next(name for name in average if name.endswith("bias"))
    files = {
        "missing": folder / "nowhere.pt",
        "no checkpoint in the folder": folder / "empty",
        "text": folder / "text.pt",
        "cut short": folder / "short.pt",
        "code": folder / "code.pt",
    }
    files["no checkpoint in the folder"].mkdir()
    files["text"].write_text("this is no checkpoint")
    files["cut short"].write_bytes((run / "checkpoint.pt").read_bytes()[:5000])
    torch.save({"settings": settings, "student": Trap(folder / "executed")}, files["code"])
    changes = {
        "list": [1, 2],
        "no student": {key: value for key, value in content.items() if key != "student"},
        "settings of another version": content | {"settings": {**settings, "flux": 3}},
        "unknown student": content | {"settings": {**settings, "student": "giant"}},
        "unknown task": content | {"settings": {**settings, "task": "../../denoise"}},
        "other channels": content | {"settings": {**settings, "channels": (16, 16, 16, 16)}},
        "not finite": content | {"average": {**average, bias: average[bias] * float("nan")}},
        "out of bounds": content | {"average": {**average, bias: average[bias] + 1e9}},
    }
    for name, changed in changes.items():
        files[name] = folder / f"{name.replace(' ', '_')}.pt"
        torch.save(changed, files[name])
    return files


def test_a_bad_checkpoint_is_answered_with_one_sentence(run, tmp_path, capsys):
    out = tmp_path / "out" / "denoise.safetensors"
    out.parent.mkdir()
    for name, path in bad_checkpoints(run, tmp_path).items():
        assert main(["--checkpoint", str(path), "--out", str(out)]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("export.bundle: ") and error.count("\n") == 1, name
        assert "Traceback" not in error and str(path) in error, name
    assert files(out.parent) == [] and not (tmp_path / "executed").exists()


def test_a_place_that_cannot_be_written_to_is_named(run, tmp_path, capsys):
    assert main(["--checkpoint", str(run), "--out", str(tmp_path / "nowhere" / "a.safetensors")]) == 2
    error = capsys.readouterr().err
    assert "nowhere/a.safetensors" in error and ".check" not in error and error.count("\n") == 1
    taken = tmp_path / "taken"
    taken.mkdir()
    assert main(["--checkpoint", str(run), "--out", str(taken)]) == 2
    assert files(tmp_path) == ["taken"]


def test_a_bundle_that_the_backends_do_not_agree_about_is_not_written(run, tmp_path, capsys, monkeypatch):
    make = export_bundle.restorer

    def broken(name, bundle, threads=None):
        """PyTorch with one threshold changed."""
        if name == "torch":
            tensors = {key: value.copy() for key, value in bundle.tensors.items()}
            tensors["encoder1.1.lif1.threshold"][:] //= 2
            bundle = replace(bundle, tensors=tensors)
        return make(name, bundle, threads)

    monkeypatch.setattr(export_bundle, "restorer", broken)
    out = tmp_path / "denoise.safetensors"
    out.write_bytes(b"an older bundle")
    assert main(["--checkpoint", str(run), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert "first at layer 'encoder1.1.lif1', step " in printed.out and "not written" in printed.err
    assert files(tmp_path) == [out.name] and out.read_bytes() == b"an older bundle"


def test_the_newest_run_is_the_one_that_was_written_last(run, tmp_path):
    copy_of(run, tmp_path / "a", age=0, step=5)
    copy_of(run, tmp_path / "b", age=10, step=6)
    assert newest_finished(tmp_path).step == 5


def test_pytorch_may_differ_only_where_float32_promises_nothing(run, tmp_path, monkeypatch):
    graph, tensors, _ = freeze(read_checkpoint(run))
    meta = {"network.task": "denoise", "training.data": "-", "training.terms": "-", "weights.licence": "-"}
    make = export_bundle.restorer

    def broken(name, bundle, threads=None):
        one = make(name, bundle, threads)
        return replace(one, run=lambda image: (255 - one.restore(image), None)) if name == different else one

    monkeypatch.setattr(export_bundle, "restorer", broken)
    monkeypatch.setattr(export_bundle, "inexact_nodes", lambda analysis: inexact)
    for different, inexact, written in (("torch", ["a"], True), ("torch", [], False), ("numba", ["a"], False)):
        out = tmp_path / f"{different}{len(inexact)}"
        content_hash, comparison = export_bundle.export(out, graph, tensors, meta)
        assert comparison.differing[different] == 19481
        assert (content_hash is not None) == written == out.exists()
