"""Metrics: values that can be worked out by hand, and agreement with independent implementations."""

import math

import cv2
import numpy as np
import pytest
import skimage.data
from skimage.color import rgb2ycbcr

from train.data import add_noise
from train.metrics import luma, psnr, psnr_y, ssim, ssim_y

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


@pytest.mark.parametrize("metric", [psnr, ssim, psnr_y, ssim_y])
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
