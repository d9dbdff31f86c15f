"""Weights of a run in another network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from unet_jax.errors import UserError
from unet_jax.models.pretrained.of_run import fill_from_run
from unet_jax.models.unet import UNet
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.runs.variables import read_variables
from unet_jax.step import variable_shapes

FORM = {"repeats": (1,), "decoder_repeats": (1,)}


def drawn(classes, channels, seed, **options):
    """Returns a model, and variables of it drawn at random."""
    model = UNet(classes, (3, 5), **FORM, **options)
    rng = np.random.default_rng(seed)
    shapes = variable_shapes(model, (8, 8, channels))
    return model, jax.tree.map(lambda x: rng.uniform(0.1, 1, x.shape).astype(x.dtype), shapes)


def test_all_but_the_heads_is_that_of_the_run():
    _, theirs = drawn(4, 3, seed=0, deep_supervision=0)
    _, ours = drawn(2, 3, seed=1)
    given = flatten_dict(theirs)
    found = flatten_dict(fill_from_run(ours, given, keep_head=True))
    assert found.keys() == flatten_dict(ours).keys()
    for path, value in found.items():
        source = flatten_dict(ours) if path[1] == "head" else given
        np.testing.assert_array_equal(value, source[path])
    with pytest.raises(UserError, match=r"params/head/bias is \(4,\) there and \(2,\) .*keep_head"):
        fill_from_run(ours, given)


@pytest.mark.parametrize(("theirs", "ours"), [(3, 1), (1, 4)])
def test_grey_images_give_the_same_in_another_number_of_channels(theirs, ours):
    of_run, before = drawn(3, theirs, seed=0)
    model, variables = drawn(3, ours, seed=1)
    lines = []
    after = fill_from_run(variables, flatten_dict(before), say=lines.append)
    grey = np.random.default_rng(2).normal(size=(1, 9, 7, 1)).astype(np.float32)
    wide = [jnp.asarray(np.repeat(grey, n, axis=-1)) for n in (theirs, ours)]
    expected = of_run.apply(before, wide[0], train=False)
    np.testing.assert_allclose(model.apply(after, wide[1], train=False), expected, rtol=2e-5)
    assert lines == [f"its images had {theirs} channels and those of the data have {ours}: adapted"]


def test_another_network_is_refused():
    _, variables = drawn(3, 3, seed=0)
    _, other = drawn(3, 3, seed=0, norm="none")
    with pytest.raises(UserError, match=r"its network is another one: .*--config=RUN is a page"):
        fill_from_run(variables, flatten_dict(other))


@pytest.mark.parametrize("averages", [False, True])
def test_the_best_checkpoint_is_read(tmp_path, averages):
    trees = {step: drawn(3, 3, seed=step)[1] for step in (1, 2, 3)}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, tree in trees.items():
        other = jax.tree.map(lambda x: x + 1, tree["params"])
        params, average = (other, tree["params"]) if averages else (tree["params"], {})
        stats = tree["batch_stats"]
        state = {"params": params, "batch_stats": stats, "average": average}
        checkpoints.save(step, state, {}, score={1: 0.1, 2: 0.7, 3: 0.3}[step])
    checkpoints.wait()
    checkpoints.close()
    found = read_variables(tmp_path)
    expected = flatten_dict(trees[2])
    assert found.keys() == expected.keys()
    for path, value in found.items():
        np.testing.assert_array_equal(value, expected[path])
    with pytest.raises(UserError, match="is no run with a checkpoint"):
        read_variables(tmp_path / "checkpoints")
