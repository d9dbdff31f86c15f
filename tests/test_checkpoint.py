import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.checkpoint import Checkpoints
from unet_jax.sharding import make_shardings, replicate


def state(step, devices=1):
    tree = {"w": jnp.arange(6.0).reshape(2, 3) * step, "count": jnp.asarray(step)}
    return replicate(tree, make_shardings(devices))


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, score in [(1, 0.1), (2, 0.5), (3, None), (4, 0.4), (5, None)]:
        checkpoints.save(step, state(step), {"scores": {"mIoU": score}}, score)
    checkpoints.close()
    return tmp_path / "checkpoints"


def test_the_two_latest_and_the_best_are_kept(saved):
    assert sorted(int(folder.name) for folder in saved.iterdir()) == [2, 4, 5]
    assert Checkpoints(saved).steps() == {"latest": 5, "best": 2}


def test_nothing_saved(tmp_path):
    assert Checkpoints(tmp_path / "none").steps() == {}


def test_the_latest_is_best_while_nothing_was_evaluated(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, state(step), {}, None)
    checkpoints.wait()
    assert checkpoints.steps() == {"latest": 2, "best": 2}
    checkpoints.close()


@pytest.mark.parametrize("devices", [1, 8])
def test_restores_state_and_meta_on_any_mesh(saved, devices):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore(2, state(0, devices))
    jax.tree.map(np.testing.assert_array_equal, restored, state(2))
    assert len(restored["w"].sharding.device_set) == devices
    assert checkpoints.meta(2) == {"scores": {"mIoU": 0.5}}


def test_a_step_is_saved_once(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state(3), {}, 0.1)
    checkpoints.wait()
    checkpoints.save(3, state(7), {}, 0.9)
    checkpoints.wait()
    assert checkpoints.restore(3, state(0))["count"] == 3
    checkpoints.close()
