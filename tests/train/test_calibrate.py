"""Calibration: a network of window neurons that would be silent wakes up, and stays exportable."""

import torch

from simulator.graph import Graph
from train.architectures import build_graph
from train.calibrate import calibrate
from train.student import Student

PIXELS = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1


def graph() -> Graph:
    return build_graph("edge", (8, 8, 8, 8), ("neuron=window",))


def test_every_layer_fires_after_calibration():
    student = Student(graph(), threshold=8.0)
    with torch.no_grad():
        before = student(PIXELS).rates
    calibrate(student, PIXELS)
    with torch.no_grad():
        after = student(PIXELS).rates
    assert sum(float(rate) == 0 for rate in before.values()) > len(before) / 2
    assert all(0.05 < float(rate) < 0.4 for rate in after.values()), after


def test_no_level_drowns_what_it_is_added_to():
    student = Student(graph())
    calibrate(student, PIXELS)
    spread: dict[str, float] = {}
    evaluate = student.evaluate_node

    def watched(node, inputs):
        y = evaluate(node, inputs)
        spread[node.name] = float(y.float().std())
        return y

    student.evaluate_node = watched
    with torch.no_grad():
        student(PIXELS)
    for branch, stream in (("up2.nearest", "encoder1.1.add"), ("encoder1.1.conv2", "encode.round")):
        assert 0.05 < spread[branch] / spread[stream] < 0.2, branch


def test_calibration_leaves_the_student_its_own_methods():
    student = Student(graph())
    calibrate(student, PIXELS)
    assert "fire" not in vars(student) and "evaluate_node" not in vars(student)
    assert set(student.freeze()) == set(student.analysis.shapes)
