"""A run goes on with the class weights that it found when it began, or in one line."""

import json

import pytest
from support.configs import make_config

from unet_jax.errors import UserError
from unet_jax.training import train_and_evaluate


def test_class_weights_of_another_run_are_named(tmp_path):
    config, run = make_config(), tmp_path / "run"
    with config.loss.cross_entropy.ignore_type():
        config.loss.cross_entropy.class_weights = "balanced"
    train_and_evaluate(config, run)
    kept = run / "class_weights.json"
    found, text = json.loads(kept.read_text()), kept.read_text()
    (run / "results.json").unlink()
    found["weights"][0] += 0.25
    kept.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"class_weights\.json is not what this run's checkpoints"):
        train_and_evaluate(config, run)
    kept.unlink()
    train_and_evaluate(config, run)  # counted anew, which gives the same
    assert kept.read_text() == text
