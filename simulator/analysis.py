"""The one analysis of a graph: shapes, grids, bounds, accumulator widths, halo, memory and operation counts.

Engine, exporters, the C core's plan, inspect and statistics all read this and nothing else, so that a rule of the
numerics contract stands in one place. Bounds are exact integers per channel, computed from the frozen tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from simulator.graph import (
    IMAGE_GRID,
    INPUT_CHANNELS,
    MAX_ALIGN,
    MAX_CHANNELS,
    MAX_SCALE,
    MAX_VALUE_GRID,
    WEIGHT_LIMIT,
    Graph,
    GraphError,
    Node,
    check_structure,
)

Integers = npt.NDArray[np.int64]
Tensors = Mapping[str, npt.NDArray[np.int32]]

INT16_LIMIT = 2**15 - 1
FLOAT_LIMIT = 2**24  # below it float32 holds every integer of the grid
INT32_LIMIT = 2**31 - 1
BEYOND = 2**40  # bounds that are refused anyway are held here, so that int64 never overflows
PIXEL_RANGE = (-128, 127)
GREY_LEVELS = 1023  # no picture has more, unclipped noise included; the readout adds to it
SPACE_KERNEL = 3  # the attend node's convolution over space


@dataclass(frozen=True)
class Value:
    """What is known of one node's output before any image is seen.

    Values lie in `lo[c] <= k <= hi[c]` (int64 [C]) on grid q; `scale` is the stride relative to the image.
    `lo` and `hi` are empty where the analysis ran without tensors.
    """

    channels: int
    scale: int
    static: bool
    spikes: bool
    q: int
    lo: Integers
    hi: Integers

    @property
    def magnitude(self) -> int:
        return int(max(self.hi.max(initial=0), -self.lo.min(initial=0)))


@dataclass(frozen=True)
class Analysis:
    """Everything derived from a graph (and its tensors).

    values      output of each node
    bounds      largest magnitude any intermediate of the node can reach, in units of its finest grid; 0 without tensors
    channel     the channel at which that bound is reached
    stride      the image is padded to a multiple of this (deepest scale)
    align       tile origins are multiples of this (strides and attention windows)
    halo        pixels of real image around a tile that make its result equal to the whole image's; multiple of align
    parameters  number of elements of all tensors the deployed network needs
    """

    graph: Graph
    values: Mapping[str, Value]
    bounds: Mapping[str, int]
    channel: Mapping[str, int]
    stride: int
    align: int
    halo: int
    parameters: int
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def width(self, name: str) -> str:
        """Narrowest accumulator that the bound proves safe: "int16" or "int32"."""
        return "int16" if self.bounds[name] <= INT16_LIMIT else "int32"

    def float_exact(self, name: str) -> bool:
        """Whether float32 backends compute this node exactly."""
        return self.bounds[name] < FLOAT_LIMIT

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Image size after replicate padding right and bottom."""
        return -(-height // self.stride) * self.stride, -(-width // self.stride) * self.stride

    def bytes_per_pixel(self) -> float:
        """Bytes of working memory per image pixel if each value is held as int32 (spikes: int8) while it is needed."""
        last_use = {name: i for i, node in enumerate(self.graph.nodes) for name in node.inputs}
        live: dict[str, float] = {}
        peak = 0.0
        for i, node in enumerate(self.graph.nodes):
            value = self.values[node.name]
            steps = 1 if value.static else self.graph.time_steps
            live[node.name] = value.channels * steps * (1 if value.spikes else 4) / value.scale**2
            peak = max(peak, sum(live.values()))
            live = {name: size for name, size in live.items() if last_use.get(name, i) > i}
        return peak


def tensor_shapes(node: Node, channels: int, time_steps: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the integer tensors that a node with `channels` input channels owns."""
    if node.kind in ("conv", "dense_conv"):
        kernel = node["kernel"]
        shapes: dict[str, tuple[int, ...]] = {"weight": (node["channels"], channels // node["groups"], kernel, kernel)}
        if node["bias"]:
            shapes["bias"] = (node["channels"],)
        return shapes
    if node.kind == "lif":
        return {"threshold": (channels,), "bias": (channels,), "leak": (channels,)}
    if node.kind == "attend":
        if node["over"] == "space":
            return {"weight": (SPACE_KERNEL, SPACE_KERNEL), "bias": (1,)}
        size, hidden = (time_steps if node["over"] == "time" else channels), node["hidden"]
        return {
            "squeeze": (hidden, size),
            "squeeze_bias": (hidden,),
            "excite": (size, hidden),
            "excite_bias": (size,),
        }
    return {}


def weight_tensors(node: Node) -> tuple[str, ...]:
    """Which of a node's tensors are weights (float16 in the file, |k| <= 2048); the others are int32."""
    if node.kind in ("conv", "dense_conv"):
        return ("weight",)
    if node.kind == "attend":
        return ("weight",) if node["over"] == "space" else ("squeeze", "excite")
    return ()


def _next_power(n: int) -> int:
    return 1 << (n - 1).bit_length()


def attend_pool_shift(node: Node, value: Value, time_steps: int) -> int:
    """Right shift that turns an attend node's pooled sum into a mean on grid `pool_q`.

    The sum is divided by the full window area (also at borders), times T ("channel") or the channels rounded up to a
    power of two ("time", "space"); what that rounding leaves is the weights' to absorb.
    """
    area = {
        "channel": node["window"] ** 2 * time_steps,
        "time": node["window"] ** 2 * _next_power(value.channels),
        "space": _next_power(value.channels),
    }[node["over"]]
    return int(value.q + area.bit_length() - 1 - node["pool_q"])


def analyse(graph: Graph, tensors: Tensors | None = None, pixels: tuple[int, int] = PIXEL_RANGE) -> Analysis:
    """Check every rule of the contract and return what follows from the graph; `GraphError` names the fault.

    Without `tensors` only structure, shapes, grids, halo and parameter count are computed. `pixels`: the least and
    largest value of the image node, grey level - 128; only evaluation with unclipped noise needs another than u8's.
    """
    check_structure(graph)
    values: dict[str, Value] = {}
    bounds: dict[str, int] = {}
    worst: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        _check_inputs(node, inputs, graph.time_steps)
        own: dict[str, Integers] = {}
        for key, shape in tensor_shapes(node, inputs[0].channels if inputs else 0, graph.time_steps).items():
            shapes[f"{node.name}.{key}"] = shape
            if tensors is not None:
                own[key] = _checked_tensor(node, key, shape, tensors)
        if tensors is None:
            values[node.name] = _shape_rule(node, inputs, graph.time_steps)
            bounds[node.name] = worst[node.name] = 0
            continue
        if node.kind == "image":
            value = _shape_rule(node, inputs, graph.time_steps)
            lo, hi = (np.full(value.channels, edge, np.int64) for edge in pixels)
            value, bound = _value(value, lo, hi), np.maximum(np.abs(lo), np.abs(hi))
        else:
            value, bound = _bound_rule(node, inputs, own, graph.time_steps)
        values[node.name] = value
        worst[node.name] = int(np.argmax(bound))
        bounds[node.name] = int(bound.max())
        if bounds[node.name] > INT32_LIMIT:
            raise GraphError(
                f"layer {node.name!r}, channel {worst[node.name]}: a value can reach {bounds[node.name]}, "
                f"which does not fit int32 (2^31 - 1); use a coarser grid or add a requantise before it"
            )
    if tensors is not None and set(tensors) != set(shapes):
        extra, missing = sorted(set(tensors) - set(shapes)), sorted(set(shapes) - set(tensors))
        raise GraphError(f"the graph and its tensors differ: missing {missing[:3]}, not used {extra[:3]}")
    stride = math.lcm(*(v.scale for v in values.values()))
    windows = [values[n.inputs[0]].scale * n["window"] for n in graph.nodes if n.kind == "attend"]
    align = math.lcm(stride, *windows)
    if align > MAX_ALIGN:
        raise GraphError(f"tiles would be multiples of {align} pixels; at most {MAX_ALIGN} is supported")
    return Analysis(
        graph,
        values,
        bounds,
        worst,
        stride,
        align,
        _halo(graph, values, align),
        sum(math.prod(s) for s in shapes.values()),
        shapes,
    )


def _checked_tensor(node: Node, key: str, shape: tuple[int, ...], tensors: Tensors) -> Integers:
    name = f"{node.name}.{key}"
    if name not in tensors:
        raise GraphError(f"layer {node.name!r}: its tensor {name!r} is missing")
    array = tensors[name]
    if array.shape != shape or array.dtype != np.int32:
        raise GraphError(f"layer {node.name!r}: {key} is {array.dtype} {array.shape}; expected int32 {shape}")
    wide = array.astype(np.int64)
    if key in weight_tensors(node) and (np.abs(wide) > WEIGHT_LIMIT).any():
        largest = np.unravel_index(int(np.abs(wide).argmax()), shape)
        raise GraphError(
            f"layer {node.name!r}, channel {largest[0]}: {key} holds {wide[largest]} units; "
            f"at most {WEIGHT_LIMIT} fit float16"
        )
    if key == "threshold" and (wide < 1).any():
        raise GraphError(f"layer {node.name!r}, channel {int(np.argmin(wide))}: threshold {wide.min()} is below 1")
    if key == "leak" and ((wide < 0) | (wide > 15)).any():
        raise GraphError(f"layer {node.name!r}: a leak shift of {wide.min()} to {wide.max()}; 0 to 15 is supported")
    return wide


def _check_inputs(node: Node, inputs: list[Value], time_steps: int) -> None:
    def refuse(text: str) -> None:
        raise GraphError(f"layer {node.name!r} ({node.kind}): {text}")

    spiking = [v.spikes for v in inputs]
    if node.kind == "conv":
        if not spiking[0]:
            refuse("its input is not spikes; a dense_conv takes real values")
    elif node.kind == "concat" or (node.kind == "upsample" and node["mode"] == "nearest"):
        if len(set(spiking)) > 1:
            refuse("spikes and real values cannot be concatenated")
    elif any(spiking):
        refuse("its input is spikes; real values were expected")
    if len({v.scale for v in inputs}) > 1:
        refuse(f"its inputs have the scales {[v.scale for v in inputs]}; they must be equal")
    if node.kind in ("conv", "dense_conv"):
        if inputs[0].channels % node["groups"] or node["channels"] % node["groups"]:
            refuse(f"{inputs[0].channels} -> {node['channels']} channels do not divide into {node['groups']} groups")
        if not 0 < node["kernel"] - 2 * node["padding"] <= node["stride"]:
            refuse("kernel - 2 padding must be 1 to stride, so that the output is the input's size / stride")
    if node.kind == "sum" and len({v.channels for v in inputs}) > 1:
        refuse(f"its inputs have {[v.channels for v in inputs]} channels; they must be equal")
    if node.kind == "upsample":
        factor = node["factor"]
        if inputs[0].scale % factor:
            refuse(f"a value at scale {inputs[0].scale} cannot be enlarged {factor} times")
        if node["mode"] == "depth_to_space" and inputs[0].channels % factor**2:
            refuse(f"{inputs[0].channels} channels do not divide into {factor}x{factor} pixels")
    if node.kind == "requantise" and node["shift"] > inputs[0].q:
        refuse(f"shift {node['shift']} is larger than its input's grid {inputs[0].q}")
    if node.kind == "attend":
        shift = attend_pool_shift(node, inputs[0], time_steps)
        if not 0 <= shift <= 30:
            refuse(f"its pooled sum would be shifted by {shift}; 0 to 30 is supported")
        if node["over"] != "space" and node["hidden"] < 1:
            refuse("needs at least one hidden unit")
        if node["pool_q"] + node["q"] + 2 < node["gate_q"]:
            refuse("its gate's grid is finer than what feeds it")
    if node.kind == "readout":
        if inputs[0].channels != INPUT_CHANNELS or inputs[0].scale != 1 or not inputs[0].static:
            refuse("its input must be 3 static channels at the image's scale")
        if inputs[0].q < IMAGE_GRID:
            refuse(f"its input's grid {inputs[0].q} is coarser than a pixel's ({IMAGE_GRID})")


def _shape_rule(node: Node, inputs: list[Value], time_steps: int) -> Value:
    """Channels, scale, grid and kind of a node's output, with empty bounds."""
    none = np.zeros(0, np.int64)
    if node.kind == "image":
        return Value(INPUT_CHANNELS, 1, True, False, IMAGE_GRID, none, none)
    first = inputs[0]
    channels, scale, static, spikes, q = first.channels, first.scale, all(v.static for v in inputs), False, first.q
    if node.kind == "space_to_depth":
        channels, scale = channels * node["factor"] ** 2, scale * node["factor"]
    elif node.kind in ("conv", "dense_conv"):
        channels, scale = node["channels"], scale * node["stride"]
        q = node["q"] + (first.q if node.kind == "dense_conv" else 0)
    elif node.kind == "requantise":
        q = q - node["shift"]
    elif node.kind == "lif":
        q, static, spikes = 0, time_steps == 1, True
    elif node.kind in ("sum", "concat"):
        q = max(v.q for v in inputs)
        spikes = first.spikes
        channels = sum(v.channels for v in inputs) if node.kind == "concat" else channels
    elif node.kind == "upsample":
        scale, spikes = scale // node["factor"], first.spikes
        channels = channels // node["factor"] ** 2 if node["mode"] == "depth_to_space" else channels
    elif node.kind == "attend":
        static = first.static and node["over"] != "time"
    elif node.kind == "time_sum":
        static = True
    elif node.kind == "readout":
        q = 0
    limits = (("channels", channels, MAX_CHANNELS), ("a scale of", scale, MAX_SCALE), ("grid", q, MAX_VALUE_GRID))
    for what, found, most in limits:
        if found > most:
            raise GraphError(f"layer {node.name!r}: {what} {found}; at most {most} is supported")
    return Value(channels, scale, static, spikes, q, none, none)


def _bound_rule(
    node: Node, inputs: list[Value], own: Mapping[str, Integers], time_steps: int
) -> tuple[Value, Integers]:
    """A node's output with bounds per channel, and per channel the largest magnitude of any intermediate."""
    shape = _shape_rule(node, inputs, time_steps)
    c = shape.channels
    lo, hi = inputs[0].lo, inputs[0].hi
    bound: Integers | None = None
    if node.kind == "space_to_depth":
        lo, hi = np.repeat(lo, node["factor"] ** 2), np.repeat(hi, node["factor"] ** 2)
    elif node.kind in ("conv", "dense_conv"):
        lo, hi, bound = _convolution_bounds(node, inputs[0], own)
    elif node.kind == "requantise":
        half = (1 << node["shift"]) >> 1
        bound = np.maximum(np.abs(lo), np.abs(hi)) + half
        lo, hi = (np.clip((edge + half) >> node["shift"], node["lo"], node["hi"]) for edge in (lo, hi))
    elif node.kind == "lif":
        bound = _membrane_bound(node, inputs[0], own, time_steps)
        lo, hi = np.zeros(c, np.int64), np.ones(c, np.int64)
    elif node.kind in ("sum", "concat"):
        los = [np.maximum(v.lo << (shape.q - v.q), -BEYOND) for v in inputs]
        his = [np.minimum(v.hi << (shape.q - v.q), BEYOND) for v in inputs]
        if node.kind == "sum":
            lo, hi = np.sum(los, axis=0), np.sum(his, axis=0)
            # Any order of adding is allowed, so partial sums count with their signs.
            bound = np.maximum(np.sum(np.maximum(his, 0), axis=0), -np.sum(np.minimum(los, 0), axis=0))
        else:
            lo, hi = np.concatenate(los), np.concatenate(his)
    elif node.kind == "upsample" and node["mode"] == "depth_to_space":
        lo, hi = lo.reshape(c, -1).min(1), hi.reshape(c, -1).max(1)
    elif node.kind == "attend":
        lo, hi, bound = _attend_bounds(node, inputs[0], own, time_steps)
    elif node.kind == "time_sum":
        lo, hi = lo * time_steps, hi * time_steps
    elif node.kind == "readout":
        shift = inputs[0].q - IMAGE_GRID
        bound = np.maximum(np.abs(lo), np.abs(hi)) + ((1 << shift) >> 1)
        bound = np.maximum(bound, (bound >> shift) + GREY_LEVELS)
        lo, hi = np.zeros(c, np.int64), np.full(c, 255, np.int64)
    value = _value(shape, lo, hi)
    return value, np.maximum(np.abs(value.lo), np.abs(value.hi)) if bound is None else bound


def _value(shape: Value, lo: Integers, hi: Integers) -> Value:
    return Value(
        shape.channels, shape.scale, shape.static, shape.spikes, shape.q, lo.astype(np.int64), hi.astype(np.int64)
    )


def _convolution_bounds(node: Node, source: Value, own: Mapping[str, Integers]) -> tuple[Integers, Integers, Integers]:
    """Range of the output and of every partial sum: zero padding and missing spikes leave any subset of the terms."""
    weight = own["weight"]
    bias = own.get("bias", np.zeros(len(weight), np.int64))
    per_group = weight.shape[1]
    first = (np.arange(len(weight)) // (len(weight) // node["groups"])) * per_group
    index = first[:, None] + np.arange(per_group)  # [C_out, C_in/groups]: which input channel a weight belongs to
    low = np.minimum(source.lo, 0)[index][:, :, None, None]
    high = np.maximum(source.hi, 0)[index][:, :, None, None]
    up = np.maximum(weight * low, weight * high).sum((1, 2, 3))
    down = np.minimum(weight * low, weight * high).sum((1, 2, 3))
    bound = np.maximum(up + np.maximum(bias, 0), -(down + np.minimum(bias, 0)))
    return down + bias, up + bias, bound


def _membrane_bound(node: Node, source: Value, own: Mapping[str, Integers], time_steps: int) -> Integers:
    """Largest |v| over T steps while current and bias are added, in any order (v starts at 0, steps are monotone)."""
    threshold, bias, leak = own["threshold"], own["bias"], own["leak"]
    low = high = np.zeros(source.channels, np.int64)
    bound = np.maximum(np.abs(source.lo), np.abs(source.hi))
    bound = np.maximum(bound, np.maximum(np.abs(bias), threshold))
    for _ in range(time_steps):
        if node["leak"] == "shift":
            low, high = low >> leak, high >> leak
        else:
            low, high = low - (low >> leak), high - (high >> leak)
        low, high = low + np.minimum(source.lo, 0), high + np.maximum(source.hi, 0)
        bound = np.maximum(bound, np.maximum(high + np.maximum(bias, 0), -(low + np.minimum(bias, 0))))
        low, high = low + bias, high + bias
        after = high - threshold if node["reset"] == "subtract" else np.zeros_like(high)
        fires = high >= threshold
        low = np.where(fires, np.minimum(low, 0), low)
        high = np.where(fires, np.maximum(threshold - 1, after), high)
    return bound


def _attend_bounds(
    node: Node, source: Value, own: Mapping[str, Integers], time_steps: int
) -> tuple[Integers, Integers, Integers]:
    """The gate lies in 0..2^gate_q, so the output stays within the input's range (0 included)."""
    magnitude = np.maximum(np.abs(source.lo), np.abs(source.hi))
    pooled = {
        "channel": int(magnitude.max()) * node["window"] ** 2 * time_steps,
        "time": int(magnitude.sum()) * node["window"] ** 2,
        "space": int(magnitude.sum()),
    }[node["over"]]
    product = magnitude << node["gate_q"]
    inner = [pooled]
    cap = attend_cap(node)
    if node["over"] == "space":
        inner.append(int(np.abs(own["weight"]).sum()) * cap + int(np.abs(own["bias"]).max()))
    else:
        squeeze = np.abs(own["squeeze"]).sum(1) * cap + np.abs(own["squeeze_bias"]) + (1 << node["q"])
        excite = np.abs(own["excite"]).sum(1) * cap + np.abs(own["excite_bias"])
        inner += [int(squeeze.max()), int(excite.max())]
    # The gate's offset and roundings: at most 2 in real value, on the grid of what feeds it.
    inner[-1] += 1 << (node["pool_q"] + node["q"] + 2)
    rounding = 1 << attend_pool_shift(node, source, time_steps)
    bound = np.maximum(product + (1 << node["gate_q"]), max(inner) + rounding)
    return np.minimum(source.lo, 0), np.maximum(source.hi, 0), bound


def attend_cap(node: Node) -> int:
    """Pooled means and hidden units of an attend node are clipped to +-cap (12 bits) on grid `pool_q`."""
    return 2047


def _input_span(node: Node, first: int, last: int) -> tuple[int, int]:
    """Rows (or columns) [first, last) of a node's output need these of its input, ignoring the image's border."""
    if node.kind in ("conv", "dense_conv"):
        stride, pad = node["stride"], node["padding"]
        return first * stride - pad, (last - 1) * stride - pad + node["kernel"]
    if node.kind == "space_to_depth":
        return first * node["factor"], last * node["factor"]
    if node.kind == "upsample":
        return first // node["factor"], -(-last // node["factor"])
    if node.kind == "attend":
        if node["over"] == "space":
            return first - SPACE_KERNEL // 2, last + SPACE_KERNEL // 2
        window = node["window"]
        return first // window * window, -(-last // window) * window
    return first, last


def _halo(graph: Graph, values: Mapping[str, Value], align: int) -> int:
    """How far, in image pixels, the outputs of all nodes over an aligned tile look beyond it; rounded up to `align`.

    Of all nodes and not of the readout alone, because the spikes of a tile are counted, too.
    """
    start = align << 20  # far from 0, so that every span is an interior one
    need = {name: (start // value.scale, (start + align) // value.scale) for name, value in values.items()}
    for node in reversed(graph.nodes):
        first, last = _input_span(node, *need[node.name])
        for name in node.inputs:
            low, high = need[name]
            need[name] = (min(low, first), max(high, last))
    low, high = need[graph.nodes[0].name]
    reach = max(start - low, high - (start + align), 0)
    return -(-reach // align) * align
