import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import forks
from support.paths import ROOT
from support.report_data import CLASSES, FACTORS, write_study
from support.report_pages import read_csv, write
from support.scored import scores as scores_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    page = folder / "page.py"
    page.write_text('"""Says that <b>four</b> variants & three seeds are few."""\n')
    effect = {("up", "bilinear"): 1.0}
    keys = {("up", "bilinear"): {"model.up": "bilinear"}}
    confusion = write_study(folder, FACTORS, effect, page=str(page), keys=keys)
    return folder, confusion, write(folder)


def test_scores_in_the_csv_are_those_of_the_planted_counts(study):
    folder, confusion, _ = study
    rows = read_csv(folder / "report" / "variants.csv")
    assert [row["key"] for row in rows] == list("ABCD")
    assert [row["baseline"] for row in rows] == ["True", "False", "False", "False"]
    for row, variant in zip(rows, confusion, strict=True):
        found = [scores_of(seed.sum(axis=0), CLASSES) for seed in variant]
        for name in ("mIoU", "mDice", "pixel_accuracy", "IoU/car"):
            values = [scores[name] for scores in found]
            assert float(row[f"{name} mean"]) == pytest.approx(np.mean(values), abs=1e-12)
            assert float(row[f"{name} sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    trials = read_csv(folder / "report" / "trials.csv")
    assert len(trials) == 12
    assert {row["state"] for row in trials} == {"finished"}
    assert (
        float(trials[0]["mIoU"])
        == json.loads((folder / trials[0]["trial"] / "results.json").read_text())["val"]["mIoU"]
    )


def spread(heading, score, *more):
    columns = [(heading, [f"{score} mean"]), ("sd", [f"{score} sd"])]
    return [*columns, ("95% over seeds", [f"{score} low", f"{score} high"]), *more]


IMAGES = ("95% over images", ["mIoU images low", "mIoU images high"])
SHOWN = {  # the headings of a table, and the columns of the CSV that its cells come from
    "variants.csv": [
        ("variant", ["label"]),
        ("seeds", ["seeds"]),
        *spread("mIoU", "mIoU", IMAGES),
        *spread("mDice", "mDice"),
        *spread("pixel accuracy", "pixel_accuracy"),
    ],
    "trials.csv": [
        ("trial", ["trial"]),
        ("variant", ["label"]),
        ("seed", ["seed"]),
        ("state", ["state"]),
        ("best step", ["step"]),
        ("mIoU", ["mIoU"]),
        ("mDice", ["mDice"]),
        ("pixel accuracy", ["pixel_accuracy"]),
        ("training, s", ["training_seconds"]),
        ("device", ["device"]),
    ],
    "comparisons.csv": [
        ("variant", ["label"]),
        ("difference of mIoU", ["difference"]),
        ("reading", ["verdict"]),
        ("95% over images", ["images low", "images high"]),
        ("95% over seeds", ["seeds low", "seeds high"]),
        ("95% over both", ["both low", "both high"]),
        ("p", ["p"]),
        ("p, Holm", ["p Holm"]),
        ("test", ["test"]),
    ],
    "effects.csv": [
        ("factor", ["factor"]),
        ("label", ["label"]),
        ("variants", ["variants"]),
        ("marginal mean of mIoU", ["mean"]),
        ("95% over seeds", ["low", "high"]),
        ("difference from the first label", ["difference"]),
        ("95% over seeds", ["difference low", "difference high"]),
        ("pairs", ["pairs"]),
    ],
}


def is_rounded(shown, exact, heading):
    """Whether a number shown is the exact one, rounded to its digits."""
    if heading in ("p", "p, Holm"):  # of p, two digits that are not zero
        return shown == f"{exact:.2g}"
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace(",", "")) - exact) <= 0.5 * 10.0**-digits * (1 + 1e-6)


@pytest.mark.parametrize("file", SHOWN)
def test_numbers_of_the_page_and_of_markdown_are_those_of_the_csv(study, file):
    folder, _, page = study
    rows = read_csv(folder / "report" / file)
    headings, *shown = page.tables[file]
    assert headings == [heading for heading, _ in SHOWN[file]]
    assert len(shown) == len(rows) > 1
    text = (folder / "report" / "report.md").read_text()
    for cells, row in zip(shown, rows, strict=True):
        for cell, (heading, keys) in zip(cells, SHOWN[file], strict=True):
            exact = [row[key] for key in keys]
            if exact != [cell] and cell != "-":
                numbers = cell.split(" to ")
                for number, value in zip(numbers, exact, strict=True):
                    assert is_rounded(number, float(value), heading), (cell, exact)
            assert cell != "-" or exact[0] == ""
        line = "| " + " | ".join(cells) + " |"
        assert line in text or line.replace(cells[0], f"**{cells[0]}**", 1) in text


def test_planted_effects_are_found(study):
    folder, _, _ = study
    rows = {row["key"]: row for row in read_csv(folder / "report" / "comparisons.csv")}
    assert set(rows) == set("BCD")
    assert rows["C"]["verdict"] == rows["D"]["verdict"] == "better"
    assert rows["B"]["verdict"] not in ("better", "worse")
    p = [float(row["p"]) for row in rows.values()]
    assert float(rows["C"]["p Holm"]) >= float(rows["C"]["p"])
    assert max(p) == max(float(row["p Holm"]) for row in rows.values())


def test_main_effects_are_those_of_a_two_by_two(study):
    folder, confusion, _ = study
    scores = [[scores_of(s.sum(axis=0), CLASSES)["mIoU"] for s in v] for v in confusion]
    cells = np.mean(scores, axis=1).reshape(2, 2)  # [up, rate]
    rows = {(r["factor"], r["label"]): r for r in read_csv(folder / "report" / "effects.csv")}
    want = {
        ("up", "transposed 2"): cells[0].mean(),
        ("up", "bilinear"): cells[1].mean(),
        ("rate", "0.001"): cells[:, 0].mean(),
        ("rate", "0.003"): cells[:, 1].mean(),
    }
    assert set(rows) == set(want)
    for key, value in want.items():
        assert float(rows[key]["mean"]) == pytest.approx(value, abs=1e-12)
    up, rate = (float(rows[k]["difference"]) for k in (("up", "bilinear"), ("rate", "0.003")))
    assert up == pytest.approx((cells[1] - cells[0]).mean(), abs=1e-12)
    assert rate == pytest.approx((cells[:, 1] - cells[:, 0]).mean(), abs=1e-12)
    assert rows["up", "bilinear"]["pairs"] == "2"


def test_the_page_needs_no_other_file_and_fits_a_phone(study):
    folder, _, page = study
    outside = [a for a in page.addresses if not a.startswith(("data:image/", "#"))]
    assert outside == []
    html = (folder / "report" / "report.html").read_text()
    assert "url(" not in html
    assert "@import" not in html
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in page.tags
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    images = [given for tag, given in page.tags if tag == "img"]
    assert len(images) >= 7
    assert all(given["alt"] for given in images)
    sizes = re.findall(r"font-size: ([\d.]+)(px|rem)", html)
    assert sizes
    assert all(float(n) >= (16 if unit == "px" else 1) for n, unit in sizes)


def test_text_from_outside_is_escaped(study):
    folder, _, _ = study
    html = (folder / "report" / "report.html").read_text()
    assert "&lt;b&gt;four&lt;/b&gt; variants &amp; three" in html
    assert "<b>four" not in html


def test_markdown_links_what_is_there(study):
    folder, _, _ = study
    text = (folder / "report" / "report.md").read_text()
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) >= 10
    assert all((folder / "report" / link).is_file() for link in links)
    assert "config.model.up: 'transpose' -> 'bilinear'" in text
    assert "No failures: all 12 runs are finished." in text


def test_the_same_folder_gives_the_same_bytes(study):
    folder, _, _ = study
    report = folder / "report"
    before = {file.name: file.read_bytes() for file in report.iterdir()}
    write(folder)
    assert {file.name: file.read_bytes() for file in report.iterdir()} == before


def test_a_study_of_twenty_trials_stays_small(tmp_path):
    labels = [f"way {i}" for i in range(7)]
    write_study(tmp_path, {"up": labels}, {("up", "way 2"): 0.2})
    write(tmp_path)
    assert sum(f.stat().st_size for f in (tmp_path / "report").iterdir()) < 1.5e6


def command(*arguments):
    line = [sys.executable, "-m", "experiments.report", *map(str, arguments)]
    return forks.run(line, cwd=ROOT)


def test_command_writes_where_it_is_told(study, tmp_path):
    done = command(study[0], f"--output={tmp_path}", "--images=0", "--resamples=200")
    assert done.returncode == 0, done.stderr
    assert {Path(line).name for line in done.stdout.splitlines()} >= {"report.html", "report.md"}
    assert (tmp_path / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give the --workdir"),
        (["nowhere"], "nowhere holds neither study.json nor config.json"),
        (["STUDY", "--baseline=up=bilinear"], "fits 2 variants; give one of: up=transposed 2,"),
        (["STUDY", "--baseline=bilinear"], "must be FACTOR=LABEL"),
    ],
)
def test_a_users_mistake_is_one_line(study, arguments, says):
    done = command(*[study[0] if a == "STUDY" else a for a in arguments])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_a_package_that_reports_need_is_named_where_it_is_missing(tmp_path):
    code = (
        "import runpy, sys; sys.modules['jinja2'] = None\n"
        "runpy.run_module('unet_jax.report', run_name='__main__', alter_sys=True)\n"
    )
    env = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # it does not start again
    line = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 2, done.stderr
    needs = "a report needs jinja2, which is not installed: pip install 'unet-jax[studies]'."
    assert done.stderr == f"error: {needs}\n"
