"""What --mode=plan says of images that go in tiles."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from support.configs import make_config

from unet_jax.data.sample import RGB
from unet_jax.network import make_network
from unet_jax.plan import tiles
from unet_jax.plan.tiles import plan_tiles
from unet_jax.predict.eval_step import make_mask_step

NAMES = tuple("abcdef")


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """Batches take a second and a half each, without being computed."""
    readings = []
    monkeypatch.setattr(tiles, "time_batch", lambda reading: readings.append(reading) or 1.5)
    return readings


def network(**changes):
    config = make_config()
    config.data.fit = "crop"
    config.model.update({"features": (4, 8)} | changes)
    return make_network(config, NAMES, RGB)


def test_tile_halo_memory_work_and_time(timed):
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
    # One tile of 2^20 pixels in 1.5 s.
    assert [(reading.batch_size, reading.lengths) for reading in timed] == [(1, (1036, 1036))]
    assert record["seconds_per_megapixel"] == pytest.approx(1.5e6 / 2**20)
    assert line.endswith(
        "large images take 1.02 times the work of one piece: 1.43 s here for a million pixels of "
        "an image, by one batch"
    )
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
    # As many reads of 16 x 16 as the batch has images of that size, and each adds a fourth of it.
    assert record["seconds_per_megapixel"] == pytest.approx(1.5e6 / (record["at_once"] * 64))


def test_what_does_not_fit_here_is_not_timed(timed, monkeypatch):
    monkeypatch.setattr(tiles, "device_memory", lambda: 1000)
    line, record = plan_tiles(network(), 2**40)
    assert not timed
    assert record["seconds_per_megapixel"] is None
    assert line.endswith("one piece: more than there is here, so that none is timed")


@pytest.mark.parametrize(("ticks", "seconds"), [((0, 4, 10, 12), 2), ((0, 7), 7)])
def test_the_second_batch_counts_unless_the_first_takes_long(monkeypatch, ticks, seconds):
    monkeypatch.undo()
    clock = iter(ticks)
    monkeypatch.setattr(tiles, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    small = network()
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), small.variables)
    tiling = make_mask_step(small).tiling
    tiling.settings = tiling.settings._replace(size=(16,))
    assert tiles.time_batch(tiling.reading(zeros, 1)) == seconds
    assert next(clock, None) is None


def test_images_that_are_resized_need_no_tiles():
    config = make_config()
    assert plan_tiles(make_network(config, NAMES, RGB), 2**40) == ("", {})
