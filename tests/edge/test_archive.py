"""Archives: trees, reruns, shares, several processes, and what ends a run."""

from __future__ import annotations

import errno
import glob
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.archive.folders import FOLDERS
from edge.archive.journal import FOLDER, Journal
from edge.archive.listing import Listing
from edge.archive.work import Work
from edge.sinks import target_name
from edge.sources.images import LeftOut
from simulator import files
from simulator.bundle import read_bundle, write_bundle
from tests.edge.files import assert_refused, load, names, picture, store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(work) -> dict[str, np.ndarray]:
    """Pictures in work/in and folders below it, by name."""
    pictures = {}
    for number, name in enumerate(("a.png", "b.png", "x/a.png", "x/y/c.png", "x/y/d.png", "z/e.png")):
        (work / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        pictures[name] = picture(seed=number)
        store(work / "in" / name, pictures[name])
    return pictures


def outputs(folder: Path) -> list[str]:
    """What is in the output, without the journal."""
    return [name for name in names(folder) if (folder / name).is_file() and not name.startswith(FOLDER)]


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def statuses(text: str) -> dict[str, str]:
    return {line["source"]: line["status"] for line in lines(text)}


def command(bundle: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge", "--task", "denoise", "--bundle", str(bundle), *map(str, arguments)]


# --- the list ---------------------------------------------------------------------------------------------------------


def test_a_tree_is_kept_with_the_bits_of_single_runs(work, tree, restore, network):
    run = restore(work / "in", "--recursive", "--out", work / "out")
    assert run.code == 0, run
    assert outputs(work / "out") == sorted(tree)
    for name, pixels in tree.items():
        assert np.array_equal(load(work / "out" / name), network.run(pixels).image), name
    assert "6 pictures restored" in run.out and "wrote 6 images" in run.out


def test_of_several_sources_each_keeps_its_way_below_the_folder_they_have_in_common(work, tree, restore):
    run = restore(work / "in/x/a.png", work / "in/z", "--out", work / "out")
    assert run.code == 0, run
    assert outputs(work / "out") == ["x/a.png", "z/e.png"]


def test_sources_may_stand_on_both_sides_of_options(work, tree, restore):
    run = restore(work / "in/a.png", "--out", work / "out", work / "in/b.png")
    assert run.code == 0, run
    assert outputs(work / "out") == ["a.png", "b.png"]


def test_a_pattern_beside_a_folder(work, tree, restore):
    run = restore(work / "in/x/y/*.png", work / "in/z", "--out", work / "out")
    assert run.code == 0, run
    assert outputs(work / "out") == ["x/y/c.png", "x/y/d.png", "z/e.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png"]),
        ("./*.png", ["a.png", "b.png"]),
        ("*/*.png", ["x/a.png", "z/e.png"]),
        ("x/*.png", ["a.png"]),
        ("**/*.png", ["a.png", "b.png", "x/a.png", "x/y/c.png", "x/y/d.png", "z/e.png"]),
        ("../in/x/**", ["a.png", "y/c.png", "y/d.png"]),
    ],
)
def test_what_a_pattern_matches_below_the_folder_that_one_is_in_keeps_its_name(
    work, tree, restore, monkeypatch, pattern, expected
):
    (work / "in").rename(work / "in [1]")
    (work / "in").symlink_to("in [1]")
    monkeypatch.chdir(work / "in [1]")
    run = restore(pattern, "--jobs", 1, "--out", work / "out", "--skip-existing")
    assert run.code == 0, run
    assert outputs(work / "out") == expected
    assert f"{len(expected)} already restored" in restore(pattern, "--out", work / "out", "--skip-existing").out


@pytest.mark.parametrize("first", ["in", "in/a.png", "in/**/*.png", "in/?.png"])
def test_what_a_pattern_and_another_source_have_in_common_is_restored_once(work, tree, restore, first):
    run = restore(work / first, work / "in/*.png", "--out", work / "out", "--stats", "-")
    assert run.code == 0, run
    found = [line["target"] for line in lines(run.out)]
    assert len(found) == len(set(found)) and {str(work / "out/a.png"), str(work / "out/b.png")} <= set(found)


def test_links_that_a_pattern_follows_give_each_picture_once(work, tree, restore):
    (work / "in/x/loop").symlink_to("..")
    (work / "in/again").symlink_to("z")
    run = restore(work / "in/**/*.png", "--jobs", 1, "--out", work / "out")
    assert run.code == 0 and "an image that is there already" in run.err
    expected = {*tree} - {"z/e.png"}
    assert set(outputs(work / "out")) in ({*expected, "z/e.png"}, {*expected, "again/e.png"})


def test_an_output_folder_within_the_tree_is_not_taken_for_pictures(work, tree, restore):
    for expected in (6, 6):
        run = restore(work / "in", "--recursive", "--out", work / "in/restored")
        assert run.code == 0, run
        assert len(outputs(work / "in/restored")) == expected


@pytest.mark.parametrize("out", ["in", "."])
def test_an_output_folder_that_holds_the_pictures_is_refused(work, tree, restore, out):
    assert_refused(restore(work / "in", "--recursive", "--out", work / out), "would be overwritten")


def test_a_source_within_another_is_refused(work, tree, restore):
    assert_refused(restore(work / "in", work / "in/x", "--recursive", "--out", work / "out"), "give one of the two")


def test_which_way_a_pattern_takes_is_not_the_order_of_the_system(work, restore, monkeypatch):
    """Else a picture could be in no shard, and in two."""
    (work / "in/2024").mkdir(parents=True)
    for name in "abcd":
        store(work / f"in/2024/{name}.png", picture())
    (work / "in/latest").symlink_to("2024")
    (work / "in/2024/own").symlink_to(".")
    taken = []
    matches = glob.iglob
    for turn in (list, lambda found: found[::-1]):
        monkeypatch.setattr(glob, "iglob", lambda *a, turn=turn, **b: iter(turn(sorted(matches(*a, **b)))))
        found = FOLDERS.entries(FOLDERS.top(str(work / "in/*/*.png")), False, None, LeftOut())
        taken.append([entry.path for entry in found])
        own = FOLDERS.entries(FOLDERS.top(str(work / "in/2024/**/own/*.png")), False, None, LeftOut())
        assert [Path(entry.path).parent.name for entry in own] == ["own"] * 4
    assert taken[0] == taken[1] == [str(work / f"in/2024/{name}.png") for name in "abcd"]


def test_a_link_to_the_output_does_not_overwrite_its_picture(work, restore):
    (work / "in").mkdir()
    (work / "out").mkdir()
    store(work / "out/a.png", picture())
    before = (work / "out/a.png").read_bytes()
    (work / "in/a.png").symlink_to(work / "out/a.png")
    run = restore(work / "in", "--recursive", "--out", work / "out")
    assert run.code == 2 and "would be overwritten" in run.err
    assert (work / "out/a.png").read_bytes() == before


def test_what_is_no_image_is_counted_and_hidden_names_are_passed_over(work, tree, restore):
    (work / "in/x/notes.txt").write_text("text")
    (work / "in/.thumbs").mkdir()
    store(work / "in/.thumbs/t.png", picture())
    run = restore(work / "in", "--recursive", "--out", work / "out")
    assert run.code == 0
    assert "1 file that is no image (notes.txt)" in run.err
    assert outputs(work / "out") == sorted(tree)


def test_without_an_image_it_says_so(work, restore):
    (work / "in/below").mkdir(parents=True)
    store(work / "in/below/a.png", picture())
    run = restore(work / "in", "--jobs", 1, "--out", work / "out")
    assert run.code == 2 and "hold no images; --recursive looks into folders below" in run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nowhere", "--recursive"),
        ("in", "--skip-existing"),
        ("in", "--recursive", "--out", "one.png"),
        ("in", "--recursive", "--view"),
        ("in", "--recursive", "--still", "3"),
        ("in", "--shard", "3/2"),
        ("in", "--max-failures", "-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(work, tree, restore, arguments, monkeypatch):
    monkeypatch.chdir(work)
    run = restore(*arguments)
    assert run.code == 2 and len(run.err.splitlines()) == 1, run
    assert not (work / "out").exists()


def test_the_first_picture_of_an_endless_folder_is_there_at_once(work, tree, monkeypatch):
    scandir = os.scandir

    class Endless:
        def __init__(self, entries):
            self.entries = itertools.cycle(list(entries))

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

    pictures = Listing([str(work / "in")], recursive=True)
    monkeypatch.setattr(os, "scandir", lambda path: Endless(scandir(path)))
    found = list(itertools.islice(pictures, 100))
    assert {item.name for item in found} == {"a.png", "b.png"}


def test_shares_are_all_of_the_list_and_have_nothing_in_common(work, tree, restore):
    for number in (1, 2, 3):
        before = set(outputs(work / "out")) if (work / "out").exists() else set()
        run = restore(work / "in", "--recursive", "--out", work / "out", "--shard", f"{number}/3", "--stats", "-")
        assert run.code == 0, run
        assert not before & {line["source"] for line in lines(run.out)}
    assert outputs(work / "out") == sorted(tree)


def test_names_of_formats_that_are_not_written_get_another_suffix(work):
    assert target_name("a.gif", lambda name: False) == "a.gif.png"
    assert target_name("a.gif", lambda name: name == "a.gif.png") == "a.gif.png.png"
    assert target_name("a.JPG", lambda name: True) == "a.JPG"


# --- nothing twice ----------------------------------------------------------------------------------------------------


def test_a_rerun_restores_what_has_changed_and_nothing_else(work, tree, restore):
    arguments = (work / "in", "--recursive", "--skip-existing", "--out", work / "out", "--stats", "-")
    first = restore(*arguments)
    assert set(statuses(first.out).values()) == {"restored"}
    assert set(statuses(restore(*arguments).out).values()) == {"skipped"}

    os.utime(work / "in/a.png", (1, 1))  # touched: looked into, found to be the same
    store(work / "in/x/a.png", picture(seed=77))
    (work / "out/z/e.png").unlink()
    store(work / "in/new.png", picture(seed=78))
    found = statuses(restore(*arguments).out)
    assert {name for name, status in found.items() if status == "restored"} == {"x/a.png", "z/e.png", "new.png"}
    assert set(statuses(restore(*arguments).out).values()) == {"skipped"}


def test_another_network_or_another_option_restores_all_again(work, tree, restore, bundle, tmp_path):
    arguments = (work / "in", "--recursive", "--skip-existing", "--out", work / "out", "--stats", "-")
    restore(*arguments)
    read = read_bundle(bundle)
    tensors = dict(read.tensors)
    tensors["neurons.threshold"] = tensors["neurons.threshold"] + 1
    other = tmp_path / "other.safetensors"
    write_bundle(other, read.graph, tensors, read.meta)
    assert set(statuses(restore(*arguments, "--bundle", other).out).values()) == {"restored"}
    assert set(statuses(restore(*arguments, "--bundle", other).out).values()) == {"skipped"}
    assert set(statuses(restore(*arguments, "--bundle", other, "--side-by-side").out).values()) == {"restored"}
    assert set(statuses(restore(*arguments, "--bundle", other, "--side-by-side", "--jobs", 1).out).values()) == {
        "skipped"
    }


def test_a_torn_or_foreign_line_of_the_journal_is_no_line(work, tree, restore):
    arguments = (work / "in", "--recursive", "--skip-existing", "--out", work / "out", "--stats", "-")
    restore(*arguments)
    (journal,) = (work / "out" / FOLDER).iterdir()
    whole = journal.read_bytes().splitlines(keepends=True)
    garbage = b'[1]\n{"name": 3}\n\xff\xfe\n{"name":"a","input":"zz","meant":"","size":1,"stamp":"","bytes":-1}\n'
    garbage += b'{"name":"a","input":"-1","meant":"","size":1,"stamp":"","bytes":1}\n' + b"[" * 200_000 + b"\n"
    garbage += b'{"name":"a","input":"11","meant":"","size":1,"stamp":"","bytes":1.5}\n' + b" " * (3 << 20) + b"\n"
    os.mkfifo(work / "out" / FOLDER / "pipe.jsonl")
    journal.write_bytes(garbage + b"".join(whole)[:-9])
    found = list(statuses(restore(*arguments).out).values())
    assert found.count("restored") == 1 and found.count("skipped") == 5


def test_the_last_line_of_a_name_counts(tmp_path):
    (tmp_path / FOLDER).mkdir()
    entry = {"name": "a.png", "input": "ab" * 16, "meant": "B O", "size": 5, "stamp": "s", "bytes": 7}
    for number, stamp in enumerate(("old", "s")):
        (tmp_path / FOLDER / f"{number}.jsonl").write_text(json.dumps(entry | {"stamp": stamp}) + "\n")
    journal = Journal(str(tmp_path), "B", "O")
    work = Work("a.png", "/in/a.png", "/out/a.png", 5, "s", 7)
    assert journal.unchanged(work)
    assert not journal.unchanged(Work("a.png", "/in/a.png", "/out/a.png", 5, "old", 7))
    assert not journal.unchanged(Work("a.png", "/in/a.png", "/out/a.png", 5, "s", None))
    assert journal.known(Work("a.png", "/in/a.png", "/out/a.png", 5, "old", 7)) == "ab" * 8
    assert not Journal(str(tmp_path), "other", "O").unchanged(work)


def test_a_run_that_is_killed_goes_on_where_it_was(work, bundle, restore):
    (work / "in").mkdir()
    for number in range(60):
        store(work / "in" / f"{number}.png", picture(64, 64, seed=number))
    arguments = (work / "in", "--skip-existing", "--out", work / "out", "--stats", "-")
    process = subprocess.Popen(command(bundle, *arguments), cwd=ROOT, stdout=subprocess.PIPE)
    for _ in range(7):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    done = len(outputs(work / "out"))
    assert 7 <= done <= 60
    found = list(statuses(restore(*arguments).out).values())
    assert len(outputs(work / "out")) == 60
    assert found.count("skipped") >= done - 1  # it may have been between storing and noting


# --- several processes ------------------------------------------------------------------------------------------------


def test_several_processes_give_the_same_in_the_same_order(work, tree, restore):
    (work / "in/x/bad.png").write_bytes(b"no picture")
    one = restore(work / "in", "--recursive", "--out", work / "one", "--stats", "-")
    two = restore(work / "in", "--recursive", "--out", work / "two", "--stats", "-", "--jobs", 2)
    assert one.code == two.code == 1
    assert [line["source"] for line in lines(one.out)] == [line["source"] for line in lines(two.out)]
    same = ("source", "status", "input", "size", "synops", "macs", "kind", "reason")
    assert [[line.get(key) for key in same] for line in lines(one.out)] == [
        [line.get(key) for key in same] for line in lines(two.out)
    ]
    for name in tree:
        assert (work / "one" / name).read_bytes() == (work / "two" / name).read_bytes()
    assert "6 pictures restored, 1 failed (1 could not be decoded)" in two.err


def children(pid: int) -> list[int]:
    """Processes that restore; Python's resource tracker is none of them."""
    found = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        for child in (entry / "children").read_text().split():
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_process_that_is_killed_is_replaced_and_nothing_is_missing(work, bundle):
    (work / "in").mkdir()
    for number in range(300):
        store(work / "in" / f"{number}.png", picture(64, 64, seed=number))
    arguments = (work / "in", "--out", work / "out", "--stats", "-", "--jobs", 2)
    process = subprocess.Popen(
        command(bundle, *arguments), cwd=ROOT, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    os.kill(children(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(outputs(work / "out")) == 300
    assert len(out.splitlines()) == 299


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_keeps_and_counts_what_is_done(work, bundle, restore, jobs):
    (work / "in").mkdir()
    for number in range(300):
        store(work / "in" / f"{number}.png", picture(256, 256, seed=number))
    arguments = (work / "in", "--out", work / "out", "--stats", "-", "--jobs", jobs, "--skip-existing")
    process = subprocess.Popen(
        command(bundle, *arguments),
        cwd=ROOT,
        bufsize=0,  # communicate() would lose lines that readline() has read ahead
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    stored = outputs(work / "out")
    assert 0 < len(stored) < 300
    assert not [name for name in names(work / "out") if Path(name).name.startswith(".") and name != FOLDER]
    assert len(out.splitlines()) + 1 == len(stored)
    found = list(statuses(restore(*arguments).out).values())
    assert found.count("skipped") == len(stored)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_failures_are_named_and_counted_by_kind(work, tree, restore):
    (work / "in/bad.png").write_bytes(b"no picture")
    store(work / "in/colour.pgm", picture(channels=1))
    (work / "in/colour.pgm").write_bytes(b"P6 2 2 255 " + bytes(12))  # colour does not go into .pgm
    run = restore(work / "in", "--recursive", "--out", work / "out", "--stats", work / "s.json")
    assert run.code == 1
    assert "6 pictures restored, 2 failed (1 could not be decoded, 1 could not be fitted)" in run.out
    figures = json.loads((work / "s.json").read_text())
    assert figures["frames"] == figures["restored"] == 6
    assert figures["failed"] == {"decoded": 1, "fitted": 1}


def test_max_failures_ends_the_run(work, restore):
    (work / "in").mkdir()
    for number in range(10):
        (work / "in" / f"{number}.png").write_bytes(b"no picture")
    run = restore(work / "in", "--out", work / "out", "--max-failures", 3, "--stats", "-")
    assert run.code == 2
    assert len(lines(run.out)) == 4
    assert "more than --max-failures 3" in run.err


def test_a_full_disk_ends_the_run_and_a_rerun_goes_on(work, tree, restore, monkeypatch):
    write, stored = files.write_atomically, []

    def full(path, content, mode=0o666):
        stored.append(path)
        if len(set(stored)) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content, mode)

    monkeypatch.setattr(files, "write_atomically", full)
    arguments = (work / "in", "--recursive", "--skip-existing", "--out", work / "out")
    run = restore(*arguments)
    assert run.code == 2 and "no space left on device" in run.err, run
    assert len(outputs(work / "out")) == 3
    stored.clear()
    assert "3 already restored by an earlier run" in restore(*arguments).out
    assert outputs(work / "out") == sorted(tree)


@pytest.fixture
def small_disk(work) -> Iterator[Path]:
    """A file system of one megabyte, where such may be mounted."""
    folder = work / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("arguments", [(), ("--jobs", 2), ("--cluster", "local:1")])
def test_on_a_disk_that_is_really_full_every_output_is_whole_or_absent(
    work, bundle, restore, network, small_disk, arguments
):
    if "--cluster" in arguments:
        pytest.importorskip("distributed")
    (work / "in").mkdir()
    for number in range(12):
        store(work / "in" / f"{number}.png", picture(200, 200, seed=number))  # 120 kB as it is stored
    given = (work / "in", "--skip-existing", "--out", small_disk / "out", *arguments)
    run = restore(*given)
    assert run.code == 2 and "no space left on device" in run.err, run
    stored = outputs(small_disk / "out")
    assert 0 < len(stored) < 12
    for name in stored:
        assert np.array_equal(load(small_disk / "out" / name), network.run(load(work / "in" / name)).image), name
    assert not [name for name in names(small_disk / "out") if Path(name).suffix == ".png" and name not in stored]

    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    run = restore(*given)
    assert run.code == 0, run
    left = re.search(r"(\d+) already restored by an earlier run", run.out)
    assert left is not None and len(stored) - 1 <= int(left[1]) <= len(stored)  # of one the line may not have fitted
    assert outputs(small_disk / "out") == sorted(f"{number}.png" for number in range(12))


def test_a_rerun_with_nothing_to_do_needs_no_network(work, tree, restore, monkeypatch):
    arguments = (work / "in", "--recursive", "--skip-existing", "--out", work / "out", "--stats", work / "s.json")
    restore(*arguments)
    monkeypatch.setattr("edge.archive.command.Restorer", SimpleNamespace)
    run = restore(*arguments)
    assert run.code == 0 and "0 pictures restored, 6 already" in run.out
    assert json.loads((work / "s.json").read_text())["skipped"] == 6


def test_a_single_picture_imports_nothing_of_archives(work, bundle):
    source = store(work / "a.png", picture())
    program = (
        "import sys\nfrom edge.cli import main\n"
        f"main(['--task', 'denoise', '--bundle', {str(bundle)!r}, {str(source)!r}])\n"
        "print([name for name in sys.modules if name.startswith(('edge.archive', 'fsspec', 'multiprocessing'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done
