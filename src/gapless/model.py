"""A model: encoder, posterior, prior, decoder and likelihood; an autoencoder, a VAE or any recipe."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import likelihoods, networks, posteriors, priors
from gapless.errors import UsageError
from gapless.ownership import frozen
from gapless.parts import build, describe

__all__ = ["PARAMETER_BUDGET", "Model", "check_budget"]

PARAMETER_BUDGET = 2_000_000_000
"""A model that asks for more numbers than this, buffers among them, is refused before anything is allocated."""

_BOXES = {
    "encoder": (networks,), "posterior": (posteriors, networks), "prior": (priors, networks), "decoder": (networks,),
    "likelihood": (likelihoods, networks),
}  # fmt: skip
"""Where each part is looked up, and where parts of it may come from."""
_SIZES = ("event_shape", "context")


class Model(nn.Module):
    """Five parts: `x -> encoder -> q(z|x) -> z -> decoder -> p(x|z)`, and a prior `p(z)`.

    Values are in model units (the data's `Scaling` has been applied), floating point, shape (batch, *event).

    Args:
        encoder: network from what the likelihood shows of an item, with the context as further features or channels,
            to posterior.parameter_shape(latent), in any shape of that many values.
        posterior: head that makes q(z|x) of the encoder's output.
        prior: p(z); its `latent` is the number of latent features.
        decoder: network from (latent + context,) to likelihood.parameter_shape(event), in any shape of so many values.
        likelihood: head that makes p(x|z) of the decoder's output.
        event_shape: shape of one item; by default what the encoder takes, less the context.
        context: numbers that are given beside each item (labels, covariates); 0 for an unconditional model.

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
    shared: bool = False
    """Whether several processes share a batch now: x and what is decoded are this one's rows, codes are all rows."""

    def __init__(
        self,
        *,
        encoder: networks.Network,
        posterior: posteriors.Posterior,
        prior: priors.Prior,
        decoder: networks.Network,
        likelihood: likelihoods.Likelihood,
        event_shape: Sequence[int] | None = None,
        context: int = 0,
    ):
        super().__init__()
        self.encoder, self.posterior, self.prior = encoder, posterior, prior
        self.decoder, self.likelihood = decoder, likelihood
        self.latent, self.context = prior.latent, context
        prior.join(posterior)
        self.event_shape = tuple(event_shape or (encoder.inputs[0] - context, *encoder.inputs[1:]))
        self.parameter_shape = likelihood.parameter_shape(self.event_shape)
        self._check_fit()
        # The decoder learns the deviation from this constant; `center` sets it to the data's mean.
        self.register_buffer("offset", torch.zeros(self.parameter_shape))
        # The encoder sees (x - shift) / spread: images are far from their mean 0, and that costs it most of its speed.
        self.register_buffer("shift", torch.zeros(likelihood.view_shape(self.event_shape)))
        self.register_buffer("spread", torch.ones(()))
        self._given: tuple[Tensor, Tensor] | None = None

    def given(self, context: Float[Tensor, "batch context"], *, of_codes: Tensor | None = None) -> "Model":
        """The same model, parts and weights, with the context of every item bound: q(z|x, c) and p(x|z, c).

        Args:
            context: one row an item of the batches to come, or a single row for all items, shape (batch, context).
            of_codes: one row a code that is decoded, where a process encodes a part of a batch and decodes all of it.
        """
        if context.dim() != 2 or context.shape[1] != self.context:
            raise UsageError(
                f"the context of this model has the shape (batch, {self.context}); got {tuple(context.shape)}"
            )
        bound = copy.copy(self)  # nn.Module keeps its parts in dictionaries: they are shared
        bound._given = (context, context if of_codes is None else of_codes)
        return bound

    @property
    def ready(self) -> bool:
        """Whether it can encode and decode: it is not conditional, or has its context bound."""
        return not self.context or self._given is not None

    @property
    def contexts(self) -> tuple[Float[Tensor, "rows context"], Float[Tensor, "batch context"]]:
        """The bound context: of the items that are encoded, and of the codes that are decoded; see `given`.

        One and the same tensor, unless a process encodes a part of the batch.

        Raises:
            UsageError: none is bound.
        """
        if self._given is None:
            raise UsageError(
                f"this model is conditional: each item needs a context of {self.context} numbers"
                if self.context
                else "this model is not conditional: it has no context",
                fix="use model.given(context)",
            )
        return self._given

    def shown(self, x: Tensor) -> Tensor:
        """What networks are shown of x of shape (batch, *event): its view, about its mean, in units of its spread."""
        self._check_input(x)
        shown = (self.likelihood.view(x) - self.shift) / self.spread
        return shown.nan_to_num(0.0) if self.likelihood.missing else shown  # what is missing is shown as the mean

    def encoded(self, x: Tensor) -> Tensor:
        """The encoder's output for x of shape (batch, *event): what the posterior head is given."""
        return self.encoder(self._joined(self.shown(x), 0))

    def encode(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """q(z|x): batch_shape (batch,), event_shape (latent,), for x of shape (batch, *event).

        Args:
            x: the items.
            context: in the place of the bound one, shape (batch, context).
        """
        return self.posterior((self if context is None else self.given(context)).encoded(x))

    def embed(self, x: Tensor) -> Float[Tensor, "batch latent"]:
        """The embedding of x: the mean of q(z|x), the same at every call."""
        return self.encode(x).mean

    def decode(self, z: Tensor, *, constant: bool = False) -> Distribution:
        """p(x|z): batch_shape (batch,), event_shape (*event), for z of shape (batch, latent).

        Args:
            z: codes; with a bound context any whole number of its batches, one after another.
            constant: take decoder and likelihood as constants: gradients pass to z alone.
        """
        if z.dim() != 2 or z.shape[-1] != self.latent:
            raise UsageError(f"codes have the shape (batch, {self.latent}); got {tuple(z.shape)}")
        decoder, likelihood = (frozen(p) if constant else p for p in (self.decoder, self.likelihood))
        parameters = decoder(self._joined(z, 1)).reshape(-1, *self.parameter_shape)
        return likelihood(parameters + self.offset)

    def prior_distribution(self) -> Distribution:
        """p(z): batch_shape (), event_shape (latent,)."""
        return self.prior(self.encode)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the embedding of x, shape (batch, *event); with its own library size, of counts."""
        decoded = self.decode(self.embed(x))
        return decoded.mean if self.training else self.likelihood.calibrate(decoded, x).mean

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

    def center(self, mean: Tensor, spread: float = 1.0, shift: Tensor | None = None) -> None:
        """Start the decoder at the data's mean, and show the encoder deviations from it in units of their spread.

        Args:
            mean: the mean item, shape (*event), model units.
            spread: root mean square of the deviations over items and features; 0, constant data, counts as 1.
            shift: the mean of what the encoder is shown, where that is not the item itself.
        """
        mean = mean.reshape(self.event_shape).to(self.offset)
        self.offset.copy_(self.likelihood.offset(mean))
        self.shift.copy_(mean if shift is None else shift)
        self.spread.fill_(spread or 1.0)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Let the parts that begin at the data look at some training items, shape (items, *event); once, at first."""
        self.posterior.start(self.encoded(x))
        if self.likelihood.missing:  # pseudo-inputs are whole: they begin at the mean where nothing was observed
            x = torch.where(x.isnan(), x.nanmean(0).nan_to_num(0.0), x)
        self.prior.start(x, self.contexts[0] if self.context else None)
        self.likelihood.start(x)

    def describe(self) -> dict[str, Any]:
        """The parts as plain data, fit for JSON; `from_description` makes the model of it."""
        parts = {box: describe(getattr(self, box)) for box in _BOXES}
        return {**parts, "event_shape": list(self.event_shape), "context": self.context}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Model":
        """The model that `describe` described, with fresh weights.

        Raises:
            UsageError: a part is missing or unknown, the parts do not fit, or they ask for too many parameters.
        """
        known = {*_BOXES, *_SIZES}
        if not set(_BOXES) <= set(description) <= known:
            raise UsageError(f"a model is described by {', '.join(_BOXES)}; got {', '.join(sorted(description))}")
        sizes = {name: description[name] for name in _SIZES if name in description}
        with torch.device("meta"):  # sizes without memory
            check_budget(cls(**_parts_of(description), **sizes))
        return cls(**_parts_of(description), **sizes)

    def _joined(self, values: Tensor, side: int) -> Tensor:
        """Values with the bound context as further features (a table, a code) or channels (an image)."""
        if not self.context:
            return values
        context = self.contexts[side].to(values)
        context = context.repeat(len(values) // len(context), 1)
        shape = (*context.shape, *[1] * (values.dim() - 2))
        return torch.cat([values, context.reshape(shape).expand(*context.shape, *values.shape[2:])], 1)

    def _check_fit(self) -> None:
        """Whether each network gives what the next part takes, and takes what it is given."""
        shown, codes = self.likelihood.view_shape(self.event_shape), self.posterior.parameter_shape(self.latent)
        _check_puts_out("encoder", self.encoder.outputs, math.prod(codes))
        _check_puts_out("decoder", self.decoder.outputs, math.prod(self.parameter_shape))
        if tuple(self.encoder.inputs) != (shown[0] + self.context, *shown[1:]):
            raise UsageError(
                f"the encoder takes {self.encoder.inputs}, it is shown {shown} + {self.context} of context"
            )
        if isinstance(self.prior, priors.VampPrior) and self.prior.context != self.context:
            raise UsageError(
                f"pseudo-inputs need the context of the items, {self.context} numbers; they have {self.prior.context}",
                fix=f"use VampPrior(..., context={self.context})",
            )
        if math.prod(self.decoder.inputs) != self.latent + self.context:
            raise UsageError(
                f"the decoder takes {self.decoder.inputs}, the prior has {self.latent} latent features"
                + (f" and the context {self.context}" if self.context else "")
            )

    def _check_input(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape or x.dim() == 0:
            raise UsageError(f"this model takes (batch, {_text(self.event_shape)}); got the shape {tuple(x.shape)}")
        if not x.is_floating_point():
            raise UsageError(
                f"this model takes floating-point values in model units; got {x.dtype}",
                fix="apply the data's scaling first: dataset.scaling(values), or run.scaling(values) of a saved run",
            )


def _check_puts_out(name: str, shape: Sequence[int], wanted: int) -> None:
    if math.prod(shape) != wanted:
        raise UsageError(f"the {name} must put out {wanted} values an example; got the shape {tuple(shape)}")


def _parts_of(description: dict[str, Any]) -> dict[str, Any]:
    return {box: build(description[box], *modules) for box, modules in _BOXES.items()}


def check_budget(*modules: nn.Module) -> None:
    """Refuse modules, made on the device "meta", that ask for too many parameters and buffers.

    Raises:
        UsageError: with their number and the budget.
    """
    count = sum(value.numel() for module in modules for value in (*module.parameters(), *module.buffers()))
    if count > PARAMETER_BUDGET:
        raise UsageError(
            f"this model asks for {count:.3g} parameters; the budget is {PARAMETER_BUDGET:.3g}",
            fix="give smaller sizes: --latent, --hidden, --channels or the recipe's options",
        )


def _text(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
