"""`python -m tests.edge.guest --loopback python -m tests.edge.loopback`: restored pictures as the camera of others.

Numbered pictures go to v4l2loopback's device, from which a second run reads them as from any camera, and to the output
of the driver vivid. Prints which numbers came back; ends with 1 where none did, where they are out of order, and where
an exit code is wrong.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.edge.files import load_video, store_network
from tests.edge.servers import number_of

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK, OUTPUT = "/dev/video9", "/dev/video1"
PICTURES = 12  # that are read back


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = ["--bundle", str(store_network(folder / "denoise.safetensors")), "--board", "native"]
        restore = [sys.executable, "-m", "edge", "--task", "denoise", *network, "--timeout", "120"]
        camera = f"exec:{sys.executable} -m tests.edge.servers - {folder / 'number'}"
        writing = [*restore, camera, "--out", LOOPBACK, "--stats", "-", "-q"]
        with subprocess.Popen(writing, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()  # it is a camera from the first picture on
            draining = threading.Thread(target=writer.stdout.read)  # a full pipe would hold it up
            draining.start()
            recording = folder / "back.mkv"
            reading = [*restore, LOOPBACK, "--out", str(recording), "--max-frames", str(PICTURES)]
            subprocess.run([*restore, "--list-cameras"], cwd=ROOT, check=True)
            reader = subprocess.run(reading, cwd=ROOT)
            writer.send_signal(signal.SIGTERM)
            draining.join()
        numbers = [number_of(frame) for frame in load_video(recording)[0]] if recording.exists() else []
        print(f"{LOOPBACK}: written with exit code {writer.returncode}, read with {reader.returncode}: {numbers}")
        output = subprocess.run([*restore, camera, "--out", OUTPUT, "--max-frames", "3"], cwd=ROOT)
        print(f"{OUTPUT}: written with exit code {output.returncode}")
    steps = [(after - before) % 256 for before, after in zip(numbers, numbers[1:], strict=False)]
    wrong = len(numbers) != PICTURES or not all(step < 128 for step in steps) or not any(steps)
    return int(wrong or (writer.returncode, reader.returncode, output.returncode) != (130, 0, 0))


if __name__ == "__main__":
    sys.exit(main())
