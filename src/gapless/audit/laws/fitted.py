"""Laws that follow given codes closer than their moments do: a mixture of normals, and segments between codes."""

import warnings
from collections.abc import Callable
from functools import cached_property

import numpy as np

from gapless.audit.circles import balance, surprise
from gapless.audit.laws.normal import Gaussian, Law, framed, rows_of
from gapless.errors import UsageError

__all__ = ["Mixture", "Mixup"]


class Mixture(Law):
    """A mixture of normals; a loop stays within one component, drawn by its weight.

    Args:
        weights: shape (k,), they sum to 1.
        components: k Gaussians.
        name: how the card calls it.
    """

    def __init__(self, weights: np.ndarray, components: list[Gaussian], *, name: str = "gmm"):
        weights = np.asarray(weights, float)
        if weights.shape != (len(components),) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
            raise UsageError(f"a mixture of {len(components)} needs as many weights that sum to 1; got {weights}")
        self.weights, self.components, self.name = weights / weights.sum(), components, name
        self.dimension = components[0].dimension

    @classmethod
    def fit(cls, codes: np.ndarray, k: int, *, seed: int = 0) -> "Mixture":
        """A Gaussian mixture fitted to codes ex post (scikit-learn, full covariances), shape (n, d).

        Fitted in whitened codes, so that its start and its floor of 1e-6 on variances do not depend on units.
        """
        from sklearn.mixture import GaussianMixture

        k = max(1, min(k, len(codes) // 2))
        whole = framed(codes, codes.mean(0), rows_of(codes))
        if whole.factor.shape[1] == 0:
            return cls(np.ones(1), [whole], name="GMM-1")
        model = GaussianMixture(k, covariance_type="full", reg_covar=1e-6, random_state=seed, max_iter=50)
        with warnings.catch_warnings():  # 50 rounds serve for drawing codes, converged or not
            warnings.simplefilter("ignore")
            found = model.fit(whole.whiten(codes))
        means = whole.mean + np.asarray(found.means_) @ whole.factor.T
        factors = [whole.factor @ np.linalg.cholesky(c) for c in np.asarray(found.covariances_)]
        parts = [Gaussian(m, factor) for m, factor in zip(means, factors, strict=True)]
        return cls(np.asarray(found.weights_), parts, name=f"GMM-{k}")

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._by_component(n, rng, lambda part, count: part.sample(count, rng))[0]

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        return self.loops_and_parts(n, points, rng)[0]

    def loops_and_parts(self, n: int, points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self._by_component(n, rng, lambda part, count: part.loops(count, points, rng))

    def loops_and_tail(
        self, n: int, far: int, points: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        plain = self.loops_and_parts(n, points, rng)
        tail = self._by_component(far, rng, lambda part, count: part.far_loops(count, points, rng))
        codes, part = (np.concatenate(both) for both in zip(plain, tail, strict=True))
        found = np.empty(n + far)
        for number in np.unique(part):
            rows = part == number
            found[rows] = surprise(self.components[number].whiten(codes[rows]))
        return codes, part, balance(found, n, far)

    @cached_property
    def _normal(self) -> Gaussian:
        means = np.stack([part.mean for part in self.components])
        mean = self.weights @ means
        rows = [np.sqrt(self.weights)[:, None] * (means - mean)]
        rows += [np.sqrt(w) * part.factor.T for w, part in zip(self.weights, self.components, strict=True)]
        return framed(self._fixed_draws, mean, np.concatenate(rows))

    def _by_component(
        self, n: int, rng: np.random.Generator, draw: Callable[[Gaussian, int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each component draws, in random order, and which component it was."""
        counts = rng.multinomial(n, self.weights).tolist()
        drawn = np.concatenate([draw(part, count) for part, count in zip(self.components, counts, strict=True)])
        order = rng.permutation(n)
        return drawn[order], np.repeat(np.arange(len(counts)), counts)[order]


class Mixup(Law):
    """Points on the segment between two random codes: `(1 - t) z + t z'`, t uniform; what interpolation visits.

    A loop walks one segment there and back at constant speed, each point following the law. With e = lag / points of
    the way, `E(t - t')^2 = 4 e^2 (1 - 4 e / 3)`, the codes have covariance S, the law 2 S / 3, hence the correlation
    of a linear function is `1 - 6 e^2 (1 - 4 e / 3)`.

    Args:
        codes: shape (n, d).
        name: how the card calls it.
    """

    def __init__(self, codes: np.ndarray, *, name: str = "mixup"):
        self.codes, self.name, self.dimension = np.asarray(codes, float), name, codes.shape[1]

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        first, last = self.codes[rng.integers(0, len(self.codes), (2, n))]
        t = rng.random((n, 1))
        return (1 - t) * first + t * last

    def loops(self, n: int, points: int, rng: np.random.Generator) -> np.ndarray:
        first, last = self.codes[rng.integers(0, len(self.codes), (2, n))]
        phase = (rng.random((n, 1)) + np.arange(points)[None] / points) % 1
        t = (1 - np.abs(2 * phase - 1))[..., None]
        return (1 - t) * first[:, None] + t * last[:, None]

    def correlation(self, lag: int, points: int) -> float:
        way = min(lag % points, -lag % points) / points
        return 1 - 6 * way**2 * (1 - 4 * way / 3)

    @cached_property
    def _normal(self) -> Gaussian:
        return framed(self.codes, self.codes.mean(0), rows_of(self.codes) * np.sqrt(2 / 3))
