"""The frozen network in other spiking frameworks, for comparison: SpikingJelly, snnTorch, Norse, sinabs, plain PyTorch.

`train.student.Student` runs every layer but the neurons, which are the framework's own modules; convolutions see all
T steps as one batch, as each framework recommends. The neurons' biases move into the convolution before them where
nothing else reads it; elsewhere they are added to the current.

What the neurons compute, against v <- v - ((v >> k) or all but v >> k) + I + b; spike if v >= threshold; then reset:

    PyTorch        plain operations, with the floor of the shift: the reference's spikes
    SpikingJelly   LIFNode, multi-step. No floor. One leak per layer (its most frequent one). Thresholds are 1, so
                   weights or currents are divided by ours, which rounds
    sinabs         LIF over all steps. No floor
    Norse          LIFBoxCell, step by step. No floor. `>` becomes `>=` by taking half a unit from the threshold. A leak
                   of the kind "shift" is exact with k = 1 only
    snnTorch       Leaky, step by step. No floor. A reset to zero is ours; what it subtracts, it subtracts after the
                   leak of the next step: another equation at the same cost

Where no leak has anything to round off, those without a floor fire exactly as the reference does, which is tested;
elsewhere their pictures are a little off. All are dense: the cost does not depend on how many neurons fire.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from export.files import ExportError, check_attributes, no_form
from simulator.graph import Graph, Node
from simulator.kinds import KnownAttributes, kind_of
from simulator.structure import with_defaults
from train.student import Student

Tensors = Mapping[str, npt.NDArray[np.int32]]
Neurons = Callable[[Tensor], Tensor]  # currents [T, B, C, H, W] -> spikes, the same shape


def _module(framework: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        lacking = f" (it lacks {error.name})" if error.name and error.name.split(".")[0] != package else ""
        raise ExportError(
            f"{framework} is not installed{lacking}; `pip install 'spikerir-edge[bench]'` brings it."
        ) from error


class _Layer:
    """A layer's neurons in real numbers: threshold, bias [C, 1, 1], decay (what stays of v), k, and their kind."""

    def __init__(self, node: Node, own: Mapping[str, npt.NDArray[np.int32]], q: int, steps: int):
        def column(units: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(units.astype(np.float32))[:, None, None]

        self.unit, self.steps = 2.0**-q, steps
        self.subtract, self.decays = node["reset"] == "subtract", node["leak"] == "decay"
        self.threshold = column(own["threshold"] * self.unit)
        self.leak = own["leak"]
        part = 2.0 ** -self.leak.astype(np.float64)
        self.decay = column(1 - part if self.decays else part)
        self.shift = column(2.0 ** -self.leak.astype(np.float64))


class _Plain(nn.Module):
    """Plain PyTorch, with the floor of the leak: what torch.compile can fuse."""

    threshold: Tensor
    scaled: Tensor

    def __init__(self, layer: _Layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("threshold", layer.threshold)
        self.register_buffer("scaled", layer.shift / layer.unit)

    def forward(self, current: Tensor) -> Tensor:
        layer, spikes = self.layer, []
        v = current[0]
        for t in range(layer.steps):
            if t:
                shifted = torch.floor(v * self.scaled) * layer.unit
                v = (v - shifted if layer.decays else shifted) + current[t]
            fired = (v >= self.threshold).to(v.dtype)
            v = v - fired * self.threshold if layer.subtract else v * (1 - fired)
            spikes.append(fired)
        return torch.stack(spikes)


def _spikingjelly(layer: _Layer) -> Neurons:
    neuron = _module("SpikingJelly", "spikingjelly.activation_based.neuron")
    values, counts = np.unique(layer.decay.numpy(), return_counts=True)
    decay = min(max(float(values[counts.argmax()]), 0.0), 1 - 2.0**-20)
    node = neuron.LIFNode(
        tau=max(1 / (1 - decay), 1 + 2.0**-20), decay_input=False, v_threshold=1.0,
        v_reset=None if layer.subtract else 0.0, step_mode="m",
    )  # fmt: skip
    inverse = None if bool((layer.threshold == 1).all()) else 1 / layer.threshold

    def fire(current: Tensor) -> Tensor:
        node.reset()
        spikes: Tensor = node(current if inverse is None else current * inverse)
        return spikes

    return fire


def _sinabs(layer: _Layer) -> Neurons:
    layers, activation = _module("sinabs", "sinabs.layers"), _module("sinabs", "sinabs.activation")
    node = layers.LIF(
        tau_mem=torch.ones_like(layer.decay), spike_threshold=layer.threshold, spike_fn=activation.SingleSpike,
        reset_fn=activation.MembraneSubtract() if layer.subtract else activation.MembraneReset(), train_alphas=True,
        norm_input=False,
    )  # fmt: skip
    node.alpha_mem = nn.Parameter(layer.decay)  # exactly, not exp(-1 / tau)
    node.requires_grad_(False)

    def fire(current: Tensor) -> Tensor:
        node.reset_states()
        spikes: Tensor = node(current.transpose(0, 1))
        return spikes.transpose(0, 1)

    return fire


def _norse(layer: _Layer) -> Neurons:
    box = _module("Norse", "norse.torch.functional.lif_box")
    reset = _module("Norse", "norse.torch.functional.reset")
    module = _module("Norse", "norse.torch.module.lif_box")
    gain = 1 - layer.decay  # v' = decay v + gain I: v is held times the gain
    gain = torch.where(gain > 0, gain, torch.ones_like(gain))
    threshold = layer.threshold * gain

    def subtract(z: Tensor, v: Tensor, full: Tensor, th: Tensor) -> Tensor:
        # What is subtracted is the threshold itself, not the one that half a unit was taken from.
        result: Tensor = reset.reset_subtract(z, v, full, full)
        return result

    parameters = box.LIFBoxParameters(
        tau_mem_inv=gain, v_leak=torch.zeros_like(gain), v_th=threshold - 0.5 * layer.unit * gain,
        v_reset=threshold if layer.subtract else torch.zeros_like(gain),
        reset_method=subtract if layer.subtract else reset.reset_value,
    )  # fmt: skip
    cell = module.LIFBoxCell(parameters, dt=1.0)
    cell.requires_grad_(False)

    def fire(current: Tensor) -> Tensor:
        state, spikes = None, []
        for t in range(len(current)):
            fired, state = cell(current[t], state)
            spikes.append(fired)
        return torch.stack(spikes)

    return fire


def _snntorch(layer: _Layer) -> Neurons:
    snntorch = _module("snnTorch", "snntorch")

    def at_least(distance: Tensor) -> Tensor:
        return (distance >= 0).to(distance.dtype)

    node = snntorch.Leaky(
        beta=layer.decay, threshold=layer.threshold, spike_grad=at_least,
        reset_mechanism="subtract" if layer.subtract else "zero",
    )  # fmt: skip
    node.requires_grad_(False)

    def fire(current: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(current[0]), []
        for t in range(len(current)):
            fired, v = node(current[t], v)
            spikes.append(fired)
        return torch.stack(spikes)

    return fire


FRAMEWORKS: Mapping[str, Callable[[_Layer], Neurons]] = {
    "PyTorch": _Plain,
    "SpikingJelly": _spikingjelly,
    "snnTorch": _snntorch,
    "Norse": _norse,
    "sinabs": _sinabs,
}


KNOWN: KnownAttributes = {"lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract")}}  # beside the student's


class FrameworkNet(Student):
    """The network with a framework's neurons; inference only. ExportError if the framework is not installed.

    graph, tensors: as a bundle holds them. `restore` takes and gives what `Student.restore` does.
    """

    def __init__(self, graph: Graph, tensors: Tensors, framework: str):
        graph, tensors = fold_biases(graph, tensors)
        super().__init__(graph)
        self.thaw(tensors)
        self.rounded = True
        self._kept: dict[tuple[str, str], Tensor] = {}
        self._neurons: dict[str, Neurons] = {}
        self._biases: dict[str, Tensor] = {}
        for name in tensors:
            layer_name, _, part = name.rpartition(".")
            kept = super().tensor(graph.node(layer_name), part).detach()
            memory = torch.channels_last if kept.ndim == 4 else torch.contiguous_format
            self._kept[layer_name, part] = kept.contiguous(memory_format=memory)
        for node in graph.nodes:
            if kind_of(node).neurons:
                own: Tensors = {part: tensors[f"{node.name}.{part}"] for part in self.analysis.tensors[node.name]}
                if node.kind == "window":
                    node, own = without_leak(node, own)
                elif node.kind != "lif":
                    raise no_form(node.name, node.kind, "form in other frameworks")
                check_attributes(node, KNOWN, "form in other frameworks")
                layer = _Layer(node, own, self.analysis.values[node.inputs[0]].q, graph.time_steps)
                if framework == "SpikingJelly":
                    self._fold_threshold(node, layer)
                self._neurons[node.name] = FRAMEWORKS[framework](layer)
                if own["bias"].any():
                    self._biases[node.name] = self._kept[node.name, "bias"][:, None, None]
        self._no_count = torch.zeros(())

    def _fold_threshold(self, node: Node, layer: _Layer) -> None:
        """Thresholds of 1, by scaling the spiking convolution that only these neurons read."""
        source = self.graph.node(node.inputs[0])
        if source.kind != "conv" or len(self.graph.consumers(source.name)) != 1:
            return
        for part in ("weight", "bias") if source["bias"] else ("weight",):
            kept = self._kept[source.name, part]
            self._kept[source.name, part] = kept / (layer.threshold[..., None] if part == "weight" else (
                layer.threshold[:, 0, 0]
            ))  # fmt: skip
        layer.threshold = torch.ones_like(layer.threshold)

    def tensor(self, node: Node, part: str) -> Tensor:
        """A node's parameter, rounded to its grid once when the network was built."""
        kept = getattr(self, "_kept", {}).get((node.name, part))
        return super().tensor(node, part) if kept is None else kept

    def fire(self, node: Node, current: Tensor) -> tuple[Tensor, Tensor]:
        steps = self.graph.time_steps
        static = self.analysis.values[node.inputs[0]].static
        if node.kind == "window" and not static:
            current = current.unflatten(0, (steps, -1)).sum(0)
        if node.name in self._biases:
            current = current + self._biases[node.name]
        if node.kind == "window":  # its whole input at the first step, then nothing; its readers take the sum of spikes
            later = torch.zeros_like(current)[None].expand(steps - 1, *current.shape)
            return self._neurons[node.name](torch.cat([current[None], later])).sum(0), self._no_count
        if static:
            current = current[None].expand(steps, *current.shape)
        else:
            current = current.unflatten(0, (steps, -1))
        return self._neurons[node.name](current).flatten(0, 1), self._no_count


def without_leak(node: Node, own: Tensors) -> tuple[Node, Tensors]:
    """Window neurons as integrate-and-fire neurons that take in everything at the first step: (node, its tensors)."""
    return (
        with_defaults(replace(node, kind="lif", attrs={"leak": "shift", "reset": "subtract"})),
        {**own, "leak": np.zeros_like(own["bias"])},
    )


def fold_biases(graph: Graph, tensors: Tensors) -> tuple[Graph, dict[str, npt.NDArray[np.int32]]]:
    """The same network with the neurons' biases in the spiking convolution that only these neurons read."""
    changed, nodes = dict(tensors), {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        source = nodes[node.inputs[0]] if node.kind == "lif" else None
        if source is None or source.kind != "conv" or len(graph.consumers(source.name)) != 1:
            continue
        bias = changed[f"{node.name}.bias"]
        changed[f"{source.name}.bias"] = (changed.get(f"{source.name}.bias", 0) + bias).astype(np.int32)
        changed[f"{node.name}.bias"] = np.zeros_like(bias)
        nodes[source.name] = replace(source, attrs={**source.attrs, "bias": 1})
    return replace(graph, nodes=tuple(nodes.values())), changed
