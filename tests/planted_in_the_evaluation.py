"""Mistakes planted in the evaluation, the sprites and the linear-Gaussian recipe, and the tests that catch them."""

BOUNDS = "tests/evaluation/test_bounds_of_runs.py"
FACTORS = "tests/evaluation/test_factors.py"
MADE = "tests/evaluation/test_generated.py"
SUMMARY = "tests/evaluation/test_summary.py"
LINEAR = "tests/test_linear_gaussian.py"
SPRITES = "tests/data/test_sprites.py"

# name: (file, what stands there, the mistake, the tests that must catch it)
MISTAKES = {
    "mistake 10: a number of importance samples that is ignored": (
        "evaluation/bounds.py",
        "for start in range(at_once, samples, at_once):",
        "for start in range(0):",
        BOUNDS + "::test_many_draws_find_log_p_within_the_stated_errors",
    ),
    "mistake 10: a number of importance samples that never arrives": (
        "evaluation/summary.py",
        '{"samples": samples, "seed": seed, "memory": memory}',
        '{"samples": 10, "seed": seed, "memory": memory}',
        SUMMARY + "::test_the_command_takes_the_number_of_samples_items_and_the_seed",
    ),
    "the bound without its log S": (
        "evaluation/bounds.py",
        "bound = self.total - math.log(max(self.count, 1))",
        "bound = self.total",
        BOUNDS,
    ),
    "weights that are forgotten between pieces": (
        "evaluation/bounds.py",
        "self.total = torch.logaddexp(self.total, log_w.logsumexp(0))",
        "self.total = log_w.logsumexp(0)",
        BOUNDS,
    ),
    "an effective sample size without its square": (
        "evaluation/bounds.py",
        "effective = (2 * self.total - self.squares).exp()",
        "effective = (self.total - self.squares).exp()",
        BOUNDS,
    ),
    "a Monte-Carlo error of independent items not divided by their number": (
        "evaluation/bounds.py",
        "self.variance.sum().sqrt() / len(self.variance)",
        "self.variance.mean().sqrt()",
        BOUNDS,
    ),
    "a KL that is not shared between pieces": (
        "evaluation/bounds.py",
        "share * drawn.divergence()",
        "drawn.divergence()",
        BOUNDS,
    ),
    "a density of features summed over draws": (
        "evaluation/bounds.py",
        ".double().sum(0).cpu() / len(drawn.z)",
        ".double().sum(0).cpu()",
        BOUNDS,
    ),
    "memory that is not bounded": (
        "evaluation/bounds.py",
        "max(1, decodes // len(some))",
        "max(1, DECODES // len(some))",
        BOUNDS,
    ),
    "dequantised bits with the volume's sign flipped": (
        "evaluation/bits.py",
        "-(log_likelihood + volume)",
        "-(log_likelihood - volume)",
        BOUNDS,
    ),
    "bits that are nats": ("evaluation/bits.py", "(values * math.log(2))", "values", BOUNDS),
    "noise of dequantisation that is not centred": (
        "evaluation/bounds.py",
        "(torch.rand(x.shape, generator=noise).to(x) - 0.5)",
        "3 * torch.rand(x.shape, generator=noise).to(x)",
        BOUNDS,
    ),
    "raw errors by the scale once": (
        "evaluation/reconstructions.py",
        "_mean(self.squared * np.square(self.scale))",
        "_mean(self.squared * self.scale)",
        BOUNDS,
    ),
    "active units by the deviation": ("evaluation/codes.py", "self.loc.var(0)", "self.loc.std(0)", BOUNDS),
    "MIG without the entropy": (
        "evaluation/factors.py",
        "[_gap(row) for row in information.T] / entropies",
        "[_gap(row) for row in information.T]",
        FACTORS,
    ),
    "MIG over the wrong axis": (
        "evaluation/factors.py",
        "for row in information.T] / entropies",
        "for row in information[: len(entropies)]] / entropies",
        FACTORS,
    ),
    "disentanglement and completeness exchanged": (
        "evaluation/factors.py",
        "completeness=_concentration(importance.T)",
        "completeness=_concentration(importance)",
        FACTORS,
    ),
    "modularity without its number of factors": (
        "evaluation/factors.py",
        "best * max(squares.shape[1] - 1, 1)",
        "best * squares.shape[1]",
        FACTORS,
    ),
    "an entropy in another base": (
        "evaluation/factors.py",
        "/ np.log(importance.shape[1])",
        "/ np.log(importance.shape[0])",
        FACTORS,
    ),
    "codes in other bins": ("evaluation/factors.py", "np.histogram(column, BINS)[1][:-1]", "[0.0]", FACTORS),
    "factors in the order of the parts": (
        "evaluation/summary.py",
        "{name: np.asarray(values)[index] for",
        "{name: np.asarray(values)[: len(index)] for",
        SUMMARY + "::test_factors_follow",
    ),
    "the Frechet distance with one root of the trace": (
        "evaluation/features.py",
        "- 2 * root, 0.0)",
        "- root, 0.0)",
        MADE,
    ),
    "the Frechet distance with covariances over n": (
        "evaluation/features.py",
        "math.sqrt(len(side) - 1)",
        "math.sqrt(len(side))",
        MADE,
    ),
    "an MMD that keeps its diagonal": (
        "evaluation/features.py",
        "(_kernel_sum(side, side) - _kernel_diagonal(side))",
        "_kernel_sum(side, side)",
        MADE,
    ),
    "a kernel without the dimension": (
        "evaluation/features.py",
        "a[rows] @ b.T / a.shape[1] + 1",
        "a[rows] @ b.T + 1",
        MADE,
    ),
    "balls to one neighbour too few": (
        "evaluation/features.py",
        "real), k, axis=1)[:, k, None]",
        "real), k, axis=1)[:, k - 1, None]",
        MADE,
    ),
    "precision and recall exchanged": (
        "evaluation/features.py",
        "for held, asked in ((real, generated), (generated, real))",
        "for held, asked in ((generated, real), (real, generated))",
        MADE,
    ),
    "density of closed balls": ("evaluation/features.py", "float(strict.mean()", "float(_.mean()", MADE),
    "a scale in the place of beta": (
        "recipes/linear.py",
        "ELBO(regularization=beta,",
        "ELBO(regularization=1.0,",
        LINEAR + "::test_a_feature_lives",
    ),
    "affine networks with a hidden layer": (
        "recipes/building.py",
        "networks.MLP(inputs, outputs, hidden=())",
        "networks.MLP(inputs, outputs, hidden=(2,))",
        LINEAR + "::test_on_wine",
    ),
    "sprites whose x runs down": ("data/sprites.py", "rows - places[None, :,", "rows - places[:, None,", SPRITES),
}
