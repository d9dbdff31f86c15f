"""What parses Python runs in one thread at a time, and once more where CPython erred."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unet_jax.process.parsing import parse_alone
from unet_jax.runs.intact import read_arrays


def failing(times, value=None):
    """Returns a function that raises SystemError a number of times, then returns a value."""
    left = [times]

    def read():
        if left[0]:
            left[0] -= 1
            raise SystemError("AST constructor recursion depth mismatch (before=78, after=66)")
        return value

    return read


def test_one_error_is_no_error_and_two_are():
    assert parse_alone(failing(1, 7)) == 7
    with pytest.raises(SystemError):
        parse_alone(failing(2))
    assert parse_alone(failing(0, 8)) == 8  # the lock is free again


def test_one_thread_at_a_time():
    inside, most = threading.Semaphore(1), []

    def read():
        most.append(inside.acquire(blocking=False))
        time.sleep(0.002)
        inside.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: parse_alone(read), range(12)))
    assert most == [True] * 12


def test_arrays_of_a_run_are_read_so(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.arange(5))
    real, fails = np.load, failing(1)

    def load(*args, **kwargs):
        fails()
        return real(*args, **kwargs)

    monkeypatch.setattr(np, "load", load)
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["x"], np.arange(5))
