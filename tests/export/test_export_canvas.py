"""Sizes, padding, resizing and statistics that need no known size: against NumPy and Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from support.family import small

from unet_jax.data.images import round_up
from unet_jax.data.normalise import Normalise
from unet_jax.data.resize import resize_image
from unet_jax.export import canvas, ends, runner

LENGTHS = (*range(1, 700), 1023, 1024, 1025, 4097, 70_001, 600_000)
FUNCTIONS = {"max": max, "min": min, "floordiv": lambda a, b: a // b}


@pytest.mark.parametrize(("variant", "rounds"), [("modern", True), ("paper", False)])
def test_steps_are_those_of_the_network(variant, rounds):
    model = small(variant)
    grid = canvas.make_grid(model, rounds=rounds)
    for n in LENGTHS[:-1] if rounds else LENGTHS[:300]:
        k = grid.steps(n)
        found = grid.multiple * k + grid.read, grid.multiple * k + grid.given
        asked = model.input_size(round_up(n) if rounds else n)[1]
        assert found == model.input_size(asked), n


def test_steps_are_written_as_arithmetic():
    grid = canvas.Grid(12, -4, -44, True)
    code = compile(grid.text("h"), "grid", "eval")
    for n in LENGTHS:
        assert eval(code, FUNCTIONS, {"h": n}) == grid.steps(n), n
        assert runner.round_up(n) == round_up(n)


@pytest.mark.parametrize("mode", ["edge", "symmetric"])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (7, 5)])
def test_padding_is_numpys(mode, size):
    image = np.random.default_rng(0).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    given, read = (8, 12), (8, 12) if mode == "edge" else (28, 32)
    found = canvas.pad(jnp.asarray(image), given, read, mode)
    before = [(m - n) // 2 for m, n in zip(read, given, strict=True)]
    pairs = [(b, m - n - b) for b, m, n in zip(before, read, size, strict=True)]
    np.testing.assert_array_equal(found, np.pad(image, ((0, 0), *pairs, (0, 0)), mode=mode))


@pytest.mark.parametrize(
    ("size", "to"), [((37, 53), (32, 32)), ((1, 200), (32, 48)), ((301, 97), (16, 24))]
)
def test_resizing_is_pillows_row_by_row(size, to):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    # One axis after the other: which is first in one call depends on Pillow's version.
    rows = Image.fromarray(image).resize((to[1], size[0]), Image.Resampling.BILINEAR)
    expected = np.asarray(rows.resize(to[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(canvas.resize(jnp.asarray(image[None]), to)[0], expected)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_resizing_of_other_types(dtype):
    image = (np.random.default_rng(0).random((37, 53, 2)) * 250).astype(dtype)
    found = np.asarray(canvas.resize(jnp.asarray(image[None]), (32, 20)))[0]
    expected = resize_image(image, (32, 20)).astype(np.float32)
    # Whole numbers may be one apart where a mean lies between two.
    assert np.abs(found - expected).max() <= (1 if dtype == "uint16" else 1e-4)
    assert np.mean(found != expected) < (0.01 if dtype == "uint16" else 1)


@pytest.mark.parametrize("kind", ["min_max", "z_score", "percentiles"])
@pytest.mark.parametrize("values", ["uint8", "uint16", "float32", "one"])
def test_black_and_white_of_each_image(kind, values):
    how = Normalise(kind, "image")
    if values == "one":
        image = np.full((5, 4, 2), 7, np.uint8)
    else:
        image = (np.random.default_rng(0).random((37, 53, 2)) * 250 + 3).astype(values)
    found = np.asarray(jax.jit(lambda x: ends.normalise(x, how))(image[None]))[0]
    np.testing.assert_allclose(found, how.prepare(image), atol=2e-6)
