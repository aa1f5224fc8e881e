"""Schedules as functions of (step, steps): torch's own as references, closed forms, and what holds for all."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gapless.errors import UsageError
from gapless.schedules import RAMPS, RATES, Ramp, learning_rate
from gapless.settings import Settings
from gapless.training.stopping import should_stop

SHARES = st.floats(0, 1)


def rates(steps, **settings):
    chosen = Settings(**{"learning_rate": 0.01, "warmup": 0.0, **settings})
    return [learning_rate(chosen, step, steps) for step in range(steps)]


def torch_rates(steps, make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_is_torchs_cosine(ledger):
    steps = 37
    theirs = torch_rates(steps, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps))
    worst = max(abs(a - b) for a, b in zip(rates(steps, schedule="cosine"), theirs, strict=True))
    ledger(
        "learning_rate", "cosine, worst of 37 steps", oracle="torch CosineAnnealingLR, by recursion", truth=0,
        measured=worst, tolerance=1e-14, why="float64, 37 rounded products",
    )  # fmt: skip


@pytest.mark.parametrize(("steps", "rising"), [(50, 0.3), (50, 0.0), (200, 0.1), (7, 0.5)])
def test_one_cycle_is_torchs_one_cycle(steps, rising, ledger):
    theirs = torch_rates(
        steps, lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.01, total_steps=steps + 1, pct_start=rising or 0.3)
    )
    ours = [learning_rate(Settings(learning_rate=0.01, schedule="one-cycle", warmup=rising), s, steps + 1)
            for s in range(steps)]  # fmt: skip
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    ledger(
        "learning_rate", f"one-cycle, {rising:g} rising, worst of {steps} steps", oracle="torch OneCycleLR", truth=0,
        measured=worst, tolerance=1e-15, why="float64",
    )  # fmt: skip


def test_warm_up_is_torchs_linear_rise_and_then_the_schedule(ledger):
    steps = 40
    theirs = torch_rates(10, lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=9))
    for shape in ("constant", "cosine"):
        worst = max(abs(a - b) for a, b in zip(rates(steps, schedule=shape, warmup=0.25)[:10], theirs, strict=True))
        ledger(
            "learning_rate", f"10 steps of warm-up before {shape}, worst", oracle="torch LinearLR", truth=0,
            measured=worst, tolerance=1e-14, why="float64",
        )  # fmt: skip
    assert rates(steps, schedule="constant", warmup=0.25)[10:] == [0.01] * 30
    assert rates(steps, schedule="cosine", warmup=0.25)[10:] == pytest.approx(rates(30, schedule="cosine"))


@given(st.sampled_from(sorted(RATES)), st.integers(1, 5000), st.floats(0, 0.99), st.data())
def test_every_rate_is_positive_and_at_most_the_largest_and_falls_after_its_rise(shape, steps, warmup, data):
    settings = Settings(learning_rate=1.0, schedule=shape, warmup=warmup)
    step = data.draw(st.integers(0, steps - 1))
    now = learning_rate(settings, step, steps)
    assert 0 < now <= 1
    if step + 1 < steps:
        after = learning_rate(settings, step + 1, steps)
        rising = warmup or (0.3 if shape == "one-cycle" else 0.0)
        if step + 1 <= rising * steps - 1:
            assert after >= now
        elif step >= rising * steps:
            assert after <= now


@given(st.sampled_from(RAMPS), SHARES, st.integers(1, 9), st.integers(1, 5000), st.data())
def test_every_ramp_is_a_share_and_one_at_the_end_and_without_a_plan(shape, warmup, cycles, steps, data):
    ramp = Ramp(shape, warmup, cycles)
    step = data.draw(st.integers(0, 2 * steps))
    assert 0 <= ramp(step, steps) <= 1
    assert ramp(step, None) == ramp(steps, steps) == ramp(steps + step, steps) == 1


@given(st.sampled_from(("linear", "cosine")), st.floats(0.01, 1), st.integers(1, 5000), st.data())
def test_linear_and_cosine_rise_once_from_zero(shape, warmup, steps, data):
    ramp, step = Ramp(shape, warmup), data.draw(st.integers(0, steps - 1))
    assert ramp(0, steps) == 0
    assert ramp(step, steps) <= ramp(step + 1, steps)
    if step >= warmup * steps:
        assert ramp(step, steps) == pytest.approx(1, abs=1e-12)


@given(st.floats(0, 1), st.integers(1, 9), st.integers(1, 500), st.data())
def test_cyclic_repeats_itself_and_each_cycle_is_a_linear_ramp(warmup, cycles, length, data):
    ramp, steps = Ramp("cyclic", warmup, cycles), cycles * length
    step, cycle = data.draw(st.integers(0, length - 1)), data.draw(st.integers(0, cycles - 1))
    assert ramp(step + cycle * length, steps) == Ramp("linear", warmup)(step, length)


def test_ramps_at_known_places(ledger):
    cases = [
        ("linear", 0.5, 25, 0.5), ("linear", 1.0, 30, 0.3), ("cosine", 0.5, 25, 0.5), ("linear", 0.0, 0, 1.0),
        ("cosine", 0.6, 20, 0.25), ("cyclic", 0.5, 5, 0.4), ("cyclic", 0.5, 13, 1.0), ("cyclic", 0.5, 55, 0.4),
    ]  # fmt: skip
    for shape, warmup, step, truth in cases:
        ledger(
            "Ramp", f"{shape}, rising {warmup:g} of 100 steps, at step {step}", oracle="closed form", truth=truth,
            measured=Ramp(shape, warmup)(step, 100), tolerance=1e-12, why="float64",
        )  # fmt: skip


@pytest.mark.parametrize("arguments", [("step",), ("linear", -0.1), ("linear", 1.1), ("linear", math.nan)])
def test_impossible_ramps_are_refused(arguments):
    with pytest.raises(UsageError):
        Ramp(*arguments)
    with pytest.raises(UsageError, match="at least 1 cycle"):
        Ramp("cyclic", cycles=0)


def test_the_history_alone_decides_when_to_stop():
    losses = [5.0, 4.0, 4.5, 4.0, 3.9, 4.0, 4.1, 4.2]
    stops = [next((n for n in range(9) if should_stop(losses[:n], p)), None) for p in (1, 2, 3, 4)]
    assert stops == [3, 4, 8, None]
    assert not should_stop([], 1)
    assert not should_stop([1.0, 2.0, 3.0], None)


def test_the_default_rate_rises_for_three_tenths_and_falls_to_nothing():
    steps = 1001
    course = [learning_rate(Settings(), step, steps) for step in range(steps)]
    assert max(course) == pytest.approx(2e-3, rel=1e-5)
    assert course.index(max(course)) == pytest.approx(0.3 * steps - 1, abs=1)
    assert course[0] == pytest.approx(2e-3 / 25)
    assert course[-1] == pytest.approx(2e-3 / 250_000)
