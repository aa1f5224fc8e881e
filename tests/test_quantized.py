"""Codebooks: nearest codes, straight-through gradients, losses, and finite scalars."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.cluster import vq

from gapless import posteriors, priors, recipes
from gapless.distributions import Quantized, divergence
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.posteriors.quantized import nearest
from gapless.regularizers import Commitment, Perplexity
from gapless.regularizers.codebooks import perplexity


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def vectors_of(features, width):
    """(n, width * positions) -> (n, positions, width), written out."""
    positions = features.shape[-1] // width
    places = [[features[:, c * positions + p] for c in range(width)] for p in range(positions)]
    return torch.stack([torch.stack(vector, -1) for vector in places], 1)


# Nearest codes.


def test_the_nearest_code_is_scipys(ledger):
    vectors, book = torch.randn(500, 3), torch.randn(20, 3)
    theirs, distances = vq.vq(vectors.numpy(), book.numpy())
    found = nearest(vectors, book)
    assert np.array_equal(found.numpy(), theirs)
    ledger(
        "VectorQuantized", "distance to the nearest code", oracle="scipy.cluster.vq", truth=distances.mean(),
        measured=(vectors - book[found]).norm(dim=-1).mean(), tolerance=1e-6, why="rounding of float32",
    )  # fmt: skip


def test_codes_are_channels_before_positions():
    head, raw = posteriors.VectorQuantized(9, 2), torch.randn(4, 6)
    q = head(raw)
    expected = nearest(vectors_of(raw, 2), head.codebook)
    assert torch.equal(q.indices, expected)
    assert torch.equal(vectors_of(q.mean.detach(), 2), head.codebook[expected].detach())
    assert torch.equal(head.indices(q.mean), expected)


def test_residual_codes_are_greedy_and_their_sum():
    head, raw = posteriors.ResidualQuantized(7, 2, levels=3), torch.randn(5, 4)
    head.codebooks.data = torch.randn_like(head.codebooks)
    q, rest, total = head(raw), vectors_of(raw, 2), torch.zeros(5, 2, 2)
    for level, book in enumerate(head.codebooks.detach()):
        chosen = torch.cdist(rest, book).argmin(-1)
        assert torch.equal(q.indices.unflatten(1, (3, 2))[:, level], chosen)
        rest, total = rest - book[chosen], total + book[chosen]
        assert torch.allclose(vectors_of(q.stages[level].detach(), 2), total, atol=1e-6)
    assert torch.allclose(vectors_of(q.mean.detach(), 2), total, atol=1e-6)
    assert torch.allclose(head.vectors(q.indices), q.mean, atol=1e-6)


def test_one_level_is_the_plain_quantizer():
    plain, residual = posteriors.VectorQuantized(6, 2), posteriors.ResidualQuantized(6, 2, levels=1)
    raw = torch.randn(5, 4)
    residual.codebooks.data = plain.codebook.data[None]
    assert torch.equal(plain(raw).indices, residual(raw).indices)
    assert torch.equal(plain(raw).mean, residual(raw).mean)


# Gradients.


@pytest.mark.parametrize("make", [lambda: posteriors.VectorQuantized(6, 2), lambda: posteriors.ResidualQuantized(6, 2)])
def test_the_gradient_passes_straight_through_and_not_to_the_codebook(make):
    head, raw = make(), torch.randn(5, 4).requires_grad_()
    q, way = head(raw), torch.randn(3, 5, 4)
    z = q.rsample((3,))
    assert torch.equal(z[0], q.stages[-1])
    by_raw, by_book = torch.autograd.grad((z * way).sum(), [raw, *head.parameters()], allow_unused=True)
    assert torch.allclose(by_raw, way.sum(0), atol=1e-6)
    assert by_book is None


@functools.cache
def some_draws():
    model, _ = recipes.build("vq-vae", (5,), latent=4, hidden=(4,))
    return draw(model, torch.rand(1, 5))


def drawn_for(head, raw):
    """Draws whose posterior is that of the given encodings."""
    return dataclasses.replace(some_draws(), posterior=head(raw))


def test_the_losses_move_each_side_alone(ledger):
    head, raw = posteriors.VectorQuantized(6, 2), torch.randn(5, 4, requires_grad=True)
    draws, beta = drawn_for(head, raw), 0.3
    value = Commitment(beta=beta)(draws).value
    difference = (raw - draws.posterior.stages[-1]).detach()
    truth = (1 + beta) * difference.square().sum(1).mean()
    ledger(
        "Commitment", "value, a mean of squared lengths", oracle="van den Oord et al. (2017), eq. 3, by hand",
        truth=truth, measured=value, tolerance=1e-5, why="rounding of float32",
    )  # fmt: skip
    by_raw, by_book = torch.autograd.grad(value, (raw, head.codebook))
    assert torch.allclose(by_raw, beta * 2 * difference / 5, atol=1e-6)
    expected = torch.zeros(6, 2)
    for vector, k in zip(vectors_of(difference, 2).flatten(0, 1), draws.posterior.indices.flatten(), strict=True):
        expected[k] -= 2 * vector / 5
    assert torch.allclose(by_book, expected, atol=1e-6)


def test_the_stages_of_a_residual_quantizer_move_their_own_codebook():
    head, raw = posteriors.ResidualQuantized(4, 2, levels=2), torch.randn(5, 2)
    head.codebooks.data = torch.randn_like(head.codebooks)
    draws = drawn_for(head, raw)
    value = Commitment(beta=0.25)(draws).value
    first, second = (raw - stage.detach() for stage in draws.posterior.stages)
    lengths = first.square().sum(1) + second.square().sum(1)
    assert value.item() == pytest.approx(1.25 * lengths.mean().item(), rel=1e-5)
    (found,) = torch.autograd.grad(value, head.codebooks)
    for level, rest in enumerate((first, second)):
        expected = torch.zeros(4, 2)
        expected.index_add_(0, draws.posterior.indices[:, level], -2 * rest / 5)
        assert torch.allclose(found[level], expected, atol=1e-6)


def test_the_losses_do_not_grow_with_the_batch(ledger):
    # Mistake 8: the same items twice over are no other loss, and neither is their gradient.
    head, raw = posteriors.VectorQuantized(6, 2), torch.randn(5, 4)
    values, gradients = [], []
    for batch in (raw, raw.repeat(8, 1)):
        values.append(Commitment()(drawn_for(head, batch)).value)
        gradients.append(torch.autograd.grad(values[-1], head.codebook)[0])
    squares = (vectors_of(raw, 2) - head.codebook[head(raw).indices]).square().detach()
    summed = [1.25 * squares.repeat(copies, 1, 1).sum() for copies in (1, 8)]  # over the batch as well as the features
    ledger(
        "Commitment", "value of eight copies of a batch", oracle="that of the batch: a mean over items",
        truth=values[0], measured=values[1], tolerance=1e-5, why="rounding of float32",
        elsewhere=f"{summed[1]:.4g}, {summed[1] / summed[0]:.3g} times that of the batch: summed over the batch",
    )  # fmt: skip
    assert torch.allclose(values[0] * len(raw), summed[0], rtol=1e-5)
    assert torch.allclose(*gradients, atol=1e-5)


def test_the_losses_grow_with_the_features_of_an_item():
    head = posteriors.VectorQuantized(6, 2)
    narrow = torch.randn(5, 4)
    wide = narrow.unflatten(1, (2, 2)).repeat(1, 1, 3).flatten(1)  # three times the positions
    one, three = (Commitment()(drawn_for(head, raw)).value for raw in (narrow, wide))
    assert three.item() == pytest.approx(3 * one.item(), rel=1e-5)


def test_gradient_descent_on_the_losses_is_online_k_means():
    # With the encodings held, the best codebook is the mean of what fell to each code: Lloyd's fixed point.
    head, raw = posteriors.VectorQuantized(4, 1), torch.randn(200, 1)
    head.start(raw)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        Commitment(beta=0.0)(drawn_for(head, raw)).value.backward()
        optimizer.step()
    book, indices = head.codebook.detach(), head.indices(raw)[:, 0]
    means = torch.stack([raw[indices == k].mean(0) for k in range(4)])
    assert torch.allclose(book, means, atol=1e-3)


# KL, perplexity, start.


def test_the_kl_is_the_logarithm_of_the_number_of_codes(ledger):
    for head, latent, codes in (
        (posteriors.VectorQuantized(8, 2), 6, 8**3),
        (posteriors.ResidualQuantized(4, 2, levels=3), 4, 4**6),
        (posteriors.FSQ((5, 4)), 4, 20**2),
    ):
        q, p = head(torch.randn(3, latent)), priors.UniformCodes(latent).join(head)()
        for item in divergence(q, p):
            ledger(
                f"KL(Quantized, Codes) of {type(head).__name__}", f"nats, {codes} codes", oracle="log of their number",
                truth=math.log(codes), measured=item, tolerance=1e-5, why="rounding of float32",
            )  # fmt: skip
            one_hot = [torch.distributions.Categorical(probs=row.exp()) for row in p.log_shares]
            torchs = -sum(one.log_prob(k) for one, k in zip(one_hot, q.indices.T, strict=True))
            ledger(
                f"KL(Quantized, Codes) of {type(head).__name__}", "nats, by the masses of the symbols",
                oracle="torch.distributions", truth=torchs[0], measured=item, tolerance=1e-5, why="rounding of float32",
            )  # fmt: skip
        z = q.rsample((2,))
        assert torch.allclose((q.log_prob(z) - p.log_prob(z)).mean(0), divergence(q, p), atol=1e-5)
        assert torch.equal(q.log_prob(z + 1), torch.full((2, 3), -torch.inf))
        assert q.stddev.max() == 0
    far = divergence(q, priors.StandardNormal(4)())
    ledger(
        "KL(Quantized, DiagonalNormal)", "exp(-KL), mean of 3 items", oracle="0: points have no density", truth=0,
        measured=(-far).exp().mean(), tolerance=0, why="infinite",
    )  # fmt: skip
    assert torch.isinf(far).all()


def test_perplexity_is_the_number_of_codes_in_use(ledger):
    for indices, truth in (
        (torch.zeros(50, dtype=torch.long), 1),
        (torch.arange(64) % 8, 8),
        (torch.tensor([0, 0, 0, 1]), math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))),
    ):
        ledger(
            "Perplexity", f"{truth:.4g} codes in use", oracle="by hand", truth=truth, measured=perplexity(indices),
            tolerance=1e-12, why="rounding",
        )  # fmt: skip
    raw = torch.randn(9, 4, requires_grad=True)
    penalty = Perplexity()(drawn_for(posteriors.VectorQuantized(6, 2), raw))
    assert 1 <= penalty.value <= 6
    assert not penalty.value.requires_grad


def test_what_is_trained_is_shown():
    model, objective = recipes.build("vq-vae", (5,), latent=4, hidden=(8,))
    terms = objective(model, torch.rand(6, 5), generator=seeded())
    assert set(terms.extras) == {"Commitment", "Perplexity"}
    expected = terms.reconstruction.mean() + math.log(512) + terms.extras["Commitment"]
    assert torch.allclose(terms.loss, expected, rtol=1e-5)
    assert (
        "Perplexity"
        in recipes.build("fsq", (5,), latent=4)[1](recipes.build("fsq", (5,), latent=4)[0], torch.rand(6, 5)).extras
    )


@pytest.mark.parametrize("name", ["vq-vae", "rvq-vae"])
def test_codebooks_begin_at_the_encoders_outputs(name):
    model, _ = recipes.build(name, (5,), latent=4, hidden=(8,), options={"codes": 16, "width": 2})
    x = torch.rand(40, 5)
    before = model.posterior(model.encoded(x))
    model.start(x)
    after = model.posterior(model.encoded(x))
    error = lambda q: (q.encoded - q.stages[-1]).square().sum(1).mean()  # noqa: E731
    assert error(after) < 0.5 * error(before)
    encoded = vectors_of(model.encoded(x), 2).flatten(0, 1)
    book = next(model.posterior.parameters())
    first = book if book.dim() == 2 else book[0]
    assert (first[:, None] - encoded).abs().amax(-1).amin(1).max() < 1e-6
    assert len(first.unique(dim=0)) == 16
    again = recipes.build(name, (5,), latent=4, hidden=(8,), options={"codes": 16, "width": 2})[0]
    again.start(x)
    assert torch.equal(next(again.posterior.parameters()), book)


def test_a_sum_of_codes_has_its_mass_whatever_greed_would_find():
    head = posteriors.ResidualQuantized(4, 2, levels=3)
    head.codebooks.data = torch.randn_like(head.codebooks)
    p = priors.UniformCodes(2).join(head)()
    indices = torch.cartesian_prod(*[torch.arange(4)] * 3)
    assert (head.indices(head.vectors(indices)) != indices).any()  # greed finds another sum
    assert torch.allclose(p.log_prob(head.vectors(indices)), torch.full((64,), -3 * math.log(4)))
    learned = priors.LearnedCodes(2, (4, 4, 4)).join(head)
    assert torch.allclose(learned().log_prob(head.vectors(indices)), torch.full((64,), -3 * math.log(4)))
    learned.logits.data[0, 0] = 1.0
    with pytest.raises(UsageError, match="unequal shares"):
        learned().log_prob(head.vectors(indices))


def test_more_codes_than_encodings_can_be_started():
    head = posteriors.VectorQuantized(16, 2)
    head.start(torch.randn(3, 2))
    assert torch.isfinite(head.codebook).all()
    assert len(head.codebook.unique(dim=0)) == 3


# Finite scalars.


@pytest.mark.parametrize("levels", [(2,), (3,), (4,), (8, 5), (8, 6, 5), (7, 5, 5, 5, 5)])
def test_every_finite_scalar_code_is_reached_and_is_its_own(levels, ledger):
    head = posteriors.FSQ(levels)
    axes = [torch.linspace(-6, 6, 241) for _ in levels]
    reached = set()
    for axis, level in zip(axes, levels, strict=True):  # channels do not mix: each is looked at alone
        found = posteriors.FSQ((level,))(axis[:, None]).indices[:, 0]
        assert (found.diff() >= 0).all()
        reached.add((level, len(found.unique())))
    assert all(level == count for level, count in reached)
    every = torch.tensor(list(itertools.product(*map(range, levels))))[:3000]
    vectors = head.vectors(every)
    assert torch.equal(head.indices(vectors), every)
    assert vectors.min() >= -1
    assert vectors.max() <= 1
    assert len(vectors.unique(dim=0)) == len(every)
    # Idempotent: what is mapped onto a code by f is rounded to it.
    half = (torch.tensor(levels) - 1) * 1.001 / 2
    offset = 0.5 * (torch.tensor(levels) % 2 == 0)
    steps = vectors * (torch.tensor(levels) // 2)
    raw = torch.atanh((steps + offset) / half) - torch.atanh(offset / half)
    assert torch.equal(head(raw).indices, every)
    if len(levels) < 4:
        ledger(
            "FSQ", f"codes of levels {levels}", oracle="their product", truth=math.prod(levels),
            measured=len(every), tolerance=0, why="counted",
        )  # fmt: skip


def test_finite_scalars_start_in_the_middle_and_pass_the_gradient_of_their_bound():
    head, raw = posteriors.FSQ((8, 5)), torch.tensor([[0.4, -0.3]], requires_grad=True)
    assert torch.equal(head(torch.zeros(1, 2)).mean, torch.zeros(1, 2))
    (found,) = torch.autograd.grad(head(raw).rsample().sum(), raw)
    half, offset = torch.tensor([3.5035, 2.002]), torch.tensor([0.5, 0.0])
    inner = torch.tanh(raw.detach() + torch.atanh(offset / half))
    assert torch.allclose(found, half * (1 - inner.square()) / torch.tensor([4.0, 2.0]), atol=1e-5)


def test_finite_scalars_are_channels_before_positions():
    q = posteriors.FSQ((8, 5))(torch.tensor([[9.0, -9.0, 9.0, -9.0]]))
    assert q.indices.tolist() == [[7, 0, 4, 0]]
    assert torch.allclose(q.mean, torch.tensor([[0.75, -1.0, 1.0, -1.0]]))


# Use.


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: posteriors.VectorQuantized(1, 2), "codes of at least 2"),
        (lambda: posteriors.VectorQuantized(4, 0), "width of at least 1"),
        (lambda: posteriors.ResidualQuantized(4, 2, levels=0), "levels of at least 1"),
        (lambda: posteriors.VectorQuantized(4, 3).parameter_shape(16), "--latent 15 or 18"),
        (lambda: posteriors.VectorQuantized(4, 3).parameter_shape(2), "--latent 3"),
        (lambda: posteriors.FSQ((8, 5)).parameter_shape(3), "--latent 2 or 4"),
        (lambda: posteriors.FSQ((8, 1)), "at least 2 levels"),
        (lambda: posteriors.FSQ(()), "at least 2 levels"),
        (lambda: Commitment(beta=-1.0), "at least 0"),
        (lambda: Commitment()(drawn_for(posteriors.DiagonalNormal(), torch.randn(3, 4))), "has no codes"),
    ],
)
def test_what_cannot_be_is_refused(make, match):
    with pytest.raises(UsageError, match=match):
        make()


@pytest.mark.parametrize("name", ["vq-vae", "rvq-vae", "fsq"])
def test_a_learned_prior_is_part_of_the_model(name):
    model, objective = recipes.build(name, (5,), latent=4, hidden=(8,), options={"learned": True})
    terms = objective(model, torch.rand(6, 5), generator=seeded())
    terms.loss.backward()
    assert model.prior.logits.grad.abs().max() > 0
    assert model.sample(3, generator=seeded()).shape == (3, 5)


def test_a_quantized_code_is_the_same_at_every_call():
    q = Quantized(torch.randn(3, 2), torch.randn(1, 3, 2), torch.zeros(3, 1, dtype=torch.long))
    assert torch.equal(q.sample((2,)), q.mean.expand(2, 3, 2))
    assert torch.equal(q.mode, q.mean)
    assert q.variance.max() == 0


@pytest.mark.slow
def test_more_codes_explain_more():
    import gapless
    from gapless import study
    from gapless.settings import Settings

    data = gapless.read("digits")
    errors = []
    for codes in (2, 32):
        settings = Settings(latent=16, epochs=15, hidden=(64, 32), option=(f"codes={codes}",))
        run = study.train(data, recipe="vq-vae", settings=settings)
        errors.append(run.held_out["reconstruction"])
        assert run.held_out["kl"] == pytest.approx(4 * math.log(codes), rel=1e-5)
    assert errors[1] < errors[0] - 0.5
