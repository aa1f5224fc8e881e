"""What the benchmarks conclude, without running them."""

import math
import runpy
from pathlib import Path

import pytest

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"
pytestmark = pytest.mark.skipif(not SPEED.is_dir(), reason="the benchmarks are not beside these tests")


@pytest.mark.parametrize(
    ("other", "said", "passes"),
    [
        ([100.2, 100.4], "agree", True),  # 0.1 apart
        ([102.0, 102.2], "DIFFER", False),  # 1.9 +- 0.22 apart
        ([99.0, 103.0], "NOT SHOWN", True),  # 0.8 +- 2.0 apart: chance explains it
        ([103.0], "NOT SHOWN", True),  # one round tells nothing of chance
    ],
)
def test_losses_further_apart_than_half_a_nat_are_flagged(other, said, passes):
    agreement = runpy.run_path(str(SPEED / "agreement.py"))
    verdict, agree = agreement["judged"]({"ours": [100.0, 100.4][: len(other)], "theirs": other})
    assert said in verdict
    assert agree is passes


def test_the_error_of_a_mean_is_that_of_its_rounds():
    mean, error = runpy.run_path(str(SPEED / "agreement.py"))["mean"]([1.0, 2.0, 3.0, 6.0])
    assert mean == 3.0
    assert error == pytest.approx(math.sqrt(14 / 3 / 4))
