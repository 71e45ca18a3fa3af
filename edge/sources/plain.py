"""Videos and streams through OpenCV alone: every frame, turned as the video says, without sound."""

from __future__ import annotations

import cv2
import numpy as np

from edge.sources.record import BrokenFrameError, Facts, LostError, Taken, credible


class Plain:
    """A reader (`edge.sources.record.Reader`) for what the FFmpeg inside OpenCV reads."""

    def __init__(self, address: str, *, timeout_s: float | None = None, live: bool = False):
        """timeout_s: for opening and for each frame, of streams. Raises LostError."""
        limits = [] if timeout_s is None else _limits(timeout_s)
        self._capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
        if not self._capture.isOpened():
            self._capture.release()
            raise LostError("cannot be opened")
        self._live = live
        self._passed = 0
        self._first: float | None = None
        self._last = 0.0
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Streams announce nothing, which arrives as zero, a negative or an absurd number.
        count = round(announced) if not live and 1 <= announced < 1e9 else None
        self.facts = Facts(credible(fps), count, live=live)

    def read(self) -> Taken | None:
        more, bgr = self._capture.read()
        if not more:
            self._passed += 1
            if self._live:
                raise LostError("broke off")
            # One broken frame does not end a file that announces more.
            if self.facts.count is None or self._passed >= self.facts.count:
                return None
            raise BrokenFrameError
        self._passed += 1
        at = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._first = at if self._first is None else self._first
        self._last = at - self._first
        return Taken(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), at)

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        """Whether the end of the last frame falls short of the announced end by more than half a frame."""
        fps, count = self.facts.fps, self.facts.count
        return fps is not None and count is not None and passed < count and count / fps - self._last > 1.5 / fps

    def close(self) -> None:
        self._capture.release()


def _limits(seconds: float) -> list[int]:
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(seconds * 1000), cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(seconds * 1000)]
