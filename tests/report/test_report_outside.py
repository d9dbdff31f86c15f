"""Numbers of a report worked out again from the files of the runs, by loops."""

import csv
import json

import numpy as np
import pytest
from scipy import stats
from support.report_data import counts_of, slow_scores, write_study

from unet_jax.report import course, images
from unet_jax.report.assemble import assemble
from unet_jax.report.costs import cost
from unet_jax.report.material import gather
from unet_jax.report.pages import write_report

FACTORS = {"up": ["a", "b", "c"], "rate": ["1", "2"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, FACTORS, {("up", "b"): 0.4, ("rate", "2"): 0.2}, seeds=3, images=11)
    return folder


@pytest.fixture(scope="module")
def material(study):
    return gather([study], "val", {}, 200)


@pytest.fixture(scope="module")
def runs(study):
    """Folder by (up, rate, seed), from the trials' own files."""
    files = [json.loads(file.read_text()) for file in study.glob("*/trial.json")]
    return {tuple(f["factors"].values()): study / f["name"] for f in files}


@pytest.fixture(scope="module")
def tables(study, material):
    write_report(assemble(material, 0), study / "report")
    found = {}
    for file in (study / "report").glob("*.csv"):
        with file.open() as lines:
            found[file.stem] = list(csv.DictReader(lines))
    return found


def test_effects_and_their_intervals(tables, runs):
    """Means over variants seed by seed, and SciPy's t over the three seeds."""
    scores = {key: slow_scores(counts_of(folder))["mIoU"] for key, folder in runs.items()}
    cube = np.array(
        [
            [[scores[up, rate, str(seed)] for seed in range(3)] for rate in FACTORS["rate"]]
            for up in FACTORS["up"]
        ]
    )
    rows = {(row["factor"], row["label"]): row for row in tables["effects"]}
    assert len(rows) == 5
    for axis, (factor, labels) in enumerate(FACTORS.items()):
        for place, label in enumerate(labels):
            row, part = rows[factor, label], cube.take(place, axis)
            check(row, "", part.mean(axis=0), 0)
            if place:
                check(row, "difference ", (part - cube.take(0, axis)).mean(axis=0), -1)
            else:
                assert {row[f"difference{end}"] for end in ("", " low", " high")} == {""}


def check(row, prefix, by_seed, least):
    mean = float(row[prefix.strip() or "mean"])
    ends = stats.t.interval(0.95, 2, by_seed.mean(), stats.sem(by_seed))
    assert mean == pytest.approx(by_seed.mean(), abs=1e-12)
    got = [float(row[f"{prefix}low"]), float(row[f"{prefix}high"])]
    np.testing.assert_allclose(got, np.clip(ends, least, 1), atol=1e-9)


def test_comparisons_are_corrected_by_holm(tables, runs):
    scores = {key: slow_scores(counts_of(folder))["mIoU"] for key, folder in runs.items()}
    seeds, points = list("012"), [(u, r) for u in FACTORS["up"] for r in FACTORS["rate"]]
    values = [[scores[(*point, seed)] for seed in seeds] for point in points]
    p = [stats.ttest_rel(row, values[0]).pvalue for row in values[1:]]
    order = np.argsort(p)
    want = np.empty(5)
    want[order] = np.minimum(1, np.maximum.accumulate(np.sort(p) * np.arange(5, 0, -1)))
    rows = tables["comparisons"]
    np.testing.assert_allclose([float(row["p"]) for row in rows], p, rtol=1e-6)
    np.testing.assert_allclose([float(row["p Holm"]) for row in rows], want, rtol=1e-6)


def test_scores_of_single_images(material):
    assert len(material.pooled.by_image) == 6
    for variant in material.variants:
        counts = [counts_of(run.folder) for run in variant.runs]
        for place in range(11):
            own = [slow_scores([matrices[place]])["mIoU"] for matrices in counts]
            got = material.pooled.by_image[variant.key][place]
            assert got == pytest.approx(np.mean(own), abs=1e-12)
    values = np.array(list(material.pooled.by_image.values()))
    spread = [max(values[:, i]) - min(values[:, i]) for i in range(11)]
    assert images.choose_images(material, 11) == sorted(range(11), key=lambda i: -spread[i])


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def seconds_of(folder):
    """The images of each stretch of steps over the speed that its line gives."""
    batch = json.loads((folder / "config.json").read_text())["train"]["batch_size"]
    total, before = 0.0, 0
    for line in lines_of(folder):
        if "images_per_s" in line:
            total += (line["step"] - before) * batch / line["images_per_s"]
            before = line["step"]
    return total


def test_costs(study, material, tables, runs):
    for run in material.runs:
        assert cost(run).seconds == pytest.approx(seconds_of(run.folder))
    for row in tables["trials"]:
        assert float(row["training_seconds"]) == pytest.approx(seconds_of(study / row["trial"]))
    for row in tables["variants"]:
        labels = row["factor up"], row["factor rate"]
        seconds = [seconds_of(folder) for key, folder in runs.items() if key[:2] == labels]
        assert float(row["training_seconds"]) == pytest.approx(np.mean(seconds))
        assert len(seconds) == 3


def test_curves(material, monkeypatch):
    """Mean, lowest and highest seed of every step; losses by stretches, of which there are 40."""
    drawn = []
    monkeypatch.setattr(course, "draw_curves", lambda found, name: drawn.append(found) or "<svg/>")
    monkeypatch.setattr(course, "_BINS", 7)
    course.curves_section(material)
    scores, losses = drawn
    for variant, score, loss in zip(material.variants, scores, losses, strict=True):
        lines = [lines_of(run.folder) for run in variant.runs]
        points = [{x["step"]: x["val/mIoU"] for x in run if "val/mIoU" in x} for run in lines]
        compare(score, {s: [run[s] for run in points] for s in points[0]})
        noisy = [[(x["step"], x["train/loss"]) for x in run if "train/loss" in x] for run in lines]
        assert len(noisy[0]) == 20
        sizes, stretches, start = [3] * 6 + [2], {}, 0
        for size in sizes:
            parts = [run[start : start + size] for run in noisy]
            stretches[parts[0][-1][0]] = [sum(v for _, v in part) / size for part in parts]
            start += size
        compare(loss, stretches)


def compare(curve, values):
    assert curve.steps.tolist() == list(values)
    rows = np.array(list(values.values()))
    np.testing.assert_allclose(curve.middle, rows.mean(axis=1))
    np.testing.assert_allclose(curve.low, rows.min(axis=1))
    np.testing.assert_allclose(curve.high, rows.max(axis=1))
