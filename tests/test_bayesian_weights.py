"""Weights with a distribution: against Bayesian linear regression, whose posterior, evidence and mean-field optimum are
known, and whose gradients' covariances are."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gapless import networks, objectives, recipes, study
from gapless.errors import UsageError
from gapless.networks.bayesian import ESTIMATORS, BayesianLinear, bayesian_layers, weight_divergence, weights_drawn
from gapless.objectives import ELBO, Bayesian
from gapless.settings import Settings
from gapless.training.execution import arranged
from gapless.uncertainty import anomaly_score, decoded

NOISE, PRIOR, ITEMS = 0.5, 1.3, 40


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


class Regression:
    """y = [x, 1] w + noise with w ~ N(0, PRIOR^2): everything about it is known."""

    def __init__(self):
        inputs = torch.randn(ITEMS, 2, generator=noise(1), dtype=torch.float64) + torch.tensor([0.5, -0.3])
        self.x = inputs
        self.design = torch.cat([inputs, torch.ones(ITEMS, 1, dtype=torch.float64)], 1)
        truth = torch.tensor([0.8, -1.1, 0.4], dtype=torch.float64)
        self.y = self.design @ truth + NOISE * torch.randn(ITEMS, generator=noise(2), dtype=torch.float64)
        self.precision = self.design.T @ self.design / NOISE**2 + torch.eye(3, dtype=torch.float64) / PRIOR**2
        self.mean = torch.linalg.solve(self.precision, self.design.T @ self.y / NOISE**2)

    def log_evidence(self) -> float:
        covariance = PRIOR**2 * self.design @ self.design.T + NOISE**2 * torch.eye(ITEMS, dtype=torch.float64)
        return float(stats.multivariate_normal(np.zeros(ITEMS), covariance.numpy()).logpdf(self.y.numpy()))

    def mean_field_gap(self) -> float:
        """KL of the best diagonal normal, N(mean, 1 / diag(precision)), from the posterior."""
        return float(0.5 * (self.precision.diagonal().log().sum() - torch.logdet(self.precision)))

    def layer(self, drawn: str) -> BayesianLinear:
        """The mean-field optimum."""
        layer = BayesianLinear(2, 1, drawn=drawn, prior_scale=PRIOR).double()
        with torch.no_grad():
            layer.loc.copy_(self.mean[None])
            layer.log_scale.copy_(-0.5 * self.precision.diagonal().log()[None])
        return layer

    def negative_bound(self, layer, rows=slice(None), *, seed=0):
        """Nats an item, estimated from some rows with the weights drawn once."""
        with weights_drawn(layer, noise(seed)):
            mean = layer(self.x[rows])[:, 0]
        log_p = torch.distributions.Normal(mean, NOISE).log_prob(self.y[rows])
        return -log_p.mean() + layer.divergence() / ITEMS


EXACT = Regression()


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_the_bound_of_the_mean_field_optimum_is_the_evidence_less_its_known_gap(drawn, ledger):
    layer, rounds = EXACT.layer(drawn), 3000
    values = torch.stack([-ITEMS * EXACT.negative_bound(layer, seed=s).detach() for s in range(rounds)])
    ledger(
        "BayesianMLP", f"bound on the evidence, weights drawn {drawn}",
        oracle="Bayesian linear regression: log evidence - KL of the mean-field optimum, closed form",
        truth=EXACT.log_evidence() - EXACT.mean_field_gap(), measured=values.mean(),
        tolerance=4 * values.std() / math.sqrt(rounds), why="4 standard errors",
    )  # fmt: skip


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_at_the_mean_field_optimum_the_gradient_is_zero_on_average(drawn):
    layer, rounds = EXACT.layer(drawn), 2000
    found = torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(EXACT.negative_bound(layer, seed=s), layer.parameters())]
            )
            for s in range(rounds)
        ]
    )
    errors = found.mean(0) / (found.std(0) / math.sqrt(rounds))
    assert errors.abs().max() < 4.5  # of 6


def test_mini_batches_sum_to_the_whole_bound():
    """Each item bears 1 / items of the weights' KL, whatever the size of a batch."""
    layer = EXACT.layer("local")
    with torch.no_grad():
        layer.log_scale.fill_(-30.0)  # no noise: the parts can be compared exactly
    layer.log_scale.requires_grad_(False)
    whole = EXACT.negative_bound(layer)
    for size in (1, 5, 8, 40):
        parts = [EXACT.negative_bound(layer, slice(i, i + size)) for i in range(0, ITEMS, size)]
        assert torch.allclose(torch.stack(parts).mean(), whole, atol=1e-9)


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_the_objective_on_mini_batches_sums_to_that_on_all_items(drawn, ledger):
    """`Bayesian` itself: each item bears 1 / items of the weights' KL, however the items are cut into batches."""
    model, objective = recipes.build(
        "bayesian-vae", (6,), latent=2, hidden=(5,), likelihood="Normal", options={"drawn": drawn}
    )
    model, x = model.double(), torch.randn(ITEMS, 6, generator=noise(3), dtype=torch.float64)
    objective.plan(1, ITEMS)
    kl = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Normal(layer.loc, layer.log_scale.exp()),
            torch.distributions.Normal(torch.zeros(()).double(), torch.tensor(layer.prior_scale).double()),
        ).sum()
        for layer in bayesian_layers(model)
    )  # fmt: skip
    for size in (1, 7, ITEMS):
        share = 0.0
        for seed, batch in enumerate(x.split(size)):
            terms = objective(model, batch, generator=noise(seed))
            share = share + len(batch) * (terms.loss - terms.reconstruction.mean() - terms.regularization.mean())
        wrong = len(x.split(size)) * kl
        ledger(
            "Bayesian", f"KL of weights drawn {drawn} that all batches of {size} bear together, {ITEMS} items",
            oracle="torch.distributions, once", truth=kl, measured=share, tolerance=1e-9 * float(kl), why="float64",
            elsewhere=f"{wrong:.4g}: the whole KL in every batch" if size < ITEMS else "",
        )  # fmt: skip


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_the_gradient_of_the_means_has_the_known_variance(drawn, ledger):
    """Of `1/(2 s^2 B) sum_i (y_i - f_i)^2`: plain draws share their weights over the rows, the others do not."""
    layer, rounds, batch = EXACT.layer(drawn), 6000, slice(0, 16)
    with torch.no_grad():
        layer.log_scale.fill_(math.log(0.3))
    rows, spread = EXACT.design[batch], layer.log_scale.exp().square().diag_embed()[0].detach()
    moments = rows.T @ rows
    shared = moments @ spread @ moments
    apart = (rows.T * (rows @ spread * rows).sum(1)) @ rows
    truth = (shared if drawn == "reparameterized" else apart).trace() / (NOISE**4 * 16**2)
    found = []
    for seed in range(rounds):
        with weights_drawn(layer, noise(seed)):
            error = (EXACT.y[batch] - layer(EXACT.x[batch])[:, 0]).square().mean() / (2 * NOISE**2)
        found.append(torch.autograd.grad(error, layer.loc)[0].flatten())
    squares = (torch.stack(found) - torch.stack(found).mean(0)).square().sum(1)
    ledger(
        "BayesianMLP", f"variance of the gradient in the weights' means, drawn {drawn}",
        oracle="closed form for squared errors (Kingma et al. 2015, section 2.2)", truth=truth,
        measured=squares.mean(), tolerance=4 * squares.std() / math.sqrt(rounds), why="4 standard errors",
    )  # fmt: skip


def test_the_score_of_the_weights_has_the_known_variance(ledger):
    """Of `L(w) grad log q(w)`, L the same squared errors: a polynomial of degree 3 in the noise, without the trick."""
    layer, rounds, batch = EXACT.layer("local"), 100_000, slice(0, 16)
    with torch.no_grad():
        layer.log_scale.fill_(math.log(0.3))

    def errors(weights):
        return (EXACT.y[batch] - weights @ EXACT.design[batch].T).square().mean(-1) / (2 * NOISE**2)

    nodes, shares = np.polynomial.hermite_e.hermegauss(5)  # exact to degree 9: squares have 6
    eps = torch.tensor(np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3))
    mass = torch.tensor(np.einsum("i,j,k->ijk", shares, shares, shares).ravel() / (2 * math.pi) ** 1.5)
    gradient = errors(layer.loc[0].detach() + 0.3 * eps)[:, None] * eps / 0.3
    truth = (mass @ gradient.square() - (mass @ gradient).square()).sum()
    weights = layer.weights()
    drawn = weights.sample((rounds,), generator=noise())
    held = layer.loc.detach().expand(rounds, 1, 3).clone().requires_grad_()
    log_q = type(weights)(held, weights.scale.detach(), event_dims=2).log_prob(drawn)
    found = torch.autograd.grad((errors(drawn[:, 0]) * log_q).sum(), held)[0].flatten(1)
    squares = (found - found.mean(0)).square().sum(1)
    ledger(
        "BayesianMLP", "variance of the gradient in the weights' means, score function",
        oracle="Gauss-Hermite quadrature over the weights, exact for its degree", truth=truth,
        measured=squares.mean(), tolerance=4 * squares.std() / math.sqrt(rounds), why="4 standard errors",
    )  # fmt: skip
    rows, spread = EXACT.design[batch], 0.3**2 * torch.eye(3, dtype=torch.float64)
    plain = (rows.T @ rows @ spread @ rows.T @ rows).trace() / (NOISE**4 * 16**2)
    deviation = squares.std() / math.sqrt(rounds)
    ledger(
        "BayesianMLP", "variance of the score function's gradient over that of reparameterized weights",
        oracle="that quadrature over the closed form of Kingma et al. (2015)", truth=truth / plain,
        measured=squares.mean() / plain, tolerance=4 * deviation / plain, why="4 standard errors",
    )  # fmt: skip


def test_the_divergence_of_weights_is_that_of_torch(ledger):
    network = networks.BayesianMLP((3,), (2,), hidden=(4,), prior_scale=0.7, initial_scale=0.2).double()
    truth = 0.0
    for layer in bayesian_layers(network):
        q = torch.distributions.Normal(layer.loc, layer.log_scale.exp())
        truth += torch.distributions.kl_divergence(
            q, torch.distributions.Normal(layer.loc.new_zeros(()), layer.loc.new_tensor(0.7))
        ).sum()
    ledger(
        "BayesianMLP", "KL of all weights", oracle="torch.distributions", truth=truth,
        measured=weight_divergence(network), tolerance=1e-10, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_draws_have_the_moments_of_the_weights(drawn):
    layer, rounds = BayesianLinear(3, 2, drawn=drawn, initial_scale=0.4).double(), 4000
    x = torch.randn(2, 3, generator=noise(5), dtype=torch.float64)
    ys = []
    for seed in range(rounds):
        with weights_drawn(layer, noise(seed)):
            ys.append(layer(x).detach())
    ys, ones = torch.stack(ys), torch.cat([x, torch.ones(2, 1, dtype=torch.float64)], 1)
    variance = ones.square() @ layer.log_scale.exp().square().T
    assert ((ys.mean(0) - layer(x)).abs() < 4.5 * (variance / rounds).sqrt()).all()
    assert ((ys.var(0) / variance - 1).abs() < 4.5 * math.sqrt(2 / rounds)).all()
    # Rows are independent unless the weights are shared.
    between = torch.corrcoef(ys[:, :, 0].T)[0, 1]
    shared = (ones[0] @ ones[1]) / (ones[0].norm() * ones[1].norm())
    expected = shared if drawn == "reparameterized" else torch.zeros(())
    assert abs(between - expected) < 4.5 / math.sqrt(rounds)


def test_without_drawing_the_output_is_the_same_at_every_call():
    network, x = networks.BayesianMLP((3,), (2,), initial_scale=0.5), torch.randn(4, 3)
    assert torch.equal(network(x), network(x))
    with weights_drawn(network, noise()):
        first, second = network(x), network(x)
    assert not torch.equal(first, second)
    with weights_drawn(network, noise()):
        assert torch.equal(network(x), first)
    assert torch.equal(network(x), network(x))
    with pytest.raises(ValueError), weights_drawn(network, noise()):
        raise ValueError
    assert all(layer._noise is None for layer in bayesian_layers(network))


def test_the_objective_adds_the_share_of_the_weights():
    model, objective = recipes.build("bayesian-vae", (6,), latent=2, hidden=(5,), likelihood="Normal")
    x = torch.randn(8, 6, generator=noise())
    with pytest.raises(UsageError, match="number of training items"):
        objective(model, x)
    objective.plan(10, 200)
    terms = objective(model, x, generator=noise())
    plain = terms.reconstruction.mean() + terms.regularization.mean()
    assert terms.extras["weights"].item() == pytest.approx(weight_divergence(model).item() / 200)
    assert terms.loss.item() == pytest.approx((plain + terms.extras["weights"]).item(), rel=1e-6)
    assert Bayesian(ELBO(), items=7).items == 7
    with pytest.raises(UsageError, match="at least 1 item"):
        Bayesian(ELBO(), items=0)


def test_weights_that_are_drawn_are_not_computed_part_by_part():
    with pytest.raises(UsageError, match="part by part"):
        arranged(*recipes.build("bayesian-vae", (6,), latent=2, hidden=(5,)), Settings(accumulate=2))


def test_what_is_drawn_afterwards_does_not_depend_on_the_rows():
    network = networks.BayesianMLP((3,), (2,))
    left = []
    for rows in (1, 7):
        generator = noise()
        with weights_drawn(network, generator):
            network(torch.zeros(rows, 3))
        left.append(torch.rand(3, generator=generator))
    assert torch.equal(*left)


@pytest.mark.parametrize("wrong", [{"drawn": "dropout"}, {"prior_scale": 0.0}, {"initial_scale": -1.0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(UsageError):
        networks.BayesianMLP((3,), (2,), **wrong)


def test_far_from_the_data_the_decoder_is_uncertain_and_items_are_strange():
    rows = np.random.default_rng(0).normal(size=(400, 1)) @ np.array([[1.0, -0.5, 2.0, 0.3]])
    rows += 0.1 * np.random.default_rng(1).normal(size=rows.shape)
    import gapless

    data = gapless.read(rows, likelihood="Normal")
    settings = Settings(latent=1, epochs=60, hidden=(32,), batch_size=50, learning_rate=1e-2)
    run = study.train(data, recipe="bayesian-vae", settings=settings)
    near, far = torch.zeros(1, 1), torch.full((1, 1), 12.0)
    spread = [decoded(run.model, z, samples=64, generator=noise()).scale.mean().item() for z in (near, far)]
    assert spread[1] > 2 * spread[0]
    usual = torch.from_numpy(data.scaling(data.held_out.take(range(20))))
    broken = usual * torch.tensor([1.0, -1.0, 1.0, 1.0])
    scores = [anomaly_score(run.model, x, generator=noise()).median().item() for x in (usual, broken)]
    assert scores[1] > scores[0]
    with pytest.raises(UsageError, match="train the recipe bayesian-vae"):
        decoded(recipes.build("vae", (4,), latent=1)[0], near)


@pytest.mark.parametrize("drawn", ESTIMATORS)
def test_what_the_weights_leave_open_is_known_of_an_affine_decoder(drawn, ledger):
    """Outputs w z + b have the variance sum_j z_j^2 s_j^2 + s_b^2 over the weights."""
    options, count = {"drawn": drawn}, 2000
    model, _ = recipes.build("bayesian-vae", (3,), latent=2, hidden=(), likelihood="Normal", options=options)
    model, z = model.double(), torch.tensor([[0.7, -1.9]], dtype=torch.float64)
    (layer,) = bayesian_layers(model)
    with torch.no_grad():
        layer.log_scale.copy_(torch.randn(3, 3, generator=noise(4), dtype=torch.float64) - 1)
    spread = layer.log_scale.detach().exp().numpy()
    found = decoded(model, z, samples=count, generator=noise())
    truth = np.sqrt(spread[:, :2] ** 2 @ np.square([0.7, -1.9]) + spread[:, 2] ** 2)
    at = int(np.abs(found.scale[0].numpy() / truth - 1).argmax())
    ledger(
        "decoded", f"spread of an affine decoder's output over weights drawn {drawn}, worst of 3",
        oracle="closed form, NumPy", truth=truth[at], measured=found.scale[0, at],
        tolerance=4 * truth[at] / math.sqrt(2 * count), why="4 standard errors of a standard deviation",
    )  # fmt: skip


def test_the_anomaly_score_of_a_plain_model_is_minus_its_importance_bound(ledger):
    from oracles import LinearGaussian

    exact = LinearGaussian.make()
    x = exact.sample(5)
    worst = (anomaly_score(exact.model(), x, samples=3, generator=noise()) + exact.log_prob(x)).abs().max()
    ledger(
        "anomaly_score", "of a model without drawn weights, worst of 5 items", truth=0, measured=worst, tolerance=1e-9,
        oracle="-log p(x), linear-Gaussian VAE with the exact posterior", why="float64",
    )  # fmt: skip


def test_the_anomaly_score_of_drawn_weights_is_minus_the_log_of_the_mean_evidence(ledger):
    """A decoder that ignores z: p(x|w) is a normal density about the bias, E_w p(x|w) one of a larger variance."""
    model, _ = recipes.build("bayesian-vae", (2,), latent=1, hidden=(), likelihood="Normal", options={"drawn": "local"})
    model, x, spread, rows = model.double(), torch.tensor([[0.4, -1.2]], dtype=torch.float64), 0.6, 20_000
    (layer,) = bayesian_layers(model)
    with torch.no_grad():
        layer.loc.copy_(torch.tensor([[0.0, 0.3], [0.0, -0.5]]))
        layer.log_scale.copy_(torch.tensor([-30.0, math.log(spread)]).expand(2, 2))
    total = math.hypot(model.likelihood.scale, spread)
    truth = stats.norm(layer.loc[:, -1].detach().numpy(), total).pdf(x.numpy()).prod()
    weights = (-anomaly_score(model, x.repeat(rows, 1), samples=2, generator=noise())).exp() / truth  # rows draw apart
    ledger(
        "anomaly_score", "mean of exp(-score) over p(x), decoder of drawn weights that ignores z", truth=1,
        oracle="normal density of scale^2 + the weights' variance, SciPy", measured=weights.mean(),
        tolerance=4 * weights.std() / math.sqrt(rows), why="4 standard errors",
    )  # fmt: skip


def test_a_bayesian_objective_survives_its_description():
    from gapless import regularizers
    from gapless.parts import build, describe

    objective = Bayesian(ELBO(1.0, 2.0), items=30)
    again = build(describe(objective), objectives, regularizers, networks)
    assert again.effective_beta == 2
    assert again.items == 30
