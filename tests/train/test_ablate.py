"""The ablation from the command line: every row of Table 6, resumed where it stopped, and convergence as it was."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from train import ablate, hint_tables, hkd
from train.checkpoint import read_checkpoint
from train.run import TrainingError
from train.teachers import build_narrow_teacher, save_teacher

ROOT = Path(__file__).parents[2]
SHORT = (
    "--task denoise --channels 8 8 8 8 --patch 32 --batch 2 --threads 1 --device cpu "
    "--rate 2e-3 --warmup 2 --validate-every 2"
).split()
TINY = "--width 8 --blocks 1 1 1 1 --heads 1 1 1 1 --refinement 0 --expansion 1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(11):
        coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}.png"), cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC))
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no teacher of an earlier run lies here


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_teacher_and_stage_is_one_row_and_a_second_call_trains_nothing(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablate, "NARROW", dict.fromkeys(ablate.NARROW, TINY))
    out = tmp_path / "out"
    command = [*SHORT, "--data", str(photos), "--steps", "4", "--teacher-steps", "2", "--out", str(out)]
    command += ["--stages", "none", "1-7", "4-7", "--test-data", str(photos), "--limit", "1"]
    assert ablate.main(command) == 0
    shown = capsys.readouterr().out
    rows = table(out / "table6.csv")
    kinds = [("none", "none")] + [(name, stage) for name in ablate.NARROW for stage in ("1-7", "4-7")]
    assert [(row["teacher"], row["stages"], row["seed"]) for row in rows] == [
        (*kind, seed) for kind in kinds for seed in "01"
    ]
    for row in rows:
        assert row["steps"] == "4" and float(row["ms_per_step"]) > 0
        levels = [float(row[f"psnr_{sigma}"]) for sigma in (15, 25, 50)]
        assert float(row["psnr"]) == pytest.approx(np.mean(levels), abs=2e-3) and levels[0] > levels[2]
    assert shown == (out / "table6.md").read_text()
    assert "| promptir | 4-7 | 4 |" in shown and "32.35 / 29.72 / 26.13" in shown and "1 whole images" in shown
    assert "adair (" in shown and "trained for 2 steps" in shown and "more than 5 times faster" in shown
    validations = table(out / "convergence.csv")
    assert len(validations) == 7 * 2 * 2 and {row["step"] for row in validations} == {"2.0", "4.0"}
    assert {row["stages"] for row in table(out / "targets.csv")} == {"1-7", "4-7"}
    assert cv2.imread(str(out / "convergence.png")) is not None
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/checkpoint.pt")}
    assert ablate.main(command) == 0
    logs = {path: path.read_bytes() for path in out.glob("*-seed*/log.csv")}
    assert len(before) == 7 * 2 + 3 and all(len(log.splitlines()) == 3 for log in logs.values())
    assert table(out / "table6.csv") == rows


def test_without_a_test_set_the_held_out_crops_are_scored_and_the_caption_says_so(photos, teacher, tmp_path, capsys):
    command = [*SHORT, "--data", str(photos), "--minutes", "0.003", "--out", str(tmp_path / "out"), "--seeds", "3"]
    command += ["--teachers", "restormer", "--stages", "4-7", "none", "--teacher-weights", f"restormer={teacher}"]
    assert ablate.main(command) == 0
    shown = capsys.readouterr().out
    assert "the 1 held-out crops" in shown and "0.003 minutes per run" in shown and "1 seed: 3" in shown
    assert "trained for 7 steps in 1.5 minutes" in shown and "the same time" in shown
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    save_teacher(build_narrow_teacher("restormer", 32, dim=8, heads=(1, 1, 1, 1), blocks=(1, 1, 1, 1)), other)
    assert ablate.main([*command[:-1], f"restormer={other}"]) == 2  # half of the runs with another teacher: refused
    assert "were made with the restormer teacher" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(photos, tmp_path):
    out = tmp_path / "out"
    command = [*SHORT, "--data", str(photos), "--stages", "none", "--out", str(out), "--steps"]
    process = subprocess.Popen(
        [sys.executable, "-m", "train.ablate", *command, "100000"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    log, deadline = out / "none-seed0" / "log.csv", time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) > 1) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    steps = read_checkpoint(out / "none-seed0").step
    assert steps > 0
    assert ablate.main([*command, str(steps + 2), "--seeds", "0"]) == 0
    assert read_checkpoint(out / "none-seed0").step == steps + 2
    assert ablate.main([*command, str(steps), "--seeds", "0"]) == 2  # a longer run is not passed off as a shorter one


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--steps", "0"], "must be above zero"),
        ([], "one of the arguments --steps --minutes is required"),
        (["--steps", "4", "--teacher-weights", "unet=x"], "expected NAME=FILE"),
        (["--steps", "4", "--teacher-weights", "adair=no/such.ckpt"], "do not exist"),
        (["--steps", "4", "--teacher", "adair"], "--teachers"),
        (["--steps", "4", "--seed", "3"], "--seeds"),
        (["--steps", "4", "--ann"], "cannot be frozen"),
        (["--minutes", "1", "--clock", "processor"], "take --steps instead"),
        (["--steps", "4", "--stages", "none", "--equal-seconds"], "must name none and another"),
        (["--steps", "4", "--data", "no/such/folder"], "does not exist"),
        (["--steps", "4", "--test-data", "no/such/folder"], "does not exist"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(photos, tmp_path, capsys, extra, sentence):
    command = [*SHORT, "--data", str(photos), "--out", str(tmp_path / "out"), *extra]
    try:
        code = ablate.main(command)
    except SystemExit as stopped:
        code = stopped.code
    errors = capsys.readouterr().err
    assert code == 2 and sentence in errors and "Traceback" not in errors
    assert not list(tmp_path.glob("out/*-seed*"))


def test_at_equal_seconds_runs_without_hints_get_the_steps_that_hinted_ones_have_no_time_for(photos, teacher, tmp_path):
    out = tmp_path / "out"
    command = [*SHORT, "--data", str(photos), "--steps", "8", "--out", str(out), "--seeds", "0", "--equal-seconds"]
    command += ["--stages", "none", "1-7", "--clock", "processor", "--teacher-weights", f"restormer={teacher}"]
    command += ["--architecture", "blocks=1,1,1,1,1,1,1", "--teachers", "restormer"]
    assert ablate.main(command) == 0
    plain, hinted, longer = table(out / "table6.csv")
    assert (plain["stages"], hinted["stages"], longer["stages"]) == ("none", "1-7", "longer")
    assert int(longer["steps"]) == round(
        8 * last_seconds(out / "restormer-1-7-seed0") / last_seconds(out / "none-seed0")
    )
    assert all(0 < float(row["dense"]) < 1 and 0 < float(row["spike_rate"]) < 1 for row in (plain, hinted, longer))
    shown = (out / "table6.md").read_text()
    assert "| - | none, as long |" in shown and "of the processor" in shown and "the best student" in shown
    assert {row["stages"] for row in table(out / "targets.csv")} == {"1-7"}
    before = (out / "none-longer-seed0" / "log.csv").read_bytes()
    assert ablate.main(command) == 0
    assert (out / "none-longer-seed0" / "log.csv").read_bytes() == before


def last_seconds(run: Path) -> float:
    return float(table(run / "log.csv")[-1]["processor_seconds"])


def rows(*curve: tuple[int, float, float]) -> hint_tables.Rows:
    return [{"step": step, "seconds": seconds, "mean": quality} for step, seconds, quality in curve]


def test_a_target_is_reached_between_two_validations_or_at_the_first_or_never():
    run = rows((100, 10, 20.0), (200, 30, 24.0), (300, 40, 23.0))
    assert hint_tables.when(run, 19.0, "step") == 100
    assert hint_tables.when(run, 23.0, "step") == 175 and hint_tables.when(run, 23.0, "seconds") == 25
    assert hint_tables.when(run, 24.0, "step") == 200
    assert hint_tables.when(run, 24.1, "step") is None


def test_the_speed_up_compares_runs_of_one_seed_in_steps_and_in_seconds():
    plain, hinted = rows((100, 10, 20.0), (200, 20, 30.0)), rows((100, 20, 28.0), (200, 40, 29.0))
    logs = {(hint_tables.NO_HINTS, 0): plain, (("adair", "4-7"), 0): hinted, (("adair", "4-7"), 1): hinted}
    reached = {row["target"]: row for row in hint_tables.targets(logs, 20.0)}
    assert {row["seed"] for row in reached.values()} == {0}
    weaker = reached["weaker run's best"]
    assert weaker["target_db"] == 29.0
    assert (weaker["step_without"], weaker["step_with"]) == (190, 200)
    assert weaker["step_ratio"] == pytest.approx(0.95) and weaker["seconds_ratio"] == pytest.approx(19 / 40)
    assert reached["80% of the gain"]["step_ratio"] == pytest.approx(1.8)
    assert reached["100% of the gain"]["step_with"] is None
    assert "not reached by 1 of 1" in hint_tables.convergence_table(list(reached.values()))


def test_best_at_equal_steps_looks_no_further_than_the_shortest_run(photos, tmp_path):
    runs, logs = {}, {}
    for seed, steps in ((0, 2), (1, 4)):
        folder = tmp_path / str(seed)
        command = [*SHORT, "--data", str(photos), "--steps", str(steps), "--stages", "none", "--out", str(folder)]
        assert hkd.main(command) == 0
        runs[hint_tables.NO_HINTS, seed] = folder
    logs = {
        (hint_tables.NO_HINTS, 0): rows((2, 1, 20.0)),
        (hint_tables.NO_HINTS, 1): rows((2, 1, 21.0), (4, 2, 25.0)),
    }
    clean = np.full((16, 16, 3), 100, np.uint8)
    crops = {"psnr_25": [(clean + np.uint8(1), clean)]}
    measured = ablate.measure(runs, logs, crops, crops)
    assert [row["equal_steps"] for row in measured] == [20.0, 21.0]
    assert all(row["end"] == row["psnr"] == row["psnr_25"] for row in measured)


def test_a_run_without_validations_is_said(tmp_path):
    (tmp_path / "log.csv").write_text("step,seconds,psnr\n")
    with pytest.raises(TrainingError, match="holds no validation"):
        ablate.read_log(tmp_path)


def test_a_log_of_an_older_version_has_no_seconds_of_the_processor_and_that_is_said(tmp_path):
    (tmp_path / "log.csv").write_text("step,seconds,psnr\n1,2,30\n")
    assert ablate.read_log(tmp_path)[0]["seconds"] == 2
    with pytest.raises(TrainingError, match="does not say the processor's seconds"):
        ablate.read_log(tmp_path, "processor")
