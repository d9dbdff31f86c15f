"""The mode as it is run: its files, its page, and the config page that it writes."""

import base64
import io
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from support.parsed import Page
from support.plain import plain_logits
from support.planting import change, draw, save

import unet_jax
from unet_jax.data.check import check
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import open_data
from unet_jax.doctor.examine import examine
from unet_jax.doctor.faults import find
from unet_jax.doctor.record import to_json
from unet_jax.doctor.run import doctor_run
from unet_jax.doctor.survey import survey
from unet_jax.errors import UserError
from unet_jax.page import load_page
from unet_jax.predict.run import predict_run
from unet_jax.restore import restore
from unet_jax.runs.intact import read_counts

SIZE = (48, 64)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def white(seed, mask):
    return np.uint8(mask) * 255


def read_page(folder):
    return Page((folder / "doctor.html").read_text())


def read_json(folder):
    return json.loads((folder / "doctor.json").read_text())


def decode(url):
    kind, _, content = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def first_batch(config):
    """Opens the data of a config, checks both splits as training does, and reads a batch."""
    dataset, loading = open_data(**config.data)
    for split in ("train", "val"):
        source = dataset.splits[split]
        check(source, split, len(dataset.class_names), loading.value_range or None)
    size = config.train.batch_size
    options = {"batch_size": size, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(dataset.splits["train"], loading, **options)
    assert batch["image"].shape[: 1 + len(loading.image_size)] == (size, *loading.image_size)
    assert {*np.unique(batch["label"][batch["weight"] > 0])} <= {*range(len(dataset.class_names))}
    return batch


def volumes(root):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        label = np.zeros((16, 20, 24), np.uint8)
        label[4:12, 4:14, 6 : 16 + seed] = 1
        image = (label * 900.0 + rng.normal(200, 20, label.shape)).astype(np.int16)
        for folder, array in (("images", image), ("masks", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            np.save(root / folder / f"{seed}.npy", array)


def sixteen_bits(root):
    draw(root)
    change(root / "images", lambda image: image[..., 0].astype(np.uint16) * 16)


def large(root):
    draw(root, 9, size=(200, 300), radius=5)


def uneven(root):
    for number, size in enumerate([(60, 150), (150, 60), (90, 90), (200, 50)] * 3):
        mask = np.zeros(size, np.uint8)
        mask[10:40, 10:40] = 255
        image = (
            np.random.default_rng(number).integers(0, 99, (*size, 3), np.uint8)
            + mask[..., None] // 2
        )
        save(root / "images" / f"{number}.png", image)
        save(root / "masks" / f"{number}.png", mask)


def five_classes(root):
    draw(root, label=lambda seed, mask: np.where(mask, 1 + seed % 4, 0).astype(np.uint8))


def zeros_and_255(root):
    draw(root, label=white)


def with_broken_files(root):
    draw(root, label=white)
    (root / "images" / "07.png").write_bytes(b"<html>")
    (root / "masks" / "05.png").unlink()
    save(root / "masks" / "02.png", np.zeros((9, 9), np.uint8))


def saved_as_jpeg(root):
    draw(root, label=white)
    for file in sorted((root / "masks").iterdir()):
        save(file.with_suffix(".jpg"), np.array(Image.open(file)), quality=60)
        file.unlink()


FOLDERS = (
    zeros_and_255,
    with_broken_files,
    five_classes,
    large,
    uneven,
    sixteen_bits,
    volumes,
    saved_as_jpeg,
)


def stock(root, size=(64, 64)):
    """The stock page of folders with nothing configured but the path."""
    config = load_page("folder.py")
    config.data.path, config.data.image_size = str(root), size
    return config


@pytest.mark.parametrize("plant", FOLDERS, ids=lambda plant: plant.__name__)
def test_the_page_that_is_written_opens_and_gives_a_batch(tmp_path, plant, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, file = Path("mine"), tmp_path / "pages" / "mine.py"
    plant(root)
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    doctor_run(stock(root), tmp_path / "out", file)
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"doctor.json", "doctor.html"}
    assert 20 <= len(file.read_text().splitlines()) <= 33  # five classes take a line each
    last = capsys.readouterr().out.splitlines()[-1]
    found, config = read_json(tmp_path / "out"), load_page(str(file))
    first_batch(config)
    for one in found["recommended"]:
        section = config
        for key in one["key"].split("."):
            section = section[key]
        assert json.loads(json.dumps(section)) == one["value"]
    errors = found["counts"]["errors"]
    assert ("mends the errors" in last) == (errors > 0)
    assert bool(errors) == (plant not in (large, sixteen_bits, volumes))
    assert not [one for one in find(survey(config)) if one.level == "error"]


def test_three_steps_from_a_folder_to_masks(tmp_path):
    """Images and 0/255 masks with nothing configured: looked at, learnt, predicted."""
    root, file, run = tmp_path / "mine", tmp_path / "mine.py", tmp_path / "run"
    zeros_and_255(root)
    config = load_page("folder.py")
    config.data.path = str(root)
    doctor_run(config, tmp_path / "doctor", file)
    assert load_page(str(file)).train.batch_size % jax.device_count() == 0
    train = {"duration": "4 steps", "eval_every": "4 steps", "checkpoint_every": "4 steps"}
    model = {"features": (4, 8), "repeats": (1,), "decoder_repeats": (1,)}
    unet_jax.train(file, run, train=train, eval={"shown": 1}, model=model)
    image = root / "images" / "03.png"
    predict_run(load_page(str(run)), run, inputs=[str(image)], output=None, checkpoint="best")
    mask = np.asarray(Image.open(run / "predictions" / "03.png"))
    assert mask.shape == SIZE
    unit = np.asarray(Image.open(image).convert("RGB")) / 255
    logits = plain_logits(restore(load_page(str(run)), run, "best"), unit, SIZE)
    is_sure = np.abs(logits[..., 0] - logits[..., 1]) > 1e-4
    assert is_sure.mean() > 0.9
    np.testing.assert_array_equal(mask[is_sure], logits.argmax(-1)[is_sure])
    names, counts = read_counts(run / "evaluations" / "val_00000004.npz")
    for name, confusion in zip(names, counts["overlap/confusion"], strict=True):
        values = np.asarray(Image.open(root / "masks" / f"{name}.png"))
        there = [(values == value).sum() for value in (0, 255)]
        assert confusion.sum(1).tolist() == there  # of every label, what the file has


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


@pytest.mark.parametrize("name", ["doctor.json", "doctor.html"])
def test_a_foreign_file_is_not_replaced(tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(UserError, match=f"{name} is there and no file that --mode=doctor wrote"):
        doctor_run(stock(tmp_path / "nothing"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_is_written_into_the_data(tmp_path):
    zeros_and_255(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path, tmp_path / "images", tmp_path / "new" / "er"):
        with pytest.raises(UserError, match="is in the data"):
            doctor_run(stock(tmp_path), folder)
    with pytest.raises(UserError, match=r"--write_page=.* is in the data"):
        doctor_run(stock(tmp_path), tmp_path.parent / "out", tmp_path / "mine.py")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_is_never_replaced(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("mine")
    with pytest.raises(UserError, match=r"mine.py is there already; name a file that is not\."):
        doctor_run(stock(tmp_path / "nothing"), tmp_path / "out", file)
    assert file.read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_data_that_do_not_open_are_told(tmp_path):
    with pytest.raises(UserError, match="1 error, no warnings in 0 images of"):
        doctor_run(stock(tmp_path / "nothing"), tmp_path / "out")
    [one] = read_json(tmp_path / "out")["findings"]
    assert one["fault"] == "opening"
    assert str(tmp_path / "nothing") in one["says"]
    assert read_page(tmp_path / "out").all("article", **{"class": "finding error"})
    with pytest.raises(UserError, match=r"was seen, so .*mine\.py is not written\."):
        doctor_run(stock(tmp_path / "nothing"), tmp_path / "out", tmp_path / "mine.py")
    assert not (tmp_path / "mine.py").exists()


def test_synthetic_images_are_fine(tmp_path, capsys):
    config = load_page("tiny.py")
    config.data.synthetic.update({"train": 12, "val": 8, "test": 8})
    doctor_run(config, tmp_path)
    assert read_json(tmp_path)["counts"]["errors"] == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("in 28 images of synthetic")
