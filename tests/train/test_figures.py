"""The paper's figures: what is read, which figures are printed, and that pictures are written."""

import csv
import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from simulator.bundle import read_bundle
from simulator.kinds.lif import lif
from simulator.reference import Reference
from train import evaluate, hkd
from train.data import load_image
from train.degradations import command as degradations
from train.figures import coxcomb, epochs, membrane, resolution, strips
from train.figures.canvas import FigureError
from train.figures.command import main
from train.metrics import psnr

BUNDLE = Path(__file__).parents[1] / "golden" / "edge.safetensors"
REPORT = Path(__file__).parents[2] / "export" / "bench" / "results" / "bench.json"
KINDS = BUNDLE.with_name("kinds.safetensors")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (80, 56), interpolation=cv2.INTER_CUBIC))
    return folder


def is_picture(path: Path) -> bool:
    image = cv2.imread(str(path))
    return image is not None and image.std() > 5


def test_the_coxcomb_shows_what_evaluate_measured_beside_the_paper(photos, tmp_path, capsys):
    twin = tmp_path / "data" / "twin"
    command = ["--task", "denoise", "--variant", "camera", "--data", str(photos), "--out", str(twin)]
    assert degradations.main(command) == 0
    scores = [tmp_path / "a.json", tmp_path / "b.json"]
    common = ["--bundle", str(BUNDLE), str(KINDS), "--sigma", "25"]
    assert evaluate.main([*common, "--data", str(photos), "--json", str(scores[0])]) == 0
    assert evaluate.main([*common, "--dataset", "synthetic", "--data", str(twin), "--json", str(scores[1])]) == 0
    wedges = coxcomb.read_wedges(scores)
    first, second, *twins = wedges
    own = json.loads(scores[0].read_text())["networks"][1]["results"]["clipped"]["25"]
    assert (second.untouched, second.restored) == (own["input"]["psnr"], own["restored"]["psnr"])
    assert first.label == "cbsd68, sigma 25\nedge" and first.printed == 29.72 and first.images == 3
    assert [w.synthetic for w in wedges] == [False, False, True, True] and twins[0].printed is None
    capsys.readouterr()
    assert main(["--what", "coxcomb", "--scores", *map(str, scores), "--out", str(tmp_path)]) == 0
    assert "the paper's student: 29.72" in capsys.readouterr().out and is_picture(tmp_path / "coxcomb.png")


def write_log(folder: Path, seconds: list[float], rounded: list[int]) -> Path:
    folder.mkdir()
    with open(folder / "log.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "seconds_per_epoch", "rounded"])
        writer.writeheader()
        for i, (value, on) in enumerate(zip(seconds, rounded, strict=True), 1):
            writer.writerow({"step": i, "epoch": i / 2, "seconds_per_epoch": value, "rounded": on})
    return folder


def test_learning_curves_say_where_a_run_ended_and_what_its_last_quarter_brought(tmp_path, capsys):
    run, other = tmp_path / "run", tmp_path / "other.csv"
    run.mkdir()
    (run / "log.csv").write_text(
        "step,seconds,rounded,psnr_15,psnr_25\n1,10,0,29,31\n2,70,0,31,33\n3,90,0,32,34\n4,100,1,31.5,34\n"
    )
    other.write_text("seconds,rounded,psnr\n5,1,20\n")
    assert main(["--what", "curves", "--runs", str(run), str(other), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "run: 32.75 dB after 100 s, 33.00 dB at best, 1.00 dB of which" in shown
    assert "other: 20.00 dB after 5 s, 20.00 dB at best, 0.00 dB" in shown
    assert is_picture(tmp_path / "curves.png")


def test_epoch_time_compares_the_whole_run_and_each_phase_within_itself(tmp_path, capsys):
    run = write_log(tmp_path / "run", [10.0] * 10 + [16.0] * 10, [0] * 10 + [1] * 10)
    flat = write_log(tmp_path / "flat", [10.0, 9.0, 10.4], [0, 0, 0])
    one = write_log(tmp_path / "one", [10.0], [0])
    assert main(["--what", "epoch-time", "--runs", str(run), str(flat), str(one), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run, whole run (20 validations)") and "1.600, longer" in lines[0]
    assert lines[1].startswith("run, without roundings") and "1.000, within 5 %" in lines[1]
    assert lines[2].startswith("run, with roundings") and "1.000, within 5 %" in lines[2]
    assert "1.040, within 5 %" in lines[3] and "one validation only" in lines[4]
    assert is_picture(tmp_path / "epoch_time.png")


def test_growth_takes_medians_of_the_tenths():
    assert epochs.growth([1.0, 1.0, 9.0, *[5.0] * 24, 2.0, 2.0, 50.0]) == 2.0


def test_time_against_resolution_is_drawn_from_a_report_of_the_bench_and_put_over_the_anns(tmp_path, capsys):
    assert main(["--what", "resolution", "--bench", str(REPORT), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert is_picture(tmp_path / "resolution.png")
    for entry in json.loads(REPORT.read_text())["sizes"]:
        engine, dense, ann = (
            next(row["median_ms"] for row in entry["contenders"] if row["key"] == key)
            for key in ("engine", "onnx", "ann-onnx")
        )
        size = f"{entry['width']}x{entry['height']}: multiples of the ANN's time: event-driven engine"
        assert f"{size} {engine / ann:.2f}, the same network computed densely {dense / ann:.2f}" in out


def test_without_the_ann_its_reason_is_given():
    row = {"key": "engine", "median_ms": 1.0}
    lines = resolution.ratios({"sizes": [{"contenders": [row]}], "missing": {"ann-onnx": "no runtime"}})
    assert lines == ["The equivalent ANN was not timed: no runtime"]


def test_potentials_are_those_before_the_reset_and_change_no_spike():
    current = np.array([3, 5, 1], np.int64)[:, None, None, None]
    own = {"threshold": np.array([6]), "bias": np.array([1]), "leak": np.array([1])}
    v = np.empty((3, 1, 1, 1), np.int64)
    spikes = lif(current, **own, time_steps=3, leak_kind="shift", reset="zero", potentials=v)
    assert v.ravel().tolist() == [4, 8, 2] and spikes.ravel().tolist() == [0, 1, 0]
    assert np.array_equal(spikes, lif(current, **own, time_steps=3, leak_kind="shift", reset="zero"))


@pytest.mark.parametrize("path", [BUNDLE, KINDS])
def test_every_layers_spikes_are_its_potentials_at_or_above_one_threshold(path):
    bundle = read_bundle(path)
    _, pixels = membrane.picture(None, [bundle])
    pixels = np.ascontiguousarray(pixels[:, : 2 * bundle.analysis.stride, : 3 * bundle.analysis.stride])
    seen: dict[str, np.ndarray] = {}
    Reference(bundle.analysis, bundle.tensors).run_padded(
        pixels.astype(np.int16) - np.int16(128), lambda name, value: seen.update({name: value})
    )
    layers = membrane.layers_of(bundle)
    found = membrane.membranes("net", bundle, layers, pixels)
    assert list(found) == layers
    for name, one in found.items():
        assert np.array_equal(one.v >= 1, seen[name].astype(bool))
        assert one.spike_rate() == pytest.approx(seen[name].mean((1, 2, 3)))


def test_density_is_the_share_of_potentials_above_a_part_of_the_threshold():
    v = np.array([0.2, -0.6, 0.7, 1.5], np.float32).reshape(2, 1, 1, 2)
    one = membrane.Membranes("net", v)
    assert one.density(0.5).tolist() == [0.5, 1.0] and one.spike_rate().tolist() == [0.0, 0.5]


def test_the_denser_network_is_found_over_all_layers():
    thin, dense = (np.full((1, 1, 2, 2), value, np.float32) for value in (0.1, 0.9))

    def network(*values):
        return {f"layer{i}": membrane.Membranes("net", v) for i, v in enumerate(values)}

    assert "with H-KD denser" in membrane.verdict([network(dense, dense), network(thin, dense)], 0.5)[1]
    assert "with H-KD not denser" in membrane.verdict([network(thin, dense), network(dense, dense)], 0.5)[1]


def test_membranes_of_a_run_and_a_bundle_are_drawn_with_their_figures(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(membrane, "SIDE", 32)
    short = "--task denoise --channels 8 8 8 8 --patch 32 --batch 1 --threads 1 --device cpu --stages none --steps 1"
    assert hkd.main([*short.split(), "--data", str(photos), "--out", str(tmp_path / "run")]) == 0
    command = ["--what", "membrane", "--with-hints", str(tmp_path / "run"), "--without-hints", str(BUNDLE)]
    assert main([*command, "--picture", str(photos / "0.png"), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "decoder1.1.lif1: network, step" in out and "all 20 layers" in out and is_picture(tmp_path / "membrane.png")
    assert main([*command, "--layer", "nowhere", "--out", str(tmp_path)]) == 2
    assert "has no neurons called nowhere; it has encoder1.1.lif1, " in capsys.readouterr().err


def test_the_enlarged_window_is_where_the_clean_picture_has_most_detail():
    clean = np.full((100, 160, 3), 90, np.uint8)
    clean[61:79:2, 101:129] = 200
    top, left, height, width = strips.most_detail(clean, (20, 30))
    assert (height, width) == (20, 30) and 58 <= top <= 62 and 98 <= left <= 102
    assert strips.most_detail(clean[:1, :1]) == (0, 0, 1, 1)


def test_strips_come_from_a_fixed_set_or_from_clean_images_with_the_same_pixels(photos, tmp_path, capsys):
    twin = tmp_path / "sets" / "camera"
    command = ["--task", "denoise", "--variant", "camera", "--data", str(photos), "--out", str(twin)]
    assert degradations.main(command) == 0
    what, fixed = strips.pairs_of("denoise", None, twin.parent, 2, 0)
    made_here, fresh = strips.pairs_of("denoise", "camera", photos, 2, 0)
    assert "synthetic" in what and "synthetic" in made_here
    assert [name for name, _, _ in fixed] == [name for name, _, _ in fresh] == ["0", "2"]
    for one, other in zip(fixed, fresh, strict=True):
        assert np.array_equal(one[1], other[1]) and np.array_equal(one[2], other[2])
    capsys.readouterr()
    command = ["--what", "strips", "--bundle", str(BUNDLE), "--data", str(twin), "--limit", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    degraded, clean = (load_image(twin / part / "0.png") for part in ("input", "target"))
    assert f"edge, 0: {psnr(degraded, clean):.2f} -> " in capsys.readouterr().out
    assert is_picture(tmp_path / "strips_edge_synthetic_denoise_camera.png")


def test_figures_without_input_are_named_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resolution, "draw", lambda *_: ["drawn"])
    assert main(["--bench", str(REPORT), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for words in (
        "coxcomb: not drawn, it needs --scores",
        "membrane: not drawn, it needs --with-hints and",
        "drawn",
    ):
        assert words in out
    with pytest.raises(SystemExit) as stop:
        main(["--what", "strips", "--out", str(tmp_path)])
    assert stop.value.code == 2 and "strips needs --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--what", "coxcomb", "--scores", "{}/no.json"], "cannot be read"),
        (["--what", "coxcomb", "--scores", "{}/other.json"], "not a file that `train.evaluate --json` writes"),
        (["--what", "resolution", "--bench", "{}/no.json"], "cannot be read"),
        (["--what", "resolution", "--bench", "{}/other.json"], "not a file that `export.bench --json` writes"),
        (["--what", "epoch-time", "--runs", "{}/no"], "give the folder of a run"),
        (["--what", "epoch-time", "--runs", "{}/other.json"], "not the log.csv of a run"),
        (["--what", "curves", "--runs", "{}/no"], "give the folder of a run"),
        (["--what", "curves", "--runs", "{}/other.json"], "not the log.csv of a run"),
        (["--what", "membrane", "--with-hints", "{}/no.pt", "--without-hints", str(BUNDLE)], "no.pt does not exist"),
        (["--what", "membrane", "--with-hints", str(KINDS), "--without-hints", str(BUNDLE)], "no layer of one name"),
        (["--what", "strips", "--data", "{}/no"], "does not exist"),
        (["--what", "strips", "--data", "{}", "--variant", "wet"], "is one of sigma15"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path, capsys, arguments, sentence):
    (tmp_path / "other.json").write_text('{"epoch": [1]}\n2\n')
    assert main([*(word.format(tmp_path) for word in arguments), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_a_missing_matplotlib_is_one_sentence(tmp_path, monkeypatch, capsys):
    def refuse(name, *more):
        if name == "matplotlib":
            raise ImportError(name)
        return kept(name, *more)

    kept = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", refuse)
    run = write_log(tmp_path / "run", [1.0, 2.0], [0, 0])
    assert main(["--what", "epoch-time", "--runs", str(run), "--out", str(tmp_path)]) == 2
    assert "Figures need matplotlib" in capsys.readouterr().err


def test_unreadable_scores_raise_a_figure_error(tmp_path):
    (tmp_path / "empty.json").write_text('{"sets": [], "missing": {}}')
    with pytest.raises(FigureError, match="no scores"):
        coxcomb.read_wedges([tmp_path / "empty.json"])
