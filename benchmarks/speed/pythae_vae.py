"""pythae's VAE with its BaseTrainer; no evaluation set, no checkpoints but the one it writes at the end."""

import logging
import math
import tempfile

import torch
import work
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn
from work import BATCH, EPOCHS, LATENT, RATE, WORK

logging.disable(logging.WARNING)
latent = LATENT[WORK]


class Encoder(BaseEncoder):
    def __init__(self):
        BaseEncoder.__init__(self)
        if WORK == "W1":
            self.body, width = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU()), 400
        else:
            width = 3136
            self.body = nn.Sequential(
                nn.Conv2d(1, 32, 3, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            )  # fmt: skip
        self.embedding, self.log_var = nn.Linear(width, latent), nn.Linear(width, latent)

    def forward(self, x):
        h = self.body(x)
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))


class Decoder(BaseDecoder):
    def __init__(self):
        BaseDecoder.__init__(self)
        if WORK == "W1":
            self.body = nn.Sequential(
                nn.Linear(latent, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))
            )
        else:
            self.body = nn.Sequential(
                nn.Linear(latent, 3136), nn.Unflatten(1, (64, 7, 7)), nn.ReLU(),
                nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
                nn.ConvTranspose2d(32, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
            )  # fmt: skip

    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z))


class Tell(TrainingCallback):
    loss = math.nan

    def on_train_step_end(self, training_config, **_):
        if clock.step():
            raise work.Stop

    def on_log(self, training_config, logs, **_):
        self.loss = logs.get("train_epoch_loss", self.loss)


x = torch.from_numpy(work.images()).float().div(255)[:, None]
clock = work.Clock(math.ceil(len(x) / BATCH))
tell = Tell()
with tempfile.TemporaryDirectory() as folder:
    config = BaseTrainerConfig(
        output_dir=folder, num_epochs=EPOCHS, per_device_train_batch_size=BATCH, learning_rate=RATE,
        optimizer_cls="Adam", no_cuda=True,
    )  # fmt: skip
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=latent, reconstruction_loss="bce"), Encoder(), Decoder())
    dataset = BaseDataset(x, torch.zeros(len(x)))
    trainer = BaseTrainer(model=model, train_dataset=dataset, training_config=config, callbacks=[tell])
    try:
        trainer.train()
    except work.Stop:
        tell.loss = math.nan
clock.report(tell.loss)
