"""Evaluating a run: what it is is read from it, and its evidence is replaced whole."""

import io
import json
import os
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from support.configs import make_config
from support.evaluated import other_card

from unet_jax import evaluate as evaluation
from unet_jax import training
from unet_jax import verify as verification
from unet_jax.cards.card import read_card
from unet_jax.config import load, to_json
from unet_jax.data.sample import RGB
from unet_jax.data.sources import open_data
from unet_jax.data.synthetic import CLASS_NAMES
from unet_jax.defaults import PARTS, to_config
from unet_jax.errors import UserError
from unet_jax.evaluate import Evaluation, evaluate_run
from unet_jax.metrics.make import read_headline
from unet_jax.metrics.names import class_names_of
from unet_jax.metrics.resampling import bootstrap
from unet_jax.network import make_network
from unet_jax.predict.run import predict_run
from unet_jax.report.pooled import score_images
from unet_jax.restore import Trained
from unet_jax.runs import looks
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.intact import check_intact, read_counts
from unet_jax.runs.results import read_results, write_results
from unet_jax.training import train_and_evaluate
from unet_jax.verify import verify_card


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run whose best step, 2, is not its latest, 4."""
    run, save = tmp_path_factory.mktemp("runs") / "run", Checkpoints.save
    with pytest.MonkeyPatch.context() as patch:

        def worse(self, step, state, meta, score, **marks):
            save(self, step, state, meta, 1 / step, **marks)

        patch.setattr(Checkpoints, "save", worse)
        train_and_evaluate(make_config(), run)
    assert read_results(run)["train"] == {"step": 4, "best_step": 2}
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def known(results):
    """Returns the scores of the validation images but those of absent classes."""
    return {name: score for name, score in results["val"].items() if score is not None}


def contents(run):
    return {file: file.read_bytes() for file in sorted(run.rglob("*")) if file.is_file()}


OTHER = [
    ("model.activation", "gelu"),
    ("model.input_scale", "unit"),
    ("data.val_fraction", 0.3),
    ("data.fit", "crop"),
    ("data.synthetic.seed", 7),
    ("data.folder.class_names", ("a", "b")),
    ("optim.learning_rate", 1.0),
]


@pytest.mark.parametrize(("key", "value"), OTHER)
def test_another_value_is_refused_and_named(run, key, value, tmp_path):
    config, before = make_config(), contents(run)
    config.update_from_flattened_dict({key: value})
    says = rf"--workdir={run} holds a run of another config: config\.{key}: .* -> .*undo these"
    for split in ("val", "test"):
        with pytest.raises(UserError, match=says):
            evaluate_run(config, run, split=split, checkpoint="best")
    Image.new("RGB", (16, 16)).save(tmp_path / "in.png")
    given = {"inputs": [str(tmp_path / "in.png")], "output": tmp_path / "out"}
    with pytest.raises(UserError, match=says):
        predict_run(config, run, checkpoint="best", **given)
    assert not (tmp_path / "out").exists()
    assert contents(run) == before


def test_where_and_how_may_differ(run, capsys):
    config, before = make_config(), read_results(run)
    config.data.path, config.data.workers, config.eval.batch_size = "/elsewhere", 1, 3
    config.eval.shown = 4
    evaluate_run(config, run, split="val", checkpoint="best")
    assert "mesh" not in capsys.readouterr().out
    assert known(read_results(run)) == pytest.approx(known(before), rel=1e-5)
    config.mesh.data, config.eval.batch_size = 2, 4
    evaluate_run(config, run, split="val", checkpoint="best")
    says = "another mesh than the run's: config.mesh.data: 1 -> 2; sums may round otherwise"
    assert says in capsys.readouterr().out
    assert known(read_results(run)) == pytest.approx(known(before), rel=1e-5)
    assert load(run / "config.json").eval.batch_size == 8, "the run's own config stays"


def test_a_run_of_before_is_evaluated_with_more_metrics(run):
    config, before = make_config(), read_results(run)
    config.eval = to_config({**config.eval.to_dict(), "metrics": PARTS["eval.metrics"]})
    config.eval.figures = True
    assert not (run / "report.html").exists(), "a run without figures has no page"
    evaluate_run(config, run, split="val", checkpoint="best")
    after = read_results(run)["val"]
    want = known(before)
    assert {name: after[name] for name in want} == pytest.approx(want, rel=1e-5)
    names = ("HD95", "boundary_IoU", "clDice", "AP@0.5", "V_rand", "AUROC", "ECE", "image_IoU")
    assert all(after[name] is not None for name in names)
    kinds = {"predictions", "errors", "worst", "sizes", "confusion", "curves"}
    drawn = {file.name for file in (run / "figures").glob("*.png")}
    assert drawn == {f"{kind}_val_00000002.png" for kind in kinds}
    assert (run / "report.html").read_text().count("<img") == len(kinds)
    check_intact(run)
    _, counts = read_counts(run / "evaluations" / "val_00000002.npz")
    classes = class_names_of(after)
    for name in names:
        images = score_images(counts, read_headline(name), classes)
        assert images.whole() == pytest.approx(after[name])
        interval = bootstrap([[images]], None, 100, kind=read_headline(name).kind).means[0]
        assert isinstance(interval, str) or interval[0] <= after[name] <= interval[1]


def test_what_val_chose_counts_on_test(run, monkeypatch, capsys):
    config = make_config()
    config.eval = to_config(
        {**config.eval.to_dict(), "metrics": {"segments": {}, "calibration": {}, "cleaning": {}}}
    )
    before, told, make = contents(run), [], evaluation.make_eval_step

    def watched(network):
        told.append(network.settings.metrics)
        return make(network)

    monkeypatch.setattr(evaluation, "make_eval_step", watched)
    says = r"segments\.threshold=0\.0 .* at step 2: first run .* --checkpoint=best"
    with pytest.raises(UserError, match=says):
        evaluate_run(config, run, split="test", checkpoint="best")
    assert contents(run) == before
    evaluate_run(config, run, split="val", checkpoint="best")
    val = read_results(run)["val"]
    assert val["V_rand"] == val["V_rand_best"]
    assert "post-processing chosen on val: none" in capsys.readouterr().out  # of five images
    evaluate_run(config, run, split="test", checkpoint="best")
    temperature, threshold = val["temperature"], val["V_rand_threshold"]
    want = {"segments": (1, threshold, False), "calibration": (temperature,)}
    want["cleaning"] = (("as_it_is",) * len(CLASS_NAMES),)
    assert [{key: tuple(x.values()) for key, x in each.items()} for each in told] == [
        {"segments": (1, 0.0, False), "calibration": (0.0,), "cleaning": ((),)},
        want,
    ]
    test = read_results(run)["test"]
    assert (test["temperature_from_val"], test["threshold_from_val"]) == (temperature, threshold)
    with np.load(run / "evaluations" / "test_00000002.npz") as saved:
        index = round(20 * threshold) - 1
        by_threshold = saved["segments/V_rand_by_threshold"][:, index]
        assert test["V_rand"] == pytest.approx(by_threshold.sum() / saved["segments/images"].sum())
    said = capsys.readouterr().out
    assert f"threshold from val {threshold:.4f}" in said
    assert "post-processing: val chose none" in said
    with pytest.raises(UserError, match=r"at step 4: first run .* --checkpoint=latest"):
        evaluate_run(config, run, split="test", checkpoint="latest")


def test_lists_of_json_are_the_tuples_that_they_were(run):
    config = ConfigDict(json.loads((run / "config.json").read_text()))
    assert isinstance(config.model.features, list)
    evaluate_run(config, run, split="val", checkpoint="best")
    train_and_evaluate(config, run)


def test_the_latest_is_kept_apart(run, capsys):
    before = read_results(run)
    evaluate_run(make_config(), run, split="val", checkpoint="latest")
    after = read_results(run)
    latest = after.pop("val_latest")
    assert after == before
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own = next(x for x in lines if x["step"] == 4 and "val/mIoU" in x)
    assert latest["step"] == 4
    for name in ("mIoU", "pixel_accuracy", "cross_entropy"):
        assert latest[name] == pytest.approx(own[f"val/{name}"], rel=1e-5)
    capsys.readouterr()
    train_and_evaluate(make_config(), run)
    assert "best checkpoint (step 2)" in capsys.readouterr().out


def test_scores_of_the_training_images_do_not_finish_a_run(run):
    before = read_results(run)
    (run / "results.json").unlink()
    evaluate_run(make_config(), run, split="train", checkpoint="latest")
    evaluate_run(make_config(), run, split="train", checkpoint="best")
    found = read_results(run)
    assert {name: entry["step"] for name, entry in found.items()} == {
        "train_split_latest": 4,
        "train_split": 2,
    }
    assert not run_dir.is_finished(run)
    # As an older version left it: scores in the place of what training says of itself.
    write_results(run, val=before["val"], train=found["train_split"])
    assert not run_dir.is_finished(run)
    write_results(run, **before)
    assert run_dir.is_finished(run)


def evidence(run):
    """Checks that counts and figures of every entry are there and say what its scores say."""
    for name, entry in read_results(run).items():
        if name == "train":
            continue
        step = entry["step"]
        with np.load(run / "evaluations" / f"{name}_{step:08d}.npz") as saved:
            total = saved["overlap/confusion"].sum(axis=0)
        hit = np.diag(total)
        union = total.sum(0) + total.sum(1) - hit
        share = hit[union > 0] / union[union > 0]
        assert entry["mIoU"] == pytest.approx(np.mean(share), abs=1e-12), name
        if name != "val":  # whose figures training draws
            for kind in ("predictions", "confusion"):
                data = (run / "figures" / f"{kind}_{name}_{step:08d}.png").read_bytes()
                Image.open(io.BytesIO(data)).load()
    return read_results(run)


def test_a_death_between_two_files_leaves_what_belongs_together(run, monkeypatch):
    config, rng = make_config(), np.random.default_rng(0)
    source = open_data(**config.data)[0].splits["test"]
    shown = {index: source.read(index).label for index in range(len(source))}
    step = 2

    def measured(*_, **__):
        counts = {"overlap/confusion": rng.integers(1, 99, (len(source), 6, 6))}
        return Evaluation(counts, shown)

    names = ("",) * 6
    network = make_network(config, names, RGB)
    monkeypatch.setattr(evaluation, "evaluate", measured)
    monkeypatch.setattr(evaluation, "make_eval_step", lambda *_: None)
    monkeypatch.setattr(evaluation, "restore", lambda *_: Trained(network, {}, names, step))
    evaluate_run(config, run, split="test", checkpoint="best")
    first = evidence(run)["test"]
    assert first["step"] == 2
    replace, left = os.replace, 0

    def until_it_dies(*files):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        replace(*files)

    monkeypatch.setattr(os, "replace", until_it_dies)
    deaths = 0
    for deaths in range(20):
        left, step = deaths, 4 + deaths
        try:
            evaluate_run(config, run, split="test", checkpoint="best")
        except KeyboardInterrupt:
            assert evidence(run)["test"] == first
            continue
        break
    (run / ".evaluation_killed_0").mkdir()  # by SIGKILL
    left = 99
    evaluate_run(config, run, split="test", checkpoint="best")
    assert deaths >= 5  # two figures, the counts, the scores
    assert evidence(run)["test"]["step"] == step
    assert not list(run.glob(".evaluation_*"))


def test_a_run_that_goes_on_may_show_other_images(run, monkeypatch):
    config = make_config()
    config.eval.shown, config.mesh.data = 3, 2
    shutil.rmtree(run / "checkpoints" / "4")
    (run / "results.json").unlink()
    train_and_evaluate(config, run)
    assert load(run / "config.json").eval.shown == 3
    assert run_dir.is_finished(run)


def test_what_a_run_goes_on_with_is_recorded_and_said(run, monkeypatch, capsys):
    first = json.loads((run / "run.json").read_text())
    assert first["cores"] == len(os.sched_getaffinity(0))
    assert "resumed" not in first
    shutil.rmtree(run / "checkpoints" / "4")
    (run / "results.json").unlink()
    monkeypatch.setenv("NPROC", str(first["cores"] + 3))
    monkeypatch.setattr(training, "loop", lambda *_: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            train_and_evaluate(make_config(), run, overrides={"eval.shown": 2})
    n = first["cores"]
    says = f"began on {n} cores, goes on with {n + 3}: sums may round otherwise (about 1e-7)."
    assert says in capsys.readouterr().out
    second = json.loads((run / "run.json").read_text())
    added = second.pop("resumed")
    assert second == first
    assert len(added) == 2
    for entry in added:
        assert entry["step"] == 2
        assert entry["cores"] == n + 3
        assert entry["overrides"] == {"eval.shown": 2}
        assert "devices" not in entry
    assert to_json(load(run / "config.json")) == to_json(make_config())


def test_every_evaluation_is_kept_and_counted(run, capsys):
    config = make_config()
    for split, checkpoint in (("test", "best"), ("val", "best"), ("test", "latest")):
        evaluate_run(config, run, split=split, checkpoint=checkpoint)
    lines = [json.loads(x) for x in (run / "evaluations.jsonl").read_text().splitlines()]
    assert [(x["split"], x["checkpoint"], x["step"]) for x in lines] == [
        ("test", "best", 2), ("val", "best", 2), ("test", "latest", 4),
    ]  # fmt: skip
    kept = json.loads((run / "split.json").read_text())
    assert [x["images"] for x in lines] == [len(kept[x["split"]]) for x in lines]
    assert lines[0]["list"] == lines[2]["list"] != lines[1]["list"]
    said = " ".join(capsys.readouterr().out.split())
    assert "of this list of test images: this run 2 times (evaluations.jsonl)" in said
    other = run.parent / "other"
    other.mkdir()
    (other / "evaluations.jsonl").write_text(json.dumps(lines[0]) + "\n" + json.dumps(lines[1]))
    assert looks.count(run, lines[0]["list"]) == (2, 2)
    (run.parent / "study.json").touch()
    assert looks.count(run, lines[0]["list"]) == (2, 3)
    assert "this run 2 times, and its study 3 times" in looks.describe(
        run, "test", lines[0]["list"]
    )
    (run / "evaluations.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"evaluations\.jsonl.* is not what a run wrote"):
        looks.count(run, lines[0]["list"])


def test_another_image_in_a_split_is_another_list(run):
    first = looks.add(run, "test", "best", 2)
    kept = json.loads((run / "split.json").read_text())
    kept["test"][next(iter(kept["test"]))] = "0" * 16
    (run / "split.json").write_text(json.dumps(kept))
    assert looks.add(run, "test", "best", 2) != first


def test_a_card_is_verified_from_its_counts_and_from_the_checkpoint(run, capsys, monkeypatch):
    evaluate_run(make_config(), run, split="test", checkpoint="best")
    name = run / "cards" / "test_00000002"
    assert sorted(run.joinpath("cards").iterdir()) == [
        name.with_suffix(ending) for ending in (".html", ".json", ".md")
    ]
    said = capsys.readouterr().out
    scores = read_results(run)["test"]
    assert f"mIoU {scores['mIoU']:.4f} (" in said
    card = read_card(name.with_suffix(".json"))
    assert {key: one["value"] for key, one in card["scores"].items()} == {
        key: value if value is None else round(value, 9)
        for key, value in scores.items()
        if key != "step"
    }
    assert card["run"]["evaluations_of_this_list"] == {"run": 1, "study": 1}
    assert card["run"]["seed"] == 0
    assert card["run"]["minutes"] >= 0
    assert card["data"]["list"] == looks.fingerprint(run, "test")
    assert name.with_suffix(".html").read_text().count("data:image/png") == 2
    before = contents(run)
    verify_card(name.with_suffix(".json"), make_config(), None)
    verify_card(name.with_suffix(".json"), make_config(), run)
    assert "every count of every image is the same" in capsys.readouterr().out
    assert contents(run) == before, "verification writes nothing"

    other = other_card(run, card, 3)
    with pytest.raises(
        UserError, match=r"1 of 10 images have other counts of overlap/confusion, 3"
    ):
        verify_card(other, make_config(), run)
    monkeypatch.setattr(verification, "cores", lambda: 99)
    verify_card(other, make_config(), run)
    assert "may round otherwise, since cores were" in capsys.readouterr().out
    name.with_suffix(".json").write_text(json.dumps(card | {"headline": "mDice"}))
    with pytest.raises(UserError, match="are not what its counts give; the first"):
        verify_card(name.with_suffix(".json"), make_config(), None)
