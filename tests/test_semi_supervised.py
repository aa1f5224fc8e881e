"""M2: bounds on log p(x, y) and log p(x), a classifier between them, and data in which most classes are unknown."""

import copy
import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import gapless.evaluation
from gapless import conditions, likelihoods, networks, posteriors, priors, recipes, study
from gapless.data import Feed, Items, Scaling
from gapless.errors import DataError, UsageError
from gapless.model import Model
from gapless.objectives import ELBO, DynamicBinarization, SemiSupervised
from gapless.randomness import generator
from gapless.settings import Settings
from oracles import LinearGaussian

MOVED = torch.tensor([[1.0, -0.5, 0.3, 0.0, 0.8, -0.2], [-0.4, 0.6, 0.0, 0.9, -0.3, 0.1]], dtype=torch.float64)
DRAWS = 4000


class TwoClasses:
    """x = W z + m + m_y + s e, y = 0 or 1 with chance 1/2: p(x | y) is a normal, and log p(y | x) is affine in x."""

    def __init__(self):
        self.linear = LinearGaussian.make()
        self.of_class = [
            LinearGaussian(self.linear.weight, self.linear.mean + moved, self.linear.scale) for moved in MOVED
        ]

    def model(self):
        """Its VAE: encoder and decoder are affine in the class, the posterior is exact."""
        plain, (data, latent) = self.linear.model(), self.linear.weight.shape
        model = Model(
            encoder=networks.MLP((data + 2,), (2 * latent,), hidden=()),
            posterior=posteriors.DiagonalNormal(),
            prior=priors.StandardNormal(latent),
            decoder=networks.MLP((latent + 2,), (1, data), hidden=()),
            likelihood=likelihoods.Normal(self.linear.scale),
            context=2,
        ).double()
        with torch.no_grad():
            encode, decode = (network.layers[-1] for network in (plain.encoder, plain.decoder))
            model.encoder.layers[-1].weight.copy_(torch.cat([encode.weight, -encode.weight @ MOVED.T], 1))
            model.encoder.layers[-1].bias.copy_(encode.bias)
            model.decoder.layers[-1].weight.copy_(torch.cat([decode.weight, MOVED.T], 1))
            model.decoder.layers[-1].bias.copy_(decode.bias)
            model.offset.copy_(plain.offset)
        return model

    def classifier(self):
        """q(y|x) = p(y|x)."""
        network, precision = networks.MLP((6,), (2,), hidden=()).double(), self.linear.covariance().inverse()
        means = torch.stack([one.mean for one in self.of_class])
        with torch.no_grad():
            network.layers[-1].weight.copy_(means @ precision)
            network.layers[-1].bias.copy_(-0.5 * (means @ precision * means).sum(1))
        return network

    def log_joint(self, x):
        """log p(x, y) of both classes in nats, shape (batch, 2)."""
        return torch.stack([one.log_prob(x) for one in self.of_class], 1) - math.log(2)


@pytest.fixture(scope="module")
def two():
    return TwoClasses()


def rows(kinds):
    """The context of items of class 0, 1 or None, unknown."""
    return torch.tensor([[float(kind == 0), float(kind == 1)] for kind in kinds], dtype=torch.float64)


def bounds(two, classifier, x, context):
    """Bounds of many draws of each item: shape (DRAWS, items)."""
    objective, model = SemiSupervised(classifier), two.model().given(context.repeat(DRAWS, 1))
    with torch.no_grad():
        return objective(model, x.repeat(DRAWS, 1), generator=generator(0, "noise", 0)).elbo.unflatten(0, (DRAWS, -1))


@pytest.mark.parametrize("kind", [0, 1, None], ids=["class 0", "class 1", "unknown"])
def test_with_exact_posteriors_the_bound_is_the_evidence(two, ledger, kind):
    x = two.of_class[0].sample(8) + torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    joint = two.log_joint(x)
    truth = joint.logsumexp(1) if kind is None else joint[:, kind]
    found = bounds(two, two.classifier(), x, rows([kind] * 8))
    error = found.std(0) / DRAWS**0.5
    worst = ((found.mean(0) - truth) / error).abs().argmax()
    name = "log p(x), class unknown" if kind is None else f"log p(x, y = {kind})"
    ledger(
        "SemiSupervised", f"bound with exact posteriors: {name}", oracle="two-class linear-Gaussian model",
        truth=truth[worst], measured=found.mean(0)[worst], tolerance=4.5 * error[worst],
        why="4.5 standard errors of 4,000 draws, the worst of 8 items",
    )  # fmt: skip


def test_with_another_classifier_the_bound_is_below_by_its_divergence(two, ledger):
    """log p(x) - bound = KL(q(y|x) || p(y|x)), as q(z|x, y) is exact."""
    torch.manual_seed(3)
    other, x = networks.MLP((6,), (2,), hidden=()).double(), two.of_class[1].sample(8)
    joint, log_q = two.log_joint(x), other(x).log_softmax(1)
    gap = (log_q.exp() * (log_q - joint.log_softmax(1))).sum(1)
    found = bounds(two, other, x, rows([None] * 8))
    measured, error = (joint.logsumexp(1) - found.mean(0)).mean(), found.mean(1).std() / DRAWS**0.5
    ledger(
        "SemiSupervised", "log p(x) - bound, wrong classifier", oracle="KL(q(y|x) || p(y|x))", truth=gap.mean(),
        measured=measured, tolerance=4 * error, why="4 standard errors of 4,000 draws",
    )  # fmt: skip
    assert gap.mean() > 20 * error


def composed(model, classifier, x, context, *, alpha, beta, noise):
    """The loss and both terms of eqs. 6, 7 and 9, item by item in plain words, from the ELBOs of each class."""
    each = [ELBO()(model.given(rows([y] * len(x))), x, generator=noise) for y in range(2)]
    log_q = classifier(model.shown(x)).log_softmax(1)
    total, terms = 0.0, []
    for i, row in enumerate(context):
        if row.sum():
            y = int(row.argmax())
            item = each[y].reconstruction[i], each[y].regularization[i] + math.log(2)
            total = total - alpha * log_q[i, y]
        else:
            q = log_q[i].exp()
            item = (
                sum(q[y] * each[y].reconstruction[i] for y in range(2)),
                sum(q[y] * (each[y].regularization[i] + math.log(2) + log_q[i, y]) for y in range(2)),
            )
        total = total + item[0] + beta * item[1]
        terms.append(torch.stack(item))
    return total / len(x), *torch.stack(terms, 1)


def gradients(loss, *modules):
    return torch.autograd.grad(loss, [p for module in modules for p in module.parameters()])


def test_the_loss_and_its_gradients_are_those_of_the_equations(two):
    torch.manual_seed(2)
    model, classifier, x = two.model(), networks.MLP((6,), (2,), hidden=(5,)).double(), two.linear.sample(6)
    model.center(torch.full((6,), 0.2, dtype=torch.float64), 1.7)  # the classifier is shown what the encoder is
    context = rows([0, None, 1, None, None, 1])
    objective = SemiSupervised(classifier, alpha=3.0, regularization=0.5)
    terms = objective(model.given(context), x, generator=generator(0, "noise", 1))
    loss, reconstruction, regularization = composed(
        model, classifier, x, context, alpha=3.0, beta=0.5, noise=generator(0, "noise", 1)
    )
    assert torch.allclose(terms.reconstruction, reconstruction, rtol=1e-12)
    assert torch.allclose(terms.regularization, regularization, rtol=1e-12)
    assert torch.allclose(terms.loss, loss, rtol=1e-12)
    for mine, theirs in zip(*(gradients(v, model, classifier) for v in (terms.loss, loss)), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)
    assert torch.allclose(objective.classify(model, x), classifier(model.shown(x)).softmax(1))


def test_where_all_classes_are_known_only_the_cross_entropy_moves_the_classifier(two):
    x, context = two.linear.sample(5), rows([0, 1, 1, 0, 1])
    classifier = networks.MLP((6,), (2,), hidden=()).double()
    for alpha in (0.0, 2.0):
        objective = SemiSupervised(classifier, alpha=alpha)
        terms = objective(two.model().given(context), x, generator=generator(0, "noise", 0))
        alone = -alpha * (context * classifier(x).log_softmax(1)).sum(1).mean()
        for mine, theirs in zip(*(gradients(v, classifier) for v in (terms.loss, alone)), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-12)
        plain = ELBO()(two.model().given(context), x, generator=generator(0, "noise", 0))
        assert torch.allclose(terms.elbo, plain.elbo - math.log(2))


def test_one_row_of_context_serves_all_items(two):
    x, objective = two.linear.sample(5), SemiSupervised(two.classifier())
    for kind in (1, None):
        one, many = (
            objective(two.model().given(rows([kind] * n)), x, generator=generator(0, "noise", 0)) for n in (1, 5)
        )
        assert torch.equal(one.elbo, many.elbo)


def test_what_cannot_be_right_is_refused(two):
    x, objective = two.linear.sample(3), SemiSupervised(networks.MLP((6,), (2,)).double())
    with pytest.raises(UsageError, match="context of 2 numbers"):
        objective(two.model(), x)
    with pytest.raises(UsageError, match="3 classes apart; the model is given 2"):
        SemiSupervised(networks.MLP((6,), (3,)).double())(two.model().given(rows([0])), x)
    with pytest.raises(UsageError, match="the model is given 0"):
        objective(two.linear.model(), x)
    with pytest.raises(UsageError, match="weights of at least 0"):
        SemiSupervised(networks.MLP((6,), (2,)), alpha=-1.0)
    with pytest.raises(UsageError, match="number of classes"):
        recipes.build("m2", (6,))
    model, objective = recipes.build("m2", (6,), likelihood="NormalWithOptimalScale", context=2)
    with pytest.raises(UsageError, match="NormalWithLearnedScale"):
        objective(model.given(torch.zeros(3, 2)), torch.rand(3, 6))
    assert not likelihoods.NormalWithLearnedScale().fitted_to_batch
    fitted = likelihoods.NormalWithOptimalScale()
    assert likelihoods.Masked(likelihoods.Mixed((likelihoods.Normal(), fitted))).fitted_to_batch


def table(folder, *, unknown=("?", "Unknown", "unlabelled"), items=240):
    """Three classes that differ in their means; two of three items have no class."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, items)
    values = np.eye(3)[codes] * 3 + rng.normal(size=(items, 3)) * 0.5
    names = [f"c{code}" if i % 3 == 0 else unknown[i % len(unknown)] for i, code in enumerate(codes)]
    lines = ["x,y,z,class", *(f"{','.join(map(str, row))},{name}" for row, name in zip(values, names, strict=True))]
    (folder / "table.csv").write_text("\n".join(lines))
    return gapless.read(folder / "table.csv", label="class", likelihood="NormalWithLearnedScale"), codes


def test_classes_named_unknown_are_no_classes(tmp_path):
    data, codes = table(tmp_path)
    known = conditions.known_classes(data)
    assert known.label_names == ("c0", "c1", "c2")
    assert conditions.known_classes(known) is known
    for part in (known.train, known.held_out):
        where = part.index % 3 == 0
        assert (part.labels[where] == codes[part.index[where]]).all()
        assert (part.labels[~where] == -1).all()
    numbers, codes = table(tmp_path, unknown=("-1",))
    assert "-1" in numbers.label_names
    assert conditions.known_classes(numbers).label_names == ("c0", "c1", "c2")


def test_other_items_have_the_codes_of_the_names_a_model_knows(tmp_path):
    data, _ = table(tmp_path)
    items = conditions.known_classes(data).train
    again = conditions.aligned(items, ("c0", "c1", "c2"), ("c2", "c0"))
    assert (again.labels == np.array([1, -1, 0, -1])[items.labels]).all()


def test_a_run_with_unknown_classes_is_trained_saved_and_used(tmp_path):
    data, codes = table(tmp_path)
    settings = Settings(latent=1, epochs=40, hidden=(16,), batch_size=40, learning_rate=1e-2, network="mlp")
    run = study.train(data, recipe="m2", settings=settings, folder=tmp_path / "run")
    assert run.data.label_names == ("c0", "c1", "c2")
    again = gapless.load_run(tmp_path / "run")
    x = Feed(data.held_out, data.scaling).batch(torch.arange(len(data.held_out)))
    found = again.objective.classify(again.model, x)
    assert torch.allclose(found, run.objective.classify(run.model, x))
    # Three clouds of spread 0.5, 3 sqrt(2) apart: the best classifier errs on 1e-5 of the items.
    assert (found.argmax(1).numpy() == codes[data.held_out.index]).mean() > 0.95
    drawn = conditions.given_label(again.model, again.data.label_names, "c2").sample(
        500, generator=generator(0, "sample")
    )
    assert data.scaling.inverse(drawn.detach().numpy()).mean(0).argmax() == 2

    def gapless_(*words):
        command = [sys.executable, "-m", "gapless", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    with pytest.raises(UsageError, match="c0, c1, c2"):
        conditions.given_label(again.model, again.data.label_names, "?")
    done = gapless_("encode", "run", "-o", "codes.csv")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "codes.csv").read_text().splitlines()
    column = lines[0].split(",").index("label")
    assert [line.split(",")[column] for line in lines[1:4]] == [f"c{codes[0]}", "", ""]


def spelled(folder, name, unknown, items=240):
    """The same table in a file or folder of its own, with another spelling of what is unknown."""
    (folder / name).mkdir()
    return table(folder / name, unknown=(unknown,), items=items)[0]


SMALL = Settings(latent=1, epochs=2, hidden=(8,), batch_size=40, network="mlp")


def test_an_empty_cell_is_an_unknown_class(tmp_path):
    """The same run, to the bit, as with the word; new tables may have empty cells, other words, or no such column."""
    empty, word = (spelled(tmp_path, name, text) for name, text in (("empty", ""), ("word", "unknown")))
    assert "160 of 240 rows is empty" in " ".join(empty.inspection.notes)
    runs = [study.train(data, recipe="m2", settings=SMALL) for data in (empty, word)]
    assert runs[0].data.label_names == ("c0", "c1", "c2")
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    runs[0].save(tmp_path / "run")
    lines = (tmp_path / "empty" / "table.csv").read_text().splitlines()
    (tmp_path / "bare.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    card = gapless.load_run(tmp_path / "run").data
    new = [card.read_items(tmp_path / name) for name in ("bare.csv", "empty/table.csv")]
    codes = [conditions.labelled(runs[0], *items).labels for items in new]
    assert (codes[0] == -1).all()
    assert (codes[1][1::3] == -1).all()
    assert (codes[1][::3] >= 0).all()
    summary = gapless.evaluation.evaluate(runs[0], samples=20)
    again = gapless.evaluation.evaluate(runs[1], samples=20)
    assert summary.bounds.elbo == again.bounds.elbo
    assert summary.loss == again.loss


@pytest.mark.parametrize(("recipe", "condition"), [("vae", False), ("vae", True), ("conditional-vae", False)])
def test_other_recipes_say_what_to_do_with_empty_cells(tmp_path, recipe, condition):
    data = spelled(tmp_path, "empty", "")
    with pytest.raises(DataError, match=r"160 of 240 is empty(.|\n)*--drop(.|\n)*--recipe m2"):
        study.train(data, recipe=recipe, settings=dataclasses.replace(SMALL, condition=condition))


def test_minus_one_is_a_class_like_any_other_where_classes_must_be_known():
    x = np.random.default_rng(0).normal(size=(60, 3))
    data = gapless.read((x, np.where(x[:, 0] > 0, 1, -1)))
    run = study.train(data, settings=dataclasses.replace(SMALL, condition=True))
    assert run.model.context == 2
    assert run.data.label_names == ("-1", "1")


def test_what_the_codes_of_unknown_classes_carry_is_measured_under_the_most_probable_class(two):
    model, objective = two.model(), SemiSupervised(two.classifier())
    x = two.linear.sample(40)
    items = Items(x.numpy(), np.array([0, -1] * 20), np.arange(40))
    feed = Feed(items, Scaling((0.0,), (1.0,), "none"))
    feed.batch = lambda rows: x[rows]  # float64, as the model
    found = conditions.classified(model, objective, feed)
    best = two.log_joint(x).argmax(1).numpy()
    assert (found.items.labels == np.where(items.labels < 0, best, 0)).all()
    assert (items.labels[1::2] == -1).all()
    assert conditions.classified(model, ELBO(), feed) is feed
    assert conditions.classified(model, objective, found) is found
    assert (conditions.classified(model, DynamicBinarization(objective), feed).items.labels >= 0).all()


def test_classes_that_a_model_has_never_met_are_refused(tmp_path):
    data, _ = table(tmp_path)
    run = study.train(data, recipe="m2", settings=SMALL)
    items = conditions.known_classes(data).train
    with pytest.raises(DataError, match=r"classes c0, c1, c2; here is one called 'c9'(.|\n)*fix: (.|\n)*empty cell"):
        conditions.labelled(run, items, ("c0", "c1", "c9"))
    assert (conditions.labelled(run, items, ("c2", "c1", "c0")).labels == np.array([2, 1, 0, -1])[items.labels]).all()


def test_training_that_was_cut_ends_in_the_same_bits(tmp_path):
    data, _ = table(tmp_path)
    settings = Settings(latent=1, epochs=3, hidden=(8,), batch_size=50, network="mlp")

    class Stop(gapless.training.Callback):
        def on_step(self, step, terms):
            if step == 5:
                raise KeyboardInterrupt

    whole = study.train(data, recipe="m2", settings=settings, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        study.train(
            data, recipe="m2", settings=settings, folder=tmp_path / "cut", callbacks=(Stop(),), checkpoint_every=0
        )
    cut = study.train(data, recipe="m2", settings=settings, folder=tmp_path / "cut")
    for name in ("model", "objective"):
        states = [getattr(run, name).state_dict() for run in (whole, cut)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def few_labels(data, share=0.1):
    """The same items; all but a share of the training items' classes are forgotten."""
    labels = data.train.labels.copy()
    labels[np.random.default_rng(0).random(len(labels)) >= share] = -1
    train = copy.copy(data.train)
    object.__setattr__(train, "labels", labels)
    changed = copy.copy(data)
    object.__setattr__(changed, "train", train)
    return changed


@pytest.mark.slow
def test_a_tenth_of_the_labels_of_digits_teaches_the_classes(ledger):
    data = gapless.read("digits")
    settings = Settings(latent=8, epochs=15, hidden=(128,), learning_rate=3e-3, option=("alpha=10",))
    run = study.train(few_labels(data), recipe="m2", settings=settings)
    x = Feed(data.held_out, data.scaling).batch(torch.arange(len(data.held_out)))
    right = (run.objective.classify(run.model, x).argmax(1).numpy() == data.held_out.labels).mean()
    ledger(
        "SemiSupervised", "held-out accuracy on digits, 10 % of the labels", oracle="all right", truth=1,
        measured=right, tolerance=0.15, why="stated: at least 85 %; chance is 10 %",
    )  # fmt: skip
