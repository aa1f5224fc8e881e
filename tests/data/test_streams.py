"""Streams: the same batches as without reading ahead, and no thread left behind, whatever happens."""

import threading
import time

import numpy as np
import pytest
import torch

from gapless.data import Feed, Items, OnDisk, Scaling
from gapless.data.prefetch import ahead


class Slow(OnDisk):
    """Rows that can fail and that count how many were asked for."""

    def __init__(self, values, fail_at=None):
        super().__init__(values.shape, values.dtype)
        self.values, self.fail_at, self.readings, self.threads = values, fail_at, 0, set()

    def rows(self, positions):
        self.threads.add(threading.current_thread())
        self.readings += 1
        if self.readings == self.fail_at:
            raise OSError("the disk is gone")
        return self.values[positions]


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("gapless")]


@pytest.fixture(autouse=True)
def no_thread_is_left(monkeypatch):
    monkeypatch.setattr("gapless.data.feed._READ_BYTES", 100)  # two batches of 16 rows of 3 bytes
    assert not threads()
    yield
    assert not threads()


VALUES = np.random.default_rng(0).integers(0, 255, (200, 3), dtype=np.uint8)
SCALING = Scaling((0.0,), (255.0,), "unit")


@pytest.mark.parametrize("start", [0, 5, 12, 13])
def test_batches_are_those_of_the_positions(start):
    for values in (VALUES, Slow(VALUES)):
        feed = Feed(Items(values, None, np.arange(5, 200)), SCALING)
        got = list(feed.stream(3, 1, 16, start=start))
        expected = feed.order(3, 1).split(16)[start:]
        assert [p.tolist() for p, _ in got] == [p.tolist() for p in expected]
        for positions, x in got:
            assert x.dtype == torch.float32
            assert torch.equal(x, torch.from_numpy(SCALING(VALUES[positions.numpy() + 5])))


def test_a_batch_is_the_callers_own():
    feed = Feed(Items(VALUES.astype(np.float32), None, np.arange(200)), Scaling())
    disk = Feed(Items(Slow(VALUES.astype(np.float32)), None, np.arange(200)), Scaling())
    for one in (feed, disk):
        for _, x in one.stream(0, 0, 16):
            x.zero_()
        assert sum(x.sum().item() for _, x in one.stream(0, 0, 16)) == VALUES.sum()


def test_disk_is_read_in_a_thread_and_memory_is_not():
    values = Slow(VALUES)
    feed = Feed(Items(values, None, np.arange(200)), SCALING)
    for _ in feed.stream(0, 0, 16):
        pass
    assert threading.main_thread() not in values.threads
    before = threading.active_count()
    for _ in Feed(Items(VALUES, None, np.arange(200)), SCALING).stream(0, 0, 16):
        assert threading.active_count() == before


def test_an_error_arrives_after_the_batches_before_it():
    feed = Feed(Items(Slow(VALUES, fail_at=3), None, np.arange(200)), SCALING)
    got = []
    with pytest.raises(OSError, match="disk is gone"):  # noqa: PT012
        for positions, _ in feed.stream(0, 0, 16):
            got.append(positions)
    assert torch.equal(torch.cat(got), feed.order(0, 0)[: 2 * 2 * 16])


def test_leaving_ends_the_thread_and_reading_is_bounded():
    values = Slow(VALUES)
    feed = Feed(Items(values, None, np.arange(200)), SCALING)
    for _ in feed.stream(0, 0, 16):
        time.sleep(0.3)
        break
    assert values.readings <= 1 + 4 + 1  # taken, waiting, and one in the hand of the thread
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in feed.stream(0, 0, 16):
            raise KeyboardInterrupt
    stream = feed.stream(0, 0, 16)
    next(stream)
    stream.close()
    assert not threads()


def test_a_slow_source_is_waited_for():
    def source():
        for i in range(5):
            time.sleep(0.02)
            yield i

    assert list(ahead(source(), size=1)) == [0, 1, 2, 3, 4]
