"""Gradients, weights and moments that stop being finite: where it is noticed, and what is said and saved."""

import math

import numpy as np
import pytest
import torch

import gapless
from gapless import recipes, study
from gapless.data import Feed
from gapless.errors import Diverged
from gapless.networks import perceptrons
from gapless.objectives import ELBO
from gapless.settings import Settings
from gapless.training import Checkpoints, fit, guard, optimizers
from gapless.training.course import Course
from gapless.training.guard import Guard

SMALL = {"latent": 2, "epochs": 4, "hidden": (8,), "batch_size": 32}


@pytest.fixture(scope="module")
def data():
    return gapless.read(np.random.default_rng(0).normal(size=(140, 5)))


class Spoiled(ELBO):
    """The gradient of one parameter is not finite at one step; the loss always is."""

    def __init__(self, at, name="encoder.layers.1.weight", value=math.nan):
        super().__init__()
        self.at, self.name, self.value = at, name, value

    def forward(self, model, x, *, step=0, generator=None):
        terms = super().forward(model, x, step=step, generator=generator)
        if self.training and step + 1 == self.at:
            weight = dict(model.named_parameters())[self.name]
            nothing = (weight - weight.detach()).sum()
            nothing.register_hook(lambda gradient: gradient * self.value)
            terms = terms._replace(loss=terms.loss + nothing)
        return terms


def fitted(data, objective, **settings):
    model, _ = recipes.build("vae", data.event_shape, latent=2, likelihood="Normal", hidden=(8,))
    feeds = [Feed(part, data.scaling) for part in (data.train, data.held_out)]
    with pytest.raises(Diverged) as stopped:
        fit(model, objective, *feeds, settings=Settings(**{**SMALL, **settings}))
    return model, str(stopped.value)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_at_its_step_with_its_parameter_and_changes_nothing(data, value, clip):
    model, said = fitted(data, Spoiled(6, value=value), clip=clip)
    assert "the gradient of encoder.layers.1.weight is not finite: training stopped" in said
    assert "where: step 6 (epoch 2) of training, parameter encoder.layers.1.weight" in said
    assert "fix: lower --learning-rate" in said
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize("hidden", [False, True])
def test_a_gradient_too_large_to_be_looked_at_every_step_is_noticed_by_its_weights(data, monkeypatch, hidden):
    monkeypatch.setattr(guard, "LOOKED_AT", 10)
    if hidden:  # the loss does not tell
        monkeypatch.setattr(perceptrons, "_run", lambda layers, x: layers(x))
        monkeypatch.setattr(torch.nn.Linear, "forward", lambda self, x: plain(self, x).nan_to_num(0.0))
    _, said = fitted(data, Spoiled(6))
    assert "the weight of encoder.layers.1.weight is not finite" in said
    steps = "between steps 5 and 8" if hidden else "between steps 5 and 6"  # looked at after 4, at the end of the epoch
    assert f"where: {steps} of training, parameter encoder.layers.1.weight" in said


def plain(layer, x):
    return torch.nn.functional.linear(x, layer.weight, layer.bias)


def test_what_is_not_finite_is_never_saved_and_the_run_goes_on_from_before(data, tmp_path, monkeypatch):
    apply = optimizers._FusedAdam._apply

    def spoil(self, learning_rate):
        apply(self, learning_rate)
        if float(self.kept[0][0]) == 7:
            self.kept[2][3].view(-1)[0] = math.inf  # a moment: neither loss nor weights tell

    whole = study.train(data, settings=Settings(**SMALL))
    with monkeypatch.context() as patch:
        patch.setattr(optimizers._FusedAdam, "_apply", spoil)
        with pytest.raises(Diverged, match=r"what the optimizer keeps of \S+ is not finite(.|\n)*step 7 of training"):
            study.train(data, settings=Settings(**SMALL), folder=tmp_path / "run", checkpoint_every=0)
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest().step == 6
    run = study.train(data, settings=Settings(**SMALL), folder=tmp_path / "run")
    assert all(torch.equal(value, run._state()[name]) for name, value in whole._state().items())


def test_gradients_whose_sum_is_too_large_are_finite():
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3e38)
    watching = Guard([("weight", weight)], optimizers.make("adam", [weight]))
    assert not torch.isfinite(watching.doubt())
    watching.gradients("step 1")
    weight.grad[2] = math.nan
    with pytest.raises(Diverged, match="the gradient of weight is not finite"):
        watching.gradients("step 1")


def test_without_a_look_at_every_step_as_on_an_accelerator_the_step_is_still_named(data, monkeypatch):
    monkeypatch.setattr(Course, "prompt", False)
    _, said = fitted(data, Spoiled(2))
    assert "the weight of encoder.layers.1.weight and of 7 others is not finite" in said  # of 9 further steps
    assert "where: step 2 of training, parameter encoder.layers.1.weight" in said
