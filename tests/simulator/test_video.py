"""Video: every frame has the bits and the statistics of a full run, whatever part of it was computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import simulator
import simulator.engine
from export.bench.video import moving_patch
from simulator.engine import video as engine_video
from simulator.network import Network
from simulator.random_networks import narrow_paper_network, random_network
from simulator.video import VideoStream
from tests.conformance.agreement import bundled
from tests.simulator import networks

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "edge" / "bundles" / "denoise.safetensors"
KINDS = ("none", "pixel", "corner", "compact", "two", "scattered", "all")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute changes only, however many there are, on all threads, however little it is."""
    monkeypatch.setattr(engine_video, "REACH_LIMIT", 1.0)
    monkeypatch.setattr(engine_video, "LEAST_SHARE", 1)


@pytest.fixture(scope="module")
def shipped() -> Network:
    return simulator.load(SHIPPED, threads=1)


def network(seed: int, threads: int = 1, kind: str | None = None) -> Network:
    return Network(bundled(*random_network(seed, kind), networks.META), threads=threads)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def next_frame(frame: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """`frame` after a change of that kind, everywhere of random content."""
    frame, (height, width) = frame.copy(), frame.shape[:2]
    fresh = rng.integers(0, 256, frame.shape, np.uint8)

    def patch(share: float) -> None:
        rows, columns = max(1, int(share * height)), max(1, int(share * width))
        y, x = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        frame[y : y + rows, x : x + columns] = fresh[y : y + rows, x : x + columns]

    if kind == "pixel":
        patch(0)
    elif kind == "corner":
        frame[-1, -1] = fresh[-1, -1]
    elif kind == "compact":
        patch(0.3)
    elif kind == "two":
        patch(0.15)
        patch(0.15)
    elif kind == "scattered":
        some = rng.random((height, width)) < 0.02
        frame[some] = fresh[some]
    elif kind == "all":
        frame = fresh
    return frame


def assert_same(stream: VideoStream, frame: np.ndarray, used: np.ndarray | None = None) -> float:
    """The next frame has the bits and counts of a full run on `used` (else itself); the share that was computed."""
    given = frame.copy()
    found = stream.run(frame)
    expected = stream.network.run(frame if used is None else used)
    np.testing.assert_array_equal(found.image, expected.image)
    assert found.stats.layers == expected.stats.layers
    assert (found.stats.height, found.stats.width) == (expected.stats.height, expected.stats.width)
    assert found.stats.latency_s > 0 and expected.stats.recomputed == 1.0
    np.testing.assert_array_equal(frame, given)
    return found.stats.recomputed


@pytest.mark.parametrize(("kind", "seed"), [(None, seed) for seed in range(40)] + [("window", s) for s in range(15)])
def test_every_frame_equals_a_full_run_on_random_networks(kind: str | None, seed: int, always: None) -> None:
    net, rng = network(seed, kind=kind), np.random.default_rng(seed)
    stride = net.analysis.stride
    height, width = (int(side) for side in rng.integers(1, 6 * stride, 2))
    stream, frame = net.video(), picture(height, width, seed)
    assert assert_same(stream, frame) == 1.0
    for change in rng.permutation(KINDS):
        frame = next_frame(frame, str(change), rng)
        share = assert_same(stream, frame)
        assert change != "none" or share == 0.0


@pytest.mark.parametrize("seed", range(100, 115))
@pytest.mark.parametrize("shape", [(24, 1), (1, 40)], ids=["tall", "wide"])
def test_long_pictures_of_random_networks(seed: int, shape: tuple[int, int], always: None) -> None:
    net, rng = network(seed), np.random.default_rng(seed)
    stream, frame = net.video(), picture(shape[0] * net.analysis.stride - 1, shape[1] * net.analysis.stride, seed)
    for kind in ("none", "compact", "pixel", "two", "scattered", "compact"):
        frame = next_frame(frame, kind, rng)
        assert_same(stream, frame)


@pytest.mark.parametrize("kind", [None, "window"])
def test_old_spikes_are_kept_in_portions(kind: str | None, always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for words in (1 << 30, 0):  # of room: for all, and for two tasks
        monkeypatch.setattr(engine_video, "SAVED_WORDS", words)
        net, rng = network(3, kind=kind), np.random.default_rng(3)
        stream, frame = net.video(), picture(90, 70)
        for change in ("none", "compact", "two", "scattered", "all", "compact"):
            frame = next_frame(frame, change, rng)
            assert_same(stream, frame)
        sizes.append(stream.state_bytes)
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int, always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator.engine, "available_threads", lambda: threads)
    nets = [network(seed, threads) for seed in (3, 11, 12)] + [simulator.load(SHIPPED, threads=threads)]
    rng = np.random.default_rng(0)
    for net in nets:
        stream, frame = net.video(), picture(90, 70)
        for kind in KINDS:
            frame = next_frame(frame, kind, rng)
            assert_same(stream, frame)


def test_the_papers_network_with_shortcuts_and_attention(always: None) -> None:
    net, rng = Network(bundled(*narrow_paper_network(), networks.META), threads=1), np.random.default_rng(0)
    stream, frame = net.video(), picture(37, 41)
    for kind in KINDS:
        frame = next_frame(frame, kind, rng)
        assert_same(stream, frame)


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (16, 16), (33, 70), (130, 201)])
def test_the_shipped_network_at_any_size(shipped: Network, shape: tuple[int, int], always: None) -> None:
    rng = np.random.default_rng(1)
    stream, frame = shipped.video(), picture(*shape)
    for kind in (*KINDS, *KINDS):
        frame = next_frame(frame, kind, rng)
        assert_same(stream, frame)


def test_two_hundred_frames_of_a_moving_sequence_without_and_with_noise(shipped: Network) -> None:
    for still, sigma in ((0, 0.0), (8, 1.0)):
        stream = shipped.video(still)
        used = None
        shares = []
        for frame in moving_patch(144, 192, 0.05, frames=200, sigma=sigma):
            moved = np.ones(frame.shape[:2], bool)
            if used is not None:
                moved = (np.abs(frame.astype(int) - used) > still).any(2)
            used = np.where(moved[..., None], frame, frame if used is None else used)
            shares.append(assert_same(stream, frame, used))
        assert len(shares) == 200 and min(shares[1:]) > 0
        assert np.median(shares) < 0.7


def test_a_frame_of_another_size_starts_the_stream_anew(shipped: Network) -> None:
    stream = shipped.video(still=200)
    for height, width in ((40, 50), (40, 50), (50, 40), (1, 1), (40, 50)):
        frame = picture(height, width, seed=height)
        assert_same(stream, frame)
    assert assert_same(stream, frame) == 0.0


@pytest.mark.parametrize("memory", [None, 0], ids=["state", "full runs"])
def test_still_keeps_pixels_until_one_channel_differs_from_the_used_value_by_more(
    shipped: Network, memory: int | None
) -> None:
    stream = shipped.video(still=10, memory=memory)
    first = np.full((20, 20, 3), 100, np.uint8)
    near, far, back = first.copy(), first.copy(), first.copy()
    near[3, 4] = (110, 90, 105)  # within 10 of the used value: unchanged
    far[3, 4] = (100, 111, 105)  # one channel is not: all three are taken over
    back[3, 4] = (100, 101, 115)  # counted from the used (100, 111, 105): unchanged
    for frame, used in ((first, first), (near, first), (far, far), (back, far), (first, first)):
        assert_same(stream, frame, used)


def test_slow_changes_add_up_until_they_are_seen(shipped: Network) -> None:
    stream = shipped.video(still=4)
    for grey, used in ((50, 50), (53, 50), (54, 50), (55, 55), (58, 55), (60, 60)):
        assert_same(stream, np.full((9, 9, 3), grey, np.uint8), np.full((9, 9, 3), used, np.uint8))


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("still", [0, 3, 255])
def test_still_is_the_same_without_a_state(backend: str, still: int) -> None:
    net = Network(bundled(*networks.small_network(), networks.META), backend)
    stream, rng = net.video(still, memory=0), np.random.default_rng(0)
    assert stream.state_bytes == 0
    frame = picture(12, 15)
    used = frame
    for _ in range(6):
        assert assert_same(stream, frame, used) == 1.0
        frame = np.clip(frame.astype(int) + rng.integers(-6, 7, frame.shape), 0, 255).astype(np.uint8)
        moved = (np.abs(frame.astype(int) - used) > still).any(2)
        used = np.where(moved[..., None], frame, used)


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 4)])
def test_gray_and_alpha_as_in_single_pictures(shipped: Network, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    stream, frame = shipped.video(), rng.integers(0, 256, shape, np.uint8)
    for _ in range(3):
        assert_same(stream, frame)
        frame = frame.copy()
        frame[5:9, 6:8] = rng.integers(0, 256, frame[5:9, 6:8].shape)
    assert stream.run(frame).image.shape == shape


def test_a_frame_that_changed_nearly_everywhere_is_a_full_run(shipped: Network) -> None:
    rng = np.random.default_rng(3)
    stream, frame = shipped.video(), picture(160, 160)
    stream.run(frame)
    assert assert_same(stream, next_frame(frame, "all", rng)) == 1.0
    stream.run(frame)
    assert assert_same(stream, next_frame(frame, "scattered", rng)) == 1.0
    for _ in range(2):
        stream.run(frame)
    assert 0 < assert_same(stream, next_frame(frame, "pixel", rng)) < 0.2


def test_frames_that_keep_changing_everywhere_need_no_state_until_they_stop(shipped: Network) -> None:
    rng = np.random.default_rng(6)
    stream, frame = shipped.video(), picture(160, 160)
    assert_same(stream, frame)
    for kinds, state in (("all",) * 4, False), (("none", "pixel", "none"), True), (("all",), True), (("pixel",), True):
        for kind in kinds:
            frame = next_frame(frame, kind, rng)
            share = assert_same(stream, frame)
        assert stream._state is not None and stream._state.current == state
    assert 0 < share < 0.2


def test_less_change_computes_less(shipped: Network) -> None:
    stream, frame = shipped.video(), picture(160, 240)
    stream.run(frame)
    shares = []
    for side in (0, 4, 16, 64, 160):
        frame = frame.copy()
        frame[:side, :side] ^= 85
        shares.append(assert_same(stream, frame))
    assert shares[0] == 0 and shares[-1] == 1.0
    assert shares == sorted(shares) and len(set(shares)) == len(shares)


def test_results_stay_as_they_are_when_the_stream_goes_on(shipped: Network) -> None:
    stream, frame = shipped.video(), picture(32, 32)
    first = stream.run(frame).image
    kept = first.copy()
    frame[4:9, 4:9] ^= 255  # the caller's own buffer, used again
    assert_same(stream, frame)
    np.testing.assert_array_equal(first, kept)


def test_an_interrupted_frame_leaves_the_next_ones_right(shipped: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    stream, frame = shipped.video(), picture(96, 96)

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    for name in ("find_changes", "mark", "save", "compare", "run"):
        for _ in range(2):
            frame = next_frame(frame, "compact", rng)
            assert_same(stream, frame)
        frame = next_frame(frame, "compact", rng)
        with monkeypatch.context() as patch:
            patch.setattr(engine_video.Program if name == "run" else engine_video.changes, name, interrupt)
            patch.setattr(engine_video, "REACH_LIMIT", 0.0 if name == "run" else 1.0)
            with pytest.raises(KeyboardInterrupt):
                stream.run(frame)
        assert_same(stream, frame)
    fresh = shipped.video()
    with monkeypatch.context() as patch:
        patch.setattr(engine_video.changes, "find_changes", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fresh.run(frame)
    assert_same(fresh, frame)


def test_streams_of_one_network_do_not_disturb_each_other(shipped: Network) -> None:
    rng = np.random.default_rng(5)
    streams = [shipped.video() for _ in range(2)]
    frames = [picture(64, 64, 1), picture(64, 80, 2)]
    for _ in range(4):
        for i, stream in enumerate(streams):
            frames[i] = next_frame(frames[i], "compact", rng)
            assert_same(stream, frames[i])


@pytest.mark.parametrize("still", [-1, 256])
def test_a_threshold_out_of_range_is_refused_in_a_sentence(shipped: Network, still: int) -> None:
    with pytest.raises(ValueError, match=f"{still} grey levels .* 0 to 255"):
        shipped.video(still)


def test_what_is_no_picture_is_refused_as_in_single_pictures(shipped: Network) -> None:
    stream = shipped.video()
    with pytest.raises(ValueError, match="uint8"):
        stream.run(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    assert_same(stream, picture(4, 4))


def test_the_state_is_no_larger_than_the_memory_allows(shipped: Network) -> None:
    frame = picture(64, 96)
    roomy = shipped.video()
    roomy.run(frame)
    needed = roomy.state_bytes
    for memory, kept in ((needed, needed), (needed - 1, 0)):
        stream = shipped.video(memory=memory)
        for _ in range(2):
            assert_same(stream, frame)
        assert stream.state_bytes == kept
