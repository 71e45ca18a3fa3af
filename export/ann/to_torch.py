"""The equivalent ANN as a PyTorch module: uint8 [1, 3, H, W] in, the same out; channels_last in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.ann import INPUT_SCALE, ZERO_PIXEL, Ann, Op, unwritten


class TorchAnn(nn.Module):
    """Runs the ops in order; plain functions, so that `torch.compile` sees through it."""

    def __init__(self, ann: Ann):
        super().__init__()
        self.ann = ann
        for name, array in ann.weights.items():
            tensor = torch.from_numpy(array.copy())
            self.register_buffer(name.replace(".", "/"), _channels_last(tensor) if tensor.ndim == 4 else tensor)

    def forward(self, picture: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for op in self.ann.ops:
            if op.kind == "input":
                values[op.name] = _channels_last((picture.float() - ZERO_PIXEL) * INPUT_SCALE)
            elif op.kind == "output":
                change = torch.round(values[op.inputs[0]] * (1 / INPUT_SCALE))
                return (picture + change).clamp(0, 255).to(torch.uint8)
            else:
                values[op.name] = self._evaluate(op, [values[name] for name in op.inputs])
        raise AssertionError("an ANN ends with its output")

    def _evaluate(self, op: Op, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        n, c, height, width = x.shape
        if op.kind == "conv":
            key = op.name.replace(".", "/")
            weight, bias = self.get_buffer(f"{key}/weight"), self.get_buffer(f"{key}/bias")
            return F.conv2d(x, weight, bias, op["stride"], op["padding"], groups=op["groups"])
        if op.kind == "relu":
            return F.relu(x)
        if op.kind == "clip":
            return x.clamp(0, 1)
        if op.kind == "add":
            total = x
            for other in inputs[1:]:
                total = total + other
            return total
        if op.kind == "concat":
            return torch.cat(inputs, 1)
        if op.kind == "nearest":
            return F.interpolate(x, scale_factor=op["factor"], mode="nearest")
        if op.kind == "space_to_depth":
            f = op["factor"]
            y = x.reshape(n, c, height // f, f, width // f, f).permute(0, 3, 5, 1, 2, 4)
            return _channels_last(y.reshape(n, c * f**2, height // f, width // f))
        if op.kind == "depth_to_space":
            f = op["factor"]
            y = x.reshape(n, f, f, c // f**2, height, width).permute(0, 3, 4, 1, 5, 2)
            return y.reshape(n, c // f**2, height * f, width * f)
        if op.kind == "pool":
            w = op["window"]
            return F.avg_pool2d(F.pad(x, (0, -width % w, 0, -height % w)), w)
        if op.kind == "channel_mean":
            return x.mean(1, keepdim=True)
        if op.kind != "gate":
            raise unwritten(op.name, op.kind, "a PyTorch operation")
        gate = inputs[1]
        if op["factor"] > 1:
            gate = F.interpolate(gate, scale_factor=op["factor"], mode="nearest")[..., :height, :width]
        return x * gate


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
