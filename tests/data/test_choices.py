"""What suits the data: splits, scalings from the train part alone, likelihoods with their reasons."""

import json
import subprocess
import sys

import numpy as np
import pytest

from gapless.data import read, read_items, requests
from gapless.errors import DataError, UsageError

RNG = np.random.default_rng(1)


def test_import_is_light():
    code = "import sys, gapless.data; print([m for m in ('torch', 'sklearn', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_digits():
    data = read("digits")
    assert (data.source, data.kind, data.event_shape) == ("digits", "image", (1, 8, 8))
    assert len(data.train) + len(data.held_out) == 1797
    assert len(data.held_out) == 180
    assert data.train.values.dtype == np.uint8
    assert (data.scaling.shift, data.scaling.scale, data.scaling.name) == ((0.0,), (16.0,), "unit")
    assert data.label_names == tuple("0123456789")
    assert data.inspection.classes == 10
    assert data.inspection.constant_features == 3
    json.dumps(data.inspection.to_dict())


def test_options_give_the_dataset_again():
    data = read("digits", seed=3, held_out=0.25, scaling="standard", likelihood="Normal")
    again = read(data.source, **json.loads(json.dumps(data.options)))
    assert np.array_equal(again.train.index, data.train.index)
    assert again.scaling == data.scaling
    assert again.likelihood == "Normal"
    assert again.options == data.options


@pytest.mark.parametrize(("items", "fraction", "held"), [(2, 0.99, 1), (2, 0.01, 1), (10, 0.25, 2), (100, 0.1, 10)])
def test_the_split_is_a_partition(items, fraction, held):
    data = read(np.arange(items * 2.0).reshape(items, 2), held_out=fraction)
    assert len(data.held_out) == held
    assert sorted([*data.train.index, *data.held_out.index]) == list(range(items))


def test_the_split_depends_on_the_seed_alone():
    values = np.arange(200.0).reshape(100, 2)
    first = read(values, seed=5).held_out.index
    assert np.array_equal(first, read(values.copy(), seed=5).held_out.index)
    assert not np.array_equal(first, read(values, seed=6).held_out.index)
    assert not np.array_equal(first, np.arange(len(first)))


@pytest.mark.parametrize("held_out", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_held_out_must_be_a_fraction(held_out):
    with pytest.raises(UsageError, match="held_out"):
        read("digits", held_out=held_out)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"scaling": "minmax"},
        {"on_error": "ignore"},
        {"likelihood": ""},
        {"resize": (0, 4)},
        {"resize": (4,)},
        {"resize": (8, 8)},
        {"array": "x"},
        {"label": "y"},
        {"drop": ("a",)},
    ],
)
def test_arguments_that_cannot_be_used(wrong):
    with pytest.raises(UsageError):
        read("digits", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"held_out": 0}, {"held_out": "a"}, {"held_out": True}, {"seed": 1.5}, {"resize": 32}, {"likelihood": None}],
)
def test_arguments_of_another_type(wrong):
    with pytest.raises(UsageError):
        requests.check_options({**read("digits").options, **wrong})


def test_moments_come_from_the_train_part_alone(monkeypatch):
    monkeypatch.setattr("gapless.data.inspection._CHUNK_VALUES", 50)
    values = RNG.normal([3.0, 1e8], [2.0, 0.5], (400, 2))
    index = read(values).held_out.index
    values[index] += 1000
    data = read(values)
    train = values[data.train.index]
    assert data.scaling.name == "standard"
    np.testing.assert_allclose(data.scaling.shift, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.scaling.scale, train.std(axis=0), rtol=1e-7)
    assert data.inspection.mean == pytest.approx(values.mean())
    images = RNG.normal(5, 3, (60, 4, 4))
    held = read(images).held_out.index
    images[held] = 99
    data = read(images, scaling="standard")
    train = images[data.train.index]
    assert data.scaling.shift[0] == pytest.approx(train.mean())
    assert data.scaling.scale[0] == pytest.approx(train.std())
    unit = read(images)
    assert unit.scaling.shift[0] == train.min()
    assert unit.scaling.scale[0] == pytest.approx(train.max() - train.min())
    assert unit.likelihood == "NormalWithOptimalScale"


def test_constant_columns_are_kept_and_counted():
    values = np.hstack([RNG.normal(size=(50, 2)), np.full((50, 3), 7.0)])
    data = read(values)
    assert data.inspection.constant_features == 3
    assert data.scaling.scale[2:] == (1.0, 1.0, 1.0)
    assert any("5 columns, 3 constant (kept, they carry nothing)" in note for note in data.inspection.notes)
    assert np.isfinite(data.scaling(values)).all()
    same = read(np.full((9, 4, 4), 7.5))
    assert np.isfinite(same.scaling(same.train.values)).all()
    assert any("nothing to learn" in note for note in same.inspection.notes)


def images(kind):
    binary = (RNG.random((40, 6, 6)) < 0.3) * 1
    return {
        "0/255": (binary * 255).astype(np.uint8),
        "0/1": binary.astype(np.uint8),
        "bool": binary.astype(bool),
        "float 0/1": binary.astype(np.float32),
        "grey": RNG.integers(60, 200, (40, 6, 6)).astype(np.uint8),
        "16 bit": RNG.integers(9000, 50000, (40, 6, 6)).astype(np.uint16),
        "float grey": RNG.uniform(0.2, 0.8, (40, 6, 6)),
        "signed": RNG.normal(0, 1, (40, 6, 6)),
        "int": RNG.integers(-5, 90, (40, 6, 6)),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "scaling", "scale", "likelihood"),
    [
        ("0/255", "unit", 255.0, "Bernoulli"),
        ("0/1", "none", 1.0, "Bernoulli"),
        ("bool", "none", 1.0, "Bernoulli"),
        ("float 0/1", "none", 1.0, "Bernoulli"),
        ("grey", "unit", 255.0, "NormalWithOptimalScale"),
        ("16 bit", "unit", 65535.0, "NormalWithOptimalScale"),
        ("float grey", "none", 1.0, "NormalWithOptimalScale"),
        ("signed", "unit", None, "NormalWithOptimalScale"),
        ("int", "unit", None, "NormalWithOptimalScale"),
    ],
)
def test_images(kind, scaling, scale, likelihood):
    data = read(images(kind))
    assert (data.scaling.name, data.likelihood) == (scaling, likelihood)
    assert scale is None or data.scaling.scale == (scale,)
    assert data.inspection.binary == ("/" in kind or kind == "bool")
    notes = " ".join(data.inspection.notes)
    assert "scaling:" in notes
    assert f"likelihood {likelihood}:" in notes


def test_share_at_the_ends_of_the_range():
    values = np.full((10, 1, 10), 128, dtype=np.uint8)
    values[:, :, :4], values[:, :, 4] = 3, 250
    data = read(values)
    assert data.inspection.at_extremes == pytest.approx(0.5)
    assert data.likelihood == "NormalWithOptimalScale"
    values[:, :, 5] = 12
    assert read(values).likelihood == "Bernoulli"


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_bernoulli_is_not_chosen_for_values_it_cannot_have(scaling):
    assert read(images("0/255"), scaling=scaling).likelihood == "NormalWithOptimalScale"


def test_tables():
    binary = RNG.integers(0, 2, (50, 4))
    assert (read(binary).likelihood, read(binary).scaling.name) == ("Bernoulli", "none")
    bytes_ = RNG.integers(0, 255, (50, 4)).astype(np.uint8)
    assert (read(bytes_).likelihood, read(bytes_).scaling.name) == ("NormalWithOptimalScale", "standard")
    unit = read(bytes_, scaling="unit")
    assert np.allclose(unit.scaling(unit.train.take(np.arange(len(unit.train)))).max(axis=0), 1)
    assert unit.scaling(unit.train.take(np.arange(len(unit.train)))).min() == 0


@pytest.mark.parametrize(
    ("values", "likelihood", "scaling"),
    [
        (np.linspace(-3, 3, 40).reshape(20, 2), "Bernoulli", "none"),
        (np.linspace(-3, 3, 40).reshape(20, 2), "Normal", "standard"),
        (RNG.integers(0, 2, (20, 2)), "Normal", "standard"),
        (images("signed"), "Bernoulli", "none"),
        (images("signed"), "Normal", "unit"),
        (images("grey"), "Bernoulli", "unit"),
    ],
)
def test_a_named_likelihood_is_kept(values, likelihood, scaling):
    data = read(values, likelihood=likelihood)
    assert (data.likelihood, data.scaling.name) == (likelihood, scaling)


def test_values_beyond_float32_need_scaling():
    values = RNG.normal(size=(20, 2)) * 1e60
    assert np.isfinite(read(values).scaling(values)).all()
    with pytest.raises(DataError, match="32-bit"):
        read(values, scaling="none")


def test_all_items_for_a_model_that_exists(tmp_path):
    np.save(tmp_path / "one.npy", np.arange(3.0).reshape(1, 3))
    everything = read_items(tmp_path / "one.npy")
    assert everything.items.take([0]).tolist() == [[0, 1, 2]]
    assert everything.columns == ("x0", "x1", "x2")
    with pytest.raises(DataError, match="at least 2"):
        read(tmp_path / "one.npy")
    with pytest.raises(DataError, match="at least 1"):
        read_items(np.zeros((0, 3)))
    with pytest.raises(DataError, match="not finite"):
        read_items(np.array([[np.nan]]))
    digits = read_items("digits")
    assert len(digits.items) == 1797
    assert digits.items.labels[:4].tolist() == [0, 1, 2, 3]


def test_bernoulli_asked_for_on_a_continuous_table_is_warned_of():
    values = np.random.default_rng(0).random((60, 3)).astype(np.float32)
    warned = [n for n in read(values, likelihood="Bernoulli").inspection.notes if n.startswith("warning")]
    assert len(warned) == 1
    assert "not all 0 or 1" in warned[0]
    for data, likelihood in ((values, "auto"), (np.round(values), "Bernoulli"), (values, "Normal")):
        assert not any(n.startswith("warning") for n in read(data, likelihood=likelihood).inspection.notes)
