"""Mistakes in posteriors, priors, distributions and likelihoods: (file, what stands there, the mistake, the tests)."""

FULL = "tests/test_full_normals.py"
PATHS = "tests/test_pathwise_gradients.py::test_the_mean_gradient_of_draws_is_the_derivative_of_the_expectation"
FLOWS = "tests/test_flows.py"
PRIORS = "tests/test_priors.py"
HEADS = "tests/test_likelihoods.py"
COUNTS = "tests/test_count_likelihoods.py"
PIXELS = "tests/test_pixel_likelihoods.py"
MISSING = "tests/test_missing_values.py"
DISCRETE = "tests/test_discrete_codes.py"
SPHERES = "tests/test_spheres.py"
BALL = "tests/test_hyperbolic.py"
PERCEPTUAL = "tests/test_perceptual.py"

MISTAKES = {
    "a full normal solved by the other triangle": (
        "distributions/normals.py",
        "upper=False).square()",
        "upper=True).square()",
        FULL,
    ),
    "a full normal of twice the volume": (
        "distributions/normals.py",
        "return self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)",
        "return 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)",
        FULL,
    ),
    "a low-rank normal without the determinant of what is shared": (
        "distributions/normals.py",
        " + self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)",
        "",
        FULL,
    ),
    "a low-rank normal whose shared noise costs nothing": (
        "distributions/normals.py",
        "(columns - white @ shared).square().sum(-2) + shared.square().sum(-2)",
        "(columns - white @ shared).square().sum(-2)",
        FULL,
    ),
    "a low-rank draw that shares with one sign": (
        "distributions/normals.py",
        "(self.factor @ shared[..., None])[..., 0]",
        "(self.factor.abs() @ shared[..., None])[..., 0]",
        FULL,
    ),
    "a low-rank draw whose shared part has no gradient": (
        "distributions/normals.py",
        "(self.factor @ shared[..., None])[..., 0]",
        "(self.factor.detach() @ shared[..., None])[..., 0]",
        PATHS,
    ),
    "a flow's draw whose scale has no gradient": (
        "distributions/flowing.py",
        "z = self.loc + self.scale * y",
        "z = self.loc + self.scale.detach() * y",
        PATHS,
    ),
    "a draw on the ball whose place has no gradient": (
        "distributions/hyperbolic.py",
        "_inside(mobius_sum(self.loc, moved, self.curvature), self.curvature)",
        "_inside(mobius_sum(self.loc.detach(), moved, self.curvature), self.curvature)",
        PATHS,
    ),
    "a Laplace draw whose spread has no gradient": (
        "distributions/reals.py",
        "reparameterize(self.loc, self.scale, one - other)",
        "reparameterize(self.loc, self.scale.detach(), one - other)",
        PATHS,
    ),
    "a correlated KL with a scale for a variance": (
        "distributions/divergences.py",
        "(q.variance + (q.loc - p.loc).square()) / p.scale.square()",
        "(q.variance + (q.loc - p.loc).square()) / p.scale",
        FULL,
    ),
    "a correlated KL that rewards volume of the wrong sign": (
        "distributions/divergences.py",
        ".sum(-1) - q.log_volume",
        ".sum(-1) + q.log_volume",
        FULL,
    ),
    "shares of other features above the diagonal": (
        "posteriors/normals.py",
        "unit[..., rows, columns] = bounded",
        "unit[..., columns, rows] = bounded",
        FULL,
    ),
    "a full posterior scaled by columns": (
        "posteriors/normals.py",
        ".exp()[..., None] * unit",
        ".exp()[..., None, :] * unit",
        FULL,
    ),
    "shared noise in other units than a feature's own": (
        "posteriors/normals.py",
        "factor = scale[..., None] * bounded",
        "factor = bounded",
        FULL,
    ),
    "an inverted flow with the stretch of the other way": (
        "distributions/flowing.py",
        "self._density(u, -shrinkage)",
        "self._density(u, shrinkage)",
        FLOWS,
    ),
    "a flow without the volume of its scale": (
        "distributions/flowing.py",
        "- stretch - self.scale.log().sum(-1)",
        "- stretch",
        FLOWS,
    ),
    "a flow posterior whose scale overflows": (
        "posteriors/flows.py",
        "bounded(raw, self.bound).exp(), transform",
        "raw.exp(), transform",
        FLOWS,
    ),
    "a planar flow with the slope of another function": (
        "distributions/bijections.py",
        "torch.log1p(self.along * (1 - bent.square()))",
        "torch.log1p(self.along * (1 - bent).square())",
        FLOWS,
    ),
    "a planar inverse whose root has no slope": (
        "distributions/bijections.py",
        "slope = 1 + self.along * (1 - torch.tanh(found).square())",
        "slope = torch.ones_like(found)",
        FLOWS,
    ),
    "a planar flow that only stretches": (
        "distributions/bijections.py",
        "functional.softplus(along) - (1 - MARGIN)",
        "functional.softplus(along)",
        FLOWS,
    ),
    "pseudo-inputs out of the range of the items": (
        "priors/vamp.py",
        "torch.clamp(self.inputs, self.low, self.high)",
        "self.inputs",
        PRIORS,
    ),
    "pseudo-inputs that cannot be learned": (
        "priors/vamp.py",
        "encode(inputs, *given)",
        "encode(inputs.detach(), *given)",
        PRIORS,
    ),
    "a mixture whose weights do not sum to 1": (
        "distributions/mixtures.py",
        "+ self.logits.log_softmax(0)).logsumexp(-1)",
        "+ self.logits).logsumexp(-1)",
        PRIORS,
    ),
    "a mixture's spread without that between its components": (
        "distributions/mixtures.py",
        "(self.components.variance + between)",
        "(self.components.variance + 0 * between)",
        PRIORS,
    ),
    "a fitted mixture taken over with its factors unscaled": (
        "priors/mixtures.py",
        "(factor / scale[..., None])[:, rows, columns]",
        "factor[:, rows, columns]",
        PRIORS,
    ),
    "a fitted scale taken over as if it had no bound": (
        "priors/normals.py",
        "bound * torch.atanh((scale.log() / bound).clamp(-0.999, 0.999))",
        "scale.log() / bound",
        PRIORS,
    ),
    "a second stage in the wrong units": (
        "priors/second_stage.py",
        " - self.stage.spread.log().sum()",
        "",
        PRIORS,
    ),
    "a second stage's bound of a sum, not of a mean": (
        "priors/second_stage.py",
        "log_weights.logsumexp(0) - math.log(len(points))",
        "log_weights.logsumexp(0)",
        PRIORS,
    ),
    "uniform codes that are certain": (
        "priors/discrete.py",
        "torch.where(there, -sizes.to(self.zero).log(), -torch.inf)",
        "torch.where(there, 0 * sizes.to(self.zero), -torch.inf)",
        DISCRETE,
    ),
    "a Laplace of half its constant": (
        "distributions/reals.py",
        "/ self.scale - (2 * self.scale).log()",
        "/ self.scale - self.scale.log()",
        HEADS,
    ),
    "a Laplace draw of one side": (
        "distributions/reals.py",
        "reparameterize(self.loc, self.scale, one - other)",
        "reparameterize(self.loc, self.scale, one + other)",
        HEADS,
    ),
    "a learned scale that vanishes": (
        "likelihoods/normals.py",
        "SCALE_FLOOR + self.log_scale.exp()",
        "self.log_scale.exp()",
        HEADS,
    ),
    "bits that start certain": (
        "likelihoods/bits.py",
        "torch.logit(mean.clamp(1e-3, 1 - 1e-3))",
        "torch.logit(mean)",
        HEADS,
    ),
    "a one-hot code of all classes up to the own": (
        "likelihoods/categories.py",
        "codes = x.unsqueeze(2) == classes",
        "codes = x.unsqueeze(2) >= classes",
        HEADS,
    ),
    "a Poisson without its factorial": (
        "distributions/counts.py",
        "value * self.log_rate - self.rate - torch.lgamma(value + 1)",
        "value * self.log_rate - self.rate",
        COUNTS,
    ),
    "a negative binomial's zero with mean and dispersion exchanged": (
        "distributions/counts.py",
        "functional.logsigmoid(self.log_inverse_dispersion - self.log_rate)",
        "functional.logsigmoid(self.log_rate - self.log_inverse_dispersion)",
        COUNTS,
    ),
    "counts shown to the encoder as they are": ("likelihoods/counts.py", "return torch.log1p(x)", "return x", COUNTS),
    "a level of half its width": (
        "distributions/pixels.py",
        "torch.expm1(-2 * half / scale)",
        "torch.expm1(-half / scale)",
        PIXELS,
    ),
    "what is missing shown to the encoder as 0": (
        "likelihoods/composed.py",
        "return shown.masked_fill(~self.likelihood.seen(observed), math.nan)",
        "return shown",
        MISSING,
    ),
    "a metric that rewards what is unlike": (
        "distributions/perceptual.py",
        "return -self.cost(x, picture)",
        "return self.cost(x, picture)",
        PERCEPTUAL,
    ),
    "features averaged, not summed": (
        "distributions/perceptual.py",
        "0.5 * difference.square().flatten(1).sum(1)",
        "0.5 * difference.square().flatten(1).mean(1)",
        PERCEPTUAL,
    ),
    "features summed over the batch": (
        "distributions/perceptual.py",
        "0.5 * difference.square().flatten(1).sum(1)",
        "0.5 * difference.square().sum().expand(len(difference))",
        PERCEPTUAL,
    ),
    "features that learn": (
        "likelihoods/perceptual.py",
        "copy.deepcopy(network).requires_grad_(False).eval()",
        "copy.deepcopy(network).eval()",
        PERCEPTUAL,
    ),
    "features that are another network while training": (
        "likelihoods/perceptual.py",
        "        self.network.eval()\n        return self",
        "        return self",
        PERCEPTUAL,
    ),
    "features of the network that goes on learning elsewhere": (
        "likelihoods/perceptual.py",
        "copy.deepcopy(network).requires_grad_(False)",
        "network.requires_grad_(False)",
        PERCEPTUAL,
    ),
    "features with the weight of the pixels": (
        "likelihoods/perceptual.py",
        "event_dims=parameters.dim() - 2, weight=self.weight,",
        "event_dims=parameters.dim() - 2, weight=self.pixels,",
        PERCEPTUAL,
    ),
    "a given head that is forgotten": (
        "study/training.py",
        "head = copy.deepcopy(self.likelihood)",
        "return self.data.head",
        PERCEPTUAL,
    ),
    "a concentration that does not grow with the dimension": (
        "posteriors/spheres.py",
        "kappa = way.shape[-1] * torch.exp",
        "kappa = torch.exp",
        SPHERES,
    ),
    "a place on the ball that is not shortened": (
        "posteriors/hyperbolic.py",
        "longest * torch.tanh(largest * length / longest)",
        "largest * length",
        BALL,
    ),
    "a rectifier that lets every gradient pass": (
        "networks/derivatives.py",
        "return torch.ops.aten.threshold_backward.grad_input(gradient, kept, 0, grad_input=gradient)",
        "return gradient",
        "tests/test_fast_paths.py::test_a_rectifier_that_overwrites_gives_the_plain_ones_gradients_also_of_gradients",
    ),
    "a rectifier whose gradient has the wrong gradient": (
        "networks/derivatives.py",
        "return torch.where(kept > 0, gradient, 0.0)",
        "return torch.where(kept > 0, gradient.detach(), 0.0)",
        "tests/test_fast_paths.py::test_a_rectifier_that_overwrites_gives_the_plain_ones_gradients_also_of_gradients",
    ),
}
