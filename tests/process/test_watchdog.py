import re
import time
from types import SimpleNamespace

import pytest

from unet_jax import training
from unet_jax.process import watchdog as watchdog_module
from unet_jax.process.watchdog import Watchdog


def wait_for(lines, count):
    deadline = time.monotonic() + 10
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(lines) >= count


def test_a_long_wait_is_named_and_named_again_when_it_doubles():
    lines = []
    with Watchdog(0.05, lines.append) as watchdog:
        watchdog.at("step 7, the batch")
        wait_for(lines, 3)
    assert all(re.fullmatch(r"waited \d+ s so far at step 7, the batch", line) for line in lines)


def test_one_of_several_processes_says_which_it_is(monkeypatch):
    monkeypatch.setattr(watchdog_module.jax, "process_index", lambda: 2)
    monkeypatch.setattr(watchdog_module.jax, "process_count", lambda: 3)
    lines = []
    with Watchdog(0.05, lines.append) as watchdog:
        watchdog.at("step 7, the batch")
        wait_for(lines, 1)
    expected = (
        r"process 2 of 3 has waited \d+ s so far at step 7, .*; the longest wait before was .*"
    )
    assert re.fullmatch(expected, lines[0])


def test_short_waits_are_not():
    lines = []
    with Watchdog(5.0, lines.append) as watchdog:
        for step in range(3):
            watchdog.at(f"step {step}")
            time.sleep(0.02)
    assert lines == []


def test_what_was_long_before_is_not_too_long_again():
    lines = []
    with Watchdog(0.02, lines.append) as watchdog:
        watchdog.at("compiling")
        time.sleep(0.5)
        lines.clear()
        watchdog.at("step 2")
        time.sleep(0.4)
        assert lines == []
        wait_for(lines, 1)
        assert "step 2" in lines[0]


def test_the_default_speaks_on_stderr(capsys):
    with Watchdog(0.02) as watchdog:
        watchdog.at("saving")
        time.sleep(0.3)
    assert "saving" in capsys.readouterr().err


def test_an_error_inside_goes_through():
    with pytest.raises(ZeroDivisionError), Watchdog(5.0):
        raise ZeroDivisionError


def place_at(moment, monkeypatch):
    """Returns where a loop of eight steps is, to the watchdog, at one moment."""
    place, found, start = [""], [], 5

    class Told(Watchdog):
        def at(self, where):
            place[0] = where

    monkeypatch.setattr(training, "Watchdog", Told)

    def come_to(now):
        if now == moment:
            found.append(place[0])

    def train_step(state, batch, key):
        come_to(f"call {state + 1}")  # jit compiles in its first call
        return state + 1, {}

    keeper = SimpleNamespace(
        record=lambda step, scalars, waited: come_to(f"record {step - start}"),
        keep=lambda step, state, evaluates: come_to(f"{'evaluate' * evaluates or 'save'} {state}"),
        wait=lambda: None,
        restart_clock=lambda step: None,
        has_ended=lambda step: False,
    )
    plan = SimpleNamespace(total=start + 8, eval_every=4, checkpoint_every=3)
    training.loop(keeper, plan, start, 0, train_step, iter([None] * 8), None)
    (where,) = found
    return where


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        ("call 1", "step 6, compiling the train step"),
        ("record 2", "step 7, the step before, which waits until every process has compiled it"),
        ("record 3", "step 8, the devices or the other processes"),
        ("save 1", "step 6, the checkpoint"),
        ("evaluate 3", "step 8, compiling the evaluation, here or on another process"),
        ("evaluate 7", "step 12, the evaluation and the checkpoint"),
    ],
)
def test_what_compiles_is_not_laid_on_the_devices(moment, says, monkeypatch):
    assert place_at(moment, monkeypatch) == says
