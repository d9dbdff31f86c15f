"""Runs that end before their last step, since their scores stay below an earlier one."""

import json

import pytest
from support.configs import make_config
from support.runs import metrics
from test_extension import contents

from unet_jax import run as runs
from unet_jax.errors import UserError
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.results import read_results
from unet_jax.studies.pack.grouping import program_of
from unet_jax.training import train_and_evaluate

SCORES = {2: 0.5, 4: 0.9, 6: 0.1, 8: 0.2, 10: 0.95, 12: 0.95}


def config(duration="12 steps", patience="4 steps"):
    config = make_config()
    config.train.duration, config.train.patience = duration, patience
    config.train.log_every = "1 step"
    return config


def train(config, workdir, scores=SCORES):
    """Trains with scores that are known."""
    save = Checkpoints.save

    def scored(self, step, state, meta, score, **marks):
        save(self, step, state, meta, scores[step], **marks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", scored)
        train_and_evaluate(config, workdir)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "ended"
    train(config(), workdir)
    return workdir


def test_a_run_ends_when_its_scores_stay_below_the_best(ended):
    assert read_results(ended)["train"] == {"step": 8, "best_step": 4}
    assert read_results(ended)["val"]["step"] == 4
    assert metrics(ended)[-1]["step"] == 8
    assert {x.name for x in (ended / "checkpoints").iterdir()} == {"4", "6", "8"}


def test_its_steps_are_those_of_the_whole_run(ended, tmp_path):
    train(config(patience=""), tmp_path)
    assert read_results(tmp_path)["train"] == {"step": 12, "best_step": 12}
    whole = metrics(tmp_path)
    assert metrics(ended) == [line for line in whole if line["step"] <= 8]
    train(config(patience="8 steps"), tmp_path / "patient")
    assert metrics(tmp_path / "patient") == whole


def test_a_run_that_dies_at_its_end_takes_no_more_steps(ended, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(runs.Run, "results", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config(), tmp_path)
    assert (
        "step 8/12 no evaluation of the last 4 steps was as good as the best; the run ends here"
        in " ".join(capsys.readouterr().out.split())
    )
    assert read_results(tmp_path) == {}
    train(config(), tmp_path, scores={})
    assert contents(tmp_path) == contents(ended)
    train(config(), tmp_path, scores={})
    assert "holds a finished run" in capsys.readouterr().out


def test_such_a_run_is_made_no_longer_and_packed_with_no_other(ended):
    with pytest.raises(UserError, match=r"as here config\.train\.patience='4 steps'"):
        train(config("16 steps"), ended)
    configs = [config(), config(), config(patience=""), config(patience="")]
    for one, seed in zip(configs, (0, 1, 0, 1), strict=True):
        one.train.seed = seed
    programs = [program_of(one) for one in configs]
    assert programs[0] != programs[1]
    assert programs[2] == programs[3] not in programs[:2]
    assert json.loads((ended / "config.json").read_text())["train"]["duration"] == "12 steps"
