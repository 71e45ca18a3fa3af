"""Streams: Motion JPEG over HTTP, the address of one picture, asked for again and again, and what FFmpeg reads."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from edge import pyav
from edge.sources.bytewise import Jpegs, decoded
from edge.sources.capture import ATTEMPTS, Video
from edge.sources.decoded import Decoded
from edge.sources.plain import Plain
from edge.sources.record import Facts, LostError, Reader, Settings, Taken
from edge.terminal import without_secrets
from simulator.files import reason

_POLLS_A_SECOND = 1.0
_LARGEST_PICTURE = 64 << 20


def open_stream(text: str, settings: Settings) -> Video:
    """The stream at the address `text`. Raises UserError."""
    scheme, rest = text.split("://", 1)
    scheme = scheme.lower()  # FFmpeg knows small letters only
    label = without_secrets(f"{scheme}://{rest.rpartition('@')[2]}")
    address = f"{scheme}://{rest}"

    def opener() -> Reader:
        if scheme in ("http", "https"):
            return _open_http(address, settings)
        return _open_ffmpeg(address, settings)

    hint = "; check the address and that its server is running"
    return Video(label, opener, settings, attempts=ATTEMPTS, hint=hint)


def _open_ffmpeg(address: str, settings: Settings, finite: bool = False) -> Reader:
    """finite: a video that lies there whole, of which no frame is dropped."""
    transport = settings.transport or "tcp"
    if pyav.library() is None:
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"rtsp_transport;{transport}"
        return Plain(address, timeout_s=settings.patience_s, live=not finite)
    options = {"rtsp_transport": transport} if address.startswith("rtsp") else {}
    patience_s = settings.patience_s
    return Decoded(address, options=options, timeout_s=patience_s, live=not finite, sound=settings.sound)


def _open_http(address: str, settings: Settings) -> Reader:
    """What the server's answer is decides who reads it."""
    answer = _ask(address, settings.patience_s)
    kind = answer.headers.get_content_type()
    if kind == "multipart/x-mixed-replace":
        return Jpegs(_unending(_reading(answer)), answer.close)
    if kind.startswith("image/"):
        return _Polled(address, answer, settings)
    finite = answer.headers.get("Content-Length") is not None and kind.startswith(("video/", "application/octet"))
    answer.close()
    return _open_ffmpeg(address, settings, finite)


def _ask(address: str, patience_s: float) -> Any:
    """An open answer to a GET. Raises LostError."""
    parts = urllib.parse.urlsplit(address)
    user, secret = parts.username, parts.password
    bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if user is not None:
        passwords.add_password(None, bare, urllib.parse.unquote(user), urllib.parse.unquote(secret or ""))
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
    )
    try:
        return opener.open(bare, timeout=patience_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 401 and user is not None:
            raise LostError("does not accept this user with this password") from error
        if error.code == 401:
            raise LostError(
                "asks for a user and a password, which stand before the host: USER:PASSWORD@HOST"
            ) from error
        raise LostError(f"answers {error.code} ({error.reason})") from error
    except urllib.error.URLError as error:
        why = error.reason
        raise LostError(f"cannot be reached: {reason(why) if isinstance(why, OSError) else 'no answer'}") from error
    except TimeoutError as error:
        raise LostError("does not answer") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise LostError("cannot be reached, or does not speak HTTP") from error


def _reading(answer: Any) -> Callable[[int], bytes]:
    """Reads what has come, as soon as something has."""

    def read(count: int) -> bytes:
        try:
            return bytes(answer.read1(count))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LostError(f"broke off: {reason(error) if isinstance(error, OSError) else 'cut short'}") from error

    return read


def _unending(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A server that hangs up has broken off, unless it said before that this was the end."""
    tail = b""

    def checked(count: int) -> bytes:
        nonlocal tail
        chunk = read(count)
        if not chunk and not tail.rstrip().endswith(b"--"):
            raise LostError("broke off")
        tail = (tail + chunk)[-8:]
        return chunk

    return checked


class _Polled:
    """A reader that asks for one picture again and again, `--fps` times a second."""

    def __init__(self, address: str, answer: Any, settings: Settings):
        self._address, self._answer = address, answer
        self._patience_s = settings.patience_s
        self._between_s = 1 / (settings.fps or _POLLS_A_SECOND)
        self._next = time.monotonic()
        self.facts = Facts(settings.fps or _POLLS_A_SECOND, live=True)

    def read(self) -> Taken | None:
        time.sleep(max(self._next - time.monotonic(), 0))
        self._next = max(self._next + self._between_s, time.monotonic())
        answer = self._answer or _ask(self._address, self._patience_s)
        self._answer = None
        with answer:
            read = _reading(answer)
            picture = b""
            while len(picture) < _LARGEST_PICTURE and (chunk := read(1 << 16)):
                picture += chunk
        return Taken(decoded(picture))

    def rest(self) -> tuple[()]:
        return ()

    def ends_early(self, passed: int) -> bool:
        return False

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
