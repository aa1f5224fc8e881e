"""Real and generated items as features: pixels, principal components, the model's own embedding, files or callables."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gapless.conditions import given
from gapless.data import Items
from gapless.errors import DataError, UsageError
from gapless.evaluation.features import Likeness, likeness
from gapless.model import Model
from gapless.randomness import generator

__all__ = ["FEATURES", "Compared", "Extractor", "check_features", "compared", "generated_items"]

COMPONENTS = 64
BATCH = 512

Extractor = Callable[[np.ndarray], np.ndarray]
"""Items in model units, (n, *event) float32, to features (n, D)."""


@dataclass(frozen=True)
class Compared:
    """Generated items against real ones on one kind of features, and training items against the same.

    Attributes:
        features: name of the features.
        generated: likeness of generated to real items.
        training: likeness of training items to the real ones, equally many: what a perfect generator would reach.
        said: what the features are, one sentence.
        drawn: whether generated items are draws x ~ p(x|z) rather than its means.
    """

    features: str
    generated: Likeness
    training: Likeness | None
    said: str
    drawn: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@torch.no_grad()
def generated_items(model: Model, like: Items, *, noise: bool, seed: int) -> np.ndarray:
    """As many items as there are in `like` by draws z ~ p(z), shape (n, *event), model units.

    Args:
        model: the model, in evaluation mode.
        like: real items; a conditional model is given their labels.
        noise: draw x ~ p(x|z) instead of taking its mean.
        seed: of the draws.
    """
    source = generator(seed, "sample", 1)
    made = []
    for positions in torch.arange(len(like)).split(BATCH):
        bound = given(model, like, positions)
        law: Any = bound.decode(bound.sample_codes(len(positions), generator=source))
        made.append((law.sample(generator=source) if noise else law.mean).cpu())
    return torch.cat(made).float().numpy()


def compared(
    features: str | tuple[str, Extractor],
    model: Model,
    *,
    real: np.ndarray,
    generated: np.ndarray,
    training: np.ndarray | None,
    drawn: bool = False,
) -> Compared:
    """The likeness of generated and real items on the features of a name, of a pair of files, or of a callable.

    Args:
        features: pixels, pca, embedding, "REAL.npy,GENERATED.npy", or a name and a callable.
        model: the model, in evaluation mode, for its embedding.
        real: items (n, *event), model units.
        generated: items (m, *event), model units.
        training: further real items, or None.
        drawn: whether generated items are draws x ~ p(x|z).

    Raises:
        UsageError: there are no such features.
        DataError: a file of features cannot be read.
    """
    if isinstance(features, str) and "," in features:
        return Compared(features, likeness(*map(_read_features, features.split(",", 1))), None, "given as files", drawn)
    name, extractor, said = _extractor(features, model, real if training is None else training)
    of_real = _features(name, extractor, real)
    pairs = [likeness(of_real, _features(name, extractor, generated))]
    if training is not None:
        pairs.append(likeness(of_real, _features(name, extractor, training)))
    return Compared(name, pairs[0], pairs[1] if len(pairs) > 1 else None, said, drawn)


def check_features(features: str | tuple[str, Extractor]) -> None:
    """Refuse features that do not exist, before anything dear is done.

    Raises:
        UsageError: there are none of that name.
        DataError: a file is not there.
    """
    if not isinstance(features, str) or features in FEATURES:
        return
    if "," not in features:
        raise UsageError(
            f"there are no features called {features!r}", where="features",
            fix=f"use {', '.join(FEATURES)} or a pair of files REAL.npy,GENERATED.npy",
        )  # fmt: skip
    for path in features.split(",", 1):
        _read_features(path)


def _pixels(model: Model, basis: np.ndarray) -> tuple[Extractor, str]:
    return lambda x: x.reshape(len(x), -1), "every value of an item, model units"


def _pca(model: Model, basis: np.ndarray) -> tuple[Extractor, str]:
    from sklearn.decomposition import PCA

    flat = basis.reshape(len(basis), -1)
    count = min(COMPONENTS, *flat.shape)
    fitted = PCA(count, svd_solver="full" if flat.shape[1] <= 500 else "randomized", random_state=0).fit(flat)
    return lambda x: fitted.transform(x.reshape(len(x), -1)), f"the first {count} principal components of real items"


def _embedding(model: Model, basis: np.ndarray) -> tuple[Extractor, str]:
    @torch.no_grad()
    def embed(x: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(x).split(BATCH)
        return torch.cat([model.embed(part).cpu() for part in parts]).numpy()

    return embed, "means of q(z|x): the model is its own judge, so compare it with no other model's"


FEATURES: Mapping[str, Callable[[Model, np.ndarray], tuple[Extractor, str]]] = {
    "pixels": _pixels, "pca": _pca, "embedding": _embedding,
}  # fmt: skip
"""Features by name: made of the model and of items to fit them on."""


def _extractor(features: str | tuple[str, Extractor], model: Model, basis: np.ndarray) -> tuple[str, Extractor, str]:
    if not isinstance(features, str):
        return features[0], features[1], "given as a callable"
    check_features(features)
    return (features, *FEATURES[features](model, basis))


def _features(name: str, extractor: Extractor, items: np.ndarray) -> np.ndarray:
    found = np.asarray(extractor(items), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(items):
        raise UsageError(f"the features {name!r} need the shape ({len(items)}, D); got {found.shape}")
    return found


def _read_features(path: str) -> np.ndarray:
    try:
        values: Any = np.load(Path(path.strip()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"no features can be read from this file: {error}", where=path, fix="give an .npy of shape (n, D)"
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise DataError("features are an array of numbers", where=path, fix="give an .npy of shape (n, D)")
    return values
