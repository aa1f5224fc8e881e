"""Coverage and holes against closed forms: T2 (a region left out), T8, T11, and the degenerate cases."""

import numpy as np
import pytest
from scipy import stats

from gapless.audit.coverage import _shares, coverage, wilson
from gapless.audit.laws import Gaussian, moments, standard
from gapless.errors import DataError
from regions import REGIONS, Region, clusters, moved


def tv(found):
    real = found.coverage
    return 1 - (real.value if real.raw is None else real.raw)


def tv_error(n):
    """Standard error of P_ref(s > 1/2) - P_codes(s > 1/2): n of each, in halves; dependent folds."""
    return 1.317 * 0.5 * np.sqrt(2 / n)


def check_coverage(kind, d, n, ledger, *, least):
    rng, region = np.random.default_rng([d, n, REGIONS.index(kind)]), Region(kind, d)
    codes = region.outside(n, rng)
    found = coverage(standard(d), codes, rng=rng, seed=0, draws=n)
    over = max(0, tv(found) - region.mass) / tv_error(n)
    ledger(
        "T2", f"coverage over-reports (standard errors), {kind}, d = {d}, n = {n}", oracle="TV = h", truth=0,
        measured=over, tolerance=3.5, why="audit.md section 4",
    )  # fmt: skip
    assert tv(found) >= least * region.mass, found.coverage
    return found, region, codes


@pytest.mark.parametrize(("kind", "d"), [*((kind, 2) for kind in REGIONS), ("half-space", 8)])
def test_t2_coverage_is_a_lower_bound_and_the_hole_has_its_place(kind, d, ledger):
    found, region, codes = check_coverage(kind, d, 3000, ledger, least=0.6)
    mass = found.hole_mass.value
    assert mass <= region.mass + 3.5 * np.sqrt(region.mass * (1 - region.mass) / 3000)
    assert mass >= region.mass / 2, found.hole_mass
    assert found.holes[0].mass >= 0.9 * mass
    assert region.inside(found.holes[0].centre[None])[0]
    assert found.holes[0].low < found.holes[0].mass < found.holes[0].high
    assert found.holes[0].codes_share < 0.01
    assert found.hole_mass.reading.startswith("At least ")
    assert found.strays.value < 0.01
    apart = np.linalg.norm(codes - found.holes[0].centre, axis=1)
    assert apart[found.holes[0].nearest[0]] < 1.1 * apart.min()
    sides = region.rank(codes[found.holes[0].nearest]) > region.low
    assert len(sides) >= 2
    assert sides.any() != (kind == "half-space")


@pytest.mark.slow
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("d", [2, 8, 32])
def test_t2_coverage_never_over_reports(kind, d, ledger):
    hidden = kind == "rotated slab" and d == 32
    check_coverage(kind, d, 5000, ledger, least=0 if hidden else 0.6)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "rounds"), [(2, 200), (8, 100), (32, 40)])
def test_t11_coverage_reports_nothing_at_the_null(d, rounds, ledger):
    n, lacks, held = 1000, [], []
    for round_ in range(rounds):
        rng = np.random.default_rng([d, round_])
        found = coverage(standard(d), rng.standard_normal((n, d)), rng=rng, seed=round_, draws=n)
        lacks.append(tv(found))
        held.append(found.coverage.high >= 1)
        assert found.hole_mass.value < 0.01
        assert found.strays.value < 0.01
    ledger(
        "T11", f"mean lower bound of TV of {len(lacks)} nulls, d = {d}", oracle="q = p", truth=0,
        measured=np.mean(lacks), tolerance=3 * np.std(lacks) / np.sqrt(len(lacks)), why="3 standard errors of the mean",
    )  # fmt: skip
    assert np.mean(held) >= 0.9
    assert max(lacks) < 3.5 * tv_error(n)


@pytest.mark.parametrize("d", [2, 8])
def test_t11_coverage_of_codes_that_fill_the_law(d, ledger):
    rng = np.random.default_rng(d)
    found = coverage(standard(d), rng.standard_normal((2000, d)), rng=rng, seed=0, draws=2000)
    ledger(
        "T11", f"lower bound of TV, d = {d}", oracle="q = p", truth=0, measured=tv(found),
        tolerance=3 * tv_error(2000), why="3 standard errors",
    )  # fmt: skip
    assert "none found" in found.coverage.reading
    assert found.holes == ()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["half-space", "shell", "clusters"])
def test_t8_units_of_the_codes_do_not_matter(kind, seed, ledger):
    rng = np.random.default_rng([8, seed])
    codes = clusters(2000, 4, rng) if kind == "clusters" else Region(kind, 4).outside(2000, rng)
    found = [
        coverage(moments(z, np.zeros_like(z)), z, rng=np.random.default_rng([9, seed]), seed=0, draws=2000)
        for z in (codes, moved(codes, rng)[0])
    ]
    for name, value in (("coverage", tv), ("hole mass", lambda one: one.hole_mass.value)):
        truth, measured = (value(one) for one in found)
        ledger(
            "T8", f"{name} under z -> A z + b, condition 1e4, {kind}, seed {seed}", oracle="the same in other units",
            truth=truth, measured=measured, tolerance=0.002,
            why="rounding: at most 4 of 2,000 draws change sides; audit.md asks .03",
        )  # fmt: skip


def test_the_same_seed_gives_the_same_answer():
    codes = np.random.default_rng(1).standard_normal((600, 2))
    one, two = (coverage(standard(2), codes, rng=np.random.default_rng(3), seed=1, draws=500) for _ in range(2))
    assert one.coverage == two.coverage
    np.testing.assert_array_equal(one.coverage.replicates, two.coverage.replicates)


def test_two_holes_are_numbered_by_mass():
    rng = np.random.default_rng(0)
    z, places = rng.standard_normal((8000, 2)), np.array([[1.0, 0.0], [-1.0, 0.0]])
    inside = np.linalg.norm(z[:, None] - places, axis=2) < [0.7, 0.5]
    found = coverage(standard(2), z[~inside.any(1)], rng=rng, seed=0, draws=4000)
    assert len(found.holes) == 2
    for hole, place, mass in zip(found.holes, places, inside.mean(0), strict=True):
        assert np.linalg.norm(hole.centre - place) < 0.3
        assert mass / 2 < hole.mass < mass + 0.02


def test_codes_fewer_than_draws_count_as_much():
    rng, region = np.random.default_rng(4), Region("half-space", 2, mass=0.4)
    found = coverage(standard(2), region.outside(600, rng), rng=rng, seed=0, draws=3000)
    assert region.mass / 2 < tv(found) < region.mass + 3.5 * 1.317 * 0.5 * np.sqrt(1 / 600 + 1 / 3000)


def test_strays_and_narrow_codes():
    rng = np.random.default_rng(1)
    codes = rng.standard_normal((2000, 3))
    codes[:400] += 8
    found = coverage(standard(3), codes, rng=rng, seed=0, draws=2000)
    assert 0.18 < found.strays.value <= 0.2 + 1e-9
    curve = np.stack([np.cos(t := rng.uniform(0, 6.28, 2000)), np.sin(t), 0 * t], axis=1)
    found = coverage(moments(curve, np.zeros_like(curve)), curve, rng=rng, seed=0, draws=2000)
    assert found.coverage.high < 0.5


def test_coverage_where_nothing_varies_and_outside_a_flat_law():
    rng = np.random.default_rng(2)
    same = np.full((200, 3), 0.3)
    found = coverage(moments(same, np.zeros_like(same)), same, rng=rng, seed=0, draws=300)
    assert tv(found) == 0
    assert found.holes == ()
    flat = Gaussian(np.zeros(2), np.array([[1.0], [0.0]]))
    found = coverage(flat, rng.standard_normal((1000, 2)), rng=rng, seed=0, draws=1000)
    assert found.coverage.value < 0.1  # the codes leave the line
    assert coverage(standard(1), rng.standard_normal((50, 1)), rng=rng, seed=0, draws=500).coverage.high == 1
    with pytest.raises(DataError, match="at least 12"):
        coverage(standard(1), rng.standard_normal((11, 1)), rng=rng, seed=0)


def test_shares_from_given_scores():
    rng = np.random.default_rng(0)
    scores = np.repeat([0.95, 0.6, 0.3], [100, 300, 100]), np.repeat([0.95, 0.4, 0.05], [50, 850, 100])
    again = rng.integers(0, 500, (400, 500)), rng.integers(0, 1000, (400, 1000))
    filled, hole_mass, strays = _shares(scores, again, "p")
    assert filled.value == pytest.approx(1 - (0.8 - 0.05))
    assert (hole_mass.value, strays.value) == (0.2, 0.1)
    spread = 1.3174 * np.sqrt(0.8 * 0.2 / 500 + 0.05 * 0.95 / 1000)
    assert filled.replicates.std() == pytest.approx(spread, rel=0.15), "4 standard errors of 400 rounds"


@pytest.mark.parametrize(("count", "n"), [(0, 50), (7, 90), (50, 50)])
def test_wilson_is_scipy(count, n):
    truth = stats.binomtest(count, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(count, n), (truth.low, truth.high), atol=1e-12)
