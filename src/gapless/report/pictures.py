"""What the report decodes: grids, samples, reconstructions, interpolations, traversals; alike for all models."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gapless.data import Dataset, Feed, Items
from gapless.randomness import generator
from gapless.report.maps import frame_of, latent_map
from gapless.report.thumbnails import sheet, thumbnails, value_range
from gapless.study import Comparison
from gapless.training import LatentStatistics, latent_statistics

__all__ = ["Pictures", "reach", "sameness"]

GRID, SAMPLES, ITEMS, STEPS, TRAVERSED = 15, 36, 12, 11, 8
CHUNK = 512


@dataclass
class Pictures:
    """Draws the pictures of a comparison; items and noise are the same for every model.

    Args:
        comparison: the trained models.
        seed: seed of the draws from the prior and of the choice of items.
    """

    comparison: Comparison
    seed: int = 0

    def __post_init__(self):
        held_out = self.comparison.data.held_out
        count = min(len(held_out), 400)
        self.kind = self.comparison.data.kind
        chosen = np.random.default_rng(self.seed).permutation(len(held_out))[:count]
        self.items = self.comparison.held_out_batch(chosen.tolist())
        self.labels = None if held_out.labels is None else held_out.labels[chosen]
        self.low, self.high = value_range([self.items.numpy()])
        self.on_map = _items_on_map(self.comparison.data, self.seed)
        self._codes: dict[str, LatentStatistics] = {}

    @property
    def shown(self) -> dict[str, int]:
        """How many items the maps show, by part."""
        return {part: len(items) for part, items in self.on_map.items() if len(items)}

    def map(self, name: str) -> bytes:
        """The latent map of a model on its two most used features."""
        axes, codes = self.axes(name), self._map_codes(name)
        parts = [items.labels for items in self.on_map.values() if len(items)]
        labels = np.concatenate([part for part in parts if part is not None]) if parts[0] is not None else None
        loc, scale = (part[:, axes].numpy() for part in (codes.loc, codes.scale))
        return latent_map(loc, scale, labels=labels, names=self.comparison.data.label_names, axes=axes)

    def grid(self, name: str) -> np.ndarray:
        """The decodes of a square lattice over the frame of the map, top row first; other features at their mean."""
        statistics, axes = self.comparison.statistics[name], self.axes(name)
        half = frame_of(self._map_codes(name).loc[:, axes].numpy())
        line = torch.linspace(-half, half, GRID + 2)[1:-1]
        y, x = torch.meshgrid(line.flip(0), line, indexing="ij")
        codes = statistics.loc.mean(0).repeat(GRID * GRID, 1)
        codes[:, axes[1]], codes[:, axes[0]] = y.flatten(), x.flatten()
        return self._sheet(self._decode(name, codes), GRID)

    def samples(self, name: str) -> np.ndarray:
        """Decodes of draws from N(0, I), the same draws for every model."""
        codes = torch.randn(SAMPLES, self._latent(name), generator=generator(self.seed, "picture", 0))
        return self._sheet(self._decode(name, codes), 9)

    def originals(self) -> np.ndarray:
        """The items that are reconstructed."""
        return self._sheet(self.items[:ITEMS], ITEMS)

    def reconstructions(self, name: str) -> np.ndarray:
        """The decodes of their embeddings."""
        return self._sheet(self._reconstruct(name)[:ITEMS], ITEMS)

    def pair(self) -> tuple[int, int]:
        """Two items to walk between: of different classes where there are any, else the two farthest of 40."""
        if self.labels is not None and len(others := np.flatnonzero(self.labels != self.labels[0])):
            return 0, int(others[0])
        flat = self.items[:40].flatten(1)
        distance = torch.cdist(flat, flat)
        first, last = divmod(int(distance.argmax()), len(flat))
        return first, last

    def interpolation(self, name: str) -> np.ndarray:
        """Item, decodes along the straight segment between the two embeddings, item."""
        first, last = self.pair()
        with torch.no_grad():
            strip = self.comparison.model(name).cpu().interpolate(self.items[first], self.items[last], steps=STEPS)
        return self._sheet(torch.cat([self.items[[first]], strip, self.items[[last]]]), STEPS + 2)

    def traversals(self, name: str) -> list[tuple[int, bool, str, np.ndarray]]:
        """Rows (feature, live, KL text, picture): one latent feature moved over its codes, the rest at their mean."""
        statistics = self.comparison.statistics[name]
        centre, rows = statistics.loc.mean(0), []
        spread = (statistics.loc.var(0, unbiased=False) + statistics.scale.square().mean(0)).sqrt()
        for feature in statistics.importance[:TRAVERSED].tolist():
            codes = centre.repeat(STEPS, 1)
            codes[:, feature] += torch.linspace(-3, 3, STEPS) * spread[feature]
            text = "point" if statistics.kl is None else f"{statistics.kl[feature]:.2f} nats"
            picture = self._sheet(self._decode(name, codes), STEPS)
            rows.append((feature, bool(statistics.live[feature]), text, picture))
        return rows

    def axes(self, name: str) -> list[int]:
        """The two latent features of a map, most used first; one feature is shown against itself."""
        best = self.comparison.statistics[name].importance[:2].tolist()
        return sorted(best) if len(best) == 2 else best * 2

    def _map_codes(self, name: str) -> LatentStatistics:
        if name not in self._codes:
            model, scaling = self.comparison.model(name).cpu(), self.comparison.data.scaling
            found = [latent_statistics(model, Feed(items, scaling)) for items in self.on_map.values() if len(items)]
            loc, scale = (torch.cat([getattr(part, which) for part in found]) for which in ("loc", "scale"))
            self._codes[name] = LatentStatistics(loc, scale, None)
        return self._codes[name]

    def _latent(self, name: str) -> int:
        return self.comparison.model(name).latent

    @torch.no_grad()
    def _decode(self, name: str, codes: Tensor) -> Tensor:
        model = self.comparison.model(name).cpu()
        return torch.cat([model.decode(part).mean for part in codes.split(CHUNK)])

    @torch.no_grad()
    def _reconstruct(self, name: str) -> Tensor:
        model = self.comparison.model(name).cpu()
        return torch.cat([model.reconstruct(part) for part in self.items.split(CHUNK)])

    def _sheet(self, values: Tensor, columns: int) -> np.ndarray:
        return sheet(thumbnails(values.numpy(), kind=self.kind, low=self.low, high=self.high), columns)


def _items_on_map(data: Dataset, seed: int) -> dict[str, Items]:
    """At most 10,000 held-out items, and training items where there are fewer than 3,000."""
    chosen = {"held-out": _some(data.held_out, 10_000, seed)}
    return {"training": _some(data.train, 3_000 - len(data.held_out), seed), **chosen}


def _some(items: Items, count: int, seed: int) -> Items:
    positions = np.sort(np.random.default_rng(seed).permutation(len(items))[: max(count, 0)])
    return items.at(positions)


def reach(loc: Tensor) -> tuple[float, float]:
    """The radius that holds 95 % of the codes, and the share of codes outside three standard deviations.

    For N(0, I) in `latent` dimensions the radius is the 95 % quantile of chi(latent); at 2 it is 2.45, and 1.1 % lie
    outside 3.
    """
    radius = loc.double().norm(dim=1)
    return float(radius.quantile(0.95)), float((radius > 3).double().mean())


def sameness(pictures: Pictures, name: str) -> float:
    """Share of the items' variety left in their reconstructions: a ratio of squared deviations from the mean."""
    values = pictures._reconstruct(name)
    spread = (values - values.mean(0)).square().sum()
    return float(spread / (pictures.items - pictures.items.mean(0)).square().sum().clamp_min(1e-12))
