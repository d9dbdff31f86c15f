"""`--mode=score`: the numbers of `--mode=eval`, without a network; what it writes."""

import csv
import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from support.predicting import begin_run
from support.quick import get_config

from unet_jax import main
from unet_jax.cards.card import read_card
from unet_jax.data.sets.pets import VIEWS
from unet_jax.data.sources import open_data
from unet_jax.defaults import complete, page
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.predict.run import predict_run
from unet_jax.runs.results import read_results
from unet_jax.scoring.run import score_folders
from unet_jax.verify import Masks, verify_card

METRICS = {
    "per_image": {},
    "surface": {"tolerance": 1.5},
    "boundary": {},
    "objects": {},
    "calibration": {},
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A run of random weights, the images of its validation split, their masks, and the scores."""
    folder = tmp_path_factory.mktemp("shapes")
    values = get_config().to_dict()
    config = page(**(values | {"eval": values["eval"] | {"metrics": METRICS}}))
    run = begin_run(folder / "run", config)
    source = open_data(**config.data)[0].splits["val"]
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for index in range(len(source)):
        sample = source.read(index)
        name = sample.id.replace("/", "_")
        Image.fromarray(sample.image).save(folder / "images" / f"{name}.png")
        Image.fromarray(sample.label).save(folder / "truth" / f"{name}.png")
    given = {"inputs": [str(folder / "images")], "output": str(folder / "out")}
    predict_run(config, run, **given, checkpoint="latest")
    evaluate_run(config, run, split="val", checkpoint="latest")
    return folder, config, read_results(run)["val_latest"]


def test_the_scores_are_those_of_the_evaluation(shapes, capsys, tmp_path):
    folder, config, evaluated = shapes
    score_folders(
        config,
        predictions=str(folder / "out"),
        truth=str(folder / "truth"),
        width=2,
        output=tmp_path / "scores",
    )
    found = json.loads((tmp_path / "scores" / "score.json").read_text())
    of_probabilities = {"ECE", "MCE", "Brier", "temperature", "scaled_cross_entropy"}
    wanted = {k: v for k, v in evaluated.items() if k not in {"step", "cross_entropy"}}
    wanted = {k: v for k, v in wanted.items() if k not in of_probabilities}
    assert len(wanted) > 40
    assert found["scores"] == wanted
    assert found["scopes"]["whole"]["scores"]["pixels"]["IoU"] == wanted["mIoU"]
    assert found["scopes"]["whole"]["scores"]["pixels"]["Dice"] == wanted["mDice"]
    assert found["assumed"][1:] == [
        "predicted masks hold class ids, 0 to 5",
        "calibration needs probabilities and is left out",
    ]
    rows = list(csv.DictReader((tmp_path / "scores" / "score.csv").read_text().splitlines()))
    whole = [row for row in rows if row["scope"] == "whole"]
    assert len(whole) == len(found["ids"]) * len(found["scopes"]["whole"]["class_names"])
    counts = found["scopes"]["whole"]["counts"]
    for row in whole:
        n = found["ids"].index(row["image"])
        k = found["scopes"]["whole"]["class_names"].index(row["class"])
        for name in ("both", "true", "predicted"):
            assert int(row[name]) == counts[name][n][k]
        union = int(row["true"]) + int(row["predicted"]) - int(row["both"])
        assert row["IoU"] == ("" if not union else str(int(row["both"]) / union))
    card = read_card(tmp_path / "scores" / "cards" / "score.json")
    scored = {n: score["value"] for n, score in card["scores"].items()}
    assert scored == {n: x if x is None else round(x, 9) for n, x in wanted.items()}
    assert "low" in card["scores"]["IoU/disk"] or "why" in card["scores"]["IoU/disk"]
    assert card["run"]["evaluated_by"]
    own = "config.eval.metrics."
    told = dict(x.removeprefix(own).split(": ", 1) for x in card["rules"] if x.startswith(own))
    assert list(told) == ["per_image", "surface", "boundary", "objects"]
    assert told["surface"].startswith("{'tolerance': 1.5,")
    masks = Masks(str(folder / "out"), str(folder / "truth"))
    verify_card(tmp_path / "scores" / "cards" / "score.json", config, None, masks)
    said = capsys.readouterr().out
    assert "every count of every image" in said
    assert f"{wanted['mIoU']:.4f}" in said
    for name, own in found["scopes"]["whole"]["scores"].items():
        numbers = "".join(f"{own[kind]:8.4f}" for kind in ("IoU", "Dice"))
        assert f"\n{name:<21}{numbers}" in said
    assert "nnU-Net" in said
    with pytest.raises(UserError, match=r"score\.json is there already; replace it with --replace"):
        score_folders(config, predictions="a", truth="b", output=tmp_path / "scores")


def test_pets_have_their_three_rules(tmp_path):
    rng = np.random.default_rng(0)
    label, guess = rng.integers(1, 4, (2, 9, 14)).astype(np.uint8)
    for name, mask in (("truth", label), ("guess", guess)):
        (tmp_path / name).mkdir()
        Image.fromarray(mask).save(tmp_path / name / "x.png")
    config = complete(page(data={"source": "pets"}))
    names = {"predictions": str(tmp_path / "guess"), "truth": str(tmp_path / "truth")}
    with pytest.raises(UserError, match=r"\[1, 2, 3\], which are not the ids of the classes"):
        score_folders(config, **names)
    found = score_folders(config, **names, predictions_are="labels")
    pet, own = label != 2, guess != 2
    for view, counted in zip(VIEWS, (label > 0, label != 3), strict=True):
        sums = found[view.name].sums
        assert sums.both[0, 0] == (pet & own & counted).sum()
        assert sums.true[0, 0] == (pet & counted).sum()
        assert sums.predicted[0, 0] == (own & counted).sum()
        assert found[view.name].pixels == counted.sum()
        assert found[view.name].background == "background"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Returns a function that parses flags and runs the command in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*given):
        with flagsaver.flagsaver(mode="score", workdir=None, output=None):  # as others left it
            code = main.command_line.run(["main", "--mode=score", *given], main.run, main)
            flags.FLAGS.mark_as_parsed()
            return code

    return run


def test_the_command_needs_two_folders_alone(command, tmp_path, capsys):
    for name in ("truth", "guess"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.eye(3, dtype=np.uint8)).save(tmp_path / name / "x.png")
    assert command("--predictions=guess", "--truth=truth") == 0
    said = capsys.readouterr().out
    assert "classes: 0 to 1, the values in the masks" in said
    assert {path.name for path in tmp_path.iterdir()} == {"truth", "guess"}
    assert command("--predictions=guess", "--truth=truth", "--config=folder.py", "--output=o") == 0
    assert "classes: 0 background, 1 object (of the config)" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "score.json",
        "score.csv",
        "cards",
    }
    both = "--predictions=guess", "--truth=truth"
    assert command(*both, "--trimap=0") == 0
    assert "near borders" not in capsys.readouterr().out
    assert command(*both, "--config=folder.py", "--output=o", "--replace") == 0
    (tmp_path / "taken" / "score.csv").mkdir(parents=True)
    assert command(*both, "--output=taken", "--replace") == 2
    assert "score.csv is there already" in capsys.readouterr().err
    for given, says in [
        (["--truth=truth"], "--predictions is missing"),
        ([*both, "--predictions_are=labels"], "--predictions_are=labels needs a config"),
        ([*both, "--trimap=-1"], "--trimap=-1 must be 0 or more"),
        ([*both, "--output=guess/x.png/o"], "--output=guess/x.png/o cannot be written"),
    ]:
        assert command(*given) == 2
        assert says in capsys.readouterr().err


def test_metrics_are_checked_before_masks_are_counted(shapes):
    folder, config, _ = shapes
    wrong = {"metrics": {"surface": {"classes": (9,)}}}
    config = page(**(config.to_dict() | {"eval": wrong}))
    names = {"predictions": str(folder / "out"), "truth": str(folder / "truth")}
    with pytest.raises(UserError, match=r"surface\.classes=\(9,\) must be different class ids"):
        score_folders(config, **names)


def test_a_run_says_what_masks_mean(command, shapes, capsys):
    folder, _, evaluated = shapes
    names = f"--predictions={folder / 'out'}", f"--truth={folder / 'truth'}"
    assert command(f"--workdir={folder / 'run'}", *names, "--output=o") == 0
    assert "1 disk, 2 square" in (said := capsys.readouterr().out)
    assert f"image IoU {evaluated['image_IoU']:.4f}" in said


def test_a_card_is_verified_from_stored_masks(shapes, tmp_path, capsys):
    folder, config, _ = shapes
    [file] = (folder / "run" / "cards").glob("val_latest_*.json")
    masks = Masks(str(folder / "out"), str(folder / "truth"))
    verify_card(file, config, None, masks)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "boundary, objects, overlap, per_image, surface is the same" in said

    shutil.copytree(folder / "out", tmp_path / "out")
    mask = next(
        path for path in sorted((tmp_path / "out").glob("*.png")) if "overlay" not in path.name
    )
    pixels = np.array(Image.open(mask))
    pixels[3, 4:6] = (pixels[3, 4:6] + 1) % 6
    Image.fromarray(pixels).save(mask)
    Image.fromarray(pixels).save(tmp_path / "out" / "of_another_image.png")
    with pytest.raises(
        UserError, match=r"1 of 8 images have other counts of overlap/confusion, 2 of"
    ):
        verify_card(file, config, None, masks._replace(predictions=str(tmp_path / "out")))
    mask.unlink()
    with pytest.raises(UserError, match=rf"--predictions lacks 1 of 8 masks: {mask.stem}"):
        verify_card(file, config, None, masks._replace(predictions=str(tmp_path / "out")))
    other = page(data={"source": "folder", "folder": {"class_names": ("sky", "sea")}})
    with pytest.raises(UserError, match=r"the card is of the 6 classes .* and the masks have 2"):
        verify_card(file, other, None, masks)
