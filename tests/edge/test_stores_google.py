"""Google's store, played by gcp-storage-emulator: uploads that break off, tokens that expire, buckets that refuse."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import os
import re
import threading
import types
import urllib.parse
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge.archive import stores
from tests.edge.files import assert_refused, load, picture, statuses, store
from tests.edge.web import Proxy, Quiet

# Else gcsfs asks an interface that the local server has not, for a minute, what kind of bucket it is.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
gcsfs = pytest.importorskip("gcsfs")
emulator = pytest.importorskip("gcp_storage_emulator.server")

SECRET = "not-to-be-printed"
LARGE = np.random.RandomState(0).bytes((17 << 20) + 5)  # three parts


class GoogleStorage(emulator.Storage):
    """Of an upload's part, what is there already is passed over, as at Google's; the emulator refuses such a part."""

    def add_to_resumable_upload(self, file_id, content, total_size=None, expected_start=None):
        there = self.get_resumable_byte_count(file_id)
        assert expected_start is None or expected_start <= there
        repeated = 0 if expected_start is None else there - expected_start
        return super().add_to_resumable_upload(file_id, content[repeated:], total_size, there)


class GoogleHandler(emulator.RequestHandler):
    """An upload can be called off, which the emulator does not know."""

    def do_DELETE(self) -> None:
        upload = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("upload_id")
        if upload is None:
            return super().do_DELETE()
        self.storage.resumable.pop(upload[0], None)
        self.send_response(499, "Client Closed Request")
        self.send_header("Content-Length", "0")
        self.end_headers()


class GoogleServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Nothing: that a request broke off was meant."""


@pytest.fixture
def google_storage(monkeypatch) -> Iterator[Callable[..., tuple[GoogleStorage, Proxy]]]:
    """google_storage(answer): an empty bucket named pictures of a local server that speaks as Google Cloud Storage
    does, behind a proxy. Its library does not wait before it tries again."""
    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=lambda seconds: asyncio.sleep(0)))
    storage = GoogleStorage(use_memory_fs=True)
    storage.create_bucket("pictures", {})
    proxies = []

    def through(answer: Callable[[bytes], bytes | int | None] = lambda head: None) -> tuple[GoogleStorage, Proxy]:
        proxies.append(Proxy(("127.0.0.1", server.server_port), answer))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxies[-1].port}")
        gcsfs.GCSFileSystem.clear_instance_cache()
        stores.opened.cache_clear()
        return storage, proxies[-1]

    with GoogleServer(("127.0.0.1", 0), functools.partial(GoogleHandler, storage)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield through
        server.shutdown()
    for proxy in proxies:
        proxy.listener.close()
    gcsfs.GCSFileSystem.clear_instance_cache()
    stores.opened.cache_clear()


@pytest.fixture
def google(google_storage) -> gcsfs.GCSFileSystem:
    """An empty bucket named pictures of that server."""
    google_storage()
    return gcsfs.GCSFileSystem(project="project", token="anon")


def test_google_s_store_and_nothing_twice(restore, work, network, google):
    for number, name in enumerate(("a.png", "x/b.png")):
        google.pipe_file(f"pictures/in/{name}", store(work / "up.png", picture(seed=number)).read_bytes())
    arguments = ("gs://pictures/in", "--recursive", "--skip-existing", "--out", "gs://pictures/out", "--stats", "-")
    run = restore(*arguments)
    assert run.code == 0 and statuses(run) == {"a.png": "restored", "x/b.png": "restored"}, run
    (work / "got.png").write_bytes(google.cat_file("pictures/out/x/b.png"))
    assert np.array_equal(load(work / "got.png"), network.run(picture(seed=1)).image)
    assert len(run.err.splitlines()) == 3, run.err  # the summary; its library says nothing
    assert set(statuses(restore(*arguments)).values()) == {"skipped"}
    assert_refused(restore("gs://pictures/none.png", "--out", work / "out"), "is not there")


def test_a_large_object_for_google_goes_in_parts(google, monkeypatch):
    send, parts = gcsfs.core.upload_chunk, []

    async def watched(system, location, data, offset, *rest):
        parts.append(offset)
        return await send(system, location, data, offset, *rest)

    monkeypatch.setattr(gcsfs.core, "upload_chunk", watched)
    stores.store_of("gs://pictures").write("gs://pictures/large.png", LARGE)
    assert stores.store_of("gs://pictures").read("gs://pictures/large.png") == LARGE
    assert parts == [0, 8 << 20, 16 << 20]


PART = rb"POST /upload/.*upload_id="


def google_says(code: int, message: str) -> bytes:
    content = json.dumps({"error": {"code": code, "message": message}}).encode()
    head = f"HTTP/1.1 {code} -\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + content


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        (3 << 20, [0, 8, 8, 16]),  # cut off within the second part
        (b"", [0, 8, 8, 16]),
        (google_says(503, "Service Unavailable"), [0, 8, 8, 16]),
        (google_says(401, "Invalid Credentials"), [0, 8, 8, 16]),
        (google_says(410, "the upload is gone"), [0, 8, 0, 8, 16]),
        (google_says(404, "no such upload"), [0, 8, 0, 8, 16]),
    ],
)
def test_a_part_for_google_that_breaks_off_is_sent_again(google_storage, fault, parts):
    """And the whole, where the store has forgotten the upload; nothing is visible before it is whole."""
    sent: list[int] = []
    seen: list[list[str]] = []

    def answer(head: bytes) -> bytes | int | None:
        if re.match(PART, head) is None:
            return None
        sent.append(int(re.search(rb"(?i)content-range: bytes (\d+)", head)[1]) >> 20)
        seen.append(list(storage.objects.get("pictures", {})))
        return fault if len(sent) == 2 else None

    storage, _ = google_storage(answer)
    stores.store_of("gs://pictures").write("gs://pictures/large.png", LARGE)
    assert storage.get_file("pictures", "large.png") == LARGE
    assert sent == parts and not any(seen)
    assert storage.resumable == {}


def test_what_google_has_received_in_another_form_is_sent_again(google_storage, monkeypatch):
    create, written = emulator.Storage.create_file, []

    def spoilt(storage, bucket, name, content, about, upload=None):
        written.append(about["md5Hash"])
        create(storage, bucket, name, content, about, upload)
        if len(written) == 1:
            about["md5Hash"] = "AAAA"

    monkeypatch.setattr(emulator.Storage, "create_file", spoilt)
    storage, _ = google_storage()
    stores.store_of("gs://pictures").write("gs://pictures/a.png", b"content")
    assert len(written) == 2 and storage.get_file("pictures", "a.png") == b"content"


def test_a_google_bucket_that_refuses_ends_the_run_at_once(restore, work, google_storage):
    text = "nobody@example.org does not have storage.objects.create access"
    storage, proxy = google_storage(lambda head: google_says(403, text) if head.startswith(b"POST /upload") else None)
    for number in range(3):
        store(work / f"{number}.png", picture(seed=number))
    run = restore(work, "--recursive", "--out", "gs://pictures/out", "--stats", "-")
    assert run.code == 2 and len(run.out.splitlines()) == 1, run
    assert f"of gs://pictures cannot be written: permission denied ({text})." in run.err, run.err
    assert proxy.answered == 1 and storage.objects.get("pictures", {}) == {}


@pytest.fixture
def tokens(work, monkeypatch) -> Iterator[list[str]]:
    """Those that were given out, to a key that stands where Google's tools look for one. Each expires at once."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    given: list[str] = []

    class Tokens(Quiet):
        def do_POST(self) -> None:
            given.append(f"{SECRET}-{len(given)}")
            content = json.dumps({"access_token": given[-1], "expires_in": 1, "token_type": "Bearer"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens) as giver:
        threading.Thread(target=giver.serve_forever, daemon=True).start()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key = {
            "type": "service_account",
            "project_id": "project",
            "client_email": "nobody@example.org",
            "private_key": rsa.generate_private_key(65537, 2048).private_bytes(*form).decode(),
            "token_uri": f"http://127.0.0.1:{giver.server_port}/",
        }
        (work / "key.json").write_text(json.dumps(key))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(work / "key.json"))
        yield given
        giver.shutdown()


def test_a_token_for_google_that_has_expired_is_renewed_in_the_middle_of_an_upload(google_storage, tokens):
    used: list[str] = []

    def answer(head: bytes) -> bytes | None:
        used.append(re.search(rb"(?i)authorization: Bearer (\S+)", head)[1].decode())
        return None if used[-1] == tokens[-1] else google_says(401, "Invalid Credentials")

    storage, proxy = google_storage(answer)
    stores.store_of("gs://pictures").write("gs://pictures/large.png", LARGE)
    assert storage.get_file("pictures", "large.png") == LARGE
    assert len(set(used)) == len(used) and proxy.answered == 0


def test_a_token_that_google_takes_no_more_ends_the_run_and_is_not_printed(restore, work, google_storage, tokens):
    storage, proxy = google_storage(
        lambda head: google_says(401, "Invalid Credentials") if head.startswith(b"POST /upload") else None
    )
    run = restore(store(work / "a.png", picture()), "--recursive", "--out", "gs://pictures/out", "--stats", "-")
    assert run.code == 2 and "out/a.png of gs://pictures cannot be written: permission denied" in run.err, run
    assert SECRET not in run.out + run.err and "PRIVATE" not in run.out + run.err
    assert len(run.err.splitlines()) == 2 and proxy.answered == 6, run.err  # gcsfs's attempts
