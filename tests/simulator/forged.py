"""Bundles taken apart and put together again with something changed, and a right hash: anybody can make one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from typing import Any

import numpy as np

from simulator.analysis import analyse
from simulator.bundle import BundleError, serialise
from simulator.graph import Graph, GraphError
from simulator.kinds import KINDS
from simulator.kinds.layer import Whole, Word
from simulator.random_networks import random_tensors
from simulator.structure import graph_from_json

# What no file should hold, and what one may hold in the wrong place.
HOSTILE: tuple[Any, ...] = (
    *(-(2**63), -(2**31), -(2**15), -1, 0, 1, 2, 3, 5, 8, 15, 16, 17, 127, 128, 255, 2047, 2048, 4096),
    *(
        2**15,
        2**16,
        2**24,
        2**31 - 1,
        2**31,
        2**63,
        10**40,
        0.5,
        1.0,
        1e300,
        True,
        None,
        "",
        "16",
        [],
        {},
        [1],
        ["image"],
    ),
)
_INT32 = (-(2**31), -(2**31) + 1, -(2**24), -1, 0, 1, 2**15, 2**24, 2**31 - 1)
_NO_ROOM = (AttributeError, LookupError, TypeError, ValueError)  # where an earlier change left nothing to be changed
_MOST_NUMBERS = 200_000  # in the tensors of a network that is to run
_FLOAT16 = (0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x7BFF, 0x7C00, 0x7E00, 0x8000, 0xBC00, 0xFBFF, 0xFC00)


class Parts:
    """A bundle taken apart as BUNDLE.md describes it, to be put together again with something changed."""

    def __init__(self, content: bytes):
        length = int.from_bytes(content[:8], "little")
        self.header = json.loads(content[8 : 8 + length])
        self.data = bytearray(content[8 + length :])

    @property
    def meta(self) -> dict:
        return self.header["__metadata__"]

    def tensor(self, name: str) -> np.ndarray:
        """The numbers of a tensor, to be changed in place."""
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        kind = {"F16": "<f2", "I32": "<i4"}[entry["dtype"]]
        return np.frombuffer(memoryview(self.data)[begin:end], kind).reshape(entry["shape"])

    def change_graph(self, change) -> None:
        graph = json.loads(self.meta["network.graph"])
        change(graph)
        self.meta["network.graph"] = json.dumps(graph)

    def hash(self) -> str:
        """Section 4 of BUNDLE.md."""
        digest = hashlib.sha256(b"spikerir-edge bundle\n")
        parts = []
        for key in sorted(self.meta):
            if key != "bundle.content_hash":
                parts += [key.encode(), self.meta[key].encode()]
        for name in sorted(k for k in self.header if k != "__metadata__"):
            entry = self.header[name]
            begin, end = entry["data_offsets"]
            parts += [name.encode(), " ".join(map(str, [entry["dtype"], *entry["shape"]])).encode()]
            parts.append(bytes(self.data[begin:end]))
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def join(self, rehash: bool = True) -> bytes:
        if rehash:  # an attacker can do that
            self.meta["bundle.content_hash"] = self.hash()
        return container(json.dumps(self.header), self.data)


def container(header: str | bytes, data: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


def forged(content: bytes, random: np.random.RandomState) -> bytes:
    """A bundle with one to three changes of the kinds below, and a right hash.

    In two of three cases tensors that fit the changed graph are drawn, so that what is at the limits of an attribute is
    not refused for its shapes, and runs.
    """
    parts = Parts(content)
    for _ in range(_pick((1, 1, 1, 2, 3), random)):
        change = (_attribute, _attribute, _attribute, _attribute, _wiring, _entry, _tensor, _extent)[random.randint(8)]
        with contextlib.suppress(*_NO_ROOM):
            change(parts, random)
    if random.rand() < 2 / 3:
        fitting = _with_fitting_tensors(parts, random)
        if fitting is not None:
            return fitting
    try:
        return parts.join()
    except _NO_ROOM:  # not even a hash can be made of that
        return parts.join(rehash=False)


def _pick(choices: Any, random: np.random.RandomState) -> Any:
    return choices[random.randint(len(choices))]


def _attribute(parts: Parts, random: np.random.RandomState) -> None:
    """An attribute of a node at its limits, beyond them, or something else altogether."""

    def change(graph: Any) -> None:
        node = _pick([node for node in graph["nodes"] if len(node) > 3] or graph["nodes"], random)
        attributes = KINDS[node["kind"]].attributes if node.get("kind") in KINDS else {}
        if random.rand() < 0.05:
            node[_pick([*node, "dilation", "limit", "fine", "shared", "above"], random)] = _pick(HOSTILE, random)
            return
        name = _pick(sorted(attributes), random)
        what, choices = attributes[name], list(HOSTILE)
        if random.rand() < 0.8:
            if isinstance(what, Whole):
                choices = [
                    what.least - 1,
                    what.least,
                    what.least + 1,
                    what.most // 2,
                    what.most,
                    what.most + 1,
                    2,
                    3,
                    4,
                ]
            elif isinstance(what, Word):
                choices = list(what.choices)
        node[name] = _pick(choices, random)
        if name in ("kernel", "dilation", "stride") and random.rand() < 0.8:  # the padding that goes with it
            beyond = (node["kernel"] - 1) * node.get("dilation", 1) + 1 - node["stride"]
            node["padding"] = max(0, (beyond + 1) // 2)

    parts.change_graph(change)


def _wiring(parts: Parts, random: np.random.RandomState) -> None:
    """A node's inputs, kind or name, a node twice or not at all, or the number of steps."""

    def change(graph: Any) -> None:
        nodes = graph["nodes"]
        at = random.randint(len(nodes))
        what = random.randint(6)
        if what == 0:
            nodes[at]["inputs"] = [_pick(nodes, random)["name"] for _ in range(random.randint(4))]
        elif what == 1:
            nodes[at]["kind"] = _pick([*KINDS, "maximum", ""], random)
        elif what == 2:
            nodes[at]["name"] = _pick([*HOSTILE, _pick(nodes, random)["name"]], random)
        elif what == 3:
            nodes.insert(at, dict(nodes[at]))
        elif what == 4:
            del nodes[at]
        else:
            graph["time_steps"] = _pick([*HOSTILE, 1, 2, 4, 8, 16, 32], random)

    parts.change_graph(change)


def _entry(parts: Parts, random: np.random.RandomState) -> None:
    """An entry of the metadata."""
    key = _pick([*sorted(parts.meta), "network.coarse", "network.coarse", "note.x"], random)
    value = _pick([*HOSTILE, "63", "64", "1024", "1025", "-64", "064", "64 ", "1e2", "\u0664\u0664"], random)
    parts.meta[key] = value if random.rand() < 0.1 else str(value)


def _tensor(parts: Parts, random: np.random.RandomState) -> None:
    """Some numbers of a tensor, or all."""
    name = _pick([name for name in parts.header if name != "__metadata__"], random)
    entry = parts.header[name]
    if entry["shape"] and min(entry["shape"]) > 0 and entry["data_offsets"][1] <= len(parts.data):
        numbers = parts.tensor(name).reshape(-1)
        raw = numbers.view("<u2") if entry["dtype"] == "F16" else numbers
        few = slice(None) if random.rand() < 0.5 else random.randint(len(raw), size=3)
        raw[few] = _pick(_FLOAT16 if entry["dtype"] == "F16" else _INT32, random)


def _extent(parts: Parts, random: np.random.RandomState) -> None:
    """What the header says of a tensor."""
    name = _pick([name for name in parts.header if name != "__metadata__"], random)
    key = _pick(["dtype", "shape", "data_offsets"], random)
    value = parts.header[name][key]
    if isinstance(value, list) and value and random.rand() < 0.7:
        value[random.randint(len(value))] = _pick(HOSTILE, random)
    else:
        parts.header[name][key] = _pick([*HOSTILE, "F16", "I32", "F32"], random)


def _with_fitting_tensors(parts: Parts, random: np.random.RandomState) -> bytes | None:
    """The changed graph and metadata with tensors that it accepts; None where it is refused as it is."""
    try:
        graph: Graph = graph_from_json(json.loads(parts.meta["network.graph"]))
        specs = analyse(graph).tensors
        if sum(math.prod(spec.shape) for own in specs.values() for spec in own.values()) > _MOST_NUMBERS:
            return None
        spread = int(_pick([1, 60, 500, 2048], random))
        tensors = random_tensors(graph, np.random.default_rng(random.randint(2**31)), spread)
        for name in sorted(tensors) if random.rand() < 0.5 else ():
            if random.rand() < 0.3:
                node, _, part = name.rpartition(".")
                numbers = tensors[name].reshape(-1)
                few = slice(None) if random.rand() < 0.3 else random.randint(len(numbers), size=2)
                numbers[few] = _pick([*_INT32, *specs[node][part].range], random)
        return serialise(graph, tensors, parts.meta)[0]
    except (GraphError, BundleError, *_NO_ROOM):
        return None
