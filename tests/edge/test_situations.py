"""What people really put in, and where: folders of everything, odd names, closed streams, addresses with passwords."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge import cli, terminal
from tests.edge.files import (
    assert_refused,
    frame_times,
    load,
    load_video,
    names,
    picture,
    store,
    store_frames,
    store_video,
)
from tests.edge.formats import SRGB, pillow, smooth, tiff

ROOT = Path(__file__).parents[2]


def command(bundle: Path, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge.cli", "--task", "denoise", "--bundle", str(bundle), *map(str, arguments)]


# --- what comes out of a file with more than pixels in it -----------------------------------------------------------


def test_sixteen_bits_go_in_and_come_out(work, restore, network):
    deep = picture().astype(np.uint16) * 257 + 3
    deep[picture() == 255] = 65535
    store(work / "a.png", deep)
    for name in ("b.png", "b.tif", "b.ppm"):
        run = restore(work / "a.png", "--out", work / name)
        assert run.code == 0 and run.err == ""
        change = network.run(picture()).image.astype(int) - picture()
        assert np.array_equal(load(work / name), np.clip(deep + 257 * change, 0, 65535))


def test_of_sixteen_bits_eight_are_stored_with_a_word_where_more_do_not_fit(work, restore, network):
    store(work / "a.png", picture().astype(np.uint16) * 257)
    run = restore(work / "a.png", "--out", work / "b.webp")
    assert run.code == 0 and "8 bits per channel of the 16" in run.err
    assert np.array_equal(load(work / "b.webp"), network.run(picture()).image)


def test_side_by_side_of_sixteen_bits_shows_the_samples_as_they_came(work, restore):
    deep = picture(24, 32).astype(np.uint16) * 257
    store(work / "a.png", deep)
    assert restore(work / "a.png", "--side-by-side", "--out", work / "b.png").code == 0
    assert np.array_equal(load(work / "b.png")[:, :32], deep)


@pytest.mark.parametrize("source", ["a.jpg", "a.tif", "a.avif", "a.webp", "a.png"])
@pytest.mark.parametrize("out", ["b.png", "b.tif", "b.jpg", "b.webp", "b.avif"])
def test_profile_date_and_maker_go_along(work, restore, source, out):
    exif = Image.Exif()
    exif[0x010F], exif[0x0132] = "Maker", "2020:02:03 04:05:06"
    kind = {"a.jpg": "JPEG", "a.tif": "TIFF"}.get(source, source[2:].upper())
    (work / source).write_bytes(pillow(smooth(3), kind, icc_profile=SRGB, exif=exif))
    run = restore(work / source, "--out", work / out)
    assert run.code == 0 and run.err == ""
    with Image.open(work / out) as written:
        assert written.info["icc_profile"] == SRGB
        assert written.getexif()[0x010F] == "Maker" and written.getexif()[0x0132] == "2020:02:03 04:05:06"


def test_what_a_format_cannot_hold_is_said(work, restore):
    (work / "a.jpg").write_bytes(pillow(smooth(3), "JPEG", icc_profile=SRGB))
    run = restore(work / "a.jpg", "--out", work / "b.ppm")
    assert run.code == 0 and "cannot hold the colour profile" in run.err


def test_a_transparent_tiff_is_restored_like_the_same_png(work, restore):
    store(work / "a.png", smooth(4))
    (work / "a.tif").write_bytes(tiff(smooth(4), photometric="rgb", extrasamples=["unassalpha"]))
    for name in ("a.png", "a.tif"):
        assert restore(work / name, "--out", work / f"{name}.png").code == 0
    assert np.array_equal(load(work / "a.png.png"), load(work / "a.tif.png"))


def test_an_avif_is_turned_by_its_own_box(work, restore):
    exif = Image.Exif()
    exif[0x0112] = 6  # which Pillow writes as the box irot
    (work / "a.avif").write_bytes(pillow(smooth(3), "AVIF", exif=exif))
    assert restore(work / "a.avif", "--out", work / "b.png").code == 0
    assert load(work / "b.png").shape == (32, 24, 3)


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_picture_that_does_not_fit_into_its_format_is_named_and_the_others_are_restored(work, restore):
    photos = work / "photos"
    photos.mkdir()
    store(photos / "b.png", picture())
    (photos / "a.pgm").write_bytes((photos / "b.png").read_bytes())  # whatever its name says, it has colours
    run = restore(photos, "--out", work / "out")
    assert run.code == 1
    assert names(work / "out") == ["b.png"]
    assert len(run.err.splitlines()) == 1 and "a.pgm" in run.err and ".png" in run.err


def test_images_of_a_folder_are_known_by_their_content(work, restore):
    photos = work / "photos"
    photos.mkdir()
    for name in ("a.png", "b.image", "c"):
        (photos / name).write_bytes(pillow(smooth(3), "PNG"))
    assert restore(photos, "--out", work / "out").code == 0
    assert names(work / "out") == ["a.png", "b.image.png", "c.png"]


def test_what_a_folder_holds_besides_images_is_counted_and_named(work, restore):
    photos = work / "photos"
    (photos / "more").mkdir(parents=True)
    store(photos / "a.png", picture())
    store(photos / ".hidden.png", picture())
    (photos / "notes.txt").write_text("hello")
    (photos / "clip.mkv").write_bytes(b"video")
    (photos / "dead.png").symlink_to("nowhere")
    (photos / "loop.png").symlink_to("loop.png")
    os.mkfifo(photos / "pipe.png")
    run = restore(photos, "--out", work / "out")
    assert run.code == 0 and names(work / "out") == ["a.png"]
    (line,) = run.err.splitlines()
    for words in (
        "3 files that are no images (clip.mkv, notes.txt, pipe.png)",
        "2 links that lead nowhere (dead.png, loop.png)",
        "1 folder (more)",
    ):
        assert words in line
    assert "hidden" not in line


def test_a_loop_of_folders_gives_each_picture_once(work, restore):
    store(work / "a.png", picture())
    (work / "self").symlink_to(".")
    run = restore(work / "**" / "*.png")
    assert run.code == 0 and "1 frame," in run.out
    assert "an image that is there already" in run.err


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new\nline.png", "\x1b[2J.png", "\u202egnp.png", "a\tb.png", "\udcff.png"])
def test_names_are_shown_on_one_line_without_moving_the_cursor(work, restore, name):
    store(work / "a.png", picture()).rename(work / name)
    (work / f"x{name}").write_bytes(b"no image")
    assert restore(work / name, "--out", work / "out" / name).code == 0
    assert names(work / "out") == [name]
    assert_refused(restore(work / f"x{name}"), "not an image")
    run = restore(work / name, "--out", work / name)
    assert run.code == 2 and all(c.isprintable() for c in run.err.rstrip("\n"))


@pytest.mark.parametrize("out", ["x" * 253 + ".png", "x" * 300, "x" * 300 + "/", "x" * 253 + ".mkv", "d/" * 3000 + "a"])
def test_a_name_that_is_too_long_is_one_sentence(work, restore, out):
    source = store_video(work / "a.mkv", 2) and work / "a.mkv"
    run = restore(source, "--out", f"{work}/{out}", "--max-frames", "1")
    assert_refused(run, "name too long")


def test_a_name_that_begins_with_a_dash(work, restore, monkeypatch, network):
    monkeypatch.chdir(work)
    store(work / "-a.png", picture())
    assert_refused(restore("-a.png"), "./-name")
    assert restore("./-a.png", "--out=-b.png").code == 0
    assert restore("--out=-c.png", "--", "-a.png").code == 0
    assert names(work) == ["-a.png", "-b.png", "-c.png"]


def test_a_link_to_itself_does_not_exist(work, restore):
    (work / "me.png").symlink_to("me.png")
    assert_refused(restore(work / "me.png"), "does not exist")


# --- standard streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_of_what_is_written(work, bundle, network, closed):
    photos = work / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        store(photos / name, picture())
    line = 'exec "$@" ' + closed
    done = subprocess.run(
        ["bash", "-c", line, "-", *command(bundle, photos, "--out", work / "out")], cwd=ROOT, timeout=300
    )
    assert done.returncode == 0
    assert names(work / "out") == ["a.png", "b.png"]
    assert np.array_equal(load(work / "out" / "b.png"), network.run(picture()).image)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["nothing.png"], 2), (["--nonsense"], 2), (["a.png"], 2), (["--warmup"], 2), (["--help"], 2)],
)
def test_full_disks_behind_the_streams_are_no_traceback(work, bundle, arguments, code):
    store(work / "a.png", picture())
    with open("/dev/full", "w") as full:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command(bundle, *arguments), cwd=work, stdout=full, stderr=full, env=environment, timeout=300
        )
    assert done.returncode == code


def test_a_name_that_the_terminal_cannot_show_is_written_all_the_same(work, bundle):
    store(work / "a.png", picture())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = command(bundle, work / "a.png", "--out", work / "\u00e4.png")
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0 and b"\\xe4.png" in done.stdout


def test_a_library_s_warning_is_one_line(work, bundle):
    store(work / "a.png", picture())
    environment = {**os.environ, "NUMBA_OPT": "x", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command(bundle, "a.png"), cwd=work, env=environment, capture_output=True, timeout=300)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 0 and line.startswith("edge-restore: ") and "NUMBA_OPT" in line


# --- addresses ------------------------------------------------------------------------------------------------------

SECRETS = [
    "http://admin:hunter2@127.0.0.1:9/video",
    "http://admin:hun@ter2@127.0.0.1:9/video",
    "http://admin:hunter2 hunter2@127.0.0.1:9/video",
    "http://admin:hunter2/hunter2@127.0.0.1:9/video",
    "HTTP://127.0.0.1:9/video.cgi?user=admin&pwd=hunter2",
    "http://127.0.0.1:9/live/hunter2#admin",
    "rtsp://127.0.0.1:9/admin/hunter2?",
    "rtsp://admin:hunter2@[::1/video",
    "http://admin:hunter2@127.0.0.1:port/video",
    "ftp://admin:hunter2@127.0.0.1/video",
    "srt://127.0.0.1:9?passphrase=hunter2&user=admin",
    "http:/admin:hunter2@127.0.0.1/video",
]


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["sample", "--out", "{}"],
        ["sample", "--out={}"],
        ["sample", "--stats", "{}"],
        ["sample", "--bundle", "{}"],
        ["sample", "--board", "{}"],
        ["sample", "--power", "{}"],
        ["sample", "--tile", "{}"],
        ["sample", "--task", "{}"],
        ["sample", "{}"],
    ],
    ids=" ".join,
)
def test_no_user_password_or_token_of_an_address_is_printed(work, restore, monkeypatch, address, arguments):
    monkeypatch.chdir(work)
    run = restore(*(argument.format(address) for argument in arguments))
    assert run.code == 2
    for secret in ("hunter2", "ter2", "admin"):
        assert secret not in run.out + run.err
    assert names(work) == []


LOGINS = [  # addresses without a scheme, or with a misspelt one, which could be names of files
    "http:admin:hunter2@127.0.0.1/video",
    "//admin:hunter2@127.0.0.1/video",
    "admin:hunter2@127.0.0.1:9/admin",
    "http:\\\\admin:hunter2@127.0.0.1\\video",
]


@pytest.mark.parametrize("address", LOGINS)
@pytest.mark.parametrize("arguments", [["{}"], ["sample", "--board", "{}"], ["sample", "--tile", "{}"]], ids=" ".join)
def test_nor_is_what_stands_before_a_host_without_a_scheme(work, restore, address, arguments):
    run = restore(*(argument.format(address) for argument in arguments))
    assert run.code == 2 and "hunter2" not in run.err and "admin" not in run.err


def test_a_file_s_own_name_is_no_login(work, restore):
    store(work / "a.png", picture()).rename(work / "12:30@home.png")
    (work / "b:c@home.png").write_bytes(b"no image")
    assert "12:30@home.png" in restore(work / "12:30@home.png", "--out", work / "12:30@home.png").err
    assert_refused(restore(work / "b:c@home.png"), "b:c@home.png")


def test_the_host_of_an_address_is_shown_and_a_serial_port_whole():
    assert terminal.printable("see http://a:b@host:80/x?y, or") == "see http://host:80/..., or"
    assert terminal.printable("serial:///dev/ttyACM0?baud=9600") == "serial:///dev/ttyACM0?baud=9600"
    assert terminal.printable("tcp://board:7700 hung up") == "tcp://board:7700 hung up"


@contextlib.contextmanager
def server(frames: int, scheme: str = "http"):
    """A camera's address; it sends so many JPEGs and hangs up in the middle of the next."""
    jpeg = pillow(smooth(3), "JPEG")

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
            self.end_headers()
            with contextlib.suppress(OSError):
                for number in range(frames + 1):
                    body = jpeg if number < frames else jpeg[:100]
                    self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                    self.wfile.write(body + b"\r\n" * (number < frames))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as camera:
        threading.Thread(target=camera.serve_forever, daemon=True).start()
        yield f"{scheme}://127.0.0.1:{camera.server_port}/s.mjpg"
        camera.shutdown()


def test_that_a_stream_broke_off_is_said_and_its_frames_are_kept(work, restore):
    with server(4) as address:
        run = restore(address, "--out", work / "b.mkv", "--reconnect", "0", "--drop", "none")
    assert run.code == 2 and "broke off after 4 frames; what was restored is kept" in run.err
    assert len(load_video(work / "b.mkv")[0]) == 4


def test_an_address_in_capitals_is_one(work, restore):
    with server(4, "HTTP") as address:
        assert restore(address, "--out", work / "b.mkv", "--max-frames", "2").code == 0


# --- videos ---------------------------------------------------------------------------------------------------------


def test_one_broken_frame_is_left_out_with_a_word(work, restore):
    path = store_frames(work / "a.avi", [smooth(3, seed) for seed in range(10)], codec="MJPG")
    content = bytearray(path.read_bytes())
    fifth = list(re.finditer(rb"00dc(....)\xff\xd8", content, re.DOTALL))[4]
    size = struct.unpack("<I", fifth[1])[0]
    content[fifth.end(1) : fifth.end(1) + size] = bytes(size)
    path.write_bytes(content)
    run = restore(path, "--out", work / "b.mkv")
    assert run.code == 2 and "frame 5 of" in run.err
    assert len(load_video(work / "b.mkv")[0]) == 9


def test_bare_jpegs_in_a_row_are_a_video(work, restore):
    frames = b"".join(pillow(smooth(3, seed), "JPEG") for seed in range(10))
    for name in ("a.mjpeg", "a.bin"):
        (work / name).write_bytes(frames)
        assert restore(work / name, "--out", work / "b.mkv").code == 0
        assert len(load_video(work / "b.mkv")[0]) == 10
    (work / "a.jpg").write_bytes(frames)  # FFmpeg takes a file of this name for one picture
    run = restore(work / "a.jpg", "--out", work / "b.png")
    assert run.code == 0 and "behind the picture" in run.err


def test_uneven_times_are_kept_or_lost_with_a_word(work, restore):
    path = store_frames(work / "a.mkv", [smooth(3, seed) for seed in range(8)], fps=10, codec="MJPG")
    content = path.read_bytes()
    blocks = list(re.finditer(rb"\xa3[\x40-\x7f].\x81(..)[\x00\x80]\xff\xd8", content, re.DOTALL))
    assert len(blocks) == 8
    late = struct.pack(">h", struct.unpack(">h", blocks[-1][1])[0] + 1500)
    path.write_bytes(content[: blocks[-1].start(1)] + late + content[blocks[-1].end(1) :])
    run = restore(path, "--out", work / "b.avi")
    assert run.code == 0 and "uneven times" in run.err
    for name in ("b.mkv", "b.mov", "b.mp4"):
        assert restore(path, "--out", work / name).code == 0
        assert frame_times(work / name) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 2.2], abs=1e-3)
    run = restore(store_video(work / "c.mkv") and work / "c.mkv", "--out", work / "d.mkv")
    assert run.err == ""


def test_an_image_is_an_image_whatever_its_suffix_says(work, restore):
    store(work / "a.png", picture()).rename(work / "a.mkv")
    assert restore(work / "a.mkv", "--out", work / "b.png").code == 0
    assert cv2.imread(str(work / "b.png")) is not None


def test_main_keeps_its_own_arguments_apart(capsys):
    """Addresses of an earlier call are forgotten."""
    with pytest.raises(SystemExit):
        cli.main(["http://a:b@host/x", "y"])
    with pytest.raises(SystemExit):
        cli.main(["y", "--task", "denoise", "--z"])
    assert "--z" in capsys.readouterr().err
