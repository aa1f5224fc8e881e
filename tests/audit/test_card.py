"""The whole card: adversaries that break one leg each, errors, determinism, comparisons."""

import json

import numpy as np
import pytest

from gapless.audit import Budget, Subject, paired, scorecard, standard
from gapless.audit.anchors import collapsed, ppca
from gapless.audit.card import HEADLINE, STAGES, _rng
from gapless.audit.measure import Measure
from gapless.audit.verdict import level, levels, verdict
from gapless.errors import DataError, UsageError

PLAN = Budget(items=4_000, reconstructions=4_000, draws=2_000, loops=64, pairs=150, sampler=200, surgery=400, sobol=32)
LATENT, SIGMA = 2, 0.05


def world(n=3000, latent=LATENT, data=6, seed=0):
    """Items x = z W with z ~ N(0, I) and a little posterior noise: a perfect model of them is linear."""
    rng = np.random.default_rng(seed)
    weight, _ = np.linalg.qr(rng.standard_normal((data, latent)))
    z = rng.standard_normal((n, latent)) * np.sqrt(1 - SIGMA**2)
    return z @ weight.T * 3, weight * 3


def perfect(weight):
    inverse = np.linalg.pinv(weight)

    def encode(x):
        loc = np.asarray(x) @ inverse.T
        return loc, np.full_like(loc, SIGMA)

    return Subject(encode, lambda z: z @ weight.T, standard(weight.shape[1]))


def voronoi(weight, seed=1, cells=60):
    """The perfect decoder rounded to the nearest of some codes: cliffs between cells, everything else kept."""
    whole = perfect(weight)
    centres = np.random.default_rng(seed).standard_normal((cells, weight.shape[1]))

    def decode(z):
        nearest = np.square(z[:, None] - centres).sum(2).argmin(1)
        return whole.decode(centres[nearest] + 0.02 * (z - centres[nearest]))

    def encode(x):
        return whole.encode(x)

    return Subject(encode, decode, whole.prior), decode


def test_a_perfect_model_is_regular_and_informative():
    x, weight = world()
    card = scorecard(perfect(weight), x, budget=PLAN)
    assert card.verdict == "regular and informative"
    assert card.levels == {"continuity": "good", "completeness": "good", "informativeness": "good"}
    assert card.smoothness.value == pytest.approx(1, abs=0.02)
    assert card.evenness.value == pytest.approx(1, abs=1e-6)
    assert card.data_like.value > 0.97
    assert card.diagnostics["states"]["live"] == LATENT
    low, high = card.diagnostics["surgery"]["mutual_information"]
    assert low <= -LATENT * np.log(SIGMA) <= high + 0.05
    assert card.reference == "N(0, I)"


# T9: each adversary breaks exactly one leg.


def test_a_decoder_with_cliffs_is_flagged_for_continuity_alone():
    _, weight = world()
    subject, decode = voronoi(weight)
    z = np.random.default_rng(5).standard_normal((3000, LATENT))
    codes = {row.tobytes(): code for row, code in zip(decode(z).astype(np.float32), z, strict=True)}
    items = decode(z).astype(np.float32)

    def encode(x):
        loc = np.stack([codes[row.tobytes()] for row in np.asarray(x)])
        return loc, np.full_like(loc, 0.005)

    card = scorecard(Subject(encode, subject.decode, subject.prior), items, budget=PLAN)
    assert card.levels["continuity"] == "weak"
    assert (card.levels["completeness"], card.levels["informativeness"]) == ("good", "good")
    assert card.cliffs[0].jump
    assert "broken by cliffs" in card.verdict


def test_a_hole_of_a_fifth_is_flagged_for_completeness_alone():
    _, weight = world()
    rng = np.random.default_rng(3)
    z = rng.standard_normal((12_000, LATENT))
    edge = 0.8416  # a fifth of N(0, 1) lies beyond
    z = z[z[:, 0] < edge][:4000]

    away = np.linalg.svd(weight.T)[2][-1]

    def decode(codes):
        # Beyond the edge the output leaves the plane of the data steadily: no cliff, but nothing like the data.
        return codes @ weight.T + 9 * np.maximum(codes[:, :1] - edge, 0) * away

    inverse = np.linalg.pinv(weight)

    def encode(x):
        loc = np.asarray(x) @ inverse.T
        return loc, np.full_like(loc, 0.001)

    card = scorecard(Subject(encode, decode, standard(LATENT)), z @ weight.T, budget=PLAN)
    assert card.levels["completeness"] in ("partial", "weak")
    assert (card.levels["continuity"], card.levels["informativeness"]) == ("good", "good")
    assert card.data_like.value == pytest.approx(0.8, abs=0.05)
    assert card.coverage.value < 0.86
    assert card.holes[0].mass == pytest.approx(0.2, abs=0.06)
    assert card.holes[0].centre[0] > edge
    apart = np.linalg.norm(z - card.holes[0].centre, axis=1)
    assert apart[card.holes[0].nearest[0]] < apart.min() + 0.05, "rows of the items as they were given"
    assert "gappy" in card.verdict


def test_a_collapsed_posterior_is_flagged_for_informativeness_alone():
    x, _ = world()
    card = scorecard(collapsed(x, LATENT), x, budget=PLAN)
    assert card.verdict == "regular but empty (posterior collapse)"
    assert card.levels == {"continuity": None, "completeness": "good", "informativeness": "weak"}
    assert card.identification.low <= 0 <= card.identification.high + 1e-12
    for name in ("smoothness", "evenness", "cliff_free"):
        assert getattr(card, name).value is None
        assert getattr(card, name).reading
    assert card.data_like.value == 1
    assert card.diagnostics["states"]["live"] == 0


def test_an_autoencoder_that_memorises_is_flagged_for_completeness_alone():
    """Six kinds of items in six tight clusters of codes; between the clusters the decoder blends kinds into ghosts."""
    rng = np.random.default_rng(4)
    angle = np.arange(6) * np.pi / 3
    homes, kinds = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1), 3 * rng.standard_normal((6, 12))
    inside = rng.standard_normal((LATENT, 12)) * 4

    def decode(z):
        share = np.exp(-np.square(z[:, None] - homes).sum(2) / (2 * 0.8**2))
        share /= share.sum(1, keepdims=True)
        return share @ kinds + np.tanh(z - share @ homes) @ inside * share.max(1, keepdims=True) ** 8

    codes = homes[rng.integers(0, 6, 2000)] + 0.05 * rng.standard_normal((2000, LATENT))
    items = decode(codes).astype(np.float32)
    table = {row.tobytes(): code for row, code in zip(items, codes, strict=True)}

    def encode(x):
        return np.stack([table[np.asarray(row, np.float32).tobytes()] for row in x]), None

    card = scorecard(Subject(encode, decode), items, budget=PLAN)
    assert card.reference == "moments"
    assert card.levels == {"continuity": "good", "completeness": "weak", "informativeness": "good"}
    assert card.verdict == "informative but gappy"
    assert card.data_like.value < 0.8
    assert card.diagnostics["surgery"] is None


# Same seed, same card; changes that must change nothing.


def test_the_same_seed_gives_the_same_card_bit_for_bit():
    x, weight = world(800)
    first, second, other = (scorecard(perfect(weight), x, budget="quick", seed=s).to_dict() for s in (3, 3, 4))
    assert json.dumps(first) == json.dumps(second)
    assert json.dumps(first) != json.dumps(other)


def test_a_card_is_json_and_names_what_it_rests_on():
    x, weight = world(400)
    card = scorecard(perfect(weight), x, budget="quick", labels=np.arange(400) % 3)
    told = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert set(HEADLINE) <= set(told)
    for name in HEADLINE:
        assert {"value", "low", "high", "n", "reading"} <= set(told[name])
        assert told[name]["low"] <= told[name]["value"] <= told[name]["high"]
        assert told[name]["reading"].endswith((".", ")"))
    assert told["about"]["items"] == 400
    assert told["about"]["decodes"] > 1000
    np.testing.assert_array_equal(card.evidence["labels"], (np.arange(400) % 3)[card.evidence["rows"]])


def test_an_affine_change_of_the_codes_changes_no_headline_number():
    x, weight = world()
    rng = np.random.default_rng(8)
    rotation, _ = np.linalg.qr(rng.standard_normal((LATENT, LATENT)))
    matrix, shift = rotation @ np.diag([100.0, 0.01]), np.array([5.0, -3.0])
    back = np.linalg.inv(matrix)
    whole = perfect(weight)
    moved = Subject(
        lambda items: (whole.encode(items)[0] @ matrix.T + shift, None), lambda z: whole.decode((z - shift) @ back.T)
    )
    plain = Subject(lambda items: (whole.encode(items)[0], None), whole.decode)
    first, second = (scorecard(s, x, reference="moments", budget=PLAN) for s in (plain, moved))
    tolerance = {"smoothness": 0.04, "data_like": 0.03, "coverage": 0.03, "evenness": 1e-3}
    for name in HEADLINE:
        a, b = first.measures[name].value, second.measures[name].value
        assert a == pytest.approx(b, abs=tolerance.get(name, 1e-3)), name
    assert first.verdict == second.verdict


def test_a_law_fitted_ex_post_is_judged_by_the_other_half():
    x, weight = world(400)
    card = scorecard(perfect(weight), x, budget="quick", reference="gmm")
    assert (card.reference, card.coverage.n) == ("GMM-10", 200)


def test_every_stage_has_a_stream_of_its_own():
    firsts = {_rng(seed, stage).random() for seed in (0, 1) for stage in STAGES}
    assert len(firsts) == 2 * len(STAGES)


# Comparisons.


def test_paired_differences_see_what_separate_intervals_do_not():
    x, weight = world(1500)
    rng = np.random.default_rng(2)
    bent = weight + 0.02 * rng.standard_normal(weight.shape)
    cards = [scorecard(Subject(perfect(weight).encode, lambda z, w=w: z @ w.T, standard(LATENT)), x, budget="quick")
             for w in (weight, bent)]  # fmt: skip
    found = {d.measure: d for d in paired(*cards)}
    assert found["explained_variance"].decided == 1
    assert found["explained_variance"].high >= found["explained_variance"].value >= found["explained_variance"].low > 0
    same = {d.measure: d for d in paired(cards[0], cards[0])}
    assert all(d.value == d.low == d.high == d.decided == 0 for d in same.values())


def test_the_anchors():
    x, _ = world(2000, data=8)
    x = x + 0.2 * np.random.default_rng(1).standard_normal(x.shape)
    card = scorecard(ppca(x, LATENT), x, budget=PLAN)
    assert card.smoothness.value == pytest.approx(1, abs=0.03)
    assert card.levels["continuity"] == card.levels["completeness"] == "good"
    assert card.explained_variance.value > 0.9
    wide = ppca(x, 20)  # more latent features than columns: the rest is ignored
    loc, scale = wide.encode(x[:5])
    assert loc.shape == scale.shape == (5, 20)
    assert np.isfinite(wide.decode(loc)).all()


def test_ppca_is_scikit_learns_posterior_mean_and_reconstruction():
    from sklearn.decomposition import FactorAnalysis

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 2)) @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((3000, 5)) + 7
    subject = ppca(x, 2)
    loc, scale = subject.encode(x)
    # the aggregate posterior of the exact model has unit covariance: Var loc + v = 1
    assert np.allclose(np.cov(loc.T, bias=True) + np.diag(scale[0] ** 2), np.eye(2), atol=1e-6)
    theirs = FactorAnalysis(2, tol=1e-8, max_iter=5000).fit(x)
    ours = subject.decode(loc)
    other = theirs.transform(x) @ theirs.components_ + theirs.mean_
    # factor analysis has one noise a column where pPCA has one for all; here they are the same in truth
    assert np.square(ours - other).mean() < 0.01 * x.var()


def test_ppca_has_the_noise_of_scikit_learn():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 6)) + rng.standard_normal((500, 6))
    theirs = PCA(2).fit(x)
    _, scale = ppca(x, 2).encode(x[:1])
    np.testing.assert_allclose(scale[0] ** 2, theirs.noise_variance_ / theirs.explained_variance_, rtol=1e-9)


def test_tensors_and_arrays_are_audited_alike():
    import torch

    x, weight = world(300)
    tensor = torch.tensor(weight)
    inverse = torch.linalg.pinv(tensor)
    subject = Subject(
        lambda items: (items.double() @ inverse.T, torch.full((len(items), LATENT), SIGMA)),
        lambda z: torch.as_tensor(z) @ tensor.T,
        standard(LATENT),
    )
    card = scorecard(subject, torch.tensor(x), budget="quick")
    assert card.evenness.value == pytest.approx(1, abs=1e-5)


# Bad subjects get clear errors.


def broken(**changes):
    x, weight = world(200)
    parts = {"encode": perfect(weight).encode, "decode": perfect(weight).decode, "prior": standard(LATENT), **changes}
    return Subject(**parts), x


FAULTS = {
    "NaN from decode": ({"decode": lambda z: np.full((len(z), 6), np.nan)}, "decode gave values that are not finite"),
    "one output for all": ({"decode": lambda z: np.zeros((1, 6))}, r"must give outputs of shape \(\d+, \*event\)"),
    "outputs of another size": ({"decode": lambda z: np.zeros((len(z), 7))}, "decode gives 7 values an item"),
    "NaN from encode": ({"encode": lambda x: (np.full((len(x), 2), np.nan), None)}, "loc that is not finite"),
    "one code for all": ({"encode": lambda x: (np.zeros((1, 2)), None)}, "must give loc and scale of shape"),
    "a negative scale": ({"encode": lambda x: (np.zeros((len(x), 2)), -np.ones((len(x), 2)))}, "negative scale"),
    "loc alone": ({"encode": lambda x: np.zeros((len(x), 2))}, r"must give \(loc, scale or None\)"),
    "a law of another size": ({"prior": standard(5)}, "the reference law has 5 dimensions, the codes 2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_subject_gets_a_clear_error(fault):
    changes, match = FAULTS[fault]
    subject, x = broken(**changes)
    with pytest.raises(DataError, match=match):
        scorecard(subject, x, budget="quick")


def test_bad_items_and_names_are_refused():
    subject, x = broken()
    with pytest.raises(DataError, match="at least 50 items; got 49"):
        scorecard(subject, x[:49], budget="quick")
    x[7, 1] = np.inf
    with pytest.raises(DataError, match=r"not all finite(.|\n)*item 7"):
        scorecard(subject, x, budget="quick")
    with pytest.raises(UsageError, match="no reference 'normal'"):
        scorecard(*broken(), reference="normal")
    with pytest.raises(UsageError, match="no budget 'huge'"):
        scorecard(*broken(), budget="huge")


def test_odd_subjects_are_survived():
    x, weight = world(60)
    constant_encoder = Subject(lambda items: (np.zeros((len(items), 2)), None), perfect(weight).decode)
    card = scorecard(constant_encoder, x, budget="quick")
    assert card.identification.value < 0.2
    more_features_than_items = ppca(np.random.default_rng(0).standard_normal((60, 200)), 100)
    card = scorecard(more_features_than_items, np.random.default_rng(0).standard_normal((60, 200)), budget="quick")
    assert card.verdict


# The words.


def measure(value, low=None, high=None):
    return Measure(value, value if low is None else low, value if high is None else high, 100, "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1, 1, 1, 1, 1), "regular and informative"),
        ((1, 1, 0.4, 0.1, 1), "informative but gappy"),
        ((0.5, 0.9, 1, 1, 1), "informative but steep"),
        ((1, 1, 1, 1, 0), "regular but empty (posterior collapse)"),
        ((1, 1, 1, 1, 0.3), "regular but hardly informative"),
        ((1, 1, 0.5, 1, 0), "gappy, and empty (posterior collapse)"),
        ((1, 1, 1, 1, 0.7), "regular and partly informative"),
        ((1, 1, 0.9, 0.9, 1), "informative but somewhat gappy"),
        ((None, None, 1, 1, 0), "regular but empty (posterior collapse)"),
    ],
)
def test_verdicts_are_words(values, words):
    names = ("evenness", "cliff_free", "data_like", "coverage", "identification")
    assert verdict({name: measure(value) for name, value in zip(names, values, strict=True)}) == words


def test_a_measure_without_power_has_no_say():
    measures = {name: measure(1.0) for name in ("evenness", "cliff_free", "coverage", "identification")}
    measures |= {"data_like": measure(0.1), "sensitivity": measure(0.2)}
    assert levels(measures)["completeness"] == "good"
    measures["sensitivity"] = measure(0.9)
    assert levels(measures)["completeness"] == "weak"


def test_a_collapse_is_not_read_from_a_wide_interval():
    measures = {name: measure(1.0) for name in ("evenness", "cliff_free", "data_like", "coverage")}
    measures["identification"] = measure(0.11, 0.019, 0.21)
    assert verdict(measures) == "regular but hardly informative"


def test_cards_that_do_not_rest_on_the_same_draws_are_not_compared():
    x, weight = world(200)
    plain = scorecard(perfect(weight), x, budget="quick")
    with pytest.raises(UsageError, match="differ in seed: 0 and 1"):
        paired(plain, scorecard(perfect(weight), x, budget="quick", seed=1))
    with pytest.raises(UsageError, match="different reference laws"):
        paired(plain, scorecard(perfect(weight), x, budget="quick", reference="moments"))


def test_data_like_differences_are_paired_by_item():
    """Two equal models that are independent given the items: the interval of their difference is not too narrow."""
    x, weight = world(600)
    cards = [
        scorecard(Subject(perfect(weight).encode, lambda z, r=r: z @ r @ weight.T, standard(LATENT)), x, budget="quick")
        for r in (np.eye(LATENT), -np.eye(LATENT))
    ]
    found = {d.measure: d for d in paired(*cards)}["data_like"]
    assert found.decided == 0


def test_ppca_encodes_all_items_it_is_given_at_any_scale():
    x = np.random.default_rng(0).standard_normal((30_000, 2)) * 1e-7
    subject = ppca(x, 1)
    loc, _ = subject.encode(x)
    assert loc.shape == (30_000, 1)
    assert loc.std() > 0.1


def test_only_a_jump_is_called_a_cliff():
    measures = {name: measure(1.0) for name in ("evenness", "data_like", "coverage", "identification")}
    measures["cliff_free"] = measure(0.5)
    assert verdict(measures, jumps=True) == "informative but broken by cliffs"
    assert verdict(measures, jumps=False) == "informative but steep"


def test_a_band_is_not_denied_within_the_interval_but_never_lifted_by_two():
    assert level("data_like", measure(0.94, 0.90, 0.96)) == "good"
    assert level("data_like", measure(0.94, 0.93, 0.949)) == "partial"
    assert level("data_like", measure(0.70, 0.40, 0.97)) == "partial"
    assert level("data_like", measure(0.70, 0.60, 0.79)) == "weak"
    assert level("data_like", measure(0.79, 0.77, 0.82)) == "partial"
    assert level("data_like", Measure(None, None, None, 0, "")) is None
    assert levels({n: measure(1.0) for n in ("evenness", "cliff_free", "data_like", "coverage", "identification")}) == {
        "continuity": "good",
        "completeness": "good",
        "informativeness": "good",
    }
