"""Planted mistakes: each is written into a copy of the source, and the named tests must fail on it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import planted_in_the_audit
import planted_in_the_evaluation
import planted_in_the_parts
import planted_in_the_regularizers

ROOT = Path(__file__).resolve().parents[1]
TRICK = "tests/test_distributions.py"
FAST = "tests/test_fast_paths.py"
MODEL = "tests/test_model_and_objectives.py"
PARTS = "tests/test_parts.py"
HEADS = "tests/test_likelihoods.py"
COUNTS = "tests/test_count_likelihoods.py"
PIXELS = "tests/test_pixel_likelihoods.py"
TRAIN = "tests/test_training.py"
REPLAY = "tests/test_replay.py"
RESUME = "tests/test_resume.py"
KEPT = "tests/faults/test_what_is_kept.py"
MISSING = "tests/test_missing_values.py"
MIXED = "tests/test_mixed_tables.py"
SPHERES = "tests/test_spheres.py"
DISCRETE = "tests/test_discrete_codes.py"
CODEBOOKS = "tests/test_quantized.py"
SPATIAL = "tests/test_spatial_networks.py"

# name: (file, what stands there, the mistake, the tests that must catch it)
MISTAKES = {
    "mistake 1: the surrogate of the IWAE reported as its loss": (
        "objectives/importance.py",
        "return Terms(-bound.mean(), ",
        "return Terms(-(self_normalised := bound.exp() * bound).mean(), ",
        "tests/test_importance.py::test_what_is_reported_elsewhere_is_not_the_bound",
    ),
    "mistake 2: weights normalised over m instead of k": (
        "objectives/importance.py",
        "grouped = log_weights.unflatten(0, (groups, -1))",
        "grouped = log_weights.unflatten(0, (-1, groups))",
        "tests/test_importance.py::test_groups_are_averaged_outside_the_logarithm_and_draws_inside",
    ),
    "mistake 3: the partial bound's encoder with the decoder's gradient as well": (
        "objectives/importance.py",
        "held = moving.at(moving.z.detach(), ",
        "held = moving.at(moving.z, ",
        "tests/test_importance.py::test_the_encoder_of_the_partial_bound_follows_its_own_bound_alone",
    ),
    "a bound without its log K": (
        "objectives/importance.py",
        "return (grouped.logsumexp(1) - math.log(grouped.shape[1])).mean(0)",
        "return grouped.logsumexp(1).mean(0)",
        "tests/test_importance.py::test_the_gap_to_log_p_falls_as_one_over_k",
    ),
    "the mean of the bounds of single draws for the bound of many": (
        "objectives/importance.py",
        "return (grouped.logsumexp(1) - math.log(grouped.shape[1])).mean(0)",
        "return grouped.mean(1).mean(0)",
        "tests/test_importance.py::test_bounds_of_independent_draws_rise_with_k_to_log_p",
    ),
    "the weights' KL shared among the items of a batch": (
        "objectives/weights.py",
        "share = weight_divergence(model) / self._planned",
        "share = weight_divergence(model) / len(x)",
        "tests/test_bayesian_weights.py::test_the_objective_on_mini_batches_sums_to_that_on_all_items",
    ),
    "the partial bound's encoder moved by the other bound through a prior made of posteriors": (
        "draws.py",
        'frozen(_LogPrior(self.model), "model.encoder", "model.posterior")(self.z)',
        "self.prior.log_prob(self.z)",
        "tests/test_importance.py::test_a_prior_made_of_posteriors",
    ),
    "a scale that turned images are averaged into": (
        "draws.py",
        "moves=moves, like=self.likelihood)",
        "moves=moves)",
        "tests/test_likelihoods.py::test_every_recipe_learns",
    ),
    "a scale that the same batch teaches twice": (
        "likelihoods/normals.py",
        "self._fitted(x - distribution.mean) if like is None else like.scale",
        "self._fitted(x - distribution.mean)",
        "tests/test_likelihoods.py::test_every_recipe_learns",
    ),
    "the landing not stuck": (
        "objectives/importance.py",
        '_CONSTANT_POSTERIOR = ("sticking-the-landing", "doubly-reparameterized")',
        '_CONSTANT_POSTERIOR = ("doubly-reparameterized",)',
        "tests/test_importance.py",
    ),
    "doubly reparameterized with single weights": (
        "objectives/importance.py",
        "weights.square()",
        "weights",
        "tests/test_importance.py",
    ),
    "the score function's value reported": (
        "objectives/importance.py",
        "return bound + score - score.detach()",
        "return bound + score",
        "tests/test_importance.py",
    ),
    "the weights' KL in every batch whole": (
        "objectives/weights.py",
        "weight_divergence(model) / self._planned",
        "weight_divergence(model)",
        "tests/test_bayesian_weights.py::test_the_objective_on_mini_batches_sums_to_that_on_all_items",
    ),
    "local draws with a shared noise": (
        "networks/bayesian.py",
        "variance = x.square() @ (2 * self.log_scale).exp().T",
        "variance = x.square() @ self.log_scale.exp().T",
        "tests/test_bayesian_weights.py",
    ),
    "flipout without signs": (
        "networks/bayesian.py",
        "return (2 * bits - 1).to(like)",
        "return (2 * bits - 1).square().to(like)",
        "tests/test_bayesian_weights.py",
    ),
    "a frozen part that moves": ("ownership.py", "value.detach() for", "value for", "tests/test_importance.py"),
    "the context of another item": (
        "model.py",
        "context = context.repeat(len(values) // len(context), 1)",
        "context = context.repeat_interleave(len(values) // len(context), 0)",
        "tests/test_importance.py",
    ),
    "the trick with a flipped sign": (
        "distributions/factorized.py",
        "loc + scale * eps.detach()",
        "loc - scale * eps.detach()",
        TRICK,
    ),
    "the trick with a missing detach": ("distributions/factorized.py", "scale * eps.detach()", "scale * eps", TRICK),
    "the trick with a variance for a scale": (
        "distributions/factorized.py",
        "loc + scale * eps.detach()",
        "loc + scale.square() * eps.detach()",
        TRICK,
    ),
    "the KL with a flipped sign of the logarithm": (
        "distributions/divergences.py",
        "- ratio.log()",
        "+ ratio.log()",
        TRICK,
    ),
    "the KL without its constant": ("distributions/divergences.py", ".square() - 1)", ".square())", TRICK),
    "the KL averaged over features": (
        "distributions/divergences.py",
        "return q._sum(per_feature)",
        "return per_feature.mean(-1)",
        TRICK,
    ),
    "the normal without its constant": (
        "distributions/normals.py",
        "+ self.scale.log() + _HALF_LOG_2PI",
        "+ self.scale.log()",
        TRICK,
    ),
    "the normal summed over the wrong axis": (
        "distributions/factorized.py",
        "values.flatten(values.dim() - self.event_dims).sum(-1)",
        "values.flatten(values.dim() - self.event_dims).sum(0)",
        TRICK,
    ),
    "the Bernoulli with a flipped logit": (
        "distributions/bits.py",
        "value * self.logits - functional.softplus(self.logits, ",
        "-value * self.logits - functional.softplus(self.logits, ",
        TRICK,
    ),
    "the fused Bernoulli with a flipped logit": (
        "distributions/bits.py",
        "logits, value, value=-1)",
        "logits, value, value=1)",
        TRICK,
    ),
    "the fused Bernoulli with another gradient": (
        "distributions/bits.py",
        "return (torch.sigmoid(logits) - value) * gradient, by_value",
        "return torch.sigmoid(logits) * gradient - value, by_value",
        FAST,
    ),
    "a perceptron's biases in the wrong place": (
        "networks/perceptrons.py",
        "torch.addmm(layer.bias[:, None], layer.weight, h)",
        "torch.addmm(layer.bias.sum(), layer.weight, h)",
        FAST,
    ),
    "rows of images read channel by channel": (
        "networks/convolutions.py",
        "self.weight.unflatten(1, (self.channels, -1)).mT.flatten(1), self.bias",
        "self.weight, self.bias",
        FAST,
    ),
    "a bias of a transposed convolution with a mean for a sum": (
        "networks/derivatives.py",
        "gradient.sum((0, 2, 3)) if by_bias",
        "gradient.mean((0, 2, 3)) if by_bias",
        FAST,
    ),
    "a played step that overwrites what is read later": (
        "training/tape.py",
        "if last[place] == number}",
        "if last[place] >= number}",
        "tests/test_replay.py",
    ),
    "draws from the global generator": (
        "randomness.py",
        "return draw(tuple(shape), generator=generator, ",
        "return draw(tuple(shape), ",
        TRICK,
    ),
    "mistake 12: the reconstruction averaged over features": (
        "draws.py",
        "likelihood.log_prob(repeated).unflatten",
        "(likelihood.log_prob(repeated) / x[0].numel()).unflatten",
        MODEL + "::test_the_effective_beta_is_the_weight_of_the_kl_in_nats",
    ),
    "the reconstruction with a flipped sign": (
        "draws.py",
        "return -(self.log_likelihood.squeeze(0)",
        "return (self.log_likelihood.squeeze(0)",
        MODEL,
    ),
    "weights exchanged": (
        "objectives/elbo.py",
        "((self.reconstruction, reconstruction), (self.regularization, regularization))",
        "((self.regularization, reconstruction), (self.reconstruction, regularization))",
        MODEL,
    ),
    "draws averaged over items": (
        "draws.py",
        ".unflatten(0, (samples, -1))",
        ".unflatten(0, (-1, samples)).T",
        MODEL,
    ),
    "a term of weight zero multiplied": (
        "objectives/elbo.py",
        " for weight, term in weighted if weight)",
        " for weight, term in weighted)",
        MODEL,
    ),
    "a scale that overflows": (
        "posteriors/normals.py",
        "return bound * torch.tanh(raw / bound)",
        "return raw",
        PARTS,
    ),
    "mistake 14: embeddings that change from call to call": (
        "model.py",
        "return self.encode(x).mean",
        "return self.encode(x).rsample()",
        MODEL + "::test_embeddings_are_the_mean_and_do_not_change_from_call_to_call",
    ),
    "an offset that is forgotten": (
        "model.py",
        "return likelihood(parameters + self.offset)",
        "return likelihood(parameters)",
        MODEL,
    ),
    "an optimal scale through which the gradient runs twice": (
        "likelihoods/normals.py",
        "return error.sqrt().clamp_min(SCALE_FLOOR)",
        "return 2 * error.sqrt().clamp_min(SCALE_FLOOR)",
        HEADS,
    ),
    "an optimal scale taken from what is evaluated": (
        "likelihoods/normals.py",
        "if not self.training:",
        "if False:",
        HEADS,
    ),
    "noise that does not depend on the step": (
        "training/course.py",
        'generator(self.settings.seed, "noise", self.step)',
        'generator(self.settings.seed, "noise", 0)',
        REPLAY,
    ),
    "played schedules that stand still": (
        "training/replay.py",
        "        number.fill(step)\n",
        "",
        REPLAY,
    ),
    "played noise that does not depend on the step": (
        "training/replay.py",
        'seed_of(self.seed, "noise", n) for n in',
        'seed_of(self.seed, "noise", step) for n in',
        REPLAY,
    ),
    "mistake 12: validation with another weight": (
        "training/evaluation.py",
        "terms = objective(bound, x,",
        "terms = type(objective)()(bound, x,",
        TRAIN + "::test_validation_is_the_trained_objective_on_the_held_out_items",
    ),
    "a check for finite values that never fires": (
        "training/course.py",
        "if math.isfinite(terms.loss.item()):",
        "if True:",
        TRAIN,
    ),
    "the last weights kept instead of the best": (
        "training/course.py",
        "            module.load_state_dict(_under(self.best, prefix))\n",
        "            pass\n",
        TRAIN,
    ),
    "moments forgotten by a checkpoint": (
        "training/course.py",
        "self.optimizer.load(self.shards.own(moments) if self.shards else moments)",
        "self.optimizer.state()",
        RESUME,
    ),
    "sums forgotten by a checkpoint": (
        "training/course.py",
        'tensors["sums"].clone()',
        'torch.zeros_like(tensors["sums"])',
        RESUME,
    ),
    "the best weights forgotten by a checkpoint": (
        "training/course.py",
        'self.best, self.sums = _under(tensors, "best."),',
        "self.best, self.sums = {},",
        RESUME,
    ),
    "a checkpoint that does not look at checksums": (
        "training/checkpoints.py",
        "            damaged = _damages(folder)\n            if not damaged:",
        "            damaged = []\n            if not damaged:",
        RESUME,
    ),
    "a run that is begun again in silence": (
        "training/checkpoints.py",
        "        if found:\n            what = ",
        "        if not found:\n            what = ",
        RESUME,
    ),
    "checkpoints that vanished and are not missed": (
        "training/checkpoints.py",
        "if named is not None or self.witness.exists():",
        "if False:",
        KEPT,
    ),
    "a damaged checkpoint kept in place of a whole one": (
        "training/checkpoints.py",
        "folder.name < current.name and not _damages(folder)",
        "folder.name < current.name",
        KEPT,
    ),
    "somebody else's folder removed": (
        "aside.py",
        "return token if token and token == _token(aside_of(folder) / _ASIDE) else None",
        "return token",
        f"{KEPT}::test_a_run_that_its_owner",
    ),
    "force that begins a killed run anew": (
        "workplaces.py",
        "return read_plan(self.folder / PLAN) == plan and not lost",
        "return False",
        KEPT,
    ),
    "a lock that nobody holds": (
        "files.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        RESUME,
    ),
    "a batch skipped on resume": (
        "training/loop.py",
        "course.settings.seed, course.batch\n",
        "course.settings.seed, course.batch + 1\n",
        RESUME,
    ),
    "reliability with a scale for a variance": (
        "training/evaluation.py",
        "self.scale.double().square().mean(0)",
        "self.scale.double().mean(0)",
        TRAIN,
    ),
    "mistake 11: a library size that is the item's own in training alone": (
        "likelihoods/counts.py",
        "if not self.library:\n            return distribution",
        "if not (self.library and self.training):\n            return distribution",
        COUNTS + "::test_an_item_is_scored_under_its_own_total_in_training_and_evaluation",
    ),
    "mistake 11: counts without the logarithm of their factorial": (
        "distributions/counts.py",
        "rising = _log_rising(value, log_r) - torch.lgamma(value + 1)",
        "rising = _log_rising(value, log_r)",
        COUNTS + "::test_the_negative_binomial_equals_scipy",
    ),
    "mistake 11: a continuous Bernoulli without its constant": (
        "distributions/pixels.py",
        "(value - 0.5) * self.logits - _log_sinhc(0.5 * self.logits)",
        "(value - 0.5) * self.logits",
        PIXELS + "::test_a_continuous_bernoulli_integrates_to_one_with_the_moments_of_quadrature",
    ),
    "mistake 15: a sigmoid under a normal": (
        "likelihoods/normals.py",
        "    loc = parameters.squeeze(1)\n",
        "    loc = torch.sigmoid(parameters.squeeze(1))\n",
        HEADS + "::test_the_mean_of_real_values_is_what_the_decoder_puts_out",
    ),
    "mistake 15: a sigmoid under a Laplace": (
        "likelihoods/reals.py",
        "    loc = parameters.squeeze(1)\n",
        "    loc = torch.sigmoid(parameters.squeeze(1))\n",
        HEADS + "::test_the_mean_of_real_values_is_what_the_decoder_puts_out",
    ),
    "mistake 16: values above the support accepted in silence": (
        "study/support.py",
        "outside = (smallest < low - 1e-6) | (largest > high + 1e-6)",
        "outside = smallest < low - 1e-6",
        HEADS + "::test_values_outside_the_support_are_refused_by_name",
    ),
    "mistake 16: whole numbers of 8 bits accepted in silence": (
        "model.py",
        "if not x.is_floating_point():",
        "if x.is_complex():",
        MODEL + "::test_wrong_input_is_refused_with_what_arrived",
    ),
    "mistake 16: fractions accepted as counts": (
        "study/support.py",
        "        if whole.any():\n            _refuse_fractions(data, items, name, head, whole, fix)",
        "",
        HEADS + "::test_a_broken_value_is_found_wherever_it_lies",
    ),
    "the continuous Bernoulli's series with a flipped sign": (
        "distributions/pixels.py",
        "_SERIES = (1 / 6, -1 / 180,",
        "_SERIES = (1 / 6, 1 / 180,",
        PIXELS,
    ),
    "a discretised logistic with a lost tail": (
        "distributions/pixels.py",
        "torch.where(value < half, below,",
        "torch.where(value < -half, below,",
        PIXELS,
    ),
    "a mixture of logistics with weights that do not sum to 1": (
        "distributions/pixels.py",
        "logits.log_softmax(self.axis), loc, scale, levels",
        "logits, loc, scale, levels",
        PIXELS,
    ),
    "a library size that is forgotten by the dispersion's scale": (
        "likelihoods/counts.py",
        "factor = (total / self._expected(distribution, x)).log()",
        "factor = total.log()",
        COUNTS,
    ),
    "further zeros that leave the other counts as likely": (
        "distributions/counts.py",
        "kept + self.counts.log_prob_per_feature(value))",
        "self.counts.log_prob_per_feature(value))",
        COUNTS,
    ),
    "negative binomial draws with a dispersion for its inverse": (
        "distributions/counts.py",
        "((self.log_rate.exp() / r), r)",
        "((self.log_rate.exp() * r), 1 / r)",
        HEADS,
    ),
    "Stirling's series with a flipped sign": (
        "distributions/counts.py",
        "_stirling(x + large) - _stirling(large)",
        "_stirling(x + large) + _stirling(large)",
        COUNTS,
    ),
    "luminance compared at every scale": (
        "distributions/perceptual.py",
        "luminance * contrast if last else contrast",
        "luminance * contrast",
        PIXELS,
    ),
    "categories softmaxed over the features": (
        "distributions/categories.py",
        "logits.log_softmax(self.axis)",
        "logits.log_softmax(-1)",
        HEADS,
    ),
    **planted_in_the_regularizers.MISTAKES,
    "unknown classes without the entropy of the classifier": (
        "objectives/semi_supervised.py",
        "torch.where(known, 0.0, (log_q.exp() * log_q).sum(1))",
        "torch.where(known, 0.0, 0.0)",
        "tests/test_semi_supervised.py::test_with",
    ),
    "the prior of the classes forgotten": (
        "objectives/semi_supervised.py",
        "chosen = math.log(model.context) + ",
        "chosen = 0.0 + ",
        "tests/test_semi_supervised.py::test_with",
    ),
    "known classes weighed by the classifier": (
        "objectives/semi_supervised.py",
        "share = torch.where(known[:, None], classes.whole, log_q.exp())",
        "share = log_q.exp()",
        "tests/test_semi_supervised.py::test_the_loss",
    ),
    "unknown classes that are a class": (
        "conditions.py",
        "return name.strip().lower() in UNKNOWN",
        "return name in UNKNOWN",
        "tests/test_semi_supervised.py::test_classes",
    ),
    "mistake 9: leapfrog steps that use the old momentum": (
        "objectives/hamiltonian.py",
        "        momentum = momentum - 0.5 * step * force\n        z = z + step * momentum\n",
        "        z, momentum = z + step * momentum, momentum - 0.5 * step * force\n",
        "tests/test_hamiltonian.py::test_the_energy_error_falls_with_the_square_of_the_step",
    ),
    "mistake 9: tempering overwritten": (
        "objectives/hamiltonian.py",
        "momentum = ratio * (momentum - 0.5 * step * force)",
        "momentum = momentum - 0.5 * step * force",
        "tests/test_hamiltonian.py::test_the_volume_is_kept_but_for_the_tempering",
    ),
    "the momentum left out of a Hamiltonian bound": (
        "objectives/hamiltonian.py",
        "before = posterior.log_prob(start) + resting.log_prob(unit)",
        "before = posterior.log_prob(start)",
        "tests/test_hamiltonian.py",
    ),
    "the momentum scored after it is warmed": (
        "objectives/hamiltonian.py",
        "_Slope(model, x), step=self.step, ratios=ratios)",
        "_Slope(model, x), step=self.step, ratios=ratios / ratios)",
        "tests/test_hamiltonian.py",
    ),
    "a flow without second derivatives": (
        "objectives/hamiltonian.py",
        "create_graph=learning",
        "create_graph=False",
        "tests/test_hamiltonian.py",
    ),
    "what is missing scored as certain": (
        "distributions/composed.py",
        "masked_fill(missing, 0.0)",
        "masked_fill(missing, 1.0)",
        MISSING,
    ),
    "a gradient through what is missing": (
        "distributions/composed.py",
        "torch.where(missing, self.likelihood.mode.detach(), value)",
        "value",
        MISSING,
    ),
    "columns left in the order of their groups": (
        "distributions/composed.py",
        "index_select(-1, self.places)",
        "index_select(-1, self._order)",
        MIXED,
    ),
    "imputation weighted over the items": (
        "imputation.py",
        "log_weights.softmax(0)",
        "log_weights.softmax(1)",
        MISSING,
    ),
    "a vMF density without the area of the sphere": (
        "distributions/spheres.py",
        "self._known(self._bessel.log_mean, self._bessel.ratio) - self._log_area",
        "self._known(self._bessel.log_mean, self._bessel.ratio)",
        SPHERES,
    ),
    "a Bessel order off by one half": (
        "distributions/bessel.py",
        "order = dimension / 2 - 1",
        "order = (dimension - 1) / 2",
        SPHERES,
    ),
    "a vMF draw whose concentration gets no gradient": (
        "distributions/spheres.py",
        "return fall + slope * (kappa - kappa.detach())",
        "return fall",
        SPHERES,
    ),
    "an implicit gradient with a flipped sign": (
        "distributions/spheres.py",
        "return width * side * scale",
        "return -width * side * scale",
        SPHERES,
    ),
    "proposals of a vMF that are all accepted": (
        "distributions/spheres.py",
        "        found[left[taken]] = u[taken]",
        "        taken = torch.ones_like(taken)\n        found[left[taken]] = u[taken]",
        SPHERES,
    ),
    "a reflection that leaves the sphere's pole uncovered": (
        "distributions/spheres.py",
        "share = 2 * (normal",
        "share = 1 * (normal",
        SPHERES,
    ),
    "an embedding inside the ball": (
        "distributions/spheres.py",
        "    @property\n    def mean_in_space(self) -> Tensor:",
        "    @property\n    def mean(self) -> Tensor:\n        return self.mean_in_space\n\n"
        "    @property\n    def mean_in_space(self) -> Tensor:",
        SPHERES,
    ),
    "a relaxed density without its constant": (
        "distributions/discrete.py",
        "self.variables * (math.lgamma(classes) + (classes - 1) * math.log(t))",
        "self.variables * math.lgamma(classes)",
        DISCRETE,
    ),
    "a softmax over variables": (
        "distributions/discrete.py",
        "functional.log_softmax(logits, dim=-2)",
        "functional.log_softmax(logits, dim=-1)",
        DISCRETE,
    ),
    "a categorical KL with its sign flipped": (
        "distributions/discrete.py",
        "(q.log_shares - p.log_shares.mT)",
        "(p.log_shares.mT - q.log_shares)",
        DISCRETE,
    ),
    "a relaxed posterior in evaluation": (
        "posteriors/discrete.py",
        "        if self.training:\n",
        "        if True:\n",
        DISCRETE,
    ),
    "one capacity for the sum of the parts": (
        "objectives/control.py",
        "- share * kl.new_tensor(self.capacity)).abs().sum()",
        "- share * kl.new_tensor(self.capacity)).sum().abs()",
        DISCRETE,
    ),
    "a product that forgets a part": (
        "distributions/products.py",
        "return divergence_of_parts(q, p).sum(0)",
        "return divergence_of_parts(q, p)[0]",
        DISCRETE,
    ),
    "mistake 8: losses of a codebook summed over the batch": (
        "regularizers/codebooks.py",
        ".square().sum((0, -1)).mean()",
        ".square().sum((0, -1)).sum()",
        CODEBOOKS + "::test_the_losses_do_not_grow_with_the_batch",
    ),
    "losses of a codebook averaged over features": (
        "regularizers/codebooks.py",
        ".square().sum((0, -1)).mean()",
        ".square().sum(0).mean()",
        CODEBOOKS,
    ),
    "a commitment that holds the wrong side": (
        "regularizers/codebooks.py",
        "if encoding_held else",
        "if not encoding_held else",
        CODEBOOKS,
    ),
    "a straight-through gradient that reaches the codebook": (
        "distributions/quantized.py",
        "self.code = stages[-1].detach() + ",
        "self.code = stages[-1] + ",
        CODEBOOKS,
    ),
    "the farthest code": ("posteriors/quantized.py", ").argmin(-1)", ").argmax(-1)", CODEBOOKS),
    "vectors before channels": (
        "posteriors/quantized.py",
        "return features.unflatten(-1, (width, -1)).mT",
        "return features.unflatten(-1, (-1, width))",
        CODEBOOKS,
    ),
    "a residual that forgets what stood before": (
        "posteriors/quantized.py",
        "nearest(vectors - before, book)",
        "nearest(vectors, book)",
        CODEBOOKS,
    ),
    "an even number of levels without its half": (
        "posteriors/quantized.py",
        "offset = 0.5 * (self.level % 2 == 0).to(z)",
        "offset = 0.0 * (self.level % 2 == 0).to(z)",
        CODEBOOKS,
    ),
    "levels that cannot be reached": (
        "posteriors/quantized.py",
        "(1 + MARGIN) / 2",
        "(1 - 0.5) / 2",
        CODEBOOKS,
    ),
    "attention without its scale": (
        "networks/spatial.py",
        "scaled_dot_product_attention(q, k, v)",
        "scaled_dot_product_attention(q, k, v, scale=1.0)",
        SPATIAL,
    ),
    "places before features": (
        "networks/spatial.py",
        "return self.layers(x.reshape(-1, *self._small)).reshape(-1, *self.outputs)",
        "return self.layers(x.reshape(-1, *self._small[1:], self._small[0]).movedim(-1, 1)).reshape(-1, *self.outputs)",
        SPATIAL,
    ),
    "a wrapped normal without the volume of the ball": (
        "distributions/hyperbolic.py",
        " + latent * self._stretch(value).log()",
        "",
        "tests/test_hyperbolic.py",
    ),
    "a wrapped normal bent in one direction too many": (
        "distributions/hyperbolic.py",
        "(latent - 1) * bent",
        "latent * bent",
        "tests/test_hyperbolic.py",
    ),
    "a wrapped normal bent the other way": (
        "distributions/hyperbolic.py",
        "+ (latent - 1) * bent",
        "- (latent - 1) * bent",
        "tests/test_hyperbolic.py",
    ),
    "the covariates of another item": (
        "conditions.py",
        "torch.from_numpy(beside[rows])",
        "torch.from_numpy(beside[::-1][rows].copy())",
        "tests/test_covariates.py::test_classes",
    ),
    "covariates standardised by what is held out, too": (
        "data/covariates.py",
        "mean, spread = covariates[train].mean(axis=0)",
        "mean, spread = covariates.mean(axis=0)",
        "tests/test_covariates.py::test_classes",
    ),
    "pseudo-inputs whose covariates are chances": (
        "priors/vamp.py",
        "torch.clamp(self.contexts, self.least, self.most)",
        "torch.clamp(self.contexts, 0, 1)",
        "tests/test_covariates.py::test_pseudo_inputs",
    ),
    "a scale a feature that is shared": (
        "data/choice.py",
        'return {"shape": list(facts.raw.values.shape[1:])}',
        "return {}",
        "tests/test_likelihoods.py::test_a_scale_a_feature",
    ),
    "a stated KL that a multiplier pulls the wrong way": (
        "objectives/geco.py",
        "if self.kl is None else (reconstruction, kl)",
        "if self.kl is None else (kl, reconstruction)",
        "tests/test_kl_control.py::test_geco_at",
    ),
    "a target of a quarter of the variance": (
        "objectives/geco.py",
        "math.sqrt(0.5) * (x - mean)",
        "0.5 * (x - mean)",
        "tests/test_kl_control.py::test_gecos_own",
    ),
    "a wrapped normal of half its lengths": (
        "distributions/hyperbolic.py",
        "return (0.5 * radius).tanh()",
        "return radius.tanh()",
        "tests/test_hyperbolic.py",
    ),
    "a sum on the ball in the wrong order": (
        "distributions/hyperbolic.py",
        "_inside(mobius_sum(self.loc, moved, self.curvature), self.curvature)",
        "_inside(mobius_sum(moved, self.loc, self.curvature), self.curvature)",
        "tests/test_hyperbolic.py",
    ),
    **{f"audit: {name}": mistake for name, mistake in planted_in_the_audit.MISTAKES.items()},
    **planted_in_the_evaluation.MISTAKES,
    **planted_in_the_parts.MISTAKES,
}


def chosen(tests):
    """Arguments of pytest: a file, a class in it, or either and how the name of the test begins."""
    place, _, name = tests.rpartition("::")
    return [place, "-m", "not slow", "-k", name] if name.startswith("test_") else [tests]


def test_every_mistake_has_its_place():
    """Fast: a mistake whose line has moved would plant nothing."""
    sources = ROOT / "src" / "gapless"
    moved = [name for name, (file, text, _, _) in MISTAKES.items() if text not in (sources / file).read_text("utf-8")]
    assert not moved


IN_USE_ELSEWHERE = range(1, 17)
"""Mistakes of methods.md, by their number there."""


def test_every_mistake_in_use_elsewhere_is_planted_and_names_the_test_that_catches_it():
    """Fast: `mistake 3: ...` points at `file::test_name`, and that test exists."""
    numbered = {name: tests for name, (*_, tests) in MISTAKES.items() if name.startswith("mistake ")}
    assert {int(name.split()[1].rstrip(":")) for name in numbered} == set(IN_USE_ELSEWHERE)
    for name, tests in numbered.items():
        file, _, test = tests.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), name


def test_a_mistake_is_planted_in_every_module_of_the_audit():
    files = {file for file, *_ in planted_in_the_audit.MISTAKES.values()}
    folder = ROOT / "src" / "gapless"
    parts = {path for path in (folder / "audit").rglob("*.py") if path.name not in ("__init__.py", "subject.py")}
    assert files == {path.relative_to(folder).as_posix() for path in parts}
    assert len(planted_in_the_audit.MISTAKES) >= 40


@pytest.fixture(scope="module")
def again():
    """Runs chosen tests on a folder of sources: (folder, arguments, file for the output) -> exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(ROOT / "tests" / "forked_pytest.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runner = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)

    def run(source, arguments, output):
        runner.stdin.write(json.dumps([str(source), arguments, str(output)]) + "\n")
        runner.stdin.flush()
        return int(runner.stdout.readline())

    yield run
    runner.stdin.close()
    runner.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_caught(tmp_path, name, again):
    file, stands, mistake, tests = MISTAKES[name]
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "src" / "gapless" / file
    source = path.read_text("utf-8")
    assert source.count(stands) == 1, f"{file} no longer holds the line this mistake is planted in, once"
    path.write_text(source.replace(stands, mistake), "utf-8")
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen(tests)]
    code = again(tmp_path / "src", arguments, tmp_path / "output.txt")
    # 1: tests ran and failed; 2 would be a source that cannot even be loaded.
    assert code == 1, f"not caught: {(tmp_path / 'output.txt').read_text('utf-8')[-2000:]}"
