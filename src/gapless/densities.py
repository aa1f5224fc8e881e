"""Densities fitted to the codes of a trained model, which then replace its prior: for sampling, and for its audit."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gapless import likelihoods, networks, posteriors, priors
from gapless.data import Feed
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import ELBO
from gapless.priors import Prior
from gapless.randomness import generator, seed_of

__all__ = ["KINDS", "codes_of", "fit", "fit_prior"]

LEAST, MOST = 20, 20_000
"""Codes that are fitted to: fewer are refused, of more a random choice is taken."""
HELD_OUT = 0.1
COMPONENTS = (1, 2, 5, 10, 20, 50)
BATCH = 256
STEPS, CHECK, PATIENCE = 4_000, 100, 6
"""Most steps of a training, steps between two looks at the held-out codes, looks without a better one."""


@torch.no_grad()
def codes_of(model: Model, feed: Feed, *, seed: int = 0) -> Float[Tensor, "items latent"]:
    """One draw z ~ q(z|x) an item, hence draws of the aggregate posterior; of an autoencoder the codes themselves."""
    codes = []
    for number, x in enumerate(feed.batches(BATCH)):
        posterior: Any = model.encode(x)
        codes.append(posterior.sample(generator=generator(seed, "density", 0, number)).cpu())
    return torch.cat(codes)


def fit(
    model: Model,
    codes: Tensor,
    kind: str = "mixture",
    *,
    components: int | None = None,
    bijection: str = "nsf",
    seed: int = 0,
) -> Model:
    """A copy of the model whose prior is a density fitted to codes.

    Args:
        model: a trained model; it is left as it is.
        codes: shape (n, latent), at least 20; `codes_of` the training items.
        kind: mixture, flow or second-stage, as in `fit_prior`.
        components: of a mixture; by default the number of lowest BIC.
        bijection: of a flow, one of `priors.Flow`.
        seed: of everything drawn.
    """
    fitted = copy.deepcopy(model)
    prior = fit_prior(codes, kind, components=components, bijection=bijection, seed=seed)
    fitted.prior = prior.to(model.offset)
    return fitted.eval()


def fit_prior(
    codes: Tensor, kind: str = "mixture", *, components: int | None = None, bijection: str = "nsf", seed: int = 0
) -> Prior:
    """A density of codes.

    "mixture": normals with full covariances by expectation maximization (scikit-learn), as Ghosh et al. (2020) draw
    from an autoencoder. "flow": maximum likelihood. "second-stage": a VAE of codes with a learned scale, Dai & Wipf
    (2019). The latter two stop where the held-out tenth of the codes says so.

    Args:
        codes: shape (n, latent), at least 20, finite.
        kind: one of `KINDS`.
        components: of a mixture; by default the number of lowest BIC.
        bijection: of a flow, one of `priors.Flow`.
        seed: of everything drawn.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no density {kind!r}", fix=f"use one of {', '.join(KINDS)}")
    if codes.dim() != 2 or len(codes) < LEAST or not bool(torch.isfinite(codes).all()):
        raise UsageError(f"a density is fitted to at least {LEAST} finite codes (n, latent); got {tuple(codes.shape)}")
    if components is not None and (kind != "mixture" or not 1 <= components <= len(codes) // 2):
        raise UsageError(
            f"components are those of a mixture, 1 to half the codes; got {components} for {kind} of {len(codes)}"
        )
    order = torch.randperm(len(codes), generator=generator(seed, "density", 1))[:MOST]
    chosen = _Codes.of(codes.detach().cpu().double()[order])
    with torch.random.fork_rng(devices=[]):  # fresh weights come from the seed
        torch.manual_seed(seed_of(seed, "density", 2))
        return KINDS[kind](chosen, components, bijection, seed).eval()


@dataclass(frozen=True)
class _Codes:
    """Codes in random order, and in units of their mean and spread: all, and the parts trained on and held out."""

    loc: Tensor
    spread: Tensor
    all: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> "_Codes":
        loc, spread = codes.mean(0), codes.std(0)
        spread = torch.where(spread > 0, spread, 1.0)  # a constant feature
        return cls(loc, spread, (codes - loc) / spread)

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        held_out = max(1, int(HELD_OUT * len(self.all)))
        return self.all[held_out:].float(), self.all[:held_out].float()


def _mixture(codes: _Codes, components: int | None, bijection: str, seed: int) -> Prior:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values, latent = codes.all.numpy(), codes.all.shape[1]
    counts = [components] if components else [k for k in COMPONENTS if k <= len(values) // 10]
    found: list[Any] = []
    with warnings.catch_warnings():  # what the rounds end with is judged by its BIC
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k in counts:
            machine = GaussianMixture(k, covariance_type="full", reg_covar=1e-6, random_state=seed, max_iter=200)
            found.append(machine.fit(values))
    best = min(found, key=lambda machine: machine.bic(values))
    prior = priors.Mixture(latent, best.n_components, covariance="full")
    spread = codes.spread.numpy()
    factors = spread[:, None] * np.linalg.cholesky(best.covariances_)
    prior.become(best.weights_, codes.loc.numpy() + spread * best.means_, factors)
    return prior


def _flow(codes: _Codes, components: int | None, bijection: str, seed: int) -> Prior:
    prior = priors.Flow(codes.all.shape[1], bijection)
    _climb(prior, lambda z, noise: -prior().log_prob(z).mean(), codes.parts, seed)
    prior.loc.copy_(codes.loc)
    prior.scale.copy_(codes.spread)
    return prior


def _second_stage(codes: _Codes, components: int | None, bijection: str, seed: int) -> Prior:
    latent = codes.all.shape[1]
    sizes: dict[str, Any] = {"hidden": (128, 128), "activation": "elu"}
    stage = Model(
        encoder=networks.MLP((latent,), (2 * latent,), **sizes), posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(latent), decoder=networks.MLP((latent,), (latent,), **sizes),
        likelihood=likelihoods.NormalWithLearnedScale(),
    )  # fmt: skip
    objective = ELBO()
    _climb(stage, lambda z, noise: objective(stage, z, generator=noise).loss, codes.parts, seed)
    prior = priors.SecondStage(latent, stage.encoder, stage.decoder)
    with torch.no_grad():
        scale = stage.decode(torch.zeros(1, latent)).stddev.expand(1, latent)[0]
    prior.become(codes.loc, codes.spread, scale)
    return prior


KINDS: dict[str, Callable[[_Codes, int | None, str, int], Prior]] = {
    "mixture": _mixture, "flow": _flow, "second-stage": _second_stage,
}  # fmt: skip
"""Makers of a density."""


def _climb(
    part: nn.Module, loss: Callable[[Tensor, torch.Generator], Tensor], parts: Sequence[Tensor], seed: int
) -> None:
    """Adam down a loss of (codes, noise), to the weights of the lowest held-out loss."""
    train, held_out = parts
    optimizer = torch.optim.Adam(part.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    best, kept, since = float("inf"), copy.deepcopy(part.state_dict()), 0
    for step, rows in zip(range(STEPS), _batches(len(train), seed), strict=False):
        if step % CHECK == 0:
            with torch.no_grad():
                value = float(loss(held_out, generator(seed, "density", 3)))
            since = 0 if value < best else since + 1
            if value < best:
                best, kept = value, copy.deepcopy(part.state_dict())
            if since == PATIENCE:
                break
        optimizer.zero_grad()
        loss(train[rows], generator(seed, "density", 4, step)).backward()
        nn.utils.clip_grad_norm_(part.parameters(), 10.0)
        optimizer.step()
        rate.step()
    part.load_state_dict(kept)


def _batches(items: int, seed: int) -> Iterator[Tensor]:
    """Rows of the batches of one epoch after another, without end."""
    epoch = 0
    while True:
        yield from torch.randperm(items, generator=generator(seed, "density", 5, epoch)).split(BATCH)
        epoch += 1
