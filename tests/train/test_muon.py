"""Muon: what it does to a matrix, to grouped convolutions, and over a resumed run."""

import torch

from train.architectures import build_graph
from train.muon import ITERATIONS, Muon, orthogonal, weights_of
from train.student import Student


def test_updates_are_nearly_orthogonal():
    matrices = torch.randn((2, 16, 40), generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonal(matrices))
    assert ITERATIONS == 5 and 0.6 < singular.min() and singular.max() < 1.25
    torch.testing.assert_close(orthogonal(matrices.mT), orthogonal(matrices).mT)


def test_each_group_of_a_convolution_is_a_matrix_of_its_own():
    whole = torch.randn((8, 3, 3, 3), generator=torch.Generator().manual_seed(1))
    grad = torch.randn(whole.shape, generator=torch.Generator().manual_seed(2))
    halves = [whole[:4].clone(), whole[4:].clone()]
    together = whole.clone()
    together.grad = grad
    for half, part in zip(halves, (grad[:4], grad[4:]), strict=True):
        half.grad = part
    Muon([(together, 2)], 0.1).step()
    Muon([(half, 1) for half in halves], 0.1).step()
    torch.testing.assert_close(together, torch.cat(halves))


def test_convolutions_go_to_muon_and_everything_else_to_adamw():
    student = Student(build_graph("edge", (8, 8, 8, 8), ("neuron=window",)))
    matrices, others = weights_of(student)
    assert {weight.ndim for weight, _ in matrices} == {4}
    assert {other.ndim for other in others} == {1}
    assert sum(w.numel() for w, _ in matrices) + sum(o.numel() for o in others) == student.deployed_parameters
