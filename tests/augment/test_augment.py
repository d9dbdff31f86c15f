import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.augment.kinds import Given
from unet_jax.augment.make import STEPS, Step, check_augment, make_augment
from unet_jax.augment.resample import resample
from unet_jax.augment.scale import GREY, standardise, to_unit
from unet_jax.augment.spatial import flip, zoom_and_shift
from unet_jax.data.sample import RGB, make_spec
from unet_jax.defaults import PARTS
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
    found = make_augment({}, RGB.value_range)(*batch, jax.random.key(0))
    np.testing.assert_allclose(found[0], np.asarray(batch[0], np.float32) / 255, rtol=1e-6)
    np.testing.assert_array_equal(found[1], batch[1])
    np.testing.assert_array_equal(found[2], batch[2])
    assert [x.dtype for x in found] == [jnp.float32, jnp.int32, jnp.float32]


@pytest.mark.parametrize("axis", [1, 2])
def test_flips_take_image_label_and_weight_alike(batch, axis):
    name = {1: "up_down", 2: "left_right"}[axis]
    seen = set()
    for seed in range(4):
        found = make_augment({"flip": {name: True}}, RGB.value_range)(*batch, jax.random.key(seed))
        for row in range(6):
            image = tuple(
                np.asarray(x[row]) for x in (to_unit(batch[0], RGB.value_range), *batch[1:])
            )
            flipped = tuple(np.flip(x, axis - 1) for x in image)
            is_flipped = np.array_equal(found[1][row], flipped[1])
            seen.add(is_flipped)
            for x, y in zip(found, flipped if is_flipped else image, strict=True):
                np.testing.assert_array_equal(x[row], y)
    assert seen == {True, False}


def test_zoom_keeps_the_frame_inside_the_image_and_the_label_on_the_image():
    # A smooth image that says where each pixel was: the label must have moved with it.
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = np.stack([y, x, y], -1)[None].repeat(8, 0).astype(np.uint8) * 8
    label = (y // 4).astype(np.uint8)[None].repeat(8, 0)
    weight = np.ones_like(label)
    augment = make_augment({"zoom": {"scale": (1.0, 2.0)}}, RGB.value_range)
    moved, moved_label, moved_weight = augment(
        *map(jnp.asarray, (image, label, weight)), jax.random.key(3)
    )
    assert (moved_weight == 1).all()
    row = np.asarray(moved[..., 0]) * 255 / 8
    assert (np.abs(row - (np.asarray(moved_label) * 4 + 1.5)) <= 2.01).all()
    assert len({float(r[0, 0]) for r in row}) > 4  # every image draws its own


def test_zooming_out_leaves_a_frame_that_does_not_count(batch):
    image, label, _ = batch
    weight = jnp.ones_like(label)
    augment = make_augment({"zoom": {"scale": (0.5, 0.5)}}, RGB.value_range)
    moved, _, moved_weight = augment(image, label, weight, jax.random.key(0))
    np.testing.assert_array_equal(moved_weight.sum(axis=(1, 2)), (SIDE / 2) ** 2)
    assert (np.asarray(moved)[np.asarray(moved_weight) == 0] == GREY).all()


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_jitter_moves_colours_and_nothing_else(batch, name):
    found = make_augment({"colour": {name: 0.4}}, RGB.value_range)(*batch, jax.random.key(0))
    plain = to_unit(batch[0], RGB.value_range)
    assert not jnp.allclose(found[0], plain, atol=1e-2)
    assert (found[0] >= 0).all()
    assert (found[0] <= 1).all()
    np.testing.assert_array_equal(found[1], batch[1])
    np.testing.assert_array_equal(found[2], batch[2])
    if name == "brightness":
        change = np.asarray(found[0] - plain)[np.asarray((found[0] > 0) & (found[0] < 1))]
        assert (np.abs(change) <= 0.4).all()


def test_a_key_decides_everything(batch):
    zoom = {"scale": (0.8, 1.5), "aspect": 1.3}
    section = {"flip": {"left_right": True}, "zoom": zoom, "colour": {"brightness": 0.2}}
    augment = jax.jit(make_augment(section, RGB.value_range))
    first, again, other = (augment(*batch, jax.random.key(k))[0] for k in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)


def test_standardised_grey_is_zero():
    found = standardise(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(found, [-2.0, 0.0, 2.0])


@pytest.mark.parametrize(
    ("section", "named"),
    [
        (
            {"zoom": {"scale": (2.0, 1.0)}},
            r"zoom\.scale=\(2\.0, 1\.0\) must be \(smallest, largest",
        ),
        ({"zoom": {"scale": (1.0,)}}, r"zoom\.scale=\(1\.0,\) must be \(smallest, largest"),
        ({"zoom": {"aspect": 0.5}}, r"zoom\.aspect=0\.5 must be 1 or more"),
        ({"colour": {"hue": 0.7}}, r"colour\.hue=0\.7 must be from 0 to 0\.5"),
        ({"colour": {"contrast": 1.1}}, r"colour\.contrast=1\.1 must be from 0 to 1\.0"),
        ({"flip": {"left_right": 1}}, r"flip\.left_right=1 is of type int"),
        ({"flip": {"lr": True}}, r"flip\.lr is not a config key; allowed are left_right, up_down"),
        ({"spin": {}}, r"spin is not known; allowed are flip, zoom, colour,"),
    ],
)
def test_values_that_do_not_fit(section, named):
    with pytest.raises(UserError, match=rf"^config\.augment\.{named}"):
        check_augment(section, Given(RGB))


def test_literal_defaults_are_those_of_the_steps_and_switch_them_off():
    assert list(PARTS["augment"]) == list(STEPS)
    for name, step in STEPS.items():
        assert check_augment({name: {}}, Given(RGB)) == {name: PARTS["augment"][name]}
        assert step.make() is None


def test_a_new_step_leaves_the_draws_of_others_as_they_were():
    keys = [jax.random.key_data(jax.random.split(jax.random.key(5), n)) for n in (3, 4, 9)]
    assert all(jnp.array_equal(keys[0], more[:3]) for more in keys)


def literal_move(image, label, weight, places):
    """Looks up where each pixel comes from: linear in the image, nearest in label and weight."""
    height, width = label.shape
    moved, classes, known = np.full_like(image, GREY), np.zeros_like(label), np.zeros_like(weight)
    for i, j in np.ndindex(label.shape):
        y, x = places[i, j]
        if 0 <= y < height and 0 <= x < width:
            classes[i, j], known[i, j] = label[int(y), int(x)], weight[int(y), int(x)]
            r, c = np.clip(y - 0.5, 0, height - 1), np.clip(x - 0.5, 0, width - 1)
            r0, c0 = min(int(r), height - 2), min(int(c), width - 2)
            moved[i, j] = sum(
                (1 - abs(r - a)) * (1 - abs(c - b)) * image[a, b]
                for a in (r0, r0 + 1)
                for b in (c0, c0 + 1)
            )
    return moved, classes, known


def test_resampling_equals_looking_every_pixel_up(batch):
    image, label, weight = (np.asarray(x[0], np.float32) for x in batch)
    image, label, weight = image[:9, :11] / 255, label[:9, :11].astype(int), weight[:9, :11]
    rng = np.random.default_rng(1)
    places = np.stack(np.mgrid[:9, :11], -1) + 0.5 + rng.normal(0, 2, (9, 11, 2))
    found = resample(*map(jnp.asarray, (image, label, weight, places.astype(np.float32))))
    for x, y in zip(found, literal_move(image, label, weight, places), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_composed_steps_are_those_taken_one_after_the_other(batch, monkeypatch):
    section = {"zoom": {"scale": (1.0, 2.0), "aspect": 1.2}, "flip": {"left_right": True}}
    expected = make_augment(section, RGB.value_range)(*batch, jax.random.key(2))
    monkeypatch.setitem(STEPS, "flip", Step(lambda **own: flip(**own)._replace(direct=None)))
    found = make_augment(section, RGB.value_range)(*batch, jax.random.key(2))
    # Where the image grows nothing is filtered, so that both ways are linear.
    grows = np.asarray(expected[2]) == np.asarray(found[2])
    assert grows.mean() > 0.99
    np.testing.assert_array_equal(found[1], expected[1])
    assert np.median(np.abs(found[0] - expected[0])) < 1e-5


def test_the_order_of_steps_is_that_of_the_section(batch):
    zoom, mirror = {"zoom": {"scale": (1.5, 2.0)}}, {"flip": {"left_right": True}}
    first, second = (
        make_augment(x, RGB.value_range)(*batch, jax.random.key(3))
        for x in (zoom | mirror, mirror | zoom)
    )
    assert not np.array_equal(first[1], second[1])


def test_flips_of_volumes_take_their_last_axes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 3, 5, 6, 2), np.uint8)
    label, weight = (rng.integers(0, n, (4, 3, 5, 6), np.uint8) for n in (4, 2))
    found = make_augment({"flip": {"left_right": True}}, RGB.value_range)(
        image, label, weight, jax.random.key(1)
    )
    seen = set()
    for row in range(4):
        is_same = np.array_equal(found[1][row], label[row])
        seen.add(is_same)
        np.testing.assert_array_equal(
            found[1][row], label[row] if is_same else label[row, ..., ::-1]
        )
    assert seen == {True, False}


def labelled(size, labels=(), channels=1):
    """A volume or image of 16 bits with L labels, one of a pixel's number each."""
    rng = np.random.default_rng(3)
    image = rng.integers(0, 2**16, (2, *size, channels)).astype(np.uint16)
    label = rng.integers(0, 2, (2, *size, *labels)).astype(np.uint8)
    weight = rng.integers(0, 2, (2, *size)).astype(np.uint8)
    return image, label, weight


@pytest.mark.parametrize("size", [(4, 5, 6), (5, 6)])
@pytest.mark.parametrize("labels", [(), (3,)])
@pytest.mark.parametrize("is_direct", [True, False])
def test_flips_of_volumes_and_of_several_labels(size, labels, is_direct, monkeypatch):
    image, label, weight = labelled(size, labels)
    if not is_direct:
        way = Step(lambda **values: flip(**values)._replace(direct=None))
        monkeypatch.setitem(STEPS, "flip", way)
    seen = set()
    augment = jax.jit(make_augment({"flip": {"left_right": True, "up_down": True}}, (0.0, 65535.0)))
    for seed in range(4):
        found = augment(image, label, weight, jax.random.key(seed))
        for row in range(2):
            arrays = image[row] / np.float32(65535), label[row], weight[row]
            ways = [
                tuple(np.flip(x, [len(size) - 1 - axis for axis in axes]) for x in arrays)
                for axes in ((), (0,), (1,), (0, 1))
            ]
            is_same = [
                all(
                    np.allclose(np.asarray(x[row]), y, atol=1e-6)
                    for x, y in zip(found, way, strict=True)
                )
                for way in ways
            ]
            assert sum(is_same) == 1
            seen.add(is_same.index(True))
    assert len(seen) > 1


def test_zoom_moves_each_of_several_labels_as_one(batch):
    image, label, weight = batch
    several = jnp.stack([label, 4 - label], axis=-1)
    augment = make_augment({"zoom": {"scale": (0.5, 2.0), "aspect": 1.5}}, RGB.value_range)
    for general in (False, True):
        arrays = []
        for one in (label, several):
            if general:
                axes = jnp.arange(SIDE) * 0.7 - 2, jnp.arange(SIDE) * 1.2
                way = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
                unit = to_unit(image[0], RGB.value_range)
                arrays.append(resample(unit, one[0], weight[0], way)[1])
            else:
                arrays.append(augment(image, one, weight, jax.random.key(1))[1])
        one, two = arrays
        inside = np.asarray(two).sum(axis=-1) > 0  # outside all are 0
        np.testing.assert_array_equal(two[..., 0], one)
        np.testing.assert_array_equal(np.asarray(two)[..., 1][inside], 4 - np.asarray(one)[inside])
        assert 0 < inside.mean() <= 1


@pytest.mark.parametrize(
    ("section", "spec", "says"),
    [
        ({"zoom": {"scale": (1.0, 2.0)}}, make_spec(3, 1, "uint8"), "zoom is for images of 2 axes"),
        ({"colour": {"hue": 0.1}}, make_spec(2, 1, "uint8"), "hue=0.1 is for images of three"),
        ({"colour": {"saturation": 0.1}}, make_spec(2, 4, "uint8"), "=0.1 is for .* set it to 0"),
        (
            {"colour": {"saturation": 0.2, "hue": 0.02}},
            make_spec(2, 1, "uint16"),
            r"saturation=0.2 and config.augment.colour.hue=0.02 are for .* set each to 0, or",
        ),
    ],
)
def test_steps_that_do_not_go_with_the_images(section, spec, says):
    with pytest.raises(UserError, match=f"^config.augment..*{says}"):
        check_augment(section, Given(spec))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_black_is_0_and_white_is_1_in_every_type(dtype):
    spec = make_spec(2, 1, dtype)
    limits = (0, 1) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert spec.value_range == limits
    unit = to_unit(jnp.asarray(limits, dtype), spec.value_range)
    np.testing.assert_allclose(unit, [0, 1], atol=1e-6)
    assert unit.dtype == jnp.float32
