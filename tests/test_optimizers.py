"""Our few lines over the fused kernel against torch.optim, and what every optimizer promises."""

import subprocess
import sys

import pytest
import torch

from gapless.errors import UsageError
from gapless.training import optimizers

SHAPES = ((5, 3), (5,), (2, 3, 3, 3), ())
STEPS = 50


def parameters(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in SHAPES]


def give_gradients(values, step, *, skip=()):
    generator = torch.Generator().manual_seed(1000 + step)
    for number, value in enumerate(values):
        grad = torch.randn(value.shape, generator=generator, dtype=value.dtype) * 10.0 ** (number - 2)
        value.grad = None if number in skip else grad


def run(optimizer, values, steps, *, rate=lambda step: 1e-2):
    for step in steps:
        give_gradients(values, step)
        optimizer.step(rate(step))
    return values


STOCK = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", STOCK)
def test_the_fused_lines_are_torch_optim_to_the_bit(name, weight_decay, dtype, ledger):
    rate = lambda step: 1e-2 / (1 + step)  # noqa: E731
    ours = parameters(dtype)
    made = optimizers.make(name, ours, weight_decay=weight_decay)
    assert isinstance(made, optimizers._FusedAdam)
    run(made, ours, range(STEPS), rate=rate)
    theirs = parameters(dtype)
    stock = STOCK[name](theirs, fused=True, weight_decay=weight_decay)
    for step in range(STEPS):
        give_gradients(theirs, step)
        stock.param_groups[0]["lr"] = rate(step)
        stock.step()
    worst = max((a - b).abs().max() for a, b in zip(ours, theirs, strict=True))
    ledger(
        f"optimizers.make({name!r})", f"parameters after {STEPS} steps, decay {weight_decay:g}, {dtype}",
        oracle="torch.optim, fused", truth=0, measured=worst, tolerance=0, why="the same kernel",
    )  # fmt: skip


@pytest.mark.parametrize("name", STOCK)
def test_adam_is_the_algorithm_of_its_paper(name, ledger):
    rate, decay, value = 0.05, 0.1, torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizers.make(name, [value], weight_decay=decay)
    x, m, v = 2.0, 0.0, 0.0
    for t in range(1, 20):
        value.grad = (3 * value.detach() - 1).clone()
        g = 3 * x - 1 + (decay * x if name == "adam" else 0.0)
        x -= rate * decay * x if name == "adamw" else 0.0
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
        optimizer.step(rate)
    ledger(
        f"optimizers.make({name!r})", "a parameter after 19 steps with decay", oracle="the paper's algorithm in floats",
        truth=x, measured=value.item(), tolerance=1e-6, why="1 - beta^t in float32",
    )  # fmt: skip


@pytest.mark.parametrize("name", STOCK)
def test_without_the_private_kernel_torch_optim_serves_with_the_same_state(name, monkeypatch):
    fused = run(optimizers.make(name, ours := parameters(), weight_decay=0.1), ours, range(STEPS))
    private = {"adam": "_fused_adam_", "adamw": "_fused_adamw_"}[name]
    for broken in (None, lambda *_, **__: None, lambda *_: None):  # gone, does nothing, takes other arguments
        with monkeypatch.context() as patch:
            patch.delattr(torch, private) if broken is None else patch.setattr(torch, private, broken)
            plain = parameters()
            optimizer = optimizers.make(name, plain, weight_decay=0.1)
        assert isinstance(optimizer, optimizers._Stock)
        run(optimizer, plain, range(STEPS))
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(fused, plain, strict=True))
        assert optimizer.state().keys() == optimizers.make(name, parameters()).state().keys()


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_a_saved_state_continues_in_the_same_bits(name):
    whole = run(optimizers.make(name, a := parameters(), weight_decay=0.1), a, range(10))
    values = parameters()
    first = optimizers.make(name, values, weight_decay=0.1)
    run(first, values, range(6))
    saved = first.state()
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in saved.values())
    again = [value.detach().clone().requires_grad_() for value in values]
    run(first, values, range(6, 8))  # the state given away is a copy
    second = optimizers.make(name, again, weight_decay=0.1)
    second.load(saved)
    run(second, again, range(6, 10))
    assert all(torch.equal(x, y) for x, y in zip(whole, again, strict=True))


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_a_parameter_without_gradient_stays_and_so_does_its_state(name):
    values = parameters()
    optimizer = optimizers.make(name, values, weight_decay=0.1)
    run(optimizer, values, range(2))
    before, state = values[0].detach().clone(), optimizer.state()
    give_gradients(values, 2, skip=(0,))
    optimizer.step(1e-2)
    assert torch.equal(values[0], before)
    assert all(torch.equal(optimizer.state()[key], state[key]) for key in state if key.startswith("0."))
    assert optimizer.state()["1.step"] == 3
    assert all(value.grad is None for value in values)


def test_strides_that_differ_from_the_parameters_change_nothing():
    plain, last = parameters(), parameters()
    last[2] = last[2].detach().to(memory_format=torch.channels_last).requires_grad_()
    for values in (plain, last):
        optimizer = optimizers.make("adam", values)
        for step in range(3):
            give_gradients(values, step)
            optimizer.step(0.1)
        assert optimizer.state()["2.exp_avg"].is_contiguous()
    assert torch.equal(plain[2], last[2])


def test_muon_moves_matrices_by_muon_and_the_rest_by_adamw():
    ours, theirs = parameters(), parameters()
    run(optimizers.make("muon", ours, weight_decay=0.2), ours, range(5))
    stock = (
        torch.optim.Muon([theirs[0]], lr=1e-2, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(theirs[1:], lr=1e-2, weight_decay=0.2),
    )
    for step in range(5):
        give_gradients(theirs, step)
        for optimizer in stock:
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_what_cannot_be_is_refused_with_the_fix(monkeypatch):
    with pytest.raises(UsageError, match=r"no optimizer 'sgd'(.|\n)*adam, adamw, muon"):
        optimizers.make("sgd", parameters())
    with pytest.raises(UsageError, match="weight_decay must be at least 0; got nan"):
        optimizers.make("adam", parameters(), weight_decay=float("nan"))
    state = optimizers.make("adam", parameters()).state()
    other = optimizers.make("adam", parameters()[:2])
    with pytest.raises(UsageError, match=r"another optimizer or model: 2\.exp_avg"):
        other.load(state)
    with pytest.raises(UsageError, match=r"another optimizer or model: 0\.exp_avg, 0\.exp_avg_sq"):
        optimizers.make("adam", parameters()).load(
            {**state, "0.exp_avg": torch.zeros(3, 5), "0.exp_avg_sq": torch.ones(5)}
        )
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UsageError, match=r"has no Muon(.|\n)*adamw"):
        optimizers.make("muon", parameters())


def test_frozen_parameters_are_left_out():
    values = parameters()
    values[0].requires_grad_(False)
    assert "3.step" not in optimizers.make("adam", values).state()


def test_adam_does_not_load_torchs_compiler():
    code = (
        "import sys, torch; from gapless.training import optimizers; w = torch.nn.Parameter(torch.ones(3));"
        "o = optimizers.make('adam', [w]); w.sum().backward(); o.step(0.1); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
