"""The same key gives the same bytes on one device and on eight."""

import jax
import numpy as np
import pytest

from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.sharding import make_shardings, put_batch, replicate

SPATIAL = {
    "flip": {"left_right": True},
    "rotation": {"degrees": 20.0, "probability": 0.8},
    "shear": {"degrees": 5.0},
    "zoom": {"scale": (0.7, 1.4)},
    "translation": {"share": 0.1},
    "elastic": {"deviation": 2.0},
}
VALUES = {
    "colour": {"brightness": 0.2, "contrast": 0.3, "saturation": 0.2, "hue": 0.05},
    "gamma": {"power": (0.7, 1.5)},
    "noise": {"sigma": 0.1},
    "blur": {"sigma": 1.0},
    "low_resolution": {"scale": 0.5},
    "ringing": {"cut": 0.3},
    "jpeg": {"quality": 50.0},
    "cutout": {"share": (0.0, 0.1)},
}
MIXED = {"cutmix": {"share": (0.1, 0.4)}, "copy_paste": {"classes": (2,)}}
SETS = {
    "linear": SPATIAL | VALUES,
    "cubic": SPATIAL | {"sampling": {"cubic": True}},
    "mixed": {"turn": {"quarters": (0, 2)}, **MIXED},
}


def draw(name, mesh, height):
    """Returns a batch's augmentation on a mesh, and the text of the compiled program."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, height, 18, 3)).astype(np.uint8)
    label = rng.integers(0, 4, (16, height, 18)).astype(np.uint8)
    arrays = {"image": image, "label": label, "weight": np.ones_like(label)}
    shardings = make_shardings(*mesh)
    put = put_batch(arrays | {"map": image[..., 0] * 1.0}, shardings)
    augment = make_augment(SETS[name], RGB.value_range)
    augment = jax.jit(augment, out_shardings=(shardings.images,) * 4)
    key = replicate(jax.random.key(1), shardings)
    compiled = augment.lower(put["image"], put["label"], put["weight"], key, put["map"]).compile()
    found = compiled(put["image"], put["label"], put["weight"], key, put["map"])
    return jax.device_get(found), compiled.as_text()


@pytest.mark.parametrize("name", SETS)
def test_eight_devices_draw_the_bytes_of_one(name):
    one, _ = draw(name, (1,), 23)
    eight, text = draw(name, (8,), 23)
    assert "all-gather" not in text, "every device has its own images alone"
    assert ("collective-permute" in text) == (name == "mixed"), "those at the borders of devices"
    for x, y in zip(one, eight, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["cubic", "mixed"])
def test_devices_that_split_images_by_height_draw_the_same(name):
    one, _ = draw(name, (1,), 24)
    two, _ = draw(name, (2, 2, 2), 24)
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
