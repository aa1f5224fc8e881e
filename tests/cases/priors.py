"""Cases of priors."""

import torch

from gapless import distributions, networks, posteriors, priors

CASES = {
    "PoincareNormal": lambda: priors.PoincareNormal(3, curvature=0.5, scale=0.8),
    "StandardNormal": lambda: priors.StandardNormal(3),
    "UniformOnSphere": lambda: priors.UniformOnSphere(3),
    "UniformCodes": lambda: priors.UniformCodes(4).join(posteriors.FSQ((5, 4))),
    "LearnedCodes": lambda: priors.LearnedCodes(6, (8, 8, 8)).join(posteriors.VectorQuantized(8, 2)),
    "Product": lambda: priors.Product((priors.StandardNormal(2), priors.UniformOnSphere(3))),
    "LearnedNormal": lambda: priors.LearnedNormal(3, 5.0),
    "Mixture": lambda: priors.Mixture(3, 4, covariance="full", bound=5.0),
    "VampPrior": lambda: priors.VampPrior(3, (2, 3, 1), 4),
    "Flow": lambda: priors.Flow(3, "maf", transforms=2, hidden=(9,)),
    "SecondStage": lambda: priors.SecondStage(
        3, networks.MLP((3,), (6,), hidden=(7,)), networks.MLP((3,), (3,), hidden=(7,)), 5.0
    ),
}


def encode(x):
    """Posteriors for the priors that are made of them."""
    flat = x.flatten(1)
    return distributions.DiagonalNormal(flat[:, :3], torch.exp(flat[:, 3:6]))
