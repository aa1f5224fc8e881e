"""AE, KL-only and VAE side by side on the same networks, seed and budget, and the audit of what was trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gapless import recipes
from gapless.data import Dataset, Feed, batch
from gapless.model import Model
from gapless.runs import DataCard, Run
from gapless.settings import Settings
from gapless.study.training import some_of, train
from gapless.training import Callback, LatentStatistics, latent_statistics
from gapless.training.checkpoints import EVERY_SECONDS

if TYPE_CHECKING:
    from gapless.audit import Scorecard

# The audit is imported where it is used: training alone starts a tenth of a second sooner without it.
__all__ = ["COMPARED", "Comparison", "StudyAudit", "audit_runs", "compare"]

COMPARED = ("ae", "kl-only", "vae")


@dataclass
class StudyAudit:
    """Scorecards of the compared models and of two anchors, on the same items, draws, pairs and subsets.

    Attributes:
        cards: scorecard by name: the recipes, "ppca" (probabilistic PCA, closed form) and "collapsed" (the null).
        items: the items audited, model units, shape (n, *event).
        said: what they are, one sentence.
        reference: name of the reference law asked for.
    """

    cards: "dict[str, Scorecard]"
    items: torch.Tensor
    said: str
    reference: str

    def differences(self) -> dict[str, list[dict[str, Any]]]:
        """Paired differences between the compared models, plain data."""
        from gapless.audit import paired

        names = [name for name in self.cards if name not in ("ppca", "collapsed")]
        # Under "declared" an AE is audited under another law than a VAE: such numbers are not compared.
        pairs = [
            (a, b) for i, a in enumerate(names) for b in names[:i] if self.cards[a].reference == self.cards[b].reference
        ]
        return {
            f"{a} - {b}": [{**vars(d), "decided": d.decided} for d in paired(self.cards[a], self.cards[b])]
            for a, b in pairs
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        cards = {name: card.to_dict() for name, card in self.cards.items()}
        return {"items": self.said, "reference": self.reference, "cards": cards, "differences": self.differences()}


@dataclass
class Comparison:
    """AE, KL-only and VAE on the same data.

    Attributes:
        data: the data they were trained on.
        runs: one run a recipe, in the order they are shown.
        statistics: codes of the held-out items, one a recipe.
        audit: the scorecards, the baselines' among them; None where none was asked for.
    """

    data: Dataset
    runs: dict[str, Run]
    statistics: dict[str, LatentStatistics]
    audit: "StudyAudit | None" = None

    def model(self, name: str) -> Model:
        """The model of one of the compared recipes."""
        return self.runs[name].model

    def held_out_batch(self, positions: Sequence[int]) -> torch.Tensor:
        """Held-out items in model units, shape (n, *event)."""
        return torch.from_numpy(self.data.scaling(self.data.held_out.take(list(positions))))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: held-out values in nats by model; None where a value is infinite."""
        return {
            "data": DataCard.of(self.data).to_dict(),
            "settings": next(iter(self.runs.values())).settings.to_dict(),
            "units": "nats per held-out item; elbo = -(reconstruction + kl); null is infinite: a point has no density",
            "models": {name: run.held_out for name, run in self.runs.items()},
            **({} if self.audit is None else {"audit": self.audit.to_dict()}),
        }


def compare(
    data: Dataset,
    *,
    settings: Settings | None = None,
    callbacks: Callable[[str], Sequence[Callback]] = lambda name: (),
    budget: str | None = None,
    reference: str = "moments",
    folder: str | Path | None = None,
    checkpoint_every: float = EVERY_SECONDS,
) -> Comparison:
    """Train AE, KL-only and VAE with the same networks, seed and budget, and audit them if asked to.

    Args:
        data: what `gapless.read` gave.
        settings: how to train; 2 latent features when None.
        callbacks: makes the callbacks of each recipe from its name.
        budget: "default" or "quick" audits the three models and two anchors; None does not.
        reference: reference law of the audit; "moments" is the one under which an AE can be compared with a VAE.
        folder: where the three run folders go, new or begun before; None keeps the runs in memory.
        checkpoint_every: seconds between checkpoints.

    Returns:
        The three runs, the codes of the held-out items, and the audit.
    """
    settings = settings or Settings(latent=2)
    if budget is not None:
        from gapless.adapters import check_auditable

        check_auditable(data, condition=settings.condition)
    places = {name: None if folder is None else Path(folder) / name for name in COMPARED}
    runs = {
        name: train(
            data,
            recipe=name,
            settings=_settings_of(name, settings),
            callbacks=callbacks(name),
            folder=place,
            checkpoint_every=checkpoint_every,
        )
        for name, place in places.items()
    }
    held_out = Feed(data.held_out, data.scaling, device=settings.device)
    statistics = {name: latent_statistics(run.model, held_out) for name, run in runs.items()}
    found = None if budget is None else audit_runs(data, runs, budget=budget, reference=reference)
    return Comparison(data, runs, statistics, found)


def _settings_of(recipe: str, settings: Settings) -> Settings:
    """The settings without options that only the other recipes take; one that none takes is refused by `build`."""
    accepted = {option for name in COMPARED for option in recipes.named_recipe(name).accepted}
    mine = recipes.named_recipe(recipe).accepted
    return replace(settings, **{name: None for name in settings.options() if name in accepted and name not in mine})


def audit_runs(
    data: Dataset, runs: dict[str, Run], *, budget: str = "default", reference: str = "moments"
) -> StudyAudit:
    """Audit runs of the same data, with probabilistic PCA of the same size and the collapsed null beside them.

    Args:
        data: what they were trained on.
        runs: by name.
        budget: "default" or "quick".
        reference: reference law.
    """
    from gapless.adapters import audited_items, subject
    from gapless.audit import scorecard
    from gapless.audit.anchors import collapsed, ppca

    first = next(iter(runs.values()))
    items, labels, said = audited_items(data)
    fitted, latent = batch(some_of(data.train, first.settings.seed), data.scaling).numpy(), first.model.latent
    subjects = {name: subject(run.model.cpu(), reference=reference) for name, run in runs.items()}
    subjects |= {"ppca": ppca(fitted, latent), "collapsed": collapsed(fitted, latent)}
    cards = {
        name: scorecard(one, items, reference=reference, budget=budget, labels=labels, seed=first.settings.seed)
        for name, one in subjects.items()
    }
    return StudyAudit(cards, items, said, reference)
