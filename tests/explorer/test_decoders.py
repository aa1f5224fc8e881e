"""The ONNX file of a decoder decodes as torch does, whatever the network, the likelihood and the size of the image."""

import numpy as np
import pytest
import torch

from gapless import likelihoods, networks, posteriors, priors
from gapless.explorer.decoders import milliseconds_per_point, onnx_decoder, session
from gapless.explorer.ladder import LARGEST, SLOWEST, rung
from gapless.model import Model
from gapless.parts import concrete

HEADS = {
    "Bernoulli": likelihoods.Bernoulli(),
    "Normal": likelihoods.Normal(0.3),
    "NormalWithLearnedScale": likelihoods.NormalWithLearnedScale(),
    "NormalWithOptimalScale": likelihoods.NormalWithOptimalScale(),
    "Laplace": likelihoods.Laplace(0.3),
    "LaplaceWithLearnedScale": likelihoods.LaplaceWithLearnedScale(),
    "ContinuousBernoulli": likelihoods.ContinuousBernoulli(),
    "DiscretisedLogistic": likelihoods.DiscretisedLogistic(17),
    "DiscretisedLogisticMixture": likelihoods.DiscretisedLogisticMixture(3, levels=17),
    "Categorical": likelihoods.Categorical(4),
    "Poisson": likelihoods.Poisson(),
    "NegativeBinomial": likelihoods.NegativeBinomial(),
    "ZeroInflatedNegativeBinomial": likelihoods.ZeroInflatedNegativeBinomial((1, 4, 4)),
    "MSSSIM": likelihoods.MSSSIM(),
    "Perceptual": likelihoods.Perceptual(networks.MLP((1, 4, 4), (30,))),
}
BODIES = {
    "mlp": (networks.MLP, {"hidden": (16, 8), "activation": "softplus"}, (1, 4, 4)),
    "mlp of a table": (networks.MLP, {"hidden": (7,), "activation": "tanh"}, (9,)),
    "affine": (networks.MLP, {"hidden": ()}, (5,)),
    "bayesian": (networks.BayesianMLP, {"hidden": (7,)}, (5,)),
    "spatial": (networks.SpatialDecoder, {"channels": (32,)}, (1, 2, 2)),
    "residual": (networks.ResidualMLP, {"width": 16, "blocks": 2, "activation": "gelu"}, (6,)),
    "convolutional": (networks.ConvolutionalDecoder, {"channels": (8, 16), "activation": "silu"}, (1, 28, 28)),
    "convolutional, odd": (networks.ConvolutionalDecoder, {"channels": (4, 8), "blocks": 1}, (3, 17, 5)),
    "convolutional, one pixel": (networks.ConvolutionalDecoder, {"channels": (4,), "activation": "elu"}, (2, 1, 3)),
}


def made(body: str, head: str, latent: int = 3) -> Model:
    network, options, event = BODIES[body]
    likelihood = HEADS[head]
    shape = likelihood.parameter_shape(event)
    model = Model(
        encoder=networks.MLP(likelihood.view_shape(event), (2 * latent,), hidden=(4,)),
        posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent),
        decoder=network((latent,), shape, **options),
        likelihood=likelihood,
        event_shape=event,
    )
    model.center(torch.rand(event))
    return model.eval()


def test_every_likelihood_is_tried():
    assert set(HEADS) == set(concrete(likelihoods)) - {"Masked", "Mixed"}  # made of these
    tried = {network.__name__ for network, _, _ in BODIES.values()}
    assert tried == set(concrete(networks)) - {"ConvolutionalEncoder", "SpatialEncoder", "Standardized"}  # of items


@pytest.mark.parametrize(
    ("body", "head"),
    [*((body, "Bernoulli") for body in BODIES), *(("mlp", head) for head in HEADS if head != "Bernoulli")],
)
def test_the_file_decodes_as_torch_does(body, head, ledger):
    model = made(body, head)
    ready = session(onnx_decoder(model))
    z = 3 * torch.randn(257, model.latent)
    with torch.no_grad():
        wanted = model.decode(z).mean.numpy()
    for count in (1, 2, 257):  # the batch axis is free
        found = ready.run(["x"], {"z": z[:count].numpy()})[0]
        assert found.shape == (count, *model.event_shape)
        assert found.dtype == np.float32
        assert np.abs(found - wanted[:count]).max() < 1e-5
    assert np.abs(wanted - wanted[0]).max() > 1e-3  # it does not decode all codes alike


def test_the_file_is_the_models_alone():
    """Made again it is the same, it tells nothing of this machine, and making it leaves the model as it was."""
    model = made("mlp", "Bernoulli").train()
    content = onnx_decoder(model)
    assert onnx_decoder(model) == content
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for word in (b"/site-packages", b"/src/", b".py", b"stack_trace"):
        assert word not in content
    assert 0 < milliseconds_per_point(session(content), 3) < 50


@pytest.mark.parametrize(
    ("size", "milliseconds", "static", "wanted"),
    [
        (1000, 0.1, False, "onnx"),
        (LARGEST, SLOWEST, True, "onnx"),
        (LARGEST + 1, 0.1, False, "server"),
        (LARGEST + 1, 0.1, True, "lattice"),
        (1000, SLOWEST + 0.1, False, "server"),
        (1000, SLOWEST + 0.1, True, "lattice"),
    ],
)
def test_the_ladder(size, milliseconds, static, wanted):
    assert rung(size, milliseconds, static=static) == wanted
