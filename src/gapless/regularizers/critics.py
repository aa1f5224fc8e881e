"""Critics: a network that tells two kinds of draws apart, and what the model is charged for being told apart.

One critic serves all, by one rule: the model is charged through the frozen critic, the critic learns from detached
draws, so a single backward pass moves each player by its own loss alone. Its output f is a logit, high for what is
real; its loss is the logistic one, `1/2 E softplus(-f(real)) + 1/2 E softplus(f(made))`, least where
`f = log p(real) - log p(made)`; the charge is "non-saturating", `E softplus(-f(made))`, Goodfellow et al. (2014),
section 3. The kinds differ in what they show it; two have another charge, the one of patches another loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from gapless.draws import Draws
from gapless.errors import UsageError
from gapless.networks import Network
from gapless.ownership import frozen
from gapless.randomness import noise
from gapless.regularizers.regularizer import Penalty, Regularizer, checked_weight

__all__ = ["Critic", "DensityRatio", "ImageCritic", "PatchCritic", "PriorCritic"]


def _itself(value: Any) -> Any:
    return value


class Contest(NamedTuple):
    """What a critic is shown of a batch, each of shape (rows, *what the critic sees).

    Attributes:
        real: what it is to take for real.
        made: each kind of what it is to tell from that.
        charged: each kind of what the model is charged for, its gradients leading to those who pay.
    """

    real: Tensor
    made: tuple[Tensor, ...]
    charged: tuple[Tensor, ...]


class Critic(Regularizer, ABC):
    """A network that tells real from made, and the model's charge for it; to add one, say what it is shown: `contest`.

    Attributes:
        critic: network from what it is shown to one logit, or to several for parts of it.
        weight: of the model's charge, at least 0; the critic's own loss is not weighed.
        of_items: whether it looks at items, of which each process of a job has its own; codes are of the whole batch.
    """

    comparable = False
    of_items: ClassVar[bool] = False

    def __init__(self, critic: Network, *, weight: float):
        super().__init__()
        self.critic, self.weight = critic, checked_weight(weight)

    @abstractmethod
    def contest(self, draws: Draws, generator: torch.Generator | None) -> Contest:
        """What it is shown of a batch."""

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        real, made, charged = self.contest(draws, generator)
        whole = draws.whole if self.of_items else _itself
        charges = [self.charge(whole(self.judged(shown, frozen))) for shown in charged]
        own = [whole(self.judged(shown.detach())) for shown in (real, *made)]
        return Penalty(torch.stack(charges).sum(), self.loss(own[0], torch.cat(own[1:])))

    def judged(self, shown: Tensor, held: Callable[[Network], Callable[[Tensor], Any]] = _itself) -> Tensor:
        """Its verdicts, shape (rows, *logits); `held` is `frozen` where the model pays, else nothing."""
        return held(self.critic)(shown)

    def charge(self, verdicts: Tensor) -> Float[Tensor, ""]:
        """What the model is charged with: here least where the critic takes for real what the model pays for."""
        return functional.softplus(-verdicts).mean()

    def loss(self, real: Tensor, made: Tensor) -> Float[Tensor, ""]:
        """The critic's own, in nats: log 2 where it cannot tell."""
        return 0.5 * (functional.softplus(-real).mean() + functional.softplus(made).mean())


class DensityRatio(Critic):
    """Total correlation by a critic, `E_q(z) [log D(z) - log(1 - D(z))]`: FactorVAE, Kim & Mnih (2018), eq. 2.

    The critic tells codes of q(z) from codes whose features were shuffled over the batch, each by itself: draws of
    prod_j q(z_j). Its best logit is `log q(z) - sum_j log q(z_j)`. As usual the shuffled codes are of the same batch;
    the paper takes a second one.

    Args:
        critic: network (latent,) -> one logit.
        weight: gamma, at least 0.

    >>> from gapless import networks
    >>> DensityRatio(networks.MLP((3,), (1,))).weight
    1.0
    """

    def __init__(self, critic: Network, *, weight: float = 1.0):
        super().__init__(critic, weight=weight)

    def contest(self, draws: Draws, generator: torch.Generator | None) -> Contest:
        z = draws.z.flatten(0, 1)
        return Contest(z, (_shuffled(z, generator),), (z,))

    def charge(self, verdicts: Tensor) -> Float[Tensor, ""]:
        return verdicts.mean()


def _shuffled(codes: Float[Tensor, "batch latent"], generator: torch.Generator | None) -> Float[Tensor, "batch latent"]:
    """Each feature in an order of its own."""
    order = noise(torch.rand, codes.shape, like=codes, generator=generator).argsort(0)
    return codes.gather(0, order)


class PriorCritic(Critic):
    """`E_q(z) softplus(-f(z))`, f telling draws of p(z) from codes: adversarial autoencoder, Makhzani et al. (2016).

    Its best logit is `log p(z) - log q(z)`. The prior's draws carry no gradient: it is the encoder that moves.

    Args:
        critic: network (latent,) -> one logit.
        weight: of the encoder's charge, at least 0.

    >>> from gapless import networks
    >>> PriorCritic(networks.MLP((3,), (1,))).comparable
    False
    """

    def __init__(self, critic: Network, *, weight: float = 1.0):
        super().__init__(critic, weight=weight)

    def contest(self, draws: Draws, generator: torch.Generator | None) -> Contest:
        z = draws.z.flatten(0, 1)
        return Contest(_of_prior(draws, len(z), generator), (z,), (z,))


class ImageCritic(Critic):
    """A critic of whole items that also measures their likeness: VAE-GAN, Larsen et al. (2016).

    It tells items from reconstructions and from decodes of z ~ p(z). The decoder is charged for both, at codes held
    fixed: the encoder never sees the critic's verdict. Encoder and decoder are charged with `similarity / 2
    |h(x) - h(D(z))|^2`, h the critic's features: their log-likelihood under N(h(D(z)), I) but for a constant. Larsen's
    gamma weighs it in the decoder alone; here one loss has it in both, so that there is a loss that is minimised.

    Args:
        features: network (*event) -> hidden features h.
        critic: network from the features to one logit.
        similarity: weight of the likeness against the critic's verdict, Larsen's gamma; at least 0.
        weight: of both together, at least 0.

    >>> from gapless import networks
    >>> ImageCritic(networks.MLP((1, 8, 8), (16,)), networks.MLP((16,), (1,))).similarity
    1.0
    """

    of_items = True

    def __init__(self, features: Network, critic: Network, *, similarity: float = 1.0, weight: float = 1.0):
        super().__init__(critic, weight=weight)
        del self.critic  # behind the features, in the order that checkpoints have their moments in
        self.features, self.critic = features, critic
        self.similarity = checked_weight(similarity, "weight similarity")

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        distance = self._distance(draws)
        charge, own = super().forward(draws, generator=generator)
        return Penalty(charge + self.similarity * draws.whole(distance).mean(), own)

    def contest(self, draws: Draws, generator: torch.Generator | None) -> Contest:
        codes = draws.z[0].detach()
        made = tuple(draws.model.decode(z).mean for z in (codes, _of_prior(draws, len(codes), generator)))
        return Contest(draws.x, made, made)

    def judged(self, shown: Tensor, held: Callable[[Network], Callable[[Tensor], Any]] = _itself) -> Tensor:
        return held(self.critic)(held(self.features)(shown))

    def _distance(self, draws: Draws) -> Float[Tensor, " rows"]:
        features, made = frozen(self.features), _reconstructed(draws)
        return 0.5 * (features(draws.x) - features(made)).square().flatten(1).sum(1)


class PatchCritic(Critic):
    """`-E f(D(z))`, f the mean verdict over an image's patches: the critic of image tokenizers, Esser et al. (2021).

    It learns by the hinge loss of their code, `1/2 E relu(1 - f(x)) + 1/2 E relu(1 + f(D(z)))`, patch by patch; encoder
    and decoder are charged for their reconstructions. The weight is fixed, 0.5 as in Rombach et al. (2022); both adapt
    it to the gradients in the decoder's last layer, and then no loss is what is minimised.

    Args:
        critic: network (*event) -> a logit for each patch, any shape.
        weight: of the model's charge, at least 0.

    >>> from gapless import networks
    >>> PatchCritic(networks.MLP((1, 8, 8), (1, 2, 2))).weight
    0.5
    """

    of_items = True

    def __init__(self, critic: Network, *, weight: float = 0.5):
        super().__init__(critic, weight=weight)

    def contest(self, draws: Draws, generator: torch.Generator | None) -> Contest:
        made = (_reconstructed(draws),)
        return Contest(draws.x, made, made)

    def charge(self, verdicts: Tensor) -> Float[Tensor, ""]:
        return -verdicts.mean()

    def loss(self, real: Tensor, made: Tensor) -> Float[Tensor, ""]:
        return 0.5 * (functional.relu(1 - real).mean() + functional.relu(1 + made).mean())


def _of_prior(draws: Draws, count: int, generator: torch.Generator | None) -> Tensor:
    """Codes of p(z), shape (count, latent), without gradient."""
    return draws.prior.sample((count,), generator=generator).detach()  # pyright: ignore[reportCallIssue]


def _reconstructed(draws: Draws) -> Tensor:
    """Decodes of the first draw of each of this process's items, shape (rows, *event).

    Raises:
        UsageError: items may have missing values, which no critic can look at.
    """
    if draws.model.likelihood.missing:
        raise UsageError(
            "a critic looks at whole items; these may have missing values",
            fix="read the data without --missing keep, or use a recipe without a critic",
        )
    return draws.likelihood.mean[: len(draws.x)]
