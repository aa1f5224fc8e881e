"""Mistakes planted in the audit: name: (file, what stands there, the mistake, the test that must catch it)."""

LAWS, WALK, LIKE, FILL = (
    f"tests/audit/test_{name}.py::" for name in ("laws", "continuity", "completeness", "coverage")
)
KNOWS, PARTS, UNDER, NEAR = (
    f"tests/audit/test_{name}.py::" for name in ("informativeness", "surgery", "diagnostics", "neighbours")
)
BASE, CARD = "tests/audit/test_measure.py::", "tests/audit/test_card.py::"
EVERY = f"{LAWS}TestEveryLaw::"

MEASURE = {
    "a jackknife without its factor": ("(units - 1) / units", "1 / units", BASE + "test_the_jackknife"),
    "an interval of one standard error": ("full - Z95 * error", "full - error", BASE + "test_the_jackknife"),
    "an interval of half the replicates": ("[0.025, 0.975]", "[0.25, 0.75]", BASE + "test_the_interval"),
    "resamples that ignore the seed": ("[seed, n, 95]", "[n, 95]", BASE + "test_resamples"),
    "replicates that are not cut": ("again = float(np.clip(raw, 0, 1)), np.clip(replicates, 0, 1)",
                                    "again = float(np.clip(raw, 0, 1)), replicates", BASE + "test_a_share"),
}  # fmt: skip
NORMAL = {
    "half the angle": ("np.cos(TWO_PI * lag / points)", "np.cos(np.pi * lag / points)", EVERY + "test_the_correlation"),
    "moments with a variance for a scale": ("np.sqrt(np.square(scale).mean(0))", "np.square(scale).mean(0)",
                                            LAWS + "test_moments_is"),
    "few codes that are not shrunk": ("if 1 < n < 10 * d:", "if n < 0:", LAWS + "test_few_codes"),
    "axes without a sign": ("np.where(signs < 0, -1, 1)", "1", LAWS + "test_the_same_noise"),
    "axes of the covariance alone": ("(white * np.square(white).sum(1, keepdims=True)).T", "white.T",
                                     LAWS + "test_the_same_noise"),
    "narrow directions taken for none": ("initial=0), 0) * 1e-6", "initial=0), 0) * 1e-2",
                                         LAWS + "test_moments_follow"),
}  # fmt: skip
DECLARED = {
    "the correlation of codes redrawn": ("(1 - 1 / self.dimension) ** lag", "1 - lag / self.dimension",
                                         EVERY + "test_the_correlation"),
    "half the angle of two codes": ("angle = 2 * np.arctan2", "angle = np.arctan2", LAWS + "test_sphere_interpolation"),
}  # fmt: skip
FITTED = {
    "the correlation of mixup": ("(1 - 4 * way / 3)", "(1 - 2 * way / 3)", EVERY + "test_the_correlation"),
    "mixup as wide as the codes": (" * np.sqrt(2 / 3)", "", EVERY + "test_whitened_draws"),
    "components by the square of their weight": ("np.sqrt(w) * part.factor.T", "w * part.factor.T",
                                                 EVERY + "test_whitened_draws"),
    "components in equal number": ("rng.multinomial(n, self.weights)",
                                   "rng.multinomial(n, np.ones(len(self.weights)) / len(self.weights))",
                                   LAWS + "test_mixture_draws"),
}  # fmt: skip
CIRCLES = {
    "circles that are none": ("return np.cos(t) * a + np.sin(t) * b", "return np.cos(t) * a + np.sin(2 * t) * b",
                              EVERY + "test_the_correlation"),
    "weights of the tail that do not make up": ("(1 - 1 / SURPRISE)) / SURPRISE", "(1 - 1 / SURPRISE))",
                                                EVERY + "test_loops_and_tail"),
    "a surprise with half the freedom": (", 2 * u.shape[2]))", ", u.shape[2]))", LAWS + "test_far_circles"),
}  # fmt: skip
CONTINUITY = {
    "a change without its half": ("/ (2 * step.shape[1])", "/ step.shape[1]", WALK + "TestSmoothness::test_sines"),
    "every lag the first": ("np.roll(g, -lag, axis=1)", "np.roll(g, -1, axis=1)", WALK + "TestSmoothness::test_sines"),
    "loops paired with themselves": ("count**2 - np.square(w).sum(1)", "count**2",
                                     WALK + "TestSmoothness::test_the_variance_between"),
    "weights that are forgotten": ("weights = weights * found.weight", "weights = weights * 1.0",
                                   WALK + "TestSmoothness::test_the_variance_between"),
    "parts thrown together": ("rows = found.part == part", "rows = found.part == found.part",
                              WALK + "TestSmoothness::test_the_variance_between"),
    "C without its factor": ("scale = 1 - law.correlation(lag, points)", "scale = 1.0",
                             WALK + "TestSmoothness::test_a_linear"),
    "the mean of redraws for the median": ("float(np.median(far))", "float(np.mean(far))",
                                           WALK + "TestSmoothness::test_the_redraw"),
    "cliffs of a whole redraw": ("_cliff_free(steps > redraw / 2", "_cliff_free(steps > redraw",
                                 WALK + "TestSmoothness::test_a_step"),
    "the wrong half kept": ("np.where(first, left, middle), np.where(first, middle, right)",
                            "np.where(first, middle, left), np.where(first, right, middle)",
                            WALK + "TestCliffs::test_a_voronoi"),
    "a width before the halvings": (" / 2**HALVINGS", "", WALK + "TestCliffs::test_the_width"),
    "slopes kept as jumps": ("size >= KEPT * steps[loop, step]", "size >= 0", WALK + "TestCliffs::test_a_steep"),
    "no rule of three": ("return 1 - 0.05 **", "return 1 - 0.5 **", WALK + "TestCliffs::test_no_cliff"),
    "steps resampled for loops": ("1 - share[resamples(loops, seed=seed)].mean(1)",
                                  "1 - cliff.ravel()[resamples(cliff.size, seed=seed)].mean(1)",
                                  WALK + "TestCliffs::test_the_interval_knows"),
    "evenness without the number of steps": ("steps * np.square(s).sum(1)", "np.square(s).sum(1)",
                                             WALK + "TestEvenness::test_a_linear"),
}  # fmt: skip
COMPLETENESS = {
    "references that are their own neighbours": ("nearest_others(points, k)[0]", "nearest(points, points, k)[0]",
                                                 LIKE + "test_isolation_is"),
    "a rank that forgets the new item": ("np.ceil((m + 1) * (1 - alpha))", "np.ceil(m * (1 - alpha) - 1)",
                                         LIKE + "test_isolation_is"),
    "a rate that forgets the new item": ("(above + 1) / (m + 1)", "above / m", LIKE + "test_the_conformal"),
    "a gap with its false alarms": ("((scores > limit).mean() - rate) / (1 - rate)\n", "(scores > limit).mean()\n",
                                    LIKE + "test_t11_no_output_gap"),
    "calibration on the references": (".score(bare[1 - i].points)", ".score(bare[i].points)",
                                      LIKE + "test_isolation_is"),
    "ghosts that are items": ("return (phi[first] + phi[second]) / 2", "return phi[first]",
                              LIKE + "test_t9_an_autoencoder"),
    "the gap for its complement": ("share(1 - isolation._gap(raw)", "share(isolation._gap(raw)",
                                   LIKE + "test_t11_no_output_gap"),
    "the farther reference": ("closer = found[0][1] <= found[1][1]", "closer = found[0][1] > found[1][1]",
                              LIKE + "test_the_nearest_reconstruction"),
}  # fmt: skip
COVERAGE = {
    "TV with its sign flipped": ("more.mean() - less.mean()", "less.mean() - more.mean()", FILL + "test_shares"),
    "folds taken for independent": ("tv + FOLD_SPREAD * (", "tv + (", FILL + "test_shares"),
    "holes where codes are only rarer": ("empty, astray = reference > EDGE", "empty, astray = reference > 0.5",
                                         FILL + "test_shares"),
    "neighbours from the judged fold": ("points[fold == i], points[fold == j], from_law=label[fold == j] == 1",
                                        "points[fold == i], points[fold == i], from_law=label[fold == i] == 1",
                                        FILL + "test_t11_coverage_of_codes"),
    "kinds of unequal number": ("found * (1 - part) / (found * (1 - part) + (1 - found) * part)", "found",
                                FILL + "test_codes_fewer"),
    "codes that are not whitened": ("[law.whiten(reference), law.whiten(codes)]", "[reference, codes]",
                                    FILL + "test_t8_units"),
    "rows of the shuffled codes": ("rows[_sides(codes, draws[centre])]", "_sides(codes, draws[centre])",
                                   FILL + "test_t2_coverage_is"),
    "the interval of a share by the normal": (" + z2 / (4 * n * n))", ")", FILL + "test_wilson"),
    "the smallest hole first": ("np.argsort(-np.bincount(piece)", "np.argsort(np.bincount(piece)",
                                FILL + "test_two_holes"),
}  # fmt: skip
INFORMATIVENESS = {
    "ties to the item's favour": ("(sums[better + tied] - sums[better]) / tied", "np.log(better + 1)",
                                  KNOWS + "TestIdentification::test_constant"),
    "another chance": ("np.log(np.arange(1, size + 1)).mean()", "np.log(size)",
                       KNOWS + "TestIdentification::test_class"),
    "shared first places": ("(better == 0) / tied", "(better == 0) / 1", KNOWS + "TestIdentification::test_constant"),
    "no allowance for unseen misses": ("min(3 / n, 1.0)", "0.0", KNOWS + "TestIdentification::test_a_copy"),
    "one mean for all features": ("items.mean(0, dtype=np.float64)", "items.mean(dtype=np.float64)",
                                  KNOWS + "TestExplainedVariance::test_exact"),
    "the constant of trustworthiness": ("(2 * n - 3 * k - 1))\n    return", "(2 * n - 3 * k + 1))\n    return",
                                        KNOWS + "TestNeighbourPreservation::test_against"),
    "trust and recall exchanged": ("enumerate((ranks, ranks[::-1]))", "enumerate((ranks[::-1], ranks))",
                                   KNOWS + "TestNeighbourPreservation::test_against"),
}  # fmt: skip
SURGERY = {
    "a KL with its logarithm's sign flipped": ("- 1) - np.log(codes.scale)", "- 1) + np.log(codes.scale)",
                                               PARTS + "TestExactPosterior::test_each"),
    "an aggregate without its constant": ("- np.log(count) - 0.5 * z.shape[1] * LOG_TWO_PI", "- np.log(count)",
                                          PARTS + "TestLogAggregate"),
    "a mean over one too many": ("len(loc) - (leave_out is not None)", "len(loc)", PARTS + "TestLogAggregate"),
    "float32 for float64": ("np.square(scale.astype(np.float64))", "np.square(scale.astype(np.float32))",
                            PARTS + "TestLogAggregate::test_float64"),
    "the own component counted as another": ("np.logaddexp(out + np.log(n - 1), own)", "np.logaddexp(out, own)",
                                             PARTS + "TestMixtures"),
    "the ends of the bracket exchanged": ("(own.sum(1) - kept, own.sum(1) - out)",
                                          "(own.sum(1) - out, own.sum(1) - kept)",
                                          PARTS + "TestEdges::test_narrow"),
    "no limit at log n": ("min(information[0], float(np.log(n)))", "information[0] + 1.0",
                          PARTS + "TestEdges::test_narrow"),
}  # fmt: skip
DIAGNOSTICS = {
    "a scale for a variance": ("noise = np.square(codes.scale).mean(0)", "noise = codes.scale.mean(0)",
                               UNDER + "TestFeatures::test_exact"),
    "a Sobol index without its half": ("0.5 * np.square(base - probe", "np.square(base - probe",
                                       UNDER + "TestTotalSobol::test_interaction"),
    "an ICC that counts noise as signal": ("(between - within / draws)", "between", UNDER + "TestICC::test_exact"),
    "a variance of draws by their number": ("/ (draws - 1)\n", "/ draws\n", UNDER + "TestICC::test_exact"),
    "a covariance without the posteriors": (" + np.diag(square.mean(0))", "", UNDER + "TestMomentsCheck::test_known"),
    "a biased MMD": ("(within - n) / (n * (n - 1))", "within / (n * n)", UNDER + "TestMMD::test_against"),
    "a p of zero": ("(1 + (values[1:] >= values[0]).sum())", "((values[1:] >= values[0]).sum())",
                    UNDER + "TestMMD::test_two_normals"),
    "a squared distance for a distance": ("np.sqrt(total / count)", "total / count",
                                          UNDER + "TestSlicedW2::test_translated"),
    "the radius of one feature more": ("chi.ppf(probabilities, d)", "chi.ppf(probabilities, d + 1)",
                                       UNDER + "TestRadius::test_normal"),
    "a threshold that is no information": ("-np.expm1(-2 * RELIABLE_NATS)", "RELIABLE_NATS",
                                           UNDER + "TestFeatures::test_threshold"),
}  # fmt: skip
NEIGHBOURS = {
    "a product with its sign flipped": ("partial *= -2", "partial *= 2", NEAR + "test_equal_to_brute_force"),
    "rows accepted without proof": ("(near[:, -1] <= last + norms - slack) | (count == len(base))",
                                    "near[:, -1] >= 0", NEAR + "test_clusters_far"),
    "the first neighbour taken for oneself": ("drop[~drop.any(1), -1] = True",
                                              "drop[:] = np.arange(k + 1) == 0", NEAR + "test_a_point_is_not"),
}  # fmt: skip
PAIRED = {
    "a difference the wrong way round": ("Difference(name, a.value - b.value", "Difference(name, b.value - a.value",
                                         CARD + "test_paired_differences"),
    "decided without an interval": ("int(self.low > 0) - int(self.high < 0)",
                                    "int(self.value > 0) - int(self.value < 0)", BASE + "test_a_difference"),
    "cards of two laws compared": ("if first.reference != second.reference:", "if False:", CARD + "test_cards_that"),
}  # fmt: skip
VERDICT = {
    "the strongest measure decides": ("max(words, key=WORDS.index)", "min(words, key=WORDS.index)",
                                      CARD + "test_verdicts_are_words"),
    "lifted by two bands": ("(measure.value >= partial and measure.high >= good)", "measure.high >= good",
                            CARD + "test_a_band_is"),
    "a say without power": ('name != "data_like" or', 'name == "data_like" or', CARD + "test_a_measure_without"),
    "a collapse read from the interval": ("(identification.value or 0) <= COLLAPSED and", "",
                                          CARD + "test_a_collapse_is_not"),
}  # fmt: skip
ANCHORS = {
    "noise over all directions": (".sum() / left if left", ".sum() / flat.shape[1] if left",
                                  CARD + "test_ppca_has_the_noise"),
    "codes that are not shrunk": ("gain = strength * variance / noise", "gain = strength / noise",
                                  CARD + "test_ppca_is"),
    "decodes without the mean": ("return (mean + (z * strength)", "return ((z * strength)",
                                 CARD + "test_ppca_is"),
}  # fmt: skip
SCORECARD = {
    "a fitted law judged by its own codes": ("return codes.draws[1::2], codes.draws[::2]",
                                             "return codes.draws, codes.draws", CARD + "test_a_law_fitted"),
    "one stream for all stages": ("[seed, STAGES.index(stage), 20261]", "[seed, 20261]", CARD + "test_every_stage"),
    "holes beside the wrong items": ("nearest=judged_rows[hole.nearest]", "nearest=hole.nearest",
                                     CARD + "test_a_hole_of_a_fifth"),
    "labels of other items": ("np.asarray(labels)[rows]", "np.asarray(labels)[: len(rows)]", CARD + "test_a_card_is"),
    "an autoencoder against N(0, I)": ("fallback = moments(codes.loc, codes.scale) if codes.point else ", "fallback = ",
                                       CARD + "test_an_autoencoder_that"),
}  # fmt: skip

MISTAKES = {
    name: (f"audit/{file}.py", *mistake)
    for file, planted in {
        "measure": MEASURE, "laws/normal": NORMAL, "laws/declared": DECLARED, "laws/fitted": FITTED, "circles": CIRCLES,
        "continuity": CONTINUITY, "completeness": COMPLETENESS, "coverage": COVERAGE,
        "informativeness": INFORMATIVENESS, "surgery": SURGERY, "diagnostics": DIAGNOSTICS, "neighbours": NEIGHBOURS,
        "paired": PAIRED, "verdict": VERDICT, "anchors": ANCHORS, "card": SCORECARD,
    }.items()
    for name, mistake in planted.items()
}  # fmt: skip
