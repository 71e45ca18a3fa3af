"""`python -m tests.edge.cost`: what view and recording cost the network, of its pictures a second.

The same pictures, of a command that gives them as fast as they are taken, are restored without and with a view that
somebody looks at and a recording, in turns. Prints for each number of threads the pictures a second of both, what the
processor spent on each, and the ratios of the former; ends with 1 where their median is below 0.9.

As a program with one argument it is that command: it writes JPEGs of so many pixels' width to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from PIL import Image

from tests.edge.processes import spent
from tests.edge.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
DIFFERENT = 32  # pictures, again and again
FIRST = 10  # pictures that are not counted: memory is laid out, the viewer arrives
SIGMA = 15.0  # grey levels of noise
LEAST = 0.9


@dataclass(frozen=True)
class Speed:
    """Pictures a second, by the clock; milliseconds of the processor for each, of all threads together."""

    fps: float
    cpu_ms: float


def write_pictures(width: int) -> None:
    """A photograph with new noise in each picture, of which there are a few."""
    with Image.open(ROOT / "edge" / "samples" / "clean.png") as photograph:
        clean = np.asarray(photograph.convert("RGB").resize((width, width * 3 // 4)), np.float32)
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(DIFFERENT):
        file = io.BytesIO()
        noisy = clean + random.normal(0, SIGMA, clean.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        pictures.append(file.getvalue())
    with contextlib.suppress(BrokenPipeError):
        for picture in itertools.cycle(pictures):
            sys.stdout.buffer.write(picture)


def look_on(port: int) -> None:
    """Takes the view's pictures as its page does, until it ends."""

    async def look() -> None:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"http://127.0.0.1:{port}/live", max_msg_size=0)
            async with socket:
                await socket.send_str("ok")
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        await socket.send_str("ok")

    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        asyncio.run(look())


def speed(args: argparse.Namespace, threads: int, beside: bool) -> Speed:
    """Of one run; beside: with view and recording."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        source = f"exec:{sys.executable} -m tests.edge.cost {args.width}"
        command = [sys.executable, "-m", "edge", source, "--task", "denoise", "--bundle", args.bundle, "-q"]
        command += ["--threads", str(threads), "--drop", "none", "--stats", "-", "--format", "mjpeg"]
        if beside:
            command += ["--view", f"127.0.0.1:{port}", "--out", str(Path(folder) / "a.mp4")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            done, begin, cpu = 0, 0.0, 0.0
            for line in run.stdout:
                done = json.loads(line)["frame"]
                if done == 1 and beside:
                    threading.Thread(target=look_on, args=(port,), daemon=True).start()
                if done == FIRST:
                    begin, cpu = time.monotonic(), spent(run.pid)
                elif done > FIRST and time.monotonic() - begin >= args.seconds:
                    break
            counted, seconds = done - FIRST, time.monotonic() - begin
            cpu = spent(run.pid) - cpu
            run.terminate()
            for _ in run.stdout:
                pass
    assert counted > 0, "the run ended early"
    return Speed(counted / seconds, 1000 * cpu / counted)


def main() -> int:
    parser = argparse.ArgumentParser(description="What view and recording cost the network, in turns.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the network, one after the other")
    parser.add_argument("--width", type=int, default=640, help="of the pictures, which are 4:3")
    parser.add_argument("--bundle", default="denoise-large", help="the network, or a shipped one by name")
    args = parser.parse_args()
    failed = False
    for threads in args.threads:
        ratios, name = [], f"{threads} thread{'s' * (threads > 1)}"
        for _ in range(args.rounds):
            alone, beside = (speed(args, threads, each) for each in (False, True))
            ratios.append(beside.fps / alone.fps)
            print(
                f"{name}: alone {alone.fps:.1f} a second, {alone.cpu_ms:.1f} ms of CPU each; with view and recording"
                f" {beside.fps:.1f}, {beside.cpu_ms:.1f} ms: {ratios[-1]:.3f}",
                flush=True,
            )
        print(f"{name}: {statistics.median(ratios):.3f} of the pictures a second")
        failed |= statistics.median(ratios) < LEAST
    return int(failed)


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].isdigit():
        write_pictures(int(sys.argv[1]))
    else:
        sys.exit(main())
