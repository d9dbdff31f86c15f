"""A loss that needs maps, from the config to the step, against loops on what a batch holds."""

import jax
import numpy as np
import pytest
from support import loss_truth
from support.configs import make_config

from unet_jax.data.pipeline import train_batches
from unet_jax.defaults import complete, to_config
from unet_jax.experiment import assemble, step_shapes
from unet_jax.sharding import put_batch

TERMS = {"cross_entropy": {"border_weight": 10.0, "border_sigma": 1.5}, "boundary": {"weight": 0.3}}


@pytest.mark.parametrize("kind", ["exclusive", "multilabel", "regions"])
def test_the_loss_of_a_step_has_the_maps_of_its_batch(kind):
    values = complete(make_config()).to_dict()
    values["loss"], values["augment"] = TERMS, {}
    values["model"] |= {"norm": "none"}
    values["task"]["kind"] = kind
    values["optim"]["accumulate"] = 2 if kind == "exclusive" else 1  # by two parts
    values["data"]["synthetic"]["by_class"] = kind == "multilabel"
    regions = (("any", (1, 2, 3, 4, 5), 1), ("angular", (2, 3, 5), 2))
    values["task"]["regions"] = regions if kind == "regions" else ()
    e = assemble(to_config(values))
    if kind == "exclusive":
        assert len(e.state_shapes.opt_state.gradients) == 2
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": 1}
    [batch] = train_batches(e.dataset.splits["train"], e.loading, **order)
    state, shapes, _ = step_shapes(e)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(
        lambda x: (x.shape, x.dtype), shapes
    )
    state = e.init(jax.random.key(0))
    image = (batch["image"] / np.float32(255) - 0.5) / 0.25
    logits = np.asarray(e.model.apply({"params": state.params}, image, train=False))
    _, scalars = e.train_step(state, put_batch(batch, e.shardings), jax.random.key(1))
    label, channels = batch["label"], e.network.task.channels
    if kind == "regions":
        on = np.stack([np.isin(label, ids) for _, ids, _ in regions], axis=-1)
    else:
        on = label if kind == "multilabel" else label[..., None] == np.arange(channels)
    extras = batch["extras"]
    assert (extras["border"] > 0.1).any()
    # A probability above 1/2 for what is true is on the side where distances are below 0.
    assert (extras["distance"][on > 0] <= 0).all()
    assert (extras["distance"][on == 0] >= 0).all()
    flat = logits.reshape(-1, channels), np.float64(on).reshape(-1, channels)
    more = batch["weight"].ravel().astype(float), kind == "exclusive"
    border, distance = extras["border"].ravel(), extras["distance"].reshape(-1, channels)
    expected = loss_truth.cross_entropy(*flat, *more, border_weight=10.0, border=border)
    expected += 0.3 * loss_truth.boundary(*flat, *more, distance=distance)
    np.testing.assert_allclose(scalars["train/loss"], expected, rtol=1e-4)
