"""The page that predicts: nothing leaves it, what it is told stays text, and Chromium agrees."""

import base64
import gzip
import hashlib
import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from support.chromium import chromium

from unet_jax.browser.page import MOST_PIXELS, ONNX, SERVER, Facts, make_page, most_pixels
from unet_jax.data.formats.pillow import decode_image
from unet_jax.figures import palette

NAMES = ("background", "cat & dog", "</script><b>")
FACTS = Facts("a <run>", NAMES, about={"licence": "CC BY 4.0"})
STUB = """
async function makeEngine(facts) {
  return { async predict(file) {
    const image = await readImage(file, facts.mostPixels);
    const values = readValues(image, facts.channels);
    const { width, height } = image;
    const label = new Uint8Array(width * height);
    for (let i = 0; i < label.length; i++) {
      const value = values.subarray(3 * i, 3 * i + 3);
      label[i] = value.indexOf(Math.max(...value));
    }
    return { image, width, height, label, seconds: 0 };
  } };
}
"""


def scripts(page):
    """Returns the attributes and the text of each script, as a browser would divide them."""
    return re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)


def policy(page):
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = found.group(1).replace("&#x27;", "'").split("; ")
    return dict(rule.split(" ", 1) for rule in rules)


@pytest.mark.parametrize(("engine", "connect"), [(ONNX, "'none'"), (SERVER, "'self'")])
def test_the_policy_lets_run_what_is_in_the_page_and_lets_nothing_out(engine, connect):
    page = make_page(FACTS, engine, {"model": b"abc"})
    rules = policy(page)
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == connect
    runs = [text for attributes, text in scripts(page) if not attributes]
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for kind, texts in {"script-src": runs, "style-src": styles}.items():
        hashes = [base64.b64encode(hashlib.sha256(x.encode()).digest()).decode() for x in texts]
        assert sorted(re.findall(r"sha256-([^']*)", rules[kind])) == sorted(hashes)
        assert "unsafe-inline" not in rules[kind]
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert not re.search(r"<[^>]* (src|href)=\"(?!#)", page)
    assert " style=" not in page  # which the policy would not let


def test_what_the_page_is_told_stays_text():
    page = make_page(FACTS, ONNX, {})
    [(_, told)] = [one for one in scripts(page) if 'id="facts"' in one[0]]
    facts = json.loads(told)
    assert [one["name"] for one in facts["classes"]] == list(NAMES)
    assert [one["colour"] for one in facts["classes"]] == palette(3).tolist()
    assert (facts["channels"], facts["mostPixels"]) == (3, MOST_PIXELS)
    assert "<h1>a &lt;run&gt;</h1>" in page
    assert "2 &lt;/script&gt;&lt;b&gt;" in page


def test_blocks_come_back_as_they_were_and_the_page_is_the_same_again():
    data = os.urandom(3000) + bytes(3000)
    page = make_page(FACTS, ONNX, {"model": data})
    [(_, packed)] = [one for one in scripts(page) if 'id="model"' in one[0]]
    assert gzip.decompress(base64.b64decode(packed)) == data
    assert base64.b64decode(packed)[4:8] == bytes(4)  # no time, which would be another each time
    assert make_page(FACTS, ONNX, {"model": data}) == page


def test_of_more_classes_fewer_pixels_fit():
    assert most_pixels(3) == MOST_PIXELS
    assert most_pixels(100) * 100 * 4 * 3 <= 2**30 < (most_pixels(100) + 1) * 100 * 4 * 3


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_chromium_reads_pixels_as_the_package_does(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    smooth = Image.fromarray(noise(5, 8, 3)).resize((53, 37), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    smooth.save(tmp_path / "lossless.webp", lossless=True)
    Image.fromarray(noise(1, 7, 3)).save(tmp_path / "low.png")
    Image.fromarray(noise(9, 6)).save(tmp_path / "grey.png")
    Image.fromarray(noise(9, 6, 3)).quantize(9).save(tmp_path / "indexed.png")
    page = tmp_path / "page.html"
    page.write_text(make_page(FACTS, STUB, {}))
    images = sorted(file for file in tmp_path.iterdir() if file != page)
    *told, last = chromium(page, *images)
    assert len(told) == len(images)
    for file, one in zip(images, told, strict=True):
        expected = decode_image(file.read_bytes(), file.name).argmax(-1)
        mask = Image.open(io.BytesIO(base64.b64decode(one["mask"])))
        np.testing.assert_array_equal(np.asarray(mask), expected, file.name)
        assert mask.getpalette()[:9] == palette(3).ravel().tolist()
        counts = [f"{(expected == k).sum():,}" for k in range(3)]
        assert [row[2] for row in one["cells"]] == counts
    assert last == {"requests": [page.as_uri()], "messages": []}


def test_chromium_refuses_what_it_would_read_otherwise(tmp_path):
    says = {
        "alpha.png": "is transparent in places",
        "bomb.png": "60000 x 60000 pixels; 16,777,216 are the most here",
        "cmyk.jpg": "has 4 channels (CMYK)",
        "cut.png": "cannot be read as an image",
        "deep.png": "has 16 bits a channel",
        "empty.png": "is no PNG, JPEG, WebP or BMP file",
        "frames.png": "holds several frames",
    }
    Image.fromarray(noise(4, 5, 4)).save(tmp_path / "alpha.png")
    Image.fromarray(noise(4, 5, 4), "CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(noise(4, 5).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(noise(40, 50, 3)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:200])
    sides = (60_000).to_bytes(4) * 2
    (tmp_path / "bomb.png").write_bytes(data[:16] + sides + data[24:])
    (tmp_path / "empty.png").write_bytes(b"")
    two = [Image.fromarray(noise(4, 5, 3, seed=i)) for i in range(2)]
    two[0].save(tmp_path / "frames.png", save_all=True, append_images=two[1:])
    page = tmp_path / "page.html"
    page.write_text(make_page(FACTS, STUB, {}))
    *told, last = chromium(page, *(tmp_path / name for name in says))
    for one, (name, text) in zip(told, says.items(), strict=True):
        assert one["isError"]
        assert one["status"].startswith(name)
        assert text in one["status"]
    assert last["requests"] == [page.as_uri()]
