"""Training data: what a folder gives, what a batch depends on, and what the noise is."""

import time

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from train.data import DataError, add_noise, load_images, to_network
from train.patches import PatchSampler, degrade
from train.tasks import SINGLE, foreign_to

PHOTOS = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee()]


def test_images_of_a_folder_come_sorted_by_name_as_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "b.png"), PHOTOS[1][..., ::-1])
    cv2.imwrite(str(tmp_path / "a.PNG"), PHOTOS[0][..., ::-1])
    cv2.imwrite(str(tmp_path / "c.png"), PHOTOS[0][..., 0])
    (tmp_path / "notes.txt").write_text("not an image")
    first, second, gray = load_images(tmp_path)
    assert np.array_equal(first, PHOTOS[0]) and np.array_equal(second, PHOTOS[1])
    assert gray.shape == PHOTOS[0].shape and np.array_equal(gray[..., 2], PHOTOS[0][..., 0])


def test_a_folder_that_cannot_be_used_is_named_in_the_error(tmp_path):
    with pytest.raises(DataError, match="missing does not exist"):
        load_images(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no images"):
        load_images(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        load_images(tmp_path / "file")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_image_is_named_in_the_error(tmp_path, damage):
    encoded = cv2.imencode(".png", PHOTOS[1])[1].tobytes()
    content = {"truncated": encoded[: len(encoded) // 2], "empty": b"", "text": b"GIF? no."}[damage]
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png cannot be decoded"):
        load_images(tmp_path)


def test_a_batch_depends_on_seed_and_step_alone():
    one, other = PatchSampler(PHOTOS, patch=32, batch=4, seed=7), PatchSampler(PHOTOS, patch=32, batch=4, seed=7)
    for step in range(5):
        one.batch(step)  # the first sampler has a history, the second one has none
    for a, b in zip(one.batch(1234), other.batch(1234), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.batch(0)[1], one.batch(1)[1])
    assert not torch.equal(one.batch(0)[1], PatchSampler(PHOTOS, patch=32, batch=4, seed=8).batch(0)[1])


def test_patches_are_flipped_crops_of_the_images():
    image = PHOTOS[1][:9, :10]
    sampler = PatchSampler([image], patch=8, batch=64, seed=0)
    views = {
        (flip, image[y : y + 8, x : x + 8][:: 1 - 2 * (flip // 2), :: 1 - 2 * (flip % 2)].tobytes())
        for flip in range(4)
        for y in range(2)
        for x in range(3)
    }
    by_content = {content: flip for flip, content in views}
    _, clean = sampler.batch(0)
    seen = {by_content[patch.permute(1, 2, 0).numpy().tobytes()] for patch in clean}
    assert seen == {0, 1, 2, 3}


def test_batches_are_contiguous_uint8_in_channel_first_order():
    degraded, clean = PatchSampler(PHOTOS, patch=16, batch=3).batch(0)
    for batch in (degraded, clean):
        assert batch.shape == (3, 3, 16, 16) and batch.dtype == torch.uint8 and batch.is_contiguous()


def test_images_smaller_than_a_patch_are_replicate_padded():
    image = PHOTOS[0][100:105, 200:203]
    _, clean = PatchSampler([image], patch=8, batch=1).batch(0)
    wanted = np.pad(image, ((0, 3), (0, 5), (0, 0)), mode="edge")
    flips = [wanted[::y, ::x] for y in (1, -1) for x in (1, -1)]
    assert any(np.array_equal(clean[0].permute(1, 2, 0).numpy(), flip) for flip in flips)


def test_noise_is_gaussian_rounded_and_clipped_with_one_sigma_per_patch():
    grey = np.full((300, 64, 64, 3), 128, np.uint8)
    noisy = degrade("denoise", grey, np.random.default_rng(0), sigma=(0, 40)).astype(float) - 128
    spread = noisy.std(axis=(1, 2, 3))
    assert abs(noisy.mean()) < 0.1
    assert spread.min() < 2 and 38 < spread.max() < 40.6
    assert np.histogram(spread, bins=4, range=(0, 40))[0].min() > 45  # uniform: 75 expected in each quarter
    dark = degrade("denoise", np.zeros((1, 64, 64, 3), np.uint8), np.random.default_rng(0), sigma=(25, 25))
    assert 0.45 < (dark == 0).mean() < 0.56  # one half clips (and rounds) to zero instead of wrapping around


def test_sigma_zero_leaves_the_patch_as_it_is():
    degraded, clean = PatchSampler(PHOTOS, sigma=(0, 0)).batch(3)
    assert torch.equal(degraded, clean)


def test_evaluation_noise_repeats_and_differs_between_images_and_seeds():
    image = PHOTOS[1]
    assert np.array_equal(add_noise(image, 25, seed=0, clip=True), add_noise(image, 25, seed=0, clip=True))
    assert not np.array_equal(add_noise(image, 25, 0, True, index=1), add_noise(image, 25, 0, True, index=2))
    assert not np.array_equal(add_noise(image, 25, 0, True, index=1), add_noise(image, 25, 1, True, index=1))


def test_clipped_evaluation_noise_is_the_unclipped_one_clipped():
    unclipped = add_noise(PHOTOS[2], 50, seed=3, clip=False)
    assert unclipped.dtype == np.int16 and unclipped.min() < 0 and unclipped.max() > 255
    clipped = add_noise(PHOTOS[2], 50, seed=3, clip=True)
    assert clipped.dtype == np.uint8 and np.array_equal(clipped, np.clip(unclipped, 0, 255))
    assert abs((unclipped - PHOTOS[2].astype(float)).std() - 50) < 0.5


def test_network_input_lies_on_the_contracts_grid_exactly():
    pixels = torch.arange(256, dtype=torch.uint8)
    x = to_network(pixels)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 127 / 128 and x[128] == 0
    assert torch.equal((x * 128 + 128).to(torch.uint8), pixels)


@pytest.mark.parametrize("task", SINGLE)
def test_every_task_has_patches_that_depend_on_seed_and_step_alone(task):
    one, other = (PatchSampler(PHOTOS, patch=32, batch=3, seed=7, task=task) for _ in range(2))
    one.batch(0)
    (degraded, clean), again = one.batch(5), other.batch(5)
    assert degraded.shape == clean.shape == (3, 3, 32, 32) and degraded.dtype == torch.uint8
    assert torch.equal(degraded, again[0]) and torch.equal(clean, again[1])
    assert not torch.equal(degraded, clean)


def test_the_all_in_one_task_shows_all_five():
    sampler = PatchSampler(PHOTOS, patch=32, batch=8, seed=7, task="auto")
    again = PatchSampler(PHOTOS, patch=32, batch=8, seed=7, task="auto")
    degraded, clean = sampler.batch(3)
    assert degraded.shape == clean.shape == (8, 3, 32, 32) and torch.equal(degraded, again.batch(3)[0])
    brighter = [(d.float() - c.float()).mean() for i in range(6) for d, c in zip(*sampler.batch(i), strict=True)]
    assert max(brighter) > 30 and min(abs(b) for b in brighter) < 1  # haze and rain add light, noise and blur do not


def test_an_unknown_task_is_refused():
    with pytest.raises(DataError, match="unknown; known tasks are denoise, derain"):
        PatchSampler(PHOTOS, task="colourise")


def test_unusable_settings_are_refused():
    with pytest.raises(DataError, match="no images"):
        PatchSampler([])
    with pytest.raises(DataError, match="at least 1"):
        PatchSampler(PHOTOS, patch=0)
    with pytest.raises(DataError, match="0 <= low <= high"):
        PatchSampler(PHOTOS, sigma=(30, 10))
    with pytest.raises(DataError, match="within 0 and 1, not 1.5"):
        PatchSampler(PHOTOS, clean=1.5)
    with pytest.raises(DataError, match="uint8"):
        PatchSampler([PHOTOS[0].astype(np.float32)])


def test_a_batch_of_the_papers_size_takes_a_few_milliseconds():
    sampler = PatchSampler(PHOTOS, patch=64, batch=8)
    times = []
    for step in range(20):
        start = time.perf_counter()
        sampler.batch(step)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01


def test_a_sigma_power_above_one_shows_weak_noise_more_often():
    flat = [np.full((32, 32, 3), 128, np.uint8)]

    def levels(power: float) -> np.ndarray:
        sampler = PatchSampler(flat, patch=32, batch=256, sigma=(0, 40), sigma_power=power)
        return np.sort(sampler.batch(0)[0].float().std(dim=(1, 2, 3)).numpy())

    even, low = levels(1.0), levels(2.0)
    assert np.median(even) == pytest.approx(20, abs=4)
    assert np.median(low) == pytest.approx(10, abs=4)
    assert low.max() > 35  # the strongest noise still comes
    with pytest.raises(DataError, match="above zero"):
        PatchSampler(flat, sigma_power=0)


def test_a_share_of_the_patches_can_stay_clean_and_the_others_are_those_of_a_run_without():
    plain, spared = (PatchSampler(PHOTOS, patch=16, batch=64, seed=3, sigma=(20, 20), clean=c) for c in (0.0, 0.25))
    (noisy, clean), (some, same) = plain.batch(0), spared.batch(0)
    assert torch.equal(clean, same)
    alone = (some == clean).flatten(1).all(1)
    assert 8 <= alone.sum() <= 24 and not (noisy == clean).flatten(1).all(1).any()
    assert torch.equal(some[~alone], noisy[~alone])


def test_three_in_four_of_what_gets_a_cameras_noise_are_softer_than_the_photographs():
    checks = np.kron(np.indices((48, 48)).sum(0) % 2, np.ones((2, 2)))[..., None] * np.full(3, 200) + 20
    sampler = PatchSampler([checks.astype(np.uint8)], 32, 64, camera=True)
    _, clean = sampler.batch(0)
    values = [len(torch.unique(patch)) for patch in clean]  # a sharp one has two
    assert 38 <= sum(count > 2 for count in values) <= 58
    assert all(torch.equal(a, b) for a, b in zip(sampler.batch(0), sampler.batch(0), strict=True))


def test_with_a_cameras_noise_most_patches_are_photographs_and_some_have_white_noise():
    grey = np.full((64, 32, 32, 3), 128, np.uint8)
    noisy = degrade("denoise", grey, np.random.default_rng(0), sigma=(20, 20), camera=True).astype(float)
    noise = noisy - noisy.mean((1, 2), keepdims=True)
    energy = (noise**2).mean((1, 2, 3))
    beside = (noise[:, :, 1:] * noise[:, :, :-1]).mean((1, 2, 3)) / np.maximum(energy, 0.01)
    assert 2 <= ((np.abs(beside) < 0.1) & (np.abs(energy - 400) < 60)).sum() <= 16
    assert (beside > 0.25).sum() >= 32  # grains: correlation with the next pixel
    assert (energy < 9).sum() >= 10  # hardly any noise


def test_a_share_of_the_patches_is_degraded_otherwise_and_asked_for_just_so():
    plain, mixed = (PatchSampler(PHOTOS, 32, 64, 3, task="derain", foreign=share) for share in (0.0, 0.25))
    (rainy, clean), (seen, wanted) = plain.batch(0), mixed.batch(0)
    foreign = (wanted != clean).flatten(1).any(1)
    assert 6 <= foreign.sum() <= 26
    assert torch.equal(seen[foreign], wanted[foreign]) and torch.equal(seen[~foreign], rainy[~foreign])


@pytest.mark.parametrize(
    ("task", "others"),
    [
        ("derain", {"denoise", "dehaze", "deblur", "defocus", "dejpeg"}),
        ("deblur", {"denoise", "derain", "dehaze", "dejpeg"}),
        ("auto", {"dejpeg"}),
    ],
)
def test_what_cannot_be_told_from_a_tasks_own_degradation_is_not_foreign_to_it(task, others):
    assert set(foreign_to(task)) == others


def test_jpeg_is_not_foreign_to_a_photographs_noise():
    assert "dejpeg" not in PatchSampler(PHOTOS, camera=True, foreign=0.1).others
    with pytest.raises(DataError, match="within 0 and 1"):
        PatchSampler(PHOTOS, foreign=1.5)
