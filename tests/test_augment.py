import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.augment import GREY, make_augment, standardise, to_unit, zoom_and_shift
from unet_jax.errors import UserError

SIDE = 24


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (6, SIDE, SIDE)).astype(np.uint8)
    weight = rng.integers(0, 2, (6, SIDE, SIDE)).astype(np.uint8)
    image = np.stack([label * 40, label * 20, 255 * weight], axis=-1).astype(np.uint8)
    return tuple(map(jnp.asarray, (image, label, weight)))


def literal_zoom(image, label, weight, scale, shift):
    """Looks every output pixel's centre up in the input."""
    h, w = label.shape
    out = np.full(image.shape, GREY), np.zeros((h, w), int), np.zeros((h, w))
    for i, j in np.ndindex(h, w):
        y, x = (i + 0.5 - shift[0]) / scale[0], (j + 0.5 - shift[1]) / scale[1]
        if not (0 <= y < h and 0 <= x < w):
            continue
        out[1][i, j], out[2][i, j] = label[int(y), int(x)], weight[int(y), int(x)]
        total = np.zeros(image.shape[-1])
        divisor = 0.0
        for r in range(h):
            for c in range(w):
                k = max(0, 1 - abs(y - 0.5 - r)) * max(0, 1 - abs(x - 0.5 - c))
                total, divisor = total + k * image[r, c], divisor + k
        out[0][i, j] = total / divisor
    return out


@pytest.mark.parametrize(
    ("scale", "shift"), [((1.7, 1.3), (-4.2, 1.5)), ((1.0, 1.0), (3.0, -5.0)), ((1.2, 2.5), (0, 0))]
)
def test_zoom_and_shift_equals_looking_every_pixel_up(batch, scale, shift):
    image, label, weight = (np.asarray(x[0], np.float32) for x in batch)
    image, label = image[:12, :12] / 255, label[:12, :12].astype(int)
    weight = weight[:12, :12]
    expected = literal_zoom(image, label, weight, scale, shift)
    found = zoom_and_shift(*map(jnp.asarray, (image, label, weight, scale, shift)))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[2], expected[2])


def test_nothing_asked_for_changes_nothing(batch):
    found = make_augment()(*batch, jax.random.key(0))
    np.testing.assert_allclose(found[0], np.asarray(batch[0], np.float32) / 255, rtol=1e-6)
    np.testing.assert_array_equal(found[1], batch[1])
    np.testing.assert_array_equal(found[2], batch[2])
    assert [x.dtype for x in found] == [jnp.float32, jnp.int32, jnp.float32]


@pytest.mark.parametrize("axis", [1, 2])
def test_flips_take_image_label_and_weight_alike(batch, axis):
    name = {1: "flip_ud", 2: "flip_lr"}[axis]
    seen = set()
    for seed in range(4):
        found = make_augment(**{name: True})(*batch, jax.random.key(seed))
        for row in range(6):
            picture = tuple(np.asarray(x[row]) for x in (to_unit(batch[0]), *batch[1:]))
            flipped = tuple(np.flip(x, axis - 1) for x in picture)
            is_flipped = np.array_equal(found[1][row], flipped[1])
            seen.add(is_flipped)
            for x, y in zip(found, flipped if is_flipped else picture, strict=True):
                np.testing.assert_array_equal(x[row], y)
    assert seen == {True, False}


def test_zoom_keeps_the_frame_inside_the_picture_and_the_label_on_the_image():
    # A smooth picture that says where each pixel was: the label must have moved with it.
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = np.stack([y, x, y], -1)[None].repeat(8, 0).astype(np.uint8) * 8
    label = (y // 4).astype(np.uint8)[None].repeat(8, 0)
    weight = np.ones_like(label)
    augment = make_augment(zoom=(1.0, 2.0), aspect=1.0)
    moved, moved_label, moved_weight = augment(
        *map(jnp.asarray, (image, label, weight)), jax.random.key(3)
    )
    assert (moved_weight == 1).all()
    row = np.asarray(moved[..., 0]) * 255 / 8
    assert (np.abs(row - (np.asarray(moved_label) * 4 + 1.5)) <= 2.01).all()
    assert len({float(r[0, 0]) for r in row}) > 4  # every picture draws its own


def test_zooming_out_leaves_a_frame_that_does_not_count(batch):
    image, label, _ = batch
    weight = jnp.ones_like(label)
    augment = make_augment(zoom=(0.5, 0.5))
    moved, _, moved_weight = augment(image, label, weight, jax.random.key(0))
    np.testing.assert_array_equal(moved_weight.sum(axis=(1, 2)), (SIDE / 2) ** 2)
    assert (np.asarray(moved)[np.asarray(moved_weight) == 0] == GREY).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_jitter_moves_colours_and_nothing_else(batch, name):
    found = make_augment(**{name: 0.4})(*batch, jax.random.key(0))
    plain = to_unit(batch[0])
    assert not jnp.allclose(found[0], plain, atol=1e-2)
    assert (found[0] >= 0).all()
    assert (found[0] <= 1).all()
    np.testing.assert_array_equal(found[1], batch[1])
    np.testing.assert_array_equal(found[2], batch[2])
    if name == "brightness":
        change = np.asarray(found[0] - plain)[np.asarray((found[0] > 0) & (found[0] < 1))]
        assert (np.abs(change) <= 0.4).all()


def test_a_key_decides_everything(batch):
    augment = jax.jit(make_augment(flip_lr=True, zoom=(0.8, 1.5), aspect=1.3, brightness=0.2))
    first, again, other = (augment(*batch, jax.random.key(k))[0] for k in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)


def test_standardised_grey_is_zero():
    found = standardise(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(found, [-2.0, 0.0, 2.0])


@pytest.mark.parametrize(
    "arguments", [{"zoom": (2.0, 1.0)}, {"zoom": (1.0,)}, {"aspect": 0.5}, {"hue": 0.7}]
)
def test_values_that_do_not_fit(arguments):
    (name,) = arguments
    with pytest.raises(UserError, match=f"config.augment.{name}="):
        make_augment(**arguments)
