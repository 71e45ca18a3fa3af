"""The link: frames, a board behind lines of every sort of badness, and the same firmware on emulated machines."""

import os
import random
import struct
import time

import numpy as np
import pytest

from firmware_bridge import protocol
from firmware_bridge.boards import BOARDS
from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.fuzz import seed_plans
from firmware_bridge.link import Link, LinkError, Patience, Refused
from firmware_bridge.machine import HOST, CortexM, Machine
from firmware_bridge.native import Core, CoreError
from firmware_bridge.protocol import Frame, Frames, How, Kind, Result, Upload, Why
from firmware_bridge.tiles import Tile
from firmware_bridge.toolchain import SANITIZING_COMPILER
from firmware_bridge.transport import Pipe, Transport, TransportError
from tests.firmware_bridge.direct import Direct

PLAN = seed_plans()[0]
OTHER = seed_plans()[2]
MEMORY = 1 << 20


def picture(height: int = 8, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(found, image: np.ndarray, plan: bytes = PLAN) -> bool:
    wanted = Core(plan).run(image)
    return np.array_equal(found.image, wanted.image) and np.array_equal(found.counts, wanted.counts)


class Bad(Direct):
    """A line that damages, loses and repeats bytes by chance, in both directions."""

    def __init__(self, share: float, seed: int = 0, most_body: int = 1024):
        self._share, self._random = share, random.Random(seed)
        super().__init__(MEMORY, most_body)

    def _spoilt(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._random.random() >= self._share:
                out.append(byte)
                continue
            kind = self._random.randrange(3)
            out += (bytes((self._random.randrange(256),)), b"", bytes((byte, byte)))[kind]
        return bytes(out)

    def to_host(self, data: bytes) -> None:
        super().to_host(self._spoilt(data))

    def send(self, data: bytes, timeout_s: float) -> None:
        super().send(self._spoilt(data), timeout_s)


@pytest.mark.parametrize("size", [0, 1, 2, 253, 254, 255, 508, 509, 5000])
@pytest.mark.parametrize("fill", ["zeros", "ones", "mixed"])
def test_stuffing_has_no_zeros_and_can_be_undone(size, fill):
    data = {"zeros": bytes(size), "ones": b"\1" * size, "mixed": random.Random(size).randbytes(size)}[fill]
    stuffed = protocol.cobs(data)
    assert 0 not in stuffed and protocol.uncobs(stuffed) == data
    assert len(stuffed) <= size + size // 254 + 1


def test_a_frame_is_what_protocol_md_says():
    assert Frame(Kind.PING, 0x1234, b"\0\xff").encode().hex(" ") == "05 02 02 34 12 06 ff ad a4 23 cb 00"


def test_every_damage_of_a_frame_is_noticed_and_the_next_one_is_read():
    good = Frame(Kind.PING, 7, b"some bytes \0 with zeros \0\0").encode()
    for at in range(len(good) - 1):
        for change in (1, 0x80, 0xFF):
            bad = good[:at] + bytes((good[at] ^ change,)) + good[at + 1 :]
            found = Frames().take(bad + good)
            assert found[-1].body == b"some bytes \0 with zeros \0\0" and len(found) == 1


def test_a_host_keeps_no_more_than_the_longest_frame_of_an_endless_one():
    frames = Frames(longest=100)
    for _ in range(1000):
        assert frames.take(b"\1" * 1000) == []
    assert len(frames._pending) <= 100
    assert frames.take(b"\0" + Frame(Kind.PING, 1, b"x").encode())[0].body == b"x"
    assert frames.bad == 1


def test_a_picture_comes_back_with_the_bits_and_counts_of_the_core():
    link = Link(Direct(MEMORY))
    link.ping(b"are you there?")
    for plan in (PLAN, OTHER):
        link.load(plan)
        for size in ((1, 1), (8, 8), (17, 33)):
            for by_rows in (False, True):
                assert same(link.run(picture(*size), by_rows=by_rows), picture(*size), plan)
    assert link.repeated == 0 and link.statistics()["runs"] == 12


def test_a_plan_is_sent_once_and_known_by_its_hash_afterwards():
    line = Direct(MEMORY)
    link = Link(line)
    link.load(PLAN)
    before = link.statistics()["bytes"]
    Link(line).load(PLAN)
    assert link.statistics()["bytes"] - before < 300 < len(PLAN)


def test_an_upload_goes_on_where_another_host_left_it():
    line = Direct(MEMORY, most_body=256)
    first = Link(line, Patience(window=1))
    first._ask(Kind.BEGIN, protocol.begin(Upload.PLAN, 0, PLAN))
    for offset in range(0, 1000, 200):
        first._ask(Kind.DATA, protocol.data(Upload.PLAN, offset, PLAN[offset : offset + 200]))
    second = Link(line)
    before = second.statistics()["bytes"]
    second.load(PLAN)
    assert second.statistics()["bytes"] - before < len(PLAN) - 500
    assert same(second.run(picture()), picture())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01])
def test_a_thousand_tiles_over_a_bad_line_have_no_wrong_pixel(share):
    line = Bad(share)
    link = Link(line, Patience(tries=60))
    link.load(PLAN)
    images = [picture(seed=seed) for seed in range(8)]
    wanted = [Core(PLAN).run(image) for image in images]
    for index in range(1000):
        found = link.run(images[index % 8])
        assert np.array_equal(found.image, wanted[index % 8].image)
        assert np.array_equal(found.counts, wanted[index % 8].counts)
    assert (link.repeated > 0) == (share > 0)


def test_a_board_that_is_reset_at_any_moment_is_given_everything_again():
    line = Direct(MEMORY, most_body=256)
    link = Link(line)
    link.load(PLAN)
    passed = line.board.take
    for moment in range(1, 24):
        calls = 0

        def take(received, moment=moment):
            nonlocal calls
            calls += 1
            if calls == moment:
                line.board.start()
            passed(received)

        line.board.take = take
        assert same(link.run(picture(seed=moment)), picture(seed=moment))


class Vanishing(Direct):
    """Gone after so many bytes: silent, or hung up."""

    def __init__(self, after: int, hangs_up: bool):
        self._left, self._hangs_up = after, hangs_up
        super().__init__(MEMORY, 256)

    def send(self, data: bytes, timeout_s: float) -> None:
        self._left -= len(data)
        if self._left > 0:
            super().send(data, timeout_s)
        elif self._hangs_up:
            raise TransportError("it has hung up")


@pytest.mark.parametrize("hangs_up", [False, True], ids=["silent", "hung up"])
@pytest.mark.parametrize("after", [0, 5, 40, 400, 2500, 7000])
def test_a_board_that_vanishes_gives_a_clear_error_in_time(after, hangs_up):
    begun = time.monotonic()
    with pytest.raises(LinkError, match="answered|silent|hung up|takes no more|give back"):
        link = Link(Vanishing(after, hangs_up), Patience(answer_s=0.01, silence_s=0.1))
        link.load(PLAN)
        for seed in range(50):
            link.run(picture(seed=seed))
    assert time.monotonic() - begun < 5


class Scripted(Transport):
    """Answers every request with what `answer(frame)` gives."""

    name = "a liar"

    def __init__(self, answer):
        self._answer, self._frames, self._arrived = answer, Frames(), b""

    def send(self, data: bytes, timeout_s: float) -> None:
        for frame in self._frames.take(data):
            self._arrived += self._answer(frame)

    def receive(self, timeout_s: float) -> bytes:
        received, self._arrived = self._arrived, b""
        return received


def hello(version=2, body=256, room=MEMORY, rate=1000, clock=0) -> bytes:
    return struct.pack("<2I2QI16s", version, body, room, rate, clock, b"x")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (hello(version=1), "version 1 of the protocol"),
        (hello()[:-1], "matching versions"),
        (b"", "version None"),
        (hello(body=4), "hold 4 bytes"),
        (hello(body=1 << 30), "hold 1073741824 bytes"),
        (hello(rate=0), "ticks 0 times"),
        (hello(clock=9), "clock number 9"),
    ],
)
def test_a_hello_that_cannot_be_true_is_refused(said, message):
    with pytest.raises(LinkError, match=message):
        Link(Scripted(lambda frame: Frame(frame.kind + 0x80, frame.sequence, said).encode()))


@pytest.mark.parametrize("lie", ["have", "short", "digest", "endless", "progress"])
def test_lies_end_in_an_error_and_never_in_a_picture(lie):
    def answer(frame: Frame) -> bytes:
        body = hello()
        if frame.kind in (Kind.BEGIN, Kind.DATA):
            have = 1 << 30 if lie == "have" else 0 if lie == "endless" else len(PLAN)
            body = struct.pack("<3I", 0, have, lie not in ("have", "endless"))[: 12 if frame.kind == Kind.BEGIN else 8]
        if frame.kind == Kind.RUN:
            body = struct.pack("<I2Q8s8sI8s", 1, 1, 1, b"wrong", b"wrong", 0, b"")[: 8 if lie == "short" else None]
            if lie == "progress":
                return Frame(Kind.PROGRESS + 0x80, frame.sequence, bytes(4)).encode()
        if frame.kind == Kind.READ:
            body = frame.body[:4] + frame.body[8:12] + bytes(int.from_bytes(frame.body[12:], "little"))
        return Frame(frame.kind + 0x80, frame.sequence, body).encode()

    begun = time.monotonic()
    link = Link(Scripted(answer), Patience(answer_s=0.01, silence_s=0.1, run_s=0.5))
    with pytest.raises(LinkError):
        link.load(PLAN)
        link.run(picture())
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (0, b"", Why.BAD_KIND),
        (9, b"", Why.BAD_KIND),
        (255, b"", Why.BAD_KIND),
        (Kind.HELLO, b"x", Why.BAD_LENGTH),
        (Kind.DATA, bytes(8), Why.BAD_LENGTH),
        (Kind.RUN, bytes(59), Why.BAD_LENGTH),
        (Kind.BEGIN, struct.pack("<3I", 2, 0, 8) + bytes(32), Why.BAD_VALUE),
        (Kind.BEGIN, struct.pack("<3I", 0, 0, 0) + bytes(32), Why.BAD_VALUE),
        (Kind.BEGIN, struct.pack("<3I", 0, 0, MEMORY) + bytes(32), Why.NO_ROOM),
        (Kind.BEGIN, struct.pack("<3I", 0, 0, 0xFFFFFFFF) + bytes(32), Why.NO_ROOM),
        (Kind.BEGIN, struct.pack("<3I", 1, 0, 3) + bytes(32), Why.NO_PLAN),
        (Kind.DATA, struct.pack("<2I", 0, 0) + b"x", Why.NO_PLAN),
        (Kind.DATA, struct.pack("<2I", 1, 0) + b"x", Why.NO_PICTURE),
        (Kind.RUN, bytes(60), Why.NO_PLAN),
        (Kind.RUN, struct.pack("<2I", 0, 8) + bytes(52), Why.BAD_VALUE),
        (Kind.RUN, struct.pack("<2I", 0, How.TRACED | How.LOOK) + bytes(52), Why.BAD_VALUE),
        (Kind.POWER, bytes(4), Why.BAD_KIND),
        (Kind.READ, bytes(16), Why.NO_RESULT),
        (Kind.READ, struct.pack("<4I", 7, 0, 0, 0), Why.BAD_VALUE),
    ],
)
def test_requests_that_make_no_sense_are_refused_by_name(kind, body, why):
    link = Link(Direct(MEMORY))
    link._transport.send(Frame(kind, 77, body).encode(), 1)
    (answer,) = Frames().take(link._transport.receive(1))
    assert answer.sequence == 77 and answer.kind == Kind.ERROR + 0x80
    assert struct.unpack("<3I", answer.body)[:2] == (kind, why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"height": 9}, Why.BAD_VALUE),
        ({"height": 1 << 31, "width": 1 << 31}, Why.BAD_VALUE),
        ({"inner_width": 9}, Why.REFUSED),
        ({"top": 1}, Why.REFUSED),
    ],
)
def test_a_tile_that_does_not_fit_its_picture_is_refused(change, why):
    link = Link(Direct(MEMORY))
    link.load(PLAN)
    link._job = 5
    link._upload(Upload.PICTURE, picture().tobytes())
    fields = {**dict(zip(Tile.__annotations__, Tile.whole(8, 8).fields(), strict=True)), **change}
    with pytest.raises(Refused) as refused:
        link._ran(protocol.run(5, How.AT_ONCE, tuple(fields.values())))
    assert refused.value.why == why


def test_a_result_is_read_within_its_bounds_only():
    link = Link(Direct(MEMORY))
    link.load(PLAN)
    link.run(picture())
    for offset, count in ((0, 193), (193, 1), (0xFFFFFFFF, 2), (0, 0xFFFFFFFF)):
        with pytest.raises(Refused, match="bad value"):
            link._ask(Kind.READ, protocol.read(Result.RESTORED, link._job, offset, count))


def test_a_damaged_plan_is_refused_whoever_damaged_it():
    link = Link(Direct(MEMORY))
    damaged = bytearray(PLAN)
    damaged[-1] ^= 1
    with pytest.raises(Refused, match="SNN_HASH"):
        link.load(bytes(damaged))
    with pytest.raises(CoreError, match="SNN_HASH"):
        Core(bytes(damaged))
    opening = protocol.begin(Upload.PLAN, 0, PLAN)
    link._ask(Kind.BEGIN, opening)
    link._window(Upload.PLAN, bytes(damaged), 0)
    with pytest.raises(Refused, match="bad hash"):
        link._ask(Kind.BEGIN, opening)
    link.load(PLAN)
    assert same(link.run(picture()), picture())


def test_a_picture_that_does_not_fit_the_memory_is_refused_and_a_smaller_one_is_not():
    link = Link(Direct(40_000, most_body=256))
    link.load(PLAN)
    with pytest.raises(Refused, match="no room"):
        link.run(picture(128, 128))
    assert same(link.run(picture()), picture())


def test_a_program_is_kept_on_one_processor_if_it_wants_so_and_this_one_is_not():
    allowed = os.sched_getaffinity(0)
    show = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status; cat"]
    pipe = Pipe(show, one_processor=True)
    try:
        assert pipe.receive(5).split()[1].isdigit() and os.sched_getaffinity(0) == allowed
    finally:
        pipe.close()


MACHINES = {"host": HOST, "sanitized": Machine(SANITIZING_COMPILER)}
MACHINES |= {name: board.machine for name, board in BOARDS.items() if issubclass(board, Emulated)}
LINES = [
    (name, uart)
    for name, machine in MACHINES.items()
    for uart in ((False, True) if isinstance(machine, CortexM) else (False,))
]


@pytest.mark.parametrize(("name", "uart"), LINES, ids=[name + (" uart" if uart else "") for name, uart in LINES])
def test_emulated_boards_answer_with_the_same_bits(name, uart):
    machine = MACHINES[name]
    if machine.missing_packages():
        pytest.skip(f"{machine.missing_packages()} are not installed")
    command = machine.link_command(uart) if isinstance(machine, CortexM) else machine.link_command()
    link = Link(Pipe(command, one_processor=uart))
    try:
        link.load(PLAN)
        for size in ((8, 8), (30, 21)):
            assert same(link.run(picture(*size)), picture(*size))
            assert same(link.run(picture(*size), by_rows=True), picture(*size))
        assert link.statistics()["bad_frames"] == 0
    finally:
        link.close()
