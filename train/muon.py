"""Muon (Jordan et al., 2024): momentum whose update of each matrix is made orthogonal. For convolution weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from train.student import Student

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that pushes singular values towards one
ITERATIONS = 5
SHARE = 0.2  # root mean square of an update at rate 1, as that of Adam is (Liu et al., 2025)


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
    """For weights [out, in / groups, k, k]: each group is one matrix [out / groups, in / groups k k].

    torch.optim.Muon takes matrices only; a grouped convolution is several of them in one tensor.
    """

    def __init__(self, weights: Sequence[tuple[Tensor, int]], rate: float, momentum: float = 0.95):
        """weights: (tensor, groups). rate: the learning rate."""
        self.groups = [groups for _, groups in weights]
        super().__init__([weight for weight, _ in weights], {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for settings in self.param_groups:
            for weight, groups in zip(settings["params"], self.groups, strict=True):
                if weight.grad is not None:
                    self._update(weight, weight.grad, groups, settings)

    def _update(self, weight: Tensor, grad: Tensor, groups: int, settings: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"]
        momentum.lerp_(grad, 1 - settings["momentum"])
        ahead = grad.lerp(momentum, settings["momentum"])  # Nesterov's
        matrices = ahead.reshape(groups, len(weight) // groups, -1)
        update = orthogonal(matrices) * (SHARE * max(matrices.shape[1:]) ** 0.5)
        weight.sub_(update.reshape(weight.shape), alpha=settings["lr"])


def weights_of(student: Student) -> tuple[list[tuple[Tensor, int]], list[Tensor]]:
    """(weights of convolutions with their groups, all other parameters) of a student."""
    matrices = [
        (student.parameter(node, "weight"), int(node["groups"]))
        for node in student.graph.nodes
        if node.kind in ("conv", "dense_conv")
    ]
    taken = {id(weight) for weight, _ in matrices}
    return matrices, [p for p in student.parameters() if id(p) not in taken and p.requires_grad]
