"""Image quality, one definition each. Every value in a table names the function here that made it.

All functions take two uint8 RGB images [H, W, 3] of one shape, already rounded and clipped, nothing cropped, and return
a float. The mean over a data set is the mean of the images' values. Raises ValueError if shapes or types differ.

    psnr, ssim       on RGB; SSIM with a Gaussian window
    psnr_y, ssim_y   the same on Y, the luma of MATLAB's rgb2ycbcr (ITU-R BT.601, studio range 16..235, 8 bits)
    ssim_uniform     SSIM with a uniform 7 x 7 window, scikit-image's default
    ssim_volume      SSIM with a Gaussian window that also runs across the channels, MATLAB's ssim() on a colour picture
    psnr_aligned, ssim_aligned   after intensity matching and a homography (RealBlur)
    mae              mean absolute error, 0..1
    lpips            learned perceptual distance; None where its package or weights are not at hand

For one noisy photograph the four SSIMs differ in the second digit (`ssim` < `ssim_uniform` < `ssim_y` <
`ssim_volume`), so a table without the variant's name says little.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter
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


def ssim_uniform(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM on RGB, uniform 7 x 7 window, sample covariances: scikit-image's `structural_similarity` as it comes.

    The variant of DPDD's, PromptIR's and AdaIR's evaluations. Images below 7 pixels on a side raise ValueError.
    """
    _check(image, reference)
    _check_window(image, 7)
    return float(structural_similarity(image, reference, channel_axis=2, data_range=PEAK))


def ssim_volume(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM of a colour picture taken as a volume [H, W, 3], which MATLAB's ssim() does (Restormer's GoPro and HIDE).

    mean of (2 mx my + c1)(2 sxy + c2) / ((mx^2 + my^2 + c1)(sxx + syy + c2)) over all pixels and channels, with moments
    under an 11 x 11 x 11 Gaussian window of sigma 1.5, replicated at the borders; c1 = (0.01 * 255)^2,
    c2 = (0.03 * 255)^2. At most 1; higher than `ssim`, since neighbouring channels are smoothed together.
    """
    _check(image, reference)
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def moment(values: np.ndarray) -> np.ndarray:
        filtered: np.ndarray = gaussian_filter(values, sigma=1.5, radius=5, mode="nearest")
        return filtered

    mx, my = moment(x), moment(y)
    sxx, syy, sxy = moment(x * x) - mx * mx, moment(y * y) - my * my, moment(x * y) - mx * my
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    top = (2 * mx * my + c1) * (2 * sxy + c2)
    return float(np.mean(top / ((mx * mx + my * my + c1) * (sxx + syy + c2))))


def psnr_y(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB on Y alone, peak 255 (deraining's usual figure; about 1.8 dB above RGB)."""
    _check(image, reference)
    return _psnr(luma_8_bits(image), luma_8_bits(reference))


def ssim_y(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM as in `ssim`, on Y alone (data range 255)."""
    _check(image, reference)
    return _ssim(luma_8_bits(image), luma_8_bits(reference), channel_axis=None)


def mae(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute error over pixels and channels as a share of the range: mean |x - y| / 255, 0..1 (DPDD's)."""
    _check(image, reference)
    return float(np.mean(np.abs(image.astype(np.float64) - reference))) / PEAK


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [H, W, 3] -> Y, float64 [H, W] in 16..235: 16 + (65.481 R + 128.553 G + 24.966 B) / 255."""
    return 16.0 + image.astype(np.float64) @ BT601_Y


def luma_8_bits(image: np.ndarray) -> np.ndarray:
    """Y rounded to whole levels, float64 [H, W]: what rgb2ycbcr gives for an 8-bit picture. Rounding both pictures adds
    1/6 to their mean square error, 0.1 dB at 40 dB, so it belongs to the figures that others publish."""
    return np.floor(luma(image) + 0.5)


@functools.lru_cache(maxsize=2)  # PSNR and SSIM of one pair follow each other
def _aligned(image: bytes, reference: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, x = (np.frombuffer(data, np.uint8).reshape(shape).astype(np.float32) / 255 for data in (image, reference))
    energy = np.sum(z * z)
    z = z * (np.sum(x * z) / energy if energy else 1.0)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
    grey, other = (cv2.cvtColor(np.ascontiguousarray(part, np.float32), cv2.COLOR_RGB2GRAY) for part in (x, z))
    start, everywhere = np.eye(3, dtype=np.float32), np.ones(shape[:2], np.uint8)
    try:
        _, warp = cv2.findTransformECC(grey, other, start, cv2.MOTION_HOMOGRAPHY, criteria, everywhere, 5)
    except cv2.error as error:
        raise AlignmentError("The two pictures could not be aligned: the homography does not converge.") from error
    size = (shape[1], shape[0])
    inverse = cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(z, warp, size, flags=cv2.INTER_CUBIC | inverse, borderMode=cv2.BORDER_REFLECT)
    inside = cv2.warpPerspective(np.ones_like(z), warp, size, flags=cv2.INTER_NEAREST | inverse)
    return moved, x, inside


class AlignmentError(ValueError):
    """Two pictures between which no homography was found."""


def align(image: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RealBlur's alignment (Rim et al., ECCV 2020): (moved, reference, inside), each float32 [H, W, 3].

    With both pictures in 0..1: the image is scaled by s = sum(x z) / sum(z z), which matches its intensity to the
    reference x; a homography is found by maximising the enhanced correlation coefficient (100 iterations, pictures
    smoothed by 5 x 5); the image is warped by it (cubic, reflected border). `inside` is 1 where the warped image has
    pixels, else 0. Raises AlignmentError (a ValueError) where the search does not converge.
    """
    _check(image, reference)
    return _aligned(image.tobytes(), reference.tobytes(), image.shape)


def psnr_aligned(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB after `align`: 10 log10(sum(inside) / sum(inside (x - y)^2)) over pixels and channels."""
    moved, x, inside = align(image, reference)
    error = float(np.sum(((x - moved) * inside) ** 2, dtype=np.float64))
    return 10.0 * math.log10(float(np.sum(inside)) / error) if error else math.inf


def ssim_aligned(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM as in `ssim` after `align`: pixels outside are black in both pictures and left out of the mean."""
    moved, x, inside = align(image, reference)
    _check_window(image, 11)
    _, values = structural_similarity(
        x * inside, moved * inside, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, full=True,
    )  # fmt: skip
    inner = np.s_[5:-5, 5:-5]
    per_channel = (values * inside)[inner].sum((0, 1)) / inside[inner].sum((0, 1))
    return float(per_channel.mean())


# The network's own file name in PyTorch's cache; the weights that lpips puts on top of it come with its package.
LPIPS_WEIGHTS = "alexnet-owt-7be5be79.pth"


def lpips(image: np.ndarray, reference: np.ndarray) -> float | None:
    """LPIPS (Zhang et al., CVPR 2018), AlexNet, version 0.1: a distance, 0 for equal pictures; lower is better.

    None where it is not available (`lpips_missing` says why); nothing is downloaded, ever.
    """
    _check(image, reference)
    distance, _ = _load_lpips()
    return None if distance is None else distance(image, reference)


def lpips_missing() -> str | None:
    """Why LPIPS is not available, one sentence, or None where it is."""
    return _load_lpips()[1]


@functools.cache
def _load_lpips() -> tuple[Callable[[np.ndarray, np.ndarray], float] | None, str | None]:
    """(the distance, None) or (None, why not)."""
    try:
        import lpips as package
        import torch
    except ImportError as error:
        return None, f"LPIPS is not available: the package {error.name} is missing (pip install lpips)."
    except Exception as error:  # torchvision, which it needs, fails so where it was built for another PyTorch
        return None, f"LPIPS is not available: its package cannot be imported ({error})."
    file = Path(torch.hub.get_dir()) / "checkpoints" / LPIPS_WEIGHTS
    if not file.is_file():
        return None, f"LPIPS is not available: AlexNet's weights are not at {file}, and nothing is downloaded here."
    try:
        # With pnet_rand the package builds AlexNet without asking the network for weights; they are put in below.
        model = package.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        _put_alexnet(model.net, torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # torch.load raises many kinds, at length; all of them mean the same to the user
        return None, f"LPIPS is not available: {file} is damaged or not AlexNet's weights ({type(error).__name__})."
    model.eval()

    def distance(image: np.ndarray, reference: np.ndarray) -> float:
        pair = [torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float32) / 127.5 - 1) for p in (image, reference)]
        with torch.no_grad():
            return float(model(*pair))

    return distance, None


def _put_alexnet(features: Any, weights: dict[str, Any]) -> None:
    """torchvision's AlexNet weights ("features.3.bias") into lpips' slices of it ("slice2.3.bias"), all of them."""
    own = features.state_dict()
    features.load_state_dict({name: weights["features." + name.split(".", 1)[1]] for name in own})


def _check(image: np.ndarray, reference: np.ndarray) -> None:
    for array in (image, reference):
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
            raise ValueError(f"Metrics compare uint8 RGB images [H, W, 3], not {array.dtype} {list(array.shape)}.")
    if image.shape != reference.shape:
        raise ValueError(f"The images differ in shape: {list(image.shape)} and {list(reference.shape)}.")


def _check_window(image: np.ndarray, side: int) -> None:
    if min(image.shape[:2]) < side:
        raise ValueError(f"SSIM needs at least {side} x {side} pixels, not {image.shape[0]} x {image.shape[1]}.")


def _psnr(image: np.ndarray, reference: np.ndarray) -> float:
    mean_square = float(np.mean((image - reference) ** 2))
    return 10.0 * math.log10(PEAK**2 / mean_square) if mean_square else math.inf


def _ssim(image: np.ndarray, reference: np.ndarray, channel_axis: int | None) -> float:
    _check_window(image, 11)
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
