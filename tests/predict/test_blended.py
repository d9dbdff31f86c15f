"""Overlapping tiles, averaged: against a loop over windows of the padded image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.family import make
from support.tiled import Plain, draw_image, in_tiles, make_tiles, read_length

from unet_jax.predict.blend import block_side, tile_weights


def by_loop(plain, plan, image, lengths, weights):
    """Averages the logits of every read, in float64."""
    sums = np.zeros((*[axis.canvas for axis in plan.axes], 3))
    total = np.zeros(sums.shape[:-1])
    ends = [(0, axis.canvas - axis.pixels) for axis in plan.axes]
    padded = np.pad(image, (*ends, (0, 0)), mode="edge")
    for number in range(len(plan)):
        start = plan.tile(number).start
        window = tuple(slice(s, s + n) for s, n in zip(start, lengths, strict=True))
        sums[window] += plain(padded[window], lengths) * weights[..., None]
        total[window] += weights
    means = sums / total[..., None]
    return means[tuple(map(slice, image.shape[:-1]))]


@pytest.mark.parametrize("window", ["gaussian", "constant"])
def test_weights_are_the_same_from_all_sides(window):
    for lengths in ((1, 8), (7, 12), (5, 6, 4)):
        weights = tile_weights(lengths, window)
        assert weights.shape == lengths
        assert weights.min() > 0
        for axis in range(len(lengths)):
            np.testing.assert_array_equal(weights, np.flip(weights, axis))
        places = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in lengths], indexing="ij")
        far = sum((8 * own / n) ** 2 for own, n in zip(places, lengths, strict=True))
        expected = np.exp(-far / 2) if window == "gaussian" else np.ones(lengths)
        np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"norm": "instance"}, {"size": (24, 32)}),
        ({"squeeze_excite": 4}, {"size": (16,), "overlap": 0.25, "window": "constant"}),
        ({}, {"size": (32,), "mode": "blended", "overlap": 0.75}),
    ],
)
def test_blended_tiles_are_the_mean_of_their_reads(changes, settings):
    model, variables = make("modern", features=(4, 8), **changes)
    predictor, placed = make_tiles(model, variables, **settings)
    lengths = read_length(predictor, placed)
    weights = tile_weights(lengths, settings.get("window", "gaussian"))
    plain = Plain(model, variables)
    for size in ((71, 50), (5, 33)):
        image = draw_image(size)
        plan = predictor.tiling.plan(size, lengths)
        assert len(plan) > 1
        expected = by_loop(plain, plan, image, lengths, weights)
        whole = in_tiles(predictor, placed, image)
        np.testing.assert_allclose(whole["logits"], expected, atol=2e-5)
        # Blocks of any size, which cut reads anywhere, give the same bytes.
        predictor.tiling.block_side = 19
        assert len(predictor.tiling.blocks(size)) > 1
        in_blocks = in_tiles(predictor, placed, image)
        predictor.tiling.block_side = 0
        for name in whole:
            assert whole[name].tobytes() == in_blocks[name].tobytes()


def test_blended_tiles_of_valid_convolutions_see_what_is_mirrored():
    model, variables = make("paper", features=(4, 8), norm="instance")
    predictor, placed = make_tiles(model, variables, size=(20,))
    lengths, image = read_length(predictor, placed), draw_image((51, 20))
    plan, plain = predictor.tiling.plan(image.shape[:-1], lengths), Plain(model, variables)
    reads = model.input_size(lengths[0])[0]
    margin = (reads - lengths[0]) // 2
    padded = np.pad(image, [(margin, 60 + margin)] * 2 + [(0, 0)], mode="symmetric")
    sums, weights = np.zeros((200, 200, 3)), tile_weights(lengths, "gaussian")
    total = np.zeros((200, 200))
    for number in range(len(plan)):
        row, column = plan.tile(number).start
        read = padded[row : row + reads, column : column + reads]
        inside = (slice(row, row + lengths[0]), slice(column, column + lengths[1]))
        sums[inside] += (
            np.asarray(plain._apply(read[None].astype(np.float32)))[0] * weights[..., None]
        )
        total[inside] += weights
    expected = sums[:51, :20] / total[:51, :20, None]
    np.testing.assert_allclose(in_tiles(predictor, placed, image)["logits"], expected, atol=2e-5)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_turned_image_has_the_turned_labels(norm):
    """With kernels that are alike from both sides nothing tells left from right."""
    model, variables = make("modern", features=(4, 8), norm=norm)

    def alike(path, x):
        if path[-1].key != "kernel":
            return x
        return (x + jnp.flip(x, (0, 1)) + jnp.flip(x, 0) + jnp.flip(x, 1)) / 4

    variables = jax.tree_util.tree_map_with_path(alike, variables)
    predictor, placed = make_tiles(model, variables, size=(32,))
    image = draw_image((110, 78))  # of multiples of 2
    logits = in_tiles(predictor, placed, image)["logits"]
    for axis in (0, 1):
        turned = in_tiles(predictor, placed, np.flip(image, axis))["logits"]
        np.testing.assert_allclose(np.flip(turned, axis), logits, atol=2e-5)


def test_blocks_of_many_classes_are_smaller():
    assert block_side(2, 3) == 2048
    assert block_side(3, 3) == 161
    for channels in (3, 100, 255):
        assert block_side(2, channels) ** 2 * channels * 4 <= 2**28
