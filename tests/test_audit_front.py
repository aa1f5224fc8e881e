"""The audit at its front doors: study, report, command line, and while training."""

import json
import math

import numpy as np
import pytest

import gapless
from gapless import study
from gapless.adapters import all_items, audited_items, subject
from gapless.audit import Scorecard
from gapless.settings import Settings
from gapless.study import training
from gapless.training import Watch
from test_cli import gapless as command


@pytest.fixture(scope="module")
def audited(digits_study):
    comparison, folder = digits_study
    comparison.audit = study.audit_runs(comparison.data, comparison.runs, budget="quick")
    yield comparison, folder
    comparison.audit = None


def test_a_study_audits_the_three_and_two_anchors_on_the_same_items(audited):
    comparison, _ = audited
    cards = comparison.audit.cards
    assert list(cards) == ["ae", "kl-only", "vae", "ppca", "collapsed"]
    assert all(isinstance(card, Scorecard) for card in cards.values())
    assert len({tuple(card.evidence["rows"]) for card in cards.values()}) == 1
    assert "training items among them: only 180 are held out" in comparison.audit.said


def test_the_audit_tells_the_story_of_the_three(audited):
    comparison, _ = audited
    cards = comparison.audit.cards
    ae, kl_only, vae = (cards[name] for name in ("ae", "kl-only", "vae"))
    assert kl_only.verdict == "regular but empty (posterior collapse)"
    assert kl_only.identification.low <= 0 <= kl_only.identification.high
    assert "gappy" in ae.verdict
    found = comparison.audit.differences()
    decided = {pair: {d["measure"]: d["decided"] for d in rows} for pair, rows in found.items()}
    assert decided["vae - ae"]["coverage"] == 1
    assert decided["vae - kl-only"]["identification"] == 1
    assert decided["vae - ae"]["identification"] == -1
    assert decided["kl-only - ae"]["data_like"] == 1
    assert ae.coverage.value < vae.coverage.value < kl_only.coverage.value
    assert cards["ppca"].smoothness.value == pytest.approx(1, abs=0.02)
    assert ae.smoothness.value < vae.smoothness.value


def test_the_report_shows_the_audit(audited):
    comparison, _ = audited
    html = gapless.report.render_report(comparison)
    for words in ("data-like draws", "Worst first", "Where the gaps are", "stretches and jumps", "posterior collapse",
                  "GMM-10", "sensitivity", "paired on the same draws"):  # fmt: skip
        assert words in html
    assert "<script" not in html
    assert html.count("<img") == html.count('alt="')
    told = json.dumps(comparison.to_dict(), allow_nan=False)
    assert json.loads(told)["audit"]["cards"]["vae"]["data_like"]["value"] is not None


def test_a_model_is_a_subject_in_its_own_units(digits_study):
    comparison, _ = digits_study
    items, labels, said = audited_items(comparison.data)
    assert len(items) == len(labels) == 1797
    assert np.array_equal(labels[:180], comparison.data.held_out.labels)
    for name, scaled in (("ae", False), ("vae", True)):
        one = subject(comparison.model(name))
        loc, scale = one.encode(items[:7])
        assert loc.shape == (7, 2)
        assert (scale is not None) == scaled == (one.prior is not None)
        assert one.decode(np.zeros((3, 2))).shape == (3, 1, 8, 8)
    assert len(all_items(comparison.data)[0]) == 1797
    assert said


# The command line.


def test_audit_prints_a_card_and_fails_below_a_bar(digits_study, tmp_path):
    _, folder = digits_study
    done = command("audit", folder / "kl-only", "--budget", "quick", "--json", "--html", "a.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["verdict"] == "regular but empty (posterior collapse)"
    assert card["reference"] == "N(0, I)"
    assert card["identification"]["value"] < 0.05
    assert "Audit of" in (tmp_path / "a.html").read_text("utf-8")
    bars = ["--fail-on", "identification<0.5", "--fail-on", "data-like<0.1"]
    done = command("audit", folder / "kl-only", "--budget", "quick", *bars, cwd=tmp_path)
    assert done.returncode == 4
    assert "identification is 0.0" in done.stderr
    assert "data_like is" not in done.stderr
    assert "posterior collapse" in done.stdout


def test_audit_refuses_what_it_does_not_know(digits_study, tmp_path):
    _, folder = digits_study
    for words, code, match in (
        (["--fail-on", "beauty<1"], 2, "NAME is one of smoothness"),
        (["--fail-on", "data_like"], 2, "takes NAME<NUMBER"),
        (["--reference", "uniform"], 2, "use declared, moments, gmm, mixup\n"),
        (["--budget", "lavish"], 2, "no budget 'lavish'"),
        (["--seed", "-1"], 2, "--seed takes 0 or more"),
    ):
        done = command("audit", folder / "vae", *words, cwd=tmp_path)
        assert (done.returncode, match in done.stderr) == (code, True), done.stderr
    np.save(tmp_path / "few.npy", np.random.default_rng(0).random((40, 8, 8)).astype(np.float32))
    done = command("audit", folder / "vae", "few.npy", cwd=tmp_path)
    assert done.returncode == 3
    assert "at least 50 items; got 40" in done.stderr


# While training.


def test_a_collapse_is_announced_when_it_happens(tmp_path):
    data = gapless.read("digits")
    said = []

    class Told(Watch):
        def __post_init__(self):
            super().__post_init__()
            self.say = said.append

    original, training.Watch = training.Watch, Told
    try:
        settings = Settings(latent=2, epochs=8, hidden=(64,), batch_size=32)
        study.train(data, recipe="kl-only", settings=settings, watch=True, folder=tmp_path / "run")
        assert len(said) == 1
        assert "posterior collapse: none of 2 latent features is live" in said[0]
        assert "what to do" in said[0]
        study.train(data, recipe="vae", settings=settings, watch=True, folder=tmp_path / "vae")
        assert len(said) == 1
    finally:
        training.Watch = original
    lines = [json.loads(line) for line in (tmp_path / "run" / "watch.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["live"] == 0
    last = json.loads((tmp_path / "vae" / "watch.jsonl").read_text().splitlines()[-1])
    assert last["live"] == 2
    assert all(math.isfinite(value) for value in last["kl_per_feature"])
    assert 0 <= last["data_like"] <= 1


def test_watching_changes_no_weight(tmp_path):
    data = gapless.read("digits")
    settings = Settings(latent=2, epochs=3, hidden=(32,))
    plain = study.train(data, settings=settings)
    watched = study.train(data, settings=settings, watch=True, folder=tmp_path / "run")
    assert all((a == b).all() for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True))
