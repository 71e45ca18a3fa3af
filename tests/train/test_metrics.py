"""Metrics: values that can be worked out by hand, and agreement with independent implementations."""

import math
import sys
import types

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from skimage.color import rgb2ycbcr

from train import metrics
from train.data import add_noise
from train.metrics import (
    align,
    luma,
    luma_8_bits,
    mae,
    psnr,
    psnr_aligned,
    psnr_y,
    ssim,
    ssim_aligned,
    ssim_uniform,
    ssim_volume,
    ssim_y,
)

PHOTO = skimage.data.chelsea()[:128, :160]
NOISY = add_noise(PHOTO, 25, seed=0, clip=True)


def test_psnr_of_a_constant_difference_is_the_formula():
    dark, bright = np.full((12, 20, 3), 100, np.uint8), np.full((12, 20, 3), 110, np.uint8)
    assert psnr(dark, bright) == pytest.approx(20 * math.log10(255 / 10))


def test_psnr_does_not_wrap_around_and_is_symmetric():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == 0


def test_psnr_agrees_with_opencv():
    assert psnr(NOISY, PHOTO) == pytest.approx(cv2.PSNR(NOISY, PHOTO))


def test_equal_images_have_infinite_psnr_and_ssim_one():
    assert psnr(PHOTO, PHOTO) == psnr_y(PHOTO, PHOTO) == math.inf
    assert ssim(PHOTO, PHOTO) == ssim_y(PHOTO, PHOTO) == 1


def test_ssim_is_the_gaussian_window_variant():
    """Worked out from the definition with an 11 x 11 window of sigma 1.5, averaged over the windows inside."""
    kernel = cv2.getGaussianKernel(11, 1.5)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        x, y = NOISY[..., channel].astype(float), PHOTO[..., channel].astype(float)
        mx, my, xx, yy, xy = (cv2.sepFilter2D(m, -1, kernel, kernel)[5:-5, 5:-5] for m in (x, y, x * x, y * y, x * y))
        numerator = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
        values.append((numerator / ((mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2))).mean())
    assert ssim(NOISY, PHOTO) == pytest.approx(np.mean(values), abs=1e-6)


def test_luma_is_matlabs():
    extremes = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]], np.uint8)
    assert luma(extremes)[0] == pytest.approx([16, 235, 81.481, 40.966])
    assert np.allclose(luma(PHOTO), rgb2ycbcr(PHOTO)[..., 0])


def test_y_is_higher_than_rgb_for_independent_noise():
    assert 1.5 < psnr_y(NOISY, PHOTO) - psnr(NOISY, PHOTO) < 7
    assert ssim_y(NOISY, PHOTO) > ssim(NOISY, PHOTO)


def test_luma_of_8_bits_is_whole_and_keeps_black_and_white():
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    y = luma_8_bits(ramp)[0]
    assert y[0] == 16 and y[255] == 235 and y[128] == 126  # 16 + 219 * 128 / 255 = 125.93
    assert np.array_equal(y, np.rint(y)) and np.abs(y - luma(ramp)[0]).max() <= 0.5


def test_psnr_y_of_a_grey_step_is_the_formula_on_whole_luma_levels():
    dark, bright = np.full((12, 20, 3), 100, np.uint8), np.full((12, 20, 3), 110, np.uint8)
    assert psnr_y(dark, bright) == pytest.approx(20 * math.log10(255 / 8))  # Y: 102 (101.88) and 110 (110.47)


def test_ssim_uniform_is_worked_out_from_7_by_7_windows():
    x, y = (picture[:16, :20].astype(float) for picture in (NOISY, PHOTO))
    values = []
    for channel in range(3):
        for top in range(10):
            for left in range(14):
                a, b = (picture[top : top + 7, left : left + 7, channel].ravel() for picture in (x, y))
                (va, cov), (_, vb) = np.cov(a, b)
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                top_part = (2 * a.mean() * b.mean() + c1) * (2 * cov + c2)
                values.append(top_part / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2)))
    assert ssim_uniform(NOISY[:16, :20], PHOTO[:16, :20]) == pytest.approx(np.mean(values))


def test_ssim_volume_smooths_across_the_channels_with_replicated_borders():
    """Worked out with an 11 x 11 x 11 kernel on a padded copy."""
    noisy, photo = NOISY[40:56, 40:60], PHOTO[40:56, 40:60]
    line = cv2.getGaussianKernel(11, 1.5)[:, 0]
    kernel = line[:, None, None] * line[:, None] * line

    def moment(values: np.ndarray) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 5, mode="edge"), (11, 11, 11))
        return (windows * kernel).sum((3, 4, 5))

    x, y = noisy.astype(float), photo.astype(float)
    mx, my, c1, c2 = moment(x), moment(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    spread = moment(x * x) - mx**2 + moment(y * y) - my**2
    values = (2 * mx * my + c1) * (2 * (moment(x * y) - mx * my) + c2) / ((mx**2 + my**2 + c1) * (spread + c2))
    assert ssim_volume(noisy, photo) == pytest.approx(values.mean())


def test_the_ssim_variants_are_ordered_as_the_module_says():
    values = [variant(NOISY, PHOTO) for variant in (ssim, ssim_uniform, ssim_y, ssim_volume)]
    assert values == sorted(values) and min(np.diff(values)) > 0.01


def test_mae_of_a_constant_difference_is_its_share_of_the_range():
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert mae(dark, bright) == mae(bright, dark) == pytest.approx(0.2)
    assert mae(PHOTO, PHOTO) == 0


def moved(image: np.ndarray, right: float, down: float, gain: float) -> np.ndarray:
    shift = np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]])
    warped = cv2.warpPerspective(image, shift, image.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return (warped * gain).round().astype(np.uint8)


def test_alignment_undoes_a_shift_and_a_gain():
    other = moved(PHOTO, 1.5, -2.25, 0.8)
    assert psnr(other, PHOTO) < 20 and psnr_aligned(other, PHOTO) > psnr(other, PHOTO) + 12
    assert ssim_aligned(other, PHOTO) > ssim(other, PHOTO) + 0.1
    warped, reference, inside = align(other, PHOTO)
    mean_square = np.mean((warped.astype(float) - reference)[inside == 1] ** 2)
    assert psnr_aligned(other, PHOTO) == pytest.approx(-10 * math.log10(mean_square), abs=1e-4)
    assert np.allclose(reference * 255, PHOTO, atol=1e-4)
    assert not inside[:, -1].any() and inside[20:-20, 20:-20].all()  # what was moved out of the picture does not count


def test_aligned_scores_of_a_picture_that_needs_no_alignment_are_the_plain_ones():
    assert psnr_aligned(NOISY, PHOTO) == pytest.approx(psnr(NOISY, PHOTO), abs=0.5)
    assert psnr_aligned(PHOTO, PHOTO) > 60 and ssim_aligned(PHOTO, PHOTO) == pytest.approx(1, abs=1e-3)


def test_pictures_without_structure_are_said_to_be_impossible_to_align():
    with pytest.raises(metrics.AlignmentError, match="could not be aligned"):
        psnr_aligned(np.zeros_like(PHOTO), PHOTO)


@pytest.fixture
def fresh_lpips(monkeypatch, tmp_path):
    """LPIPS is looked for anew, with an empty cache of weights; afterwards the finding is forgotten."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    metrics._load_lpips.cache_clear()
    yield tmp_path / "hub" / "checkpoints"
    metrics._load_lpips.cache_clear()


class AlexNetSlices(torch.nn.Module):
    """The part of lpips' AlexNet that matters here: its slices keep torchvision's numbers."""

    def __init__(self):
        super().__init__()
        self.slice1 = torch.nn.Sequential()
        self.slice1.add_module("0", torch.nn.Conv2d(3, 2, 3))
        self.slice2 = torch.nn.Sequential()
        self.slice2.add_module("3", torch.nn.Conv2d(2, 2, 3))


class PackageDouble(torch.nn.Module):
    """Stands for lpips.LPIPS; refuses to be built in the way that downloads."""

    def __init__(self, net, version, pnet_rand, verbose):
        super().__init__()
        assert (net, version, pnet_rand) == ("alex", "0.1", True)
        self.net = AlexNetSlices()

    def forward(self, x, y):
        assert x.min() >= -1 and x.max() <= 1 and x.shape[1] == 3
        features = [self.net.slice2(self.net.slice1(picture)) for picture in (x, y)]
        return ((features[0] - features[1]) ** 2).mean().reshape(1, 1, 1, 1)


def test_lpips_without_its_package_is_not_available(monkeypatch, fresh_lpips):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert metrics.lpips(NOISY, PHOTO) is None
    assert "package lpips is missing" in metrics.lpips_missing()


def test_lpips_without_weights_is_not_available_and_downloads_nothing(monkeypatch, fresh_lpips):
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=PackageDouble))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("a download was tried"))
    assert metrics.lpips(NOISY, PHOTO) is None
    assert "weights are not at" in metrics.lpips_missing()
    fresh_lpips.mkdir(parents=True)
    (fresh_lpips / metrics.LPIPS_WEIGHTS).write_bytes(b"damaged")
    metrics._load_lpips.cache_clear()
    assert metrics.lpips(NOISY, PHOTO) is None
    assert "damaged or not AlexNet's weights" in metrics.lpips_missing()


def test_lpips_puts_the_weights_on_disk_into_the_packages_network(monkeypatch, fresh_lpips):
    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=PackageDouble))
    torch.manual_seed(0)
    one, two = torch.nn.Conv2d(3, 2, 3), torch.nn.Conv2d(2, 2, 3)
    weights = {f"features.{i}.{k}": v for i, layer in ((0, one), (3, two)) for k, v in layer.state_dict().items()}
    fresh_lpips.mkdir(parents=True)
    torch.save(weights | {"classifier.1.weight": torch.zeros(1)}, fresh_lpips / metrics.LPIPS_WEIGHTS)
    x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1 for p in (NOISY, PHOTO))
    expected = ((two(one(x)) - two(one(y))) ** 2).mean().item()
    assert metrics.lpips(NOISY, PHOTO) == pytest.approx(expected)
    assert metrics.lpips(PHOTO, PHOTO) == 0 and metrics.lpips_missing() is None


@pytest.mark.parametrize(
    "metric", [psnr, ssim, psnr_y, ssim_y, ssim_uniform, ssim_volume, mae, psnr_aligned, ssim_aligned, metrics.lpips]
)
def test_images_that_cannot_be_compared_are_refused(metric):
    with pytest.raises(ValueError, match="differ in shape"):
        metric(PHOTO, PHOTO[:-1])
    with pytest.raises(ValueError, match="uint8"):
        metric(PHOTO / 255.0, PHOTO)
    with pytest.raises(ValueError, match="uint8 RGB"):
        metric(PHOTO[..., 0], PHOTO[..., 0])


def test_ssim_of_an_image_below_its_window_is_refused():
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(PHOTO[:10], PHOTO[:10])
