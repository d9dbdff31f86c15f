import time

import pytest

from unet_jax.watchdog import Watchdog


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
    assert all("process 0 of 1 has waited" in line for line in lines)
    assert all("step 7, the batch" in line for line in lines)


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
