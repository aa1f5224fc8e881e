"""Plain torch in the style of pytorch/examples/vae: DataLoader over a TensorDataset of floats, stock Adam, .item()."""

import math

import torch
import work
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from work import BATCH, EPOCHS, LATENT, RATE, SEED, WORK

latent = LATENT[WORK]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        if WORK == "W1":
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU())
            self.loc, self.log_variance = nn.Linear(400, latent), nn.Linear(400, latent)
            self.decoder = nn.Sequential(nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())
        else:
            self.encoder = nn.Sequential(
                nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
            self.loc, self.log_variance = nn.Linear(3136, latent), nn.Linear(3136, latent)
            self.decoder = nn.Sequential(
                nn.Linear(latent, 3136), nn.Unflatten(1, (64, 7, 7)), nn.ReLU(),
                nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
                nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
            )  # fmt: skip

    def forward(self, x):
        h = self.encoder(x)
        loc, log_variance = self.loc(h), self.log_variance(h)
        z = loc + torch.exp(0.5 * log_variance) * torch.randn_like(loc)
        return self.decoder(z), loc, log_variance


def loss_of(reconstructed, x, loc, log_variance):
    cross_entropy = F.binary_cross_entropy(reconstructed.flatten(1), x.flatten(1), reduction="sum")
    return cross_entropy - 0.5 * torch.sum(1 + log_variance - loc.pow(2) - log_variance.exp())


torch.manual_seed(SEED)
x = torch.from_numpy(work.images()).float().div(255)[:, None]
loader = DataLoader(TensorDataset(x), batch_size=BATCH, shuffle=True)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
clock = work.Clock(len(loader))


def main():
    total = 0.0
    for _ in range(EPOCHS):
        total = 0.0
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = loss_of(*(out := model(batch))[:1], batch, *out[1:])
            (loss / len(batch)).backward()
            total += loss.item()
            optimizer.step()
            if clock.step():
                return math.nan
    return total / len(x)


clock.report(main())
