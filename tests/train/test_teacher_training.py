"""`python -m train.teacher`: it learns, survives a kill, resumes to the same weights, and refuses with a sentence."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import skimage.data
import torch

from train.run import Budget, cosine_rate
from train.teacher import main
from train.teachers import build_teacher, read_weights

ROOT = Path(__file__).parents[2]
TINY = "--width 8 --blocks 1 1 1 1 --heads 1 1 1 1 --expansion 1 --patch 16 --batch 2 --warmup 5".split()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea", "coffee"):
        cv2.imwrite(str(folder / f"{name}.png"), getattr(skimage.data, name)()[:160, :160, ::-1])
    return folder


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def arguments_for(photos: Path, out: Path, *extra: str) -> list[str]:
    fixed = ["--task", "denoise", "--data", str(photos), "--out", str(out), "--device", "cpu", "--threads", "1"]
    return [*fixed, *TINY, *extra]


def start(*arguments) -> subprocess.Popen:
    """The command in a process of its own, so that it can be killed."""
    command = [sys.executable, "-m", "train.teacher", *arguments_for(*arguments)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(photos, tmp_path, capsys):
    steps = ["--steps", "60", "--save-every", "0.001", "--validate-every", "0.5"]
    process = start(photos, tmp_path / "killed", *steps)
    wait_for(tmp_path / "killed/checkpoint.pt", process)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    reached = torch.load(tmp_path / "killed/checkpoint.pt", weights_only=True)["step"]
    assert 0 < reached < 60
    assert not (tmp_path / "killed/teacher.safetensors").exists()

    assert main(arguments_for(photos, tmp_path / "killed", *steps, "--resume")) == 0
    assert f"from step {reached};" in capsys.readouterr().err
    assert main(arguments_for(photos, tmp_path / "whole", *steps)) == 0

    killed, _ = read_weights(tmp_path / "killed/teacher.safetensors")
    whole, metadata = read_weights(tmp_path / "whole/teacher.safetensors")
    assert metadata["teacher.steps"] == "60" and metadata["teacher.task"] == "denoise"
    assert killed.keys() == whole.keys() and all(torch.equal(killed[name], whole[name]) for name in whole)
    logged = [int(row["step"]) for row in rows(tmp_path / "killed")]
    assert logged == sorted(set(logged)) and logged[-1] == 60


def test_minutes_end_a_run_and_the_learning_rate_with_it(photos, tmp_path):
    assert main(arguments_for(photos, tmp_path, "--minutes", "0.1", "--rate", "3e-3", "--validate-every", "2")) == 0
    log = rows(tmp_path)
    last = log[-1]
    assert len(log) >= 2
    assert 5 < float(last["seconds"]) < 12
    assert float(last["learning_rate"]) < 1e-4  # the cosine follows the minutes down to its end


def test_training_improves_on_the_noisy_input_and_the_file_rebuilds_the_teacher(photos, tmp_path):
    # Well below a real teacher, well above the noisy input.
    settings = ["--steps", "150", "--rate", "3e-3", "--sigma", "25", "25"]
    assert main(arguments_for(photos, tmp_path, *settings)) == 0
    log = rows(tmp_path)
    assert float(log[-1]["psnr"]) > float(log[-1]["psnr_input"]) + 4
    teacher = build_teacher(None, weights=tmp_path / "teacher.safetensors")
    assert teacher.config.dim == 8 and teacher.config.blocks == (1, 1, 1, 1)


def test_ctrl_c_saves_and_says_how_to_go_on(photos, tmp_path):
    process = start(photos, tmp_path, "--steps", "100000", "--save-every", "0.001")
    wait_for(tmp_path / "checkpoint.pt", process)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continue it with --resume" in messages and "Traceback" not in messages
    step = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    assert int(rows(tmp_path)[-1]["step"]) == step > 0


def test_mistakes_end_with_one_sentence_and_exit_code_2(photos, tmp_path, capsys):
    single = tmp_path / "single"
    single.mkdir()
    (single / "one.png").write_bytes((photos / "coffee.png").read_bytes())
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "checkpoint.pt").write_bytes(b"PK damaged")
    blocked = tmp_path / "blocked"
    blocked.touch()
    fixed = ["--task", "denoise", "--data", str(photos), "--steps", "1", "--device", "cpu", *TINY]
    mistakes = {
        "does not exist": ["--data", str(tmp_path / "nothing")],
        "at least 2 images": ["--data", str(single)],
        "already holds a run": ["--out", str(damaged)],
        "To start a run anew, delete it": ["--out", str(damaged), "--resume"],
        "cannot write to": ["--out", str(blocked)],
        "at least 8": ["--arch", "adair", "--width", "6"],
        "must be even": ["--width", "9"],
        "0 <= low <= high": ["--sigma", "50", "10"],
    }
    for sentence, arguments in mistakes.items():
        code = main([*fixed, "--out", str(tmp_path / "new"), *arguments])
        message = capsys.readouterr().err.splitlines()[-1]
        assert code == 2 and message.startswith("train.teacher: ") and sentence in message


@pytest.mark.parametrize(
    "arguments", [["--steps", "0"], ["--minutes", "-1"], ["--minutes", "inf"], [], ["--steps", "x"]]
)
def test_impossible_lengths_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--task", "denoise", "--data", "x", *arguments])
    assert stop.value.code == 2 and "error:" in capsys.readouterr().err


def test_a_run_is_not_resumed_with_other_settings(photos, tmp_path, capsys):
    assert main(arguments_for(photos, tmp_path, "--steps", "1")) == 0
    assert main(arguments_for(photos, tmp_path, "--steps", "2", "--resume", "--seed", "1")) == 2
    assert "started with other settings: seed 0 (now 1)" in capsys.readouterr().err


def test_progress_follows_whichever_limit_is_nearer():
    both = Budget(steps=100, seconds=60)
    assert both.progress(50, 6) == 0.5 and both.progress(10, 45) == 0.75 and both.progress(0, 120) == 1
    assert Budget(steps=10, seconds=None).progress(5, 1e9) == 0.5


def test_learning_rate_warms_up_and_then_falls_by_cosine():
    assert cosine_rate(1e-3, 5e-6, 10, 0, 0) == pytest.approx(1e-4)
    assert cosine_rate(1e-3, 5e-6, 10, 10, 0) == pytest.approx(1e-3)
    assert cosine_rate(1e-3, 5e-6, 10, 10, 0.5) == pytest.approx(0.5025e-3)
    assert cosine_rate(1e-3, 5e-6, 10, 10, 1) == pytest.approx(5e-6)
