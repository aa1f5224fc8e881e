"""Cases of priors."""

from gapless import posteriors, priors

CASES = {
    "StandardNormal": lambda: priors.StandardNormal(3),
    "UniformOnSphere": lambda: priors.UniformOnSphere(3),
    "UniformCodes": lambda: priors.UniformCodes(4).join(posteriors.FSQ((5, 4))),
    "LearnedCodes": lambda: priors.LearnedCodes(6, (8, 8, 8)).join(posteriors.VectorQuantized(8, 2)),
    "Product": lambda: priors.Product((priors.StandardNormal(2), priors.UniformOnSphere(3))),
}
