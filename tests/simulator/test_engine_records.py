"""Records have one table of names, for who writes and who reads them; compiled code is that of the files there are."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from simulator.analysis import analyse
from simulator.engine import compiling, kernels, records
from simulator.engine.compiling import sources
from simulator.engine.layout import Layout, Memory, arena_bytes
from simulator.engine.plan import build_plan
from simulator.engine.writer import Writer
from simulator.random_networks import random_network

FOLDER = Path(compiling.__file__).parent
KERNELS = sorted(Path(kernels.__file__).parent.glob("*.py"))


def table_of(row: type) -> str:
    """Name of a row's table of positions, as kernels know it: PointConv -> POINT_CONV."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", row.__name__).upper()


@pytest.mark.parametrize("row", records.OPERATIONS, ids=lambda row: row.__name__)
def test_kernels_read_every_field_of_a_record(row: type) -> None:
    text = "".join(path.read_text() for path in KERNELS)
    read = set(re.findall(rf"\b{table_of(row)}\.(\w+)", text))
    assert read == {"operation", *row._fields}  # type: ignore[attr-defined]


@pytest.mark.parametrize("row", records.OPERATIONS, ids=lambda row: row.__name__)
def test_fields_follow_one_another_in_a_record(row: type) -> None:
    table = getattr(records, table_of(row))
    at = 1
    assert table.operation == records.OPERATIONS[row]
    for name, size in zip(row._fields, records.widths(row), strict=True):  # type: ignore[attr-defined]
        assert getattr(table, name) == at
        at += size
    assert at <= records.FIELDS


def test_every_operation_has_a_number_of_its_own() -> None:
    assert len(set(records.OPERATIONS.values())) == len(records.OPERATIONS)
    assert 0 not in records.OPERATIONS.values()


def test_a_place_has_its_fields_where_the_tables_say() -> None:
    place = records.Place(10, 11, 12, 13, 14)
    row = records.numbers(records.Store(steps=4, out=place, source=place, pixel=64))
    assert row[records.STORE.source - 1 + records.PLACE.column] == 13 and row[records.STORE.pixel - 1] == 64


def test_a_record_with_too_few_numbers_in_a_field_is_not_written() -> None:
    graph, tensors = random_network(0)
    layout = Layout(build_plan(analyse(graph, tensors), tensors), 48, 48, 1)
    writer = Writer(Memory(layout, np.zeros(arena_bytes(layout), np.uint8)), 0, ())
    place = records.Place(0, 0, 0, 0, 0)
    writer.emit(records.Store(steps=1, out=place, source=place, pixel=2))
    with pytest.raises(AssertionError, match="source of Store takes 5 numbers, not 1"):
        writer.emit(records.Store(steps=1, out=place, source=7, pixel=2))  # type: ignore[arg-type]


def test_no_kernel_reads_a_record_by_number() -> None:
    for path in [*KERNELS, FOLDER / "changes.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                if node.value.id in ("op", "task", "read", "layer", "target", "template"):
                    assert not isinstance(node.slice, ast.Constant), f"{path.name}, line {node.lineno}"


def test_the_hash_of_the_sources_covers_every_file(tmp_path: Path) -> None:
    copy = tmp_path / "engine"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    found = {sources(copy)}
    assert found == {sources()}
    for path in sorted(copy.rglob("*.py")):
        before = path.read_text()
        path.write_text(before + "\n")
        sources.cache_clear()
        found.add(sources(copy))
        path.write_text(before)
    added = copy / "kernels" / "more.py"
    for change in (added.touch, lambda: added.rename(copy / "more.py")):
        change()
        sources.cache_clear()
        found.add(sources(copy))
    assert len(found) == 1 + len(list(FOLDER.rglob("*.py"))) + 2


def test_compiled_code_is_made_of_nothing_but_the_engines_files() -> None:
    """What the hash covers: a kernel that took a number from elsewhere could stay what it was when that changes."""
    for path in [*KERNELS, *(FOLDER / f"{name}.py" for name in ("changes", "records", "vectors"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not str(name).startswith("simulator") or str(name).startswith("simulator.engine."), path.name
