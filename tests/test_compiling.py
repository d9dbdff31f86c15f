"""The step that is compiled while a run begins."""

import threading

import jax
import numpy as np
import pytest
from support.configs import make_config

from unet_jax import compiling
from unet_jax.compiling import compile_ahead
from unet_jax.experiment import assemble
from unet_jax.sharding import put_batch, replicate


def test_the_step_compiled_ahead_is_the_step():
    config = make_config()
    config.data.image_size = (16, 21)  # not square
    made = assemble(config)
    ahead, (size, *_) = compile_ahead(made), (config.train.batch_size,)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (size, 16, 21, 3)).astype(np.uint8),
        "label": rng.integers(0, 2, (size, 16, 21)).astype(np.uint8),
        "weight": np.ones((size, 16, 21), np.uint8),
    }
    found = []
    for step in (made.train_step, ahead):
        state, key = made.init(jax.random.key(0)), replicate(jax.random.key(1), made.shardings)
        state, scalars = step(state, put_batch(batch, made.shardings), key)
        found.append(jax.device_get((state, scalars)))
    whole, own = (jax.tree.leaves(one) for one in found)
    assert [x.tobytes() for x in own] == [x.tobytes() for x in whole]


def test_it_is_compiled_beside_and_its_error_comes_when_it_is_called(monkeypatch):
    goes_on, threads = threading.Event(), []

    def compile_step(made):
        threads.append(threading.current_thread())
        assert goes_on.wait(60)
        raise ValueError("it does not compile")

    monkeypatch.setattr(compiling, "compile_step", compile_step)
    step = compile_ahead(None)
    goes_on.set()  # it has returned while the program is not there
    with pytest.raises(ValueError, match="it does not compile"):
        step()
    assert threads != [threading.current_thread()]
