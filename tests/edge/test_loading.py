"""A process that restores: what it keeps for the next picture."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge import shipped
from edge.loading import load_network

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource
import numpy as np
from edge.loading import keep_freed_memory
{first}
def restored():
    [np.ones(2 << 20, np.uint8) for _ in range(4)]
restored()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    restored()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.maxsize < 1 << 32, reason="of glibc with 64 bits")
def test_memory_that_a_picture_took_is_kept_for_the_next():
    def faults(first: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(first=first)]
        return int(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)

    assert faults("") > 10_000, "the system's memory has become cheap: what is this for?"
    assert faults("keep_freed_memory()") < 1_000


def test_threads_are_those_of_the_picture_library_too():
    before = cv2.getNumThreads()
    try:
        load_network(shipped.named("denoise"), None, 1, None)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
