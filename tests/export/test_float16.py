"""Emulated float16: rounded where it says so and nowhere else, and grids on which it changes less."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from export import float16  # noqa: E402  these need the package
from export.emulated import body_for_card, emulated  # noqa: E402
from export.files import ExportError  # noqa: E402
from export.fit import LIMIT, MOST, fitted, sample  # noqa: E402
from export.half import HalfModel, rounded  # noqa: E402
from export.onnx_network import observed_name  # noqa: E402
from simulator.bundle import read_bundle  # noqa: E402
from simulator.cut import CutError, Host, cut  # noqa: E402
from simulator.network import Network  # noqa: E402
from simulator.random_networks import narrow_paper_network  # noqa: E402
from tests.conformance.agreement import bundled  # noqa: E402
from tests.firmware_bridge.card_networks import network  # noqa: E402

ROUNDINGS = ("stored", "every")


def model(operator: str, shapes: dict[str, tuple[int, ...]], out: tuple[int, ...], constants=None, **attributes):
    """One operator as a model with the output y."""
    from onnx import TensorProto, helper, numpy_helper

    constants = constants or {}
    node = helper.make_node(operator, [*shapes, *constants], ["y"], **attributes)
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, out)
    arrays = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_model(helper.make_graph([node], "one", described, [output], arrays))


def in_float16(x: np.ndarray, weight: np.ndarray, every: bool) -> np.ndarray:
    """A 3x3 convolution with a border of zeros, by NumPy's own float16 where every addition is rounded."""
    wide = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), *x.shape[2:]), np.float16)
    for o, i, j in np.ndindex(out.shape):
        total = np.float16(0) if every else np.float32(0)
        for c, dy, dx in np.ndindex(weight.shape[1:]):
            factors = weight[o, c, dy, dx], wide[c, i + dy, j + dx]
            total += np.multiply(*(np.float16(one) if every else np.float32(one) for one in factors))
        out[o, i, j] = total
    return out[None]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_convolution_is_rounded_where_it_says(rounding):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((1, 5, 4, 6)) < 0.4, rng.integers(1, 5, (1, 5, 4, 6)), 0).astype(np.float32)
    weight = (rng.integers(-2048, 2049, (3, 5, 3, 3)) * 2.0**-9).astype(np.float32)
    one = model("Conv", {"x": x.shape}, (1, 3, 4, 6), {"w": weight}, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    found = HalfModel(one, rounding).run({"x": x})["y"]
    assert found.dtype == np.float16 and np.array_equal(found, in_float16(x, weight, rounding == "every"))
    other = HalfModel(one, "every" if rounding == "stored" else "stored").run({"x": x})["y"]
    assert not np.array_equal(found, other)


@pytest.mark.parametrize(
    ("kernel", "shape", "attributes"),
    [
        (2, (1, 6, 4, 5), {"strides": [2, 2], "pads": [0] * 4}),
        (3, (1, 6, 8, 10), {"strides": [1, 1], "pads": [3] * 4, "dilations": [3, 3]}),
    ],
)
def test_groups_strides_and_taps_apart_are_those_of_onnx_runtime(kernel, shape, attributes):
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, (1, 8, 8, 10)).astype(np.float32)
    weight = rng.integers(-9, 10, (6, 4, kernel, kernel)).astype(np.float32)
    one = model("Conv", {"x": x.shape}, shape, {"w": weight}, kernel_shape=[kernel] * 2, group=2, **attributes)
    one.ir_version = 8
    session = runtime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(HalfModel(one).run({"x": x})["y"], session.run(None, {"x": x})[0])


def test_other_operations_are_rounded_once_and_what_is_too_large_is_infinite():
    a, b = np.array([[2049, 60000, 1]], np.float32), np.array([[0.5, 60000, 2**-11]], np.float32)
    found = HalfModel(model("Add", {"a": (1, 3), "b": (1, 3)}, (1, 3))).run({"a": a, "b": b})["y"]
    assert found.tolist() == [[2048, np.inf, 1]]
    assert rounded(np.array([2051], np.float32)) == 2052


def test_an_operator_that_is_not_of_the_plain_dialect_is_named():
    with pytest.raises(ExportError, match="Cast with .* is not of the plain dialect"):
        HalfModel(model("Cast", {"x": (1,)}, (1,), to=1))
    with pytest.raises(ExportError, match="Resize with"):
        HalfModel(model("Resize", {"x": (1, 1, 2, 2)}, (1, 1, 4, 4), mode="linear"))
    with pytest.raises(ValueError, match="rounding 'up' is unknown; choose one of stored, every"):
        HalfModel(model("Add", {"a": (1,), "b": (1,)}, (1,)), "up")


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("neurons", ["lif", "window"])
def test_a_body_whose_numbers_fit_11_bits_is_computed_exactly(neurons, rounding):
    bundle = network(neurons)
    parts = cut(bundle.analysis)
    host = Host(parts, bundle.tensors)
    pixels = np.random.default_rng(0).integers(-128, 128, (3, 16, 24)).astype(np.int16)
    entering = host.head(pixels)
    seen = {}
    leaving = host.body({"encode.round": entering["encode.round"]}, lambda name, value: seen.update({name: value}))
    body = HalfModel(body_for_card(bundle, 16, 24, layers=True), rounding)
    found = body.run({"encode.round": entering["encode.round"] * 2.0 ** -bundle.analysis.values["encode.round"].q})
    for layer, value in leaving.items():
        for step, expected in enumerate(value):
            units = found[observed_name(layer, step)][0].astype(np.float64) * 2.0 ** bundle.analysis.values[layer].q
            assert np.array_equal(units, expected)
    for layer in ("down.lif", "inner.lif", "up.lif"):
        counts = sum(found[name] for name in body.outputs if name.startswith(f"{layer}@"))
        assert np.array_equal(counts[0], seen[layer].sum(0)) and 0 < seen[layer].mean() < 1


def test_grids_that_fit_are_left_as_they_are():
    bundle = network("lif", reach=2)
    result = fitted(bundle, sample("denoise"))
    assert result.bundle is bundle and set(result.shifts.values()) == {0}
    assert 0 < result.proven <= result.of and "0 of" in str(result)


@pytest.mark.parametrize(("neurons", "seed"), [("lif", 3), ("window", 2)])
def test_on_fitted_grids_float16_changes_less_and_the_network_is_one_like_any_other(neurons, seed):
    bundle = network(neurons, seed, reach=900)
    result = fitted(bundle, sample("denoise"))
    assert 0 < max(result.shifts.values()) <= MOST and result.bundle.content_hash != bundle.content_hash
    assert result.bundle.task == bundle.task
    image = sample("denoise")[:48, :64]
    restored = [Network(one).run(image).image.astype(int) for one in (bundle, result.bundle)]
    assert np.abs(restored[0] - restored[1]).mean() < 12  # the same network, on other grids
    shares = []
    for one in (bundle, result.bundle):
        found = emulated(one, 48, 64, "every")(image)
        shares.append((found != Network(one).run(image).image).any(2).mean())
    assert shares[1] < shares[0]


def test_a_shipped_network_is_fitted_and_ends_on_the_grid_it_had():
    for name in ("dejpeg",):
        bundle = read_bundle(float16.BUNDLES / f"{name}.safetensors")
        result = fitted(bundle, sample(bundle.task))
        for name in ("readout.round", "readout.conv", "readout"):
            assert result.bundle.analysis.values[name].q == bundle.analysis.values[name].q
        assert max(result.shifts.values()) == MOST and max(result.bundle.tensors["up3.lif.threshold"]) < LIMIT


def test_a_network_without_a_body_cannot_be_fitted():
    with pytest.raises(CutError, match="stands between neurons"):
        fitted(bundled(*narrow_paper_network()), sample("denoise"))


def test_the_table_has_a_row_for_each_network(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "clean").mkdir()
    for number in range(2):
        picture = cv2.resize(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8), (72, 64))
        cv2.imwrite(str(tmp_path / "clean" / f"{number}.png"), picture)
    bundle = str(float16.BUNDLES / "dejpeg.safetensors")
    figures = tmp_path / "t.json"
    arguments = [bundle, "--data", str(tmp_path / "clean"), "--count", "2", "--size", "48", "--json", str(figures)]
    assert float16.main(arguments) == 0
    row = json.loads(figures.read_text())[0]
    assert row["name"] == "dejpeg" and row["pixels"] == 2 * 48 * 48
    assert set(row["differing"]) == set(row["fitted"]) == set(ROUNDINGS)
    assert all(0 <= share < 0.2 for one in (row["differing"], row["fitted"]) for share in one.values())
    assert "| dejpeg | " in capsys.readouterr().out
    assert float16.main([bundle, "--data", str(tmp_path / "clean"), "--size", "80"]) == 2
    assert "is smaller than 80x80 pixels" in capsys.readouterr().err
    assert float16.main([bundle, "--data", str(tmp_path / "missing")]) == 2
