"""Keras 3 on JAX: model.fit on arrays, its jitted train step; the KL by add_loss in a layer, as its guide shows."""

import math
import os

os.environ["KERAS_BACKEND"] = "jax"

import keras
import work
from keras import layers, ops
from work import BATCH, EPOCHS, LATENT, RATE, SEED, WORK

latent = LATENT[WORK]
keras.utils.set_random_seed(SEED)


class Sampling(layers.Layer):
    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(SEED + 1)

    def call(self, inputs):
        loc, log_variance = inputs
        kl = -0.5 * ops.sum(1 + log_variance - ops.square(loc) - ops.exp(log_variance), axis=1)
        self.add_loss(ops.mean(kl))
        return loc + ops.exp(0.5 * log_variance) * keras.random.normal(ops.shape(loc), seed=self.seeds)


def start():
    """Weights as torch's affine layers begin, U(-1/sqrt(inputs), 1/sqrt(inputs)), so that losses can be compared."""
    return {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}


def encoded(x):
    if WORK == "W1":
        return layers.Dense(400, activation="relu", **start())(layers.Flatten()(x))
    h = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", **start())(x)
    return layers.Flatten()(layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", **start())(h))


def decoded(z):
    if WORK == "W1":
        return layers.Dense(784, **start())(layers.Dense(400, activation="relu", **start())(z))
    h = layers.Reshape((7, 7, 64))(layers.Dense(3136, activation="relu", **start())(z))
    h = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu", **start())(h)
    return layers.Flatten()(layers.Conv2DTranspose(1, 3, strides=2, padding="same", **start())(h))


def cross_entropy(x, logits):
    return ops.sum(ops.softplus(logits) - ops.reshape(x, ops.shape(logits)) * logits, axis=-1)


class Tell(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if clock.step():
            raise work.Stop


x = work.images().astype("float32")[..., None] / 255
clock = work.Clock(math.ceil(len(x) / BATCH))
inputs = keras.Input((28, 28, 1))
h = encoded(inputs)
loc, log_variance = layers.Dense(latent, **start())(h), layers.Dense(latent, **start())(h)
model = keras.Model(inputs, decoded(Sampling()([loc, log_variance])))
model.compile(optimizer=keras.optimizers.Adam(RATE), loss=cross_entropy)
try:
    history = model.fit(x, x, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[Tell()])
    clock.report(history.history["loss"][-1])
except work.Stop:
    clock.report(math.nan)
