"""Models whose answers are known exactly."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gapless import likelihoods, networks, posteriors, priors
from gapless.model import Model


@dataclass
class LinearGaussian:
    """x = W z + m + s e with orthogonal columns of W: probabilistic PCA (Tipping & Bishop 1999), written as a VAE.

    The exact posterior is diagonal then: q(z_j | x) = N(v_j w_j . (x - m) / s^2, v_j), v_j = s^2 / (|w_j|^2 + s^2).
    """

    weight: Tensor  # (data, latent), orthogonal columns
    mean: Tensor  # (data,)
    scale: float

    @classmethod
    def make(cls, data: int = 6, strengths: tuple[float, ...] = (2.0, 0.7, 0.05), scale: float = 0.5):
        generator = torch.Generator().manual_seed(3)
        basis, _ = torch.linalg.qr(torch.randn(data, len(strengths), generator=generator, dtype=torch.float64))
        mean = torch.randn(data, generator=generator, dtype=torch.float64)
        return cls(basis * torch.tensor(strengths, dtype=torch.float64), mean, scale)

    @property
    def posterior_variance(self) -> Tensor:
        return self.scale**2 / (self.weight.square().sum(0) + self.scale**2)

    @property
    def mutual_information(self) -> float:
        """I(x; z) in nats."""
        return float(-0.5 * self.posterior_variance.log().sum())

    def model(self) -> Model:
        """The VAE whose parts are exactly these, in float64."""
        data, latent = self.weight.shape
        posterior = posteriors.DiagonalNormal()
        model = Model(
            encoder=networks.MLP((data,), (2 * latent,), hidden=()),
            posterior=posterior,
            prior=priors.StandardNormal(latent),
            decoder=networks.MLP((latent,), (1, data), hidden=()),
            likelihood=likelihoods.Normal(self.scale),
        ).double()
        encode, decode = (network.layers[-1] for network in (model.encoder, model.decoder))
        project = self.weight.T * (self.posterior_variance / self.scale**2)[:, None]
        log_scale = 0.5 * self.posterior_variance.log()
        raw = posterior.bound * torch.atanh(log_scale / posterior.bound)
        with torch.no_grad():
            encode.weight.copy_(torch.cat([project, torch.zeros_like(project)]))
            encode.bias.copy_(torch.cat([-project @ self.mean, raw]))
            decode.weight.copy_(self.weight)
            decode.bias.zero_()
            model.offset.copy_(self.mean[None])
        return model

    def covariance(self) -> Tensor:
        return self.weight @ self.weight.T + self.scale**2 * torch.eye(len(self.mean), dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, exactly."""
        return torch.distributions.MultivariateNormal(self.mean, self.covariance()).log_prob(x)

    def weight_moments(self, model: Model, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E_q (w / p(x) - 1)^a of each item for a = 2, 3, 4, of a model that is off in its q(z|x), a normal, alone.

        In closed form, for w / p(x) = p(z|x) / q(z|x): `int p^a q^(1 - a) = prod_j (v^-a s^(2a - 2) / A)^(1/2)
        exp(a (a - 1) (m - loc)^2 / (2 v s^2 A))`, v the variances of p(z|x), s^2 of q, `A = a / v + (1 - a) / s^2`.
        """
        exact, q = self.model().encode(x), model.encode(x)
        v, square, distance = exact.variance, q.variance, (exact.mean - q.mean).square()

        def raw(a):
            precision = a / v + (1 - a) / square
            assert (precision > 0).all()
            log = -a * v.log() + (a - 1) * square.log() - precision.log()
            return (0.5 * log + a * (a - 1) / 2 * distance / (v * square * precision)).sum(1).exp().detach()

        two, three, four = raw(2), raw(3), raw(4)
        return two - 1, three - 3 * two + 2, four - 4 * three + 6 * two - 3

    def sample(self, count: int) -> Tensor:
        noise = torch.randn(count, len(self.mean), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        return self.mean + noise @ torch.linalg.cholesky(self.covariance()).T


def linear_elbo(model: Model, x: Tensor) -> Tensor:
    """The exact ELBO of a model with a linear decoder, diagonal normal posterior and shared-scale normal likelihood."""
    q, p = model.encode(x), model.decode(model.encode(x).mean)
    columns = torch.stack([model.decode(e[None]).mean[0] for e in torch.eye(model.latent, dtype=x.dtype)])
    columns = columns - model.decode(torch.zeros(1, model.latent, dtype=x.dtype)).mean
    spread = (q.variance[:, :, None] * columns.square()[None]).sum((1, 2))  # E |W (z - loc)|^2
    scale = p.stddev[0, 0]
    expected = p.log_prob(x) - 0.5 * spread / scale.square()
    kl = 0.5 * (q.variance + q.mean.square() - 1 - q.variance.log()).sum(1)
    return expected - kl


def ppca_log_likelihood(x: Tensor, latent: int) -> float:
    """The highest mean log-likelihood of probabilistic PCA, with the 1/n covariance (Tipping & Bishop, eq. 8)."""
    centred = x - x.mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0)
    noise = values[latent:].mean()
    data = x.shape[1]
    return float(
        -0.5 * (data * math.log(2 * math.pi) + values[:latent].log().sum() + (data - latent) * noise.log() + data)
    )
