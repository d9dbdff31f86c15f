"""Runs as long as a time allows."""

import json
from types import SimpleNamespace

import pytest
from support.configs import make_config
from support.runs import metrics
from test_extension import contents

from unet_jax import budget
from unet_jax.durations import to_seconds, to_steps
from unet_jax.errors import BrokenFileError, UserError
from unet_jax.training import train_and_evaluate


def config(duration):
    config = make_config()
    config.train.duration, config.train.eval_every = duration, "50%"
    config.train.checkpoint_every = "50%"
    config.train.log_every = "1 step"
    return config


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2 hours", 7200), ("1.5 minutes", 90), ("1 day", 86400), ("10 seconds", 10)]
    + [(text, None) for text in ("2", "30 epochs", "10%", "5 steps", "2 h", "-1 hours", 7)],
)
def test_times(text, seconds):
    assert to_seconds(text) == seconds


def test_a_time_is_no_number_of_steps():
    with pytest.raises(UserError, match=r"config\.train\.eval_every='2 hours' is a time, which"):
        to_steps("2 hours", key="config.train.eval_every", epoch_steps=3.0, total_steps=9)


@pytest.mark.parametrize("every", ["10%", "7 steps", "0"])
@pytest.mark.parametrize("left", [0.4, 1.0, 12.3, 1000.0])
def test_as_many_steps_as_fit(every, left):
    own = config("1 steps")
    own.train.eval_every = every
    dataset = SimpleNamespace(splits={"train": range(8)})
    experiment = SimpleNamespace(
        config=own, dataset=dataset, loading=SimpleNamespace(crops=1), plan=None
    )

    def take(steps):
        due = {"10%": -(-steps // 10), "7 steps": 7, "0": steps}[every]
        return 0.25 * steps + 0.5 * -(-steps // due)

    fitting = [steps for steps in range(1, 5000) if take(steps) <= left]
    found = budget._fit(experiment, left, 0.25, 0.5)
    assert found == (fitting[-1] if fitting else 0) or every == "10%"  # whose parts round
    assert take(max(found, 1)) <= left or not found
    assert take(found + 11) > left


def test_a_long_time_has_more_steps_than_the_program_that_is_timed():
    own = config("1 steps")
    own.train.eval_every = "0"
    dataset = SimpleNamespace(splits={"train": range(8)})
    given = {"config": own, "dataset": dataset, "loading": SimpleNamespace(crops=1)}
    assert budget._fit(SimpleNamespace(**given), 4e6, 1.0, 0.0) == 4_000_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "steps"
    train_and_evaluate(config("4 steps"), workdir)
    return workdir


def test_the_run_is_that_of_its_steps_and_keeps_their_number(whole, tmp_path, monkeypatch):
    own, seen = config("5 minutes"), []
    with monkeypatch.context() as patch:
        patch.setattr(budget, "_fit", lambda *given: seen.append(given) or 4)
        train_and_evaluate(own, tmp_path)
    ((_, left, step_s, evaluation_s),) = seen
    assert 0 < left < 300
    assert 0 < step_s < 60
    assert 0 < evaluation_s < 60
    kept = json.loads((tmp_path / "duration.json").read_text())
    assert (kept["duration"], kept["steps"]) == ("5 minutes", 4)
    found, expected = contents(tmp_path), contents(whole)
    for entry in (found, expected):
        del entry["config.json"]
    assert metrics(tmp_path) == metrics(whole)
    # What a checkpoint says of its config has the duration in neither.
    assert found == expected


def test_a_run_that_goes_on_is_not_timed_again(whole, tmp_path, monkeypatch):
    own = config("5 minutes")
    monkeypatch.setattr(budget, "measure", lambda *_: 1 / 0)
    tmp_path.joinpath("duration.json").write_text(budget.Budget("5 minutes", 4, 1, 1).write())
    tmp_path.joinpath("config.json").write_text((whole / "config.json").read_text())
    saved = json.loads((whole / "config.json").read_text())
    saved["train"]["duration"] = "5 minutes"
    tmp_path.joinpath("config.json").write_text(json.dumps(saved))
    train_and_evaluate(own, tmp_path)
    assert metrics(tmp_path) == metrics(whole)
    (tmp_path / "duration.json").write_text("{}")
    (tmp_path / "results.json").unlink()
    with pytest.raises(BrokenFileError, match=r"duration\.json is not what a run wrote"):
        train_and_evaluate(own, tmp_path)


def test_times_that_do_not_fit(whole, tmp_path):
    own = config("5 minutes")
    own.optim.horizon = "100 steps"
    with pytest.raises(UserError, match=r"leave the horizon \"\""):
        train_and_evaluate(own, tmp_path)
    with pytest.raises(UserError, match=r"as here config\.train\.duration='5 minutes', a time"):
        train_and_evaluate(config("5 minutes"), whole)
    with pytest.raises(UserError, match="is too short for a step: it takes"):
        train_and_evaluate(config("0 seconds"), tmp_path / "short")
    assert not (tmp_path / "short" / "config.json").exists()
