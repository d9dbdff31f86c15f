"""The page of a run, from folders that were made without a network."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from support.evaluated import make_run
from support.parsed import Page

from unet_jax.errors import UserError
from unet_jax.figures import errors
from unet_jax.glance import embed, findings, header
from unet_jax.glance.material import Evaluated, gather
from unet_jax.glance.page import leave_page, to_html, write_page
from unet_jax.metrics.make import read_headline
from unet_jax.metrics.sizes import SIZES

CASES = {
    "two classes": {"classes": 2},
    "seven classes, grey": {"classes": 7, "channels": 1},
    "thirty classes, one image": {"classes": 30, "count": 1},
    "one class, tiny": {"classes": 1, "kind": "multilabel", "size": (1, 4)},
    "overlapping classes": {"kind": "multilabel", "classes": 4},
    "regions, volumes of five channels": {
        "kind": "regions",
        "classes": 4,
        "size": (5, 18, 12),
        "channels": 5,
        "dtype": "float32",
    },
    "nothing labelled": {"size": (1, 1), "count": 2},
}


def read(workdir):
    return Page((workdir / "report.html").read_text())


def pixels(url):
    return np.asarray(
        Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    )


@pytest.mark.parametrize("case", CASES)
def test_a_page_of_any_task_shows_all_that_there_is(case, tmp_path):
    run = tmp_path / "run"
    gallery = make_run(run, **CASES[case])
    gallery.draw(40, is_last=case == "two classes")
    gallery.draw_end(40)
    write_page(run)
    page, results = read(run), json.loads((run / "results.json").read_text())
    kinds = ["predictions", "errors", "sizes", "confusion"]
    kinds += ["worst"] * (case != "nothing labelled")
    names = [f"{kind}_00000040.png" for kind in kinds]
    names += ["learning_curves.png"] * (case == "two classes")
    assert {*names} <= {x.name for x in (run / "figures").glob("*.png")}
    assert len(page.all("img")) == len(names)
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    score = results["val"]["mIoU"]
    assert page.text("strong")[0] == ("none" if score is None else f"{score:.4f}")
    assert (run / "report.html").stat().st_size < 3e6
    assert any("--config.eval.metrics.curves.classes=()" in text for text in page.text("pre"))
    assert not [a for a in page.all("a") if not a["href"].startswith("#")], "nothing is fetched"


def test_the_same_disk_gives_the_same_page_and_writes_it_once(tmp_path):
    run = tmp_path / "run"
    make_run(run).draw_end(40)
    write_page(run)
    first = (run / "report.html").read_bytes()
    time = (run / "report.html").stat().st_mtime_ns
    write_page(run)
    assert (run / "report.html").stat().st_mtime_ns == time
    (run / "report.html").unlink()
    write_page(run)
    assert (run / "report.html").read_bytes() == first


def test_a_page_of_another_is_left_and_a_broken_run_gets_none(tmp_path, capsys):
    run = tmp_path / "run"
    make_run(run)
    (run / "report.html").write_text("<p>mine")
    leave_page(run)
    assert (run / "report.html").read_text() == "<p>mine"
    assert "report.html is no page of a run, and stays as it is" in capsys.readouterr().out
    (run / "report.html").unlink()
    (run / "metrics.jsonl").write_text("junk\n")
    leave_page(run)
    assert "report.html is not written" in capsys.readouterr().out
    assert not (run / "report.html").exists()
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        write_page(run)


def test_what_was_never_counted_or_drawn_is_left_out(tmp_path):
    run = tmp_path / "run"
    make_run(run)
    (run / "evaluations" / "val_00000040.npz").unlink()
    write_page(run)
    page = read(run)
    assert not page.all("img")
    assert "What it gets wrong (val)" in page.text("h3"), "what the scores say"
    assert any("--config.eval.metrics.sizes.classes=()" in text for text in page.text("pre"))


def test_text_of_a_run_is_text_on_its_page(tmp_path):
    run = tmp_path / "<script>alert(1)<script>"
    make_run(run)
    (run / "run.json").write_text(json.dumps({"command": ["python", "--config=configs/a<b>.py"]}))
    write_page(run)
    assert not read(run).all("script")
    assert read(run).text("h1") == ["a<b>: <script>alert(1)<script>"]


def test_the_test_split_stands_first_and_val_is_folded(tmp_path):
    run = tmp_path / "run"
    make_run(run)
    (run / "figures" / "learning_curves.png").parent.mkdir(exist_ok=True)
    Image.new("RGB", (9, 9)).save(run / "figures" / "learning_curves.png")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(
        json.dumps(results | {"test": results["val"] | {"mIoU": 0.25}})
    )
    write_page(run)
    page = read(run)
    assert page.text("strong")[:2] == ["0.2500", f"{results['val']['mIoU']:.4f}"]
    assert [s["id"] for s in page.all("section")] == [
        *("course", "sizes-test", "curves-test", "val", "scores"),
    ]


def test_facts_are_those_of_the_run(tmp_path):
    run = tmp_path / "run"
    make_run(run)
    material = gather(run)
    size = material.config.train.batch_size
    assert header._minutes(material) == "about 0:30 for the steps alone"  # 20 * 32 * (1/64 + 1/32)
    assert header._steps(material) == f"40 of {size} images, the best one is 40"
    assert header._argument(["x", "--config", "a.py:b"], "--config") == "a.py:b"
    assert header._argument(["x", "--config=c.py"], "--config") == "c.py"
    assert header._argument(["x"], "--config") == ""


def evaluated(counts, scores=(), ids=("a", "b")):
    names = {"IoU/sky": 0.9, "IoU/sea": 0.4, "IoU/ship": None}
    return Evaluated("val", 1, names | dict(scores), ids, counts, {})


def test_what_is_wrong_is_said_with_the_numbers_of_a_loop():
    confusion = np.zeros((2, 3, 3), int)
    confusion[0] = [[80, 15, 5], [0, 50, 50], [0, 0, 0]]
    confusion[1] = [[90, 5, 5], [10, 90, 0], [0, 0, 0]]
    said = findings.find(evaluated({"overlap/confusion": confusion}), read_headline("mIoU"))
    assert said == [
        "The weakest class is sea, IoU 0.400; the best is sky, 0.900.",
        "No pixel of the split is truly ship: no score says how.",
        "25.0% of the pixels of sea are taken for ship (56% of all wrong pixels).",
        "10.0% of the pixels of sky are taken for sea (22% of all wrong pixels).",
        "5.0% of the pixels of sky are taken for ship (11% of all wrong pixels).",
        f"The worst image is a, mIoU {(80 / 100 + 50 / 115) / 2:.3f}; the median of 2 images is "
        f"{np.mean([(80 / 100 + 50 / 115) / 2, (90 / 110 + 90 / 105) / 2]):.3f}.",
    ]


def test_overlapping_classes_are_missed_and_invented():
    counts = {
        "binary_overlap/true_positive": np.array([[8, 50, 0], [2, 40, 0]]),
        "binary_overlap/false_positive": np.array([[1, 20, 0], [0, 10, 0]]),
        "binary_overlap/false_negative": np.array([[30, 1, 0], [10, 1, 0]]),
        "binary_overlap/true_negative": np.array([[9, 9, 9], [9, 9, 9]]),
    }
    said = findings.find(evaluated(counts), read_headline("mIoU"))
    assert "80.0% of the pixels of sky are missed." in said
    assert "25.0% of the pixels that are predicted as sea are not." in said


def test_small_and_large_objects_are_compared():
    objects, shares = np.zeros((2, 3, len(SIZES))), np.zeros((2, 3, len(SIZES)))
    objects[0, 1, 1], shares[0, 1, 1] = 10, 2
    objects[1, 2, 4], shares[1, 2, 4] = 8, 6
    objects[1, 2, 6] = 4  # too few
    said = findings.find(
        evaluated({"sizes/objects": objects, "sizes/shares": shares}), read_headline("mIoU")
    )
    assert said[-1] == (
        "Of an object of 4 to 15 pixels 20% is found in the mean (10 objects), of one of 256 to "
        "1,023 75% (8)."
    )


def test_large_figures_take_fewer_bytes_and_small_ones_stay_as_they_are(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)
    flat = np.full((300, 400, 3), errors.FOUND, np.uint8)
    for name, drawn in (("noise", noise), ("flat", flat)):
        Image.fromarray(drawn).save(tmp_path / f"{name}.png")
        url = Page(embed.embed(tmp_path / f"{name}.png", "about")).all("img")[0]["src"]
        assert len(base64.b64decode(url.partition(",")[2])) <= embed.MOST
        if name == "flat":
            np.testing.assert_array_equal(pixels(url), flat)
        else:
            assert pixels(url).shape[0] >= 200


def test_to_html_needs_nothing_but_the_material(tmp_path):
    run = tmp_path / "run"
    make_run(run)
    material = gather(run)._replace(evaluated=(), provenance={}, lines=[], train={}, images={})
    assert Page(to_html(material)).text("h1") == ["run"]


def test_a_card_gives_the_headline_its_interval(tmp_path):
    make_run(tmp_path / "run")
    cards = tmp_path / "run" / "cards"
    cards.mkdir()
    assert "95% interval" not in to_html(gather(tmp_path / "run"))
    for score, is_shown in (({"low": 0.25, "high": 0.5}, True), ({"why": "too few"}, False)):
        text = json.dumps({"scores": {"mIoU": {"value": 0.3, **score}}})
        (cards / "val_00000040.json").write_text(text)
        html = to_html(gather(tmp_path / "run"))
        assert ("; 95% interval 0.2500 to 0.5000" in html) == is_shown
