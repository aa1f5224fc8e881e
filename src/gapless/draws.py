"""Draws of a batch and their log weights: what every bound and every regularizer is made of."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import processes
from gapless.distributions import divergence
from gapless.model import Model
from gapless.ownership import frozen, log_prob_of

__all__ = ["Draws", "draw"]

Moves = Literal["all", "encoder", "decoder"]


@dataclass(frozen=True)
class Draws:
    """Codes drawn for a batch, and everything that was computed of them on the way.

    Attributes:
        model: the model.
        x: the batch in model units, shape (batch, *event).
        encoded: the encoder's output, shape (batch, *posterior parameters).
        posterior: q(z|x), batch_shape (batch,).
        prior: p(z).
        z: draws of q(z|x), shape (samples, batch, latent).
        likelihood: p(x|z), batch_shape (samples * batch,), draws outermost.
        log_likelihood: log p(x|z) in nats, shape (samples, batch).
        moves: what a loss of these draws can move. "encoder": decoder, likelihood and prior are constants, only z
            carries gradients through them. "decoder", with z detached: encoder and posterior are constants, also within
            a prior that is made of them. Or "all".
    """

    model: Model
    x: Tensor
    encoded: Tensor
    posterior: Distribution
    prior: Distribution
    z: Float[Tensor, "samples batch latent"]
    likelihood: Distribution
    log_likelihood: Float[Tensor, "samples batch"]
    moves: Moves = "all"

    @property
    def reconstruction(self) -> Float[Tensor, " batch"]:
        """-E_q log p(x|z) in nats, the mean over the draws."""
        single = len(self.log_likelihood) == 1
        return -(self.log_likelihood.squeeze(0) if single else self.log_likelihood.mean(0))

    def divergence(self) -> Float[Tensor, " batch"]:
        """KL(q(z|x) || p(z)) in nats: in closed form where one is known, else by the draws."""
        return divergence(self.posterior, self.prior, self.z)

    def log_weights(self, *, constant_posterior: bool = False) -> Float[Tensor, "samples batch"]:
        """`log w = log p(x|z) + log p(z) - log q(z|x)` in nats; the mean of w is an unbiased estimate of p(x).

        Args:
            constant_posterior: no gradient through the parameters of the density log q(z|x), only through z.
        """
        return self.log_likelihood + self._log_prior() - self._log_posterior(constant_posterior)

    def whole(self, rows: Tensor, *, axis: int = 0) -> Tensor:
        """All rows of the batch, from the rows of x or of what was decoded: a process of a job has its own alone."""
        return processes.gather(rows, self.z.shape[1], axis=axis) if self.model.shared else rows

    def at(self, z: Tensor, *, moves: Moves = "all") -> "Draws":
        """The same batch and posterior with other codes (samples, batch, latent), scored as these draws are."""
        likelihood, log_likelihood = _explained(self.model, self.x, z, moves=moves, like=self.likelihood)
        return replace(self, z=z, likelihood=likelihood, log_likelihood=log_likelihood, moves=moves)

    def _log_prior(self) -> Tensor:
        if self.moves == "all":
            return self.prior.log_prob(self.z)
        if self.moves == "encoder":
            return frozen(log_prob_of(self.model.prior))(self.z, self.model.encode)
        return frozen(_LogPrior(self.model), "model.encoder", "model.posterior")(self.z)

    def _log_posterior(self, constant: bool) -> Tensor:
        if not constant:
            return self.posterior.log_prob(self.z)
        return frozen(log_prob_of(self.model.posterior))(self.z, self.encoded.detach())


def draw(
    model: Model,
    x: Tensor,
    *,
    samples: int = 1,
    generator: torch.Generator | None = None,
    pathwise: bool = True,
    moves: Moves = "all",
) -> Draws:
    """Encode a batch, draw codes, and decode them.

    Args:
        model: the model.
        x: a batch in model units, shape (batch, *event).
        samples: draws z ~ q(z|x) an item, at least 1.
        generator: source of the noise; the global one when None.
        pathwise: whether the draws carry a gradient to the encoder (the reparameterization trick).
        moves: what a loss of these draws can move; see `Draws`.
    """
    encoded = model.encoded(x)
    posterior = model.posterior(encoded)
    z = posterior.rsample((samples,), generator=generator)
    z = z if pathwise else z.detach()
    likelihood, log_likelihood = _explained(model, x, z, moves=moves)
    prior = model.prior_distribution()
    return Draws(model, x, encoded, posterior, prior, z, likelihood, log_likelihood, moves)


def _explained(
    model: Model, x: Tensor, z: Tensor, *, moves: Moves, like: Distribution | None = None
) -> tuple[Distribution, Tensor]:
    """p(x|z) and log p(x|z), shape (samples, batch), for draws of shape (samples, batch, latent)."""
    samples = len(z)
    repeated = x if samples == 1 else _repeated(x, samples)
    decoded = model.decode(z.flatten(0, 1), constant=moves == "encoder")
    likelihood = model.likelihood.calibrate(decoded, repeated, like=like)
    return likelihood, likelihood.log_prob(repeated).unflatten(0, (samples, -1))


def _repeated(x: Tensor, samples: int) -> Tensor:
    """The items, all of them `samples` times, one after another, in memory as they were."""
    by_feature = x.movedim(0, -1)
    if x.is_contiguous() or not by_feature.is_contiguous():
        return x.expand(samples, *x.shape).flatten(0, 1)
    return by_feature.repeat(*[1] * (x.dim() - 1), samples).movedim(-1, 0)


class _LogPrior(nn.Module):
    """z -> log p(z) of a model, in which a prior that is made of posteriors meets encoder and posterior by name."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.prior_distribution().log_prob(z)
