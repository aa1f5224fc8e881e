"""Bounds by importance weights and the estimators of their gradient, on the linear-Gaussian model and by hand."""

import math

import numpy as np
import pytest
import torch

from gapless import draws, objectives, priors, recipes
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.objectives.importance import ESTIMATORS, importance_bound
from oracles import LinearGaussian, linear_elbo

ORACLE = LinearGaussian.make()


def off_by(amount=0.3):
    """The oracle with a posterior that is too wide and beside the point."""
    model = ORACLE.model()
    with torch.no_grad():
        model.encoder.layers[-1].bias += amount
    return model


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(loss, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return torch.cat(
        [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
    )


BOUNDS = {
    "IWAE": lambda estimator: objectives.IWAE(5, estimator=estimator),
    "MIWAE": lambda estimator: objectives.MIWAE(2, 3, estimator=estimator),
    "CIWAE": lambda estimator: objectives.CIWAE(4, 0.3, estimator=estimator),
    "PIWAE": lambda estimator: objectives.PIWAE(3, 2, estimator=estimator),
}
PAIRS = [(name, estimator) for name in BOUNDS for estimator in ESTIMATORS]


@pytest.mark.parametrize(("name", "estimator"), PAIRS)
def test_with_the_exact_posterior_every_bound_is_log_p(name, estimator, ledger):
    x = ORACLE.sample(20)
    loss = BOUNDS[name](estimator)(ORACLE.model(), x, generator=noise()).loss
    ledger(
        name, f"reported value, {estimator} gradient", oracle="log p(x), linear-Gaussian VAE with the exact posterior",
        truth=-ORACLE.log_prob(x).mean(), measured=loss, tolerance=1e-9, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_value_is_the_bound_and_not_the_surrogate_of_its_gradient(estimator):
    model, x = off_by(), ORACLE.sample(7)
    by_hand = {
        "IWAE": (5, lambda w: np.log(np.exp(w).mean(0))),
        "MIWAE": (6, lambda w: (np.log(np.exp(w[:3]).mean(0)) + np.log(np.exp(w[3:]).mean(0))) / 2),
        "CIWAE": (4, lambda w: 0.3 * w.mean(0) + 0.7 * np.log(np.exp(w).mean(0))),
        "PIWAE": (6, lambda w: np.log(np.exp(w).mean(0))),
    }
    for name, (samples, bound) in by_hand.items():
        log_w = draw(model, x, samples=samples, generator=noise()).log_weights().detach().numpy()
        expected = bound(log_w)
        loss = BOUNDS[name](estimator)(model, x, generator=noise()).loss
        assert loss.item() == pytest.approx(-expected.mean(), abs=1e-10), name


def test_what_is_reported_elsewhere_is_not_the_bound(ledger):
    model, x = off_by(), ORACLE.sample(200)
    log_w = draw(model, x, samples=50, generator=noise()).log_weights().detach()
    surrogate = -(log_w.softmax(0) * log_w).sum(0).mean()
    ledger(
        "IWAE", "reported loss, K = 50", oracle="-log mean w, NumPy",
        truth=-np.log(np.exp(log_w.numpy()).mean(0)).mean(),
        measured=objectives.IWAE(50)(model, x, generator=noise()).loss, tolerance=1e-9, why="float64",
        elsewhere=f"{surrogate:.4g}: -sum softmax(log w) log w, a surrogate of the gradient (pythae 0.1.2)",
    )  # fmt: skip
    one, twenty = draw(model, x, samples=20, generator=noise()).log_weights().detach(), objectives.MIWAE(1, 20)
    over_groups = -(one.logsumexp(0) - math.log(20)).mean()  # normalised over m: K = 1 becomes K = 20
    ledger(
        "MIWAE", "reported loss, (M, K) = (20, 1)", oracle="mean of -log w: the ELBO of 20 draws",
        truth=-one.mean(), measured=objectives.MIWAE(20, 1)(model, x, generator=noise()).loss, tolerance=1e-9,
        why="float64", elsewhere=f"{over_groups:.4g}: weights normalised over m instead of k",
    )  # fmt: skip
    assert twenty(model, x, generator=noise()).loss < -one.mean() - 0.1


def test_groups_are_averaged_outside_the_logarithm_and_draws_inside():
    log_w = torch.randn(20, 3, generator=noise(), dtype=torch.float64)
    assert torch.allclose(importance_bound(log_w, 20), log_w.mean(0))
    assert torch.allclose(importance_bound(log_w, 1), log_w.exp().mean(0).log())
    assert (importance_bound(log_w, 1) > importance_bound(log_w, 4)).all()
    assert (importance_bound(log_w, 4) > importance_bound(log_w, 20)).all()


def test_the_moments_of_the_weights_are_those_of_quadrature():
    model, x = off_by(0.15), ORACLE.sample(3)
    nodes, shares = np.polynomial.hermite_e.hermegauss(60)
    eps = torch.tensor(np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 1, 3))
    mass = torch.tensor(np.einsum("i,j,k->ijk", shares, shares, shares).ravel() / (2 * math.pi) ** 1.5)
    exact, q = (torch.distributions.Normal(m.mean, m.stddev) for m in (ORACLE.model().encode(x), model.encode(x)))
    ratio = (exact.log_prob(z := q.loc + q.scale * eps) - q.log_prob(z)).sum(-1).exp()
    for a, moment in zip((2, 3, 4), ORACLE.weight_moments(model, x), strict=True):
        assert torch.allclose(mass @ (ratio - 1) ** a, moment, rtol=1e-6)


def test_bounds_of_independent_draws_rise_with_k_to_log_p(ledger):
    """ELBO <= IWAE_K <= IWAE_K' <= log p(x): every K has draws of its own, so that nothing but the law orders them."""
    model, x, rounds = off_by(0.15), ORACLE.sample(300), 30
    found = {
        k: -torch.stack(
            [objectives.IWAE(k)(model, x, generator=noise(1000 * k + r)).loss.detach() for r in range(rounds)]
        )
        for k in (1, 2, 8, 32)
    }
    elbo, truth = linear_elbo(model, x).mean().detach(), ORACLE.log_prob(x).mean()
    steps = [(elbo.expand(rounds), found[2]), (found[1], found[2]), (found[2], found[8]), (found[8], found[32])]
    steps.append((found[32], truth.expand(rounds)))
    rises = [float((b - a).mean() / ((a.var() + b.var()) / rounds).sqrt()) for a, b in steps]
    ledger(
        "IWAE", "largest fall along ELBO, K = 1, 2, 8, 32, log p(x), draws of their own; standard errors",
        oracle="Burda et al. (2016), theorem 1; ELBO and log p(x) of the linear-Gaussian VAE in closed form", truth=0,
        measured=max(0.0, *(-rise for rise in rises)), tolerance=4, why="4 standard errors over 30 repetitions",
    )  # fmt: skip
    assert min(rises) > 4  # the order can be seen: equal bounds would be told apart from it


@pytest.mark.parametrize("k", [8, 64])
def test_the_gap_to_log_p_falls_as_one_over_k(k, ledger):
    """E log(1 + e), e the mean of K relative weights less 1, by moments: -m2/2K + (m3/3 - 3 m2^2/4)/K^2 + O(K^-3)."""
    model, x, rounds = off_by(0.15), ORACLE.sample(200), 200
    truth, (m2, m3, m4) = ORACLE.log_prob(x), ORACLE.weight_moments(model, x)
    second = 0.75 * m2.square() - m3 / 3
    third = (m4 - 3 * m2.square()) / 4 - 2 * m2 * m3 + 2.5 * m2**3
    gaps = []
    for r in range(rounds):
        log_w = draw(model, x, samples=k, generator=noise(100_000 * k + r)).log_weights().detach()
        # E w = p(x): the mean of w / p(x) - 1 is 0 and takes most of the noise away.
        gaps.append((log_w - truth).exp().mean(0) - 1 + truth - importance_bound(log_w, 1))
    found = k * torch.stack(gaps).mean(1)
    ledger(
        "IWAE", f"K times the gap to log p(x), K = {k}, draws of its own",
        oracle="Var[w] / 2 p(x)^2 and the next term, over K, of the delta method: moments in closed form",
        truth=(m2 / 2 + second / k).mean(), measured=found.mean(),
        tolerance=4 * found.std() / math.sqrt(rounds) + 2 * abs(float(third.mean())) / k**2,
        why="4 standard errors, and twice the term after those",
    )  # fmt: skip
    assert found.mean() == pytest.approx(float(m2.mean()) / 2, rel=0.15)  # the leading term alone


@pytest.mark.parametrize("estimator", ["sticking-the-landing", "doubly-reparameterized"])
@pytest.mark.parametrize("name", BOUNDS)
def test_at_the_exact_posterior_these_gradients_are_zero_draw_by_draw(name, estimator):
    model, x = ORACLE.model(), ORACLE.sample(9)
    terms = BOUNDS[name](estimator)(model, x, generator=noise())
    assert gradients(terms.loss, model.encoder).abs().max() < 1e-10
    plain = BOUNDS[name]("reparameterized")(model, x, generator=noise())
    assert gradients(plain.loss, model.encoder).abs().max() > 1e-3  # right on average only


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_has_the_gradient_of_the_elbo_on_average(estimator, ledger):
    model, x = off_by(), ORACLE.sample(3)
    exact = gradients(-linear_elbo(model, x).mean(), model.encoder)
    objective, rounds = objectives.MIWAE(64, 1, estimator=estimator), 60
    found = torch.stack(
        [gradients(objective(model, x, generator=noise(seed)).loss, model.encoder) for seed in range(rounds)]
    )
    errors = (found.mean(0) - exact) / (found.std(0) / math.sqrt(rounds)).clamp_min(1e-9)
    ledger(
        "MIWAE", f"{estimator} gradient of the ELBO, mean square of the standardized error over the encoder's weights",
        oracle="derivative of the closed-form ELBO of the linear-Gaussian VAE", truth=1,
        measured=errors.square().mean(), tolerance=4 * math.sqrt(2 / 6) + 0.2,
        why="about 6 independent directions: chi-square over its degrees of freedom, 4 standard deviations",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["IWAE", "MIWAE", "CIWAE", "PIWAE"])
@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_estimators_agree_on_average_for_every_bound(name, estimator, ledger):
    if (name, estimator) == ("PIWAE", "sticking-the-landing"):
        pytest.skip("dropping the score is biased for K > 1")
    model, x, rounds = off_by(), ORACLE.sample(2), 300
    if estimator == "sticking-the-landing" and name != "MIWAE":
        pytest.skip("dropping the score is biased for K > 1")
    objective = {
        "MIWAE": objectives.MIWAE(3, 1 if estimator == "sticking-the-landing" else 2, estimator=estimator)
    }.get(name, BOUNDS[name](estimator))
    plain = type(objective)(**{**objective.arguments(), "estimator": "reparameterized"})
    pairs = [
        [gradients(o(model, x, generator=noise(seed)).loss, model.encoder) for o in (objective, plain)]
        for seed in range(rounds)
    ]
    gaps = torch.stack([a - b for a, b in pairs])
    errors = (gaps.mean(0) / (gaps.std(0) / math.sqrt(rounds)).clamp_min(1e-9)).abs().max()
    sizes = ", ".join(f"{size} {count}" for size, count in objective.arguments().items() if size != "estimator")
    ledger(
        name, f"{estimator} gradient less the plain one, {sizes}: worst weight, standard errors",
        oracle="the reparameterized gradient of the same draws, 300 repetitions", truth=0, measured=errors,
        tolerance=4.5, why="42 weights: 4.5 standard errors are passed once in 3,500 runs",
    )  # fmt: skip


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_partial_bound_moves_each_side_by_its_own_gradient(estimator):
    model, x = off_by(), ORACLE.sample(5)
    both = objectives.PIWAE(4, 3, estimator=estimator)(model, x, generator=noise())
    encoders = objectives.MIWAE(4, 3, estimator=estimator)(model, x, generator=noise())
    decoders = objectives.IWAE(12, estimator=estimator)(model, x, generator=noise())
    assert torch.allclose(gradients(both.loss, model.encoder), gradients(encoders.loss, model.encoder), atol=1e-12)
    assert torch.allclose(gradients(both.loss, model.decoder), gradients(decoders.loss, model.decoder), atol=1e-12)
    assert not torch.allclose(gradients(encoders.loss, model.encoder), gradients(decoders.loss, model.encoder))
    assert not torch.allclose(gradients(encoders.loss, model.decoder), gradients(decoders.loss, model.decoder))


def grouped_bound(model, x, outer, samples, seed):
    """mean_m log 1/K sum_k w[m, k] by torch.distributions: nothing of the bounds of gapless."""
    q = model.encode(x)
    eps = torch.randn(outer * samples, *q.loc.shape, generator=noise(seed), dtype=torch.float64)
    z = q.loc + q.scale * eps
    normal, affine = torch.distributions.Normal, model.decoder.layers[-1]
    loc = z @ affine.weight.T + affine.bias + model.offset[0]
    log_w = normal(loc, ORACLE.scale).log_prob(x).sum(-1) + normal(0.0, 1.0).log_prob(z).sum(-1)
    log_w = log_w - normal(q.loc, q.scale).log_prob(z).sum(-1)
    return (log_w.unflatten(0, (outer, samples)).logsumexp(1) - math.log(samples)).mean()


def test_the_encoder_of_the_partial_bound_follows_its_own_bound_alone(ledger):
    model, x = off_by(), ORACLE.sample(5)
    own, tighter = (gradients(-grouped_bound(model, x, *sizes, seed=0), model.encoder) for sizes in ((4, 3), (1, 12)))
    found = gradients(objectives.PIWAE(4, 3)(model, x, generator=noise()).loss, model.encoder)
    wrong = (own + tighter - own).norm() / own.norm()  # both bounds climbed by both players
    ledger(
        "PIWAE", "distance of the encoder's gradient from that of MIWAE(4, 3), relative",
        oracle="torch.distributions and autograd", truth=0, measured=(found - own).norm() / own.norm(),
        tolerance=1e-10, why="float64", elsewhere=f"{wrong:.3g}: the encoder climbs the decoder's bound as well",
    )  # fmt: skip
    theirs = gradients(-grouped_bound(model, x, 1, 12, seed=0), model.decoder)
    found = gradients(objectives.PIWAE(4, 3)(model, x, generator=noise()).loss, model.decoder)
    ledger(
        "PIWAE", "distance of the decoder's gradient from that of IWAE(12), relative",
        oracle="torch.distributions and autograd", truth=0, measured=(found - theirs).norm() / theirs.norm(),
        tolerance=1e-10, why="float64",
    )  # fmt: skip


def of_itself():
    """The oracle off the mark, with a prior that is made of its own posteriors."""
    model, x = off_by(), ORACLE.sample(5)
    prior = priors.VampPrior(model.latent, model.event_shape, 4).double()
    prior.start(ORACLE.sample(9)[5:])
    model.prior = prior
    return model, x


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_prior_made_of_posteriors_moves_the_encoder_by_the_encoders_bound_alone(estimator, ledger):
    model, x = of_itself()
    both = objectives.PIWAE(4, 3, estimator=estimator)(model, x, generator=noise())
    encoders = objectives.MIWAE(4, 3, estimator=estimator)(model, x, generator=noise())
    decoders = objectives.IWAE(12, estimator=estimator)(model, x, generator=noise())
    ours, truth = (gradients(terms.loss, model.encoder, model.posterior) for terms in (both, encoders))
    ledger(
        "PIWAE", f"{estimator} gradient of the encoder under a VampPrior, relative error",
        oracle="gradient of MIWAE(M, K)", truth=0, measured=(ours - truth).norm() / truth.norm(), tolerance=1e-12,
        why="float64",
    )  # fmt: skip
    rest = [gradients(terms.loss, model.decoder, model.prior) for terms in (both, decoders)]
    assert torch.allclose(*rest, atol=1e-12)
    assert gradients(both.loss, model.prior).abs().max() > 1e-3
    assert both.loss.item() == pytest.approx(decoders.loss.item(), abs=1e-12)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_decoder_has_the_same_gradient_under_every_estimator(name):
    model, x = off_by(), ORACLE.sample(5)
    found = [gradients(BOUNDS[name](e)(model, x, generator=noise()).loss, model.decoder) for e in ESTIMATORS]
    for other in found[1:]:
        assert torch.allclose(found[0], other, atol=1e-12)


def variance_by_quadrature(model, x):
    """Trace of the covariance of the gradient of one draw's ELBO in the encoder's weights, by Gauss-Hermite in eps.

    The plain gradient is a polynomial of degree 2 in eps, the score function's of degree 4: 6 nodes a feature are
    exact for their squares. The encoder is affine: its weights' gradient is that of its outputs times (x, 1).
    """
    nodes, shares = np.polynomial.hermite_e.hermegauss(6)
    eps = torch.tensor(np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3))
    mass = torch.tensor(np.einsum("i,j,k->ijk", shares, shares, shares).ravel() / (2 * math.pi) ** 1.5)
    normal, bound = torch.distributions.Normal, model.posterior.bound
    found = {"reparameterized": 0.0, "score-function": 0.0}
    for item in x:
        outputs = model.encoded(item[None]).detach().expand(len(eps), -1).clone().requires_grad_()
        loc, raw = outputs.chunk(2, 1)
        q = normal(loc, torch.exp(bound * torch.tanh(raw / bound)))
        z = q.loc + q.scale * eps

        def log_w(z, q=q, item=item):
            likelihood = normal(z @ ORACLE.weight.T + ORACLE.mean, ORACLE.scale)
            return (likelihood.log_prob(item).sum(-1) + normal(0.0, 1.0).log_prob(z).sum(-1)) - q.log_prob(z).sum(-1)

        score = q.log_prob(z.detach()).sum(-1)
        losses = {"reparameterized": log_w(z), "score-function": (log_w(z.detach()).detach() - 1) * score}
        for name, loss in losses.items():
            gradient = torch.autograd.grad(loss.sum(), outputs, retain_graph=True)[0]
            spread = mass @ gradient.square() - (mass @ gradient).square()
            found[name] = found[name] + spread.sum() * (item.square().sum() + 1) / len(x) ** 2
    return found


def test_the_trick_has_far_less_variance_than_the_score(ledger):
    model, x, rounds, kept = off_by(), ORACLE.sample(3), 20_000, []
    truth, squares = variance_by_quadrature(model, x), {}
    model.encoder.register_forward_hook(lambda module, given, outputs: kept.append(outputs))
    inputs = torch.cat([x, torch.ones(3, 1, dtype=torch.float64)], 1)
    for estimator in truth:  # one batch holds all repetitions: the gradient of each row, then of the weights by 3 rows
        loss = objectives.MIWAE(1, 1, estimator=estimator)(model, x.repeat(rounds, 1), generator=noise()).loss
        rows = torch.autograd.grad(rounds * loss, kept.pop())[0].unflatten(0, (rounds, 3))
        found = torch.einsum("rio,ix->rox", rows, inputs).flatten(1)
        squares[estimator] = (found - found.mean(0)).square().sum(1)
        ledger(
            "MIWAE", f"variance of the {estimator} gradient of the ELBO, one draw, trace over the encoder's weights",
            oracle="Gauss-Hermite quadrature, exact for its degree", truth=truth[estimator],
            measured=squares[estimator].mean(), tolerance=4 * squares[estimator].std() / math.sqrt(rounds),
            why="4 standard errors of 20,000 repetitions",
        )  # fmt: skip
    score, plain = squares["score-function"], squares["reparameterized"]
    ratio, exact = score.mean() / plain.mean(), truth["score-function"] / truth["reparameterized"]
    error = ratio * ((score.var() / score.mean() ** 2 + plain.var() / plain.mean() ** 2) / rounds).sqrt()
    ledger(
        "MIWAE", "variance of the score-function gradient over that of the reparameterized one",
        oracle="Gauss-Hermite quadrature, exact for its degree", truth=exact, measured=ratio,
        tolerance=4 * error, why="4 standard errors (delta method)",
    )  # fmt: skip
    assert ratio > 5


def test_wrong_numbers_are_refused():
    for wrong in (lambda: objectives.IWAE(0), lambda: objectives.MIWAE(0, 3), lambda: objectives.PIWAE(3, 0)):
        with pytest.raises(UsageError, match="at least 1"):
            wrong()
    with pytest.raises(UsageError, match="between 0 and 1"):
        objectives.CIWAE(3, 1.5)


def test_a_conditional_model_is_given_its_context():
    from gapless import likelihoods, networks, posteriors, priors
    from gapless.model import Model

    model = Model(
        encoder=networks.MLP((1 + 3, 5, 5), (4,), hidden=(8,)), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(2), decoder=networks.MLP((2 + 3,), (1, 5, 5), hidden=(8,)),
        likelihood=likelihoods.Bernoulli(), context=3,
    )  # fmt: skip
    x, context = torch.rand(4, 1, 5, 5), torch.eye(3)[[0, 1, 2, 0]]
    terms = objectives.IWAE(3)(model.given(context), x, generator=noise())
    alone = [objectives.IWAE(3)(model.given(context[i : i + 1]), x[i : i + 1]) for i in range(4)]
    assert terms.reconstruction.shape == (4,)
    assert all(torch.isfinite(one.loss) for one in alone)
    draws = draw(model.given(context), x, samples=3, generator=noise())
    for z, log_likelihood in zip(draws.z, draws.log_likelihood, strict=True):  # every draw of an item has its context
        assert torch.allclose(model.given(context).decode(z).log_prob(x), log_likelihood, atol=1e-5)
    means = model.given(context[:1]).encode(x).mean, model.given(context[1:2]).encode(x).mean
    assert not torch.allclose(*means)
    assert torch.allclose(model.given(context).encode(x).mean[1], means[1][1], atol=1e-6)
    with pytest.raises(UsageError, match="is conditional"):
        model.encode(x)
    with pytest.raises(UsageError, match=r"shape \(batch, 3\)"):
        model.given(torch.eye(2))
    again = Model.from_description(model.describe())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.given(context).encode(x).mean, model.given(context).encode(x).mean)


def test_all_bounds_can_be_trained():
    for name in ("iwae", "dreg", "stl", "miwae", "ciwae", "piwae"):
        model, objective = recipes.build(name, (5,), latent=2, hidden=(8,), likelihood="Normal")
        x = torch.randn(32, 1, generator=noise()) * 3 + 0.1 * torch.randn(32, 5, generator=noise(1))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        first = objective(model, x, generator=noise()).loss.item()
        for step in range(30):
            optimizer.zero_grad()
            objective(model, x, generator=noise(step)).loss.backward()
            optimizer.step()
        assert objective(model, x, generator=noise()).loss.item() < first - 0.1, name


def test_several_draws_of_items_that_lie_feature_by_feature_are_the_same():
    x = torch.rand(4, 2, 3)
    other = x.movedim(0, -1).contiguous().movedim(-1, 0)
    for repeated in (draws._repeated(x, 3), draws._repeated(other, 3)):
        assert torch.equal(repeated, torch.cat([x, x, x]))
    assert draws._repeated(other, 3).movedim(0, -1).is_contiguous()
