"""The images of a report, from two networks that were really trained for a few steps."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from support.figure_data import read
from support.report_data import write_run

from configs import tiny
from unet_jax import figures
from unet_jax.data.sample import Sample
from unet_jax.data.sources import open_data
from unet_jax.figures.canvas import text_width
from unet_jax.report import images
from unet_jax.report.assemble import assemble
from unet_jax.report.drawing import wrap
from unet_jax.report.material import gather
from unet_jax.report.pages import write_report
from unet_jax.report.variants import Variant
from unet_jax.training import train_and_evaluate


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    names = []
    for up in ("transpose", "bilinear"):
        names.append(f"up={up},seed=0_00000000")
        config = tiny.get_config()
        config.model.up = up
        config.train.duration, config.train.eval_every = "4 steps", "4 steps"
        (folder / names[-1]).mkdir()
        trial = {"name": names[-1], "factors": {"up": up, "seed": "0"}, "overrides": {}}
        (folder / names[-1] / "trial.json").write_text(json.dumps(trial))
        config.eval.figures = False
        train_and_evaluate(config, folder / names[-1])
    study = {"study": "", "baseline": {"up": "transpose"}, "factors": {}, "trials": names}
    (folder / "study.json").write_text(json.dumps(study))
    return folder


@pytest.fixture(scope="module")
def material(sweep):
    return gather([sweep], "val", {}, 200)


def test_predictions_are_those_that_were_counted(material):
    """Restored networks give the confusion matrices that training wrote, image by image."""
    names = [material.pooled.ids[i] for i in (7, 2)]
    for variant in material.variants:
        guesses = images.predict(variant.runs[0], "val", names).predictions
        config = variant.runs[0].config
        source = open_data(**config.data)[0].splits["val"]
        file = variant.runs[0].folder / "evaluations" / "val_00000004.npz"
        with np.load(file) as saved:
            counted = saved["overlap/confusion"]
        for place, index in enumerate((7, 2)):
            label, want = source.read(index).label, np.zeros((6, 6), int)
            assert source.read(index).id == names[place]
            np.add.at(want, (label.ravel(), guesses[place].ravel()), 1)
            np.testing.assert_array_equal(counted[index], want)


def test_masks_by_class_are_drawn_class_by_class():
    image = np.full((35, 28, 3), 128, np.uint8)
    label, guess = np.zeros((2, 35, 28, 2), np.uint8)
    label[:20, :, 0], label[10:, :, 1], guess[:, 14:, 1] = 1, 1, 1
    sample = Sample(image, label, "a", (1.0, 1.0))
    drawn = images.draw(sample, [("v", "0.5", guess)], "ab")
    png = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    first, second = figures.palette(2).astype(float)
    step = images.TILE + images.GAP
    for tile, row, column, colour in (
        (1, 5, 10, first),
        (1, 15, 10, (first + second) / 2),
        (1, 30, 10, second),
        (2, 5, 5, np.full(3, 128)),
        (2, 5, 22, second),
    ):
        y, x = 40 + 4 * row + 2, images.GAP + tile * step + 4 * column + 2
        np.testing.assert_allclose(png[y, x], 64 + colour / 2, atol=6)


@pytest.mark.parametrize("classes", [3, 30, 200])
def test_the_legend_has_the_class_colours_exactly(classes):
    """Also beside tiles of many colours, which the palette of the file cannot hold all."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (61, 44, 3), np.uint8)
    label = (np.arange(61 * 44).reshape(61, 44) % classes).astype(np.uint8)
    label[0, 0] = 255
    sample = Sample(image, label, "a", (1.0, 1.0))
    names = [f"c{i}" for i in range(classes)]
    png = Image.open(io.BytesIO(images.draw(sample, [("v", "0.5", label)], names)))
    found = {tuple(colour) for colour in np.asarray(png.convert("RGB")).reshape(-1, 3).tolist()}
    wanted = {tuple(colour) for colour in figures.palette(classes).tolist()}
    assert wanted | {(110, 110, 110), (200, 200, 200)} <= found


def test_headings_keep_what_tells_variants_apart():
    def variant(key, **factors):
        return Variant(key, "", factors, (), (), False)

    one = variant("A", loss="cross-entropy", up="bilinear", rate="0.001")
    two = variant("B", loss="cross-entropy", up="transposed 4 1 2", rate="0.003")
    varied = ("loss", "up", "rate")
    assert images.headings([one, two], varied) == [
        "A bilinear, rate 0.001",
        "B transposed 4 1 2, rate 0.003",
    ]
    assert images.headings([one], varied) == ["A cross-entropy, bilinear, rate 0.001"]


@pytest.mark.parametrize("room", [60, 140, 190])
def test_headings_are_broken_between_words(room):
    text = "A cross-entropy with 0.5 Dice, learning_rate 0.003"
    lines = wrap(text, room, 20, "bold")
    assert " ".join(lines).split() == text.split() or "…" in "".join(lines)
    assert all(text_width(line, 9, "bold") <= room for line in lines)
    assert ("…" in "".join(lines)) == (room == 60)  # a word that is longer than a line
    assert len(wrap(text, room, 2)) == 2
    if room == 140:
        assert " ".join(wrap(text, room, images.MOST_LINES, "bold")) == text


def test_images_are_chosen_by_the_spread_over_variants(material):
    chosen = images.choose_images(material, 3)
    first, second = material.pooled.by_image.values()
    spread = abs(first - second)
    assert len(chosen) == 3
    assert spread[chosen].min() >= np.delete(spread, chosen).max()


def test_report_of_real_runs_has_the_images(material, sweep):
    write_report(assemble(material, 2), sweep / "report")
    text = (sweep / "report" / "report.md").read_text()
    assert "image_2.png" in text
    assert re.search(r"mean mIoU over seeds from 0\.\d+ to 0\.\d+ over variants", text)
    assert "best checkpoint of seed 0 alone" in text
    assert "Missing" not in text.partition("disagree most")[2].partition("## Config")[0]
    strip = read(sweep / "report" / "image_1.png")
    tiles = 4  # input, truth, two variants
    assert strip.shape[1] == tiles * (images.TILE + images.GAP) + images.GAP
    assert "config.model.up: 'transpose' -> 'bilinear'" in text


def test_a_section_without_checkpoints_says_so(tmp_path):
    config = tiny.get_config()
    source = open_data(**config.data)[0].splits["val"]
    confusion = np.random.default_rng(0).integers(1, 9, (10, 3, 3))
    write_run(tmp_path / "run", confusion, list(source.ids))
    found = images.images_section(gather([tmp_path / "run"], "val", {}, 200), 2)
    assert "holds no checkpoint" in found.blocks[0].text


def test_a_section_without_the_data_says_so(tmp_path):
    confusion = np.random.default_rng(0).integers(1, 9, (5, 3, 3))
    write_run(tmp_path / "run", confusion, [f"other_{i}" for i in range(5)])
    found = images.images_section(gather([tmp_path / "run"], "val", {}, 200), 2)
    assert "not those it was evaluated on" in found.blocks[0].text
