"""pythae's VAE or IWAE on the same protocol; run by pythae's own environment, writes its weights as arrays.

    python peer.py WORK.json WEIGHTS.npz

Its model classes, losses and optimizer step; the loop is ours, for its trainer cannot draw the pixels anew.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def layers(sizes, activation):
    steps = []
    for before, after in itertools.pairwise(sizes):
        steps += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*steps)


class Encoder(BaseEncoder):
    def __init__(self, hidden, latent, activation):
        BaseEncoder.__init__(self)
        self.body = layers((784, *hidden), activation)
        self.embedding, self.log_var = nn.Linear(hidden[-1], latent), nn.Linear(hidden[-1], latent)

    def forward(self, x):
        h = self.body(x.flatten(1))
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self, hidden, latent, activation, offset):
        BaseDecoder.__init__(self)
        self.body = layers((latent, *hidden[::-1]), activation)
        self.out = nn.Linear(hidden[0], 784)
        with torch.no_grad():  # both start at the data's mean
            self.out.bias.copy_(offset)

    def forward(self, z):
        return ModelOutput(reconstruction=torch.sigmoid(self.out(self.body(z))).reshape(-1, 1, 28, 28))


def main():
    work, out = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
    torch.manual_seed(work["seed"])
    torch.set_num_threads(work["threads"])
    images = torch.from_numpy(np.load(work["images"])).reshape(-1, 1, 28, 28)
    fixed = work["binarization"] == "fixed"
    config = {"input_dim": (1, 28, 28), "latent_dim": work["latent"], "reconstruction_loss": "bce"}
    nets = {
        "encoder": Encoder(work["hidden"], work["latent"], work["activation"]),
        "decoder": Decoder(
            work["hidden"],
            work["latent"],
            work["activation"],
            torch.logit(images.mean(0).clamp(1e-3, 1 - 1e-3)).flatten(),
        ),
    }
    model = (
        VAE(VAEConfig(**config), **nets)
        if work["samples"] == 1
        else IWAE(IWAEConfig(**config, number_samples=work["samples"]), **nets)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=work["rate"])
    began = time.monotonic()
    for rates in work["rates"]:  # one list an epoch
        order = torch.randperm(len(images))
        for step, rate in enumerate(rates):
            x = images[order[step * work["batch"] : (step + 1) * work["batch"]]]
            x = x if fixed else torch.bernoulli(x)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model({"data": x}).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        codes = model.encoder(images[:5])
        decodes = model.decoder(codes["embedding"])["reconstruction"]
    probe = {"probe_codes": codes["embedding"], "probe_log_variance": codes["log_covariance"], "probe_decodes": decodes}
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    np.savez(out, seconds=time.monotonic() - began, reported=loss.item(), **arrays, **probe)


if __name__ == "__main__":
    main()
