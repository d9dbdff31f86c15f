"""Reports of few runs and few images, read as a user reads them, against NumPy and SciPy."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from scipy import stats
from support.report_data import CLASSES, counts_of, slow_scores, write_run, write_study

from unet_jax.report.assemble import assemble
from unet_jax.report.material import gather
from unet_jax.report.pages import write_report
from unet_jax.report.rows import Interval, limits

BOUNDED = {"mIoU": 0, "mDice": 0, "pixel accuracy": 0, "difference of mIoU": -1, "sd": 0}
OVER = ("95% over seeds", "95% over images", "95% over both")


def write(folder, folders=None, baseline=None):
    """Writes a report; returns its Markdown, its page and the rows of its CSV files."""
    write_report(assemble(gather(folders or [folder], "val", baseline or {}, 400), 0), folder / "r")
    tables = {}
    for file in (folder / "r").glob("*.csv"):
        with file.open() as lines:
            tables[file.stem] = list(csv.DictReader(lines))
    return (
        (folder / "r" / "report.md").read_text(),
        (folder / "r" / "report.html").read_text(),
        tables,
    )


def columns(text):
    """Yields heading and cell of all cells of a Markdown text's tables."""
    heading = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            heading = []
        elif not heading:
            heading = cells
        elif "---" not in line:
            yield from zip(heading, cells, strict=True)


def check_numbers(text, tables):
    """Every number of the tables is finite, and scores and differences are possible ones."""
    for heading, cell in columns(text):
        if heading in OVER and cell != "-" and not cell.startswith("none: "):
            low, high = (float(end) for end in cell.split(" to "))
            assert -1 * ("+" in cell or "-" in cell) <= low <= high <= 1
        elif heading in BOUNDED and cell != "-":
            assert BOUNDED[heading] <= float(cell) <= 1
    for row in (row for rows in tables.values() for row in rows):
        for key, value in row.items():
            assert value.lower() not in ("nan", "inf", "-inf", "none"), key
            if key.endswith((" low", " high", " mean")) or key in ("low", "high", "mean"):
                assert value == "" or -1 <= float(value) <= 1, (key, value)


def t_interval(values, low, high):
    ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return np.clip(ends, low, high)


@pytest.mark.parametrize(("seeds", "images"), [(1, 1), (1, 2), (2, 3), (3, 1), (3, 2)])
def test_few_runs_and_images(tmp_path, seeds, images):
    factors = {"up": ["a", "b"], "rate": ["1", "2"]}
    write_study(tmp_path, factors, {("up", "b"): 0.5}, seeds=seeds, images=images)
    text, html, tables = write(tmp_path)
    check_numbers(text, tables)
    runs = "none: 1 run"
    few = f"none: {images} labelled image{'s' * (images > 1)}, it takes 10"
    both = "none: it takes the other two"
    for heading, cell in columns(text):
        assert heading != "95% over images" or cell == few
        assert heading != "95% over both" or cell == both
        # The first label of a factor has no difference from itself, and no reason to give.
        assert heading != "95% over seeds" or cell == "-" or (cell == runs) == (seeds == 1)
    for cell in {few, both} | ({runs} if seeds == 1 else set()):
        assert html.count(f">{cell}<") >= 3
    assert f"No interval over images: {few.removeprefix('none: ')}." in text
    assert "Fewer than 10 images: nothing is known of what other images would change." in text
    assert ("There is no test: 1 run, which" in text) == (seeds == 1)
    assert "bar: 95%" not in text
    assert ("thin line: 95%" in text) == (seeds > 1)
    for row in tables["comparisons"]:
        assert {row[f"{kind} {end}"] for kind in ("images", "both") for end in ("low", "high")} == {
            ""
        }
        assert row["verdict"] in ("no difference shown", "better, but on these images only")
        assert (row["p"] == "") == (row["p Holm"] == "") == (row["t"] == "") == (seeds == 1)
        assert row["test"] == ("paired t" if seeds > 1 else "none: 1 run")


@pytest.mark.parametrize(("seeds", "images"), [(1, 3), (2, 2), (3, 11)])
def test_every_score_and_interval_over_runs_is_that_of_the_files(tmp_path, seeds, images):
    """From the counts on the disk by loops, and from SciPy's t; nothing of the program's own."""
    write_study(tmp_path, {"up": ["a", "b"]}, {("up", "b"): 0.5}, seeds=seeds, images=images)
    _, _, tables = write(tmp_path)
    found = {}
    for row in tables["trials"]:
        found[row["variant"], row["seed"]] = slow_scores(counts_of(tmp_path / row["trial"]))
        for name, value in found[row["variant"], row["seed"]].items():
            assert float(row[name]) == pytest.approx(value, abs=1e-12)
    by_variant = {v: [s for (name, _), s in found.items() if name == v] for v in "ab"}
    for row in tables["variants"]:
        for name in ("mIoU", "mDice", "pixel_accuracy", *(f"IoU/{c}" for c in CLASSES)):
            values = [score[name] for score in by_variant[row["variant"]]]
            assert len(values) == seeds
            assert float(row[f"{name} mean"]) == pytest.approx(np.mean(values), abs=1e-12)
            shown = [row[f"{name} {part}"] for part in ("sd", "low", "high")]
            if seeds == 1:
                assert shown == [""] * 3
                continue
            want = np.std(values, ddof=1), *t_interval(values, 0, 1)
            np.testing.assert_allclose([float(v) for v in shown], want, atol=1e-9)
    (row,) = tables["comparisons"]
    first, second = ([score["mIoU"] for score in by_variant[v]] for v in "ab")
    moved = np.subtract(second, first)
    assert float(row["difference"]) == pytest.approx(moved.mean(), abs=1e-12)
    if seeds > 1:
        test = stats.ttest_1samp(moved, 0)
        got = [float(row[key]) for key in ("seeds low", "seeds high", "t", "p", "p Holm")]
        want = [*t_interval(moved, -1, 1), test.statistic, test.pvalue, test.pvalue]
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)
    if images < 10 or seeds < 2:
        assert row["both low"] == row["both high"] == ""
        return
    d, *ends = (float(row[k]) for k in ("difference", "images low", "images high"))
    over = [float(row["seeds low"]), float(row["seeds high"])]
    both = [d - np.hypot(d - ends[0], d - over[0]), d + np.hypot(ends[1] - d, over[1] - d)]
    got = [float(row["both low"]), float(row["both high"])]
    np.testing.assert_allclose(got, np.clip(both, -1, 1), atol=1e-12)


def test_four_ordinary_runs_of_three_images(tmp_path):
    rng = np.random.default_rng(0)
    names = ("one", "two", "three", "four")
    for place, name in enumerate(names):
        counts = rng.integers(1, 500, (3, 3, 3)) + 300 * np.eye(3, dtype=int)
        keys = {"optim.learning_rate": 0.001 * (1 + place)}
        write_run(tmp_path / name, counts, ["x", "y", "z"], keys=keys)
    text, html, tables = write(tmp_path, [tmp_path / name for name in names])
    check_numbers(text, tables)
    assert text.count("none: 3 labelled images, it takes 10") == 4 + 3
    assert html.count("none: 3 labelled images, it takes 10") == 4 + 3
    for row, name in zip(tables["variants"], names, strict=True):
        want = slow_scores(counts_of(tmp_path / name))["mIoU"]
        assert float(row["mIoU mean"]) == pytest.approx(want, abs=1e-12)
        assert row["mIoU images low"] == row["mIoU images high"] == row["mIoU sd"] == ""


def test_runs_and_images_that_are_all_alike(tmp_path):
    """No spread: no interval, no test, and nothing is divided by it."""
    counts = np.array([[[5, 1, 0], [2, 9, 0], [0, 0, 0]]] * 12)
    names = [f"{up}{seed}" for up in "ab" for seed in range(2)]
    for name in names:
        keys = {"model.up": "bilinear"} if name[0] == "b" else {}
        write_run(tmp_path / name, counts, list(map(str, range(12))), seed=int(name[1]), keys=keys)
    text, _, tables = write(tmp_path, [tmp_path / name for name in names])
    check_numbers(text, tables)
    assert text.count("none: no spread over runs") == 2 * 3 + 2  # three scores; interval and test
    assert text.count("none: no spread over images") == 2 + 1
    assert "There is no test: no spread over runs" in text
    (row,) = tables["comparisons"]
    assert (float(row["difference"]), row["p"], row["verdict"]) == (0, "", "no difference shown")
    assert all(row["IoU/car mean"] == "" for row in tables["variants"])  # no pixel is a car
    assert "car" not in text.partition("## Classes")[2].partition("## ")[0].splitlines()[4]


def test_one_variant_under_one_label(tmp_path):
    write_study(tmp_path, {"up": ["a"]}, {}, seeds=2, images=2)
    text, _, tables = write(tmp_path)
    check_numbers(text, tables)
    assert tables["comparisons"] == []
    assert "There is one variant, so nothing to compare it with." in text
    (row,) = tables["variants"]
    scores = [
        slow_scores(counts_of(folder.parent))["mIoU"] for folder in tmp_path.glob("*/run.json")
    ]
    got = [float(row[f"mIoU {part}"]) for part in ("mean", "low", "high")]
    np.testing.assert_allclose(got, [np.mean(scores), *t_interval(scores, 0, 1)], atol=1e-9)


def test_classes_that_some_runs_lack_and_seeds_that_differ(tmp_path):
    """Welch's test of two and three runs; the class "car" is in one run's images alone."""
    rng = np.random.default_rng(1)
    scores = {}
    for name, seed in (("a0", 0), ("a1", 1), ("b5", 5), ("b6", 6), ("b7", 7)):
        counts = rng.integers(1, 200, (2, 3, 3)) + 400 * np.eye(3, dtype=int)
        if name != "b5":
            counts[:, 2] = 0
        keys = {"model.up": "bilinear"} if name[0] == "b" else {}
        write_run(tmp_path / name, counts, ["x", "y"], seed=seed, keys=keys)
        scores[name] = slow_scores(counts.tolist())
    text, _, tables = write(tmp_path, [tmp_path / name for name in scores])
    check_numbers(text, tables)
    first, second = tables["variants"]
    assert (first["IoU/car mean"], first["IoU/car sd"]) == ("", "")
    assert float(second["IoU/car mean"]) == pytest.approx(scores["b5"]["IoU/car"])
    assert second["IoU/car sd"] == second["IoU/car low"] == ""
    a, b = ([s["mIoU"] for name, s in scores.items() if name[0] == v] for v in "ab")
    want = stats.ttest_ind(b, a, equal_var=False)
    (row,) = tables["comparisons"]
    assert row["test"] == "Welch t"
    got = [float(row[key]) for key in ("t", "df", "p", "seeds low", "seeds high")]
    ends = np.clip(want.confidence_interval(0.95), -1, 1)
    np.testing.assert_allclose(got, [want.statistic, want.df, want.pvalue, *ends])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_run_whose_score_is_no_number_has_none(tmp_path, value):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=3)
    (broken,) = tmp_path.glob("up=b,seed=1_*")
    results = json.loads((broken / "results.json").read_text())
    results["val"]["mIoU"] = value
    (broken / "results.json").write_text(json.dumps(results))
    lines = (broken / "metrics.jsonl").read_text()
    (broken / "metrics.jsonl").write_text(lines.replace('"val/mIoU": 0', '"val/mIoU": NaN, "x": 0'))
    text, _, tables = write(tmp_path)
    check_numbers(text, tables)
    assert f"{broken.name}: finished, but without scores of val" in text
    assert [row["seeds"] for row in tables["variants"]] == ["2", "1"]
    assert tables["comparisons"][0]["test"] == "none: 1 run"


def test_results_of_another_run_are_left_out_and_said(tmp_path, capsys):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=3)
    one, other = (next(tmp_path.glob(f"up={name},seed=1_*")) for name in "ab")
    shutil.copy(other / "results.json", one / "results.json")
    text, _, tables = write(tmp_path)
    assert f"{one.name}: {one / 'results.json'} has val." in text
    assert f"left out of the report: {one.name}: " in capsys.readouterr().err
    assert [row["seeds"] for row in tables["variants"]] == ["1", "2"]


def test_trials_that_the_study_does_not_name_are_said(tmp_path):
    write_study(tmp_path, {"up": ["a", "b"]}, {}, seeds=2, images=3)
    file = tmp_path / "study.json"
    study = json.loads(file.read_text())
    *study["trials"], unnamed = study["trials"]
    file.write_text(json.dumps(study))
    text, _, _ = write(tmp_path)
    said = text.partition("Folders of trials that study.json does not name, left out here:")[2]
    assert said.split()[:2] == ["-", unnamed]


def test_curves_leave_out_what_is_no_number(tmp_path):
    """Of more than three variants each has its axes, on one scale that spans all values."""
    write_study(tmp_path, {"up": list("abcd")}, {}, seeds=1, images=3)
    (file,) = tmp_path.glob("up=a*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[3]["val/mIoU"] = lines[4]["train/loss"] = float("nan")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text, _, _ = write(tmp_path)
    assert "val_mIoU.svg" in text
    assert "train_loss.svg" in text


def test_drawn_numbers_of_a_search_are_a_range_and_written_as_they_are(tmp_path):
    rng, names = np.random.default_rng(0), []
    drawn = ["0.0007502", "0.00213", "1.235e-05", "0.01904", "0.0006018"]
    for rate, norm in zip(drawn, ["batch", "group", "batch", "batch", "group"], strict=True):
        names.append(f"learning-rate={rate},norm={norm}_00000000")
        confusion = rng.integers(1, 500, (4, 3, 3))
        factors = {"learning_rate": rate, "norm": norm}
        write_run(tmp_path / names[-1], confusion, list("wxyz"), factors=factors)
    study = {"study": "", "baseline": {}, "factors": {}, "trials": names}
    (tmp_path / "study.json").write_text(json.dumps(study))
    text, _, tables = write(tmp_path)
    assert {row["factor"] for row in tables["effects"]} == {"norm"}
    assert (tmp_path / "r" / "effect_learning_rate.svg").exists()
    named = {row["variant"] for row in tables["variants"]}
    assert "learning_rate 0.0007502, batch" in named
    assert "A learning_rate 0.0007502, batch" in text
    assert "The best of 5 variants was chosen by this very score" in text


def test_an_axis_holds_the_intervals_but_those_that_are_far_longer_than_most():
    means = (0.501, 0.505, 0.512)
    rows = [Interval("a", mean, thin=(mean - 0.06, mean + 0.06)) for mean in means]
    low, high = limits(rows, None)
    assert low < 0.441 < 0.572 < high
    long = Interval("b", 0.506, thin=(0.0, 1.0))
    low, high = limits([*rows, long], 0.5)
    assert 0.0 < low < 0.441 < 0.572 < high < 1.0
    low, high = limits([Interval("c", 0.2, dots=(0.1, 0.4))], None)
    assert low == pytest.approx(0.1 - 0.06 * 0.3)
    assert high == pytest.approx(0.4 + 0.06 * 0.3)


def test_axes_of_equal_scores_show_the_scores(tmp_path):
    """Without an offset such as "+1" in a corner, by which a reader would have to move them."""
    perfect = np.array([np.diag([5, 9, 4])] * 3)
    names = [f"{up}{seed}" for up in "ab" for seed in range(2)]
    for name in names:
        keys = {"model.up": "bilinear"} if name[0] == "b" else {}
        write_run(tmp_path / name, perfect, ["x", "y", "z"], seed=int(name[1]), keys=keys)
    write(tmp_path, [tmp_path / name for name in names])
    for file, value in (("variants", "1.0000"), ("differences", "0.0000")):
        drawing = (tmp_path / "r" / f"{file}.svg").read_text()
        comments = re.findall(r"<!-- (.*?) -->", drawing)
        assert value in comments
        assert not [text for text in comments if re.match(r"\+?1$|1e", text)]


def test_runs_of_one_name_in_several_folders_stay_apart(tmp_path):
    rng = np.random.default_rng(0)
    keys = {"a": {}, "b": {"model.up": "bilinear"}, "c": {}}
    for name, changed in keys.items():
        counts = rng.integers(1, 99, (3, 3, 3))
        write_run(tmp_path / name / "run", counts, ["x", "y", "z"], keys=changed)
    folders = [tmp_path / name / "run" for name in keys]
    _, _, tables = write(tmp_path, [*folders, folders[0]])
    rows = tables["variants"]
    assert [row["seeds"] for row in rows] == ["1", "1", "1"]
    assert len({row["variant"] for row in rows}) == 3
    for row, folder in zip(rows, folders, strict=True):
        assert folder.parent.name in row["variant"]
        want = slow_scores(counts_of(folder))["mIoU"]
        assert float(row["mIoU mean"]) == pytest.approx(want, abs=1e-12)
