"""Independent parts side by side."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from gapless import distributions
from gapless.errors import UsageError
from gapless.priors.prior import Prior

__all__ = ["Product"]


class Product(Prior):
    """`p(z) = p_1(z_1) p_2(z_2) ...`: the code is the codes of the parts, side by side.

    Args:
        parts: priors, in the order of the features; at least one.

    >>> from gapless.priors import StandardNormal, UniformOnSphere
    >>> Product((StandardNormal(2), UniformOnSphere(3)))().event_shape
    torch.Size([5])
    """

    def __init__(self, parts: Sequence[Prior]):
        super().__init__()
        if not parts:
            raise UsageError("a product needs at least one part; got none")
        self.parts = nn.ModuleList(parts)
        self.latent = sum(part.latent for part in parts)

    def join(self, posterior: nn.Module) -> "Product":
        theirs = getattr(posterior, "parts", ())
        if tuple(getattr(posterior, "sizes", ())) != tuple(part.latent for part in self._parts()):
            sizes = ", ".join(str(part.latent) for part in self._parts())
            raise UsageError(f"a product prior of parts of {sizes} features needs a posterior of the same parts")
        for part, other in zip(self._parts(), theirs, strict=True):
            part.join(other)
        return self

    def forward(self, encode: Callable[[Tensor], Distribution] | None = None) -> distributions.Product:
        return distributions.Product([part(encode) for part in self._parts()])

    def _parts(self) -> list[Prior]:
        return list(self.parts)  # pyright: ignore[reportReturnType]
