"""Features of a fixed network in the place of pixels: the density they stand for, and that they stay fixed."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import gapless
from gapless import distributions, likelihoods, networks, recipes, study
from gapless.errors import DataError, Interrupted, UsageError
from gapless.parts import build, describe
from gapless.settings import Settings
from gapless.training.callbacks import Callback
from gapless.training.course import Course

EVENT, FEATURES, WEIGHT, PIXELS = (1, 3, 5), 9, 2.5, 0.7
SMALL = {"latent": 2, "hidden": (8,), "batch_size": 20}


def affine(event=EVENT, features=FEATURES):
    return networks.MLP(event, (features,), hidden=()).double()


def head_and_pictures(**weights):
    head = likelihoods.Perceptual(affine(), **weights)
    logits = 2 * torch.randn(4, 1, *EVENT, dtype=torch.float64)
    return head, logits.requires_grad_(), torch.rand(4, *EVENT, dtype=torch.float64)


def form_of(head):
    """M = weight A'A + pixels I, of an affine f(x) = A x + b: the log-density is -1/2 (x - y)' M (x - y)."""
    a = head.network.layers[-1].weight.detach().numpy()
    return head.weight * a.T @ a + head.pixels * np.eye(a.shape[1])


# What it is.


@pytest.mark.parametrize("pixels", [0.0, PIXELS])
def test_an_affine_map_gives_a_mahalanobis_distance(pixels, ledger):
    head, logits, x = head_and_pictures(weight=WEIGHT, pixels=pixels)
    y = 1 / (1 + np.exp(-logits.detach().numpy().reshape(4, -1)))
    difference = x.numpy().reshape(4, -1) - y
    truth = -0.5 * np.einsum("bi,ij,bj->b", difference, form_of(head), difference)
    ledger(
        "Perceptual", f"log-density of an affine f, pixels {pixels:g}, worst of 4",
        oracle="-1/2 (x - y)' (weight A'A + pixels I) (x - y)", truth=0,
        measured=np.abs(head(logits).log_prob(x).detach().numpy() - truth).max(), tolerance=1e-12, why="float64",
    )  # fmt: skip


@pytest.mark.parametrize("pixels", [0.0, PIXELS])
def test_its_gradient_is_that_of_the_distance(pixels, ledger):
    head, _, x = head_and_pictures(weight=WEIGHT, pixels=pixels)
    y = torch.rand(4, *EVENT, dtype=torch.float64).requires_grad_()
    scored = distributions.FeatureDistance(y, head.network, event_dims=3, weight=head.weight, pixels=head.pixels)
    found = torch.autograd.grad(scored.log_prob(x).sum(), y)[0].numpy().reshape(4, -1)
    truth = -(y.detach() - x).numpy().reshape(4, -1) @ form_of(head)
    ledger(
        "Perceptual", f"gradient in y of an affine f, pixels {pixels:g}, worst of 60",
        oracle="-(weight A'A + pixels I) (y - x)", truth=0, measured=np.abs(found - truth).max(), tolerance=1e-12,
        why="float64",
    )  # fmt: skip


@pytest.mark.parametrize(("weight", "pixels"), [(1.0, 0.0), (6.25, 0.0), (1.0, 3.0)])
def test_the_identity_gives_the_normal_but_for_its_constant(weight, pixels, ledger):
    identity = affine(features=15)
    with torch.no_grad():
        identity.layers[-1].weight.copy_(torch.eye(15))
    picture, x = torch.rand(2, 5, *EVENT, dtype=torch.float64)
    ours = distributions.FeatureDistance(picture, identity, event_dims=3, weight=weight, pixels=pixels)
    scale = torch.tensor((weight + pixels) ** -0.5, dtype=torch.float64)
    normal = distributions.DiagonalNormal(picture, scale, event_dims=3)
    worst = (ours.log_prob(x) - normal.log_prob(x) + normal.log_prob(picture)).abs().max()
    ledger(
        "Perceptual", f"log-density of the identity, weight {weight:g}, pixels {pixels:g}, worst of 5",
        oracle="normal of variance 1 / (weight + pixels), less its largest log-density", truth=0, measured=worst,
        tolerance=1e-12, why="float64",
    )  # fmt: skip


def test_items_draws_and_batches_do_not_mix():
    head, logits, x = head_and_pictures()
    p = head(logits.detach())
    several = torch.stack([x, x.flip(0), 0 * x])
    scores = p.log_prob(several)
    assert scores.shape == (3, 4)
    assert torch.allclose(scores[1, 2], head(logits[2:3]).log_prob(x[1:2]), atol=1e-12)
    assert p.log_prob(x[0]).shape == (4,)
    assert p.sample((3, 2)).shape == (3, 2, 4, *EVENT)
    assert torch.equal(p.sample((3,))[1], p.mean)
    assert torch.equal(p.mode, p.mean)
    assert not p.variance.any()
    with pytest.raises(UsageError, match="no log-density per feature"):
        p.log_prob_per_feature(x)
    one = distributions.FeatureDistance(x[0], head.network, event_dims=3)
    assert one.log_prob(several).shape == (3, 4)
    assert not head.density


def test_pixels_explain_what_the_features_do_not_see():
    blind = networks.MLP((2,), (1,), hidden=())
    with torch.no_grad():
        blind.layers[-1].weight.copy_(torch.tensor([[1.0, 0.0]]))
    x, other = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.5, 1.0]])
    for pixels, cost in ((0.0, 0.0), (4.0, 2.0)):
        p = distributions.FeatureDistance(x, blind, event_dims=1, pixels=pixels)
        assert p.log_prob(other) == -cost


# The network is a constant.


class Noisy(networks.Network):
    """With everything that is another thing while training."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(15), nn.Dropout(0.5), nn.Linear(15, outputs[0]))

    def forward(self, x):
        return self.layers(x)


def made(f, recipe="perceptual-vae", seed=1, **weights):
    return recipes.build(
        recipe, f.inputs, latent=2, hidden=(8,), likelihood=likelihoods.Perceptual(f, **weights), seed=seed
    )


def features_of(model):
    return {name: value.clone() for name, value in model.likelihood.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_training_moves_all_but_the_features(optimizer):
    model, objective = made(Noisy(EVENT, (5,)), weight=WEIGHT)
    before, moved = features_of(model), {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    more = {"weight_decay": 0.1} if optimizer != "adam" else {}
    settings = Settings(optimizer=optimizer, learning_rate=0.1, clip=1.0, ema=0.9, **more)
    course = Course(model.train(), objective.train(), settings, epochs=1, per_epoch=5, items=100)
    assert not model.likelihood.network.training
    for _ in range(5):
        course.advance(torch.rand(20, *EVENT))
    assert all(torch.equal(value, before[name]) for name, value in features_of(model).items())
    assert all(p.grad is None and not p.requires_grad for p in model.likelihood.parameters())
    assert all(not torch.equal(p, moved[n]) for n, p in model.named_parameters() if p.requires_grad)
    held = {id(p) for p in model.likelihood.parameters()}
    assert not held & {id(p) for p in (*course.parameters, *course.optimizer.parameters)}
    assert not [name for name in course.average.values if name.startswith("likelihood.network.layers.3")]


def test_the_features_of_an_item_are_the_same_while_training():
    model, _ = made(Noisy(EVENT, (5,)))
    x, logits = torch.rand(4, *EVENT), torch.randn(4, 1, *EVENT)
    scores = [model.train(mode).likelihood(logits).log_prob(x) for mode in (True, False, True)]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_a_network_that_is_given_is_copied():
    f = networks.MLP(EVENT, (5,))
    head = likelihoods.Perceptual(f)
    assert all(parameter.requires_grad for parameter in f.parameters())
    assert f.training
    kept = copy.deepcopy(head.state_dict())
    with torch.no_grad():
        for parameter in f.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, head.state_dict()[name]) for name, value in kept.items())


def test_the_gradient_passes_through_the_features_alone_under_frozen_parts():
    model, _ = made(networks.MLP(EVENT, (5,)))
    z, x = torch.randn(3, 2).requires_grad_(), torch.rand(3, *EVENT)
    for constant in (True, False):
        score = model.decode(z, constant=constant).log_prob(x).sum()
        assert torch.autograd.grad(score, z, retain_graph=True)[0].abs().min() > 0
    score.backward()
    assert all(parameter.grad is None for parameter in model.likelihood.parameters())


def test_played_steps_of_features_end_in_the_bits_of_plain_ones():
    ends = []
    f = networks.MLP(EVENT, (12,), hidden=(7,), activation="tanh")
    for plain in (False, True):
        model, objective = made(f, weight=20.0, pixels=PIXELS)
        course = Course(model.train(), objective.train(), Settings(epochs=1), epochs=1, per_epoch=12, items=96)
        course.replay = None if plain else course.replay
        for n in range(12):
            course.advance(torch.rand(8, *EVENT, generator=torch.Generator().manual_seed(n)))
        assert plain or course.replay.active, course.replay.why
        ends.append(model.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


# Runs.


@pytest.fixture(scope="module")
def data():
    return gapless.read(np.random.default_rng(0).random((100, *EVENT)).astype(np.float32), scaling="none")


class Stop(Callback):
    """As a signal would end it."""

    def __init__(self, steps):
        self.left = steps

    def on_step(self, step, terms):
        self.left -= 1
        if not self.left:
            raise Interrupted("stopped")


def test_a_run_keeps_the_features_to_the_bit_and_goes_on_with_them(data, tmp_path):
    head = likelihoods.Perceptual(networks.MLP(EVENT, (12,), hidden=(7,)), weight=20.0, pixels=PIXELS)
    settings = Settings(epochs=3, ema=0.9, **SMALL)
    whole = gapless.train(data, recipe="perceptual-vae", likelihood=head, settings=settings)
    more = {"likelihood": head, "settings": settings, "folder": tmp_path / "run", "checkpoint_every": 0}
    with pytest.raises(Interrupted):
        study.train(data, recipe="perceptual-vae", callbacks=[Stop(7)], **more)
    study.train(data, recipe="perceptual-vae", **more)
    again = gapless.load(tmp_path / "run")
    for model in (whole.model, again):
        assert all(torch.equal(v, model.likelihood.state_dict()[n]) for n, v in head.state_dict().items())
        assert not [p for p in model.likelihood.parameters() if p.requires_grad]
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in whole.model.state_dict().items())
    assert gapless.load_run(tmp_path / "run").data.likelihood == "Perceptual"


def test_bf16_and_parts_of_a_batch_leave_the_features(data):
    head = likelihoods.Perceptual(networks.MLP(EVENT, (12,)), weight=20.0)
    settings = Settings(epochs=1, precision="bf16", accumulate=2, weight_decay=0.1, optimizer="adamw", **SMALL)
    trained = gapless.train(data, likelihood=head, settings=settings).model.likelihood
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in head.state_dict().items())
    assert {value.dtype for value in trained.state_dict().values()} == {torch.float32}


def test_features_of_other_weights_are_another_run(data, tmp_path):
    more = {"settings": Settings(epochs=1, **SMALL), "folder": tmp_path / "run"}
    for expected in (None, "another|differ"):
        head = likelihoods.Perceptual(networks.MLP(EVENT, (12,)))
        if expected is None:
            gapless.train(data, likelihood=head, **more)
        else:
            with pytest.raises((UsageError, DataError), match=expected):
                gapless.train(data, likelihood=head, **more)


def test_damaged_features_are_found(data, tmp_path):
    head = likelihoods.Perceptual(networks.MLP(EVENT, (12,)))
    gapless.train(data, likelihood=head, settings=Settings(epochs=1, **SMALL), folder=tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    content = path.read_bytes()
    weights = head.network.layers[-1].weight.detach().numpy().tobytes()
    assert weights in content
    path.write_bytes(content.replace(weights, weights[:-1] + bytes([weights[-1] ^ 1])))
    with pytest.raises(DataError, match="damaged"):
        gapless.load(tmp_path / "run")


def test_the_encoder_of_a_trained_model_supplies_features(data, tmp_path):
    first = gapless.train(data, settings=Settings(epochs=1, **SMALL))
    seen = networks.Standardized(first.model.encoder).show(first.model.shift, first.model.spread)
    x = gapless.batch(data.held_out, data.scaling)
    head = likelihoods.Perceptual(seen, pixels=1.0)
    assert torch.equal(head.network(x), first.model.encoded(x))
    run = gapless.train(data, likelihood=head, settings=Settings(epochs=2, **SMALL), folder=tmp_path / "run")
    assert run.history[-1]["held_out"]["loss"] < run.history[0]["held_out"]["loss"]
    assert torch.equal(gapless.load(tmp_path / "run").likelihood.network(x), first.model.encoded(x))


def test_a_tokenizer_takes_features_and_pixels():
    data = gapless.read(np.random.default_rng(0).random((60, 1, 8, 8)), scaling="none")
    head = likelihoods.Perceptual(networks.ConvolutionalEncoder((1, 8, 8), (20,)), pixels=1.0)
    settings = Settings(epochs=1, latent=4, channels=(4, 8), option=("critic=0.5",))
    run = gapless.train(data, recipe="kl-tokenizer", likelihood=head, settings=settings)
    assert type(run.model.likelihood) is likelihoods.Perceptual
    assert np.isfinite(run.held_out["loss"])


def test_any_head_can_be_given_in_the_place_of_the_datas(data):
    settings = Settings(epochs=1, **SMALL)
    run = gapless.train(data, likelihood=likelihoods.Normal(0.1), settings=settings)
    assert run.model.likelihood.scale == 0.1
    assert run.data.likelihood == "Normal"
    with pytest.raises(UsageError, match=r"a Bernoulli likelihood explains values in \[0, 1\]"):
        gapless.train(
            gapless.read(9 * np.ones((20, 3)), scaling="none"), likelihood=likelihoods.Bernoulli(), settings=settings
        )
    missing = np.where(np.random.default_rng(1).random((60, 4)) < 0.3, np.nan, 0.5)
    holes = gapless.read(missing, missing="keep", scaling="none")
    run = gapless.train(holes, likelihood=likelihoods.Normal(0.1), settings=settings)
    assert run.model.likelihood.likelihood.scale == 0.1


def test_a_description_alone_gives_the_same_random_features_whatever_the_seed(data):
    described = replace(data, likelihood="Perceptual", arguments={"network": describe(networks.MLP(EVENT, (5,)))})
    settings = [Settings(epochs=1, seed=seed, **SMALL) for seed in (0, 1)]
    one, other = (gapless.train(described, settings=s).model for s in settings)
    for name, value in one.likelihood.state_dict().items():
        assert torch.equal(value, other.likelihood.state_dict()[name])
    assert not torch.equal(next(one.encoder.parameters()), next(other.encoder.parameters()))


@pytest.mark.parametrize("event", [(1, 8, 8), (3, 17, 30), (40,)])
def test_random_features_keep_distances_about_as_they_are(event):
    """The recipe's weight stands for a normal of scale 0.1; by how much the two differ depends on the data."""
    torch.manual_seed(4)
    model, _ = recipes.build("perceptual-vae", event, likelihood="Perceptual")
    before = torch.random.get_rng_state()
    again, _ = recipes.build("perceptual-vae", event, likelihood="Perceptual", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(v, again.likelihood.state_dict()[n]) for n, v in model.likelihood.state_dict().items())
    x, y = torch.rand(2, 50, *event)
    cost = -distributions.FeatureDistance(y, model.likelihood.network, event_dims=len(event)).log_prob(x)
    ratio = model.likelihood.weight * cost / (50 * (x - y).square().flatten(1).sum(1))
    assert 0.3 < ratio.mean() < 3


# What is refused.


def test_what_cannot_be_is_refused_with_what_to_do():
    head = likelihoods.Perceptual(networks.MLP(EVENT, (5,)))
    for make, match in (
        (lambda: likelihoods.Perceptual.suited(likelihoods.Known(EVENT)), r"of which network(.|\n)*perceptual-vae"),
        (lambda: likelihoods.Perceptual(networks.MLP(EVENT, (5,)), weight=0.0), "weight above 0"),
        (lambda: likelihoods.Perceptual(networks.MLP(EVENT, (5,)), pixels=-1.0), "pixels of at least 0"),
        (lambda: head.parameter_shape((1, 8, 8)), r"shape \(1, 3, 5\); got \(1, 8, 8\)(.|\n)*fix: give it a network"),
        (lambda: build({"kind": "Perceptual", "network": {"kind": "VampPrior"}}, likelihoods, networks), "VampPrior"),
        (lambda: build({"kind": "Perceptual"}, likelihoods, networks), "cannot be made from these arguments"),
    ):
        with pytest.raises(UsageError, match=match):
            make()


@pytest.mark.parametrize("name", ["MSSSIM", "Perceptual"])
def test_items_with_missing_values_have_no_likeness(name):
    values = np.random.default_rng(0).random((40, 1, 4, 4))
    values[0, 0, 0, 0] = np.nan
    holes = gapless.read(values, missing="keep", likelihood=name, scaling="none")
    with pytest.raises(UsageError, match=rf"independent features; {name} is none(.|\n)*missing keep"):
        study.train(holes, settings=Settings(epochs=1, **SMALL))


@pytest.mark.parametrize("name", ["ms-ssim-vae", "perceptual-vae"])
def test_a_metric_is_evaluated_without_a_density(name, tmp_path):
    settings = Settings(epochs=1, latent=2, hidden=(8,))
    data = gapless.read("digits", likelihood=recipes.RECIPES[name].likelihood)
    gapless.train(data, recipe=name, settings=settings, folder=tmp_path / "run")
    found = gapless.evaluate(tmp_path / "run", samples=2)
    assert found.bounds.evidence is None
    assert found.bounds.reconstruction_per_feature is None
    assert found.bits.value is None
    assert found.errors.mse < 1
