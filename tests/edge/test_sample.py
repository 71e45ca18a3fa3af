"""The sample picture is what its README says."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import skimage

import edge
from edge.images import read_image

FOLDER = Path(edge.__file__).parent / "samples"
COFFEE = Path(skimage.__file__).parent / "data" / "coffee.png"


@pytest.fixture
def make_sample():
    return runpy.run_path(str(FOLDER / "make_sample.py"))


def test_the_noisy_sample_is_made_from_the_clean_one_pixel_for_pixel(make_sample):
    clean = read_image(FOLDER / "clean.png").pixels
    assert clean.shape == (321, 481, 3)
    assert np.array_equal(make_sample["add_noise"](clean), read_image(FOLDER / "noisy.png").pixels)


@pytest.mark.skipif(not COFFEE.exists(), reason="this scikit-image does not bring its example images along")
def test_the_clean_sample_is_cut_out_of_scikit_images_coffee(make_sample):
    coffee = read_image(COFFEE).pixels
    assert np.array_equal(make_sample["cut"](coffee), read_image(FOLDER / "clean.png").pixels)
