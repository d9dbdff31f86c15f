"""`config.eval.headline` decides, also where lower is better: checkpoints, searches and reports."""

import csv
import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from support.configs import make_config
from support.pretend import STEPS, Pretend, score_of
from support.report_data import CLASSES, slow_scores, write_study
from support.sweeps import write_page

from unet_jax.config import load, to_json
from unet_jax.errors import UserError
from unet_jax.evaluate import evaluate_run
from unet_jax.experiment import assemble
from unet_jax.process.owner import SWEEP, owned
from unet_jax.report.assemble import assemble as assemble_report
from unet_jax.report.images import choose_images
from unet_jax.report.material import gather
from unet_jax.report.pages import write_report
from unet_jax.report.scores import choose
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.intact import read_counts
from unet_jax.runs.results import read_results
from unet_jax.sharding import make_shardings, replicate
from unet_jax.studies.pages import load_study
from unet_jax.studies.sweep import launcher
from unet_jax.studies.sweep.launcher import Sweep
from unet_jax.studies.sweep.probe import Answer, Facts
from unet_jax.training import train_and_evaluate

LOWER = "cross_entropy"


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that evaluates after each of its steps, and by what it ranked them."""
    config, save, ranks = make_config(), Checkpoints.save, {}
    config.eval.headline, config.train.eval_every = LOWER, "1 step"

    def record(self, step, state, meta, score, **marks):
        ranks[step] = score
        save(self, step, state, meta, score, **marks)

    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", record)
        train_and_evaluate(config, run)
    return config, run, ranks


def test_the_best_checkpoint_has_the_lowest_score(trained):
    config, run, ranks = trained
    found = {x["step"]: x[f"val/{LOWER}"] for x in lines_of(run) if f"val/{LOWER}" in x}
    assert len(found) == 4
    assert ranks == {step: -score for step, score in found.items()}
    lowest = min(found, key=lambda step: found[step])
    results = read_results(run)
    assert results["train"]["best_step"] == results["val"]["step"] == lowest
    assert results["val"][LOWER] == found[lowest]
    evaluate_run(config, run, split="val", checkpoint="best")
    again = read_results(run)["val"]
    assert again["step"] == lowest
    assert again[LOWER] == pytest.approx(found[lowest], rel=1e-6)


def test_counts_are_kept_by_name_and_older_files_are_read(trained, tmp_path):
    _, run, _ = trained
    best = read_results(run)["val"]
    file = run / "evaluations" / f"val_{best['step']:08d}.npz"
    ids, counts = read_counts(file)
    with np.load(file) as saved:
        assert set(saved) == {"id", *counts}
    assert set(counts) >= {"overlap/confusion", "cross_entropy/loss", "cross_entropy/elements"}
    total = counts["cross_entropy/elements"].sum()
    assert total == counts["overlap/confusion"].sum()
    assert best[LOWER] == pytest.approx(counts["cross_entropy/loss"].sum() / total)
    older = tmp_path / "older.npz"
    np.savez(older, confusion=counts["overlap/confusion"], id=ids)
    names, found = read_counts(older)
    assert names == ids
    assert list(found) == ["overlap/confusion"]
    np.testing.assert_array_equal(found["overlap/confusion"], counts["overlap/confusion"])
    np.savez(older, **{"cross_entropy/loss": np.ones(3), "id": np.arange(3)})
    with pytest.raises(ValueError, match="it lacks cross_entropy/elements"):
        read_counts(older)


def test_another_headline_is_another_run_and_runs_of_before_have_the_default(trained, tmp_path):
    config, run, _ = trained
    other = config.copy_and_resolve_references()
    other.eval.headline = "mIoU"
    with pytest.raises(UserError, match=r"config\.eval\.headline: 'cross_entropy' -> 'mIoU'"):
        train_and_evaluate(other, run)
    values = json.loads(to_json(other))
    del values["eval"]["headline"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load(tmp_path / "config.json").eval.headline == "mIoU"


@pytest.mark.parametrize("name", ["miou", "Dice/hexagon"])
def test_an_unknown_headline_is_one_line_with_the_known_ones(name):
    config = make_config()
    config.eval.headline = name
    with pytest.raises(UserError, match=rf"^config\.eval\.headline='{name}' is no score; .*mDice"):
        assemble(config)


def test_steps_without_a_score_are_never_the_best(tmp_path):
    """Ranks of scores of which lower is better are below 0; older versions had -1 for none."""
    with closing(Checkpoints(tmp_path)) as checkpoints:
        for step, rank in [(1, -5.0), (2, None), (3, -2.5), (4, None), (5, -7.0)]:
            state = replicate({"w": np.full(2, step)}, make_shardings(1))
            checkpoints.save(step, state, {}, rank)
        checkpoints.wait()
        assert checkpoints.steps() == {"latest": 5, "best": 3}
        assert checkpoints.all_steps() == [3, 4, 5]


class Minimise(Pretend):
    """The engine whose scores are losses: the best is the lowest."""

    def _advance(self, name, folder):
        super()._advance(name, folder)
        for file in (folder / "metrics.jsonl", folder / "results.json"):
            if file.exists():
                text = file.read_text()
                *before, last = text.splitlines() if file.suffix == ".jsonl" else [text]
                value = json.loads(last)
                part = value if file.suffix == ".jsonl" else value["val"]
                key = "val/mIoU" if file.suffix == ".jsonl" else "mIoU"
                if key.replace("mIoU", LOWER) not in part:
                    part[key.replace("mIoU", LOWER)] = 2 - part[key]
                file.write_text("".join(f"{line}\n" for line in [*before, json.dumps(value)]))


def test_a_search_minimises_and_prunes_what_is_higher(tmp_path, monkeypatch, capsys):
    optuna = pytest.importorskip("optuna", reason="optuna is not installed")
    from unet_jax.studies.sweep import search

    facts = Facts(steps=STEPS, batch_size=8, flops=1.0, evaluated=0)
    monkeypatch.setattr(search, "POLL", 0)
    monkeypatch.setattr(
        launcher, "ask", lambda configs, *_, **__: Answer([facts] * len(configs), None)
    )
    ranges = (
        "{'optim.learning_rate': log_uniform(1e-4, 1e-1), "
        "'augment.flip.left_right': among(True, False)}"
    )
    page = write_page(tmp_path / "page.py", search=ranges)
    parts = (page, load_study(page), {"eval.headline": LOWER}, tmp_path / "study", "single")
    sweep = Sweep(*parts, [{}], True)
    with owned(sweep.folder, SWEEP):
        search.search(sweep, Minimise(), "tpe", 14)
    storage = search.storage_of(sweep.folder)
    found = optuna.load_study(study_name="search", storage=storage).get_trials()
    done = [trial for trial in found if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in found if trial.state.name == "PRUNED"]
    assert pruned
    best = min(done, key=lambda trial: trial.value)
    configs = [json.loads(file.read_text()) for file in sweep.folder.glob("*/config.json")]
    highest = max(score_of(c, STEPS) for c in configs)
    assert best.value == pytest.approx(2 - highest)
    assert f"best: val {LOWER} {best.value:.4f} with " in capsys.readouterr().out
    for trial in pruned:
        step = max(trial.intermediate_values)
        others = [t.intermediate_values[step] for t in done if t.number < trial.number]
        assert trial.intermediate_values[step] > np.median(others)
    other = Sweep(*parts[:2], {}, *parts[3:], [{}], True)
    with owned(sweep.folder, SWEEP), pytest.raises(UserError, match="a search of another"):
        search.search(other, Minimise(), "tpe", 14)


def test_trials_of_one_study_have_one_headline(tmp_path):
    design = "choices('score', {'a': {'eval.headline': 'mIoU'}, 'b': {'eval.headline': 'mDice'}})"
    page = write_page(tmp_path / "page.py", design)
    sweep = Sweep(page, load_study(page), {}, tmp_path / "study", "single", [{}], True)
    with pytest.raises(UserError, match=r"score=b.*config\.eval\.headline='mDice' is another"):
        launcher.print_plan(sweep)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three ways up by the cross-entropy, of which b is the lowest and c the highest."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, {"up": ["a", "b", "c"]}, {}, seeds=3, images=12)
    rng, losses = np.random.default_rng(0), {}
    hard = rng.gamma(2.0, 1.0, 12)  # the same images for all
    for trial in sorted(folder.glob("*/trial.json")):
        run, labels = trial.parent, json.loads(trial.read_text())["factors"]
        gain = {"a": 1.0, "b": 0.6, "c": 1.7}[labels["up"]]
        (file,) = (run / "evaluations").glob("*.npz")
        with np.load(file) as saved:
            confusion, ids = saved["confusion"], saved["id"]
        pixels = confusion.sum(axis=(1, 2))
        loss = pixels * hard * gain * rng.uniform(0.9, 1.1, 12)
        counts = {"overlap/confusion": confusion, "cross_entropy/elements": pixels}
        np.savez(file, id=ids, **counts, **{"cross_entropy/loss": loss})
        results = json.loads((run / "results.json").read_text())
        results["val"][LOWER] = float(loss.sum() / pixels.sum())
        (run / "results.json").write_text(json.dumps(results))
        losses[labels["up"], labels["seed"]] = loss, pixels
    return decided_by(LOWER, folder), losses


def report(folder, output):
    material = gather([folder], "val", {}, 400)
    write_report(assemble_report(material, 0), output)
    tables = {}
    for file in output.glob("*.csv"):
        with file.open() as lines:
            tables[file.stem] = list(csv.DictReader(lines))
    return material, (output / "report.md").read_text(), tables


def test_a_report_ranks_from_the_lowest(study, tmp_path):
    folder, losses = study
    material, text, tables = report(folder, tmp_path)
    means = {
        up: np.mean([losses[up, s][0].sum() / losses[up, s][1].sum() for s in "012"])
        for up in "abc"
    }
    rows = {row["variant"]: row for row in tables["variants"]}
    for up, mean in means.items():
        assert float(rows[up][f"{LOWER} mean"]) == pytest.approx(mean)
        low, high = (float(rows[up][f"{LOWER} images {end}"]) for end in ("low", "high"))
        assert 0 <= low < mean < high
    assert float(rows["c"][f"{LOWER} images high"]) > 1, "it is not cut to 1"
    assert f"Lowest mean {LOWER}: {means['b']:.4f}, B b." in text
    differences = {row["variant"]: row for row in tables["comparisons"]}
    assert float(differences["b"]["difference"]) == pytest.approx(means["b"] - means["a"])
    assert differences["b"]["verdict"].startswith("better")
    assert differences["c"]["verdict"].startswith("worse")
    assert f"difference of {LOWER}" in text
    assert "cut to what a score can be, 0 to inf, or a difference, -inf to inf" in text
    no_baseline = tuple(v._replace(is_baseline=False) for v in material.variants)
    order, _ = choose(material._replace(variants=no_baseline))
    assert [variant.name for variant in order] == ["b", "a", "c"]
    # On the front of score against parameters, of which a has the fewest, then b, then c.
    assert "On the front: A, B." in text


def test_scores_of_single_images_and_the_worst_of_them(study):
    folder, losses = study
    material = gather([folder], "val", {}, 100)
    by_image = {
        v.name: np.mean([losses[v.name, s][0] / losses[v.name, s][1] for s in "012"], axis=0)
        for v in material.variants
    }
    for variant in material.variants:
        got = material.pooled.by_image[variant.key]
        np.testing.assert_allclose(got, by_image[variant.name])
    alone = material.pooled._replace(by_image={"A": material.pooled.by_image["A"]})
    chosen = choose_images(material._replace(pooled=alone), 3)
    assert chosen == np.argsort(-by_image["a"])[:3].tolist()


def decided_by(headline, folder, trials="*"):
    """Makes a score decide in trials of a study."""
    for file in folder.glob(f"{trials}/config.json"):
        config = json.loads(file.read_text())
        config["eval"]["headline"] = headline
        file.write_text(json.dumps(config))
    return folder


def test_a_report_by_the_score_of_a_class(study, tmp_path):
    folder = decided_by("Dice/car", shutil.copytree(study[0], tmp_path / "study"))
    _, text, tables = report(folder, tmp_path / "report")
    assert CLASSES[2] == "car"
    for row in tables["trials"]:
        (file,) = (folder / row["trial"] / "evaluations").glob("*.npz")
        counts = read_counts(file)[1]["overlap/confusion"]
        iou = slow_scores(counts.tolist())["IoU/car"]
        assert float(row["Dice/car"]) == pytest.approx(2 * iou / (1 + iou))
        assert float(row["mIoU"]) == pytest.approx(slow_scores(counts.tolist())["mIoU"])
    for row in tables["variants"]:
        ends = (float(row[f"Dice/car {end}"]) for end in ("images low", "mean", "images high"))
        low, mean, high = ends
        assert low < mean < high
    assert "Highest mean Dice/car: " in text


def test_a_report_says_which_runs_were_decided_by_another_score(study, tmp_path):
    folder = decided_by("mIoU", shutil.copytree(study[0], tmp_path / "study"), "up=c*")
    _, text, _ = report(folder, tmp_path / "report")
    assert "3 runs chose their best step by another score, mIoU" in text


def test_old_runs_have_no_interval_of_what_they_did_not_count(study, tmp_path):
    folder = shutil.copytree(study[0], tmp_path / "study")
    for file in folder.glob("*/evaluations/*.npz"):
        ids, counts = read_counts(file)
        np.savez(file, confusion=counts["overlap/confusion"], id=ids)
    material, text, _ = report(folder, tmp_path / "report")
    assert material.pooled.intervals == dict.fromkeys("ABC", "no counts of these images")
    assert f"has no counts of {LOWER} by image" in text
