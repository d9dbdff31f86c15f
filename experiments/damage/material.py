"""Tiny runs, a sweep and a pack to damage."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from ml_collections import ConfigDict

from configs import tiny
from unet_jax import config as configs
from unet_jax.runs import layout
from unet_jax.studies import trials
from unet_jax.studies.naming import make_trials
from unet_jax.studies.pages import load_study
from unet_jax.studies.study import Study
from unet_jax.studies.sweep.jobs import plan_jobs, write_packs

PAGE = '''"""Two seeds."""

from unet_jax.studies.study import *


def get_study():
    return Study(page="configs/tiny.py", overrides={overrides!r}, design=seeds(2))
'''
SMALL: dict[str, Any] = {
    "data.image_size": (16, 16),
    "data.normalise.kind": "z_score",  # for statistics.json
    "loss.cross_entropy.class_weights": "balanced",  # for class_weights.json
    "data.synthetic.train": 8,
    "data.synthetic.val": 3,
    "data.synthetic.test": 2,
    "data.synthetic.size": 16,
    "model.features": (2, 4),
    "train.duration": "4 steps",
    "train.batch_size": 4,
    "train.eval_every": "2 steps",
    "train.checkpoint_every": "2 steps",
    "eval.batch_size": 4,
    "eval.shown": 1,
    "mesh.data": 1,
}
BROKEN_OFF = 2  # the step from which the unfinished runs go on


class Death(BaseException):
    """A run dies."""


class Material(NamedTuple):
    """Folders of what is damaged, and of what is put in its place.

    Attributes:
        finished: A finished run.
        unfinished: The same run, dead at `BROKEN_OFF`.
        other: A finished run that differs in its seeds.
        study: A sweep of two finished trials.
        other_study: Another one, of one trial.
        pack: A sweep whose two trials began as a pack and died at `BROKEN_OFF`.
        page: The study's page.
    """

    finished: Path
    unfinished: Path
    other: Path
    study: Path
    other_study: Path
    pack: Path
    page: Path


def small_config(**changes: Any) -> ConfigDict:
    """Makes the config of the runs.

    Args:
        **changes: Values by key, with "__" for ".".
    """
    config = tiny.get_config()
    for key, value in (SMALL | {k.replace("__", "."): v for k, v in changes.items()}).items():
        *path, name = key.split(".")
        section = config
        for part in path:
            section = section[part]
        with section.ignore_type():  # a rule for class weights, where there may be numbers
            section[name] = value
    return config


def train_until_death(train: Any) -> None:
    """Runs a training that dies once the checkpoint of `BROKEN_OFF` is on the disk."""
    from unet_jax.run import Run

    keep = Run.keep

    def keep_and_die(run: Run, step: int, *given: Any, **named: Any) -> None:
        if step > BROKEN_OFF:
            raise Death
        keep(run, step, *given, **named)
        run.wait()

    with mock.patch.object(Run, "keep", keep_and_die):
        try:
            train()
        except Death:
            return
    raise AssertionError("it did not die")


def make(folder: Path) -> Material:
    """Trains everything.

    Args:
        folder: An empty one.

    Returns:
        The folders.
    """
    from unet_jax.evaluate import evaluate_run
    from unet_jax.studies.pack.train import train_packed
    from unet_jax.training import train_and_evaluate

    config = small_config()
    changes = {"train__seed": 7, "data__synthetic__seed": 7, "data__synthetic__val": 4}
    finished, unfinished, other = (folder / name for name in ("finished", "unfinished", "other"))
    train_until_death(lambda: train_and_evaluate(config, unfinished))
    shutil.copytree(unfinished, finished)
    train_and_evaluate(config, finished)
    train_and_evaluate(small_config(**changes), other)
    for run in (finished, other):
        own = configs.load(run / layout.CONFIG)
        evaluate_run(own, run, split="test", checkpoint="best")
    page = folder / "page.py"
    page.write_text(PAGE.format(overrides=SMALL))
    study, other_study, pack = (folder / name for name in ("study", "other_study", "pack"))
    _sweep(study, page, load_study(page), None)
    trial = trials.Trial("seed=0_other", {"seed": "0"}, {"train.seed": 7})
    shutil.copytree(other, other_study / trial.name)
    (other_study / trial.name / trials.TRIAL).write_text(json.dumps(trial._asdict()))
    trials.write_study(other_study, page, {}, [trial])
    _sweep(pack, page, load_study(page), train_packed)
    return Material(
        finished=finished,
        unfinished=unfinished,
        other=other,
        study=study,
        other_study=other_study,
        pack=pack,
        page=page,
    )


def _sweep(folder: Path, page: Path, study: Study, train_packed: Any) -> None:
    """Trains the trials of a study, or begins to train them as a pack."""
    from unet_jax.studies.pages import make_config
    from unet_jax.training import train_and_evaluate

    folder.mkdir()
    found = make_trials(study, {})
    trials.write_study(folder, page, study.baseline, found)
    by_name = {trial.name: make_config(study.page, trial.overrides) for trial in found}
    for trial in found:
        trials.prepare(folder / trial.name, trial, by_name[trial.name])
        if not train_packed:
            train_and_evaluate(by_name[trial.name], folder / trial.name)
    if train_packed:
        write_packs(plan_jobs(by_name, folder, "packed"))
        paths = {folder / name: config for name, config in by_name.items()}
        train_until_death(lambda: train_packed(paths, {path: {} for path in paths}))
