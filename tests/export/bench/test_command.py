"""`python -m export.bench`: one table and one JSON file; what is missing is named, what differs is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.bench import layers, processes, report, spiking, timing
from export.bench.command import main
from simulator.analysis import analyse
from simulator.bundle import read_bundle, write_bundle
from simulator.kinds.convolution import convolve
from tests.simulator.networks import META, random_network

ROOT = Path(__file__).parents[3]
SAME = ["reference", "onnx", "torch"]  # compute the engine's pixels to the bit
ANN = ["ann-onnx", "ann-onnx-int8", "ann-litert", "ann-litert-int8", "ann-torch"]


@pytest.fixture(scope="module")
def bundle_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "denoise.safetensors"
    write_bundle(path, *random_network(2), META)
    return path


def run(bundle_file, tmp_path, *arguments) -> dict:
    """The report of a run in which everything went well."""
    out = tmp_path / "bench.json"
    options = ["--bundle", str(bundle_file), "--repeats", "3", "--json", str(out)]
    assert main([*options, *map(str, arguments)]) == 0
    return json.loads(out.read_text())


def test_times_ratios_and_differences_are_reported(bundle_file, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    found = run(bundle_file, tmp_path, "--parts", "sizes", "--sizes", 24, 150, "--only", *SAME, *ANN)
    assert found["threads"] == [1] and found["missing"] == {} and found["complete"]
    small, large = found["sizes"]
    assert [row["key"] for row in small["contenders"]] == ["engine", *SAME, *ANN]
    # The reference is too slow for the large one.
    assert [row["key"] for row in large["contenders"]] == ["engine", *SAME[1:], *ANN]
    for row in (*small["contenders"], *large["contenders"]):
        assert len(row["times_ms"]) == 3 and min(row["times_ms"]) > 0
        assert row["median_ms"] == sorted(row["times_ms"])[1] <= row["p95_ms"] <= max(row["times_ms"])
        if row["network"] == "spiking":
            assert row["differing_pixels"] == 0 and row["mean_difference"] == 0
        else:
            assert row["differing_pixels"] is None and row["mean_difference"] is None
    assert small["contenders"][0]["ratio"] == 1 and 0 < small["spike_rate"] < 1
    printed = capsys.readouterr().out
    assert printed.count("equal to the bit") == 5 and printed.count("another network") == 10
    assert f"{large['width']}x{large['height']} pixels of the noisy sample picture" in printed


def test_every_number_of_threads_gets_its_table(bundle_file, tmp_path):
    found = run(bundle_file, tmp_path, "--parts", "sizes", "--sizes", 16, "--threads", 1, 2, "--only", "reference")
    assert [(entry["threads"], len(entry["contenders"])) for entry in found["sizes"]] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("package", "keys", "words"),
    [
        ("onnxruntime", ["onnx", "ann-onnx"], "pip install 'spikerir-edge[export]'"),
        ("ai_edge_litert", ["ann-litert"], "pip install 'spikerir-edge[export]'"),
        ("torch", ["torch", "ann-torch"], "pip install 'spikerir-edge[train]'"),
        ("spikingjelly", ["spikingjelly"], "pip install 'spikerir-edge[bench]'"),
        ("snntorch", ["snntorch"], "pip install 'spikerir-edge[bench]'"),
        ("norse", ["norse"], "pip install 'spikerir-edge[bench]'"),
        ("sinabs", ["sinabs"], "pip install 'spikerir-edge[bench]'"),
    ],
)
def test_a_missing_package_is_named_and_no_mistake(package, keys, words, bundle_file, tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    found = run(bundle_file, tmp_path, "--parts", "sizes", "--sizes", 8, "--only", *keys)
    printed = capsys.readouterr().out
    assert list(found["missing"]) == keys and found["complete"]
    for key in keys:
        assert f"missing: {key}: " in printed and words in found["missing"][key]


def test_without_a_compiler_the_compiled_contenders_are_missing(bundle_file, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(
        bundle_file, tmp_path, "--parts", "sizes", "--sizes", 8, "--only", "torch-compiled", "ann-torch-compiled"
    )
    assert list(found["missing"]) == ["torch-compiled", "ann-torch-compiled"]
    assert all("C++ compiler" in why for why in found["missing"].values())


def test_a_contender_that_fails_is_named_and_the_others_run_on(bundle_file, tmp_path, monkeypatch):
    def broken(*arguments):
        raise AttributeError("their new version has no such thing")

    monkeypatch.setattr(spiking, "_reference", broken)
    found = run(bundle_file, tmp_path, "--parts", "sizes", "--sizes", 8, "--only", "reference", "torch")
    assert "no such thing" in found["missing"]["reference"]
    assert [row["key"] for row in found["sizes"][0]["contenders"]] == ["engine", "torch"]


def test_a_process_that_fails_does_not_take_the_other_figures_along(bundle_file, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "FIRST_PICTURE", "raise SystemExit('no such file')")
    found = run(bundle_file, tmp_path, "--parts", "start-up", "memory")
    assert found["missing"] == {"start-up": "no such file"} and found["memory"][0]["key"] == "engine"


def test_slow_contenders_take_part_in_fewer_rounds_evenly_spread():
    order: list[str] = []

    def slow():
        order.append("slow")
        processes.time.sleep(0.02)

    times, _ = timing.interleaved({"quick": lambda: order.append("quick"), "slow": slow}, repeats=8, budget=0.09)
    assert len(times["quick"]) == 8 and len(times["slow"]) in (3, 4)
    rounds = "".join(name[0] for name in order[2:]).split("q")[1:]  # after one call each that says how long it takes
    assert max(len(part) for part in rounds) == 1 and rounds[-1] == "s" and rounds[0] == ""


def test_layers_are_timed_at_each_rate_on_the_currents_they_should_compute(bundle_file, tmp_path, capsys):
    found = run(bundle_file, tmp_path, "--parts", "layers")
    bundle, printed = read_bundle(bundle_file), capsys.readouterr().out
    assert all(row["shape"] in printed for row in found["layers"])
    named = [name for row in found["layers"] for name in row["layers"]]
    assert sorted(named) == sorted(node.name for node in bundle.graph.nodes if node.kind == "conv")
    for row in found["layers"]:
        assert [one["rate"] for one in row["rates"]] == list(layers.RATES)
        synops = [one["synops"] for one in row["rates"]]
        assert synops == sorted(synops) and synops[0] > 0 and all(one["ms"] > 0 for one in row["rates"])
    for nodes in layers.shapes(bundle).values():
        layer = layers.SpikingLayer(bundle, nodes[0], 12, 1)
        for rate in (0.1, 0.6):
            bits, synops = layer.draw(rate, np.random.default_rng(0))
            layer.place(bits)
            layer.run()
            channels = bundle.analysis.values[nodes[0].inputs[0]].channels
            spikes = np.unpackbits(bits, axis=3, bitorder="little")[:, :, :12, :channels].transpose(0, 3, 1, 2)
            weight = bundle.tensors[f"{nodes[0].name}.weight"].astype(np.int64)
            bias = bundle.tensors[f"{nodes[0].name}.bias"].astype(np.int64) if nodes[0]["bias"] else None
            attrs = (nodes[0][key] for key in ("stride", "padding", "groups"))
            assert np.array_equal(layer.currents(), convolve(spikes.astype(np.int64), weight, bias, *attrs))
            ones = convolve(spikes.astype(np.int64), np.ones_like(weight), None, *(
                nodes[0][key] for key in ("stride", "padding", "groups")
            ))  # fmt: skip
            assert synops == ones.sum()  # each spike once for each weight that it meets


def test_the_rate_at_which_dense_and_event_driven_are_equal_lies_between_two_that_were_timed():
    assert layers.crossing((0.1, 0.2, 0.4), [1.0, 2.0, 4.0], 3.0) == pytest.approx(0.3)
    assert layers.crossing((0.1, 0.2), [1.0, 2.0], 2.5) is None
    assert layers.crossing((0.1, 0.2), [1.0, 2.0], 0.5) == 0


def test_start_up_and_memory_are_those_of_another_process(bundle_file):
    start = processes.start_up(bundle_file, 1, repeats=1)
    assert 0.05 < start["cached_s"] < 60
    small, large = (processes.peak_memory(bundle_file, "reference", n, n, 1) for n in (16, 128))
    assert 10 < small["baseline_mb"] < small["peak_mb"] < large["peak_mb"] < 1000
    with pytest.raises(processes.ChildError, match="none.safetensors"):
        processes.peak_memory(bundle_file.with_name("none.safetensors"), "engine", 16, 16, 1)


def test_the_marks_are_the_worst_ratios_from_256_pixels_on():
    def entry(size, **ratios):
        rows = [{"key": key.replace("_", "-"), "ratio": ratio} for key, ratio in ratios.items()]
        return {"height": size, "width": size, "threads": 1, "contenders": rows}

    found = {
        "sizes": [entry(128, onnx=2, ann_onnx=0.5), entry(256, onnx=9, ann_onnx=1.5), entry(512, onnx=7, ann_onnx=0.9)],
        "roofline": [{"shape": "32->32 3x3", "fraction": 0.7}, {"shape": "16->16 3x3", "fraction": 0.2}],
        "scaling": [{"speed": {"1": 1.0, "2": 1.8}}],
        "start_up": {"cached_s": 1.7},
        "memory": [{"key": "engine", "width": 1920, "peak_mb": 300}, {"key": "onnx", "width": 512, "peak_mb": 900}],
    }
    verdicts = {row["what"].partition(",")[0]: (row["found"], row["reached"]) for row in report.marks(found)}
    assert verdicts["times ONNX Runtime float32"] == (0.9, False)  # the equivalent ANN; the last of that name
    assert [row["found"] for row in report.marks(found)] == [7, 0.9, 0.7, 1.8, 1.7, 300]
    assert [row["reached"] for row in report.marks(found)] == [True, False, True, True, False, True]
    assert "not reached" in "\n".join(report.marks_table(report.marks(found)))


def test_both_plots_are_drawn(bundle_file, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "new" / "plots"
    options = ["--parts", "sizes", "layers", "--sizes", 8, 16, "--only", "reference", "--plots", folder]
    run(bundle_file, tmp_path, *options)
    assert {path.name for path in folder.iterdir()} == {"resolution.png", "spike_rate.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_without_matplotlib_the_figures_are_written_and_the_package_is_named(
    bundle_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "bench.json"
    options = ["--parts", "sizes", "--sizes", "8", "--only", "reference", "--plots", str(tmp_path), "--json", str(out)]
    assert main(["--bundle", str(bundle_file), *options]) == 2
    assert "matplotlib" in capsys.readouterr().err and json.loads(out.read_text())["sizes"]


def test_ctrl_c_keeps_what_is_done(bundle_file, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(layers, "sweep", interrupted)
    out = tmp_path / "bench.json"
    options = ["--parts", "sizes", "layers", "--sizes", "8", "--only", "reference", "--json", str(out)]
    assert main(["--bundle", str(bundle_file), *options]) == 130
    found = json.loads(out.read_text())
    assert len(found["sizes"]) == 1 and not found["complete"]
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--threads 0", "--repeats 0", "--sizes 0", "--sizes 5000", "--seconds 0"])
def test_a_wrong_option_is_refused(wrong, bundle_file, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--bundle", str(bundle_file), *wrong.split()])
    assert stop.value.code == 2 and wrong.split()[0] in capsys.readouterr().err


def test_bad_files_and_names_are_answered_with_one_sentence(bundle_file, tmp_path, capsys):
    assert main(["--bundle", str(tmp_path / "none.safetensors")]) == 2
    nowhere = tmp_path / "nowhere" / "a.json"
    options = ["--parts", "sizes", "--sizes", "8", "--only", "reference"]
    assert main(["--bundle", str(bundle_file), "--repeats", "1", *options, "--json", str(nowhere)]) == 2
    assert main(["--bundle", str(bundle_file), "--only", "nobody"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "none.safetensors" in first and str(nowhere) in second and "nobody" in third and "ann-onnx" in third


def test_the_command_lists_its_contenders_without_torch_or_onnx():
    # None in sys.modules is what an import of a missing package finds.
    program = (
        "import sys, runpy\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'matplotlib'): sys.modules[name] = None\n"
        "sys.argv = ['bench', '--list']\n"
        "runpy.run_module('export.bench', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ann-litert-int8" in done.stdout, done


def test_shapes_of_layers_are_told_apart_by_their_accumulator(bundle_file):
    bundle = read_bundle(bundle_file)
    for shape, nodes in layers.shapes(bundle).items():
        assert {analyse(bundle.graph, bundle.tensors).width(node.name) for node in nodes} == {shape[-1]}
