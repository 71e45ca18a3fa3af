"""A kind of node, or a word of one, that an exporter has no rule for is refused, naming layer and kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from export.bench.ann import Ann, build_ann, evaluate, to_onnx, to_tflite
from export.bench.ann.to_torch import TorchAnn
from export.bench.frameworks import FrameworkNet
from export.files import ExportError
from export.onnx import build_model
from simulator.analysis import Analysis, analyse
from simulator.graph import Node
from tests.simulator.networks import random_network, small_network

pytest.importorskip("onnx")  # exists for Python 3.11 and newer
PIXELS = np.zeros((3, 16, 16), np.uint8)


def changed(analysis: Analysis, name: str, change: Callable[[Node], Node]) -> Analysis:
    """The analysis of a graph in which one node is another, which no check has seen."""
    nodes = tuple(change(node) if node.name == name else node for node in analysis.graph.nodes)
    return replace(analysis, graph=replace(analysis.graph, nodes=nodes))


@pytest.mark.parametrize("inputs", [("round", "conv"), ()])
def test_a_new_kind_of_node_is_refused(inputs: tuple[str, ...]) -> None:
    graph, tensors = small_network()
    analysis = changed(analyse(graph, tensors), "add", lambda node: replace(node, kind="maximum", inputs=inputs))
    with pytest.raises(ExportError, match="'add' is of the kind 'maximum', which has no ONNX form"):
        build_model(analysis.graph, tensors, analysis, {})
    with pytest.raises(ExportError, match="'add' is of the kind 'maximum', which has no equivalent in an ANN"):
        build_ann(analysis)


@pytest.mark.parametrize(
    ("kind", "attribute"), [("lif", "leak"), ("lif", "reset"), ("upsample", "mode"), ("attend", "over")]
)
def test_a_new_word_of_a_known_kind_is_refused(kind: str, attribute: str) -> None:
    graph, tensors = random_network(2)
    name = next(node.name for node in graph.nodes if node.kind == kind)
    analysis = changed(
        analyse(graph, tensors), name, lambda node: replace(node, attrs={**node.attrs, attribute: "other"})
    )
    words = f"'{name}' has {attribute} 'other', which has no"
    with pytest.raises(ExportError, match=f"{words} ONNX form"):
        build_model(analysis.graph, tensors, analysis, {})
    if kind != "lif":
        with pytest.raises(ExportError, match=f"{words} equivalent in an ANN"):
            build_ann(analysis)


def test_other_frameworks_neurons_refuse_a_leak_that_they_do_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, tensors = small_network()
    other = changed(analyse(graph, tensors), "lif", lambda node: replace(node, attrs={**node.attrs, "leak": "other"}))
    monkeypatch.setattr("train.student.analyse", lambda graph: replace(other, graph=graph))  # as if it knew the leak
    with pytest.raises(ExportError, match="'lif' has leak 'other'"):
        FrameworkNet(other.graph, tensors, "PyTorch")


WRITERS: dict[str, Callable[[Ann], Any]] = {
    "NumPy": lambda ann: evaluate(ann, PIXELS),
    "ONNX float32": lambda ann: to_onnx.float_model(ann, 16, 16),
    "ONNX int8": lambda ann: to_onnx.integer_model(ann, 16, 16, PIXELS),
    "TFLite float32": lambda ann: to_tflite.float_model(ann, 16, 16),
    "TFLite int8": lambda ann: to_tflite.integer_model(ann, 16, 16, PIXELS),
    "PyTorch": lambda ann: TorchAnn(ann)(torch.from_numpy(PIXELS)[None]),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_new_kind_of_op_is_refused_by_every_form_of_the_ann(writer: str) -> None:
    ann = build_ann(analyse(small_network()[0]))
    ops = tuple(replace(op, kind="maximum") if op.kind == "add" else op for op in ann.ops)
    with pytest.raises(ExportError, match="'add' is of the kind 'maximum', which has no "):
        WRITERS[writer](replace(ann, ops=ops))
