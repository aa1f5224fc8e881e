"""Cases of regularizers, for models of (1, 4, 4) images and 4 latent features."""

from gapless import networks, regularizers

MODELS = {"Commitment": "vq-vae", "Perplexity": "vq-vae"}
"""The recipe whose model a regularizer needs, where that is not the VAE."""

CASES = {
    "Decomposition": lambda: regularizers.Decomposition(0.5, 6.0, 2.0, estimator="weighted", weight=0.7),
    "Covariance": lambda: regularizers.Covariance(3.0, 5.0, of="aggregate", weight=0.7),
    "MMD": lambda: regularizers.MMD(4.0, kernel="gaussian", scales=(0.5, 2.0)),
    "NormalMMD": lambda: regularizers.NormalMMD(4.0, scale=0.5),
    "SlicedWasserstein": lambda: regularizers.SlicedWasserstein(4.0, projections=7),
    "CodeSparsity": lambda: regularizers.CodeSparsity(0.3),
    "CodeNorm": lambda: regularizers.CodeNorm(0.3),
    "DecoderWeights": lambda: regularizers.DecoderWeights(0.3),
    "DecoderJacobian": lambda: regularizers.DecoderJacobian(0.3, probes=2),
    "Equivariance": lambda: regularizers.Equivariance((1, 2, 2), weight=0.3),
    "DensityRatio": lambda: regularizers.DensityRatio(networks.MLP((4,), (1,), hidden=(8,)), weight=0.3),
    "PriorCritic": lambda: regularizers.PriorCritic(networks.MLP((4,), (1,), hidden=(8,)), weight=0.3),
    "ImageCritic": lambda: regularizers.ImageCritic(
        networks.MLP((1, 4, 4), (6,), hidden=()), networks.MLP((6,), (1,), hidden=(8,)), similarity=0.5, weight=0.3
    ),
    "PatchCritic": lambda: regularizers.PatchCritic(
        networks.SpatialEncoder((1, 4, 4), (1, 2, 2), channels=(4,), attention=False), weight=0.3
    ),
    "Commitment": lambda: regularizers.Commitment(2.0, 0.5),
    "Perplexity": regularizers.Perplexity,
}
