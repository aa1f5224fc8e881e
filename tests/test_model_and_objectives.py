import math
import re

import pytest
import torch

from gapless import likelihoods, networks, posteriors, priors, recipes
from gapless.distributions import divergence
from gapless.errors import UsageError
from gapless.model import PARAMETER_BUDGET, Model
from gapless.objectives import ELBO
from oracles import LinearGaussian, linear_elbo

ORACLE = LinearGaussian.make()


# The linear-Gaussian VAE: its bound is log p(x).


def test_with_the_exact_posterior_every_draw_gives_log_p(ledger):
    model, x = ORACLE.model(), ORACLE.sample(50)
    q = model.encode(x)
    for seed in range(3):
        z = q.rsample(generator=torch.Generator().manual_seed(seed))
        log_w = model.decode(z).log_prob(x) + model.prior_distribution().log_prob(z) - q.log_prob(z)
        worst = (log_w - ORACLE.log_prob(x)).abs().max()
        ledger(
            "Model", "log p(x, z) / q(z|x) p(x), worst of 50 items", oracle="linear-Gaussian VAE, exact posterior",
            truth=0, measured=worst, tolerance=1e-10, why="float64",
        )  # fmt: skip


def test_the_elbo_is_log_p_within_the_error_of_its_draws(ledger):
    model, x = ORACLE.model(), ORACLE.sample(400)
    draws = 256
    terms = ELBO(samples=draws)(model, x, generator=torch.Generator().manual_seed(0))
    # Only E_q log p(x|z) is sampled: its variance over z for |x - Wz - m|^2 / (2 s^2) is derived from the draws.
    z = model.encode(x).rsample((draws,), generator=torch.Generator().manual_seed(0))
    spread = torch.stack([model.decode(part).log_prob(x) for part in z]).var(0).sum().sqrt() / math.sqrt(draws)
    ledger(
        "ELBO", "sum over 400 items", oracle="log p(x) of the linear-Gaussian VAE", truth=ORACLE.log_prob(x).sum(),
        measured=terms.elbo.sum(), tolerance=4 * spread, why="4 standard errors of its draws",
    )  # fmt: skip
    assert torch.allclose(linear_elbo(model, x), ORACLE.log_prob(x), atol=1e-10)


def test_the_kl_of_the_linear_model_is_its_mutual_information_on_average(ledger):
    x = ORACLE.sample(20_000)
    model = ORACLE.model()
    kl = divergence(model.encode(x), model.prior_distribution())
    ledger(
        "ELBO", "mean KL = I(x; z), nats", oracle="linear-Gaussian VAE, closed form", truth=ORACLE.mutual_information,
        measured=kl.mean(), tolerance=4 * kl.std() / math.sqrt(len(kl)), why="4 standard errors",
    )  # fmt: skip


def test_any_other_posterior_is_below():
    x = ORACLE.sample(50)
    for change in ("weight", "bias"):
        model = ORACLE.model()
        with torch.no_grad():
            getattr(model.encoder.layers[-1], change).mul_(1.2)
        assert (linear_elbo(model, x).mean() < ORACLE.log_prob(x).mean() - 1e-3).all()


# Weights and units.


def test_the_three_are_one_objective_with_weights(small_model):
    x = torch.rand(6, *small_model.event_shape)

    def terms(*weights):
        return ELBO(*weights)(small_model, x, generator=torch.Generator().manual_seed(3))

    both, reconstruction, kl, mixed = terms(1, 1), terms(1, 0), terms(0, 1), terms(2, 0.5)
    assert torch.allclose(both.loss, (both.reconstruction + both.regularization).mean())
    assert torch.allclose(reconstruction.loss, both.reconstruction.mean())
    assert torch.allclose(kl.loss, both.regularization.mean())
    assert torch.allclose(mixed.loss, (2 * both.reconstruction + 0.5 * both.regularization).mean())
    assert torch.allclose(both.elbo, -(both.reconstruction + both.regularization))


def test_terms_are_sums_over_features_and_means_over_nothing(small_model):
    x = torch.rand(6, *small_model.event_shape)
    terms = ELBO()(small_model, x, generator=torch.Generator().manual_seed(3))
    z = small_model.encode(x).rsample(generator=torch.Generator().manual_seed(3))
    logits = small_model.decode(z).logits
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    assert torch.allclose(terms.reconstruction, by_hand, atol=1e-4)
    q = small_model.encode(x)
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
    assert torch.allclose(terms.regularization, kl, atol=1e-5)


def test_samples_average_over_draws_not_over_items(small_model):
    x = torch.rand(4, *small_model.event_shape)
    many = ELBO(samples=3)(small_model, x, generator=torch.Generator().manual_seed(3)).reconstruction
    z = small_model.encode(x).rsample((3,), generator=torch.Generator().manual_seed(3))
    by_hand = torch.stack([-small_model.decode(part).log_prob(x) for part in z]).mean(0)
    assert torch.allclose(many, by_hand, atol=1e-4)


def test_kl_only_sends_no_gradient_to_the_decoder(small_model):
    loss = ELBO(0, 1)(small_model, torch.rand(4, *small_model.event_shape)).loss
    loss.backward()
    assert all(p.grad is None for p in small_model.decoder.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in small_model.encoder.parameters())


def test_an_autoencoder_has_a_finite_loss_and_an_infinite_kl():
    model, objective = recipes.build("ae", (5,), latent=2, likelihood="Normal", hidden=(8,))
    terms = objective(model, torch.randn(4, 5))
    assert torch.isfinite(terms.loss)
    assert torch.isinf(terms.regularization).all()
    assert objective.effective_beta == 0
    terms.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("weights", "beta"), [((1, 1), 1), ((1, 4), 4), ((2, 1), 0.5), ((1, 0), 0), ((0, 1), math.inf)]
)
def test_effective_beta(weights, beta):
    assert ELBO(*weights).effective_beta == beta


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_the_effective_beta_is_the_weight_of_the_kl_in_nats(weight, ledger):
    """Losses of three models are a -log p(x|z) + b KL, both in nats by torch.distributions: b / a is found by them."""
    rows, losses, elsewhere, objective = [], [], [], ELBO(1.0, weight)
    for seed in range(3):
        torch.manual_seed(seed)
        model = recipes.build("vae", (1, 28, 28), latent=3, hidden=(8,), likelihood="Normal")[0].double()
        model.likelihood.scale = 1.0
        x = torch.rand(5, 1, 28, 28, dtype=torch.float64) * (seed + 1)
        losses.append(objective(model, x, generator=torch.Generator().manual_seed(seed)).loss)
        q = model.encode(x)
        loc = model.decode(q.rsample((1,), generator=torch.Generator().manual_seed(seed))[0]).mean
        errors = torch.distributions.Normal(loc, 1.0).log_prob(x).flatten(1).sum(1).mean()
        normal = torch.distributions.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(q.mean, q.stddev), normal).sum(1).mean()
        rows.append(torch.stack([-errors, kl, torch.ones_like(kl)]))  # the constant log sqrt(2 pi) may be dropped
        elsewhere.append((x - loc).square().mean() + weight * kl)  # a mean over pixels, a sum over latent features
    found, wrong = (torch.linalg.solve(torch.stack(rows), torch.stack(side))[:2] for side in (losses, elsewhere))
    ledger(
        "ELBO", f"effective beta of the weights (1, {weight:g}), 784 pixels of unit variance", truth=weight,
        oracle="losses of three models solved for the weights of nats by torch.distributions", tolerance=1e-6,
        measured=found[1] / found[0], why="float64, solved",
        elsewhere=f"{wrong[1] / wrong[0]:.4g}, w D / 2: a mean over pixels beside a sum over latent features",
    )  # fmt: skip
    assert objective.effective_beta == weight


@pytest.mark.parametrize("arguments", [(0.0, 0.0), (-1.0, 1.0), (1.0, -1.0), (math.nan, 0.0)])
def test_impossible_weights_are_refused(arguments):
    with pytest.raises(UsageError, match="weights of at least 0"):
        ELBO(*arguments)
    with pytest.raises(UsageError, match="at least one sample"):
        ELBO(samples=0)


# The model.


def test_embeddings_are_the_mean_and_do_not_change_from_call_to_call(small_model, ledger):
    x = torch.rand(6, *small_model.event_shape)
    calls = [small_model.embed(x) for _ in range(2)]
    drawn = [small_model.encode(x).rsample(generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    ledger(
        "Model", "embeddings of one item at two calls, largest distance", oracle="0", truth=0, tolerance=0,
        measured=(calls[0] - calls[1]).abs().max(), why="the mean of q(z|x)",
        elsewhere=f"{(drawn[0] - drawn[1]).abs().max():.3g}: draws for embeddings",
    )  # fmt: skip
    assert torch.equal(small_model.embed(x), small_model.encode(x).mean)
    assert torch.equal(small_model.reconstruct(x), small_model.decode(small_model.embed(x)).mean)


def test_sampling_follows_the_generator(small_model):
    one, two, other = (small_model.sample(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.shape == (5, *small_model.event_shape)


def test_interpolation_starts_and_ends_at_the_reconstructions(small_model):
    x = torch.rand(2, *small_model.event_shape)
    path = small_model.interpolate(x[0], x[1], steps=5)
    assert torch.allclose(path[[0, -1]], small_model.reconstruct(x), atol=1e-6)
    middle = small_model.decode(small_model.embed(x).mean(0, keepdim=True)).mean
    assert torch.allclose(path[2], middle[0], atol=1e-6)


@pytest.mark.parametrize("likelihood", ["Bernoulli", "Normal", "NormalWithLearnedScale", "NormalWithOptimalScale"])
@pytest.mark.parametrize("network", ["mlp", "convolutional"])
def test_a_centred_model_starts_at_the_mean_of_the_data(likelihood, network):
    model, _ = recipes.build("vae", (2, 6, 5), latent=2, likelihood=likelihood, network=network)
    mean = 0.2 + 0.6 * torch.rand(2, 6, 5)
    model.center(mean)
    torch.nn.init.zeros_(model.decoder.layers[-1].weight)
    torch.nn.init.zeros_(model.decoder.layers[-1].bias)
    assert torch.allclose(model.decode(torch.randn(3, 2)).mean, mean.expand(3, 2, 6, 5), atol=1e-5)


def test_the_encoder_of_a_centred_model_sees_deviations_in_units_of_their_spread(small_model):
    x, mean = torch.rand(6, *small_model.event_shape), torch.rand(small_model.event_shape)
    seen = []
    small_model.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    small_model.center(mean, 0.25)
    small_model.encode(x)
    small_model.center(mean, 0.0)  # constant data
    small_model.encode(x)
    assert torch.allclose(seen[0], (x - mean) / 0.25)
    assert torch.allclose(seen[1], x - mean)


def test_wrong_input_is_refused_with_what_arrived(small_model):
    with pytest.raises(UsageError, match=r"takes \(batch, 1, 4, 4\); got the shape \(4, 4\)"):
        small_model.encode(torch.rand(4, 4))
    with pytest.raises(UsageError, match=r"got torch.uint8"):
        small_model.encode(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"\(batch, 3\); got \(2, 4\)"):
        small_model.decode(torch.rand(2, 4))


def test_parts_that_do_not_fit_are_refused():
    def model(codes=4, values=5, inputs=2):
        return Model(
            encoder=networks.MLP((5,), (codes,), hidden=()),
            posterior=posteriors.DiagonalNormal(),
            prior=priors.StandardNormal(2),
            decoder=networks.MLP((inputs,), (values,), hidden=()),
            likelihood=likelihoods.Normal(),
        )

    model()
    for wrong, match in (({"codes": 2}, "encoder must put out 4"), ({"values": 6}, "decoder must put out 5"),
                         ({"inputs": 3}, "decoder takes")):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            model(**wrong)


def test_descriptions_make_the_same_model(small_model):
    again = Model.from_description(small_model.describe())
    again.load_state_dict(small_model.state_dict())
    x = torch.rand(3, *small_model.event_shape)
    assert torch.equal(again.reconstruct(x), small_model.reconstruct(x))


@pytest.mark.parametrize("units", [10**9, 10**18, 2**62])
def test_absurd_sizes_are_refused_before_anything_is_allocated(small_model, units):
    description = small_model.describe()
    description["encoder"]["hidden"] = [units, units]
    with pytest.raises(UsageError, match=rf"budget is {re.escape(f'{PARAMETER_BUDGET:.3g}')}|cannot be made"):
        Model.from_description(description)


def test_descriptions_that_are_no_model_are_refused(small_model):
    for change in ({"extra": 1}, {"decoder": None}):
        with pytest.raises(UsageError):
            Model.from_description({**small_model.describe(), **change})
