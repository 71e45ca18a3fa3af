"""Makes the sample pictures of this folder again, pixel for pixel.

    python edge/samples/make_sample.py               noisy.png from clean.png
    python edge/samples/make_sample.py coffee.png    clean.png as well, cut out of scikit-image's coffee.png

The noise comes from NumPy's RandomState, whose stream is frozen: every NumPy version draws the same numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
ROWS, COLUMNS = slice(10, 331), slice(40, 521)  # 481x321 pixels, the size of a BSDS photograph
SIGMA = 25.0  # standard deviation in 8-bit levels
SEED = 25


def cut(coffee: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part of scikit-image's coffee photograph ([400, 600, 3], uint8) that serves as the sample."""
    return coffee[ROWS, COLUMNS]


def add_noise(clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """White Gaussian noise of SIGMA levels on [H, W, 3] uint8 RGB, rounded and clipped to 8 bits as a camera would."""
    noise = np.random.RandomState(SEED).normal(0.0, SIGMA, clean.shape)
    return np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def main(argv: list[str]) -> int:
    clean_file, noisy_file = FOLDER / "clean.png", FOLDER / "noisy.png"
    smallest = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    if argv:
        coffee = cv2.imread(argv[0], cv2.IMREAD_COLOR_RGB)
        if coffee is None or coffee.shape != (400, 600, 3):
            print(f"{argv[0]} is not scikit-image's coffee.png (600x400 pixels, colour).", file=sys.stderr)
            return 2
        cv2.imwrite(str(clean_file), cut(coffee.astype(np.uint8))[..., ::-1], smallest)
    clean = cv2.imread(str(clean_file), cv2.IMREAD_COLOR_RGB)
    if clean is None:
        print(f"{clean_file} cannot be read; give the path of scikit-image's coffee.png to make it.", file=sys.stderr)
        return 2
    cv2.imwrite(str(noisy_file), add_noise(clean.astype(np.uint8))[..., ::-1], smallest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
