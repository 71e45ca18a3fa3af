"""A trained ANN leaves PyTorch without a change: the biases of its ReLUs are folded, its pixels reordered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.bench.ann import build_ann, evaluate
from export.bench.ann.trained import trained_ann, with_weights
from export.files import ExportError
from tests.simulator.networks import random_image
from train import hkd
from train.architectures import build_graph
from train.student import EquivalentAnn, restore_image

FORMS = {
    "default": [],
    "full-resolution": ["shrink=1"],
    "full-blocks": ["block=full", "groups=1,1,1,1", "blocks=0,2,1,1,0,1,1"],
    "spiking-readout": ["readout=spikes", "encode=4x4"],
    "thin": ["readout=thin", "encode=thin", "neuron=window"],
}


def trained_like(options: list[str]) -> EquivalentAnn:
    """An ANN of that form whose biases all differ, and whose readout changes the picture visibly.

    Its streams stay within the clips of the ends, which an `Ann` does not have.
    """
    student = EquivalentAnn(build_graph("edge", (8, 16, 8, 16), (*options, "time_steps=1")), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in student.weights.items():
            if name.endswith("bias"):
                weight.normal_(0, 0.2, generator=generator)
            elif name.startswith("readout"):
                weight.mul_(20)
            else:
                weight.mul_(0.7)
    return student


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_it_restores_the_pixels_that_pytorch_does(options):
    student = trained_like(options)
    ann = with_weights(build_ann(student.analysis), student)
    image = random_image(np.random.default_rng(3), 32, 48, 3)
    expected = restore_image(student, image)
    found = evaluate(ann, image.transpose(2, 0, 1))[ann.ops[-1].name].transpose(1, 2, 0)
    assert np.abs(expected.astype(int) - image).mean() > 5
    differing = np.abs(expected.astype(int) - found)
    assert differing.max() <= 1 and (differing > 0).mean() < 0.001  # another order of sums at a rounding's edge


def test_an_ann_with_attention_is_refused():
    student = EquivalentAnn(build_graph("edge", (8, 8, 8, 8), ("attention=1", "time_steps=1")))
    with pytest.raises(ExportError, match="attention is not carried over"):
        with_weights(build_ann(student.analysis), student)


def test_a_bias_that_has_no_convolution_to_go_into_is_refused():
    """Two ReLUs with different biases read one stream."""
    student = trained_like([])
    graph = student.graph
    ann = build_ann(student.analysis)
    reader = next(op for op in ann.ops if op.kind == "relu" and graph.node(op.inputs[0]).kind == "sum")
    twin = next(op for op in ann.ops if op.kind == "relu" and op is not reader)
    ops = tuple(
        type(op)(op.name, op.kind, reader.inputs if op is twin else op.inputs, op.attrs, op.gating) for op in ann.ops
    )
    with pytest.raises(ExportError, match="different biases read"):
        with_weights(type(ann)(ops, ann.weights, ann.channels, ann.scales, ann.stride), student)


def test_a_run_of_a_spiking_network_is_refused(run):
    with pytest.raises(ExportError, match="is a run of a spiking network"):
        trained_ann(run)


def test_a_run_with_ann_is_read_from_its_folder(photos, tmp_path):
    arguments = "--task denoise --ann --stages none --channels 8 8 8 8 --patch 16 --batch 2 --threads 1 --device cpu"
    folder = tmp_path / "ann"
    assert hkd.main([*arguments.split(), "--data", str(photos), "--out", str(folder), "--steps", "2"]) == 0
    ann = trained_ann(folder)
    assert ann.channels["encode.conv"] == 8 and ann.ops[-1].kind == "output"
