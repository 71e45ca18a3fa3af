"""`python -m simulator.inspect`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simulator.bundle import read_bundle, write_bundle
from simulator.inspect import _plain, main
from tests.simulator.networks import META, random_network


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "network.safetensors"
    write_bundle(path, *random_network(0), META | {"training.data": "BSDS500", "note.author": "nobody"})
    return path


def test_every_layer_has_a_row_and_columns_are_aligned(path, capsys):
    assert main([str(path)]) == 0
    table, facts = capsys.readouterr().out.split("\n\n")
    header, rule, *rows = table.split("\n")
    bundle = read_bundle(path)
    assert [row.split()[0] for row in rows] == [node.name for node in bundle.graph.nodes]
    assert [row.split()[1] for row in rows] == [node.kind for node in bundle.graph.nodes]
    for column in ("channels", "grid", "parameters", "bound"):
        end = header.index(column) + len(column)
        assert all(row[end : end + 2] == "  " and row[end - 1] != "" for row in rows)
    assert [len(part) for part in rule.split("  ")][0] == max(len(node.name) for node in bundle.graph.nodes)
    parameters = header.index("parameters")
    cells = [row[parameters : parameters + len("parameters")].strip() for row in rows]
    assert sum(int(cell) for cell in cells if cell) == bundle.analysis.parameters


def test_what_holds_for_the_whole_network(path, capsys):
    main([str(path)])
    out, bundle = capsys.readouterr().out, read_bundle(path)
    facts = dict(line.split("  ", 1) for line in out.split("\n\n")[1].strip().split("\n"))
    facts = {key: value.strip() for key, value in facts.items()}
    assert facts["task"] == "denoise" and facts["content hash"] == bundle.content_hash
    assert facts["parameters"] == f"{bundle.analysis.parameters:,}"
    assert f"a halo of {bundle.analysis.halo}" in facts["stride"]
    assert facts["training data"] == "BSDS500" and facts["weights' licence"] == "CC0-1.0"
    assert facts["PSNR untouched input"] == "20.25 dB" and facts["note.author"] == "nobody"


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x1a\n" + bytes(64)])
def test_what_is_no_bundle_is_one_sentence_and_exit_code_2(tmp_path, content):
    path = tmp_path / "no\x1b[31m.safetensors"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([sys.executable, "-m", "simulator.inspect", str(path)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


def test_text_from_a_file_cannot_steer_the_terminal():
    assert _plain("a\x1b[2Jb\u202ec\r\n") == "a?[2Jb?c??"
