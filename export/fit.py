"""Grids that fit the 11 bits of float16, so that a card with 16-bit arithmetic fires where the host does.

float16 holds the whole numbers up to 2048. A layer's currents and potentials, counted in units 2^-q, often go further,
and are then rounded; a neuron close to its threshold may fire where it should not. On a grid s bits coarser they go
2^-s as far. So the values that are added to each other (a stream) get one shift s of their own, as small as puts WITHIN
of them within 11 bits, at most MOST: the weights that make them, and biases and thresholds of the neurons that read
them, are rounded to the coarser grid. What stays beyond 11 bits is far from any threshold as a rule.

How far a value goes is measured on a picture: the bounds, which hold for every picture, are ten times as far and would
leave no weights. The result is a network like any other, with PSNR and bits of its own. A network of whose picture
float16 changes nothing stays as it is, and so does one where it changes so much (HOPELESS) that two bits do not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from export.emulated import emulated
from export.files import ExportError
from simulator.bundle import Bundle, parse, serialise
from simulator.cut import Cut, Host, cut
from simulator.graph import Graph, Node
from simulator.kinds import kind_of
from simulator.kinds.layer import Array
from simulator.kinds.lif import lif
from simulator.kinds.requantise import requantise
from simulator.kinds.window import window
from simulator.network import Network

LIMIT = 2048  # float16 holds every integer up to here
MOST = 2  # bits
WITHIN = 0.998  # of a stream's values lie within LIMIT on the grid that is chosen
HOPELESS = 0.2  # of the pixels: thresholds and biases themselves go far beyond 11 bits
SIDE = 128  # of the part of a picture that is looked at, pixels
PICTURES = Path(__file__).resolve().parents[1] / "edge" / "samples"
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fitted:
    """bundle: the network on its new grids. shifts: bits by which each stream's grid became coarser, by one of its
    layers. proven: layers of the body whose every number, for every picture, fits 11 bits; of: how many layers."""

    bundle: Bundle
    shifts: Mapping[str, int]
    proven: int
    of: int

    def __str__(self) -> str:
        shifted = sum(shift > 0 for shift in self.shifts.values())
        return (
            f"{shifted} of {len(self.shifts)} streams on a coarser grid; "
            f"{self.proven} of {self.of} layers fit 11 bits whatever the picture"
        )


def fitted(bundle: Bundle, picture: Image) -> Fitted:
    """The network with grids that fit float16; the same one comes back where they would not help.

    picture: uint8 RGB [H, W, 3], H and W multiples of the network's stride, of what the network restores. Raises
    CutError for a network without a body for a card.
    """
    parts = cut(bundle.analysis)
    streams = _streams(parts)
    same, changed = _counted(bundle, dict.fromkeys(streams.values(), 0)), _changed(bundle, picture)
    if not 0 < changed < HOPELESS:
        return same
    shifts = _shifts(parts, Host(parts, bundle.tensors), streams, picture)
    other = _counted(_regridded(bundle, parts, {layer: shifts[one] for layer, one in streams.items()}), shifts)
    return other if _changed(other.bundle, picture) < changed else same


def _counted(bundle: Bundle, shifts: Mapping[str, int]) -> Fitted:
    parts = cut(bundle.analysis)
    numbers = [node for node in parts.body if not bundle.analysis.values[node.name].spikes or kind_of(node).neurons]
    proven = sum(bundle.analysis.bounds[node.name] <= LIMIT for node in numbers)
    return Fitted(bundle, shifts, proven, len(numbers))


def _changed(bundle: Bundle, picture: Image) -> float:
    """Share of the pixels that emulated float16 changes, every addition rounded."""
    height, width = picture.shape[:2]
    found = emulated(bundle, height, width, "every")(picture)
    return float((found != Network(bundle).run(picture).image).any(2).mean())


def sample(task: str) -> Image:
    """The middle of the picture that ships with a task, SIDE x SIDE; raises ExportError if there is none."""
    path = next((one for one in (PICTURES / f"{task}.png", PICTURES / "noisy.png") if one.exists()), None)
    whole = None if path is None else cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if whole is None:
        raise ExportError(f"There is no sample picture in {PICTURES}; grids are chosen by what it needs.")
    top, left = ((length - SIDE) // 2 for length in whole.shape[:2])
    return np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE], np.uint8)


def _streams(parts: Cut) -> dict[str, str]:
    """Each real value of the body, and what enters it -> the layer that stands for all that it is added to."""
    stream = {one.name: one.name for one in parts.entering}
    for node in parts.body:
        if parts.analysis.values[node.name].spikes:
            continue
        stream[node.name] = node.name
        joined = {stream[name] for name in node.inputs if name in stream}
        stream = {layer: node.name if found in joined else found for layer, found in stream.items()}
    return stream


def _shifts(parts: Cut, host: Host, streams: Mapping[str, str], picture: Image) -> dict[str, int]:
    """By how many bits each stream's grid becomes coarser, so that WITHIN of its values, and of the potentials of its
    neurons, lie within LIMIT."""
    seen: dict[str, list[Array]] = {stream: [] for stream in streams.values()}
    pixels = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.int16) - np.int16(128)
    values = host.head(pixels)
    host.body({one.name: values[one.name] for one in parts.entering}, lambda name, value: values.update({name: value}))
    for layer, stream in streams.items():
        seen[stream].append(np.abs(values[layer]).ravel())
    for node in parts.body:
        if kind_of(node).neurons:
            seen[streams[node.inputs[0]]].append(np.abs(_potentials(parts, host, node, values)).ravel())
    shifts = {}
    for stream, found in seen.items():
        reach = float(np.quantile(np.concatenate(found), WITHIN))
        wanted = max(0, int(np.ceil(np.log2(max(reach, 1) / LIMIT))))
        shifts[stream] = min(wanted, _room(parts, streams, stream))
    return shifts


def _potentials(parts: Cut, host: Host, node: Node, values: Mapping[str, Array]) -> Array:
    """What neurons compare with their thresholds, int64 [T, C, h, w]."""
    own, current, steps = host.own(node), values[node.inputs[0]], parts.analysis.graph.time_steps
    found = np.zeros((steps, *current.shape[1:]), np.int64)
    if node.kind == "window":
        window(current, own["threshold"], own["bias"], steps, found)
    else:
        lif(current, own["threshold"], own["bias"], own["leak"], steps, node["leak"], node["reset"], found)
    return found


def _room(parts: Cut, streams: Mapping[str, str], stream: str) -> int:
    """By how many bits a stream's grid can become coarser: of what makes it, and of the rounding behind it."""
    graph, room = parts.analysis.graph, MOST
    layers = {name for name, one in streams.items() if one == stream}
    for node in graph.nodes:
        if node in parts.head and layers & set(node.inputs):
            room = 0
        if streams.get(node.name) == stream and node.kind in ("conv", "requantise"):
            room = min(room, node["q"] if node.kind == "conv" else parts.analysis.values[node.name].q)
        elif streams.get(node.name) == stream and node.kind not in ("sum", "concat", "upsample", "space_to_depth"):
            room = 0
        elif node in parts.tail and _read(parts, node) & layers:
            room = min(room, node["shift"]) if node.kind == "requantise" else 0
    return room


def _read(parts: Cut, node: Node) -> set[str]:
    """What a layer of the tail reads of the body or the head, through sums over time."""
    if node.kind == "time_sum":
        return set()
    sums = {one.name: one.inputs for one in parts.tail if one.kind == "time_sum"}
    return {source for name in node.inputs for source in sums.get(name, (name,))}


def _coarser_weights(weight: npt.NDArray[np.int32], shift: int) -> npt.NDArray[np.int32]:
    """Each output's weights divided by 2^shift and rounded, what one loses passed on to the next: so sums of weights
    whose spikes come together keep their size."""
    rows = weight.reshape(len(weight), -1).astype(np.int64)
    found, carried = np.empty_like(rows), np.zeros(len(rows), np.int64)
    for column in range(rows.shape[1]):
        wanted = rows[:, column] + carried
        found[:, column] = (wanted + ((1 << shift) >> 1)) >> shift
        carried = wanted - (found[:, column] << shift)
    return found.reshape(weight.shape).astype(np.int32)


def _regridded(bundle: Bundle, parts: Cut, shifts: Mapping[str, int]) -> Bundle:
    """shifts: of each layer's values; only what has a rule below has one above 0."""
    tensors = {name: np.array(tensor) for name, tensor in bundle.tensors.items()}

    def coarser(name: str, shift: int, least: int = -(2**31)) -> None:
        if name in tensors:
            tensors[name] = requantise(tensors[name].astype(np.int64), shift, least, 2**31 - 1).astype(np.int32)

    nodes = []
    for node in bundle.graph.nodes:
        shift = shifts.get(node.name, 0)
        if shift and node.kind == "conv":
            tensors[f"{node.name}.weight"] = _coarser_weights(tensors[f"{node.name}.weight"], shift)
            coarser(f"{node.name}.bias", shift)
            node = replace(node, attrs={**node.attrs, "q": node["q"] - shift})
        elif shift and node.kind == "requantise":
            limits = {"lo": node["lo"] >> shift, "hi": node["hi"] >> shift}
            node = replace(node, attrs={**node.attrs, **limits, "shift": node["shift"] + shift})
        elif node in parts.tail and node.kind == "requantise":
            behind = max((shifts.get(name, 0) for name in _read(parts, node)), default=0)
            node = replace(node, attrs={**node.attrs, "shift": node["shift"] - behind})
        elif kind_of(node).neurons and node.inputs[0] in shifts:
            coarser(f"{node.name}.threshold", shifts[node.inputs[0]], least=1)
            coarser(f"{node.name}.bias", shifts[node.inputs[0]])
        nodes.append(node)
    graph = Graph(tuple(nodes), bundle.graph.time_steps, bundle.graph.stages)
    meta = {key: value for key, value in bundle.meta.items() if key != "quality.psnr"}  # it is another network now
    return parse(serialise(graph, tensors, meta)[0])
