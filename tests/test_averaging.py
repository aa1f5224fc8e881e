"""Averaged weights against torch's own average and a loop over numbers."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from gapless import likelihoods
from gapless.errors import UsageError
from gapless.training.averaging import Average


def walk(module, steps):
    """Moves every floating-point value of a module, and yields after each step."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        with torch.no_grad():
            for value in (*module.parameters(), *module.buffers()):
                if value.is_floating_point():
                    value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
        yield


def test_once_the_start_is_forgotten_it_is_torchs_average(ledger):
    layer, decay = nn.Linear(4, 3).double(), 0.6
    ours, theirs = Average(layer, decay), None
    for _ in walk(layer, 30):
        ours.update()
        if theirs is None and (1 + ours.updates) / (10 + ours.updates) >= decay:
            theirs = AveragedModel(layer, avg_fn=get_ema_avg_fn(decay))
            theirs.n_averaged.fill_(1)
            for own, value in zip(theirs.module.parameters(), ours.values.values(), strict=True):
                own.data.copy_(value)
        elif theirs is not None:
            theirs.update_parameters(layer)
    worst = max((a - b).abs().max() for a, b in zip(theirs.module.parameters(), ours.values.values(), strict=True))
    ledger(
        "Average", "weights after 30 steps, decay 0.6, worst of 15", oracle="torch swa_utils.AveragedModel", truth=0,
        measured=worst, tolerance=1e-14, why="float64",
    )  # fmt: skip


def test_the_first_updates_forget_the_start(ledger):
    layer = nn.Linear(1, 1, bias=False).double()
    average, expected = Average(layer, 0.99), layer.weight.item()
    for step, _ in enumerate(walk(layer, 20)):
        average.update()
        past = min(0.99, (1 + step) / (10 + step))
        expected = past * expected + (1 - past) * layer.weight.item()
    ledger(
        "Average", "one weight after 20 steps, decay 0.99", oracle="the recursion in plain numbers", truth=expected,
        measured=average.values["weight"], tolerance=1e-14, why="float64",
    )  # fmt: skip


def test_inside_are_the_averages_and_after_the_own_weights_to_the_bit():
    layer = nn.Linear(3, 2)
    average = Average(layer, 0.9)
    for _ in walk(layer, 5):
        average.update()
    own, averaged = copy.deepcopy(layer.state_dict()), copy.deepcopy(average.values)

    def fail_inside():
        with average.swapped():
            assert all(torch.equal(value, averaged[name]) for name, value in layer.state_dict().items())
            assert not torch.equal(layer.weight, own["weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert all(torch.equal(value, own[name]) for name, value in layer.state_dict().items())
    assert all(torch.equal(value, averaged[name]) for name, value in average.values.items())


def test_floating_point_buffers_are_averaged_and_counters_are_not():
    norm, scale = nn.BatchNorm1d(2), likelihoods.NormalWithOptimalScale()
    assert set(Average(norm, 0.9).values) == {"weight", "bias", "running_mean", "running_var"}
    average = Average(scale, 0.5)
    scale.variance.fill_(4.0), scale.weight.fill_(1.0)
    for _ in range(60):
        average.update()
    with average.swapped():
        assert float(scale.scale) == pytest.approx(2.0, rel=1e-6)


def test_a_resumed_average_goes_on_to_the_same_bits():
    layer = nn.Linear(3, 2)
    straight, first = Average(layer, 0.95), Average(layer, 0.95)
    for step, _ in enumerate(walk(layer, 12)):
        if step == 5:
            state = {name: value.clone() for name, value in first.state().items()}
            first = Average(layer, 0.95)
            first.load(state)
        straight.update(), first.update()
    assert all(torch.equal(value, first.state()[name]) for name, value in straight.state().items())


def test_what_it_is_asked_for_must_be_possible():
    for decay in (0.0, 1.0, -1.0):
        with pytest.raises(UsageError, match="between 0 and 1"):
            Average(nn.Linear(1, 1), decay)
    with pytest.raises(UsageError, match="another model"):
        Average(nn.Linear(1, 1), 0.5).load(Average(nn.Linear(1, 2), 0.5).state())
