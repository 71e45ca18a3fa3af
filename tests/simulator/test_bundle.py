"""The bundle format (simulator/BUNDLE.md): what is written, and that nothing else is read."""

from __future__ import annotations

import json
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import bundle as bundle_module
from simulator.bundle import BundleError, read_bundle, write_bundle
from tests.simulator.forged import Parts, container
from tests.simulator.networks import META, random_network, small_network

GRAPH, TENSORS = small_network()


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("bundle") / "small.safetensors"
    write_bundle(path, GRAPH, TENSORS, META)
    return path.read_bytes()


def same(bundle: bundle_module.Bundle) -> bool:
    return (
        bundle.graph == GRAPH
        and set(bundle.tensors) == set(TENSORS)
        and all((bundle.tensors[k] == TENSORS[k]).all() for k in TENSORS)
        and META.items() <= bundle.meta.items()
    )


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "attack.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and text.isprintable() and len(text) < 600
    return text


# ---- what is written


def test_a_bundle_comes_back_as_it_was_written(tmp_path):
    for seed in range(6):
        graph, tensors = random_network(seed)
        path = tmp_path / "n.safetensors"
        content_hash = write_bundle(path, graph, tensors, META)
        bundle = read_bundle(path)
        assert bundle.graph == graph and bundle.content_hash == content_hash and bundle.task == "denoise"
        assert set(bundle.tensors) == set(tensors)
        for key, tensor in tensors.items():
            assert bundle.tensors[key].dtype == np.int32 and (bundle.tensors[key] == tensor).all()
        assert META.items() <= bundle.meta.items()


def test_one_network_gives_one_sequence_of_bytes(content, tmp_path):
    backwards = dict(reversed(TENSORS.items())), dict(reversed(META.items()))
    write_bundle(tmp_path / "a", GRAPH, *backwards)
    again = read_bundle(tmp_path / "a")
    write_bundle(tmp_path / "b", again.graph, again.tensors, again.meta)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == content


def test_any_safetensors_reader_opens_it(content, tmp_path):
    loaded = safetensors.numpy.load(content)
    assert set(loaded) == set(TENSORS)
    for node in GRAPH.nodes:
        if node.kind in ("conv", "dense_conv"):
            weight = loaded[f"{node.name}.weight"]
            assert weight.dtype == np.float16
            assert (weight.astype(float) * 2.0 ** node["q"] == TENSORS[f"{node.name}.weight"]).all()
    assert (loaded["lif.threshold"] == TENSORS["lif.threshold"]).all() and loaded["lif.bias"].dtype == np.int32
    (tmp_path / "a").write_bytes(content)
    with safetensors.safe_open(tmp_path / "a", "numpy") as file:
        assert file.metadata()["network.task"] == "denoise"


def test_the_file_is_laid_out_and_hashed_as_specified(content):
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    parts = Parts(content)
    assert parts.meta["bundle.content_hash"] == parts.hash()
    assert list(parts.meta) == sorted(parts.meta)
    offset = 0
    for entry in list(parts.header.values())[1:]:
        assert entry["data_offsets"][0] == offset
        offset = entry["data_offsets"][1]
    assert 8 + length + offset == len(content)


def test_a_file_rewritten_by_another_program_keeps_its_hash(content, tmp_path):
    meta = Parts(content).meta
    path = tmp_path / "rewritten.safetensors"
    safetensors.numpy.save_file(safetensors.numpy.load(content), path, meta)
    assert read_bundle(path).content_hash == meta["bundle.content_hash"] and same(read_bundle(path))


def test_an_existing_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "n.safetensors"
    path.write_text("old")
    write_bundle(path, GRAPH, TENSORS, META)
    assert same(read_bundle(path)) and os.listdir(tmp_path) == ["n.safetensors"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "n.safetensors"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # write() fails in the middle, as on a full disk
    try:
        with pytest.raises(BundleError, match=r"n\.safetensors cannot be written: .*; choose a folder"):
            write_bundle(path, GRAPH, TENSORS, META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["n.safetensors"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(BundleError, match="cannot be written: no such file or directory"):
        write_bundle(tmp_path / "missing" / "n.safetensors", GRAPH, TENSORS, META)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match="cannot be written: is a directory"):
        write_bundle(tmp_path / "folder", GRAPH, TENSORS, META)
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everywhere")
def test_missing_permission_is_one_sentence(tmp_path, content):
    path = tmp_path / "n.safetensors"
    path.write_bytes(content)
    path.chmod(0)
    with pytest.raises(BundleError, match="cannot be read: permission denied"):
        read_bundle(path)
    tmp_path.chmod(0o500)
    with pytest.raises(BundleError, match="cannot be written: permission denied"):
        write_bundle(path, GRAPH, TENSORS, META)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network.task": "colourise"}, "network.task is 'colourise'; one of denoise, derain"),
        ({"weights.licence": None}, "entry weights.licence is missing"),
        ({"training.data": "a\x1b[2J"}, "training.data holds control characters"),
        ({"training.data": "x" * 70000}, "training.data has 70000 characters"),
        ({"input.gamma": "2.2"}, "unknown entry 'input.gamma'"),
        ({"quality.psnr": "[]"}, "quality.psnr is not a JSON object"),
        ({"quality.psnr": '{"a":"b"}'}, "quality.psnr gives 'b' for 'a'"),
        ({"quality.psnr": '{"a":NaN}'}, "quality.psnr holds NaN"),
    ],
)
def test_metadata_that_are_not_in_order_are_not_written(tmp_path, change, sentence):
    meta = {k: v for k, v in (META | change).items() if v is not None}
    with pytest.raises(BundleError, match=re.escape(sentence)):
        write_bundle(tmp_path / "n", GRAPH, TENSORS, meta)
    assert not os.listdir(tmp_path)


def test_tensors_that_break_the_contract_are_not_written(tmp_path):
    broken = {k: v.copy() for k, v in TENSORS.items()}
    broken["conv.weight"][1, 0, 0, 0] = 2049
    with pytest.raises(BundleError, match="was not written: layer 'conv', channel 1: weight holds 2049 units"):
        write_bundle(tmp_path / "n", GRAPH, broken, META)
    assert not os.listdir(tmp_path)


# ---- what is not a file


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read: no such file or directory"):
        read_bundle(tmp_path / "missing")
    with pytest.raises(BundleError, match="is a folder"):
        read_bundle(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle(tmp_path / "pipe")
    with pytest.raises(BundleError, match="is not a regular file"):
        read_bundle("/dev/zero")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(bundle_module.MAX_FILE_BYTES + 1)
    with pytest.raises(BundleError, match="has more than 67108864 bytes"):
        read_bundle(tmp_path / "large")


# ---- damage


def test_every_truncation_is_refused(content, tmp_path):
    length = int.from_bytes(content[:8], "little")
    step = max(len(content) // 150, 1)
    for end in {
        *range(64),
        *range(0, len(content), step),
        8 + length - 1,
        8 + length,
        8 + length + 1,
        len(content) - 1,
    }:
        refusal(tmp_path, content[:end])
    refusal(tmp_path, content + b"\0")


def test_every_flipped_bit_is_refused(content):
    """One bit of every byte of the header and of every third byte of the tensors."""
    length = int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    for place in [*range(8 + length), *range(8 + length, len(content), 3)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(BundleError):
            bundle_module.parse(bytes(damaged))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_refused_or_holds_the_same(content, data):
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutated)))
        removed = data.draw(st.integers(0, 12))
        mutated[place : place + removed] = data.draw(st.binary(max_size=12))
    try:
        bundle = bundle_module.parse(bytes(mutated))
    except BundleError:
        return
    assert same(bundle)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def _replace_somewhere(value, draw, new):
    """The JSON value with one part, found by walking down at random, replaced or removed."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 4)):
        value = value.copy()
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        if draw(st.integers(0, 9)) == 0:
            del value[key]
        else:
            value[key] = _replace_somewhere(value[key], draw, new)
        return value
    return new


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), in_graph=st.booleans())
def test_forged_structure_with_a_right_hash_never_gets_past_the_reader_as_another_error(content, data, in_graph):
    parts = Parts(content)
    new = data.draw(_JSON | st.sampled_from([0, 1, 2, 3, 16, 255, 4096, 2**31, "lif", "conv", "image", "round"]))
    if in_graph:
        graph = _replace_somewhere(json.loads(parts.meta["network.graph"]), data.draw, new)
        parts.meta["network.graph"] = json.dumps(graph)
    else:
        parts.header = _replace_somewhere(parts.header, data.draw, new)
    try:
        forged = parts.join()
    except (KeyError, TypeError, AttributeError, ValueError, UnicodeEncodeError):  # not even a hash can be made of that
        forged = container(json.dumps(parts.header), parts.data)
    try:
        bundle_module.parse(forged)
    except BundleError as fault:
        assert str(fault).isprintable()


# ---- attacks on the container


def _header(text: str):
    return lambda parts: container(text, parts.data)


def _entry(name: str, **change):
    def attack(parts: Parts) -> bytes:
        parts.header[name].update(change)
        return parts.join(rehash=False)

    return attack


def _resized(shape, extent):
    return _entry("conv.weight", shape=shape, data_offsets=extent)


CONTAINER_ATTACKS = {
    "empty header": (_header(""), "the header is not JSON"),
    "no header length": (lambda p: b"", "ends after 0 bytes"),
    "header beyond the file": (lambda p: (900).to_bytes(8, "little") + b"{}", "ends after 10 of at least 908 bytes"),
    "huge header": (lambda p: b"\xff" * 8 + b"{}", "announce a header of 18446744073709551615 bytes"),
    "header above the cap": (
        lambda p: container(" " * (bundle_module.MAX_HEADER_BYTES + 1)),
        "at most 1048576 are supported",
    ),
    "another format": (lambda p: b"\x89PNG\r\n\x1a\n" + bytes(100), "this is not a bundle"),
    "not UTF-8": (lambda p: container(b'{"\xff": 1}'), "not UTF-8 (byte 10)"),
    "a list": (_header("[]"), "not a JSON object"),
    "no metadata": (_header("{}"), "without the metadata of a bundle"),
    "metadata is a list": (_header('{"__metadata__": []}'), "without the metadata of a bundle"),
    "a duplicate tensor": (_header('{"a": 1, "a": 2}'), "holds the key 'a' twice"),
    "a duplicate entry": (_header('{"__metadata__": {"a": "1", "a": "1"}}'), "holds the key 'a' twice"),
    "NaN": (_header('{"a": NaN}'), "holds NaN"),
    "deep nesting": (_header("[" * 100000), "nested too deeply"),
    "deep objects": (_header('{"a":' * 100000), "nested too deeply"),
    "a number of 10000 digits": (_header("1" * 10000), "the header is not"),
    "unknown type": (_entry("conv.weight", dtype="BF16"), "has the type 'BF16'; F16 and I32 are supported"),
    "type is a list": (_entry("conv.weight", dtype=["F16"]), "F16 and I32 are supported"),
    "further key": (_entry("conv.weight", hidden=1), "is not described by dtype, shape and data_offsets"),
    "negative size": (_entry("conv.weight", shape=[2, 2, -3, -3]), "whole numbers were expected"),
    "empty tensor": (_entry("conv.weight", shape=[2, 2, 0, 3]), "whole numbers were expected"),
    "fraction": (_entry("conv.weight", shape=[2, 2, 3, 3.0]), "whole numbers were expected"),
    "true for one": (_entry("conv.weight", shape=[2, 2, True, 9]), "whole numbers were expected"),
    "too many dimensions": (_entry("conv.weight", shape=[2, 2, 3, 3, 1]), "1 to 4 whole numbers"),
    "no dimension": (_entry("conv.weight", shape=[]), "1 to 4 whole numbers"),
    "product that overflows": (_entry("conv.weight", shape=[2**32, 2**32]), "whole numbers were expected"),
    "large product": (_entry("conv.weight", shape=[2**20, 2**20]), "needs 2199023255552"),
    "extent too short": (_entry("conv.weight", data_offsets=[0, 2]), "has 2 bytes; its shape"),
    "reversed offsets": (_entry("conv.weight", data_offsets=[72, 0]), "has -72 bytes; its shape"),
    "negative offset": (_entry("conv.weight", data_offsets=[-72, 0]), "two whole numbers were expected"),
    "three offsets": (_entry("conv.weight", data_offsets=[0, 36, 72]), "two whole numbers were expected"),
    "overlap": (_entry("conv.weight", data_offsets=[0, 72]), "overlaps the one before it"),
    "beyond the end": (_entry("conv.weight", data_offsets=[6000000, 6000072]), "leaves a hole before it"),
}


@pytest.mark.parametrize("name", CONTAINER_ATTACKS)
def test_attack_on_the_container(name, content, tmp_path):
    attack, sentence = CONTAINER_ATTACKS[name]
    assert sentence in refusal(tmp_path, attack(Parts(content)))


def test_bytes_hidden_between_or_behind_tensors_are_refused(content, tmp_path):
    parts = Parts(content)
    parts.data += b"hidden"
    assert "the file holds" in refusal(tmp_path, parts.join(rehash=False))
    parts = Parts(content)
    for entry in list(parts.header.values())[1:]:
        entry["data_offsets"] = [offset + 4 for offset in entry["data_offsets"]]
    parts.data = bytearray(4) + parts.data
    assert "leaves a hole before it" in refusal(tmp_path, parts.join(rehash=False))


# ---- attacks on the content, with the right hash


def _meta(**change):
    def attack(parts: Parts) -> None:
        for key, value in change.items():
            key = key.replace("__", ".")
            if value is None:
                del parts.meta[key]
            else:
                parts.meta[key] = value

    return attack


def _number(name: str, place, value):
    def attack(parts: Parts) -> None:
        parts.tensor(name)[place] = value

    return attack


def _node(index: int, **change):
    return lambda parts: parts.change_graph(lambda graph: graph["nodes"][index].update(change))


def _graph(**change):
    return lambda parts: parts.change_graph(lambda graph: graph.update(change))


def _drop_last_tensor(parts: Parts) -> None:
    name, entry = list(parts.header.items())[-1]
    del parts.header[name]
    del parts.data[entry["data_offsets"][0] :]


def _add_tensor(parts: Parts) -> None:
    end = len(parts.data)
    parts.header["extra\x1b[2J.weight"] = {"dtype": "F16", "shape": [1], "data_offsets": [end, end + 2]}
    parts.data += bytes(2)


def _reshape(parts: Parts) -> None:
    parts.header["conv.weight"]["shape"] = [2, 18]


def _wrong_type(parts: Parts) -> None:
    entry = parts.header["conv.weight"]
    entry["dtype"], entry["shape"] = "I32", [2, 2, 3, 3]
    begin, end = entry["data_offsets"]
    parts.data[begin:end] = bytes(144)
    for other in list(parts.header.values())[1:]:
        if other["data_offsets"][0] >= end:
            other["data_offsets"] = [offset + 72 for offset in other["data_offsets"]]
    entry["data_offsets"] = [begin, begin + 144]


CONTENT_ATTACKS = {
    "newer structure": (
        _meta(bundle__structure_version="3"),
        "this bundle has structure version 3; this program reads version 1: update it",
    ),
    "newer semantics": (_meta(bundle__semantics_version="2"), "has semantics version 2; this program reads version 1"),
    "version is no number": (_meta(bundle__structure_version="1.0"), "bundle.structure_version is '1.0'"),
    "version of many digits": (_meta(bundle__structure_version="9" * 5000), "a whole number was expected"),
    "no version": (_meta(bundle__structure_version=None), "without the metadata of a bundle"),
    "no semantics": (_meta(bundle__semantics_version=None), "bundle.semantics_version is ''"),
    "no graph": (_meta(network__graph=None), "entry network.graph is missing"),
    "no licence": (_meta(weights__licence=None), "entry weights.licence is missing"),
    "unknown entry": (_meta(network__secret="1"), "unknown entry 'network.secret'"),
    "wrong task": (_meta(network__task="colourise"), "network.task is 'colourise'; one of denoise"),
    "other comparison": (_meta(neuron__comparison=">"), "neuron.comparison is '>'; '>=' is supported"),
    "other neuron": (_meta(neuron__kind="izhikevich"), "neuron.kind is 'izhikevich'; the graph's neurons are 'lif'"),
    "other range": (_meta(input__range="u8 / 255"), "input.range is 'u8 / 255'"),
    "other colours": (_meta(input__colour="BGR"), "input.colour is 'BGR'; 'RGB' is supported"),
    "control characters": (_meta(training__data="\x1b]0;owned\x07"), "training.data holds control characters"),
    "a long text": (_meta(note__story="x" * 70000), "note.story has 70000 characters"),
    "time steps differ": (_meta(network__time_steps="4"), "network.time_steps is '4'; the graph has 2"),
    "graph is no JSON": (_meta(network__graph="{"), "network.graph is not JSON"),
    "graph is a list": (_meta(network__graph="[]"), "the graph is not an object"),
    "graph nested deeply": (_meta(network__graph="[" * 100000), "network.graph is nested too deeply"),
    "duplicate key in the graph": (_meta(network__graph='{"a":1,"a":1}'), "network.graph holds the key 'a' twice"),
    "bounds too small": (_meta(network__bounds='{"image":1}'), "the stored bounds are not those that follow"),
    "bounds are a number": (_meta(network__bounds="1"), "the stored bounds are not those that follow"),
    "bounds are no JSON": (_meta(network__bounds="x"), "network.bounds is not JSON"),
    "PSNR is a list": (_meta(quality__psnr="[1]"), "quality.psnr is not a JSON object"),
    "unknown kind": (_node(4, kind="transformer"), "layer 'lif' is of the unknown kind 'transformer'"),
    "kind is a list": (_node(4, kind=["lif"]), "is of the unknown kind"),
    "unknown attribute": (_node(4, tau=2), "layer 'lif' (lif) has the attributes"),
    "unknown leak": (_node(4, leak="exponential"), "layer 'lif': leak = 'exponential'"),
    "name with escape codes": (_node(4, name="\x1b[2J"), "a node's name is not a short printable word"),
    "two nodes of one name": (_node(4, name="round"), "two nodes are called 'round'"),
    "reads a later node": (_node(4, inputs=["add"]), "reads 'add', which does not stand before it"),
    "a factor beyond printing": (_node(1, factor="\x1b"), "layer 'pixels': factor = '\\x1b'; 2 to 8 is"),
    "grid too fine": (_node(5, q=15), "layer 'conv': q = 15; 0 to 14 is supported"),
    "groups that do not divide": (_node(5, groups=3), "do not divide into 3 groups"),
    "kernel too large": (_node(5, kernel=9), "layer 'conv': kernel = 9"),
    "shift beyond the grid": (_node(3, shift=25), "layer 'round' (requantise): shift 25 is larger"),
    "three time steps": (_graph(time_steps=3), "T = 3 time steps: a power of two"),
    "a million time steps": (_graph(time_steps=2**20), "T = 1048576 time steps"),
    "stage without a node": (_graph(stages={"4": "nowhere"}), "stage 4 names 'nowhere'"),
    "stage 9": (_graph(stages={"9": "lif"}), "stages are not numbered 1 to 7"),
    "stage names a list": (_graph(stages={"4": ["lif"]}), "stage 4 names"),
    "no nodes": (_graph(nodes=[]), "the graph needs a list of 2 to 1024 nodes"),
    "NaN weight": (_number("conv.weight", (1, 0, 2, 2), np.nan), "layer 'conv', channel 1: the weight nan is not"),
    "infinite weight": (_number("head.weight", (0, 0, 0, 0), -np.inf), "layer 'head', channel 0: the weight -inf"),
    "weight off the grid": (_number("conv.weight", (1, 1, 0, 0), 0.5 + 2**-11), "channel 1: the weight 0.50048828125"),
    "weight too large": (_number("conv.weight", (0, 1, 0, 0), 4.0), "channel 0: the weight 4.0 is not a whole number"),
    "negative zero": (_number("conv.weight", (0, 1, 0, 0), -0.0), "channel 0: the weight -0.0 is not a whole number"),
    "threshold 0": (_number("lif.threshold", 1, 0), "layer 'lif', channel 1: threshold is 0; 1 to"),
    "negative threshold": (_number("lif.threshold", 0, -(2**31)), "channel 0: threshold is -2147483648; 1 to"),
    "leak 16": (_number("lif.leak", 0, 16), "layer 'lif', channel 0: leak is 16; 0 to 15 is"),
    "bias that overflows": (_number("lif.bias", 1, 2**31 - 1), "layer 'lif', channel 1: a value can reach"),
    "lost tensor": (_drop_last_tensor, "tensor 'readout.conv.weight' is missing"),
    "further tensor": (_add_tensor, "no layer of the graph uses the tensor 'extra\\x1b[2J.weight'"),
    "other shape": (_reshape, "layer 'conv': weight is F16 [2, 18]; expected F16 [2, 2, 3, 3]"),
    "weights as integers": (_wrong_type, "layer 'conv': weight is I32 [2, 2, 3, 3]; expected F16"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENT_ATTACKS)
def test_attack_on_the_content(name, content, tmp_path):
    attack, sentence = CONTENT_ATTACKS[name]
    parts = Parts(content)
    attack(parts)
    assert sentence in refusal(tmp_path, parts.join())


def test_a_metadata_entry_that_is_no_string_is_refused(content, tmp_path):
    parts = Parts(content)
    parts.meta["network.task"] = 1
    assert "entry 'network.task' is not a string" in refusal(tmp_path, parts.join(rehash=False))


def test_half_a_surrogate_pair_is_refused(content, tmp_path):
    parts = Parts(content)
    parts.meta["note.name"] = "\ud800"
    refusal(tmp_path, parts.join(rehash=False))


def test_a_wrong_hash_is_refused(content, tmp_path):
    parts = Parts(content)
    parts.meta["note.author"] = "somebody else"
    assert "content hash does not match" in refusal(tmp_path, parts.join(rehash=False))
    del parts.meta["bundle.content_hash"]
    assert "content hash does not match" in refusal(tmp_path, parts.join(rehash=False))
