"""One network, one image, every backend: do they agree to the last bit, and if not, where do they part?"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import numpy as np

from export.compare import restorer
from simulator.analysis import Analysis, Tensors
from simulator.bundle import Bundle, parse, serialise
from simulator.graph import Graph
from simulator.network import Network
from simulator.trace import first_difference

META = {
    "network.task": "denoise",
    "training.data": "none",
    "training.terms": "none",
    "weights.licence": "CC0-1.0",
}
# Kinds of nodes that some backend still refuses, by name. A new kind stands here until every backend has its form.
NOT_IN_EVERY_BACKEND: frozenset[str] = frozenset()
# ONNX Runtime exists for Python 3.11 and newer.
FLOAT_BACKENDS = ("torch", "onnx") if importlib.util.find_spec("onnxruntime") else ("torch",)


def bundled(graph: Graph, tensors: Tensors, meta: Mapping[str, str] = META) -> Bundle:
    """The network as it comes back from a bundle file, so that every comparison includes that round trip."""
    return parse(serialise(graph, tensors, meta)[0])


def guaranteed(analysis: Analysis) -> set[str]:
    """Layers that float32 must compute exactly: their bounds and those of all layers they depend on are below 2^24."""
    exact: set[str] = set()
    for node in analysis.graph.nodes:
        if analysis.float_exact(node.name) and exact.issuperset(node.inputs):
            exact.add(node.name)
    return exact


def check(bundle: Bundle, image: np.ndarray, everywhere: bool = False) -> None:
    """Assert that all backends agree on `image`, uint8 [H, W, 3] of any size.

    Integer backends are compared on everything: pixels, statistics, every layer at every step. Float backends on every
    layer and step that is guaranteed, and on the pixels if all are; `everywhere`: on all even so.
    """
    reference, engine = Network(bundle, "reference"), Network(bundle, "numba")
    trace = reference.trace(image)
    place = first_difference(trace, engine.trace(image))
    assert place is None, f"reference and numba part at {place}"
    expected, found = reference.run(image), engine.run(image)
    assert np.array_equal(found.image, expected.image), "numba differs where it is not observed"
    assert found.stats.layers == expected.stats.layers

    names = [node.name for node in bundle.graph.nodes]
    exact = set(names) if everywhere else guaranteed(bundle.analysis)
    compared = {layer: hashes for layer, hashes in trace.items() if layer in exact}
    for name in FLOAT_BACKENDS:
        backend = restorer(name, bundle, threads=1)
        theirs = backend.trace(image)
        assert list(theirs) == names
        place = first_difference(compared, {layer: theirs[layer] for layer in compared})
        assert place is None, f"reference and {name} part at {place}"
        if len(exact) == len(names):
            assert np.array_equal(backend.restore(image), expected.image), f"{name} differs where it is not observed"
