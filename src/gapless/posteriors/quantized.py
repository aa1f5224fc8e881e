"""Vector-quantised codes: each position of a code is one of finitely many vectors.

The features of a code are channels before positions, the order of an image: feature `c * positions + p` is entry c of
the vector at position p. So the codes of a convolutional encoder are read one vector a place.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gapless import distributions
from gapless.errors import UsageError
from gapless.posteriors.discrete import Coded, groups

__all__ = ["FSQ", "ResidualQuantized", "VectorQuantized"]

MARGIN = 1e-3
"""By how much the range of a finite scalar reaches beyond its last levels, as a share: so all can be reached."""


class VectorQuantized(Coded):
    """The nearest code of a learned codebook at each position: `z = e_k, k = argmin_j |z_e - e_j|`.

    van den Oord et al. (2017), eqs. 1-2, with the gradient passed straight through to the encoder. The codebook learns
    by `regularizers.Commitment` alone. Before training it is drawn from the encoder's own outputs.

    Args:
        codes: vectors in the codebook, at least 2.
        width: features of a vector; the latent features are a multiple of it.

    >>> VectorQuantized(8, 2)(torch.zeros(5, 6)).indices.shape
    torch.Size([5, 3])
    """

    moved_by_draws = False

    def __init__(self, codes: int = 512, width: int = 4):
        super().__init__()
        _check(codes=codes, width=width)
        self.codes, self.width = codes, width
        self.codebook = nn.Parameter(torch.empty(codes, width).uniform_(-1 / codes, 1 / codes))

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        return (len(self.symbols(latent)) * self.width,)

    def start(self, encoded: Tensor) -> None:
        with torch.no_grad():
            self.codebook.copy_(_drawn(_positions(encoded, self.width).flatten(0, -2), self.codes))

    def symbols(self, latent: int) -> tuple[int, ...]:
        return (self.codes,) * groups(latent, self.width, f"vectors of {self.width} features")

    def vectors(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples latent"]:
        return _features(self.codebook[indices])

    def indices(self, z: Float[Tensor, "*samples latent"]) -> Int[Tensor, "*samples symbols"]:
        return nearest(_positions(z, self.width), self.codebook)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Quantized:
        indices = self.indices(parameters)
        return distributions.Quantized(parameters, self.vectors(indices)[None], indices)


class ResidualQuantized(Coded):
    """Sums of codes, each the nearest to what those before it left over: Zeghidour et al. (2021); Lee et al. (2022).

    `r_0 = z_e; k_l = argmin_j |r_l - e_lj|; r_(l+1) = r_l - e_(l, k_l); z = sum_l e_(l, k_l)`, Lee et al. (2022), with
    a codebook for each level.

    Args:
        codes: vectors in each codebook, at least 2.
        width: features of a vector; the latent features are a multiple of it.
        levels: number of codebooks, at least 1.

    >>> ResidualQuantized(8, 2, levels=3)(torch.zeros(5, 6)).indices.shape
    torch.Size([5, 9])
    """

    findable = False  # the code nearest to a sum need not be its first

    moved_by_draws = False

    def __init__(self, codes: int = 64, width: int = 4, *, levels: int = 4):
        super().__init__()
        _check(codes=codes, width=width, levels=levels)
        self.codes, self.width, self.levels = codes, width, levels
        self.codebooks = nn.Parameter(torch.empty(levels, codes, width).uniform_(-1 / codes, 1 / codes))

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        return (len(self.symbols(latent)) // self.levels * self.width,)

    def start(self, encoded: Tensor) -> None:
        rest = _positions(encoded, self.width).flatten(0, -2)
        with torch.no_grad():
            for book in self.codebooks:
                book.copy_(_drawn(rest, self.codes))
                rest = rest - book[nearest(rest, book)]

    def symbols(self, latent: int) -> tuple[int, ...]:
        """Levels before positions."""
        return (self.codes,) * (self.levels * groups(latent, self.width, f"vectors of {self.width} features"))

    def vectors(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples latent"]:
        split = indices.unflatten(-1, (self.levels, -1)).unbind(-2)
        return _features(torch.stack([book[k] for book, k in zip(self.codebooks, split, strict=True)]).sum(0))

    def indices(self, z: Float[Tensor, "*samples latent"]) -> Int[Tensor, "*samples symbols"]:
        return self._rounded(z)[0]

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Quantized:
        indices, stages = self._rounded(parameters)
        return distributions.Quantized(parameters, stages, indices)

    def _rounded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols, and the sums of the first codes: each has a gradient to its own last code alone."""
        vectors, found, stages = _positions(z.detach(), self.width), [], []
        before = torch.zeros_like(vectors)
        for book in self.codebooks:
            found.append(nearest(vectors - before, book))
            stages.append(before + book[found[-1]])
            before = stages[-1].detach()
        return torch.cat(found, -1), _features(torch.stack(stages))


class FSQ(Coded):
    """Finite scalar quantization: each feature is bounded and rounded to one of L levels, no codebook is learned.

    Mentzer et al. (2024), section 3.1 and their code: `round(f(z))` with `f(z) = L'/2 tanh(z + s) - o`, o = 1/2 for
    even L, else 0; here L' = (L - 1)(1 + 0.001), so that all L levels can be reached, and s = artanh(2 o / L'), so
    that f(0) = 0. Codes are divided by floor(L / 2) and lie in [-1, 1]. The gradient passes straight through the
    rounding.

    Args:
        levels: number of levels of each channel, each at least 2; the latent features are a multiple of their number,
            channels before positions. The implied codebook has as many codes as their product.

    >>> FSQ((8, 5))(torch.zeros(1, 2)).mean, FSQ((8, 5)).codes_in_all
    (tensor([[0., 0.]]), 40)
    """

    level: Tensor

    def __init__(self, levels: Sequence[int] = (8, 5, 5, 5)):
        super().__init__()
        if not levels or min(levels) < 2:
            raise UsageError(f"finite scalars need at least 2 levels each; got {tuple(levels)}")
        self.levels = tuple(levels)
        self.register_buffer("level", torch.tensor(self.levels)[:, None], persistent=False)

    @property
    def codes_in_all(self) -> int:
        """Size of the implied codebook of one position."""
        return math.prod(self.levels)

    def parameter_shape(self, latent: int) -> tuple[int, ...]:
        return (len(self.symbols(latent)),)

    def symbols(self, latent: int) -> tuple[int, ...]:
        """Channels before positions: one symbol a feature."""
        positions = groups(latent, len(self.levels), f"codes of {len(self.levels)} finite scalars")
        return tuple(level for level in self.levels for _ in range(positions))

    def vectors(self, indices: Int[Tensor, "*samples symbols"]) -> Float[Tensor, "*samples latent"]:
        half = self.level // 2
        return ((self._split(indices) - half) / half).flatten(-2)

    def indices(self, z: Float[Tensor, "*samples latent"]) -> Int[Tensor, "*samples symbols"]:
        half = self.level // 2
        nearest_level = (self._split(z) * half).round().long() + half
        return nearest_level.clamp_min(0).minimum(self.level - 1).flatten(-2)

    def forward(self, parameters: Float[Tensor, "batch parameters"]) -> distributions.Quantized:
        scalars = (self._bounded(self._split(parameters)) / (self.level // 2)).flatten(-2)
        indices = self.indices(scalars)
        return distributions.Quantized(scalars, self.vectors(indices).to(scalars)[None], indices)

    def _bounded(self, z: Tensor) -> Tensor:
        """f(z), in units of a level."""
        half = (self.level.to(z) - 1) * (1 + MARGIN) / 2
        offset = 0.5 * (self.level % 2 == 0).to(z)
        return half * torch.tanh(z + torch.atanh(offset / half)) - offset

    def _split(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (len(self.levels), -1))


def nearest(vectors: Float[Tensor, "*samples width"], codebook: Float[Tensor, "codes width"]) -> Tensor:
    """Which code is nearest to each vector, shape (*samples,); no gradient."""
    with torch.no_grad():
        # |v - e|^2 without |v|^2, which is the same for all codes.
        return (codebook.square().sum(-1) - 2 * vectors @ codebook.mT).argmin(-1)


def _positions(features: Tensor, width: int) -> Tensor:
    """(*samples, width * positions) -> (*samples, positions, width)."""
    return features.unflatten(-1, (width, -1)).mT


def _features(vectors: Tensor) -> Tensor:
    """(*samples, positions, width) -> (*samples, width * positions)."""
    return vectors.mT.flatten(-2)


def _drawn(vectors: Tensor, count: int) -> Tensor:
    """So many of the vectors, all different as long as there are enough, always the same of the same."""
    chooser = torch.Generator().manual_seed(0)
    rounds = [torch.randperm(len(vectors), generator=chooser) for _ in range(math.ceil(count / len(vectors)))]
    return vectors[torch.cat(rounds)[:count].to(vectors.device)]


def _check(**sizes: int) -> None:
    least = {"codes": 2}
    for name, size in sizes.items():
        if size < least.get(name, 1):
            raise UsageError(f"a codebook needs {name} of at least {least.get(name, 1)}; got {size}")
