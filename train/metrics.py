"""Image quality, one definition each. Every value in a table names the function here that made it.

All functions take two uint8 RGB images [H, W, 3] of one shape, already rounded and clipped, nothing cropped, and return
a float. The mean over a data set is the mean of the images' values. Raises ValueError if shapes or types differ.

    psnr, ssim       on RGB
    psnr_y, ssim_y   on Y, the luma of MATLAB's rgb2ycbcr (ITU-R BT.601, studio range 16..235)
"""

import math

import numpy as np
from skimage.metrics import structural_similarity

PEAK = 255.0
BT601_Y = np.array([65.481, 128.553, 24.966]) / 255.0


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and the three RGB channels together; inf for equal images."""
    _check(image, reference)
    return _psnr(image.astype(np.float64), reference.astype(np.float64))


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity (Wang et al., 2004) on RGB: mean over pixels and channels, at most 1.

    Gaussian window (sigma 1.5, 11 x 11), biased covariance, data range 255, each channel on its own; the border of half
    a window is left out of the mean, as scikit-image does. Images below 11 pixels on a side raise ValueError.
    """
    _check(image, reference)
    return _ssim(image, reference, channel_axis=2)


def psnr_y(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB on Y alone (peak 255, Y as float64, not rounded)."""
    _check(image, reference)
    return _psnr(luma(image), luma(reference))


def ssim_y(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM as in `ssim`, on Y alone (Y as float64, not rounded, data range 255)."""
    _check(image, reference)
    return _ssim(luma(image), luma(reference), channel_axis=None)


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [H, W, 3] -> Y, float64 [H, W] in 16..235: 16 + (65.481 R + 128.553 G + 24.966 B) / 255."""
    return 16.0 + image.astype(np.float64) @ BT601_Y


def _check(image: np.ndarray, reference: np.ndarray) -> None:
    for array in (image, reference):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"Metrics compare uint8 RGB images [H, W, 3], not {array.dtype} {list(array.shape)}.")
    if image.shape != reference.shape:
        raise ValueError(f"The images differ in shape: {list(image.shape)} and {list(reference.shape)}.")


def _psnr(image: np.ndarray, reference: np.ndarray) -> float:
    mean_square = float(np.mean((image - reference) ** 2))
    return 10.0 * math.log10(PEAK**2 / mean_square) if mean_square else math.inf


def _ssim(image: np.ndarray, reference: np.ndarray, channel_axis: int | None) -> float:
    if min(image.shape[:2]) < 11:
        raise ValueError(f"SSIM needs at least 11 x 11 pixels, not {image.shape[0]} x {image.shape[1]}.")
    value = structural_similarity(
        image,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=channel_axis,
        data_range=PEAK,
    )
    return float(value)
