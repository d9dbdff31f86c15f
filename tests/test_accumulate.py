"""Several batches that make one update: that of one large batch, worked out without the program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.tasks import exclusive

from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.defaults import page
from unet_jax.header import describe_accumulation
from unet_jax.losses.deep import split_heads, supervise
from unet_jax.losses.make import make_loss
from unet_jax.models.unet import UNet
from unet_jax.optim.make import make_optimizer
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.sharding import make_shardings, put_batch, split_state
from unet_jax.step import abstract_state, make_init, make_train_step

SGD = {"name": "sgd", "schedule": "constant", "warmup": "0", "clip_norm": 0.0}
BARE = {**SGD, "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 1.0}
IGNORED = (0.0, 0.5, 0.97, 1.0, 0.3, 0.8, 0.1)  # of each batch's pixels
K, SIZE = 3, (12, 10)
PLAIN = make_augment({}, RGB.value_range)
MOVING = {"flip": {"left_right": True}, "zoom": {"scale": (0.5, 0.9)}}


def make_batches(count, size=SIZE):
    rng = np.random.default_rng(0)
    batches = []
    for share in IGNORED[:count]:
        image = rng.integers(0, 256, (2, *size, 3)).astype(np.uint8)
        label = (image[..., 0] // 86).astype(np.uint8)
        weight = (rng.random(label.shape) >= share).astype(np.uint8)
        batches.append({"image": image, "label": label, "weight": weight})
    return batches


def prepare(accumulate, total, class_weights=(), augment=PLAIN, heads=1, terms=None, **optim):
    """Returns a state and a compiled step of a small net, the same but for the arguments."""
    shardings = make_shardings(1)
    deep = {"deep_supervision": heads - 1}
    model = UNet(K, (4, 4, 4), norm="none", repeats=(1,), decoder_repeats=(1,), **deep)
    loss = make_loss(terms or {"cross_entropy": {"class_weights": class_weights}}, exclusive(K))
    parts = heads * len(loss.parts)
    more = {"heads": parts} if parts > 1 else {}
    length = {"total_steps": total, "epoch_steps": 1.0, **more}
    optimizer = make_optimizer(**BARE | optim, accumulate=accumulate, **length)
    state = make_init(model, optimizer, (*SIZE, 3), shardings)(jax.random.key(0))
    # As after some training: no activation is a multiple of another.
    state = state.replace(params=shake_all(state.params), batch_stats={})
    step = make_train_step(model, loss, optimizer, augment, shardings, state)
    key = jax.random.key(1)

    def take(state, batch):
        return step(copy(state), put_batch(batch, shardings), key)

    return model, augment, state, take


def shake(x):
    return x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape)


@jax.jit
def copy(state):
    return jax.tree.map(jnp.copy, state)


@jax.jit
def shake_all(params):
    return jax.tree.map(shake, params)


def large_gradient(model, class_weights):
    """Makes the gradient of sum w l / sum w over all images at once, head by head."""

    def loss(params, image, label, weight):
        logits, sown = model.apply(
            {"params": params}, (image - 0.5) / 0.25, train=True, mutable=["deep_supervision"]
        )
        heads = {1: logits}
        for (head,) in sown.get("deep_supervision", {}).values():
            heads[12 // head.shape[1]] = head  # 12 x 10 pixels were padded to 12 x 12
        total = 0.0
        for s, head in heads.items():
            ends = ((0, 0), (0, 0), (0, s * head.shape[2] - 10))
            own_label = jnp.pad(label, ends)[:, s // 2 :: s, s // 2 :: s]
            own_weight = jnp.pad(weight, ends)[:, s // 2 :: s, s // 2 :: s]
            own_weight *= jnp.asarray(class_weights or (1.0,) * K)[own_label]
            one_hot = (own_label[..., None] == jnp.arange(K).reshape(1, 1, 1, K)).astype(float)
            pixels = -jnp.sum(one_hot * jax.nn.log_softmax(head), axis=-1) * own_weight
            total += jnp.sum(pixels) / jnp.sum(own_weight) / s
        return total / sum(1 / s for s in heads)

    return jax.jit(jax.grad(loss))


@pytest.mark.parametrize(
    ("accumulate", "total", "arguments"),
    [
        (3, 7, {"class_weights": (1.0, 5.0, 0.2)}),  # groups of 3, 3 and 1
        (2, 3, {"class_weights": (0.0, 3.0, 0.5), "heads": 2}),  # of 2 and 1
        (
            4,
            3,
            {"augment": make_augment(MOVING, RGB.value_range)},
        ),  # of 3
    ],
)
def test_a_group_is_the_large_batch(accumulate, total, arguments):
    model, augment, state, take = prepare(accumulate, total, **arguments)
    batches, augment = make_batches(total), jax.jit(augment)
    truth = large_gradient(model, arguments.get("class_weights", ()))
    arrays, updates, before = [], 0, state.params
    for index, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(1), index)
        arrays.append(jax.device_get(augment(*batch.values(), key)))
        state, scalars = take(state, batch)
        assert np.isfinite(scalars["train/gradient_norm"])
        if (index + 1) % accumulate and index + 1 < total:
            jax.tree.map(np.testing.assert_array_equal, state.params, before)
            continue
        gradient = truth(before, *map(np.concatenate, zip(*arrays, strict=True)))
        gradient, old, new = jax.device_get((gradient, before, state.params))
        assert np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient))) > 0.05
        found = jax.tree.map(lambda a, b: a - b, old, new)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, gradient
        )
        before, arrays, updates = state.params, [], updates + 1
    assert updates == -(-total // accumulate)


MEANS = {
    "cross_entropy": {"class_weights": (1.0, 5.0, 0.2), "border_weight": 10.0},
    "focal": {"weight": 2.0, "alpha": (0.5, 0.3, 0.9)},
    "binary_cross_entropy": {"weight": 0.5},
    "boundary": {"weight": 0.1},
}


@pytest.mark.parametrize(
    ("terms", "parts", "equal"),
    [
        (MEANS, 2, True),
        ({"focal": {}, "boundary": {"weight": 0.1}}, 1, True),
        ({"cross_entropy": {}, "dice": {}}, 1, False),
    ],
)
def test_parameters_are_those_of_large_batches(terms, parts, equal):
    """After 7 batches, of which one is ignored whole, in groups of 3, 3 and 1, with momentum."""
    rng = np.random.default_rng(1)
    batches = make_batches(7)
    for batch in batches:
        border, distance = rng.random((2, *SIZE)), rng.normal(size=(2, *SIZE, K))
        batch["extras"] = {"border": np.float32(border), "distance": np.float32(distance)}
    optim = {"momentum": 0.9, "learning_rate": 0.1, "heads": 2}
    assert len(make_loss(terms, exclusive(K)).parts) == parts
    *_, state, take = prepare(3, 7, terms=terms, **optim)
    for batch in batches:
        state, _ = take(state, batch)
    *_, large, take = prepare(1, 3, terms=terms, **optim)
    start = large.params
    for group in (batches[:3], batches[3:6], batches[6:]):
        large, _ = take(large, jax.tree.map(lambda *x: np.concatenate(x), *group))
    found, expected, start = jax.device_get((state.params, large.params, start))
    pairs = [*zip(*map(jax.tree.leaves, (found, expected, start)), strict=True)]
    assert max(abs(b - c).max() for _, b, c in pairs) > 0.02
    difference = max(abs(a - b).max() for a, b, _ in pairs)
    assert difference < 1e-6 if equal else difference > 1e-4


RAMPS = {
    "cross_entropy": {"ramp": (1.0, 0.25)},
    "boundary": {"weight": 0.5, "ramp": (0.02, 1.0)},
    "dice": {"weight": 0.1},
}


def test_weights_of_terms_move_from_the_first_update_to_the_last():
    """Of five updates of two batches: 1 to 0.25 and 0.01 to 0.5, halfway in the third."""
    model, _, state, take = prepare(2, 10, terms=RAMPS, heads=2)
    (batch,) = make_batches(1)
    distance = np.random.default_rng(1).normal(size=(2, *SIZE, K))
    batch["extras"] = {"distance": np.float32(distance)}

    @jax.jit
    def slow(params, weights):
        def loss(params):
            image = batch["image"] / 255.0
            logits, sown = model.apply(
                {"params": params}, (image - 0.5) / 0.25, train=True, mutable=["deep_supervision"]
            )
            terms = dict(zip(RAMPS, ({"weight": weight} for weight in weights), strict=True))
            own = make_loss(terms, exclusive(K))
            heads = [logits, *(head for (head,) in sown["deep_supervision"].values())]
            extras = {"distance": jnp.asarray(batch["extras"]["distance"])}
            arrays = jnp.asarray(batch["label"]), jnp.asarray(batch["weight"]) * 1.0
            return supervise(own, split_heads(heads, *arrays, model.multiple(), extras))

        value, gradient = jax.value_and_grad(loss)(params)
        return value, optax.tree.norm(gradient)

    for step, weights in (
        (0, (1.0, 0.01, 0.1)), (1, (1.0, 0.01, 0.1)), (4, (0.625, 0.255, 0.1)),
        (5, (0.625, 0.255, 0.1)), (6, (0.4375, 0.3775, 0.1)), (9, (0.25, 0.5, 0.1)),
    ):  # fmt: skip
        _, scalars = take(state.replace(step=jnp.int32(step)), batch)
        value, norm = map(float, slow(state.params, np.float32(weights)))
        assert scalars["train/loss"] == pytest.approx(value, rel=1e-5), step
        assert scalars["train/gradient_norm"] == pytest.approx(norm, rel=1e-4), step


def test_a_horizon_of_one_update_has_the_first_weight():
    optimizer = make_optimizer(**BARE, accumulate=4, total_steps=3, epoch_steps=1.0)
    assert [float(optimizer.share(jnp.int32(step))) for step in range(3)] == [0, 0, 0]
    longer = make_optimizer(**BARE, horizon="9", total_steps=3, epoch_steps=1.0)
    shares = [float(longer.share(jnp.int32(step))) for step in (0, 2, 4, 8, 20)]
    assert shares == [0, 0.25, 0.5, 1, 1]


def test_what_differs_is_said_by_name():
    loss = {"cross_entropy": {"top_k": 0.1}, "focal": {}, "dice": {}}
    config = page(optim={"accumulate": 4}, loss=loss)
    assert describe_accumulation(config, has_batch_stats=True) == (
        "4 batches make one update, that of one large batch but for config.loss.cross_entropy, "
        "config.loss.dice, batch normalisation, which see each batch alone"
    )
    for means in ({"cross_entropy": {}, "focal": {}}, MEANS):
        config = page(optim={"accumulate": 4}, loss=means)
        assert describe_accumulation(config, has_batch_stats=False) == ""
    assert describe_accumulation(page(loss=loss), has_batch_stats=True) == ""


def test_it_goes_on_inside_a_group(tmp_path):
    optim = {"ema_decay": 0.5, "momentum": 0.9}
    *_, state, take = prepare(3, 7, (1.0, 5.0, 0.2), **optim)
    batches, states = make_batches(7), []
    for batch in batches:
        state, _ = take(state, batch)
        states.append(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, states[4], {}, None)  # two batches of the second group
    checkpoints.wait()
    # The tree that prediction makes, which does not know how long the run is.
    optimizer = make_optimizer(**BARE | optim, accumulate=3, total_steps=999, epoch_steps=1.0)
    model, shardings = prepare(3, 7, (1.0, 5.0, 0.2), **optim)[0], make_shardings(1)
    like = abstract_state(model, optimizer, (*SIZE, 3), shardings)
    again = checkpoints.restore(5, like)
    checkpoints.close()
    for batch in batches[5:]:
        again, _ = take(again, batch)
    jax.tree.map(np.testing.assert_array_equal, again, states[-1])
    averages = [s.average for s in states]
    jax.tree.map(np.testing.assert_array_equal, averages[3], averages[4])
    changed = jax.tree.map(lambda a, b: np.any(a != b), averages[4], averages[5])
    assert all(jax.tree.leaves(changed))


def test_sums_lie_where_their_parameters_do():
    shardings = make_shardings(1, 8)
    model = UNet(K, (64, 64, 64), deep_supervision=1)
    length = {"total_steps": 9, "epoch_steps": 1.0, "heads": model.heads()}
    optimizer = make_optimizer(accumulate=2, **length)
    shapes = jax.eval_shape(make_init(model, optimizer, (16, 16, 3), shardings), jax.random.key(0))
    where = split_state(shapes, shardings)
    assert len(where.opt_state.gradients) == 2
    for sums in where.opt_state.gradients:
        assert sums == where.params
    assert any("fsdp" in x.spec for x in jax.tree.leaves(where.params))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"deep_supervision": 2},
        {"decoder": "unet3+", "deep_supervision": 1},
        {"decoder": "unet++", "deep_supervision": 2},
        {"decoder": "unet++", "deep_supervision": 2, "prune": 2},
    ],
)
def test_heads_are_those_that_a_step_trains(fields):
    model = UNet(K, (4, 4, 4, 4), norm="none", **fields)

    def heads():
        variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
        params = {"params": variables["params"]}
        image, sown = jnp.zeros((1, 8, 8, 3)), ["deep_supervision"]
        return model.apply(params, image, train=True, mutable=sown)

    _, sown = jax.eval_shape(heads)
    assert model.heads() == 1 + len(sown.get("deep_supervision", {}))


def test_schedules_count_updates():
    optim = {"learning_rate": 0.2, "accumulate": 4, "warmup": "5 steps"}
    rate = jax.jit(make_optimizer(**optim, total_steps=18, epoch_steps=1.0).schedule)
    # 5 updates, of 4, 4, 4, 4 and 2 batches, of which the first 2 are the warm-up of 5 batches.
    cosine = [0.5 * (1 + np.cos(np.pi * k / 3)) for k in (0, 1, 2)]
    expected = 0.2 * np.repeat([0.0, 0.5, *cosine], 4)[:18]
    np.testing.assert_allclose([rate(step) for step in range(18)], expected, atol=1e-7)
