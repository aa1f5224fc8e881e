"""Recipes' default weights against the numbers that their authors published, in nats per example, summed over features.

Sources: disentanglement_lib (Locatello et al. 2019) for the sweeps; otherwise the papers' own code and configurations.
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from gapless import recipes
from gapless.regularizers import MMD

SWEEPS = {
    ("beta-vae", "beta"): (1, 2, 4, 6, 8, 16),
    ("capacity-vae", "beta"): (1000,),
    ("capacity-vae", "capacity"): (5, 10, 25, 50, 75, 100),
    ("beta-tc-vae", "beta"): (1, 2, 4, 6, 8, 10),
    ("dip-vae-1", "off_diagonal"): (1, 2, 5, 10, 20, 50),
    ("dip-vae-2", "off_diagonal"): (1, 2, 5, 10, 20, 50),
}


@pytest.mark.parametrize(("recipe", "option"), SWEEPS)
def test_defaults_are_among_those_of_the_published_sweep(recipe, option):
    assert recipes.RECIPES[recipe].options[option] in SWEEPS[recipe, option]


def test_the_diagonal_of_the_covariance_weighs_ten_times_as_much_or_as_much():
    first, second = (recipes.RECIPES[name].options for name in ("dip-vae-1", "dip-vae-2"))
    assert first["diagonal"] == 10 * first["off_diagonal"]
    assert second["diagonal"] == second["off_diagonal"]


def test_the_regularized_autoencoders_weights_are_those_of_a_mean_as_a_sum():
    features, pixels = 16, 32 * 32  # MNIST, padded: 1e-4 mean z^2, beside the mean of the squared errors
    for name, published in (("rae-l2", 1e-7), ("rae-gp", 0.5e-7)):
        options = recipes.RECIPES[name].options
        assert 0.5 * options["codes"] == pytest.approx(1e-4 * pixels / features)
        assert options["decoder"] == pytest.approx(published * pixels, rel=0.03)  # rounded


def test_the_joint_vae_has_the_capacities_of_its_code():
    _, objective = recipes.build("joint-vae", (4,), latent=20)
    assert objective.effective_beta == 30
    assert objective.capacity == (5.0, pytest.approx(math.log(10)))


def test_the_tokenizers_kl_weighs_a_millionth():
    _, objective = recipes.build("kl-tokenizer", (1, 8, 8), latent=16)
    assert objective.effective_beta == 1e-6


def test_the_distance_is_that_of_the_wasserstein_autoencoders_code():
    """Over scales s of `C = 2 d s`: means of `C / (C + r^2)` over pairs of different codes, less twice that across."""
    _, objective = recipes.build("wae-mmd", (4,), latent=3)
    (penalty,) = objective.penalties
    assert isinstance(penalty, MMD)
    assert penalty.weight == 10
    noise = np.random.default_rng(0)
    z, y = noise.normal(1, 2, (6, 3)), noise.normal(size=(6, 3))
    expected = sum(
        _within(z, 2 * 3 * s)
        + _within(y, 2 * 3 * s)
        - 2 * (2 * 3 * s / (2 * 3 * s + cdist(z, y, "sqeuclidean"))).mean()
        for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)
    )
    measured = penalty.between(torch.from_numpy(z)[None], torch.from_numpy(y)[None])
    assert float(measured) == pytest.approx(expected, rel=1e-12)


def _within(codes: np.ndarray, scale: float) -> float:
    return float((scale / (scale + pdist(codes, "sqeuclidean"))).mean())
