"""Cases of likelihoods."""

from gapless import likelihoods

CASES = {
    "Bernoulli": likelihoods.Bernoulli,
    "Normal": lambda: likelihoods.Normal(0.3),
    "NormalWithLearnedScale": lambda: likelihoods.NormalWithLearnedScale((2, 3, 4)),
    "NormalWithOptimalScale": lambda: likelihoods.NormalWithOptimalScale(0.9),
}
