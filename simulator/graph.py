"""The network graph: a short list of typed nodes in topological order, and what each kind means.

One `Graph` builds the PyTorch student, drives every engine and is stored in the bundle. It holds structure only;
the integer tensors (weights, biases, thresholds) lie beside it in a dict keyed `<node>.<tensor>`.

Shapes: a value is `[T, C, H, W]`, or `[1, C, H, W]` when it is static (the same at every time step). Every number is an
integer `k` that stands for `k * 2**-q`; `q` is the value's grid. Spikes are 0/1 and have q = 0.

Kinds (T time steps; `x` the input; what each computes, exactly, is in `simulator/reference.py`):

  image           the picture, (u8 - 128) on grid 7, static, 3 channels
  space_to_depth  factor r: [C, H, W] -> [C r r, H/r, W/r], channel order (c, dy, dx) as PixelUnshuffle
  conv            spikes in, currents out: weight [C_out, C_in/groups, k, k] on grid `q`; the sum of the weights of the
                  synapses at which a spike arrives, plus an optional bias
  dense_conv      the same with real-valued input: multiply-accumulates
  requantise      the one rounding: clip((x + 2^(shift-1)) >> shift, lo, hi); the output's grid is q - shift
  lif             leaky integrate-and-fire neuron: currents in, spikes out
  sum             aligned to the finest grid, then added
  concat          channels one after another, aligned to the finest grid
  upsample        mode "nearest" (each value repeated factor x factor times) or "depth_to_space" (PixelShuffle)
  attend          a gate over "time", "channel" or "space" computed from integer pooled sums (multi-dim. attention)
  time_sum        the sum over the T steps, static
  readout         clip(u8 + ((x + 2^(n-1)) >> n)) with n = q - 7: the restored picture
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "image",
    "space_to_depth",
    "conv",
    "dense_conv",
    "requantise",
    "lif",
    "sum",
    "concat",
    "upsample",
    "attend",
    "time_sum",
    "readout",
)
IMAGE_GRID = 7  # a pixel enters as (u8 - 128) * 2^-7
WEIGHT_LIMIT = 2048  # float16 holds every integer up to here exactly
MAX_GRID = 14  # 2^-14 is float16's smallest normal number
MAX_SHIFT = 30
MAX_NODES = 1024
MAX_CHANNELS = 4096
MAX_VALUE_GRID = 30  # grids add up along real-valued convolutions; an int32 has no finer one
MAX_SCALE = 256
MAX_ALIGN = 4096  # image pixels
MAX_TIME_STEPS = 64
INPUT_CHANNELS = 3


class GraphError(ValueError):
    """A graph that breaks a rule of the numerics contract; the text names the layer and, where it matters, channel."""


@dataclass(frozen=True)
class Node:
    """One typed step of the network. `attrs` holds the whole numbers and words that its kind asks for."""

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.attrs[key]


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order (inputs stand before their users), the last one the readout.

    `stages` names the node whose output is the feature map of stage 1..7 (encoder 1, 2, 3, latent, decoder 3, 2, 1).
    """

    nodes: tuple[Node, ...]
    time_steps: int
    stages: Mapping[int, str] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def consumers(self, name: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if name in node.inputs)

    def to_json(self) -> dict[str, Any]:
        return {
            "time_steps": self.time_steps,
            "stages": {str(stage): name for stage, name in sorted(self.stages.items())},
            "nodes": [
                {"name": n.name, "kind": n.kind, "inputs": list(n.inputs), **{k: n.attrs[k] for k in sorted(n.attrs)}}
                for n in self.nodes
            ],
        }

    @staticmethod
    def from_json(data: Any) -> Graph:
        """The graph of a parsed JSON object; `GraphError` for anything that is not one."""
        if not isinstance(data, dict) or set(data) != {"time_steps", "stages", "nodes"}:
            raise GraphError("the graph is not an object with time_steps, stages and nodes")
        if not isinstance(data["nodes"], list) or not 2 <= len(data["nodes"]) <= MAX_NODES:
            raise GraphError(f"the graph needs a list of 2 to {MAX_NODES} nodes")
        if not isinstance(data["stages"], dict):
            raise GraphError("the graph's stages are not an object")
        nodes = []
        for entry in data["nodes"]:
            if not isinstance(entry, dict) or not {"name", "kind", "inputs"} <= set(entry):
                raise GraphError("a node of the graph lacks its name, kind or inputs")
            inputs = entry["inputs"]
            if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
                raise GraphError(f"node {str(entry['name'])[:60]!r}: inputs is not a list of names")
            attrs = {k: v for k, v in entry.items() if k not in ("name", "kind", "inputs")}
            nodes.append(Node(entry["name"], entry["kind"], tuple(inputs), attrs))
        if not all(re.fullmatch("[1-7]", key) for key in data["stages"]):
            raise GraphError("the graph's stages are not numbered 1 to 7")
        stages = {int(key): name for key, name in data["stages"].items()}
        graph = Graph(tuple(nodes), data["time_steps"], stages)
        check_structure(graph)
        return graph


_INTEGER_ATTRS: dict[str, dict[str, tuple[int, int]]] = {
    "image": {},
    "space_to_depth": {"factor": (2, 8)},
    "conv": {
        "channels": (1, MAX_CHANNELS),
        "kernel": (1, 7),
        "stride": (1, 4),
        "padding": (0, 3),
        "groups": (1, MAX_CHANNELS),
        "q": (0, MAX_GRID),
        "bias": (0, 1),
    },
    "requantise": {"shift": (0, MAX_SHIFT), "lo": (-(2**30), 0), "hi": (0, 2**30)},
    "lif": {},
    "sum": {},
    "concat": {},
    "upsample": {"factor": (2, 8)},
    "attend": {
        "window": (1, 1024),
        "hidden": (0, MAX_CHANNELS),
        "pool_q": (0, MAX_GRID),
        "q": (0, MAX_GRID),
        "gate_q": (1, 10),
    },
    "time_sum": {},
    "readout": {},
}
_INTEGER_ATTRS["dense_conv"] = _INTEGER_ATTRS["conv"]

_WORD_ATTRS: dict[str, dict[str, tuple[str, ...]]] = {
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract")},
    "upsample": {"mode": ("nearest", "depth_to_space")},
    "attend": {"over": ("time", "channel", "space")},
}
_INPUT_COUNT = {"image": (0, 0), "sum": (2, 64), "concat": (2, 64)}


def check_structure(graph: Graph) -> None:
    """Refuse unknown kinds, attributes out of range, missing inputs and a graph without one image and one readout."""
    steps = graph.time_steps
    if type(steps) is not int or not 1 <= steps <= MAX_TIME_STEPS or steps & (steps - 1):
        raise GraphError(f"T = {steps!r} time steps: a power of two up to {MAX_TIME_STEPS} is supported")
    seen: set[str] = set()
    for node in graph.nodes:
        if not isinstance(node.name, str) or not 1 <= len(node.name) <= 80 or not node.name.isprintable():
            raise GraphError("a node's name is not a short printable word")
        if node.name in seen:
            raise GraphError(f"two nodes are called {node.name!r}")
        if node.kind not in KINDS:
            raise GraphError(
                f"layer {node.name!r} is of the unknown kind {str(node.kind)[:40]!r}; known: {', '.join(KINDS)}"
            )
        low, high = _INPUT_COUNT.get(node.kind, (1, 1))
        if not low <= len(node.inputs) <= high:
            raise GraphError(f"layer {node.name!r} ({node.kind}) has {len(node.inputs)} inputs")
        for name in node.inputs:
            if name not in seen:
                raise GraphError(f"layer {node.name!r} reads {name[:60]!r}, which does not stand before it")
        ints, words = _INTEGER_ATTRS[node.kind], _WORD_ATTRS.get(node.kind, {})
        if set(node.attrs) != set(ints) | set(words):
            raise GraphError(
                f"layer {node.name!r} ({node.kind}) has the attributes {sorted(map(str, node.attrs))[:12]}; "
                f"expected {sorted(set(ints) | set(words))}"
            )
        for key, (least, most) in ints.items():
            value = node[key]
            if type(value) is not int or not least <= value <= most:
                raise GraphError(f"layer {node.name!r}: {key} = {repr(value)[:40]}; {least} to {most} is supported")
        for key, choices in words.items():
            if node[key] not in choices:
                raise GraphError(f"layer {node.name!r}: {key} = {str(node[key])[:40]!r}; expected one of {choices}")
        if node.kind == "attend" and node["window"] & (node["window"] - 1):
            raise GraphError(f"layer {node.name!r}: a window of {node['window']} is not a power of two")
        seen.add(node.name)
    kinds = [node.kind for node in graph.nodes]
    if kinds.count("image") != 1 or kinds[0] != "image" or kinds.count("readout") != 1 or kinds[-1] != "readout":
        raise GraphError("a graph starts with its one image node and ends with its one readout node")
    for stage, name in graph.stages.items():
        if not 1 <= stage <= 7 or not isinstance(name, str) or name not in seen:
            raise GraphError(f"stage {stage} names {str(name)[:60]!r}; stages 1 to 7 name nodes of the graph")


class Builder:
    """Collects nodes; every method adds one and returns its name.

    >>> b = Builder(time_steps=4); x = b.dense_conv("head", b.image(), 3, q=8)
    """

    def __init__(self, time_steps: int, grid: int = 10):
        """`grid`: q of convolutions that are not given another."""
        self.time_steps = time_steps
        self.grid = grid
        self.nodes: list[Node] = []
        self.stages: dict[int, str] = {}

    def add(self, name: str, kind: str, inputs: tuple[str, ...], **attrs: Any) -> str:
        self.nodes.append(Node(name, kind, inputs, attrs))
        return name

    def image(self) -> str:
        return self.add("image", "image", ())

    def space_to_depth(self, name: str, x: str, factor: int) -> str:
        return self.add(name, "space_to_depth", (x,), factor=factor)

    def conv(
        self, name: str, x: str, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1,
        q: int | None = None, bias: bool = False, kind: str = "conv",
    ) -> str:  # fmt: skip
        """`padding` keeps the size for stride 1 and divides it by the stride otherwise."""
        padding = 0 if kernel == stride else (kernel - 1) // 2
        return self.add(
            name, kind, (x,), channels=channels, kernel=kernel, stride=stride, padding=padding, groups=groups,
            q=self.grid if q is None else q,
            bias=int(bias),
        )  # fmt: skip

    def dense_conv(self, name: str, x: str, channels: int, kernel: int = 3, **more: Any) -> str:
        return self.conv(name, x, channels, kernel, kind="dense_conv", **more)

    def requantise(self, name: str, x: str, shift: int, limit: int, least: int | None = None) -> str:
        """Clip to -limit..limit - 1, or to `least`..limit - 1: with `least` 0 a ReLU."""
        return self.add(name, "requantise", (x,), shift=shift, lo=-limit if least is None else least, hi=limit - 1)

    def lif(self, name: str, x: str, leak: str = "decay", reset: str = "subtract") -> str:
        return self.add(name, "lif", (x,), leak=leak, reset=reset)

    def sum(self, name: str, *inputs: str) -> str:
        return self.add(name, "sum", inputs)

    def concat(self, name: str, *inputs: str) -> str:
        return self.add(name, "concat", inputs)

    def upsample(self, name: str, x: str, factor: int = 2, mode: str = "nearest") -> str:
        return self.add(name, "upsample", (x,), factor=factor, mode=mode)

    def attend(
        self, name: str, x: str, over: str, window: int = 1, hidden: int = 0, *, pool_q: int = 8, q: int = 8,
        gate_q: int = 8,
    ) -> str:  # fmt: skip
        return self.add(
            name, "attend", (x,), over=over, window=window, hidden=hidden, pool_q=pool_q, q=q, gate_q=gate_q
        )

    def time_sum(self, name: str, x: str) -> str:
        return self.add(name, "time_sum", (x,))

    def finish(self, x: str) -> Graph:
        self.add("readout", "readout", (x,))
        graph = Graph(tuple(self.nodes), self.time_steps, dict(self.stages))
        check_structure(graph)
        return graph
