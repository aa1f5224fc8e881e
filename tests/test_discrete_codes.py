"""Categorical variables, their relaxation, priors over codes, and products."""

import copy
import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from gapless import networks, objectives, posteriors, priors, recipes
from gapless.distributions import (
    Codes,
    DiagonalNormal,
    OneHotCategorical,
    Product,
    RelaxedCategorical,
    divergence,
    divergence_of_parts,
)
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.parts import describe

LOGITS = torch.tensor([[[0.3, -1.0], [1.2, 0.5], [-0.7, 2.0]]], dtype=torch.float64)  # 3 classes of 2 variables


def seeded(number=0):
    return torch.Generator().manual_seed(number)


# Densities and draws of the relaxation.


@pytest.mark.parametrize("temperature", [0.3, 0.67, 2.0])
def test_the_relaxed_density_is_torchs(temperature, ledger):
    q = RelaxedCategorical(LOGITS, temperature)
    z = q.sample((50,), seeded())
    t = torch.tensor(temperature, dtype=torch.float64)
    theirs = torch.distributions.RelaxedOneHotCategorical(t, logits=LOGITS.mT)
    expected = theirs.log_prob(z.unflatten(-1, (3, 2)).mT).sum(-1)
    ledger(
        "RelaxedCategorical", f"log-density, temperature {temperature:g}", oracle="torch RelaxedOneHotCategorical",
        truth=0, measured=(q.log_prob(z) - expected).abs().max(), tolerance=1e-9, why="rounding",
    )  # fmt: skip


def test_the_relaxed_density_of_two_classes_integrates_to_one(ledger):
    q = RelaxedCategorical(torch.tensor([[[0.4], [-0.5]]], dtype=torch.float64), 0.8)
    density = lambda x: q.log_prob(torch.tensor([[x, 1 - x]], dtype=torch.float64)).exp().item()  # noqa: E731
    total, _ = integrate.quad(density, 0, 1, limit=400)
    ledger(
        "RelaxedCategorical", "integral of the density, 2 classes", oracle="scipy.integrate.quad", truth=1,
        measured=total, tolerance=1e-6, why="quadrature with integrable poles",
    )  # fmt: skip


@pytest.mark.parametrize("kind", [OneHotCategorical, lambda logits: RelaxedCategorical(logits, 0.5)])
def test_the_largest_entry_is_a_draw_of_the_class(kind, ledger):
    # Gumbel-max: whatever the temperature, P(argmax = k) = pi_k.
    q, count = kind(LOGITS), 40_000
    z = q.sample((count,), seeded(2)).unflatten(-1, (3, 2))
    assert torch.allclose(z.sum(-2), torch.ones(count, 1, 2, dtype=torch.float64))
    found = torch.nn.functional.one_hot(z.argmax(-2), 3).double().mean((0, 1)).mT
    shares = torch.softmax(LOGITS, 1)[0]
    for k, v in itertools.product(range(3), range(2)):
        ledger(
            f"{type(q).__name__}.rsample", f"share of class {k} of variable {v}", oracle="softmax", truth=shares[k, v],
            measured=found[k, v], tolerance=4 * math.sqrt(shares[k, v] * (1 - shares[k, v]) / count),
            why="4 standard errors",
        )  # fmt: skip


def test_one_hot_draws_have_their_moments_and_probabilities():
    q = OneHotCategorical(LOGITS)
    z = q.sample((20_000,), seeded(3))
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert ((z.mean(0) - q.mean).abs() <= 4.5 * q.stddev / math.sqrt(20_000)).all()
    every = [posteriors.RelaxedCategorical(3).vectors(torch.tensor(k)) for k in itertools.product(range(3), repeat=2)]
    masses = q.log_prob(torch.stack(every)[:, None].double()).exp()
    assert masses.sum().item() == pytest.approx(1)
    theirs = torch.distributions.OneHotCategorical(logits=LOGITS.mT)
    expected = theirs.log_prob(z[:9].unflatten(-1, (3, 2)).mT).sum(-1)
    assert torch.allclose(q.log_prob(z[:9]), expected)
    assert torch.equal(q.mode.unflatten(-1, (3, 2)).argmax(-2), LOGITS.argmax(1))


def test_the_gradient_of_a_relaxed_draw_is_pathwise(ledger):
    # Two classes: x = sigmoid((l + g1 - g2) / t); d/dl E f(x) by quadrature over the logistic noise.
    logit, t, count = 0.7, 0.9, 40_000
    logits = torch.zeros(count, 2, 1, dtype=torch.float64)
    logits[:, 0] = logit
    q = RelaxedCategorical(logits.requires_grad_(), t)
    z = q.rsample((), seeded(4))
    (gradient,) = torch.autograd.grad(z[:, 0].square().sum(), logits)
    found = gradient[:, 0, 0]
    value = lambda l: integrate.quad(  # noqa: E731, E741
        lambda g: stats.logistic.pdf(g) / (1 + math.exp(-(l + g) / t)) ** 2, -40, 40, epsabs=1e-12, limit=200
    )[0]
    truth = (value(logit + 1e-4) - value(logit - 1e-4)) / 2e-4
    ledger(
        "RelaxedCategorical.rsample", "d E x^2 / d logit, 2 classes", oracle="quadrature over the noise", truth=truth,
        measured=found.mean(), tolerance=4 * found.std() / math.sqrt(count), why="4 standard errors",
    )  # fmt: skip


# KL to codes, and codes.


def test_the_kl_is_that_of_the_one_hot_vectors(ledger):
    p = priors.UniformCodes(6).double().join(posteriors.RelaxedCategorical(3))()
    shares = torch.softmax(LOGITS, 1)[0].mT
    truth = sum(stats.entropy(pi.numpy(), [1 / 3] * 3) for pi in shares)
    for q in (RelaxedCategorical(LOGITS, 0.4), OneHotCategorical(LOGITS)):
        ledger(
            f"KL({type(q).__name__}, Codes)", "nats, 2 variables", oracle="scipy.stats.entropy", truth=truth,
            measured=divergence(q, p), tolerance=1e-6, why="shares of the prior in float32 at the least",
        )  # fmt: skip
    learned = priors.LearnedCodes(6, (3, 3)).double().join(posteriors.RelaxedCategorical(3))
    learned.logits.data = torch.randn(2, 3, generator=seeded(8), dtype=torch.float64)
    others = torch.distributions.Categorical(logits=learned.logits.detach())
    theirs = torch.distributions.kl_divergence(torch.distributions.Categorical(logits=LOGITS.mT), others).sum()
    ledger(
        "KL(OneHotCategorical, Codes)", "nats, 2 variables, learned shares", oracle="torch.distributions",
        truth=theirs, measured=divergence(OneHotCategorical(LOGITS), learned()), tolerance=1e-9, why="float64",
    )  # fmt: skip
    # By draws: of the one-hot vectors. Those of the relaxation have a density, and their KL is taken for the vectors'.
    count = 50_000
    z = OneHotCategorical(LOGITS).sample((count,), seeded(5))
    for name, prior in (("uniform", p), ("learned", learned())):
        difference = (OneHotCategorical(LOGITS).log_prob(z)[:, 0] - prior.log_prob(z[:, 0])).detach()
        ledger(
            "KL(OneHotCategorical, Codes)", f"nats, 2 variables, {name} shares", oracle="Monte Carlo, 50,000 draws",
            truth=difference.mean(), measured=divergence(OneHotCategorical(LOGITS), prior),
            tolerance=4 * difference.std() / math.sqrt(count), why="4 standard errors",
        )  # fmt: skip


def test_masses_of_all_codes_are_those_of_torch(ledger):
    head = posteriors.RelaxedCategorical(3)
    every = torch.stack([head.vectors(torch.tensor(k)) for k in itertools.product(range(3), repeat=2)]).double()
    symbols = torch.tensor(list(itertools.product(range(3), repeat=2)))
    learned = priors.LearnedCodes(6, (3, 3)).double().join(head)
    learned.logits.data = torch.randn(2, 3, generator=seeded(9), dtype=torch.float64)
    for prior in (priors.UniformCodes(6).double().join(head), learned):
        logits = learned.logits.detach() if prior is learned else torch.zeros(2, 3, dtype=torch.float64)
        theirs = torch.distributions.Categorical(logits=logits).log_prob(symbols).sum(-1)
        found = prior().log_prob(every).detach()
        for quantity, truth, measured in (
            ("log-probability, worst of 9 codes", 0, (found - theirs).abs().max()),
            ("sum over the 9 codes", 1, found.exp().sum()),
        ):
            ledger(type(prior).__name__, quantity, oracle="torch.distributions", truth=truth, measured=measured,
                   tolerance=1e-9, why="float64")  # fmt: skip


def test_a_point_that_is_no_code_has_no_mass():
    p = priors.UniformCodes(6).join(posteriors.RelaxedCategorical(3))()
    codes = p.sample((5,), generator=seeded())
    assert torch.allclose(p.log_prob(codes), torch.full((5,), -2 * math.log(3)))
    assert torch.equal(p.log_prob(0.9 * codes), torch.full((5,), -torch.inf))


CODED = {
    "RelaxedCategorical": (lambda: posteriors.RelaxedCategorical(3), 6),
    "VectorQuantized": (lambda: posteriors.VectorQuantized(5, 2), 4),
    "ResidualQuantized": (lambda: posteriors.ResidualQuantized(3, 2, levels=2), 4),
    "FSQ": (lambda: posteriors.FSQ((4, 3)), 4),
}


@pytest.mark.parametrize("name", CODED)
def test_priors_over_codes_draw_every_code_alike(name):
    make, latent = CODED[name]
    head = make()
    for parameter in head.parameters():
        parameter.data = torch.randn_like(parameter)
        if parameter.dim() == 3:  # levels of falling size: every sum is nearest to its own codes
            parameter.data *= torch.tensor([10.0, 0.1])[:, None, None]
    p = priors.UniformCodes(latent).join(head)()
    sizes, count = head.symbols(latent), 8000
    found = head.indices(p.sample((count,), generator=seeded(6)))
    assert found.shape == (count, len(sizes))
    for symbol, size in enumerate(sizes):
        seen = torch.bincount(found[:, symbol], minlength=size).double()
        assert len(seen) == size
        assert stats.chisquare(seen.numpy()).pvalue > 1e-4
    assert torch.allclose(p.log_prob(p.sample((4,), generator=seeded())), -torch.tensor(sizes).float().log().sum())
    every = torch.cartesian_prod(*[torch.arange(size) for size in sizes])
    assert torch.allclose(p.log_mass(every).exp().sum(), torch.tensor(1.0), atol=1e-4)


def test_learned_shares_become_the_frequencies_of_the_codes(ledger):
    head = posteriors.FSQ((3,))
    prior = priors.LearnedCodes(2, (3, 3)).join(head)
    x = torch.tensor([[-9.0, 0.0], [-9.0, 9.0], [0.0, -9.0], [9.0, 9.0]])  # codes (0, 1), (0, 2), (1, 0), (2, 2)
    loss = lambda: divergence(head(x), prior()).mean()  # noqa: E731
    optimizer = torch.optim.SGD(prior.parameters(), lr=4.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    expected = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    ledger(
        "LearnedCodes", "shares of least KL to 4 codes, worst of 6", oracle="their frequencies", truth=0,
        measured=(prior.logits.softmax(-1) - expected).abs().max(), tolerance=1e-3, why="60 steps of descent",
    )  # fmt: skip
    entropy = sum(stats.entropy(row) for row in expected.numpy())
    assert loss().item() == pytest.approx(entropy, abs=5e-3)


# In a model.


def model_of(posterior, latent=6, prior=None):
    return Model(
        encoder=networks.MLP((5,), posterior.parameter_shape(latent), hidden=(8,)), posterior=posterior,
        prior=prior or priors.UniformCodes(latent), decoder=networks.MLP((latent,), (5,), hidden=(8,)),
        likelihood=recipes.build("vae", (5,))[0].likelihood,
    )  # fmt: skip


def test_training_is_relaxed_and_evaluation_discrete():
    model, x = model_of(posteriors.RelaxedCategorical(3)), torch.rand(4, 5)
    assert isinstance(model.encode(x), RelaxedCategorical)
    model.eval()
    z = draw(model, x, samples=3).z
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(model.embed(x).unflatten(-1, (3, 2)).sum(-2), torch.ones(4, 2))
    assert torch.equal(model.embed(x), model.embed(x))


def test_bounds_of_the_discrete_model_meet_its_evidence(ledger):
    # Nine codes: log p(x) is a sum over all of them.
    model, x, count = model_of(posteriors.RelaxedCategorical(3)).eval(), torch.rand(1, 5), 20_000
    with torch.no_grad():
        every = torch.stack([model.posterior.vectors(torch.tensor(k)) for k in itertools.product(range(3), repeat=2)])
        joint = model.decode(every).log_prob(x.expand(9, 5)) - math.log(9)
        truth = joint.logsumexp(0)
        weights = (draw(model, x, samples=count, generator=seeded(1)).log_weights() - truth).exp().double()
        q = model.encode(x).log_prob(every)
        elbo = (q.exp() * (joint - q)).sum()
        found = objectives.ELBO(samples=count)(model, x, generator=seeded(2)).elbo
    ledger(
        "RelaxedCategorical, evaluated", "mean importance weight over p(x)", oracle="sum over all codes", truth=1,
        measured=weights.mean(), tolerance=4 * weights.std() / math.sqrt(count), why="4 standard errors",
    )  # fmt: skip
    assert elbo < truth
    spread = model.decode(every).log_prob(x.expand(9, 5)).std()
    assert abs(found - elbo) <= 6 * spread / math.sqrt(count)


def test_the_prior_sees_the_codes_of_its_model_and_saves_none():
    model = model_of(posteriors.VectorQuantized(7, 2))
    assert not [name for name in model.state_dict() if name.startswith("prior")]
    assert describe(model.prior) == {"kind": "UniformCodes", "latent": 6}
    again = Model.from_description(model.describe())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.sample_codes(9, generator=seeded()), model.sample_codes(9, generator=seeded()))
    other = copy.deepcopy(model)
    other.posterior.codebook.data.zero_()
    assert other.sample_codes(9).abs().max() == 0
    assert model.sample_codes(9).abs().max() > 0
    assert model.sample(3).shape == (3, 5)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: priors.UniformCodes(3)(), "knows no codes yet"),
        (lambda: priors.UniformCodes(3).join(posteriors.PointMass()), "PointMass has none"),
        (lambda: priors.LearnedCodes(6, (3, 4)).join(posteriors.RelaxedCategorical(3)), "the prior was given"),
        (lambda: posteriors.RelaxedCategorical(3).parameter_shape(7), "--latent 6 or 9"),
        (lambda: posteriors.RelaxedCategorical(1), "at least 2 classes"),
        (lambda: posteriors.RelaxedCategorical(3, 0.0), "temperature above 0"),
        (lambda: posteriors.Product((posteriors.PointMass(),), (1, 2)), "one size a part"),
        (lambda: posteriors.Product((posteriors.PointMass(),), (2,)).parameter_shape(3), "2 latent features; got 3"),
        (lambda: priors.Product(()), "at least one part"),
        (lambda: priors.Product((priors.StandardNormal(2),)).join(posteriors.PointMass()), "of the same parts"),
        (lambda: recipes.build("joint-vae", (5,), latent=2), "at least 2 classes and 1 continuous"),
        (lambda: recipes.build("gumbel", (5,), latent=11), "make no categorical variables"),
        (lambda: recipes.build("gumbel", (5,), latent=16, options={"classes": 5}), "--latent 15 or 20"),
    ],
)
def test_what_cannot_be_is_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


# Products.


def product():
    normal = DiagonalNormal(torch.tensor([[0.3, -1.0]]).double(), torch.tensor([[0.5, 2.0]]).double())
    return Product([normal, OneHotCategorical(LOGITS)])


def test_a_product_is_its_parts_side_by_side(ledger):
    q = product()
    z = q.sample((20_000,), seeded(7))
    parts = q.parts[0].log_prob(z[..., :2]) + q.parts[1].log_prob(z[..., 2:])
    assert torch.allclose(q.log_prob(z), parts)
    assert q.mean.shape == q.stddev.shape == q.variance.shape == q.mode.shape == (1, 8)
    assert ((z.mean(0) - q.mean).abs() <= 4.5 * q.stddev / math.sqrt(20_000)).all()
    codes = Codes(torch.full((2, 3), -math.log(3)).double(), posteriors.RelaxedCategorical(3), 6)
    p = Product([DiagonalNormal(torch.zeros(2).double(), torch.ones(2).double()), codes])
    assert torch.allclose(divergence(q, p), divergence_of_parts(q, p).sum(0))
    difference = (q.log_prob(z) - p.log_prob(z))[:, 0]
    ledger(
        "KL(Product, Product)", "nats, a normal and a one-hot part", oracle="Monte Carlo, 20,000 draws",
        truth=difference.mean(), measured=divergence(q, p), tolerance=4 * difference.std() / math.sqrt(20_000),
        why="4 standard errors",
    )  # fmt: skip
    torchs = torch.distributions
    of_normals = torchs.kl_divergence(torchs.Normal(q.parts[0].loc, q.parts[0].scale), torchs.Normal(0.0, 1.0))
    even = torchs.Categorical(logits=torch.zeros(2, 3).double())
    of_codes = torchs.kl_divergence(torchs.Categorical(logits=LOGITS[0].T), even)
    ledger(
        "KL(Product, Product)", "nats, a normal and a one-hot part, each by torch", oracle="torch.distributions",
        truth=of_normals.sum() + of_codes.sum(), measured=divergence(q, p), tolerance=1e-6,
        why="shares of the prior in float32",
    )  # fmt: skip
    for part, truth in enumerate((of_normals.sum(), of_codes.sum())):
        ledger(
            "divergence_of_parts", f"nats of part {part}: {('a normal', 'a one-hot code')[part]}", truth=truth,
            oracle="torch.distributions", measured=divergence_of_parts(q, p)[part], tolerance=1e-6, why="float32",
        )  # fmt: skip


def test_a_product_of_one_split_is_the_whole():
    # Two halves of a diagonal normal are the diagonal normal, with the encoder's numbers in another order.
    head = posteriors.Product((posteriors.DiagonalNormal(), posteriors.DiagonalNormal()), (1, 2))
    raw = torch.randn(4, 6)
    q, whole = head(raw), posteriors.DiagonalNormal()(raw[:, [0, 2, 3, 1, 4, 5]])
    p = priors.Product((priors.StandardNormal(1), priors.StandardNormal(2)))()
    assert torch.allclose(divergence(q, p), divergence(whole, priors.StandardNormal(3)()), atol=1e-5)
    z = torch.randn(7, 4, 3)
    assert torch.allclose(q.log_prob(z), whole.log_prob(z), atol=1e-4)


def test_parts_without_a_closed_form_are_estimated_by_the_draws():
    q, p = product(), Product([DiagonalNormal(torch.zeros(8).double(), torch.ones(8).double())])
    z = q.sample((9,), seeded())
    assert torch.allclose(divergence(q, p, z), (q.log_prob(z) - p.log_prob(z)).mean(0))


def test_each_part_of_a_joint_vae_is_drawn_to_its_own_capacity(ledger):
    given = {"classes": 3, "continuous": 0.0, "discrete": 9.0}  # one part above its capacity, one below
    model, objective = recipes.build("joint-vae", (5,), latent=6, hidden=(8,), options=given)
    x = torch.rand(10, 5)
    terms = objective(model, x, generator=seeded())
    kl = divergence_of_parts(model.encode(x), model.prior_distribution()).mean(1)
    expected = terms.reconstruction.mean() + 30 * ((kl[0] - 0).abs() + (kl[1] - math.log(3)).abs())
    ledger(
        "ELBO with a capacity a part", "loss of joint-vae", oracle="Dupont (2018), eq. 7, by hand", truth=expected,
        measured=terms.loss, tolerance=1e-3, why="rounding of float32",
    )  # fmt: skip
    assert torch.allclose(terms.regularization.mean(), kl.sum(), atol=1e-5)
    objective.plan(100)
    started = objective(model, x, step=0, generator=seeded())
    assert torch.allclose(started.loss, started.reconstruction.mean() + 30 * kl.sum(), atol=1e-3)
    with pytest.raises(UsageError, match="a capacity a part needs products"):
        objective(recipes.build("vae", (5,))[0], x)
