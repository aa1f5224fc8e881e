"""Mistakes planted in the regularizers and their recipes: (file, what stands there, the mistake, the tests)."""

DECOMPOSITION = "tests/test_decomposition.py"
MATCHING = "tests/test_matching.py"
DECODERS = "tests/test_decoder_penalties.py"
CRITICS = "tests/test_critics.py"

MISTAKES = {
    "mistake 4: stratified weights with a wrong stride": (
        "regularizers/decomposition.py",
        "    return weights.fill_diagonal_(1 / items).log()",
        "    weights.view(-1)[::batch] = 1 / items\n    return weights.log()",
        DECOMPOSITION + "::test_over_all_batches_the_stratified_density_is_exact",
    ),
    "weighted weights without the data size": (
        "regularizers/decomposition.py",
        "-math.log(items * batch)",
        "-math.log(batch)",
        DECOMPOSITION,
    ),
    "the aggregate summed over draws instead of posteriors": (
        "regularizers/decomposition.py",
        "pairs.sum(-1)).logsumexp(-1)",
        "pairs.sum(-1)).logsumexp(-2)",
        DECOMPOSITION,
    ),
    "the parts of the KL weighed beside a KL that has them": (
        "recipes/disentangling.py",
        "(weight - 1 for weight in",
        "(weight for weight in",
        DECOMPOSITION,
    ),
    "mistake 13: a covariance centred over the wrong axis": (
        "regularizers/moments.py",
        "rows - rows.mean(0)",
        "rows - rows.mean(1, keepdim=True)",
        DECOMPOSITION + "::test_the_covariance_is_numpys",
    ),
    "the covariance of the aggregate without the posteriors' own": (
        "regularizers/moments.py",
        'if self.of == "aggregate":',
        "if False:",
        DECOMPOSITION,
    ),
    "mistake 5: an InfoVAE whose MMD has another weight": (
        "recipes/matching.py",
        "MMD(alpha + lam - 1,",
        "MMD(lam,",
        MATCHING + "::test_the_weights_of_an_infovae_are_those_of_the_paper_and_never_negative",
    ),
    "mistake 5: an InfoVAE that rewards the MMD": (
        "regularizers/regularizer.py",
        "if not 0 <= weight < math.inf:",
        "if not weight < math.inf:",
        MATCHING + "::test_the_weights_of_an_infovae_are_those_of_the_paper_and_never_negative",
    ),
    "codes held against the prior's mean kernel once": (
        "regularizers/kernels.py",
        "within - 2 * to_prior.mean(-1)",
        "within - to_prior.mean(-1)",
        MATCHING + "::test_mmd_of_codes_and_a_normal_itself",
    ),
    "codes in the units of the model, not of the prior": (
        "regularizers/kernels.py",
        "z = (draws.z - draws.prior.mean.detach()) / draws.prior.stddev.detach()",
        "z = draws.z - draws.prior.mean.detach()",
        MATCHING + "::test_mmd_of_codes_and_a_normal_itself",
    ),
    "an MMD that grows with the batch": (
        "regularizers/kernels.py",
        "2 / (self.unit * (self.unit - 1))",
        "2 / (n * (n - 1))",
        MATCHING + "::test_the_mean_of_the_mmd_and_a_normal_does_not_depend_on_the_batch",
    ),
    "an MMD in standard deviations of independent kernels": (
        "regularizers/kernels.py",
        "(squared - 2 * squared_mean + mean_of_prior**2)",
        "(squared - mean_of_prior**2)",
        MATCHING + "::test_mmd_of_codes_and_a_normal_itself",
    ),
    "an MMD with its diagonal": (
        "regularizers/kernels.py",
        "similarity.sum((1, 2)) - similarity.diagonal(dim1=1, dim2=2).sum(-1)",
        "similarity.sum((1, 2))",
        MATCHING,
    ),
    "an MMD with one cross term": (
        "regularizers/kernels.py",
        "within - 2 * self",
        "within - self",
        MATCHING,
    ),
    "a sliced distance without order": (
        "regularizers/kernels.py",
        "(codes @ directions.T).sort(dim=1).values",
        "codes @ directions.T",
        MATCHING,
    ),
    "projections of any length": (
        "regularizers/kernels.py",
        "directions / directions.norm(dim=1, keepdim=True)",
        "directions",
        MATCHING,
    ),
    "a Jacobian whose codes are constants": (
        "regularizers/decoders.py",
        "create_graph=learning)",
        "create_graph=False)",
        DECODERS,
    ),
    "a code that turns the other way": (
        "regularizers/equivariance.py",
        "_turned(draws.z.unflatten(-1, self.grid), turns)",
        "_turned(draws.z.unflatten(-1, self.grid), -turns)",
        DECODERS,
    ),
    "mistake 6: the critic moved by the model's loss": (
        "regularizers/critics.py",
        "self.judged(shown, frozen)",
        "self.judged(shown)",
        CRITICS + "::test_one_backward_pass_moves_each_player_by_its_own_loss_alone",
    ),
    "mistake 6: the critic's loss reaching the encoder": (
        "regularizers/critics.py",
        "self.judged(shown.detach())",
        "self.judged(shown)",
        CRITICS + "::test_one_backward_pass_moves_each_player_by_its_own_loss_alone",
    ),
    "mistake 6: the critic of images whose features are the model's to move": (
        "regularizers/critics.py",
        "held(self.critic)(held(self.features)(shown))",
        "held(self.critic)(self.features(shown))",
        CRITICS + "::test_one_backward_pass_moves_each_player_by_its_own_loss_alone",
    ),
    "mistake 6: the encoder charged with the verdict on images": (
        "regularizers/critics.py",
        "codes = draws.z[0].detach()",
        "codes = draws.z[0]",
        CRITICS + "::test_the_encoder_never_sees_the_verdict_on_images_and_feels_the_likeness",
    ),
    "mistake 7: the model's charge with a flipped sign": (
        "regularizers/critics.py",
        "return functional.softplus(-verdicts).mean()",
        "return functional.softplus(verdicts).mean()",
        CRITICS + "::test_the_slope_that_a_right_critic_gives_the_decoder",
    ),
    "mistake 7: the patch critic's charge with a flipped sign": (
        "regularizers/critics.py",
        "return -verdicts.mean()",
        "return verdicts.mean() + 0",
        CRITICS + "::test_the_patch_critics_losses_are_the_hinge_and_the_mean_verdict",
    ),
    "features shuffled together": (
        "regularizers/critics.py",
        "generator=generator).argsort(0)",
        "generator=generator)[:, :1].argsort(0).expand_as(codes)",
        CRITICS,
    ),
    "a likeness that is not halved": (
        "regularizers/critics.py",
        "0.5 * (features(draws.x) - features(made))",
        "(features(draws.x) - features(made))",
        CRITICS,
    ),
}
