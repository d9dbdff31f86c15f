"""Steps that turn, slant and shift, against SciPy and against what such maps are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from unet_jax.augment.kinds import Given
from unet_jax.augment.make import STEPS, check_augment, make_augment
from unet_jax.augment.scale import GREY
from unet_jax.data.sample import RGB, make_spec
from unet_jax.errors import UserError

SIZE = (13, 8)
UNIT = (0.0, 1.0)
MANY = jax.random.split(jax.random.key(7), 200)
STEPS_HERE = {
    "rotation": {"degrees": 40.0},
    "shear": {"degrees": 30.0},
    "translation": {"share": 0.25},
    "zoom": {"scale": (0.6, 1.7), "aspect": 1.3},
    "elastic": {"deviation": 2.0},
    "flip": {"left_right": True, "up_down": True},
}


def grid(size):
    return np.stack(np.mgrid[tuple(slice(n) for n in size)], -1).astype(np.float32) + 0.5


def maps_of(name, size=SIZE, **values):
    """Returns the matrices [N, axes, axes] and shifts [N, axes] of a step, from the middle on."""
    step = STEPS[name].make(**values)
    places = grid(size)
    moved = np.asarray(jax.jit(jax.vmap(step.move, (0, None)))(MANY, places), np.float64)
    axes, middle = len(size), np.array(size) / 2
    known = np.concatenate([(places - middle).reshape(-1, axes), np.ones((np.prod(size), 1))], 1)
    fits = [np.linalg.lstsq(known, (m - middle).reshape(-1, axes), rcond=None)[0] for m in moved]
    for fit, m in zip(fits, moved, strict=True):
        np.testing.assert_allclose(known @ fit, (m - middle).reshape(-1, axes), atol=1e-4)
    return np.array([fit[:axes].T for fit in fits]), np.array([fit[axes] for fit in fits])


def test_a_rotation_keeps_lengths_and_the_middle_and_draws_its_angle_evenly():
    matrices, shifts = maps_of("rotation", degrees=40.0)
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), [np.eye(2)] * 200, atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-4)
    angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert np.abs(angles).max() <= 40.01
    assert np.histogram(angles, 4, (-40, 40))[0].min() > 25


def test_a_shear_slants_one_axis_and_keeps_areas():
    matrices, shifts = maps_of("shear", degrees=30.0)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-4)
    np.testing.assert_allclose(shifts, 0, atol=1e-4)
    slopes = matrices - np.eye(2)
    along = np.abs(slopes[:, 1, 0]) > np.abs(slopes[:, 0, 1])
    np.testing.assert_allclose(np.where(along, slopes[:, 0, 1], slopes[:, 1, 0]), 0, atol=1e-4)
    drawn = np.degrees(np.arctan(np.where(along, slopes[:, 1, 0], slopes[:, 0, 1])))
    assert 27 < np.abs(drawn).max() <= 30.01
    assert 60 < along.sum() < 140


def test_a_translation_shifts_each_axis_by_its_share():
    matrices, shifts = maps_of("translation", share=0.25, size=(4, 13, 8))
    np.testing.assert_allclose(matrices, [np.eye(3)] * 200, atol=1e-4)
    shares = shifts / (4, 13, 8)
    assert (np.abs(shares).max(axis=0) <= 0.2501).all()
    assert (np.abs(shares).max(axis=0) > 0.23).all()
    assert np.abs(np.corrcoef(shares.T) - np.eye(3)).max() < 0.25


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((3, *SIZE, 2)), (0, 1, 1, 0)).astype(np.float32)
    label = (7 * rng.integers(0, 5, (3, *SIZE))).astype(np.uint8)
    return image, label, np.ones_like(label)


def scipy_move(image, label, places, order):
    """Looks everything up with SciPy: the image, the label, and whether anything is there."""
    size = label.shape
    inside = np.all((places >= 0) & (places < size), axis=-1)
    # The outermost half pixel is that of the pixel's middle.
    at = np.moveaxis(np.clip(places - 0.5, 0, np.array(size) - 1), -1, 0)
    modes = {"order": order, "mode": "mirror"}
    channels = [ndimage.map_coordinates(np.float64(x), at, **modes) for x in image.T.swapaxes(1, 2)]
    moved = np.clip(np.stack(channels, -1), 0, 1)
    nearest = np.moveaxis(np.floor(places), -1, 0)
    ids = ndimage.map_coordinates(label, nearest, order=0, mode="constant", cval=0)
    return np.where(inside[..., None], moved, GREY), np.where(inside, ids, 0), inside


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("name", STEPS_HERE)
def test_images_and_labels_come_from_where_scipy_finds_them(arrays, name, cubic, monkeypatch):
    section = {name: STEPS_HERE[name], "sampling": {"cubic": cubic}}
    step = STEPS[name].make(**STEPS_HERE[name])
    monkeypatch.setitem(
        STEPS, name, STEPS[name]._replace(make=lambda **_: step._replace(direct=None))
    )
    key = jax.random.key(4)
    found = jax.jit(make_augment(section, UNIT))(*arrays, key)
    assert set(np.unique(found[1])) <= {0, *np.unique(arrays[1])}
    for row, row_key in enumerate(jax.random.split(key, 3)):
        own = jax.random.split(row_key, len(STEPS))[list(STEPS).index(name)]
        places = np.asarray(step.move(own, jnp.asarray(grid(SIZE))), np.float64)
        expected = scipy_move(arrays[0][row], arrays[1][row], places, 3 if cubic else 1)
        # A place on the border of two pixels may be of either.
        clear = np.abs(places - np.round(places)).min(axis=-1) > 1e-4
        np.testing.assert_allclose(found[0][row][clear], expected[0][clear], atol=2e-5)
        np.testing.assert_array_equal(found[1][row][clear], expected[1][clear])
        np.testing.assert_array_equal(found[2][row][clear], expected[2][clear])
        assert clear.mean() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 2, 4)])
def test_tiny_images_and_volumes_are_looked_up_as_by_scipy(size):
    rng = np.random.default_rng(1)
    image, axes = rng.random((1, *size, 1)).astype(np.float32), len(size)
    label = rng.integers(0, 5, (1, *size)).astype(np.uint8)
    section = {"rotation": {"degrees": 180.0}, "translation": {"share": 0.3}}
    moves = [STEPS[name].make(**section[name]).move for name in ("translation", "rotation")]
    (row,) = jax.random.split(jax.random.key(3), 1)
    keys = dict(zip(STEPS, jax.random.split(row, len(STEPS)), strict=True))
    places = jnp.asarray(grid(size))
    for name, move in zip(("translation", "rotation"), moves, strict=True):
        places = move(keys[name], places)
    for cubic in (False, True):
        augment = make_augment(section | {"sampling": {"cubic": cubic}}, UNIT)
        found = augment(image, label, np.ones_like(label), jax.random.key(3))
        at = np.clip(np.asarray(places, np.float64) - 0.5, 0, np.array(size) - 1)
        inside = np.all((np.asarray(places) >= 0) & (np.asarray(places) < size), axis=-1)
        order = 3 if cubic else 1
        truth = ndimage.map_coordinates(
            np.float64(image[0, ..., 0]), np.moveaxis(at, -1, 0), order=order, mode="mirror"
        )
        truth = np.where(inside, np.clip(truth, 0, 1), GREY)
        np.testing.assert_allclose(found[0][0, ..., 0], truth, atol=2e-5)
        np.testing.assert_array_equal(found[2][0], inside)
        assert found[1].ndim == axes + 1


@pytest.mark.parametrize("size", [(6, 6), (2, 5, 5)])
@pytest.mark.parametrize("is_direct", [True, False])
def test_quarter_turns_are_those_of_numpy(size, is_direct, monkeypatch):
    rng = np.random.default_rng(2)
    image = rng.random((40, *size, 2)).astype(np.float32)
    label = rng.integers(0, 9, (40, *size)).astype(np.uint8)
    step = STEPS["turn"].make((0, 1))
    if not is_direct:
        monkeypatch.setitem(
            STEPS, "turn", STEPS["turn"]._replace(make=lambda **_: step._replace(direct=None))
        )
    augment = jax.jit(make_augment({"turn": {"quarters": (0, 1)}}, UNIT))
    found = augment(image, label, np.ones_like(label), jax.random.key(0))
    axes, seen = (len(size) - 2, len(size) - 1), []
    for row in range(40):
        (k,) = [k for k in range(4) if np.array_equal(np.rot90(label[row], k, axes), found[1][row])]
        np.testing.assert_allclose(found[0][row], np.rot90(image[row], k, axes), atol=1e-6)
        seen.append(k)
    assert set(seen) == {0, 1}
    assert (np.asarray(found[2]) == 1).all()


@pytest.mark.parametrize("name", ["rotation", "zoom", "colour"])
def test_a_step_is_taken_as_often_as_its_probability_says(name):
    values = STEPS_HERE.get(name, {"brightness": 0.3})
    rng = np.random.default_rng(3)
    image = rng.random((400, 5, 6, 1)).astype(np.float32)
    label = rng.integers(0, 9, (400, 5, 6)).astype(np.uint8)
    given = image, label, np.ones_like(label), jax.random.key(0)
    always, often = (
        jax.jit(make_augment({name: {**values, "probability": p}}, UNIT))(*given)
        for p in (1.0, 0.3)
    )
    took = np.any(np.abs(often[0] - image) > 1e-6, axis=(1, 2, 3))
    assert 90 < took.sum() < 150
    for x, y in zip(always, often, strict=True):
        np.testing.assert_allclose(x[took], y[took], atol=1e-5)
    np.testing.assert_array_equal(often[1][~took], label[~took])


@pytest.mark.parametrize(
    ("section", "given", "says"),
    [
        (
            {"rotation": {"degrees": 181.0}},
            Given(RGB),
            r"rotation\.degrees=181.0 must be from 0 to 180",
        ),
        ({"shear": {"degrees": -1.0}}, Given(RGB), r"shear\.degrees=-1.0 must be from 0 to 60"),
        ({"translation": {"share": 1.5}}, Given(RGB), r"share=1.5 must be from 0 to 1"),
        ({"zoom": {"probability": 1.5}}, Given(RGB), r"zoom\.probability=1.5 must be from 0 to 1"),
        ({"turn": {"quarters": (0, 4)}}, Given(RGB), r"turn\.quarters=\(0, 4\) must be different"),
        ({"turn": {"quarters": (1, 1)}}, Given(RGB), r"quarters=\(1, 1\) must be different"),
        (
            {"turn": {"quarters": (0, 1)}},
            Given(RGB, (4, 6)),
            r"turns 4 rows of 6 pixels into 6 of 4; use \(0, 2\)",
        ),
    ],
)
def test_values_of_these_steps_that_do_not_fit(section, given, says):
    with pytest.raises(UserError, match=rf"^config\.augment\..*{says}"):
        check_augment(section, given)


def test_half_turns_are_for_images_of_any_size():
    given = Given(make_spec(2, 1, "uint8"), (4, 6))
    assert check_augment({"turn": {"quarters": (0, 2)}}, given)["turn"] == {"quarters": (0, 2)}
