"""Reports of few, missing and unlike runs."""

import json

import numpy as np
import pytest
from support.report_data import CLASSES, FACTORS, write_run, write_study
from support.report_pages import read_csv, write
from support.scored import scores as scores_of


def test_one_run(tmp_path):
    rng = np.random.default_rng(0)
    confusion = rng.integers(1, 500, (20, 3, 3)) + 900 * np.eye(3, dtype=int)
    write_run(tmp_path / "mine", confusion, [f"p{i}" for i in range(20)])
    page = write(tmp_path / "mine")
    (row,) = read_csv(tmp_path / "mine" / "report" / "variants.csv")
    want = scores_of(confusion.sum(axis=0), CLASSES)["mIoU"]
    assert float(row["mIoU mean"]) == pytest.approx(want)
    assert row["mIoU sd"] == row["mIoU low"] == ""
    assert float(row["mIoU images low"]) < want < float(row["mIoU images high"])
    assert row["variant"] == "mine"
    assert "comparisons.csv" not in page.tables
    text = (tmp_path / "mine" / "report" / "report.md").read_text()
    assert "nothing to compare" in text
    assert "No failures: the run is finished." in text


def test_runs_that_differ_in_the_seed_are_one_variant(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(9)]
    for name, seed, keys in [("a0", 0, {}), ("a1", 1, {}), ("b0", 0, {"model.up": "bilinear"})]:
        confusion = rng.integers(1, 500, (9, 3, 3))
        write_run(tmp_path / name, confusion, ids, seed=seed, keys=keys)
    folders = [tmp_path / name for name in ("a0", "a1", "b0")]
    write(tmp_path, folders=folders)
    rows = read_csv(tmp_path / "report" / "variants.csv")
    assert [(row["variant"], row["seeds"]) for row in rows] == [("a0", "2"), ("b0", "1")]
    (compared,) = read_csv(tmp_path / "report" / "comparisons.csv")
    assert compared["test"].startswith("none")
    assert compared["images low"] == ""
    text = (tmp_path / "report" / "report.md").read_text()
    assert "There is no test: 1 run" in text
    assert "No interval over images: 9 labelled images, it takes 10." in text


def test_missing_pieces_are_named_and_nothing_ends_in_an_error(tmp_path):
    write_study(tmp_path, {"up": ["a", "b", "c"]}, {}, seeds=2, images=12)
    trials = json.loads((tmp_path / "study.json").read_text())["trials"]
    first, second, third, fourth, fifth, sixth = (tmp_path / name for name in trials)
    (first / "results.json").unlink()  # was stopped
    (first / "log.txt").write_text("step 5\nerror: the disk is <full>\n")
    for file in second.iterdir():  # never started
        if file.is_file():
            file.unlink()
    next((third / "evaluations").glob("*.npz")).unlink()  # of an older version
    (fourth / "run.json").write_text("{ half a fi")
    (fifth / "metrics.jsonl").unlink()
    (sixth / "metrics.jsonl").write_text('{"step": 5, "train/loss": 1.0}\n{"st')
    stray = tmp_path / "up=z,seed=0_00000009"
    stray.mkdir()
    (stray / "trial.json").write_text("{}")
    page = write(tmp_path, images=2)
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"{first.name}: unfinished at step 100" in text
    assert "error: the disk is <full>" in text
    assert f"{second.name}: not started" in text
    assert f"{third.name} has no counts by image" in text
    assert stray.name in text
    assert "Missing: " in text.partition("## The worst images")[2]
    assert "No baseline" in text
    assert len(page.tables["trials.csv"]) == 7


def test_nothing_is_finished_yet(tmp_path):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=8)
    for file in tmp_path.glob("*/results.json"):
        file.unlink()
    write(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "0 of 4 runs finished" in text
    assert "No run has scores yet" in text


def test_other_images_are_not_compared(tmp_path):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=8)
    for file in tmp_path.glob("up=b*/evaluations/*.npz"):
        with np.load(file) as arrays:
            confusion, ids = arrays["confusion"], arrays["id"]
        np.savez(file, confusion=confusion, id=np.char.add("other_", ids))
    write(tmp_path)
    (row,) = read_csv(tmp_path / "report" / "comparisons.csv")
    assert row["images low"] == ""
    assert "was evaluated on other images" in (tmp_path / "report" / "report.md").read_text()


def test_images_in_another_order_are_the_same_images(tmp_path):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=30)
    write(tmp_path)
    before = read_csv(tmp_path / "report" / "comparisons.csv")
    for file in tmp_path.glob("up=b*/evaluations/*.npz"):
        with np.load(file) as arrays:
            confusion, ids = arrays["confusion"], arrays["id"]
        np.savez(file, confusion=confusion[::-1], id=ids[::-1])
    write(tmp_path)
    assert read_csv(tmp_path / "report" / "comparisons.csv") == before


def test_baseline_can_be_chosen(tmp_path):
    write_study(tmp_path, FACTORS, {}, seeds=2, images=8)
    write(tmp_path, baseline={"up": "bilinear", "rate": "0.003"})
    rows = read_csv(tmp_path / "report" / "variants.csv")
    assert (rows[0]["factor up"], rows[0]["factor rate"]) == ("bilinear", "0.003")
    assert rows[0]["baseline"] == "True"
