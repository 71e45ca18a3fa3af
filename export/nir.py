"""`python -m export.nir BUNDLE --size HxW [--out FILE]`: the neurons of a bundle as a NIR file, the same to each spike.

NIR (Neuromorphic Intermediate Representation) knows neurons and convolutions, and nothing that turns a picture into
currents or back. So a file holds the body of a network as `simulator.cut` defines it: what enters is the stream after
the first rounding, at every step; what leaves is what the host sums over time. Units are real numbers, k * 2^-q.

    v' = v + dt/tau ((v_leak - v) + r I)                  with tau = 2^k dt, r = tau / dt, v_leak = 0: v - v 2^-k + I
    spike where v' > v_threshold; then v' = v_reset = 0

A sum is several edges into one node. A neuron's bias has no place in NIR: it goes into one of the convolutions that
the neurons read, and comes off again further down (`_Biases`); convolutions by the unit matrix stand where the
network has none. export/NIR.md says which networks can be expressed, and which readers read them rightly.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export.checks import size_of
from export.files import ExportError, check_attributes, write_atomically
from simulator.bundle import Bundle, BundleError, read_bundle
from simulator.cut import Crossing, Cut, CutError, cut
from simulator.graph import Node
from simulator.kinds import KnownAttributes

if TYPE_CHECKING:  # imported only where it is used, so that a missing package is reported in a sentence
    import nir

DT = 1e-4  # seconds per step: what SpikingJelly and snnTorch take it to be, for files do not say
ENTER, EXIT, INPUT, OUTPUT = "enter", "exit", "input", "output"  # nodes that stand for no layer
MOST_SIDE = 4096  # pixels of --size
FORM = "form in NIR"
KNOWN: KnownAttributes = {
    "conv": {"dilation": (), "limit": ()},
    "lif": {"leak": ("shift", "decay"), "reset": ("zero", "subtract"), "fine": (), "shared": (), "above": ()},
}
STUDENT = "`python -m train.hkd --student nir` trains a network that NIR can express"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Body:
    """What NIR shall express: neurons, the convolutions of their spikes, and what each of them reads.

    sources: for each layer of neurons and for EXIT, the convolutions (or INPUT) whose sum it reads; for each
    convolution, the neurons. entering, leaving: what crosses between host and body.
    """

    neurons: tuple[Node, ...]
    convolutions: tuple[Node, ...]
    sources: Mapping[str, tuple[str, ...]]
    entering: Crossing
    leaving: Crossing


def body_of(bundle: Bundle) -> Body:
    """The body of a network that NIR can express.

    Raises ExportError, with the option of training that would have made it expressible, for any other.
    """
    try:
        parts = cut(bundle.analysis)
    except CutError as error:
        raise ExportError(f"{error} {STUDENT}.") from error
    if len(parts.entering) != 1 or len(parts.leaving) != 1:
        crossing = ", ".join(repr(one.name) for one in (*parts.entering, *parts.leaving))
        raise ExportError(f"One stream enters the body of a NIR file and one leaves it; here {crossing} do. {STUDENT}.")
    entering, leaving = parts.entering[0], parts.leaving[0]
    neurons: list[Node] = []
    convolutions: list[Node] = []
    sources: dict[str, tuple[str, ...]] = {}
    for node in parts.body:
        if node.kind in ("sum", "conv", "lif"):
            check_attributes(node, KNOWN, FORM)
        if node.kind == "sum":
            continue
        if node.kind == "conv":
            _check_convolution(node)
            convolutions.append(node)
            if node.inputs[0] not in {neuron.name for neuron in neurons}:
                raise ExportError(
                    f"Layer {node.name!r} reads {node.inputs[0]!r}, which is no layer of neurons. {STUDENT}."
                )
            sources[node.name] = node.inputs
        elif node.kind == "lif":
            _check_neurons(node, bundle)
            neurons.append(node)
            sources[node.name] = _terms(bundle, parts, node.name, node.inputs[0])
        else:
            raise _unknown(node)
        if not bundle.analysis.float_exact(node.name):
            raise ExportError(
                f"Layer {node.name!r} can reach {bundle.analysis.bounds[node.name]} units; readers of NIR compute in "
                "float32, which is exact below 2^24: train with fewer time steps or a coarser grid."
            )
    if leaving.name in {neuron.name for neuron in neurons}:
        raise ExportError(f"What leaves the body is the spikes of {leaving.name!r}; a sum of currents was expected.")
    sources[EXIT] = _terms(bundle, parts, EXIT, leaving.name)
    return Body(tuple(neurons), tuple(convolutions), sources, entering, leaving)


def _unknown(node: Node) -> ExportError:
    """The refusal of a kind of node, with what to train instead."""
    instead = {
        "window": "neurons that integrate before they fire; train with --architecture neuron=lif, or",
        "concat": "a concatenation; sums (conv(cat(a, b)) = conv(a) + conv(b)) are expressible, and",
        "upsample": "an enlargement, so that all neurons must have one scale:",
        "space_to_depth": "a rearrangement of pixels:",
    }
    what = instead.get(node.kind, f"a {node.kind}:")
    return ExportError(f"Layer {node.name!r} is of the kind {node.kind!r}: NIR has no node for {what} {STUDENT}.")


def _check_convolution(node: Node) -> None:
    if node["groups"] > 1:
        raise ExportError(
            f"Layer {node.name!r} has {node['groups']} groups, which NIR's own check of types refuses; train with "
            "--architecture groups=1,1,1,1, or "
            f"{STUDENT}."
        )


def _check_neurons(node: Node, bundle: Bundle) -> None:
    name, steps = node.name, bundle.graph.time_steps
    if node["reset"] != "zero":
        raise ExportError(
            f"Layer {name!r} subtracts its threshold when it fires; a NIR file can only say v_reset, and readers would "
            f"take it for a reset to zero. Train with --architecture reset=zero, or {STUDENT}."
        )
    for part in ("threshold", "leak"):
        own = bundle.tensors[f"{name}.{part}"]
        if (own != own[0]).any():
            raise ExportError(
                f"Layer {name!r} has a {part} for each channel; readers of NIR take one for a layer (`shared`). "
                f"{STUDENT}."
            )
    k = int(bundle.tensors[f"{name}.leak"][0])
    if k == 0 or (node["leak"] == "shift" and k > 1):
        kind = "v >> k" if node["leak"] == "shift" else "v - (v >> k)"
        raise ExportError(
            f"Layer {name!r} leaks by {kind} with k = {k}; expressible are v >> 1 and v - (v >> k) with k from 1 on: "
            "train with --architecture leak=decay --leak 2."
        )
    if node["fine"] < k * (steps - 1):
        raise ExportError(
            f"Layer {name!r} rounds its leak down; NIR's is exact, which takes {k * (steps - 1)} more binary digits "
            f"(`fine`) over {steps} steps. {STUDENT}."
        )


def _terms(bundle: Bundle, parts: Cut, reader: str, name: str) -> tuple[str, ...]:
    """The convolutions (INPUT for what enters) that a value is the sum of."""
    entering = parts.entering[0].name
    nodes = {node.name: node for node in parts.body}
    found: list[str] = []
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one == entering:
            found.append(INPUT)
        elif nodes[one].kind == "sum":
            waiting += nodes[one].inputs
        elif nodes[one].kind == "conv":
            found.append(one)
        else:
            raise _unknown(nodes[one])
    if len(set(found)) < len(found):
        raise ExportError(f"{reader!r} reads a value twice, and NIR has one edge between two nodes. {STUDENT}.")
    order = {node.name: i for i, node in enumerate(parts.body)}
    return tuple(sorted(found, key=lambda one: order.get(one, -1)))


class _Biases:
    """What each source of currents adds, so that every layer of neurons gets its own bias and what leaves gets none.

    Real numbers [C], by convolution or INPUT; `missing`: what a reader still lacks where its sources were all decided.
    """

    def __init__(self, body: Body, bundle: Bundle):
        self.of: dict[str, Array] = {}
        self.missing: dict[str, Array] = {}
        own = {INPUT: np.zeros(body.entering.channels)}
        for node in body.convolutions:
            own[node.name] = np.zeros(node["channels"])
            if node["bias"]:
                own[node.name] = bundle.tensors[f"{node.name}.bias"] * 2.0 ** -node["q"]
        for reader in (*(node.name for node in body.neurons), EXIT):
            wanted = sum((own[source] for source in body.sources[reader]), np.zeros(1))
            if reader != EXIT:
                wanted = wanted + bundle.tensors[f"{reader}.bias"] * 2.0 ** -bundle.analysis.tensors[reader]["bias"].q
            free = [source for source in body.sources[reader] if source not in self.of]
            for source in free[:-1]:
                self.of[source] = own[source]
            given = sum((self.of[s] for s in body.sources[reader] if s in self.of), np.zeros(1))
            if free:
                self.of[free[-1]] = wanted - given
            elif np.any(wanted != given):
                self.missing[reader] = wanted - given


def build_graph(bundle: Bundle, size: tuple[int, int]) -> nir.NIRGraph:
    """The body of a bundle for pictures of `size` (height, width), which are padded to a multiple of its stride.

    Raises ExportError where NIR cannot express it, and if the package nir is missing.
    """
    try:
        import nir
    except ImportError as error:
        raise ExportError(missing_package("nir")) from error
    body, analysis = body_of(bundle), bundle.analysis
    rows, columns = analysis.padded(*size)
    names = node_names([node.name for node in (*body.neurons, *body.convolutions)])
    biases = _Biases(body, bundle)
    shape = body.entering.shape(rows, columns)[1:]
    nodes: dict[str, Any] = {INPUT: nir.Input({"input": np.array(shape)})}
    edges: list[tuple[str, str]] = []
    source_names = {**names, INPUT: INPUT}
    if biases.of[INPUT].any():
        nodes[ENTER] = _unit(nir, shape, biases.of[INPUT])
        edges.append((INPUT, ENTER))
        source_names[INPUT] = ENTER
    for node in body.convolutions:
        source = analysis.values[node.inputs[0]]
        weight = bundle.tensors[f"{node.name}.weight"] * np.float32(2.0 ** -node["q"])
        nodes[names[node.name]] = nir.Conv2d(
            (rows // source.scale, columns // source.scale), weight.astype(np.float32), node["stride"], node["padding"],
            node["dilation"], 1, biases.of[node.name].astype(np.float32),
        )  # fmt: skip
        edges.append((names[node.inputs[0]], names[node.name]))
    for node in body.neurons:
        value = analysis.values[node.name]
        place = (value.channels, rows // value.scale, columns // value.scale)
        nodes[names[node.name]] = _neurons(nir, node, bundle, place)
        target = names[node.name]
        if node.name in biases.missing:
            target = f"{target}_{ENTER}"
            nodes[target] = _unit(nir, place, biases.missing[node.name])
            edges.append((target, names[node.name]))
        edges += [(source_names[source], target) for source in body.sources[node.name]]
    place = body.leaving.shape(rows, columns)[1:]
    nodes[EXIT] = _unit(nir, place, biases.missing.get(EXIT, np.zeros(body.leaving.channels)))
    edges += [(source_names[source], EXIT) for source in body.sources[EXIT]]
    nodes[OUTPUT] = nir.Output({"output": np.array(place)})
    edges.append((EXIT, OUTPUT))
    about = {
        "generator": "SpikerIR-edge", "dt": DT, "time_steps": bundle.graph.time_steps,
        "task": bundle.meta.get("network.task", ""), "bundle": bundle.content_hash,
        "entering_grid": body.entering.q, "leaving_grid": body.leaving.q,
        "layers": json.dumps({safe: name for name, safe in names.items()}),
    }  # fmt: skip
    return nir.NIRGraph(nodes, edges, metadata=about)


def _unit(nir: Any, shape: tuple[int, ...], bias: Array) -> Any:
    """A convolution by the unit matrix: x + bias."""
    weight = np.eye(shape[0], dtype=np.float32)[:, :, None, None]
    return nir.Conv2d(tuple(shape[1:]), weight, 1, 0, 1, 1, bias.astype(np.float32))


def _neurons(nir: Any, node: Node, bundle: Bundle, shape: tuple[int, ...]) -> Any:
    """A layer of neurons [C, H, W]; times are float64, so that dt / tau is exact."""
    q, k = bundle.analysis.values[node.inputs[0]].q, int(bundle.tensors[f"{node.name}.leak"][0])
    # Tools differ in whether they fire at the threshold or above it: half a unit of v below, both agree.
    threshold = 2.0**-q * int(bundle.tensors[f"{node.name}.threshold"][0]) + 2.0 ** -(q + node["fine"]) * (
        node["above"] - 0.5
    )
    zero = np.zeros(shape, np.float32)
    return nir.LIF(
        tau=np.full(shape, DT * 2**k), r=np.full(shape, 2.0**k, np.float32), v_leak=zero,
        v_threshold=np.full(shape, threshold, np.float32), v_reset=zero,
    )  # fmt: skip


def node_names(layers: Iterable[str]) -> dict[str, str]:
    """{layer: its name in NIR}, unique: letters, digits and underscores, for readers make Python names of them."""
    found: dict[str, str] = {}
    taken = {INPUT, OUTPUT, ENTER, EXIT}
    for layer in layers:
        safe = name = re.sub(r"\W", "_", layer, flags=re.ASCII).lstrip("_0123456789") or "layer"
        count = 1
        while safe in taken:
            count += 1
            safe = f"{name}_{count}"
        taken.add(safe)
        found[layer] = safe
    return found


def serialise(graph: nir.NIRGraph) -> bytes:
    """The bytes of a NIR file (HDF5)."""
    import nir

    content = io.BytesIO()
    nir.write(content, graph)
    return content.getvalue()


def missing_package(package: str) -> str:
    return f"The package {package} is not installed; `pip install 'spikerir-edge[nir]'` brings it."


def _middles(folder: Path, size: tuple[int, int]) -> list[npt.NDArray[np.uint8] | None]:
    """The middle of each picture of a folder, uint8 [H, W, 3]; smaller ones are left out. Raises ExportError."""
    from train.data import DataError, image_paths, load_image

    found: list[npt.NDArray[np.uint8] | None] = []
    try:
        for path in image_paths(folder):
            image = load_image(path)
            top, left = ((side - wanted) // 2 for side, wanted in zip(image.shape, size, strict=False))
            if top >= 0 and left >= 0:
                found.append(np.ascontiguousarray(image[top : top + size[0], left : left + size[1]]))
    except DataError as error:
        raise ExportError(str(error)) from error
    if not found:
        raise ExportError(f"{folder} holds no picture of at least {size[0]}x{size[1]} pixels.")
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command: 0 when written, 1 if a reader gives other spikes, 2 for a mistake the user can mend."""
    from export.nir_readers import READERS, compare

    parser = argparse.ArgumentParser(
        prog="python -m export.nir",
        description="Write the neurons of a bundle as a NIR file for pictures of one size, and compare every spike of "
        "the readers that are installed with the reference.",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the .safetensors file of a bundle")
    parser.add_argument(
        "--size",
        type=partial(size_of, longest=MOST_SIDE),
        default=(64, 64),
        metavar="HxW",
        help="of the picture (64x64)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <name of the bundle>.nir in this folder")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="compare on the middle of each picture there, not of the noisy sample"
    )
    options = parser.parse_args(arguments)
    out = options.out or Path(options.bundle.with_suffix(".nir").name)
    try:
        bundle = read_bundle(options.bundle)
        content = serialise(build_graph(bundle, options.size))
        pictures = _middles(options.data, options.size) if options.data else [None]
        differs = False
        for reader in READERS:
            try:
                each = [compare(bundle, content, reader, options.size, picture) for picture in pictures]
            except ExportError as missing:
                print(f"Not compared in {reader}: {missing}")
                continue
            found = sum(each[1:], each[0])
            print(f"{reader}: {found}")
            differs |= bool(found.differing or found.output)
        if differs:
            print(f"export.nir: {out} was not written, because it would not be the same network.", file=sys.stderr)
            return 1
        write_atomically(out, content)
    except (BundleError, ExportError) as error:
        print(f"export.nir: {error}", file=sys.stderr)
        return 2
    print(f"wrote {out} ({len(content)} bytes, {bundle.graph.time_steps} time steps of {DT:g} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
