"""Cases of networks."""

import torch

from gapless import networks

CASES = {
    "BayesianMLP": lambda: networks.BayesianMLP((2, 3), (4, 2), hidden=(8,), drawn="flipout", prior_scale=0.5),
    "MLP": lambda: networks.MLP((2, 3), (4, 2), hidden=(8, 5), activation="tanh"),
    "ResidualMLP": lambda: networks.ResidualMLP((6,), (3,), width=8, blocks=2, activation="silu"),
    "ConvolutionalEncoder": lambda: networks.ConvolutionalEncoder(
        (3, 9, 6), (4,), channels=(4, 6), blocks=1, activation="elu"
    ),
    "ConvolutionalDecoder": lambda: networks.ConvolutionalDecoder(
        (4,), (3, 9, 6), channels=(4, 6), blocks=1, activation="gelu"
    ),
    "Standardized": lambda: networks.Standardized(networks.MLP((2, 3), (4, 2), hidden=(8,), activation="tanh")).show(
        torch.full((2, 3), 0.5), 0.3
    ),
    "SpatialEncoder": lambda: networks.SpatialEncoder((3, 8, 12), (12,), channels=(4, 8), blocks=2),
    "SpatialDecoder": lambda: networks.SpatialDecoder((12,), (2, 3, 8, 12), channels=(4, 8), activation="gelu"),
}
