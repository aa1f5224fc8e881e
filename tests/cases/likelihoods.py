"""Cases of likelihoods."""

from gapless import likelihoods, networks

CASES = {
    "Bernoulli": likelihoods.Bernoulli,
    "Normal": lambda: likelihoods.Normal(0.3),
    "NormalWithLearnedScale": lambda: likelihoods.NormalWithLearnedScale((2, 3, 4)),
    "NormalWithOptimalScale": lambda: likelihoods.NormalWithOptimalScale(0.9),
    "Laplace": lambda: likelihoods.Laplace(0.3),
    "LaplaceWithLearnedScale": lambda: likelihoods.LaplaceWithLearnedScale((2, 3, 4)),
    "ContinuousBernoulli": likelihoods.ContinuousBernoulli,
    "DiscretisedLogistic": lambda: likelihoods.DiscretisedLogistic(17),
    "DiscretisedLogisticMixture": lambda: likelihoods.DiscretisedLogisticMixture(3, levels=17),
    "Categorical": lambda: likelihoods.Categorical(4),
    "Poisson": lambda: likelihoods.Poisson(library=True),
    "NegativeBinomial": lambda: likelihoods.NegativeBinomial((2, 3, 4)),
    "ZeroInflatedNegativeBinomial": lambda: likelihoods.ZeroInflatedNegativeBinomial((2, 3, 4)),
    "MSSSIM": lambda: likelihoods.MSSSIM(20.0),
    "Perceptual": lambda: likelihoods.Perceptual(
        networks.MLP((2, 3, 4), (30,), hidden=(), activation="tanh"), weight=3.0, pixels=0.1
    ),
    "Mixed": lambda: likelihoods.Mixed(
        (likelihoods.Normal(0.3), likelihoods.NormalWithLearnedScale(), likelihoods.Normal(0.3))
    ),
    "Masked": lambda: likelihoods.Masked(likelihoods.NormalWithLearnedScale((2, 3, 4))),
}
