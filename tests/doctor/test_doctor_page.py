"""The page and the record that the mode writes."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.doctored import read_json, read_page, stock, white, with_broken_files
from support.planting import draw

from unet_jax.doctor.examine import examine
from unet_jax.doctor.record import to_json
from unet_jax.doctor.run import doctor_run
from unet_jax.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def decode(url):
    kind, _, content = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


ODD = """<script>alert(1)<b>&"'.png"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """The folder of the doctor's files of a folder with faults and an odd name, and the data."""
    folder = tmp_path_factory.mktemp("seen")
    root = folder / "data"
    with_broken_files(root)
    for part in ("images", "masks"):
        (root / part / "11.png").rename(root / part / ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_JAX_CACHE", str(folder / "cache"))
        with pytest.raises(UserError) as caught:
            doctor_run(stock(root), folder / "out")
    return folder / "out", root, str(caught.value)


def test_errors_are_counted_in_the_last_line(seen):
    out, root, said = seen
    counts = read_json(out)["counts"]
    assert counts == {"errors": 4, "warnings": 0}
    assert said == f"4 errors, no warnings in 15 images of {root}; see {out}/doctor.html."


def test_the_record_counts_pixels_as_numpy_does(seen):
    out, root, _ = seen
    found = read_json(out)
    assert found["data"]["splits"] == {"train": 13, "val": 2}
    # 05 has no mask, 07 cannot be read, and the mask of 02 has another size.
    names = {path.name for path in (root / "masks").iterdir()} - {"02.png", "05.png", "07.png"}
    masks = [np.asarray(Image.open(root / "masks" / name)) for name in names]
    pixels = sum(int((mask == 255).sum()) for mask in masks)
    background, disk, ignored = found["data"]["classes"]
    assert disk == {
        "name": "object",
        "pixels": pixels,
        "share": pytest.approx(pixels / (13 * 48 * 64)),
        "images": 13,
    }
    assert background["pixels"] == 13 * 48 * 64 - pixels
    assert ignored["pixels"] == 0
    faults = {one["fault"]: one for one in found["findings"]}
    assert faults.keys() == {"pairs", "unreadable", "sizes", "values"}
    assert faults["pairs"]["mend"] == "config.data.folder.exclude=('images/05.png',)"
    assert faults["pairs"]["flags"] == ["--config.data.folder.exclude=\"('images/05.png',)\""]
    assert faults["values"]["mend"] == "config.data.folder.label_map=((0, 0), (255, 1))"
    levels = [one["level"] for one in found["findings"]]
    assert levels == sorted(levels)


def test_the_page_needs_no_other_file(seen):
    out, _, _ = seen
    page, html = read_page(out), (out / "doctor.html").read_text()
    assert not [tag for tag, _ in page.elements if tag in ("script", "link", "iframe", "object")]
    urls = [value for _, a in page.elements for key, value in a.items() if key in ("src", "href")]
    assert urls
    assert all(url.startswith(("data:image/jpeg;base64,", "#")) for url in urls)
    assert not re.search(r"url\(|@import", html)
    assert page.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    anchors = {a["id"] for _, a in page.elements if "id" in a}
    assert {url[1:] for url in urls if url[0] == "#"} <= anchors


def test_names_are_text(seen):
    out, _, _ = seen
    page, html = read_page(out), (out / "doctor.html").read_text()
    name = ODD.removesuffix(".png")
    assert any(name in text for text in page.text("figcaption"))
    assert any(a["alt"].startswith(name) for a in page.all("img"))
    assert not re.search("<script|<b>&", html.lower())


def test_mends_can_be_copied_from_the_page(seen):
    out, _, _ = seen
    blocks = read_page(out).text("pre")
    for one in read_json(out)["findings"]:
        assert one["mend"] in blocks
        assert " \\\n".join(one["flags"]) in blocks
        assert any(one["says"][1:].rstrip(".") in text for text in read_page(out).text("p"))


def test_how_many_files_have_a_fault_is_said_where_not_all_are_listed(tmp_path):
    for count, heading in ((20, "20 files"), (31, "the first 20 of 31 files")):
        draw(tmp_path / "data", count=count, label=white)
        config = stock(tmp_path / "data")
        config.data.folder.class_names = ("ground", "disk")
        with pytest.raises(UserError):
            doctor_run(config, tmp_path / "out")
        [one] = read_json(tmp_path / "out")["findings"]
        assert (one["fault"], one["count"], len(one["files"])) == ("values", count, 20)
        page = read_page(tmp_path / "out")
        assert heading in page.text("summary")
        assert "\n".join(one["files"]) in page.text("pre")


def test_an_overlay_has_the_colours_of_its_classes(seen):
    out, root, _ = seen
    page = read_page(out)
    shown = {a["alt"]: decode(a["src"]) for a in page.all("img")}
    assert len(shown) >= 6
    colours = np.array([(230, 159, 0), (86, 180, 233)])  # Okabe and Ito's orange and sky blue
    for alt, pixels in shown.items():
        file = alt.removesuffix(", with its mask") + ".png"
        if "," in file:  # without its mask
            continue
        image = np.asarray(Image.open(root / "images" / file)).astype(float)
        label = np.asarray(Image.open(root / "masks" / file)) // 255
        assert pixels.shape == image.shape
        expected = image * 0.65 + colours[label] * 0.35
        # Away from borders, where lines are drawn, up to what JPEG changes.
        away = np.ones(label.shape, bool)
        for axis in (0, 1):
            for step in range(-4, 5):
                away &= np.roll(label, step, axis) == label
        assert away.sum() > 500
        difference = abs(pixels[away] - expected[away])
        assert difference.mean() < 3, alt
        assert label[away].any()


def test_the_same_data_give_the_same_bytes(seen, tmp_path):
    out, root, _ = seen
    for threads in (1, 3):
        found = examine(stock(root), threads)
        assert to_json(found) == (out / "doctor.json").read_text()
    (tmp_path / "doctor.html").write_bytes((out / "doctor.html").read_bytes())
    (tmp_path / "doctor.json").write_text(to_json(found)[:-3] + " }\n")
    with pytest.raises(UserError):
        doctor_run(stock(root), tmp_path)
    assert (tmp_path / "doctor.html").read_bytes() == (out / "doctor.html").read_bytes()
    assert (tmp_path / "doctor.json").read_text() == to_json(found)
