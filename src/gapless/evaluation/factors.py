"""Whether latent features find the factors that the items were made from: MIG, SAP, DCI and modularity.

Definitions and choices are those of Locatello et al. (2019) and their disentanglement_lib, so that numbers can be
compared with published ones; where something else was chosen it is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapless.errors import DataError, UsageError

__all__ = ["BINS", "CHOICES", "Disentanglement", "disentanglement", "importances", "mutual_information", "sap_scores"]

BINS = 20
ITEMS = 3000
TRAINING_SHARE = 2 / 3  # 10,000 to train on and 5,000 to test on in the paper
CHOICES = (
    f"codes are the means of q(z|x), cut into {BINS} bins of equal width for mutual information; SAP: one linear "
    "support vector machine (C = 0.01, balanced classes) a latent feature and factor; DCI: gradient boosted trees "
    "(scikit-learn, 100 rounds, depth 3); both learn from 2 of every 3 items and are tested on the third; factors of "
    "real numbers are cut into bins, correlated and regressed instead"
)


@dataclass(frozen=True)
class Disentanglement:
    """Scores of codes against known factors, each between 0 and 1, higher is better.

    Attributes:
        mig: mutual information gap, the mean over factors of `(I_1 - I_2) / H`: I_1 and I_2 are the highest mutual
            information that a latent feature has with the factor, H is the factor's entropy. Chen et al. (2018).
        sap: separated attribute predictability, the mean over factors of the gap between the two latent features that
            predict it best. Kumar et al. (2018), section 3.
        disentanglement: whether each latent feature serves one factor: `1 - H_K(P_i)`, weighted by how much the feature
            is used; P_i are its shares of importance over the K factors. Eastwood & Williams (2018), section 2.
        completeness: whether each factor is served by one latent feature: the same over the other axis.
        informativeness: accuracy with which the factors are predicted from the codes (R^2 for real numbers), held-out
            items, mean over factors.
        modularity: whether each latent feature has mutual information with one factor only. Ridgeway & Mozer (2018),
            section 3, as the mean over all latent features; one without any counts as 0.
        mutual_information: nats, shape (latent, factors).
        importance: of the latent features for each factor, shape (latent, factors).
        names: of the factors.
        items: how many items the scores rest on: (mutual information, the two that learn).
    """

    mig: float
    sap: float
    disentanglement: float
    completeness: float
    informativeness: float
    modularity: float
    mutual_information: np.ndarray
    importance: np.ndarray
    names: tuple[str, ...]
    items: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()}
        return {**plain, "names": list(self.names), "items": list(self.items), "choices": CHOICES}


def disentanglement(codes: np.ndarray, factors: Mapping[str, np.ndarray], *, seed: int = 0) -> Disentanglement:
    """All scores of some codes.

    Args:
        codes: shape (n, latent); means of the posteriors.
        factors: values by name, each (n,): whole numbers or text are classes, other numbers are measurements.
        seed: chooses the items that SAP and DCI learn from, at most 3,000 of all, and seeds the trees.

    Raises:
        UsageError: no factor, or one of another length.
        DataError: a factor that has a single value.
    """
    values = {name: _checked(name, np.asarray(column), len(codes)) for name, column in factors.items()}
    if not values or len(codes) < 10:
        raise UsageError(f"disentanglement needs 10 items and a factor; got {len(codes)} and {len(values)}")
    shares = [mutual_information(codes, column) for column in values.values()]
    entropies = np.array([_entropy(_classes(column)) for column in values.values()])
    information = np.stack(shares, axis=1)
    train, test = _parts(len(codes), seed)
    sap = [_gap(sap_scores(codes, column, train=train, test=test)) for column in values.values()]
    learned = [importances(codes, column, train=train, test=test, seed=seed) for column in values.values()]
    importance = np.stack([weights for weights, _ in learned], axis=1)
    return Disentanglement(
        mig=float(np.mean([_gap(row) for row in information.T] / entropies)),
        sap=float(np.mean(sap)),
        disentanglement=_concentration(importance),
        completeness=_concentration(importance.T),
        informativeness=float(np.mean([score for _, score in learned])),
        modularity=_modularity(information),
        mutual_information=information,
        importance=importance,
        names=tuple(values),
        items=(len(codes), len(train) + len(test)),
    )


def mutual_information(codes: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """I(z_j; factor) of each latent feature in nats, shape (latent,); plug-in estimate of codes cut into 20 bins.

    Args:
        codes: shape (n, latent).
        factor: shape (n,); real numbers are cut into 20 bins as well.
    """
    from sklearn.metrics import mutual_info_score

    classes = _classes(factor)
    return np.array([mutual_info_score(_bins(column), classes) for column in codes.T])


def sap_scores(codes: np.ndarray, factor: np.ndarray, *, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """How well each latent feature alone predicts a factor, shape (latent,): accuracy on held-out items.

    For real numbers the squared correlation over all items.

    Args:
        codes: shape (n, latent).
        factor: shape (n,).
        train: items to learn from.
        test: items to be judged by.
    """
    if _measured(factor):
        return np.array([_squared_correlation(column, factor) for column in codes.T])
    from sklearn.svm import LinearSVC

    scores = []
    for column in codes.T:
        machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(column[train, None], factor[train])
        scores.append(machine.score(column[test, None], factor[test]))
    return np.array(scores)


def importances(
    codes: np.ndarray, factor: np.ndarray, *, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """Importance of each latent feature for a factor, shape (latent,), sum 1; and the score on held-out items.

    Args:
        codes: shape (n, latent).
        factor: shape (n,).
        train: items to learn from.
        test: items to be judged by.
        seed: of the trees.
    """
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    kind = GradientBoostingRegressor if _measured(factor) else GradientBoostingClassifier
    trees = kind(random_state=seed).fit(codes[train], factor[train])
    return np.abs(trees.feature_importances_), float(trees.score(codes[test], factor[test]))


def _checked(name: str, factor: np.ndarray, items: int) -> np.ndarray:
    if factor.shape != (items,):
        raise UsageError(f"the factor {name!r} needs one value an item, shape ({items},); got {factor.shape}")
    if len(np.unique(factor)) < 2:
        raise DataError(f"the factor {name!r} has a single value over these items: nothing can be found of it")
    return factor


def _measured(factor: np.ndarray) -> bool:
    """Whether a factor is measured, not counted or named."""
    return factor.dtype.kind == "f" and bool((factor != np.floor(factor)).any())


def _classes(factor: np.ndarray) -> np.ndarray:
    return _bins(factor) if _measured(factor) else np.unique(factor, return_inverse=True)[1]


def _bins(column: np.ndarray) -> np.ndarray:
    """Which of 20 bins of equal width over its range each value lies in; the highest value opens no bin of its own."""
    return np.digitize(column, np.histogram(column, BINS)[1][:-1])


def _entropy(classes: np.ndarray) -> float:
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    return float(-(shares * np.log(shares)).sum())


def _gap(scores: np.ndarray) -> float:
    """The highest less the second highest; a single one has nothing beside it."""
    first, second = np.sort(np.append(scores, 0.0))[::-1][:2]
    return float(first - second)


def _parts(items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(items)[:ITEMS]
    first = round(len(order) * TRAINING_SHARE)
    return order[:first], order[first:]


def _concentration(importance: np.ndarray) -> float:
    """`sum_i rho_i (1 - H_K(P_i))` over rows i, rho_i the row's share of all importance; one column has no choice."""
    if importance.shape[1] < 2:
        return 1.0
    shares = (importance + 1e-11) / (importance + 1e-11).sum(1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(1) / np.log(importance.shape[1])
    use = importance.sum(1) if importance.sum() else np.ones(len(importance))
    return float(((1 - entropy) * use).sum() / use.sum())


def _modularity(information: np.ndarray) -> float:
    """`1 - sum_{k != best} I_jk^2 / (I_j,best^2 (K - 1))`, mean over latent features j."""
    squares = np.square(information)
    best = squares.max(1)
    others = (squares.sum(1) - best) / np.maximum(best * max(squares.shape[1] - 1, 1), np.finfo(float).tiny)
    return float(np.where(best > 0, 1 - others, 0.0).mean())


def _squared_correlation(column: np.ndarray, factor: np.ndarray) -> float:
    spread = column.var() * factor.var()
    return float(np.square(((column - column.mean()) * (factor - factor.mean())).mean()) / spread) if spread else 0.0
