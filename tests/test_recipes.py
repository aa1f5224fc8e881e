import pytest
import torch

from gapless import networks, posteriors, recipes
from gapless.errors import UsageError


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_takes_a_step(name):
    model, objective = recipes.build(name, (1, 6, 6), latent=3, hidden=(16,))
    x = torch.rand(8, 1, 6, 6)
    before = objective(model, x, generator=torch.Generator().manual_seed(0)).loss
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before.backward()
    optimizer.step()
    after = objective(model, x, generator=torch.Generator().manual_seed(0)).loss
    assert after < before


def test_the_three_share_their_hidden_weights():
    models = {name: recipes.build(name, (5,), latent=2, hidden=(8, 6), seed=3)[0] for name in ("ae", "kl-only", "vae")}
    for part in (
        "encoder.layers.1.weight",
        "encoder.layers.3.weight",
        "decoder.layers.1.weight",
        "decoder.layers.5.bias",
    ):
        weights = [model.state_dict()[part] for model in models.values()]
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[1], weights[2])


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (recipes.build("vae", (5,), seed=s)[0].state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_an_autoencoder_is_a_point_and_weights():
    model, objective = recipes.build("ae", (5,))
    assert isinstance(model.posterior, posteriors.PointMass)
    assert (objective.reconstruction, objective.regularization) == (1, 0)
    assert recipes.build("kl-only", (5,))[1].reconstruction == 0
    assert recipes.build("beta-vae", (5,), options={"beta": 7.0})[1].effective_beta == 7


@pytest.mark.parametrize(
    ("event", "kind"),
    [((30,), networks.MLP), ((1, 28, 28), networks.MLP), ((3, 32, 32), networks.ConvolutionalEncoder)],
)
def test_auto_chooses_a_network_that_suits_the_data(event, kind):
    assert isinstance(recipes.build("vae", event)[0].encoder, kind)


def test_decoders_mirror_their_encoders():
    model, _ = recipes.build("vae", (5,), hidden=(20, 10))
    assert model.encoder.hidden == (20, 10)
    assert model.decoder.hidden == (10, 20)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"name": "gan"}, "no recipe called 'gan'"),
        ({"likelihood": "Poison"}, "no likelihood called 'Poison'"),
        ({"network": "transformer"}, "no network called"),
        ({"network": "convolutional"}, "needs images"),
        ({"latent": 0}, "at least 1 latent"),
        ({"options": {"gamma": 1.0}}, "no option gamma"),
        ({"hidden": (0,)}, "at least 1"),
    ],
)
def test_unknown_names_and_sizes_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        recipes.build(**{"name": "vae", "event_shape": (5,), **arguments})
