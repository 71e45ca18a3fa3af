"""`python -m edge.worker HOST:PORT`: this machine restores pictures for `edge-restore --cluster` elsewhere.

It starts as many processes as there are cores, each with a warm network, which take batches from the scheduler there;
one that dies is started anew, a scheduler that is gone is waited for. Ctrl-C ends it. Whoever reaches a scheduler or a
worker of Dask can run any program there: without certificates it connects to this machine's own addresses only, unless
--insecure is given.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from edge import terminal
from edge.cluster.task import THREADS
from edge.cluster.where import parse_where, refuse_exposed
from edge.errors import UserError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0  # before a process that has ended is started anew
LOOK_S = 0.2
END_S = 3.0
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class _Slot:
    """One of the processes, or when the next one is to be started in its place."""

    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    at: float = 0.0
    wait_s: float = FIRST_WAIT_S


class Workers:
    """So many processes that work for a scheduler, as --cluster names it. `look` has to be called again and again."""

    def __init__(self, cluster: str, scheduler: str, count: int, threads: int, folder: str) -> None:
        self._command = [sys.executable, "-m", "edge.cluster.process", cluster, folder]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, "PYTHONPATH": path, THREADS: str(threads), "OMP_NUM_THREADS": "1"}
        self._scheduler = scheduler
        self._slots = [_Slot() for _ in range(count)]
        self._told = ""
        self._tell(f"{count} process{'es' * (count != 1)} for {scheduler}")

    def look(self) -> None:
        """Starts what has to be started, and says what has changed."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None:
                if now >= slot.at:
                    self._start(slot)
                continue
            assert slot.process.stdout is not None
            slot.ready = slot.ready or b"ready" in (slot.process.stdout.read() or b"")
            if slot.process.poll() is not None:
                slot.wait_s = FIRST_WAIT_S if slot.ready else min(2 * slot.wait_s, LONGEST_WAIT_S)
                slot.at = now + slot.wait_s
                self._forget(slot)
        ready = sum(slot.ready for slot in self._slots)
        if ready == len(self._slots):
            self._tell(f"all of them work for {self._scheduler}")
        elif ready == 0 and any(slot.wait_s > FIRST_WAIT_S for slot in self._slots):
            self._tell(f"no scheduler is at {self._scheduler}; waiting for it")

    def close(self) -> None:
        for slot in self._slots:
            if slot.process is not None:
                slot.process.terminate()
        end = time.monotonic() + END_S
        for slot in self._slots:
            if slot.process is not None:
                try:
                    slot.process.wait(max(0.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    slot.process.kill()
                    slot.process.wait()
                self._forget(slot)

    def _start(self, slot: _Slot) -> None:
        slot.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,  # which ends when this process does, however it ends
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert slot.process.stdout is not None
        os.set_blocking(slot.process.stdout.fileno(), False)

    @staticmethod
    def _forget(slot: _Slot) -> None:
        assert slot.process is not None and slot.process.stdin is not None and slot.process.stdout is not None
        slot.process.stdin.close()
        slot.process.stdout.close()
        slot.process, slot.ready = None, False

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            print(f"edge.worker: {sentence}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Serves until Ctrl-C or SIGTERM, then 0; 2 if it cannot."""
    parser = argparse.ArgumentParser(prog="python -m edge.worker", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cluster", metavar="HOST:PORT|FILE.yaml", help="the scheduler, as --cluster names it")
    parser.add_argument("--workers", metavar="N", type=_positive, help="processes; default: one per core")
    parser.add_argument("--threads", metavar="N", type=_positive, default=1, help="of each process; default: 1")
    parser.add_argument(
        "--insecure", action="store_true", help="connect to another machine without certificates, see edge/FLEETS.md"
    )
    parser.add_argument("--with-input", action="store_true", help="end when standard input does")
    args = parser.parse_args(argv)
    try:
        where = parse_where(args.cluster)
        if where.local:
            raise UserError("a worker belongs to a scheduler: give its HOST:PORT, or a FILE.yaml that has it.")
        if not args.insecure:
            refuse_exposed(where)
        if importlib.util.find_spec("distributed") is None:
            raise UserError("a worker needs Dask, which is not installed: pip install 'spikerir-edge[cluster]'.")
        if where.certificates is not None:
            where.certificates.security()
    except UserError as error:
        print(f"edge.worker: {terminal.printable(str(error))}", file=sys.stderr)
        return 2
    count = args.workers or len(os.sched_getaffinity(0))
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if args.with_input:
        threading.Thread(target=_wait_for_end_of_input, args=(ended,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="edge-worker-") as folder:
        workers = Workers(os.path.abspath(args.cluster) if os.path.exists(args.cluster) else args.cluster,
                          where.scheduler, count, args.threads, folder)  # fmt: skip
        while not ended.is_set():
            workers.look()
            ended.wait(LOOK_S)
        workers.close()
    print("edge.worker: ended", flush=True)
    return 0


def _wait_for_end_of_input(ended: threading.Event) -> None:
    terminal.wait_for_end_of_input()
    ended.set()


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
