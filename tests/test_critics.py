"""Critics on normals whose density ratios are known, and whose parameters each loss moves."""

import math

import numpy as np
import pytest
import torch

from codes import drawn, noise, normal
from gapless import likelihoods, networks, posteriors, priors, recipes, regularizers
from gapless.draws import draw
from gapless.errors import UsageError
from gapless.model import Model
from gapless.objectives import ELBO

COUNT = 20_000


class Quadratic(networks.Network):
    """A logit linear in 1, z_i and z_i z_j: the exact family of log ratios of normals."""

    def __init__(self, latent):
        super().__init__()
        self.inputs, self.outputs = (latent,), (1,)
        self.rows, self.columns = torch.triu_indices(latent, latent)
        size = 1 + latent + len(self.rows)
        self.weight = torch.nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def shown(self, z):
        return torch.cat([torch.ones_like(z[:, :1]), z, z[:, self.rows] * z[:, self.columns]], 1)

    def forward(self, x):
        return (self.shown(x) @ self.weight)[:, None]


def learned(penalty, draws):
    """The critic at the least of its own loss, for one set of draws."""
    optimizer = torch.optim.LBFGS(
        penalty.parameters(), max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def loss():
        optimizer.zero_grad()
        own = penalty(draws, generator=noise(1)).own
        own.backward()
        return own

    optimizer.step(loss)
    return penalty.critic


def covariance(critic, real, made):
    """Of the critic's weights: the inverse Fisher information of logistic regression on both kinds of draws."""
    shown = critic.shown(torch.cat([real, made]))
    chance = torch.sigmoid(shown @ critic.weight.detach())
    return torch.linalg.inv((shown * (chance * (1 - chance))[:, None]).T @ shown)


def test_a_prior_critic_learns_the_log_ratio_of_two_normals(ledger):
    loc, scale = 0.8, 0.7
    z = loc + scale * torch.randn(COUNT, 1, generator=noise(), dtype=torch.float64)
    critic = learned(regularizers.PriorCritic(Quadratic(1)), drawn(z[None]))
    # log N(z; 0, 1) - log N(z; loc, scale^2), by powers of z
    truth = torch.tensor([math.log(scale) + loc**2 / (2 * scale**2), -loc / scale**2, 0.5 / scale**2 - 0.5])
    real = torch.randn(COUNT, 1, generator=noise(5), dtype=torch.float64)
    errors = covariance(critic, real, z).diagonal().sqrt()
    for power, (mine, theirs, error) in enumerate(zip(critic.weight, truth, errors, strict=True)):
        ledger(
            "PriorCritic", f"best logit, coefficient of z^{power}, N({loc}, {scale}^2) and N(0, 1)",
            oracle="log p(z) - log q(z) in closed form", truth=theirs, measured=mine, tolerance=4 * error,
            why="4 standard errors of logistic regression (Fisher information)",
        )  # fmt: skip


def correlated(rho, count=COUNT):
    first, second = torch.randn(2, count, generator=noise(), dtype=torch.float64)
    return torch.stack([first, rho * first + math.sqrt(1 - rho**2) * second], 1)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_the_density_ratio_is_the_total_correlation_of_a_correlated_normal(rho, ledger):
    z = correlated(rho)
    penalty = regularizers.DensityRatio(Quadratic(2))
    critic = learned(penalty, drawn(z[None]))
    shown = critic.shown(z)
    shuffled = torch.stack([z[:, 0], z[torch.randperm(COUNT, generator=noise(7)), 1]], 1)
    spread = shown.mean(0) @ covariance(critic, z, shuffled) @ shown.mean(0)
    error = math.sqrt(spread + (shown @ critic.weight.detach()).var() / COUNT)
    ledger(
        "DensityRatio", f"total correlation of a normal with correlation {rho}, best critic",
        oracle="-1/2 log(1 - rho^2)", truth=-0.5 * math.log(1 - rho**2),
        measured=penalty(drawn(z[None]), generator=noise(2)).value, tolerance=4 * error,
        why="4 standard errors: of the critic's weights and of the mean over codes",
    )  # fmt: skip


def test_shuffled_codes_keep_each_feature_and_lose_its_company():
    z = correlated(0.9, 4000)
    again = regularizers.critics._shuffled(z, noise(3))
    assert torch.equal(again.sort(0).values, z.sort(0).values)
    assert abs(torch.corrcoef(again.T)[0, 1]) < 4 / math.sqrt(4000)


def test_against_its_best_critic_the_encoder_moves_towards_the_prior_and_to_independence():
    eps = torch.randn(2000, 2, generator=noise(), dtype=torch.float64)
    prior = regularizers.PriorCritic(Quadratic(2))
    shift = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():  # log N(z; 0, I) - log N(z; shift, I)
        prior.critic.weight.copy_(torch.tensor([0.25, -0.5, -0.5, 0, 0, 0]))
    assert torch.autograd.grad(prior(drawn((eps + shift)[None]), generator=noise()).value, shift)[0] > 0.1
    ratio = regularizers.DensityRatio(Quadratic(2))
    rho = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def codes(rho):
        return torch.stack([eps[:, 0], rho * eps[:, 0] + (1 - rho**2).sqrt() * eps[:, 1]], 1)

    with torch.no_grad():  # -1/2 log(1 - r^2) - (r^2 z1^2 - 2 r z1 z2 + r^2 z2^2) / (2 (1 - r^2))
        square = -0.25 / 1.5
        ratio.critic.weight.copy_(torch.tensor([-0.5 * math.log(0.75), 0, 0, square, 0.5 / 0.75, square]))
    value = ratio(drawn(codes(rho)[None]), generator=noise()).value
    single = torch.func.jvp(lambda r: ratio.critic(codes(r))[:, 0], (rho.detach(),), (torch.ones_like(rho),))[1]
    error = float(single.std()) / math.sqrt(len(eps))
    # TC = -1/2 log(1 - rho^2) changes by rho / (1 - rho^2); the best critic is stationary, so this is the gradient.
    assert float(torch.autograd.grad(value, rho)[0]) == pytest.approx(0.5 / 0.75, abs=4 * error)


def test_a_critic_that_cannot_tell_costs_log_two_and_the_right_side_costs_less():
    critic = Quadratic(1)
    z = torch.full((1, 50, 1), 3.0, dtype=torch.float64)
    penalty = regularizers.PriorCritic(critic)
    before = penalty(drawn(z), generator=noise())
    assert float(before.own) == pytest.approx(math.log(2), abs=1e-12)
    assert float(before.value) == pytest.approx(math.log(2), abs=1e-12)
    with torch.no_grad():
        critic.weight[1] = -1.0  # high at the prior, low at the codes
    after = penalty(drawn(z), generator=noise())
    assert after.own < 0.7 * before.own
    assert after.value > 2 * before.value


def images(shift=1.0):
    """A decoder whose every output is `shift`, and items at 0."""
    event = (1, 2, 2)
    model = Model(
        encoder=networks.MLP(event, (2 * 2,), hidden=()),
        posterior=posteriors.DiagonalNormal(),
        prior=priors.StandardNormal(2),
        decoder=networks.MLP((2,), (1, *event), hidden=()),
        likelihood=likelihoods.Normal(),
    ).double()
    with torch.no_grad():
        model.decoder.layers[-1].bias.fill_(shift)
    return model, torch.zeros(9, *event, dtype=torch.float64)


def summing(sign):
    """A critic whose logit is `sign` times the sum of an image's values."""
    critic = networks.MLP((1, 2, 2), (1,), hidden=()).double()
    with torch.no_grad():
        critic.layers[-1].weight.fill_(sign)
        critic.layers[-1].bias.zero_()
    return critic


def identity():
    features = networks.MLP((1, 2, 2), (4,), hidden=()).double()
    with torch.no_grad():
        features.layers[-1].weight.copy_(torch.eye(4))
        features.layers[-1].bias.zero_()
    return features


def seeing(**weights):
    verdict = networks.MLP((4,), (1,), hidden=()).double()
    with torch.no_grad():
        verdict.layers[-1].weight.fill_(-1.0)  # small images are real ones
        verdict.layers[-1].bias.zero_()
    return regularizers.ImageCritic(identity(), verdict, **weights)


@pytest.mark.parametrize(
    "penalty", [lambda: seeing(similarity=0.0), lambda: regularizers.PatchCritic(summing(-1.0))], ids=["image", "patch"]
)
def test_against_a_right_critic_the_decoder_moves_towards_the_items(penalty):
    for shift in (1.0, 3.0):
        model, x = images(shift)
        found = penalty()(draw(model, x, generator=noise()), generator=noise(1))
        gradient = torch.autograd.grad(found.value, model.decoder.layers[-1].bias)[0]
        assert (gradient > 0).all()  # descent lowers what is too high


def test_the_slope_that_a_right_critic_gives_the_decoder(ledger):
    """Larsen et al. (2016), algorithm 1: the decoder goes down -log D of what it makes, D = sigmoid(-sum of pixels)."""
    model, x = images(0.7)
    draws = draw(model, x, generator=noise())
    value = seeing(similarity=0.0)(draws, generator=noise(1)).value
    found = torch.autograd.grad(value, model.decoder.layers[-1].bias)[0]
    sampled = draws.prior.sample((len(x),), generator=noise(1))
    sums = [model.decode(z).mean.flatten(1).sum(1).detach() for z in (draws.z[0], sampled)]
    truth = sum(torch.sigmoid(total).mean() for total in sums)  # d/ds of log(1 + exp(s))
    flipped = -sum(torch.sigmoid(-total).mean() for total in sums)  # of -log(1 - D): the discriminator's own term
    ledger(
        "ImageCritic", "slope of the model's charge in a pixel's bias, made images too bright",
        oracle="derivative of -log D by hand", truth=truth, measured=found[0], tolerance=1e-12, why="float64",
        elsewhere=f"{flipped:.4g}: a flipped sign, descent makes them brighter still",
    )  # fmt: skip
    assert torch.allclose(found, truth.expand(4))


def test_the_patch_critics_losses_are_the_hinge_and_the_mean_verdict(ledger):
    model, x = images(0.4)
    x = x + torch.linspace(-0.5, 0.5, len(x))[:, None, None, None]
    critic, draws = summing(-0.8), draw(model, x, generator=noise())
    found = regularizers.PatchCritic(critic)(draws, generator=noise(1))
    real, made = (-0.8 * items.flatten(1).sum(1).detach() for items in (x, draws.likelihood.mean))
    hinge = 0.5 * (np.maximum(1 - real.numpy(), 0).mean() + np.maximum(1 + made.numpy(), 0).mean())
    for name, truth, value in (
        ("the critic's hinge loss", hinge, found.own), ("the model's charge", -made.mean(), found.value)
    ):  # fmt: skip
        ledger("PatchCritic", name, oracle="1/2 E relu(1 - f(x)) + 1/2 E relu(1 + f(D(z))) and -E f(D(z)), NumPy",
               truth=truth, measured=value, tolerance=1e-12, why="float64")  # fmt: skip
    own = regularizers.PatchCritic(critic)(draws, generator=noise(1)).own
    reached = torch.autograd.grad(own, list(model.parameters()), allow_unused=True)
    charged = (critic(draws.likelihood.mean) + 1).clamp_min(0).mean() / 2  # without the cut between the two players
    crossed = torch.autograd.grad(charged, model.decoder.layers[-1].bias)[0].norm()
    ledger(
        "PatchCritic", "gradient of the critic's loss in encoder and decoder, norm", oracle="0: each player its own",
        truth=0, measured=sum(g.norm() for g in reached if g is not None), tolerance=0, why="exact",
        elsewhere=f"{crossed:.3g} in the decoder's bias: the critic's loss reaches the model",
    )  # fmt: skip


def test_the_critic_of_images_learns_to_favour_the_items():
    for make in (lambda: seeing(), lambda: regularizers.PatchCritic(summing(0.1))):
        model, x = images()
        penalty = make()
        draws = draw(model, x, generator=noise())
        before = penalty(draws, generator=noise(1)).own
        critic = penalty.critic.layers[-1].weight
        slope = torch.autograd.grad(before, critic)[0]
        assert (slope > 0).all()  # the made images are the larger ones: descent lowers the critic's weights


def test_the_encoder_never_sees_the_verdict_on_images_and_feels_the_likeness(ledger):
    model, x = images()
    parameters = list(model.encoder.parameters())
    for similarity, felt in ((0.0, False), (1.0, True)):
        value = seeing(similarity=similarity)(draw(model, x, generator=noise()), generator=noise(1)).value
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        assert any(g is not None and (g != 0).any() for g in found) == felt
    draws = draw(model, x, generator=noise())
    likeness = [seeing(similarity=s)(draws, generator=noise(1)).value for s in (0.0, 2.0)]
    squared = 0.5 * (x - draws.likelihood.mean).square().flatten(1).sum(1).mean()
    ledger(
        "ImageCritic", "likeness, features that are the image itself", oracle="half the squared error",
        truth=2 * squared, measured=likeness[1] - likeness[0], tolerance=1e-12, why="float64",
    )  # fmt: skip


def test_the_verdict_is_on_reconstructions_and_on_decodes_of_the_prior():
    model, x = images(0.0)
    with torch.no_grad():
        model.decoder.layers[-1].weight.fill_(1.0)
        model.encoder.layers[-1].bias.copy_(torch.tensor([5.0, 5.0, -20.0, -20.0]))  # codes at 5
    draws = draw(model, x, generator=noise())
    value = seeing(similarity=0.0)(draws, generator=noise(1)).value
    sampled = draws.prior.sample((len(x),), generator=noise(1))
    logits = [-model.decode(z).mean.flatten(1).sum(1) for z in (draws.z[0], sampled)]
    expected = sum(torch.nn.functional.softplus(-logit).mean() for logit in logits)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)


CRITICS = {
    "DensityRatio": lambda: regularizers.DensityRatio(networks.MLP((3,), (1,), hidden=(8,)), weight=2.0),
    "PriorCritic": lambda: regularizers.PriorCritic(networks.MLP((3,), (1,), hidden=(8,)), weight=2.0),
    "ImageCritic": lambda: regularizers.ImageCritic(
        networks.MLP((1, 4, 4), (6,), hidden=(5,)), networks.MLP((6,), (1,), hidden=(8,)), weight=2.0
    ),
    "PatchCritic": lambda: regularizers.PatchCritic(networks.MLP((1, 4, 4), (1, 2, 2), hidden=(8,)), weight=2.0),
}


@pytest.mark.parametrize("name", CRITICS)
def test_one_backward_pass_moves_each_player_by_its_own_loss_alone(name, small_model):
    penalty, x = CRITICS[name](), torch.rand(6, 1, 4, 4)
    objective = ELBO(penalties=(penalty,))
    assert not objective.comparable
    players = {"model": list(small_model.parameters()), "critic": list(penalty.parameters())}

    def gradients(loss, player):
        found = torch.autograd.grad(loss, players[player], allow_unused=True, retain_graph=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, players[player], strict=True)]

    both = objective(small_model, x, generator=noise()).loss
    plain = ELBO()(small_model, x, generator=noise()).loss
    generator = noise()
    alone = penalty(draw(small_model, x, generator=generator), generator=generator)
    for mine, its in zip(gradients(both, "critic"), gradients(alone.own, "critic"), strict=True):
        assert torch.allclose(mine, its, atol=1e-7)
    assert any((g != 0).any() for g in gradients(alone.own, "critic"))
    for mine, its in zip(gradients(both, "model"), gradients(plain + 2 * alone.value, "model"), strict=True):
        assert torch.allclose(mine, its, atol=1e-6)
    assert all((g == 0).all() for g in gradients(alone.value, "critic"))
    assert not alone.own.requires_grad or all((g == 0).all() for g in gradients(alone.own, "model"))


def test_an_encoder_and_its_critic_find_the_prior_together():
    eps = torch.randn(1, 512, 1, generator=noise(), dtype=torch.float64)
    shift = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    penalty = regularizers.PriorCritic(networks.MLP((1,), (1,), hidden=()).double())
    optimizer = torch.optim.SGD([{"params": [shift], "lr": 0.1}, {"params": penalty.parameters(), "lr": 0.5}])
    path = []
    for step in range(400):
        optimizer.zero_grad()
        penalty.charged(drawn(eps + shift), noise(step))[0].backward()
        optimizer.step()
        path.append(float(shift.detach()))
    assert abs(sum(path[-100:]) / 100 + float(eps.mean())) < 4 / math.sqrt(512)  # of one step's draws of the prior
    assert abs(path[0]) > 1


@pytest.mark.parametrize(
    ("recipe", "kind", "weights"),
    [
        ("factor-vae", regularizers.DensityRatio, (1, 1, 35)),
        ("aae", regularizers.PriorCritic, (1, 0, 1)),
        ("vae-gan", regularizers.ImageCritic, (1, 1, 1)),
    ],
)
def test_recipes_with_a_critic_say_that_their_losses_are_not_comparable(recipe, kind, weights):
    _, objective = recipes.build(recipe, (1, 4, 4), latent=3, options={"units": 8})
    (penalty,) = objective.penalties
    assert isinstance(penalty, kind)
    assert (objective.reconstruction, objective.regularization, penalty.weight) == weights
    assert not objective.comparable


def test_the_critic_of_large_images_is_convolutional():
    features = recipes.build("vae-gan", (3, 32, 32), latent=3, options={"units": 8})[1].penalties[0].features
    assert isinstance(features, networks.ConvolutionalEncoder)
    assert normal(torch.zeros(2), 1.0).event_shape == (2,)


def test_the_order_of_a_critics_parameters_is_that_of_the_moments_in_checkpoints():
    assert [name for name, _ in CRITICS["ImageCritic"]().named_children()] == ["features", "critic"]


def test_a_critic_refuses_items_with_missing_values():
    described = {"kind": "Masked", "likelihood": {"kind": "Normal"}}
    model, objective = recipes.build(
        "vae-gan", (1, 4, 4), latent=2, likelihood=described, hidden=(8,), options={"units": 8}
    )
    with pytest.raises(UsageError, match="whole items"):
        objective(model, torch.rand(3, 1, 4, 4))
