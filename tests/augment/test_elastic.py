"""Elastic deformation, against SciPy's splines through the drawn displacements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from unet_jax.augment.kinds import Given
from unet_jax.augment.make import STEPS, check_augment, make_augment
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError


def grid(size):
    return np.stack(np.mgrid[tuple(slice(n) for n in size)], -1).astype(np.float32) + 0.5


@pytest.mark.parametrize(("size", "points"), [((31, 18), 3), ((5, 40), 5), ((6, 9, 7), 2)])
def test_displacements_are_splines_through_what_is_drawn(size, points):
    move = jax.jit(STEPS["elastic"].make(deviation=10.0, points=points).move)
    axes, key = len(size), jax.random.key(5)
    drawn = 10 * np.asarray(jax.random.normal(key, (*(points,) * axes, axes)), np.float64)
    places = grid(size) * np.random.default_rng(0).uniform(0.9, 1.1, (*size, axes)).astype("f4")
    at = np.clip(np.moveaxis(places / np.array(size), -1, 0), 0, 1) * (points - 1)
    field = [
        ndimage.map_coordinates(drawn[..., a], at, order=3, mode="mirror") for a in range(axes)
    ]
    np.testing.assert_allclose(move(key, places), places + np.stack(field, -1), atol=1e-3)
    # A point of the grid is moved by what was drawn for it.
    corners = np.stack(np.meshgrid(*(np.linspace(0, n, points) for n in size), indexing="ij"), -1)
    whole = jax.eval_shape(move, key, places)
    wide = np.zeros(whole.shape, np.float32)
    wide.reshape(-1, axes)[: points**axes] = corners.reshape(-1, axes)
    moved = np.asarray(move(key, wide)).reshape(-1, axes)[: points**axes]
    np.testing.assert_allclose(
        moved - corners.reshape(-1, axes), drawn.reshape(-1, axes), atol=1e-3
    )


def test_deviations_are_those_of_the_config():
    step = STEPS["elastic"].make(deviation=10.0)
    keys = jax.random.split(jax.random.key(0), 300)
    middle = jnp.array([[[8.0, 8.0]]]).repeat(16, 0).repeat(16, 1)
    moved = np.asarray(jax.jit(jax.vmap(step.move, (0, None)))(keys, middle))[:, 0, 0] - 8
    np.testing.assert_allclose(moved.std(axis=0), 10, rtol=0.15)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=2)


def test_label_weight_and_image_are_deformed_alike():
    rows, columns = np.mgrid[:40, :30]
    label = ((rows // 4) * 10 + columns // 6).astype(np.uint8)
    image = (label / 255).astype(np.float32)[..., None]
    batch = image[None], label[None], np.ones((1, 40, 30), np.uint8)
    section = {"elastic": {"deviation": 3.0}}
    found = [np.asarray(x[0]) for x in make_augment(section, (0.0, 1.0))(*batch, jax.random.key(1))]
    assert set(np.unique(found[1])) <= {0, *np.unique(label)}
    assert 0.6 < found[2].mean() < 1
    assert (found[1] != label).mean() > 0.1
    # In the middle of an area of one class the image has its value.
    inner = ndimage.minimum_filter(found[1], 3) == ndimage.maximum_filter(found[1], 3)
    inner &= ndimage.minimum_filter(found[2], 3) > 0
    np.testing.assert_allclose(found[0][inner, 0] * 255, found[1][inner], atol=1e-3)
    assert inner.mean() > 0.2


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"points": 1}, r"points=1 must be from 2 to 64"),
        ({"points": 65}, r"points=65 must be from 2 to 64"),
        ({"deviation": -1.0}, r"deviation=-1.0 must be from 0 to 1000"),
    ],
)
def test_values_of_elastic_that_do_not_fit(keys, says):
    with pytest.raises(UserError, match=rf"^config\.augment\.elastic\.{says}"):
        check_augment({"elastic": keys}, Given(RGB))
