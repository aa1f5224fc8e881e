"""JAX alone: parameters as a dictionary, Adam by hand, one jitted scan over an epoch of uint8 images on the device."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import work
from work import BATCH, EPOCHS, LATENT, RATE, SEED

latent = LATENT["W1"]
SIZES = {"encoder": (784, 400), "head": (400, 2 * latent), "decoder": (latent, 400), "out": (400, 784)}


def fresh(key):
    keys = jax.random.split(key, len(SIZES))
    limits = {name: 1 / math.sqrt(before) for name, (before, _) in SIZES.items()}
    return {
        name: (jax.random.uniform(k, size, minval=-limits[name], maxval=limits[name]), jnp.zeros(size[1]))
        for (name, size), k in zip(SIZES.items(), keys, strict=True)
    }


def affine(parameters, name, x):
    return x @ parameters[name][0] + parameters[name][1]


def loss_of(parameters, x, key):
    h = jax.nn.relu(affine(parameters, "encoder", x))
    loc, log_variance = jnp.split(affine(parameters, "head", h), 2, axis=-1)
    z = loc + jnp.exp(0.5 * log_variance) * jax.random.normal(key, loc.shape)
    logits = affine(parameters, "out", jax.nn.relu(affine(parameters, "decoder", z)))
    kl = 0.5 * (loc**2 + jnp.exp(log_variance) - 1 - log_variance)
    return ((jax.nn.softplus(logits) - x * logits).sum(-1) + kl.sum(-1)).mean()


def step(carry, batch):
    parameters, first, second, count = carry
    positions, key = batch
    loss, grads = jax.value_and_grad(loss_of)(parameters, data[positions].astype(jnp.float32) / 255, key)
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
    scale = lambda m, v: RATE * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)  # noqa: E731
    return (jax.tree.map(lambda p, m, v: p - scale(m, v), parameters, first, second), first, second, count), loss


data = jnp.asarray(work.images().reshape(-1, 784))
steps = len(data) // BATCH  # a scan needs equal batches: the last 96 images of an epoch are left out
clock = work.Clock(steps)
epoch = jax.jit(lambda carry, batches: jax.lax.scan(step, carry, batches))
parameters = fresh(jax.random.key(SEED))
zeros = jax.tree.map(jnp.zeros_like, parameters)
carry, losses = (parameters, zeros, zeros, jnp.zeros(())), None
for number in range(EPOCHS):
    order = np.random.default_rng([SEED, number]).permutation(len(data))[: steps * BATCH].reshape(steps, BATCH)
    begun, spent = work.time.time(), work.time.process_time()
    carry, losses = epoch(
        carry, (jnp.asarray(order), jax.random.split(jax.random.key(100 * (SEED + 1) + number), steps))
    )
    losses = np.asarray(losses)
    # Single steps of a scan cannot be seen: an epoch counts from its call, and the first step is its end.
    first = number * steps + 1
    clock.marks |= {first: begun if number else work.time.time(), (number + 1) * steps: work.time.time()}
    clock.cpu |= {first: spent, (number + 1) * steps: work.time.process_time()}
    clock.steps = (number + 1) * steps
clock.report(losses.mean())
