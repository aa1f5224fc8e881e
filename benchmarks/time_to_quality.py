"""Optimizer steps and seconds to a stated test ELBO: schedules, optimizers, averaging and batch sizes side by side.

    python benchmarks/time_to_quality.py run NAME EPOCHS [SEEDS] [VARIANT ...] >> results.jsonl
    python benchmarks/time_to_quality.py table results.jsonl [NAME=ELBO ...]
    python benchmarks/time_to_quality.py pairs results.jsonl VARIANT [NAME=ELBO ...]

NAME is mnist, freyfaces or satellite, under ../shared/data. A schedule must know its end, so each budget of epochs is
a run of its own. Seconds are training alone on one thread: steps times the tenth percentile of a step's seconds, the
fair measure on a machine that others use too.
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

import gapless
from gapless import recipes
from gapless.data import Feed
from gapless.data.dataset import Items
from gapless.randomness import generator
from gapless.schedules import learning_rate
from gapless.settings import Settings
from gapless.study import moments_of
from gapless.training.averaging import Average
from gapless.training.evaluation import evaluate

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
POINTS = 20  # evaluations a run
USUAL = "adam 1e-3"
COSINE = {"schedule": "cosine", "warmup": 0.05}
CYCLE = {"learning_rate": 2e-3, "schedule": "one-cycle"}
VARIANTS = {
    USUAL: {"learning_rate": 1e-3},
    "adam 2e-3": {"learning_rate": 2e-3},
    "adam 1e-3, ema": {"learning_rate": 1e-3, "ema": 0.998},
    "adam 1e-3 cosine": {"learning_rate": 1e-3, **COSINE},
    "adam 2e-3 cosine": {"learning_rate": 2e-3, **COSINE},
    "adam 3e-3 cosine": {"learning_rate": 3e-3, **COSINE},
    "adam 5e-3 cosine": {"learning_rate": 5e-3, **COSINE},
    "adam 1e-3 one-cycle": {**CYCLE, "learning_rate": 1e-3},
    "adam 2e-3 one-cycle": CYCLE,
    "adam 3e-3 one-cycle": {**CYCLE, "learning_rate": 3e-3},
    "adam 5e-3 one-cycle": {**CYCLE, "learning_rate": 5e-3},
    "adam 2e-3 one-cycle, batch 256": {**CYCLE, "batch_size": 256},
    "adam 2e-3 one-cycle, batch 64": {**CYCLE, "batch_size": 64},
    "adam 2e-3 one-cycle, clip 100": {**CYCLE, "clip": 100.0},
    "adam 2e-3 one-cycle, ema": {**CYCLE, "ema": 0.998},
    "adamw 2e-3 one-cycle": {**CYCLE, "optimizer": "adamw", "weight_decay": 0.01},
    "muon 1e-3 one-cycle": {**CYCLE, "optimizer": "muon", "learning_rate": 1e-3},
    "muon 3e-3 cosine": {"optimizer": "muon", "learning_rate": 3e-3, **COSINE},
}
STANDARD = "standard inputs, "
"""A prefix: the encoder is shown (x - mean) / spread of the training items, not x."""


def read(name: str) -> tuple[gapless.Dataset, Items]:
    """The data, and the items that are never trained on: MNIST's own test set, else a tenth."""
    if name == "mnist":
        data = gapless.read(SHARED / "mnist" / "train-images-idx3-ubyte.gz", held_out=0.01)
        return data, gapless.read(SHARED / "mnist" / "t10k-images-idx3-ubyte.gz", held_out=0.01).train
    file = {"freyfaces": "freyfaces/freyfaces.npz", "satellite": "anomaly/30_satellite.npz"}[name]
    data = gapless.read(SHARED / file, array={"satellite": "X"}.get(name))
    return data, data.held_out


def optimizers(model: torch.nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon takes the matrices between hidden layers, AdamW everything else; the others take all."""
    parameters, decay = list(model.parameters()), settings.weight_decay
    if settings.optimizer == "adam":
        return [torch.optim.Adam(parameters, lr=0.0, fused=True)]
    if settings.optimizer == "adamw":
        return [torch.optim.AdamW(parameters, lr=0.0, weight_decay=decay, fused=True)]
    hidden = [p for p in parameters if p.dim() == 2]
    rest = [p for p in parameters if p.dim() != 2]
    return [
        torch.optim.Muon(hidden, lr=0.0, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.0, weight_decay=decay, fused=True),
    ]


def one(data: gapless.Dataset, test: Items, *, settings: Settings, standard: bool) -> dict:
    """The test ELBO along one run, and the seconds of a step."""
    feed, held = Feed(data.train, data.scaling), Feed(test, data.scaling)
    model, objective = recipes.build(
        "vae", data.event_shape, latent=settings.latent, likelihood=data.likelihood, seed=settings.seed
    )
    model.center(*moments_of(feed))
    if not standard:
        model.shift.zero_(), model.spread.fill_(1.0)
    epochs = settings.epochs_for(len(feed))
    steps = epochs * math.ceil(len(feed) / settings.batch_size)
    players, average = optimizers(model, settings), Average(model, settings.ema) if settings.ema else None
    seconds, curve, step = [], [], 0
    marks = {round(steps * (k + 1) / POINTS) for k in range(POINTS)}
    model.train()
    for epoch in range(1, epochs + 1):
        for positions in feed.order(settings.seed, epoch).split(settings.batch_size):
            started = time.perf_counter()
            rate = learning_rate(settings, step, steps)
            for player in players:
                for group in player.param_groups:
                    group["lr"] = rate
            noise = generator(settings.seed, "noise", step)
            terms = objective(model, feed.batch(positions), step=step, generator=noise)
            model.zero_grad()
            terms.loss.backward()
            if settings.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            for player in players:
                player.step()
            if average:
                average.update()
            step += 1
            seconds.append(time.perf_counter() - started)
            if step in marks:
                curve.append((step, quality(model, objective, held, average=average)))
    milliseconds = 1000 * float(np.quantile(seconds, 0.1))
    return {"epochs": epochs, "steps": steps, "milliseconds": milliseconds, "curve": curve}


def quality(model, objective, held: Feed, *, average: Average | None) -> float:
    """Mean ELBO in nats of the held-out items, of the averaged weights where there are any."""
    if average is None:
        return evaluate(model, objective, held).elbo
    with average.swapped():
        return evaluate(model, objective, held).elbo


def run(name: str, epochs: str, seeds: str = "1", *variants: str) -> None:
    """One JSON line a variant and seed."""
    data, test = read(name)
    for variant in variants or VARIANTS:
        for seed in range(int(seeds)):
            plain = {"schedule": "constant", "warmup": 0.0, "batch_size": 128}
            asked = {**plain, **VARIANTS[variant.removeprefix(STANDARD)]}
            settings = Settings(epochs=int(epochs), seed=seed, **asked)
            result = one(data, test, settings=settings, standard=variant.startswith(STANDARD))
            print(json.dumps({"data": name, "variant": variant, "seed": seed, **result}), flush=True)


def table(path: str, *targets: str) -> None:
    """Final ELBO, and the fewest seconds to the target over the budgets of epochs, medians over seeds."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    wanted = {name: float(value) for name, _, value in (text.partition("=") for text in targets)}
    print(
        "| data | epochs | variant | seeds | ms a step | final ELBO | range | best ELBO | steps to target | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for key in sorted({(row["data"], row["epochs"], row["variant"]) for row in rows}):
        same = [row for row in rows if (row["data"], row["epochs"], row["variant"]) == key]
        elbos = np.array([[elbo for _, elbo in row["curve"]] for row in same])
        steps = np.median([first(row["curve"], wanted.get(key[0], math.inf)) for row in same])
        ms = min(row["milliseconds"] for row in rows if (row["data"], row["variant"]) == (key[0], key[2]))
        reached = f"{steps:,.0f} | {steps * ms / 1000:.1f}" if math.isfinite(steps) else "not reached | "
        print(f"| {' | '.join(map(str, key))} | {len(same)} | {ms:.1f} | {elbos[:, -1].mean():.2f} | "
              f"{np.ptp(elbos[:, -1]):.2f} | {elbos.max(1).mean():.2f} | {reached} |")  # fmt: skip


def pairs(path: str, default: str, *targets: str) -> None:
    """Every variant less `default` by seed: means of the differences and their standard errors."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    wanted = {name: float(value) for name, _, value in (text.partition("=") for text in targets)}
    print(
        "| data | epochs | variant | pairs | steps to target | best ELBO | final ELBO |\n|---|---|---|---|---|---|---|"
    )
    np.seterr(invalid="ignore")  # of what is not reached
    measures = {(row["data"], row["epochs"], row["variant"], row["seed"]): measured(row, wanted) for row in rows}
    for key in sorted({found[:3] for found in measures if found[2] != default}):
        seeds = [found[3] for found in measures if found[:3] == key and (*key[:2], default, found[3]) in measures]
        apart = np.array([measures[*key, seed] - measures[*key[:2], default, seed] for seed in seeds])
        if len(apart) > 1:
            mean, error = apart.mean(0), apart.std(0, ddof=1) / math.sqrt(len(apart))
            both = zip(mean, error, strict=True)
            figures = (f"{m:+.2f} ± {e:.2f}" if math.isfinite(m) else "not reached" for m, e in both)
            print(f"| {' | '.join(map(str, key))} | {len(apart)} | {' | '.join(figures)} |")


def measured(row: dict, wanted: dict[str, float]) -> np.ndarray:
    """Steps to the target, the best and the final ELBO of a run."""
    elbos = [elbo for _, elbo in row["curve"]]
    return np.array([first(row["curve"], wanted.get(row["data"], math.inf)), max(elbos), elbos[-1]])


def first(curve: list[tuple[int, float]], target: float) -> float:
    """The step at which the target is first reached, linear between evaluations; infinite where it is not."""
    before = (0, -math.inf)
    for step, elbo in curve:
        if elbo >= target:
            share = 1.0 if not math.isfinite(before[1]) else (target - before[1]) / (elbo - before[1])
            return before[0] + share * (step - before[0])
        before = (step, elbo)
    return math.inf


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"run": run, "table": table, "pairs": pairs}[sys.argv[1]](*sys.argv[2:])
