"""Object stores and web servers: local ones that refuse, uploads that break off, a network that drops requests."""

from __future__ import annotations

import functools
import http.server
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.archive import stores
from edge.archive.journal import FOLDER
from tests.edge.files import assert_refused, load, picture, statuses, store
from tests.edge.web import Proxy, Quiet

boto3 = pytest.importorskip("boto3")
fsspec = pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")

KEY, SECRET = "AKIDEXAMPLE", "not-to-be-printed"


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    running = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()
    running.stop()


@pytest.fixture
def through(server, monkeypatch) -> Iterator[Callable[..., Proxy]]:
    """through(answer): the endpoint is a proxy."""
    proxies = []

    def endpoint(answer: Callable[[bytes], bytes | None] = lambda head: None) -> Proxy:
        proxies.append(Proxy(server, answer))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxies[-1].port}")
        s3fs.S3FileSystem.clear_instance_cache()
        stores.opened.cache_clear()
        return proxies[-1]

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    yield endpoint
    for proxy in proxies:
        proxy.listener.close()
    s3fs.S3FileSystem.clear_instance_cache()
    stores.opened.cache_clear()


@pytest.fixture
def bucket(through) -> s3fs.S3FileSystem:
    """An empty bucket named pictures."""
    through()
    system = s3fs.S3FileSystem()
    if system.exists("pictures"):
        system.rm("pictures", recursive=True)
    system.mkdir("pictures")
    return system


@pytest.fixture
def filled(bucket, work) -> dict[str, np.ndarray]:
    """Pictures in s3://pictures/in, by name."""
    pictures = {}
    for number, name in enumerate(("a.png", "x/b.png", "x/y/c.png", "x/y/d.gif.png")):
        pictures[name] = picture(seed=number)
        bucket.pipe_file(f"pictures/in/{name}", store(work / "upload.png", pictures[name]).read_bytes())
    bucket.pipe_file("pictures/in/notes.txt", b"text")
    for name in (".hidden.png", "x/.hidden/b.png"):
        bucket.pipe_file(f"pictures/in/{name}", (work / "upload.png").read_bytes())
    (work / "upload.png").unlink()
    return pictures


def outputs(system: s3fs.S3FileSystem) -> list[str]:
    system.invalidate_cache()
    return sorted(
        name.removeprefix("pictures/out/") for name in system.find("pictures/out") if f"/{FOLDER}/" not in name
    )


def test_from_a_store_into_a_store_and_nothing_twice(restore, work, network, bucket, filled):
    arguments = ("s3://pictures/in", "--recursive", "--skip-existing", "--out", "s3://pictures/out", "--stats", "-")
    run = restore(*arguments)
    assert run.code == 0, run
    assert outputs(bucket) == sorted(filled)
    for name, pixels in filled.items():
        (work / "got.png").write_bytes(bucket.cat_file(f"pictures/out/{name}"))
        assert np.array_equal(load(work / "got.png"), network.run(pixels).image), name
    assert "1 file that is no image (notes.txt)" in run.err
    assert set(statuses(restore(*arguments)).values()) == {"skipped"}

    bucket.rm_file("pictures/out/a.png")
    bucket.pipe_file("pictures/in/x/b.png", store(work / "new.png", picture(seed=50)).read_bytes())
    again = statuses(restore(*arguments))
    assert {name for name, status in again.items() if status == "restored"} == {"a.png", "x/b.png"}


def test_between_a_store_and_folders(restore, work, network, bucket, filled):
    assert restore("s3://pictures/in/x", "--recursive", "--out", work / "out").code == 0
    assert np.array_equal(load(work / "out/b.png"), network.run(filled["x/b.png"]).image)
    assert restore(work / "out", "--out", "s3://pictures/out/").code == 0
    assert outputs(bucket) == ["b.png"]


def test_one_object_and_folders_that_are_not_entered(restore, work, bucket, filled):
    assert restore("s3://pictures/in/x/b.png", "--out", work / "one").code == 0
    assert (work / "one/b.png").exists()
    run = restore("s3://pictures/in", "--out", work / "flat")
    assert run.code == 0 and "1 folder (x)" in run.err
    assert sorted(path.name for path in (work / "flat").iterdir()) == [FOLDER, "a.png"]


def test_several_processes(restore, bucket, filled):
    run = restore("s3://pictures/in", "--recursive", "--out", "s3://pictures/out", "--jobs", 2)
    assert run.code == 0, run
    assert outputs(bucket) == sorted(filled)


def test_a_network_that_drops_one_request_in_twenty(restore, work, through, bucket):
    for number in range(40):
        content = store(work / "upload.png", picture(seed=number)).read_bytes()
        bucket.pipe_file(f"pictures/in/{number}.png", content)
    chance = random.Random(5)
    proxy = through(lambda head: b"" if chance.random() < 0.05 else None)
    run = restore("s3://pictures/in", "--recursive", "--out", "s3://pictures/out")
    assert run.code == 0, run
    assert proxy.answered > 2
    assert outputs(bucket) == sorted(f"{number}.png" for number in range(40))


DENIED = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n"
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


def test_a_bucket_that_refuses_ends_the_run_at_once_and_tells_no_secret(restore, through, bucket, filled):
    proxy = through(lambda head: DENIED if head.startswith(b"PUT ") else None)
    run = restore("s3://pictures/in", "--recursive", "--out", "s3://pictures/out", "--stats", "-")
    assert run.code == 2
    assert "out/a.png of s3://pictures cannot be written: permission denied" in run.err, run.err
    assert len(run.out.splitlines()) == 1 and proxy.answered < 4
    assert SECRET not in run.out + run.err and KEY not in run.out + run.err
    assert outputs(bucket) == []


def test_an_object_that_is_refused_is_one_failure(restore, through, bucket, filled, work):
    through(lambda head: DENIED if re.match(rb"GET /pictures/in/a\.png", head) else None)
    run = restore("s3://pictures/in", "--recursive", "--out", work / "out")
    assert run.code == 1
    assert "in/a.png of s3://pictures cannot be read: permission denied" in run.err


LARGE = np.random.RandomState(0).bytes((17 << 20) + 5)  # three parts


def uploads(port: int) -> list[object]:
    """What a bucket holds of objects that never became whole."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
    return client.list_multipart_uploads(Bucket="pictures").get("Uploads", [])


def test_a_large_object_is_sent_in_parts_and_each_is_tried_again(through, bucket):
    sent: list[bytes] = []

    def answer(head: bytes) -> bytes | None:
        part = re.match(rb"PUT /pictures/large\.png\?.*partNumber=(\d+)", head)
        if part is None:
            return None
        sent.append(part[1])
        return b"" if sent.count(b"2") == 1 and part[1] == b"2" else None

    proxy = through(answer)
    store_ = stores.store_of("s3://pictures")
    store_.write("s3://pictures/large.png", LARGE)
    assert store_.read("s3://pictures/large.png") == LARGE
    assert set(sent) == {b"1", b"2", b"3"} and sent.count(b"2") > 1 and sent.count(b"1") == 1
    assert uploads(proxy.port) == []


def test_of_an_upload_that_is_refused_half_way_nothing_is_left(through, bucket):
    proxy = through(lambda head: DENIED if re.match(rb"PUT /pictures/large\.png\?.*partNumber=3", head) else None)
    with pytest.raises(PermissionError, match="permission denied"):
        stores.store_of("s3://pictures").write("s3://pictures/large.png", LARGE)
    assert proxy.answered == 1
    assert not bucket.exists("pictures/large.png") and uploads(proxy.port) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://nobucket/in", "is not there"),
        ("s3://key:secret@pictures/in", "hold no credentials"),
        ("nowhere://pictures/in", "nowhere://"),
        ("S3://pictures/in", "small letters: s3://"),
        ("s3://", "lacks the name of a bucket"),
        ("s3://pictures/in/../out", "has a .. in it"),
        ("webhdfs://pictures/in", "cannot be opened"),
    ],
)
def test_addresses_that_are_none(restore, bucket, work, address, words):
    run = restore(address, "--recursive", "--out", work / "out")
    assert_refused(run, words)
    assert "secret" not in run.err


def test_without_credentials_it_says_so(restore, through, bucket, work, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(work))
    through()
    assert_refused(restore("s3://pictures/in", "--recursive"), "credentials")


def test_names_of_a_server_do_not_leave_the_output_folder(restore, work, bucket):
    content = store(work / "upload.png", picture()).read_bytes()
    for name in ("in/../../evil.png", "in//twice.png", "in/good.png"):
        bucket.pipe_file(f"pictures/{name}", content)
    run = restore("s3://pictures/in", "--recursive", "--out", work / "a/b/out")
    assert run.code == 1
    assert sorted(path.name for path in work.rglob("*.png")) == ["good.png", "upload.png"]


ODD = ("a#1.png", "b?x.png", "c%20d.png", "e#/f.png", "g h.png", "ü@i.png")


def test_signs_in_the_names_of_objects_mean_nothing(restore, work, bucket):
    content = store(work / "upload.png", picture()).read_bytes()
    client = boto3.client("s3")
    for name in ODD:
        client.put_object(Bucket="pictures", Key=f"in/{name}", Body=content)
    arguments = ("s3://pictures/in", "--recursive", "--skip-existing", "--out", "s3://pictures/out", "--stats", "-")
    run = restore(*arguments)
    assert run.code == 0 and statuses(run) == dict.fromkeys(ODD, "restored"), run
    keys = [found["Key"] for found in client.list_objects_v2(Bucket="pictures", Prefix="out/")["Contents"]]
    assert sorted(key[4:] for key in keys if FOLDER not in key) == sorted(ODD)
    assert set(statuses(restore(*arguments)).values()) == {"skipped"}
    assert restore("s3://pictures/in/a#1.png", "--out", work / "one").code == 0
    assert (work / "one/a#1.png").exists()


def test_a_tree_of_a_web_server(restore, work, network):
    (work / "www/x").mkdir(parents=True)
    store(work / "www/a.png", picture())
    store(work / "www/x/b.png", picture(seed=1))
    handler = functools.partial(Quiet, directory=str(work / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/"
        run = restore(address, "--recursive", "--out", work / "out")
        assert run.code == 0, run
        assert np.array_equal(load(work / "out/x/b.png"), network.run(picture(seed=1)).image)
        run = restore(f"{address}x/b.png?token=hidden", f"{address}a.png", "--out", work / "two")
        assert run.code == 0, run
        assert (work / "two/x/b.png").exists() and "hidden" not in run.out + run.err
        assert "hidden" not in "".join(path.read_text() for path in (work / "two" / FOLDER).iterdir())
        run = restore(f"{address}missing.png?token=hidden", f"{address}a.png", "--out", work / "two")
        assert run.code == 1 and "hidden" not in run.out + run.err and "missing.png" in run.err
        web.shutdown()
    assert_refused(restore(work / "www", "--recursive", "--out", address), "cannot be written")


class Unsteady(Quiet):
    """Of 20 requests about one is not answered, one is put off, one breaks off in the middle of the answer."""

    chance, fault, faults = random.Random(3), 0.0, 0

    def send_head(self):
        self.fault = Unsteady.chance.random()
        Unsteady.faults += self.fault < 0.15
        if self.fault < 0.05:
            self.close_connection = True
        elif self.fault < 0.1:
            self.send_error(503)
        else:
            return super().send_head()

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if self.fault < 0.15 else content)


def test_a_web_server_that_does_not_answer_about_a_picture_is_asked_again(restore, work):
    class Silent(Quiet):
        asked = 0

        def send_head(self):
            Silent.asked += 1
            if Silent.asked > 2:
                return super().send_head()
            self.close_connection = True

    store(work / "a.png", picture())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(work))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        assert restore(f"http://127.0.0.1:{web.server_port}/a.png", "--recursive", "--out", work / "out").code == 0
        web.shutdown()
    assert (work / "out/a.png").exists()


def test_a_web_server_s_tree_through_a_network_that_drops_requests(restore, work, network):
    (work / "www/x").mkdir(parents=True)
    for number in range(40):
        store(work / f"www/{'x/' * (number % 2)}{number}.png", picture(seed=number))
    handler = functools.partial(Unsteady, directory=str(work / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{web.server_port}/"
        run = restore(address, "--recursive", "--out", work / "out", "--stats", "-")
        one = restore(*(f"{address}x/{number}.png" for number in range(1, 40, 2)), "--out", work / "one")
        web.shutdown()
    assert run.code == one.code == 0 and len(statuses(run)) == 40, (run, one)
    assert Unsteady.faults > 5
    for number in range(40):
        restored = network.run(picture(seed=number)).image
        assert np.array_equal(load(work / f"out/{'x/' * (number % 2)}{number}.png"), restored)
        assert number % 2 == 0 or np.array_equal(load(work / f"one/{number}.png"), restored)


def test_outputs_go_into_the_source_s_own_folder_but_not_over_it(restore, bucket, filled):
    arguments = ("s3://pictures/in", "--recursive", "--skip-existing", "--stats", "-", "--out")
    for out in ("s3://pictures/in", "s3://pictures/in/"):
        assert_refused(restore(*arguments, out), "would be overwritten")
    assert statuses(restore(*arguments, "s3://pictures/in/out/")) == dict.fromkeys(filled, "restored")
    assert statuses(restore(*arguments, "s3://pictures/in/out")) == dict.fromkeys(filled, "skipped")


class Hosted(fsspec.get_filesystem_class("memory")):
    """A server of files, which has to be told its host, and whose paths are without it."""

    protocol, store, pseudo_dirs, cachable = "sftp", {}, [""], False

    def __init__(self, host, **options):
        super().__init__(**options)
        assert host == "example.org"

    @staticmethod
    def _get_kwargs_from_urls(address):
        return {"host": address.removeprefix("sftp://").partition("/")[0]}

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("sftp://example.org"))


def test_a_place_whose_addresses_begin_with_a_host(restore, work, network):
    fsspec.register_implementation("sftp", Hosted, clobber=True)
    server = Hosted("example.org")
    for number, name in enumerate(("a.png", "x/b.png")):
        server.pipe_file(f"/in/{name}", store(work / "upload.png", picture(seed=number)).read_bytes())
    arguments = ("sftp://example.org/in", "--recursive", "--skip-existing", "--stats", "-", "--out")
    for status in ("restored", "skipped"):
        run = restore(*arguments, "sftp://example.org/out")
        assert statuses(run) == {"a.png": status, "x/b.png": status}, run
    assert sorted(name for name in server.find("/out") if FOLDER not in name) == ["/out/a.png", "/out/x/b.png"]
    (work / "got.png").write_bytes(server.cat_file("/out/x/b.png"))
    assert np.array_equal(load(work / "got.png"), network.run(picture(seed=1)).image)
    assert restore("sftp://example.org/in/a.png", "--out", work / "one").code == 0


def test_an_object_in_memory_appears_whole(restore, work):
    assert restore(store(work / "a.png", picture()), "--out", "memory://out/").code == 0
    found = stores.store_of("memory://out").read("memory://out/a.png")
    assert Path(work / "x.png").write_bytes(found) and load(work / "x.png").shape == (24, 32, 3)
