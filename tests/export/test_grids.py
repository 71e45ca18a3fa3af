"""`python -m export.grids`: a coarser network is one with every number of its spiking part on the coarser grid."""

from __future__ import annotations

import numpy as np
import pytest

from export.grids import coarser, main, narrow
from simulator.bundle import read_bundle
from simulator.graph import GraphError
from simulator.random_networks import random_network
from tests.conformance.agreement import bundled
from tests.simulator import networks


def test_no_bits_change_nothing(bundle_file):
    bundle = read_bundle(bundle_file)
    same = coarser(bundle, 0)
    assert same.graph == bundle.graph and same.analysis.bounds == bundle.analysis.bounds
    assert all(np.array_equal(same.tensors[name], tensor) for name, tensor in bundle.tensors.items())


def test_bounds_and_grids_of_the_spiking_part_are_coarser(bundle_file):
    bundle = read_bundle(bundle_file)
    found = coarser(bundle, 2)
    for node in bundle.graph.nodes:
        moved = bundle.analysis.values[node.name].q - found.analysis.values[node.name].q
        if node.kind in ("conv", "sum"):
            assert moved == 2
            assert found.analysis.bounds[node.name] < 0.4 * bundle.analysis.bounds[node.name]
        elif node.kind in ("image", "dense_conv", "readout"):
            assert moved == 0
    fit, count = narrow(found.analysis, "conv")
    assert narrow(bundle.analysis, "conv")[0] <= fit <= count
    assert min(tensor.min() for name, tensor in found.tensors.items() if name.endswith("threshold")) >= 1


def test_the_command_prints_a_line_for_each_grid(bundle_file, photos, capsys):
    assert main([str(bundle_file), "--data", str(photos), "--bits", "0", "1", "--sigma", "25", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[2:]] == ["0 bits coarser", "1 bits coarser"]
    assert all(line.endswith(" dB") for line in lines[2:])


def test_a_kind_whose_grid_is_not_known_is_refused_by_name():
    for seed in range(60):
        graph, tensors = random_network(seed)
        if any(node.kind == "attend" for node in graph.nodes):
            with pytest.raises(GraphError, match="is not known here"):
                coarser(bundled(graph, tensors, networks.META), 1)
            return
    raise AssertionError("no random network has attention")


def test_mistakes_are_said_in_a_sentence(bundle_file, photos, tmp_path, capsys):
    assert main([str(bundle_file), "--data", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(bundle_file), "--data", str(photos), "--bits", "-1"])
