"""Seconds per epoch of AE, KL-only and VAE on some data, and their held-out terms in nats."""

import sys

import torch

import gapless


def main(source: str, epochs: int = 3) -> None:
    data = gapless.read(source)
    comparison = gapless.compare(data, settings=gapless.Settings(latent=2, epochs=epochs))
    print(f"{data.source}: {len(data.train):,} items of {data.event_shape}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for name, run in comparison.runs.items():
        held = run.held_out
        seconds = held["seconds_per_epoch"]
        print(f"{name:8} {seconds:7.3f} s/epoch  {len(data.train) / seconds:9,.0f} items/s", end="  ")
        print(f"reconstruction {held['reconstruction']:.2f}  KL {held['kl']}  ELBO {held['elbo']}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["digits"])
