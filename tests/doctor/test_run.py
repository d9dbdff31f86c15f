"""The mode as it is run: its files, its page, and the config page that it writes."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image
from support.planted import change, draw, make, save

from unet_jax import command_line, figures, main
from unet_jax.data.check import check
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import open_data
from unet_jax.doctor.faults import find
from unet_jax.doctor.run import doctor_run
from unet_jax.doctor.survey import survey
from unet_jax.errors import UserError
from unet_jax.page import load_page

SIZE = (48, 64)
VOID = {"meta", "img", "br", "hr", "link", "input"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


class Page(HTMLParser):
    """Reads a page: its elements, texts by element, and whether elements are closed."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


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
        image = np.random.default_rng(number).integers(0, 99, (*size, 3), np.uint8) + mask[..., None] // 2
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


def call(*arguments):
    """Runs a command in this process; returns its exit code."""
    with flagsaver.flagsaver():
        return command_line.run(["unet-jax", *arguments], main.run, main)


def stock(root, size=(64, 64)):
    """The stock page of folders with nothing configured but the path."""
    config = load_page("folder.py")
    config.data.path, config.data.image_size = str(root), size
    return config


@pytest.mark.parametrize("plant", FOLDERS, ids=lambda plant: plant.__name__)
def test_the_page_that_is_written_opens_and_gives_a_batch(tmp_path, plant, capsys):
    root, file = tmp_path / "data", tmp_path / "pages" / "mine.py"
    plant(root)
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    doctor_run(stock(root), tmp_path / "out", file)
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"doctor.json", "doctor.html"}
    assert 20 <= len(file.read_text().splitlines()) <= 45
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


def test_a_page_trains(tmp_path):
    root, file = tmp_path / "data", tmp_path / "mine.py"
    zeros_and_255(root)
    config = stock(root)
    config.model.features, config.train.duration = (4, 8), "2 steps"
    doctor_run(config, tmp_path / "doctor", file)
    assert call(f"--config={file}", f"--workdir={tmp_path / 'run'}") == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())


def test_three_commands(tmp_path, capsys):
    """A folder of images and 0/255 masks with nothing configured: looked at, learnt, predicted."""
    root, file, run = tmp_path / "mine", tmp_path / "mine.py", tmp_path / "run"
    zeros_and_255(root)
    small = ["--config.model.features=(4,8)", "--config.train.duration=2 steps"]
    pointed = ["--config=folder.py", f"--config.data.path={root}", *small]
    doctor = ["--mode=doctor", f"--workdir={tmp_path / 'doctor'}", f"--write_page={file}"]
    assert call(*doctor, *pointed) == 0
    assert "mends the errors" in capsys.readouterr().out.splitlines()[-1]
    assert call(f"--config={file}", f"--workdir={run}") == 0
    image = root / "images" / "03.png"
    assert call("--mode=predict", f"--input={image}", f"--workdir={run}") == 0
    mask = np.asarray(Image.open(run / "predictions" / "03.png"))
    assert mask.shape == SIZE
    assert {*np.unique(mask)} <= {0, 1}
