"""Kills workers and the scheduler of a run with --cluster: nothing may be missing, and nothing written twice.

    python -m tests.edge.chaos --pictures 2000 --kills 10 --workers 2

The outputs are compared with those of a run without a cluster, byte for byte; how often each got its name is what the
kernel says (inotify), not the run.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import ctypes
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from edge.archive.journal import FOLDER
from tests.edge.files import picture, store

ROOT = Path(__file__).parents[2]
IN_MOVED_TO, IN_NONBLOCK = 0x80, 0o4000
PROCESS, SCHEDULER = "edge.cluster.process", "edge.cluster.scheduler"
EVENT = struct.Struct("iIII")


class Renames:
    """Counts how often each name of a folder was given to a file that was written under another name."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(IN_NONBLOCK)
        if self._libc.inotify_add_watch(self._file, os.fsencode(folder), IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self.counts: collections.Counter[str] = collections.Counter()

    def look(self) -> int:
        """Takes what has happened; returns how many names there are by now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._file, 1 << 16):
                at = 0
                while at < len(data):
                    *_, length = EVENT.unpack_from(data, at)
                    at += EVENT.size
                    self.counts[data[at : at + length].rstrip(b"\0").decode()] += 1
                    at += length
        return len(self.counts)


@dataclass(frozen=True)
class Report:
    """What is wrong, nothing if all is well, and what happened."""

    wrong: list[str]
    kills: int
    scheduler_killed: bool
    seconds: float
    said: str


def run(
    folder: Path, bundle: Path, *, pictures: int, kills: int, workers: int, size: int = 64, limit_s: float = 3600
) -> Report:
    """One run with so many workers killed, at even distances, and the scheduler in the middle."""
    source, plain, out = folder / "in", folder / "plain", folder / "out"
    source.mkdir()
    out.mkdir()
    for number in range(pictures):
        store(source / f"{number:05d}.png", picture(size, size, seed=number))
    command = [sys.executable, "-m", "edge", str(source), "--recursive", "--task", "denoise", "--bundle", str(bundle)]
    lines_of_plain = subprocess.run(
        [*command, "--out", str(plain), "-q", "--stats", "-"],
        cwd=ROOT,
        check=True,
        timeout=limit_s,
        stdout=subprocess.PIPE,
    ).stdout
    renames = Renames(out)
    at = sorted([*np.linspace(0, pictures, kills + 2)[1:-1].astype(int)])
    chance, killed, scheduler_killed = random.Random(pictures), 0, kills == 0
    begin = time.monotonic()
    with (folder / "said").open("wb") as said, (folder / "lines").open("wb") as lines:
        process = subprocess.Popen(
            [*command, "--out", str(out), "--cluster", f"local:{workers}", "--stats", "-"],
            cwd=ROOT,
            stdout=lines,
            stderr=said,
        )
        try:
            while process.poll() is None and time.monotonic() - begin < limit_s:
                done = renames.look()
                if killed < kills and done >= at[killed] and (found := _named(process.pid, PROCESS)):
                    _kill(chance.choice(found))
                    killed += 1
                if not scheduler_killed and killed > kills // 2 and (found := _named(process.pid, SCHEDULER)):
                    _kill(found[0])
                    scheduler_killed = True
                time.sleep(0.005)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
    renames.look()
    wrong = []
    if process.returncode:
        wrong.append(f"exit code {process.returncode}")
    wrong += [f"{name} was written {n} times" for name, n in renames.counts.items() if n != 1]
    for path in sorted(plain.glob("*.png")):
        other = out / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            wrong.append(f"{path.name} is {'not the same' if other.exists() else 'missing'}")
    there = {path.name for path in out.iterdir()} - {path.name for path in plain.iterdir()}
    wrong += [f"{name} is too much" for name in sorted(there)]
    told, told_of_plain = (
        [(record["source"], record["status"], record["input"], record["synops"]) for record in map(json.loads, text)]
        for text in ((folder / "lines").read_bytes().splitlines(), lines_of_plain.splitlines())
    )
    if told != told_of_plain:
        wrong.append("the lines of --stats - are not those of the plain run")
    if len(list((out / FOLDER).glob("*"))) != 1:
        wrong.append("something is left beside the journal")
    return Report(wrong, killed, scheduler_killed, time.monotonic() - begin, (folder / "said").read_text())


def _named(parent: int, words: str) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(parent).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if words in " ".join(child.cmdline()):
                    found.append(child)
    return found


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="of a picture's side, pixels")
    args = parser.parse_args()
    from edge import shipped

    with tempfile.TemporaryDirectory() as folder:
        report = run(
            Path(folder),
            shipped.named("denoise"),
            pictures=args.pictures,
            kills=args.kills,
            workers=args.workers,
            size=args.size,
        )
    print(report.said, end="")
    print(
        f"{args.pictures} pictures, {args.workers} workers: {report.kills} times one of them was killed, "
        f"{'once' if report.scheduler_killed else 'never'} the scheduler; {report.seconds:.0f} s"
    )
    print("\n".join(report.wrong) or "all outputs are there, each written once, byte for byte those of the plain run")
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
