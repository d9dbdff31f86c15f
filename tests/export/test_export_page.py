"""A model as a page: what is in it, how large it may be, and, in Chromium, what it predicts."""

import base64
import gzip
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.chromium import chromium

from unet_jax.browser.page import Facts
from unet_jax.data.sample import RGB, make_spec
from unet_jax.errors import UserError
from unet_jax.export import page
from unet_jax.export import runtime as browser_runtime

pytest.importorskip("onnx", reason="the package onnx is not installed")

import onnx
from onnx.reference import ReferenceEvaluator
from support.onnx_models import conv_labels, conv_model

FACTS = Facts("tiny", ("background", "cat", "dog"))


def weights(classes=3, seed=1):
    random = np.random.default_rng(seed)
    return random.normal(size=(3, 3, 3, classes)).astype(np.float32), np.zeros(classes, np.float32)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(model, image):
    """Returns what a model says of an image, by the NumPy of the package onnx."""
    net = ReferenceEvaluator(onnx.load_model_from_string(model))
    return net.run(["label"], {"image": image[None]})[0][0]


def test_the_page_holds_the_runtime_and_the_model(tmp_path, monkeypatch):
    files = [b"library\n//# sourceMappingURL=library.js.map\n", b"glue", b"wasm"]
    given = dict(zip(browser_runtime.FILES, files, strict=True))
    monkeypatch.setattr(page, "read_runtime", lambda folder: given)
    model = conv_model(*weights())
    [line] = page.write_page(tmp_path / "page.html", model, FACTS, None)
    text = (tmp_path / "page.html").read_text()
    found = {
        name: gzip.decompress(base64.b64decode(data))
        for name, data in re.findall(r'octet-stream" id="(\w+)">([^<]*)<', text)
    }
    assert found == {"ort": b"library\n", "glue": b"glue", "wasm": b"wasm", "model": model}
    assert f"page.html: {len(text) / 1e6:.1f} MB" in line
    assert "onnxruntime-web" in text
    assert "MIT licence" in text


def test_what_no_page_can_show_is_refused():
    for spec in (RGB, make_spec(2, 1, "uint8")):
        facts = page.make_facts("a", ("b",) * 100, spec, {}, by_class=False)
        assert (facts.channels, facts.most_pixels) == (spec.channels, 894_784)
    for spec in (make_spec(3, 3, "uint8"), make_spec(2, 2, "uint8"), make_spec(2, 3, "uint16")):
        with pytest.raises(UserError, match=f"and the run's have {spec.axes} axes"):
            page.make_facts("a", ("b",), spec, {}, by_class=False)
    with pytest.raises(UserError, match="shows one class a pixel"):
        page.make_facts("a", ("b",), RGB, {}, by_class=True)


def test_large_weights_become_float16_and_the_labels_stay_those_of_numpy(monkeypatch):
    kernel, bias = weights(classes=40)
    model = conv_model(kernel, bias, extra=5000)
    assert page.fit_model(model) == (model, [])
    monkeypatch.setattr(page, "MOST_BYTES", 20_000)
    assert len(model) > 20_000
    packed, [line] = page.fit_model(model)
    assert len(packed) < 0.6 * len(model)
    assert "as float16" in line
    image = noise(7, 5, 3)
    half = kernel.astype(np.float16).astype(np.float32)
    expected, _ = conv_labels(image, half, bias)
    np.testing.assert_array_equal(labels(packed, image), expected)
    monkeypatch.setattr(page, "MOST_BYTES", 2000)
    with pytest.raises(UserError, match=r"as float16, and a page may hold .*--format=page"):
        page.fit_model(model)


def test_weights_that_float16_cannot_hold_are_refused(monkeypatch):
    kernel, bias = weights(classes=40)
    kernel[0, 0, 0, 0] = 1e5
    monkeypatch.setattr(page, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="weights in kernel are too large for float16"):
        page.fit_model(conv_model(kernel, bias))


def test_chromium_predicts_from_the_disk_what_numpy_says(tmp_path):
    kept = browser_runtime.cache_dir() / f"onnxruntime-web-{browser_runtime.VERSION}"
    if not kept.is_dir():
        pytest.skip(f"onnxruntime-web is not in {kept}")
    kernel, bias = weights()
    images = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.fromarray(noise(37, 53, 3)).save(images[0])
    Image.fromarray(np.minimum(noise(1, 7, 3), 250)).save(images[1])
    file = tmp_path / "page.html"
    page.write_page(file, conv_model(kernel, bias), FACTS, None)
    *told, last = chromium(file, *images)
    for image, one in zip(images, told, strict=True):
        expected, scores = conv_labels(np.asarray(Image.open(image)), kernel, bias)
        mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["mask"]))))
        first, second = np.sort(scores, axis=-1)[..., :-3:-1].transpose(2, 0, 1)
        is_clear = first - second > 1e-4  # else rounding decides
        assert is_clear.mean() > 0.99
        np.testing.assert_array_equal(mask[is_clear], expected[is_clear])
    assert ["wholly other range" in one["status"] for one in told] == [True, False]
    assert last == {"requests": [file.as_uri()], "messages": []}
