"""A published protocol, run by us and by pythae, judged by one evaluator.

    python benchmarks/published iwae-5 --data FOLDER --budget 10 --items 2000 [--seeds 2] [--out TABLE.md]

`--budget` is the number of epochs (the published one by default): the schedule of the rate is squeezed into it.
FOLDER holds MNIST's idx files. pythae is run from the environment that `make bench` installs; without it, ours alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from protocols import PROTOCOLS, Protocol

import gapless
from gapless import likelihoods, networks, posteriors, priors
from gapless.data import batch
from gapless.draws import draw
from gapless.model import Model
from gapless.objectives.binarization import binarized
from gapless.randomness import generator
from gapless.schedules import learning_rate
from gapless.settings import Settings
from gapless.study import train

PEER = Path(".bench/pythae/bin/python")
ROWS = 20_000  # decodes at a time


def data_of(folder: Path, name: str, *, fixed: bool, seed: int):
    """MNIST's images; bits drawn once where that is the protocol."""
    data = gapless.read(folder / f"{name}-images-idx3-ubyte.gz", held_out=0.01, likelihood="Bernoulli")
    if not fixed:
        return data
    whole = torch.cat([batch(part, data.scaling) for part in (data.train, data.held_out)])
    bits = binarized(whole, torch.Generator().manual_seed(seed)).numpy()
    return gapless.read(bits, held_out=0.01, likelihood="Bernoulli", scaling="none")


def ours(data, protocol: Protocol, settings: Settings) -> tuple[Model, float]:
    """Trained by us: the model of the last epoch, and seconds."""
    began = time.monotonic()
    run = train(data, recipe=protocol.recipe, settings=settings)
    return run.model, time.monotonic() - began


def theirs(data, protocol: Protocol, settings: Settings, seed: int) -> tuple[Model, float]:
    """Trained by pythae on the same images for as many steps at the same rates, and taken over into our model."""
    images = batch(data.train, data.scaling)
    per_epoch = -(-len(images) // protocol.batch)
    steps = per_epoch * (settings.epochs or 0)
    rates = [
        [learning_rate(settings, epoch * per_epoch + k, steps) for k in range(per_epoch)]
        for epoch in range(settings.epochs or 0)
    ]
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/images.npy", images.numpy())
        work = {**asdict(protocol), "seed": seed, "threads": torch.get_num_threads(), "images": f"{folder}/images.npy"}
        Path(f"{folder}/work.json").write_text(json.dumps({**work, "rates": rates}))
        peer = Path(__file__).with_name("peer.py")
        subprocess.run([PEER, peer, f"{folder}/work.json", f"{folder}/out.npz"], check=True)
        with np.load(f"{folder}/out.npz") as out:
            arrays = {name: torch.from_numpy(out[name]) for name in out.files}
    model = taken_over({name: value for name, value in arrays.items() if "." in name}, protocol)
    with torch.no_grad():
        q = model.encode(images[:5])
        same = {
            "probe_codes": q.mean, "probe_log_variance": 2 * q.stddev.log(), "probe_decodes": model.decode(q.mean).mean
        }  # fmt: skip
    assert all(torch.allclose(value, arrays[name], atol=1e-3) for name, value in same.items())
    return model, float(arrays["seconds"])


def taken_over(state: dict[str, torch.Tensor], protocol: Protocol) -> Model:
    """pythae's weights in a model of ours with the same values (`theirs` checks it)."""
    unbounded = posteriors.DiagonalNormal(bound=1e6)  # the exponential itself
    model = Model(
        encoder=networks.MLP(
            (1, 28, 28), (2 * protocol.latent,), hidden=protocol.hidden, activation=protocol.activation
        ),
        posterior=unbounded, prior=priors.StandardNormal(protocol.latent),
        decoder=networks.MLP(
            (protocol.latent,), (1, 1, 28, 28), hidden=protocol.hidden[::-1], activation=protocol.activation
        ),
        likelihood=likelihoods.Bernoulli(),
    )  # fmt: skip
    depth = len(protocol.hidden)
    mine = {}
    for side in ("encoder", "decoder"):
        for layer in range(depth):
            for kind in ("weight", "bias"):
                mine[f"{side}.layers.{2 * layer + 1}.{kind}"] = state[f"{side}.body.{2 * layer}.{kind}"]
    for kind in ("weight", "bias"):
        heads = state[f"encoder.embedding.{kind}"], 0.5 * state[f"encoder.log_var.{kind}"]  # log scale, not variance
        mine[f"encoder.layers.{2 * depth + 1}.{kind}"] = torch.cat(heads)
        mine[f"decoder.layers.{2 * depth + 1}.{kind}"] = state[f"decoder.out.{kind}"]
    model.load_state_dict({**model.state_dict(), **mine})
    return model.eval()


@torch.no_grad()
def negative_log_likelihood(model: Model, x: torch.Tensor, samples: int) -> torch.Tensor:
    """Nats an item by so many importance samples, shape (items,)."""
    chunk, bounds = max(1, ROWS // samples), []
    for number, part in enumerate(x.split(chunk)):
        log_weights = draw(model, part, samples=samples, generator=generator(0, "evaluation", number)).log_weights()
        bounds.append(log_weights.double().logsumexp(0) - np.log(samples))
    return -torch.cat(bounds)


def settings_of(protocol: Protocol, epochs: int, seed: int) -> Settings:
    option = (f"samples={protocol.samples}",) if protocol.recipe == "iwae" else ()
    return Settings(
        latent=protocol.latent, hidden=protocol.hidden, activation=protocol.activation, batch_size=protocol.batch,
        learning_rate=protocol.rate, schedule=protocol.schedule, epochs=epochs, seed=seed, option=option,
        binarize=protocol.binarization == "dynamic",
    )  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("protocol", choices=PROTOCOLS)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--budget", type=int, help="epochs; the published number by default")
    arguments.add_argument("--items", type=int, default=10_000, help="test images that are evaluated")
    arguments.add_argument("--seeds", type=int, default=1)
    arguments.add_argument("--alone", action="store_true", help="without pythae")
    arguments.add_argument("--out", type=Path, help="append the table to this file")
    given = arguments.parse_args()
    protocol = PROTOCOLS[given.protocol]
    epochs, fixed = given.budget or protocol.epochs, protocol.binarization == "fixed"
    data = data_of(given.data, "train", fixed=fixed, seed=1)
    test = data_of(given.data, "t10k", fixed=False, seed=0)
    x = torch.cat([batch(part, test.scaling) for part in (test.held_out, test.train)])[: given.items]
    x = binarized(x, torch.Generator().manual_seed(2))
    lines = []
    print(protocol.source, protocol.remarks, sep=". ", file=sys.stderr)
    for seed in range(given.seeds):
        settings = settings_of(protocol, epochs, seed)
        made = {"gapless": ours(data, protocol, settings)}
        if PEER.exists() and not given.alone and protocol.recipe in ("vae", "iwae"):  # whose weights can be taken over
            made["pythae 0.1.2"] = theirs(data, protocol, settings, seed)
        for name, (model, seconds) in made.items():
            nll = negative_log_likelihood(model, x, protocol.evaluated)
            error = float(nll.std() / len(nll) ** 0.5)
            lines.append(
                f"| {given.protocol} | {name} | {seed} | {epochs} of {protocol.epochs} | "
                f"{nll.mean():.2f} ± {error:.2f} | {protocol.stated} | {seconds:.0f} |"
            )
            print(lines[-1], flush=True)
    if given.out:
        with given.out.open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
