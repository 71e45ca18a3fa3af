"""The student built from SpikingJelly's modules and trainable, for comparison: as one would write it with that library.

    SpikingJellyStudent    the graph's layers as `layer.Conv2d`, `layer.Upsample`, ... in multi-step mode, and `Lif`
    Lif                    the student's neuron as a `SimpleBaseNode` of its torch backend

Importing this file needs SpikingJelly: `pip install 'spikerir-edge[bench]'`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from simulator.graph import WEIGHT_LIMIT, GraphError, Node
from train.neuron import surrogate_width
from train.student import LEAST_THRESHOLD, Student


class Lif(neuron.SimpleBaseNode):
    """v <- d v + I + b; s = [v >= threshold]; v <- v - threshold s. Currents [T, B, C, H, W] in, spikes out.

    Bias and threshold are trained per channel; d is fixed. The surrogate is a triangle with the threshold's width,
    and the reset is not differentiated through the spike, as in `train.neuron`.
    """

    v: Tensor

    def __init__(self, bias: Tensor, threshold: Tensor, decay: Tensor):
        triangle = surrogate.PiecewiseQuadratic(alpha=1.0)
        super().__init__(v_reset=None, surrogate_function=triangle, detach_reset=True, step_mode="m")
        self.v_threshold = nn.Parameter(threshold[:, None, None].clone())
        self.bias = nn.Parameter(bias[:, None, None].clone())
        self.register_buffer("decay", decay[:, None, None].clone())

    def neuronal_charge(self, x: Tensor) -> None:
        self.v = self.v * self.decay + x + self.bias

    def neuronal_fire(self) -> Tensor:
        # The surrogate's width is 1 in these units.
        spikes: Tensor = self.surrogate_function((self.v - self.v_threshold) / surrogate_width(self.v_threshold, 1.0))
        return spikes

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        # The library stacks the steps, which would take channels_last memory apart.
        spikes: Tensor = torch.cat([self.single_step_forward(x) for x in x_seq]).unflatten(0, (len(x_seq), -1))
        return spikes


class SpikingJellyStudent(nn.Module):
    """The network of a `Student` with its weights, node by node; pixels [B, 3, H, W] in, change [B, 3, H, W] out.

    own_neuron: the library's `LIFNode` in place of `Lif`. It has one threshold for all channels, which is not trained,
    and no bias, so what it trains is not the same network; its speed is the library's own.
    Raises GraphError for a node that the edge student does not have.
    """

    def __init__(self, student: Student, own_neuron: bool = False):
        super().__init__()
        self.graph, self.analysis = student.graph, student.analysis
        self.parts = nn.ModuleDict()
        self.limits = {
            f"{node.name.replace('.', '/')}/weight": WEIGHT_LIMIT * 2.0 ** -student.grid(node, "weight")
            for node in self.graph.nodes
            if node.kind in ("conv", "dense_conv")
        }
        for node in self.graph.nodes[1:]:
            module = self._module(node, student, own_neuron)
            if module is not None:
                self.parts[node.name.replace(".", "/")] = module

    def _module(self, node: Node, student: Student, own_neuron: bool) -> Any:
        """A module of the library's, None where plain operations do."""
        if node.kind == "lif":
            bias, threshold, leak = (student.tensor(node, part).detach() for part in ("bias", "threshold", "leak"))
            if node["leak"] != "decay" or node["reset"] != "subtract":
                raise GraphError(f"layer {node.name!r}: only neurons with decay and subtraction are built here")
            if own_neuron:
                return neuron.LIFNode(
                    2.0 ** float(leak[0]), False, float(threshold[0]), None, detach_reset=True, step_mode="m",
                    surrogate_function=surrogate.PiecewiseQuadratic(alpha=1 / float(threshold[0])),
                )  # fmt: skip
            return Lif(bias, threshold, 1 - torch.exp2(-leak))
        if node.kind in ("conv", "dense_conv"):
            value = self.analysis.values[node.inputs[0]]
            weight = student.tensor(node, "weight").detach()
            steps = "s" if value.static or node.kind == "dense_conv" else "m"
            conv = layer.Conv2d(
                value.channels, len(weight), node["kernel"], node["stride"], node["padding"], groups=node["groups"],
                bias=bool(node["bias"]), step_mode=steps,
            )  # fmt: skip
            conv.weight = nn.Parameter(weight.clone())
            if node["bias"]:
                conv.bias = nn.Parameter(student.tensor(node, "bias").detach().clone())
            return conv
        if node.kind == "upsample" and node["mode"] == "nearest":
            return layer.Upsample(scale_factor=node["factor"], mode="nearest", step_mode="m")
        return None

    def forward(self, pixels: Tensor) -> Tensor:
        functional.reset_net(self)
        steps = self.graph.time_steps
        values: dict[str, Tensor] = {self.graph.nodes[0].name: pixels}
        x = pixels
        for node in self.graph.nodes[1:]:
            inputs = [values[name] for name in node.inputs]
            name = node.name.replace(".", "/")
            if name in self.parts:
                x = self.parts[name](inputs[0])
            else:
                x = self._plain(node, inputs)
            if node.name == "encode.round":
                x = x.unsqueeze(0).expand(steps, *x.shape)  # direct encoding: the same at each step
            values[node.name] = x
        return x

    def _plain(self, node: Node, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        if node.kind == "space_to_depth":
            return F.pixel_unshuffle(x, node["factor"])
        if node.kind == "upsample":
            return F.pixel_shuffle(x, node["factor"])
        if node.kind == "requantise":
            scale = 2.0 ** -self.analysis.values[node.name].q
            return x.clamp(node["lo"] * scale, node["hi"] * scale)
        if node.kind == "sum":
            return sum(inputs[1:], x)
        if node.kind == "time_sum":
            return x.sum(0)
        if node.kind == "readout":
            return x
        raise GraphError(f"layer {node.name!r}: a {node.kind} is not built from SpikingJelly's modules here")

    @torch.no_grad()
    def clamp(self) -> None:
        """What `Student.clamp` does, for thresholds and weights."""
        for name, parameter in self.trained().items():
            if name.endswith("threshold"):
                parameter.clamp_(min=LEAST_THRESHOLD)
            elif name in self.limits:
                parameter.clamp_(-self.limits[name], self.limits[name])

    def trained(self) -> dict[str, nn.Parameter]:
        """{"<node>/<part>": parameter} under the names of `Student.weights`."""
        names = {"v_threshold": "threshold"}
        return {
            f"{name}/{names.get(part, part)}": parameter
            for name, module in self.parts.items()
            for part, parameter in module.named_parameters()
        }
