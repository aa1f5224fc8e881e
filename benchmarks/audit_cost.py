"""CPU seconds, memory and decodes of the default audit card on an MLP decoder of 784 outputs, by number of items."""

import resource
import subprocess
import sys
import time

import numpy as np
import torch

from gapless import recipes
from gapless.adapters import subject
from gapless.audit import scorecard


def one(items: int, budget: str, latent: int = 8) -> None:
    """Audit a random, untrained MLP VAE on random images; the cost does not depend on what it has learned."""
    model, _ = recipes.build("vae", (1, 28, 28), latent=latent)
    model.eval()
    x = torch.from_numpy(np.random.default_rng(0).random((items, 1, 28, 28), dtype=np.float32))
    scorecard(subject(model), x[:200], budget="quick")  # imports and thread pools
    start, wall = time.process_time(), time.perf_counter()
    card = scorecard(subject(model), x, budget=budget)
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{budget:8} n = {items:6,}: {seconds:6.1f} CPU-seconds ({wall:.1f} s wall), peak {megabytes:,.0f} MB, "
          f"{card.about['decodes']:,} decodes")  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one(int(sys.argv[1]), sys.argv[2])
    else:
        for items, budget in ((20_000, "default"), (60_000, "default"), (20_000, "quick")):
            subprocess.run([sys.executable, __file__, str(items), budget], check=True)
