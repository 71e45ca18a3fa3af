"""Muon: what it does to a matrix, to grouped convolutions, and over a resumed run."""

import torch

from train.architectures import build_graph
from train.muon import DECAY, ITERATIONS, Matrices, Muon, orthogonal, weights_of
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
    Muon([Matrices(together, 2, True)], 0.1).step()
    Muon([Matrices(half, 1, True) for half in halves], 0.1).step()
    torch.testing.assert_close(together, torch.cat(halves))


def updates(grads: list[torch.Tensor], centred: bool) -> list[torch.Tensor]:
    """What each step of rate 1 takes away from a weight [8, 4, 3, 3] that has these gradients."""
    weight = torch.zeros((8, 4, 3, 3))
    optimizer, taken = Muon([Matrices(weight, 1, centred)], 1.0), []
    for grad in grads:
        weight.zero_()  # so that nothing of it decays
        weight.grad = grad
        optimizer.step()
        taken.append(-weight.clone())
    return taken


def test_a_centred_update_leaves_the_mean_of_a_row_alone():
    grad = torch.rand((8, 4, 3, 3), generator=torch.Generator().manual_seed(3))
    (centred,), (plain,) = updates([grad], True), updates([grad], False)
    assert centred.mean((1, 2, 3)).abs().max() < 1e-6
    assert plain.mean((1, 2, 3)).abs().min() > 1e-3 and centred.norm() > 0.5 * plain.norm()


def test_weights_decay_with_the_rate():
    weight = torch.ones((8, 4, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([Matrices(weight, 1, True)], 0.2).step()
    torch.testing.assert_close(weight, torch.full_like(weight, 1 - 0.2 * DECAY))


def test_a_fading_gradient_takes_smaller_steps_and_none_in_the_end():
    grad = torch.randn((8, 4, 3, 3), generator=torch.Generator().manual_seed(4))
    steps = [float(update.norm()) for update in updates([grad] * 100 + [0.1 * grad] * 100 + [0 * grad] * 300, False)]
    assert 0.1 < steps[199] / steps[99] < 0.25  # the usual norm is a mean over all steps so far
    assert steps[499] < 1e-6 * steps[99]


def test_convolutions_go_to_muon_and_everything_else_to_adamw():
    student = Student(build_graph("edge", (8, 8, 8, 8), ("neuron=window",)))
    matrices, others = weights_of(student)
    assert {each.weight.ndim for each in matrices} == {4}
    first, last = (student.parameter(student.graph.node(f"{end}.conv"), "weight") for end in ("encode", "readout"))
    assert {id(each.weight) for each in matrices if not each.centred} == {id(first), id(last)}
    assert {other.ndim for other in others} == {1}
    assert sum(each.weight.numel() for each in matrices) + sum(o.numel() for o in others) == student.deployed_parameters
