"""What is computed in fewer passes or another layout is the plain formula: values and gradients."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from gapless import networks, recipes
from gapless.distributions import Bernoulli, DiagonalNormal
from gapless.recipes import basics

F32 = torch.finfo(torch.float32).eps


def summed(values, event_dims):
    return values.sum(tuple(range(-event_dims, 0))) if event_dims else values


def plain_bernoulli(logits, x, event_dims=None):
    densities = x * logits - torch.logaddexp(logits, torch.zeros_like(logits))
    return summed(densities, logits.dim() - 1 if event_dims is None else event_dims)


def plain_normal(loc, scale, x, event_dims=None):
    scale = scale.expand_as(loc)
    densities = -(0.5 * ((x - loc) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi))
    return summed(densities, loc.dim() - 1 if event_dims is None else event_dims)


PLAIN = {
    Bernoulli: lambda self, x: plain_bernoulli(self.logits, x, self.event_dims),
    DiagonalNormal: lambda self, x: plain_normal(self.loc, self.scale, x, self.event_dims),
}


def gradients(value, leaves):
    weights = torch.linspace(0.5, 2.0, len(value), dtype=value.dtype)
    return torch.autograd.grad((weights * value).sum(), leaves)


def leaf(values):
    return values.clone().requires_grad_()


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_bernoulli_is_the_plain_formula_with_gradients(spread, ledger):
    logits, x = torch.randn(7, 3, 9, dtype=torch.float64) * spread, torch.rand(7, 3, 9, dtype=torch.float64)
    ours, theirs = leaf(logits), leaf(logits)
    mine = Bernoulli(ours, event_dims=2).log_prob(x)
    reference = plain_bernoulli(theirs, x)
    worst = (mine - reference).abs().max()
    ledger(
        "Bernoulli.log_prob", f"one pass, logits of spread {spread:g}", oracle="x l - softplus(l)", truth=0,
        measured=worst, tolerance=1e-11, why="rounding of 27 values of up to 100",
    )  # fmt: skip
    (a,), (b,) = gradients(mine, [ours]), gradients(reference, [theirs])
    assert torch.allclose(a, b, atol=1e-12)
    logits32 = leaf(logits.float())
    single = Bernoulli(logits32, event_dims=2).log_prob(x.float())
    size = (x * logits).abs().flatten(1).sum(-1) + functional.softplus(logits).flatten(1).sum(-1)
    assert ((single.double() - reference).abs() <= 8 * F32 * size + 1e-6).all()


def test_bernoulli_with_values_of_another_shape_or_type_falls_back():
    logits, x = torch.randn(4, 6), torch.rand(4, 6)
    q = Bernoulli(logits)
    repeated = q.log_prob(x.expand(3, 4, 6))
    assert torch.allclose(repeated, q.log_prob(x).expand(3, 4), rtol=1e-6, atol=1e-5)
    assert torch.allclose(q.log_prob(x[0]), plain_bernoulli(logits, x[:1]), rtol=1e-6, atol=1e-5)
    assert q.log_prob(x.double()).dtype == torch.float64


def test_bernoulli_has_second_derivatives_and_derivatives_by_the_value():
    logits, x = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64)
    density = lambda logits, v: Bernoulli(logits).log_prob(v)  # noqa: E731
    assert torch.autograd.gradcheck(density, (leaf(logits), leaf(x)), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(density, (leaf(logits), leaf(x)))
    slope = torch.func.grad(lambda logits, v: density(logits, v).sum())
    each = torch.func.vmap(slope, (None, 0))(logits, x[None].repeat(2, 1, 1))
    assert torch.allclose(each[1], x - torch.sigmoid(logits))


@pytest.mark.parametrize("size", [(4, 5), (7, 8)])
def test_a_transposed_convolution_by_parts_has_all_derivatives(size):
    layer = networks.convolutions._Doubled(3, 2, size).double()
    h = torch.randn(2, 3, (size[0] + 1) // 2, (size[1] + 1) // 2, dtype=torch.float64)
    assert networks.derivatives.by_parts(h, layer.weight)
    act = lambda h, weight, bias: networks.derivatives.Doubled.apply(h, weight, bias, layer.padding)  # noqa: E731
    values = (leaf(h), layer.weight, layer.bias)
    assert act(*values).shape == (2, 2, *size)
    assert torch.equal(act(*values), plain_doubled(layer, h))
    assert torch.autograd.gradcheck(act, values, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(act, values)


PERCEPTRONS = {
    "perceptron": lambda activation: networks.MLP((2, 3), (4,), hidden=(7, 5), activation=activation),
    "affine": lambda activation: networks.MLP((2, 3), (2, 2), hidden=(), activation=activation),
    "residual": lambda activation: networks.ResidualMLP((2, 3), (4,), width=5, activation=activation),
}


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("name", PERCEPTRONS)
def test_feature_by_feature_is_another_layout_and_nothing_else(name, activation):
    network = PERCEPTRONS[name](activation).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    found = []
    for run in (network, lambda x: network.layers(x).unflatten(1, network.outputs)):
        given = leaf(x)
        value = run(given)
        parameters = list(network.parameters())
        first = torch.autograd.grad(value.sin().sum(), [given, *parameters], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), parameters, allow_unused=True)
        found.append([value, *first, *(g for g in second if g is not None)])
    assert found[0][0].stride(0) == 1
    assert len(found[0]) == len(found[1]) > 3
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-12) for a, b in zip(*found, strict=True))
    for given in (x, x.movedim(0, -1).contiguous().movedim(-1, 0)):
        assert torch.allclose(network(given), found[1][0], rtol=1e-11, atol=1e-12)
    moved = torch.func.jvp(network, (x,), (torch.ones_like(x),))[1]
    plain = torch.autograd.functional.jvp(network.layers, x, torch.ones_like(x))[1]
    assert torch.allclose(moved, plain.view_as(moved), rtol=1e-11, atol=1e-12)
    assert torch.allclose(torch.func.vmap(network)(x[:, None])[:, 0], found[1][0], rtol=1e-11, atol=1e-12)
    with torch.no_grad():
        as_used = network(x)
    network.eval()  # nothing that is used depends on whether gradients are wanted
    assert torch.equal(network(x), as_used)
    assert torch.equal(network(x), network.layers(x).unflatten(1, network.outputs))


def test_layers_that_somebody_looks_at_are_called():
    network, seen = networks.MLP((3,), (2,), hidden=(4,)), []
    handle = network.layers[1].register_forward_hook(lambda *_: seen.append(1))
    network(torch.zeros(2, 3))
    handle.remove()
    network(torch.zeros(2, 3))
    assert len(seen) == 1
    network.layers[2] = torch.nn.LayerNorm(4)  # not number by number: features must be where it looks for them
    x = torch.randn(4, 3)
    assert torch.equal(network(x), network.layers(x))
    network.layers[1] = torch.nn.Linear(3, 4, bias=False)
    assert torch.equal(network(x), network.layers(x))
    torch.nn.utils.spectral_norm(network.layers[1])  # it changes the weights before the layer is called
    network.eval()
    assert torch.equal(network(torch.ones(2, 3)), network.layers(torch.ones(2, 3)))


@pytest.mark.parametrize("scale", [0.01, 0.7, 40.0])
def test_a_normal_with_one_scale_is_the_plain_formula_with_gradients(scale, ledger):
    loc, x = torch.randn(2, 7, 3, 9, dtype=torch.float64)
    ours, theirs = ((leaf(loc), leaf(torch.tensor(scale, dtype=torch.float64)), leaf(x)) for _ in range(2))
    mine = DiagonalNormal(*ours[:2], event_dims=2).log_prob(ours[2])
    reference = plain_normal(*theirs)
    ledger(
        "DiagonalNormal.log_prob", f"one scale {scale:g} for sums, relative", oracle="the plain formula", truth=0,
        measured=((mine - reference) / reference).abs().max(), tolerance=1e-13, why="rounding",
    )  # fmt: skip
    for a, b in zip(gradients(mine, ours), gradients(reference, theirs), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_one_scale_with_no_event_axes_and_with_samples():
    loc, scale = torch.randn(4, 3), torch.tensor(0.3)
    z = torch.randn(5, 4, 3)
    ours, full = (DiagonalNormal(loc, s, event_dims=0).log_prob(z) for s in (scale, scale.expand(4, 3)))
    assert torch.allclose(ours, full, rtol=1e-5, atol=1e-5)


def transposed(layer):
    """torch's layer with the same weights, and as much output padding as its size asks for."""
    before, after = layer.weight.shape[:2]
    padding = tuple(1 - pixels % 2 for pixels in layer.size)
    plain = torch.nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=padding)
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


def plain_doubled(layer, h):
    """The same with weights that need not be parameters."""
    padding = tuple(1 - pixels % 2 for pixels in layer.size)
    return functional.conv_transpose2d(h, layer.weight, layer.bias, stride=2, padding=1, output_padding=padding)


def plain_copy(network):
    """The same network with weights shared by value and every layer as torch has it."""
    layers = copy.deepcopy(network.layers)
    for name, layer in layers.named_children():
        if isinstance(layer, networks.convolutions._Image):
            setattr(layers, name, torch.nn.Unflatten(1, layer.shape))
        if isinstance(layer, networks.convolutions._Rows):
            setattr(layers, name, torch.nn.Flatten())
        if isinstance(layer, networks.convolutions._Doubled):
            setattr(layers, name, transposed(layer))
        if isinstance(layer, torch.nn.Linear):  # to and of rows whose channels are outermost
            plain = torch.nn.Linear(layer.in_features, layer.out_features)
            plain.weight, plain.bias = layer.weight, layer.bias
            setattr(layers, name, plain)
    return layers


CONVOLUTIONAL = {
    "encoder, grey": (lambda: networks.ConvolutionalEncoder((1, 28, 28), (6,)), (1, 28, 28)),
    "encoder, colour, odd": (lambda: networks.ConvolutionalEncoder((3, 17, 5), (2, 3), blocks=1), (3, 17, 5)),
    "decoder, grey": (lambda: networks.ConvolutionalDecoder((6,), (1, 28, 28)), (6,)),
    "decoder, grey, odd": (lambda: networks.ConvolutionalDecoder((6,), (1, 17, 10), channels=(3, 5)), (6,)),
    "decoder, two images": (lambda: networks.ConvolutionalDecoder((4,), (2, 3, 17, 5), blocks=1), (4,)),
    "decoder, one channel inside": (lambda: networks.ConvolutionalDecoder((4,), (3, 9, 6), channels=(4, 1)), (4,)),
}


@pytest.mark.parametrize("rows", [3, 9])  # fewer than the features of a code, and more: either side is turned
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_channels_last_changes_the_layout_and_nothing_else(name, dtype, rows):
    make, shape = CONVOLUTIONAL[name]
    network = make().to(dtype)
    plain = plain_copy(network)
    x, same = (leaf(torch.randn(rows, *shape, generator=torch.Generator().manual_seed(1)).to(dtype)) for _ in range(2))
    ours, theirs = network(x), plain(same)
    theirs = theirs.reshape(ours.shape)
    assert ours.is_contiguous()
    # A sum of n products differs by its order within n eps of its size; the sizes here are below 10, n below 1e4.
    tolerance = 1e-3 if dtype == torch.float32 else 1e-11
    assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    mine = torch.autograd.grad((weights * ours).sum(), [x, *network.parameters()])
    reference = torch.autograd.grad((weights * theirs).sum(), [same, *plain.parameters()])
    for a, b in zip(mine, reference, strict=True):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance * b.abs().max())


def test_activations_are_channels_last_and_weights_as_they_were():
    seen = []
    for make, shape in (CONVOLUTIONAL["encoder, grey"], CONVOLUTIONAL["decoder, grey"]):
        network = make()
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Conv2d, networks.convolutions._Doubled)):
                layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        network(torch.rand(5, *shape))
        assert all(value.is_contiguous() for value in network.state_dict().values())
    assert len(seen) == 4
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in seen)
    assert all(value.stride(1) == 1 for value in seen)


def test_gradients_are_channels_last_too():
    network, found = networks.ConvolutionalEncoder((1, 28, 28), (6,)), []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, h: h.register_hook(found.append) and None)
    network(torch.rand(5, 1, 28, 28)).sum().backward()
    assert len(found) == 2
    assert all(gradient.stride(1) == 1 for gradient in found)


def test_an_empty_batch_stays_one():
    decoder = networks.ConvolutionalDecoder((3,), (1, 8, 8))
    assert decoder(torch.empty(0, 3)).shape == (0, 1, 8, 8)


def test_names_of_the_weights_are_those_of_the_first_runs_written():
    model, _ = recipes.build("vae", (1, 8, 8), latent=2, network="convolutional", channels=(4, 6))
    assert [name for name in model.state_dict() if name.startswith("decoder")] == [
        f"decoder.layers.{number}.{kind}" for number in (1, 4, 6) for kind in ("weight", "bias")
    ]


HEADS = ("Bernoulli", "Normal", "NormalWithOptimalScale", "NormalWithLearnedScale")
OPTIONS = {"geco": {"target": 30.0}} | {name: {"units": 9} for name in ("factor-vae", "aae", "vae-gan")}
SERVED = [(name, head) for name in basics.RECIPES for head in HEADS]
SERVED += [(name, head) for name in recipes.RECIPES if name not in basics.RECIPES for head in HEADS[::2]]
SERVED.remove(("m2", "NormalWithOptimalScale"))  # refused: the classes that are tried share no fitted scale


def made(name, **sizes):
    """A recipe in float64, and the model as its objective is shown it."""
    classes = 3 if recipes.RECIPES[name].conditional else 0
    model, objective = recipes.build(name, (1, 8, 8), **sizes, options=OPTIONS.get(name, {}), context=classes)
    model, objective = model.double(), objective.double()
    objective.plan(10, 100)
    shown = model.given(torch.eye(3, dtype=torch.float64)[torch.arange(6) % 3]) if classes else model
    return model, shown, objective


@pytest.mark.parametrize(("name", "likelihood"), SERVED)
@pytest.mark.parametrize("network", ["mlp", "convolutional"])
def test_every_recipe_has_the_plain_paths_loss_and_gradients(name, network, likelihood, monkeypatch):
    sizes = {"latent": 4, "network": network, "hidden": (16,), "channels": (4, 6), "likelihood": likelihood}
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    found = []
    for plain in (False, True):
        with monkeypatch.context() as patch:
            if plain:
                patch.setattr(networks.convolutions, "_channels_last", lambda h: h)
                patch.setattr(networks.convolutions._Doubled, "forward", plain_doubled)
                patch.setattr(networks.perceptrons, "_run", lambda layers, x: layers(x))
                for kind, log_prob in PLAIN.items():
                    patch.setattr(kind, "log_prob", log_prob)
            model, shown, objective = made(name, **sizes)
            terms = objective(shown, x, generator=torch.Generator().manual_seed(1))
            terms.loss.backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            found.append((terms.loss.detach(), terms.reconstruction.detach(), *grads))
    assert len(found[0]) == len(found[1]) > 4
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-8) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_rectifier_that_overwrites_gives_the_plain_ones_gradients_also_of_gradients(blocks, monkeypatch):
    x, z = torch.randn(5, 2, 9, 6, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = []
    for plain in (False, True):
        with monkeypatch.context() as patch:
            if plain:
                patch.setattr(networks.convolutions, "_overwriting", lambda activation: torch.nn.ReLU())
            torch.manual_seed(0)
            encoder = networks.ConvolutionalEncoder((2, 9, 6), (3,), channels=(4, 6), blocks=blocks).double()
            decoder = networks.ConvolutionalDecoder((3,), (2, 9, 6), channels=(4, 6), blocks=blocks).double()
        kinds = {type(layer).__name__ for network in (encoder, decoder) for layer in network.layers}
        assert ("_Rectified" in kinds) is not plain
        image, code = leaf(x), leaf(z)
        value = encoder(image).square().sum() + decoder(code).square().sum()
        parameters = [*encoder.parameters(), *decoder.parameters()]
        first = torch.autograd.grad(value, [image, code, *parameters], retain_graph=True)
        again = torch.autograd.grad(value, [image, code], create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in again), parameters, allow_unused=True)
        found.append([value.detach(), *first, *(g for g in second if g is not None)])
    assert len(found[0]) == len(found[1]) > 16
    assert all(torch.equal(a, b) or torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(*found, strict=True))
