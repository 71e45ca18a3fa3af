"""`python -m tests.edge.guest --loopback python -m tests.edge.loopback`: restored pictures as the camera of others.

Numbered pictures of a video go to v4l2loopback's device, from which a program reads them as from any camera, and to the
output of the driver vivid. Prints a table: what was tried, the exit code, what was said. Ends with 1 where an exit code
or a sentence is another than is documented, and where a picture that was read is not the restored one, is missing, or
out of order.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from edge.sources import v4l2
from tests.edge.files import load_video, store_frames, store_network
from tests.edge.servers import number_of, numbered

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK, OUTPUT, CAMERA, OTHER, MISSING = (Path(f"/dev/video{number}") for number in (9, 1, 0, 3, 77))
PICTURES, FPS = 40, 4.0  # few enough a second that an emulated machine sees every one
LATE = 8  # pictures at the beginning that a program may miss, which has to find the camera first
OFF_BY = 6  # grey levels: two programs' ways from RGB to planes and back
ENDS_S = 3.0


class Seen:
    """What a program sees that reads the device as a camera, until it is closed."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not v4l2.device_capability(LOOPBACK).captures:
            if self._ending.wait(0.05):
                return
        capture = cv2.VideoCapture(str(LOOPBACK), cv2.CAP_V4L2)
        while not self._ending.is_set():
            more, bgr = capture.read()
            if more:
                self.pictures.append(bgr[..., ::-1])
        capture.release()


class Tried:
    """The table, row by row."""

    def __init__(self) -> None:
        self.wrong = False
        print("| what | exit code | said |\n|---|---|---|", flush=True)

    def row(self, what: str, code: int, said: str, wanted: int, *words: str) -> None:
        lines = [line.removeprefix("edge-restore: ") for line in said.splitlines()]
        telling = [line for line in lines if any(word in line for word in words)]
        wrong = code != wanted or any(word not in said for word in words)
        self.wrong |= wrong
        shown = telling if not wrong else lines
        print(f"| {what} | {code} | {'; '.join(shown)} |{' WRONG' * wrong}", flush=True)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        restore = [sys.executable, "-m", "edge", "--task", "denoise", "--board", "native"]
        restore += ["--bundle", str(store_network(folder / "denoise.safetensors"))]
        clip = store_frames(folder / "clip.mkv", [numbered(number) for number in range(PICTURES)], FPS)
        other = store_frames(folder / "other.mkv", [numbered(number, 128, 96) for number in range(4)], FPS)
        endless = [f"exec:{sys.executable} -m tests.edge.servers - {folder / 'number'}"]
        tried = Tried()

        def run(*arguments: object) -> tuple[int, str]:
            done = subprocess.run([*restore, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr

        tried.row("no such device", *run(clip, "--out", MISSING), 2, "no such file or directory; sudo modprobe")
        tried.row("a camera", *run(clip, "--out", CAMERA), 2, "is a camera (vivid) and takes no pictures")
        tried.row("a device for other data", *run(clip, "--out", OTHER), 2, "is for other things (vivid)")
        tried.row("v4l2loopback, read with no writer", *run(LOOPBACK), 2, "only while a program writes to it")

        assert run(clip, "--out", folder / "restored.mkv")[0] == 0
        seen = Seen()
        tried.row("v4l2loopback, a video", *run(clip, "--out", LOOPBACK), 0, f"{PICTURES} frames to {LOOPBACK}")
        right = compared(seen.pictures, load_video(folder / "restored.mkv")[0])
        tried.row("v4l2loopback, another size while it is read", *run(other, "--out", LOOPBACK), 2, "not 128x96")
        seen.close()
        tried.row("v4l2loopback, another size when it is not", *run(other, "--out", LOOPBACK), 0, "4 frames to")

        with subprocess.Popen(
            [*restore, *endless, "--out", str(LOOPBACK), "--stats", "-"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as writer:  # fmt: skip
            assert writer.stdout is not None and writer.stderr is not None
            writer.stdout.readline()  # it is a camera from the first picture on
            draining = threading.Thread(target=writer.stdout.read)  # a full pipe would hold it up
            draining.start()
            tried.row("v4l2loopback, a second writer", *run(clip, "--out", LOOPBACK), 2, "is in use: another program")
            again = folder / "again.mkv"
            code, said = run(LOOPBACK, "--out", again, "--max-frames", "6", "--timeout", "60")
            tried.row("v4l2loopback, read by a second run", code, said, 0, "6 frames")
            writer.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            writer.wait()
            seconds = time.monotonic() - begin
            draining.join()
            tried.row("SIGTERM", writer.returncode, writer.stderr.read(), 130, f"frames to {LOOPBACK}")
        tried.wrong |= seconds > ENDS_S or not right or len(load_video(again)[0]) != 6

        tried.row("the output of vivid, a video", *run(clip, "--out", OUTPUT), 0, f"{PICTURES} frames to {OUTPUT}")
        print(f"ended {seconds:.1f} s after SIGTERM")
    return int(tried.wrong)


def compared(seen: list[np.ndarray], restored: list[np.ndarray]) -> bool:
    """Whether each restored picture was seen, in order, but for those at the beginning; says so."""
    numbers = [number_of(picture) for picture in seen]
    new = [at for at, number in enumerate(numbers) if at == 0 or number != numbers[at - 1]]
    came = [numbers[at] for at in new]
    first = came[0] if came else PICTURES
    apart = [np.abs(seen[at].astype(int) - restored[numbers[at]]).mean(axis=(0, 1)).max() for at in new]
    right = came == list(range(first, PICTURES)) and first <= LATE and max(apart) <= OFF_BY
    print(f"read: {came}, at most {max(apart, default=0):.1f} grey levels off on average{' WRONG' * (not right)}")
    return right


if __name__ == "__main__":
    sys.exit(main())
