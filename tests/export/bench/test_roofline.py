"""The roofline: synaptic operations and bytes are those of the layer that was drawn."""

import pytest

from export.bench.roofline import measure


def test_the_roofline_counts_what_the_kernel_does() -> None:
    found = measure(0.1, inputs=16, outputs=32, side=32, repeats=2)
    assert 0.08 < found.rate < 0.12
    full = measure(1.0, inputs=16, outputs=32, side=32, repeats=2)
    assert full.rate == 1 and full.synops == 4 * 16 * 32 * (3 * 32 - 2) ** 2
    assert full.bytes_moved > found.bytes_moved > 2 * found.synops
    assert found.synops_per_s > 0 and found.bound_synops_per_s > 0
    with pytest.raises(ValueError, match="0 to 1"):
        measure(1.5)
