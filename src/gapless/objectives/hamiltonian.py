"""Codes that are moved by the gradient of the model's own log p(x, z) before they are scored."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gapless import processes
from gapless.distributions import DiagonalNormal
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives.objective import Objective, Terms

__all__ = ["LARGEST_STEP", "HamiltonianELBO"]

LARGEST_STEP = 0.5
"""Step sizes that are learned stay below this."""


def flow(
    z: Tensor, momentum: Tensor, slope: Callable[[Tensor], Tensor], *, step: Tensor, ratios: Tensor
) -> tuple[Tensor, Tensor]:
    """Leapfrog steps, each followed by a tempering of the momentum: Caterini et al. (2018), algorithm 1.

    `r' = r - step/2 dU(z); z <- z + step r'; r <- ratio (r' - step/2 dU(z))`. Each of the three moves keeps the volume,
    so the determinant of a step is that of the tempering, `ratio^latent`.

    Args:
        z: codes, shape (..., latent).
        momentum: of the same shape.
        slope: dU/dz, the gradient of the potential, of the same shape.
        step: sizes, shape (latent,).
        ratios: what the momentum is multiplied by, one a step, shape (steps,).

    Returns:
        The codes and the momentum at the end.
    """
    if not len(ratios):
        return z, momentum
    force = slope(z)
    for ratio in ratios:
        momentum = momentum - 0.5 * step * force
        z = z + step * momentum
        force = slope(z)  # also that at the start of the next step
        momentum = ratio * (momentum - 0.5 * step * force)
    return z, momentum


def tempering(warmth: Tensor, steps: int) -> Float[Tensor, " ends"]:
    """`sqrt(T_k)`, k = 0..steps, from `warmth` = sqrt(T_0) to 1, quadratic in k: Caterini et al. (2018).

    The authors' published code has T_k itself quadratic in k. The bound is one for any schedule that ends at 1.
    """
    share = torch.arange(steps + 1, dtype=warmth.dtype, device=warmth.device) / max(steps, 1)
    return (1 - warmth) * share.square() + warmth


class HamiltonianELBO(Objective):
    """`E log [p(x, z_K) N(r_K; 0, I) / (q(z_0|x) N(g; 0, I))]`: HVAE, Caterini, Doucet & Sejdinovic (2018), alg. 1.

    `z_0 ~ q(z|x)`, `g ~ N(0, I)`, `r_0 = sqrt(T_0) g`, and K leapfrog steps on the potential `-log p(x, z)` while the
    temperature falls from T_0 to 1; the volume lost by the tempering is that gained by `r_0`, so no determinant stands
    in the bound. It is a bound for any step sizes and temperature; they are learned with the model, and are parameters
    of the objective. Encoding stays `q(z|x)`. Needs second derivatives: K + 1 passes back and forth a batch.

    Args:
        latent: latent features of the model.
        leaps: K, at least 0; 0 is the ELBO.
        step_size: where each latent feature's step size starts, above 0 and below `LARGEST_STEP`.
        temperature: where T_0 starts, 1 to 100; 1 tempers nothing and is not learned.
        samples: draws an item, at least 1.

    >>> HamiltonianELBO(2, leaps=4).step.shape
    torch.Size([2])
    """

    moved = "a Hamiltonian flow"

    def __init__(
        self, latent: int, *, leaps: int = 3, step_size: float = 0.05, temperature: float = 2.0, samples: int = 1
    ):
        super().__init__()
        if not (leaps >= 0 and samples >= 1 and 0 < step_size < LARGEST_STEP and 1 <= temperature <= 100):
            raise UsageError(
                "a Hamiltonian flow needs leaps of at least 0, at least one sample, a step size above 0 and below "
                f"{LARGEST_STEP}, a temperature of 1 to 100; got {leaps}, {samples}, {step_size}, {temperature}"
            )
        self.latent, self.leaps, self.samples = latent, leaps, samples
        self.step_size, self.temperature = step_size, temperature
        self.raw_step = nn.Parameter(torch.full((latent,), math.log(step_size / (LARGEST_STEP - step_size))))
        self.raw_excess = nn.Parameter(torch.tensor(math.log(math.expm1(temperature - 1)))) if temperature > 1 else None

    @property
    def effective_beta(self) -> float:
        """Weight of the KL per unit weight of the reconstruction: the bound knows no other than 1."""
        return 1.0

    @property
    def step(self) -> Float[Tensor, " latent"]:
        """The step size of each latent feature."""
        return LARGEST_STEP * self.raw_step.sigmoid()

    @property
    def warmth(self) -> Float[Tensor, ""]:
        """`sqrt(T_0)`; 1 where there is no leap to cool down in."""
        if self.raw_excess is None or not self.leaps:
            return self.raw_step.new_ones(())
        return (1 + functional.softplus(self.raw_excess)).sqrt()

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        _check(model, self.latent)
        posterior, prior = model.encode(x), model.prior_distribution()
        start: Tensor = posterior.rsample((self.samples,), generator=generator)  # pyright: ignore[reportCallIssue]
        resting = DiagonalNormal(torch.zeros_like(start[0]), torch.ones_like(start[0]))
        unit = resting.sample((self.samples,), generator=generator)
        roots = tempering(self.warmth, self.leaps)
        ratios = roots[1:] / roots[:-1]  # sqrt(T_k / T_(k-1))
        z, momentum = flow(start, roots[0] * unit, _Slope(model, x), step=self.step, ratios=ratios)
        reconstruction = -_log_likelihood(model, x, z, calibrated=True)
        before = posterior.log_prob(start) + resting.log_prob(unit)
        regularization = before - prior.log_prob(z) - resting.log_prob(momentum)
        shown = {"step_size": self.step.mean(), "temperature": self.warmth.square()}
        return Terms((reconstruction + regularization).mean(), reconstruction.mean(0), regularization.mean(0), shown)


class _Slope:
    """dU/dz of `U(z) = -log p(x, z)` of a batch; differentiable wherever gradients are recorded."""

    def __init__(self, model: Model, x: Tensor):
        self.model, self.x = model, x

    def __call__(self, z: Tensor) -> Tensor:
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if learning and z.requires_grad else z.detach().requires_grad_()
            # A scale fitted to the batch would move with the codes and count every place they pass.
            explained = _log_likelihood(self.model, self.x, z, calibrated=not self.model.likelihood.fitted_to_batch)
            potential = -(explained + self.model.prior_distribution().log_prob(z)).sum()
            return torch.autograd.grad(potential, z, create_graph=learning)[0]


def _log_likelihood(model: Model, x: Tensor, z: Tensor, *, calibrated: bool) -> Float[Tensor, "samples batch"]:
    repeated = x.expand(len(z), *x.shape).flatten(0, 1)
    likelihood = model.decode(z.flatten(0, 1))
    likelihood = model.likelihood.calibrate(likelihood, repeated) if calibrated else likelihood
    return likelihood.log_prob(repeated).unflatten(0, (len(z), -1))


def _check(model: Model, latent: int) -> None:
    if latent != model.latent:
        raise UsageError(f"this flow moves {latent} latent features; the model has {model.latent}")
    if processes.size() > 1:
        # What the processes tell each other has a first derivative, not a second one.
        raise UsageError("a Hamiltonian flow cannot be trained by several processes", fix="train it with one")
