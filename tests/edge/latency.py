"""`python -m tests.edge.latency`: how old a picture is when somebody who looks on gets it, for minutes.

An RTSP server on loopback draws the time into 30 pictures a second; the command restores the newest, as fast as its
network goes, and records them; the view's pictures are taken as its page takes them, and what they show is compared
with the clock of their arrival. Prints the median of each minute and what all came to; ends with 1 where the median is
250 ms or more, or the last minute's above the first's by a tenth and more than a picture takes.

The default size is one that `denoise-large` restores about ten times a second on one thread of a desktop's processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np

from tests.edge.servers import RtspCamera, free_port, number_of

ROOT = Path(__file__).resolve().parents[2]
FPS = 30
BITS = 24
UNREADABLE_MS = 60_000
MOST_MS = 250.0
STARTS_S = 600.0  # kernels may have to be compiled


async def looked_at(address: str, seconds: float) -> AsyncIterator[tuple[dict[str, Any], np.ndarray | None, float]]:
    """(numbers, the restored picture as it arrived, when it did) for so long; None where no new picture came."""
    async with aiohttp.ClientSession() as session:
        until = time.monotonic() + STARTS_S
        while True:
            try:
                socket = await session.ws_connect(f"{address}/live", max_msg_size=0)
                break
            except aiohttp.ClientError:
                assert time.monotonic() < until, "the view does not answer"
                await asyncio.sleep(0.2)
        begin = None
        while begin is None or time.monotonic() - begin < seconds:
            await socket.send_str("ok")
            figures = json.loads((await socket.receive()).data)
            jpeg = (await socket.receive()).data
            arrived = time.monotonic()
            if not jpeg:
                yield figures, None, arrived
                continue
            begin = arrived if begin is None else begin
            both = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
            yield figures, both[:, both.shape[1] // 2 :], arrived


async def measured(address: str, seconds: float) -> tuple[list[list[float]], int, dict[str, Any]]:
    """(ages in milliseconds, by minutes; pictures whose time could not be read; the last numbers)."""
    minutes: list[list[float]] = []
    last: dict[str, Any] = {}
    begin, unreadable = None, 0
    async for figures, pixels, arrived in looked_at(address, seconds):
        last = figures
        if pixels is None:
            continue
        begin = arrived if begin is None else begin
        minute = min(int((arrived - begin) // 60), math.ceil(seconds / 60) - 1)
        while len(minutes) <= minute:
            if minutes:
                print(f"minute {len(minutes)}: {statistics.median(minutes[-1] or [0]):.0f} ms", flush=True)
            minutes.append([])
        age = (arrived * 1000 - number_of(pixels, BITS)) % 2**BITS
        if age < UNREADABLE_MS:
            minutes[minute].append(age)
        else:
            unreadable += 1
    return [ages for ages in minutes if ages], unreadable, last


def main() -> int:
    parser = argparse.ArgumentParser(description="Latency from capture to view, with a clock in the picture.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360), help="width and height")
    parser.add_argument("--bundle", default="denoise-large", help="the network, or a shipped one by name")
    parser.add_argument("--threads", default="1", help="of the network")
    args = parser.parse_args()
    camera, port = RtspCamera(*args.size, FPS), free_port()
    try:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "edge", camera.address, "--task", "denoise", "--bundle", args.bundle]
            command += ["--threads", args.threads, "--view", f"127.0.0.1:{port}", "-q"]
            command += ["--out", str(Path(folder) / "a.mp4"), "--segment", "60", "--keep", "2"]
            with subprocess.Popen(command, cwd=ROOT) as run:
                try:
                    found = asyncio.run(measured(f"http://127.0.0.1:{port}", args.minutes * 60))
                finally:
                    run.terminate()
    finally:
        camera.kill()
    minutes, unreadable, figures = found
    ages = [age for minute in minutes for age in minute]
    median, p95 = np.percentile(ages, [50, 95])
    first, last = statistics.median(minutes[0]), statistics.median(minutes[-1])
    print(
        f"{len(ages)} pictures looked at, {unreadable} unreadable; {figures['frames']} restored, {figures['fps']:.1f} a"
        f" second, {figures['dropped']} dropped for newer ones; from capture to view {median:.0f} ms median, {p95:.0f}"
        f" ms at 95 %; first minute {first:.0f} ms, last {last:.0f} ms"
    )
    grown = last > 1.1 * first and last - first > 1000 / max(figures["fps"], 1)
    return int(median >= MOST_MS or grown)


if __name__ == "__main__":
    sys.exit(main())
