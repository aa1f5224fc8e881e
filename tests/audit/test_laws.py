"""Reference laws: draws, loops, interpolation and whitening against their moments and marginals in closed form."""

import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp, kstest

from gapless.audit import laws
from gapless.audit.circles import circles, far_circles, surprise
from gapless.audit.laws import DiscreteCodes, Gaussian, Mixture, Mixup, PushForward, Sphere, moments, standard
from gapless.errors import UsageError

N, POINTS = 4000, 64
FACTOR = np.array([[2.0, 0.0, 0.0], [0.5, 0.1, 0.0], [-1.0, 0.3, 3.0]])
MEAN = np.array([1.0, -20.0, 3.0])
CODES = np.random.default_rng(5).exponential(size=(300, 3)) * [1, 10, 0.1]
PAIR = [Gaussian(np.array([-3.0, 0.0]), np.eye(2)), Gaussian(np.array([3.0, 1.0]), np.diag([0.1, 2.0]))]
CASES = {
    "Gaussian": lambda: Gaussian(MEAN, FACTOR),
    "standard": lambda: standard(3),
    "moments": lambda: moments(CODES, np.full(CODES.shape, 0.2)),
    "PushForward": lambda: PushForward(np.exp, noise=2, dimension=2),
    "Sphere": lambda: Sphere(4),
    "Mixture": lambda: Mixture(np.array([0.2, 0.8]), PAIR),
    "Mixup": lambda: Mixup(CODES),
    "DiscreteCodes": lambda: DiscreteCodes(np.array([-1.0, 0.0, 2.0]), np.array([[0.2, 0.3, 0.5], [0.6, 0.0, 0.4]])),
}


def covariance(z):
    return np.cov(z, rowvar=False, bias=True)


def test_every_law_has_a_case():
    assert set(CASES) == set(laws.__all__) - {"Law"}


@pytest.mark.parametrize("name", CASES)
class TestEveryLaw:
    def test_shapes_and_repeatability(self, name):
        law = CASES[name]()
        for draw in (lambda rng: law.sample(7, rng), lambda rng: law.loops(7, 16, rng)):
            first, again = draw(np.random.default_rng(3)), draw(np.random.default_rng(3))
            np.testing.assert_array_equal(first, again)
            assert first.dtype == np.float64
            assert first.shape[0] == 7
            assert first.shape[-1] == law.dimension
        loops, part = law.loops_and_parts(7, 16, np.random.default_rng(3))
        np.testing.assert_array_equal(loops, law.loops(7, 16, np.random.default_rng(3)))
        assert part.shape == (7,)

    def test_every_point_of_a_loop_follows_the_law(self, name):
        """Two-sample Kolmogorov-Smirnov on random projections, at three points; 9 tests a law at p > 1e-4."""
        law, rng = CASES[name](), np.random.default_rng(11)
        draws, loops = law.sample(N, rng), law.loops(N, POINTS, rng)
        for direction in rng.standard_normal((3, law.dimension)) / draws.std(0):
            for point in (0, 5, 40):
                assert ks_2samp(draws @ direction, loops[:, point] @ direction, method="asymp").pvalue > 1e-4

    def test_the_correlation_along_a_loop_is_the_stated_one(self, name, ledger):
        """1/2 E|u - u'|^2 = (1 - correlation) Var u, u the law's noise; within the part of a law that has parts."""
        law, rng = CASES[name](), np.random.default_rng(12)
        loops, part = law.loops_and_parts(N, POINTS, rng)
        if name == "PushForward":
            loops = np.log(loops)
        if name == "Mixture":
            loops = loops[part == 1]
        loops = loops / loops.std((0, 1))
        variance = loops.var((0, 1)).sum()
        for lag in (1, 4, 16):
            step = np.square(loops[:, lag:] - loops[:, :-lag]).sum(2).mean(1) / 2 / variance
            ledger(
                f"laws.{name}", f"1 - correlation, lag {lag}", oracle="closed form",
                truth=1 - law.correlation(lag, POINTS), measured=step.mean(),
                tolerance=5 * step.std() / np.sqrt(len(step)) + 0.001, why="5 standard errors",
            )  # fmt: skip

    def test_loops_and_tail_estimate_what_loops_do(self, name, ledger):
        """Weighted means of the size of a loop against plain ones; the first n loops are those of `loops_and_parts`."""
        law = CASES[name]()
        codes, part, weight = law.loops_and_tail(N, N // 4, 16, np.random.default_rng(13))
        plain, same = law.loops_and_parts(N, 16, np.random.default_rng(13))
        np.testing.assert_array_equal(codes[:N], plain)
        np.testing.assert_array_equal(part[:N], same)
        assert len(codes) == len(part) == len(weight)
        assert 0 < weight.min() <= weight.max() <= 1.25
        size = np.abs((codes - plain.mean((0, 1))) / plain.std((0, 1))).mean((1, 2))
        error = np.hypot(weight.std(), 1e-9) / np.sqrt(len(weight))
        ledger(f"laws.{name}", "mean weight of loops and tail", oracle="1", truth=1, measured=weight.mean(),
               tolerance=4 * error, why="4 standard errors")  # fmt: skip
        error = np.hypot((weight * size).std(), size[:N].std()) / np.sqrt(N)
        ledger(f"laws.{name}", "weighted size of loops and tail", oracle="mean size of plain loops",
               truth=size[:N].mean(), measured=(weight * size).mean(), tolerance=4 * error,
               why="4 standard errors")  # fmt: skip

    def test_loops_close(self, name):
        law = CASES[name]()
        if not law.closed:
            return
        loops = law.loops(200, POINTS, np.random.default_rng(1))
        steps = np.linalg.norm(np.roll(loops, -1, axis=1) - loops, axis=2).mean(0)
        assert steps[-1] < 1.2 * steps[:-1].max()

    def test_interpolation_keeps_its_ends_and_halves(self, name):
        law, rng = CASES[name](), np.random.default_rng(2)
        start, end = law.sample(5, rng), law.sample(5, rng)
        path = law.interpolate(start, end, 9)
        np.testing.assert_allclose(path[:, [0, -1]], np.stack([start, end], 1), atol=1e-12)
        steps = np.linalg.norm(np.diff(path, axis=1), axis=2)
        np.testing.assert_allclose(steps, steps[:, :1] * np.ones((1, 8)), atol=1e-12)

    def test_whitened_draws_have_mean_0_and_covariance_1(self, name):
        """Entries of the covariance of n draws err by sqrt(kurtosis / n): .13 for the log-normal, under .03 else."""
        law = CASES[name]()
        white = law.whiten(law.sample(40_000, np.random.default_rng(8)))
        np.testing.assert_allclose(white.mean(0), 0, atol=0.05)
        np.testing.assert_allclose(
            covariance(white), np.eye(white.shape[1]), atol=0.5 if name == "PushForward" else 0.06
        )


def test_gaussian_draws_have_its_moments(ledger):
    draws = Gaussian(MEAN, FACTOR).sample(100_000, np.random.default_rng(0))
    truth = FACTOR @ FACTOR.T
    spread = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    ledger(
        "laws.Gaussian", "covariance of draws, worst entry / spread", oracle="L L^T", truth=0,
        measured=np.abs((covariance(draws) - truth) / spread).max(), tolerance=4 * np.sqrt(2 / 100_000),
        why="4 standard errors",
    )  # fmt: skip
    np.testing.assert_allclose((draws.mean(0) - MEAN) / np.sqrt(np.diag(truth)), 0, atol=4 / np.sqrt(100_000))


def test_gaussian_loops_are_normal_at_every_point():
    loops = Gaussian(MEAN, FACTOR).loops(N, POINTS, np.random.default_rng(4))
    direction = np.array([0.3, -1.0, 0.2])
    flat = (loops - MEAN) @ direction / np.linalg.norm(FACTOR.T @ direction)
    assert min(kstest(flat[:, t], "norm").pvalue for t in range(0, POINTS, 8)) > 1e-4


@pytest.mark.parametrize("d", [1, 3, 40])
def test_far_circles_are_three_times_as_surprising(d):
    plain = surprise(circles(N, 8, d, np.random.default_rng(0)))
    far = surprise(far_circles(N, 8, d, np.random.default_rng(1)))
    assert kstest(plain, "expon").pvalue > 1e-4
    assert kstest(far / 3, "expon").pvalue > 1e-4
    u = far_circles(5, 8, d, np.random.default_rng(1))
    np.testing.assert_allclose(u, -np.roll(u, 4, axis=1), atol=1e-12)


def test_the_tail_measures_a_moment_that_loops_miss(ledger):
    """E z^8 = 105 under N(0, 1): by 512 loops and 64 far ones."""
    codes, _, weight = standard(1).loops_and_tail(512, 64, 8, np.random.default_rng(6))
    values = weight * (codes[:, :, 0] ** 8).mean(1)
    error = values.std() / np.sqrt(len(values))
    assert error < 0.15 * 105
    ledger("laws.Gaussian", "E z^8 by 512 loops and 64 from far out", oracle="7!!", truth=105, measured=values.mean(),
           tolerance=3.5 * error, why="3.5 standard errors")  # fmt: skip


def test_moments_is_the_covariance_of_the_encodings(ledger):
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)), rng.uniform(0.1, 2, size=(500, 4))
    law = moments(loc, scale)
    truth = covariance(loc) + np.diag((scale**2).mean(0))
    measured = np.abs(law.factor @ law.factor.T - truth).max()
    ledger("laws.moments", "covariance, worst entry", oracle="numpy.cov + mean scale^2", truth=0, measured=measured,
           tolerance=1e-12, why="float64")  # fmt: skip
    np.testing.assert_allclose(law.mean, loc.mean(0))


def test_few_codes_are_shrunk_by_ledoit_wolf():
    from sklearn.covariance import ledoit_wolf

    loc, scale = np.random.default_rng(0).normal(size=(39, 4)) * [1, 2, 3, 4], np.full((39, 4), 0.5)
    few = moments(loc, scale)
    np.testing.assert_allclose(few.factor @ few.factor.T, ledoit_wolf(loc)[0] + 0.25 * np.eye(4), atol=1e-12)
    enough = moments(np.tile(loc, (2, 1)), np.zeros((78, 4)))
    np.testing.assert_allclose(enough.factor @ enough.factor.T, covariance(loc), atol=1e-12)


def test_a_dead_feature_leaves_its_direction_out():
    loc = np.random.default_rng(0).normal(size=(100, 3))
    loc[:, 2] = loc[:, 0] - loc[:, 1]
    law = moments(np.c_[loc, np.full(100, 7.0)], np.zeros((100, 4)))
    assert law.factor.shape == (4, 2)
    draws = law.sample(50, np.random.default_rng(0))
    np.testing.assert_allclose(draws[:, 2], draws[:, 0] - draws[:, 1], atol=1e-9)
    np.testing.assert_array_equal(draws[:, 3], 7.0)
    np.testing.assert_allclose(covariance(law.whiten(np.c_[loc, np.full(100, 7.0)])), np.eye(2), atol=1e-9)


def test_units_far_apart_keep_every_direction():
    loc = np.random.default_rng(0).normal(size=(200, 3)) * [1e-9, 1, 1e6]
    law = moments(loc, np.zeros_like(loc))
    assert law.factor.shape == (3, 3)
    np.testing.assert_allclose(covariance(law.whiten(loc)), np.eye(3), atol=1e-9)


def test_moments_follow_an_affine_map_of_condition_1e4(ledger):
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(500, 4))
    turns = [np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2)]
    a = turns[0] @ np.diag(np.geomspace(1, 1e4, 4)) @ turns[1]
    law, base = moments(loc @ a.T + 3, np.zeros_like(loc)), moments(loc, np.zeros_like(loc))
    moved, still = np.square(law.whiten(loc @ a.T + 3)).sum(1), np.square(base.whiten(loc)).sum(1)
    ledger(
        "T8", "whitened radius under z -> A z + b, cond 1e4", oracle="Mahalanobis distance is affine invariant",
        truth=0, measured=np.abs(moved - still).max(), tolerance=1e-8,
        why="1e4 (cond) times float64 rounding 2e-16, sums of 500",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["normal", "skewed", "clusters", "flat", "one feature"])
@pytest.mark.parametrize("fit", ["moments", "gmm", "mixup"])
def test_the_same_noise_draws_the_same_places_in_any_units(kind, fit, ledger):
    rng = np.random.default_rng(3)
    d = 1 if kind == "one feature" else 4
    codes = (rng.exponential if kind == "skewed" else rng.standard_normal)(size=(600, d))
    if kind == "clusters":
        codes += 6 * rng.integers(0, 3, size=codes.shape)
    if kind == "flat":
        codes[:, 3] = codes[:, 0] - codes[:, 2]
    turns = [np.linalg.qr(rng.normal(size=(d, d)))[0] for _ in range(2)]
    a, b = turns[0] @ np.diag(np.geomspace(1, 1e4, d)) @ turns[1], rng.normal(size=d) * 100
    laws_of = {"moments": lambda z: moments(z, np.zeros_like(z)), "gmm": lambda z: Mixture.fit(z, 3), "mixup": Mixup}
    base, moved = laws_of[fit](codes), laws_of[fit](codes @ a.T + b)
    drawn, other = (law.sample(500, np.random.default_rng(5)) for law in (base, moved))
    apart = base.whiten((other - b) @ np.linalg.inv(a).T) - base.whiten(drawn)
    white = moved.whiten(codes @ a.T + b) - base.whiten(codes)
    ledger("T8", f"draws and whitened codes under z -> A z + b, {fit}, {kind}", oracle="the same noise, cond 1e4",
           truth=0, measured=max(np.abs(apart).max(), np.abs(white).max()), tolerance=1e-8,
           why="1e4 (cond) times float64 rounding 2e-16, sums of 600, over gaps of fourth moments of .01")  # fmt: skip


def test_the_axes_of_noise_are_those_of_independent_parts():
    """FOBI: an exponential, a normal and a uniform part mixed are found again, by kurtosis, skewed to the right."""
    rng = np.random.default_rng(2)
    parts = np.c_[rng.uniform(-1.73, 1.73, 50_000), rng.standard_normal(50_000), 1 - rng.exponential(size=50_000)]
    codes = parts @ rng.normal(size=(3, 3))
    white = moments(codes, np.zeros_like(codes)).whiten(codes)
    match = np.corrcoef(np.c_[white, parts].T)[:3, 3:]
    np.testing.assert_allclose(np.abs(match), np.eye(3), atol=0.1)
    assert match[2, 2] < -0.98, "the exponential part hangs to the left and is turned"


@pytest.mark.parametrize("n", [1, 2, 50])
def test_equal_codes_give_a_law_of_one_point(n):
    law = moments(np.full((n, 2), 3.0), np.zeros((n, 2)))
    np.testing.assert_array_equal(law.loops(4, 8, np.random.default_rng(0)), 3.0)
    assert law.whiten(np.zeros((5, 2))).shape == (5, 0)


def test_push_forward_keeps_its_law():
    law = PushForward(lambda u: np.exp(u[:, :1] + u[:, 1:]), noise=2, dimension=1)
    for z in (law.sample(N, np.random.default_rng(0)), law.loops(N, 16, np.random.default_rng(0))[:, 3]):
        assert kstest(np.log(z[:, 0]) / np.sqrt(2), "norm").pvalue > 1e-4


def test_sphere_is_uniform_and_its_loops_are_great_circles():
    law = Sphere(3)
    loops = law.loops(N, POINTS, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(loops, axis=2), 1, atol=1e-12)
    np.testing.assert_allclose((loops[:, 0] * loops[:, 1]).sum(1), np.cos(2 * np.pi / POINTS), atol=1e-12)
    assert kstest((loops[:, 9, 0] + 1) / 2, "uniform").pvalue > 1e-4, "Archimedes: coordinates are uniform at d = 3"
    assert kstest((law.sample(N, np.random.default_rng(1))[:, 2] + 1) / 2, "uniform").pvalue > 1e-4


def test_sphere_interpolation_near_far_and_off_the_sphere():
    a = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    b = np.array([[1.0, 1e-7], [-1.0, 0.0], [0.0, 1.0], [0.0, 4.0]])
    path = Sphere(2).interpolate(a, b, 3)[:, 1]
    root = np.sqrt(0.5)
    np.testing.assert_allclose(path, [[1, 5e-8], [0, 0], [root, root], [3 * root, 3 * root]], atol=1e-14)
    with pytest.raises(UsageError, match="at least 2"):
        Sphere(1)


def test_mixture_draws_by_weight_and_loops_within_a_component():
    law, rng = Mixture(np.array([0.2, 0.8]), PAIR), np.random.default_rng(0)
    loops, part = law.loops_and_parts(N, POINTS, rng)
    np.testing.assert_allclose(loops.mean(1), np.stack([p.mean for p in PAIR])[part], atol=1e-12)
    assert abs((part == 1).mean() - 0.8) < 4 * np.sqrt(0.16 / N)
    assert abs((law.sample(N, rng)[:, 0] > 0).mean() - 0.8) < 4 * np.sqrt(0.16 / N) + 0.002
    with pytest.raises(UsageError, match="sum to 1"):
        Mixture(np.array([0.2, 0.2]), PAIR)


def test_a_fitted_mixture_finds_its_components_in_any_unit():
    draws = Mixture(np.array([0.2, 0.8]), PAIR).sample(4000, np.random.default_rng(0))
    for unit in (np.ones(2), np.array([1e-6, 1e3])):
        found = Mixture.fit(draws * unit, 2)
        order = np.argsort([p.mean[0] for p in found.components])
        np.testing.assert_allclose(found.weights[order], [0.2, 0.8], atol=0.03)
        means = np.stack([found.components[i].mean for i in order]) / unit
        np.testing.assert_allclose(means, [p.mean for p in PAIR], atol=0.15)
        last = found.components[order[1]].factor / unit[:, None]
        np.testing.assert_allclose(last @ last.T, np.diag([0.01, 4.0]), atol=0.3)
    assert len(Mixture.fit(np.ones((20, 2)), 5).components) == 1
    assert len(Mixture.fit(draws[:6], 50).components) == 3


def test_mixup_has_two_thirds_of_the_covariance_of_the_codes():
    draws = Mixup(CODES).sample(100_000, np.random.default_rng(0))
    spread = np.sqrt(np.outer(CODES.var(0), CODES.var(0)))
    np.testing.assert_allclose(covariance(draws) / spread, covariance(CODES) / spread * 2 / 3, atol=0.03)
    np.testing.assert_allclose(draws.mean(0) / CODES.std(0), CODES.mean(0) / CODES.std(0), atol=0.015)


def test_discrete_codes_have_their_probabilities_and_change_one_position_a_step():
    law = CASES["DiscreteCodes"]()
    loops = law.loops(N, 12, np.random.default_rng(0))
    for draws in (loops[:, 0], loops[:, -1], law.sample(N, np.random.default_rng(1))):
        for position, probabilities in enumerate(law.probabilities):
            counts = np.array([(draws[:, position] == v).sum() for v in (-1.0, 0.0, 2.0)])
            expected = N * probabilities
            assert counts[expected == 0].sum() == 0
            seen = expected > 0
            assert chi2.sf((np.square(counts - expected)[seen] / expected[seen]).sum(), seen.sum() - 1) > 1e-4
    assert ((loops[:, 1:] != loops[:, :-1]).sum(2) <= 1).all()
    assert ((loops[:, 1:] != loops[:, :-1]).any(2)).mean() > 0.3
    with pytest.raises(UsageError, match="sum to 1"):
        DiscreteCodes(np.array([0.0, 1.0]), np.full((2, 2), 0.4))


def test_a_factor_of_the_wrong_shape_is_refused():
    with pytest.raises(UsageError, match="factor"):
        Gaussian(np.zeros(3), np.eye(2))
