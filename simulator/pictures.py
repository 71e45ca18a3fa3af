"""A noisy photograph of any size: what speed is measured on, and operations are counted with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [3, H, W]

SAMPLE = Path(__file__).parents[1] / "edge" / "samples" / "noisy.png"


def noisy_picture(height: int, width: int, sample: Path = SAMPLE) -> tuple[str, Pixels]:
    """(what it is, uint8 [3, H, W]): the middle of the sample, mirrored on where it ends, or a synthetic one."""
    import cv2

    image = cv2.imread(str(sample), cv2.IMREAD_COLOR) if sample.is_file() else None
    if image is None:
        rng = np.random.Generator(np.random.PCG64(0))
        y, x = np.mgrid[:height, :width]
        smooth = 128 + 60 * np.sin(x / 31) * np.cos(y / 23) + 40 * ((x // 40 + y // 56) % 2)
        noisy = smooth[None] + rng.normal(0, 25, (3, height, width))
        return "a synthetic picture with noise of 25 grey levels", np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    rows, columns = (
        _mirrored((extent - wanted) // 2, wanted, extent)
        for extent, wanted in zip(image.shape[:2], (height, width), strict=True)
    )
    crop = image[rows[:, None], columns][:, :, ::-1].transpose(2, 0, 1)
    return "the noisy sample picture", np.ascontiguousarray(crop)


def _mirrored(first: int, count: int, extent: int) -> npt.NDArray[np.int64]:
    """`count` indices from `first` on, folded back and forth into 0..extent - 1."""
    around = np.arange(first, first + count) % (2 * extent)
    return np.minimum(around, 2 * extent - 1 - around)
