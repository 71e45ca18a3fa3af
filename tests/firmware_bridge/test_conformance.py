"""`python -m firmware_bridge.conformance`: boards that are equal pass, and one that is not does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firmware_bridge import conformance
from firmware_bridge.boards import BOARDS
from firmware_bridge.boards.native import Native

ROOT = Path(__file__).parents[2]
DENOISE = ROOT / "edge" / "bundles" / "denoise.safetensors"


def test_boards_of_this_machine_conform(capsys):
    arguments = ["sim", "native", "--bundle", str(DENOISE), "--random", "3", "--count", "2", "--size", "40"]
    assert conformance.main(arguments) == 0
    said = capsys.readouterr().out
    for board in ("sim", "native"):
        assert f"{board}: denoise: equal" in said and f"{board}: 0 bits differ: 4 networks, 8 pictures" in said
    assert "4 networks compared in every layer" in said


def test_one_wrong_grey_level_or_spike_is_found(monkeypatch, capsys):
    class Faulty(Native):
        name = "faulty"
        calls = 0

        def run(self, image):
            found = super().run(image)
            Faulty.calls += 1
            if Faulty.calls == 2:
                found.image[-1, -1, 2] ^= 1
            if Faulty.calls == 4:
                found.counts["spikes"][-3] += 1
            return found

    monkeypatch.setitem(BOARDS, "faulty", Faulty)
    assert conformance.main(["faulty", "--bundle", str(DENOISE), "--random", "1", "--size", "30"]) == 1
    said = capsys.readouterr().out
    assert "faulty: denoise: DIFFERENT" in said and "faulty: random network 0: DIFFERENT" in said
    assert "faulty: 2 pictures DIFFER: 2 networks, 4 pictures" in said


def test_parts_are_of_the_asked_size_or_a_little_smaller_and_the_same_for_the_same_seed():
    paths = sorted((ROOT / "edge" / "samples").glob("*.png"))
    one, other = (conformance.crops(paths, 5, 64, 3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert one[0].shape == (64, 64, 3) and all(48 <= side <= 64 for crop in one for side in crop.shape[:2])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nobody"], "there is no board called 'nobody'"),
        (["native", "--data", "/nowhere"], "there is no image at /nowhere"),
        (["native", "--bundle", "/nowhere.safetensors"], "/nowhere.safetensors"),
    ],
)
def test_mistakes_are_answered_with_one_sentence(arguments, complaint, capsys):
    assert conformance.main(arguments) == 2
    err = capsys.readouterr().err
    assert complaint in err and len(err.splitlines()) == 1
