"""A process that restores: what it keeps for the next picture."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge import shipped
from edge.loading import load_network

ROOT = Path(__file__).resolve().parents[2]
TAKEN = 10 * 4 * (2 << 20)  # bytes, in the loop of FAULTS
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
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("GLIBC_", "MALLOC_"))}
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
        return int(done.stdout)

    pages = TAKEN // os.sysconf("SC_PAGESIZE")
    if faults("") < pages // 2:
        pytest.skip("the system gives memory in huge pages, which cost nothing")
    assert faults("keep_freed_memory()") < pages // 20


def test_threads_are_those_of_the_picture_library_too():
    before = cv2.getNumThreads()
    try:
        load_network(shipped.named("denoise"), None, 1, None)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
