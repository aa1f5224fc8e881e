"""Some classes known, most not: the class of an item is a second latent variable wherever it is unknown."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gapless import processes
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.networks import Network
from gapless.objectives.objective import Objective, Terms

__all__ = ["SemiSupervised"]


class SemiSupervised(Objective):
    """The bound on log p(x, y) where the class y is known, on log p(x) where it is not, and a classifier q(y|x).

    M2 of Kingma et al. (2014): `-L(x, y) = E_q(z|x,y) log p(x|y, z) + log p(y) - KL(q(z|x, y) || p(z))`, with
    p(y) uniform; `-U(x) = sum_y q(y|x) (-L(x, y) - log q(y|x))`, the sum over all classes; where the class is
    known also `- alpha log q(y|x)`. The model is conditional, its context bound: a 1 at the class of an item,
    a row of zeros where it is unknown. Reported are `reconstruction` and `regularization`, the KL of (z, y) to the
    prior: minus their sum is the bound, on log p(x, y) where the class is known, else on log p(x).

    Args:
        classifier: network from what the encoder is shown of an item to the logits of q(y|x), one a class.
        alpha: weight of the cross-entropy, nats per item of known class, at least 0. The alpha of 0.1 N items of the
            paper, whose cross-entropy is a mean over the n items of known class, is `0.1 N / n` here.
        regularization: weight of the KL of (z, y), at least 0.
        samples: draws z ~ q(z|x, y) an item and class, at least 1.

    >>> from gapless import networks
    >>> SemiSupervised(networks.MLP((8,), (3,)), alpha=2.0).effective_beta
    1.0
    """

    def __init__(self, classifier: Network, *, alpha: float = 1.0, regularization: float = 1.0, samples: int = 1):
        super().__init__()
        if not (0 <= alpha < math.inf and 0 <= regularization < math.inf and samples >= 1):
            raise UsageError(
                "a semi-supervised bound needs weights of at least 0 and at least one sample; "
                f"got alpha={alpha}, regularization={regularization}, samples={samples}"
            )
        self.classifier, self.alpha = classifier, alpha
        self.regularization, self.samples = regularization, samples

    @property
    def effective_beta(self) -> float:
        """Weight of the KL of (z, y) per unit weight of the reconstruction."""
        return self.regularization

    def classify(self, model: Model, x: Tensor) -> Float[Tensor, "batch classes"]:
        """q(y|x): the chance of each class, for x of shape (batch, *event); the context plays no part."""
        return self._log_chances(model, x).exp()

    def forward(self, model: Model, x: Tensor, *, step: int = 0, generator: torch.Generator | None = None) -> Terms:
        _check(model, self.classifier.outputs)
        classes = _Classes.of(model, x)
        log_q = classes.whole_of(self._log_chances(model, x))
        known = classes.known
        # The prior of y is uniform: the KL of a known class is log K, that of q(y|x) log K less its entropy.
        share = torch.where(known[:, None], classes.whole, log_q.exp())
        chosen = math.log(model.context) + torch.where(known, 0.0, (log_q.exp() * log_q).sum(1))
        reconstruction, kl = classes.expected(share, lambda given: self._bound(model, x, given, generator))
        cross = -(classes.whole * log_q).sum(1)
        regularization = kl + chosen
        loss = (reconstruction + self.regularization * regularization + self.alpha * cross).mean()
        return Terms(loss, reconstruction, regularization, {"cross_entropy": cross.sum() / known.sum().clamp_min(1)})

    def _bound(
        self, model: Model, x: Tensor, classes: "_Classes", generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL of z, each of shape (batch,), if these are the classes."""
        given = model.given(classes.own, of_codes=None if classes.own is classes.whole else classes.whole)
        draws = draw(given, x, samples=self.samples, generator=generator)
        return draws.reconstruction, draws.divergence()

    def _log_chances(self, model: Model, x: Tensor) -> Tensor:
        return self.classifier(model.shown(x)).flatten(1).log_softmax(1)


class _Classes(NamedTuple):
    """Classes of a batch, a 1 at the class of an item and a row of zeros where it is unknown.

    Attributes:
        own: those of this process's rows, shape (rows, classes).
        whole: those of all rows, shape (batch, classes); the same tensor where this process has all.
    """

    own: Tensor
    whole: Tensor

    @classmethod
    def of(cls, model: Model, x: Tensor) -> "_Classes":
        """Those that are bound to the model."""
        own, whole = model.contexts
        if own is whole:
            alone = own.to(x).expand(len(x), -1)  # one row may serve all items
            return cls(alone, alone)
        return cls(own.to(x), whole.to(x))

    @property
    def known(self) -> Tensor:
        """Whether each item's class is known, shape (batch,)."""
        return self.whole.sum(1) > 0

    def whole_of(self, rows: Tensor) -> Tensor:
        """All rows, from those of this process."""
        return rows if self.own is self.whole else processes.gather(rows, len(self.whole))

    def all_of(self, y: int) -> "_Classes":
        """As many items, all of class y."""
        each = torch.eye(self.own.shape[1], dtype=self.own.dtype, device=self.own.device)[y]
        own, whole = each.expand(len(self.own), -1), each.expand(len(self.whole), -1)
        return _Classes(own, own if self.own is self.whole else whole)

    def expected(self, share: Tensor, terms_of: "Callable[[_Classes], tuple[Tensor, Tensor]]") -> tuple[Tensor, Tensor]:
        """The mean of two terms of shape (batch,) over the classes by their share, shape (batch, classes)."""
        if bool(self.known.all()):  # the share of all other classes is 0
            return terms_of(self)
        terms = [terms_of(self.all_of(y)) for y in range(self.own.shape[1])]
        first, second = (torch.stack(term, 1) for term in zip(*terms, strict=True))
        return (share * first).sum(1), (share * second).sum(1)


def _check(model: Model, outputs: tuple[int, ...]) -> None:
    if not model.context or math.prod(outputs) != model.context:
        raise UsageError(
            f"the classifier tells {math.prod(outputs)} classes apart; the model is given {model.context}",
            fix="make a conditional model, context=the number of classes",
        )
    if model.training and model.likelihood.fitted_to_batch:
        # Every class would have a scale of its own, fitted to reconstructions under that class, right or wrong.
        raise UsageError(
            "a scale fitted to the batch cannot be shared by the classes that are tried",
            fix="use --likelihood NormalWithLearnedScale",
        )
