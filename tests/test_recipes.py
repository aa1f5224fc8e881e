import math

import pytest
import torch

from gapless import networks, posteriors, recipes
from gapless.errors import OutOfMemory, UsageError
from gapless.settings import KL_OPTIONS, Settings

OPTIONS = {"geco": {"target": 10.0}, "factor-vae": {"units": 20}}
RATES = {"capacity-vae": 1e-6, "info-vae": 1e-5, "dip-vae-1": 1e-5}
"""Where the gradient is large, a small step."""


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_takes_a_step(name):
    options, classes = OPTIONS.get(name, {}), 2 if recipes.RECIPES[name].conditional else 0
    latent = 4 if name == "eq-vae" else 3  # its codes are grids
    model, objective = recipes.build(name, (1, 4, 4), latent=latent, hidden=(16,), options=options, context=classes)
    model = model.given(torch.eye(2)[torch.arange(8) % 2]) if classes else model
    objective.eval()  # the multiplier of geco stays where it is
    objective.plan(10, 100)
    x = torch.rand(8, 1, 4, 4)
    before = objective(model, x, generator=torch.Generator().manual_seed(0)).loss
    optimizer = torch.optim.SGD(model.parameters(), lr=RATES.get(name, 1e-3))
    before.backward()
    optimizer.step()
    after = objective(model, x, generator=torch.Generator().manual_seed(0)).loss
    assert after < before


def test_the_three_share_their_hidden_weights():
    models = {name: recipes.build(name, (5,), latent=2, hidden=(8, 6), seed=3)[0] for name in ("ae", "kl-only", "vae")}
    for part in (
        "encoder.layers.1.weight",
        "encoder.layers.3.weight",
        "decoder.layers.1.weight",
        "decoder.layers.5.bias",
    ):
        weights = [model.state_dict()[part] for model in models.values()]
        assert torch.equal(weights[0], weights[1])
        assert torch.equal(weights[1], weights[2])


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (recipes.build("vae", (5,), seed=s)[0].state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


ABSURD = {
    "hidden layers": ("vae", {"hidden": (10**9, 10**9)}),
    "latent features": ("vae", {"latent": 10**12}),
    "channels": ("vae", {"network": "convolutional", "channels": (10**8, 10**8)}),
    "codes": ("vq-vae", {"options": {"codes": 10**11}}),
    "a critic, which is of the objective": ("factor-vae", {"options": {"units": 10**9}}),
}


@pytest.mark.parametrize("asked", ABSURD)
def test_the_parameter_budget_is_checked_before_anything_is_allocated(asked):
    name, sizes = ABSURD[asked]  # 10 GB to 10^19 bytes: allocating them would end in another error
    with pytest.raises(
        UsageError, match=r"asks for \S+ parameters; the budget is 2e\+09(.|\n)*fix: give smaller sizes"
    ):
        recipes.build(name, (1, 16, 16), **sizes)


@pytest.mark.parametrize("latent", [10**18, 10**21])
def test_sizes_that_no_number_of_bytes_can_hold_are_refused_in_a_sentence(latent):
    with pytest.raises(UsageError, match="cannot be") as refused:
        recipes.build("vae", (5,), latent=latent)
    assert len(str(refused.value).splitlines()) == 1


def test_a_model_within_the_budget_that_does_not_fit_the_machine_is_said_so(monkeypatch):
    def full(*sizes, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes.")

    plain = torch.nn.Linear.reset_parameters
    monkeypatch.setattr(
        torch.nn.Linear, "reset_parameters", lambda self: plain(self) if self.weight.is_meta else full()
    )
    with pytest.raises(OutOfMemory, match="not enough memory for the model"):
        recipes.build("vae", (5,))


def test_an_autoencoder_is_a_point_and_weights():
    model, objective = recipes.build("ae", (5,))
    assert isinstance(model.posterior, posteriors.PointMass)
    assert (objective.reconstruction, objective.regularization) == (1, 0)
    assert recipes.build("kl-only", (5,))[1].reconstruction == 0
    assert recipes.build("beta-vae", (5,), options={"beta": 7.0})[1].effective_beta == 7


def test_controls_of_the_kl_reach_the_objective():
    given = {"kl_schedule": "cyclic", "kl_warmup": 0.2, "kl_cycles": 3, "free_bits": 0.5, "beta": 2.0}
    made = recipes.build("beta-vae", (5,), options=given)[1]
    assert (made.schedule, made.warmup, made.cycles, made.free_bits, made.regularization) == ("cyclic", 0.2, 3, 0.5, 2)
    assert recipes.build("vae", (5,), options={"capacity": 3.0})[1].capacity == 3
    made = recipes.build("capacity-vae", (5,), options={"capacity": 3.0})[1]
    assert (made.schedule, made.regularization, made.capacity) == ("linear", 1000, 3)
    made = recipes.build("cyclical-vae", (5,), options={"kl_cycles": 2})[1]
    assert (made.schedule, made.cycles, made.regularization) == ("cyclic", 2, 1)
    assert recipes.build("free-bits", (5,))[1].free_bits == 0.25
    assert recipes.build("geco", (5,), options={"target": -3.0})[1].target == -3


def test_settings_hand_the_options_that_were_given_to_the_recipe():
    assert Settings().options() == {}
    settings = Settings(beta=2.0, kl_schedule="linear", kl_warmup=0.3)
    assert settings.options() == {"beta": 2.0, "kl_schedule": "linear", "kl_warmup": 0.3}
    assert recipes.build("beta-vae", (5,), options=settings.options())[1].warmup == 0.3
    known = {name for recipe in recipes.RECIPES.values() for name in recipe.accepted}
    assert set(KL_OPTIONS) <= known & set(Settings().to_dict())


def test_any_option_of_a_recipe_can_be_given_by_name():
    settings = Settings(option=("samples=7", "estimator=score-function"))
    assert settings.options() == {"samples": 7, "estimator": "score-function"}
    made = recipes.build("iwae", (5,), options=settings.options())[1]
    assert (made.samples, made.estimator) == (7, "score-function")
    with pytest.raises(UsageError, match="takes NAME=VALUE"):
        Settings(option=("samples",))
    with pytest.raises(UsageError, match="no option depth"):
        recipes.build("iwae", (5,), options=Settings(option=("depth=3",)).options())
    with pytest.raises(UsageError, match="no estimator 'best'"):
        recipes.build("iwae", (5,), options={"estimator": "best"})


@pytest.mark.parametrize("name", ["ae", "kl-only"])
def test_a_single_term_takes_no_control(name):
    for option in KL_OPTIONS:
        with pytest.raises(UsageError, match=f"no option {option}"):
            recipes.build(name, (5,), options={option: 1.0})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kl_warmup": 0.5}, "kl_warmup does nothing with the schedule 'constant'"),
        ({"kl_cycles": 4, "kl_schedule": "linear"}, "kl_cycles does nothing with the schedule 'linear'"),
        ({"kl_schedule": "sigmoid"}, "no schedule of the KL called 'sigmoid'"),
        ({"capacity": 1.0, "free_bits": 1.0}, "both set the least KL"),
        ({"free_bits": -1.0}, "free_bits is a number of nats"),
        ({"target": 1.0}, r"no option target(.|\n)*recipes that have it: geco"),
    ],
)
def test_controls_that_do_nothing_or_cannot_be_are_refused(options, match):
    with pytest.raises(UsageError, match=match):
        recipes.build("vae", (5,), options=options)


def test_geco_finds_its_target_where_none_is_given():
    objective = recipes.build("geco", (5,))[1]
    assert objective.target is None
    assert recipes.build("geco", (5,), options={"kl": 2.0})[1].kl == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "sgd"}, {"schedule": "step"}, {"precision": "fp16"}, {"warmup": 1.0}, {"warmup": -0.1},
        {"ema": 0.0}, {"ema": 1.0}, {"clip": 0.0}, {"clip": math.nan}, {"patience": 0}, {"accumulate": 0},
        {"weight_decay": -1.0}, {"weight_decay": 0.1, "optimizer": "adam"}, {"accumulate": 9, "batch_size": 8},
        {"capacity": -1.0}, {"free_bits": math.inf}, {"beta": -1.0}, {"target": math.nan},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        Settings(**arguments)


def test_impossible_ramps_are_refused_where_the_settings_are_made():
    for arguments, match in (
        ({"kl_schedule": "step"}, "no schedule of the KL"),
        ({"kl_warmup": 1.5}, "warm-up of the KL"),
        ({"kl_cycles": 0}, "at least 1 cycle"),
    ):
        with pytest.raises(UsageError, match=match):
            Settings(**arguments)


@pytest.mark.parametrize(
    ("event", "kind"),
    [((30,), networks.MLP), ((1, 28, 28), networks.MLP), ((3, 32, 32), networks.ConvolutionalEncoder)],
)
def test_auto_chooses_a_network_that_suits_the_data(event, kind):
    assert isinstance(recipes.build("vae", event)[0].encoder, kind)


def test_decoders_mirror_their_encoders():
    model, _ = recipes.build("vae", (5,), hidden=(20, 10))
    assert model.encoder.hidden == (20, 10)
    assert model.decoder.hidden == (10, 20)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"name": "gan"}, "no recipe called 'gan'"),
        ({"likelihood": "Poison"}, "no likelihood called 'Poison'"),
        ({"network": "transformer"}, "no network called"),
        ({"network": "convolutional"}, "needs images"),
        ({"latent": 0}, "at least 1 latent"),
        ({"options": {"gamma": 1.0}}, "no option gamma"),
        ({"hidden": (0,)}, "at least 1"),
    ],
)
def test_unknown_names_and_sizes_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        recipes.build(**{"name": "vae", "event_shape": (5,), **arguments})
