"""One process of a job: its gradients against those of the objective called plainly; prints the worst differences."""

import copy
import json
import sys

import torch

from gapless import processes, recipes
from gapless.networks.bayesian import bayesian_layers
from gapless.objectives import ELBO
from gapless.randomness import generator
from gapless.settings import Settings
from gapless.training.execution import arranged

LIKELIHOODS = ("Bernoulli", "Normal", "NormalWithLearnedScale", "NormalWithOptimalScale")
OPTIONS = {"geco": {"target": 20.0}, "capacity-vae": {"capacity": 0.5}, "free-bits": {"free_bits": 0.1}}
OPTIONS |= {"bayesian-vae": {"drawn": "reparameterized"}}  # the other draws of weights are each process's own
OPTIONS |= {name: {"units": 9} for name in ("factor-vae", "aae", "vae-gan")}
EVERY_LIKELIHOOD = list(recipes.RECIPES)[:8]  # the heads see the whole batch whatever the recipe
ALONE = ("hvae",)  # refused where there are several processes
STEPS, ITEMS = 2, 7


def cases(dtype):
    for recipe in (name for name in recipes.RECIPES if name not in ALONE):
        for likelihood in LIKELIHOODS if recipe in EVERY_LIKELIHOOD else LIKELIHOODS[:1]:
            yield f"{recipe} {likelihood}", built(recipe, likelihood, dtype), 1, ITEMS
    for drawn in ("local", "flipout"):
        yield f"bayesian-vae drawn {drawn}, without spread", without_spread(drawn, dtype), 1, ITEMS
    model, _ = built("vae", "Normal", dtype)
    yield "three draws", (model, ELBO(samples=3)), 1, ITEMS
    yield "accumulated", built("free-bits", "NormalWithOptimalScale", dtype), 3, ITEMS
    yield "features of a fixed network", built("perceptual-vae", "Perceptual", dtype), 1, ITEMS
    yield "fewer items than processes", built("vae", "NormalWithOptimalScale", dtype), 1, 1
    yield "fewer, convolutional", built("geco", "Bernoulli", dtype, network="convolutional", channels=(4,)), 2, 1
    yield "fewer, a critic of images", built("vae-gan", "Bernoulli", dtype), 1, 1
    yield "fewer, a Jacobian", built("rae-gp", "Bernoulli", dtype), 1, 1


def without_spread(drawn, dtype):
    """Rows of a process have noise of their own: what weights without spread leave is the same, and the KL's share."""
    sizes = {"latent": 4, "hidden": (9,), "options": {"drawn": drawn}}
    model, objective = recipes.build("bayesian-vae", (1, 4, 4), likelihood="Bernoulli", **sizes)
    objective.plan(10, 100)
    with torch.no_grad():
        for layer in bayesian_layers(model):
            layer.log_scale.fill_(-40.0)
    return model.to(dtype), objective.to(dtype)


def built(recipe, likelihood, dtype, **sizes):
    sizes = {"hidden": (9,), **sizes}
    options, classes = OPTIONS.get(recipe), 3 if recipes.RECIPES[recipe].conditional else 0
    model, objective = recipes.build(
        recipe, (1, 4, 4), latent=4, likelihood=likelihood, options=options, context=classes, **sizes
    )
    objective.plan(10, 100)
    model.center(torch.linspace(0, 1, 16).reshape(1, 4, 4), 0.3)  # what is kept beside the parts counts, too
    return model.to(dtype), objective.to(dtype)


def gradients(model, objective, step):
    step()
    found = {}
    for name, module in (("model", model), ("objective", objective)):
        found |= {f"{name}.{key}": p.grad for key, p in module.named_parameters()}
        found |= {f"{name}.{key}": b.clone() for key, b in module.named_buffers()}
    for module in (model, objective):
        module.zero_grad()
    return found


def context_of(model, items, dtype):
    return _classes(model.context, items, dtype) if model.context else None


def _classes(count, items, dtype):
    """One class after another, and then an unknown one."""
    return torch.eye(count + 1, count, dtype=dtype)[torch.arange(items) % (count + 1)]


def difference(one, other):
    """The largest difference relative to the largest value; infinite where only one has a gradient."""
    if one is None or other is None:
        return 0.0 if one is other else float("inf")
    one, other = one.double(), other.double()  # masks of bits among the buffers
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-3))


def worst(case, dtype):
    name, (model, objective), parts, items = case
    plain, its_objective = copy.deepcopy(model), copy.deepcopy(objective)
    runner = arranged(model, objective, Settings(accumulate=parts))
    found = 0.0
    for step in range(STEPS):
        x = torch.rand((items, 1, 4, 4), generator=torch.Generator().manual_seed(step), dtype=dtype)
        share = processes.share(items)
        mine, context = x[share], context_of(model, items, dtype)

        def together(x=mine, context=context, share=share, step=step):
            terms = runner(x, items, step, None if context is None else context[share])
            assert terms.reconstruction.shape == terms.regularization.shape == (items,)
            terms.loss.backward()

        def alone(x=x, context=context, step=step):
            bound = plain if context is None else plain.given(context)
            its_objective(bound, x, step=step, generator=generator(0, "noise", step)).loss.backward()

        one, other = gradients(model, objective, together), gradients(plain, its_objective, alone)
        assert one.keys() == other.keys()
        found = max(found, *(difference(one[key], other[key]) for key in one))
    # No process may be further off than what is shown.
    return name, float(processes.total(torch.tensor([found], dtype=torch.float64)))


def main():
    with processes.job():
        result = {}
        for dtype in (torch.float64, torch.float32):
            rows = dict(worst(case, dtype) for case in cases(dtype))
            result[str(dtype).removeprefix("torch.")] = rows
        if processes.is_first():
            print(json.dumps(result))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
