"""Several processes, one training: `torchrun --nproc-per-node N -m train.hkd ...`.

Every process holds the whole student and takes its part of each batch; PyTorch's DistributedDataParallel averages the
gradients. The batch of a step is the same for any number of processes, so the loss curves agree but for the order of
summation. Process 0 decides when the run ends, validates, and writes the log and the checkpoint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class World:
    """rank: 0 .. size - 1, the number of this process. device: what this process computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module to call in training: its gradients are averaged over the processes."""
        if self.size == 1:
            return module
        return nn.parallel.DistributedDataParallel(module)

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch [B, ...]: [B / size, ...]."""
        return batch.chunk(self.size)[self.rank]

    def mean(self, values: Tensor) -> Tensor:
        """Values of any shape, averaged over the processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size

    def agree(self, progress: float, stop: bool) -> tuple[float, bool]:
        """Progress as process 0 sees it, and whether any process was told to stop."""
        if self.size == 1:
            return progress, stop
        flags = torch.tensor([progress if self.first else 0.0, float(stop)], dtype=torch.float64, device=self.device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return flags[0].item(), bool(flags[1])

    def leave(self) -> None:
        if self.size > 1:
            distributed.barrier()  # or one may pull down what another still talks through
            distributed.destroy_process_group()


def join(device: str) -> World:
    """This process's place among those that torchrun started; alone if it did not.

    device: "auto", "cpu" or "cuda". Raises ValueError, a sentence, if there is no CUDA device for this process.
    """
    local, size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    found = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "cuda" and local >= found:
        what = f"{found} CUDA devices for process {local + 1} on this machine" if found else "no CUDA device here"
        raise ValueError(f"There is {what}; use --device cpu or fewer processes.")
    chosen = torch.device("cuda", local) if local < found else torch.device("cpu")
    if size == 1:
        return World(0, 1, chosen)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size(), chosen)
