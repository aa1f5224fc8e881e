"""Completeness against closed forms: T2 (a region left out), T8, T9, T11 of docs/audit.md, and the degenerate cases."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from gapless.audit.completeness import Isolation, conformal, data_like
from gapless.audit.laws import moments, standard
from gapless.audit.subject import Probe, Subject
from gapless.errors import DataError
from regions import REGIONS, Region, clusters, moved


def linear(d, outputs=40, *, seed=0):
    """An isometry z -> R^outputs and a direction orthogonal to its image."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((outputs, d + 1)))[0]
    return basis[:, :d].T, basis[:, d]


def decoder(region, *, filled):
    weight, away = linear(region.d)

    def decode(z):
        if filled:
            return region.fill(z) @ weight
        return z @ weight + 20 * np.sqrt(region.d) * region.inside(z)[:, None] * away

    return decode


def judge(decode, law, codes, *, rng, seed=0, draws=3000, features=None, event_shape=None):
    probe = Probe(Subject(encode=lambda x: (x, None), decode=decode), features=features)
    outputs = probe.decode(codes)
    phi = probe.phi(codes)
    return data_like(probe, law, phi, outputs, rng=rng, seed=seed, draws=draws, event_shape=event_shape)


def gap(found):
    """G before it is cut."""
    real = found.data_like
    return 1 - (real.value if real.raw is None else real.raw)


# ---- data-like draws -------------------------------------------------------------------------------------------------


SLOW = pytest.mark.slow
OUTPUT_CASES = [
    pytest.param(kind, d, filled, marks=[SLOW] if d == 32 or (filled and kind not in ("slab", "shell")) else [])
    for filled in (False, True)
    for d in (2, 8, 32)
    for kind in REGIONS
]


@pytest.mark.parametrize(("kind", "d", "filled"), OUTPUT_CASES)
def test_t2_output_gap_is_the_mass_of_garbage(kind, d, filled, ledger):
    rng, region = np.random.default_rng([d, REGIONS.index(kind), filled]), Region(kind, d)
    found = judge(decoder(region, filled=filled), standard(d), region.outside(3000, rng), rng=rng)
    ledger(
        "T2", f"output gap, {kind}, d = {d}, {'filled' if filled else 'garbage'}", oracle="mass of the region",
        truth=0 if filled else region.mass, measured=gap(found), tolerance=0.025, why="audit.md section 4; 3 SE",
    )  # fmt: skip
    if not filled:
        garbage = region.inside(found.draws)
        assert (found.scores[garbage] > 1).all()
        assert (found.scores[~garbage] > 1).mean() < 0.08


@pytest.mark.parametrize("d", [2, 8, 32])
def test_t11_no_output_gap_where_there_is_none(d, ledger):
    rng = np.random.default_rng(d)
    found = judge(lambda z: z @ linear(d)[0], standard(d), rng.standard_normal((4000, d)), rng=rng, draws=4000)
    ledger(
        "T11", f"output gap, d = {d}", oracle="q = p", truth=0, measured=gap(found), tolerance=0.02,
        why="audit.md section 4; 3 SE",
    )  # fmt: skip
    assert "none found (sensitivity" in found.data_like.reading


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 8, 32])
@pytest.mark.parametrize("items", [300, 3000])
def test_t11_the_null_is_unbiased_and_its_interval_holds_it(d, items, ledger):
    weight, gaps, held = linear(d)[0], [], []
    for round_ in range(200 if items == 300 else 60):
        rng = np.random.default_rng([d, items, round_])
        isolation = Isolation.fit(rng.standard_normal((items, d)) @ weight, rng=rng)
        raw = isolation._raw(rng.standard_normal((items, d)) @ weight)[0]
        low, high = np.quantile(isolation._replicates(raw, seed=round_), [0.025, 0.975])
        gaps.append(isolation._gap(raw))
        held.append(low <= 0 <= high)
    error = np.std(gaps) / np.sqrt(len(gaps))
    ledger(
        "T11", f"mean output gap of {len(gaps)} nulls, d = {d}, {items} items", oracle="q = p", truth=0,
        measured=np.mean(gaps), tolerance=3 * error, why="3 standard errors of the mean",
    )  # fmt: skip
    slack = 3 * np.sqrt(0.95 * 0.05 / len(held))
    ledger(
        "T11", f"interval of the output gap holds 0, d = {d}, {items} items", oracle="q = p", truth=0.95,
        measured=np.mean(held), tolerance=max(0.05, slack), why="at least .90; 3 standard errors of a share",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("items", [300, 3000])
def test_t2_the_interval_holds_the_mass(items, ledger):
    region, held = Region("slab", 4), []
    decode = decoder(region, filled=False)
    for round_ in range(100 if items == 300 else 60):
        rng = np.random.default_rng([items, round_])
        isolation = Isolation.fit(decode(region.outside(items, rng)), rng=rng)
        raw = isolation._raw(decode(rng.standard_normal((items, 4))))[0]
        low, high = np.quantile(isolation._replicates(raw, seed=round_), [0.025, 0.975])
        held.append(low <= region.mass <= high)
    ledger(
        "T2", f"interval of the output gap holds h, {items} items", oracle="mass of the region", truth=0.95,
        measured=np.mean(held), tolerance=3 * np.sqrt(0.95 * 0.05 / len(held)), why="3 standard errors of a share",
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["half-space", "shell", "clusters"])
def test_t8_units_of_the_codes_do_not_matter(kind, seed, ledger):
    rng = np.random.default_rng([8, seed])
    region = Region("half-space" if kind == "clusters" else kind, 4)
    decode = decoder(region, filled=False)
    codes = clusters(3000, 4, rng) if kind == "clusters" else region.outside(3000, rng)
    other, back = moved(codes, rng)
    gaps = [
        gap(judge(f, moments(z, np.zeros_like(z)), z, rng=np.random.default_rng([9, seed])))
        for f, z in ((decode, codes), (lambda z: decode(back(z)), other))
    ]
    ledger(
        "T8", f"output gap under z -> A z + b, condition 1e4, {kind}, seed {seed}", oracle="the same in other units",
        truth=gaps[0], measured=gaps[1], tolerance=1e-3, why="rounding: at most 3 of 3,000 draws change sides",
    )  # fmt: skip


def test_t9_an_autoencoder_that_memorises_is_flagged(ledger):
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, (2000, 2))
    harmonics = np.concatenate([f(k * angle) for k in (1, 2) for f in (np.cos, np.sin)], axis=1)
    items, codes = harmonics @ rng.standard_normal((8, 24)), rng.standard_normal((2000, 2))

    def decode(z):
        """A stored item at its code; between codes a blend of the two nearest."""
        squared = np.square(z[:, None] - codes).sum(-1)
        two = np.argpartition(squared, 1, axis=1)[:, :2]
        weight = 1 / np.maximum(np.take_along_axis(squared, two, 1), 1e-12)
        return (items[two] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)

    found = judge(decode, moments(codes, np.zeros_like(codes)), codes, rng=rng, draws=2000)
    assert found.sensitivity.value > 0.8
    assert found.data_like.high < 0.6, found.data_like
    assert "At least" in found.data_like.reading


def test_t9_a_collapsed_posterior_and_a_constant_decoder_are_not_flagged():
    rng = np.random.default_rng(4)
    for decode in (lambda z: np.tile([3.0, 1.0, 0.2], (len(z), 1)), lambda z: np.zeros((len(z), 3))):
        found = judge(decode, standard(2), rng.standard_normal((500, 2)), rng=rng, draws=500)
        assert gap(found) == 0
        assert found.data_like.low == found.data_like.high == 1
        assert "low power" in found.sensitivity.reading
        assert "low power" in found.data_like.reading


def test_rounding_noise_of_a_constant_decoder_is_no_gap():
    rng = np.random.default_rng(5)
    isolation = Isolation.fit(np.tile(rng.standard_normal(20), (400, 1)), rng=rng)
    point = isolation.halves[0].points[:1]
    assert isolation.gap(np.repeat(point * (1 + 1e-7), 30, axis=0))[0] == 0
    assert isolation.gap(np.repeat(point + 1, 30, axis=0))[0] == 1


def test_isolation_is_its_definition_by_brute_force(ledger):
    """Isolation over threshold of one half, from a full table of distances and no code of ours."""
    rng = np.random.default_rng(12)
    points, asked = rng.standard_normal((120, 3)), 2 * rng.standard_normal((40, 3))
    isolation = Isolation.fit(points, rng=rng)
    relative = []
    for half, other in zip(isolation.halves, isolation.halves[::-1], strict=True):
        base, rest = points[half.rows], points[other.rows]
        within = np.sort(cdist(base, base), axis=1)[:, 1:6].mean(1)  # column 0 is the point itself

        def score(y, base=base, within=within):
            distances = cdist(y, base)
            order = np.argsort(distances, axis=1)[:, :5]
            return np.take_along_axis(distances, order, 1).mean(1) / within[order].mean(1)

        relative.append(score(asked) / np.sort(score(rest))[57])  # ceil(61 * .95) = 58th of 60
    assert sorted(np.concatenate([half.rows for half in isolation.halves])) == list(range(120))
    ledger(
        "completeness", "isolation score, largest error of 40", oracle="table of distances", truth=0,
        measured=np.abs(isolation.score(asked) - np.mean(relative, axis=0)).max(), tolerance=1e-9, why="rounding",
    )  # fmt: skip


def test_the_gap_is_one_where_every_draw_is_garbage():
    rng = np.random.default_rng(5)
    isolation = Isolation.fit(rng.standard_normal((400, 3)), rng=rng)
    far = rng.standard_normal((100, 3)) + 1000
    value, flags = isolation.gap(far)
    np.testing.assert_allclose(value, 1, atol=1e-12)
    assert (flags == 1).all()
    np.testing.assert_allclose(isolation._replicates(isolation._raw(far)[0], seed=0), 1, atol=1e-12)
    assert (isolation.score(far) > 50).all()


def test_few_items_and_few_different_outputs():
    rng = np.random.default_rng(6)
    found = judge(lambda z: z, standard(3), rng.standard_normal((50, 3)), rng=rng, draws=300)
    assert found.references == 25
    assert found.data_like.low < found.data_like.high == 1
    steps = judge(lambda z: np.sign(z), standard(3), rng.standard_normal((300, 3)), rng=rng, draws=1000)
    assert abs(gap(steps)) < 0.02  # eight outputs, all known
    with pytest.raises(DataError, match="at least 12"):
        Isolation.fit(np.ones((11, 2)), rng=rng)


def test_the_nearest_reconstruction_is_a_row_of_the_reconstructions():
    rng = np.random.default_rng(7)
    codes = rng.standard_normal((900, 2))
    found = judge(lambda z: z, standard(2), codes, rng=rng, draws=200)
    distances = np.square(found.draws.astype(np.float32)[:, None].astype(float) - codes.astype(np.float32)).sum(-1)
    np.testing.assert_array_equal(found.nearest, distances.argmin(1))
    limited = Isolation.fit(codes, rng=rng, per_half=100)
    assert limited.references == 100
    assert set(limited.nearest(codes)) <= set(np.concatenate([half.rows for half in limited.halves]).tolist())


def test_the_reading_prints_what_power_depends_on():
    rng = np.random.default_rng(7)
    found = judge(lambda z: z @ linear(2)[0], standard(2), rng.standard_normal((1000, 2)) * 0.5, rng=rng, draws=1000)
    for part in ("At least", "sensitivity", "k = 5", "alpha = 0.05", "500 reconstructions a half", "N(0, I)"):
        assert part in found.data_like.reading


def test_same_state_same_answer_and_paired_resamples():
    codes = np.random.default_rng(1).standard_normal((600, 2))

    def once():
        return judge(lambda z: np.tanh(z), standard(2), codes, rng=np.random.default_rng(2), draws=500)

    first, second = once(), once()
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.data_like.replicates, second.data_like.replicates)
    assert first.data_like == second.data_like


def test_ghosts_of_a_hook_are_means_of_outputs():
    rng = np.random.default_rng(2)
    seen = []

    def features(x):
        seen.append(x.shape[1:])
        return np.square(x).reshape(len(x), -1)

    def decode(z):
        return z.reshape(len(z), 1, 2, 1)

    probe = Probe(Subject(encode=lambda x: (x, None), decode=decode), features=features)
    codes = rng.standard_normal((300, 2))
    phi = probe.phi(codes)
    for outputs, shape in ((probe.decode(codes), (1, 2, 1)), (probe.decode(codes).reshape(300, 1, 2, 1), None)):
        data_like(probe, standard(2), phi, outputs, rng=rng, seed=0, draws=100, event_shape=shape)
    assert set(seen) == {(1, 2, 1)}


@pytest.mark.parametrize("m", [5, 19, 50, 400])
def test_the_conformal_rate_is_the_rate(m, ledger):
    rng = np.random.default_rng(m)
    limits, rate = conformal(np.sort(rng.standard_normal((20000, m)), axis=1), 0.05)
    exceed = stats.norm.sf(limits)
    ledger(
        "completeness", f"conformal rate, {m} scores", oracle="mean exceedance, 20,000 draws", truth=rate.mean(),
        measured=exceed.mean(), tolerance=3 * exceed.std() / np.sqrt(20000), why="3 standard errors",
    )  # fmt: skip
