"""What is minimised: a map from (model, batch) to terms in nats per example, summed over features."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gapless.distributions import divergence
from gapless.errors import UsageError
from gapless.model import Model
from gapless.parts import Part

__all__ = ["ELBO", "Objective", "Terms"]


class Terms(NamedTuple):
    """The terms of one batch, in nats.

    Attributes:
        loss: what is minimised, shape ().
        reconstruction: -E_q log p(x|z), lower is better, shape (batch,).
        regularization: KL(q(z|x) || p(z)), shape (batch,).
        extras: further terms by name, shape () or (batch,).
    """

    loss: Tensor
    reconstruction: Tensor
    regularization: Tensor
    extras: dict[str, Tensor]

    @property
    def elbo(self) -> Float[Tensor, " batch"]:
        """The evidence lower bound itself, whatever the weights: -(reconstruction + regularization)."""
        return -(self.reconstruction + self.regularization)


class Objective(Part, ABC):
    """A map from a model and a batch to `Terms`.

    To add one: return `Terms` from `forward`; `loss` is what is minimised and may differ from the bound reported.
    """

    @abstractmethod
    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        """Terms of a batch.

        Args:
            model: the model, in training or evaluation mode.
            x: a batch in model units, shape (batch, *event).
            step: number of optimizer steps taken so far, for weights that change with it.
            generator: source of the noise; the global one when None.
        """


class ELBO(Objective):
    """`loss = reconstruction * E_q[-log p(x|z)] + regularization * KL(q(z|x) || p(z))`, mean over the batch.

    (1, 1) is the negative ELBO of Kingma & Welling (2014), eq. 3; (1, beta) is beta-VAE, Higgins et al. (2017), eq. 4;
    (1, 0) with a point-mass posterior is an autoencoder; (0, 1) is the KL alone. Both terms are sums over features,
    so the weights mean what they say: the effective beta is their ratio.

    Args:
        reconstruction: weight of the reconstruction, at least 0.
        regularization: weight of the KL, at least 0.
        samples: draws z ~ q(z|x) an item, at least 1.

    >>> ELBO(regularization=4.0).effective_beta
    4.0
    """

    def __init__(self, reconstruction: float = 1.0, regularization: float = 1.0, *, samples: int = 1):
        super().__init__()
        if not (reconstruction >= 0 and regularization >= 0 and reconstruction + regularization > 0 and samples >= 1):
            raise UsageError(
                "an ELBO needs weights of at least 0, one of them above, and at least one sample; "
                f"got reconstruction={reconstruction}, regularization={regularization}, samples={samples}"
            )
        self.reconstruction, self.regularization, self.samples = reconstruction, regularization, samples

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction, both in nats; infinite for the KL alone."""
        return self.regularization / self.reconstruction if self.reconstruction else float("inf")

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        posterior = model.encode(x)
        z = posterior.rsample((self.samples,), generator=generator)  # pyright: ignore[reportCallIssue]
        repeated = x if self.samples == 1 else x.expand(self.samples, *x.shape).flatten(0, 1)
        likelihood = model.likelihood.calibrate(model.decode(z.flatten(0, 1)), repeated)
        reconstruction = -likelihood.log_prob(repeated).unflatten(0, (self.samples, -1)).mean(0)
        regularization = divergence(posterior, model.prior_distribution(), z)
        # A term of weight 0 is left out, not multiplied: an autoencoder's KL is infinite.
        weighted = ((self.reconstruction, reconstruction), (self.regularization, regularization))
        loss = sum((weight * term.mean() for weight, term in weighted if weight), start=x.new_zeros(()))
        return Terms(loss, reconstruction, regularization, {})
