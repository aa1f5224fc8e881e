"""Steps that are played from a tape: the same bits as plain ones, and plain ones wherever that cannot be."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gapless import Settings, recipes
from gapless.data import Feed, Items, Scaling
from gapless.errors import Diverged
from gapless.objectives import ELBO
from gapless.objectives.control import of_step
from gapless.randomness import generator
from gapless.recipes import basics
from gapless.training import fit, tape
from gapless.training.course import Course
from gapless.training.replay import Replay

SHAPE, STEPS = (1, 8, 8), 12
SMALL = {"latent": 4, "hidden": (16,)}
OPTIONS = {"geco": {"target": 30.0}}


def made(recipe="vae", **changes):
    torch.manual_seed(5)
    model, objective = recipes.build(
        recipe, SHAPE, **{**SMALL, "likelihood": "Bernoulli", **changes}, options=OPTIONS.get(recipe, {})
    )
    return model.train(), objective.train()


def batch(step, rows=20):
    return torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(step))


def course(model, objective, *, plain=False, **settings):
    found = Course(model, objective, Settings(**{"epochs": 3, **settings}), epochs=3, per_epoch=STEPS, items=20 * STEPS)
    if plain:
        found.replay = None
    return found


def several(replay):
    for step in range(4):
        replay.gradients(batch(step), step)
        for module in (replay.model, replay.objective):
            module.zero_grad()


def state(course):
    course.look()
    return {**course.model.state_dict(), **course.objective.state_dict(), **course.optimizer.state(), "s": course.sums}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


HEADS = ("Bernoulli", "Normal", "NormalWithOptimalScale", "NormalWithLearnedScale")
UNCONDITIONAL = [name for name, recipe in recipes.RECIPES.items() if not recipe.conditional]
PAIRS = [(name, head) for name in basics.RECIPES for head in HEADS]
PAIRS += [(name, HEADS[0]) for name in UNCONDITIONAL if name not in basics.RECIPES]


@pytest.mark.parametrize(("recipe", "likelihood"), PAIRS)
def test_every_recipe_ends_in_the_same_bits(recipe, likelihood):
    ours, plain = (course(*made(recipe, likelihood=likelihood), plain=plain) for plain in (False, True))
    for step in range(STEPS):
        ours.advance(batch(step))
        plain.advance(batch(step))
    assert_same(state(ours), state(plain))


@pytest.mark.parametrize("changes", [
    {}, {"likelihood": "Normal"}, {"likelihood": "NormalWithOptimalScale"}, {"network": "residual"},
    {"activation": "gelu"}, {"activation": "softplus"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("recipe", ["vae", "beta-vae", "ae", "geco"])
def test_what_is_played(recipe, changes):
    played = course(*made(recipe, **changes), clip=0.5, ema=0.9)
    for step in range(4):
        played.advance(batch(step))
    assert played.replay.active, played.replay.why


SCHEDULED = {
    "linear": {"warmup": 0.6}, "cosine": {"warmup": 1.0}, "cyclic": {"cycles": 2, "regularization": 2.0},
    "linear capacity": {"capacity": 3.0}, "cosine free bits": {"free_bits": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_schedule_of_the_kl_is_played_and_ends_in_the_same_bits(name):
    def trained(plain):
        objective = ELBO(schedule=name.split()[0], **SCHEDULED[name]).train()
        one = course(made()[0], objective, plain=plain)
        shown = [one.advance(batch(step)).extras for step in range(STEPS)]
        assert plain or one.replay.active, one.replay.why
        assert len({float(*extras.values()) for extras in shown}) > 2  # it moved
        return {**state(one), **{f"{step} {key}": v for step, e in enumerate(shown) for key, v in e.items()}}

    assert_same(trained(plain=False), trained(plain=True))


class Shows(ELBO):
    def forward(self, model, x, *, step=0, generator=None):
        terms = super().forward(model, x, step=step, generator=generator)
        return terms._replace(extras={"number": of_step(float, step, terms.loss)})


def test_what_a_step_shows_of_its_number_stays(monkeypatch):
    monkeypatch.setattr(Shows, "__module__", "gapless.objectives")
    one = course(made()[0].double(), Shows().train())
    shown = [one.advance(batch(step).double()).extras["number"] for step in range(6)]
    assert one.replay.active, one.replay.why
    assert shown == [0, 1, 2, 3, 4, 5]


class TwicePerStep(ELBO):
    def forward(self, model, x, *, step=0, generator=None):
        terms = super().forward(model, x, step=step, generator=generator)
        return terms._replace(loss=terms.loss * (1 + step % 2))


def test_what_depends_on_the_number_of_the_step_is_done_plainly(monkeypatch):
    monkeypatch.setattr(TwicePerStep, "__module__", "gapless.objectives")
    ours = course(made()[0], TwicePerStep().train())
    for step in range(4):
        ours.advance(batch(step))
    assert "number of the step" in ours.replay.why
    plain = course(made()[0], TwicePerStep().train(), plain=True)
    for step in range(4):
        plain.advance(batch(step))
    assert_same(state(ours), state(plain))


class OfAnotherStep(ELBO):
    """It keeps a count of its own, outside of tensors."""

    seen = 0
    period = 1

    def forward(self, model, x, *, step=0, generator=None):
        type(self).seen += 1
        terms = super().forward(model, x, step=step, generator=generator)
        return terms._replace(loss=terms.loss * float(1 + self.seen // self.period))


class Rewarded(ELBO):
    def forward(self, model, x, *, step=0, generator=None):
        terms = super().forward(model, x, step=step, generator=generator)
        return terms._replace(loss=self.changed(terms.loss))


class ReadsNumbers(Rewarded):
    def changed(self, loss):
        return loss * 2 if loss.item() > 0 else loss


class DrawsElsewhere(Rewarded):
    def changed(self, loss):
        return loss + torch.rand(())


def test_foreign_parts_are_done_plainly():
    replay = Replay(made()[0], OfAnotherStep(), 0)
    assert "OfAnotherStep is not of gapless" in replay.why


class SometimesAll(Rewarded):
    """Every other time one weight alone gets gradients."""

    calls = 0

    def forward(self, model, x, *, step=0, generator=None):
        type(self).calls += 1
        return super().forward(model, x, step=step, generator=generator)


def test_gradients_of_other_weights_are_found_out(monkeypatch):
    monkeypatch.setattr(SometimesAll, "__module__", "gapless.objectives")
    model, objective = made()[0], SometimesAll().train()
    first, *_ = model.parameters()
    monkeypatch.setattr(
        SometimesAll, "changed", lambda self, loss: loss if self.calls % 2 else 2 * first.sum(), raising=False
    )
    replay = Replay(model, objective, 0)
    several(replay)
    assert "other bits" in replay.why
    assert replay.gradients(batch(4), 4) is None


class Replaces(Rewarded):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def changed(self, loss):
        self.seen = self.seen + 1
        return loss


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Replaces, "other bits"), (OfAnotherStep, "other bits"), (ReadsNumbers, "read out"), (DrawsElsewhere, "noise")],
)
def test_what_is_no_function_of_tensors_is_found_out(kind, why, monkeypatch):
    monkeypatch.setattr(kind, "__module__", "gapless.objectives")
    monkeypatch.setattr(OfAnotherStep, "seen", 0)
    replay = Replay(made()[0], kind().train(), 0)
    assert not replay.why
    several(replay)
    assert why in replay.why
    assert not replay.active


def test_convolutions_and_half_a_machine_are_done_plainly(monkeypatch):
    conv = course(*made(network="convolutional", channels=(4, 6)))
    for step in range(4):
        conv.advance(batch(step))
    assert "convolutions" in conv.replay.why
    monkeypatch.setenv("GAPLESS_TUNE", "0")
    assert "GAPLESS_TUNE" in Replay(*made(), 0).why


def test_a_step_that_takes_much_memory_is_let_go_at_once(monkeypatch):
    monkeypatch.setattr(tape, "LARGEST", 10_000)
    ours, plain = course(*made("geco")), course(*made("geco"), plain=True)
    for step in range(4):
        ours.advance(batch(step))
        plain.advance(batch(step))
    assert "MiB" in ours.replay.why
    assert_same(state(ours), state(plain))


def playing(monkeypatch, name, act):
    """Every tape does this in the place of a call of that name."""
    truth = tape.Tape._played

    def played(self, call):
        if call.name != name:
            return truth(self, call)
        return [lambda: act(self._mapped(call.results[0]), self._mapped(call.arguments[0]))]

    monkeypatch.setattr(tape.Tape, "_played", played)


def test_a_tape_that_gives_other_bits_is_not_used(monkeypatch):
    playing(monkeypatch, "sigmoid", lambda out, x: torch.sigmoid(x, out=out).mul_(1 + 1e-6))
    ours, plain = course(*made()), course(*made(), plain=True)
    for step in range(4):
        ours.advance(batch(step))
        plain.advance(batch(step))
    assert "other bits" in ours.replay.why
    assert_same(state(ours), state(plain))


def test_a_tape_that_cannot_be_played_is_not_used(monkeypatch):
    playing(monkeypatch, "sigmoid", lambda out, x: torch.sigmoid(x, 1))
    ours, plain = course(*made("geco")), course(*made("geco"), plain=True)
    for step in range(4):
        ours.advance(batch(step))
        plain.advance(batch(step))
    assert "cannot be played" in ours.replay.why
    assert_same(state(ours), state(plain))


def test_other_batches_and_moved_weights_are_done_plainly():
    ours, plain = course(*made()), course(*made(), plain=True)
    for step, rows in enumerate((20, 20, 20, 20, 7, 20, 1, 20)):
        ours.advance(batch(step, rows))
        plain.advance(batch(step, rows))
    assert ours.replay.active
    for found in (ours, plain):
        for parameter in found.model.parameters():
            parameter.data = parameter.data.clone()
        found.advance(batch(9))
    assert ours.replay.gradients(batch(10), 10) is None
    assert_same(state(ours), state(plain))


def test_terms_are_the_callers_own():
    ours = course(*made())
    terms = [ours.advance(batch(step)) for step in range(6)]
    kept = [term.reconstruction.clone() for term in terms]
    ours.advance(batch(6))
    assert all(torch.equal(term.reconstruction, value) for term, value in zip(terms, kept, strict=True))
    assert len({float(term.loss) for term in terms}) == 6


def test_a_played_step_stops_at_what_is_not_finite():
    ours = course(*made())
    for step in range(5):
        ours.advance(batch(step))
    assert ours.replay.active
    before = [p.clone() for p in ours.model.parameters()]
    with pytest.raises(Diverged, match="step 6"):
        ours.advance(batch(5).fill_(torch.nan))
    assert all(torch.equal(p, q) for p, q in zip(before, ours.model.parameters(), strict=True))


@pytest.mark.parametrize("plain", [False, True])
def test_every_step_has_the_noise_of_its_number(plain):
    model, objective = made()
    walker, x = course(model, objective, plain=plain, learning_rate=1e-30), batch(0)  # the weights stay
    found = [walker.advance(x).reconstruction for _ in range(6)]
    drawn = [objective(model, x, generator=generator(0, "noise", step)).reconstruction for step in range(6)]
    for one, other in zip(found, drawn, strict=True):
        assert torch.allclose(one, other, rtol=1e-5)
    assert len({values.sum().item() for values in found}) == 6


def test_a_whole_training_ends_in_the_same_bits(monkeypatch):
    values = np.random.default_rng(0).integers(0, 256, (150, *SHAPE), dtype=np.uint8)
    feed = Feed(Items(values, None, np.arange(150)), Scaling((0.0,), (255.0,), "unit"))
    found = []
    for tuned in ("1", "0"):
        monkeypatch.setenv("GAPLESS_TUNE", tuned)
        model, objective = made("geco", likelihood="NormalWithOptimalScale")
        history = fit(model, objective, feed, feed, settings=Settings(epochs=3, batch_size=32, ema=0.9, clip=1.0))
        found.append((model.state_dict(), [(one.train, one.held_out) for one in history]))
    assert_same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_memory_is_used_again():
    model, objective = made(hidden=(16, 16, 16, 16))
    with tape.Recorder() as recorder:
        objective(model, batch(0)).loss.backward()
    every = sum(size for call in recorder.calls for place, size in call.sizes.items() if place in call.made)
    model.zero_grad()
    replay = Replay(model, objective, 0)
    several(replay)
    assert replay.active
    kept = {memory._cdata: memory.nbytes() for memory in replay._tape._memory.values()}
    assert sum(kept.values()) < every / 2


COMPILER = """
import sys, torch
from gapless.training import tape
with tape.Recorder():
    (torch.ones(2, requires_grad=True) * 2).sum().backward()
print([name for name in sys.modules if name in ("torch._dynamo", "sympy", "torch._inductor")])
"""


def recorded(act, x):
    with tape.Recorder() as recorder:
        result = act(x)
    return tape.Tape(recorder.calls, x, torch.Generator(), [result])


def test_what_is_done_number_by_number_overwrites_what_nobody_reads_again():
    x = torch.rand(5, 5)
    chain = recorded(lambda x: ((x * 2).exp() + 1).sigmoid(), x)
    places = {partial.keywords["out"].data_ptr() for partial in chain.calls if "out" in partial.keywords}
    assert (len(chain.calls), len(places)) == (4, 1)
    for act in (
        lambda x: ((y := x * 2) + y.t()).exp(),  # read in another order
        lambda x: ((y := x * 2).exp() + y) * y,  # read again later
        lambda x: (x * 2).sum(0) + (x * 3),  # of another size
        lambda x: (x * 2)[:, 1:] + (x * 3)[:, :-1],  # other parts of as much memory
        lambda x: (x * 2) @ x + 1,  # not number by number
    ):
        played = recorded(act, x)
        other = torch.rand(5, 5)
        played.play(other, 0)
        assert torch.equal(played.results[0], act(other))


def test_recording_does_not_import_torchs_compiler():
    done = subprocess.run([sys.executable, "-c", COMPILER], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_gradients_that_are_there_are_added_to_the_plain_way():
    model, objective = made()
    replay = Replay(model, objective, 0)
    several(replay)
    assert replay.gradients(batch(4), 4) is not None
    assert replay.gradients(batch(5), 5) is None


@pytest.mark.parametrize(
    "shaped",
    [lambda x: x.round().unique().sum(), lambda x: x[x > 0.5].sum(), lambda x: x.nonzero().float().mean()],
)
def test_results_whose_size_depends_on_values_are_not_recorded(shaped):
    with pytest.raises(tape.Refused, match="depends on values"), tape.Recorder():
        shaped(torch.rand(5, 3))
