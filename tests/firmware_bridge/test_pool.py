"""Several boards as one: whatever single boards do, every picture comes back with the bits of the core."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from firmware_bridge import pool as pools
from firmware_bridge.boards import BOARDS, BoardError, Unusable
from firmware_bridge.boards.emulated import Emulated
from firmware_bridge.boards.native import Native
from firmware_bridge.boards.reference import Reference
from firmware_bridge.link import Patience
from firmware_bridge.pool import Pool
from firmware_bridge.power.recording import Power, Recording
from simulator.random_networks import random_network
from tests.conformance.agreement import bundled


@pytest.fixture(scope="module")
def bundle():
    return bundled(*random_network(5))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pools, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(pools, "LATE_S", 0.1)
    monkeypatch.setattr(pools, "LATE_UNKNOWN_S", 0.2)
    monkeypatch.setattr(pools, "CLOSING_S", 0.2)


def picture(height: int = 24, width: int = 33, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def wanted(bundle):
    """wanted(picture): what the core alone gives."""
    with Native() as board:
        board.load(bundle)
        yield board.run


def all_right(found, pictures, wanted) -> bool:
    return all(
        np.array_equal(one.image, wanted(image).image) and np.array_equal(one.counts, wanted(image).counts)
        for one, image in zip(found, pictures, strict=True)
    )


def run_all(pool: Pool, pictures) -> list:
    with ThreadPoolExecutor(6) as threads:
        return list(threads.map(pool.run, pictures))


def opener(**kinds):
    return lambda name: kinds[name]()


class Failing(Native):
    """Fails at the pieces whose numbers are in `when`, counted over all boards of the class."""

    when: tuple[int, ...] = ()
    runs = 0

    def run_part(self, given, part):
        type(self).runs += 1
        if type(self).runs in self.when:
            raise BoardError("the cable has come off")
        return super().run_part(given, part)


def test_pictures_go_to_all_boards_and_have_the_bits_of_one(bundle, wanted):
    class Slow(Native):
        def run_part(self, given, part):
            time.sleep(0.02)
            return super().run_part(given, part)

    pictures = [picture(seed=seed) for seed in range(12)]
    pool = Pool(["a", "b", "a"], bundle, opener(a=Slow, b=Slow))
    with contextlib.closing(pool):
        assert all_right(run_all(pool, pictures), pictures, wanted)
    report = pool.report()
    assert [board["board"] for board in report] == ["a", "b", "a (2)"]
    assert all(board["pieces"] > 0 and board["failures"] == 0 and board["busy"] > 0 for board in report)
    assert sum(board["pictures"] for board in report) == pytest.approx(12)


def test_boards_that_take_no_parts_get_whole_pictures(bundle, wanted):
    pictures = [picture(seed=seed) for seed in range(4)]
    with contextlib.closing(Pool(["a", "b"], bundle, opener(a=Native, b=Reference), sharing=True)) as pool:
        assert all_right(run_all(pool, pictures), pictures, wanted)


def test_one_picture_is_shared_and_a_small_board_gets_what_it_can_hold(bundle, wanted):
    class Small(Native):
        memory_bytes = 120 << 10

    image = picture(90, 170)
    with contextlib.closing(Pool(["a", "b", "c"], bundle, opener(a=Native, b=Native, c=Native), sharing=True)) as pool:
        assert all_right([pool.run(image)], [image], wanted)
        assert sum(board["pieces"] for board in pool.report()) > 1
    with contextlib.closing(Pool(["a", "b"], bundle, opener(a=Native, b=Small))) as pool:
        assert all_right([pool.run(image)], [image], wanted)
        assert not any(board["failures"] for board in pool.report())


def test_the_work_of_a_board_that_fails_is_done_by_others_and_it_is_tried_again(bundle, wanted):
    class Twice(Failing):
        when = (2, 3)

    said: list[str] = []
    pictures = [picture(seed=seed) for seed in range(40)]
    pool = Pool(["good", "bad"], bundle, opener(good=Native, bad=Twice), say=said.append)
    with contextlib.closing(pool):
        found = run_all(pool, pictures)
        end = time.monotonic() + 10
        while pool.report()[1]["opened"] < 3 and time.monotonic() < end:
            found += run_all(pool, pictures)
            pictures += pictures
    good, bad = pool.report()
    assert all_right(found, pictures, wanted)
    assert bad["failures"] == 2 and bad["opened"] == 3 and bad["reason"] == "the cable has come off"
    assert good["failures"] == 0
    assert said[0] == "board bad failed: the cable has come off; 1 of 2 boards go on, it is tried again"
    assert "board bad is there again" in said


def test_a_board_that_hangs_for_good_holds_nothing_up(bundle, wanted):
    ever = threading.Event()

    class Hanging(Native):
        def run_part(self, given, part):
            ever.wait()
            return super().run_part(given, part)

    pictures = [picture(seed=seed) for seed in range(8)]
    begun = time.monotonic()
    pool = Pool(["hangs", "good"], bundle, opener(hangs=Hanging, good=Native))
    with contextlib.closing(pool):
        assert all_right(run_all(pool, pictures), pictures, wanted)
    assert time.monotonic() - begun < 10
    hangs, good = pool.report()
    assert hangs["pieces"] == 0 and good["pieces"] == 8
    ever.set()


def test_a_picture_that_no_board_can_do_ends_with_the_reason_and_others_go_on(bundle, wanted):
    class Picky(Native):
        def run_part(self, given, part):
            if given[0, 0, 0] == 7:
                raise BoardError(f"{self.name} is out of memory")
            return super().run_part(given, part)

    poison = picture()
    poison[0, 0, 0] = 7
    with contextlib.closing(Pool(["a", "b"], bundle, opener(a=Picky, b=Picky))) as pool:
        with pytest.raises(BoardError, match="none of the boards is left: native is out of memory"):
            pool.run(poison)
        good = picture(seed=1)
        assert all_right([pool.run(good)], [good], wanted)


def test_when_every_board_is_gone_each_of_their_reasons_is_said(bundle, monkeypatch):
    class Gone(Failing):
        when = tuple(range(1, 1000))

    with contextlib.closing(Pool(["a", "b"], bundle, opener(a=Gone, b=Gone))) as pool:
        with pytest.raises(BoardError, match="none of the boards is left: the cable has come off"):
            pool.run(picture())

    def away(name):
        raise BoardError(f"{name} is not there")

    with pytest.raises(BoardError, match="left: a is not there; b is not there"):
        Pool(["a", "b"], bundle, away)


def test_a_board_that_never_can_be_used_is_refused_at_once_and_one_that_is_away_is_not(bundle, wanted):
    def open_one(name):
        if name == "good":
            return Native()
        raise (Unusable if name == "wrong" else BoardError)(f"{name}!")

    with pytest.raises(Unusable, match="wrong!"):
        Pool(["good", "wrong"], bundle, open_one)
    image = picture()
    with contextlib.closing(Pool(["good", "away"], bundle, open_one)) as pool:
        assert all_right([pool.run(image)], [image], wanted)
        assert pool.report()[1]["reason"] == "away!"


def test_a_board_that_takes_its_time_is_waited_for_where_no_other_is_there(bundle, wanted, monkeypatch):
    """As one that has to be compiled first, on a slow machine."""
    monkeypatch.setattr(pools, "OPENING_S", 0.05)

    def open_one(name):
        if name == "away":
            raise BoardError("away!")
        time.sleep(1.5)
        return Native()

    image = picture()
    with contextlib.closing(Pool(["away", "slow"], bundle, open_one)) as both:
        assert all_right([both.run(image)], [image], wanted)


def test_closing_ends_pictures_that_are_under_way(bundle):
    ever = threading.Event()

    class Hanging(Native):
        def run_part(self, given, part):
            ever.wait()
            raise BoardError("too late")

    pool = Pool(["a"], bundle, opener(a=Hanging))
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(pool.run, picture())
        time.sleep(0.05)
        pool.close()
        with pytest.raises(BoardError, match="closed"):
            under_way.result(5)
    ever.set()


def test_each_board_that_measures_its_power_has_a_figure_of_its_own(bundle):
    class Measures(Recording):
        def power(self, frames):
            return Power(2.0, 1.0, 4.0 / frames, 2.0, 10, "ina226", "the board")

    class Metered(Native):
        here = False

        def recording(self):
            return Measures()

    class Breaks(Metered, Failing):
        when = (1,)

    pictures = [picture(seed=seed) for seed in range(30)]
    pool = Pool(["a", "b", "c"], bundle, opener(a=Metered, b=Native, c=Breaks), measuring=True)
    with contextlib.closing(pool):
        run_all(pool, pictures)
        time.sleep(0.1)
    a, b, c = pool.report()
    assert a["power"]["measured_w"] == 2.0 and a["power"]["joules_per_frame"] == pytest.approx(4.0 / a["pictures"])
    assert b["power"] is None and b["power_reason"] == "it is part of this machine"
    assert c["power"] is None and "again" in c["power_reason"]


@pytest.mark.parametrize("name", ["qemu-mps2-an500", "qemu-arm"])
def test_three_emulated_boards_of_which_one_hangs_and_one_resets(bundle, wanted, name):
    kind = BOARDS[name]
    if kind.missing():
        pytest.skip(kind.missing())
    assert issubclass(kind, Emulated)
    once = {"hang", "reset"}

    class Hangs(kind):
        def run_part(self, given, part):
            if "hang" in once:
                once.remove("hang")
                self.link._patience = Patience(answer_s=0.1, tries=4, silence_s=0.4)  # the test's, too, is short
                os.kill(self.link._transport._process.pid, signal.SIGSTOP)
            return super().run_part(given, part)

    class Resets(kind):
        def run_part(self, given, part):
            if "reset" in once:
                once.remove("reset")
                self.link._transport._process.kill()  # power off and on again
            return super().run_part(given, part)

    pictures = [picture(17, 20, seed=seed) for seed in range(9)]
    pool = Pool(["good", "hangs", "resets"], bundle, opener(good=kind, hangs=Hangs, resets=Resets))
    with contextlib.closing(pool):
        found = run_all(pool, pictures)
        end = time.monotonic() + 20
        while not all(board["opened"] > 1 for board in pool.report()[1:]) and time.monotonic() < end:
            found.append(pool.run(pictures[0]))
            pictures.append(pictures[0])
    assert all_right(found, pictures, wanted)
    _, hangs, resets = pool.report()
    assert not once
    assert hangs["failures"] == 1 and ("answer" in hangs["reason"] or "silent" in hangs["reason"])
    assert resets["failures"] == 1 and "ended" in resets["reason"] and resets["opened"] == 2
