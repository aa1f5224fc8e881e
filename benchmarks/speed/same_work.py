"""gapless doing the peers' work: the training images alone, 60 of them held out, and a start like theirs, so that
losses can be compared: no offset at the data's mean, the decoder's last layer at full size, inputs as they are, and an
encoder that puts out logarithms of variances, not of scales."""

import math

import work
from work import BATCH, EPOCHS, LATENT, RATE, SEED, WORK

import gapless
from gapless import machine

data = gapless.read(str(work.DATA / "train-images-idx3-ubyte.gz"), held_out=0.001)
gapless.Model.center = lambda self, *moments: None
gapless.recipes.building._quiet = lambda decoder: decoder
normals = gapless.posteriors.normals
normals.bounded = lambda raw, bound, bounded=normals.bounded: bounded(0.5 * raw, bound)
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
