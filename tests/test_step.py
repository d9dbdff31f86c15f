import jax
import numpy as np
import pytest
from support.tasks import exclusive

from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.losses.make import make_loss
from unet_jax.models.fast import init_options
from unet_jax.models.fast.choice import LEVEL
from unet_jax.models.unet import UNet
from unet_jax.optim.make import make_optimizer
from unet_jax.sharding import make_shardings, put_batch, replicate
from unet_jax.step import init_variables, make_init, make_train_step

SGD = {"name": "sgd", "schedule": "constant", "warmup": "0", "clip_norm": 0.0}


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    shape = (3, 8, 16, 16)
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    label = (image[..., 0] // 86).astype(np.uint8)
    weight = (rng.random(shape) < 0.8).astype(np.uint8)
    return [
        {"image": i, "label": k, "weight": w} for i, k, w in zip(image, label, weight, strict=True)
    ]


def take_steps(batches, devices, network=None, **optim):
    shardings = make_shardings(devices)
    model = UNet(3, (4, 8), repeats=(1,), decoder_repeats=(1,), **network or {})
    optimizer = make_optimizer(**SGD | optim, total_steps=10, epoch_steps=1.0)
    loss = make_loss({"cross_entropy": {}, "dice": {}}, exclusive(3))
    augment = make_augment(
        {
            "flip": {"left_right": True},
            "zoom": {"scale": (0.8, 1.4)},
            "colour": {"brightness": 0.2},
        },
        RGB.value_range,
    )
    state = make_init(model, optimizer, (16, 16, 3), shardings)(jax.random.key(0))
    step = make_train_step(model, loss, optimizer, augment, shardings, state)
    key = replicate(jax.random.key(1), shardings)
    scalars = []
    with jax.transfer_guard("disallow"):
        for batch in batches:
            state, values = step(state, put_batch(batch, shardings), key)
            scalars.append(jax.device_get(values))
    assert step._cache_size() == 1
    return state, scalars


def test_initial_parameters_are_compiled_quickly_to_the_same_bytes(monkeypatch):
    jax.devices()  # with the flags of this process
    monkeypatch.setenv("XLA_FLAGS", "")  # as users have it
    model, shardings = UNet(3, (2, 3), repeats=(1,), decoder_repeats=(1,)), make_shardings(1)
    optimizer = make_optimizer(**SGD, total_steps=10, epoch_steps=1.0)
    assert init_options() == {LEVEL: 2}
    quick = make_init(model, optimizer, (8, 8, 3), shardings)(jax.random.key(3))

    def init(key):
        return init_variables(model, (8, 8, 3), key)

    slow = jax.jit(init, compiler_options={LEVEL: 3})(jax.random.key(3))
    found = {"params": quick.params, "batch_stats": quick.batch_stats}
    assert jax.tree.structure(found) == jax.tree.structure(slow)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(slow), strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setenv("XLA_FLAGS", f"--{LEVEL}=0")
    assert not init_options()


def test_a_frozen_part_computes_what_it_does_in_evaluation(batches):
    frozen = {"frozen": ("encoder_0", "up*"), "dropout": (0.5,)}
    optim = {"weight_decay": 0.1, "ema_decay": 0.5, "frozen": frozen["frozen"]}
    (before, _), (after, _) = (take_steps(batches[:n], 1, frozen, **optim) for n in (1, 3))
    for name in before.params:
        is_frozen = name in ("encoder_0", "up_0")
        states = [(s.params[name], s.batch_stats.get(name, {})) for s in (before, after)]
        for old, new in zip(*map(jax.tree.leaves, states), strict=True):
            assert np.array_equal(old, new) == is_frozen, name
        means = after.average[name], before.params[name]
        for one, other in zip(*map(jax.tree.leaves, means), strict=True):
            is_close = np.allclose(one, other, rtol=1e-6, atol=0)  # a mean of equal numbers rounds
            assert is_close == is_frozen, name
    model = UNet(3, (4, 8), repeats=(1,), decoder_repeats=(1,), **frozen)
    variables = {"params": after.params, "batch_stats": after.batch_stats}
    image = np.random.default_rng(1).normal(size=(2, 9, 7, 3))

    def activations(train):
        _, seen = model.apply(
            variables,
            image,
            train=train,
            rngs={"dropout": jax.random.key(0)},
            capture_intermediates=lambda module, _: module.name in ("encoder_0", "bottom_1"),
            mutable=["intermediates", "batch_stats"],
        )
        return {name: x["__call__"][0] for name, x in seen["intermediates"].items()}

    trained, evaluated = activations(True), activations(False)
    np.testing.assert_array_equal(trained["encoder_0"], evaluated["encoder_0"])
    assert not np.array_equal(trained["bottom_1"], evaluated["bottom_1"])


# Without the kinks of relu and max pooling, where a number that rounds to the other side of zero
# has another gradient, which says nothing of the devices.
SMOOTH = {"activation": "gelu", "pool": "average"}


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("optim", [{}, {"ema_decay": 0.5, "accumulate": 2}])
def test_eight_devices_equal_one(batches, norm, optim):
    one, scalars_one = take_steps(batches, 1, SMOOTH | {"norm": norm}, **optim)
    eight, scalars_eight = take_steps(batches, 8, SMOOTH | {"norm": norm}, **optim)
    assert len(jax.tree.leaves(eight.params)[0].sharding.device_set) == 8
    for a, b in zip(scalars_one, scalars_eight, strict=True):
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, eight)


def test_batch_statistics_are_those_of_the_global_batch(batches):
    # Images sorted by brightness: a device's share has other statistics than the whole batch.
    batch = dict(batches[0])
    batch["image"] = (batch["image"] // 8 + 28 * np.arange(8)[:, None, None, None]).astype(np.uint8)
    one, _ = take_steps([batch], 1)
    eight, _ = take_steps([batch], 8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        one.batch_stats,
        eight.batch_stats,
    )


def test_the_same_step_twice_gives_the_same_bytes(batches):
    first, _ = take_steps(batches, 1)
    again, _ = take_steps(batches, 1)
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_learning_lowers_the_loss(batches):
    _, scalars = take_steps(batches[:1] * 30, 1, learning_rate=0.1)
    assert scalars[-1]["train/loss"] < 0.8 * scalars[0]["train/loss"]
    assert scalars[0]["train/loss"] > 0
