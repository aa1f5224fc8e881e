"""Exact neighbours: equal to brute force in float64, where float32 alone is wrong, and whatever the chunks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from gapless.audit import neighbours
from gapless.audit.neighbours import nearest, nearest_others
from gapless.errors import UsageError


def brute(queries, references, k):
    distances = cdist(queries, references)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 60), st.integers(1, 30))
def test_equal_to_brute_force(seed, dims, references, queries):
    rng = np.random.default_rng(seed)
    base, asked = rng.standard_normal((references, dims)), rng.standard_normal((queries, dims))
    k = int(rng.integers(1, references + 1))
    truth, rows = brute(asked, base, k)
    distances, found = nearest(asked, base, k)
    np.testing.assert_allclose(distances, truth, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(found, rows)


def test_clusters_far_from_each_other_where_float32_products_are_wrong(ledger):
    rng = np.random.default_rng(0)
    homes = rng.standard_normal((5, 16)) * 1e4
    points = homes[rng.integers(0, 5, 1500)] + 0.1 * rng.standard_normal((1500, 16))
    truth, rows = brute(points[:200], points, 6)
    single = points.astype(np.float32)
    squared = (single[:200] ** 2).sum(1)[:, None] + (single**2).sum(1) - 2 * single[:200] @ single.T
    assert (np.sort(np.argsort(squared, 1)[:, :6], 1) == np.sort(rows, 1)).mean() < 0.5
    distances, found = nearest(points[:200], points, 6)
    ledger(
        "neighbours", "rows that agree, clusters 0.1 wide, 1e4 apart", oracle="brute force in float64", truth=1,
        measured=(found == rows).all(1).mean(), tolerance=0, why="exact by construction; float32 agrees in under half",
    )  # fmt: skip
    np.testing.assert_allclose(distances, truth, rtol=1e-6)


def test_the_result_does_not_depend_on_chunks(monkeypatch):
    rng = np.random.default_rng(1)
    points = rng.standard_normal((400, 7)).round(1)  # many ties
    whole = nearest_others(points, 5)
    monkeypatch.setattr(neighbours, "ENTRIES", 3000)
    parts = nearest_others(points, 5)
    np.testing.assert_array_equal(whole[0], parts[0])


@pytest.mark.parametrize("copies", [1, 3, 20])
def test_a_point_is_not_its_own_neighbour(copies):
    rng = np.random.default_rng(2)
    points = np.repeat(rng.standard_normal((30, 3)), copies, axis=0)
    distances, found = nearest_others(points, 4)
    assert not (found == np.arange(len(points))[:, None]).any()
    full = cdist(points, points)
    np.fill_diagonal(full, np.inf)
    np.testing.assert_allclose(distances, np.sort(full, 1)[:, :4], atol=1e-12)


def test_queries_far_beyond_float32():
    base = np.random.default_rng(3).standard_normal((50, 2))
    distances, found = nearest(np.array([[1e25, 0.0], [0.0, 0.0]]), base, 2)
    assert np.isfinite(distances).all()
    np.testing.assert_array_equal(found[1], brute(np.zeros((1, 2)), base, 2)[1][0])


def test_no_queries_and_equal_points():
    assert nearest(np.empty((0, 2)), np.ones((3, 2)), 2)[0].shape == (0, 2)
    assert (nearest_others(np.ones((20, 3)), 5)[0] == 0).all()


@pytest.mark.parametrize(("k", "dims"), [(0, 2), (4, 2), (1, 3)])
def test_errors_say_what_was_wanted(k, dims):
    with pytest.raises(UsageError, match=r"neighbours need|k must be"):
        nearest(np.ones((2, dims)), np.ones((3, 2)), k)
