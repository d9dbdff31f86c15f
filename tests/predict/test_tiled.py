"""Tiles make up what a plain call of the network gives for the whole image."""

import functools

import numpy as np
import pytest
from support.family import make, shallow, tiny_resnets
from support.tiled import Plain, draw_image, in_tiles, make_tiles, read_length

from unet_jax.models.variants import VARIANTS
from unet_jax.predict import tiles
from unet_jax.predict.geometry import find_geometry

LOCAL = {"norm": "batch", "squeeze_excite": 0}
CASES = {
    **{variant: (variant, {**shallow(variant), **LOCAL}) for variant in VARIANTS},
    "paper": ("paper", {}),
    "four levels": ("modern", {"features": (4, 6, 8, 8)}),
    "ways up": ("modern", {"up": "bilinear", "up_filters": ((3, 0, 3), (2, 0, 2))}),
    "filters": ("residual", {"up_filters": ((5, 1, 3), (4, 1, 2)), "pool": "average"}),
    "unpooled": ("modern", {"features": (4, 8), "up": "unpool"}),
    "gates and nests": ("unet++", {"attention": True}),
    "padded stages": ("paper", {"up_filters": ((3, 1, 2), (6, 1, 3))}),
}
LESS = {case: number % 2 for number, case in enumerate(CASES)}  # of what poolings divide


def check_equal(found, expected):
    """Checks logits to 1e-5 of the largest of them, and labels but for ties within 1e-5."""
    near = 1e-5 * max(1.0, np.abs(expected).max())
    assert np.abs(found["logits"] - expected).max() <= near
    second, first = np.moveaxis(np.sort(expected, axis=-1)[..., -2:], -1, 0)
    other = found["label"] != expected.argmax(-1)
    assert (first - second)[other].max(initial=0) <= 1e-5


@functools.cache
def made(case):
    variant, changes = CASES[case]
    return make(variant, **changes)


@pytest.mark.parametrize("case", CASES)
def test_tiles_are_the_whole_image(case, monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = made.__wrapped__(case)
    predictor, placed = make_tiles(model, variables, size=(8, 24))
    down, across = read_length(predictor, placed)
    size = (down + 3 * model.multiple() - LESS[case], across + 20 - LESS[case])
    image = draw_image(size)
    assert min(predictor.tiling.plan(size, (down, across)).counts) > 1
    check_equal(in_tiles(predictor, placed, image), Plain(model, variables)(image, (down, across)))


@pytest.mark.parametrize(("side", "case"), [(64, "modern"), (128, "paper"), (256, "four levels")])
def test_small_and_odd_sizes(side, case):
    model, variables = made(case)
    predictor, placed = make_tiles(model, variables, size=(side,))
    length, _ = read_length(predictor, placed)
    plain = Plain(model, variables)
    halo = find_geometry(model).halo or 0
    tile = length - 2 * halo
    # Each of 1, tile - 1, tile and tile + 1 down and across, primes, and one row more than a read.
    sizes = [(1, 1), (1, tile + 1), (tile - 1, tile), (tile, 97), (tile + 1, tile - 1)]
    for size in [*sizes, (101, 1), (length + 1, 3)]:
        image = draw_image(size)
        check_equal(in_tiles(predictor, placed, image), plain(image, (length, length)))
    assert len(predictor._programs) == 1  # for images of all sizes


def shifted(plan_axis, by):
    """Returns a planner whose inner reads begin `by` pixels late."""

    def plan(*args):
        axis = plan_axis(*args)
        last = len(axis.starts) - 1
        late = (start + by * (0 < i < last) for i, start in enumerate(axis.starts))
        return axis._replace(starts=tuple(late))

    return plan


@pytest.mark.parametrize("case", ["modern", "paper"])
def test_an_offset_one_off_is_noticed(case, monkeypatch):
    model, variables = made(case)
    predictor, placed = make_tiles(model, variables, size=(16,))
    length, _ = read_length(predictor, placed)
    image, plain = draw_image((length + 60, length)), Plain(model, variables)
    expected = plain(image, (length, length))
    check_equal(in_tiles(predictor, placed, image), expected)
    for by in (1, -1):
        with monkeypatch.context() as patched:
            patched.setattr(tiles, "plan_axis", shifted(tiles.plan_axis, by))
            with pytest.raises((AssertionError, ValueError)):  # valid reads have nothing to spare
                check_equal(in_tiles(predictor, placed, image), expected)


def test_a_halo_of_half_the_size_is_noticed():
    model, variables = made("modern")
    predictor, placed = make_tiles(model, variables, size=(16,))
    length, _ = read_length(predictor, placed)
    image = draw_image((length + 60, length))
    expected = Plain(model, variables)(image, (length, length))
    geometry = predictor.tiling.geometry
    predictor.tiling.geometry = geometry._replace(halo=geometry.halo // 2)
    predictor.tiling._chosen.clear()
    assert read_length(predictor, placed) < (length, length)
    with pytest.raises(AssertionError):
        check_equal(in_tiles(predictor, placed, image), expected)


def test_volumes():
    model, variables = make("modern", features=(4, 6), dimensions=3)
    predictor, placed = make_tiles(model, variables, size=(4, 8, 8))
    lengths = read_length(predictor, placed)
    image = draw_image((5, lengths[1] + 7, lengths[2] + 3))
    check_equal(in_tiles(predictor, placed, image), Plain(model, variables)(image, lengths))


def test_many_devices_give_what_one_gives():
    model, variables = made("modern")
    image = draw_image((150, 90))
    found = []
    for devices in (1, 4):
        predictor, placed = make_tiles(model, variables, devices, size=(16,))
        assert predictor.tiling.choose(placed, 2).rows == devices  # reads at once
        found.append(in_tiles(predictor, placed, image))
    check_equal(found[1], found[0]["logits"])


def test_what_depends_on_the_whole_image_has_no_exact_tiles():
    for changes, says in (
        ({"norm": "instance"}, "config.model.norm='instance' takes statistics of the whole image"),
        ({"norm": "group"}, "config.model.norm='group' takes statistics"),
        ({"squeeze_excite": 4}, "config.model.squeeze_excite=4 takes means"),
    ):
        model, variables = make("modern", **changes)
        geometry = find_geometry(model)
        assert geometry.halo is None
        assert geometry.obstacle.startswith(says)
        tiling = make_tiles(model, variables)[0].tiling
        assert not tiling.is_exact
        # What prediction and evaluation print of their large images: 6 x 6 reads, half over half.
        said = tiling.describe([(56, 56)], (16, 16))
        how = "36 tiles of 16x16, blended (window gaussian, overlap 0.5), as "
        assert said == (
            f"1 image of more than 0 pixels: {how}{geometry.obstacle}; 2.94 times the work of one "
            "piece"
        )
