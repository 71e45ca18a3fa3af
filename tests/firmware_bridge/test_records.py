"""The plan's records are the same in Python, in C and in PLAN.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from firmware_bridge.plan import records
from firmware_bridge.toolchain import FIRMWARE

PLAN_H = (FIRMWARE / "core" / "plan.h").read_text()
PLAN_MD = (Path(records.__file__).parents[1] / "PLAN.md").read_text()


def fields(body: str) -> list[tuple[str, int]]:
    """(name, bytes) of every member that a C struct declares in `body`."""
    found = []
    for size, names in re.findall(r"\b(u?int(?:8|32)_t) ([^;]+);", body):
        for name, count in re.findall(r"(\w+)(?:\[(\d+)\])?", names):
            found.append((name, (1 if "int8" in size else 4) * int(count or 1)))
    return found


def struct(name: str) -> str:
    return re.search(rf"typedef struct {name} {{(.*?)\n}} {name};", PLAN_H, re.S)[1]


def test_the_header_has_the_same_fields_at_the_same_places():
    at, found = 0, {}
    for name, size in fields(struct("snn_header")):
        found[name] = at
        at += size
    assert found == records.HEADER_AT and at == records.HEADER_BYTES


@pytest.mark.parametrize(
    ("name", "record"),
    [("snn_value", records.VALUE), ("snn_term", records.TERM), ("snn_projection", records.PROJECTION)],
)
def test_records_have_the_same_fields_in_the_same_order(name, record):
    assert fields(struct(name)) == [(field, 4) for field in record]


def test_operations_have_the_same_fields_in_the_same_order():
    body = struct("snn_operation")
    common, _, union = body.partition("union {")
    assert [name for name, _ in fields(common)] == list(records.OPERATION)
    kinds = {kind: fields(own) for own, kind in re.findall(r"struct {(.*?)\n\s+} (\w+);", union, re.S)}
    assert kinds == {kind: [(name, 4) for name in own] for kind, own in records.FIELDS.items() if own}
    words = int(re.search(r"uint32_t words\[(\d+)\]", union)[1])
    assert len(records.OPERATION) + words == records.OPERATION_WORDS
    assert max(map(len, records.FIELDS.values())) <= words


def numbers(first: str) -> dict[str, int]:
    """The enumeration of plan.h that begins with `first`."""
    found, next_number = {}, 0
    for item in re.search(rf"enum {{ ({first}\b[^}}]*) }}", PLAN_H)[1].split(", "):
        name, _, number = item.partition(" = ")
        next_number = int(number) if number else next_number
        found[name.removeprefix("SNN_")] = next_number
        next_number += 1
    return found


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("SNN_IMAGE", {kind.upper(): number for kind, number in records.OPERATIONS.items()}),
        ("SNN_NO_HEAD", {"NO_HEAD": 0} | {kind.upper(): number for kind, number in records.HEADS.items()}),
        ("SNN_LIF", {kind.upper(): number for kind, number in records.NEURONS.items()}),
        ("SNN_OVER_TIME", {f"OVER_{over.upper()}": number for over, number in records.OVER.items()}),
        ("SNN_BITS", {storage.upper(): number for storage, number in records.STORAGE.items()}),
        (
            "SNN_NEAREST",
            {name: getattr(records, name) for name in ("NEAREST", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH")},
        ),
    ],
)
def test_kinds_and_modes_have_the_same_numbers(first, expected):
    assert numbers(first) == expected


def test_versions_are_the_same():
    for name, value in (("MAGIC", records.MAGIC), ("VERSION_NUMBER", records.VERSION), ("NONE", records.NONE)):
        assert int(re.search(rf"#define SNN_{name} (\w+)u", PLAN_H)[1], 0) == value


def test_plan_md_says_where_the_fields_of_the_header_are_and_what_every_operation_is_called():
    rows = dict(re.findall(r"^\| (\d+) \| (\w[\w ]*?)[|,]", PLAN_MD.partition("## Values")[0], re.M))
    for at, name in rows.items():
        assert records.HEADER_AT[name.strip().replace(" ", "_")] == int(at)
    assert len(rows) >= 12
    for kind, number in records.OPERATIONS.items():
        assert f"{number} {kind}" in PLAN_MD and f"**{kind}**" in PLAN_MD
