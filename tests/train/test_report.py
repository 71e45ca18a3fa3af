"""Table 7: what is counted, what is not known, and what the paper printed."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import simulator
from simulator.analysis import analyse
from simulator.pictures import noisy_picture
from train import hkd, report
from train.architectures import build_graph
from train.student import EquivalentAnn, ann_parameters

BUNDLE = Path(__file__).parents[1] / "golden" / "edge.safetensors"
TINY = "--task denoise --channels 8 8 8 8 --patch 32 --batch 1 --threads 1 --device cpu --stages none --steps 1".split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(2):
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (56, 40), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory) -> dict[str, Path]:
    """One step each: the edge student, its ANN, and the paper's student, all narrow."""
    root = tmp_path_factory.mktemp("runs")
    more = {"edge": [], "ann": ["--ann"], "paper": ["--student", "paper"]}
    for name, options in more.items():
        assert hkd.main([*TINY, *options, "--data", str(photos), "--out", str(root / name)]) == 0
    return {name: root / name for name in more}


def made(arguments: list[str], tmp_path: Path) -> dict[str, dict]:
    """The rows of the command's JSON by name."""
    path = tmp_path / "report.json"
    assert report.main([*arguments, "--json", str(path)]) == 0
    return {row["network"]: row for row in json.loads(path.read_text())["rows"]}


def test_a_bundles_row_is_what_its_network_counts_on_the_sample_picture(tmp_path, capsys):
    rows = made(["--bundles", str(BUNDLE), "--out", str(tmp_path / "out")], tmp_path)
    network = simulator.load(BUNDLE, backend="reference")
    stats = network.run(np.ascontiguousarray(noisy_picture(256, 256)[1].transpose(1, 2, 0))).stats
    row = rows["edge"]
    assert row["parameters"] == network.params and row["macs"] == stats.macs
    assert row["synops"] == [stats.synops] * 2 and row["spike_rate"] == stats.spike_rate
    assert row["energy_uj"] == pytest.approx([0.9e-6 * stats.synops + 4.6e-6 * stats.macs] * 2)
    assert row["energy_as_printed_uj"] == pytest.approx([stats.as_printed_uj()] * 2)
    assert row["energy_as_printed_uj"][0] > row["energy_uj"][0]
    assert row["psnr"] == {}  # no --data
    out = capsys.readouterr().out
    for words in ("Table 7 of the paper", "estimated by Eq.", "PSNR was not measured", "0.07 M", "0.03 G", "swapped"):
        assert words in out
    assert "| edge | 5,720 | " in (tmp_path / "out" / "report.md").read_text()
    with open(tmp_path / "out" / "report.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][:3] == ["", "parameters", "MACs"] and lines[1][:2] == ["edge", "5,720"]


def test_the_papers_equivalent_ann_has_the_published_size():
    parameters, macs = report.restormer_counts()
    assert parameters == 10_220_974 and macs / 1e9 == pytest.approx(71.18, abs=0.005)


def test_an_untrained_student_stands_between_silence_and_every_neuron_firing(tmp_path, capsys):
    rows = made(["--bundles", str(BUNDLE)], tmp_path)
    row, analysis = rows["the student as the paper words it"], analyse(build_graph("paper"))
    assert row["parameters"] == analysis.parameters and row["spike_rate"] is None and row["psnr"] == {}
    least, most = report.count(analysis.graph)
    assert row["synops"] == [0, most.synops_max] and most.synops == most.synops_max > 0
    assert row["energy_uj"] == [least.estimated_uj(), most.estimated_uj()]
    assert "the student as the paper words it: not trained here" in capsys.readouterr().out


def test_an_ann_needs_no_thresholds_and_no_leaks():
    graph = build_graph("edge", (8, 8, 8, 8), ("time_steps=1",))
    ann = EquivalentAnn(graph)
    trained = sum(p.numel() for p in ann.parameters() if p.requires_grad)
    assert ann.deployed_parameters == ann_parameters(ann.analysis) == trained < ann.analysis.parameters


def test_runs_give_spikes_and_psnr_and_an_ann_belongs_to_the_student_with_its_layers(runs, photos, tmp_path):
    arguments = ["--bundles", str(runs["edge"]), "--ann-run", str(runs["ann"]), "--paper-run", str(runs["paper"])]
    rows = made([*arguments, "--data", str(photos), "--limit", "1"], tmp_path)
    assert list(rows) == [
        "edge", "equivalent ANN of edge", "the student as the paper words it",
        "equivalent ANN of the student as the paper words it", "Restormer, 2 blocks per level (the paper's ANN)",
    ]  # fmt: skip
    ann = rows["equivalent ANN of edge"]
    assert set(ann["psnr"]) == {"15", "25", "50"} and ann["about"] == "trained, 1 steps"
    assert rows["equivalent ANN of the student as the paper words it"]["about"] == "not trained here"
    paper = rows["the student as the paper words it"]
    assert paper["spike_rate"] is not None and paper["synops"][0] == paper["synops"][1]
    assert 10 < paper["psnr"]["25"] < 40 and rows["edge"]["psnr"]["15"] > rows["edge"]["psnr"]["50"]


def test_mistakes_are_one_sentence_and_exit_code_2(runs, photos, tmp_path, capsys):
    mistakes = {
        "belongs": (["--bundles", str(BUNDLE), "--ann-run", str(runs["ann"])], "layers of none of the students"),
        "spiking": (["--bundles", str(BUNDLE), "--ann-run", str(runs["edge"])], "not a run of the equivalent ANN"),
        "frozen": (["--bundles", str(runs["ann"])], "cannot be frozen"),
        "bundle": (["--bundles", "no/such.safetensors"], "no/such.safetensors"),
        "data": (["--bundles", str(BUNDLE), "--data", str(tmp_path / "no")], "does not exist"),
        "place": (["--bundles", str(BUNDLE), "--json", str(tmp_path / "no" / "a.json")], "cannot be written"),
    }
    for arguments, sentence in mistakes.values():
        assert report.main(arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error and "Traceback" not in error
