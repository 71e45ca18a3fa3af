"""`python -m export.bench.video`: a row for every change, and changes of the size that they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.bench import video


def test_the_bench_prints_a_row_for_every_change_and_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "video.json"
    assert video.main(["--sizes", "100x80", "--repeats", "3", "--json", str(out)]) == 0
    (size,) = json.loads(out.read_text())["sizes"]
    rows = {row["change"]: row for row in size["changes"]}
    printed = capsys.readouterr().out
    assert "100x80 pixels" in printed and "MB kept between frames" in printed and size["state_bytes"] > 1 << 20
    for kind in ("compact", "scattered"):
        for share in (0, 1, 5, 20, 100):
            assert f"{kind} {share} %" in printed
        assert rows[f"{kind} 0 %"]["recomputed"] == 0 and rows[f"{kind} 100 %"]["recomputed"] == 1
    assert all(len(row["times_ms"]["video"]) == 3 and row["ratio"] > 0 for row in rows.values())
    assert any(name.startswith("film") for name in rows)


@pytest.mark.parametrize("size", ["640", "0x5", "axb", "5000x8"])
def test_the_bench_refuses_a_size_that_is_none(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        video.main(["--sizes", size])
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["compact", "scattered"])
def test_the_benchs_changes_have_the_share_they_say(kind: str) -> None:
    frame, after = video.series(kind, video.photograph(400, 500), 0.05, 1)
    assert 0.04 < (frame != after).any(2).mean() < 0.06
