"""The synthetic degradations: what their names promise, and the same bytes for the same seed everywhere."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from train.data import load_image
from train.degradations.camera import varied_camera_noise
from train.degradations.command import main
from train.degradations.defocus import disk_kernel, varied_defocus
from train.degradations.haze import haze
from train.degradations.jpeg import jpeg, varied_jpeg
from train.degradations.motion import motion_blur, path_kernel, trajectory, varied_motion
from train.degradations.noise import camera_noise, gaussian_noise, photo_noise
from train.degradations.pictures import depth_field, from_linear, quick_light, shown, smooth_field, to_linear
from train.degradations.rain import line_kernel, rain
from train.degradations.varied_haze import drawn_depth, sky, varied_haze
from train.degradations.varied_rain import blurred_noise, drawn_streaks, varied_rain
from train.patches import fixed
from train.tasks import SINGLE, TASKS

SAMPLES = Path(__file__).parents[2] / "edge" / "samples"
ALL = [(task, variant) for task in SINGLE for variant in TASKS[task].variants]


def drawn(height: int = 96, width: int = 120) -> np.ndarray:
    """A picture of integers alone, the same on every machine: ramps, a checkerboard, bars and dots."""
    y, x = np.mgrid[:height, :width]
    red = (x * 2 + y) % 256
    green = np.where((x // 12 + y // 12) % 2, 200, 40)
    blue = np.where((x % 17 < 3) | ((x - 60) ** 2 + (y - 40) ** 2 < 400), 230, y)
    return np.stack([red, green, blue], 2).astype(np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


PINNED = {
    ("denoise", "sigma15"): "6360af8e2020b1b5",
    ("denoise", "sigma25"): "2b21a86a2d26432b",
    ("denoise", "sigma50"): "b626c0a966be605e",
    ("denoise", "camera"): "62c109d2cec2e5dc",
    ("denoise", "photo"): "e1810691505245a8",
    ("derain", "light"): "b8696d93af9d1f22",
    ("derain", "heavy"): "04687856a9293ce7",
    ("dehaze", "outdoor"): "25035a1c839523d4",
    ("deblur", "slight"): "4be35d6999477e01",
    ("deblur", "strong"): "06236dac3ef7e2b9",
    ("defocus", "slight"): "ac35f3d42f93ac1d",
    ("defocus", "strong"): "2c0dc1ac734bd768",
    ("dejpeg", "q10"): "04d5c5d1aa77d773",
    ("dejpeg", "q20"): "d9637a2c3c1b9bef",
    ("dejpeg", "q40"): "4166274955850799",
}


@pytest.mark.parametrize(("task", "variant"), PINNED)
def test_a_seed_gives_the_same_bytes_on_every_machine(task, variant):
    picture = fixed(task, variant, drawn(), seed=0, index=3)
    assert hashlib.sha256(picture.tobytes()).hexdigest()[:16] == PINNED[task, variant]


@pytest.mark.parametrize(("task", "variant"), ALL)
def test_a_seed_gives_the_same_picture_and_another_seed_or_index_another(task, variant):
    picture = fixed(task, variant, drawn(), seed=0, index=3)
    assert picture.dtype == np.uint8 and picture.shape == drawn().shape
    np.testing.assert_array_equal(picture, fixed(task, variant, drawn(), seed=0, index=3))
    random = not variant.startswith("q")
    assert random != np.array_equal(picture, fixed(task, variant, drawn(), seed=0, index=4))
    assert random != np.array_equal(picture, fixed(task, variant, drawn(), seed=1, index=3))


@pytest.mark.parametrize(("task", "variant"), ALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 5), (64, 64)])
def test_every_size_is_degraded(task, variant, size):
    clean = drawn(*size)
    degraded = fixed(task, variant, clean, seed=0, index=0)
    assert degraded.shape == clean.shape and degraded.dtype == np.uint8


def test_linear_light_and_back_is_the_identity_on_8_bits():
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(from_linear(to_linear(levels)), levels)
    assert np.array_equal(shown(quick_light(levels)), levels)


def test_gaussian_noise_has_its_standard_deviation():
    flat = np.full((200, 200, 3), 128, np.uint8)
    noise = gaussian_noise(flat, generator(), 20).astype(float) - 128
    assert abs(noise.std() - 20) < 0.3 and abs(noise.mean()) < 0.3


def test_camera_noise_in_linear_light_grows_with_the_light():
    dark, bright = (to_linear(camera_noise(np.full((128, 128, 3), v, np.uint8), generator())) for v in (120, 220))
    assert bright.std() > 1.2 * dark.std()


def test_a_photographs_noise_has_the_cameras_strength_in_larger_grains():
    flat = np.full((128, 128, 3), 150, np.uint8)
    raw, photo = (make(flat, generator(2)).astype(float) - 150 for make in (camera_noise, photo_noise))
    beside = [(noise[:, 1:] * noise[:, :-1]).mean() / (noise**2).mean() for noise in (raw, photo)]
    assert abs(beside[0]) < 0.05 and beside[1] > 0.3
    assert 0.4 * raw.std() < photo.std() < 1.1 * raw.std()


def test_varied_camera_noise_is_from_hardly_any_to_strong_and_from_fine_to_coarse_in_colour():
    grey = np.full((64, 64, 3), 110, np.uint8)
    deviations, colour = [], []
    for seed in range(150):
        noise = varied_camera_noise(grey, generator(seed)).astype(float) - 110
        noise -= noise.mean((0, 1))
        chroma = noise[..., 0] - noise[..., 1]
        deviations.append(noise.std())
        if chroma.std() > 0.5:
            colour.append((chroma[:, 2:] * chroma[:, :-2]).mean() / (chroma**2).mean())
    assert np.percentile(deviations, 20) < 2.5 and np.percentile(deviations, 95) > 12
    assert min(colour) < 0.1 and np.percentile(colour, 85) > 0.6


def test_varied_camera_noise_keeps_the_light_and_the_colour_of_the_picture():
    clean = drawn()
    shifts = [(varied_camera_noise(clean, generator(seed)).astype(float) - clean).mean((0, 1)) for seed in range(60)]
    assert np.abs(np.median(shifts, 0)).max() < 0.7


def test_jpegs_lose_more_at_lower_quality_and_half_of_the_colour_at_4_2_0():
    losses = [np.abs(jpeg(drawn(), quality).astype(int) - drawn()).mean() for quality in (10, 20, 40, 90)]
    assert losses == sorted(losses, reverse=True) and losses[0] > 2 * losses[-1]
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (200, 30, 30)
    stripes[:, 1::2] = (30, 30, 200)
    full, half = (np.abs(jpeg(stripes, 95, colour).astype(int) - stripes).mean() for colour in (True, False))
    assert half > 5 * full


def test_varied_jpegs_are_of_all_qualities_and_their_blocks_start_anywhere_and_have_several_sizes():
    ramp = np.repeat(np.linspace(60, 200, 96).astype(np.uint8)[None, :, None], 96, 0).repeat(3, 2)
    steps, losses = set(), []
    for seed in range(120):
        found = varied_jpeg(ramp, generator(seed)).astype(int)
        losses.append(np.abs(found - ramp).mean())
        steps.add(int(np.abs(np.diff(found[40, :, 1])).argmax()))
    assert np.percentile(losses, 10) < 0.5 and np.percentile(losses, 95) > 1.5
    assert len(steps) > 16


def test_rain_only_brightens_what_is_not_veiled_and_heavy_rain_covers_more():
    clean = drawn() // 2
    light = np.mean([np.abs(rain(clean, generator(i), False).astype(int) - clean).mean() for i in range(10)])
    heavy = np.mean([np.abs(rain(clean, generator(i), True).astype(int) - clean).mean() for i in range(10)])
    assert heavy > 2 * light > 0
    assert all((rain(clean, generator(i), False) >= clean).all() for i in range(10))


def test_streaks_are_as_long_and_wide_as_asked():
    kernel = line_kernel(20, 2, 0.0)
    rows, columns = (kernel >= 0.5).any(1).sum(), (kernel >= 0.5).any(0).sum()
    assert 21 <= rows <= 23 and columns == 3 and kernel.max() == 1


def streak_shape(layer: np.ndarray) -> tuple[float, float, float]:
    """Share of lit pixels, direction from the vertical (radians), and how much the layer keeps to it (0 to 1)."""
    down, across = np.gradient(cv2.GaussianBlur(layer.astype(float), (0, 0), 1))
    straight, slanted = (across**2 - down**2).sum(), 2 * (across * down).sum()
    return (
        (layer > 0.03).mean(),
        -np.arctan2(slanted, straight) / 2,
        np.hypot(straight, slanted) / (across**2 + down**2).sum(),
    )


@pytest.mark.parametrize("make", [drawn_streaks, blurred_noise])
@pytest.mark.parametrize("angle", [-0.5, 0.0, 0.4])
def test_varied_streaks_keep_to_their_direction_and_leave_most_of_the_picture_alone(make, angle):
    found = [streak_shape(make((200, 200), generator(seed), angle, 0.3)) for seed in range(12)]
    covered, directions, kept = np.array(found).T
    assert abs(np.median(directions) - angle) < 0.1
    assert np.median(kept) > 0.5 and 0.01 < np.median(covered) < 0.6
    assert covered.max() > 3 * covered.min()


def test_varied_rain_is_from_light_to_heavy_and_half_of_it_only_adds_grey_light():
    clean = np.full((64, 64, 3), (60, 80, 100), np.uint8)
    light = [varied_rain(clean, generator(seed), 400).astype(int) - clean for seed in range(200)]
    mean = np.array([layer.mean() for layer in light])
    assert np.percentile(mean, 10) < 2 and np.percentile(mean, 90) > 15
    seen = [layer[(clean + layer).max(2) < 255] for layer in light]  # what is not clipped
    grey = np.array([np.ptp(layer, axis=1).max(initial=0) <= 1 and layer.min(initial=0) >= 0 for layer in seen])
    assert 0.4 < grey.mean() < 0.8


def test_haze_follows_koschmieder_within_the_transmissions_bounds():
    black, white = (np.full((80, 100, 3), value, np.uint8) for value in (0, 255))
    for seed in range(10):
        dark, bright = haze(black, generator(seed)) / 255, haze(white, generator(seed)) / 255
        transmission = bright - dark  # J t + A (1 - t) at J = 1 and 0; both have the same depth: they have no edges
        assert transmission.min() > 0.19 and transmission.max() < 0.91
        airlight = dark / (1 - transmission)
        assert airlight.min() > 0.76 and airlight.max() < 1.04


def test_varied_haze_is_from_a_breath_to_fog_and_its_airlight_is_nearly_grey():
    black, white = (np.full((48, 48, 3), value, np.uint8) for value in (0, 255))
    thinnest, thickest = 0.0, 1.0
    for seed in range(80):
        dark, bright = (varied_haze(flat, generator(seed), 400) / 255 for flat in (black, white))
        if (veil := dark.max()) > 0.3:
            assert np.ptp(dark, axis=2).max() / veil < 0.35
        transmission = (bright - dark).mean()
        thinnest, thickest = max(thinnest, transmission), min(thickest, transmission)
    assert thinnest > 0.93 and thickest < 0.3


def test_the_sky_is_mostly_farthest_and_texture_is_no_sky():
    picture = np.full((96, 96, 3), 70, np.uint8)
    picture[:48] = 225
    picture[48:, ::2] = 140
    likely = sky(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) / np.float32(255))
    assert likely[:36].min() > 0.95 and likely[60:].max() < 0.05
    depths = [drawn_depth(picture, generator(seed), 96) for seed in range(40)]
    assert np.mean([depth[:36].mean() > 0.9 for depth in depths]) > 0.5
    assert np.mean([depth[60:].mean() for depth in depths]) < 0.6


def test_depth_rises_upwards_on_average_and_keeps_to_the_edges():
    picture = np.full((100, 120, 3), 30, np.uint8)
    picture[:, 60:] = 220
    fields = [depth_field(picture, generator(i), 100) for i in range(30)]
    mean = np.mean(fields, 0)
    assert mean[:20].mean() > mean[-20:].mean() + 0.2
    jump = np.mean([np.abs(f[:, 62] - f[:, 57]).mean() for f in fields])
    smooth = np.mean([np.abs(f[:, 22] - f[:, 17]).mean() for f in fields])
    assert jump > 2 * smooth


def test_smooth_fields_vary_over_the_picture_but_not_from_pixel_to_pixel():
    field = smooth_field((200, 300), generator())
    assert 0.05 < field.std() and 0 <= field.min() <= field.max() <= 1
    assert np.abs(np.diff(field, axis=1)).max() < 0.02


def test_blur_kernels_sum_to_one_and_keep_to_their_extent():
    for seed in range(20):
        path = trajectory(generator(seed), 20.0)
        assert np.ptp(path, axis=0).max() == pytest.approx(20)
        np.testing.assert_allclose(path.mean(0), 0, atol=1e-9)
        kernel = path_kernel(path)
        assert kernel.sum() == pytest.approx(1) and kernel.shape[0] % 2 == 1 and len(kernel) <= 43
        middle = (kernel.sum(1) @ np.arange(len(kernel)), kernel.sum(0) @ np.arange(len(kernel)))
        np.testing.assert_allclose(middle, len(kernel) // 2, atol=1e-9)  # the blurred picture is not displaced
    for radius in (0.0, 0.4, 3.3, 15.0):
        assert disk_kernel(radius).sum() == pytest.approx(1)
    assert (disk_kernel(0.0) > 0).sum() == 1


@pytest.mark.parametrize(("task", "variant"), [("deblur", "strong"), ("defocus", "strong")])
def test_blur_keeps_flat_areas_and_the_mean_light_and_loses_detail(task, variant):
    flat = np.full((60, 60, 3), 99, np.uint8)
    assert np.abs(fixed(task, variant, flat, 0, 0).astype(int) - 99).max() <= 1
    detail, losses = np.abs(np.diff(drawn().astype(int), axis=1)).mean(), []
    for index in range(40):
        blurred = fixed(task, variant, drawn(), 0, index)
        assert to_linear(blurred).mean() == pytest.approx(to_linear(drawn()).mean(), rel=0.2)
        losses.append(np.abs(np.diff(blurred.astype(int), axis=1)).mean() / detail)
    assert np.mean(losses) < 0.8


@pytest.mark.parametrize("blur", [varied_motion, varied_defocus])
def test_varied_blur_is_from_hardly_any_to_more_than_strong_and_keeps_flat_areas(blur):
    flat = np.full((60, 60, 3), 99, np.uint8)
    assert max(np.abs(blur(flat, generator(seed), 400).astype(int) - 99).max() for seed in range(30)) <= 1
    detail = np.abs(np.diff(drawn().astype(int), axis=1)).mean()
    found = [blur(drawn(), generator(seed), 400).astype(int) for seed in range(100)]
    kept = [np.abs(np.diff(blurred, axis=1)).mean() / detail for blurred in found]
    assert np.percentile(kept, 85) > 0.93 and np.percentile(kept, 10) < 0.7


def test_a_lamp_smears_its_glare_and_snow_does_not_glare():
    lamp = np.full((40, 40, 3), 30, np.uint8)
    lamp[20, 20] = 255
    assert quick_light(lamp, 3.0).max() == 4 and quick_light(np.full((40, 40, 3), 255, np.uint8), 3.0).max() == 1


def test_motion_blur_varies_over_the_picture():
    dots = np.zeros((160, 240, 3), np.uint8)
    dots[20::40, 20::40] = 255
    differing = 0
    for seed in range(10):
        blurred = to_linear(motion_blur(dots, generator(seed), "strong"))
        left, right = blurred[:40, :40], blurred[-40:, -40:]
        differing += np.abs(left - right).max() > 0.05 * blurred.max()
    assert differing >= 8


def test_the_margin_of_training_patches_covers_the_blur():
    assert TASKS["deblur"].margin >= 20 and TASKS["defocus"].margin >= 16 and TASKS["denoise"].margin == 0


def test_the_command_writes_the_same_set_twice_and_a_sheet(tmp_path, capsys):
    (tmp_path / "clean").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "clean" / f"{i}.png"), np.roll(drawn(), 10 * i, 1)[..., ::-1])
    for name in ("a", "b"):
        command = ["--task", "derain", "--variant", "heavy", "--data", str(tmp_path / "clean")]
        assert main([*command, "--out", str(tmp_path / name)]) == 0
    assert "wrote 3 pairs" in capsys.readouterr().out
    a, b = (json.loads((tmp_path / name / "set.json").read_text()) for name in ("a", "b"))
    assert a == b and a["synthetic"] and a["images"] == 3
    target = cv2.imread(str(tmp_path / "a" / "target" / "1.png"))[..., ::-1]
    assert np.array_equal(target, np.roll(drawn(), 10, 1))
    degraded = cv2.imread(str(tmp_path / "a" / "input" / "1.png"))[..., ::-1]
    assert np.array_equal(degraded, fixed("derain", "heavy", target, 0, 1))
    assert cv2.imread(str(tmp_path / "a" / "sheet.png")) is not None


def test_the_commands_mistakes_are_one_sentence_and_exit_code_2(tmp_path, capsys):
    assert main(["--task", "derain", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "x")]) == 2
    assert "does not exist" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "a.png"), drawn())
    assert main(["--task", "derain", "--data", str(tmp_path), "--out", f"{tmp_path}/x/.."]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]  # the clean images are left alone
    with pytest.raises(SystemExit) as stop:
        main(["--task", "derain", "--variant", "wet", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert stop.value.code == 2 and "one of light, heavy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "variant"),
    [("derain", "light"), ("dehaze", "outdoor"), ("deblur", "slight"), ("defocus", "strong"), ("dejpeg", "q20")],
)
def test_the_shipped_samples_are_the_clean_one_degraded(task, variant):
    clean = load_image(SAMPLES / "clean.png")
    np.testing.assert_array_equal(load_image(SAMPLES / f"{task}.png"), fixed(task, variant, clean, 0, 0))
