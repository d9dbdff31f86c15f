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


@pytest.mark.parametrize("name", SETS)
def test_eight_devices_draw_the_bytes_of_one(name):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 23, 18, 3)).astype(np.uint8)
    label = rng.integers(0, 4, (16, 23, 18)).astype(np.uint8)
    batch = {
        "image": image,
        "label": label,
        "weight": np.ones_like(label),
        "map": image[..., 0] * 1.0,
    }
    found = []
    for devices in (1, 8):
        shardings = make_shardings(devices)
        put = put_batch(batch, shardings)
        rows = (shardings.rows,) * 3
        compiled = jax.jit(
            make_augment(SETS[name], RGB.value_range), out_shardings=(*rows, shardings.rows)
        )
        key = replicate(jax.random.key(1), shardings)
        given = put["image"], put["label"], put["weight"], key, put["map"]
        text = compiled.lower(*given).compile().as_text()
        assert "all-gather" not in text, "every device has its own images alone"
        assert ("collective-permute" in text) == (name == "mixed" and devices > 1)
        found.append(jax.device_get(compiled(*given)))
    for one, eight in zip(*found, strict=True):
        np.testing.assert_array_equal(one, eight)
