"""Distances between real and generated items: closed forms, sets whose answer is known, scikit-learn's neighbours."""

import math

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from gapless.errors import DataError, UsageError
from gapless.evaluation.features import frechet_distance, likeness, manifold_overlap, polynomial_mmd


def normal(n, *, loc=0.0, scale=1.0, dims=3, seed=0):
    return loc + scale * np.random.default_rng(seed).standard_normal((n, dims))


def with_moments(points, mean, covariance):
    """The points moved so that their mean and 1/(n - 1) covariance are exactly these."""
    centred = points - points.mean(0)
    white = centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return mean + white @ np.linalg.cholesky(covariance).T


def test_frechet_distance_of_sets_with_known_moments(ledger):
    rng = np.random.default_rng(1)
    basis = rng.standard_normal((2, 4, 4))
    covariances = [b @ b.T + np.eye(4) for b in basis]
    means = rng.standard_normal((2, 4))
    sets = [with_moments(normal(n, dims=4, seed=n), m, c) for n, m, c in zip((60, 90), means, covariances, strict=True)]
    from scipy.linalg import sqrtm

    root = np.trace(sqrtm(covariances[0] @ covariances[1])).real
    truth = np.square(means[0] - means[1]).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    ledger(
        "frechet_distance", "two sets with exact moments", oracle="closed form by scipy.linalg.sqrtm",
        truth=truth, measured=frechet_distance(*sets), tolerance=1e-9 * truth, why="float64",
    )  # fmt: skip


def test_frechet_distance_with_fewer_items_than_dimensions(ledger):
    a, b = normal(7, dims=20, seed=1), normal(9, dims=20, seed=2, loc=0.5)
    from scipy.linalg import sqrtm

    floor = 1e-9 * np.eye(20)  # sqrtm needs it; it moves the trace by about the root
    root = np.trace(sqrtm((np.cov(a.T) + floor) @ (np.cov(b.T) + floor))).real
    truth = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * root
    ledger(
        "frechet_distance", "7 and 9 items of 20 features", oracle="closed form by scipy.linalg.sqrtm",
        truth=truth, measured=frechet_distance(a, b), tolerance=2e-3, why="the root of the floor that sqrtm needs",
    )  # fmt: skip
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_mmd_is_the_double_sum_over_pairs(ledger):
    a, b = normal(6, dims=2, seed=3), normal(8, dims=2, seed=4, loc=1)

    def k(x, y):
        return (float(x @ y) / 2 + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    truth = sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])
    ledger(
        "polynomial_mmd", "6 and 8 points", oracle="the sums written out", truth=truth,
        measured=polynomial_mmd(a, b), tolerance=1e-9, why="float64",
    )  # fmt: skip


def test_mmd_is_unbiased(ledger):
    # x, y independent, D = 1: E (xy + 1)^3 = 1 + 3 E x^2 E y^2 + 3 E x E y + E x^3 E y^3: 4 within N(0, 1);
    # 1 + 3 * 1 * 2 + 0 + 0 = 7 across; 1 + 3 * 4 + 3 + 16 = 32 within N(1, 1); MMD^2 = 4 + 32 - 14
    for loc, truth in ((0.0, 0.0), (1.0, 22.0)):
        found = [
            polynomial_mmd(normal(12, dims=1, seed=s), normal(12, dims=1, seed=9000 + s, loc=loc)) for s in range(2000)
        ]
        ledger(
            "polynomial_mmd", f"mean over 2,000 samples of 12 points, N(0, 1) and N({loc:g}, 1)", oracle="closed form",
            truth=truth, measured=np.mean(found), tolerance=4 * np.std(found) / 2000**0.5, why="4 standard errors",
        )  # fmt: skip


def test_the_error_of_the_mmd_is_of_the_size_of_its_spread():
    found = [likeness(normal(200, seed=s), normal(200, seed=500 + s, loc=0.3)) for s in range(40)]
    spread = np.std([one.mmd for one in found], ddof=1)
    stated = np.median([one.mmd_standard_error for one in found])
    assert 0.6 < stated / spread < 1.8  # the parts are smaller samples: their mean spreads a little more than the whole
    assert likeness(normal(99), normal(99)).mmd_standard_error is None


@pytest.mark.parametrize("seed", range(3))
def test_balls_are_those_of_scikit_learns_neighbours(seed, ledger):
    real, generated = normal(80, seed=seed), normal(60, seed=50 + seed, loc=0.5)
    for k in (1, 3, 5):
        radius = NearestNeighbors(n_neighbors=k + 1).fit(real).kneighbors(real)[0][:, -1]
        distance = np.linalg.norm(real[:, None] - generated, axis=2)
        closed, strict, held = manifold_overlap(real, generated, k=k)
        assert np.array_equal(closed, (distance <= radius[:, None]).sum(0))
        assert np.array_equal(strict, closed)
        assert np.array_equal(held, distance.min(1) < radius)
    found = likeness(real, generated)
    third, of_generated, fifth = (
        NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, -1]
        for points, k in ((real, 3), (generated, 3), (real, 5))
    )
    for name, truth in (
        ("precision", (distance <= third[:, None]).any(0).mean()),
        ("recall", (distance <= of_generated).any(1).mean()),
        ("density", (distance < fifth[:, None]).sum(0).mean() / 5),
        ("coverage", (distance.min(1) < fifth).mean()),
    ):
        ledger(
            "likeness", f"{name} of 60 items for 80, sample {seed}", oracle="balls by sklearn.neighbors, counted",
            truth=truth, measured=getattr(found, name), tolerance=1e-12, why="counts",
        )  # fmt: skip


def test_sets_whose_answers_are_known(ledger):
    real = normal(150, seed=1)
    far = likeness(real, real + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    for name in ("precision", "recall", "coverage"):
        ledger("likeness", f"{name} of a set for itself", oracle="1 by its definition", truth=1,
               measured=getattr(likeness(real, real.copy()), name), tolerance=0, why="counts")  # fmt: skip
    assert far.frechet == pytest.approx(3 * 100**2)
    same = likeness(real, real.copy())
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    # a point lies strictly inside the ball of itself and of those it is one of the first four neighbours of
    assert same.density == pytest.approx(1)
    assert same.frechet == pytest.approx(0, abs=1e-9)
    one_mode = likeness(np.concatenate([real, real + 100]), real + 0.01)
    assert one_mode.precision == 1
    assert one_mode.recall == pytest.approx(0.5, abs=0.02)
    assert one_mode.coverage == pytest.approx(0.5, abs=0.02)


def test_equal_laws_cover_each_other_as_the_papers_say(ledger):
    # Naeem et al. (2020), lemma 1 and 2: E density = 1; E coverage = 1 - (N - 1) ... (N - k) / (2N - 1) ... (2N - k)
    n, k = 120, 5
    found = [likeness(normal(n, seed=s), normal(n, seed=700 + s)) for s in range(60)]
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    for name, truth in (("density", 1.0), ("coverage", expected)):
        values = [getattr(one, name) for one in found]
        ledger(
            "likeness", f"mean {name} of 60 pairs of equal laws, 120 items", truth=truth,
            oracle="Naeem et al. (2020), lemma 1 and 2", measured=np.mean(values),
            tolerance=4 * np.std(values) / math.sqrt(len(values)), why="4 standard errors",
        )  # fmt: skip


def test_pictures_of_bits_with_many_ties_are_counted_exactly():
    rng = np.random.default_rng(0)
    real, generated = (rng.integers(0, 2, (50, 6)).astype(float) for _ in range(2))
    distance = np.abs(real[:, None] - generated).sum(2)
    among = np.sort(np.abs(real[:, None] - real).sum(2), axis=1)[:, 3]
    closed, strict, _ = manifold_overlap(real, generated, k=3)
    assert np.array_equal(closed, (distance <= among[:, None]).sum(0))
    assert np.array_equal(strict, (distance < among[:, None]).sum(0))


def test_features_that_cannot_be_are_refused():
    for a, b in ((normal(9, dims=2), normal(9)), (normal(9)[:, 0], normal(9)), (normal(5), normal(9))):
        with pytest.raises(UsageError, match="features"):
            likeness(a, b)
    broken = normal(9)
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        likeness(normal(9), broken)
