"""Why the reparameterization trick is needed, measured: the variance of gradient estimators on solvable problems.

    python benchmarks/gradient_variance.py [docs/pictures/gradient-variance.png]

Codes: a linear-Gaussian VAE (probabilistic PCA) whose encoder is moved away from the exact posterior step by step.
Weights: Bayesian linear regression at its mean-field optimum, against the size of the batch. Both print a table.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from gapless import objectives
from gapless.networks.bayesian import ESTIMATORS, weights_drawn
from gapless.objectives.importance import ESTIMATORS as OF_CODES
from oracles import LinearGaussian
from test_bayesian_weights import EXACT, NOISE

DRAWS = 2000
SHIFTS = (0.0, 0.05, 0.1, 0.2, 0.4)
BATCHES = (1, 2, 4, 8, 16, 40)
SUBSETS = 20
LOOKS = {  # distinct for the colour-blind, and by their marks
    "score-function": ("#D55E00", "^"), "reparameterized": ("#0072B2", "o"), "sticking-the-landing": ("#E69F00", "s"),
    "doubly-reparameterized": ("#009E73", "D"), "local": ("#CC79A7", "v"), "flipout": ("#000000", "x"),
}  # fmt: skip


def variance(gradient: Callable[[int], Tensor], draws: int = DRAWS) -> float:
    """Trace of the covariance of a gradient over seeds."""
    return float(torch.stack([gradient(seed) for seed in range(draws)]).var(0).sum())


def of_codes(estimator: str, shift: float, samples: int) -> float:
    """Variance of the gradient of IWAE_K in the encoder's weights, one item a batch."""
    exact = LinearGaussian.make()
    model, x = exact.model(), exact.sample(1)
    with torch.no_grad():
        model.encoder.layers[-1].bias += shift
    objective = objectives.IWAE(samples, estimator=estimator)

    def gradient(seed: int) -> Tensor:
        loss = objective(model, x, generator=torch.Generator().manual_seed(seed)).loss
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.encoder.parameters())])

    return variance(gradient)


def of_weights(drawn: str, batch: int) -> float:
    """Variance of the gradient of the expected error of a batch in the means of the weights, mean over batches."""
    chosen = [torch.randperm(len(EXACT.y), generator=torch.Generator().manual_seed(b))[:batch] for b in range(SUBSETS)]
    return sum(_of_rows(drawn, rows) for rows in chosen) / SUBSETS


def _of_rows(drawn: str, rows: Tensor) -> float:
    layer = EXACT.layer("local" if drawn == "score-function" else drawn)

    def error(mean: Tensor) -> Tensor:
        return (EXACT.y[rows] - mean).square().mean() / (2 * NOISE**2)

    def gradient(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if drawn == "score-function":
            weights = layer.weights()
            drawn_weights = weights.sample(generator=generator)
            loss = error((EXACT.design[rows] @ drawn_weights.T)[:, 0]).detach() * weights.log_prob(drawn_weights)
        else:
            with weights_drawn(layer, generator):
                loss = error(layer(EXACT.x[rows])[:, 0])
        return torch.autograd.grad(loss, layer.loc)[0].flatten()

    return variance(gradient, DRAWS // 10)


def table(title: str, names: list[str], columns: tuple, values: dict[str, list[float]]) -> None:
    print(f"\n{title}\n" + " " * 26 + "".join(f"{c!s:>11}" for c in columns))
    for name in names:
        print(f"{name:26}" + "".join(f"{v:11.4g}" for v in values[name]))


def picture(path: Path, panels: list[tuple[str, str, tuple, dict[str, list[float]]]]) -> None:
    """One panel a problem, logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), layout="constrained")
    for axis, (title, label, columns, values) in zip(axes, panels, strict=True):
        for name, line in values.items():
            # At the exact posterior some variances are 0, which a logarithm cannot show.
            shown = [(c, v) for c, v in zip(columns, line, strict=True) if v > 1e-12]
            colour, marker = LOOKS[name]
            axis.plot(*zip(*shown, strict=True), color=colour, marker=marker, markersize=5, label=name)
        axis.set(yscale="log", title=title, xlabel=label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("variance of the gradient (trace)")
    axes[-1].set(xscale="log", xticks=BATCHES, xticklabels=BATCHES)
    axes[-1].minorticks_off()
    figure.savefig(path, dpi=110)


def main() -> None:
    torch.set_num_threads(1)
    codes = {k: {e: [of_codes(e, s, k) for s in SHIFTS] for e in OF_CODES} for k in (1, 8)}
    names = ["score-function", *ESTIMATORS]
    weights = {name: [of_weights(name, size) for size in BATCHES] for name in names}
    for k, values in codes.items():
        table(
            f"codes, K = {k}: rows estimators, columns distance from the exact posterior", [*OF_CODES], SHIFTS, values
        )
    table("weights: rows estimators, columns items a batch", names, BATCHES, weights)
    panels = [(f"codes, K = {k}", "shift of the encoder from the optimum", SHIFTS, v) for k, v in codes.items()]
    picture(Path(sys.argv[1] if len(sys.argv) > 1 else "gradient-variance.png"),
            [*panels, ("weights", "items a batch", BATCHES, weights)])  # fmt: skip


if __name__ == "__main__":
    main()
