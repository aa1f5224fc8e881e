"""The parts of the aggregate KL on mixtures that are known, and the covariance of the codes."""

import itertools
import math

import numpy as np
import pytest
import torch

from codes import drawn, noise, normal
from gapless import recipes, regularizers
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.objectives import ELBO

ITEMS, LATENT = 5, 2
LOC = torch.tensor([[-1.5, -1.0], [-0.4, -0.6], [0.2, 0.1], [0.9, 1.1], [1.6, 0.7]], dtype=torch.float64)
SCALE = torch.tensor([[0.5, 0.4], [0.6, 0.5], [0.3, 0.7], [0.5, 0.5], [0.4, 0.6]], dtype=torch.float64)
POSTERIOR = normal(LOC, SCALE)


def mixture(features=slice(None)):
    """q(z) of all items, or of some features of it, by torch.distributions."""
    parts = torch.distributions.Independent(torch.distributions.Normal(LOC[:, features], SCALE[:, features]), 1)
    equal = torch.distributions.Categorical(logits=torch.zeros(ITEMS, dtype=torch.float64))
    return torch.distributions.MixtureSameFamily(equal, parts)


def exact():
    """log q(z|x) - log p(z) split by the known mixture, as functions of z of item i."""
    single = [mixture([j]) for j in range(LATENT)]

    def parts(z):
        joint = mixture().log_prob(z)
        marginals = sum(single[j].log_prob(z[..., j : j + 1]) for j in range(LATENT))
        prior = normal(torch.zeros(LATENT, dtype=torch.float64), 1.0).log_prob(z)
        return POSTERIOR.log_prob(z) - joint, joint - marginals, marginals - prior

    return parts


def by_quadrature():
    """I(x; z), TC and the KL of the single features, in nats, on a grid."""
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, LATENT)
    cell = float(axis[1] - axis[0]) ** 2
    weights = POSTERIOR.log_prob(grid).exp() * cell / ITEMS  # (places, items): mass of q(z|x_i) / N
    assert float(weights.sum()) == pytest.approx(1, abs=1e-8)
    return [float((weights * part).sum()) for part in exact()(grid.expand(-1, ITEMS, -1))]


def parts_of(z, *, estimator="stratified", items=ITEMS, posterior=POSTERIOR):
    part = regularizers.Decomposition(estimator=estimator)
    part.plan(items)
    return part.parts(drawn(z, posterior=posterior))


def test_where_the_batch_is_all_the_data_the_stratified_parts_are_the_mixtures_own(ledger):
    z = POSTERIOR.sample((2000,), noise())
    found, names = parts_of(z), ("I(x; z)", "total correlation", "KL of the single features")
    for mine, theirs in zip(found, exact()(z), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-12)
    for name, values, truth in zip(names, found, by_quadrature(), strict=True):
        error = values.mean(1).std() / math.sqrt(len(z))
        ledger(
            "Decomposition", f"{name}, stratified, the batch is all the data", oracle="quadrature of a known mixture",
            truth=truth, measured=values.mean(), tolerance=4 * error, why="4 standard errors",
        )  # fmt: skip


@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
@pytest.mark.parametrize("items", [ITEMS, 40, 50_000])
def test_the_parts_add_up_to_the_kl_draw_by_draw(estimator, items):
    z = POSTERIOR.sample((3,), noise())
    prior = normal(torch.zeros(LATENT, dtype=torch.float64), 1.0)
    total = torch.stack(parts_of(z, estimator=estimator, items=items)).sum(0)
    assert torch.allclose(total, POSTERIOR.log_prob(z) - prior.log_prob(z), atol=1e-10)


def strided(z, size):
    """The mean of q(z) of item 0 with the weights of rtqichen/beta-tcvae, `_log_importance_weight_matrix`."""
    others, found = size - 1, []
    weights = torch.full((size, size), 1 / others, dtype=torch.float64)
    weights.view(-1)[:: others + 1] = 1 / ITEMS
    weights.view(-1)[1 :: others + 1] = (ITEMS - others) / (ITEMS * others)
    weights[others - 1, 0] = (ITEMS - others) / (ITEMS * others)
    for rows in itertools.permutations(range(ITEMS), size):
        if 0 in rows:
            densities = normal(LOC[list(rows)], SCALE[list(rows)]).log_prob(z[0, 0]).exp()
            found.append(weights[rows.index(0)] @ densities)
    return torch.stack(found).mean()


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_over_all_batches_the_stratified_density_is_exact(size, ledger):
    z = POSTERIOR.sample((1,), noise())
    joint, first = [], []
    for others in itertools.combinations(range(1, ITEMS), size - 1):
        rows = [*others, 0]  # every batch that has item 0, once; it stands last
        q = normal(LOC[rows], SCALE[rows])
        information, correlation, _ = parts_of(z[:, rows], posterior=q)
        log_q = q.log_prob(z[:, rows]) - information
        joint.append(log_q[0, -1].exp())
        first.append((log_q - correlation)[0, -1])
    truth = mixture().log_prob(z[0, 0]).exp()
    ledger(
        "Decomposition", f"mean of q(z) over all batches of {size} of {ITEMS}, stratified, relative",
        oracle="density of the known mixture", truth=1, measured=torch.stack(joint).mean() / truth, tolerance=1e-12,
        why="every batch was tried; float64",
        elsewhere=f"{strided(z, size) / truth:.3g}: weights whose stride misses the diagonal (the paper's own code)",
    )  # fmt: skip
    if size < ITEMS:
        assert torch.stack(joint).std() > 0.01 * truth  # single batches are off
        product = sum(mixture([j]).log_prob(z[0, 0, j : j + 1]) for j in range(LATENT))
        assert not torch.allclose(torch.stack(first), product, atol=1e-3)


def test_the_weighted_estimate_is_log_n_off_where_the_batch_is_all_the_data(ledger):
    z = POSTERIOR.sample((50,), noise())
    shares = (1, LATENT - 1, -LATENT)
    for name, share, mine, theirs in zip(
        ("I(x; z)", "total correlation", "KL of the single features"),
        shares,
        parts_of(z, estimator="weighted"),
        exact()(z),
        strict=True,
    ):
        ledger(
            "Decomposition", f"bias of {name}, weighted, the batch is all the data", oracle="multiples of log N",
            truth=share * math.log(ITEMS), measured=(mine - theirs).mean(), tolerance=1e-10, why="float64",
        )  # fmt: skip


def test_the_value_weighs_the_parts():
    z = POSTERIOR.sample((2,), noise())
    part = regularizers.Decomposition(0.5, -2.0, 3.0)
    part.plan(9)
    a, b, c = (values.mean() for values in parts_of(z, items=9))
    assert part(drawn(z, posterior=POSTERIOR)).value == pytest.approx(float(0.5 * a - 2 * b + 3 * c), rel=1e-12)


def test_the_recipe_is_the_vae_at_weights_of_one_and_weighs_the_kl_at_equal_ones():
    x = torch.rand(6, 5)
    for weight in (1.0, 3.0):
        options = {"beta": weight, "mutual_information": weight, "dimension": weight}
        model, objective = recipes.build("beta-tc-vae", (5,), latent=3, hidden=(8,), options=options)
        objective.plan(10, 60)
        draws = draw(model, x, generator=noise())
        sampled = (draws.posterior.log_prob(draws.z) - draws.prior.log_prob(draws.z)).mean()
        plain = ELBO()(model, x, generator=noise()).loss
        found = objective(model, x, generator=noise()).loss
        assert torch.allclose(found, plain + (weight - 1) * sampled, rtol=1e-5)
    assert recipes.build("beta-tc-vae", (5,))[1].penalties[0].total_correlation == 5


def test_items_come_from_the_plan_and_an_unknown_number_is_the_batch():
    objective = ELBO(penalties=(regularizers.Decomposition(),))
    objective.plan(10, 1234)
    assert objective.penalties[0].items == 1234
    z = POSTERIOR.sample((2,), noise())
    unknown, known = parts_of(z, items=None), parts_of(z, items=ITEMS)
    assert torch.equal(unknown.total_correlation, known.total_correlation)


def test_decompositions_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="no estimator 'exact'"):
        regularizers.Decomposition(estimator="exact")
    with pytest.raises(UsageError, match="PointMass has none"):
        parts_of(torch.zeros(1, 3, 2), posterior=drawn(torch.zeros(1, 3, 2)).posterior)
    with pytest.raises(UsageError, match="at least 0"):
        regularizers.Decomposition(weight=-1.0)


@pytest.mark.parametrize(("of", "recipe"), [("means", "dip-vae-1"), ("aggregate", "dip-vae-2")])
def test_the_covariance_is_numpys(of, recipe, ledger):
    q = normal(3 + 2 * torch.randn(7, 4, dtype=torch.float64), 0.2 + torch.rand(7, 4, dtype=torch.float64))
    covariance = np.cov(q.loc.numpy(), rowvar=False, bias=True)
    if of == "aggregate":
        covariance = covariance + np.diag(np.square(q.scale.numpy()).mean(0))
    variances = np.diag(covariance)
    truth = 3 * (np.square(covariance).sum() - np.square(variances).sum()) + 5 * np.square(variances - 1).sum()
    rows = q.loc.numpy() - q.loc.numpy().mean(1, keepdims=True)
    wrong = rows.T @ rows / len(rows) + (np.diag(np.square(q.scale.numpy()).mean(0)) if of == "aggregate" else 0)
    wrong = 3 * np.square(wrong - np.diag(np.diag(wrong))).sum() + 5 * np.square(np.diag(wrong) - 1).sum()
    penalty = regularizers.Covariance(3.0, 5.0, of=of)
    ledger(
        "Covariance", f"DIP-VAE penalty, covariance of {of}", oracle="numpy.cov", truth=truth,
        measured=penalty(drawn(q.loc[None], posterior=q)).value, tolerance=1e-9 * truth, why="float64",
        elsewhere=f"{wrong:.4g}: centred over the features of each item",
    )  # fmt: skip
    assert recipes.build(recipe, (5,))[1].penalties[0].of == of


def test_a_covariance_is_least_at_the_identity():
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    at = [regularizers.Covariance()(drawn(s * signs[None] + 7, posterior=None)).value for s in (0.8, 1.0, 1.2)]
    assert at[1] == 0
    assert min(at[0], at[2]) > 0
    with pytest.raises(UsageError, match="means or aggregate"):
        regularizers.Covariance(of="draws")
