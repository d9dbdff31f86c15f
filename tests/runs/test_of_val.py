"""What was chosen on val is found for the same weights and the same counts alone."""

import pytest
from support.configs import make_config

from unet_jax.config import to_json
from unet_jax.defaults import to_config
from unet_jax.errors import UserError
from unet_jax.metrics.choices import check_metrics
from unet_jax.restore import Trained
from unet_jax.runs import looks, of_val

ASKED = {"segments": {"inside": 2}}
IN_TRAINING = {"V_rand_threshold": 0.35}


def trained(step, scores=IN_TRAINING):
    return Trained(None, {}, (), step, scores)  # pyrefly: ignore


def settle(run, asked, step, split="test"):
    return of_val.settle(check_metrics(asked), run, split, "best", trained(step))


@pytest.fixture
def run(tmp_path):
    config = make_config()
    config.eval = to_config({**config.eval.to_dict(), "metrics": ASKED})
    (tmp_path / "config.json").write_text(to_json(config))
    return tmp_path


def test_the_last_evaluation_of_val_that_counted_alike(run):
    for split, step, inside, threshold in (
        ("val", 4, 2, 0.4), ("val", 4, 2, 0.45), ("val", 4, 3, 0.6), ("val", 6, 2, 0.7),
        ("test", 4, 2, 0.8),
    ):  # fmt: skip
        told = check_metrics({"segments": {"inside": inside, "threshold": 0.9}})
        chosen = of_val.choose(told, {"V_rand_threshold": threshold})
        assert chosen == {"segments.threshold": threshold}
        looks.add(run, split, "best", step, metrics=told, of_val=chosen)
    told, said = settle(run, ASKED, 4)
    assert told == {"segments": {"inside": 2, "threshold": 0.45, "thin": False}}
    assert said == {"threshold_from_val": 0.45}
    assert settle(run, ASKED, 4, "train").said == said
    assert settle(run, ASKED, 4, "val") == (
        {"segments": {"inside": 2, "threshold": 0.0, "thin": False}},
        {},
    )
    assert settle(run, ASKED, 6).said == {"threshold_from_val": 0.7}
    assert settle(run, ASKED, 8).said == {"threshold_from_val": 0.35}, "that of training"
    given = settle(run, {"segments": {"inside": 2, "threshold": 0.5}}, 4)
    assert given.said == {"threshold_given": 0.5}
    assert given.metrics["segments"]["threshold"] == 0.5


def test_without_one_nothing_is_scored(run):
    old = {"split": "val", "checkpoint": "best", "step": 2}  # of a version that kept no more
    looks.add(run, **old)
    for step, inside, scores in ((2, 3, IN_TRAINING), (2, 2, {}), (2, 2, {"temperature": 2.0})):
        asked = check_metrics({"segments": {"inside": inside}})
        with pytest.raises(UserError, match=r"segments\.threshold=0\.0 .* not .* at step 2: first"):
            of_val.settle(asked, run, "test", "best", trained(step, scores))
