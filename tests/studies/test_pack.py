"""Trials that train as one program: each is what it would be alone."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import forks, xla
from support.paths import ROOT
from support.runs import metrics, wait_for

from unet_jax.config import load, to_json
from unet_jax.experiment import assemble
from unet_jax.models.blocks import Dropout
from unet_jax.runs.checkpoint import read_arrays
from unet_jax.runs.gallery import Gallery
from unet_jax.runs.logs import read_lines
from unet_jax.studies.pack import train as pack
from unet_jax.studies.pack.step import Member
from unet_jax.studies.pack.train import common_start
from unet_jax.studies.pages import make_config
from unet_jax.studies.trials import training_seconds
from unet_jax.training import train_and_evaluate

STEPS = 8
# Everything that a program can take as an input, in a model that uses it.
BASE = {
    "train.duration": f"{STEPS} steps",
    "train.eval_every": "4 steps",
    "train.checkpoint_every": f"{STEPS} steps",
    "train.log_every": "1 steps",
    "model.block": "residual",
    "model.dropout": (0.1, 0.3),
    "model.stochastic_depth": 0.2,
    "loss.cross_entropy.label_smoothing": 0.1,
    "loss.cross_entropy.class_weights": (1.0,) * 6,
    "loss.cross_entropy.border_weight": 1.0,
    "loss.dice.ramp": (1.0, 0.5),
    "augment.zoom.scale": (0.8, 1.2),
    "augment.colour.brightness": 0.1,
    "optim.clip_norm": 1.0,
    "eval.shown": 1,
    "mesh.data": 1,
}
TRIALS = [
    {},
    {
        "train.seed": 1,
        "model.dropout": (0.2, 0.1),
        "model.stochastic_depth": 0.5,
        "loss.dice.weight": 0.5,
        "loss.dice.ramp": (0.1, 1.0),
        "loss.cross_entropy.class_weights": (1.0, 2.0, 1.0, 1.0, 0.5, 1.0),
    },
    {
        "augment.zoom.scale": (1.0, 1.5),
        "augment.colour.brightness": 0.3,
        "loss.cross_entropy.label_smoothing": 0.2,
        "loss.cross_entropy.border_weight": 5.0,
        "optim.learning_rate": 1e-3,
        "optim.weight_decay": 0.1,
    },
    {"train.seed": 1, "optim.clip_norm": 0.1, "optim.momentum": 0.5, "optim.ema_decay": 0.5},
]


def write_trials(folder: Path, trials=TRIALS, base=BASE) -> list[Path]:
    paths = []
    for index, changes in enumerate(trials):
        config = make_config("tests/support/quick.py", {"model.dropout": (0.0,)} | base | changes)
        path = folder / f"trial_{index}"
        path.mkdir(parents=True)
        (path / "config.json").write_text(to_json(config))
        trial = {"name": path.name, "factors": {}, "overrides": changes}
        (path / "trial.json").write_text(json.dumps(trial))
        paths.append(path)
    return paths


def packed(trials, *flags, devices=1):
    line = [sys.executable, "-m", "unet_jax.studies.pack", *(f"--trial={path}" for path in trials)]
    line += flags
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return forks.Popen(line, cwd=ROOT, env=xla.env(devices), **pipes)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    trials = write_trials(tmp_path_factory.mktemp("together"))
    process = packed(trials)
    output = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return trials, output[0]


def arrays(trial: Path, step: int = STEPS) -> dict[str, np.ndarray]:
    return read_arrays(trial / "checkpoints" / str(step))


def assert_same(one: Path, other: Path) -> None:
    a, b = arrays(one), arrays(other)
    assert a.keys() == b.keys()
    assert all(a[key].tobytes() == b[key].tobytes() for key in a)
    assert metrics(one) == metrics(other)
    assert (one / "results.json").read_text() == (other / "results.json").read_text()


@pytest.mark.slow
def test_each_trial_is_what_it_is_alone(together, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Gallery, "draw", lambda *_, **__: None
    )  # figures take time, nobody looks at them
    trials, output = together
    assert "4 through one program, in turn" in output
    for trial, alone in zip(trials, write_trials(tmp_path), strict=True):
        train_and_evaluate(load(alone / "config.json"), alone)
        ours, theirs = metrics(trial), metrics(alone)
        assert [line["step"] for line in ours] == [line["step"] for line in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            if "train/loss" in one:
                assert one["train/loss"] == pytest.approx(other["train/loss"], rel=2e-4)
                assert one["learning_rate"] == pytest.approx(other["learning_rate"], rel=1e-6)
        assert sorted(p.name for p in trial.iterdir()) == sorted(
            [*(p.name for p in alone.iterdir())]
        )
        written = json.loads((trial / "run.json").read_text())
        assert written["overrides"] == json.loads((trial / "trial.json").read_text())["overrides"]


def test_the_trials_differ(together):
    trials, output = together
    (said,) = (line.split() for line in output.splitlines() if "differ in" in line)
    changed = {key for trial in TRIALS for key in trial}
    assert sorted(" ".join(said).removeprefix("differ in ").split(", ")) == sorted(changed)
    losses = [metrics(trial)[-2]["train/loss"] for trial in trials]
    assert len(set(losses)) == len(trials)


def test_the_header_says_what_accumulated_batches_are_not(tmp_path, monkeypatch):
    changes = {"optim.accumulate": 2, "model.norm": "none", "loss.dice.weight": 1.0}
    (folder,) = write_trials(tmp_path, ({},), BASE | changes)
    config, said = load(folder / "config.json"), {}
    monkeypatch.setattr(pack, "print_header", lambda title, facts: said.update(facts))
    member = Member(folder, config, assemble(config))
    pack._print_header([member], SimpleNamespace(describe=lambda: "one"), 0)
    assert said["accumulation"].endswith("but for config.loss.dice, which see each batch alone")


def test_the_trials_of_a_pack_cost_the_same(together):
    """Nobody's steps take longer because the others were evaluated in between."""
    lines = [read_lines(trial / "metrics.jsonl") for trial in together[0]]
    seconds = [training_seconds(of_one, 8)[0] for of_one in lines]
    assert all(each == pytest.approx(seconds[0], rel=0.01) for each in seconds)


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on_bit_for_bit(together, tmp_path):
    trials = write_trials(tmp_path, base=BASE | {"train.checkpoint_every": "2 steps"})
    process = packed(trials)
    wait_for(process, lambda: (trials[2] / "checkpoints" / "4").exists())
    process.kill()
    process.communicate()
    process = packed(trials)
    wait_for(process, lambda: (trials[3] / "checkpoints" / "6").exists())
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    if process.returncode != 0:  # it may have been at its end
        assert process.returncode == 143, errors
        assert "saved" in errors
        process = packed(trials)
        output = process.communicate(timeout=300)
        assert process.returncode == 0, output
    for one, other in zip(together[0], trials, strict=True):
        assert_same(one, other)


@pytest.mark.slow
def test_side_by_side_on_two_devices(together, tmp_path):
    trials = write_trials(tmp_path)[:3]
    process = packed(trials, "--way=side_by_side", devices=2)  # 2 and 1
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "3 through one program, 2 on each of 2 devices" in output
    for one, other in zip(together[0], trials, strict=False):
        for a, b in zip(metrics(one), metrics(other), strict=True):
            if "train/loss" in a:
                assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-4)


@pytest.mark.slow
def test_a_trial_that_diverges_leaves_the_others_alone(tmp_path):
    wild = {"optim.learning_rate": 1e30, "optim.clip_norm": 1e9}
    once = BASE | {"train.eval_every": f"{STEPS} steps"}
    trials = write_trials(tmp_path, [{"optim.clip_norm": 1e9}, wild], once)
    process = packed(trials)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 3, output + errors
    assert "1 of 2 trials: trial_1: the loss is nan" in errors
    assert json.loads((trials[0] / "results.json").read_text())["train"]["step"] == STEPS
    assert not (trials[1] / "results.json").exists()
    assert "error: the loss is nan" in (trials[1] / "log.txt").read_text()
    process = packed(trials)  # the first is finished, the second fails again
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 3
    assert "trial_1: the loss is nan" in errors


def test_other_programs_are_refused(tmp_path):
    trials = write_trials(tmp_path, [{}, {"model.features": (4, 16)}])
    process = packed(trials)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "trial_0 and trial_1 differ in more than numbers" in errors
    assert not (trials[0] / "checkpoints").exists()


def test_the_common_start_is_the_latest_that_all_have():
    assert common_start([{10, 20}, {0, 10}, {10, 20, 30}]) == 10
    assert common_start([{10}, {20}]) == 0
    assert common_start([set(), {20}]) == 0


def test_dropout_at_a_traced_rate_is_that_at_a_number():
    x = jnp.ones((64, 9, 9, 2))
    rngs = {"dropout": jax.random.key(3)}
    for is_whole in (False, True):
        run = lambda rate: Dropout(rate, True, is_whole).apply({}, x, rngs=rngs)  # noqa: B023, E731
        np.testing.assert_array_equal(run(0.25), jax.jit(run)(jnp.float32(0.25)))
        values, counts = np.unique(run(0.25), return_counts=True)
        np.testing.assert_allclose(values, [0, 1 / 0.75], rtol=1e-6)
        assert counts[0] / counts.sum() == pytest.approx(0.25, abs=0.15 if is_whole else 0.02)
        by_image = np.asarray(run(0.25)).reshape(64, -1)
        assert is_whole == bool(np.all(by_image == by_image[:, :1]))
    assert Dropout(0.5, False).apply({}, x) is x
