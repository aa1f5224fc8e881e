"""Distances of codes and prior by samples, against closed forms and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from codes import drawn, noise, normal
from gapless import recipes, regularizers
from gapless.errors import UsageError

SETS, CODES, LATENT = 1500, 12, 3


def gaussian_mean(distance, variance, scale, latent):
    """E exp(-|r|^2 / scale) for r ~ N((distance, 0, ..), variance I)."""
    return (1 + 2 * variance / scale) ** (-latent / 2) * math.exp(-(distance**2) / (scale + 2 * variance))


def quadric_mean(distance, variance, scale, latent):
    """E scale / (scale + |r|^2) = int exp(-t) E exp(-t |r|^2 / scale) dt."""
    value, _ = integrate.quad(
        lambda t: math.exp(-t) * gaussian_mean(distance, variance, scale / t if t else math.inf, latent), 0, np.inf
    )
    return value


MEANS = {"gaussian": gaussian_mean, "inverse-multiquadric": quadric_mean}


def truth(kernel, scales, distance, spread):
    """MMD^2 of N((distance, 0, ..), spread^2 I) and N(0, I)."""
    mean = MEANS[kernel]
    bases = [2 * LATENT * s for s in scales]
    return sum(
        mean(0, 2 * spread**2, c, LATENT) + mean(0, 2, c, LATENT) - 2 * mean(distance, 1 + spread**2, c, LATENT)
        for c in bases
    )


def codes(distance, spread):
    """(SETS, CODES, LATENT)."""
    eps = torch.randn(SETS, CODES, LATENT, generator=noise(3), dtype=torch.float64)
    return spread * eps + torch.tensor([distance, 0.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("kernel", MEANS)
@pytest.mark.parametrize(("distance", "spread"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.4)])
def test_mmd_of_two_normals(kernel, distance, spread, ledger):
    scales = (0.2, 1.0)
    penalty, z = regularizers.MMD(kernel=kernel, scales=scales), codes(distance, spread)
    y = torch.randn(SETS, CODES, LATENT, generator=noise(4), dtype=torch.float64)
    single = penalty.between(z, y)
    value = penalty(drawn(z), generator=noise(4)).value
    assert value == pytest.approx(float(single.mean()), rel=1e-12)  # the prior's draws are as many, from the generator
    ledger(
        "MMD", f"{kernel} kernel, N({distance:g}, {spread:g}^2) and N(0, 1) in {LATENT} dimensions",
        oracle="closed form" if kernel == "gaussian" else "closed form, one quadrature",
        truth=truth(kernel, scales, distance, spread), measured=value,
        tolerance=4 * float(single.std()) / math.sqrt(SETS), why="4 standard errors",
    )  # fmt: skip


def test_mmd_by_hand():
    z, y = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[2.0], [4.0]]])
    similar = lambda r: 1 / (1 + r**2 / 2)  # noqa: E731 - C = 2 d s = 2
    expected = similar(1) + similar(2) - 2 * np.mean([similar(2), similar(4), similar(1), similar(3)])
    assert float(regularizers.MMD(scales=(1.0,)).between(z, y)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("distance", "spread"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.4)])
def test_mmd_of_codes_and_a_normal_itself(distance, spread, ledger):
    """Against the closed form for two normals; under a prior of other units, whose own codes are standard."""
    loc, scale = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64), 3.0
    penalty, prior = regularizers.NormalMMD(scale=0.2, unit=CODES), normal(loc, scale)
    sets = loc + scale * codes(distance, spread)
    single = torch.stack([penalty(drawn(z[None], prior=prior)).value for z in sets])
    assert penalty(drawn(sets, prior=prior)).value == pytest.approx(float(single.mean()), rel=1e-12)
    c, pairs = 2 * LATENT * 0.2, 2 / (CODES * (CODES - 1))
    within = gaussian_mean(0, 2, c, LATENT)
    seen = integrate.quad(  # E (E k(y, y') given y)^2 by the radius of y, chi with 3 degrees of freedom
        lambda r: gaussian_mean(r, 1, c, LATENT) ** 2 * math.sqrt(2 / math.pi) * r**2 * math.exp(-(r**2) / 2), 0, np.inf
    )[0]
    deviation = math.sqrt(pairs * (gaussian_mean(0, 2, c / 2, LATENT) - 2 * seen + within**2))
    ledger(
        "NormalMMD", f"N({distance:g}, {spread:g}^2) and N(0, 1) in {LATENT} dimensions, by its spread at equality",
        oracle="closed form", truth=truth("gaussian", (0.2,), distance, spread) / deviation, measured=single.mean(),
        tolerance=4 * float(single.std()) / math.sqrt(SETS), why="4 standard errors",
    )  # fmt: skip
    if (distance, spread) == (0.0, 1.0):
        square = single.square()
        ledger(
            "NormalMMD", f"its variance where q(z) is p(z), {CODES} codes", oracle="1 by construction",
            truth=1, measured=square.mean(), tolerance=4 * float(square.std()) / math.sqrt(SETS),
            why="4 standard errors",
        )  # fmt: skip
        y = torch.randn(SETS, CODES, LATENT, generator=noise(4), dtype=torch.float64)
        by_draws = regularizers.MMD(kernel="gaussian", scales=(0.2,)).between(codes(0, 1), y) / deviation
        assert single.var() < by_draws.var() / 2  # what it is for: the prior's draws make half of the noise and more


def test_the_mean_of_the_mmd_and_a_normal_does_not_depend_on_the_batch():
    """Else a held-out batch of another size would have another objective."""
    penalty, z = regularizers.NormalMMD(), codes(0.7, 0.4)
    whole = z.reshape(-1, 6 * CODES, LATENT)
    one, other = (torch.stack([penalty(drawn(some[None])).value for some in sets]) for sets in (z, whole))
    error = math.sqrt(float(one.var()) / len(one) + float(other.var()) / len(other))
    assert float(one.mean() - other.mean()) == pytest.approx(0, abs=4 * error)
    assert float(one.mean()) > 20 * error


def test_descending_the_mmd_brings_codes_to_the_prior():
    shift = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    eps = torch.randn(1, 500, 2, generator=noise(), dtype=torch.float64)
    for penalty in (regularizers.MMD(), regularizers.NormalMMD(), regularizers.SlicedWasserstein()):
        value = penalty(drawn(eps + shift), generator=noise(1)).value
        assert torch.autograd.grad(value, shift)[0] > 0.1


class Given(torch.distributions.Distribution):
    """A prior that gives these codes."""

    def __init__(self, codes):
        super().__init__(event_shape=codes.shape[-1:], validate_args=False)
        self.codes = codes

    def sample(self, sample_shape=(), generator=None):
        assert tuple(sample_shape) == self.codes.shape[:2]
        return self.codes


@pytest.mark.parametrize("latent", [1, 4])
def test_sliced_wasserstein_of_translated_copies(latent, ledger):
    y = torch.randn(2, 9, latent, generator=noise(), dtype=torch.float64)
    shift = torch.linspace(1, 2, latent, dtype=torch.float64)
    z = y[:, torch.randperm(9, generator=noise(1))] + shift
    projections = 4000
    penalty = regularizers.SlicedWasserstein(projections=projections)
    value = penalty(drawn(z, prior=Given(y)), generator=noise(2)).value
    length = float(shift.square().sum())
    spread = length * math.sqrt(3 / (latent * (latent + 2)) - 1 / latent**2)  # of (theta . t)^2 on the sphere
    ledger(
        "SlicedWasserstein", f"copies translated by t in {latent} dimensions", oracle="|t|^2 / d",
        truth=length / latent, measured=value, tolerance=4 * spread / math.sqrt(projections) + 1e-9,
        why="4 standard errors over directions",
    )  # fmt: skip


def test_sliced_wasserstein_of_two_normals(ledger):
    count, shift, spread = 4000, 0.8, 1.5
    z = spread * torch.randn(1, count, 1, generator=noise(), dtype=torch.float64) + shift
    found = torch.stack(
        [regularizers.SlicedWasserstein(projections=1)(drawn(z), generator=noise(seed)).value for seed in range(1, 30)]
    )
    exact = shift**2 + (spread - 1) ** 2
    # Both sample means and spreads enter with errors of order 1/sqrt(n): the squares of the two differences.
    error = 2 * shift * math.sqrt((1 + spread**2) / count) + 2 * (spread - 1) * math.sqrt((1 + spread**2) / 2 / count)
    ledger(
        "SlicedWasserstein", "N(0.8, 1.5^2) and N(0, 1) in one dimension", oracle="closed form of W2",
        truth=exact, measured=found.mean(), tolerance=4 * error, why="4 standard errors, first order",
    )  # fmt: skip


def test_the_weights_of_an_infovae_are_those_of_the_paper_and_never_negative(ledger):
    default = {"alpha": 0.5, "lam": 1e-3}  # of pythae 0.1.2, whose weight is this formula
    there = default["alpha"] + default["lam"] - 1
    for alpha, lam in ((0.0, 1000.0), (-1.0, 3.0), (1.0, 2.0)):
        objective = recipes.build("info-vae", (5,), options={"alpha": alpha, "lam": lam})[1]
        assert objective.regularization == 1 - alpha
        ledger(
            "info-vae", f"weight of the MMD, alpha {alpha:g}, lambda {lam:g}", oracle="alpha + lambda - 1",
            truth=alpha + lam - 1, measured=objective.penalties[0].weight, tolerance=0, why="the weight itself",
            elsewhere=f"{there:.3f} by default, alpha 0.5 and lambda 0.001 (pythae 0.1.2)",
        )  # fmt: skip
    for alpha, lam in ((0.5, 1e-3), (0.0, 1.0), (1.5, 3.0)):  # the first: defaults in use elsewhere, weight -0.499
        with pytest.raises(UsageError, match="may not be below 0"):
            recipes.build("info-vae", (5,), options={"alpha": alpha, "lam": lam})
    for part in (regularizers.MMD, regularizers.NormalMMD, regularizers.SlicedWasserstein):
        with pytest.raises(UsageError, match="at least 0"):
            part(-0.499)


@pytest.mark.parametrize(("recipe", "weight"), [("wae-mmd", 10), ("wae-normal", 1), ("swae", 10)])
def test_matched_autoencoders_have_no_kl(recipe, weight):
    model, objective = recipes.build(recipe, (5,))
    assert (objective.reconstruction, objective.regularization) == (1, 0)
    assert type(model.posterior).__name__ == "PointMass"
    assert objective.penalties[0].weight == weight


def test_distances_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="no kernel 'cosine'"):
        regularizers.MMD(kernel="cosine")
    for scales in ((), (0.0,), (math.inf,)):
        with pytest.raises(UsageError, match="scales above 0"):
            regularizers.MMD(scales=scales)
    for wrong in ({"scale": 0.0}, {"scale": 1e8}, {"unit": 1}):
        with pytest.raises(UsageError, match=r"a scale of 0\.1 to 10 and a unit of 2"):
            regularizers.NormalMMD(**wrong)
    with pytest.raises(UsageError, match="needs a diagonal normal prior"):
        regularizers.NormalMMD()(drawn(torch.zeros(1, 5, 2), prior=Given(torch.zeros(1, 5, 2))))
    with pytest.raises(UsageError, match="at least 1 projection"):
        regularizers.SlicedWasserstein(projections=0)


def test_the_prior_is_a_constant_of_the_distance():
    loc = torch.zeros(2, requires_grad=True)
    z = torch.ones(1, 5, 2, requires_grad=True)
    for penalty in (regularizers.MMD(), regularizers.NormalMMD(), regularizers.SlicedWasserstein()):
        value = penalty(drawn(z, prior=normal(loc, 1.0)), generator=noise()).value
        gradients = torch.autograd.grad(value, (loc, z), allow_unused=True)
        assert gradients[0] is None
        assert (gradients[1] != 0).any()
