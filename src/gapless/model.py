"""A model: encoder, posterior, prior, decoder and likelihood; an autoencoder, a VAE or any recipe."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import likelihoods, networks, posteriors, priors
from gapless.errors import UsageError
from gapless.parts import build, describe

__all__ = ["PARAMETER_BUDGET", "Model"]

PARAMETER_BUDGET = 2_000_000_000
"""A description that asks for more parameters than this is refused before anything is allocated."""

_BOXES = {
    "encoder": networks, "posterior": posteriors, "prior": priors, "decoder": networks, "likelihood": likelihoods,
}  # fmt: skip


class Model(nn.Module):
    """Five parts: `x -> encoder -> q(z|x) -> z -> decoder -> p(x|z)`, and a prior `p(z)`.

    Values are in model units (the data's `Scaling` has been applied), floating point, shape (batch, *event).

    Args:
        encoder: network from (*event) to (posterior.parameters_per_code * latent,).
        posterior: head that makes q(z|x) of the encoder's output.
        prior: p(z); its `latent` is the number of latent features.
        decoder: network from (latent,) to likelihood.parameter_shape(event), in any shape of that many values.
        likelihood: head that makes p(x|z) of the decoder's output.

    >>> event, latent = (1, 8, 8), 2
    >>> model = Model(
    ...     encoder=networks.MLP(event, (2 * latent,)), posterior=posteriors.DiagonalNormal(),
    ...     prior=priors.StandardNormal(latent), decoder=networks.MLP((latent,), event),
    ...     likelihood=likelihoods.Bernoulli())
    >>> model.encode(torch.zeros(3, *event)).mean.shape, model.sample(5).shape
    (torch.Size([3, 2]), torch.Size([5, 1, 8, 8]))
    """

    offset: Tensor
    shift: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        encoder: networks.Network,
        posterior: posteriors.Posterior,
        prior: priors.Prior,
        decoder: networks.Network,
        likelihood: likelihoods.Likelihood,
    ):
        super().__init__()
        self.encoder, self.posterior, self.prior = encoder, posterior, prior
        self.decoder, self.likelihood = decoder, likelihood
        self.event_shape = tuple(encoder.inputs)
        self.latent = prior.latent
        self.parameter_shape = likelihood.parameter_shape(self.event_shape)
        _check_fit("encoder", encoder.outputs, posterior.parameters_per_code * self.latent)
        _check_fit("decoder", decoder.outputs, math.prod(self.parameter_shape))
        if math.prod(decoder.inputs) != self.latent:
            raise UsageError(f"the decoder takes {decoder.inputs}, the prior has {self.latent} latent features")
        # The decoder learns the deviation from this constant; `center` sets it to the data's mean.
        self.register_buffer("offset", torch.zeros(self.parameter_shape))
        # The encoder sees (x - shift) / spread: images are far from their mean 0, and that costs it most of its speed.
        self.register_buffer("shift", torch.zeros(self.event_shape))
        self.register_buffer("spread", torch.ones(()))

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x): batch_shape (batch,), event_shape (latent,), for x of shape (batch, *event)."""
        self._check_input(x)
        return self.posterior(self.encoder((x - self.shift) / self.spread))

    def embed(self, x: Tensor) -> Float[Tensor, "batch latent"]:
        """The embedding of x: the mean of q(z|x), the same at every call."""
        return self.encode(x).mean

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z): batch_shape (batch,), event_shape (*event), for z of shape (batch, latent)."""
        if z.dim() != 2 or z.shape[-1] != self.latent:
            raise UsageError(f"codes have the shape (batch, {self.latent}); got {tuple(z.shape)}")
        parameters = self.decoder(z).reshape(-1, *self.parameter_shape)
        return self.likelihood(parameters + self.offset)

    def prior_distribution(self) -> Distribution:
        """p(z): batch_shape (), event_shape (latent,)."""
        return self.prior(self.encode)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the embedding of x, shape (batch, *event)."""
        return self.decode(self.embed(x)).mean

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Means of p(x|z) at `count` draws z ~ p(z), shape (count, *event)."""
        return self.decode(self.sample_codes(count, generator=generator)).mean

    def sample_codes(self, count: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "count latent"]:
        """`count` draws z ~ p(z)."""
        with torch.no_grad():
            return self.prior_distribution().sample((count,), generator=generator)  # pyright: ignore[reportCallIssue]

    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 9) -> Float[Tensor, "steps ..."]:
        """Means of p(x|z) on the straight segment between the embeddings of two items, shape (steps, *event).

        Args:
            start: one item, shape (*event).
            end: one item, shape (*event).
            steps: points on the segment, both ends included, at least 2.
        """
        first, last = self.embed(torch.stack([start, end]))
        t = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
        return self.decode(torch.lerp(first, last, t)).mean

    def center(self, mean: Tensor, spread: float = 1.0) -> None:
        """Start the decoder at the data's mean, and show the encoder deviations from it in units of their spread.

        Args:
            mean: the mean item, shape (*event), model units.
            spread: root mean square of the deviations over items and features; 0, constant data, counts as 1.
        """
        mean = mean.reshape(self.event_shape).to(self.offset)
        self.offset.copy_(self.likelihood.offset(mean))
        self.shift.copy_(mean)
        self.spread.fill_(spread or 1.0)

    def describe(self) -> dict[str, Any]:
        """The five parts as plain data, fit for JSON; `from_description` makes the model of it."""
        return {box: describe(getattr(self, box)) for box in _BOXES}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Model":
        """The model that `describe` described, with fresh weights.

        Raises:
            UsageError: a part is missing or unknown, the parts do not fit, or they ask for too many parameters.
        """
        unknown, missing = set(description) - set(_BOXES), set(_BOXES) - set(description)
        if unknown or missing:
            raise UsageError(f"a model is described by {', '.join(_BOXES)}; got {', '.join(sorted(description))}")
        with torch.device("meta"):  # sizes without memory
            _check_budget(cls(**{box: build(description[box], module) for box, module in _BOXES.items()}))
        return cls(**{box: build(description[box], module) for box, module in _BOXES.items()})

    def _check_input(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape or x.dim() == 0:
            raise UsageError(f"this model takes (batch, {_text(self.event_shape)}); got the shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise UsageError(
                f"this model takes floating-point values in model units; got {x.dtype}",
                fix="apply the data's scaling first: dataset.scaling(values), or run.scaling(values) of a saved run",
            )


def _check_fit(name: str, shape: Sequence[int], wanted: int) -> None:
    if math.prod(shape) != wanted:
        raise UsageError(f"the {name} must put out {wanted} values an example; got the shape {tuple(shape)}")


def _check_budget(model: nn.Module) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > PARAMETER_BUDGET:
        raise UsageError(f"this model asks for {count:.3g} parameters; the budget is {PARAMETER_BUDGET:.3g}")


def _text(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
