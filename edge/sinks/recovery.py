"""What a run that was killed left beside its output: hidden files that nobody holds a lock on any more."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path

import cv2

from simulator import files


def recover(path: Path, segmented: bool) -> list[str]:
    """Gives what earlier runs with the video output `path` left a name; returns sentences that say so.

    A recording in one piece becomes NAME.recovered.SUFFIX, a segment gets the name that it would have had.
    """
    folder = Path(os.path.realpath(path)).parent
    stem = rf"{re.escape(path.stem[:64])}_\d{{8}}T\d{{6}}Z(?:-\d{{3,}})?" if segmented else re.escape(path.stem[:64])
    named = re.compile(rf"\.({stem})\.[0-9a-f]{{12}}{re.escape(path.suffix)}")
    sentences = []
    with contextlib.suppress(OSError):  # there is no such folder yet
        for left in sorted(folder.iterdir()):
            if (match := named.fullmatch(left.name)) and _abandoned(left):
                sentences.append(_finish(left, folder / f"{match[1]}{path.suffix}", segmented))
    return sentences


def _abandoned(path: Path) -> bool:
    """Whether the process that wrote the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _finish(left: Path, whole: Path, segmented: bool) -> str:
    if not _plays(left):
        if left.stat().st_size:
            return f"{left} is what an earlier run left that was killed; it cannot be played: look at it, or remove it."
        left.unlink()
        return f"{left} was left empty by an earlier run that was killed, and is removed."
    target = whole if segmented else whole.with_name(f"{whole.stem}.recovered{whole.suffix}")
    number = 1
    while target.exists():
        number += 1
        target = whole.with_name(f"{whole.stem}.recovered-{number}{whole.suffix}")
    try:
        os.rename(left, target)
    except OSError as error:
        return f"{left} is what an earlier run left that was killed, and cannot be renamed: {files.reason(error)}."
    return f"{target} is what an earlier run had recorded when it was killed."


def _plays(path: Path) -> bool:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    found = capture.isOpened() and bool(capture.read()[0])
    capture.release()
    return found
