"""The table of kinds: what is written about it elsewhere is true, and it can grow without touching what exists."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from simulator import reference
from simulator.analysis import analyse
from simulator.builder import Builder
from simulator.bundle import parse, read_bundle, serialise
from simulator.graph import GraphError, Node
from simulator.kinds import KINDS, kind_of
from simulator.kinds.layer import Attribute, Whole
from simulator.random_networks import random_network, random_tensors
from tests.simulator.networks import META, observed, small_network

ROOT = Path(__file__).parents[2]
SPECIFICATION = (ROOT / "simulator" / "BUNDLE.md").read_text()
SHIPPED = sorted((ROOT / "edge" / "bundles").glob("*.safetensors"))


def rows(header: str) -> list[list[str]]:
    """The cells of the table in BUNDLE.md that starts with that row."""
    lines = SPECIFICATION[SPECIFICATION.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def written(name: str, attribute: Attribute) -> str:
    """An attribute as BUNDLE.md writes it."""
    if isinstance(attribute, Whole):
        said = f"`{name}` {attribute.least}..{attribute.most}" + " (a power of two)" * attribute.power_of_two
    else:
        *words, last = (f"`{word}`" for word in attribute.choices)
        said = f"`{name}` {', '.join(words)} or {last}"
    return said if attribute.default is None else f"{said}, default {attribute.default}"


def test_the_specification_of_bundles_has_the_kinds_and_their_attributes():
    expected = set()
    for name, kind in KINDS.items():
        least, most = kind.inputs
        count = str(least) if least == most else f"{least}..{most}"
        expected.add((f"`{name}`", count, frozenset(written(*item) for item in kind.attributes.items())))
    found = set()
    for name, count, attributes in rows("| kind | inputs | attributes |"):
        found.add((name, count, frozenset(filter(None, re.split(r", (?=`\w+` (?:-?\d|`))", attributes)))))
    assert found == expected


def test_the_specification_of_bundles_has_the_tensors_and_their_types():
    listed, kinds = set(), [""]
    for kind, tensor, dtype, *_ in rows("| kind | tensor | type | shape | grid |"):
        kinds = re.findall(r"`(\w+)`", kind) or kinds
        listed |= {(name, re.findall(r"`(\w+)`", tensor)[0], dtype) for name in kinds}
    found = set()
    drawn = [random_network(seed)[0] for seed in range(40)]
    drawn += [random_network(seed, kind)[0] for kind in KINDS for seed in range(5)]
    for graph in drawn:
        for node in graph.nodes:
            for part, spec in analyse(graph).tensors[node.name].items():
                found.add((node.kind, part, "F16" if spec.weight else "I32"))
    assert found == listed


def test_the_reference_has_every_kind_on_its_page():
    index = re.findall(r"^  (\w+) +(.+)$", reference.__doc__ or "", re.MULTILINE)
    assert index == [(name, kind.equation) for name, kind in KINDS.items()]


def test_every_kind_is_the_file_of_its_name():
    for name, kind in KINDS.items():
        assert type(kind).__module__ == f"simulator.kinds.{name}"
        assert len(name) <= 40 and kind.name == name


def test_a_node_of_an_unknown_kind_is_named():
    for kind in ("transformer", ["conv"], None):
        with pytest.raises(GraphError, match=r"layer 'x' is of the unknown kind .*; known: attend, concat, conv, "):
            kind_of(Node("x", kind))


# ---- an attribute that a kind gets later


@pytest.fixture
def novelty(monkeypatch):
    """conv and dense_conv with one more attribute, which has a default."""
    for name in ("conv", "dense_conv"):
        kind = KINDS[name]
        monkeypatch.setattr(kind, "attributes", {**kind.attributes, "novelty": Whole(1, 4, default=1)}, raising=False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_new_attribute_with_a_default_leaves_bundles_what_they_are(path, request):
    before = read_bundle(path)
    request.getfixturevalue("novelty")
    after = read_bundle(path)
    assert after.content_hash == before.content_hash
    assert serialise(after.graph, after.tensors, after.meta)[0] == path.read_bytes()
    assert {node["novelty"] for node in after.graph.nodes if node.kind == "conv"} == {1}
    assert not any("novelty" in node.attrs for node in after.graph.nodes if node.kind == "lif")


def test_a_new_attribute_is_written_where_it_differs_from_its_default(novelty):
    graph, tensors = small_network()
    content, same = serialise(graph, tensors, META)
    assert b"novelty" not in content
    b = Builder(graph.time_steps)
    for node in graph.nodes:
        more = {"novelty": 2} if node.name == "conv" else {}
        b.add(node.name, node.kind, node.inputs, **(node.attrs | more))
    changed = b.finish(b.nodes.pop().inputs[0])
    content, other = serialise(changed, tensors, META)
    assert content.count(b"novelty") == 1 and other != same
    assert parse(content).graph == changed and parse(content).graph.node("conv")["novelty"] == 2


def test_random_networks_have_a_new_attribute_at_its_default_until_its_kind_draws_it(request):
    before = random_network(1, "conv")[0].nodes
    request.getfixturevalue("novelty")
    after = random_network(1, "conv")[0].nodes
    assert [{**node.attrs, "novelty": 1} if "novelty" in node.attrs else node.attrs for node in after] == [
        {**node.attrs, "novelty": 1} if "conv" in node.kind else node.attrs for node in before
    ]


def test_a_new_attribute_is_checked(novelty):
    b = Builder(2)
    with pytest.raises(GraphError, match="layer 'd': novelty = 9; 1 to 4 is supported"):
        b.finish(b.add("d", "dense_conv", (b.image(),), **attributes(), novelty=9))


def test_an_attribute_without_a_default_must_be_there():
    b = Builder(2)
    some = {key: value for key, value in attributes().items() if key != "groups"}
    with pytest.raises(GraphError, match=r"layer 'd' \(dense_conv\) has the attributes .*; expected .*'groups'"):
        b.finish(b.add("d", "dense_conv", (b.image(),), **some))


def attributes() -> dict[str, int]:
    return {"channels": 3, "kernel": 1, "stride": 1, "padding": 0, "groups": 1, "q": 8, "bias": 0}


# ---- random networks of one kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_network_around_a_kind_has_it_and_keeps_every_rule(kind):
    for seed in range(3):
        graph, tensors = random_network(seed, kind)
        assert kind in {node.kind for node in graph.nodes}
        again, same = random_network(seed, kind)
        assert again == graph and all(np.array_equal(tensors[name], same[name]) for name in tensors)
        analyse(graph, random_tensors(graph, np.random.default_rng(seed)))


def black_and_white(rng: np.random.Generator, side: int) -> np.ndarray:
    """Nothing but extremes, in patches and alone, int16 [3, side, side]."""
    patches = rng.integers(0, 2, (3, -(-side // 4), -(-side // 4))).repeat(4, 1).repeat(4, 2)[:, :side, :side]
    return (np.where(rng.random((3, side, side)) < 0.3, 1 - patches, patches) * 255 - 128).astype(np.int16)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_computes_is_what_its_rules_say(kind, seed):
    """Steps, channels, size, spikes and bounds of every value, on a picture of extremes."""
    graph, tensors = random_network(seed, kind)
    analysis = analyse(graph, tensors)
    side = -(-24 // analysis.stride) * analysis.stride
    seen = observed(graph, tensors, black_and_white(np.random.default_rng(seed), side))
    for node in graph.nodes:
        value, out = analysis.values[node.name], seen[node.name]
        size = side // value.scale
        assert out.shape == (1 if value.static else graph.time_steps, value.channels, size, size), node.name
        assert (out.min((0, 2, 3)) >= value.lo).all() and (out.max((0, 2, 3)) <= value.hi).all(), node.name
        assert np.abs(out).max() <= analysis.bounds[node.name]
        assert not value.spikes or set(np.unique(out)) <= {0, 1}
        assert value.spikes or not kind_of(node).neurons


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_looks_no_further_than_its_span(kind, seed):
    """What lies beyond the halo of a tile changes nothing in it, wherever the tile is."""
    graph, tensors = random_network(seed, kind)
    analysis, rng = analyse(graph, tensors), np.random.default_rng(seed)
    side = 3 * analysis.align + 2 * analysis.halo
    first, last = analysis.align + analysis.halo, 2 * analysis.align + analysis.halo
    inner = slice(first - analysis.halo, last + analysis.halo)
    pixels, other = black_and_white(rng, side), black_and_white(rng, side)
    other[:, inner, inner] = pixels[:, inner, inner]
    a, b = observed(graph, tensors, pixels), observed(graph, tensors, other)
    for name, value in analysis.values.items():
        tile = slice(first // value.scale, last // value.scale)
        assert np.array_equal(a[name][..., tile, tile], b[name][..., tile, tile]), name
