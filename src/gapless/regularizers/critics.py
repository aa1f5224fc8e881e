"""Critics: a network that tells two kinds of draws apart, and what the model is charged for being told apart.

One rule for all: the model is charged through the frozen critic, the critic learns from detached draws, so a single
backward pass moves each player by its own loss alone. The critic's output f is a logit, high for what is real; its loss
is the logistic one, `1/2 E softplus(-f(real)) + 1/2 E softplus(f(made))`, least where `f = log p(real) - log p(made)`.
What the model is charged with is "non-saturating": `E softplus(-f(made))`, Goodfellow et al. (2014), section 3.
"""

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

__all__ = ["DensityRatio", "ImageCritic", "PatchCritic", "PriorCritic"]


class DensityRatio(Regularizer):
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

    comparable = False

    def __init__(self, critic: Network, *, weight: float = 1.0):
        super().__init__()
        self.critic, self.weight = critic, checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        z = draws.z.flatten(0, 1)
        codes = z.detach()
        own = told_apart(self.critic(codes), self.critic(_shuffled(codes, generator)))
        return Penalty(frozen(self.critic)(z).mean(), own)


def _shuffled(codes: Float[Tensor, "batch latent"], generator: torch.Generator | None) -> Float[Tensor, "batch latent"]:
    """Each feature in an order of its own."""
    order = noise(torch.rand, codes.shape, like=codes, generator=generator).argsort(0)
    return codes.gather(0, order)


class PriorCritic(Regularizer):
    """`E_q(z) softplus(-f(z))`, f telling draws of p(z) from codes: adversarial autoencoder, Makhzani et al. (2016).

    Its best logit is `log p(z) - log q(z)`. The prior's draws carry no gradient: it is the encoder that moves.

    Args:
        critic: network (latent,) -> one logit.
        weight: of the encoder's charge, at least 0.

    >>> from gapless import networks
    >>> PriorCritic(networks.MLP((3,), (1,))).comparable
    False
    """

    comparable = False

    def __init__(self, critic: Network, *, weight: float = 1.0):
        super().__init__()
        self.critic, self.weight = critic, checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        z = draws.z.flatten(0, 1)
        real = draws.prior.sample((len(z),), generator=generator).detach()  # pyright: ignore[reportCallIssue]
        own = told_apart(self.critic(real), self.critic(z.detach()))
        return Penalty(charged_for(frozen(self.critic)(z)), own)


class ImageCritic(Regularizer):
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

    comparable = False

    def __init__(self, features: Network, critic: Network, *, similarity: float = 1.0, weight: float = 1.0):
        super().__init__()
        self.features, self.critic = features, critic
        self.similarity = checked_weight(similarity, "weight similarity")
        self.weight = checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        codes = draws.z[0]
        sampled = draws.prior.sample((len(codes),), generator=generator).detach()  # pyright: ignore[reportCallIssue]
        reconstructed = _reconstructed(draws)
        fixed = [draws.model.decode(z).mean for z in (codes.detach(), sampled)]
        verdicts = [draws.whole(self._verdict(made)) for made in fixed]
        charge = torch.stack([charged_for(verdict) for verdict in verdicts]).sum()
        likeness = draws.whole(self._distance(draws.x, reconstructed)).mean()
        judged = [draws.whole(self.critic(self.features(items.detach()))) for items in (draws.x, *fixed)]
        return Penalty(charge + self.similarity * likeness, told_apart(judged[0], torch.cat(judged[1:])))

    def _verdict(self, items: Tensor) -> Tensor:
        return frozen(self.critic)(frozen(self.features)(items))

    def _distance(self, x: Tensor, made: Tensor) -> Float[Tensor, " rows"]:
        features = frozen(self.features)
        return 0.5 * (features(x) - features(made)).square().flatten(1).sum(1)


class PatchCritic(Regularizer):
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

    comparable = False

    def __init__(self, critic: Network, *, weight: float = 0.5):
        super().__init__()
        self.critic, self.weight = critic, checked_weight(weight)

    def forward(self, draws: Draws, *, generator: torch.Generator | None = None) -> Penalty:
        made = _reconstructed(draws)
        verdict = draws.whole(frozen(self.critic)(made))
        judged = [draws.whole(self.critic(items.detach())) for items in (draws.x, made)]
        own = 0.5 * (functional.relu(1 - judged[0]).mean() + functional.relu(1 + judged[1]).mean())
        return Penalty(-verdict.mean(), own)


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


def told_apart(real: Tensor, made: Tensor) -> Float[Tensor, ""]:
    """The critic's logistic loss in nats: log 2 where it cannot tell."""
    return 0.5 * (functional.softplus(-real).mean() + functional.softplus(made).mean())


def charged_for(made: Tensor) -> Float[Tensor, ""]:
    """What the model is charged with: least where the critic takes what was made for real."""
    return functional.softplus(-made).mean()
