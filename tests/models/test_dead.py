"""Normalisations that see a single value: found by watching every one of a real forward pass."""

import contextlib
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from support.configs import changed
from support.family import tiny_resnets

from unet_jax.errors import UserError
from unet_jax.experiment import assemble
from unet_jax.models import blocks
from unet_jax.models import unet as unet_module
from unet_jax.models.unet import UNet

DEEP = {"features": (4, 8, 8), "repeats": (1,), "decoder_repeats": (1,)}
VALID = {
    "features": (4, 8),
    "padding": "valid",
    "repeats": (1,),
    "decoder_repeats": (1,),
    "up_filters": ((3, 0, 3),),
}
MODELS = {
    "plain": DEEP,
    "stride": {**DEEP, "pool": "stride", "block": "residual"},
    "bottleneck": {**DEEP, "block": "bottleneck"},  # of 4 // 4 channels at level 0
    "narrow": {**DEEP, "features": (4, 2, 1)},
    "depthwise": {**DEEP, "features": (4, 1, 8), "block": "depthwise"},
    "strides": {**DEEP, "features": (1, 4, 8), "up_filters": ((3, 0, 3), (1, 0, 1))},
    "unet3+": {
        **DEEP,
        "features": (1, 4, 8),
        "decoder": "unet3+",
        "up_filters": ((1, 0, 1), (2, 0, 2)),
    },
    "unet++": {**DEEP, "decoder": "unet++", "deep_supervision": 1, "prune": 1},
    "fold": {**DEEP, "fold": 2},
    "unet3+ whole": {**DEEP, "features": (1, 4, 8), "decoder": "unet3+"},
    "valid": VALID,
    "volume": {**DEEP, "dimensions": 3},
    "resnet": {"features": (4,) * 5, "encoder": "resnet18"},
}
SIDES = {"valid": (11, 14), "unet3+": (2, 3), "resnet": (32, 33), "fold": (8, 9), "strides": (1, 4)}
WAYS = (("batch", 1, True), ("batch", 2, True), ("instance", 2, True), ("group", 1, False))


def fewest_values(model, shape, train, monkeypatch):
    """Returns how many values the poorest statistic of a forward pass is taken of."""
    seen = [math.inf]

    def watch(call, args, kwargs, context):
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        module, x = context.module, args[0] if args else None
        if isinstance(module, nn.BatchNorm | blocks.BatchNorm):
            seen.append(x.size // x.shape[-1] if train else math.inf)
        elif isinstance(module, blocks.GroupNorm):
            channels = x.shape[-1] // (module.groups or x.shape[-1])
            seen.append(math.prod(x.shape[1:-1]) * channels)
        return call(*args, **kwargs)

    def forward():
        image = jnp.zeros(shape)
        if not model.prune:
            return model.init(jax.random.key(0), image, train=train)
        variables = model.init(jax.random.key(0), image, train=False)
        del seen[1:]  # initialising computes every level
        kept = {k: v for k, v in variables.items() if k in ("params", "batch_stats")}
        sown = ["batch_stats", "deep_supervision"]
        return model.apply(kept, image, train=train, mutable=sown)

    with monkeypatch.context() as patch, nn.intercept_methods(watch):
        patch.setattr(unet_module, "check_not_dead", lambda *_: None)
        jax.eval_shape(forward)
    return min(seen)


@pytest.mark.parametrize("kind", MODELS)
def test_it_refuses_what_a_forward_pass_shows_and_nothing_else(kind, monkeypatch):
    tiny_resnets(monkeypatch)
    fields = MODELS[kind]
    small, large = SIDES.get(kind, (4, 5))
    axes = fields.get("dimensions", 2)
    refused = 0
    for norm, batch, train in WAYS:
        sizes = ((small,) * axes, (small,) * (axes - 1) + (large,))
        for size in sizes if batch == 1 or norm == "instance" else sizes[:1]:
            model = UNet(2, **fields, norm=norm)
            values = fewest_values(model, (batch, *size, 3), train, monkeypatch)
            is_dead = False
            with contextlib.suppress(UserError):
                is_dead = True
                model.check_not_dead("here", size, batch if train else None)
                is_dead = False
            assert is_dead == (values == 1), (norm, size, batch, train)
            refused += is_dead
    assert bool(refused) == (kind != "unet++")  # pruned, its deepest level has 2x2 pixels or more


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("side", [5, 16])
def test_the_size_that_is_named_works(norm, side):
    model = UNet(2, (4,) * 5, norm=norm)
    with pytest.raises(UserError, match="use images of 17 pixels along every axis"):
        model.check_not_dead("here", (side, side), 1)
    model.check_not_dead("here", (17, 17), 1)
    model.check_not_dead("here", (1, 17), 1)
    with pytest.raises(UserError, match="use images of 14 pixels along every axis"):
        UNet(2, **VALID, norm=norm).check_not_dead("here", (11, 11), 1)


@pytest.mark.parametrize(
    ("norm", "batch", "train"),
    [("batch", 1, True), ("instance", 3, True), ("instance", 3, False)],
)
def test_the_model_refuses_when_it_is_traced(norm, batch, train):
    model, image = UNet(2, (4, 8), norm=norm), jnp.zeros((batch, 2, 2, 3))
    with pytest.raises(UserError, match=r"^an image of \(2, 2\) pixels leaves 1 pixel at level 1"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=train))


def test_a_config_is_refused_before_anything_runs():
    config = changed("data.image_size", (2, 2))
    config.train.batch_size = 1
    says = r"^config\.data\.image_size=\(2, 2\) leaves 1 pixel .*config\.train\.batch_size of 2"
    config.mesh.data = 1
    with pytest.raises(UserError, match=says):
        assemble(config)
    config.model.norm = "instance"
    config.train.batch_size = 8
    with pytest.raises(UserError, match=r"instance normalisation .*config\.model\.norm='group'"):
        assemble(config)
