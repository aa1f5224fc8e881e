"""What every measure is made of: intervals, resamples, shares, differences."""

import numpy as np
import pytest

from gapless.audit.measure import Z95, interval, jackknife, resamples, share
from gapless.audit.paired import Difference


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).exponential(size=40)
    low, high = jackknife((x.sum() - x) / 39, full=x.mean())
    half = Z95 * x.std(ddof=1) / np.sqrt(40)
    np.testing.assert_allclose((low, high), (x.mean() - half, x.mean() + half), rtol=1e-12)


def test_the_interval_leaves_a_fortieth_on_either_side():
    assert interval(np.arange(1001.0)) == (25, 975)


def test_resamples_depend_on_seed_and_number_alone():
    first, again, other = (resamples(50, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (400, 50)
    assert (first.min(), first.max()) == (0, 49)


@pytest.mark.parametrize(("raw", "value"), [(-0.1, 0), (0.4, 0.4), (1.2, 1)])
def test_a_share_is_cut_with_its_replicates_and_keeps_what_it_was(raw, value):
    found = share(raw, np.linspace(-1, 2, 100), n=7)
    assert (found.value, found.raw, found.n) == (value, None if raw == value else raw, 7)
    assert (found.replicates.min(), found.replicates.max()) == (0, 1)
    assert 0 <= found.low <= found.high <= 1


def test_a_difference_is_decided_where_its_interval_excludes_0():
    assert [Difference("x", 0.1, *ends).decided for ends in ((-0.1, 0.3), (0.05, 0.15))] == [0, 1]
    assert Difference("x", -0.1, -0.2, -0.05).decided == -1
