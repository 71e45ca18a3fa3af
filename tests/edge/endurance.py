"""`python -m tests.edge.endurance`: the command for as long as a day, in small pictures.

A camera's numbered pictures go through capture, network, view and segments, of which a ring is kept, while somebody
looks on; every one is restored. Prints memory, file descriptors and threads as it goes on; in the end the command is
killed with SIGKILL, started once more, and what the segments lack of the pictures that were restored is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from edge.sinks.video import segments
from tests.edge.files import load_video
from tests.edge.processes import spent
from tests.edge.servers import free_port, http_camera, number_of

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = 40  # over the whole run
FLAT = 1.02  # memory in the last quarter through that in the second
NUMBERS = 256  # after which the pictures' own begin again


@dataclass(frozen=True)
class Sample:
    """frames restored so far, seconds, those of the processor, resident memory in KiB, file descriptors, threads."""

    frames: int
    seconds: float
    cpu: float
    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.frames} frames, {self.seconds:.0f} s, {self.cpu:.0f} s of CPU: {self.memory} KiB,"
            f" {self.descriptors} descriptors, {self.threads} threads"
        )


def sample(process: int, frames: int, seconds: float) -> Sample:
    folder = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    memory, threads = (int(status[name].split()[0]) for name in ("VmRSS", "Threads"))
    return Sample(frames, seconds, spent(process), memory, len(list((folder / "fd").iterdir())), threads)


def look_on(address: str, seen: list[int]) -> None:
    """Takes the view's pictures as they come, until it ends."""
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        urllib.request.urlopen(f"{address}/stream.mjpg") as stream,
    ):
        while chunk := stream.read1(1 << 16):
            seen[0] += chunk.count(b"--picture")


def main() -> int:
    parser = argparse.ArgumentParser(description="A long run of edge-restore, with its memory; ends with kill -9.")
    parser.add_argument("--frames", type=int, default=200_000, help="how many pictures of 64x48")
    parser.add_argument("--segment", type=float, default=10.0, help="seconds of each file of the recording")
    parser.add_argument("--keep", type=int, default=20, help="how many of these stay")
    parser.add_argument("--bundle", default="denoise-lean", help="the network, or a shipped one by name")
    args = parser.parse_args()
    with http_camera() as camera, tempfile.TemporaryDirectory() as folder:
        camera.frames, camera.between_s = sys.maxsize, 0.0
        recording, port = Path(folder) / "c.mp4", free_port()
        command = [sys.executable, "-m", "edge", f"{camera.address}/s.mjpg", "--task", "denoise"]
        command += ["--bundle", args.bundle, "--out", str(recording), "--segment", str(args.segment), "-q"]
        long = [*command, "--keep", str(args.keep), "--drop", "none", "--stats", "-", "--view", f"127.0.0.1:{port}"]
        samples, seen, restored, begin = [], [0], 0, time.monotonic()
        with subprocess.Popen(long, cwd=ROOT, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if not line.endswith(b"\n"):
                    break  # killed in the middle of it
                restored = json.loads(line)["frame"]
                if restored == 1:
                    viewer = threading.Thread(target=look_on, args=(f"http://127.0.0.1:{port}", seen), daemon=True)
                    viewer.start()
                if restored % max(args.frames // SAMPLES, 1) == 0:
                    samples.append(sample(run.pid, restored, time.monotonic() - begin))
                    print(samples[-1], flush=True)
                if restored >= args.frames:
                    run.kill()
        subprocess.run([*command, "--max-frames", "1"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        *kept, _ = segments(recording)  # the last is that of the second start
        numbers = [number_of(frame) for path in kept for frame in load_video(path)[0]]
    lost = (restored - 1 - numbers[-1]) % NUMBERS
    gaps = sum((after - before) % NUMBERS != 1 for before, after in zip(numbers, numbers[1:], strict=False))
    quarter = len(samples) // 4
    middle, end = samples[quarter : 2 * quarter], samples[-quarter:]
    ratio = statistics.mean(s.memory for s in end) / statistics.mean(s.memory for s in middle)
    more = max(s.descriptors for s in end) - max(s.descriptors for s in middle)
    print(
        f"{restored} frames restored, {seen[0]} looked at; memory of the last quarter {ratio:.4f} of the second's,"
        f" {more} descriptors more; {len(kept)} segments with {len(numbers)} frames and {gaps} gaps;"
        f" {lost} frames lost at kill -9"
    )
    return int(restored < args.frames or ratio > FLAT or more > 0 or gaps > 0)


if __name__ == "__main__":
    sys.exit(main())
