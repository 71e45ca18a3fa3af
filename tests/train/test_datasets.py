"""Data sets: every official layout, made small, is found and paired; what is missing is one sentence."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from train import datasets
from train.data import DataError, load_image
from train.datasets import DATASETS, check_pixels, find, find_synthetic
from train.degradations import command as degradations


def put(folder: Path, *names: str, size: tuple[int, int] = (12, 16), deep: bool = False) -> None:
    """Write images (relative names) of random pixels; no two are alike."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(str(path).encode()))
        pixels = rng.integers(0, 1 << 16 if deep else 256, (*size, 3)).astype(np.uint16 if deep else np.uint8)
        assert cv2.imwrite(str(path), pixels)


def pairs(samples: list, root: Path) -> set[tuple[str, str]]:
    return {(str(s.degraded.relative_to(root)), str(s.clean.relative_to(root))) for s in samples}


@pytest.mark.parametrize(
    ("name", "files", "count"),
    [
        ("cbsd68", ["CBSD68/0000.png", "CBSD68/0001.png"], 2),
        ("cbsd68", ["CBSD68/original_png/0000.png"], 1),
        ("cbsd68", ["cbsd_68/0000.png"], 1),
        ("kodak24", ["Kodak24/kodim01.png"], 1),
        ("kodak24", ["kodak/kodim01.png"], 1),
        ("mcmaster", ["McMaster/1.tif", "McMaster/2.tif"], 2),
        ("urban100", ["Urban100/img_001.png"], 1),
        ("urban100", [f"Urban100/image_SRF_4/img_{i:03d}_SRF_4_{k}.png" for i in (1, 2) for k in ("HR", "LR")], 2),
        ("bsds500", ["BSR/BSDS500/data/images/train/1.jpg", "BSR/BSDS500/data/images/test/2.jpg"], 2),
        ("bsds500", ["bsds500/train/1.jpg"], 1),
    ],
)
def test_sets_of_clean_images_are_found_in_their_usual_folders(tmp_path, name, files, count):
    put(tmp_path, *files)
    (tmp_path / files[0]).with_name("readme.txt").write_text("not an image")
    samples = find(name, tmp_path)
    assert len(samples) == count and all(sample.degraded is None for sample in samples)
    with pytest.raises(DataError, match="one that noise is added to"):
        samples[0].load()


def test_pairs_in_one_folder_are_told_apart_by_how_their_names_end(tmp_path):
    put(tmp_path, "PolyU/a_1_real.JPG", "PolyU/a_1_mean.JPG", "PolyU/b_real.JPG", "PolyU/b_mean.JPG")
    samples = find("polyu", tmp_path)
    assert pairs(samples, tmp_path) == {
        ("PolyU/a_1_real.JPG", "PolyU/a_1_mean.JPG"),
        ("PolyU/b_real.JPG", "PolyU/b_mean.JPG"),
    }
    (tmp_path / "PolyU" / "b_mean.JPG").unlink()
    with pytest.raises(DataError, match="b_real.JPG has no clean partner"):
        find("polyu", tmp_path)
    put(tmp_path / "other", "0.png")
    with pytest.raises(DataError, match="no image whose name ends in _real"):
        find("polyu", tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("rain13k", ("Rain13K/train/input/1.jpg", "Rain13K/train/target/1.jpg")),
        ("rain13k", ("train/Rain13K/input/1.jpg", "train/Rain13K/target/1.jpg")),
        ("test100", ("Rain13K/test/Test100/input/1.png", "Rain13K/test/Test100/target/1.png")),
        ("rain100h", ("test/Rain100H/input/7.png", "test/Rain100H/target/7.png")),
        ("rain100l", ("Rain100L/rainy/rain-001.png", "Rain100L/gt/norain-001.png")),
        ("test1200", ("test/Test1200/input/3.jpg", "test/Test1200/target/3.png")),
        ("test2800", ("test/Test2800/input/901_14.jpg", "test/Test2800/target/901.jpg")),
        ("sots-outdoor", ("RESIDE/SOTS/outdoor/hazy/0001_0.8_0.2.jpg", "RESIDE/SOTS/outdoor/gt/0001.png")),
        ("sots-outdoor", ("test/dehaze/input/0001_0.8_0.2.jpg", "test/dehaze/target/0001.png")),
        ("sots-indoor", ("SOTS/indoor/nyuhaze500/hazy/1400_1.png", "SOTS/indoor/nyuhaze500/gt/1400.png")),
        ("sots-indoor", ("SOTS/indoor/hazy/1400_10.png", "SOTS/indoor/gt/1400.png")),
        ("ots", ("RESIDE/OTS_BETA/haze/part2/0005_0.9_0.16.jpg", "RESIDE/OTS_BETA/clear/0005.jpg")),
        ("ots", ("Train/Dehaze/synthetic/part1/0005_0.9_0.16.jpg", "Train/Dehaze/original/0005.jpg")),
        (
            "gopro",
            ("GOPRO_Large/test/GOPR0384_11_00/blur/000001.png", "GOPRO_Large/test/GOPR0384_11_00/sharp/000001.png"),
        ),
        ("gopro", ("GoPro/test/blur/1.png", "GoPro/test/sharp/1.png")),
        ("gopro", ("test/GoPro/input/1.png", "test/GoPro/target/1.png")),
        ("gopro-train", ("GOPRO_Large/train/GOPR1/blur/1.png", "GOPRO_Large/train/GOPR1/sharp/1.png")),
        ("gopro-train", ("train/GoPro/input/1.png", "train/GoPro/target/1.png")),
        ("hide", ("test/HIDE/input/1fromGOPR0950.png", "test/HIDE/target/1fromGOPR0950.png")),
        ("realblur-j", ("RealBlur_J/input/1.png", "RealBlur_J/target/1.png")),
        ("realblur-r", ("test/RealBlur-R/input/1.png", "test/RealBlur-R/target/1.png")),
        ("dpdd", ("DPDD/inputC/1P0A0917.png", "DPDD/target/1P0A0916.png")),
        ("dpdd", ("dd_dp_dataset_canon/test_c/source/1P0A0917.png", "dd_dp_dataset_canon/test_c/target/1P0A0916.png")),
        ("dpdd-train", ("DPDD/train/inputC/1.png", "DPDD/train/target/1.png")),
    ],
)
def test_paired_sets_are_found_and_paired_in_every_layout(tmp_path, name, pair):
    put(tmp_path, *pair)
    samples = find(name, tmp_path)
    assert pairs(samples, tmp_path) == {pair}
    degraded, clean = samples[0].load()
    assert np.array_equal(degraded, load_image(tmp_path / pair[0]))
    assert np.array_equal(clean, load_image(tmp_path / pair[1]))


def test_many_hazy_pictures_share_one_clean_picture(tmp_path):
    hazy = [f"0001_{a}_{b}.jpg" for a in (0.8, 1) for b in (0.04, 0.2)]
    put(tmp_path / "SOTS/outdoor", "gt/0001.png", "gt/0002.png", *(f"hazy/{name}" for name in hazy))
    samples = find("sots-outdoor", tmp_path)
    assert sorted(sample.degraded.name for sample in samples) == sorted(hazy)
    assert {sample.clean.name for sample in samples} == {"0001.png"}


def test_the_frame_of_sots_indoors_clean_pictures_is_cut(tmp_path):
    put(tmp_path / "SOTS/indoor", "hazy/1400_1.png", size=(20, 30))
    put(tmp_path / "SOTS/indoor", "gt/1400.png", size=(40, 50))
    degraded, clean = find("sots-indoor", tmp_path)[0].load()
    assert np.array_equal(clean, load_image(tmp_path / "SOTS/indoor/gt/1400.png")[10:-10, 10:-10])


def test_scenes_of_gopro_keep_pictures_of_one_name_apart(tmp_path):
    for scene in ("GOPR0384_11_00", "GOPR0385_11_01"):
        put(tmp_path / "GOPRO_Large/test" / scene, "blur/000001.png", "sharp/000001.png", "blur_gamma/000001.png")
    samples = find("gopro", tmp_path)
    assert [s.name for s in samples] == ["GOPR0384_11_00/000001", "GOPR0385_11_01/000001"]
    assert all(s.degraded.parent.name == "blur" and s.degraded.parents[1] == s.clean.parents[1] for s in samples)


def test_hide_as_published_has_its_clean_pictures_in_one_folder(tmp_path):
    put(tmp_path / "HIDE_dataset", "test/test-close-ups/a.png", "test/test-long-shot/b.png", "GT/a.png", "GT/b.png")
    samples = find("hide", tmp_path)
    assert [(s.name, s.clean.name, s.group) for s in samples] == [
        ("a", "a.png", "close-ups"), ("b", "b.png", "long-shot"),
    ]  # fmt: skip


def test_realblur_as_published_is_read_through_its_list(tmp_path):
    scene = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene001"
    put(tmp_path, *(f"{scene}/{kind}/{kind}_{i}.png" for kind in ("gt", "blur") for i in (1, 2)))
    listing = tmp_path / "RealBlur_J_test_list.txt"
    listing.write_text(f"{scene}/gt/gt_2.png {scene}/blur/blur_2.png\n\n")
    assert pairs(find("realblur-j", tmp_path), tmp_path) == {(f"{scene}/blur/blur_2.png", f"{scene}/gt/gt_2.png")}
    for line, sentence in [
        ("one two", "Line 1 of .* is not of the form"),
        ("../gt/1.png ../blur/1.png", "Line 1 of .* is not of the form"),
        (f"{scene}/gt/gt_9.png {scene}/blur/blur_1.png", "gt_9.png in line 1, and there is no such file"),
        ("", "is empty"),
    ]:
        listing.write_text(line)
        with pytest.raises(DataError, match=sentence):
            find("realblur-j", tmp_path)


def dual_pixels(root: Path, count: int = 4) -> Path:
    folder = root / "DPDD"
    for part, shift in (("inputC", 1), ("inputL", 1), ("inputR", 1), ("target", 0)):
        put(folder / part, *(f"1P0A{2 * i + shift:04d}.png" for i in range(count)), deep=True)
    return folder


def test_dual_pixel_views_and_the_indoor_outdoor_split_are_read(tmp_path):
    folder = dual_pixels(tmp_path)
    np.save(folder / "indoor_labels.npy", [1, 4])
    np.save(folder / "outdoor_labels.npy", [2, 3])
    samples = find("dpdd", tmp_path)
    assert [s.group for s in samples] == ["indoor", "outdoor", "outdoor", "indoor"]
    assert [(s.degraded.stem, s.clean.stem) for s in samples[:2]] == [
        ("1P0A0001", "1P0A0000"),
        ("1P0A0003", "1P0A0002"),
    ]
    left, right = (samples[1].load_extra(view) for view in ("left", "right"))
    assert left.dtype == np.uint16 and left.shape == (12, 16, 3) and not np.array_equal(left, right)
    stored = cv2.imread(str(folder / "inputL/1P0A0003.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(left[..., ::-1], stored)
    with pytest.raises(DataError, match="no view depth; it has left, right"):
        samples[1].load_extra("depth")


def test_sixteen_bits_become_eight_by_dropping_the_lower_byte(tmp_path):
    folder = dual_pixels(tmp_path, count=1)
    degraded, clean = find("dpdd", tmp_path)[0].load()
    stored = cv2.imread(str(next((folder / "target").iterdir())), cv2.IMREAD_UNCHANGED)
    assert clean.dtype == degraded.dtype == np.uint8
    assert np.array_equal(clean, (stored[..., ::-1] // 256).astype(np.uint8))


@pytest.mark.parametrize(
    ("indoor", "outdoor", "sentence"),
    [
        ([0, 1], [2, 3], "indoor_labels.npy does not fit the 4 images"),
        ([1, 2], [2, 3], "outdoor_labels.npy does not fit the 4 images"),
        ([1], [2], "name 2 of its 4 images"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, indoor, outdoor, sentence):
    folder = dual_pixels(tmp_path)
    np.save(folder / "indoor_labels.npy", indoor)
    np.save(folder / "outdoor_labels.npy", outdoor)
    with pytest.raises(DataError, match=sentence):
        find("dpdd", tmp_path)


def test_labels_are_never_unpickled(tmp_path):
    folder = dual_pixels(tmp_path)
    np.save(folder / "indoor_labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not an array of image numbers"):
        find("dpdd", tmp_path)


def test_dual_pixel_folders_of_different_lengths_are_refused(tmp_path):
    folder = dual_pixels(tmp_path)
    next((folder / "inputL").iterdir()).unlink()
    with pytest.raises(DataError, match="4 degraded, 4 clean, 3 left, 4 right images"):
        find("dpdd", tmp_path)


def test_a_set_may_be_given_as_its_own_folder(tmp_path):
    put(tmp_path / "mine", "input/1.png", "target/1.png")
    assert len(find("rain100l", tmp_path / "mine")) == 1
    with pytest.raises(DataError, match="rain100l is not in"):
        find("rain100l", tmp_path / "mine", itself=False)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ([], "rain100l is not in .*; expected Rain13K/test/Rain100L .* with input and target, or with rainy and gt"),
        (["Rain100L/input/1.png"], "Rain100L is there but has no target; expected"),
        (
            ["Rain100L/input/1.png", "Rain100L/target/2.png"],
            "1.png has no clean partner: .*target holds no image named 1",
        ),
        (["Rain100L/input/1.png", "Rain100L/target/1.png", "Rain100L/target/1.jpg"], "holds two images named 1"),
    ],
)
def test_what_is_missing_is_one_sentence(tmp_path, files, sentence):
    put(tmp_path, *files)
    with pytest.raises(DataError, match=sentence) as found:
        find("rain100l", tmp_path)
    assert "\n" not in str(found.value)


def test_an_empty_folder_of_a_pair_is_named(tmp_path):
    put(tmp_path, "Rain100L/target/1.png")
    (tmp_path / "Rain100L/input").mkdir()
    with pytest.raises(DataError, match="Rain100L/input holds no images"):
        find("rain100l", tmp_path)


def test_partners_of_different_sizes_are_refused(tmp_path):
    put(tmp_path / "Rain100L", "input/1.png", size=(12, 16))
    put(tmp_path / "Rain100L", "target/1.png", size=(12, 18))
    with pytest.raises(DataError, match="has 16x12 pixels, its clean partner .* 18x12"):
        find("rain100l", tmp_path)[0].load()


@pytest.fixture
def synthetic(tmp_path) -> Path:
    put(tmp_path / "clean", "a.png", "b.png", size=(48, 64))
    out = tmp_path / "sets" / "rain"
    assert degradations.main(["--task", "derain", "--data", str(tmp_path / "clean"), "--out", str(out)]) == 0
    return out


def test_the_projects_own_sets_are_read_and_labelled_synthetic(synthetic):
    for root in (synthetic, synthetic.parent):
        ((data_set, samples),) = find_synthetic(root)
        assert (
            data_set.task == "derain" and "light, seed 0" in data_set.synthetic and data_set.count == len(samples) == 2
        )
        assert pairs(samples, synthetic) == {(f"input/{n}.png", f"target/{n}.png") for n in "ab"}
        check_pixels(data_set, samples)


def test_a_synthetic_set_is_not_taken_for_a_published_one_of_its_folders_name(synthetic):
    root = synthetic.parent
    synthetic.rename(root / "dehaze")  # where copies of SOTS lie, with input and target
    with pytest.raises(DataError, match="sots-outdoor is not in"):
        find("sots-outdoor", root)


def test_a_changed_synthetic_set_is_noticed(synthetic):
    put(synthetic, "input/a.png", size=(48, 64))
    with pytest.raises(DataError, match="not those that its set.json names"):
        check_pixels(*find_synthetic(synthetic)[0])


@pytest.mark.parametrize(
    "change", [{"task": "paint"}, {"seed": "0"}, {"synthetic": False}, {"images": None}, {"sha256_of_pixels": 1}]
)
def test_a_damaged_note_of_a_synthetic_set_is_one_sentence(synthetic, change):
    note = synthetic / "set.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    with pytest.raises(DataError, match="is not the note"):
        find_synthetic(synthetic)
    note.write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not the note"):
        find_synthetic(synthetic)


def test_the_command_lists_what_is_there_and_what_is_missing(tmp_path, synthetic, capsys):
    root = synthetic.parent
    put(root / "CBSD68", *(f"{i:04d}.png" for i in range(68)))
    put(root / "Kodak24", "kodim01.png")
    put(root / "Rain100L", "input/1.png", "target/2.png")
    assert datasets.main(["--data", str(root)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["cbsd68"].endswith("68 of 68")
    assert lines["kodak24"].endswith("1 of 24  23 images too few.")
    assert "has no clean partner" in lines["rain100l"] and "is not in" in lines["gopro"]
    assert "SYNTHETIC: light, seed 0" in lines["synthetic"]
    assert set(DATASETS) < set(lines)


def test_the_command_names_every_sets_form_protocol_and_source(capsys):
    assert datasets.main([]) == 0
    text = capsys.readouterr().out
    for words in (
        "gopro: deblur, test, 1111 images",
        "Y (MATLAB's",
        "MAE / LPIPS",
        "after RealBlur's alignment",
        "ECCV 2020",
    ):
        assert words in text
    for data_set in DATASETS.values():
        assert f"{data_set.name}: " in text and data_set.source in text


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_data_folder_that_is_none_is_one_sentence_and_exit_code_2(tmp_path, capsys, kind):
    path = tmp_path / "data"
    if kind == "file":
        path.write_text("")
    assert datasets.main(["--data", str(path)]) == 2
    error = capsys.readouterr().err
    assert ("does not exist" if kind == "missing" else "is not a folder") in error and error.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="names of folders differ in case alone")
def test_an_exact_name_wins_over_one_that_is_merely_alike(tmp_path):
    put(tmp_path, "cbsd-68/a.png", "CBSD68/b.png")
    assert [s.name for s in find("cbsd68", tmp_path)] == ["b"]
