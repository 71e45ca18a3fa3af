"""Very many names: what is looked up before the first picture does not grow with their number, and nothing is lost."""

from __future__ import annotations

import builtins
import collections
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge import sinks, sources
from edge.archive.listing import Listing
from edge.sources.record import Frame, Unreadable
from tests.edge.files import assert_refused, names, picture, store

# What is asked of the system.
CALLS = (
    *((os, name) for name in ("stat", "lstat", "access", "readlink", "listdir", "scandir")),
    *((os, name) for name in ("open", "write", "fsync", "replace", "mkdir")),
    (builtins, "open"),
)


def counted(counts: collections.Counter[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **options: Any) -> Any:
        counts[name] += 1
        return call(*arguments, **options)

    return wrapper


@pytest.fixture
def asked(monkeypatch) -> collections.Counter[str]:
    """How often each of CALLS was made."""
    counts: collections.Counter[str] = collections.Counter()
    for module, name in CALLS:
        monkeypatch.setattr(module, name, counted(counts, name, getattr(module, name)))
    return counts


def many(folder: Path, count: int) -> Path:
    """A folder of one picture under many names."""
    folder.mkdir(parents=True)
    first = store(folder / "0000.png", picture())
    for number in range(1, count):
        os.link(first, folder / f"{number:04d}.png")
    return folder


def first_frame(text: str, out: Path) -> Frame:
    """The first picture, when everything has been looked up that is looked up before."""
    source = sources.open_source(text, "denoise")
    sinks.open_sink(f"{out}/", source, source.count, sinks.Inputs(Path("bundle"), sources.files(source)))
    frame = next(source.frames())
    assert isinstance(frame, Frame)
    return frame


@pytest.mark.parametrize("way", ["{}", "{}/*.png", "{}/**/*.png", "{}*/*"])
def test_before_the_first_picture_as_little_is_asked_for_a_thousand_as_for_ten(work, asked, way):
    counts = []
    for count in (10, 1000):
        folder = many(work / str(count) / "in", count)
        asked.clear()
        assert first_frame(way.format(folder), work / "out").name == "0000.png"
        counts.append(dict(asked))
    few, thousand = counts
    if "**" in way:  # glob asks of everything whether it is a folder
        for name, counted in itertools.product(("scandir", "lstat"), counts):
            counted.pop(name, None)
    assert few == thousand


def test_an_output_folder_that_is_there_is_listed_and_not_asked_name_by_name(work, asked):
    (work / "out").mkdir()
    (work / "out/other.png").write_bytes(b"")
    counts = []
    for count in (10, 1000):
        folder = many(work / str(count), count)
        asked.clear()
        first_frame(str(folder), work / "out")
        counts.append(dict(asked))
    assert counts[0] == counts[1]


def test_of_names_given_one_by_one_each_is_asked_for_once(work, asked):
    given = [str(path) for path in many(work / "in", 1000).iterdir()]
    asked.clear()
    first = next(iter(Listing(given, str(work / "out"), look=False)))
    assert first.name == Path(given[0]).name
    assert asked.total() < 1010, asked


def test_a_source_is_taken_once_however_it_is_written(work, restore):
    many(work / "in", 3)
    run = restore(work / "in", f"{work}/./in", f"{work}/in/", "--out", work / "out")
    assert run.code == 0 and "3 pictures restored" in run.out
    run = restore(work / "in/0000.png", f"{work}/in/../in/0000.png", "--out", work / "two")
    assert run.code == 0 and "1 picture restored" in run.out


def test_a_thing_that_is_neither_file_nor_folder_among_several_sources(work, restore):
    store(work / "a.png", picture())
    os.mkfifo(work / "pipe")
    assert_refused(restore(work / "a.png", work / "pipe"), "neither a file nor a folder")


# --- what is found out later is as right as before ------------------------------------------------------------------


def test_how_many_there_are_is_found_out_on_the_way(work, restore, monkeypatch):
    monkeypatch.setattr("edge.pipeline.Progress.SECONDS_BETWEEN_LINES", 0.0)
    photos = many(work / "photos", 3)
    (photos / "0003.png").symlink_to("nowhere")
    (photos / "0004.png").mkdir()
    store(photos / "x.png", picture()).rename(photos / "no suffix")
    run = restore(photos)
    assert run.code == 0
    progress = [line.removeprefix("edge-restore: ") for line in run.err.splitlines()]
    assert progress[:4] == ["1 of 5 frames", "2 of 5 frames", "3 of 5 frames", "4 of 4 frames"]
    assert "1 link that leads nowhere (0003.png), 1 folder (0004.png)" in progress[4]


def test_a_single_picture_among_other_files_is_known_to_be_one(work, restore):
    (work / "photos").mkdir()
    for name in ("a.txt", "z.txt"):
        (work / "photos" / name).write_text("text")
    store(work / "photos/m.png", picture())
    run = restore(work / "photos", "--out", work / "b.png")
    assert run.code == 0 and names(work) == ["b.png", "photos", "photos/a.txt", "photos/m.png", "photos/z.txt"]
    assert "2 files that are no images (a.txt, z.txt)" in run.err


def test_a_picture_that_goes_before_its_turn_has_failed(work):
    source = sources.open_source(str(many(work / "in", 4)), "denoise")
    (work / "in/0003.png").unlink()
    frames = list(source.frames())
    assert [type(item) for item in frames] == [Frame, Frame, Frame, Unreadable]
    assert "0003.png cannot be read" in frames[3].reason


def test_what_is_left_out_is_said_as_far_as_the_run_came(work, restore):
    photos = many(work / "in", 4)
    (photos / "0001.txt").write_text("text")
    (photos / "9999.txt").write_text("text")
    assert "1 file that is no image (0001.txt)" in restore(photos, "--max-frames", 3).err
    assert "2 files that are no images (0001.txt, 9999.txt)" in restore(photos).err


def test_an_output_that_is_another_name_of_a_later_input_is_refused_at_once(work, restore):
    photos = many(work / "in", 20)
    (work / "out").mkdir()
    store(work / "apart.png", picture(seed=1))
    (photos / "0017.png").unlink()
    (photos / "0017.png").symlink_to(work / "apart.png")
    (work / "out/0012.png").symlink_to(work / "apart.png")
    before = (work / "apart.png").read_bytes()
    assert_refused(restore(photos, "--out", work / "out"), "0012.png is read by this run and would be overwritten")
    assert names(work / "out") == ["0012.png"] and (work / "apart.png").read_bytes() == before


def test_an_output_that_is_no_file_is_refused_at_once(work, restore):
    photos = many(work / "in", 20)
    (work / "out/0012.png").mkdir(parents=True)
    assert_refused(restore(photos, "--out", work / "out"), "0012.png is there already and not an ordinary file")
    assert names(work / "out") == ["0012.png"]


def test_what_is_no_image_keeps_no_output_from_its_place(work, restore):
    photos = many(work / "in", 3)
    (photos / "notes.txt").write_text("text")
    (photos / "s.json").write_text("{}")
    (work / "out/notes.txt.png").mkdir(parents=True)
    for _ in range(2):
        run = restore(photos, "--out", work / "out", "--stats", photos / "s.json")
        assert run.code == 0, run
    assert names(work / "out") == ["0000.png", "0001.png", "0002.png", "notes.txt.png"]


def test_outputs_of_an_earlier_run_are_replaced(work, restore):
    photos = many(work / "in", 3)
    for name in ("0000.png", "0002.png"):
        (work / "out" / name).parent.mkdir(exist_ok=True)
        (work / "out" / name).write_bytes(b"old")
    assert restore(photos, "--out", work / "out").code == 0
    assert len({(work / "out" / name).read_bytes() for name in names(work / "out")}) == 1


@pytest.mark.parametrize("pattern", ["{}/*/a.png", "./*/a.png", "*/a.*", "{}//*/a.png"])
def test_the_folder_in_common_is_that_of_the_images(work, restore, monkeypatch, pattern):
    monkeypatch.chdir(work)
    store(many(work / "x", 1) / "a.png", picture())
    (work / "link").symlink_to("x")
    (work / "y").mkdir()
    (work / "y/a.txt").write_text("text")
    (work / "z").mkdir()
    (work / "z/a.png").symlink_to("nowhere")
    assert restore(pattern.format(work), "--out", work / "out").code == 0
    assert names(work / "out") == ["a.png"]


@pytest.mark.parametrize("source", [".", "./", "../in", "*", "./*", "*.gif"])
def test_names_below_the_folder_that_one_is_in(work, restore, monkeypatch, source):
    monkeypatch.chdir(many(work / "in", 1))
    for name in ("a.gif", "a.gif.png"):
        store(work / "in" / name, picture())
    assert restore(source, "--out", work / "out").code == 0
    wanted = ["a.gif.png"] if source == "*.gif" else ["0000.png", "a.gif.png", "a.gif.png.png"]
    assert names(work / "out") == wanted
    assert_refused(restore(source, "--out", "." if source != "*.gif" else "a.gif.png/x.png"))


def test_of_each_picture_of_an_archive_the_system_is_asked_what_it_must_be(work, restore, asked):
    """One flush to the disk and one line of the journal; no folder is listed again."""
    counts = []
    for count in (1, 10, 60):  # the first imports what is not imported yet
        folder = many(work / f"{count}" / "in", count)
        asked.clear()
        assert restore(folder, "--recursive", "--out", work / f"{count}" / "out").code == 0
        counts.append(asked.copy())
    _, few, more = counts
    each = {name: (more[name] - few[name]) / 50 for _, name in CALLS}
    assert each["fsync"] == each["replace"] == each["write"] == 1
    assert each["scandir"] == each["listdir"] == each["mkdir"] == each["access"] == 0
    assert each["stat"] <= 2.2  # of the input and of the output
    assert each["open"] <= 5
