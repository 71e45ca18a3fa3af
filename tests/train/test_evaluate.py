"""Evaluation: the protocols, the table with the untouched input, and every backend on the same pixels."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from export import onnx
from train import evaluate, hkd, metrics
from train.backends import BACKENDS
from train.data import add_noise, load_image, load_images
from train.degradations import command as degradations
from train.folders import Protocol
from train.metrics import psnr
from train.patches import fixed

needs_onnx = pytest.mark.skipif(sys.version_info < (3, 11), reason="onnxruntime needs Python 3.11")
ALL = (*BACKENDS, "onnx")
BUNDLE = Path(__file__).parents[1] / "golden" / "edge.safetensors"


@pytest.fixture(scope="module")
def with_onnx(tmp_path_factory) -> Path:
    """The bundle with its ONNX file beside it."""
    bundle = tmp_path_factory.mktemp("bundle") / BUNDLE.name
    shutil.copy(BUNDLE, bundle)
    assert onnx.main([str(bundle), "--out", str(bundle.with_suffix(".onnx"))]) == 0
    return bundle


def report(arguments: list[str], tmp_path: Path) -> dict:
    path = tmp_path / "report.json"
    assert evaluate.main([*arguments, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_the_untouched_inputs_row_is_the_psnr_of_the_noise(photos, tmp_path, capsys):
    found = report(["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25", "--threads", "1"], tmp_path)
    images = load_images(photos)
    expected = np.mean([psnr(add_noise(im, 25, 0, True, i), im) for i, im in enumerate(images)])
    assert found["results"]["clipped"]["25"]["input"]["psnr"] == pytest.approx(expected)
    assert found["results"]["unclipped"]["25"]["input"]["psnr"] == pytest.approx(20.17, abs=0.15)  # 20 log10(255 / 25)
    table = capsys.readouterr().out
    for words in ("untouched input", "protocol: clipped", "protocol: unclipped", "seed 0", "as printed", "CBM3D"):
        assert words in table


@needs_onnx
def test_all_backends_of_a_bundle_give_the_same_scores(photos, with_onnx, tmp_path):
    arguments = ["--bundle", str(with_onnx), "--data", str(photos), "--sigma", "15", "--protocol", "clipped"]
    results = {b: report([*arguments, "--backend", b], tmp_path)["results"]["clipped"]["15"] for b in ALL}
    scores = {(r["restored"]["psnr"], r["restored"]["ssim"]) for r in results.values()}
    assert len(scores) == 1
    assert results["numba"]["spike_rate"] == results["reference"]["spike_rate"] > 0


def test_the_unclipped_protocol_agrees_between_integer_backends_and_pytorch(photos, tmp_path):
    arguments = ["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "50", "--protocol", "unclipped"]
    results = [
        report([*arguments, "--backend", b], tmp_path)["results"]["unclipped"]["50"]["restored"]
        for b in ("numba", "reference", "torch")
    ]
    assert results[0] == results[1] == results[2]


def test_a_checkpoint_can_be_evaluated_before_it_is_exported(photos, tmp_path):
    run = tmp_path / "run"
    short = "--task denoise --channels 8 8 8 8 --patch 32 --batch 2 --threads 1 --device cpu --stages none --steps 2"
    assert hkd.main([*short.split(), "--data", str(photos), "--out", str(run)]) == 0
    found = report(["--checkpoint", str(run), "--data", str(photos), "--sigma", "25"], tmp_path)
    assert found["step"] == 2 and found["backend"] == "torch"


def test_a_test_set_of_another_size_is_said_to_be_one(photos, tmp_path, capsys):
    report(["--bundle", str(BUNDLE), "--data", str(photos), "--sigma", "25"], tmp_path)
    assert "cbsd68 has 68 images" in capsys.readouterr().err


@pytest.fixture(scope="module")
def data(photos, tmp_path_factory) -> Path:
    """A folder of small data sets: rain, blur that needs alignment, defocus in two groups, and a synthetic one."""
    root = tmp_path_factory.mktemp("data")
    for i, clean in enumerate(load_images(photos)):
        big = cv2.resize(clean, (96, 80), interpolation=cv2.INTER_CUBIC)
        rainy = fixed("derain", "light", big, 0, i)
        moved = np.roll(cv2.GaussianBlur(big, (0, 0), 1.5), 2, axis=1)
        for name, degraded in (("Rain100L", rainy), ("RealBlur_J", moved), ("DPDD", cv2.blur(big, (5, 5)))):
            for part, picture in (("inputC" if name == "DPDD" else "input", degraded), ("target", big)):
                (root / name / part).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / name / part / f"{i}.png"), picture[..., ::-1])
    np.save(root / "DPDD" / "indoor_labels.npy", [2])
    np.save(root / "DPDD" / "outdoor_labels.npy", [1])
    twin = ["--task", "denoise", "--variant", "camera", "--data", str(photos), "--out", str(root / "camera")]
    assert degradations.main(twin) == 0
    return root


def read(data: Path, name: str, part: str) -> list[np.ndarray]:
    return load_images(data / name / part)


def test_deraining_is_scored_on_y_and_on_rgb_of_a_centre_crop(data, tmp_path, capsys):
    found = report(["--bundle", str(BUNDLE), "--dataset", "rain100l", "--data", str(data)], tmp_path)
    pairs = list(zip(read(data, "Rain100L", "input"), read(data, "Rain100L", "target"), strict=True))
    on_y = np.mean([metrics.psnr_y(rainy, clean) for rainy, clean in pairs])
    assert found["results"]["y"]["input"]["psnr"] == pytest.approx(on_y)
    uniform = np.mean([metrics.ssim_uniform(rainy, clean) for rainy, clean in pairs])
    assert found["results"]["rgb"]["input"]["ssim"] == pytest.approx(uniform)  # 80 x 96 need no crop
    out, err = capsys.readouterr()
    for words in ("rain100l, 2 of 100 images. Y (MATLAB's", "centre crop to a multiple of 16", "untouched input",
                  "SpikerIR (AdaIR teacher), as printed", "34.51"):  # fmt: skip
        assert words in out
    y_table, rgb_table = out.split("rain100l, 2 of 100 images.")[1:]
    assert "\nRestormer, as printed" in y_table and "\nPromptIR, as printed" not in y_table
    assert "\nPromptIR, as printed" in rgb_table and "\nRestormer, as printed" not in rgb_table
    assert "rain100l has 100 images" in err


@needs_onnx
def test_all_backends_give_the_same_scores_on_pairs(data, with_onnx, tmp_path):
    arguments = ["--bundle", str(with_onnx), "--dataset", "rain100l", "--data", str(data), "--limit", "1"]
    results = [report([*arguments, "--backend", b], tmp_path)["results"] for b in ALL]
    scores = [{name: (row["input"], row["restored"]) for name, row in result.items()} for result in results]
    assert all(score == scores[0] for score in scores)


def test_realblur_is_aligned_before_both_rows(data, tmp_path, capsys):
    found = report(["--bundle", str(BUNDLE), "--dataset", "realblur-j", "--data", str(data)], tmp_path)["results"][
        "rgb"
    ]
    blurred, clean = (read(data, "RealBlur_J", part) for part in ("input", "target"))
    plain = np.mean([psnr(b, c) for b, c in zip(blurred, clean, strict=True)])
    assert found["unaligned"] == [] and found["input"]["psnr"] > plain + 1
    assert "after RealBlur's alignment" in capsys.readouterr().out


def test_pictures_that_cannot_be_aligned_are_named_and_scored_as_they_are(data, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise metrics.AlignmentError("no")

    monkeypatch.setattr(metrics, "psnr_aligned", refuse)
    found = report(["--bundle", str(BUNDLE), "--dataset", "realblur-j", "--data", str(data)], tmp_path)["results"][
        "rgb"
    ]
    blurred, clean = (read(data, "RealBlur_J", part) for part in ("input", "target"))
    assert found["input"]["psnr"] == pytest.approx(np.mean([psnr(b, c) for b, c in zip(blurred, clean, strict=True)]))
    assert found["unaligned"] == ["0", "1"] and "Not aligned, scored as they are: 0, 1." in capsys.readouterr().out


def test_defocus_has_mae_its_two_groups_and_says_that_lpips_is_not_available(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "_load_lpips", lambda: (None, "LPIPS is not available: for a test."))
    found = report(["--bundle", str(BUNDLE), "--dataset", "dpdd", "--data", str(data)], tmp_path)["results"]["rgb"]
    maes = [metrics.mae(*pair) for pair in zip(read(data, "DPDD", "inputC"), read(data, "DPDD", "target"), strict=True)]
    assert found["input"]["mae"] == pytest.approx(np.mean(maes)) and found["input"]["lpips"] is None
    assert found["groups"]["outdoor"]["input"]["mae"] == pytest.approx(maes[0])
    assert found["groups"]["indoor"]["images"] == 1
    out = capsys.readouterr().out
    for words in ("untouched input, indoor (1)", "LPIPS is not available: for a test.", "0.351"):
        assert words in out


def test_synthetic_sets_are_labelled_and_their_pixels_checked(data, tmp_path, capsys):
    arguments = ["--bundle", str(BUNDLE), "--dataset", "synthetic", "--data", str(data)]
    found = report(arguments, tmp_path)
    assert found["dataset"] == "synthetic denoise camera" and found["synthetic"] == "camera, seed 0"
    assert "SYNTHETIC: made by train.degradations" in capsys.readouterr().out
    target = data / "camera" / "target" / "0.png"
    kept = target.read_bytes()
    cv2.imwrite(str(target), load_image(target))  # red and blue change places
    assert evaluate.main(arguments) == 2
    assert "not those that its set.json names" in capsys.readouterr().err
    target.write_bytes(kept)


def test_all_takes_the_networks_task_and_names_what_is_not_there(data, tmp_path, capsys):
    arguments = ["--bundle", str(BUNDLE), "--dataset", "all", "--data", str(data), "--threads", "1"]
    found = report(arguments, tmp_path)
    assert [row["dataset"] for row in found["sets"]] == ["synthetic denoise camera"]
    assert set(found["missing"]) == {"cbsd68", "kodak24", "mcmaster", "urban100", "polyu"}
    out = capsys.readouterr().out
    assert "Not there, so not in the tables:" in out and "kodak24 is not in" in out


def test_several_sets_are_reported_together_and_another_tasks_network_is_pointed_out(data, tmp_path, capsys):
    arguments = ["--bundle", str(BUNDLE), "--dataset", "rain100l", "gopro", "--data", str(data), "--protocol", "y"]
    found = report(arguments, tmp_path)
    assert [row["dataset"] for row in found["sets"]] == ["rain100l"] and list(found["sets"][0]["results"]) == ["y"]
    assert "gopro is scored by the protocol rgb, not by y" in found["missing"]["gopro"]
    assert "trained to denoise; rain100l is a set to derain" in capsys.readouterr().err


def test_several_networks_stand_in_one_table_with_their_names_and_sizes(photos, tmp_path, capsys):
    page = tmp_path / "tables.md"
    bundles = [str(BUNDLE.with_name(f"{name}.safetensors")) for name in ("edge", "kinds")]
    arguments = ["--bundle", bundles[0], "--bundle", bundles[1], "--data", str(photos), "--sigma", "25"]
    found = report([*arguments, "--protocol", "clipped", "--markdown", str(page)], tmp_path)
    alone = report(["--bundle", bundles[1], "--data", str(photos), "--sigma", "25", "--protocol", "clipped"], tmp_path)
    assert [own["network"] for own in found["networks"]] == ["edge", "kinds"]
    both = [own["results"]["clipped"]["25"] for own in found["networks"]]
    assert both[0]["input"] == both[1]["input"] and both[0]["restored"] != both[1]["restored"]
    assert both[1]["restored"] == alone["results"]["clipped"]["25"]["restored"]  # the form of one network's file stays
    out = capsys.readouterr().out
    table = out.split("Table 1 of the paper")[1]
    assert table.count("untouched input") == 1 and "\nedge (numba), 5,720 parameters" in table
    assert "\nkinds (numba), " in table and "total spike rate (SyOps / SyOps if all fired), kinds" in table
    text = page.read_text()
    assert "### Table 1 of the paper: colour denoising" in text and "| edge (numba), 5,720 parameters | " in text
    assert "cbsd68, 2 of 68 images" in text and "seed 0" in text


def test_table_1_has_the_teachers_rows_as_printed_and_says_what_is_wrong_with_one(photos, tmp_path, capsys):
    report(["--bundle", str(BUNDLE), "--data", str(photos), "--protocol", "clipped"], tmp_path)
    out = capsys.readouterr().out
    for words in ("Restormer, as printed", "31.96 / 0.900", "PromptIR, as printed", "AdaIR, as printed",
                  "SpikerIR (AdaIR teacher), as printed", "matches Restormer's grayscale", "34.35 / -"):  # fmt: skip
        assert words in out


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("rain100l", ("Table 2 of the paper: deraining", "Restormer row is PSNR on Y")),
        ("realblur-j", ("Table 3 of the paper: motion deblurring", "of J or of R")),
        ("dpdd", ("Table 4 of the paper: defocus deblurring", "equals the untouched input's")),
    ],
)
def test_every_table_names_the_papers_and_what_an_honest_reading_finds(data, tmp_path, capsys, dataset, words):
    report(["--bundle", str(BUNDLE), "--dataset", dataset, "--data", str(data), "--limit", "1"], tmp_path)
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_networks_of_several_tasks_take_each_its_own_sets_in_the_papers_order(data, photos, tmp_path, capsys):
    run = tmp_path / "rain"
    short = "--task derain --channels 8 8 8 8 --patch 16 --batch 1 --threads 1 --device cpu --stages none --steps 1"
    assert hkd.main([*short.split(), "--data", str(photos), "--out", str(run)]) == 0
    page = tmp_path / "tables.md"
    arguments = ["--checkpoint", str(run), "--bundle", str(BUNDLE), "--dataset", "all", "--data", str(data)]
    found = report([*arguments, "--markdown", str(page)], tmp_path)
    sets = {own["sets"][0]["network"]: [row["dataset"] for row in own["sets"]] for own in found["networks"]}
    assert sets == {"edge": ["synthetic denoise camera"], "rain": ["rain100l"]}
    text = page.read_text()
    assert text.index("Synthetic twin of the paper's Table 1") < text.index("Table 2 of the paper")
    assert "rain (torch), " in text and "parameters, 1 steps" in text
    missing = text.split("Not there, so not in the tables")[1]
    assert "- rain100h is not in" in missing and "- No synthetic set to derain is in" in missing


def test_synthetic_sets_of_one_name_have_a_table_each(photos, tmp_path, capsys):
    for seed in ("1", "2"):
        twin = ["--task", "denoise", "--variant", "camera", "--data", str(photos), "--seed", seed]
        assert degradations.main([*twin, "--out", str(tmp_path / "sets" / seed)]) == 0
    found = report(["--bundle", str(BUNDLE), "--dataset", "synthetic", "--data", str(tmp_path / "sets")], tmp_path)
    assert [row["synthetic"] for row in found["sets"]] == ["camera, seed 1", "camera, seed 2"]
    out = capsys.readouterr().out
    assert out.count("untouched input") == 2 and "(camera, seed 1)" in out and "(camera, seed 2)" in out


def test_networks_on_one_synthetic_set_are_timed_together(photos, tmp_path, capsys):
    twin = ["--task", "denoise", "--variant", "camera", "--data", str(photos), "--out", str(tmp_path / "sets" / "a")]
    assert degradations.main(twin) == 0
    bundles = [str(BUNDLE), str(BUNDLE.with_name("kinds.safetensors"))]
    arguments = ["--bundle", *bundles, "--dataset", "synthetic", "--data", str(tmp_path / "sets")]
    assert evaluate.main(arguments) == 0
    found = capsys.readouterr()
    (cost,) = found.out.split("What it takes: ")[1:]
    assert "edge (numba)" in cost and "kinds (numba)" in cost
    assert "kinds (numba), synthetic denoise camera, 2 images" in found.err


def test_a_task_without_published_sets_takes_no_other_tasks_synthetic_ones(data):
    found, missing = evaluate._wanted(["all"], data, "dejpeg", "both")
    assert not found and list(missing) == ["synthetic dejpeg"]


def test_networks_of_one_name_are_told_apart_by_their_paths(tmp_path):
    paths = [tmp_path / "a" / "checkpoint.pt", tmp_path / "b.safetensors", Path("x") / "b.safetensors"]
    assert evaluate._short_names(paths) == ["a", str(paths[1]), "x/b.safetensors"]


def test_a_command_without_a_network_says_which_options_give_one(photos, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--data", str(photos)])
    assert stop.value.code == 2 and "--bundle FILE" in capsys.readouterr().err


def test_only_cbsd68_has_the_papers_denoising_rows_beside_it(photos, tmp_path, capsys):
    report(["--bundle", str(BUNDLE), "--dataset", "kodak24", "--data", str(photos), "--sigma", "25"], tmp_path)
    assert "as printed" not in capsys.readouterr().out


@pytest.mark.parametrize(("size", "kept"), [((33, 47), (32, 32)), ((16, 31), (16, 16)), ((9, 40), (9, 32))])
def test_a_centre_crop_keeps_the_middle(size, kept):
    image = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(*size, 3)
    top, left = ((a - b) // 2 for a, b in zip(size, kept, strict=True))
    found = evaluate.centre_crop(image, 16)
    assert found.shape[:2] == kept and np.array_equal(found, image[top : top + kept[0], left : left + kept[1]])


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [
        (Protocol("rgb"), metrics.ssim),
        (Protocol("rgb", ssim="uniform"), metrics.ssim_uniform),
        (Protocol("rgb", ssim="volume"), metrics.ssim_volume),
        (Protocol("y", channels="Y"), metrics.ssim_y),
        (Protocol("rgb", aligned=True), metrics.ssim_aligned),
    ],
)
def test_a_protocol_names_its_ssim(photos, protocol, metric):
    clean = load_images(photos)[0]
    noisy = add_noise(clean, 10, 0, True)
    assert evaluate.score(noisy, clean, protocol)["ssim"] == metric(noisy, clean)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bundle", str(BUNDLE), "--dataset", "gopro"], "gopro is not in"),
        (["--bundle", str(BUNDLE), "--dataset", "gopro", "hide"], "No set of gopro, hide can be used"),
        (["--bundle", str(BUNDLE), "--dataset", "cbsd68", "kodak24"], "No set of cbsd68, kodak24 can be used"),
        (["--bundle", str(BUNDLE), "--dataset", "synthetic"], "No synthetic set is in"),
        (["--bundle", str(BUNDLE), "--protocol", "y"], "scored by the protocol clipped or unclipped, not by y"),
        (["--bundle", "no/such.safetensors"], "no/such.safetensors"),
        (["--checkpoint", "no/such.pt"], "no/such.pt does not exist"),
        (["--checkpoint", str(BUNDLE)], "not a checkpoint"),
        pytest.param(
            ["--bundle", str(BUNDLE), "--backend", "onnx"], "write it with `python -m export.onnx", marks=needs_onnx
        ),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(photos, capsys, arguments, sentence):
    assert evaluate.main([*arguments, "--data", str(photos)]) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


@needs_onnx
def test_the_onnx_file_must_be_the_bundles_and_takes_8_bits(photos, with_onnx, tmp_path, capsys):
    arguments = ["--backend", "onnx", "--data", str(photos)]
    assert evaluate.main(["--bundle", str(with_onnx), *arguments, "--protocol", "unclipped"]) == 2
    assert "8-bit pixels" in capsys.readouterr().err
    other = tmp_path / "denoise.safetensors"
    shutil.copy(Path(__file__).parents[2] / "edge" / "bundles" / other.name, other)
    shutil.copy(with_onnx.with_suffix(".onnx"), other.with_suffix(".onnx"))
    assert evaluate.main(["--bundle", str(other), *arguments]) == 2
    assert "was not written of this bundle" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused_before_the_work(photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate.main(
            ["--bundle", str(tmp_path / "none"), "--data", str(photos), "--json", str(tmp_path / "no" / "x.json")]
        )
    assert ended.value.code == 2
    assert "cannot be written: there is no folder" in capsys.readouterr().err
