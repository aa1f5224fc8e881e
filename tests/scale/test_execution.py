"""bf16 in the networks alone, accumulation that changes no number, and terms that are looked at late."""

import copy
import math

import pytest
import torch
from torch import nn

import gapless
from gapless import networks, recipes, study
from gapless.data import Feed
from gapless.errors import Diverged, UsageError
from gapless.objectives import ELBO
from gapless.randomness import generator
from gapless.recipes import basics
from gapless.settings import Settings
from gapless.training import course as courses
from gapless.training import fit
from gapless.training.course import Course
from gapless.training.execution import Execution, arranged
from gapless.training.sharding import Shards

OPTIONS = {"geco": {"target": 20.0}, "capacity-vae": {"capacity": 0.5}, "free-bits": {"free_bits": 0.1}}
OPTIONS |= {name: {"units": 9} for name in ("factor-vae", "aae", "vae-gan")}
OPTIONS |= {"kl-tokenizer": {"critic": 0.5}}
UNCUT = ("bayesian-vae",)  # weights that are drawn cannot be computed part by part
LIKELIHOODS = ("Bernoulli", "NormalWithLearnedScale", "NormalWithOptimalScale")
BF16 = 2.0**-8
"""Unit roundoff of bfloat16: 8 bits of significand, so a relative error of at most 2**-9 a rounding; with room."""


def built(recipe, likelihood="Bernoulli", **more):
    options, classes = OPTIONS.get(recipe), 3 if recipes.RECIPES[recipe].conditional else 0
    model, objective = recipes.build(
        recipe, (1, 4, 4), latent=4, likelihood=likelihood, hidden=(9,), options=options, context=classes, **more
    )
    model.center(torch.rand(1, 4, 4), 0.3)  # what a model keeps beside its parts must count, too
    return model, objective


def test_plain_training_needs_no_arrangement():
    assert arranged(*built("vae"), Settings()) is None
    assert isinstance(arranged(*built("vae"), Settings(accumulate=2)), Execution)
    assert isinstance(arranged(*built("vae"), Settings(precision="bf16")), Execution)


CUT = [(name, head) for name in basics.RECIPES for head in LIKELIHOODS]
CUT += [(name, LIKELIHOODS[0]) for name in recipes.RECIPES if name not in {*UNCUT, *basics.RECIPES}]


@pytest.mark.parametrize(("recipe", "likelihood"), CUT)
def test_accumulation_has_the_gradients_and_buffers_of_the_whole_batch(recipe, likelihood):
    model, objective = (part.double() for part in built(recipe, likelihood))
    context = torch.eye(4, 3, dtype=torch.float64)[torch.arange(8) % 4] if model.context else None
    objective.plan(10, 100)
    other, its = copy.deepcopy(model), copy.deepcopy(objective)
    runner = arranged(model, objective, Settings(accumulate=3))
    for step in range(2):
        x = torch.rand(8, 1, 4, 4, dtype=torch.float64)
        terms = runner(x, 8, step, context)
        given = other if context is None else other.given(context)
        expected = its(given, x, step=step, generator=generator(0, "noise", step))
        terms.loss.backward(), expected.loss.backward()
        assert torch.allclose(terms.loss, expected.loss, rtol=1e-12)
    for one, two in ((model, other), (objective, its)):
        for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            assert mine.grad is None or torch.allclose(mine.grad, theirs.grad, rtol=1e-10, atol=1e-12)
        for mine, theirs in zip(one.buffers(), two.buffers(), strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-12)


def test_accumulation_never_runs_more_than_its_part():
    model, objective = built("vae")
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    terms = arranged(model, objective, Settings(accumulate=4))(torch.rand(10, 1, 4, 4), 10, 0)
    assert sorted(seen) == [1, 3, 3, 3]
    terms.loss.backward()
    assert sorted(seen) == [1, 1, 3, 3, 3, 3, 3, 3]  # run again for the gradient: nothing was kept


def test_networks_compute_in_bf16_and_everything_else_in_float32():
    model, objective = built("vae", "NormalWithLearnedScale")
    inside, heads = [], []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    for head in (model.posterior, model.likelihood):
        head.register_forward_hook(lambda module, inputs, output: heads.extend([inputs[0].dtype, output.mean.dtype]))
    settings = Settings(precision="bf16", ema=0.9)
    course = Course(model, objective, settings, epochs=1, per_epoch=3)
    terms = course.advance(torch.rand(6, 1, 4, 4))
    assert set(inside) == {torch.bfloat16}
    assert len(inside) == 4
    assert set(heads) == {torch.float32}
    assert {term.dtype for term in terms[:3]} == {torch.float32}
    assert {v.dtype for v in course.snapshot().tensors.values() if v.is_floating_point()} <= {
        torch.float32, torch.float64,
    }  # fmt: skip


def running_error(network: networks.MLP, x):
    """|bf16 - float32| of every output at most this: Higham (2002), section 3.3, weights, inputs and values rounded."""
    value, error = x.double(), torch.zeros_like(x).double()
    for layer in network.layers:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.double(), layer.bias.double()
            size = (value.abs() + error) @ weight.abs().T + bias.abs()
            error = error @ weight.abs().T + 4 * BF16 * size
        value = layer(value.float()).double()
        error = error.flatten(1) if isinstance(layer, nn.Flatten) else error
    return error


def test_the_loss_in_bf16_stays_within_the_bound_of_its_roundings(ledger):
    data = gapless.read("digits")
    x = Feed(data.held_out, data.scaling).batch(torch.arange(100))
    model, objective = recipes.build("vae", data.event_shape, latent=3, hidden=(64, 32))
    runner = Execution(model, objective, Settings(precision="bf16"))
    view = runner._view[0]
    z = torch.randn(100, 3)
    with torch.no_grad():
        encoded = (view.encoder(x) - model.encoder(x)).abs()
        rough, exact = view.decode(z).log_prob(x), model.decode(z).log_prob(x)
        bound = running_error(model.decoder, z)
        assert (encoded <= running_error(model.encoder, x)).all()
        assert encoded.max() > 0
    # |d/dl log p(x|l)| = |x - sigmoid(l)| <= 1: an error of the logits is one of the density, summed over them.
    allowed = bound.flatten(1).sum(1)
    worst = ((rough - exact).abs() / allowed).max()
    ledger(
        "precision bf16", "log p(x|z) on digits, error over its bound", oracle="running error analysis", truth=0,
        measured=worst, tolerance=1, why="Higham (2002), section 3.3, with |x - sigmoid(l)| <= 1",
    )  # fmt: skip
    assert worst > 0


@pytest.mark.slow
def test_training_in_bf16_reaches_the_elbo_of_float32(ledger):
    data = gapless.read("digits")
    sizes = {"latent": 4, "epochs": 50, "hidden": (64, 32), "learning_rate": 3e-3}
    reached = {p: study.train(data, settings=Settings(**sizes, precision=p)) for p in ("float32", "bf16")}
    start = reached["float32"].history[0]["held_out"]["elbo"]
    exact, rough = (reached[p].held_out["elbo"] for p in ("float32", "bf16"))
    tolerance = 0.02 * abs(exact)
    assert exact - start > 3 * tolerance  # what has learned nothing does not pass
    ledger(
        "precision bf16", "held-out ELBO on digits after 50 epochs", oracle="the same in float32", truth=exact,
        measured=rough, tolerance=tolerance, why="2 % were promised",
    )  # fmt: skip


class Poisoned(ELBO):
    """Its third step's reconstruction is not a number."""

    def forward(self, model, x, *, step=0, generator=None):
        terms = super().forward(model, x, step=step, generator=generator)
        if step != 2 or not self.training:
            return terms
        bad = terms.reconstruction * math.nan
        return terms._replace(reconstruction=bad, loss=bad.mean())


@pytest.fixture
def late(monkeypatch):
    """Terms looked at as on an accelerator."""
    monkeypatch.setattr(Course, "prompt", property(lambda self: False))


def test_terms_looked_at_late_name_their_step_and_are_never_saved(late):
    model, _ = built("vae")
    course = Course(model, Poisoned(), Settings(), epochs=2, per_epoch=20)
    for _ in range(5):
        course.advance(torch.rand(6, 1, 4, 4))  # nobody has looked yet
    with pytest.raises(Diverged, match=r"reconstruction is not finite for 6 of 6 items(.|\n)*step 3 \(epoch 1\)"):
        course.snapshot()
    model, _ = built("vae")
    course = Course(model, Poisoned(), Settings(), epochs=2, per_epoch=20)
    for _ in range(courses.LOOK_EVERY - 1):
        course.advance(torch.rand(6, 1, 4, 4))
    with pytest.raises(Diverged, match="step 3"):
        course.advance(torch.rand(6, 1, 4, 4))
    assert course.step == courses.LOOK_EVERY


def test_terms_looked_at_late_are_the_same_numbers(monkeypatch):
    data = gapless.read("digits")
    settings = Settings(latent=2, epochs=2, hidden=(16,), batch_size=100)

    def trained():
        model, objective = recipes.build("vae", data.event_shape, latent=2, hidden=(16,))
        feeds = [Feed(part, data.scaling) for part in (data.train, data.held_out)]
        return [(e.train, e.held_out) for e in fit(model, objective, *feeds, settings=settings)]

    at_once = trained()
    monkeypatch.setattr(Course, "prompt", property(lambda self: False))
    assert trained() == at_once


@pytest.mark.parametrize(("recipe", "kind"), [("piwae", "PIWAE"), ("rae-l2", "ELBO"), ("rae-gp", "ELBO")])
def test_an_objective_that_needs_whole_weights_says_so(recipe, kind):
    model, objective = built(recipe)
    with pytest.raises(UsageError, match=f"{kind} needs whole weights"):
        arranged(model, objective, Settings(), shards=object.__new__(Shards))
