"""Keeps the channels of window neurons from falling silent for good while a network trains.

What never reaches half a threshold gets no gradient (`train/window.py`), so a channel that a large step has silenced
stays silent, and over thousands of steps more and more do. So after each step the bias of a channel that fires less
than FLOOR is raised a little: it comes back slowly, and stays if the loss has a use for it. (Homeostasis, as in
Diehl and Cook, 2015, there by the threshold.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from train.student import Student

FLOOR = 0.0025  # spikes per neuron and step: with T = 4 one in a hundred neurons fires once
RISE = 0.003  # thresholds per step


@torch.no_grad()
def keep_awake(student: Student, channel_rates: Mapping[str, Tensor], share: float) -> None:
    """Raise the biases of the channels that fire less than FLOOR by `share` of RISE, in place.

    channel_rates: [C], spikes per neuron and step in the last batch, by layer of window neurons.
    """
    for name, rates in channel_rates.items():
        node = student.graph.node(name)
        step = student.tensor(node, "threshold") * (RISE * share)
        student.parameter(node, "bias").add_(torch.where(rates < FLOOR, step, torch.zeros_like(step)))
