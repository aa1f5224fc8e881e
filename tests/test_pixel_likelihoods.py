"""Continuous Bernoullis, discretised logistics and structural similarity against SciPy and other people's code."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, signal, stats

from gapless import likelihoods
from gapless.distributions import (
    ContinuousBernoulli,
    DiscretisedLogistic,
    DiscretisedLogisticMixture,
    StructuralSimilarity,
    ms_ssim,
)
from gapless.errors import UsageError

LOGITS = [-400.0, -40.0, -3.0, -0.61, -0.59, -1e-3, 0.0, 1e-30, 1e-8, 0.5, 0.599, 0.601, 8.0, 90.0]


def continuous(logit, dtype=torch.float64):
    return ContinuousBernoulli(torch.tensor(logit, dtype=dtype), event_dims=0)


@pytest.mark.parametrize("logit", LOGITS)
def test_a_continuous_bernoulli_integrates_to_one_with_the_moments_of_quadrature(logit, ledger):
    q = continuous(logit)
    density = lambda x: q.log_prob(torch.tensor(x, dtype=torch.float64)).exp().item()  # noqa: E731
    ends = {"points": sorted({min(0.9, 5 / max(1, abs(logit))), 0.5, 1 - min(0.9, 5 / max(1, abs(logit)))})}
    total, mean, square = (integrate.quad(lambda x, n=n: x**n * density(x), 0, 1, **ends)[0] for n in (0, 1, 2))
    moments = {"integral": (1, total), "mean": (mean, q.mean), "variance": (square - mean**2, q.variance)}
    dropped = np.log(integrate.quad(lambda x: math.exp(logit * (x - max(0, np.sign(logit)))), 0, 1, **ends)[0])
    dropped += max(0.0, logit) - np.logaddexp(0, logit)  # of x log p + (1 - x) log(1 - p), the cross-entropy of greys
    for name, (truth, measured) in moments.items():
        ledger(
            "ContinuousBernoulli", f"{name}, logit {logit:g}", oracle="scipy.integrate.quad", truth=truth,
            measured=measured, tolerance=1e-8, why="quadrature",
            elsewhere=f"{math.exp(dropped):.4g}: the constant dropped" if name == "integral" else "",
        )  # fmt: skip


def test_a_continuous_bernoulli_equals_torch_where_torch_needs_no_series(ledger):
    logits = torch.tensor([-30.0, -5.0, -0.7, 0.3, 2.0, 12.0], dtype=torch.float64)
    q, theirs = ContinuousBernoulli(logits), torch.distributions.ContinuousBernoulli(logits=logits)
    x = torch.rand(9, 6, dtype=torch.float64)
    worst = (q.log_prob_per_feature(x) - theirs.log_prob(x)).abs().max()
    ledger(
        "ContinuousBernoulli", "log-density, worst of 54", oracle="torch.distributions", truth=0, measured=worst,
        tolerance=1e-6, why="torch takes probabilities from 32-bit clamps",
    )  # fmt: skip
    assert torch.allclose(q.mean, theirs.mean, atol=1e-6)
    assert torch.allclose(q.variance, theirs.variance, atol=1e-6)
    assert torch.allclose(q.entropy(), theirs.entropy().sum(), atol=1e-4)


def mean_of(logit):
    """Mean of a continuous Bernoulli: 1/2 + (coth h - 1/h) / 2, h = l / 2."""
    with mpmath.workdps(60):
        h = mpmath.mpf(logit) / 2
        return mpmath.mpf(1) / 2 + (mpmath.coth(h) - 1 / h) / 2 if abs(h) > 1e-25 else mpmath.mpf(1) / 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_gradients_of_a_continuous_bernoulli_are_x_less_the_mean_everywhere(dtype, tolerance, ledger):
    logits = torch.tensor([*LOGITS, *(0.6 + np.linspace(-1e-3, 1e-3, 20))], dtype=dtype).requires_grad_()
    q = ContinuousBernoulli(logits, event_dims=0)
    gradient = torch.autograd.grad(q.log_prob(torch.full_like(logits, 0.3).detach()).sum(), logits)[0]
    truth = torch.tensor([float(mpmath.mpf(0.3) - mean_of(logit)) for logit in logits.tolist()], dtype=torch.float64)
    worst = (gradient.double() - truth).abs().max()
    bits = torch.finfo(dtype).bits
    ledger(
        "ContinuousBernoulli", f"gradient by the logit, {bits} bits, worst of {len(logits)}",
        oracle="x - mean, in 60 digits", truth=0, measured=worst, tolerance=tolerance, why="rounding",
    )  # fmt: skip
    curvature = torch.autograd.grad(q.mean.sum(), logits)[0]
    assert torch.allclose(curvature, q.variance, atol=1e-5)  # d mean / d logit is the variance of an exponential family


@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 1e-6, 1.0, 300.0])
def test_draws_of_a_continuous_bernoulli_follow_its_distribution_function(logit):
    draws = continuous(logit).sample((20_000,), generator=torch.Generator().manual_seed(5)).numpy()

    if abs(logit) < 1e-3:  # uniform to 1e-7
        function = lambda x: x  # noqa: E731
    elif logit < 0:
        function = lambda x: np.expm1(logit * x) / np.expm1(logit)  # noqa: E731
    else:  # the same without overflow
        function = lambda x: (np.exp(logit * (x - 1)) - np.exp(-logit)) / -np.expm1(-logit)  # noqa: E731
    assert draws.min() >= 0
    assert draws.max() <= 1
    # Under the truth p-values are uniform: less than 1e-4 once in 10,000 seeds.
    assert stats.kstest(draws, function).pvalue > 1e-4


def test_the_start_of_a_continuous_bernoulli_is_the_mean_and_never_extreme():
    head = likelihoods.ContinuousBernoulli()
    mean = torch.tensor([0.0, 0.02, 0.3, 0.5, 0.9, 1.0])
    started = head(head.offset(mean)[None])
    assert torch.allclose(started.mean[0], mean.clamp(0.02, 0.98), atol=1e-5)
    assert started.logits.abs().max() < 60


def scipys(loc, scale, levels):
    """Probabilities of the levels by SciPy's logistic, the tails folded."""
    edges = (np.arange(levels - 1) + 0.5) / (levels - 1)
    cumulated = np.concatenate([[0.0], stats.logistic(loc, scale).cdf(edges), [1.0]])
    return np.diff(cumulated)


CENTRES = [(0.501, 0.1), (0.03, 0.02), (-0.4, 0.3), (1.6, 0.5), (0.52, 0.001), (0.501, 40.0)]


@pytest.mark.parametrize("levels", [2, 9, 256])
@pytest.mark.parametrize(("loc", "scale"), CENTRES)
def test_a_discretised_logistic_sums_to_one_and_equals_scipy(loc, scale, levels, ledger):
    q = DiscretisedLogistic(*torch.tensor([[loc], [scale]], dtype=torch.float64), levels=levels)
    x = torch.arange(levels).double() / (levels - 1)
    mass = q.log_prob(x[:, None]).exp()
    for quantity, truth, measured in (
        ("sum over the levels", 1, mass.sum()),
        ("probability, worst level", 0, (mass - torch.from_numpy(scipys(loc, scale, levels))).abs().max()),
    ):
        ledger(
            "DiscretisedLogistic", f"{quantity}: {levels} levels, loc {loc:g}, scale {scale:g}",
            oracle="enumeration, SciPy's logistic", truth=truth, measured=measured, tolerance=1e-12, why="float64",
        )  # fmt: skip
    mean, half = (mass * x).sum(), 0.5 / (levels - 1)
    assert abs(q.mean.item() - mean) <= half
    assert (
        scale < 2 * half
        or abs(q.mean.item() - mean) <= 2 * half * math.exp(-(math.pi**2) * scale / half) + half**2 / scale
    )
    assert torch.allclose(q.variance, (mass * x.square()).sum() - mean**2, atol=1e-10)
    assert q.mode.item() == pytest.approx(x[mass.argmax()].item())


def test_far_away_levels_have_finite_probabilities_and_gradients():
    loc = torch.tensor([[-30.0, 30.0, 0.5]]).requires_grad_()
    q = DiscretisedLogistic(loc, torch.tensor(0.001))
    for x in (0.0, 0.2, 1.0):
        score = q.log_prob(torch.full((1, 3), x))
        assert torch.isfinite(score).all()
        assert torch.isfinite(torch.autograd.grad(score.sum(), loc)[0]).all()


def test_values_between_levels_count_as_the_nearest():
    q = DiscretisedLogistic(torch.tensor([[0.3]]), torch.tensor(0.2), levels=5)
    for near, level in ((0.3, 0.25), (0.12, 0.0), (0.99, 1.0), (0.74, 0.75)):
        assert torch.equal(q.log_prob(torch.tensor([[near]])), q.log_prob(torch.tensor([[level]])))
    draws = q.sample((500,), generator=torch.Generator().manual_seed(0))
    assert set(draws.flatten().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_a_mixture_of_discretised_logistics_is_the_weighted_sum(ledger):
    logits, loc, scale = torch.randn(3, 2, 4, 3, dtype=torch.float64)
    loc, scale = loc.sigmoid(), (scale - 2).exp()
    q = DiscretisedLogisticMixture(logits, loc, scale, levels=16)
    x = torch.arange(16).double()[:, None, None] / 15
    mass = q.log_prob_per_feature(x.expand(16, 2, 3)).exp()
    weights = logits.softmax(1).numpy()
    truth = np.zeros((16, 2, 3))
    for b, k, f in np.ndindex(2, 4, 3):
        truth[:, b, f] += weights[b, k, f] * scipys(loc[b, k, f].item(), scale[b, k, f].item(), 16)
    ledger(
        "DiscretisedLogisticMixture", "probability, worst of 96", oracle="SciPy's logistic, weighted", truth=0,
        measured=np.abs(mass.numpy() - truth).max(), tolerance=1e-12, why="float64",
    )  # fmt: skip
    ledger(
        "DiscretisedLogisticMixture", "sum over the levels, worst of 6", oracle="enumeration", truth=0,
        measured=(mass.sum(0) - 1).abs().max(), tolerance=1e-12, why="float64",
    )  # fmt: skip
    assert torch.allclose(q.variance, (mass * x**2).sum(0) - (mass * x).sum(0) ** 2)
    assert ((q.mean - (mass * x).sum(0)).abs() <= 0.5 / 15).all()


def test_a_mixture_of_one_component_is_a_discretised_logistic():
    loc, scale, x = torch.rand(5, 3), torch.rand(5, 3) + 0.01, torch.rand(5, 3)
    one = DiscretisedLogisticMixture(torch.randn(5, 1, 3), loc[:, None], scale[:, None]).log_prob(x)
    assert torch.allclose(one, DiscretisedLogistic(loc, scale).log_prob(x), atol=1e-5)


# Structural similarity.


def pictures(height, width, channels):
    i = torch.arange(channels * height * width, dtype=torch.float64)
    x = 0.5 + 0.4 * torch.sin(0.05 * i) * torch.cos(0.3 * i.sqrt())
    y = (0.9 * x + 0.05 + 0.08 * torch.sin(1.7 * i)).clamp(0, 1)
    return x.reshape(1, channels, height, width), y.reshape(1, channels, height, width)


PYTORCH_MSSSIM = {(192, 208, 1): 0.9830283759275193, (176, 176, 3): 0.9839333005563241}
"""What pytorch-msssim 1.0.0 gives for these pictures; its window is made in 32 bits."""


@pytest.mark.parametrize("size", PYTORCH_MSSSIM)
def test_ms_ssim_equals_pytorch_msssim(size, ledger):
    ledger(
        "ms_ssim", f"five scales, {size[2]} channels", oracle="pytorch-msssim 1.0.0", truth=PYTORCH_MSSSIM[size],
        measured=ms_ssim(*pictures(*size)), tolerance=1e-6, why="its window is in 32 bits",
    )  # fmt: skip


def scipys_ms_ssim(x, y, scales, size):
    """One channel, from Wang's definitions, with a window of two axes and SciPy's correlation."""
    places = np.arange(size) - size // 2
    window = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:scales]
    result = 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        if scale:
            x, y = (v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2] for v in (x, y))
            x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))
        blurred = lambda v: signal.correlate2d(v, window, mode="valid")  # noqa: E731
        a, b = blurred(x), blurred(y)
        spread = blurred(x * x) - a * a + blurred(y * y) - b * b
        alike = (2 * (blurred(x * y) - a * b) + 0.03**2) / (spread + 0.03**2)
        if scale == scales - 1:
            alike = alike * (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
        result *= alike.mean() ** weight
    return result


@pytest.mark.parametrize(
    ("size", "scales", "window"), [((90, 100), 4, 11), ((64, 50), 3, 11), ((28, 28), 2, 11), ((11, 40), 1, 11),
                                   ((8, 8), 1, 7), ((3, 9), 1, 3)],
)  # fmt: skip
def test_the_scales_of_ms_ssim_fit_the_picture(size, scales, window, ledger):
    x, y = pictures(*size, 1)
    truth = scipys_ms_ssim(x[0, 0].numpy(), y[0, 0].numpy(), scales, window)
    ledger(
        "ms_ssim", f"{size[0]} x {size[1]} pixels: {scales} scales, window {window}",
        oracle="written anew with SciPy's correlate2d", truth=truth, measured=ms_ssim(x, y), tolerance=1e-12,
        why="float64",
    )  # fmt: skip


def test_ms_ssim_is_one_for_equal_pictures_symmetric_and_the_mean_over_channels():
    x, y = pictures(40, 33, 3)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-12)
    assert ms_ssim(x, y).item() == pytest.approx(ms_ssim(y, x).item(), abs=1e-12)
    each = [ms_ssim(x[:, c : c + 1], y[:, c : c + 1]) for c in range(3)]
    assert ms_ssim(x, y).item() == pytest.approx(torch.stack(each).mean().item(), abs=1e-12)


def test_pictures_in_opposition_have_a_finite_gradient():
    x = torch.rand(2, 1, 28, 28)
    logits = torch.logit((1 - x).clamp(1e-3, 1 - 1e-3)).requires_grad_()
    score = likelihoods.MSSSIM()(logits[:, None]).log_prob(x)
    assert ((score > -100) & (score < -90)).all()
    assert torch.isfinite(torch.autograd.grad(score.sum(), logits)[0]).all()


def test_the_pseudo_likelihood_is_a_weight_times_scipys_similarity(ledger):
    x, y = pictures(28, 28, 1)
    truth = -30 * (1 - scipys_ms_ssim(x[0, 0].numpy(), y[0, 0].numpy(), 2, 11))
    for part, q in (
        ("StructuralSimilarity", StructuralSimilarity(y, weight=30.0)),
        ("MSSSIM", likelihoods.MSSSIM(30.0)(torch.logit(y)[:, None])),
    ):
        ledger(
            part, "log p of a picture of 28 x 28 pixels, weight 30", oracle="-30 (1 - MS-SSIM), SciPy's correlate2d",
            truth=truth, measured=q.log_prob(x), tolerance=1e-10, why="float64",
        )  # fmt: skip


def test_a_structural_similarity_is_said_to_be_no_density():
    q = StructuralSimilarity(torch.rand(4, 1, 16, 16), weight=7.0)
    x = torch.rand(4, 1, 16, 16)
    assert torch.allclose(q.log_prob(x), -7 * (1 - ms_ssim(x, q.picture)))
    assert q.log_prob(x.expand(3, 4, 1, 16, 16)).shape == (3, 4)
    with pytest.raises(UsageError, match="no log-density per feature"):
        q.log_prob_per_feature(x)
    assert not likelihoods.MSSSIM.density
    assert all(getattr(likelihoods, name).density for name in ("Bernoulli", "Normal", "Poisson"))


def test_training_on_structural_similarity_brings_pictures_closer():
    x, head = pictures(28, 28, 1)[0].float(), likelihoods.MSSSIM()
    logits = head.offset(x[0].mean().expand(1, 28, 28))[None].clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    before = head(logits).log_prob(x).item()
    for _ in range(60):
        optimizer.zero_grad()
        (-head(logits).log_prob(x).sum()).backward()
        optimizer.step()
    assert head(logits).log_prob(x).item() > 0.1 * before
