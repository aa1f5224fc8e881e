"""Poisson, negative binomial and zero-inflated counts against SciPy, and what a library size does to them."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

import gapless
from gapless import likelihoods, study
from gapless.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from gapless.settings import Settings

MEANS = [1e-4, 0.3, 5.0, 900.0]
DISPERSIONS = [1e-3, 0.2, 3.0, 49.9, 50.1, 4e3, 2e6]
COUNTS = np.array([0, 1, 2, 7, 60, 900, 30_000])


def doubles(*values):
    return tuple(torch.tensor(v, dtype=torch.float64) for v in values)


def scipys(mean, r):
    return stats.nbinom(r, r / (r + mean))


def exactly(count, mean, r):
    """log P(count) in 40 digits: SciPy's own parameter, r / (r + mean), loses what a large r leaves of the mean."""
    with mpmath.workdps(40):
        x, m, r = mpmath.mpf(int(count)), mpmath.mpf(mean), mpmath.mpf(r)
        rising = mpmath.loggamma(x + r) - mpmath.loggamma(r) - mpmath.loggamma(x + 1)
        return float(rising + r * mpmath.log(r / (r + m)) + x * mpmath.log(m / (r + m)))


@pytest.mark.parametrize("r", DISPERSIONS)
def test_the_negative_binomial_is_exact_whatever_its_dispersion(r, ledger):
    x = torch.from_numpy(COUNTS).double()
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        error = 0.0
        for mean in MEANS:
            logs = torch.tensor([math.log(mean), math.log(r)], dtype=dtype)
            ours = NegativeBinomial(*logs, event_dims=0).log_prob(x.to(dtype)).double().numpy()
            theirs = np.array([exactly(count, *logs.double().exp().tolist()) for count in COUNTS])
            # What is added has the size of x log x: a number of digits of that is what rounding leaves.
            size = 1 + np.abs(theirs) + COUNTS * (1 + np.abs(logs.double().numpy()).sum() + np.log1p(COUNTS))
            error = max(error, float(np.max(np.abs(ours - theirs) / size)))
        ledger(
            "NegativeBinomial", f"log-probability, relative to x log x, inverse dispersion {r:g}, {dtype}",
            oracle="loggamma in 40 digits", truth=0, measured=error, tolerance=tolerance, why="rounding",
        )  # fmt: skip


@pytest.mark.parametrize("r", [0.2, 3.0, 60.0])
def test_the_negative_binomial_equals_scipy(r, ledger):
    x, worst = torch.from_numpy(COUNTS).double(), 0.0
    for mean in MEANS:
        ours = NegativeBinomial(*doubles(math.log(mean), math.log(r)), event_dims=0).log_prob(x).numpy()
        worst = max(worst, np.max(np.abs(ours / scipys(mean, r).logpmf(COUNTS) - 1)))
    ledger(
        "NegativeBinomial", f"log-probability, relative, worst of 28, inverse dispersion {r:g}",
        oracle="scipy.stats.nbinom", truth=0, measured=worst, tolerance=1e-9, why="rounding of its probability",
    )  # fmt: skip


def test_counts_sum_to_one(ledger):
    x = torch.arange(4000).double()
    log_mean, log_r, zero = doubles(math.log(6.0), math.log(0.8), 0.4)
    for q in (
        Poisson(log_mean, event_dims=0),
        NegativeBinomial(log_mean, log_r, event_dims=0),
        ZeroInflatedNegativeBinomial(log_mean, log_r, zero, event_dims=0),
    ):
        mass = q.log_prob(x).exp()
        mean = (mass * x).sum()
        for quantity, truth, measured in (
            ("sum over the counts", 1, mass.sum()),
            ("mean", mean, q.mean),
            ("variance", (mass * x.square()).sum() - mean**2, q.variance),
        ):
            ledger(
                type(q).__name__, quantity, oracle="enumeration to 4,000", truth=truth, measured=measured,
                tolerance=1e-9, why="float64",
            )  # fmt: skip
        assert q.mode.item() == mass.argmax()


def test_the_poisson_equals_scipy(ledger):
    x = torch.from_numpy(COUNTS).double()
    worst = max(
        np.max(
            np.abs(
                Poisson(*doubles(math.log(mean)), event_dims=0).log_prob(x).numpy() / stats.poisson(mean).logpmf(COUNTS)
                - 1
            )
        )
        for mean in MEANS
    )
    ledger(
        "Poisson", "log-probability, relative, worst of 28", oracle="scipy.stats.poisson", truth=0, measured=worst,
        tolerance=1e-10, why="float64",
    )  # fmt: skip


def test_the_zero_inflated_is_the_mixture(ledger):
    mean, r, logit = 2.5, 0.7, -0.6
    q = ZeroInflatedNegativeBinomial(*doubles(math.log(mean), math.log(r), logit), event_dims=0)
    share = 1 / (1 + math.exp(-logit))
    truth = (1 - share) * scipys(mean, r).pmf(COUNTS) + share * (COUNTS == 0)
    worst = np.abs(q.log_prob(torch.from_numpy(COUNTS).double()).exp().numpy() - truth).max()
    ledger(
        "ZeroInflatedNegativeBinomial", "probability, worst of 7", oracle="scipy.stats.nbinom, mixed with zeros",
        truth=0, measured=worst, tolerance=1e-12, why="float64",
    )  # fmt: skip


def test_a_negative_binomial_of_no_dispersion_is_a_poisson():
    x, log_mean = torch.arange(40).float(), torch.tensor(2.0)
    q = NegativeBinomial(log_mean, torch.tensor(15.0), event_dims=0)
    assert torch.allclose(q.log_prob(x), Poisson(log_mean, event_dims=0).log_prob(x), atol=2e-4)


@pytest.mark.parametrize("name", ["Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"])
@pytest.mark.parametrize("library", [False, True])
def test_extreme_outputs_have_finite_densities_and_gradients(name, library):
    head = getattr(likelihoods, name)(library=library)
    for extreme in (1e4, -1e4):
        parameters = torch.randn(3, *head.parameter_shape((4,)))
        parameters[:, :, 0] = extreme
        parameters.requires_grad_()
        for x in (torch.zeros(3, 4), torch.tensor([[9.0, 0, 1, 100_000]] * 3)):
            score = head.calibrate(head(parameters), x).log_prob(x)
            assert torch.isfinite(score).all()
            assert torch.isfinite(torch.autograd.grad(score.sum(), parameters)[0]).all()


# Library sizes.

HEADS = {
    name: lambda name=name: getattr(likelihoods, name)(library=True)
    for name in ("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial")
}


@pytest.mark.parametrize("name", HEADS)
def test_an_item_is_scored_under_its_own_total_in_training_and_evaluation(name):
    head = HEADS[name]()
    head.offset(torch.full((2, 3), 4.0))
    x = torch.randint(1, 50, (5, 2, 3)).float()
    parameters = torch.randn(5, *head.parameter_shape((2, 3)))
    for mode in (True, False):
        q = head.train(mode).calibrate(head(parameters), x)
        assert torch.allclose(q.rate.sum((1, 2)), x.sum((1, 2)), rtol=1e-5)
        shares = parameters[:, 0].flatten(1).softmax(1).reshape(5, 2, 3)
        assert torch.allclose(q.rate, shares * x.sum((1, 2), keepdim=True), rtol=1e-4)


def test_a_poisson_given_the_total_is_a_multinomial(ledger):
    head, x = likelihoods.Poisson(library=True).double(), torch.randint(0, 9, (6, 5)).double()
    logits = torch.randn(6, 1, 5, dtype=torch.float64)
    ours = head.calibrate(head(logits), x).log_prob(x)
    shares, total = logits[:, 0].softmax(1).numpy(), x.sum(1).numpy()
    truth = [
        stats.multinomial(n, p).logpmf(row) + stats.poisson(n).logpmf(n)
        for n, p, row in zip(total, shares, x.numpy(), strict=True)
    ]
    ledger(
        "Poisson(library=True)", "log-probability, worst of 6", oracle="multinomial times Poisson of the total, SciPy",
        truth=0, measured=(ours - torch.tensor(truth)).abs().max(), tolerance=1e-11, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_what_is_decoded_without_an_item_has_the_mean_total_of_the_training_items(name):
    head, mean = HEADS[name](), torch.rand(7) * 5
    head.offset(mean)
    kept = 1 + math.exp(-4.0) if name.startswith("Zero") else 1  # a share of zeros comes on top
    for _ in range(3):
        q = head(torch.randn(4, *head.parameter_shape((7,))))
        assert torch.allclose(q.rate.sum(1), kept * mean.sum().expand(4), rtol=1e-5)
    other = HEADS[name]()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.size, head.size)


@pytest.mark.parametrize("name", HEADS)
def test_an_item_without_counts_is_scored(name):
    head = HEADS[name]()
    parameters = torch.randn(2, *head.parameter_shape((3,))).requires_grad_()
    score = head.calibrate(head(parameters), torch.zeros(2, 3)).log_prob(torch.zeros(2, 3))
    assert torch.isfinite(score).all()
    assert torch.isfinite(torch.autograd.grad(score.sum(), parameters)[0]).all()


def test_the_total_of_what_was_observed_is_explained_by_its_shares():
    head = likelihoods.Poisson(library=True)
    head.missing = True
    x, logits = torch.tensor([[4.0, torch.nan, 8.0]]), torch.tensor([[[0.0, 1.0, -1.0]]])
    rate = head.calibrate(head(logits), x).rate
    assert torch.allclose(rate[0, [0, 2]].sum(), torch.tensor(12.0))
    shares = logits[0, 0].softmax(0)
    assert torch.allclose(rate[0] / rate.sum(), shares)


def test_dispersion_and_share_do_not_change_with_the_library():
    head = likelihoods.ZeroInflatedNegativeBinomial((3,))
    with torch.no_grad():
        head.log_inverse_dispersion.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    parameters, x = torch.randn(2, 2, 3), torch.tensor([[1.0, 2, 3], [50, 70, 0]])
    before, after = head(parameters), head.calibrate(head(parameters), x)
    assert torch.equal(after.zero_logits, before.zero_logits)
    assert torch.equal(after.counts.log_inverse_dispersion, before.counts.log_inverse_dispersion)
    assert torch.allclose((after.log_rate - before.log_rate).exp(), x.sum(1, keepdim=True).expand(2, 3), rtol=1e-5)


def test_the_encoder_is_shown_logarithms_of_counts():
    counts = np.random.default_rng(1).negative_binomial(1, 0.05, (200, 6))
    for name in ("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"):
        head = getattr(likelihoods, name)()
        x = torch.from_numpy(counts).float()
        assert torch.allclose(head.view(x), torch.log(1 + x))
    data = gapless.read(counts, likelihood="NegativeBinomial", scaling="none")
    model = study.train(data, settings=Settings(latent=2, epochs=1, hidden=(8,))).model
    train = np.log1p(data.train.take(range(len(data.train))))
    assert np.allclose(model.shift.numpy(), train.mean(0), atol=1e-5)
    assert model.spread.item() == pytest.approx(math.sqrt(train.var(0).mean()), rel=1e-4)


def test_the_dispersion_is_learned_to_that_of_the_data():
    r = np.array([0.3, 4.0])
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.negative_binomial(r, r / (r + 5.0), (20_000, 2))).float()
    head, logs = likelihoods.NegativeBinomial((2,)), torch.full((1, 1, 2), math.log(5.0))
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50)

    def loss():
        optimizer.zero_grad()
        value = -head(logs).log_prob(x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    found = head.log_inverse_dispersion.detach().double().requires_grad_()
    curvature = torch.func.hessian(lambda t: -NegativeBinomial(logs[:, 0].double(), t).log_prob(x.double()).sum())(
        found
    ).diagonal()
    errors = curvature.rsqrt()  # of maximum likelihood
    assert ((found - torch.from_numpy(np.log(r))).abs() <= 4 * errors).all()


@pytest.mark.parametrize("library", [False, True])
def test_the_dispersion_starts_at_that_of_the_moments(library):
    rng, r = np.random.default_rng(3), np.array([0.5, 2.0, 8.0])
    mean = np.array([4.0, 9.0, 30.0])
    sizes = np.exp(rng.normal(0, 0.5, (50_000, 1))) if library else np.ones((50_000, 1))
    x = torch.from_numpy(rng.negative_binomial(r, r / (r + sizes * mean))).float()
    for shape in ((3,), ()):
        for kind in (likelihoods.NegativeBinomial, likelihoods.ZeroInflatedNegativeBinomial):
            head = kind(shape, library=library)
            head.start(x)
            found = head.log_inverse_dispersion.detach().exp().numpy()
            # The totals say something of the counts themselves; without them a moment of 50,000 is right to some %.
            if shape and not library:
                assert np.allclose(found, r, rtol=0.1)
            assert (found > 0.4).all()
            assert (found < 40).all()
    poisson = torch.poisson(torch.full((5000, 3), 4.0))
    head = likelihoods.NegativeBinomial((3,))
    head.start(poisson)
    assert head.log_inverse_dispersion.exp().min() > 20  # none to be seen
    head.start(torch.zeros(5, 3))
    assert torch.isfinite(head.log_inverse_dispersion).all()
    missing = x.masked_fill(torch.rand(x.shape) < 0.3, math.nan)
    head.start(missing)
    if not library:
        assert np.allclose(head.log_inverse_dispersion.detach().exp().numpy(), r, rtol=0.15)


# Cells.


@pytest.mark.slow
def test_scvi_explains_held_out_cells_better_than_the_shares_of_the_mean_cell(shared_data):
    data = gapless.read(cells(shared_data, genes=200), likelihood="ZeroInflatedNegativeBinomial", scaling="none")
    run = study.train(data, recipe="scvi", settings=Settings(latent=8, epochs=5, hidden=(64,)))
    train, held_out = (torch.from_numpy(part.take(range(len(part)))).double() for part in (data.train, data.held_out))
    # Without codes and dispersion, and given the same totals, this Poisson is the best there is.
    rate = held_out.sum(1, keepdim=True).clamp_min(1) * train.mean(0).clamp_min(1e-6) / train.sum(1).mean()
    mean_cell = Poisson(rate.log()).log_prob(held_out)
    z = run.model.embed(held_out.float())
    explained = run.model.likelihood.calibrate(run.model.decode(z), held_out.float())
    better = explained.log_prob(held_out.float()).double() - mean_cell
    assert better.mean() > 4 * better.std() / math.sqrt(len(better))
    assert run.held_out["elbo"] > mean_cell.mean() + 2
    assert torch.allclose(explained.rate.sum(1), held_out.sum(1).clamp_min(1).float(), rtol=1e-4)


def cells(folder, *, genes):
    """Counts of the genes with the largest variance of log(1 + count per mean total)."""
    stored = np.load(folder / "cells" / "10x_10k_subset_counts.npz", allow_pickle=False)
    counts = np.zeros(tuple(stored["shape"]), dtype=np.int32)
    rows = np.repeat(np.arange(len(counts)), np.diff(stored["indptr"]))
    counts[rows, stored["indices"]] = stored["data"]
    total = counts.sum(1, keepdims=True).clip(1)
    spread = np.log1p(counts * (total.mean() / total)).var(0)
    return counts[:, np.argsort(-spread)[:genes]]
