"""Bits drawn anew at every look."""

import math

import numpy as np
import pytest
import torch

import gapless
from gapless import objectives, recipes, study
from gapless.errors import UsageError
from gapless.objectives.binarization import binarized
from gapless.schedules import RATES
from gapless.settings import Settings


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def test_bits_have_the_grey_values_as_their_mean(ledger):
    x = torch.rand(4, 3, generator=noise(9))
    draws = torch.stack([binarized(x, noise(seed)) for seed in range(4000)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    worst = ((draws.mean(0) - x).abs() / (x * (1 - x) / 4000).sqrt()).max()
    ledger(
        "DynamicBinarization", "mean of 4,000 draws of 12 pixels less their grey values, standard errors, worst",
        oracle="Bernoulli of the grey value", truth=0, measured=worst, tolerance=4.5, why="12 normal quantiles at 4.5",
    )  # fmt: skip
    assert torch.equal(binarized(x, noise(1)), binarized(x, noise(1)))


def test_the_objective_is_that_of_the_bits():
    model, plain = recipes.build("iwae", (1, 4, 4), latent=2, hidden=(8,))
    x, wrapped = torch.rand(6, 1, 4, 4, generator=noise()), objectives.DynamicBinarization(plain)
    generator = noise(4)
    bits = binarized(x, generator)
    assert torch.equal(wrapped(model, x, generator=noise(4)).loss, plain(model, bits, generator=generator).loss)


def test_on_average_the_objective_of_bits_is_the_expected_one(ledger):
    """A decoder that ignores z and a posterior at the prior: the loss is the cross-entropy of fixed probabilities."""
    model, _ = recipes.build("vae", (3,), latent=2, hidden=())
    with torch.no_grad():
        for network in (model.encoder, model.decoder):
            network.layers[-1].weight.zero_()
            network.layers[-1].bias.zero_()
        model.decoder.layers[-1].bias.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    x, rows = torch.tensor([[0.2, 0.5, 0.9]]), 20_000
    objective = objectives.DynamicBinarization(objectives.ELBO())
    found = objective(model, x.repeat(rows, 1), generator=noise(2)).reconstruction
    p = torch.sigmoid(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)).numpy()
    grey = x[0].double().numpy()
    truth = -(grey * np.log(p) + (1 - grey) * np.log(1 - p)).sum()
    ledger(
        "DynamicBinarization", "mean loss of 20,000 binarised items", oracle="cross-entropy in closed form, NumPy",
        truth=truth, measured=found.mean(), tolerance=4 * found.std() / math.sqrt(rows), why="4 standard errors",
    )  # fmt: skip


def test_values_that_are_no_probabilities_are_refused():
    with pytest.raises(UsageError, match=r"only values in \[0, 1\]"):
        binarized(torch.tensor([0.5, 1.2]))
    data = gapless.read(torch.randn(200, 3).numpy())
    with pytest.raises(UsageError, match="leave --binarize out"):
        study.train(data, settings=Settings(latent=1, epochs=1, hidden=(4,), binarize=True))


def test_a_run_of_bits_can_be_saved_and_loaded(tmp_path):
    settings = Settings(latent=2, epochs=1, hidden=(8,), binarize=True, schedule="staged")
    run = study.train(gapless.read("digits"), recipe="iwae", settings=settings)
    run.save(tmp_path / "run")
    again = gapless.load_run(tmp_path / "run")
    assert isinstance(again.objective, objectives.DynamicBinarization)
    assert again.objective.objective.samples == 5
    # Bits carry more nats than grey values: the bound of bits is a log-probability, and below that of grey values here.
    assert math.isfinite(run.held_out["elbo"])


def test_the_staged_rate_has_the_published_stages(ledger):
    rates, epoch = [], 0
    for stage in range(8):
        rates += [(epoch + k, 10 ** (-stage / 7)) for k in (0, 3**stage - 1)]
        epoch += 3**stage
    assert epoch == 3280
    worst = max(abs(RATES["staged"](number, 3280, 0.0) - rate) for number, rate in rates)
    ledger(
        "learning_rate", "staged, first and last epoch of each of 8 stages, worst of 16", truth=0, measured=worst,
        oracle="Burda et al. (2016), section 5: 3^i epochs at 10^(-i/7)", tolerance=1e-14, why="float64",
    )  # fmt: skip
