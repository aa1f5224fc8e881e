"""Tables whose columns are of several kinds: the likelihood of each column, text as categories, names written back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import gapless
from gapless import distributions, likelihoods, parts, recipes, study
from gapless.cli import use
from gapless.cli.output import write_raw
from gapless.data import Scaling, read, read_items, write_shards
from gapless.data.inspection import survey
from gapless.data.kinds import column_heads
from gapless.data.raw import Raw
from gapless.data_card import DataCard
from gapless.errors import DataError, UsageError
from gapless.imputation import impute
from gapless.settings import Settings
from gapless.study import check_support

needs_categories = pytest.mark.skipif(not hasattr(likelihoods, "Categorical"), reason="Categorical is not there yet")


class OneHot(likelihoods.Likelihood):
    """Three classes, shown as a one-hot code; enough of a categorical to see what a mixed likelihood makes of it."""

    support, whole = (0.0, 2.0), True

    def parameter_shape(self, event_shape):
        return (3, *event_shape)

    def view(self, x):
        return torch.nn.functional.one_hot(x.long(), 3).movedim(-1, 1).to(x.dtype)

    def view_shape(self, event_shape):
        return (3, *event_shape)

    def forward(self, parameters):
        return distributions.DiagonalNormal(parameters[:, 1], parameters.new_ones(()), event_dims=1)

    def offset(self, mean):
        return torch.stack([0 * mean, mean, 0 * mean])


def mixed():
    kinds = likelihoods.Normal, likelihoods.Bernoulli
    return likelihoods.Mixed((kinds[0](0.7), kinds[1](), kinds[0](0.2), kinds[1](), kinds[0](0.7)))


# The likelihood.


def test_the_density_is_the_product_of_the_columns(ledger):
    head = mixed()
    parameters = torch.randn(4, 5, dtype=torch.float64)
    x = torch.randn(4, 5, dtype=torch.float64)
    x[:, [1, 3]] = (x[:, [1, 3]] > 0).double()
    p = head(parameters)
    # Groups in the order they are met: columns 0 and 4, then 1 and 3, then 2.
    loc = parameters[:, [0, 1, 4]].numpy()
    chance = torch.sigmoid(parameters[:, [2, 3]]).numpy()
    values = x.numpy()
    columns = [
        stats.norm.logpdf(values[:, 0], loc[:, 0], 0.7),
        stats.bernoulli.logpmf(values[:, 1], chance[:, 0]),
        stats.norm.logpdf(values[:, 2], loc[:, 2], 0.2),
        stats.bernoulli.logpmf(values[:, 3], chance[:, 1]),
        stats.norm.logpdf(values[:, 4], loc[:, 1], 0.7),
    ]
    ledger(
        "Mixed", "log-density of each column, worst of 20", oracle="scipy.stats", truth=0,
        measured=np.abs(p.log_prob_per_feature(x).numpy() - np.stack(columns, 1)).max(), tolerance=1e-12, why="float64",
    )  # fmt: skip
    ledger(
        "Mixed", "log-density, worst of 4 items", oracle="scipy.stats", truth=0,
        measured=np.abs(p.log_prob(x).numpy() - sum(columns)).max(), tolerance=1e-12, why="float64",
    )  # fmt: skip
    assert np.allclose(p.mean[:, [0, 4, 2]], loc)
    assert np.allclose(p.mean[:, [1, 3]], chance)
    assert np.allclose(p.stddev[:, [0, 2, 4]], [0.7, 0.2, 0.7])
    assert torch.equal(p.mode[:, [1, 3]], (parameters[:, [2, 3]] > 0).double())
    draws = p.sample((500,), generator=torch.Generator().manual_seed(1))
    assert set(draws[..., [1, 3]].unique().tolist()) == {0.0, 1.0}
    assert (p.log_prob(draws).shape, p.log_prob_per_feature(draws).shape) == ((500, 4), (500, 4, 5))
    assert torch.allclose(p.log_prob_per_feature(draws).sum(-1), p.log_prob(draws))


def test_equal_columns_are_evaluated_together_and_learned_ones_apart():
    kinds = likelihoods.Normal, likelihoods.NormalWithLearnedScale, likelihoods.Bernoulli
    assert len(likelihoods.Mixed([kinds[0]() for _ in range(100)]).groups.groups) == 1
    head = likelihoods.Mixed((kinds[0](), kinds[1](), kinds[2](), kinds[1](), kinds[0]()))
    assert head.groups.groups == [[0, 4], [1], [2], [3]]
    head.columns[3].log_scale.data.fill_(1.0)
    spread = head(torch.zeros(1, 5)).stddev[0]
    assert spread[1] < 1.1
    assert spread[3] > 2.6


def test_what_an_offset_gives_has_the_mean_it_was_asked_for():
    mean = torch.tensor([3.0, 0.2, -1.0, 0.9, 7.0])
    assert torch.allclose(mixed()(mixed().offset(mean)[None]).mean[0], mean)


def test_each_column_is_calibrated_by_its_own_values():
    head = likelihoods.Mixed([likelihoods.NormalWithOptimalScale() for _ in range(3)]).train()
    x = torch.randn(200, 3) * torch.tensor([0.1, 1.0, 10.0])
    p = head.calibrate(head(torch.zeros(200, 3)), x)
    assert torch.allclose(p.stddev[0], x.square().mean(0).sqrt(), rtol=1e-5)


def test_the_encoder_is_shown_what_each_column_shows():
    head = likelihoods.Mixed((likelihoods.Normal(), OneHot(), likelihoods.Normal(), OneHot()))
    x = torch.tensor([[0.5, 2.0, -1.0, 0.0]])
    assert head.view_shape((4,)) == (8,)
    # Columns 0 and 2; then the classes of columns 1 and 3, class by class.
    assert head.view(x).tolist() == [[0.5, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]]
    masked = likelihoods.Masked(head)
    x[0, 1] = torch.nan
    shown = masked.view(x)[0]
    assert shown.isnan().tolist() == [False, False, True, False, True, False, True, False]
    assert shown[[0, 1, 3, 5, 7]].tolist() == [0.5, -1.0, 1.0, 0.0, 0.0]
    assert head.parameter_shape((4,)) == (8,)


def test_supports_are_those_of_the_columns():
    low, high, whole = likelihoods.Mixed((OneHot(), likelihoods.Bernoulli(), likelihoods.Normal())).supports((3,))
    assert low.tolist() == [0, 0, -np.inf]
    assert high.tolist() == [2, 1, np.inf]
    assert whole.tolist() == [True, False, False]


def test_a_model_of_mixed_and_missing_columns_survives_json():
    head = parts.describe(likelihoods.Masked(mixed()))
    model, _ = recipes.build("vae", (5,), latent=2, likelihood=head, hidden=(8,))
    again = gapless.Model.from_description(json.loads(json.dumps(model.describe())))
    again.load_state_dict(model.state_dict())
    x = torch.rand(3, 5)
    x[0, 2] = torch.nan
    assert torch.equal(model.embed(x), again.embed(x))
    assert again.describe() == model.describe()


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(UsageError, match="at least one column"):
        likelihoods.Mixed(())
    with pytest.raises(UsageError, match="for 5 columns"):
        mixed().parameter_shape((4,))
    with pytest.raises(UsageError, match="table"):
        read(np.zeros((9, 5, 5)), likelihood="Mixed")
    with pytest.raises(UsageError, match="no scaling onto"):
        read(np.random.default_rng(0).normal(size=(9, 5)), likelihood="Mixed", scaling="unit")


def test_values_outside_a_columns_support_are_refused_by_its_name():
    data = read(np.random.default_rng(0).normal(size=(40, 3)), scaling="none")
    head = {"columns": [{"kind": "Normal"}, {"kind": "Bernoulli"}, {"kind": "Normal"}]}
    data = replace(data, likelihood="Mixed", arguments=head)
    with pytest.raises(UsageError, match=r"a Bernoulli likelihood explains values in \[0, 1\].*column 'x1'"):
        check_support(data)
    check_support(replace(data, arguments={"columns": [{"kind": "Normal"}] * 3}))


# Which likelihood a column gets.


def heads_of(*columns, categories=()):
    values = np.stack(columns, axis=1)
    ranges = survey(values, np.arange(len(values)))
    raw = Raw(values, "table", columns=tuple(map(str, range(values.shape[1]))), categories=categories)
    heads = column_heads(raw, ranges, ranges, (values.mean(0), values.var(0)))
    return [head["kind"] + str(head.get("classes", "")) for head in heads]


def test_the_rules_of_columns():
    rng = np.random.default_rng(0)
    counts = rng.negative_binomial(1, 0.05, 500).astype(float)
    few = rng.integers(0, 5, 500).astype(float)
    bits = (few > 2).astype(float)
    assert heads_of(few, categories=(("a", "b", "c", "d", "e"),)) == ["Categorical5"]
    assert heads_of(few, bits, counts) == ["Categorical5", "Bernoulli", "NegativeBinomial"]
    assert heads_of(counts + 0.5, counts - 1, counts + 30) == ["NormalWithLearnedScale"] * 3
    assert heads_of(np.arange(500.0) % 21, 0 * few + 7) == ["NormalWithLearnedScale", "Normal"]


def test_only_normal_columns_are_scaled():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(5, 3, 300), rng.integers(0, 2, 300), rng.integers(0, 4, 300)], axis=1)
    data = read(values, likelihood="Mixed")
    assert [head["kind"] for head in data.head["columns"]] == ["NormalWithLearnedScale", "Bernoulli", "Categorical"]
    assert data.scaling.shift[1:] == (0.0, 0.0)
    assert data.scaling.scale[1:] == (1.0, 1.0)
    scaled = data.scaling(data.train.take(range(270)))[:, 0]
    assert abs(scaled.mean()) < 1e-5
    assert scaled.std() == pytest.approx(1, abs=1e-5)
    assert "likelihood Mixed: 1 NormalWithLearnedScale, 1 Bernoulli, 1 Categorical" in data.inspection.notes


@pytest.mark.parametrize("name", ["Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial", "Categorical"])
def test_whole_numbers_are_not_scaled(name):
    counts = np.random.default_rng(0).poisson(3, (50, 4))
    data = read(counts, likelihood=name)
    assert data.scaling == Scaling()
    with pytest.raises(UsageError, match="whole numbers") as caught:
        read(counts, likelihood=name, scaling="standard")
    assert "--scaling none" in caught.value.fix
    assert data.head.get("classes") == (counts.max() + 1 if name == "Categorical" else None)


def test_counts_are_told_what_explains_them():
    counts = np.random.default_rng(0).negative_binomial(1, 0.02, (50, 4)) * np.random.default_rng(1).integers(
        0, 2, (50, 4)
    )
    assert any("--likelihood NegativeBinomial" in note for note in read(counts).inspection.notes)
    assert not any("look like counts" in note for note in read(counts, likelihood="Poisson").inspection.notes)
    with pytest.raises(UsageError, match="below 256"):
        read(counts * 1000, likelihood="Categorical")


# Text.

CITIES, ROWS = ("Busan", "Daegu", "Seoul"), 60


def text_table(folder, name="t.csv", *, cities=CITIES, gap=False, rows=ROWS):
    rng = np.random.default_rng(0)
    ages, sexes = rng.normal(50, 10, rows).round(1), rng.integers(0, 2, rows)
    where = rng.integers(0, len(cities), rows)
    lines = [f"{a},{'fm'[s]},{cities[c]}" for a, s, c in zip(ages, sexes, where, strict=True)]
    if gap:
        lines[3] = f",,{cities[where[3]]}"
    (folder / name).write_text("age,sex,city\n" + "\n".join(lines) + "\n")
    codes = np.stack([ages, sexes, where], axis=1).astype(float)
    if gap:
        codes[3, :2] = np.nan
    return folder / name, codes


def arrow_of(path, target):
    pa = pytest.importorskip("pyarrow")
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    columns = [[cell or None for cell in column] for column in zip(*rows, strict=True)]
    made = {"age": [None if c is None else float(c) for c in columns[0]], "sex": columns[1], "city": columns[2]}
    made["city"] = pa.array(made["city"]).dictionary_encode()
    if target.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(made), target, row_group_size=17)
        return target
    with pa.ipc.new_file(str(target), pa.table(made).schema) as file:
        file.write_table(pa.table(made))
    return target


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow", "groups.parquet", "shards"])
@pytest.mark.parametrize("gap", [False, True])
def test_text_is_read_as_categories(name, gap, tmp_path, monkeypatch):
    if name == "groups.parquet":
        monkeypatch.setattr("gapless.data.columnar.MEMORY_BYTES", 0)
    path, codes = text_table(tmp_path, gap=gap)
    if name == "shards":
        write_shards(path, tmp_path / name, missing="keep" if gap else "refuse")
        path = tmp_path / name
    elif name != "t.csv":
        path = arrow_of(path, tmp_path / name)
    if gap:
        with pytest.raises(DataError, match=r"missing|not finite"):
            read(path)
    data = read(path, missing="keep" if gap else "refuse")
    assert data.categories == ((), ("f", "m"), CITIES)
    assert np.array_equal(np.asarray(data.train.values[:]), codes, equal_nan=True)
    inner = data.head["likelihood"] if gap else data.head
    assert [head["kind"] for head in inner["columns"]] == ["NormalWithLearnedScale", "Categorical", "Categorical"]
    assert "column 'city' is text: 3 categories (Busan, Daegu, Seoul)" in data.inspection.notes
    assert data.fingerprint()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_new_items_have_the_codes_of_the_training_data(kind, tmp_path):
    card = DataCard.of(read(text_table(tmp_path)[0]))
    assert DataCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    path, codes = text_table(tmp_path, "new.csv", cities=("Seoul", "Daegu"))
    path = path if kind == "csv" else arrow_of(path, tmp_path / "new.parquet")
    assert np.array_equal(card.read_items(path)[0].values[:, 2], np.array([2, 1])[codes[:, 2].astype(int)])
    assert card.read_like(path).categories == card.categories
    path, _ = text_table(tmp_path, "other.csv", cities=("Seoul", "Tokyo"))
    path = path if kind == "csv" else arrow_of(path, tmp_path / "other.parquet")
    with pytest.raises(DataError, match="'city' has 'Tokyo'") as caught:
        card.read_items(path)
    assert "Busan, Daegu, Seoul" in caught.value.fix
    (tmp_path / "numbers.csv").write_text("age,sex,city\n" + "50,1,2\n51,0,1\n" * 30)
    with pytest.raises(DataError, match="'sex' has '1'"):
        card.read_items(tmp_path / "numbers.csv")


def test_numbers_where_there_was_text_and_text_where_there_were_numbers(tmp_path):
    (tmp_path / "n.csv").write_text("a,b,c\n" + "1,2,3\n4,5,7\n" * 10)
    card = DataCard.of(read(tmp_path / "n.csv"))
    (tmp_path / "t.csv").write_text("a,b,c\n" + "1,x,u\n4,y,v\n" * 10)
    with pytest.raises(DataError, match="other categories in the column b, c"):
        card.read_items(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "column",
    [
        [f"name {i}" for i in range(ROWS)],  # it never repeats
        [f"{i}" for i in range(ROWS - 1)] + ["12a"],  # numbers with a slip
        ["1,5"] * ROWS,  # a decimal comma
        [f"k{i % 25}" for i in range(ROWS)],  # too many for so few rows
    ],
    ids=["names", "slip", "comma", "many"],
)
def test_text_that_is_no_category_is_refused(column, tmp_path):
    rows = "\n".join(f'{i / 7:.3f},"{text}",{"ab"[i % 2]}' for i, text in enumerate(column))
    (tmp_path / "t.csv").write_text(f"x,odd,kind\n{rows}\n")
    with pytest.raises(DataError, match="'odd'") as caught:
        read(tmp_path / "t.csv")
    assert "--drop 'odd'" in caught.value.fix or "point" in caught.value.fix


def test_more_than_a_hundred_categories_are_refused(tmp_path):
    for count in (100, 101):
        rows = "\n".join(f"{i / 7:.3f},k{i % count},{'ab'[i % 2]}" for i in range(2000))
        (tmp_path / f"t{count}.csv").write_text(f"x,odd,kind\n{rows}\n")
    assert len(read(tmp_path / "t100.csv").categories[1]) == 100
    with pytest.raises(DataError, match="'odd'"):
        read(tmp_path / "t101.csv")


def test_a_lone_column_of_text_still_holds_the_labels(tmp_path):
    path, _ = text_table(tmp_path)
    data = read(path, drop=("sex",))
    assert (data.label_names, data.categories) == (CITIES, ())
    data = read(path, label="sex")
    assert (data.label_names, data.categories) == (("f", "m"), ((), CITIES))


def test_text_needs_a_likelihood_of_its_own(tmp_path):
    path, _ = text_table(tmp_path)
    with pytest.raises(UsageError, match="2 columns are text") as caught:
        read(path, likelihood="Normal")
    assert "--likelihood Mixed" in caught.value.fix


def test_items_are_written_with_the_names_of_categories(tmp_path, capsys):
    card = DataCard.of(read(text_table(tmp_path)[0]))
    raw = np.array([[50.5, 1, 2], [40.25, 0, np.nan]])
    write_raw(raw, None, card=card, as_json=False)
    assert capsys.readouterr().out == "age,sex,city\n50.5,m,Seoul\n40.25,f,nan\n"
    write_raw(raw, tmp_path / "o.npy", card=card, as_json=False)
    assert np.array_equal(np.load(tmp_path / "o.npy"), raw, equal_nan=True)
    assert card.categorical == (1, 2)
    assert read_items(tmp_path / "t.csv").categories == card.categories


def test_decoded_categories_are_the_most_probable_ones():
    head = parts.describe(likelihoods.Mixed((likelihoods.Normal(), likelihoods.Bernoulli())))
    model, objective = recipes.build("vae", (2,), latent=1, likelihood=head, hidden=(8,))
    heads = {"columns": [{"kind": "Normal"}, {"kind": "Categorical", "classes": 2}]}
    card = DataCard("x", "table", (2,), "Mixed", Scaling(), {}, arguments=heads)
    codes = torch.linspace(-3, 3, 7)[:, None]
    p = model.eval().decode(codes)
    decoded = use._decode(gapless.Run(model, objective, "vae", card, Settings()), codes)
    assert np.array_equal(decoded[:, 0], p.mean[:, 0].numpy(force=True))
    assert np.array_equal(decoded[:, 1], p.mode[:, 1].numpy(force=True))
    assert set(decoded[:, 1]) <= {0.0, 1.0}


@needs_categories
@pytest.mark.parametrize("gap", [False, True])
def test_a_table_with_text_is_trained_sampled_and_filled_in(gap, tmp_path, capsys):
    path, _ = text_table(tmp_path, gap=gap)
    data = read(str(path), missing="keep" if gap else "refuse")
    settings = Settings(latent=2, epochs=2, hidden=(16,))
    gapless.train(data, settings=settings, folder=tmp_path / "run")
    again = gapless.load_run(tmp_path / "run")
    assert again.data.categories == data.categories
    use.sample(tmp_path / "run", count=5, output=tmp_path / "s.csv", seed=0, json=False)
    rows = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()]
    assert rows[0] == ["age", "sex", "city"]
    assert {row[1] for row in rows[1:]} <= {"f", "m"}
    assert {row[2] for row in rows[1:]} <= set(CITIES)
    use.impute(tmp_path / "run", None, samples=50, output=tmp_path / "f.csv", seed=0, json=False)
    lines, before = (tmp_path / "f.csv").read_text().splitlines(), path.read_text().splitlines()
    differ = [i for i in range(ROWS + 1) if lines[i] != before[i]]
    assert differ == ([4] if gap else [])
    assert lines[4].split(",")[1] in "fm"
    assert ("nothing to fill" in capsys.readouterr().err) == (not gap)


@pytest.mark.parametrize("likelihood", ["Mixed", "Categorical"])
def test_numbers_of_classes_that_the_model_does_not_know_are_refused(likelihood, tmp_path):
    codes = np.random.default_rng(0).integers(0, 3, (100, 2)).astype(float)
    (tmp_path / "old.csv").write_text("a,b\n" + "\n".join(",".join(map(str, row)) for row in codes))
    (tmp_path / "new.csv").write_text("a,b\n0,1\n1,3\n" + "0,0\n" * 40)
    settings = Settings(latent=1, epochs=1, hidden=(4,))
    run = study.train(gapless.read(tmp_path / "old.csv", likelihood=likelihood), settings=settings)
    for read_new in (run.data.read_items, run.data.read_like):
        read_new(tmp_path / "old.csv")
        with pytest.raises(
            DataError, match=r"classes 0 to 2 that the model was trained with; here is 3\nwhere: .*\nfix:"
        ):
            read_new(tmp_path / "new.csv")
    with pytest.raises(DataError, match="here is 5"):
        impute(run, np.array([[0.0, np.nan], [1.0, 5.0]]))
    impute(run, np.array([[0.0, np.nan], [1.0, 2.0]]))
