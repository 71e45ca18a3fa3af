"""Cards, against an emulator of Lynxi's SDK: the published order of calls, everything given back, nothing believed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from export import lynxi
from firmware_bridge import compare, conformance
from firmware_bridge.boards import CARDS, BoardError, NotCompiledError, open_board
from firmware_bridge.boards import lynxi as board
from firmware_bridge.boards.__main__ import main as list_boards
from firmware_bridge.first_difference import NetworkTracer, first_place
from simulator import compiled
from simulator.bundle import Bundle, write_bundle
from simulator.network import Network
from simulator.random_networks import narrow_paper_network
from tests.conformance.agreement import META, bundled
from tests.firmware_bridge.card_networks import network

pytest.importorskip("onnx")
EMULATOR = Path(__file__).parent / "lynxi_sdk"
ORDER = (
    "lyn_create_context lyn_set_current_context lyn_register_error_handler lyn_create_stream lyn_get_device_count "
    "lyn_load_model lyn_model_get_desc c_malloc lyn_malloc lyn_malloc"
).split()
RUN = (
    "lyn_set_current_context lyn_numpy_contiguous_to_ptr lyn_memcpy_async lyn_model_reset_async "
    "lyn_execute_model_async lyn_memcpy_async lyn_synchronize_stream lyn_ptr_to_numpy"
).split()
CLOSE = (
    "lyn_set_current_context lyn_free lyn_free c_free lyn_unload_model lyn_destroy_stream lyn_destroy_context"
).split()


@pytest.fixture
def card(monkeypatch, tmp_path) -> Iterator[object]:
    """The emulated card, in a folder of its own; at the end nothing is held, and no rule was broken."""
    monkeypatch.syspath_prepend(str(EMULATOR))
    monkeypatch.chdir(tmp_path)
    sdk = importlib.import_module("pylynchipsdk")
    state = sdk.start_anew()
    yield state
    for name in ("pylynchipsdk", "lyngor"):
        sys.modules.pop(name, None)
    assert state.misuses == [] and state.leaks == []


def built(bundle: Bundle, size: str = "16x24", *options: str) -> Path:
    """The bundle's file, and its body compiled."""
    path = Path(f"{bundle.content_hash[:6]}.safetensors")
    write_bundle(path, bundle.graph, bundle.tensors, bundle.meta)
    assert lynxi.main([str(path), "--size", size, *options]) == 0
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("neurons", ["lif", "window"])
def test_a_card_restores_pictures_of_any_size_from_its_body_s_on(card, neurons):
    bundle = network(neurons)
    built(bundle, "16x24")
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        assert opened.least() == (16, 24)
        for height, width in ((16, 24), (15, 23), (40, 53)):
            image = noise(height, width)
            found = opened.run(image)
            assert np.array_equal(found.image, Network(bundle).run(image).image)
            assert found.counts is None and 0 < found.seconds < found.end_to_end_s
            assert (found.overhead > 1.01) == (height == 40)


def test_the_sdk_is_called_in_the_published_order_and_everything_is_given_back(card):
    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        opened.run(noise(16, 24))
        opened.run(noise(16, 24))
        assert card.calls == ORDER + RUN + RUN
        opened.close()
        assert card.calls == ORDER + RUN + RUN + CLOSE and card.leaks == []


@pytest.mark.parametrize("call", [name for name in dict.fromkeys(ORDER + RUN) if name != "lyn_ptr_to_numpy"])
def test_a_call_that_fails_is_named_and_nothing_is_held_afterwards(card, call):
    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        card.failing[call] = 0x5A
        with pytest.raises(BoardError, match=f"^lynxi://0: {call} failed"):
            opened.run(noise(16, 24))
        card.failing.clear()
    assert card.leaks == []


def test_a_release_that_fails_does_not_keep_the_others_from_being_released(card):
    bundle = network()
    built(bundle)
    opened = open_board("lynxi://0")
    opened.load(bundle)
    opened.run(noise(16, 24))
    card.failing["lyn_unload_model"] = 7
    with pytest.raises(BoardError, match="lyn_unload_model failed: error 0x7"):
        opened.close()
    assert card.leaks == []
    opened.close()


@pytest.mark.parametrize(
    ("break_a_rule", "noticed"),
    [
        (lambda sdk, at: sdk.lyn_free(at["in"]) or sdk.lyn_free(at["in"]), "used after it was freed"),
        (lambda sdk, at: sdk.lyn_execute_model_async(at["stream"], at["model"], at["in"], at["out"], 1), "a reset"),
        (
            lambda sdk, at: sdk.lyn_memcpy_async(at["stream"], at["in"], at["host"], 1 << 20, at["up"]),
            "1048576 bytes",
        ),
        (
            lambda sdk, at: sdk.lyn_memcpy_async(at["stream"], at["in"], at["host"], 8, at["down"]),
            "no pointer to memory",
        ),
        (lambda sdk, at: sdk.lyn_destroy_context(at["context"]), "destroyed before its stream, model"),
        (
            lambda sdk, at: sdk.lyn_unload_model(at["model"]) or sdk.lyn_model_get_desc(at["model"]),
            "after it was released",
        ),
        (lambda sdk, at: sdk.lyn_set_current_context(at["stream"]), "is no context"),
        (lambda sdk, at: sdk.lyn_numpy_contiguous_to_ptr(np.zeros((4, 4))[:, :2]), "not contiguous"),
        (lambda sdk, at: lost_array(sdk, at), "memory of array used after it was freed"),
    ],
)
def test_the_emulator_notices_what_a_card_would_not_survive(card, break_a_rule, noticed):
    """Without this the other tests would prove nothing."""
    built(network())
    (net,) = Path(compiled.MODELS).glob("*/Net_0")
    sdk = sys.modules.get("pylynchipsdk") or importlib.import_module("pylynchipsdk")
    context, _ = sdk.lyn_create_context(0)
    sdk.lyn_set_current_context(context)
    at = {"context": context, "stream": sdk.lyn_create_stream()[0], "model": sdk.lyn_load_model(str(net))[0]}
    at |= {"in": sdk.lyn_malloc(1 << 14)[0], "out": sdk.lyn_malloc(1 << 14)[0], "host": sdk.c_malloc(1 << 14)}
    at |= {"up": sdk.lyn_memcpy_dir_t.ClientToServer, "down": sdk.lyn_memcpy_dir_t.ServerToClient}
    with pytest.raises(AssertionError, match=noticed):
        break_a_rule(sdk, at)
    assert card.misuses and card.leaks
    card.misuses.clear()
    for held in (*card.handles, *card.memory.values()):
        held.freed = True


def lost_array(sdk, at):
    pointer, _ = sdk.lyn_numpy_contiguous_to_ptr(np.zeros(4))
    sdk.lyn_memcpy_async(at["stream"], at["in"], pointer, 32, at["up"])
    sdk.lyn_synchronize_stream(at["stream"])


def test_ctrl_c_in_a_run_leaves_nothing_under_way(card, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        opened.run(noise(16, 24))
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(sys.modules["pylynchipsdk"], "lyn_execute_model_async", interrupted)
            opened.run(noise(16, 24))
        assert card.calls[-1] == "lyn_synchronize_stream"


def spoiled(change):
    def spoil(found):
        found = found.copy()
        change(found)
        return found

    return spoil


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda found: found.put(5, np.nan), "numbers that are none"),
        (lambda found: found.put(5, np.inf), "numbers that are none"),
        (lambda found: found.put(5, 60000), "where at most .* is possible; was this body compiled of this network"),
    ],
)
def test_what_a_card_gives_is_checked(card, change, complaint):
    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        card.spoil = spoiled(change)
        with pytest.raises(BoardError, match=complaint):
            opened.run(noise(16, 24))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda one: one.outputTensorAttrArray[0].dims.append(7), "has the outputs .* compile it anew"),
        (lambda one: setattr(one.inputTensorAttrArray[0], "batchSize", 4), r"batches of \[4\] pictures; expected 1"),
        (lambda one: setattr(one.inputTensorAttrArray[0], "dtype", "int8"), "neither all float16 nor all float32"),
        (lambda one: setattr(one, "outputDataLen", 1 << 40), "take 1099511627776 bytes; expected"),
        (lambda one: one.outputTensorAttrArray.pop(), "has the outputs"),
        (lambda one: setattr(one.inputTensorAttrArray[0], "dims", ["?"]), "another interface.*lyn_model_get_desc"),
        (lambda one: delattr(one, "inputDataLen"), "another interface.*lyn_model_get_desc"),
    ],
)
def test_a_description_of_another_network_is_refused_before_anything_is_sent(card, change, complaint):
    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        card.describe = change
        with pytest.raises(BoardError, match=complaint):
            opened.run(noise(16, 24))
        assert "lyn_memcpy_async" not in card.calls


def test_an_error_that_the_card_reports_while_it_computes_ends_the_run(card):
    bundle = network()
    built(bundle)
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        card.stream_error = 0x2B
        with pytest.raises(BoardError, match="the card reported an error while it computed: error 0x2b"):
            opened.run(noise(16, 24))


def test_both_usages_of_lyn_ptr_to_numpy_and_both_names_of_a_compiled_graph_are_known(card, monkeypatch):
    monkeypatch.setattr(importlib.import_module("lyngor"), "OLD", True)
    bundle = network()
    built(bundle)
    card.sdk_types = True
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        image = noise(16, 24)
        assert np.array_equal(opened.run(image).image, Network(bundle).run(image).image)


def test_a_card_that_does_not_exist_is_named(card):
    bundle = network()
    built(bundle)
    with open_board("lynxi://3") as opened:
        opened.load(bundle)
        with pytest.raises(BoardError, match="lyn_create_context failed: error 0xd1"):
            opened.run(noise(16, 24))


@pytest.mark.parametrize("name", ["lynxi://", "lynxi://x", "lynxi://-1", "lynxi://0/x", "lynxi://0?speed=2"])
def test_an_address_that_is_none_says_what_one_looks_like(name):
    with pytest.raises(BoardError, match="expected something like lynxi://0"):
        open_board(name)


def test_what_was_not_compiled_is_answered_with_the_command(card):
    bundle = network()
    with open_board("lynxi://0") as opened:
        with pytest.raises(NotCompiledError, match="run `python -m export.lynxi BUNDLE --size 128x128`"):
            opened.load(bundle)
    built(bundle, "16x24")
    built(bundle, "24x16", "--out", "elsewhere")
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        with pytest.raises(BoardError, match=r"8x8 pixels needs a body of its size.*compiled are 24x16 .*--size 8x8`"):
            opened.run(noise(7, 8))
    with open_board("lynxi://0?models=elsewhere") as opened:
        opened.load(bundle)
        assert opened.least() == (24, 16)


def test_a_folder_that_lyngor_has_not_seen_yet_says_where_to_run_what(card, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "lyngor" else object())
    bundle = network()
    built(bundle)
    out = capsys.readouterr().out
    assert "lyngor, Lynxi's compiler, is not installed here." in out and "compile.py" in out
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        with pytest.raises(BoardError, match="is not compiled yet: there is no Net_0; run `python compile.py` in it"):
            opened.run(noise(16, 24))


def test_compile_py_needs_nothing_of_this_project(card, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    built(network())
    (folder,) = (tmp_path / compiled.MODELS).iterdir()
    done = subprocess.run(
        [sys.executable, "compile.py"], cwd=folder, env={"PYTHONPATH": str(EMULATOR)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"compiled {folder / 'Net_0'}\n" and (folder / "Net_0").is_dir()


def test_without_the_sdk_the_list_says_what_is_missing_and_a_run_too(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "pylynchipsdk", raising=False)
    assert list_boards([]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("lynxi://N"))
    assert "not verified on a card; missing: pylynchipsdk, the maker's SDK" in line
    with (
        open_board("lynxi://0") as opened,
        pytest.raises(BoardError, match="cannot be used yet, missing: pylynchipsdk"),
    ):
        opened.load(network())


def test_the_list_asks_the_driver_for_cards(card, capsys):
    assert CARDS["lynxi"].missing() == ""
    card.devices = 0
    assert "the driver finds none" in CARDS["lynxi"].missing()
    built(network(), "16x24")
    assert list_boards(["lynxi://0"]) == 0
    out = capsys.readouterr().out
    assert "not verified on a card" in out and "-16x24" in out and "device service does not answer" in out


def test_a_network_that_cannot_be_cut_is_refused_by_the_exporter_and_by_the_board(card, capsys):
    bundle = bundled(*narrow_paper_network())
    write_bundle("paper.safetensors", bundle.graph, bundle.tensors, META)
    assert lynxi.main(["paper.safetensors", "--size", "16x16"]) == 2
    assert "stands between neurons" in capsys.readouterr().err
    with open_board("lynxi://0") as opened, pytest.raises(NotCompiledError, match="stands between neurons"):
        opened.load(bundle)


@pytest.mark.parametrize("size", ["16", "0x16", "axb", "16x16x16"])
def test_a_size_that_is_none_is_refused(size, capsys):
    with pytest.raises(SystemExit):
        lynxi.main(["x.safetensors", "--size", size])
    assert "is not a size: give height and width in pixels" in capsys.readouterr().err


@pytest.mark.parametrize("neurons", ["lif", "window"])
def test_a_body_that_shows_its_neurons_is_looked_into(card, neurons):
    bundle = network(neurons)
    built(bundle, "16x24", "--layers")
    with open_board("lynxi://0") as opened:
        opened.load(bundle)
        tracer = opened.tracer()
        assert tracer is not None
        assert set(tracer.trace(noise(16, 24))) == {"down.lif", "inner.lif", "up.lif", "readout"}
        assert first_place(NetworkTracer(Network(bundle)), tracer, noise(16, 24)) is None
        opened.run(noise(16, 24))


def test_compare_counts_pixels_and_names_the_first_spike_of_a_card_whose_sums_are_rounded(card, capsys):
    bundle = network("lif", seed=2, reach=2000)  # weights that 11 bits cannot add up
    path = built(bundle, "32x32", "--layers")
    cv2.imwrite("a.png", noise(40, 48, 3))
    card.rounding = "every"
    assert compare.main(["--board", "lynxi://0", "--bundle", str(path), "a.png"]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: " in out and "of 1,920 pixels" in out and "%, by at most" in out
    assert "a.png: first difference in the part of the picture around that pixel: layer '" in out and "step" in out
    assert "in more than 1.0% of the pixels, which float16 explains, on 1 of 1 pictures" in out


def test_compare_says_how_to_see_the_neurons(card, capsys):
    bundle = network()
    path = built(bundle, "16x24")
    cv2.imwrite("a.png", noise(16, 24))
    card.spoil = spoiled(lambda found: found.__imul__(0.5))
    assert compare.main(["--board", "lynxi://0", "--bundle", str(path), "a.png"]) == 1
    assert "--size 128x128 --layers` compiles a body that does" in capsys.readouterr().out


def test_conformance_runs_what_was_compiled_and_names_the_rest(card, capsys):
    one, other = network("lif"), network("window")
    paths = [built(one, "32x32", "--layers"), Path("other.safetensors")]
    write_bundle(paths[1], other.graph, other.tensors, META)
    arguments = ["--board", "lynxi://0", "--size", "24", "--random", "1"]
    assert conformance.main([*arguments, "--bundle", *map(str, paths)]) == 0
    out = capsys.readouterr().out
    assert f"{paths[0].stem}: equal" in out and "left out, not compiled for it: other, random network 0" in out
    assert "0 bits differ: 1 networks, 2 pictures" in out and "1 networks compared in every layer" in out
    assert conformance.main([*arguments, "--bundle", str(paths[1])]) == 2
    assert "not one of the networks was compiled for it" in capsys.readouterr().err


def test_edge_restore_runs_on_a_card_and_does_not_invent_spikes(card, capsys):
    from edge import cli

    bundle = network()
    path = built(bundle, "32x32")
    cv2.imwrite("a.png", noise(40, 44))
    arguments = ["a.png", "--task", "denoise", "--bundle", str(path), "--out", "b.png", "--stats", "s.json", "--force"]
    assert cli.main([*arguments, "--board", "lynxi://0", "--power", "none"]) == 0
    stats = json.loads(Path("s.json").read_text())
    assert stats["backend"] == "lynxi://0" and stats["layers"] == [] and stats["energy"] is None
    assert stats["totals"]["spike_rate"] is None and stats["latency_ms"]["median"] > 0
    out = capsys.readouterr().out
    assert "spike rate" not in out and "on lynxi://0, whose latency is wall time of the card's part" in out
    assert cli.main([*arguments[:5], "--out", "c.png", "--force"]) == 0
    assert np.array_equal(cv2.imread("b.png"), cv2.imread("c.png"))


@pytest.fixture
def service(monkeypatch) -> Iterator[list[bytes]]:
    """The maker's device service; what it answers is the list's only entry."""
    answers = [
        json.dumps({"0": {"Ok": {"board": {"power_draw": 41250.0}, "device": {}}}, "1": {"Err": "gone"}}).encode()
    ]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/devices" else 404)
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(board, "SERVICE", ("127.0.0.1", server.server_port))
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()


def test_power_is_what_the_device_service_measures(service):
    with open_board("lynxi://0") as opened:
        recording = opened.recording()
        assert recording.source == "lynxi0" and recording.sensor is not None
        assert recording.sensor.read() == pytest.approx(41.25) and "whole card" in recording.sensor.covers
    with open_board("lynxi://1") as opened:
        assert "no power_draw of device 1" in opened.recording().missing


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "something else than JSON"),
        (b"\xff\xfe", "something else than JSON"),
        (b"[" * 100_000, "something else than JSON"),
        (b"[1]", "no power_draw of device 0"),
        (b'{"0": {"Ok": null}}', "no power_draw of device 0"),
        (b'{"0": {"Ok": {"board": {"power_draw": NaN}}}}', "says that it draws 'nan' mW"),
        (b'{"0": {"Ok": {"board": {"power_draw": 1e999}}}}', "says that it draws 'inf' mW"),
        (b'{"0": {"Ok": {"board": {"power_draw": true}}}}', "says that it draws 'True' mW"),
        (b'{"0": {"Ok": {"board": {"power_draw": "41"}}}}', "says that it draws '41' mW"),
        (b'{"0": {"Ok": {"board": {"power_draw": 9e9}}}}', "reads 9e"),
        (b'{"0": {"Ok": {"board": {"power_draw": -900}}}}', "reads -0.9 W"),
        (b" " * (2 << 20), "does not come to an end"),
    ],
)
def test_what_the_device_service_says_is_checked(service, answer, complaint):
    service[0] = answer
    with open_board("lynxi://0") as opened:
        assert complaint in opened.recording().missing


def test_folders_that_are_no_bodies_are_passed_over(tmp_path):
    for name in ("x", "0123456789abcdef-16x16", "0123456789abcdef-16x16-layers", "0123456789abcdef-0x16", "a-1x1"):
        (tmp_path / name).mkdir()
    found = compiled.find("0123456789abcdef" + "0" * 48, tmp_path)
    assert [(one.height, one.width, one.layers) for one in found] == [(16, 16, False), (16, 16, True)]
    assert compiled.find(None, tmp_path / "missing") == []
