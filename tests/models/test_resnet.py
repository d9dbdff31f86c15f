import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from support.paths import VECTORS
from vectors.make_vectors import VARIANTS, channel_step, image, numbers_for, resnet_shapes

from unet_jax.models.encoders.resnet import ENCODERS, STRIDES, ResNet
from unet_jax.models.pretrained.torch_layout import resnet_variables


def init_shapes(variant, size=(64, 64), channels=3):
    batch = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
    return jax.eval_shape(
        lambda x: ResNet(variant).init_with_output(jax.random.key(0), x, train=False), batch
    )


def test_every_variant_has_vectors_and_a_count():
    counts = json.loads((VECTORS / "counts.json").read_text())
    counted = {row["settings"]["variant"] for row in counts if row["network"] == "resnet"}
    assert set(ENCODERS) == set(VARIANTS) == counted


# See vectors/make_vectors.py: torchvision's own model made these.
@pytest.mark.parametrize("variant", ENCODERS)
def test_feature_maps_equal_torchvisions(variant):
    variables = resnet_variables(numbers_for(resnet_shapes(variant)), variant)
    apply = jax.jit(lambda v, x: ResNet(variant).apply(v, x, train=False))
    maps = apply(variables, image((64, 64)))
    with np.load(VECTORS / "resnet.npz") as stored:
        for found, stride in zip(maps, STRIDES, strict=True):
            expected = stored[f"{variant}/{stride}"]
            assert expected.std() > 0.3
            step = channel_step(found.size)
            np.testing.assert_allclose(found[..., ::step], expected, atol=1e-4)


@pytest.mark.parametrize("variant", ENCODERS)
def test_parameter_counts_equal_torchvisions(variant):
    _, variables = init_shapes(variant)
    rows = json.loads((VECTORS / "counts.json").read_text())
    (expected,) = [row["parameters"] for row in rows if row["settings"].get("variant") == variant]
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == expected


@pytest.mark.parametrize("size", [(64, 96), (37, 53), (1, 1)])
@pytest.mark.parametrize("variant", ENCODERS)
def test_channels_and_sizes_are_as_documented(variant, size):
    maps, _ = init_shapes(variant, size, channels=5)
    expected = [
        (2, -(-size[0] // s), -(-size[1] // s), f)
        for s, f in zip(STRIDES, ENCODERS[variant].channels, strict=True)
    ]
    assert [x.shape for x in maps] == expected


def test_training_uses_the_batch_and_tracks_it():
    model = ResNet("resnet18")
    batch = 3 * jax.random.normal(jax.random.key(1), (2, 32, 32, 3)) + 1
    variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(batch)
    # The weights are no constants of the program: eleven million would be written with it.
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable="batch_stats"))
    maps, updated = apply(variables, batch)
    convolved = jax.lax.conv_general_dilated(
        batch,
        variables["params"]["conv1"]["kernel"],
        (2, 2),
        ((3, 3), (3, 3)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    convolved = np.asarray(convolved)
    mean, var = convolved.mean((0, 1, 2)), convolved.var((0, 1, 2))
    stats = updated["batch_stats"]["bn1"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-3)
    expected = np.maximum((convolved - mean) / np.sqrt(var + 1e-5), 0)
    np.testing.assert_allclose(maps[0], expected, atol=1e-3)


def test_initialisation_is_he_normal_by_fan_out():
    model = ResNet("resnet18")
    variables = jax.jit(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    )()
    kernels = {k: v for k, v in flatten_dict(variables["params"]).items() if k[-1] == "kernel"}
    assert len(kernels) == 20
    for kernel in kernels.values():
        height, width, _, features = kernel.shape
        assert np.std(kernel) == pytest.approx((2 / (height * width * features)) ** 0.5, rel=0.05)


def test_bfloat16_maps_are_near_and_parameters_stay_float32():
    batch = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    rounded = ResNet("resnet18", "bfloat16")
    variables = jax.jit(lambda: rounded.init(jax.random.key(0), batch, train=False))()
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    equations = jax.make_jaxpr(lambda v: rounded.apply(v, batch, train=False))(variables).eqns
    convolutions = [e for e in equations if e.primitive.name == "conv_general_dilated"]
    assert len(convolutions) == 20
    assert {x.aval.dtype for e in convolutions for x in e.invars} == {jnp.dtype("bfloat16")}
    found = jax.jit(lambda v: rounded.apply(v, batch, train=False))(variables)
    exact = jax.jit(lambda v: ResNet("resnet18").apply(v, batch, train=False))(variables)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == jnp.bfloat16
        error = jnp.max(jnp.abs(a.astype(jnp.float32) - b))
        assert 0 < error < 0.1 * jnp.max(b)
