"""The pictures of a report, from two networks that were really trained for a few steps."""

import json

import numpy as np
import pytest
from figure_data import read
from report_data import write_run

from configs import tiny
from experiments.report import pictures
from experiments.report.assemble import assemble
from experiments.report.material import gather
from experiments.report.pages import write_report
from unet_jax.data.sources import open_data
from unet_jax.train import train_and_evaluate


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
        train_and_evaluate(config, folder / names[-1])
    study = {"study": "", "baseline": {"up": "transpose"}, "factors": {}, "trials": names}
    (folder / "study.json").write_text(json.dumps(study))
    return folder


@pytest.fixture(scope="module")
def material(sweep):
    return gather([sweep], "val", {}, 200)


def test_predictions_are_those_that_were_counted(material):
    """Restored networks give the confusion matrices that training wrote, picture by picture."""
    names = [material.pooled.ids[i] for i in (7, 2)]
    for variant in material.variants:
        guesses = pictures.predict(variant.runs[0], "val", names)
        config = variant.runs[0].config
        source = open_data(**config.data)[0].splits["val"]
        file = variant.runs[0].folder / "evaluations" / "val_00000004.npz"
        with np.load(file) as saved:
            counted = saved["confusion"]
        for place, index in enumerate((7, 2)):
            label, want = source[index]["label"], np.zeros((6, 6), int)
            assert source[index]["id"] == names[place]
            np.add.at(want, (label.ravel(), guesses[place].ravel()), 1)
            np.testing.assert_array_equal(counted[index], want)


def test_pictures_are_chosen_by_the_spread_over_variants(material):
    chosen = pictures.choose_pictures(material, 3)
    first, second = material.pooled.by_picture.values()
    spread = abs(first - second)
    assert len(chosen) == 3
    assert spread[chosen].min() >= np.delete(spread, chosen).max()


def test_report_of_real_runs_has_the_pictures(material, sweep):
    write_report(assemble(material, 2), sweep / "report")
    text = (sweep / "report" / "report.md").read_text()
    assert "picture_2.png" in text
    assert "Missing" not in text.partition("disagree most")[2].partition("## Config")[0]
    strip = read(sweep / "report" / "picture_1.png")
    tiles = 4  # input, truth, two variants
    assert strip.shape[1] == tiles * (pictures.TILE + pictures.GAP) + pictures.GAP
    assert "config.model.up: 'transpose' -> 'bilinear'" in text


def test_a_section_without_checkpoints_says_so(tmp_path):
    config = tiny.get_config()
    source = open_data(**config.data)[0].splits["val"]
    confusion = np.random.default_rng(0).integers(1, 9, (10, 3, 3))
    write_run(tmp_path / "run", confusion, list(source.ids))
    found = pictures.pictures_section(gather([tmp_path / "run"], "val", {}, 200), 2)
    assert "holds no checkpoint" in found.blocks[0].text


def test_a_section_without_the_data_says_so(tmp_path):
    confusion = np.random.default_rng(0).integers(1, 9, (5, 3, 3))
    write_run(tmp_path / "run", confusion, [f"other_{i}" for i in range(5)])
    found = pictures.pictures_section(gather([tmp_path / "run"], "val", {}, 200), 2)
    assert "not those it was evaluated on" in found.blocks[0].text
