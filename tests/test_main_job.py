"""The main job on the real data sets beside the checkout; short here, in full in the closing notes."""

import math

import gapless
from gapless.settings import Settings


def test_the_story_on_mnist_at_two_latent_features(shared_data):
    data = gapless.read(shared_data / "mnist")
    assert (len(data.train), len(data.held_out), data.event_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.likelihood == "Bernoulli"
    comparison = gapless.compare(data, settings=Settings(latent=2, epochs=1, hidden=(64,), batch_size=500))
    held = {name: run.held_out for name, run in comparison.runs.items()}
    assert held["kl-only"]["kl"] < 0.01
    # A model that knows only the mean image needs 206.0 nats (measured: the cross-entropy of the pixels' means); after
    # one epoch AE and VAE are far below it, in either order.
    assert 205.5 < held["kl-only"]["reconstruction"] < 207
    assert max(held["ae"]["reconstruction"], held["vae"]["reconstruction"]) < 190


def test_frey_faces(shared_data):
    data = gapless.read(shared_data / "freyfaces" / "freyfaces.npz")
    run = gapless.train(data, settings=Settings(latent=4, epochs=15, hidden=(64,)))
    assert data.event_shape == (1, 28, 20)
    assert run.history[-1]["held_out"]["loss"] < run.history[0]["held_out"]["loss"] - 100
    assert math.isfinite(run.held_out["elbo"])


def test_colour_images_from_a_zip(shared_data):
    data = gapless.read(shared_data / "images" / "cifar10_test4000_jpg.zip")
    run = gapless.train(data, settings=Settings(latent=8, epochs=1, channels=(8, 16)))
    assert type(run.model.encoder).__name__ == "ConvolutionalEncoder"
    assert len(data.label_names) == 10
    assert math.isfinite(run.held_out["elbo"])


def test_tables_of_five_kinds(shared_data):
    for path in sorted((shared_data / "anomaly").glob("*.npz")):
        run = gapless.train(gapless.read(path), settings=Settings(latent=4, epochs=1, hidden=(32,)))
        assert math.isfinite(run.held_out["elbo"]), path.name
