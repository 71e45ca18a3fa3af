"""Loading a bundle and restoring images of every size and shape, whole or in tiles."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import simulator
from simulator import network as network_module
from simulator.analysis import analyse
from simulator.bundle import BundleError, read_bundle, write_bundle
from simulator.network import Network
from simulator.trace import digest, first_difference
from tests.simulator.networks import META, identity_network, random_image, random_network, small_network

BACKENDS = ["reference", "numba"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Function from (seed or builder, backend) to a network that went through a file."""
    folder = tmp_path_factory.mktemp("bundles")

    def load(source, backend="reference") -> Network:
        path = folder / "network.safetensors"
        write_bundle(path, *(random_network(source) if isinstance(source, int) else source()), META)
        return simulator.load(path, backend)

    return load


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return random_image(np.random.default_rng(seed), *shape)


def same(a, b) -> bool:
    return (a.image == b.image).all() and a.stats.layers == b.stats.layers


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_says_what_it_is(loaded, backend):
    net = loaded(small_network, backend)
    assert (net.task, net.T, net.backend) == ("denoise", 2, backend)
    assert net.params == sum(tensor.size for tensor in net.bundle.tensors.values())
    assert net.bundle_hash == net.meta["bundle.content_hash"] and len(net.bundle_hash) == 64
    assert net.min_tile == net.analysis.align and net.tile % net.min_tile == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(10))
def test_tiles_of_every_size_equal_the_whole(loaded, backend, seed):
    net = loaded(seed, backend)
    picture = image(4 * net.min_tile + 2 * net.analysis.halo + 3, 2 * net.min_tile + 2 * net.analysis.halo + 1, 3)
    whole = net.run(picture)
    for tile in (net.min_tile, 3 * net.min_tile + 1, 8 * net.min_tile):
        assert same(net.run(picture, tile=tile), whole), tile


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_smallest_and_thinnest_images(loaded, backend, seed):
    net = loaded(seed, backend)
    for height, width in ((1, 1), (1, 70), (70, 1), (2, 3), (17, 19)):
        picture = image(height, width, 3)
        result = net.run(picture)
        assert result.image.shape == picture.shape and result.image.dtype == np.uint8
        assert (result.stats.height, result.stats.width) == (height, width)
        assert same(net.run(picture, tile=net.min_tile), result)


@pytest.mark.parametrize("seed", [0, 4])
def test_an_image_is_replicate_padded_right_and_bottom(loaded, seed):
    net = loaded(seed)
    picture = image(13, 9, 3)
    padded = net.analysis.padded(13, 9)
    by_hand = np.pad(picture, ((0, padded[0] - 13), (0, padded[1] - 9), (0, 0)), mode="edge")
    assert (net.run(picture).image == net.run(by_hand).image[:13, :9]).all()


def test_memory_decides_where_an_image_is_cut(loaded, monkeypatch):
    budget = 2 << 20
    monkeypatch.setattr(network_module, "MEMORY_BUDGET", budget)
    net = loaded(0)
    picture = image(220, 130, 3)
    sizes = []
    run_padded = net.engine.run_padded

    def spy(pixels, observe=None):
        sizes.append(pixels.shape[1] * pixels.shape[2])
        return run_padded(pixels, observe)

    net.engine.run_padded = spy
    result = net.run(picture)
    assert len(sizes) > 1 and max(sizes) * net._bytes_per_pixel <= budget
    assert same(result, net.run(picture, tile=1 << 12))


def test_what_the_machine_cannot_hold_is_refused(loaded, monkeypatch):
    net = loaded(0)
    monkeypatch.setattr(network_module, "installed_memory", lambda: 1 << 20)
    with pytest.raises(ValueError, match="pixels at once need about .* MB and this machine has 1; use a smaller tile"):
        net.run(image(400, 400, 3))
    assert net.run(image(100, 30, 3), tile=net.min_tile).image.shape == (100, 30, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gray_and_alpha(loaded, backend):
    net = loaded(3, backend)
    picture = image(20, 31, 4)
    colour = net.run(np.ascontiguousarray(picture[..., :3]))
    with_alpha = net.run(picture)
    assert (with_alpha.image[..., :3] == colour.image).all() and (with_alpha.image[..., 3] == picture[..., 3]).all()
    assert with_alpha.stats.layers == colour.stats.layers

    gray = picture[..., 0]
    stacked = net.run(np.repeat(gray[..., None], 3, 2))
    result = net.run(gray)
    assert result.image.shape == gray.shape and result.stats.layers == stacked.stats.layers
    assert (result.image == np.floor(stacked.image.sum(2) / 3 + 0.5)).all()
    assert (net.run(gray[..., None]).image == result.image[..., None]).all()


@pytest.mark.parametrize("shape", [(9, 14, 3), (9, 14), (9, 14, 1), (9, 14, 4), (1, 1)])
def test_a_network_that_changes_nothing_returns_the_image(loaded, shape):
    picture = image(*shape)
    assert (loaded(identity_network).run(picture).image == picture).all()


def test_the_input_stays_as_it_was_and_may_be_a_view(loaded):
    net = loaded(2)
    base = image(40, 60, 3)
    view, before = base[::-2, ::2, ::-1], base.copy()
    assert same(net.run(view), net.run(np.ascontiguousarray(view)))
    assert (base == before).all()
    base.flags.writeable = False
    net.run(base)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), r"a float32 array of shape \[4, 4, 3\] was given; expected a uint8 array"),
        (np.zeros((4, 4, 2), np.uint8), r"a uint8 array of shape \[4, 4, 2\] was given; expected \[height, width\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"expected \[height, width\]"),
        (np.zeros((0, 4, 3), np.uint8), "an image has at least one pixel"),
        (np.zeros((4, 0), np.uint8), "an image has at least one pixel"),
        ([[0]], "a list was given; expected a uint8 array"),
        (None, "a NoneType was given"),
    ],
)
def test_what_is_not_an_image_is_refused(loaded, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        loaded(small_network).run(wrong)


@pytest.mark.parametrize("tile", [0, -16, 1])
def test_a_tile_that_is_too_small_is_refused(loaded, tile):
    with pytest.raises(
        ValueError, match=f"a tile of {tile} pixels is too small: .* multiples of 2 pixels; give 2 or more"
    ):
        loaded(small_network).run(image(9, 9, 3), tile=tile)


def test_wrong_arguments_of_load_are_sentences(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        simulator.load(tmp_path / "missing.safetensors")
    write_bundle(tmp_path / "n.safetensors", *small_network(), META)
    with pytest.raises(ValueError, match="backend 'cuda' is unknown; choose one of numba, reference"):
        simulator.load(tmp_path / "n.safetensors", backend="cuda")
    with pytest.raises(ValueError, match="0 threads were asked for; at least 1"):
        simulator.load(tmp_path / "n.safetensors", backend="reference", threads=0)


# ---- unclipped evaluation


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(4))
def test_unclipped_levels_within_the_range_of_a_pixel_change_nothing(loaded, backend, seed):
    net = loaded(seed, backend)
    picture = image(33, 21, 3)
    assert same(net.run_unclipped(picture.astype(np.int16)), net.run(picture))


@pytest.mark.parametrize("backend", BACKENDS)
def test_unclipped_levels_at_both_ends(loaded, backend):
    net, reference = loaded(0, backend), loaded(0)
    levels = np.random.default_rng(0).choice(np.array([-512, -3, 128, 300, 767], np.int16), (30, 20, 3))
    result = net.run_unclipped(levels)
    assert same(result, reference.run_unclipped(levels))
    assert same(result, net.run_unclipped(levels, tile=net.min_tile))
    clipped = net.run(np.clip(levels, 0, 255).astype(np.uint8))
    assert (result.image != clipped.image).any()


def test_the_network_that_changes_nothing_clips_unclipped_levels(loaded):
    levels = np.random.default_rng(0).integers(-512, 768, (8, 8, 3)).astype(np.int16)
    assert (loaded(identity_network).run_unclipped(levels).image == np.clip(levels, 0, 255)).all()


def test_unclipped_levels_out_of_range_are_refused(loaded):
    net = loaded(small_network)
    for wrong in (np.full((2, 2, 3), 768, np.int16), np.full((2, 2, 3), -513, np.int16), np.zeros((0, 2, 3), np.int16)):
        with pytest.raises(ValueError, match=r"must lie in -512\.\.767"):
            net.run_unclipped(wrong)
    with pytest.raises(ValueError, match="expected an int16 array"):
        net.run_unclipped(np.zeros((2, 2, 3), np.float32))


def test_a_network_whose_first_layer_would_overflow_refuses_unclipped_levels(tmp_path):
    graph, tensors = small_network()
    tensors["head.bias"] = np.full(2, 2**31 - 1 - 128 * 2048 * 108, np.int32)
    nodes = list(graph.nodes)
    index = next(i for i, node in enumerate(nodes) if node.name == "head")
    nodes[index] = type(nodes[index])("head", "dense_conv", nodes[index].inputs, {**nodes[index].attrs, "bias": 1})
    graph = type(graph)(tuple(nodes), graph.time_steps, graph.stages)
    tensors["head.weight"][:] = 2048
    write_bundle(tmp_path / "n.safetensors", graph, tensors, META)
    net = simulator.load(tmp_path / "n.safetensors", "reference")
    net.run(image(8, 8, 3))
    with pytest.raises(
        ValueError, match="cannot take unclipped grey levels: layer 'head', channel 0: a value can reach"
    ):
        net.run_unclipped(image(8, 8, 3).astype(np.int16))


# ---- traces


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trace_has_every_layer_and_step_and_equals_the_references(loaded, backend):
    net, reference = loaded(0, backend), loaded(0)
    picture = image(21, 10, 3)
    trace = net.trace(picture)
    assert list(trace) == [node.name for node in net.bundle.graph.nodes]
    for name, hashes in trace.items():
        assert len(hashes) == (1 if net.analysis.values[name].static else net.T)
    assert first_difference(trace, reference.trace(picture)) is None


def test_the_first_difference_names_layer_and_step(loaded):
    trace = loaded(0).trace(image(12, 12, 3))
    other = {name: list(hashes) for name, hashes in trace.items()}
    assert "lif1" in other
    other["lif1"][2] = other["readout"][0] = "00"
    assert first_difference(trace, trace) is None
    assert first_difference(trace, other).startswith("layer 'lif1', step 2: ")
    other["lif1"] = other["lif1"][:1]
    assert first_difference(trace, other) == "layer 'lif1' has 4 steps in the first trace and 1 in the second"
    del other["lif1"]
    assert first_difference(trace, other) == "layer 'lif1' is missing from the second trace"
    assert first_difference(other, {**trace, "readout": ["00"]}) == "layer 'lif1' is missing from the first trace"


def test_a_digest_depends_on_the_numbers_and_not_on_how_they_are_held():
    value = np.arange(-12, 12).reshape(2, 3, 2, 2)
    assert digest(value) == digest(value.astype(np.int8)) == digest(np.asfortranarray(value).astype(np.int16))
    assert len(set(digest(value))) == 2 and all(len(text) == 16 for text in digest(value))
    assert digest(value[:, ::-1]) != digest(value)


def test_importing_the_package_waits_for_nothing():
    code = "import sys, simulator; print([m for m in ('numpy', 'numba', 'simulator.network') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_analysis_of_a_bundle_is_that_of_its_graph(tmp_path):
    graph, tensors = random_network(0)
    write_bundle(tmp_path / "n.safetensors", graph, tensors, META)
    assert read_bundle(tmp_path / "n.safetensors").analysis.bounds == analyse(graph, tensors).bounds


def test_a_frame_takes_no_memory_beyond_its_result_once_its_size_is_known(loaded):
    net = loaded(small_network, "numba")
    picture = image(512, 512, 3)
    net.run(picture)
    tracemalloc.start()
    try:
        net.run(picture)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        result = net.run(picture)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak - result.image.nbytes < 40_000


@pytest.mark.parametrize("shape", [(31, 45), (16, 16), (1, 1)])
def test_pictures_of_any_memory_layout_are_the_same(loaded, shape):
    net = loaded(small_network, "numba")
    picture = image(*shape, 4)
    expected = net.run(np.ascontiguousarray(picture[..., :3]))
    flipped = np.ascontiguousarray(picture[::-1, ::-1, 2::-1])[::-1, ::-1, ::-1]
    for view in (picture[..., :3], flipped, np.asfortranarray(picture[..., :3])):
        assert not view.flags.c_contiguous or view.size < 16
        assert same(net.run(view), expected)


def test_rows_of_every_width_upright_and_upside_down_equal_the_reference(loaded):
    net, reference = loaded(small_network, "numba"), loaded(small_network)
    for width in range(1, 14):
        picture = image(5, width, 3)
        expected = reference.run(picture)
        assert same(net.run(picture), expected), width
        assert same(net.run(np.ascontiguousarray(picture[::-1])[::-1]), expected), width
