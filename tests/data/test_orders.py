"""Orders in batches: permutations of (seed, epoch) alone, in bounded memory, from any batch on."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless.data import Feed, Items, OnDisk, Scaling, shuffles
from gapless.data.shuffles import Shuffle, permutation, split
from gapless.errors import UsageError


class Numbers(OnDisk):
    """Row i holds the number i; nothing is stored."""

    def __init__(self, count, edges=None):
        super().__init__((count, 1), np.dtype(np.int32))
        self.edges = edges

    def rows(self, positions):
        return positions.astype(np.int32)[:, None]


def feed(count, edges=None, index=None):
    return Feed(Items(Numbers(count, edges), None, np.arange(count) if index is None else index), Scaling())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 99))
def test_two_levels_give_a_permutation_from_any_place(sizes, window, seed):
    edges = np.concatenate([[0], np.cumsum(sizes)])
    shuffle = Shuffle(edges, (seed, 1), window=window)
    order = np.concatenate(list(shuffle.pieces()))
    assert sorted(order.tolist()) == list(range(edges[-1]))
    for start in (0, len(order) // 2, len(order) - 1):
        rest = np.concatenate(list(Shuffle(edges, (seed, 1), window=window).pieces(start)))
        assert rest.tolist() == order[start:].tolist()
    assert all(len(piece) <= window + max(sizes) for piece in shuffle.pieces())


@pytest.mark.parametrize("kind", ["full", "blocks", "groups", "groups of a subset"])
def test_positions_resume_at_any_batch(kind, monkeypatch):
    if kind == "blocks":
        monkeypatch.setattr(shuffles, "LARGEST", 100)
        monkeypatch.setattr(shuffles, "BLOCK", 7)
        monkeypatch.setattr(shuffles, "WINDOW", 50)
    if "groups" in kind:
        monkeypatch.setattr("gapless.data.feed.WINDOW_BYTES", 4 * 60)
    edges = np.array([0, 40, 41, 90, 200, 333]) if "groups" in kind else None
    index = np.random.default_rng(0).permutation(333)[:250] if "subset" in kind else None
    one = feed(333, edges, index)
    count = len(one)
    batches = list(one.positions(4, 2, 16))
    assert [len(b) for b in batches] == [16] * (count // 16) + [count % 16]
    assert all(b.dtype == torch.int64 for b in batches)
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    for start in (0, 1, 7, len(batches) - 1, len(batches), len(batches) + 5):
        again = list(one.positions(4, 2, 16, start=start))
        assert [b.tolist() for b in again] == [b.tolist() for b in batches[start:]]
    assert torch.equal(one.order(4, 2), torch.cat(batches))
    others = [torch.cat(list(one.positions(*key, 16))) for key in ((4, 3), (5, 2))]
    assert not any(torch.equal(other, torch.cat(batches)) for other in others)
    assert torch.equal(torch.cat(list(one.positions(4, 2, 33))), torch.cat(batches))  # the batch size is no key


def test_up_to_the_limit_the_order_is_the_full_permutation(monkeypatch):
    monkeypatch.setattr(shuffles, "LARGEST", 500)
    for count, full in ((500, True), (501, False)):
        assert np.array_equal(feed(count).order(1, 2).numpy(), permutation(count, 1, 2)) == full
    memory = Feed(Items(np.zeros((501, 1), np.uint8), None, np.arange(501)), Scaling())
    assert np.array_equal(memory.order(1, 2).numpy(), permutation(501, 1, 2))


def test_row_groups_are_read_some_at_a_time(monkeypatch):
    monkeypatch.setattr("gapless.data.feed.WINDOW_BYTES", 4 * 300)
    edges = np.arange(0, 10_001, 100)
    order = feed(10_000, edges).order(0, 0).numpy()
    groups = order // 100
    for start in range(0, 9_900, 300):
        assert len(set(groups[start : start + 300].tolist())) == 3
    assert len({tuple(np.unique(groups[s : s + 300])) for s in range(0, 9_900, 300)}) == 33
    assert np.unique(order[:300] % 100).size > 80  # rows within the window are mixed


def test_every_place_is_equally_likely(monkeypatch):
    """Chi-squared of the place of item 0 among 20, over 4000 epochs: 19 degrees, below its 1 - 1e-6 quantile."""
    edges, counts = np.array([0, 5, 10, 15, 20]), np.zeros(20)
    for epoch in range(4000):
        order = np.concatenate(list(Shuffle(edges, (0, epoch), window=10).pieces()))
        counts[int(np.flatnonzero(order == 0)[0])] += 1
    from scipy.stats import chi2

    assert ((counts - 200) ** 2 / 200).sum() < chi2(19).ppf(1 - 1e-6)


def test_a_hundred_million_items_need_little_memory():
    one = Feed.__new__(Feed)
    one.items, one.mapped = Items(Numbers(10**8), None, np.broadcast_to(np.int64(0), (10**8,))), True
    tracemalloc.start()
    first = list(zip(range(3), one.positions(0, 0, 128), strict=False))
    last = next(one.positions(0, 0, 128, start=10**8 // 128 - 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(first) == 3
    assert len(last) == 128
    assert peak < 80 << 20  # a window of 2**20 positions five times over, and 390,625 blocks; 2.4 GB for all positions


@settings(max_examples=25)
@given(st.integers(120, 700), st.floats(0.001, 0.999), st.integers(0, 5))
def test_a_large_split_is_a_partition_of_the_right_size(items, fraction, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffles, "LARGEST", 100)
        train, held = split(items, held_out=fraction, seed=seed)
    assert sorted([*train, *held]) == list(range(items))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    assert abs(len(held) - items * fraction) <= 1.5
    assert min(len(train), len(held)) >= 1


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 4, "start": -1}])
def test_batches_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        next(feed(5).positions(0, 0, **wrong))
    with pytest.raises(UsageError):
        next(feed(5).stream(0, 0, **wrong))
