import numpy as np
import pytest

import gapless
from gapless.data import factors_of
from gapless.data.sprites import FACTORS, SIZE, draw_sprites, sprite_factors
from gapless.data_card import DataCard


def test_every_combination_of_the_factors_is_one_picture_and_no_two_are_equal():
    pictures, factors = draw_sprites(), sprite_factors()
    combinations = np.stack(list(factors.values()), axis=1)
    assert len(pictures) == len(combinations) == np.prod(list(FACTORS.values())) == 6144
    assert len(np.unique(combinations, axis=0)) == len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == 6144
    assert {name: codes.max() + 1 for name, codes in factors.items()} == FACTORS
    assert set(np.unique(pictures)) == {0, 1}
    assert np.array_equal(draw_sprites(), pictures)


@pytest.mark.parametrize(("name", "axis"), [("x", 1), ("y", 0)])
def test_places_move_the_centre_of_mass_to_the_right_and_down(name, axis):
    pictures, factors = draw_sprites().astype(float), sprite_factors()
    grid = np.indices((SIZE, SIZE))[axis]
    centre = (pictures * grid).sum((1, 2)) / pictures.sum((1, 2))
    means = [centre[factors[name] == value].mean() for value in range(FACTORS[name])]
    assert np.allclose(np.diff(means), 13 / 7, atol=0.05)  # 13 pixels in 7 steps
    other = [centre[factors["y" if name == "x" else "x"] == value].mean() for value in range(8)]
    assert np.ptp(other) < 0.1


def test_the_scale_is_that_of_the_area_and_a_half_turn_turns_the_picture():
    pictures, factors = draw_sprites(), sprite_factors()
    area = [pictures[factors["scale"] == value].sum() for value in range(4)]
    assert np.allclose(np.sqrt(np.array(area) / area[0]), np.array([4.0, 5.2, 6.6, 8.2]) / 4, rtol=0.05)
    picked = {n: factors[n] == v for n, v in {"shape": 1, "scale": 3, "x": 2, "y": 5}.items()}
    chosen = pictures[np.logical_and.reduce(list(picked.values()))]
    rows, columns = (np.nonzero(picture) for picture in chosen[[0, 4]])
    top = [(points[0] - points[0].mean()).min() for points in (rows, columns)]
    assert top[0] > top[1] + 0.5  # the heart's point is below, then above


def test_sprites_are_read_like_any_data_and_factors_follow_their_split():
    data = gapless.read("sprites", seed=3)
    assert (data.event_shape, data.likelihood, data.scaling.name) == ((1, 32, 32), "Bernoulli", "none")
    shapes = np.array(["triangle", "heart", "hook"])[factors_of(data.source)["shape"]]
    for part in (data.train, data.held_out):
        assert np.array_equal(np.array(data.label_names)[part.labels], shapes[part.index])
    again = DataCard.of(data).read()
    assert np.array_equal(again.held_out.index, data.held_out.index)
    assert DataCard.of(data).read_items("sprites")[0].take([7]).sum() == data.train.values[7].sum()
