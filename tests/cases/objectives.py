"""Cases of objectives."""

from gapless import networks, objectives

CASES = {
    "ELBO": lambda: objectives.ELBO(1.0, 0.5, samples=2, schedule="cyclic", warmup=0.4, cycles=3, free_bits=0.1),
    "GECO": lambda: objectives.GECO(20.0, rate=0.1, memory=0.9, samples=2).eval(),  # training moves its multiplier
    "HamiltonianELBO": lambda: objectives.HamiltonianELBO(3, leaps=2, step_size=0.1, temperature=1.5, samples=2),
    "IWAE": lambda: objectives.IWAE(3),
    "MIWAE": lambda: objectives.MIWAE(2, 3, estimator="sticking-the-landing"),
    "CIWAE": lambda: objectives.CIWAE(4, 0.25, estimator="doubly-reparameterized"),
    "Bayesian": lambda: objectives.Bayesian(objectives.ELBO(1.0, 0.5), items=50),
    "DynamicBinarization": lambda: objectives.DynamicBinarization(objectives.IWAE(3)),
    "SemiSupervised": lambda: objectives.SemiSupervised(networks.MLP((1, 4, 4), (2,), hidden=(5,)), alpha=2.0),
    "PIWAE": lambda: objectives.PIWAE(2, 3),
}
