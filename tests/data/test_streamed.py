"""Black and white of images that are read window by window are those of the whole image."""

import numpy as np
import pytest

from unet_jax.data import streamed
from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import spec_of
from unet_jax.data.streamed import can_stream, find_ends

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (70, 33, 2), (5, 40, 9, 1)])
def test_ends_are_those_of_numpy(dtype, shape, monkeypatch):
    monkeypatch.setattr(streamed, "_SIDE", {2: 16, 3: 8})
    rng = np.random.default_rng(0)
    values = rng.normal(3, 40, shape)
    if dtype != "float32":
        values = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    image = values.astype(dtype)
    image[..., -1] = 7  # a channel of one value
    spec, read = spec_of(image), image.__getitem__
    flat = image.reshape(-1, shape[-1]).astype(np.float64)
    mean, deviation = flat.mean(0), flat.std(0)
    expected = {
        "min_max": (flat.min(0), flat.max(0)),
        "z_score": (mean - 2 * deviation, mean + 2 * deviation),
        "percentiles": tuple(np.percentile(flat, [0.5, 97], axis=0)),
    }
    for kind, ends in expected.items():
        how = Normalise(kind, "image", (0.5, 97))
        if not can_stream(how, spec):
            assert kind == "percentiles"
            assert dtype in ("int32", "float32")
            continue
        found = np.array(find_ends(how, spec, shape[:-1], read))
        np.testing.assert_allclose(found[:-1], np.stack(ends, -1)[:-1], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(found[-1], [6.5, 7.5])
        own = how.scale(image, found)
        np.testing.assert_allclose(own, how.prepare(image), atol=1e-6)
