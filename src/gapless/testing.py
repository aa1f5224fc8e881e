"""The laws every part obeys, public, so that other people's parts can be held to them.

Each check raises AssertionError with one sentence; run them from a test on an instance of the part. Laws do not prove
the mathematics: that is what oracles (exactly solvable models) are for.
"""

import json
import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from gapless.draws import draw
from gapless.likelihoods import Likelihood
from gapless.model import Model
from gapless.networks import Network
from gapless.networks.bayesian import weights_drawn
from gapless.objectives import Objective
from gapless.parts import Part, build, describe
from gapless.posteriors import Posterior
from gapless.priors import Prior
from gapless.regularizers import Penalty, Regularizer

__all__ = [
    "check_description",
    "check_likelihood",
    "check_network",
    "check_objective",
    "check_posterior",
    "check_prior",
    "check_regularizer",
]


def check_description(part: Part, module: ModuleType, *inner: ModuleType) -> None:
    """A part survives `describe`, JSON and `build`: same kind, same arguments, same parameter shapes."""
    description = describe(part)
    again = build(json.loads(json.dumps(description, allow_nan=False)), module, *inner)
    _law(type(again) is type(part), f"{type(part).__name__} came back as {type(again).__name__}")
    _law(describe(again) == description, f"the arguments of {type(part).__name__} changed: {describe(again)}")
    shapes = [{name: value.shape for name, value in p.state_dict().items()} for p in (part, again)]
    _law(shapes[0] == shapes[1], f"the parameters of {type(part).__name__} changed their shapes")
    again.load_state_dict(part.state_dict())


def check_network(network: Network, *, batch: int = 3) -> None:
    """Shapes, finite values, rows that do not mix, and a gradient to every parameter."""
    x = _noise(batch, *network.inputs)
    y = network(x)
    _law(
        tuple(y.shape) == (batch, *network.outputs),
        f"wanted the shape {(batch, *network.outputs)}, got {tuple(y.shape)}",
    )
    _law(bool(torch.isfinite(y).all()), "the output is not finite")
    alone = torch.cat([network(row[None]) for row in x])
    _law(torch.allclose(alone, y, atol=1e-5), "an item's output depends on the other items of its batch")
    with weights_drawn(network, torch.Generator().manual_seed(3)):  # all there are matter only when weights are drawn
        _gradients_reach(network, (network(x) * _noise(*y.shape)).sum())


def check_posterior(head: Posterior, *, latent: int = 4, batch: int = 3) -> None:
    """Shapes, draws from a generator, gradients to inputs and parameters, one embedding, finite scales at any input."""
    parameters = _noise(batch, *head.parameter_shape(latent)).requires_grad_()
    q = head(parameters)
    _law(tuple(q.batch_shape) == (batch,), f"batch_shape is {tuple(q.batch_shape)}, wanted {(batch,)}")
    _law(tuple(q.event_shape) == (latent,), f"event_shape is {tuple(q.event_shape)}, wanted {(latent,)}")
    draws = [q.rsample((2,), generator=torch.Generator().manual_seed(1)) for _ in range(2)]  # pyright: ignore[reportCallIssue]
    _law(tuple(draws[0].shape) == (2, batch, latent), f"rsample((2,)) has the shape {tuple(draws[0].shape)}")
    _law(torch.equal(*draws), "the same generator gave different draws")
    gradient = torch.autograd.grad((draws[0] * _noise(*draws[0].shape)).sum(), parameters)[0]
    _law(bool((gradient != 0).all()), "a draw has no gradient in some of the parameters")
    again = head(parameters)
    _law(torch.equal(q.mean, again.mean) and torch.equal(q.stddev, again.stddev), "the embedding changes between calls")
    fresh = again.rsample((2,), generator=torch.Generator().manual_seed(1))  # pyright: ignore[reportCallIssue]
    if head.moved_by_draws:
        _reach_own(head, (fresh * _noise(*fresh.shape)).sum())
    for extreme in (1e30, -1e30):
        spread = head(torch.full_like(parameters, extreme)).stddev
        _law(bool(torch.isfinite(spread).all()), f"the scale overflows for the input {extreme}")


def check_prior(prior: Prior, *, encode: Callable[[Tensor], Distribution] | None = None) -> None:
    """Shapes, draws from a generator, finite densities at its own draws, and a gradient to every parameter."""
    p = prior(encode)
    _law(tuple(p.event_shape) == (prior.latent,), f"event_shape is {tuple(p.event_shape)}, wanted {(prior.latent,)}")
    draws = [p.sample((5,), generator=torch.Generator().manual_seed(1)) for _ in range(2)]  # pyright: ignore[reportCallIssue]
    _law(tuple(draws[0].shape) == (5, prior.latent), f"sample((5,)) has the shape {tuple(draws[0].shape)}")
    _law(torch.equal(*draws), "the same generator gave different draws")
    density = p.log_prob(draws[0])
    _law(tuple(density.shape) == (5,), f"log_prob has the shape {tuple(density.shape)}, wanted (5,)")
    _law(bool(torch.isfinite(density).all()), "the log-density of a draw is not finite")
    _reach_own(prior, (density * _noise(5)).sum())


def check_likelihood(head: Likelihood, *, event_shape: tuple[int, ...] = (2, 3, 4), batch: int = 5) -> None:
    """Shapes, draws and mean inside the support, finite densities and a gradient, `offset` that means what it says."""
    parameters = _noise(batch, *head.parameter_shape(event_shape)).requires_grad_()
    p = head(parameters)
    _law(tuple(p.batch_shape) == (batch,), f"batch_shape is {tuple(p.batch_shape)}, wanted {(batch,)}")
    _law(tuple(p.event_shape) == event_shape, f"event_shape is {tuple(p.event_shape)}, wanted {event_shape}")
    low, high = head.support
    draws = [p.sample(generator=torch.Generator().manual_seed(1)) for _ in range(2)]  # pyright: ignore[reportCallIssue]
    _law(torch.equal(*draws), "the same generator gave different draws")
    for name, values in (("mean", p.mean), ("draws", draws[0])):
        _law(bool(((values >= low) & (values <= high)).all()), f"the {name} leave the support [{low}, {high}]")
    _law(not head.whole or torch.equal(draws[0], draws[0].round()), "the draws are no whole numbers")
    # A metric is greatest at its own draw, where its gradient is 0: it is looked at half way to elsewhere.
    x = draws[0] if head.density else torch.lerp(draws[0], _inside(head.support, draws[0].shape), 0.5)
    _check_scores(head, p, x, parameters)
    mean = _inside(head.support, event_shape)
    started = head(head.offset(mean)[None]).mean[0]
    _law(bool(torch.isfinite(started).all()), "the parameters `offset` gives have no finite mean")
    _law(
        not head.numeric or torch.allclose(started, mean, atol=1e-5),
        "the parameters `offset` gives do not have the mean they were asked for",
    )


def _check_scores(head: Likelihood, p: Distribution, x: Tensor, parameters: Tensor) -> None:
    shown, wanted = tuple(head.view(x).shape), (len(x), *head.view_shape(tuple(x.shape[1:])))
    _law(shown == wanted, f"the view has the shape {shown}, wanted {wanted}")
    for density in (p.log_prob(x), head.calibrate(p, x).log_prob(x)):
        _law(tuple(density.shape) == (len(x),), f"log_prob has the shape {tuple(density.shape)}, wanted {(len(x),)}")
        _law(bool(torch.isfinite(density).all()), "the log-density of a draw is not finite")
    gradient = torch.autograd.grad(p.log_prob(x).sum(), parameters)[0]
    _law(bool((gradient != 0).all()), "the log-density has no gradient in some of the parameters")


def _inside(support: tuple[float, float], shape: tuple[int, ...]) -> Tensor:
    """Values well inside a support, beyond 0 and 1 where it goes beyond."""
    low, high = support
    share = 0.25 + 0.5 * torch.rand(shape, generator=torch.Generator().manual_seed(2))
    if math.isinf(low):
        return 12 * (share - 0.5)
    return low + share * (12 if math.isinf(high) else high - low)


def check_objective(objective: Objective, model: Model, x: Tensor) -> None:
    """Shapes, finite loss, the same noise for the same generator, and a gradient to the encoder."""
    first, second = (objective(model, x, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    _law(first.loss.shape == (), f"loss has the shape {tuple(first.loss.shape)}, wanted ()")
    for name in ("reconstruction", "regularization"):
        shape = tuple(getattr(first, name).shape)
        _law(shape == (len(x),), f"{name} has the shape {shape}, wanted {(len(x),)}")
    _law(math.isfinite(first.loss.item()), "the loss is not finite")
    _law(torch.equal(first.loss, second.loss), "the same generator gave another loss")
    _gradients_reach(model.encoder, first.loss)


def check_regularizer(regularizer: Regularizer, model: Model, x: Tensor) -> None:
    """Finite scalars, the same noise for the same generator, and each player moved by its own loss alone.

    The value has the same number without gradients (evaluation), is finite for a batch of one, and moves encoder or
    decoder (unless it is shown alone, at weight 0) but nothing of the regularizer's. Its own loss moves the regularizer
    and nothing of the model's.
    """
    first, second = _penalty(regularizer, model, x), _penalty(regularizer, model, x)
    for name, number in _numbers(first).items():
        _law(number.shape == (), f"the {name} has the shape {tuple(number.shape)}, wanted ()")
        _law(math.isfinite(number.item()), f"the {name} is not finite")
        _law(torch.equal(number, _numbers(second)[name]), f"the same generator gave another {name}")
    with torch.no_grad():
        for name, number in _numbers(_penalty(regularizer, model, x)).items():
            _law(torch.allclose(number, _numbers(first)[name]), f"the {name} is another without gradients")
        for name, number in _numbers(_penalty(regularizer, model, x[:1])).items():
            _law(math.isfinite(number.item()), f"the {name} of a batch of one is not finite")
    players = [part for part in (model.encoder, model.decoder) if _moves(first.value, part)]
    _law(bool(players) or regularizer.weight == 0, "the value moves neither encoder nor decoder")
    _law(not _moves(first.value, regularizer), "the value moves the regularizer's own parameters")
    _law((first.own is None) == (not list(regularizer.parameters())), "own parameters and an own loss go together")
    if first.own is not None:
        _law(not _moves(first.own, model), "the regularizer's own loss moves the model")
        _law(_moves(first.own, regularizer), "the regularizer's own loss moves none of its parameters")


def _penalty(regularizer: Regularizer, model: Model, x: Tensor) -> Penalty:
    noise = torch.Generator().manual_seed(1)
    return regularizer(draw(model, x, generator=noise), generator=noise)


def _numbers(penalty: Penalty) -> dict[str, Tensor]:
    return {name: number for name, number in penalty._asdict().items() if number is not None}


def _moves(loss: Tensor, module: nn.Module) -> bool:
    """Whether a loss has a gradient in any parameter of a module."""
    parameters = list(module.parameters())
    if not parameters or not loss.requires_grad:
        return False
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return any(gradient is not None and bool((gradient != 0).any()) for gradient in found)


def _reach_own(part: Part, value: Tensor) -> None:
    if any(True for _ in part.parameters()):
        _gradients_reach(part, value)


def _gradients_reach(module: nn.Module, value: Tensor) -> None:
    names, parameters = zip(*module.named_parameters(), strict=True)
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    missing = [n for n, g in zip(names, gradients, strict=True) if g is None or not bool((g != 0).any())]
    _law(not missing, f"no gradient reaches {', '.join(missing)}")


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def _law(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)
