"""Scores of codes against known factors: perfect, rotated, independent and repeated codes, and sums by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import mutual_info_score

from gapless.errors import DataError, UsageError
from gapless.evaluation.factors import disentanglement, mutual_information, sap_scores


def grid(*sizes, repeats=1):
    """All combinations of factors: (n, factors) codes."""
    return np.tile(np.indices(sizes).reshape(len(sizes), -1).T, (repeats, 1)).astype(np.int64)


def named(values):
    return {f"f{i}": column for i, column in enumerate(values.T)}


def test_a_perfect_code_has_perfect_scores(ledger):
    values = grid(4, 3, 5, repeats=10)
    found = disentanglement(values.astype(float), named(values))
    for name in ("mig", "disentanglement", "completeness", "informativeness", "modularity"):
        ledger(
            "disentanglement", f"{name} of z = factors", oracle="1 by its definition", truth=1,
            measured=getattr(found, name), tolerance=1e-3, why="trees that need no other feature",
        )  # fmt: skip
    assert np.allclose(np.diag(found.mutual_information), np.log([4, 3, 5]))


def test_sap_of_a_perfect_code_of_bits_is_one_half(ledger):
    values = grid(2, 2, 2, repeats=60)
    found = disentanglement(values.astype(float), named(values))
    ledger(
        "disentanglement", "SAP of z = factors, three bits", oracle="1 less the 1/2 of a code that knows nothing",
        truth=0.5, measured=found.sap, tolerance=4 * math.sqrt(0.25 / 160), why="4 standard errors, 160 items",
    )  # fmt: skip


def test_mig_and_modularity_of_a_small_code_by_hand(ledger):
    # z_1 = a; z_2 = a and b, two fair bits: I(z_2; a) = I(z_2; b) = H(1/4) - 1/2 log 2, H(1/4) the entropy of a bit
    values = grid(2, 2, repeats=25)
    codes = np.stack([values[:, 0], values[:, 0] & values[:, 1]], axis=1).astype(float)
    bit = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    shared = bit - 0.5 * math.log(2)
    found = disentanglement(codes, named(values))
    mig = ((math.log(2) - shared) / math.log(2) + shared / math.log(2)) / 2  # of a; of b, which z_1 knows nothing of
    truths = {"mig": mig, "modularity": (1 + 0) / 2}
    for name, truth in truths.items():
        ledger(
            "disentanglement", f"{name} of z = (a, a and b)", oracle="entropies of bits, by hand", truth=truth,
            measured=getattr(found, name), tolerance=1e-9, why="float64",
        )  # fmt: skip
    assert np.allclose(found.mutual_information, [[math.log(2), 0], [shared, shared]])


def test_a_rotated_code_is_informative_and_not_disentangled():
    values = grid(6, 6, repeats=12)
    turn = np.array([[1, 1], [1, -1]]) / math.sqrt(2)
    straight, turned = (disentanglement(values @ m, named(values)) for m in (np.eye(2), turn))
    assert straight.mig == pytest.approx(1)
    assert turned.mig < 0.05
    assert turned.sap < 0.1
    assert turned.modularity < 0.1
    assert turned.disentanglement < 0.1
    assert turned.completeness < 0.1
    assert turned.informativeness > 0.9  # two features together still say it all


def test_codes_that_know_nothing_score_nothing(ledger):
    values = grid(4, 4, repeats=200)
    codes = np.random.default_rng(5).standard_normal((len(values), 3))
    found = disentanglement(codes, named(values))
    # 2 n I is chi square with (bins - 1)(4 - 1) degrees of freedom for independent codes
    freedom = 3 * 19
    bound = (freedom + 4 * math.sqrt(2 * freedom)) / (2 * len(values))
    assert found.mutual_information.max() < bound
    ledger(
        "disentanglement", "MIG of codes that are noise", oracle="0 within the plug-in estimate's bias", truth=0,
        measured=found.mig, tolerance=bound / math.log(4), why="95 % and more of chi square over 2 n",
    )  # fmt: skip
    assert found.sap < 4 * math.sqrt(0.25 * 0.75 / 1000)
    assert abs(found.informativeness - 0.25) < 0.06
    assert found.disentanglement < 0.05


def test_a_factor_told_twice_has_no_gap():
    values = grid(5, 3, repeats=20)
    codes = np.stack([values[:, 0], values[:, 0], values[:, 1]], axis=1).astype(float)
    found = disentanglement(codes, named(values))
    assert found.mig == pytest.approx(0.5)  # the first factor lies in two features, the second in one
    assert found.modularity == pytest.approx(1)
    assert found.disentanglement > 0.99


def test_importances_give_the_entropies_of_scipy():
    rng = np.random.default_rng(2)
    values = grid(3, 4, repeats=40)
    codes = values @ np.array([[1.0, 0.4, 0.0], [0.0, 1.0, 0.3]]) + 0.3 * rng.standard_normal((len(values), 3))
    found = disentanglement(codes, named(values))
    table = found.importance
    rows = 1 - scipy.stats.entropy(table.T + 1e-11, base=2)
    columns = 1 - scipy.stats.entropy(table + 1e-11, base=3)
    assert found.disentanglement == pytest.approx((rows * table.sum(1)).sum() / table.sum())
    assert found.completeness == pytest.approx((columns * table.sum(0)).sum() / table.sum())
    assert np.allclose(table.sum(0), 1)


def test_codes_are_cut_into_twenty_bins_as_disentanglement_lib_does():
    codes = np.random.default_rng(3).standard_normal((500, 1))
    factor = (codes[:, 0] > 0.2).astype(int)
    bins = np.digitize(codes[:, 0], np.histogram(codes[:, 0], 20)[1][:-1])
    assert len(np.unique(bins)) <= 20
    assert mutual_information(codes, factor)[0] == pytest.approx(mutual_info_score(bins, factor))


def test_measurements_are_correlated_and_regressed():
    rng = np.random.default_rng(4)
    codes = rng.standard_normal((600, 2))
    factor = 2 * codes[:, 0] + 0.1 * rng.standard_normal(600)
    everything = np.arange(600)
    scores = sap_scores(codes, factor, train=everything, test=everything)
    assert scores == pytest.approx([np.corrcoef(c, factor)[0, 1] ** 2 for c in codes.T])
    found = disentanglement(codes, {"f": factor})
    assert found.informativeness > 0.9
    assert found.completeness > 0.8
    assert found.mig > 0.4


def test_a_single_latent_feature_and_text_are_taken():
    values = grid(3, 2, repeats=20)
    found = disentanglement(values[:, :1].astype(float), {"name": np.array(["a", "b", "c"])[values[:, 0]]})
    assert found.mig == pytest.approx(1)
    assert found.modularity == 1


@pytest.mark.parametrize(
    ("factors", "error", "match"),
    [
        ({}, UsageError, "a factor"),
        ({"f": np.zeros(7)}, UsageError, "'f' needs one value an item"),
        ({"f": np.zeros(20)}, DataError, "'f' has a single value"),
    ],
)
def test_factors_that_cannot_be_are_refused(factors, error, match):
    with pytest.raises(error, match=match):
        disentanglement(np.random.default_rng(0).standard_normal((20, 2)), factors)
