"""Penalties of codes and decoders on maps whose Jacobian and symmetries are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from codes import drawn, noise
from gapless import likelihoods, networks, posteriors, priors, recipes, regularizers
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from oracles import LinearGaussian

ORACLE = LinearGaussian.make()


def test_the_size_of_codes_is_a_mean_over_items_of_a_sum_over_features(ledger):
    z = torch.randn(3, 7, 4, generator=noise(), dtype=torch.float64)  # draws, items, features
    for part, oracle, truth in (
        ("CodeNorm", "Ghosh et al. (2020), eq. 11: 1/2 |z|^2, NumPy", 0.5 * np.square(z.numpy()).sum(2).mean()),
        ("CodeSparsity", "|z|_1, NumPy", np.abs(z.numpy()).sum(2).mean()),
    ):
        ledger(part, "value, 3 draws of 7 items", oracle=oracle, truth=truth, tolerance=1e-12, why="float64",
               measured=getattr(regularizers, part)()(drawn(z)).value)  # fmt: skip


def test_the_weights_of_the_decoder_are_all_counted_and_nothing_else(ledger):
    model, x = ORACLE.model(), ORACLE.sample(3)
    value = regularizers.DecoderWeights()(draw(model, x)).value
    ledger(
        "DecoderWeights", "sum of squares, linear decoder", oracle="|W|_F^2 by hand",
        truth=ORACLE.weight.square().sum(), measured=value, tolerance=1e-12, why="float64",
    )  # fmt: skip
    reached = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    names = [name for name, _ in model.named_parameters()]
    assert {n for n, g in zip(names, reached, strict=True) if g is not None} == {
        n for n in names if n.startswith("decoder.")
    }


def test_the_jacobian_of_a_linear_decoder_is_its_weights(ledger):
    model, x = ORACLE.model(), ORACLE.sample(3000)
    draws = draw(model, x, generator=noise())
    truth, value = ORACLE.weight.square().sum(), regularizers.DecoderJacobian()(draws, generator=noise(1)).value
    # |W^T v|^2 = sum_ij (W W^T)_ij v_i v_j: its variance is that of the terms off the diagonal, 2 sum_{i != j} G_ij^2.
    gram = ORACLE.weight @ ORACLE.weight.T
    spread = math.sqrt(2 * (gram.square().sum() - gram.diagonal().square().sum()))
    ledger(
        "DecoderJacobian", "squared Frobenius norm, linear decoder", oracle="|W|_F^2", truth=truth, measured=value,
        tolerance=4 * spread / math.sqrt(len(x)), why="4 standard errors of Hutchinson's estimate, in closed form",
    )  # fmt: skip


@pytest.mark.parametrize("likelihood", [likelihoods.Normal, likelihoods.Bernoulli])
def test_with_one_output_the_jacobian_is_exact_with_its_gradient(likelihood, ledger):
    torch.manual_seed(2)
    model = Model(
        encoder=networks.MLP((1,), (3,), hidden=(4,)),
        posterior=posteriors.PointMass(),
        prior=priors.StandardNormal(3),
        decoder=networks.MLP((3,), (1, 1), hidden=(5,), activation="tanh"),
        likelihood=likelihood(),
    ).double()
    x = torch.rand(4, 1, dtype=torch.float64)
    draws = draw(model, x)
    mean = lambda z: model.decode(z[None]).mean[0, 0]  # noqa: E731
    rows = [torch.autograd.functional.jacobian(mean, z, create_graph=True) for z in model.embed(x)]
    exact = torch.stack([row.square().sum() for row in rows]).mean()
    value = regularizers.DecoderJacobian()(draws, generator=noise()).value
    ledger(
        "DecoderJacobian", f"one output, {likelihood.__name__} mean of a perceptron", oracle="torch's Jacobian",
        truth=exact, measured=value, tolerance=1e-12, why="float64",
    )  # fmt: skip
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    mine, theirs = (torch.autograd.grad(v, parameters, allow_unused=True) for v in (value, exact))
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(*(torch.zeros(1).double() if g is None else g for g in (one, other)), atol=1e-12)


@pytest.mark.parametrize(
    ("recipe", "second"), [("rae-l2", regularizers.DecoderWeights), ("rae-gp", regularizers.DecoderJacobian)]
)
def test_regularized_autoencoders_have_points_for_codes_and_no_kl(recipe, second):
    model, objective = recipes.build(recipe, (5,), options={"codes": 0.5, "decoder": 0.25})
    assert isinstance(model.posterior, posteriors.PointMass)
    assert (objective.reconstruction, objective.regularization) == (1, 0)
    assert [type(part) for part in objective.penalties] == [regularizers.CodeNorm, second]
    assert [part.weight for part in objective.penalties] == [0.5, 0.25]


def upsampling(height=2, width=2, by=2):
    """A model of images whose decoder repeats each place of a one-channel grid: it turns exactly as the code does."""
    latent, event = height * width, (1, by * height, by * width)
    model = Model(
        encoder=networks.MLP(event, (2 * latent,), hidden=()),
        posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent),
        decoder=networks.MLP((latent,), (1, *event), hidden=()),
        likelihood=likelihoods.Normal(0.5),
    ).double()
    places = torch.eye(latent, dtype=torch.float64).reshape(latent, height, width)
    repeated = places.repeat_interleave(by, 1).repeat_interleave(by, 2).flatten(1)
    with torch.no_grad():
        model.decoder.layers[-1].weight.copy_(repeated.T)
        model.decoder.layers[-1].bias.zero_()
    return model, torch.rand(5, *event, dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 3)])
def test_an_equivariant_decoder_pays_what_its_reconstruction_costs(height, width, ledger):
    model, x = upsampling(height, width)
    draws, penalty = draw(model, x, samples=3, generator=noise()), regularizers.Equivariance((1, height, width))
    for seed in range(6):
        ledger(
            "Equivariance", f"-log p(T x|T z) of a decoder that turns with its {height} x {width} codes, turn {seed}",
            oracle="-log p(x|z) of the same codes", truth=draws.reconstruction.mean(),
            measured=penalty(draws, generator=noise(seed)).value, tolerance=1e-10, why="float64",
        )  # fmt: skip
    with torch.no_grad():
        model.decoder.layers[-1].weight += 0.3 * torch.randn(x[0].numel(), height * width, generator=noise())
    draws = draw(model, x, generator=noise())
    assert abs(penalty(draws, generator=noise(1)).value - draws.reconstruction.mean()) > 0.1


def test_image_and_code_turn_the_same_way_by_every_quarter():
    model, x = upsampling()
    x = model.decode(x[:, 0, :2, :2].flatten(1)).mean.detach()  # images that codes can explain
    draws, penalty = draw(model, x, generator=noise()), regularizers.Equivariance((1, 2, 2))
    exact = replace(draws, z=x[None, :, 0, ::2, ::2].flatten(2))
    best = -model.decode(exact.z[0]).log_prob(x).mean()  # no error at all: any other turn of either costs more
    for seed in range(6):
        assert float(penalty(exact, generator=noise(seed)).value) == pytest.approx(best.item(), rel=1e-9)
    turns = [penalty._turns(x, noise(seed)) for seed in range(300)]
    counts = torch.bincount(torch.tensor(turns), minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] - 100) < 4 * math.sqrt(300 * 2 / 9)).all()
    assert {regularizers.Equivariance((1, 1, 4))._turns(x, noise(seed)) for seed in range(20)} == {2}


def test_codes_that_cannot_turn_are_refused():
    with pytest.raises(UsageError, match="at least two places"):
        regularizers.Equivariance((4, 1, 1))
    model, x = upsampling()
    with pytest.raises(UsageError, match="cannot turn as"):
        regularizers.Equivariance((2, 2, 2))(draw(model, x))
    model, _ = recipes.build("vae", (5,), latent=4)
    with pytest.raises(UsageError, match="it needs images"):
        regularizers.Equivariance((1, 2, 2))(draw(model, torch.rand(3, 5)))
    assert recipes.build("eq-vae", (1, 8, 8), latent=16)[1].penalties[0].grid == (1, 4, 4)
    assert recipes.build("eq-vae", (1, 8, 8), latent=16, options={"side": 2})[1].penalties[0].grid == (4, 2, 2)
    with pytest.raises(UsageError, match="choose --latent"):
        recipes.build("eq-vae", (1, 8, 8), latent=3)
    with pytest.raises(UsageError, match="at least 1 probe"):
        regularizers.DecoderJacobian(probes=0)
