"""The tasks by name: what a bundle may be for, and what `edge-restore --task` offers."""

from __future__ import annotations

ALL_IN_ONE = "auto"  # one network for all of them, which is not told how a picture was degraded
TASKS = ("denoise", "derain", "dehaze", "deblur", "defocus", "dejpeg", ALL_IN_ONE)
