"""Channels that have fallen silent come back, and no other channel is touched."""

import torch

from train.architectures import build_graph
from train.awake import FLOOR, RISE, keep_awake
from train.calibrate import calibrate
from train.student import Student

PIXELS = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_silenced_channel_wakes_up_and_the_others_stay_as_they_are():
    student = Student(build_graph("edge", (8, 8, 8, 8), ("neuron=window",)))
    calibrate(student, PIXELS)
    name = "encoder1.1.lif1"
    bias = student.parameter(student.graph.node(name), "bias")
    threshold = student.tensor(student.graph.node(name), "threshold")
    with torch.no_grad():
        awake = student(PIXELS).channel_rates[name]
        assert awake.min() > FLOOR
        bias[3] -= 10 * threshold[3]
        before = bias.clone()
        for _ in range(2000):
            rates = student(PIXELS).channel_rates
            if rates[name][3] >= FLOOR:
                break
            assert rates[name][3] < FLOOR
            keep_awake(student, rates, 10.0)
    assert rates[name][3] >= FLOOR
    others = [channel for channel in range(8) if channel != 3]
    assert torch.equal(bias[others], before[others])
    steps = (bias[3] - before[3]) / (10 * RISE * threshold[3])
    assert abs(float(steps) - round(float(steps))) < 1e-2 and steps > 100


def test_neurons_that_fire_step_by_step_have_no_channel_rates():
    student = Student(build_graph("edge", (8, 8, 8, 8), ("neuron=lif",)))
    with torch.no_grad():
        output = student(PIXELS)
    assert output.channel_rates == {} and len(output.rates) > 0
