"""Fully convolutional networks: places, shapes, and what they refuse."""

import pytest
import torch

from gapless import networks, recipes, testing
from gapless.errors import UsageError


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
