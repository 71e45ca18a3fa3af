"""The first command of a model card with nothing prepared: data, teacher and an interrupted run are found or made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from train import hkd, prepare
from train.checkpoint import read_checkpoint

SMALL = "--task denoise --channels 8 8 8 8 --patch 32 --batch 2 --threads 1 --device cpu --validate-every 10".split()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to work in, with a few photographs where they are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SPIKERIR_DATA", raising=False)
    folder = tmp_path / "data" / "BSDS500" / "data" / "images" / "train"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(6):
        coarse = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC))
    return tmp_path


def test_without_photographs_the_command_says_how_to_get_some(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SPIKERIR_DATA", raising=False)
    assert hkd.main(["--task", "denoise"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "data/bsds500/train" in said and "--data" in said and "BSDS500" in said


def test_photographs_are_found_also_where_the_environment_says(project, monkeypatch, tmp_path):
    assert [str(path) for path in prepare.photographs()] == ["data/BSDS500/data/images/train"]
    (tmp_path / "elsewhere" / "bsds500" / "train").mkdir(parents=True)
    monkeypatch.setenv("SPIKERIR_DATA", str(tmp_path / "elsewhere"))
    assert prepare.photographs() == [tmp_path / "elsewhere" / "bsds500" / "train"]


def test_a_teacher_is_trained_where_there_is_none_and_taken_the_next_time(project, capsys):
    assert hkd.main([*SMALL, "--steps", "2", "--teacher-minutes", "0.02"]) == 0
    said = capsys.readouterr().err
    assert "there is no restormer teacher for denoise; a narrow one is trained first, 0.02 minutes" in said
    assert (project / "runs" / "teacher_denoise_restormer" / "teacher.safetensors").exists()
    assert read_checkpoint(project / "runs" / "denoise").settings.teacher == "restormer"
    assert hkd.main([*SMALL, "--steps", "2", "--out", "other"]) == 0
    assert "is trained first" not in capsys.readouterr().err


def test_an_interrupted_run_is_continued_unasked_and_a_finished_one_is_kept(project, capsys, monkeypatch):
    arguments = [*SMALL, "--stages", "none", "--steps", "4"]
    with monkeypatch.context() as patch:
        step = hkd.Run.train_step

        def stopped(self, *rest):
            if self.step == 2:
                raise KeyboardInterrupt
            return step(self, *rest)

        patch.setattr(hkd.Run, "train_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            hkd.main([*arguments, "--save-every", "0.000001"])
    capsys.readouterr()
    assert hkd.main(arguments) == 0
    assert "was interrupted at step 2 and is continued" in capsys.readouterr().err
    assert hkd.main(arguments) == 2
    assert "already holds a run" in capsys.readouterr().err
