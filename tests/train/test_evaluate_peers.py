"""Others in the tables: what is taken as a peer, what is refused, what a picture costs each, and do-no-harm."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from simulator.network import load
from train import cost, evaluate, harm, hkd, peers
from train.backends import BackendError
from train.contenders import peer_contender
from train.data import add_noise, load_images
from train.metrics import psnr
from train.operations import counts
from train.peers import open_peer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

BUNDLE = Path(__file__).parents[1] / "golden" / "edge.safetensors"
FREE = [1, 3, "H", "W"]


def model(path: Path, nodes: list, inputs: dict, outputs: dict, weights: dict | None = None) -> Path:
    """Write an ONNX file; inputs, outputs: {name: (type, shape)}."""
    ends = [[helper.make_tensor_value_info(name, *about) for name, about in part.items()] for part in (inputs, outputs)]
    initialisers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_model(
        helper.make_graph(nodes, "peer", *ends, initialisers), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(made, str(path))
    return path


def halved(path: Path, shape: list, kind: int = TensorProto.FLOAT) -> Path:
    """A file that returns half of each value."""
    weights = {"half": np.array(0.5, np.float32)}
    if kind == TensorProto.FLOAT:
        nodes = [helper.make_node("Mul", ["x", "half"], ["y"])]
    else:
        nodes = [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["a", "half"], ["b"]),
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.UINT8),
        ]
    return model(path, nodes, {"x": (kind, shape)}, {"y": (kind, shape)}, weights)


def picture(height: int = 21, width: int = 35) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (FREE, TensorProto.FLOAT),
        (["N", 3, None, None], TensorProto.FLOAT),
        ([1, "H", "W", 3], TensorProto.FLOAT),
        (FREE, TensorProto.UINT8),
        ([1, None, None, 3], TensorProto.UINT8),
        ([1, 3, 21, 35], TensorProto.FLOAT),
        ([1, 3, 32, 48], TensorProto.FLOAT),  # padded to multiples of 16
    ],
)
def test_an_onnx_file_of_either_layout_and_type_is_run(tmp_path, shape, kind):
    peer = open_peer(str(halved(tmp_path / "half.onnx", shape, kind)))
    image = picture()
    restored = peer.restore(image, None)
    assert restored.dtype == np.uint8 and restored.shape == image.shape
    assert np.abs(restored - image / 2).max() <= 0.51 + 0.5 * (kind == TensorProto.UINT8)


def test_a_file_is_named_after_the_colon_or_by_its_own_name(tmp_path):
    file = halved(tmp_path / "half.onnx", FREE)
    assert open_peer(str(file)).name == "half" and open_peer(f"{file}:FFDNet").name == "FFDNet"
    odd = halved(tmp_path / "a:b.onnx", FREE)
    assert open_peer(str(odd)).name == "a:b"


def test_what_a_file_returns_beyond_0_to_1_is_clipped(tmp_path):
    nodes = [helper.make_node("Sub", ["x", "one"], ["a"]), helper.make_node("Mul", ["a", "three"], ["y"])]
    weights = {"one": np.array(0.4, np.float32), "three": np.array(3, np.float32)}
    ends = {"x": (TensorProto.FLOAT, FREE)}, {"y": (TensorProto.FLOAT, FREE)}
    peer = open_peer(str(model(tmp_path / "wide.onnx", nodes, *ends, weights)))
    image = picture()
    assert np.array_equal(peer.restore(image, None), np.clip(np.rint((image / 255 - 0.4) * 3 * 255), 0, 255))


@pytest.fixture
def told(tmp_path) -> Path:
    """A file that returns what it is told, sigma by 255, at every pixel."""
    nodes = [
        helper.make_node("Mul", ["x", "nothing"], ["a"]),
        helper.make_node("Add", ["a", "sigma"], ["y"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, FREE), "sigma": (TensorProto.FLOAT, [1, 1, 1, 1])}
    weights = {"nothing": np.array(0, np.float32)}
    return model(tmp_path / "told.onnx", nodes, inputs, {"y": (TensorProto.FLOAT, FREE)}, weights)


def test_a_file_that_takes_the_noise_level_is_told_it(told, photos, tmp_path, capsys):
    peer = open_peer(str(told))
    assert peer.told and (peer.restore(picture(), 25) == 25).all() and (peer.restore(picture(), 50) == 50).all()
    out = tmp_path / "scores.json"
    arguments = ["--bundle", str(BUNDLE), "--peer", str(told), "--data", str(photos), "--json", str(out)]
    assert evaluate.main([*arguments, "--sigma", "15", "50"]) == 0
    rows = json.loads(out.read_text())["networks"][1]["results"]
    assert list(rows) == ["clipped"]  # it takes 8-bit pixels
    for sigma in (15, 50):
        expected = np.mean([psnr(np.full_like(image, sigma), image) for image in load_images(photos)])
        assert rows["clipped"][str(sigma)]["restored"]["psnr"] == pytest.approx(expected)
    tables = capsys.readouterr().out.split("Table 1 of the paper")[1:]
    assert ["told (ONNX Runtime)" in table for table in tables[:2]] == [True, "What it takes" in tables[1]]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"x": (TensorProto.FLOAT, [1, 1, "H", "W"])}, {}, "x float [1, 1, 'H', 'W']"),
        ({"x": (TensorProto.FLOAT, [4, 3, "H", "W"])}, {}, "expected one picture [1, 3, H, W] or [1, H, W, 3]"),
        ({"x": (TensorProto.FLOAT16, FREE)}, {}, "x float16"),
        ({"x": (TensorProto.FLOAT, FREE), "t": (TensorProto.FLOAT, ["N", 7])}, {}, "t float ['N', 7]"),
        ({"x": (TensorProto.FLOAT, FREE)}, {"z": (TensorProto.FLOAT, FREE)}, "z float"),
    ],
)
def test_an_onnx_file_of_another_form_is_refused(tmp_path, photos, capsys, inputs, outputs, words):
    shape = next(iter(inputs.values()))
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("y", *outputs)]
    file = model(tmp_path / "other.onnx", nodes, inputs, {"y": shape, **outputs})
    assert evaluate.main(["--bundle", str(BUNDLE), "--peer", str(file), "--data", str(photos)]) == 2
    error = capsys.readouterr().err
    assert words in error and "other.onnx has" in error and "Traceback" not in error


def test_files_that_cannot_be_run_are_refused(tmp_path, photos, capsys):
    small = ["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25", "--protocol", "clipped"]
    (tmp_path / "text.onnx").write_text("no model")
    fixed = halved(tmp_path / "fixed.onnx", [1, 3, 8, 8])
    file = halved(tmp_path / "edge.onnx", FREE)
    for peer, words in (
        (tmp_path / "text.onnx", "is not a model that ONNX Runtime opens"),
        (tmp_path / "none.onnx", "there is no such file; expected nlm, bm3d, or an ONNX file"),
        (fixed, "takes pictures of [1, 3, 8, 8], not of 40x56 pixels"),
        (file, "Two rows are called 'edge'"),
    ):
        assert evaluate.main([*small, "--peer", str(peer)]) == 2
        assert words in capsys.readouterr().err


def test_macs_and_parameters_of_a_file_are_counted(tmp_path):
    weights = {
        "w": np.zeros((8, 3, 3, 3), np.float32),
        "b": np.zeros(8, np.float32),
        "grouped": np.zeros((8, 4, 1, 1), np.float32),
        "up": np.zeros((8, 3, 2, 2), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "grouped"], ["c"], group=2),
        helper.make_node("ConvTranspose", ["c", "up"], ["y"], strides=[2, 2]),
    ]
    ends = {"x": (TensorProto.FLOAT, FREE)}, {"y": (TensorProto.FLOAT, FREE)}
    file = model(tmp_path / "net.onnx", nodes, *ends, weights)
    parameters, macs = counts(file)
    assert parameters == sum(array.size for array in weights.values())
    positions = 16 * 24
    assert macs("x", 32, 48) == positions * (8 * 27 + 8 * 4 + 8 * 12)
    peer = open_peer(str(file))
    assert peer.energy_uj(30, 41) == pytest.approx(4.6e-6 * macs("x", 32, 48)) and peer.parameters == parameters


def test_weights_in_half_precision_or_8_bits_and_sizes_worked_out_by_the_file_itself_are_counted_as_well(tmp_path):
    weights = {
        "half": np.zeros((4, 3, 3, 3), np.float16),
        "bytes": np.zeros((3, 4, 1, 1), np.int8),
        "scale": np.float32(0.5),
        "sides": np.array([2, 3]),
        "eight": np.array([8]),
        "none": np.zeros(6, np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "sides"], ["hw"]),
        helper.make_node("Mod", ["hw", "eight"], ["beyond"]),  # made larger by height % 8 and width % 8
        helper.make_node("Concat", ["none", "beyond"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["padded", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["bytes", "scale"], ["v"]),
        helper.make_node("Conv", ["a", "v"], ["y"]),
    ]
    ends = {"x": (TensorProto.FLOAT, FREE)}, {"y": (TensorProto.FLOAT, FREE)}
    parameters, macs = counts(model(tmp_path / "net.onnx", nodes, *ends, weights))
    assert parameters == 4 * 27 + 3 * 4
    assert macs("x", 20, 24) == 24 * 24 * (4 * 27 + 3 * 4)


def test_convolutions_of_integers_are_counted(tmp_path):
    weights = {
        "w": np.ones((3, 3, 3, 3), np.int8), "b": np.zeros(3, np.int32), "s": np.float32(1), "x0": np.uint8(0),
        "w0": np.int8(0),
    }  # fmt: skip
    inputs = ["x", "s", "x0", "w", "s", "w0", "s", "x0", "b"]
    nodes = [helper.make_node("QLinearConv", inputs, ["y"], pads=[1, 1, 1, 1])]
    ends = {"x": (TensorProto.UINT8, FREE)}, {"y": (TensorProto.UINT8, FREE)}
    parameters, macs = counts(model(tmp_path / "net.onnx", nodes, *ends, weights))
    assert parameters == 84 and macs("x", 16, 32) == 16 * 32 * 3 * 27


def test_what_is_not_counted_has_no_energy(tmp_path):
    peer = open_peer(str(halved(tmp_path / "half.onnx", FREE)))
    assert peer.energy_uj(16, 16) is None and peer.parameters is None
    assert open_peer("nlm").energy_uj(16, 16) is None


def test_non_local_means_takes_more_away_the_more_noise_it_is_told():
    clean = cv2.GaussianBlur(picture(96, 96), (0, 0), 6)
    noisy = add_noise(clean, 25, 0, True)
    peer = open_peer("nlm")
    assert psnr(peer.restore(noisy, 25), clean) > psnr(peer.restore(noisy, 5), clean) + 3 > psnr(noisy, clean)
    assert np.array_equal(peer.restore(noisy, 0), noisy)
    expected = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(noisy[..., ::-1]), None, 15, 15, 7, 21)
    assert np.array_equal(peer.restore(noisy, 25), expected[..., ::-1])


def test_bm3d_is_told_sigma_and_a_missing_package_is_named(photos, tmp_path, capsys, monkeypatch):
    class Package:
        @staticmethod
        def bm3d_rgb(values, sigma):
            return np.full_like(values, sigma)

    monkeypatch.setitem(sys.modules, "bm3d", Package)
    assert (open_peer("bm3d").restore(picture(), 51) == 51).all()
    monkeypatch.setitem(sys.modules, "bm3d", None)
    small = ["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25", "--protocol", "clipped"]
    assert evaluate.main([*small, "--peer", "bm3d", "nlm"]) == 0
    out = capsys.readouterr().out
    assert "BM3D is left out" in out and "pip install 'spikerir-edge[bm3d]'" in out
    assert "non-local means (OpenCV)" in out


def test_a_peer_that_must_be_told_is_left_out_where_the_level_is_not_known(told, photos, tmp_path, capsys):
    for part in ("input", "target"):
        (tmp_path / "Rain100L" / part).mkdir(parents=True)
        for file in photos.iterdir():
            cv2.imwrite(str(tmp_path / "Rain100L" / part / file.name), cv2.imread(str(file)))
    arguments = ["--bundle", str(BUNDLE), "--dataset", "rain100l", "--data", str(tmp_path), "--protocol", "rgb"]
    half = halved(tmp_path / "half.onnx", FREE)
    assert evaluate.main([*arguments, "--peer", str(told), str(half), "nlm"]) == 0
    out = capsys.readouterr().out
    assert "told has to be told the noise's level, and rain100l does not say what it is" in out
    assert "half (ONNX Runtime)" in out and "non-local means" not in out  # which is made for noise


def test_every_row_has_its_milliseconds_and_its_energy(photos, tmp_path, capsys):
    run, out, plot = tmp_path / "dense", tmp_path / "scores.json", tmp_path / "plot.png"
    short = (
        "--task denoise --ann --channels 8 8 8 8 --patch 16 --batch 1 --threads 1 --device cpu --stages none --steps 1"
    )
    assert hkd.main([*short.split(), "--data", str(photos), "--out", str(run)]) == 0
    arguments = ["--bundle", str(BUNDLE), "--checkpoint", str(run), "--peer", "nlm", "--data", str(photos)]
    assert evaluate.main([*arguments, "--json", str(out), "--plot", str(plot), "--protocol", "clipped"]) == 0
    bundle, dense, nlm = (one["cost"] for one in json.loads(out.read_text())["networks"])
    noisy = add_noise(load_images(photos)[0], 25, 0, True, 0)
    assert bundle["energy_uj"] == pytest.approx(load(BUNDLE).run(noisy).stats.estimated_uj())
    assert dense["energy_uj"] > 0 and nlm["energy_uj"] is None
    assert all(
        (one["width"], one["height"], one["noise"]) == (56, 40, " with noise of sigma 25") for one in (bundle, nlm)
    )
    assert all(one["ms"] > 0 for one in (bundle, dense, nlm))
    printed = capsys.readouterr().out.split("What it takes: cbsd68")[1]
    assert "56x40 pixels with noise of sigma 25" in printed and "non-local means (OpenCV)" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_calls_take_turns_and_a_slow_one_sits_out(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])

    def call(name: str, seconds: float) -> None:
        clock[0] += seconds
        order.append(name)

    calls = [lambda: call("fast", 0.25), lambda: call("slow", 6.0), lambda: call("slowest", 50.0)]
    assert cost.in_turn(calls) == [250.0, 6000.0, 50000.0]
    assert order[:6] == ["fast", "slow", "slowest", "fast", "slow", "fast"]
    assert [order.count(name) for name in ("fast", "slow", "slowest")] == [1 + cost.ROUNDS, 3, 1]


class Harmless:
    def __call__(self, image, sigma):
        return image


def darker(image: np.ndarray, sigma: float | None) -> np.ndarray:
    return (image // 2).astype(np.uint8)


def test_who_changes_nothing_does_no_harm_and_who_darkens_harms_every_picture(photos):
    everybody = [peer_contender(peers.Peer(name, "", f)) for name, f in (("same", Harmless()), ("dark", darker))]
    images = load_images(photos)
    found = harm.measure(everybody, images, ["a", "b"], 0)
    same = {case: harm.summary(rows) for case, rows in found["same"].items()}
    assert all(own["change"] == 0 and own["worse"] == 0 for own in same.values())
    assert same["clean"]["back"] == 60.0
    for sigma in (15, 50):
        expected = np.mean([psnr(add_noise(image, sigma, 0, True, i), image) for i, image in enumerate(images)])
        assert same[f"noise, sigma {sigma}"]["input"] == pytest.approx(expected)
    qualities = [same[f"JPEG, quality {quality}"]["input"] for quality in (30, 60, 90)]
    assert qualities == sorted(qualities) and len(set(qualities)) == 3
    dark = harm.summary(found["dark"]["clean"])
    assert dark["worse"] == dark["images"] == 2
    least = min(range(2), key=lambda i: psnr(images[i] // 2, images[i]))
    assert dark["worst"]["picture"] == "ab"[least]
    assert dark["worst"]["back"] == pytest.approx(psnr(images[least] // 2, images[least]))
    assert not any(math.isnan(own["change"]) for own in same.values())


def test_the_command_writes_a_table_for_each_network(photos, tmp_path, capsys):
    page, out = tmp_path / "harm.md", tmp_path / "harm.json"
    arguments = ["--bundle", str(BUNDLE), "--data", str(photos), "--harm", "--markdown", str(page), "--json", str(out)]
    assert evaluate.main([*arguments, "--peer", "nlm"]) == 0
    text = page.read_text()
    assert text.count("### What ") == 2 and text.count("\n| shake, strong |") == 2 and "0.png" not in text
    assert "cbsd68, 2 images, whole" in text and "rain, haze, shake and defocus synthetic; seed 0" in text
    content = json.loads(out.read_text())
    assert set(content["networks"]["edge"]) == set(harm.CASES) and content["images"] == 2
    (row,) = (line for line in text.splitlines() if line.startswith("| edge |"))
    changes = [own["change"] for case, own in content["networks"]["edge"].items() if case != harm.CLEAN]
    assert [cell.strip() for cell in row.split("|")[3:-1]] == [f"{change:+.2f}" for change in changes]
    assert "What edge does to pictures of every sort" in capsys.readouterr().out


def test_harm_takes_one_set_of_clean_pictures_and_draws_nothing(photos, tmp_path, capsys):
    arguments = ["--bundle", str(BUNDLE), "--data", str(photos), "--harm"]
    assert evaluate.main([*arguments, "--dataset", "rain100l"]) == 2
    assert "--harm degrades one set of clean images" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        evaluate.main([*arguments, "--plot", str(tmp_path / "x.png")])
    assert ended.value.code == 2


def test_a_peer_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"install .\[export\]"):
        open_peer("net.onnx")
