"""Control of the KL, held to numbers worked out by hand and to the rate-distortion function of a Gaussian source.

A linear VAE of x ~ N(0, diag(variances)) whose likelihood has a fixed scale s can do no better than Shannon: a KL of
`R = sum_j max(0, log(v_j / theta) / 2)` nats for a squared error of `D = sum_j min(v_j, theta)` (Cover & Thomas 2006,
theorem 10.3.3), and it can do as well, for the optimal channel is linear and its codes can be given the prior's law.
"""

import math

import pytest
import torch

from gapless import likelihoods, networks, objectives, posteriors, priors, recipes
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import ELBO, GECO
from gapless.parts import build, describe

VARIANCES = torch.tensor([4.0, 1.0, 0.25, 0.04])
SCALE, STEPS = 0.5, 1000


def rate(theta):
    """R(theta) in nats."""
    return float((0.5 * (VARIANCES / theta).log()).clamp_min(0).sum())


def reconstruction(theta):
    """-E log p(x|z) in nats at the squared error D(theta)."""
    squares = float(VARIANCES.clamp_max(theta).sum())
    return squares / (2 * SCALE**2) + len(VARIANCES) * (math.log(SCALE) + 0.5 * math.log(2 * math.pi))


def source(count=512):
    """Items whose second moments are exactly the variances, so that what is learned is known exactly."""
    noise = torch.randn(count, len(VARIANCES), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    noise = noise - noise.mean(0)
    white = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / count)).T
    return (white * VARIANCES.sqrt()).float()


def linear_vae(latent=3):
    torch.manual_seed(3)
    data = len(VARIANCES)
    return Model(
        encoder=networks.MLP((data,), (2 * latent,), hidden=()),
        posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent),
        decoder=networks.MLP((latent,), (data,), hidden=()),
        likelihood=likelihoods.Normal(SCALE),
    )


def trained(objective, *, steps=STEPS):
    """Means of the two terms over the last fifth of a training run, and their standard errors."""
    model, x, seen = linear_vae(), source(), []
    objective.plan(steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-4
        terms = objective(model, x, step=step, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        if step >= 0.8 * steps:
            seen.append(torch.stack([terms.reconstruction.detach().mean(), terms.regularization.detach().mean()]))
    return torch.stack(seen).mean(0).tolist()


# GECO


def test_geco_meets_its_target_with_the_least_rate_and_the_slope_as_multiplier(ledger):
    theta = 0.1
    objective = GECO(reconstruction(theta), rate=0.02, memory=0.9)
    measured, kl = trained(objective)
    oracle = "rate-distortion function of a Gaussian source"
    ledger("GECO", "reconstruction, nats", oracle="the target", truth=reconstruction(theta), measured=measured,
           tolerance=0.05, why="nats left after 1,000 steps")  # fmt: skip
    ledger("GECO", "KL at the target, nats", oracle=oracle, truth=rate(theta), measured=kl,
           tolerance=0.15, why="nats left after 1,000 steps of Adam; no less is possible")  # fmt: skip
    # dR/dD = -1 / (2 theta) and a nat of reconstruction is 2 s^2 of D.
    ledger("GECO", "multiplier", oracle="slope of that function, s^2 / theta", truth=SCALE**2 / theta,
           measured=objective.multiplier, tolerance=0.1 * SCALE**2 / theta,
           why="10 %, it follows a running mean")  # fmt: skip
    assert objective.effective_beta == pytest.approx(theta / SCALE**2, rel=0.12)


def test_geco_at_a_stated_kl_has_the_least_distortion_and_the_slope_as_multiplier(ledger):
    theta = 0.1
    objective = GECO(kl=rate(theta), rate=0.02, memory=0.9)
    measured, kl = trained(objective)
    oracle = "rate-distortion function of a Gaussian source"
    ledger("GECO, kl", "KL, nats", oracle="the stated one", truth=rate(theta), measured=kl, tolerance=0.05,
           why="nats left after 1,000 steps")  # fmt: skip
    ledger("GECO, kl", "reconstruction at that KL, nats", oracle=oracle, truth=reconstruction(theta), measured=measured,
           tolerance=0.15, why="nats left after 1,000 steps of Adam; no less is possible")  # fmt: skip
    ledger("GECO, kl", "multiplier", oracle="slope of that function, theta / s^2", truth=theta / SCALE**2,
           measured=objective.multiplier, tolerance=0.1 * theta / SCALE**2,
           why="10 %, it follows a running mean")  # fmt: skip
    assert objective.effective_beta == pytest.approx(float(objective.multiplier))


@pytest.mark.parametrize(
    "head", [likelihoods.Normal(SCALE), likelihoods.NormalWithOptimalScale()], ids=["fixed", "optimal"]
)
def test_gecos_own_target_is_that_of_half_the_variance(head, ledger):
    model, x, objective = linear_vae(), source(), GECO()
    model.likelihood = head
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective.start(model, x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rest, d = float(VARIANCES.sum()) / 2, len(VARIANCES)
    variance = SCALE**2 if isinstance(head, likelihoods.Normal) else rest / d
    ledger("GECO", f"its own target under {type(head).__name__}, nats", measured=objective.goal, tolerance=1e-4,
           truth=rest / (2 * variance) + d / 2 * math.log(2 * math.pi * variance), why="float32",
           oracle="normal density at half of the squared deviations, by hand")  # fmt: skip
    stated = GECO(float(objective.goal))
    assert torch.equal(objective(model.eval(), x, generator=torch.Generator().manual_seed(0)).loss,
                       stated(model, x, generator=torch.Generator().manual_seed(0)).loss)  # fmt: skip
    again = GECO()
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again.goal, objective.goal)
    assert "goal" not in stated.state_dict()


def test_gecos_own_target_can_be_met_by_any_likelihood_of_quantities():
    x = torch.rand(200, 1, 6, 6).round()
    for head in (
        likelihoods.Bernoulli(),
        likelihoods.Poisson(),
        likelihoods.Laplace(),
        likelihoods.Masked(likelihoods.Bernoulli()),
    ):
        model, objective = recipes.build("geco", (1, 6, 6), latent=4, hidden=(8,))
        model.likelihood = head
        model.center(x.mean(0))
        objective.start(model, torch.where(torch.rand_like(x) < 0.1, torch.nan, x) if head.missing else x)
        alone = -head.calibrate(head(model.offset.expand(200, *model.offset.shape)), x).log_prob(x).mean()
        assert 0 < float(objective.goal) < float(alone)
    model.likelihood = likelihoods.Mixed([likelihoods.Normal(), likelihoods.Categorical(3)])
    with pytest.raises(UsageError, match=r"no variance(.|\n)*--target"):
        GECO().start(model, torch.rand(5, 2))
    with pytest.raises(UsageError, match="cannot both be held"):
        GECO(3.0, kl=2.0)


def test_gecos_loss_and_multiplier_by_hand():
    model, x, objective = linear_vae(), source()[:16], GECO(3.0, rate=0.001, memory=0.5)
    multiplier, excess, weight = 1.0, 0.0, 0.0
    for step in range(4):
        terms = objective(model, x, generator=torch.Generator().manual_seed(step))
        over = terms.reconstruction.mean().item() - 3.0
        assert terms.loss.item() == pytest.approx(terms.regularization.mean().item() + multiplier * over, rel=1e-5)
        assert float(terms.extras["multiplier"]) == pytest.approx(multiplier, rel=1e-5)
        excess, weight = 0.5 * excess + 0.5 * over, 0.5 * weight + 0.5
        multiplier *= math.exp(max(-math.log(1.01), min(math.log(1.01), 0.001 * excess / weight)))
    assert float(objective.multiplier) == pytest.approx(multiplier, rel=1e-5)
    assert objective.multiplier != 1


@pytest.mark.parametrize(("target", "grows"), [(-1e3, True), (1e3, False)])
def test_gecos_multiplier_grows_while_the_target_is_missed_within_bounds(target, grows):
    model, x, objective = linear_vae(), source()[:16], GECO(target, rate=1.0)
    for _ in range(700):
        objective(model, x)
    assert float(objective.multiplier) == pytest.approx(1e3 if grows else 1e-3, rel=1e-4)
    first = GECO(target, rate=1.0)
    first(model, x)
    assert float(first.multiplier) == pytest.approx(1.01 if grows else 1 / 1.01, rel=1e-5)


def test_evaluation_leaves_gecos_multiplier_alone_and_its_state_resumes_to_the_same_bits():
    model, x, objective = linear_vae(), source()[:16], GECO(3.0)
    assert not objective.comparable
    assert ELBO().comparable
    objective.eval()(model, x)
    assert float(objective.multiplier) == 1
    objective.train()
    for step in range(3):
        objective(model, x, generator=torch.Generator().manual_seed(step))
    again = build(describe(objective), objectives)
    again.load_state_dict(objective.state_dict())
    for step in range(3, 6):
        for one in (objective, again):
            one(model, x, generator=torch.Generator().manual_seed(step))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in objective.state_dict().items())


def test_the_gradient_does_not_pass_through_the_multiplier():
    model, x = linear_vae(), source()[:16]
    objective = GECO(3.0)
    objective.multiplier.fill_(2.5)
    terms = objective(model, x, generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad(
        ELBO(2.5, 1.0)(model, x, generator=torch.Generator().manual_seed(0)).loss, list(model.parameters())
    )
    ours = torch.autograd.grad(terms.loss, list(model.parameters()))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("arguments", [{"target": math.nan}, {"target": 1, "rate": 0}, {"target": 1, "memory": 1.0}])
def test_impossible_gecos_are_refused(arguments):
    with pytest.raises(UsageError, match="GECO needs"):
        GECO(**arguments)


# Capacity


def test_a_capacity_is_filled_and_spent_as_well_as_can_be(ledger):
    theta = 0.1
    measured, kl = trained(ELBO(regularization=2.0, capacity=rate(theta), schedule="linear", warmup=0.3))
    ledger("ELBO", "KL under a capacity, nats", oracle="the capacity", truth=rate(theta), measured=kl,
           tolerance=0.05, why="nats; the weight 2 of the distance is 5 times the slope")  # fmt: skip
    ledger("ELBO", "reconstruction under a capacity, nats", oracle="rate-distortion function of a Gaussian source",
           truth=reconstruction(theta), measured=measured, tolerance=0.1,
           why="nats left after 1,000 steps of Adam")  # fmt: skip


@pytest.mark.parametrize(("above", "sign"), [(0.5, 1), (-0.5, -1)])
def test_the_gradient_of_a_capacity_has_the_side_of_the_kl(above, sign, small_model):
    x = torch.rand(6, *small_model.event_shape)
    kl = ELBO()(small_model, x).regularization.mean()
    parameters = list(small_model.encoder.parameters())
    plain = torch.autograd.grad(kl, parameters)
    objective = ELBO(0.0, 3.0, capacity=float(kl.detach()) * (1 - above))
    terms = objective(small_model, x)
    assert terms.loss.item() == pytest.approx(3 * abs(above) * kl.item(), rel=1e-4)
    for ours, theirs in zip(torch.autograd.grad(terms.loss, parameters), plain, strict=True):
        assert torch.allclose(ours, 3 * sign * theirs, atol=1e-5)


# Free bits


class Fixed(networks.Network):
    """An encoder that puts out its input: the posterior of every item is chosen by the test."""

    def __init__(self, outputs):
        super().__init__()
        self.inputs, self.outputs = (outputs,), (outputs,)

    def forward(self, x):
        return x


def chosen():
    """Two items, two latent features: KLs (2, 0.02) and (0.5, 0.02), for scale 1 and KL = loc^2 / 2."""
    model = Model(
        encoder=Fixed(4), posterior=posteriors.DiagonalNormal(), prior=priors.StandardNormal(2),
        decoder=networks.MLP((2,), (4,), hidden=()), likelihood=likelihoods.Normal(),
    )  # fmt: skip
    return model, torch.tensor([[2.0, 0.2, 0.0, 0.0], [1.0, 0.2, 0.0, 0.0]])


@pytest.mark.parametrize("free", [0.0, 0.1, 1.0, 2.0])
def test_free_bits_by_hand(free, ledger):
    model, x = chosen()
    normals = [torch.distributions.Normal(loc.double(), 1.0) for loc in (x[:, :2], torch.zeros(2, 2))]
    per_feature = torch.distributions.kl_divergence(*normals).mean(0)  # of the batch: 1.25 and 0.02
    terms = ELBO(0.0, 1.0, free_bits=free)(model, x)
    ledger(
        "ELBO", f"KL charged with {free:g} free nats a latent feature, of 1.25 and 0.02", measured=terms.loss,
        oracle="Kingma et al. (2016), eq. 15, by torch.distributions", truth=per_feature.clamp_min(free).sum(),
        tolerance=1e-6, why="float32",
    )  # fmt: skip
    assert terms.regularization.tolist() == pytest.approx([2.02, 0.52], rel=1e-6)
    weighted = ELBO(0.0, 3.0, free_bits=free)(model, x)
    assert float(weighted.loss) == pytest.approx(3 * float(terms.loss), rel=1e-6)


def test_a_feature_below_its_free_bits_has_no_gradient_and_one_above_has_all_of_it():
    model, x = chosen()
    x.requires_grad_()
    gradient = torch.autograd.grad(ELBO(0.0, 1.0, free_bits=0.1)(model, x).loss, x)[0]
    assert torch.allclose(gradient[:, 0], torch.tensor([1.0, 0.5]))  # loc / batch
    assert torch.equal(gradient[:, [1, 3]], torch.zeros(2, 2))


def test_free_bits_need_a_kl_that_splits():
    model = linear_vae()
    model.posterior, model.encoder = posteriors.PointMass(), networks.MLP((4,), (3,), hidden=())
    with pytest.raises(UsageError, match="splits into latent features"):
        ELBO(free_bits=0.1)(model, source()[:4])


# Schedules


@pytest.mark.parametrize(
    ("arguments", "step", "share"),
    [
        ({"schedule": "linear", "warmup": 0.5}, 10, 0.2),
        ({"schedule": "cosine", "warmup": 0.5}, 25, 0.5),
        ({"schedule": "cyclic", "warmup": 0.5, "cycles": 4}, 30, 0.4),
        ({"schedule": "linear", "warmup": 0.5}, 100, 1.0),
        ({"schedule": "linear", "warmup": 0.5}, 0, 0.0),
    ],
)
def test_the_weight_of_a_step_is_a_share_of_the_last_one(arguments, step, share, small_model):
    x = torch.rand(6, *small_model.event_shape)

    def terms(objective):
        objective.plan(100)
        return objective(small_model, x, step=step, generator=torch.Generator().manual_seed(3))

    scheduled, plain = terms(ELBO(2.0, 3.0, **arguments)), terms(ELBO(2.0, 3.0))
    kl = plain.regularization.mean()
    assert float(scheduled.loss) == pytest.approx(float(2 * plain.reconstruction.mean() + 3 * share * kl), rel=1e-5)
    assert torch.equal(scheduled.regularization, plain.regularization)
    assert float(scheduled.extras["beta"]) == pytest.approx(1.5 * share)
    free = terms(ELBO(2.0, 3.0, free_bits=5.0, **arguments))
    assert float(free.loss) == pytest.approx(float(2 * plain.reconstruction.mean() + 3 * share * 15.0), rel=1e-5)
    capped = terms(ELBO(2.0, 3.0, capacity=7.0, **arguments))
    distance = (kl - 7.0 * share).abs()
    assert float(capped.loss) == pytest.approx(float(2 * plain.reconstruction.mean() + 3 * distance), rel=1e-5)
    assert float(capped.extras["capacity"]) == pytest.approx(7.0 * share)


def test_without_a_plan_the_weights_are_those_of_the_end_and_the_plan_is_no_state(small_model):
    x = torch.rand(6, *small_model.event_shape)
    scheduled = ELBO(schedule="linear")
    ends = [ELBO()(small_model, x, generator=torch.Generator().manual_seed(3)).loss]
    ends.append(scheduled(small_model, x, generator=torch.Generator().manual_seed(3)).loss)
    scheduled.plan(10)
    ends.append(scheduled(small_model, x, step=10, generator=torch.Generator().manual_seed(3)).loss)
    assert ends[0] == ends[1] == ends[2]
    assert not scheduled.state_dict()
    assert "steps" not in describe(scheduled)
    assert scheduled.effective_beta == 1


def test_a_scheduled_kl_alone_can_be_trained_from_its_first_step(small_model):
    objective = ELBO(0.0, 1.0, schedule="linear")
    objective.plan(10)
    objective(small_model, torch.rand(4, *small_model.event_shape), step=0).loss.backward()


@pytest.mark.parametrize(
    "arguments",
    [{"capacity": -1.0}, {"free_bits": math.nan}, {"schedule": "step"}, {"capacity": 1.0, "free_bits": 1.0},
     {"warmup": 2.0}, {"cycles": 0}],
)  # fmt: skip
def test_impossible_controls_are_refused(arguments):
    with pytest.raises(UsageError):
        ELBO(**arguments)
