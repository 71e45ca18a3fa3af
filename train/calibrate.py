"""Starting values that keep every layer awake: weights and gains scaled by what a batch of pictures makes of them.

Layer-sequential unit variance (Mishkin and Matas, 2016) for networks of window neurons. From the first node to the
last, with what stands before already scaled:

- a convolution that neurons read: its currents get a standard deviation of 1;
- one that is added to a stream, enlarged or not: BRANCH times the stream's. Where it is more, what a level adds is
  noise to those that learn faster, and they turn it off: a network trained from 0.5 (and 1 where a level is enlarged)
  ends with all levels below the first silent;
- neurons: the threshold becomes THRESHOLD times their input's standard deviation, so that about one in three fires.

Without it most neurons of a deep network are silent at first, and what never fires is never trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simulator.graph import Node
from simulator.kinds import kind_of
from train.student import Student

BRANCH = 0.1
THRESHOLD = 0.4
LEAST = 1e-6  # standard deviation that is scaled by


class _Scaler:
    """Scales a student's layers while it evaluates a batch, in the place of two of its methods (`calibrate`)."""

    def __init__(self, student: Student):
        self.student = student
        self.spread: dict[str, float] = {}  # standard deviation of each node's output so far
        self.evaluate, self.fire = student.evaluate_node, student.fire

    def evaluate_node(self, node: Node, inputs: list[Tensor]) -> Tensor:
        y = self.evaluate(node, inputs)
        if node.kind == "conv":
            factor = self._wanted(node) / max(float(y.std()), LEAST)
            self.student.parameter(node, "weight").mul_(factor)
            y = self.evaluate(node, inputs)
        self.spread[node.name] = float(y.float().std())
        return y

    def fire_neurons(self, node: Node, current: Tensor) -> tuple[Tensor, Tensor]:
        if node.kind == "window":
            self.student.parameter(node, "threshold").fill_(1 / (THRESHOLD * max(float(current.std()), LEAST)))
        return self.fire(node, current)

    def _wanted(self, node: Node) -> float:
        """The standard deviation that the currents of a convolution shall have."""
        graph = self.student.graph
        readers = graph.consumers(node.name)
        if any(kind_of(reader).neurons for reader in readers):
            return 1.0
        if readers[0].kind == "upsample":
            readers = graph.consumers(readers[0].name)
        beside = [name for reader in readers for name in reader.inputs if name in self.spread]
        return BRANCH * self.spread[beside[0]] if beside else 1.0


@torch.no_grad()
def calibrate(student: Student, pixels: Tensor) -> None:
    """Scale a student's weights and gains, in place, by its own values on pixels [B, 3, H, W] ((u8 - 128) / 128).

    Neurons that fire step by step keep their thresholds.
    """
    scaler = _Scaler(student)
    student.evaluate_node, student.fire = scaler.evaluate_node, scaler.fire_neurons  # type: ignore[method-assign]
    try:
        student(pixels)
    finally:
        del student.evaluate_node, student.fire
    student.clamp()
