import math
from fractions import Fraction

import pytest

from unet_jax.errors import UserError
from unet_jax.steps import Plan, make_plan, to_steps


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


def test_epochs_are_exact_and_see_every_picture():
    for pictures in (1, 7, 3312, 3680):
        for batch_size in (1, 3, 16, 32):
            for epochs in (1, 3, 30, 77):
                steps = to_steps(
                    f"{epochs} epochs", key="config.k", epoch_steps=pictures / batch_size
                )
                assert steps == math.ceil(Fraction(pictures, batch_size) * epochs)


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
    plan = make_plan("3 epochs", 8, 5, "50%", "1 epoch", "0 steps", pictures=20)
    assert plan == Plan(
        total=8,  # 7.5
        epoch_steps=2.5,
        batch_size=8,
        seed=5,
        eval_every=4,
        checkpoint_every=3,
        log_every=8,  # never but at the end
    )


def test_plan_by_default():
    plan = make_plan(pictures=3200)
    assert plan == Plan(3000, 100.0, 32, 0, 300, 300, 20)


@pytest.mark.parametrize("never", ["0 steps", "0", "0%", "0 epochs", "0.0 steps"])
def test_every_0_steps_is_never_but_at_the_end(never):
    every = {"eval_every": never, "checkpoint_every": never, "log_every": never}
    plan = make_plan("1000 steps", 8, **every, pictures=100)
    assert (plan.eval_every, plan.checkpoint_every, plan.log_every) == (1000,) * 3


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
        make_plan(**given, pictures=10)
