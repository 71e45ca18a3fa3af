"""The student built from SpikingJelly's modules trains as ours does, so that comparing their speed is fair."""

import json

import pytest
import torch

pytest.importorskip("spikingjelly")

from export.bench import training
from export.bench.peers import SpikingJellyStudent
from train import hkd
from train.architectures import build_graph
from train.patches import PatchSampler
from train.student import Student

TINY = (
    "--recipe paper --task denoise --stages none --steps 1000 --channels 8 8 8 8 --patch 32 --batch 2 --rate 1e-3 "
    "--warmup 2 --threshold 1.0"
).split()


@pytest.fixture
def settings() -> hkd.Settings:
    return hkd.settings_of(hkd.parse_arguments(TINY))


def batches(count: int) -> list[training.Batch]:
    sampler = PatchSampler(training.pictures(0, 4, 64), 32, 2)
    return [sampler.batch(step) for step in range(count)]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_spikes_and_every_gradient_are_ours_up_to_float32_rounding(memory):
    torch.manual_seed(0)
    student = Student(build_graph("edge", (8, 8, 8, 8)), threshold=0.7)
    for name, weight in student.weights.items():
        if name.endswith("bias"):
            torch.nn.init.uniform_(weight, -0.1, 0.1)
    peer = SpikingJellyStudent(student).to(memory_format=memory)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    ours, theirs = student(pixels).change, peer(pixels.contiguous(memory_format=memory))
    assert torch.allclose(ours, theirs, atol=1e-5)
    for change in (ours, theirs):
        ((change - pixels) ** 2).mean().backward()
    other = peer.trained()
    assert set(other) == set(student.weights)
    for name, weight in student.weights.items():
        found = other[name].grad.view_as(weight)
        assert weight.grad.abs().max() > 0, name
        assert (found - weight.grad).abs().max() <= 1e-4 * weight.grad.abs().max(), name


def test_the_loss_curves_agree(settings):
    run = training.our_run(settings)
    curve = training.compare(run, SpikingJellyStudent(run.student), batches(6))
    assert len(curve["ours"]) == 6 and run.step == 6
    assert curve["largest relative difference"] < 1e-3
    assert curve["weights"] < 0.1


def test_a_peer_with_another_leak_is_told_apart(settings):
    run = training.our_run(settings)
    peer = SpikingJellyStudent(run.student)
    for module in peer.modules():
        if hasattr(module, "decay"):
            module.decay.fill_(0.5)
    assert training.compare(run, peer, batches(6))["largest relative difference"] > 1e-3


def test_the_command_times_all_in_one_run_and_writes_what_it_prints(tmp_path, capsys):
    command = ["--channels", "8", "8", "8", "8", "--patch", "32", "--batch", "1", "--steps", "3", "--repeats", "1"]
    before = torch.get_num_threads()
    assert training.main([*command, "--threads", "1", "--json", str(tmp_path / "bench.json")]) == 0
    torch.set_num_threads(before)
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "bench.json").read_text())
    assert "1 thread," in shown and report["caption"] in shown
    assert len(report["loss"]["ours"]) == 3
    for name, seconds in report["seconds_per_step"].items():
        assert seconds > 0 and f"| {name} |" in shown
    assert len(report["seconds_per_step"]) == 6


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (["--repeats", "0"], "must be at least 1"),
        (["--steps", "1"], "must be at least 2"),
        (["--data", "no/such/folder"], "does not exist"),
        (["--architecture", "leak=shift"], "only neurons with decay and subtraction"),
        (["--channels", "7", "8", "8", "8"], "groups"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(capsys, extra, sentence):
    before = torch.get_num_threads()
    try:
        code = training.main(extra)
    except SystemExit as stopped:
        code = stopped.code
    finally:
        torch.set_num_threads(before)
    errors = capsys.readouterr().err
    assert code == 2 and sentence in errors and "Traceback" not in errors
