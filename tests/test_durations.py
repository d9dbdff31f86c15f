import math
from fractions import Fraction

import pytest

from unet_jax.config import call
from unet_jax.durations import Plan, check_plan, make_plan, to_steps
from unet_jax.errors import UserError


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (7, 7),
        ("7", 7),
        ("7 steps", 7),
        ("1 step", 1),
        (" 12steps ", 12),
        ("1e3 steps", 1000),
        ("1.5e3", 1500),
        ("2 epochs", 21),  # 20.6 batches
        ("1 epoch", 11),
        ("0.5 epochs", 6),
        ("10 epochs", 103),
        ("10%", 100),
        ("0.1%", 1),
        ("33.33%", 334),
        ("100 %", 1000),
        ("0 steps", 0),
        ("0%", 0),
    ],
)
def test_durations(duration, steps):
    assert to_steps(duration, key="config.k", epoch_steps=10.3, total_steps=1000) == steps


def test_epochs_are_exact_and_see_every_image():
    for images in (1, 7, 3312, 3680):
        for batch_size in (1, 3, 16, 32):
            for epochs in (1, 3, 30, 77):
                steps = to_steps(
                    f"{epochs} epochs", key="config.k", epoch_steps=images / batch_size
                )
                assert steps == math.ceil(Fraction(images, batch_size) * epochs)


def test_percent_is_exact():
    for total in (1, 7, 100, 12345):
        for percent in (1, 5, 7, 10, 29, 100):
            steps = to_steps(f"{percent}%", key="config.k", epoch_steps=1.0, total_steps=total)
            assert steps == math.ceil(Fraction(percent * total, 100))


@pytest.mark.parametrize(
    "duration",
    ["", "many", "-1 steps", "3 parsecs", "1 000", "%", "epochs", "1.steps", "nan", "inf"],
)
def test_what_is_no_duration(duration):
    with pytest.raises(UserError, match=rf"^config\.k='{duration}' is no duration.*\"10%\""):
        to_steps(duration, key="config.k", epoch_steps=1.0, total_steps=10)


def test_percent_of_nothing():
    with pytest.raises(UserError, match=r"^config\.k='10%': a share needs a whole.*5000 steps"):
        to_steps("10%", key="config.k", epoch_steps=1.0)
    with pytest.raises(UserError) as error:
        to_steps("?", key="config.k", epoch_steps=1.0)
    assert '"10%"' not in str(error.value)


def test_plan():
    plan = make_plan("3 epochs", 8, 5, "50%", "1 epoch", "0 steps", images=20)
    assert plan == Plan(
        total=8,  # 7.5
        epoch_steps=2.5,
        batch_size=8,
        seed=5,
        eval_every=4,
        checkpoint_every=3,
        log_every=8,  # never but at the end
        trackers=("tensorboard",),
    )


def test_plan_by_default():
    plan = make_plan(images=3200)
    assert plan == Plan(3000, 100.0, 32, 0, 300, 300, 20, trackers=("tensorboard",))
    assert make_plan(images=3200, patience="20%").patience == 600


@pytest.mark.parametrize("never", ["0 steps", "0", "0%", "0 epochs", "0.0 steps"])
def test_every_0_steps_is_never_but_at_the_end(never):
    every = {"eval_every": never, "checkpoint_every": never, "log_every": never}
    plan = make_plan("1000 steps", 8, **every, images=100)
    assert (plan.eval_every, plan.checkpoint_every, plan.log_every) == (1000,) * 3


def test_shares_are_of_the_horizon():
    every = {"eval_every": "25%", "checkpoint_every": "10%", "log_every": "0%"}
    lengths = {"images": 100, "batch_size": 10, "horizon": "20 epochs"}
    plan = make_plan("70 steps", **every, **lengths)
    assert (plan.total, plan.eval_every, plan.checkpoint_every, plan.log_every) == (70, 50, 20, 70)
    assert plan[3:6] == make_plan("200 steps", **every, **lengths)[3:6]
    for horizon, says in (("69 steps", "69 steps, and config.train.duration 70"), ("90%", "share")):
        with pytest.raises(UserError, match=f"^config.optim.horizon='{horizon}'.*{says}"):
            make_plan("70 steps", images=100, batch_size=10, horizon=horizon)


def test_what_a_run_saves_and_what_of_it_a_longer_one_would():
    plan = Plan(9, 1.0, 1, 0, eval_every=3, checkpoint_every=4, log_every=1, group=2)
    assert [step for step in range(1, 10) if plan.is_planned(step)] == [3, 4, 6, 8, 9]
    assert plan.is_lasting(8)
    assert not plan.is_lasting(9), "its last group has one batch"
    assert plan._replace(group=3).is_lasting(9)
    assert not plan._replace(total=8).is_lasting(8), "it is not due"


def test_a_little_is_a_step():
    for duration in ("1e0 steps", "0.000000001 steps", "0.0000001%", "0.00000001 epochs"):
        assert to_steps(duration, key="config.k", epoch_steps=10.0, total_steps=100) == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"batch_size": -8}, "batch_size=-8"),
        ({"seed": -1}, "seed=-1 must be 0 or more"),
        ({"seed": 2**32}, "seed=4294967296 must be 4294967295 or less"),
        (
            {"duration": "1e400 steps"},
            "duration='1e400 steps' is more than the 2,147,483,647 steps",
        ),
        ({"duration": "3e9 steps"}, "duration='3e9 steps' is more than the 2,147,483,647 steps"),
        ({"eval_every": "101%"}, "eval_every='101%' is more than the whole run"),
        ({"duration": "0 steps"}, "duration='0 steps' must be at least one step"),
        ({"duration": "50%"}, "duration='50%': a share needs a whole"),
        ({"eval_every": "often"}, "eval_every='often' is no duration"),
        ({"checkpoint_every": "often"}, "checkpoint_every='often' is no duration"),
        ({"log_every": "often"}, "log_every='often' is no duration"),
    ],
)
def test_plans_that_do_not_fit(given, says):
    with pytest.raises(UserError, match=rf"^config\.train\.{says}"):
        call(make_plan, "config.train", given, check_plan, images=10)
