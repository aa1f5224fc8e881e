"""Published protocols and the numbers they gave: negative log-likelihood of MNIST's test images in nats."""

from dataclasses import dataclass

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """What was published, and how.

    Attributes:
        recipe: name of the recipe.
        samples: draws an item while training.
        hidden: units of the encoder's hidden layers; the decoder mirrors them.
        activation: of both networks.
        latent: latent features.
        batch: items a step.
        rate: largest learning rate.
        schedule: course of the rate.
        epochs: epochs of the published run.
        binarization: dynamic (drawn anew at every look) or fixed (drawn once).
        evaluated: importance samples of the published evaluation.
        published: nats.
        source: who published it.
        spread: of the published number over its runs, where it was given.
        second: what a second implementation gave, where one is known.
        remarks: what of the protocol is not the authors' word.
    """

    recipe: str
    samples: int
    hidden: tuple[int, ...]
    activation: str
    latent: int
    batch: int
    rate: float
    schedule: str
    epochs: int
    binarization: str
    evaluated: int
    published: float
    source: str
    spread: float | None = None
    second: float | None = None
    remarks: str = ""

    @property
    def stated(self) -> str:
        """The published number, with all that is stated of it."""
        spread = "" if self.spread is None else f" ± {self.spread}"
        return f"{self.published}{spread}" + (
            "" if self.second is None else f" (a second implementation: {self.second})"
        )


def _burda(samples: int, binarization: str, published: float) -> Protocol:
    recipe = "vae" if samples == 1 else "iwae"
    source = "Burda, Grosse & Salakhutdinov (2016), one stochastic layer"
    return Protocol(
        recipe, samples, (200, 200), "tanh", 50, 20, 1e-3, "staged", 3280, binarization, 5000, published, source
    )


PROTOCOLS = {
    "vae": _burda(1, "dynamic", 86.76),
    "iwae-5": _burda(5, "dynamic", 85.54),
    "iwae-50": _burda(50, "dynamic", 84.78),
    "vae-fixed": _burda(1, "fixed", 88.71),
    "iwae-5-fixed": _burda(5, "fixed", 87.63),
    "iwae-50-fixed": _burda(50, "fixed", 87.10),
    "vae-relu": Protocol(
        "vae",
        1,
        (400,),
        "relu",
        40,
        100,
        1e-4,
        "constant",
        500,
        "fixed",
        200,
        89.9,
        "VAE 784-400-(40)-400-784",
        second=89.78,
    ),
    "hyperspherical": Protocol(
        "hyperspherical",
        1,
        (256, 128),
        "relu",
        11,
        64,
        1e-3,
        "constant",
        500,
        "dynamic",
        500,
        93.16,
        "Davidson, Falorsi, De Cao, Kipf & Tomczak (2018)",
        spread=0.31,
        remarks="Networks, optimizer, rate and batch are those of the authors' example (nicola-decao/s-vae-pytorch). "
        "The sphere S^10, 11 coordinates, is from memory of the paper's table, which was not at hand. The paper ends a "
        "run by early stopping and warms the KL up: 500 epochs, with a KL that rises over half of them, stand in.",
    ),
}
