"""gapless by its public way. It reads both parts of the data, inspects them, validates on 10,000 held-out images after
every epoch and once more at the end, and keeps the best weights; the peers do none of that."""

import math

import work
from work import BATCH, EPOCHS, LATENT, RATE, SEED, WORK

import gapless
from gapless import machine

data = gapless.read(str(work.DATA))
clock = work.Clock(math.ceil(len(data.train) / BATCH))


class Tell(gapless.training.Callback):
    def on_step(self, step, terms):
        if clock.step():
            raise work.Stop


settings = gapless.Settings(
    latent=LATENT[WORK], epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, schedule="constant",
    network={"W1": "mlp", "W2": "convolutional"}[WORK], hidden=(400,), channels=(32, 64), seed=SEED,
)  # fmt: skip
try:
    run = gapless.train(data, settings=settings, callbacks=[Tell()])
    clock.report(run.history[-1]["train"]["loss"])
except work.Stop:
    clock.report(math.nan)
machine.leave()  # as the command `gapless` ends: this process is its own, and all its files are closed
