"""Runs that go on: longer than they were meant to, and with figures that a death prevented."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.configs import make_config
from support.runs import metrics

from unet_jax import figures
from unet_jax import run as runs
from unet_jax.config import load, to_json
from unet_jax.errors import UserError
from unet_jax.experiment import plan_of
from unet_jax.extension import take_back
from unet_jax.figures.curves import SPEED_PANEL
from unet_jax.process.owner import turn
from unet_jax.restore import restore
from unet_jax.runs import layout
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.checkpoint import Checkpoints, read_arrays
from unet_jax.runs.gallery import Gallery
from unet_jax.runs.results import read_results, write_results
from unet_jax.studies.pack.train import train_packed
from unet_jax.training import train_and_evaluate

RECORDS = ("results.json", "config.json", "split.json")
SCORES = {3: 0.5, 5: 0.9}  # of the last step of a shorter run, which the longer does not evaluate


def constant(duration):
    config = make_config()
    config.eval.figures = True
    config.optim.schedule, config.optim.warmup = "constant", "1 step"
    config.train.duration, config.train.eval_every = duration, "4 steps"
    config.eval.shown = 1
    return config


def with_horizon(duration):
    """Evaluates every third step; an update is of two, and the last step alone is logged."""
    config = make_config()
    config.eval.figures = True
    config.optim.horizon, config.optim.accumulate = "12 steps", 2
    config.train.duration, config.train.eval_every, config.train.log_every = duration, "25%", "0"
    config.loss.dice.ramp = 1.0, 0.25
    return config


def train(config, workdir, *, draws=True):
    """Trains with scores that are known, with figures or as if it had died before each of them."""
    save = Checkpoints.save

    def scored(self, step, state, meta, score, **marks):
        save(self, step, state, meta, SCORES.get(step, 1 / step) if score else score, **marks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", scored)
        if not draws:
            for draw in ("draw", "draw_end"):
                patch.setattr(Gallery, draw, lambda *_, **__: None)
        train_and_evaluate(config, workdir)


def contents(workdir):
    """Returns what a run left that another equal one leaves too, by name."""
    found = {"metrics.jsonl": metrics(workdir)}
    for file in sorted(file for file in workdir.rglob("*") if file.is_file()):
        name = file.relative_to(workdir).as_posix()
        if file.suffix == ".png" and file.stat().st_size:
            found[name] = np.array(Image.open(file))
            if file.name == "learning_curves.png":
                found[name][SPEED_PANEL] = 0
            found[name] = found[name].tobytes()
        elif name.startswith(("figures/", "evaluations/")) or name in RECORDS:
            found[name] = file.read_bytes()
    for folder in (workdir / "checkpoints").iterdir():
        arrays = {name: x.tobytes() for name, x in read_arrays(folder).items()}
        rest = [(folder / kind).rglob("*") for kind in ("meta", "metrics")]
        files = [file for some in rest for file in some if file.name in ("metadata", "metrics")]
        found[folder.name] = arrays, [file.read_text() for file in files]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "constant"
    train(constant("8 steps"), workdir)
    return workdir


@pytest.fixture
def finished(undisturbed, tmp_path):
    return shutil.copytree(undisturbed, tmp_path / "run")


def test_a_constant_schedule_goes_on_with_the_figures_a_death_prevented(undisturbed, tmp_path):
    train(constant("4 steps"), tmp_path, draws=False)
    assert [f.name for f in (tmp_path / "figures").glob("*.png")] == []
    train(constant("8 steps"), tmp_path)
    assert contents(tmp_path) == contents(undisturbed)
    resumed = json.loads((tmp_path / "run.json").read_text())["resumed"]
    assert [(entry["step"], entry["steps"]) for entry in resumed] == [(4, 8)]


def test_what_a_longer_run_would_not_have_left_goes(tmp_path, monkeypatch):
    of_all = ("prediction_history", "learning_curves")
    for name in ("prediction_grid", "confusion_matrix", "class_error_grid", *of_all):
        monkeypatch.setattr(figures, name, lambda file, *drawn, **_: note(file, drawn))
    train(with_horizon("8 steps"), tmp_path / "undisturbed")
    train(with_horizon("5 steps"), tmp_path / "run")
    write_results(tmp_path / "run", test={"step": 5})
    assert read_results(tmp_path / "run")["train"] == {"step": 5, "best_step": 5}
    kept = {folder.name for folder in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {"3", "4", "5"}, "the best of those that last too"
    train(with_horizon("8 steps"), tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    assert read_results(tmp_path / "run")["train"] == {"step": 8, "best_step": 3}
    assert restore(with_horizon("8 steps"), tmp_path / "run", "best").step == 3


def note(file, drawn):
    """Writes what a figure would show, but for its speed; drawing takes time."""
    lines = drawn[0] if file.name == "learning_curves.png" else drawn
    clock = ("images_per_s", "data_wait")
    for line in lines if file.name == "learning_curves.png" else ():
        [line.pop(name, None) for name in clock]
    file.with_suffix(".txt").write_text(repr(lines))
    file.touch()


def test_an_evaluation_at_the_same_time_keeps_its_scores(tmp_path):
    scores = dict.fromkeys(("pixel_accuracy", "mIoU", "mDice", "mean_class_accuracy"), 0.5)
    results = {"train": {"step": 4, "best_step": 4}, "val": {"step": 4, **scores}}
    write_results(tmp_path, **results)
    plans = (plan_of(constant(duration), 8) for duration in ("4 steps", "8 steps"))
    taking = threading.Thread(target=take_back, args=(tmp_path, *plans))
    with turn(tmp_path / layout.RESULTS):  # as an evaluation has it, which has read the file
        taking.start()
        taking.join(0.5)
        results["test"] = {"step": 4, **scores}
        (tmp_path / layout.RESULTS).write_text(json.dumps(results))
    taking.join()
    assert read_results(tmp_path) == {"test": results["test"]}


def test_what_depends_on_the_duration_is_told_before_the_data_are_opened(tmp_path):
    for change, said in (
        ({"optim.schedule": "cosine"}, "config.optim.schedule='cosine':"),
        ({"optim.warmup": "10%"}, "config.optim.warmup='10%':"),
        ({"loss.dice.ramp": (0.0, 1.0)}, "config.loss.dice.ramp=(0.0, 1.0):"),
    ):
        short, longer = constant("4 steps"), constant("8 steps")
        for config in (short, longer):
            config.update_from_flattened_dict(change)
            config.data.source, config.data.path = "folder", "/nowhere"
        (tmp_path / "config.json").write_text(to_json(short))
        with pytest.raises(UserError, match=r"duration: '4 steps' -> '8 steps'\. Choose") as error:
            train_and_evaluate(longer, tmp_path)
        assert said in str(error.value)
        assert "config.optim.horizon set from the start" in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({}, {"train.duration": "7 steps"}, r"duration: '8 steps' -> '7 steps'\. Choose"),
        ({}, {"train.duration": "1 epoch"}, r"duration: '8 steps' -> '1 epoch'\. Choose"),
        (
            {"optim.warmup": "8 steps"},
            {"train.duration": "9 steps", "optim.warmup": "8 steps"},
            "config.optim.warmup='8 steps', which was cut short",
        ),
        ({}, {"train.duration": "9 steps", "optim.horizon": "8 steps"}, "horizon: '' -> '8 steps'"),
        (
            {"optim.horizon": "8 steps"},
            {"train.duration": "9 steps", "optim.horizon": "8 steps"},
            "config.optim.horizon='8 steps' is 8 steps, and config.train.duration 9",
        ),
    ],
)
def test_a_run_that_cannot_be_made_longer_stays_as_it_is(finished, old, new, said):
    def changed(changes):
        config = load(finished / "config.json")
        for key, value in changes.items():
            section, name = key.split(".")
            config[section][name] = value
        return config

    (finished / "config.json").write_text(to_json(changed(old)))
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    with pytest.raises(UserError, match=said):
        train_and_evaluate(changed(new), finished)
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


def test_without_its_best_checkpoint_a_run_is_not_made_longer(finished):
    best = read_results(finished)["train"]["best_step"]
    assert best == 4
    shutil.rmtree(finished / "checkpoints" / str(best))
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    lines = [line | ({"val/mIoU": 1.0} if line["step"] == best else {}) for line in lines]
    (finished / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="best checkpoint but the last one, of step 4, is not"):
        train_and_evaluate(constant("9 steps"), finished)


def remove_confusion(workdir: Path, step: int) -> None:
    file = workdir / "figures" / "history" / f"{step:08d}.npz"
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved if name != "confusion"}
    np.savez_compressed(file, **arrays)


@pytest.mark.parametrize("how", ["alone", "packed", "older"])
def test_a_finished_run_draws_what_is_missing_and_changes_nothing_else(finished, how, monkeypatch):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files_of(finished)}
    assert run_dir.is_finished(finished)
    for name in LOST:
        (finished / "figures" / name).unlink()
    if how == "older":
        remove_confusion(finished, 4)
        before = {file: x for file, x in before.items() if file.name != "00000004.npz"}
    assert not run_dir.is_finished(finished)
    monkeypatch.setattr(runs, "evaluate", lambda *_, **__: pytest.fail("it is evaluated"))
    if how == "packed":
        train_packed({finished: constant("8 steps")}, {finished: {}})
    else:
        train_and_evaluate(constant("8 steps"), finished)
    assert run_dir.is_finished(finished)
    before.pop(finished / "report.html")  # which has the name of its folder
    for file, (time, data) in before.items():
        assert file.read_bytes() == data, file
        is_drawn = file.name in (*OF_ALL, *LOST, "confusion_00000004.png")
        assert is_drawn or file.stat().st_mtime_ns == time, file


OF_ALL = ("predictions_over_time.png", "learning_curves.png")
LOST = ("predictions_00000004.png", "learning_curves.png")


def files_of(workdir):
    return [file for file in sorted(workdir.rglob("*")) if file.is_file()]


def test_what_cannot_be_drawn_is_not_waited_for(finished):
    shutil.rmtree(finished / "evaluations")
    remove_confusion(finished, 4)
    (finished / "figures" / "history" / "00000008.npz").write_bytes(b"junk")
    for step in (4, 8):
        (finished / "figures" / f"predictions_{step:08d}.png").unlink()
    assert run_dir.is_finished(finished)


def test_a_finished_run_needs_no_data_but_for_missing_figures(finished):
    config = constant("8 steps")
    config.data.path = "/nowhere"
    config.data.source = "folder"
    train_and_evaluate(config, finished)
    (finished / "figures" / LOST[0]).unlink()
    with pytest.raises(UserError, match="/nowhere"):
        train_and_evaluate(config, finished)
