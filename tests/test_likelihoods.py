import math

import pytest
import torch
from scipy import integrate

from gapless import likelihoods
from gapless.errors import UsageError


@pytest.mark.parametrize(
    "head",
    [likelihoods.Normal(0.2), likelihoods.NormalWithLearnedScale(), likelihoods.NormalWithOptimalScale()],
    ids=lambda h: type(h).__name__,
)
def test_densities_integrate_to_one(head, ledger):
    p = head.double().eval()(torch.tensor([[[0.4]]], dtype=torch.float64))
    total, _ = integrate.quad(
        lambda x: p.log_prob(torch.tensor([[x]], dtype=torch.float64)).exp().item(), -14, 14, points=[0.4]
    )
    ledger(
        type(head).__name__, "integral of the density", oracle="scipy.integrate.quad", truth=1, measured=total,
        tolerance=1e-8, why="quadrature",
    )  # fmt: skip


def test_bernoulli_probabilities_sum_to_one():
    p = likelihoods.Bernoulli()(torch.tensor([[[0.3, -1.0]]], dtype=torch.float64))
    bits = [torch.tensor([[a, b]]).double() for a in (0, 1) for b in (0, 1)]
    assert sum(p.log_prob(x).exp().item() for x in bits) == pytest.approx(1, abs=1e-12)


def test_a_fixed_scale_must_be_positive():
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="scale above 0"):
            likelihoods.Normal(scale)


def test_a_learned_scale_is_learned_to_the_spread_of_the_errors():
    head = likelihoods.NormalWithLearnedScale((2,))
    x = torch.randn(4000, 2) * torch.tensor([0.5, 3.0])
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (-head(torch.zeros(4000, 1, 2)).log_prob(x).mean()).backward()
        optimizer.step()
    assert torch.allclose(head(torch.zeros(1, 1, 2)).stddev[0], x.square().mean(0).sqrt(), rtol=1e-2)


def test_the_optimal_scale_is_the_root_mean_square_error_of_the_batch():
    head = likelihoods.NormalWithOptimalScale().train()
    loc, x = torch.randn(50, 1, 6), torch.randn(50, 6) * 2
    p = head.calibrate(head(loc), x)
    rmse = (x - loc[:, 0]).square().mean().sqrt()
    assert torch.allclose(p.stddev.max(), rmse)
    # The loss is D/2 (log 2 pi MSE + 1), Rybkin et al. (2021), eq. 5, plus constants.
    assert torch.allclose(-p.log_prob(x).mean(), 3 * (torch.log(2 * math.pi * rmse**2) + 1), rtol=1e-5)
    # It is a minimum over the scale.
    for factor in (0.95, 1.05):
        other = likelihoods.Normal(float(rmse) * factor)(loc)
        assert other.log_prob(x).mean() < p.log_prob(x).mean()


def test_the_gradient_under_the_optimal_scale_is_that_of_the_logarithm_of_the_error(ledger):
    head = likelihoods.NormalWithOptimalScale().train()
    loc = torch.randn(20, 1, 6, dtype=torch.float64).requires_grad_()
    x = torch.randn(20, 6, dtype=torch.float64)
    ours = torch.autograd.grad(-head.double().calibrate(head(loc), x).log_prob(x).mean(), loc)[0]
    theirs = torch.autograd.grad(3 * torch.log((x - loc[:, 0]).square().mean()), loc)[0]
    ledger(
        "NormalWithOptimalScale", "gradient, worst of 120", oracle="gradient of D/2 log MSE", truth=0,
        measured=(ours - theirs).abs().max(), tolerance=1e-12, why="float64",
    )  # fmt: skip


def test_evaluation_uses_the_running_scale_whatever_is_evaluated():
    head = likelihoods.NormalWithOptimalScale(memory=0.5).train()
    loc = torch.zeros(10, 1, 4)
    for spread in (2.0, 2.0, 2.0):
        head.calibrate(head(loc), torch.full((10, 4), spread))
    head.eval()
    for x in (torch.zeros(10, 4), torch.full((10, 4), 9.0)):
        p = head.calibrate(head(loc), x)
        assert torch.allclose(p.stddev, torch.full((10, 4), 2.0))


def test_a_perfect_fit_has_a_finite_density():
    head = likelihoods.NormalWithOptimalScale().train()
    p = head.calibrate(head(torch.zeros(3, 1, 4)), torch.zeros(3, 4))
    assert torch.isfinite(p.log_prob(torch.zeros(3, 4))).all()
    learned = likelihoods.NormalWithLearnedScale()
    torch.nn.init.constant_(learned.log_scale, -80.0)
    assert torch.isfinite(learned(torch.zeros(3, 1, 4)).log_prob(torch.zeros(3, 4))).all()


def test_the_bernoulli_offset_of_constant_pixels_is_finite():
    offset = likelihoods.Bernoulli().offset(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.isfinite(offset).all()
    assert offset[0, 1] == 0
