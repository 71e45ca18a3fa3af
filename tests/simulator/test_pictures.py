"""The noisy photograph that speed is measured on, in any size."""

import numpy as np

from simulator.pictures import noisy_picture


def test_the_picture_is_the_middle_of_the_sample_mirrored_on_where_it_ends():
    what, small = noisy_picture(100, 100)
    _, large = noisy_picture(1000, 1000)
    assert what == "the noisy sample picture" and small.shape == (3, 100, 100) and large.shape == (3, 1000, 1000)
    assert np.array_equal(large[:, 450:550, 450:550], small)
    assert np.array_equal(large[:, :, 259], large[:, :, 260])  # the sample's left border
    assert noisy_picture(30, 40)[1].shape == (3, 30, 40)


def test_without_the_sample_the_picture_is_synthetic(tmp_path):
    what, picture = noisy_picture(64, 64, tmp_path / "none.png")
    assert "synthetic" in what and picture.shape == (3, 64, 64) and picture.std() > 25
