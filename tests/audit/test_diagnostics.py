"""Diagnostics against laws and decoders whose figures are known in closed form."""

import numpy as np
import pytest
from scipy.stats import chi, kstest

from gapless.audit.diagnostics import features, icc, mmd, moments_check, radius, sliced_w2, total_sobol
from gapless.audit.laws import DiscreteCodes, Gaussian, PushForward, standard
from gapless.audit.subject import Codes, Probe, Subject


def probe_of(decode):
    return Probe(Subject(encode=lambda x: (x, None), decode=decode))


def encodings(loc, scale, rng):
    scale = np.broadcast_to(scale, loc.shape).astype(float)
    return Codes(loc, scale, loc + scale * rng.standard_normal(loc.shape))


def exact(n, w, s, rng):
    """T1: codes of a linear-Gaussian model with the exact posterior, its decoder, and v."""
    v = s**2 / (w**2 + s**2)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((10, len(w))))[0]
    codes = encodings(rng.standard_normal((n, len(w))) * np.sqrt(1 - v), np.sqrt(v), rng)
    return codes, probe_of(lambda z: z @ (basis * w).T + 3), v


class TestFeatures:
    def test_exact_posterior(self, ledger):
        w = np.array([3.0, 1.0, 0.5, 0.0])
        codes, _, v = exact(10_000, w, 0.5, np.random.default_rng(1))
        for found, variance in zip(features(codes, None), v, strict=True):
            case = f"v = {variance:.3f}"
            ledger("T1", f"KL of a feature, {case}", oracle="-1/2 log v", truth=-0.5 * np.log(variance),
                   measured=found.kl, tolerance=0.02, why="spec")  # fmt: skip
            error = 3.5 * np.sqrt(2 / 10_000) * (1 - variance)
            ledger("T1", f"reliability, {case}", oracle="1 - v", truth=1 - variance, measured=found.reliability,
                   tolerance=error * variance + 1e-9, why="3.5 standard errors of Var loc")  # fmt: skip
            ledger("T1", f"total variance, {case}", oracle="1", truth=1, measured=found.total_variance,
                   tolerance=error + 1e-9, why="3.5 standard errors of Var loc")  # fmt: skip
            assert found.scale_rms == pytest.approx(np.sqrt(variance))
            assert found.loc_std == pytest.approx(np.sqrt(1 - variance), abs=0.03)
            assert abs(found.loc_mean) < 0.035

    def test_states(self):
        rng = np.random.default_rng(2)
        loc = rng.standard_normal((5000, 4)) * [1, 1, 0, 0]
        found = features(encodings(loc, [0.1, 0.1, 1, 1], rng), np.array([0.6, 0.005, 0.4, 0.0]))
        assert [f.state for f in found] == ["live", "ignored", "noise", "dead"]
        assert [f.state for f in features(encodings(loc, 1.0, rng), None)] == ["live", "live", "dead", "dead"]

    def test_threshold_of_the_encoder_is_a_hundredth_of_a_nat(self):
        rng = np.random.default_rng(3)
        loc = rng.standard_normal(1000)
        loc = (loc - loc.mean()) / loc.std()
        ratio = np.exp(2 * np.array([0.0099, 0.0101])) - 1  # -1/2 log(1 - r) = 1/2 log(1 + Var loc / scale^2)
        found = features(encodings(loc[:, None] * np.sqrt(ratio), 1.0, rng), None)
        assert [f.state for f in found] == ["dead", "live"]

    def test_many_equal_features_are_all_used(self):
        codes = encodings(np.random.default_rng(4).standard_normal((500, 128)), 0.1, np.random.default_rng(4))
        assert {f.state for f in features(codes, np.full(128, 1 / 128))} == {"live"}
        assert features(codes, np.full(128, 0.0005))[0].state == "ignored"

    def test_point_masses(self):
        loc = np.random.default_rng(5).standard_normal((100, 2)) * [1, 0]
        live, dead = features(Codes(loc, np.zeros_like(loc), loc), None)
        assert (live.kl, live.reliability, live.state) == (None, 1, "live")
        assert (dead.reliability, dead.state) == (0, "dead")


class TestTotalSobol:
    def test_additive(self, ledger):
        """Hermite polynomials of variance 1, 2 and 6 with weights: shares a^2 Var h / sum."""
        a, variances = np.array([1.0, 0.5, 0.3, 0.0]), np.array([1, 2, 6, 1])

        def decode(z):
            parts = a * np.stack([z[:, 0], z[:, 1] ** 2 - 1, z[:, 2] ** 3 - 3 * z[:, 2], z[:, 3]], axis=1)
            return np.stack([parts.sum(1), 2 * parts.sum(1) + 5], axis=1)

        found = total_sobol(probe_of(decode), standard(4), rng=np.random.default_rng(6), n=20_000)
        truth = a**2 * variances / (a**2 * variances).sum()
        for share, measured in zip(truth, found, strict=True):
            ledger("Sobol", f"total index {share:.3f}", oracle="additive decoder: a^2 Var h / sum", truth=share,
                   measured=measured, tolerance=3.5 * np.sqrt(25 / 20_000) * share + 1e-12,
                   why="3.5 standard errors, kurtosis of the cube at most 25 Var^2")  # fmt: skip

    def test_interaction_counts_for_both(self, ledger):
        found = total_sobol(
            probe_of(lambda z: z[:, :1] + z[:, 1:2] * z[:, 2:]), standard(3), rng=np.random.default_rng(7), n=20_000
        )
        for j, measured in enumerate(found):
            ledger("Sobol", f"total index of z_{j + 1} in z_1 + z_2 z_3", oracle="1/2: Var 1 + 1", truth=0.5,
                   measured=measured, tolerance=3.5 * 0.5 * np.sqrt(10 / 20_000),
                   why="3.5 standard errors, Var (z^2 z'^2) = 8 Var^2")  # fmt: skip

    def test_scale_of_the_law_counts(self):
        law = Gaussian(np.array([5.0, -2]), np.diag([0.1, 3]))
        found = total_sobol(probe_of(lambda z: z), law, rng=np.random.default_rng(8), n=4000)
        np.testing.assert_allclose(found, [0.01 / 9.01, 9 / 9.01], rtol=0.12)

    def test_correlated_features(self, ledger):
        """Whitened coordinates: z = P^1/2 u and a decoder of z_1 alone has the shares (P^1/2)_1j^2."""
        correlation = np.array([[1.0, 0.6], [0.6, 1.0]])
        law = Gaussian(np.zeros(2), np.linalg.cholesky(correlation))
        found = total_sobol(probe_of(lambda z: z[:, :1]), law, rng=np.random.default_rng(9), n=20_000)
        values, vectors = np.linalg.eigh(correlation)
        root = (vectors * np.sqrt(values)) @ vectors.T
        for j, measured in enumerate(found):
            ledger("Sobol", f"correlated features, coordinate {j + 1}", oracle="(P^1/2)_1j^2", truth=root[0, j] ** 2,
                   measured=measured, tolerance=3.5 * np.sqrt(4 / 20_000), why="3.5 standard errors")  # fmt: skip
        assert found[0] > found[1]

    def test_discrete_codes(self, ledger):
        """The parity of bits depends on each wholly; a sum shares."""
        law = DiscreteCodes(np.array([-1.0, 1.0]), np.full((4, 2), 0.5))
        parity = total_sobol(probe_of(lambda z: z.prod(1, keepdims=True)), law, rng=np.random.default_rng(10), n=20_000)
        added = total_sobol(probe_of(lambda z: z.sum(1, keepdims=True)), law, rng=np.random.default_rng(10), n=20_000)
        for name, truth, found in (("parity", 1.0, parity), ("sum", 0.25, added)):
            ledger("Sobol", f"{name} of 4 bits", oracle="1 or 1/4", truth=truth, measured=found[0],
                   tolerance=3.5 * np.sqrt(4 / 20_000), why="3.5 standard errors")  # fmt: skip

    def test_constant_decoder_and_rank(self):
        rng = np.random.default_rng(11)
        assert not total_sobol(probe_of(lambda z: np.full((len(z), 3), 0.1)), standard(2), rng=rng).any()
        flat = Gaussian(np.zeros(3), np.eye(3)[:, :2])
        found = total_sobol(probe_of(lambda z: z), flat, rng=rng, n=2000)
        assert found[2] == 0
        assert found[:2].sum() == pytest.approx(1, abs=0.1)

    def test_another_law_goes_by_its_moments(self):
        law = PushForward(lambda u: u[:, :2] + 3 * np.sign(u[:, 2:]) * [1, 0], noise=3, dimension=2)
        found = total_sobol(probe_of(lambda z: z), law, rng=np.random.default_rng(12), n=4000)
        np.testing.assert_allclose(found, [10 / 11, 1 / 11], rtol=0.15)

    def test_decodes(self):
        probe = probe_of(lambda z: z)
        total_sobol(probe, standard(5), rng=np.random.default_rng(13), n=100)
        assert probe.decodes == 100 * 7


class TestICC:
    def test_exact_posterior(self, ledger):
        w = np.array([3.0, 2, 1, 0.3])
        codes, probe, v = exact(8000, w, 1.0, np.random.default_rng(14))
        found = icc(probe, codes, rng=np.random.default_rng(15), seed=1, items=8000)
        truth = 1 - (w**2 * v).sum() / (w**2).sum()
        ledger("T1", "decode reliability (ICC)", oracle="1 - sum w^2 v / sum w^2", truth=truth, measured=found.value,
               tolerance=0.01, why="spec")  # fmt: skip
        assert found.high - found.low < 0.01
        assert probe.decodes == 32_000

    def test_affine_codes(self, ledger):
        """T8: z -> a z + b, in another order, with the decoder o the inverse."""
        codes, probe, _ = exact(2000, np.array([2.0, 1, 0.5]), 0.7, np.random.default_rng(16))
        a, b = np.array([1e2, -1.0, 1e-2]), 4.0
        moved = Codes(codes.loc * a + b, codes.scale * np.abs(a), codes.draws * a + b)
        other = probe_of(lambda z: probe.subject.decode((z - b) / a))
        plain, back = (icc(p, c, rng=np.random.default_rng(17), seed=1) for p, c in ((probe, codes), (other, moved)))
        error = plain.high - plain.low
        ledger("T8", "decode reliability (ICC)", oracle="itself under z -> A z + b, cond(A) = 1e4",
               truth=plain.value, measured=back.value, tolerance=error,
               why="a sign changes the draws: the width of its interval")  # fmt: skip
        moved = Codes(codes.loc * abs(a) + b, codes.scale * np.abs(a), codes.draws)
        other = probe_of(lambda z: probe.subject.decode((z - b) / abs(a)))
        same = icc(other, moved, rng=np.random.default_rng(17), seed=1)
        ledger("T8", "decode reliability (ICC), same draws", oracle="itself under z -> A z + b, cond(A) = 1e4",
               truth=plain.value, measured=same.value, tolerance=1e-6, why="rounding of float32 outputs")  # fmt: skip

    def test_edges(self):
        rng = np.random.default_rng(18)
        codes, probe, _ = exact(300, np.array([2.0, 1]), 0.7, rng)
        point = Codes(codes.loc, np.zeros_like(codes.loc), codes.loc)
        assert icc(probe, point, rng=rng, seed=1).value == pytest.approx(1)
        constant = probe_of(lambda z: np.full((len(z), 3), 0.1))
        assert icc(constant, codes, rng=rng, seed=1).value is None
        collapsed = encodings(np.zeros((500, 2)), 1.0, rng)
        found = icc(probe, collapsed, rng=rng, seed=1)
        assert found.low == 0
        assert found.value < 0.1
        one = Codes(codes.loc[:1], codes.scale[:1], codes.draws[:1])
        assert icc(probe, one, rng=rng, seed=1).value is None


class TestRadius:
    @pytest.mark.parametrize("d", [1, 8, 64])
    def test_normal_codes(self, ledger, d):
        found = radius(np.random.default_rng([19, d]).standard_normal((10_000, d)))
        for p, measured, expected in zip(*(found[k] for k in ("probabilities", "measured", "expected")), strict=True):
            error = np.sqrt(p * (1 - p) / 10_000) / chi.pdf(expected, d)
            ledger("radius", f"quantile {p}, d = {d}", oracle="chi(d)", truth=expected, measured=measured,
                   tolerance=3.5 * error + 1e-3, why="3.5 standard errors of a quantile")  # fmt: skip

    def test_shell(self):
        u = np.random.default_rng(20).standard_normal((1000, 3))
        found = radius(2 * u / np.linalg.norm(u, axis=1, keepdims=True))
        np.testing.assert_allclose(found["measured"], 2)
        assert found["expected_mean"] == pytest.approx(np.sqrt(8 / np.pi))


class TestMomentsCheck:
    def test_known_departures(self, ledger):
        rng = np.random.default_rng(21)
        n, scale = 10_000, 0.5
        covariance = np.array([[1.1, 0.4, 0], [0.4, 1.1, 0], [0, 0, 0.75]])
        loc = rng.standard_normal((n, 3)) @ np.linalg.cholesky(covariance - scale**2 * np.eye(3)).T + [0.2, 0, 0]
        found = moments_check(encodings(loc, scale, rng))
        for name, truth in (("eigenvalue_gap", 0.5), ("correlation", 0.4 / 1.1), ("mean", 0.2)):
            ledger("moments", name.replace("_", " "), oracle="the covariance and mean the codes were drawn with",
                   truth=truth, measured=found[name], tolerance=3.5 * found[f"{name}_error"],
                   why="3.5 of its own standard errors")  # fmt: skip
        assert found["correlation_pair"] == (0, 1)
        assert found["mean_feature"] == 0
        assert found["eigenvalue_gap_error"] == pytest.approx(np.sqrt(2 / n) * 1.25, rel=0.1)
        assert found["mean_error"] == pytest.approx(np.sqrt(0.85 / n), rel=0.05)

    def test_prior_codes_stay_within_chance(self):
        loc = np.random.default_rng(22).standard_normal((5000, 16))
        found = moments_check(Codes(loc, np.zeros_like(loc), loc))
        for name in ("eigenvalue_gap", "correlation", "mean"):
            assert found[name] < 1.3 * found[f"{name}_by_chance"]
        assert "eigenvalues from" in found["reading"]

    def test_standard_error_with_scales_that_differ(self):
        """Against the jackknife: the mean of scale^2 has an error of its own."""
        rng = np.random.default_rng(37)
        loc, scale = 0.1 * rng.standard_normal((300, 1)), rng.uniform(0, 1, (300, 1))
        keep = ~np.eye(300, dtype=bool)
        without = [loc[rows].var() + np.square(scale[rows]).mean() for rows in keep]
        jackknife = np.sqrt(299 * np.var(without))
        assert moments_check(encodings(loc, scale, rng))["eigenvalue_gap_error"] == pytest.approx(jackknife, rel=0.02)

    def test_one_feature_and_a_dead_one(self):
        rng = np.random.default_rng(23)
        found = moments_check(encodings(rng.standard_normal((100, 1)), 0.1, rng))
        assert found["correlation"] is None
        loc = rng.standard_normal((100, 2)) * [1, 0]
        assert moments_check(Codes(loc, np.zeros_like(loc), loc))["correlation"] == 0

    @pytest.mark.slow
    def test_standard_errors(self, ledger):
        """The spread of the figures over repeated data, against their own standard errors."""
        rng = np.random.default_rng(24)
        factor = np.linalg.cholesky(np.array([[1.2, 0.5], [0.5, 0.7]]))
        runs = [moments_check(encodings(rng.standard_normal((500, 2)) @ factor.T + 0.3, 0.5, rng)) for _ in range(400)]
        for name in ("eigenvalue_gap", "correlation"):
            spread = np.std([run[name] for run in runs])
            ledger("moments", f"standard error of {name.replace('_', ' ')}", oracle="spread over 400 data sets",
                   truth=spread, measured=np.mean([run[f"{name}_error"] for run in runs]), tolerance=0.15 * spread,
                   why="a spread of 400 is known to 3.5 %; 4 of these")  # fmt: skip


class TestMMD:
    @pytest.mark.parametrize(("shift", "spread", "d"), [(1.0, 1.0, 1), (0.5, 1.5, 4)])
    def test_two_normals(self, ledger, shift, spread, d):
        rng = np.random.default_rng([25, d])
        h = 1.3
        a, b = rng.standard_normal((2000, d)), shift / np.sqrt(d) + spread * rng.standard_normal((2000, d))

        def kernel(variance, distance):
            return (h**2 / (h**2 + variance)) ** (d / 2) * np.exp(-0.5 * distance / (h**2 + variance))

        truth = kernel(2, 0) + kernel(2 * spread**2, 0) - 2 * kernel(1 + spread**2, shift**2)
        found, p = mmd(a, b, rng=rng, bandwidth=h)
        error = 2 * np.sqrt(truth) * np.sqrt(2 / 2000)
        ledger("MMD", f"MMD^2 of two normals, d = {d}", oracle="Gaussian integrals", truth=truth, measured=found,
               tolerance=3.5 * error, why="3.5 standard errors: witness of range at most sqrt(MMD^2)")  # fmt: skip
        assert p == pytest.approx(1 / 201)

    def test_against_the_definition(self):
        rng = np.random.default_rng(26)
        a, b = rng.standard_normal((300, 2)), rng.standard_normal((500, 2)) + 0.2
        kaa, kbb, kab = (np.exp(-np.square(x[:, None] - y[None]).sum(2) / 2) for x, y in ((a, a), (b, b), (a, b)))
        truth = (kaa.sum() - 300) / (300 * 299) + (kbb.sum() - 500) / (500 * 499) - 2 * kab.mean()
        assert mmd(a, b, rng=rng, permutations=5, bandwidth=1.0)[0] == pytest.approx(truth, abs=1e-12)

    def test_unbiased_and_calibrated_at_equality(self, ledger):
        rng = np.random.default_rng(27)
        runs = np.array([mmd(*rng.standard_normal((2, 100, 3)), rng=rng, permutations=99) for _ in range(200)])
        ledger("MMD", "mean over 200 pairs of equal laws", oracle="0: unbiased", truth=0, measured=runs[:, 0].mean(),
               tolerance=3.5 * runs[:, 0].std() / np.sqrt(200), why="3.5 standard errors")  # fmt: skip
        ledger("MMD", "share of p <= .05 at equality", oracle="permutation test", truth=0.05,
               measured=(runs[:, 1] <= 0.05).mean(), tolerance=3.5 * np.sqrt(0.05 * 0.95 / 200),
               why="3.5 standard errors")  # fmt: skip
        assert kstest(runs[:, 1], "uniform").pvalue > 0.001

    def test_large_samples_are_cut_and_points_do_not_matter(self):
        rng = np.random.default_rng(28)
        found, p = mmd(rng.standard_normal((5000, 2)), rng.standard_normal((3000, 2)), rng=rng, permutations=50)
        assert abs(found) < 0.005
        assert 0 < p <= 1
        assert mmd(np.zeros((50, 2)), np.zeros((60, 2)), rng=rng)[0] == pytest.approx(0, abs=1e-12)


class TestSlicedW2:
    @pytest.mark.parametrize("d", [1, 3, 8, 200])
    def test_translated_copies(self, ledger, d):
        rng = np.random.default_rng([29, d])
        reference = rng.standard_normal((3000, d))
        move = rng.standard_normal(d)
        truth = np.sqrt(np.square(move).sum() / d)
        found = sliced_w2(reference + move, reference, rng=rng)
        error = 3.5 * np.sqrt(2 / 3000 / min(d, 128)) + (3.5 * np.sqrt(2 / 128) / 2 if d > 128 else 0.01)
        ledger("sliced W2", f"translated copy, d = {d}", oracle="|t| / sqrt(d)", truth=truth, measured=found,
               tolerance=error * truth, why="3.5 standard errors of the reference's variance"
               + (" and of 128 directions" if d > 128 else ""))  # fmt: skip

    def test_in_standard_deviations_of_the_prior(self):
        rng = np.random.default_rng(30)
        reference = rng.standard_normal((2000, 2))
        move = np.array([1.0, 0.5])
        plain, scaled = (
            sliced_w2(s * (reference + move), s * reference, rng=np.random.default_rng(31)) for s in (1, 50)
        )
        assert plain == pytest.approx(scaled)

    @pytest.mark.parametrize("spread", [0.5, 2.0])
    def test_scaled_copies_of_another_size(self, ledger, spread):
        rng = np.random.default_rng(32)
        found = sliced_w2(spread * rng.standard_normal((20_000, 3)), rng.standard_normal((15_000, 3)), rng=rng)
        ledger("sliced W2", f"N(0, {spread}^2 I) against N(0, I)", oracle="|s - 1|", truth=abs(spread - 1),
               measured=found, tolerance=0.03 * max(spread, 1),
               why="quantiles of 15,000: 3.5 standard errors of two standard deviations")  # fmt: skip

    def test_grids_of_different_sizes(self):
        short, long = ((np.arange(n)[:, None] + 0.5) / n for n in (10, 20))
        for pair in ((short, long), (long, short)):
            assert sliced_w2(*pair, rng=np.random.default_rng(38)) < 0.05

    def test_equal_samples(self):
        a = np.random.default_rng(33).standard_normal((500, 4))
        assert sliced_w2(a, a[::-1], rng=np.random.default_rng(34)) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_interval_of_icc_holds_the_truth(ledger):
    w = np.array([2.0, 1, 0.3])
    hits = 0
    for seed in range(200):
        codes, probe, v = exact(300, w, 1.0, np.random.default_rng([35, seed]))
        found = icc(probe, codes, rng=np.random.default_rng([36, seed]), seed=seed)
        hits += found.low <= 1 - (w**2 * v).sum() / (w**2).sum() <= found.high
    ledger("intervals", "coverage, ICC", oracle="200 simulations, nominal .95", truth=1, measured=hits / 200,
           tolerance=0.1, why="at least .90")  # fmt: skip
