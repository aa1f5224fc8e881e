"""The laws over every part, the registry, and descriptions that must be refused."""

import ast
import inspect

import pytest
import torch

import cases.likelihoods
import cases.networks
import cases.objectives
import cases.posteriors
import cases.priors
import cases.regularizers
from gapless import likelihoods, networks, objectives, posteriors, priors, recipes, regularizers, testing
from gapless.errors import UsageError
from gapless.parts import Part, build, concrete, describe

CASES = {
    networks: cases.networks.CASES,
    posteriors: cases.posteriors.CASES,
    priors: cases.priors.CASES,
    likelihoods: cases.likelihoods.CASES,
    regularizers: cases.regularizers.CASES,
    objectives: cases.objectives.CASES,
}
INNER = {
    posteriors: (networks,), priors: (networks,), likelihoods: (networks,), regularizers: (networks,),
    objectives: (regularizers, networks),
}  # fmt: skip
ALL = [(module, name) for module, cases in CASES.items() for name in cases]
EVENT = (2, 3, 4)
CONDITIONAL = ("SemiSupervised",)  # objectives of models with a context
COLUMNS = {"Mixed": (3,)}  # events of likelihoods that are for tables alone


@pytest.mark.parametrize("module", CASES, ids=lambda m: m.__name__)
def test_every_part_has_a_case(module):
    assert set(CASES[module]) == set(concrete(module))


@pytest.mark.parametrize(("module", "name"), ALL, ids=[name for _, name in ALL])
def test_a_part_is_abstract_or_final(module, name):
    kind = getattr(module, name)
    assert not [child for child in kind.__subclasses__() if child.__module__.startswith("gapless")]


@pytest.mark.parametrize(("module", "name"), ALL, ids=[name for _, name in ALL])
def test_a_part_is_read_in_a_minute(module, name):
    """At most 40 lines, not counting docstrings, comments and blank lines."""
    source = inspect.getsource(getattr(module, name))
    docs = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = [line.strip() for number, line in enumerate(source.splitlines(), 1) if number not in docs]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 40


@pytest.mark.parametrize(("module", "name"), ALL, ids=[name for _, name in ALL])
def test_descriptions_round_trip(module, name):
    testing.check_description(CASES[module][name](), module, *INNER.get(module, ()))


@pytest.mark.parametrize("name", CASES[networks])
def test_networks_obey_the_laws(name):
    testing.check_network(CASES[networks][name]())


@pytest.mark.parametrize("name", CASES[posteriors])
def test_posteriors_obey_the_laws(name):
    testing.check_posterior(CASES[posteriors][name]())


@pytest.mark.parametrize("name", CASES[priors])
def test_priors_obey_the_laws(name):
    testing.check_prior(CASES[priors][name](), encode=cases.priors.encode)


@pytest.mark.parametrize("name", CASES[likelihoods])
def test_likelihoods_obey_the_laws(name):
    testing.check_likelihood(CASES[likelihoods][name](), event_shape=COLUMNS.get(name, EVENT))


@pytest.mark.parametrize("name", CASES[objectives])
def test_objectives_obey_the_laws(name, small_model):
    model = small_model
    if name in CONDITIONAL:
        model = recipes.build("conditional-vae", model.event_shape, latent=3, hidden=(16,), context=2)[0]
        model = model.given(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    testing.check_objective(CASES[objectives][name](), model, torch.rand(5, *model.event_shape))


@pytest.mark.parametrize("name", CASES[regularizers])
def test_regularizers_obey_the_laws(name):
    event = (1, 4, 4)
    model, _ = recipes.build(cases.regularizers.MODELS.get(name, "vae"), event, latent=4, hidden=(16,), seed=1)
    testing.check_regularizer(CASES[regularizers][name](), model, torch.rand(6, *event))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 3), (3, 7, 5), (1, 28, 28), (4, 33, 16), (2, 1, 9)])
def test_convolutions_serve_any_image_size(size):
    testing.check_network(networks.ConvolutionalEncoder(size, (3,), channels=(4, 4, 4), activation="elu"), batch=2)
    testing.check_network(
        networks.ConvolutionalDecoder((3,), (2, *size), channels=(4, 4, 4), activation="elu"), batch=2
    )


# The laws can fail: a part that breaks one is caught.


class _Wild(posteriors.Posterior):
    parameters_per_code = 2

    def forward(self, parameters):
        from gapless import distributions

        loc, log_scale = parameters.chunk(2, dim=-1)
        return distributions.DiagonalNormal(loc, log_scale.exp())


def test_the_law_of_bounded_scales_catches_an_exponential():
    with pytest.raises(AssertionError, match="overflows"):
        testing.check_posterior(_Wild())


def test_the_law_of_unmixed_rows_catches_batch_statistics():
    class Mixed(networks.Network):
        def __init__(self):
            super().__init__()
            self.inputs, self.outputs = (3,), (3,)
            self.layer = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x - x.mean(0))

    with pytest.raises(AssertionError, match="other items"):
        testing.check_network(Mixed())


@pytest.mark.parametrize(
    ("description", "match"),
    [
        ({"kind": "os.system"}, "no network called 'os.system'"),
        ({"kind": "Network"}, "no network called 'Network'"),
        ({"kind": "MLP", "inputs": [2], "outputs": [1], "evil": 1}, "no argument 'evil'"),
        ({"kind": "MLP"}, "cannot be made"),
        ({"kind": "MLP", "inputs": [2], "outputs": [-1]}, "at least 1"),
        ({"kind": "MLP", "inputs": [2], "outputs": [1], "activation": "eval"}, "no activation"),
        ({"kind": ["MLP"]}, "a part is described as"),
        ("MLP", "a part is described as"),
        ({}, "a part is described as"),
    ],
)
def test_descriptions_that_are_no_part_are_refused(description, match):
    with pytest.raises(UsageError, match=match):
        build(description, networks)


def test_nested_parts_are_described_and_built():
    class Pair(Part):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second = first, second

    described = describe(Pair(networks.MLP((1,), (1,), hidden=()), 3))
    assert described["first"]["kind"] == "MLP"
    assert isinstance(build(described["first"], networks), networks.MLP)
