"""H-KD training from the command line: it learns, resumes after a kill, and says what is wrong."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from simulator import coarse
from train import hkd
from train.checkpoint import read_checkpoint, trained_student
from train.contenders import checkpoint_restorer
from train.student import on_cpu, restore_image

ROOT = Path(__file__).parents[2]
SHORT = (
    "--task denoise --channels 8 8 8 8 --patch 32 --batch 2 --threads 1 --device cpu "
    "--rate 2e-3 --warmup 5 --validate-every 10"
).split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Smooth shapes with edges and texture, enough to learn that neighbours are alike."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        image = cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC if i % 2 else cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def student_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(folder).student)


def test_training_with_hints_lowers_loss_and_hint_and_logs_them(photos, teacher, tmp_path):
    arguments = [
        *SHORT,
        "--data",
        str(photos),
        "--out",
        str(tmp_path),
        "--steps",
        "60",
        "--teacher-weights",
        str(teacher),
    ]
    assert hkd.main(arguments) == 0
    log = rows(tmp_path)
    assert [row["rounded"] for row in log] == ["0"] * 4 + ["1"] * 2  # the last quarter runs with the roundings
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    assert float(log[-1]["hint"]) < float(log[0]["hint"])
    assert all(0 < float(log[-1][name]) < 1 for name in log[-1] if name.startswith("rate"))
    assert float(log[-1]["seconds_per_epoch"]) > 0
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["finished"] and content["step"] == 60


def test_a_short_training_improves_psnr_over_the_input_at_every_noise_level(photos, tmp_path):
    arguments = [*SHORT, "--data", str(photos), "--out", str(tmp_path), "--steps", "500", "--stages", "none"]
    assert hkd.main([*arguments, "--batch", "4", "--validate-every", "500", "--threads", "1"]) == 0
    last = rows(tmp_path)[-1]
    assert last["rounded"] == "1"
    untouched = {"psnr_25": 20.6, "psnr_50": 15.0}
    for name, before in untouched.items():
        assert float(last[name]) > before + 1.5, name


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(photos, tmp_path):
    command = [*SHORT, "--data", str(photos), "--steps", "60", "--stages", "none", "--save-every", "0.2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert hkd.main([*command, "--out", str(whole)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "train.hkd", *command, "--out", str(cut)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (cut / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stopped_at = torch.load(cut / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < stopped_at
    assert hkd.main([*command, "--out", str(cut), "--resume"]) == 0
    expected, found = student_of(whole), student_of(cut)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [row["step"] for row in rows(cut)] == [row["step"] for row in rows(whole)]


def test_ctrl_c_saves_the_run_and_exits_130(photos, tmp_path):
    command = [*SHORT, "--data", str(photos), "--steps", "100000", "--stages", "none", "--save-every", "0.2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train.hkd", *command, "--out", str(tmp_path)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in errors and "Traceback" not in errors
    assert not torch.load(tmp_path / "checkpoint.pt", weights_only=True)["finished"]


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--data", "no/such/folder", "--stages", "none"], "does not exist"),
        (["--teacher-weights", "no/such/file"], "do not exist"),
        (["--task", "auto"], "There is no restormer teacher for auto"),
        (["--channels", "7", "8", "8", "8", "--stages", "none"], "groups"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(photos, tmp_path, capsys, monkeypatch, extra, sentence):
    monkeypatch.chdir(tmp_path)  # no teacher of an earlier run lies here
    arguments = [*SHORT, "--data", str(photos), "--out", str(tmp_path), "--steps", "5", *extra]
    assert hkd.main(arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert sentence in errors and "Traceback" not in errors
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_run_is_not_started_over_by_accident_or_resumed_with_other_settings(photos, tmp_path, capsys):
    arguments = [*SHORT, "--data", str(photos), "--out", str(tmp_path), "--steps", "2", "--stages", "none"]
    assert hkd.main(arguments) == 0
    assert hkd.main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert hkd.main([*arguments, "--resume", "--rate", "1e-4"]) == 2
    assert "rate 0.002 (now 0.0001)" in capsys.readouterr().err


def test_a_run_can_start_from_the_weights_of_another(photos, tmp_path, capsys):
    arguments = [*SHORT, "--data", str(photos), "--steps", "3", "--stages", "none"]
    assert hkd.main([*arguments, "--out", str(tmp_path / "first")]) == 0
    silent = ["--rate", "1e-12", "--final-rate", "1e-12", "--other-rate", "1e-12", "--weight-decay", "0", "--no-awake"]
    start = ["--init", str(tmp_path / "first"), "--seed", "5"]
    assert hkd.main([*arguments, *silent, *start, "--out", str(tmp_path / "second")]) == 0
    first, second = student_of(tmp_path / "first"), student_of(tmp_path / "second")
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
    assert hkd.main([*arguments, "--init", str(photos), "--out", str(tmp_path / "third")]) == 2
    assert "holds no checkpoint.pt" in capsys.readouterr().err


def test_a_coarse_network_is_trained_and_scored_on_shrunk_pictures(photos, tmp_path, monkeypatch):
    seen = []
    sampler = hkd.PatchSampler

    def spy(images, *rest, **more):
        seen.extend(images)
        return sampler(images, *rest, **more)

    monkeypatch.setattr(hkd, "PatchSampler", spy)
    command = [word if word != "denoise" else "dehaze" for word in SHORT]
    out = tmp_path / "coarse"
    arguments = [*command, "--data", str(photos), "--stages", "none", "--steps", "2", "--coarse", "64"]
    assert hkd.main([*arguments, "--out", str(out)]) == 0
    assert seen and max(max(image.shape[:2]) for image in seen) <= 64
    checkpoint = read_checkpoint(out)
    assert checkpoint.settings.coarse == 64
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3)).astype(np.uint8)
    came, by = coarse.seen({"network.coarse": "64"}, image)
    expected = coarse.carried_over(image, came, restore_image(trained_student(checkpoint), came), by)
    assert by == 3 and np.array_equal(checkpoint_restorer(out)[0](image)[0], expected)


WRONG = [
    ["--steps", "0"],
    ["--minutes", "-1"],
    ["--rounding-phase", "2"],
    ["--batch", "0"],
    ["--harden", "0.5", "0.2"],
    ["--coarse", "256"],
    ["--task", "dehaze", "--coarse", "32"],
]


@pytest.mark.parametrize("option", WRONG)
def test_counts_must_be_above_zero(option):
    with pytest.raises(SystemExit) as caught:
        hkd.main([*SHORT, *option])
    assert caught.value.code == 2


def test_neurons_harden_in_the_part_of_the_run_that_is_for_it():
    assert [hkd.softness(progress, 0.2, 0.6) for progress in (0.0, 0.2, 0.3, 0.6, 1.0)] == [
        1,
        1,
        pytest.approx(0.75),
        0,
        0,
    ]
    assert hkd.softness(0.0, 0.0, 0.0) == 0


def test_two_processes_train_the_same_network_as_one(photos, teacher, tmp_path):
    """Same seed, same batches: the loss curves agree, and so do the weights but for the order of summation."""
    command = [*SHORT, "--data", str(photos), "--steps", "40", "--teacher-weights", str(teacher)]
    assert hkd.main([*command, "--out", str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train.hkd"]
    launched = subprocess.run(
        [*launch, *command, "--out", str(tmp_path / "two")], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert launched.returncode == 0, launched.stderr
    assert launched.stderr.count("trained parameters") == 1  # process 0 alone speaks
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in one] == [row["step"] for row in two] == ["10", "20", "30", "40"]
    for a, b in zip(one, two, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-2)
        assert float(a["hint"]) == pytest.approx(float(b["hint"]), rel=1e-2)
        assert float(a["rate"]) == pytest.approx(float(b["rate"]), rel=2e-2)
    first, second = student_of(tmp_path / "one"), student_of(tmp_path / "two")
    assert all(torch.allclose(first[name], second[name], atol=5e-3) for name in first)


def test_a_batch_that_cannot_be_shared_is_refused(photos, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train.hkd"]
    command = [*SHORT, "--data", str(photos), "--steps", "2", "--stages", "none", "--batch", "3"]
    launched = subprocess.run(
        [*launch, *command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert launched.returncode != 0 and "cannot be shared by 2 processes" in launched.stderr


def test_the_equivalent_ann_trains_the_same_way_and_cannot_be_exported(photos, tmp_path, capsys):
    from export import bundle
    from train import evaluate

    command = [*SHORT, "--data", str(photos), "--steps", "60", "--stages", "none", "--ann", "--out", str(tmp_path)]
    assert hkd.main(command) == 0
    log = rows(tmp_path)
    assert float(log[-1]["loss"]) < float(log[0]["loss"]) and all(row["rounded"] == "0" for row in log)
    arguments = ["--checkpoint", str(tmp_path), "--data", str(photos), "--sigma", "25", "--protocol", "clipped"]
    assert evaluate.main([*arguments, "--limit", "1"]) == 0
    assert bundle.main(["--checkpoint", str(tmp_path)]) == 2
    assert "equivalent ANN" in capsys.readouterr().err


def test_the_equivalent_ann_is_one_pass_of_relus():
    from train.architectures import build_graph
    from train.student import EquivalentAnn

    student = EquivalentAnn(build_graph("edge", (8, 8, 8, 8), ("time_steps=1",)))
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        student.weights["readout/conv/weight"] *= 50
        once, twice = student(x).change, student(x * 1e-3).change
    assert torch.isfinite(once).all() and once.abs().max() > 1e-3 and not torch.allclose(once, twice)
    values = {
        float(v)
        for v in student.fire(student.graph.node("encoder1.1.lif1"), torch.randn(1, 8, 4, 4))[0].detach().flatten()
    }
    assert len(values) > 20 and min(values) == 0  # real numbers, none negative


def test_each_student_starts_from_neurons_of_its_own_and_keeps_those_that_are_given():
    paper = hkd.parse_arguments(["--task", "denoise", "--student", "paper"])
    assert (paper.threshold, paper.leak) == (pytest.approx(0.6), 1)  # 0.15 in the paper's unit, leak one half
    assert (paper.epochs, paper.batch, paper.patch, paper.rate, paper.weight_decay) == (51, 8, 64, 5e-4, 0.05)
    edge = hkd.parse_arguments(["--task", "denoise"])
    assert (edge.threshold, edge.leak, edge.surrogate_width) == (0.5, 2, 1.0)
    assert hkd.parse_arguments(["--task", "denoise", "--student", "paper", "--threshold", "1"]).threshold == 1


def test_tf32_is_off_while_the_contracts_roundings_are_on(monkeypatch, photos, tmp_path):
    seen = []
    step = hkd.Run.train_step

    def observed(run, *arguments):
        values = step(run, *arguments)
        cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        seen.append((run.student.rounded, cudnn, matmul))
        return values

    monkeypatch.setattr(hkd.Run, "train_step", observed)
    command = [*SHORT, "--stages", "none", "--data", str(photos), "--steps", "4", "--rounding-phase", "0.5"]
    assert hkd.main([*command, "--out", str(tmp_path)]) == 0
    assert seen == [(False, True, True)] * 2 + [(True, False, False)] * 2


def test_a_student_elsewhere_is_validated_as_a_copy_on_the_cpu():
    student = hkd.build_student(hkd.settings_of(hkd.parse_arguments(SHORT)))
    assert on_cpu(student) is student
    with pytest.raises(NotImplementedError, match="meta"):  # the one other device of every machine; it holds no numbers
        on_cpu(student.to("meta"))


def test_a_checkpoint_without_the_later_settings_is_still_read_and_resumed(photos, tmp_path):
    command = [*SHORT, "--data", str(photos), "--stages", "none", "--recipe", "paper", "--out", str(tmp_path)]
    assert hkd.main([*command, "--steps", "2"]) == 0
    file = tmp_path / "checkpoint.pt"
    content = torch.load(file, weights_only=True)
    for later in ("init", "architecture", "ann", "psnr_weight", "clean", "camera"):
        del content["settings"][later]
    torch.save(content, file)
    assert read_checkpoint(tmp_path).settings == hkd.settings_of(hkd.parse_arguments([*command, "--steps", "2"]))
    assert hkd.main([*command, "--steps", "3", "--resume"]) == 0
    assert read_checkpoint(tmp_path).step == 3
