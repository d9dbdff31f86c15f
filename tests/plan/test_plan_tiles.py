"""What --mode=plan says of images that go in tiles."""

import pytest
from support.configs import make_config

from unet_jax.data.sample import RGB
from unet_jax.network import make_network
from unet_jax.plan.tiles import plan_tiles

NAMES = tuple("abcdef")


def network(**changes):
    config = make_config()
    config.data.fit = "crop"
    config.model.update({"features": (4, 8)} | changes)
    return make_network(config, NAMES, RGB)


def test_tile_halo_memory_and_work():
    line, record = plan_tiles(network(), 2**40)
    # One 3x3 convolution a level: 1 pixel at level 0, 1 of the bottom's 2 x 2, and 1 up again.
    assert record["halo"] == 6
    assert record["exact"]
    assert record["read"] == [1024 + 12] * 2
    assert record["work"] == pytest.approx((1036 / 1024) ** 2)
    # The read and the mask alone are so many bytes.
    assert record["bytes_per_device"] > 1036**2 * 4
    assert line.startswith(
        "images of more than 4,194,304 pixels: tiles of 1024x1024 with a halo of 6, which make up"
    )
    assert "large images take 1.02 times the work of one piece" in line
    # With a fourth of the memory the tiles are smaller, and they fit.
    less, small = plan_tiles(network(), record["bytes_per_device"] // 4)
    assert small["read"][0] < record["read"][0]
    assert small["bytes_per_device"] <= record["bytes_per_device"] // 4
    assert f"tiles of {small['read'][0] - 12}x" in less
    assert plan_tiles(network(), 1000)[0].startswith("a tile of 64x64 pixels needs ")


def test_why_tiles_are_blended():
    line, record = plan_tiles(network(norm="instance"), 2**40)
    why = "config.model.norm='instance' takes statistics of the whole image"
    assert f"tiles of 16x16, blended at an overlap of 0.5, as {why}; " in line
    assert not record["exact"]
    assert record["work"] == 4


def test_images_that_are_resized_need_no_tiles():
    config = make_config()
    assert plan_tiles(make_network(config, NAMES, RGB), 2**40) == ("", {})
