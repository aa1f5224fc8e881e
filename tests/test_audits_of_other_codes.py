"""Audits of models whose codes are not normal: on spheres, on the Poincare ball, of codebooks."""

import numpy as np
import pytest
import torch

import gapless
from gapless import adapters, priors, recipes, study
from gapless.audit import scorecard
from gapless.cli.commands import app
from gapless.errors import UsageError
from gapless.settings import Settings

REFERENCES = {
    "hyperspherical": "uniform on the sphere", "poincare": "PoincareNormal", "vq-vae": "moments", "fsq": "moments",
    "gumbel": "moments",
}  # fmt: skip


def row(count, features, *, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, features)).astype(np.float32))


@pytest.mark.parametrize("made", [lambda: priors.UniformOnSphere(3), lambda: priors.PoincareNormal(3, scale=0.7)])
def test_laws_draw_what_the_priors_draw(made):
    prior = made()()
    law, rng = adapters.law_of(prior, "name"), np.random.default_rng(0)
    ours, theirs = law.sample(20_000, rng), prior.sample((20_000,), generator=torch.Generator().manual_seed(0)).numpy()
    for moment in (lambda z: z, np.abs, np.square, lambda z: np.linalg.norm(z, axis=1, keepdims=True)):
        a, b = moment(ours), moment(theirs)
        error = np.sqrt((a.var(0) + b.var(0)) / 20_000)
        assert (np.abs(a.mean(0) - b.mean(0)) <= 4.5 * error + 1e-6).all()
    assert law.loops(5, 8, rng).shape == (5, 8, 3)


@pytest.mark.parametrize("name", ["hyperspherical", "poincare"])
def test_draws_that_are_audited_are_codes(name):
    """Noise added to the embedding would leave the sphere, and the ball."""
    model = recipes.build(name, (6,), latent=3, hidden=(8,))[0].eval()
    x = row(200, 6)
    draws = adapters.subject(model).draw(x, np.random.default_rng(0)).norm(dim=-1)
    if name == "hyperspherical":
        assert torch.allclose(draws, torch.ones(200), atol=1e-5)
    assert (draws < 1 + 1e-5).all()


def test_draws_of_a_full_normal_have_its_covariance():
    model = recipes.build("vae", (6,), latent=2, hidden=(8,))[0].eval()
    assert adapters.subject(model).draw is None
    model = recipes.build("full-covariance", (6,), latent=2, hidden=(8,))[0].eval()
    last = model.encoder.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, 0, 0, 0, 2.0]))
    found = adapters.subject(model, reference="moments").draw(row(20_000, 6), np.random.default_rng(0)).numpy()
    with torch.no_grad():
        factor = model.encode(row(1, 6)).factor[0].numpy()
    assert np.cov(found.T) == pytest.approx(factor @ factor.T, abs=0.15)


def test_what_has_no_law_says_so_and_is_judged_by_its_moments():
    model = recipes.build("gumbel", (6,), latent=6, hidden=(8,))[0].eval()
    with pytest.raises(UsageError, match=r"has no reference law(.|\n)*moments"):
        adapters.subject(model)
    assert adapters.subject(model, reference="moments").prior is None
    assert adapters.suited_reference(model, "gmm") == ("gmm", None)
    used, why = adapters.suited_reference(model, "declared")
    assert used == "moments"
    assert "no reference law: the audit is under the moments" in why


@pytest.mark.parametrize(
    "name",
    ["hyperspherical", "gumbel", *(pytest.param(n, marks=pytest.mark.slow) for n in ("poincare", "vq-vae", "fsq"))],
)
def test_an_audit_needs_no_reference_to_be_named(name, tmp_path, capsys):
    data = gapless.read(np.random.default_rng(0).integers(0, 2, (80, 1, 8, 8)).astype(np.uint8) * 255)
    network = "spatial" if name == "vq-vae" else "mlp"
    settings = Settings(latent=8, epochs=1, hidden=(16,), network=network, batch_size=40)
    np.save(tmp_path / "x.npy", data.train.values)
    study.train(gapless.read(tmp_path / "x.npy"), recipe=name, settings=settings, folder=tmp_path / "run")
    words = ["audit", str(tmp_path / "run"), str(tmp_path / "x.npy"), "--budget", "quick"]
    app(words, exit_on_error=False, result_action="return_value")
    told = capsys.readouterr()
    assert ("no reference law" in told.err) == (REFERENCES[name] == "moments")
    run = gapless.load_run(tmp_path / "run")
    used, _ = adapters.suited_reference(run.model, "declared")
    items = torch.from_numpy(data.scaling(data.train.take(range(60))))
    card = scorecard(adapters.subject(run.model, reference=used), items, reference=used, budget="quick")
    assert card.reference == REFERENCES[name]
