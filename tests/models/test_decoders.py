"""Skips, heads and everything else that differs between training and inference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from support.family import make, make_image, small, tiny_resnets
from support.tasks import exclusive

from unet_jax.losses.deep import split_heads, supervise
from unet_jax.losses.make import make_loss
from unet_jax.models.encoders.resnet import ResNet
from unet_jax.models.scales import rescale
from unet_jax.models.unet import UNet


class Probed(UNet):
    """A U-Net whose skips can be disturbed on their way to the decoder."""

    def _encode(self, x, levels):
        return self.probe(*super()._encode(x, levels))

    def _encode_resnet(self, x, levels):
        return self.probe(*super()._encode_resnet(x, levels))

    def probe(self, skips, bottom):
        named = [s if s is None else self.perturb(f"skip_{i}", s) for i, s in enumerate(skips)]
        return named, self.perturb("bottom", bottom)


def probed(model):
    fields = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    return Probed(**{k: v for k, v in fields.items() if k not in {"parent", "name"}})


def skip_gradients(variant, **changes):
    """Gradients by what the decoder takes from each level, and not through deeper levels."""
    model, variables = make(variant, **changes)
    size = (92, 92) if model.padding == "valid" else (32, 32)
    image, model = make_image((2, *size, 3)), probed(model)
    weights = make_image((2, *size, 3), 2)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes["perturbations"])

    def loss(perturbations):
        logits = model.apply(variables | {"perturbations": perturbations}, image, train=False)
        return jnp.sum(logits * weights[:, : logits.shape[1], : logits.shape[2]])

    return jax.jit(jax.grad(loss))(zeros)


def test_every_skip_carries_gradient(variant, monkeypatch):
    tiny_resnets(monkeypatch)
    gradients = skip_gradients(variant)
    model = small(variant)
    first = int(model.encoder != "blocks")  # level 0 of a ResNet has no activations
    assert set(gradients) == {"bottom", *(f"skip_{i}" for i in range(first, model.bottom()))}
    for name, gradient in gradients.items():
        assert (np.abs(gradient).sum(axis=(0, 1, 2)) > 0).all(), name


# In "unet++" the encoder's activations of deeper levels also go up.
@pytest.mark.parametrize(
    ("decoder", "variant", "level"),
    [
        ("unet", "modern", 1),
        ("unet", "resnet18", 1),
        ("unet", "attention", 0),
        ("unet++", "modern", 0),
        ("unet3+", "modern", 1),
        ("unet3+", "resnet18", 4),
    ],
)
def test_skips_that_are_off_carry_none(decoder, variant, level, monkeypatch):
    tiny_resnets(monkeypatch)
    gradients = skip_gradients(variant, decoder=decoder, skips_off=(level,))
    assert not np.any(gradients.pop(f"skip_{level}"))
    for name, gradient in gradients.items():
        assert np.any(gradient), name


def test_decoders_take_as_many_channels_as_they_are_given():
    def inputs(variant, **changes):
        flat = flatten_dict(make(variant, **changes)[1]["params"], sep="/")
        first = {k: v for k, v in flat.items() if k.endswith("/Conv_0/kernel")}
        return {k.split("/")[0]: v.shape[-2] for k, v in first.items()}

    plain = inputs("modern")
    assert (plain["decoder_0"], plain["decoder_1"]) == (8, 16)
    off = inputs("modern", skips_off=(0,))
    assert (off["decoder_0"], off["decoder_1"]) == (4, 16)
    nested = inputs("unet++")
    assert (nested["node_0_1"], nested["node_1_1"], nested["node_0_2"]) == (8, 16, 12)
    full = inputs("unet3+")
    names = {f"decoder_{i}_from_{j}" for i in range(2) for j in range(3)}
    assert {k for k in full if "from" in k} == names
    assert full["decoder_1_from_0"] == 4
    assert full["decoder_1_from_2"] == full["decoder_0_from_2"] == 12
    assert full["decoder_0_from_1"] == full["decoder_0"] == full["decoder_1"] == 12


@functools.partial(jax.jit, static_argnums=0)
def run_train(model, variables, image, key):
    mutable = ["batch_stats", "deep_supervision"]
    return model.apply(variables, image, train=True, rngs={"dropout": key}, mutable=mutable)


def apply_train(model, variables, image, key=0):
    logits, updated = run_train(model, variables, image, jax.random.key(key))
    return logits, {k: v for k, (v,) in updated.get("deep_supervision", {}).items()}


def test_deep_supervision_weighs_heads_by_their_resolution():
    model, variables = make("modern", features=(4, 4, 4, 4), deep_supervision=2, norm="group")
    image, rng = make_image((2, 13, 10, 3)), np.random.default_rng(0)
    logits, heads = apply_train(model, variables, image)
    assert {k: v.shape for k, v in heads.items()} == {
        "logits_1": (2, 8, 8, 3),
        "logits_2": (2, 4, 4, 3),
    }
    label = rng.integers(0, 3, (2, 13, 10))
    weight = rng.random((2, 13, 10)).astype(np.float32)
    loss = make_loss({"cross_entropy": {}}, exclusive(3))
    targets = jnp.asarray(label), jnp.asarray(weight), 8
    outputs = [logits, *heads.values()]
    found = jax.jit(lambda outputs: supervise(loss, split_heads(outputs, *targets)))(outputs)
    total = 0.0
    for logits_s, s in ((logits, 1), (heads["logits_1"], 2), (heads["logits_2"], 4)):
        log_p = np.asarray(jax.nn.log_softmax(logits_s))
        value = divisor = 0.0
        for n, i, j in np.ndindex(log_p.shape[:3]):
            y, x = s * i + s // 2, s * j + s // 2
            if y < 13 and x < 10:
                value -= weight[n, y, x] * log_p[n, i, j, label[n, y, x]]
                divisor += weight[n, y, x]
        total += value / divisor / s
    np.testing.assert_allclose(found, total / (1 + 1 / 2 + 1 / 4), rtol=1e-5)


def test_heads_of_every_decoder_learn():
    for decoder, names in {
        "unet": {"head_1", "head_2"},
        "unet++": {"head_1", "head_2"},
        "unet3+": {"head_1", "head_2"},
    }.items():
        features = {"features": (4, 4, 4, 4), "deep_supervision": 2}
        model, variables = make("modern", decoder=decoder, **features)
        assert names | {"head"} == {k for k in variables["params"] if k.startswith("head")}
        sizes = {"unet++": [16, 16]}.get(decoder, [8, 4])
        image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        _, heads = jax.eval_shape(lambda v, x, m=model: apply_train(m, v, x), variables, image)
        assert sorted((v.shape[1] for v in heads.values()), reverse=True) == sizes


@pytest.mark.parametrize("encoder", ["blocks", "resnet18"])
def test_pruned_unet_plus_plus_is_its_own_head(encoder, monkeypatch):
    tiny_resnets(monkeypatch)
    variant, column = ("unet++", 1) if encoder == "blocks" else ("resnet18", 3)
    changes = {"decoder": "unet++", "deep_supervision": 1 if encoder == "blocks" else 3}
    if encoder == "blocks":
        changes["features"] = (4, 6, 8)
    model, variables = make(variant, **changes)
    pruned, same = make(variant, **changes, prune=column)
    shapes = [jax.tree.map(jnp.shape, v["params"]) for v in (variables, same)]
    assert shapes[0] == shapes[1]
    image = make_image((2, 32, 32, 3))
    _, state = jax.jit(lambda v, x: model.apply(v, x, train=False, mutable=["deep_supervision"]))(
        variables, image
    )
    (expected,) = state["deep_supervision"][f"logits_{column}"]
    run = jax.jit(lambda v, x: pruned.apply(v, x, train=False))
    np.testing.assert_allclose(run(variables, image), expected, atol=1e-5)
    # Nothing deeper is computed: whatever its parameters are, the result is the same.
    deeper = {"bottom_2"} if encoder == "blocks" else set()
    broken = {
        k: jax.tree.map(lambda x: x * np.nan, v) if k in deeper or k == "head" else v
        for k, v in variables["params"].items()
    }
    found = run(variables | {"params": broken}, image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("decoder", ["unet", "unet++", "unet3+"])
def test_volumes(decoder):
    model, variables = make("modern", decoder=decoder, dimensions=3, deep_supervision=1)
    image = make_image((1, 5, 9, 6, 3))
    logits, heads = apply_train(model, variables, image)
    assert logits.shape == (1, 5, 9, 6, 3)
    assert jnp.isfinite(logits).all()
    (head,) = heads.values()
    assert head.shape == ((1, 8, 12, 8, 3) if decoder == "unet++" else (1, 4, 6, 4, 3))


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("modern", {"dropout": (0.0, 0.0, 0.5)}),
        ("modern", {"dropout": (0.3,)}),
        ("residual", {"stochastic_depth": 0.7, "repeats": (3,)}),
        ("nnunet_resenc", {"stochastic_depth": 0.7, "norm": "group", "repeats": (2,)}),
    ],
)
def test_dropping_is_in_training_only_and_a_function_of_the_key(variant, changes):
    model, variables = make(variant, **changes)
    still = small(variant, **changes | {"dropout": (), "stochastic_depth": 0.0})
    image = make_image((4, 16, 16, 3))
    infer = [jax.jit(lambda v, x, m=m: m.apply(v, x, train=False)) for m in (model, still)]
    np.testing.assert_array_equal(infer[0](variables, image), infer[1](variables, image))
    first, again, other = (apply_train(model, variables, image, key)[0] for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not jnp.array_equal(first, other)
    assert not jnp.allclose(first, apply_train(still, variables, image)[0], atol=1e-3)


def test_stochastic_depth_drops_whole_units_of_an_image():
    changes = {"stochastic_depth": 0.5, "norm": "none", "features": (4, 4)}
    model, variables = make("residual", **changes)
    image = jnp.tile(make_image((1, 8, 8, 3)), (64, 1, 1, 1))
    logits, _ = apply_train(model, variables, image)
    distinct = np.unique(np.asarray(logits).reshape(64, -1).round(4), axis=0)
    assert len(distinct) == 2  # one unit at the bottom, dropped or not; none at level 0
    share = np.mean(np.abs(np.asarray(logits) - distinct[0].reshape(8, 8, 3)).max((1, 2, 3)) < 1e-2)
    assert 0.25 < share < 0.75


@pytest.mark.parametrize("variant", ["modern", "nnunet_resenc", "unet++"])
def test_remat_changes_neither_values_nor_gradients(variant):
    once = {"repeats": (1,), "decoder_repeats": (1,)}
    plain, variables = make(variant, **once)
    again, same = make(variant, **once, remat=(0, 1, 2))
    assert jax.tree.structure(variables) == jax.tree.structure(same)
    image = make_image((2, 16, 16, 3))

    def run(model):
        def loss(params):
            v, extra = variables | {"params": params}, {"mutable": ["batch_stats"]}
            return jnp.sum(model.apply(v, image, train=True, **extra)[0] ** 2)

        traced = jax.jit(jax.value_and_grad(loss)).trace(variables["params"])
        text = str(traced.jaxpr)
        found = traced.lower().compile()(variables["params"])
        return found, "remat" in text or "checkpoint" in text

    (value, gradients), is_plain_remat = run(plain)
    (value_again, gradients_again), is_remat = run(again)
    assert (is_plain_remat, is_remat) == (False, True)
    np.testing.assert_allclose(value, value_again, rtol=1e-5)
    scale = max(np.abs(g).max() for g in jax.tree.leaves(gradients))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * scale), gradients, gradients_again
    )


def test_levels_of_a_resnet_encoder_are_its_feature_maps(monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = make("resnet18")
    taken = {}

    def take(self, skips, bottom):
        taken["maps"] = [*skips, bottom]
        return skips, bottom

    monkeypatch.setattr(Probed, "probe", take)
    image = make_image((2, 33, 40, 3))

    def maps(variables, image):
        probed(model).apply(variables, image, train=False)
        return taken["maps"]

    def plain(encoder, image):
        padded = jnp.pad(image, ((0, 0), (0, 31), (0, 24), (0, 0)), mode="edge")
        return ResNet("resnet18").apply(encoder, rescale(padded, "imagenet"), train=False)

    first, *others = jax.jit(maps)(variables, image)
    assert first is None
    expected = jax.jit(plain)({k: v["encoder"] for k, v in variables.items()}, image)
    for found, wanted in zip(others, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
