"""The coarse path over the whole picture: what the network sees, and how its work gets to the full picture."""

import numpy as np
import pytest

import simulator
from simulator import coarse
from simulator.bundle import BundleError, write_bundle
from tests.simulator import networks


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes and some texture, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    smooth = 120 + 70 * np.sin(x / 17)[..., None] * np.cos(y / 23)[..., None] * np.array([1.0, 0.6, -0.8])
    return np.clip(smooth + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("shape", "side", "by"), [((256, 100), 256, 1), ((257, 100), 256, 2), ((1080, 1920), 256, 8)])
def test_no_side_is_longer_than_asked(shape, side, by):
    pixels = np.zeros((*shape, 3), np.uint8)
    assert coarse.shrinking(pixels, side) == by
    assert max(coarse.shrunk(pixels, by).shape[:2]) <= side


def test_a_shrunk_picture_is_made_of_means():
    pixels = picture(9, 14)
    found = coarse.shrunk(pixels, 4)
    assert found.shape == (3, 4, 3)
    assert np.array_equal(found[1, 2], np.floor(pixels[4:8, 8:12].mean((0, 1)) + 0.5))
    corner = np.pad(pixels[8:, 12:], ((0, 3), (0, 2), (0, 0)), mode="edge")
    assert np.array_equal(found[2, 3], np.floor(corner.mean((0, 1)) + 0.5))


@pytest.mark.parametrize("shape", [(1, 1 << 20), (1 << 20, 1), (1, 1)])
def test_a_picture_of_one_long_line_needs_no_more_room_than_it_has(shape):
    pixels = np.full((*shape, 3), 77, np.uint8)
    by = coarse.shrinking(pixels, 64)
    came = coarse.shrunk(pixels, by)
    assert (came == 77).all() and max(came.shape) <= 64
    assert np.array_equal(coarse.carried_over(pixels, came, came, by), pixels)


@pytest.mark.parametrize("by", [2, 3, 7])
def test_what_is_untouched_stays_untouched(by):
    pixels = picture(151, 98)
    came = coarse.shrunk(pixels, by)
    assert np.array_equal(coarse.carried_over(pixels, came, came, by), pixels)


@pytest.mark.parametrize("by", [2, 5])
def test_haze_that_is_gone_from_the_coarse_picture_is_gone_from_the_full_one(by):
    clean = picture(200, 165)
    hazy = np.rint(clean * 0.5 + 230 * 0.5).astype(np.uint8)
    came = coarse.shrunk(hazy, by)
    restored = coarse.carried_over(hazy, came, coarse.shrunk(clean, by), by)
    assert np.abs(hazy.astype(int) - clean).mean() > 40
    assert np.abs(restored.astype(int) - clean).mean() < 4


def test_sides_of_one_pixel():
    for shape in ((1, 300), (300, 1), (1, 1)):
        pixels = picture(*shape)
        came, by = coarse.seen({"network.coarse": "64"}, pixels)
        assert coarse.carried_over(pixels, came, came, by).shape == pixels.shape


def bundle(tmp_path, side: str):
    path = tmp_path / "coarse.safetensors"
    write_bundle(path, *networks.small_network(), {**networks.META, "network.coarse": side})
    return path


def test_a_bundle_with_a_coarse_path_is_run_by_it_with_the_same_bits_everywhere(tmp_path):
    path, pixels = bundle(tmp_path, "64"), picture(90, 130)
    network = simulator.load(path, threads=1)
    came, by = coarse.seen(network.meta, pixels)
    assert by == 3
    expected = coarse.carried_over(pixels, came, network.restore(came)[0], by)
    found = network.run(pixels)
    assert np.array_equal(found.image, expected)
    assert (found.stats.height, found.stats.width) == came.shape[:2]
    assert np.array_equal(network.run(pixels, tile=network.min_tile).image, expected)
    assert np.array_equal(simulator.load(path, backend="reference").run(pixels).image, expected)
    video = network.video()
    assert np.array_equal(video.run(pixels).image, expected)
    moved = pixels.copy()
    moved[10:40, 20:60] = 200
    assert np.array_equal(video.run(moved).image, network.run(moved).image)


def test_grey_pictures_and_alpha_take_it_too(tmp_path):
    network = simulator.load(bundle(tmp_path, "64"), threads=1)
    pixels = picture(90, 130)
    assert network.run(pixels[..., 0]).image.shape == (90, 130)
    with_alpha = np.concatenate([pixels, pixels[..., :1]], axis=2)
    found = network.run(with_alpha).image
    assert np.array_equal(found[..., 3], pixels[..., 0])
    assert np.array_equal(found[..., :3], network.run(pixels).image)


@pytest.mark.parametrize("side", ["63", "1025", "256.0", "-64", "0256", ""])
def test_other_sides_are_refused(tmp_path, side):
    with pytest.raises(BundleError, match=r"network\.coarse"):
        bundle(tmp_path, side)
