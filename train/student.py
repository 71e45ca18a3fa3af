"""The spiking student in PyTorch, built node by node from a `simulator.graph.Graph`.

Its forward pass is the numerics contract in real numbers: integer k on grid q stands for k * 2^-q, and scaling by a
power of two is exact in floating point. With `rounded = True` weights, biases, thresholds, leaks and requantise round
as the deployed network does (gradients pass straight through) and evaluation equals the integer backends to the bit;
with `rounded = False` the same network runs without the roundings, in bfloat16 if asked.

Shapes: B images, T steps; values are [T * B, C, H, W] with time outermost, or [B, C, H, W] where static; memory
format channels_last. Spikes of window neurons are held as their number in the window, [B, C, H, W], 0 to T.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simulator.analysis import Analysis, analyse
from simulator.graph import IMAGE_GRID, Graph, GraphError, Node
from simulator.kinds import KnownAttributes, kind_of, unknown_attribute
from simulator.kinds.attend import SPACE_KERNEL, attend_cap, attend_pool_shift
from train.neuron import lif
from train.window import window

LEAST_THRESHOLD = 2**-6
MOST_THRESHOLD = 2**5  # of window neurons: with a gain near zero nothing would be learnt any more
INITIAL_RATE = 0.5  # spike rate at which untrained spiking convolutions would make currents of about 1


def _through(rounded: Tensor, x: Tensor) -> Tensor:
    """`rounded` forward, gradient of x backward."""
    return x + (rounded - x).detach()


def _to_grid(x: Tensor, q: int) -> Tensor:
    """Nearest multiple of 2^-q, halves up, straight-through."""
    return _through(torch.floor(x * 2.0**q + 0.5) * 2.0**-q, x)


class _TimeSum(torch.autograd.Function):
    """Sum over time, [T * B, C, H, W] -> float32 [B, C, H, W]. Its gradient stays in channels_last memory.

    Autograd's own would be a broadcast view, which every later addition to it would have to take apart.
    """

    @staticmethod
    def forward(ctx, x, steps):  # type: ignore[no-untyped-def]
        ctx.steps, ctx.dtype = steps, x.dtype
        return x.unflatten(0, (steps, -1)).sum(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return torch.cat([grad.to(ctx.dtype, memory_format=torch.channels_last)] * ctx.steps), None


class _Requantise(torch.autograd.Function):
    """clip(x rounded to 2^-q, lo, hi), with q None: clip(x, lo, hi). The gradient is that of the clip.

    One byte per number is kept for the backward pass; `clamp` keeps the number and walks over it five times.
    """

    @staticmethod
    def forward(ctx, x, q, lo, hi):  # type: ignore[no-untyped-def]
        rounded = x if q is None else (x * 2.0**q).add_(0.5).floor_().mul_(2.0**-q)
        y = rounded.clamp(lo, hi)
        ctx.save_for_backward(y == rounded)
        return y

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        return grad * ctx.saved_tensors[0], None, None, None


@dataclass(frozen=True)
class Output:
    """change: what is added to the picture, real value on the input's scale (1 = 128 grey levels), [B, 3, H, W].

    rates: spike rate (0..1, differentiable) of each layer of neurons. channel_rates: of each channel, [C], of window
    neurons. features: the streams asked for, mean over time.
    """

    change: Tensor
    rates: dict[str, Tensor]
    channel_rates: dict[str, Tensor]
    features: dict[int, Tensor]


class Student(nn.Module):
    """Trainable parameters for every tensor of the graph, as real numbers.

    rounded: whether the contract's roundings are on. bfloat16_currents: whether currents are bfloat16 where that is
    allowed. width: of the surrogate of neurons that fire step by step. soft: how far window neurons give real numbers
    of spikes in place of whole ones, 0 (not at all) to 1.
    """

    def __init__(self, graph: Graph, leak: int = 2, threshold: float = 0.5, seed: int = 0):
        super().__init__()
        check_kinds(graph)
        self.graph = graph
        self.analysis: Analysis = analyse(graph)
        self.rounded = False
        self.bfloat16_currents = False
        self.width = 1.0
        self.soft = 0.0
        self._key = {name: name.replace(".", "/") for name in self.analysis.shapes}
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterDict()
        for node in graph.nodes:
            for part, shape in self._shapes(node).items():
                key = self._key[f"{node.name}.{part}"]
                initial = _initial(node, part, shape, generator, leak, threshold)
                if part == "leak":
                    self.register_buffer("leak/" + node.name.replace(".", "/"), initial)
                else:
                    self.weights[key] = nn.Parameter(1 / initial if self._as_gain(node, part) else initial)
        self.clamp()

    @property
    def deployed_parameters(self) -> int:
        """Number of elements of all tensors that the deployed network needs."""
        return self.analysis.parameters

    def _shapes(self, node: Node) -> dict[str, tuple[int, ...]]:
        return {part: spec.shape for part, spec in self.analysis.tensors[node.name].items()}

    def _as_gain(self, node: Node, part: str) -> bool:
        """Whether what is trained is the inverse: of window neurons, the gain in place of the threshold."""
        return node.kind == "window" and part == "threshold"

    def parameter(self, node: Node, part: str) -> Tensor:
        """What is trained of one of a node's tensors: the real numbers themselves, or their inverse (`_as_gain`)."""
        x: Tensor = self.weights[self._key[f"{node.name}.{part}"]]
        return x

    def tensor(self, node: Node, part: str) -> Tensor:
        """A node's parameter as the forward pass uses it: rounded to its grid if `rounded`."""
        if part == "leak":
            return self.get_buffer("leak/" + node.name.replace(".", "/"))
        x = self.parameter(node, part)
        q = self.grid(node, part)
        if self._as_gain(node, part):
            return _to_grid(1 / x, q).clamp_min(2.0**-q) if self.rounded else 1 / x
        return _to_grid(x, q) if self.rounded else x

    def grid(self, node: Node, part: str) -> int:
        """q of one of a node's tensors."""
        return self.analysis.tensors[node.name][part].q

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep every parameter where the contract can hold it; called after each optimiser step."""
        for node in self.graph.nodes:
            for part in self._shapes(node):
                if part == "leak":
                    continue
                x = self.parameter(node, part)
                if self._as_gain(node, part):
                    x.clamp_(1 / MOST_THRESHOLD, 1 / LEAST_THRESHOLD)
                elif part == "threshold":
                    x.clamp_(min=LEAST_THRESHOLD)
                elif "bias" not in part:
                    spec = self.analysis.tensors[node.name][part]
                    limit = spec.limit * 2.0**-spec.q
                    x.clamp_(-limit, limit)

    def forward(self, pixels: Tensor, stages: tuple[int, ...] = ()) -> Output:
        """pixels [B, 3, H, W] float32, (u8 - 128) / 128, H and W multiples of the stride."""
        steps = self.graph.time_steps
        wanted = {self.graph.stages[stage]: stage for stage in stages}
        last_use = {name: i for i, node in enumerate(self.graph.nodes) for name in node.inputs}
        values: dict[str, Tensor] = {"image": pixels.contiguous(memory_format=torch.channels_last)}
        values[self.graph.nodes[0].name] = values["image"]
        rates: dict[str, Tensor] = {}
        channel_rates: dict[str, Tensor] = {}
        features: dict[int, Tensor] = {}
        for i, node in enumerate(self.graph.nodes[1:], 1):
            inputs = [values[name] for name in node.inputs]
            if node.kind == "readout":
                return Output(inputs[0].float(), rates, channel_rates, features)
            if kind_of(node).neurons:
                values[node.name], count = self.fire(node, inputs[0])
                of = values[node.name].numel() * self._held(node.name)
                rates[node.name] = count.sum() / of
                if count.ndim:
                    channel_rates[node.name] = count * (len(count) / of)
            else:
                values[node.name] = self.evaluate_node(node, inputs)
            if node.name in wanted:
                value = values[node.name]
                once = self._once(node.name)
                features[wanted[node.name]] = value if once else value.unflatten(0, (steps, -1)).float().mean(0)
            for name in node.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
        raise AssertionError("a checked graph ends with a readout")

    def _once(self, name: str) -> bool:
        """Whether a value is held as [B, C, H, W]: it is static, or spikes of window neurons."""
        return self.analysis.values[name].static or self.analysis.values[name].window

    def _held(self, name: str) -> int:
        """How many steps one number of a value of spikes stands for."""
        return self.graph.time_steps if self.analysis.values[name].window else 1

    def fire(self, node: Node, current: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes of a layer of neurons, and their number, 0-d, or of window neurons for each channel, [C]."""
        source = self.analysis.values[node.inputs[0]]
        if node.kind == "window":
            if not source.static:
                current = _TimeSum.apply(current, self.graph.time_steps)
            return window(
                current.to(torch.bfloat16) if self.bfloat16_currents else current,
                self.tensor(node, "bias"),
                self.parameter(node, "threshold"),
                self.tensor(node, "threshold"),
                steps=self.graph.time_steps,
                soft=self.soft,
            )
        grid = source.q + node["fine"] if self.rounded else None
        threshold = self.tensor(node, "threshold")
        if node["above"] and grid is not None:
            threshold = threshold + 2.0**-grid
        return lif(
            current.to(torch.bfloat16) if self.bfloat16_currents else current,
            self.tensor(node, "bias"),
            threshold.expand(source.channels),
            self.tensor(node, "leak").expand(source.channels),
            steps=self.graph.time_steps,
            static=source.static,
            grid=grid,
            subtract=node["reset"] == "subtract",
            decay=node["leak"] == "decay",
            width=self.width,
        )

    def evaluate_node(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """Any node but image, lif and readout."""
        return _FORMS[node.kind](self, node, inputs)

    def _space_to_depth(self, node: Node, inputs: list[Tensor]) -> Tensor:
        return F.pixel_unshuffle(inputs[0], node["factor"])

    def _convolve(self, node: Node, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        weight = self.tensor(node, "weight").contiguous(memory_format=torch.channels_last)
        bias = self.tensor(node, "bias") if node["bias"] else None
        if node.kind == "conv" and self.bfloat16_currents:
            weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        else:
            x = x.float()
        dilation = node["dilation"] if node.kind == "conv" else 1
        return F.conv2d(x, weight, bias, node["stride"], node["padding"], dilation, node["groups"])

    def _requantise(self, node: Node, inputs: list[Tensor]) -> Tensor:
        q = self.analysis.values[node.name].q
        # Without a shift x is on its grid already, and adding a half to 24 bits would itself round.
        grid = q if self.rounded and node["shift"] else None
        clipped: Tensor = _Requantise.apply(inputs[0].float(), grid, node["lo"] * 2.0**-q, node["hi"] * 2.0**-q)
        return clipped

    def _upsample(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node["mode"] == "depth_to_space":
            return F.pixel_shuffle(inputs[0], node["factor"])
        return F.interpolate(inputs[0], scale_factor=node["factor"], mode="nearest")

    def _time_sum(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if self.analysis.values[node.inputs[0]].static:
            return inputs[0].float() * self.graph.time_steps
        total: Tensor = _TimeSum.apply(inputs[0], self.graph.time_steps)
        return total

    def _combine(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """Sum or concatenation; static inputs are presented at every step."""
        steps = self.graph.time_steps
        static = [self._once(name) for name in node.inputs]
        if self.bfloat16_currents and not all(static):
            inputs = [x.to(torch.bfloat16) for x in inputs]
        if all(static) or not any(static):
            return torch.cat(inputs, 1) if node.kind == "concat" else _add(inputs)
        apart = [x[None] if s else x.unflatten(0, (steps, -1)) for x, s in zip(inputs, static, strict=True)]
        if node.kind == "sum":
            return _add(apart).flatten(0, 1)
        whole = [x.expand(steps, *x.shape[1:]) for x in apart]
        return torch.cat(whole, 2).flatten(0, 1)

    def _attend(self, node: Node, inputs: list[Tensor]) -> Tensor:
        """`simulator.kinds.attend.attend` in real numbers."""
        x = inputs[0].float()
        value, steps = self.analysis.values[node.inputs[0]], self.graph.time_steps
        pool_q, gate_q, over, window = node["pool_q"], node["gate_q"], node["over"], node["window"]
        cap = attend_cap(node) * 2.0**-pool_q
        scale = 2.0 ** (value.q - pool_q - attend_pool_shift(node, value, steps))  # 1 / what the sum is divided by
        if over == "time" and value.static:
            x = x.repeat(steps, 1, 1, 1)
        apart = x.unflatten(0, (1 if value.static and over != "time" else steps, -1))  # [T, B, C, H, W]

        def means(total: Tensor) -> Tensor:
            mean = total * scale
            return (_to_grid(mean, pool_q) if self.rounded else mean).clamp(-cap, cap)

        if over == "space":
            mean = means(apart.sum(2, keepdim=True).flatten(0, 1))
            weight = self.tensor(node, "weight")[None, None]
            gate = F.conv2d(mean, weight, self.tensor(node, "bias"), padding=SPACE_KERNEL // 2)
        else:
            if over == "channel":
                total = apart.sum(0) * (steps if value.static else 1)
            else:
                total = apart.sum(2).transpose(0, 1)  # [B, T, H, W]
            height, width = total.shape[-2:]
            if max(height, width) <= window:  # the usual training patch
                mean = means(total.sum((-2, -1), keepdim=True))
            else:
                pad = (0, -width % window, 0, -height % window)
                mean = means(F.avg_pool2d(F.pad(total, pad), window) * float(window**2))
            hidden = F.conv2d(mean, self.tensor(node, "squeeze")[:, :, None, None], self.tensor(node, "squeeze_bias"))
            hidden = (_to_grid(hidden, pool_q) if self.rounded else hidden).clamp(0, cap)
            gate = F.conv2d(hidden, self.tensor(node, "excite")[:, :, None, None], self.tensor(node, "excite_bias"))
        gate = (gate + 2) / 4
        gate = (_to_grid(gate, gate_q) if self.rounded else gate).clamp(0, 1)
        if over != "space":
            if max(x.shape[-2:]) > window:
                gate = F.interpolate(gate, scale_factor=window, mode="nearest")[..., : x.shape[-2], : x.shape[-1]]
            gate = gate[None] if over == "channel" else gate.transpose(0, 1)[:, :, None]
            y = (apart * gate).flatten(0, 1)
        else:
            y = x * gate
        return _to_grid(y, value.q) if self.rounded else y

    def restore(self, pixels: Tensor) -> Tensor:
        """Restored pictures, uint8 [B, 3, H, W]; `pixels` as for `forward`. Equals the device if `rounded`."""
        change = torch.floor(self(pixels).change * 2.0**IMAGE_GRID + 0.5)
        return (pixels * 2.0**IMAGE_GRID + 128 + change).clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def freeze(self) -> dict[str, npt.NDArray[np.int32]]:
        """All tensors as int32 units of their grids, named `<node>.<tensor>`: what the bundle stores.

        GraphError if a number does not fit int32.
        """
        frozen: dict[str, npt.NDArray[np.int32]] = {}
        for node in self.graph.nodes:
            for part in self._shapes(node):
                x = self.tensor(node, part).double()
                units = x if part == "leak" else torch.floor(x * 2.0 ** self.grid(node, part) + 0.5)
                if part == "threshold":
                    units = units.clamp_min(1)
                if not (units.abs() < 2**31).all():
                    largest = float(x.abs().max())
                    raise GraphError(f"layer {node.name!r}: {part} of {largest:g} does not fit int32 on its grid")
                frozen[f"{node.name}.{part}"] = units.cpu().numpy().astype(np.int32)
        return frozen

    @torch.no_grad()
    def thaw(self, tensors: Mapping[str, npt.NDArray[np.int32]]) -> None:
        """The inverse of `freeze`: take the integer tensors of a bundle."""
        for node in self.graph.nodes:
            for part in self._shapes(node):
                units = torch.from_numpy(tensors[f"{node.name}.{part}"].astype(np.float64))
                if part == "leak":
                    self.tensor(node, part).copy_(units)
                else:
                    x = units * 2.0 ** -self.grid(node, part)
                    self.parameter(node, part).copy_(1 / x if self._as_gain(node, part) else x)


_KNOWN: KnownAttributes = {
    "conv": {"dilation": (), "limit": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},
}

# What computes a node, by its kind; a picture enters, fires and leaves in `Student.forward`.
_FORMS: dict[str, Callable[[Student, Node, list[Tensor]], Tensor]] = {
    "space_to_depth": Student._space_to_depth,
    "conv": Student._convolve,
    "dense_conv": Student._convolve,
    "requantise": Student._requantise,
    "sum": Student._combine,
    "concat": Student._combine,
    "upsample": Student._upsample,
    "attend": Student._attend,
    "time_sum": Student._time_sum,
}
_IN_FORWARD = ("image", "lif", "window", "readout")


def check_kinds(graph: Graph) -> None:
    """Raise GraphError if the student has no PyTorch form of one of the graph's nodes, or of an attribute of one."""
    for node in graph.nodes:
        if node.kind not in _FORMS and node.kind not in _IN_FORWARD:
            raise GraphError(f"layer {node.name!r} is of the kind {node.kind!r}, which has no form in the student yet")
        unknown = unknown_attribute(node, _KNOWN)
        if unknown:
            raise GraphError(f"layer {node.name!r} ({node.kind}) has {unknown}, which has no form in the student yet")


class EquivalentAnn(Student):
    """The same layers as an ANN: ReLU in place of the neurons (their bias stays), one pass. The graph must have T = 1.

    The upper mark for a spiking student that is trained the same way. It cannot be exported.
    """

    def __init__(self, graph: Graph, seed: int = 0):
        super().__init__(graph, seed=seed)
        if graph.time_steps != 1:
            raise GraphError(f"the equivalent ANN computes one pass, not T = {graph.time_steps} steps")
        for key, weight in self.weights.items():
            weight.requires_grad_(not key.endswith("threshold"))

    @property
    def deployed_parameters(self) -> int:
        """Weights and biases; an ANN needs no thresholds and no leaks."""
        return ann_parameters(self.analysis)

    def fire(self, node: Node, current: Tensor) -> tuple[Tensor, Tensor]:
        """max(current + bias, 0), and how many are above zero (not differentiable)."""
        bias = self.tensor(node, "bias")[:, None, None]
        active = F.relu(current + bias.to(current.dtype))
        return active, (active > 0).sum().float()


def on_cpu(student: Student) -> Student:
    """The student if it is on the CPU, else a copy there, where PyTorch is known to equal the device."""
    return student if next(student.parameters()).device.type == "cpu" else copy.deepcopy(student).cpu()


def restore_image(student: Student, image: np.ndarray) -> np.ndarray:
    """Restore one image [H, W, 3] (uint8, or int16 in the same units, unclipped) in float32; uint8 [H, W, 3].

    The student must be on the CPU (`on_cpu`). Replicate-padded right and bottom to its stride, as the device does.
    """
    height, width = image.shape[:2]
    rows, columns = student.analysis.padded(height, width)
    padded = np.pad(image, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    pixels = torch.from_numpy(padded.transpose(2, 0, 1).astype(np.float32))[None]
    fast, student.bfloat16_currents = student.bfloat16_currents, False
    with torch.no_grad():
        restored = student.restore((pixels - 128) * 2.0**-IMAGE_GRID)[0]
    student.bfloat16_currents = fast
    return np.ascontiguousarray(restored.permute(1, 2, 0).numpy()[:height, :width])


def ann_parameters(analysis: Analysis) -> int:
    """Weights and biases of the equivalent ANN of a spiking network: all of its tensors but thresholds and leaks."""
    spiking = (".threshold", ".leak")
    return sum(math.prod(shape) for name, shape in analysis.shapes.items() if not name.endswith(spiking))


def _add(inputs: list[Tensor]) -> Tensor:
    total = inputs[0]
    for x in inputs[1:]:
        total = total + x
    return total


def _initial(
    node: Node, part: str, shape: tuple[int, ...], generator: torch.Generator, leak: int, threshold: float
) -> Tensor:
    """Starting values: currents of about one threshold; small ends of residual branches; gates half open."""
    if part == "leak":
        return torch.full(shape, float(leak))
    if part == "threshold":
        return torch.full(shape, threshold)
    if "bias" in part:
        return torch.zeros(shape)
    fan_in = math.prod(shape[1:])
    std = math.sqrt(1 / (fan_in * INITIAL_RATE)) if node.kind == "conv" else math.sqrt(2 / fan_in)
    if node.name.endswith("conv2"):
        std *= 0.5
    elif node.name.startswith("readout."):
        std *= 0.02  # an untrained network changes nothing
    return torch.randn(shape, generator=generator) * std
