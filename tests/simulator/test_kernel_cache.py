"""Compiled kernels on disk: kept, found again, and never used where they could be anything but what was kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import config

from simulator.engine import cache, compiling
from simulator.engine.cache import Kernel, read, write

ROOT = Path(__file__).resolve().parents[2]
KEY = b"k" * 32


def twice(x: int) -> int:
    return 2 * x


def kernel(sources: str = "", uncached: Callable[[], None] = lambda: None) -> Any:
    """`twice`, compiled or loaded."""
    found = Kernel(twice, sources, uncached)
    found.compile("int64(int64)")
    assert found(21) == 42
    return found


def loaded(found: Any) -> bool:
    return sum(found.stats.cache_hits.values()) == 1


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The only folders where kernels are looked for and kept, the first before the second."""
    found = [tmp_path / "own", tmp_path / "packaged"]
    monkeypatch.setattr(cache, "folders", lambda: iter(found))
    yield found


def kept(folder: Path) -> Path:
    (path,) = folder.glob("*.kernel")
    return path


def test_a_kernel_is_compiled_once_and_then_loaded(places: list[Path]) -> None:
    first = kernel()
    assert not loaded(first) and first.stats.cache_path == str(places[0])
    second = kernel()
    assert loaded(second) and second.stats.cache_path == str(places[0])
    assert sorted(path.name for path in places[0].iterdir()) == [kept(places[0]).name]


def test_a_kernel_of_other_sources_is_another(places: list[Path]) -> None:
    kernel("a")
    assert not loaded(kernel("b"))
    assert loaded(kernel("a"))


def test_a_kernel_of_another_version_of_numba_is_another(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel()
    monkeypatch.setattr(numba, "__version__", "0.0")
    assert not loaded(kernel())


def shorter(content: bytes) -> bytes:
    return content[: len(content) // 2]


def a_bit_other(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


@pytest.mark.parametrize(
    "damage",
    [
        shorter,
        a_bit_other,
        lambda content: b"",
        lambda content: content[:20],
        lambda content: bytes(len(content)),  # what a power cut leaves of a file whose length was written
        lambda content: content + b"\0",
        lambda content: content[:8] + content[40:],  # without its hash
    ],
)
def test_a_damaged_kernel_is_compiled_anew_and_replaced(places: list[Path], damage: Callable[[bytes], bytes]) -> None:
    kernel()
    path = kept(places[0])
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert not loaded(kernel())
    assert loaded(kernel())


def test_a_whole_kernel_under_the_name_of_another_is_not_used(places: list[Path]) -> None:
    kernel("a")
    first = kept(places[0])
    kernel("b")
    (second,) = (path for path in places[0].iterdir() if path != first)
    second.write_bytes(first.read_bytes())
    assert not loaded(kernel("b"))


def test_a_whole_file_that_holds_no_kernel_is_not_used(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "dumps", lambda form: b"not a pickle")
    kernel()
    monkeypatch.undo()
    monkeypatch.setattr(cache, "folders", lambda: iter(places))
    assert not loaded(kernel())
    assert loaded(kernel())


@pytest.mark.parametrize("what", [os.mkfifo, os.mkdir, lambda path: os.symlink("nothing", path)])
def test_what_is_no_file_is_not_read(places: list[Path], what: Callable[[Path], None]) -> None:
    kernel()
    path = kept(places[0])
    path.unlink()
    what(path)
    assert not loaded(kernel())


def test_a_file_that_anybody_can_write_to_is_not_used(places: list[Path]) -> None:
    kernel()
    kept(places[0]).chmod(0o666)
    assert not loaded(kernel())


def test_a_file_that_a_group_can_write_to_is_used_only_where_that_can_write_to_the_program(
    places: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PACKAGE", tmp_path)
    tmp_path.chmod(0o755)
    kernel()
    kept(places[0]).chmod(0o664)
    assert not loaded(kernel())
    kept(places[0]).chmod(0o664)
    tmp_path.chmod(0o775)
    assert loaded(kernel())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_not_used(places: list[Path]) -> None:
    kernel()
    os.chown(kept(places[0]), 12345, -1)
    assert not loaded(kernel())


def test_what_is_kept_is_no_ones_to_change_whatever_the_umask(places: list[Path]) -> None:
    before = os.umask(0)
    try:
        kernel()
    finally:
        os.umask(before)
    assert kept(places[0]).stat().st_mode & 0o777 == 0o644
    assert loaded(kernel())


def test_where_the_first_folder_cannot_be_made_the_second_keeps(places: list[Path]) -> None:
    places[0].write_text("a file where a folder should be")
    assert kernel().stats.cache_path == str(places[1])
    assert loaded(kernel())


def test_the_packaged_kernel_is_used_where_the_first_is_damaged(places: list[Path]) -> None:
    kernel()
    os.rename(places[0], places[1])
    places[0].mkdir()
    (places[0] / kept(places[1]).name).write_bytes(b"damaged")
    found = kernel()
    assert loaded(found) and found.stats.cache_path == str(places[1])


def test_a_packaged_kernel_is_used_where_nothing_can_be_written(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel()
    os.rename(places[0], places[1])
    monkeypatch.setattr(cache, "writable", lambda folder: False)
    assert loaded(kernel())


def test_where_no_folder_keeps_it_that_is_told_and_it_is_compiled(places: list[Path]) -> None:
    for place in places:
        place.write_text("a file where a folder should be")
    told: list[str] = []
    found = kernel(uncached=lambda: told.append("before compiling"))
    assert told == ["before compiling"] and found.stats.cache_path is None


def test_a_full_disk_keeps_nothing_and_breaks_nothing(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_atomically", full)
    assert kernel().stats.cache_path is None
    assert not list(places[0].iterdir())


def test_old_kernels_make_room(places: list[Path]) -> None:
    for number in range(cache.KEPT + 3):
        kernel(str(number))
    assert len(list(places[0].iterdir())) == cache.KEPT
    assert loaded(kernel(str(cache.KEPT + 2)))


def test_a_file_larger_than_any_kernel_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a", KEY, b"content")
    assert read(tmp_path / "a", KEY) == b"content"
    monkeypatch.setattr(cache, "LARGEST", 10)
    assert read(tmp_path / "a", KEY) is None


def test_folders_are_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    package = Path(cache.__file__).parent / "__pycache__"
    assert list(cache.folders()) == [tmp_path / "numba/spikerir-edge", package, tmp_path / "xdg/spikerir-edge"]
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(cache.folders()) == [package, tmp_path / ".cache/spikerir-edge"]


def test_processes_that_start_at_once_all_work(tmp_path: Path) -> None:
    program = (
        "import simulator.engine.cache as c, sys\n"
        "def twice(x): return 2 * x\n"
        "kernel = c.Kernel(twice, '', lambda: None)\n"
        "kernel.compile('int64(int64)')\n"
        "print(kernel(21), kernel.stats.cache_path)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    together = [
        subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in together:
        assert process.communicate(timeout=120)[0].split() == ["42", str(tmp_path / "spikerir-edge")]
    assert len(list((tmp_path / "spikerir-edge").iterdir())) == 1


def test_with_compiling_switched_off_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    with pytest.raises(ValueError, match="NUMBA_DISABLE_JIT is set"):
        compiling.compile_kernel(twice, "int64(int64)")
