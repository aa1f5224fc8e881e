"""Real data, read where it lies; skipped on a machine without it."""

from pathlib import Path

import numpy as np
import pytest

from gapless.data import Feed, read

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"{SHARED / name} is not on this machine")
    return SHARED / name


def test_mnist():
    data = read(shared("mnist"))
    assert (len(data.train), len(data.held_out), data.event_shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.held_out.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (data.likelihood, data.scaling.scale) == ("Bernoulli", (255.0,))
    assert data.inspection.mean == pytest.approx(33.385, abs=0.001)
    batch = next(Feed(data.train, data.scaling).batches(100))
    assert (batch.min().item(), batch.max().item()) == (0.0, 1.0)


def test_frey_faces():
    data = read(shared("freyfaces/freyfaces.npz"))
    assert data.inspection.items == 1965
    assert (data.event_shape, data.likelihood, data.label_names) == ((1, 28, 20), "NormalWithOptimalScale", ())
    assert data.train.values.dtype == np.uint8


def test_cifar_zip():
    data = read(shared("images/cifar10_test4000_jpg.zip"))
    assert (data.event_shape, len(data.label_names), data.inspection.items) == ((3, 32, 32), 10, 4000)
    assert set(data.inspection.class_counts.values()) == {400}
    assert (data.label_names[0], data.label_names[-1]) == ("airplane", "truck")


def test_thyroid():
    data = read(shared("anomaly/38_thyroid.npz"))
    assert (data.kind, data.event_shape, data.label_names) == ("table", (6,), ("0", "1"))
    assert data.inspection.class_counts == {"0": 3679, "1": 93}
    assert data.scaling.name == "standard"


def test_cells():
    data = read(shared("cells/10x_10k_subset_counts.npz"))
    assert (data.inspection.items, data.event_shape) == (10_000, (1000,))
    assert data.inspection.integer
    assert any("counts" in note for note in data.inspection.notes)
    assert np.isfinite(data.scaling(data.train.take(np.arange(100)))).all()
