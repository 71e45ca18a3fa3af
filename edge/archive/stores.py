"""Object stores and servers as places of pictures, through fsspec: s3://, gs://, http(s):// and whatever it knows.

Credentials come from where each store's own tools look for them (environment, configuration files, the machine's role),
never from the command. What a server answers is treated as hostile: a name cannot leave the output folder (`Listing`).
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import posixpath
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from edge.archive.names import below, log_name
from edge.archive.places import FILE, FOLDER, Entry, Look, Top, Unlisted
from edge.errors import UserError, sentence
from edge.sources.images import LeftOut, called_image
from edge.terminal import without_secrets
from simulator.files import reason

INSTALL = "pip install 'spikerir-edge[cloud]'"
# Where an object is visible only when it is whole. Elsewhere it is written under another name first.
_WHOLE = frozenset("s3 s3a gs gcs az abfs abfss memory".split())
_S3, _GOOGLE = ("s3", "s3a"), ("gs", "gcs")
_PART = 8 << 20  # bytes of a larger object that are sent at once, so that a bad network costs a part and not the whole
_WAITS_S = (0.1, 0.5, 2.0, 8.0)  # before another attempt, on top of what a store's own library tries
_FOLDERS_KEPT = 4  # of output folders, what is in them
_LOG_LINES, _LOG_S = 1000, 10.0  # of a journal, kept back at most

_T = TypeVar("_T")


class _FinalError(OSError):
    """What another attempt would not change."""


def store_of(address: str) -> Store:
    """The store that holds an address; one for each scheme. Raises UserError where it is not known."""
    scheme = address.partition(":")[0].lower()
    if "::" in address:
        raise UserError(f"{address} has an address within an address, which is not read; give a plain one.")
    if scheme not in ("http", "https") and urllib.parse.urlsplit(address).username is not None:
        raise UserError(f"{scheme}:// addresses hold no credentials; put these where the tools of that store look.")
    return opened(scheme)


@functools.cache
def opened(scheme: str) -> Store:
    """Connections are made when they are needed, and kept."""
    return Store(scheme)


class Store:
    """Everything under the addresses of one scheme."""

    def __init__(self, scheme: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self._resolve = functools.partial(url_to_fs, use_listings_cache=False)
            self._fs: Any = self._resolve(f"{scheme}://")[0]
        except ImportError as error:
            raise UserError(f"{scheme}:// needs packages that are not installed: {INSTALL}.") from error
        except ValueError as error:
            raise UserError(f"{scheme}:// is no place where pictures are: {sentence(error)}") from error
        self._scheme = scheme
        if scheme in _GOOGLE:  # its library comments on standard error what is said here in sentences
            logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
        self._web = scheme in ("http", "https")

    def read(self, address: str) -> bytes:
        # S3's library would ask for the size first, to read what is large in parts, side by side.
        options = {"max_concurrency": 1} if self._scheme in _S3 else {}
        return bytes(self._tried(self._fs.cat_file, self._path(address), **options))

    def write(self, address: str, content: bytes) -> None:
        path = self._path(address)
        if self._scheme in _WHOLE:
            # What is sent in parts is not there before the last of them; when one fails, the others are given up.
            options = {"chunksize": _PART} if self._scheme in _S3 + _GOOGLE else {}
            self._tried(self._fs.pipe_file, path, content, **options)
            return
        folder, name = posixpath.split(path)
        stem, suffix = posixpath.splitext(name)
        temporary = f"{folder}/.{stem[:64]}.{secrets.token_hex(6)}{suffix}"
        try:
            self._tried(self._fs.makedirs, folder, exist_ok=True)
            self._tried(self._fs.pipe_file, temporary, content)
            self._tried(self._fs.mv, temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def clear(self, address: str) -> None:
        """Nothing: what was not whole never appeared."""

    def name(self, address: str) -> str:
        return urllib.parse.urlsplit(address).path.lstrip("/")

    def label(self, address: str) -> str:
        """Such as "photos/a.png of s3://bucket"."""
        name = self.name(address)
        host = without_secrets(f"{self._scheme}://{urllib.parse.urlsplit(address).netloc}")
        return f"{name} of {host}" if name else host

    def top(self, source: str) -> Top:
        path = self._path(source).rstrip("/")
        whole = self._fs.unstrip_protocol(path) if not self._web else _bare(path)
        label = self.label(source)
        named_image = called_image(_bare(path))
        try:
            if self._web:
                kind = FILE if named_image else FOLDER
            else:
                kind = FILE if self._tried(self._fs.info, path)["type"] == "file" else FOLDER
        except OSError as error:
            raise UserError(f"{label} cannot be looked up: {reason(error)}.") from error
        if kind == FILE and not named_image:
            raise UserError(f"{label} is not called like an image; in stores the name says what is one.")
        return Top(self._fs.unstrip_protocol(path), whole, kind)

    def entries(self, top: Top, recursive: bool, without: str | None, left_out: LeftOut) -> Iterator[Entry | Unlisted]:
        if top.kind == FILE:
            try:
                yield Entry(top.path, *self._facts(self._tried(self._fs.info, self._path(top.path))))
            except OSError as error:
                yield Unlisted(top.path, f"{self.label(top.path)} cannot be looked up: {reason(error)}.")
            return
        waiting = [self._path(top.path)]
        while waiting:
            current = waiting.pop()
            try:
                for info in self._list(current, recursive):
                    address = self._fs.unstrip_protocol(info["name"].rstrip("/"))
                    name = posixpath.basename(address)
                    if name.startswith(".") or (without is not None and below(address, without)):
                        continue
                    if info["type"] == "directory":
                        if not recursive:
                            left_out.add("folder", name)
                        elif address != self._fs.unstrip_protocol(current.rstrip("/")):
                            waiting.append(info["name"])
                    elif called_image(_bare(name)):
                        yield Entry(address, *self._facts(info))
                    elif name and "?" not in name:  # of a server's listing: how to sort it
                        left_out.add("file that is no image", name)
            except OSError as error:
                yield Unlisted(
                    current, f"{self.label(self._fs.unstrip_protocol(current))} cannot be listed: {reason(error)}."
                )

    def looks(self) -> Look:
        return _Looks(self)

    def sizes(self, folder: str) -> dict[str, int]:
        """The files in a folder, by their names in it."""
        try:
            found = self._tried(self._fs.ls, self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {posixpath.basename(info["name"]): info.get("size") or 0 for info in found}

    def log(self, folder: str) -> StoreLog:
        return StoreLog(self, folder)

    def texts(self, folder: str, suffix: str) -> Iterator[bytes]:
        """The content of the files in a folder with names that end so, in the order of their names."""
        for name in sorted(self.sizes(folder)):
            if name.endswith(suffix):
                yield self.read(f"{folder}/{name}")

    def _path(self, address: str) -> str:
        return str(self._resolve(address)[1])

    def _facts(self, info: dict[str, Any]) -> tuple[int, str]:
        """(size, stamp) of a file."""
        for name in ("ETag", "etag", "md5Hash", "checksum", "LastModified", "last_modified", "mtime", "created"):
            if info.get(name):
                return info.get("size") or 0, str(info[name])
        return info.get("size") or 0, ""

    def _list(self, path: str, recursive: bool) -> Iterator[dict[str, Any]]:
        """What is in a folder; of S3 page by page, and with what is in folders below, of others folder by folder."""
        if self._scheme not in _S3:
            yield from self._tried(self._fs.ls, path, detail=True)
            return
        bucket, _, prefix = path.partition("/")
        query = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else ""}
        if not recursive:
            query["Delimiter"] = "/"
        while True:
            page = self._tried(self._fs.call_s3, "list_objects_v2", **query)
            for folder in page.get("CommonPrefixes", ()):
                yield {"name": f"{bucket}/{folder['Prefix']}", "type": "directory"}
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):
                    yield {"name": f"{bucket}/{found['Key']}", "type": "file", "size": found["Size"], **found}
            if not page.get("IsTruncated"):
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def _tried(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """The function's result, after more attempts where the network may be to blame. Raises OSError."""
        for wait_s in (*_WAITS_S, None):
            try:
                return function(*arguments, **options)
            except Exception as error:
                found = _as_os_error(error)
                if wait_s is None or isinstance(found, FileNotFoundError | PermissionError | _FinalError):
                    raise found from error
                time.sleep(wait_s)
        raise AssertionError


def _as_os_error(error: Exception) -> OSError:
    """What a store's library raises, of which none keeps to OSError, without addresses that may hold a token."""
    text = without_secrets(str(error) or type(error).__name__).rstrip(".")
    status = getattr(error, "status", None)  # aiohttp's
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return FileNotFoundError(2, "it is not there")
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(13, f"permission denied ({text})")
    if "Credential" in type(error).__name__:
        return PermissionError(13, text)
    if isinstance(error, NotImplementedError | ValueError | TypeError):
        return _FinalError(None, text)
    return OSError(getattr(error, "errno", None), text)


def _bare(address: str) -> str:
    """Without what stands behind a question mark."""
    return address.partition("?")[0]


class _Looks:
    """What stands under an address, by lists of whole folders, each asked for once; what comes later is not seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folders: collections.OrderedDict[str, dict[str, int]] = collections.OrderedDict()

    def __call__(self, address: str) -> tuple[int, None] | None:
        folder, name = posixpath.split(address)
        if folder not in self._folders:
            self._folders[folder] = self._store.sizes(folder)
            while len(self._folders) > _FOLDERS_KEPT:
                self._folders.popitem(last=False)
        size = self._folders[folder].get(name)
        return None if size is None else (size, None)


class StoreLog:
    """Lines in objects of a folder, of which each holds those of some seconds: a kill loses the last of them."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self._folder = store, folder
        self._lines: list[bytes] = []
        self._written = time.monotonic()

    def lines(self) -> Iterator[bytes]:
        for text in self._store.texts(self._folder, ".jsonl"):
            yield from text.splitlines()

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= _LOG_LINES or time.monotonic() - self._written >= _LOG_S:
            self.close()

    def close(self) -> None:
        if self._lines:
            self._store.write(f"{self._folder}/{log_name()}", b"".join(self._lines))
            self._lines = []
        self._written = time.monotonic()
