"""The Hamiltonian flow: reversible, of known volume, of second order, and a bound that is unbiased for any setting."""

import math

import numpy as np
import pytest
import torch

import gapless
from gapless import networks, objectives, posteriors, priors, processes, recipes, study
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.evaluation import evaluate
from gapless.likelihoods import Bernoulli
from gapless.model import Model
from gapless.objectives import DynamicBinarization, HamiltonianELBO
from gapless.objectives.hamiltonian import flow, tempering
from gapless.settings import Settings
from oracles import LinearGaussian

STEP = torch.tensor([0.11, 0.2, 0.05], dtype=torch.float64)


def potential(z):
    """No well that a formula knows: quartic, with its features coupled."""
    return (0.25 * z.square().square() + 0.5 * z.square()).sum(-1) + torch.sin(z.prod(-1) + z[..., 0])


def slope(z):
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        return torch.autograd.grad(potential(z).sum(), z, create_graph=True)[0]


def normals(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones(count):
    return torch.ones(count, dtype=torch.float64)


def test_the_flow_is_reversible():
    z, momentum = normals(7, 3), normals(7, 3, seed=1)
    there, turned = flow(z, momentum, slope, step=STEP, ratios=ones(5))
    assert (there - z).abs().min() > 1e-3
    back, again = flow(there, -turned, slope, step=STEP, ratios=ones(5))
    assert torch.allclose(back, z, atol=1e-12)
    assert torch.allclose(-again, momentum, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_volume_is_kept_but_for_the_tempering(temperature, ledger):
    roots = tempering(torch.tensor(math.sqrt(temperature), dtype=torch.float64), 4)

    def whole(both):
        return torch.cat(flow(both[:3], both[3:], slope, step=STEP, ratios=roots[1:] / roots[:-1]))

    def overwritten(both):  # the tempered momentum is lost: the next half step starts from the untempered one
        return torch.cat(flow(both[:3], both[3:], slope, step=STEP, ratios=ones(4)))

    volume, lost = (torch.autograd.functional.jacobian(f, normals(6)).slogdet().logabsdet for f in (whole, overwritten))
    truth = -1.5 * math.log(temperature)
    ledger(
        "HamiltonianELBO", f"log volume of 4 leapfrog steps, temperature {temperature}", truth=truth, measured=volume,
        oracle="-latent/2 log T_0 (determinant of the Jacobian)", tolerance=1e-10, why="float64",
        elsewhere=f"{abs(lost):.3f}: tempering overwritten" if temperature != 1 else "",
    )  # fmt: skip


def test_the_momentum_cools_from_the_first_temperature_to_one():
    roots = tempering(torch.tensor(3.0), 4)
    assert torch.allclose(roots, 3 - 2 * torch.tensor([0, 1, 4, 9, 16.0]) / 16)
    assert tempering(torch.tensor(1.0), 0).tolist() == [1.0]


def with_the_old_momentum(z, momentum, step, steps):
    """Steps in use elsewhere: the place moves by the momentum before its half step, whose update is not used."""
    for _ in range(steps):
        half = momentum - 0.5 * step * slope(z)
        z = z + step * momentum
        momentum = half - 0.5 * step * slope(z)
    return z.detach(), momentum.detach()


def energy_error(steps, *, old=False):
    z, momentum = normals(50, 3), normals(50, 3, seed=1)
    step = torch.full((3,), 1.0 / steps, dtype=torch.float64)
    moved = with_the_old_momentum(z, momentum, step, steps) if old else None
    end, last = moved or flow(z, momentum, slope, step=step, ratios=ones(steps))
    energies = [potential(a) + 0.5 * b.square().sum(-1) for a, b in ((z, momentum), (end, last))]
    return (energies[1] - energies[0]).abs().mean()


def test_the_energy_error_falls_with_the_square_of_the_step(ledger):
    errors = [energy_error(steps) for steps in (64, 128)]
    wrong = [energy_error(steps, old=True) for steps in (64, 128)]
    larger = f"an error {wrong[0] / errors[0]:.3g} times as large"
    ledger(
        "HamiltonianELBO", "energy error of a step over that of half of it", oracle="leapfrog is of second order",
        truth=4, measured=errors[0] / errors[1], tolerance=0.05, why="the fourth order is 1/64^2 of the second",
        elsewhere=f"{wrong[0] / wrong[1]:.3g}, and {larger}: steps that use the old momentum",
    )  # fmt: skip


def test_a_harmonic_potential_is_followed_around_its_circle():
    z, momentum, steps = normals(4, 3), normals(4, 3, seed=1), 1000
    time = 1.3
    end, last = flow(z, momentum, lambda z: z, step=torch.full((3,), time / steps).double(), ratios=ones(steps))
    assert torch.allclose(end, z * math.cos(time) + momentum * math.sin(time), atol=1e-6)
    assert torch.allclose(last, momentum * math.cos(time) - z * math.sin(time), atol=1e-6)


def rough(oracle):
    """The linear-Gaussian model with a posterior that is off in both mean and scale."""
    model = oracle.model()
    with torch.no_grad():
        model.encoder.layers[-1].weight.mul_(0.8)
        model.encoder.layers[-1].bias.add_(0.15)
    return model


def log_weights(objective, model, x, draws):
    with torch.no_grad():
        terms = objective(model, x.repeat(draws, 1), generator=torch.Generator().manual_seed(4))
    return terms.elbo.unflatten(0, (draws, -1))


OPTIONS = {
    "tempered": {"leaps": 3, "step_size": 0.2, "temperature": 2.0},
    "coarse": {"leaps": 2, "step_size": 0.3, "temperature": 1.0},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_weights_are_unbiased(kind, ledger):
    oracle = LinearGaussian.make(strengths=(1.0, 0.7, 0.3))
    x, draws = oracle.sample(6), 20_000
    ratios = (
        log_weights(HamiltonianELBO(3, **OPTIONS[kind]).double(), rough(oracle), x, draws) - oracle.log_prob(x)
    ).exp()
    mean = ratios.mean(1)  # of independent draws
    ledger(
        "HamiltonianELBO", f"mean of exp(bound) / p(x), {kind}", oracle="linear-Gaussian model", truth=1,
        measured=mean.mean(), tolerance=4 * mean.std() / draws**0.5, why="4 standard errors of 20,000 draws",
    )  # fmt: skip
    assert mean.std() / draws**0.5 < 0.02  # it could be missed


def test_the_bound_lies_between_the_elbo_and_the_evidence(ledger):
    oracle = LinearGaussian.make(strengths=(1.0, 0.7, 0.3))
    x, model, draws = oracle.sample(20), rough(oracle), 2000
    moved, plain = (
        log_weights(HamiltonianELBO(3, leaps=leaps, step_size=0.2, temperature=1.0).double(), model, x, draws).mean(1)
        for leaps in (4, 0)
    )
    truth, error = oracle.log_prob(x).mean(), moved.std() / draws**0.5
    assert moved.mean() <= truth + 4 * error
    gain = moved - plain
    assert gain.mean() > 10 * gain.std() / draws**0.5
    ledger(
        "HamiltonianELBO", "share of the ELBO's gap that 4 leaps close, posterior off", oracle="linear-Gaussian model",
        truth=1, measured=gain.mean() / (truth - plain.mean()), tolerance=1,
        why="between the ELBO (0) and log p(x) (1), as estimated by 2,000 draws",
    )  # fmt: skip


def test_with_the_exact_posterior_and_small_steps_the_weights_are_the_evidence():
    oracle = LinearGaussian.make()
    x, objective = oracle.sample(5), HamiltonianELBO(3, leaps=5, step_size=1e-3, temperature=1.0).double()
    # The energy error is of the order of the squared step, times the squared curvature 17 of the potential.
    assert (log_weights(objective, oracle.model(), x, 10) - oracle.log_prob(x)).abs().max() < 1e-3


def test_without_leaps_it_is_the_elbo():
    oracle = LinearGaussian.make()
    x, model, objective = oracle.sample(5), rough(oracle), HamiltonianELBO(3, leaps=0, samples=4).double()
    found = objective(model, x, generator=torch.Generator().manual_seed(2))
    plain = draw(model, x, samples=4, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(found.elbo, plain.log_weights().mean(0), rtol=1e-12)
    assert torch.allclose(found.reconstruction, plain.reconstruction, rtol=1e-12)


def images():
    torch.manual_seed(1)
    return Model(
        encoder=networks.MLP((1, 2, 2), (4,), hidden=(5,), activation="tanh"), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(2), decoder=networks.MLP((2,), (1, 2, 2), hidden=(5,), activation="tanh"),
        likelihood=Bernoulli(),
    ).double()  # fmt: skip


def test_the_gradient_runs_through_the_flow_to_every_parameter():
    model, objective = images(), HamiltonianELBO(2, leaps=2, step_size=0.2, temperature=1.7, samples=2).double()
    x, pairs = torch.rand(3, 1, 2, 2, dtype=torch.float64), []

    def loss():
        return objective(model, x, generator=torch.Generator().manual_seed(0)).loss

    parameters = [*model.named_parameters(), *objective.named_parameters()]
    found = torch.autograd.grad(loss(), [value for _, value in parameters])
    for (_, value), gradient in zip(parameters, found, strict=True):
        values = value.data.view(-1)
        was, ends = values[0].item(), []
        for moved in (1e-5, -1e-5):
            values[0] = was + moved
            ends.append(loss().item())
        values[0] = was
        pairs.append((gradient.reshape(-1)[0].item(), (ends[0] - ends[1]) / 2e-5))
    exact, differences = (torch.tensor(side) for side in zip(*pairs, strict=True))
    assert torch.allclose(exact, differences, rtol=1e-4, atol=1e-7)
    assert (exact != 0).all()


def test_evaluation_without_gradients_has_the_same_value():
    model, objective, x = images(), HamiltonianELBO(2).double(), torch.rand(3, 1, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        held = objective(model, x, generator=torch.Generator().manual_seed(0))
    assert not held.loss.requires_grad
    assert torch.equal(held.loss, objective(model, x, generator=torch.Generator().manual_seed(0)).loss.detach())


def test_what_cannot_be_right_is_refused(monkeypatch):
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    with pytest.raises(UsageError, match="moves 3 latent features; the model has 2"):
        HamiltonianELBO(3).double()(images(), x)
    for wrong in ({"leaps": -1}, {"step_size": 0.5}, {"temperature": 0.9}, {"samples": 0}):
        with pytest.raises(UsageError, match="a Hamiltonian flow needs"):
            HamiltonianELBO(2, **wrong)
    monkeypatch.setattr(processes, "size", lambda: 2)
    with pytest.raises(UsageError, match="several processes"):
        objectives.HamiltonianELBO(2).double()(images(), x)


def test_a_run_that_was_cut_ends_in_the_same_bits_with_its_step_sizes_learned(tmp_path):
    data = gapless.read(np.random.default_rng(0).normal(size=(120, 4)))
    settings = Settings(latent=2, epochs=2, hidden=(8,), batch_size=40, network="mlp")

    class Stop(gapless.training.Callback):
        def on_step(self, step, terms):
            if step == 4:
                raise KeyboardInterrupt

    whole = study.train(data, recipe="hvae", settings=settings, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        study.train(
            data, recipe="hvae", settings=settings, folder=tmp_path / "cut", callbacks=(Stop(),), checkpoint_every=0
        )
    cut = study.train(data, recipe="hvae", settings=settings, folder=tmp_path / "cut")
    loaded = gapless.load_run(tmp_path / "whole")
    for name in ("model", "objective"):
        states = [getattr(run, name).state_dict() for run in (whole, cut, loaded)]
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key]), key
            assert torch.equal(value, states[2][key]), key
    fresh = HamiltonianELBO(2)
    assert (whole.objective.step != fresh.step).all()
    assert whole.objective.warmth != fresh.warmth


def test_a_scale_fitted_to_the_batch_counts_it_once_whatever_places_the_codes_pass():
    model, objective = recipes.build("hvae", (6,), latent=2, likelihood="NormalWithOptimalScale", hidden=(8,))
    objective(model.train(), torch.rand(5, 6))
    assert model.likelihood.weight == pytest.approx(1 - model.likelihood.memory)


def test_an_evaluation_says_which_bound_is_the_plain_ones_and_which_was_trained():
    settings = Settings(latent=2, epochs=1, hidden=(8,))
    data = gapless.read(np.random.default_rng(0).normal(size=(120, 3)), likelihood="Normal")
    run = study.train(data, recipe="hvae", settings=settings)
    found = evaluate(run, data.held_out.values[:40], samples=20)
    (said,) = [warning for warning in found.warnings if "plain q(z|x)" in warning]
    assert f"moved by a Hamiltonian flow, is {-found.loss:.2f}: minus the trained objective" in said
    assert said in found.to_dict()["warnings"]
    plain = study.train(data, settings=settings)
    assert not any("plain q" in warning for warning in evaluate(plain, data.held_out.values[:40], samples=20).warnings)
    assert DynamicBinarization(run.objective).moved == "a Hamiltonian flow"
