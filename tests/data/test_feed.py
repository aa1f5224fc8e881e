"""Feeding: exact batches, raw dtypes kept, orders that are functions of (seed, epoch)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapless.data import Feed, Items, Scaling
from gapless.errors import UsageError


def items(values, index=None):
    return Items(values, None, np.arange(len(values)) if index is None else np.array(index))


def zeros(count):
    return Feed(items(np.zeros((count, 2), dtype=np.float32)), Scaling())


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("u1", "uint8"),
        ("u2", "int32"),
        (">u2", "int32"),
        ("i2", "int16"),
        ("f2", "float16"),
        ("f4", "float32"),
        ("f8", "float32"),
        (">f8", "float32"),
        ("i8", "float32"),
        ("u4", "float32"),
    ],
)
def test_resident_dtype_and_values(dtype, kept):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    feed = Feed(items(values, [3, 1]), Scaling((1.0,), (2.0,), "unit"))
    assert str(feed._rows.dtype) == f"torch.{kept}"
    batch = feed.batch(torch.tensor([1, 0, 1]))
    assert batch.dtype == torch.float32
    expected = (np.arange(12).reshape(4, 3)[[1, 3, 1]] - 1) / 2
    assert batch.tolist() == expected.tolist()


def test_uint16_above_the_signed_range():
    feed = Feed(items(np.array([[65535], [40000]], dtype=np.uint16)), Scaling((0.0,), (65535.0,), "unit"))
    assert feed.batch(torch.tensor([0])).item() == 1.0


def test_full_scale_is_exactly_one():
    feed = Feed(items(np.full((2, 1), 255, dtype=np.uint8)), Scaling((0.0,), (255.0,), "unit"))
    assert feed.batch(torch.tensor([0])).item() == 1.0


def test_large_offsets_keep_their_differences():
    values = 1.6e9 + np.arange(4.0).reshape(4, 1)
    assert Feed(items(values), Scaling((1.6e9,), (1.0,), "standard")).batch(torch.arange(4)).ravel().tolist() == [
        0,
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_batch_is_the_callers_own(dtype):
    feed = Feed(items(np.ones((3, 2), dtype=dtype)), Scaling())
    feed.batch(torch.arange(3)).zero_()
    assert feed.batch(torch.arange(3)).sum() == 6


@pytest.mark.parametrize("dtype", ["u1", "b1", "i8", "f4", "f8", "u2"])
@pytest.mark.parametrize("scaling", [((0.0,), (1.0,)), ((0.0,), (7.0,)), ((3.0,), (7.0,))])
def test_feature_by_feature_in_memory_is_the_same_batch(dtype, scaling):
    values = np.arange(3 * 2 * 4).reshape(3, 2, 4).astype(dtype)
    feed = Feed(items(values), Scaling(*scaling, "unit"))
    plain = feed.batch(torch.tensor([2, 0]))
    other = feed.batch(torch.tensor([2, 0]), by_feature=True)
    assert torch.equal(plain, other)
    assert plain.is_contiguous()
    assert other.movedim(0, -1).is_contiguous()
    assert plain.dtype == other.dtype == torch.float32
    batches = list(feed.stream(0, 1, 2, by_feature=True))
    assert all(x.movedim(0, -1).is_contiguous() for _, x in batches)
    assert all(torch.equal(x, feed.batch(chosen)) for chosen, x in batches)


def test_mapped_values_stay_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.uint8).reshape(10, 2))
    values = np.load(tmp_path / "x.npy", mmap_mode="r")
    feed = Feed(items(values, range(9, -1, -1)), Scaling((0.0,), (2.0,), "unit"))
    assert feed.mapped
    assert feed._rows is None
    assert feed.batch(torch.tensor([0, 9])).tolist() == [[9.0, 9.5], [0.0, 0.5]]


def test_fortran_and_transposed_values():
    values = np.asfortranarray(np.arange(24.0).reshape(2, 2, 2, 3)).transpose(0, 3, 1, 2)
    feed = Feed(items(values), Scaling())
    assert feed.event_shape == (3, 2, 2)
    np.testing.assert_array_equal(feed.batch(torch.arange(2)).numpy(), values)


def test_batches_in_order_with_a_short_last_one():
    feed = Feed(items(np.arange(7.0).reshape(7, 1)), Scaling())
    assert [b.ravel().tolist() for b in feed.batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]
    with pytest.raises(UsageError):
        next(feed.batches(0))


def test_a_position_outside_is_refused():
    with pytest.raises(IndexError):
        zeros(3).batch(torch.tensor([3]))


@given(st.integers(1, 50), st.integers(0, 2**40), st.integers(0, 10**6))
def test_order_is_a_permutation_of_seed_and_epoch_alone(count, seed, epoch):
    torch.manual_seed(epoch)
    np.random.seed(epoch % 1000)  # noqa: NPY002 - the global state must not matter
    order = zeros(count).order(seed, epoch)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(count))
    torch.rand(3)
    assert zeros(count).order(seed, epoch).tolist() == order.tolist()


def test_orders_differ_and_are_these():
    feed = zeros(8)
    orders = {tuple(feed.order(seed, epoch).tolist()) for seed in range(6) for epoch in range(6)}
    assert len(orders) == 36
    # SeedSequence, PCG64 and its raw stream are fixed by numpy for ever: this very order on every machine
    assert feed.order(1, 2).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]


def test_a_negative_seed_is_refused():
    with pytest.raises(UsageError):
        zeros(3).order(-1, 0)
