"""What a step of H-KD is trained on: patches, and the teacher's feature maps of them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from train.patches import PatchSampler
from train.processes import World


class Batches:
    """Batches with the teacher's feature maps, made one step ahead in a thread (PyTorch lets go of the interpreter)."""

    def __init__(self, sampler: PatchSampler, teacher: nn.Module | None, stages: tuple[int, ...], world: World):
        self.sampler, self.teacher, self.stages, self.world = sampler, teacher, stages, world
        self.pool = ThreadPoolExecutor(1)
        self.ahead: tuple[int, Future[Any]] | None = None
        self.bfloat16 = False

    def _make(self, step: int) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        parts = (self.world.part(patches) for patches in self.sampler.batch(step))
        degraded, clean = (part.to(self.world.device) for part in parts)
        if self.teacher is None:
            return degraded, clean, {}
        with torch.no_grad(), torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bfloat16):
            x = degraded.to(torch.float32, memory_format=torch.channels_last) / 255
            _, features = self.teacher.features(x, self.stages)  # type: ignore[operator]
        return degraded, clean, features

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """(degraded, clean) uint8 [B, 3, P, P] and {stage: teacher's feature map} of one step."""
        if self.ahead is None or self.ahead[0] != step:
            self.ahead = (step, self.pool.submit(self._make, step))
        batch: tuple[Tensor, Tensor, dict[int, Tensor]] = self.ahead[1].result()
        self.ahead = (step + 1, self.pool.submit(self._make, step + 1))
        return batch
