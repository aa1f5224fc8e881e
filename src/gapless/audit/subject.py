"""What is audited: two callables, and a probe that calls them in chunks and checks what comes back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapless.errors import DataError

if TYPE_CHECKING:
    from gapless.audit.laws import Law

__all__ = ["Codes", "Probe", "Subject"]

CHUNK = 1024
MAX_FEATURES = 256


@dataclass(frozen=True)
class Subject:
    """An autoencoder as the audit sees it.

    Args:
        encode: items (n, *event) -> (loc, scale), arrays or tensors of shape (n, d); scale None for a point mass.
        decode: codes (n, d) -> mean of p(x|z), shape (n, *event).
        prior: the law the model's user draws codes from; None where none is declared.
        draw: items and a generator -> one draw z ~ q(z|x) an item, shape (n, d); None draws `loc + scale * noise`.
    """

    encode: Callable[[Any], tuple[Any, Any]]
    decode: Callable[[Any], Any]
    prior: "Law | None" = None
    draw: Callable[[Any, np.random.Generator], Any] | None = None


@dataclass(frozen=True)
class Codes:
    """q(z|x) of some items, float64.

    Attributes:
        loc: means, shape (n, d).
        scale: standard deviations, shape (n, d); zeros for a point mass.
        draws: one draw z ~ q(z|x) an item, shape (n, d).
    """

    loc: np.ndarray
    scale: np.ndarray
    draws: np.ndarray

    def __len__(self) -> int:
        return len(self.loc)

    @property
    def point(self) -> bool:
        """Whether every posterior is a point."""
        return not self.scale.any()


class Probe:
    """Calls a subject in chunks, checks what comes back, and compares outputs in a feature space phi.

    Outputs are compared after `features`: by default the outputs themselves, flattened, by a random projection with
    orthonormal rows to at most 256 dimensions (rows scaled so that squared distances keep their mean).

    Args:
        subject: what is audited.
        features: any callable (n, *event) -> (n, k); None for the default.
        seed: seed of the projection.
    """

    def __init__(self, subject: Subject, *, features: Callable[[np.ndarray], Any] | None = None, seed: int = 0):
        self.subject, self.features, self.seed = subject, features, seed
        self.decodes = 0
        self._projection: np.ndarray | None = None

    def encode(self, x: Any, *, rng: np.random.Generator) -> Codes:
        """Encode items and draw one code each.

        Raises:
            DataError: codes of the wrong shape, or not finite, or a negative scale.
        """
        parts = [self._encode_chunk(x[start : start + CHUNK], start) for start in range(0, len(x), CHUNK)]
        loc, scale = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        draw = self.subject.draw
        if draw is None:
            return Codes(loc, scale, loc + scale * rng.standard_normal(loc.shape))
        pieces = [_array(draw(x[start : start + CHUNK], rng), np.float64) for start in range(0, len(x), CHUNK)]
        return Codes(loc, scale, np.concatenate(pieces))

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Outputs of codes, flattened: shape (n, D), float32.

        Raises:
            DataError: outputs of the wrong shape or not finite; the message names the first code.
        """
        out = [self._decode_chunk(z[start : start + CHUNK], start) for start in range(0, len(z), CHUNK)]
        return np.concatenate(out)

    def phi(self, z: np.ndarray) -> np.ndarray:
        """Features of the outputs of codes, shape (n, k), float64; decoded chunk by chunk, outputs are not kept."""
        starts = range(0, len(z), CHUNK)
        return np.concatenate([self._features(self._decode_chunk(z[s : s + CHUNK], s, flat=False)) for s in starts])

    def phi_of(self, outputs: np.ndarray) -> np.ndarray:
        """Features of given outputs or items, shape (n, *event) -> (n, k), float64."""
        parts = [
            self._features(np.asarray(outputs[s : s + CHUNK], dtype=np.float32)) for s in range(0, len(outputs), CHUNK)
        ]
        return np.concatenate(parts)

    def _encode_chunk(self, x: Any, start: int) -> tuple[np.ndarray, np.ndarray]:
        found = self.subject.encode(x)
        if not isinstance(found, tuple) or len(found) != 2:
            raise DataError(
                "encode must give (loc, scale or None)", where="encode", fix="return two arrays of shape (n, d)"
            )
        loc = _array(found[0], np.float64)
        scale = np.zeros_like(loc) if found[1] is None else _array(found[1], np.float64)
        if loc.ndim != 2 or len(loc) != len(x) or scale.shape != loc.shape:
            raise DataError(
                f"encode must give loc and scale of shape ({len(x)}, d); got {loc.shape} and {scale.shape}",
                where=f"encode, items {start} to {start + len(x) - 1}",
                fix="return one code an item, flattened",
            )
        for name, value in (("loc", loc), ("scale", scale)):
            if not np.isfinite(value).all():
                row = start + int(np.argwhere(~np.isfinite(value))[0, 0])
                raise DataError(
                    f"encode gave a {name} that is not finite", where=f"item {row}", fix="check the encoder"
                )
        if (scale < 0).any():
            raise DataError("encode gave a negative scale", where="encode", fix="return standard deviations, not logs")
        return loc, scale

    def _decode_chunk(self, z: np.ndarray, start: int, *, flat: bool = True) -> np.ndarray:
        out = _array(self.subject.decode(z), np.float32)
        self.decodes += len(z)
        if out.ndim < 2 or len(out) != len(z):
            raise DataError(
                f"decode must give outputs of shape ({len(z)}, *event); got {out.shape}", where="decode",
                fix="return one output a code",
            )  # fmt: skip
        if not np.isfinite(out).all():
            row = int(np.argwhere(~np.isfinite(out).reshape(len(out), -1).all(1))[0, 0])
            code = ", ".join(f"{v:.4g}" for v in np.asarray(z[row])[:6])
            raise DataError(
                "decode gave values that are not finite", where=f"code ({code}{', ...' if z.shape[1] > 6 else ''})",
                fix="a decoder must give finite outputs for every code the reference law draws",
            )  # fmt: skip
        return out.reshape(len(out), -1) if flat else out

    def _features(self, outputs: np.ndarray) -> np.ndarray:
        if self.features is not None:
            found = _array(self.features(outputs), np.float64)
            if found.ndim != 2 or len(found) != len(outputs) or not np.isfinite(found).all():
                raise DataError(
                    f"features must give finite values of shape ({len(outputs)}, k); got {found.shape}",
                    where="features",
                )
            return found
        flat = outputs.reshape(len(outputs), -1)
        if flat.shape[1] <= MAX_FEATURES:
            return flat.astype(np.float64)
        if self._projection is None:
            rng = np.random.default_rng([self.seed, 77])
            basis, _ = np.linalg.qr(rng.standard_normal((flat.shape[1], MAX_FEATURES)))
            self._projection = (basis * np.sqrt(flat.shape[1] / MAX_FEATURES)).astype(np.float32)
        return (flat @ self._projection).astype(np.float64)

    @property
    def phi_name(self) -> str:
        """What outputs are compared by, for the card."""
        if self.features is not None:
            return getattr(self.features, "__name__", type(self.features).__name__)
        return f"outputs (random projection to at most {MAX_FEATURES} dimensions)"


def _array(value: Any, dtype: Any) -> np.ndarray:
    """An array of whatever encode or decode gave; torch tensors are detached and moved to the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=dtype)
