"""Scaling: there and back, in numpy and torch, and never rounded before the difference is taken."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapless.data import Scaling
from gapless.errors import UsageError

finite = st.floats(-1e4, 1e4)
positive = st.floats(1e-3, 1e4)


@given(st.lists(finite, min_size=1, max_size=9), finite, positive)
def test_round_trip(values, shift, scale):
    scaling = Scaling((shift,), (scale,), "standard")
    back = scaling.inverse(scaling(np.array(values)))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-6 * (abs(shift) + scale + 1e4))


@given(st.lists(st.tuples(finite, positive), min_size=2, max_size=5))
def test_numpy_and_torch_agree_per_column(moments):
    shift, scale = zip(*moments, strict=True)
    scaling = Scaling(shift, scale, "standard")
    x = np.linspace(-5, 5, 3 * len(shift), dtype=np.float32).reshape(3, -1)
    assert scaling(torch.from_numpy(x)).numpy() == pytest.approx(scaling(x), rel=1e-6, abs=1e-6)
    assert scaling.inverse(torch.from_numpy(x)).dtype == torch.float32


def test_the_equation():
    y = Scaling((1.0, 2.0), (4.0, 8.0), "standard")(np.array([[5.0, 2.0], [1.0, 10.0]]))
    assert y.dtype == np.float32
    assert y.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, ">f8", np.float16, np.bool_])
def test_any_dtype_becomes_float32(dtype):
    assert Scaling()(np.ones((2, 3), dtype=dtype)).dtype == np.float32


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_large_offsets_keep_their_differences(kind):
    seconds = kind([1.6e9, 1.6e9 + 1.0])  # float32 is 128 apart there
    if kind is torch.tensor:
        seconds = torch.tensor([1.6e9, 1.6e9 + 1.0], dtype=torch.float64)
    assert Scaling((1.6e9,), (1.0,), "standard")(seconds).tolist() == [0.0, 1.0]


def test_json_round_trip():
    scaling = Scaling((0.1, 2.0), (1 / 3, 5.0), "standard")
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@pytest.mark.parametrize("stored", [{}, {"name": "unit"}, {"name": "unit", "shift": ["a"], "scale": [1]}])
def test_from_dict_refuses_other_things(stored):
    with pytest.raises(UsageError):
        Scaling.from_dict(stored)


@pytest.mark.parametrize(
    ("shift", "scale"), [((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((float("nan"),), (1.0,)), ((0.0,), (1.0, 2.0)), ((), ())]
)
def test_impossible_scalings_are_refused(shift, scale):
    with pytest.raises(UsageError):
        Scaling(shift, scale, "standard")


def test_another_number_of_columns_is_refused():
    with pytest.raises(UsageError, match="2 columns"):
        Scaling((0.0, 0.0), (1.0, 1.0), "standard")(np.zeros((4, 3)))
