"""The sparsity sweep from the command line, and the architecture options it is made of."""

import csv

import cv2
import numpy as np
import pytest

from simulator.analysis import analyse
from train import sweep
from train.architectures import build_graph

TINY = "--task denoise --channels 16 16 16 16 --steps 4 --patch 16 --batch 1 --threads 1 --device cpu".split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}.png"), cv2.resize(coarse, (272, 256), interpolation=cv2.INTER_CUBIC))
    return folder


def test_a_sweep_measures_every_point_writes_table_and_plot_and_skips_what_is_done(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sweep, "POINTS", {"wide, off": ((), 0.0), "thin, 0.5": (sweep.CHEAP, 0.5)})
    command = [*TINY, "--data", str(photos), "--test-data", str(photos), "--limit", "1", "--repeats", "1"]
    command += ["--out", str(tmp_path), "--points", "wide, off", "thin, 0.5"]
    assert sweep.main(command) == 0
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = {row["point"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["wide, off", "thin, 0.5"]
    wide, thin = rows.values()
    assert float(wide["penalty"]) == 0 and float(thin["penalty"]) == 0.5
    # 256x256, half resolution: 12 -> 16 and 16 -> 12 channels; 9 taps less the borders' against 1
    assert int(thin["macs"]) == (27 * (128 - 1 / 3) ** 2 + 12 * 128**2) * 16
    assert int(wide["macs"]) == 2 * 12 * 16 * (3 * 128 - 2) ** 2
    for row in rows.values():
        energy = 0.9e-6 * int(row["synops"]) + 4.6e-6 * int(row["macs"])
        assert float(row["energy_uj"]) == pytest.approx(energy, abs=0.06)
        assert float(row["energy_of_ann"]) == pytest.approx(energy / float(row["ann_energy_uj"]), abs=1e-3)
        assert float(row["ms"]) > 0 and 0 <= float(row["rate"]) <= 1
    assert cv2.imread(str(tmp_path / "sweep.png")) is not None
    text = (tmp_path / "sweep.md").read_text()
    assert text in capsys.readouterr().out and "| thin, 0.5 |" in text
    before = (tmp_path / "thin-0.5" / "log.csv").read_bytes()
    assert sweep.main(command) == 0  # both runs are finished: nothing is trained again
    assert (tmp_path / "thin-0.5" / "log.csv").read_bytes() == before


def test_a_sweep_without_test_images_says_so(photos, tmp_path, capsys):
    assert sweep.main([*TINY, "--data", str(photos), "--test-data", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_the_equivalent_ann_counts_every_synapse_once():
    from simulator.statistics import Counter, Population

    stats = Counter(
        Population(analyse(build_graph("edge", (16, 16, 16, 16), ("encode=thin", "readout=thin"))), 32, 32)
    ).finish(0.0)
    four = Counter(Population(analyse(build_graph("edge", (16, 16, 16, 16))), 32, 32)).finish(0.0)
    assert stats.ann_macs == stats.macs + stats.synops_max // 4
    assert four.ann_macs - stats.ann_macs == four.macs - stats.macs  # the spiking layers are the same
    assert stats.ann_uj() == pytest.approx(stats.ann_macs * 4.6e-6)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("colour=1", "is no option of the edge student; it takes channels"),
        ("readout=loud", "expected one of wide, thin, spikes"),
        ("time_steps=two", "expected a whole number"),
        ("time_steps=3", "power of two"),
        ("blocks=1,2", "expected 7 whole numbers"),
        ("shrink=3", "expected 1 or 2"),
        ("encode=4", "expected one of wide, 4x4, 3x3, thin"),
    ],
)
def test_an_architecture_option_that_cannot_be_is_one_sentence_and_exit_code_2(
    photos, tmp_path, capsys, option, expected
):
    from train import hkd

    command = [*TINY, "--stages", "none", "--data", str(photos), "--out", str(tmp_path), "--architecture", option]
    assert hkd.main(command) == 2
    error = capsys.readouterr().err
    assert expected in error and "Traceback" not in error


def test_a_full_resolution_student_takes_no_encoder_of_the_half_resolution_one():
    with pytest.raises(ValueError, match="is for shrink=2"):
        build_graph("edge", None, ("shrink=1", "encode=thin"))


def test_options_reach_the_graph():
    full = build_graph("edge", None, ("shrink=1",))
    assert "space_to_depth" not in {node.kind for node in full.nodes} and full.node("readout.conv")["channels"] == 3
    graph = build_graph("edge", None, ("time_steps=2", "encode=3x3", "readout=spikes", "blocks=1,1,1,1,1,1,3"))
    assert graph.time_steps == 2 and graph.node("encode.conv")["kernel"] == 3
    assert graph.node("readout.conv")["kernel"] == 1 and graph.node("readout.around")["kernel"] == 3
    assert graph.node("decoder1.3.conv1").kind == "conv"
