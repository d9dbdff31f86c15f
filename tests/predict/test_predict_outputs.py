"""Prediction with --outputs: every kind of files at once, planned and checked like masks."""

import csv
import json
import shutil

import numpy as np
import pytest
import shapely
from ml_collections import ConfigDict
from PIL import Image
from pycocotools.coco import COCO
from support.opening import opened
from support.predicting import CONFIG, draw, make_run, predict, tree

from unet_jax.data.layouts.yolo import draw_lines
from unet_jax.errors import UserError
from unet_jax.library import Run
from unet_jax.metrics.cleaned import to_rules
from unet_jax.metrics.cleaning import clean
from unet_jax.predict.outputs import DEFAULT, OUTPUTS
from unet_jax.predict.run import predict_run
from unet_jax.scoring.pairs import find_pairs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ALL = [name for name in OUTPUTS if name != "disagreement"]  # of one prediction


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.getbasetemp() / "predicting")


@pytest.fixture(scope="module")
def everything(run, tmp_path_factory):
    """Returns a folder of images, and one of all results of them."""
    folder = tmp_path_factory.mktemp("everything")
    draw(folder / "photos" / "a.jpg", folder / "photos" / "s" / "b.png", size=(37, 23))
    predict(run, [folder / "photos"], folder / "out", outputs=ALL[::-1])
    return folder


def read_png(file):
    with Image.open(file) as image:
        return np.asarray(image)


def test_all_outputs_are_of_one_mask(everything, capsys):
    out = everything / "out"
    images = {"a": "a.jpg", "s/b": "s/b.png"}
    read = COCO(out / "coco.json")
    capsys.readouterr()
    assert [one["file_name"] for one in read.imgs.values()] == [*images.values()]
    with (out / "classes.csv").open(newline="") as stream:
        rows = [*csv.DictReader(stream)]
    for number, (name, file) in enumerate(images.items(), start=1):
        mask, ids = (read_png(out / f"{name}{end}.png") for end in ("", "_ids"))
        assert mask.shape == (37, 23)
        assert np.array_equal(mask, ids)
        probability = np.load(out / f"{name}_probability.npy")
        assert probability.dtype == np.float32
        np.testing.assert_allclose(probability.sum(axis=-1), 1, atol=1e-5)
        assert np.array_equal(probability.argmax(axis=-1), mask)
        drawn = np.zeros_like(mask)
        for one in read.imgToAnns[number]:
            drawn[read.annToMask(one) > 0] = one["category_id"]
        assert np.array_equal(drawn, mask)
        lines = (out / "labels" / f"{name}.txt").read_bytes()
        assert np.array_equal(draw_lines(lines, "", mask.shape, probability.shape[-1]), mask)
        features = json.loads((out / f"{name}.geojson").read_text())["features"]
        areas = [shapely.from_geojson(json.dumps(one["geometry"])).area for one in features]
        assert sum(areas) == (mask > 0).sum()
        assert (out / f"{name}_rois.zip").is_file()
        pixels = [int(row["pixels"]) for row in rows if row["image"] == file]
        assert pixels == [(mask == k).sum() for k in range(probability.shape[-1])]
    for file in out.rglob("*.png"):
        assert read_png(file).shape[:2] == (37, 23)


@pytest.mark.parametrize("files", [("coco.json",), ("data.yaml", "labels")])
def test_results_beside_the_images_are_a_data_set(everything, tmp_path, files):
    shutil.copytree(everything / "photos", tmp_path / "images")
    for name in files:
        source = everything / "out" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    dataset = opened(str(tmp_path), val_fraction=0.5)
    assert dataset.class_names == ("background", "disk", "square", "triangle", "ring", "cross")
    found = {
        name: split.read(index).label
        for split in dataset.splits.values()
        for index, name in enumerate(split.ids)
    }
    assert found.keys() == {"a", "s/b"}
    for name, label in found.items():
        assert np.array_equal(label, read_png(everything / "out" / f"{name}.png"))


def test_the_default_is_masks_and_overlays_and_the_rest_changes_neither(run, everything, tmp_path):
    predict(run, [everything / "photos"], tmp_path / "out")
    files = {
        file.relative_to(tmp_path / "out"): own for file, own in tree(tmp_path / "out").items()
    }
    names = {str(file) for file, (kind, _) in files.items() if kind == "file"}
    assert names == {f"{name}{end}.png" for name in ("a", "s/b") for end in ("", "_overlay")}
    all_files = {f.relative_to(everything / "out"): o for f, o in tree(everything / "out").items()}
    assert files.items() <= all_files.items()
    assert DEFAULT == ("mask", "overlay")


def test_what_is_asked_for_alone(run, tmp_path, capsys):
    draw(tmp_path / "a.jpg")
    predict(run, [tmp_path / "a.jpg"], tmp_path / "out", outputs=["csv", "geojson"])
    assert {file.name for file in tree(tmp_path / "out")} == {
        *("a.geojson", "objects.csv", "classes.csv")
    }
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("1 contours (GeoJSON) and measures (objects.csv, classes.csv): ")


@pytest.mark.parametrize(
    ("photos", "outputs", "says"),
    [
        (["a.jpg"], ["masks"], ["--outputs='masks' is not known", "mask, overlay, ids"]),
        (["a.jpg"], [], ["--outputs is empty", "mask, overlay"]),
        (
            ["coco.json/a.jpg"],
            ["coco", "mask"],
            ["out/coco.json", "all images", "name of the folder"],
        ),
        (["a_ids.jpg", "a.jpg"], ["mask", "ids"], ["a_ids.jpg", "photos/a.jpg", "one name"]),
    ],
)
def test_outputs_that_cannot_be_written(run, tmp_path, photos, outputs, says):
    draw(*(tmp_path / "photos" / name for name in photos))
    before = tree(tmp_path)
    with pytest.raises(UserError) as caught:
        predict(run, [tmp_path / "photos"], tmp_path / "out", outputs=outputs)
    assert tree(tmp_path) == before
    assert not [piece for piece in says if piece not in str(caught.value)], caught.value


def test_files_of_all_images_are_replaced_with_the_flag_alone(run, everything, tmp_path):
    shutil.copytree(everything / "out", tmp_path / "out")
    first = tree(tmp_path / "out")
    for name in ("coco.json", "data.yaml", "objects.csv"):
        for file in [*tree(tmp_path / "out")]:
            if file.is_file() and file.name != name:
                file.unlink()
        with pytest.raises(UserError, match=rf"holds 1 of the 22 files.*{name}"):
            predict(run, [everything / "photos"], tmp_path / "out", outputs=ALL)
        predict(run, [everything / "photos"], tmp_path / "out", outputs=ALL, replace=True)
        assert tree(tmp_path / "out") == first


def test_masks_are_cleaned_by_the_rules_of_the_config(run, everything, tmp_path, capsys):
    rules = ("as_it_is", "least_16", "largest_filled", "filled", "least_64", "largest")
    config = ConfigDict(CONFIG.to_dict())
    config.eval.metrics = {"cleaning": {"rules": rules}}
    given = {"inputs": [str(everything / "photos")], "checkpoint": "latest"}
    predict_run(config, run, output=str(tmp_path / "out"), outputs=["mask", "csv"], **given)
    changed, pixels = 0, 0
    for name in ("a", "s/b"):
        mask, cleaned = (
            read_png(f / f"{name}.png") for f in (everything / "out", tmp_path / "out")
        )
        assert np.array_equal(cleaned, clean(mask, to_rules(rules), 2))
        changed, pixels = changed + (cleaned != mask).sum(), pixels + mask.size
    assert changed > 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(disk least_16, square largest_filled, triangle filled, ring least_64, cross" in said
    assert f"cross largest) changed {changed / pixels:.3%} of the pixels" in said
    assert "of 2 images" in said
    own = Run(config, run, "latest").predict(read_png(everything / "photos" / "s" / "b.png"))
    assert np.array_equal(own, read_png(tmp_path / "out" / "s" / "b.png"))
    config.eval.metrics = {"cleaning": {"rules": ()}}
    with pytest.raises(UserError, match=r"at step 1: first run --mode=eval --split=val"):
        predict_run(config, run, output=str(tmp_path / "x"), **given)
    assert not (tmp_path / "x").exists()


def test_scores_of_masks_leave_other_outputs_aside(everything, tmp_path):
    for file in (everything / "out").rglob("*.png"):
        if "_" not in file.stem:
            target = tmp_path / file.relative_to(everything / "out")
            target.parent.mkdir(exist_ok=True)
            shutil.copy(file, target)
    pairs = find_pairs(str(everything / "out"), str(tmp_path))
    assert [pair.id for pair in pairs] == ["a", "s/b"]
