"""Fully convolutional networks: places, shapes, and what they refuse."""

import numpy as np
import pytest
import torch

import gapless
from gapless import networks, objectives, parts, recipes, study, testing
from gapless.draws import draw
from gapless.errors import Interrupted, UsageError
from gapless.regularizers import PatchCritic
from gapless.settings import Settings
from gapless.training import Callback


@pytest.mark.parametrize("size", [(1, 4, 4), (3, 8, 12), (2, 16, 4), (1, 32, 32)])
@pytest.mark.parametrize("attention", [True, False])
def test_they_serve_any_image_that_can_be_halved(size, attention):
    features = 3 * size[1] * size[2] // 16
    if attention and size[1:] == (4, 4):
        pytest.skip("one place has nothing to look at: its scores have no gradient")
    encoder = networks.SpatialEncoder(size, (features,), channels=(4, 8), activation="elu", attention=attention)
    decoder = networks.SpatialDecoder((features,), (2, *size), channels=(4, 8), activation="elu", attention=attention)
    testing.check_network(encoder, batch=2)
    testing.check_network(decoder, batch=2)


def seen_from(network, values, places, shape):
    """Which inputs each place of the output depends on, by the gradient: (places, *input)."""
    x = torch.randn(1, *shape, requires_grad=True)
    y = network(x).reshape(values, *places)
    return torch.stack([
        torch.autograd.grad(y[:, i, j].sum(), x, retain_graph=True)[0][0].abs().sum(0)
        for i in range(places[0]) for j in range(places[1])
    ])  # fmt: skip


def plain(network):
    """The network without its norms."""
    for name, module in list(network.named_modules()):
        if isinstance(module, torch.nn.GroupNorm):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, torch.nn.Identity())
    return network


def test_a_place_looks_at_its_own_part_of_the_image():
    # Group norm looks at everything, a little; without it the receptive field is exact.
    encoder = plain(networks.SpatialEncoder((1, 64, 64), (2 * 16 * 16,), channels=(4, 8), attention=False))
    seen = seen_from(encoder, 2, (16, 16), (1, 64, 64))
    corner, middle = seen[0].nonzero(), seen[16 * 8 + 8].nonzero()
    assert corner.max() < 32
    assert (middle.float().mean(0) - 34).abs().max() < 4  # place 8 of 16 lies about pixel 34 of 64
    assert middle.min() > 4


def test_the_code_is_features_by_height_by_width():
    # What changes at the left changes every feature there, and nothing at the right.
    encoder = plain(networks.SpatialEncoder((1, 32, 32), (3 * 8 * 8,), channels=(4, 8), attention=False))
    x = torch.zeros(1, 1, 32, 32)
    moved = x.clone()
    moved[..., :8] = torch.randn(1, 1, 32, 8)
    change = (encoder(moved) - encoder(x)).reshape(3, 8, 8).abs()
    assert (change[:, :, :2].amax((1, 2)) > 0).all()
    assert change[:, :, 7:].max() == 0
    decoder = plain(networks.SpatialDecoder((3 * 8 * 8,), (1, 1, 32, 32), channels=(4, 8), attention=False))
    z = torch.zeros(1, 3, 8, 8)
    moved = z.clone()
    moved[..., :2] = 5 * torch.randn(1, 3, 8, 2)
    change = (decoder(moved.flatten(1)) - decoder(z.flatten(1))).reshape(32, 32).abs()
    assert change[:, :8].max() > 0
    assert change[:, 31:].max() == 0


def test_attention_lets_places_look_at_one_another(ledger):
    block = next(
        module
        for module in networks.SpatialEncoder((1, 8, 8), (16,), channels=(4, 8)).modules()
        if type(module).__name__ == "_Attention"
    ).double()
    h = torch.randn(2, 8, 2, 3, dtype=torch.float64)
    q, k, v = block.heads(block.norm(h)).flatten(2).chunk(3, 1)
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 8**0.5, -1)
    seen = torch.einsum("bij,bcj->bci", weights, v).unflatten(2, (2, 3))
    worst = (block(h) - h - block.out(seen)).abs().max()
    ledger(
        "SpatialEncoder", "attention between places", oracle="Vaswani et al. (2017), eq. 1, by einsum", truth=0,
        measured=worst.detach(), tolerance=1e-12, why="rounding of float64",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"event_shape": (5,)}, "needs images"),
        ({"event_shape": (1, 6, 8)}, "multiples of 4; got 6 x 8"),
        ({"event_shape": (1, 8, 8), "latent": 6}, "multiples of 4, for example --latent 16"),
        ({"event_shape": (1, 8, 8), "channels": ()}, "at least one level"),
    ],
)
@pytest.mark.parametrize("recipe", ["kl-tokenizer", "vae"])
def test_what_cannot_be_halved_is_refused(recipe, arguments, match):
    with pytest.raises(UsageError, match=match):
        recipes.build(recipe, **{"network": "spatial", "latent": 16, **arguments})


def test_a_tokenizer_has_spatial_networks_and_hardly_a_kl():
    model, objective = recipes.build("kl-tokenizer", (3, 16, 16), latent=32)
    assert isinstance(model.encoder, networks.SpatialEncoder)
    assert objective.effective_beta == 1e-6
    assert model.encode(torch.rand(2, 3, 16, 16)).mean.shape == (2, 32)
    assert recipes.build("kl-tokenizer", (3, 16, 16), latent=32, network="mlp")[0].encoder.hidden


def test_a_tokenizers_codes_are_one_vector_a_place():
    model, _ = recipes.build("vq-tokenizer", (1, 16, 16), latent=4 * 4 * 3)
    assert model.posterior.width == 3
    q = model.encode(torch.rand(2, 1, 16, 16))
    assert q.indices.shape == (2, 16)
    image = model.encoded(torch.rand(2, 1, 16, 16)).reshape(2, 3, 4, 4)
    assert torch.equal(
        model.posterior.indices(image.flatten(1))[:, 4 * 1 + 2],
        torch.cdist(image[:, :, 1, 2], model.posterior.codebook).argmin(-1),
    )


TOKENIZERS = {"kl-tokenizer": {"critic": 0.7}, "vq-tokenizer": {"critic": 0.7, "codes": 8}}


def tokenizer(name, event=(2, 8, 12), **options):
    latent = 2 * event[1] * event[2] // 16
    return recipes.build(name, event, latent=latent, channels=(4, 8), options={**TOKENIZERS[name], **options})


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_has_a_critic_where_it_is_given_a_weight(name):
    plain = tokenizer(name, critic=0.0)[1]
    objective = tokenizer(name)[1]
    *others, critic = objective.penalties
    assert [type(p) for p in others] == [type(p) for p in plain.penalties]
    assert isinstance(critic, PatchCritic)
    assert (critic.weight, critic.critic.outputs) == (0.7, (1, 4, 6))
    assert plain.comparable
    assert not objective.comparable
    assert objective.effective_beta == plain.effective_beta


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_critic_of_a_tokenizer_obeys_the_laws_and_is_plain_data(name):
    model, objective = tokenizer(name)
    x = torch.rand(3, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    model.start(x)
    testing.check_regularizer(objective.penalties[-1], model, x)
    testing.check_network(objective.penalties[-1].critic)
    again = parts.build(parts.describe(objective), objectives, gapless.regularizers, networks)
    again.load_state_dict(objective.state_dict())
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert torch.equal(*(o(model, x, generator=g).loss for o, g in zip((objective, again), noise, strict=True)))


@pytest.mark.parametrize(("levels", "width"), [(1, 17), (2, 41)])
def test_a_verdict_is_on_a_patch_of_the_image(levels, width):
    critic = plain(tokenizer("kl-tokenizer", (1, 64, 64), critic_levels=levels)[1].penalties[0].critic)
    x, middle = torch.randn(1, 1, 64, 64, requires_grad=True), 32 // 2**levels
    seen = torch.autograd.grad(critic(x)[0, 0, middle, middle], x)[0][0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [width, width]


def test_the_critic_learns_to_tell_images_from_reconstructions_while_the_model_stays():
    model, objective = tokenizer("kl-tokenizer", (1, 8, 8))
    x = (torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    critic, drawn = objective.penalties[0], draw(model, x, generator=torch.Generator().manual_seed(1))
    kept = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.Adam([*critic.parameters(), *model.parameters()], lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        critic(drawn).own.backward(retain_graph=True)
        optimizer.step()
    assert critic(drawn).own < 0.1  # 1 for a verdict of 0 everywhere
    assert critic.critic(x).mean() > 0.8  # E relu(1 - f) >= 1 - E f, and each half of the loss is below 0.2
    assert critic.critic(drawn.likelihood.mean).mean() < -0.8
    assert all(torch.equal(a, b) for a, b in zip(kept, model.parameters(), strict=True))


class Steps(Callback):
    """Counts the steps and ends the process's share of the run after the last, as a kill would."""

    def __init__(self, last=None):
        self.seen, self.last = [], last

    def on_step(self, step, terms):
        self.seen.append(step)
        if step == self.last:
            raise Interrupted("killed")


def test_a_tokenizer_with_a_critic_comes_back_from_its_folder_and_from_a_kill(tmp_path):
    name = "vq-tokenizer"
    data = gapless.read(np.random.default_rng(0).random((24, 4, 4)).astype("float32"))
    options = tuple(f"{key}={value}" for key, value in TOKENIZERS[name].items())
    settings = Settings(latent=4, epochs=1, batch_size=8, channels=(4,), option=(*options, "factor=2"))
    given = {"recipe": name, "settings": settings, "checkpoint_every": 0}
    whole, first, second = study.train(data, folder=tmp_path / "whole", **given), Steps(2), Steps()
    with pytest.raises(Interrupted):
        study.train(data, folder=tmp_path / "cut", callbacks=[first], **given)
    cut = study.train(data, folder=tmp_path / "cut", callbacks=[second], **given)
    assert second.seen[0] > first.seen[0]
    mine = whole._state()
    for its in (cut._state(), gapless.load_run(tmp_path / "whole")._state()):
        assert mine.keys() == its.keys()
        assert all(torch.equal(value, its[key]) for key, value in mine.items())
    start = recipes.build(name, (1, 4, 4), latent=4, channels=(4,), options=settings.options(), seed=settings.seed)[1]
    assert not any(torch.equal(*pair) for pair in zip(weights(start), weights(whole.objective), strict=True))


def weights(objective):
    return [value for key, value in objective.state_dict().items() if ".critic." in key and key.endswith("weight")]


@pytest.mark.parametrize(
    ("event", "options", "match"),
    [
        ((5,), {"critic": 0.5}, "needs images"),
        ((1, 7, 8), {"critic": 0.5}, "multiples of 2; got"),
        ((1, 8, 12), {"critic": 0.5, "critic_levels": 3}, "multiples of 8; got"),
        ((1, 8, 8), {"critic": 0.5, "critic_levels": 0}, "at least one level"),
        ((1, 8, 8), {"critic_levels": 2}, "does nothing without a critic"),
        ((1, 8, 8), {"critic": -1.0}, "at least 0"),
        ((1, 8, 8), {"critic": "much"}, "cannot be made"),
    ],
)
def test_a_critic_that_cannot_be_is_refused(event, options, match):
    with pytest.raises(UsageError, match=match):
        recipes.build("kl-tokenizer", event, network="mlp", options=options)
