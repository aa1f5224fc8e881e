"""Identification and explained variance against codes whose confusions are known."""

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import poisson
from sklearn.manifold import trustworthiness

from gapless.audit.informativeness import explained_variance, identification, neighbour_preservation, resampled_means
from gapless.errors import DataError, UsageError


def identify(items, outputs, **options):
    return identification(items, outputs, rng=np.random.default_rng(1), seed=1, **options)


def class_only(classes, members, width, rng):
    """Items of a class differ in directions of their own; the decode of any is their class's centre."""
    centres = 10 * np.repeat(np.eye(classes), members, axis=0)
    own = np.tile(np.eye(members), (classes, 1))
    padding = np.zeros((classes * members, width))
    return np.hstack([centres, own, padding]), np.hstack([centres, np.zeros_like(own), padding])


class TestIdentification:
    @pytest.mark.parametrize("e", [0.0, 0.1, 0.3, 1.0])
    def test_wrong_codes(self, ledger, e):
        """T7: a wrong code puts the item at a tie of the K - 1 others: 1 - e K / (K - 1)."""
        items = np.eye(1000)
        outputs = items.copy()
        wrong = np.random.default_rng(2).permutation(1000)[: round(1000 * e)]
        outputs[wrong] = items[np.roll(wrong, 1)]
        found = identify(items, outputs)
        ledger("T7", f"identification, wrong code with probability {e}", oracle="1 - e", truth=1 - e,
               measured=found.identification.value, tolerance=0.02, why="spec")  # fmt: skip
        ledger("T7", f"top-1, wrong code with probability {e}", oracle="1 - e", truth=1 - e,
               measured=found.top1.value, tolerance=0.02, why="spec")  # fmt: skip
        exact = max(1 - e * 1000 / 999, 0)
        assert found.identification.value == pytest.approx(exact, abs=1e-9)

    @pytest.mark.parametrize("members", [2, 10, 50])
    def test_class_only_code(self, ledger, members):
        items, outputs = class_only(1000 // members, members, 3, None)
        found = identify(items, outputs)
        truth = 1 - (gammaln(members + 1) / members) / (gammaln(1001) / 1000)
        ledger("T7", f"identification, code of the class only ({members} items)",
               oracle="1 - (log m! / m) / (log K! / K)", truth=truth, measured=found.identification.value,
               tolerance=0.02, why="spec")  # fmt: skip
        ledger("T7", f"top-1, code of the class only ({members} items)", oracle="1 / m", truth=1 / members,
               measured=found.top1.value, tolerance=0.02, why="spec")  # fmt: skip
        assert found.identification.value == pytest.approx(truth, abs=1e-9)

    def test_constant_decoder_is_exactly_at_chance(self):
        """Whatever constant it gives, and with items that occur twice."""
        rng = np.random.default_rng(3)
        items = rng.standard_normal((2500, 7)).astype(np.float32)
        items[1000:2000] = items[:1000]
        for constant in (0.0, 1e3):
            found = identify(items, np.full_like(items, constant))
            assert found.identification.value == pytest.approx(0, abs=1e-9)
            assert found.top1.value == pytest.approx(1 / 1000)
            assert found.identification.low == 0

    def test_equal_items_are_at_chance(self):
        items = np.full((300, 200), 0.1)
        found = identify(items, np.random.default_rng(4).standard_normal(items.shape))
        assert found.identification.value == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(found.top1.value, 1 / 300)

    def test_collapsed_posterior(self, ledger):
        """T9: codes that know nothing of their item; the interval holds 0."""
        rng = np.random.default_rng(5)
        items, outputs = rng.standard_normal((5000, 6)), rng.standard_normal((5000, 6))
        found = identify(items, outputs).identification
        raw = found.value if found.raw is None else found.raw
        ledger("T9", "identification, collapsed posterior", oracle="0: decodes independent of their item", truth=0,
               measured=raw, tolerance=3.5 * 1 / np.sqrt(5000) / (gammaln(1001) / 1000),
               why="3.5 standard errors: log rank has standard deviation 1 at chance")  # fmt: skip
        assert found.low == 0

    def test_scores_against_brute_force(self):
        rng = np.random.default_rng(6)
        items = rng.standard_normal((60, 4))
        outputs = items + rng.standard_normal(items.shape)
        found = identify(items, outputs, among=60)
        distance = np.square(outputs[:, None] - items[None]).sum(2)
        ranks = (distance <= np.diag(distance)[:, None]).sum(1)
        np.testing.assert_allclose(found.ranks, ranks[found.items])
        assert found.typical_rank == pytest.approx(np.exp(np.log(ranks).mean()))

    def test_blocks_rank_among_k(self):
        rng = np.random.default_rng(7)
        items = rng.standard_normal((2300, 3))
        found = identify(items, items[:, ::-1].copy())
        assert found.identification.n == 2000
        assert found.among == 1000
        assert len(set(found.items.tolist())) == 2000
        assert found.ranks.max() <= 1000 + 1e-6

    def test_an_outlier_makes_no_ties(self):
        rng = np.random.default_rng(22)
        items = rng.standard_normal((500, 3))
        outputs = items + 0.5 * rng.standard_normal(items.shape)
        plain = identify(items, outputs).identification.value
        items[0] = outputs[0] = 1e7
        assert identify(items, outputs).identification.value == pytest.approx(plain, abs=0.01)

    @pytest.mark.parametrize("shift", [0.0, 1e4])
    def test_a_copy_is_always_first(self, shift):
        items = np.random.default_rng(8).standard_normal((1000, 50)) + shift
        found = identify(items, items)
        assert found.identification.value == 1
        assert found.typical_rank == 1
        assert 0.99 < found.identification.low < 1
        assert 0.99 < found.top1.low < 1

    def test_counts_go_by_likelihood(self):
        """Poisson counts: rates that differ where counts are small decide; distance is led by the large ones."""
        rng = np.random.default_rng(9)
        rates = np.hstack([rng.choice([0.05, 3.0], (500, 10)), np.full((500, 1), 1e5)])
        items = rng.poisson(rates).astype(float)

        def log_prob(outputs, items):
            return poisson.logpmf(items[None], outputs[:, None]).sum(2)

        by_likelihood = identify(items, rates, log_prob=log_prob).identification.value
        by_distance = identify(items, rates).identification.value
        assert by_likelihood > by_distance + 0.4
        impossible = identify(items, rates, log_prob=lambda o, i: np.full((len(o), len(i)), -np.inf))
        assert impossible.identification.value == pytest.approx(0, abs=1e-9)

    def test_likelihood_of_a_normal_is_distance(self):
        rng = np.random.default_rng(10)
        items = rng.standard_normal((400, 5))
        outputs = items + rng.standard_normal(items.shape)
        normal = identify(items, outputs, log_prob=lambda o, i: -0.5 * np.square(o[:, None] - i[None]).sum(2))
        np.testing.assert_array_equal(normal.ranks, identify(items, outputs).ranks)

    def test_affine_codes(self, ledger):
        """T8: z -> A z + b with the decoder o A^-1 leaves every number as it was."""
        rng = np.random.default_rng(11)
        weight = rng.standard_normal((4, 9))
        codes = rng.standard_normal((2000, 4))
        items = np.tanh(codes @ weight) + 0.3 * rng.standard_normal((2000, 9))
        left, right = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
        matrix = left * np.geomspace(1e-2, 1e2, 4) @ right
        moved = codes @ matrix.T + 5
        plain = np.tanh(codes @ weight)
        back = np.tanh((moved - 5) @ np.linalg.inv(matrix).T @ weight)
        for name, measure in (
            ("identification", lambda g: identify(items, g).identification.value),
            ("R2", lambda g: explained_variance(items, g, seed=1).value),
        ):
            ledger("T8", name, oracle="itself under z -> A z + b, cond(A) = 1e4", truth=measure(plain),
                   measured=measure(back), tolerance=1e-3, why="rounding may swap near ties")  # fmt: skip

    def test_same_state_same_result_and_pairs(self):
        rng = np.random.default_rng(12)
        items = rng.standard_normal((1500, 3))
        near, far = (items + s * rng.standard_normal(items.shape) for s in (0.3, 0.32))
        first, again, other = (identify(items, outputs) for outputs in (near, near, far))
        np.testing.assert_array_equal(first.identification.replicates, again.identification.replicates)
        np.testing.assert_array_equal(first.items, other.items)
        difference = first.identification.replicates - other.identification.replicates
        assert len(difference) == 400

    def test_front_door(self):
        with pytest.raises(UsageError, match="row by row"):
            identify(np.zeros((5, 2)), np.zeros((4, 2)))
        with pytest.raises(DataError, match="log_prob"):
            identify(np.zeros((5, 2)), np.zeros((5, 2)), log_prob=lambda o, i: np.full((len(o), len(i)), np.nan))
        assert identify(np.zeros((1, 2)), np.zeros((1, 2))).identification.value is None


class TestExplainedVariance:
    def test_exact_posterior(self, ledger):
        """T1: R2 = sum w^2 / (sum w^2 + D s^2)."""
        rng = np.random.default_rng(13)
        basis = np.linalg.qr(rng.standard_normal((12, 4)))[0]
        w, s = np.array([3.0, 2, 1, 0.3]), 0.5
        v = s**2 / (w**2 + s**2)
        x = rng.standard_normal((8000, 4)) @ (basis * w).T + s * rng.standard_normal((8000, 12)) + 7
        z = (x - 7) @ (basis * w) * (v / s**2) + np.sqrt(v) * rng.standard_normal((8000, 4))
        found = explained_variance(x, z @ (basis * w).T + 7, seed=1)
        truth = (w**2).sum() / ((w**2).sum() + 12 * s**2)
        ledger("T1", "R2 of the sampled reconstruction", oracle="sum w^2 / (sum w^2 + D s^2)", truth=truth,
               measured=found.value, tolerance=0.01, why="spec")  # fmt: skip
        assert found.low < truth < found.high
        assert found.high - found.low < 0.02

    def test_against_sklearn(self):
        from sklearn.metrics import r2_score

        rng = np.random.default_rng(14)
        items = rng.standard_normal((300, 2, 5)).astype(np.float32)
        outputs = items + rng.standard_normal(items.shape).astype(np.float32) * 0.4
        flat = (side.reshape(300, -1) for side in (items, outputs))
        truth = r2_score(*flat, multioutput="variance_weighted")
        assert explained_variance(items, outputs.reshape(300, -1), seed=1).value == pytest.approx(truth, abs=1e-6)

    def test_worse_than_the_mean(self):
        rng = np.random.default_rng(15)
        items = rng.standard_normal((500, 3))
        found = explained_variance(items, -items, seed=1)
        assert found.value == found.low == found.high == 0
        assert found.raw == pytest.approx(-3, abs=0.05)
        assert "worse than the mean" in found.reading

    def test_mean_of_the_data_explains_nothing(self):
        items = np.random.default_rng(16).standard_normal((500, 3)) + 1e3
        assert explained_variance(items, np.broadcast_to(items.mean(0), items.shape), seed=1).value < 1e-12

    def test_constant_items(self):
        items = np.full((50, 4), 0.1)
        assert explained_variance(items, items, seed=1).value is None
        with pytest.raises(UsageError, match="row by row"):
            explained_variance(items, items[:, :2], seed=1)


class TestNeighbourPreservation:
    @pytest.mark.parametrize("noise", [0.1, 1.0, 10.0])
    def test_against_sklearn(self, ledger, noise):
        rng = np.random.default_rng(17)
        items = rng.standard_normal((500, 6))
        codes = items[:, :2] + noise * rng.standard_normal((500, 2))
        found = neighbour_preservation(items, codes)
        for name, pair in (("trustworthiness", (items, codes)), ("recall", (codes, items))):
            ledger("neighbours", f"{name}, noise {noise}", oracle="sklearn.manifold.trustworthiness",
                   truth=trustworthiness(*pair, n_neighbors=10), measured=found[name], tolerance=1e-9,
                   why="the same formula")  # fmt: skip

    def test_bounds(self):
        rng = np.random.default_rng(18)
        items = rng.standard_normal((2500, 3))
        copy = neighbour_preservation(items, items * 2 + 1)
        assert copy["trustworthiness"] == copy["recall"] == 1
        assert copy["n"] == 2000
        unrelated = neighbour_preservation(items[:800], rng.standard_normal((800, 3)))
        assert unrelated["trustworthiness"] == pytest.approx(0.5, abs=0.02)
        assert neighbour_preservation(items[:2], items[:2])["trustworthiness"] is None

    def test_glued_and_torn(self):
        """Gluing two far parts together costs trust; tearing one apart costs recall."""
        rng = np.random.default_rng(19)
        line = np.sort(rng.random((600, 1)), axis=0)
        folded, torn = np.abs(line - 0.5), line + 5 * rng.integers(0, 2, (600, 1))
        assert neighbour_preservation(line, folded)["trustworthiness"] < 0.9
        assert neighbour_preservation(line, folded)["recall"] > 0.98
        assert neighbour_preservation(line, torn)["recall"] < 0.9
        assert neighbour_preservation(line, torn)["trustworthiness"] > 0.98


def test_resampled_means_are_paired():
    values = np.random.default_rng(20).standard_normal((50, 2))
    both, first = resampled_means(values, seed=3), resampled_means(values[:, 0], seed=3)
    np.testing.assert_allclose(both[:, 0], first)


@pytest.mark.slow
def test_intervals_hold_the_truth(ledger):
    """Coverage of the intervals over 200 data sets; the truth of identification from 200,000 items."""
    rng = np.random.default_rng(21)

    def draw(n):
        items = rng.standard_normal((n, 3))
        return items, 0.8 * items + 0.6 * rng.standard_normal((n, 3))

    truth = identify(*draw(100_000), among=200).identification.value
    hits = np.zeros(2)
    for seed in range(200):
        items, outputs = draw(400)
        found = identification(items, outputs, rng=rng, seed=seed, among=200).identification
        share = explained_variance(items, outputs, seed=seed)
        hits += [found.low <= truth <= found.high, share.low <= 1 - (0.04 + 0.36) <= share.high]
    for name, hit in zip(("identification", "R2"), hits / 200, strict=True):
        ledger("intervals", f"coverage, {name}", oracle="200 simulations, nominal .95", truth=1, measured=hit,
               tolerance=0.1, why="at least .90")  # fmt: skip
