"""Around a network: borders, flat areas, and pictures that need no restoring."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import simulator
from edge import careful, cli, shipped
from edge.images import read_image
from simulator.network import Result
from tests.edge.files import load, store

CLEAN = shipped.BUNDLES.parent / "samples/clean.png"
NOISY = shipped.BUNDLES.parent / "samples/noisy.png"


def as_given(pixels: np.ndarray) -> Result:
    return Result(pixels.copy(), None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return read_image(CLEAN).pixels[:200, :240]


# --- borders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 2, 3), (191, 300), (192, 250, 4), (300, 192, 1), (192, 192)])
def test_what_a_network_does_not_change_comes_back_as_it_was(shape: tuple[int, ...]) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    seen: list[np.ndarray] = []

    def run(wide: np.ndarray) -> Result:
        seen.append(wide)
        return as_given(wide)

    assert np.array_equal(careful.restore("denoise", pixels, run).image, pixels)
    more = 8 if min(shape[:2]) >= careful.LEAST_MIRRORED else 0
    assert seen[0].shape == (shape[0] + more, shape[1] + more, *shape[2:])


def test_the_picture_is_mirrored_with_its_outermost_pixels_repeated() -> None:
    wide = careful.mirrored(np.arange(30, dtype=np.uint8).reshape(5, 6))
    assert wide[:, 4].tolist() == [18, 12, 6, 0, 0, 6, 12, 18, 24, 24, 18, 12, 6]
    assert wide[4].tolist() == [3, 2, 1, 0, 0, 1, 2, 3, 4, 5, 5, 4, 3, 2]


@pytest.mark.parametrize("name", ["denoise", "denoise-lean", "derain"])
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)])
def test_noise_on_a_saturated_colour_leaves_no_frame(name: str, colour: tuple[int, int, int]) -> None:
    """The network alone sees mid-grey beyond the border, and mixes it in: by more than 20 levels."""
    network = simulator.load(shipped.BUNDLES / f"{name}.safetensors")
    noise = np.random.RandomState(0).normal(0, 6, (192, 192, 3))
    pixels = np.clip(np.rint(np.array(colour) + noise), 0, 255).astype(np.uint8)
    restored = careful.restore(network.task, pixels, network.run).image.astype(int)
    ring = np.concatenate([restored[0], restored[-1], restored[:, 0], restored[:, -1]])
    inside = restored[8:-8, 8:-8].reshape(-1, 3)
    assert np.abs(ring.mean(0) - inside.mean(0)).max() < 4


# --- flat areas -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", careful.CALM_TASKS)
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_flat_areas_come_back_as_they_came(task: str, channels: tuple[int, ...]) -> None:
    came = np.full((20, 20, *channels), 200, np.uint8)
    assert np.array_equal(careful.calmed(task, came, came - 9), came)


def test_haze_may_be_flat() -> None:
    came = np.full((20, 20, 3), 200, np.uint8)
    for task in ("dehaze", "auto"):
        assert (careful.calmed(task, came, came - 9) == 191).all()


@pytest.mark.parametrize(("spread", "kept"), [(0, 0), (1, 0), (2, 2), (3, 4), (4, 6), (5, 8), (90, 8)])
def test_the_livelier_the_surroundings_the_more_of_the_change_is_kept(spread: int, kept: int) -> None:
    came = np.full((9, 9, 3), 100, np.uint8)
    came[4, 4, 1] += spread
    restored = came + np.uint8(8)
    found = careful.calmed("derain", came, restored).astype(int) - came
    assert (found[2:7, 2:7] == kept).all()
    assert (found[:2] == 0).all() and (found[:, 7:] == 0).all()


def test_parts_of_a_change_are_floored_the_same_up_and_down() -> None:
    came = np.full((5, 5), 100, np.uint8)
    came[2, 2] = 102  # a quarter of each change
    changes = [
        careful.calmed("denoise", came, came + np.int8(change).astype(np.uint8))[0, 0] - 100.0
        for change in range(-7, 8)
    ]
    assert changes == [np.floor((change + 2) / 4) for change in range(-7, 8)]


def test_noise_is_restored_as_if_nothing_were_flat(clean: np.ndarray) -> None:
    noisy = np.clip(np.rint(clean + np.random.RandomState(0).normal(0, 10, clean.shape)), 0, 255).astype(np.uint8)
    restored = noisy // 2
    assert np.array_equal(careful.calmed("denoise", noisy, restored), restored)


def picture_of_two_colours() -> np.ndarray:
    came = np.full((24, 32, 3), (250, 240, 10), np.uint8)
    came[5:19, 6:20] = (0, 30, 200)
    came[11, 2:30] = (0, 30, 200)
    return came


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_where_two_flat_colours_meet_both_are_kept(channels: int) -> None:
    came = picture_of_two_colours()
    came = np.dstack([came, came[..., :1]])[..., :channels]
    restored = came // 2 + 50
    restored[..., 3:] = came[..., 3:]
    for task in ("denoise", "deblur", "defocus"):
        found = careful.calmed(task, came, restored)
        assert np.array_equal(found[4:20, 4:20], came[4:20, 4:20])
    assert not np.array_equal(careful.calmed("derain", came, restored)[4:20, 4:20], came[4:20, 4:20])


def test_a_third_colour_a_lone_dot_and_noise_are_restored() -> None:
    came = picture_of_two_colours()
    came[3, 20] = came[8, 8] = (90, 90, 90)
    came[21, 16] = (0, 30, 200)
    restored = came // 2 + 50
    found = careful.calmed("denoise", came, restored)
    for place in ((3, 20), (4, 19), (8, 8), (8, 6), (21, 16)):
        assert np.array_equal(found[place], restored[place])
    noise = np.random.RandomState(0).normal(0, 2, came.shape)
    noisy = np.clip(np.rint(picture_of_two_colours() + noise), 0, 255).astype(np.uint8)
    lowest, highest = cv2.erode(noisy, careful.AROUND), cv2.dilate(noisy, careful.AROUND)
    spread = careful.largest(cv2.subtract(highest, lowest))
    assert len(careful.drawn(noisy, lowest, highest, spread)) == 0


def test_what_is_drawn_is_told_as_the_definition_says() -> None:
    random = np.random.RandomState(0)
    came = random.choice(np.uint8([0, 1, 100, 101]), (40, 40, 3), p=[0.9, 0.07, 0.02, 0.01])
    lowest, highest = cv2.erode(came, careful.AROUND), cv2.dilate(came, careful.AROUND)
    found = careful.drawn(came, lowest, highest, careful.largest(cv2.subtract(highest, lowest)))
    wide, expected = np.pad(came, ((2, 2), (2, 2), (0, 0)), mode="edge").astype(int), []
    for y, x in np.ndindex(40, 40):
        window = wide[y : y + 5, x : x + 5]
        low, high = window.min((0, 1)), window.max((0, 1))
        two = (np.minimum(window - low, high - window) <= 1).all()
        beside = np.array([window[1, 2], window[3, 2], window[2, 1], window[2, 3]])
        alike = (np.abs(beside - window[2, 2]) <= 1).all(1).sum()
        if two and alike >= 2 and (high - low).max() >= careful.LIVELY:
            expected.append(y * 40 + x)
    assert sorted(found) == expected and len(expected) > 50


# --- transparency ---------------------------------------------------------------------------------------------------


def test_of_colours_that_hardly_show_less_is_changed_and_of_hidden_ones_nothing() -> None:
    came = np.full((256, 2, 4), 100, np.uint8)
    came[..., 3] = np.arange(256)[:, None]
    restored = came.copy()
    restored[:, 0, :3], restored[:, 1, :3] = 130, 98
    found = careful.veiled(came, restored).astype(int) - came
    assert not found[..., 3].any() and not found[0].any()
    assert (found[128:, 0, :3] == 30).all() and (found[128:, 1, :3] == -2).all()
    assert found[[64, 63, 30, 4], 0, 0].tolist() == [29, 28, 26, 0]
    assert found[[64, 63, 30, 4], 1, 0].tolist() == [-1, 0, 0, 0]
    lost = np.abs(found[..., :3] - (restored[..., :3].astype(int) - came[..., :3]))
    assert (lost * came[..., 3:] < 127.5).all()  # less than half a level over any background


@pytest.mark.parametrize("name", ["denoise", "denoise-large"])
def test_colours_multiplied_by_alpha_are_restored_like_others(name: str) -> None:
    """At an alpha of 64 a file that multiplies them holds them in steps of 4 levels."""
    network = simulator.load(shipped.BUNDLES / f"{name}.safetensors")
    y, x = np.mgrid[:24, :32]
    colours = np.dstack([40 + 5.6 * x, 20 + 7.5 * y, 90 + 0 * x])
    alpha = np.full((24, 32), 64, np.uint8)
    steps = np.rint(colours * 64 / 255)
    straight = np.dstack([np.rint(colours).astype(np.uint8), alpha])
    rounded = np.dstack([np.rint(steps * 255 / 64).astype(np.uint8), alpha])
    found = [careful.restore("denoise", pixels, network.run).image.astype(int) for pixels in (straight, rounded)]
    assert np.abs(found[0] - found[1]).max() <= 6


# --- pictures that need no restoring --------------------------------------------------------------------------------


def test_noise_is_estimated(clean: np.ndarray) -> None:
    found = [
        careful.noise(np.clip(clean + np.random.RandomState(0).normal(0, sigma, clean.shape), 0, 255).astype(np.uint8))
        for sigma in (5, 15, 30)
    ]
    assert found == pytest.approx([5, 15, 30], rel=0.25)
    assert careful.noise(np.zeros((80, 80, 3), np.uint8)) is None


def judged(task: str, came: np.ndarray, restored: np.ndarray | None = None) -> careful.Judgement | None:
    return careful.judge(task, {}, came, came if restored is None else restored)


def test_a_clean_picture_is_none_for_these_networks(clean: np.ndarray) -> None:
    haze = (clean // 2 + 110).astype(np.uint8)
    assert judged("derain", clean, clean) == careful.Judgement(
        "shows no rain (what would change are 0.0 grey levels)", True
    )
    assert judged("derain", clean, clean // 2) is None
    found = judged("dehaze", clean)
    assert found is not None and found.keep
    assert judged("dehaze", haze) is None
    assert judged("dehaze", clean, clean // 2) is None  # whose dark places are in front of the haze
    soft = clean.copy()
    for _ in range(4):
        soft[1:-1, 1:-1] = (soft[1:-1, 1:-1].astype(int) + soft[:-2, 1:-1] + soft[2:, 1:-1] + soft[1:-1, 2:]) // 4
    assert judged("deblur", soft) is None
    assert judged("auto", clean) is None and judged("defocus", clean) is None


def test_too_small_a_picture_is_not_judged() -> None:
    assert judged("derain", np.zeros((63, 200, 3), np.uint8)) is None


def test_a_network_that_knows_grain_is_not_told_about_noise() -> None:
    came = np.full((80, 80, 3), 100, np.uint8)
    assert careful.judge("denoise", {}, came, came) is not None
    meta = simulator.load(shipped.BUNDLES / "denoise-camera.safetensors").meta
    assert careful.judge("denoise", meta, came, came) is None


@pytest.fixture
def hazeless(work: Path, clean: np.ndarray) -> Path:
    (work / "in").mkdir()
    return store(work / "in/a.png", clean)


def dehaze(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["--task", "dehaze", *map(str, arguments)])
    return code, capsys.readouterr().err


def test_a_picture_without_haze_comes_back_as_it_came_and_that_is_said(work, hazeless, clean, capsys) -> None:
    code, said = dehaze(capsys, hazeless, "--out", work / "b.png")
    assert code == 0 and "a.png shows no haze" in said and "--force" in said
    assert np.array_equal(load(work / "b.png"), clean)


def test_force_restores_it_without_a_word(work, hazeless, clean, capsys) -> None:
    code, said = dehaze(capsys, hazeless, "--out", work / "b.png", "--force")
    assert code == 0 and not said
    network = simulator.load(shipped.of_task("dehaze", shipped.BEST))
    assert np.array_equal(load(work / "b.png"), careful.restore("dehaze", clean, network.run).image)
    assert not np.array_equal(load(work / "b.png"), clean)


def test_of_several_pictures_nothing_is_said_unless_asked_for(work, hazeless, clean, capsys) -> None:
    store(work / "in/b.png", clean[::-1].copy())
    code, said = dehaze(capsys, work / "in", "--out", work / "out")
    assert code == 0 and "no haze" not in said and not np.array_equal(load(work / "out/a.png"), clean)
    code, said = dehaze(capsys, work / "in", "--out", work / "out2", "--check")
    assert code == 0 and said.count("shows no haze") == 2 and np.array_equal(load(work / "out2/a.png"), clean)


def test_a_picture_with_hardly_any_noise_is_restored_and_that_is_said(work, capsys) -> None:
    ramp = np.repeat(np.linspace(20, 230, 128).astype(np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    store(work / "a.png", ramp)
    assert cli.main([str(work / "a.png"), "--task", "denoise", "--out", str(work / "b.png")]) == 0
    assert "a.png has hardly any noise" in capsys.readouterr().err


def test_the_noisy_sample_is_restored_without_a_word(capsys) -> None:
    assert cli.main([str(NOISY), "--task", "denoise"]) == 0
    assert not capsys.readouterr().err
