"""Muon (Jordan et al., 2024): momentum whose update of each matrix is made orthogonal. For convolution weights.

Two additions, without which spiking networks lose whole levels (train/results/README.md):

- Spikes are never negative, so a matrix has one direction, the mean over its inputs, that moves a neuron's input as a
  whole, and an orthogonal update goes as far in it as in any other: far enough to silence the neuron within some tens
  of steps. `centred` matrices leave it out (gradient centralization, Yong et al., 2020); the mean belongs to the
  neuron's bias.
- An orthogonal update has the same size however small the gradient is. Where neurons fall silent the gradient fades,
  and full steps would go on in the direction that silenced them. So an update shrinks with its gradient's norm where
  that is below its usual one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from train.student import Student

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that pushes singular values towards one
ITERATIONS = 5
SHARE = 0.2  # root mean square of an update at rate 1, as that of Adam is (Liu et al., 2025)
DECAY = 0.1  # of weights, times the rate: keeps currents from growing away from the thresholds
USUAL = 0.999  # decay of the average of a matrix's gradient norms, per step


class Matrices(NamedTuple):
    """A weight [out, in / groups, k, k]: one matrix [out / groups, in / groups k k] for each group."""

    weight: Tensor
    groups: int
    centred: bool  # the mean over a row's inputs is not updated


def orthogonal(x: Tensor) -> Tensor:
    """[N, rows, columns] -> of each matrix about U V^T of its singular value decomposition, by Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon takes matrices only; a grouped convolution is several of them in one tensor."""

    def __init__(self, weights: Sequence[Matrices], rate: float, momentum: float = 0.95):
        """rate: the learning rate."""
        self.matrices = list(weights)
        super().__init__([each.weight for each in weights], {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for settings in self.param_groups:
            for each in self.matrices:
                if each.weight.grad is not None:
                    self._update(each, each.weight.grad, settings)

    def _update(self, each: Matrices, grad: Tensor, settings: dict[str, Any]) -> None:
        weight, groups, centred = each
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
            state["steps"] = 0
        momentum = state["momentum"]
        momentum.lerp_(grad, 1 - settings["momentum"])
        ahead = grad.lerp(momentum, settings["momentum"])  # Nesterov's
        x = ahead.reshape(groups, len(weight) // groups, -1)
        if centred:
            x = x - x.mean(-1, keepdim=True)
        norm = x.norm(dim=(-2, -1), keepdim=True)
        usual = state.setdefault("usual", norm.clone())
        state["steps"] += 1
        usual.lerp_(norm, max(1 / state["steps"], 1 - USUAL))
        share = (norm / usual.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)
        update = orthogonal(x) * share * (SHARE * max(x.shape[1:]) ** 0.5)
        weight.mul_(1 - DECAY * settings["lr"])
        weight.sub_(update.reshape(weight.shape), alpha=settings["lr"])


def weights_of(student: Student) -> tuple[list[Matrices], list[Tensor]]:
    """(weights of convolutions, all other parameters) of a student; those that spikes go through are centred."""
    matrices = [
        Matrices(student.parameter(node, "weight"), int(node["groups"]), node.kind == "conv")
        for node in student.graph.nodes
        if node.kind in ("conv", "dense_conv")
    ]
    taken = {id(each.weight) for each in matrices}
    return matrices, [p for p in student.parameters() if id(p) not in taken and p.requires_grad]
