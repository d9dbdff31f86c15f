"""Value and gradient of every term, against loops in float64 and differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import loss_truth
from support.configs import make_config
from support.tasks import exclusive

from unet_jax.defaults import page
from unet_jax.errors import UserError
from unet_jax.experiment import assemble
from unet_jax.losses.by_rule import find_rules
from unet_jax.losses.make import TERMS, check_loss, make_loss
from unet_jax.losses.tubes import soft_skeleton
from unet_jax.sharding import make_shardings
from unet_jax.task import make_task

SECTIONS = {
    "cross_entropy": {"cross_entropy": {}},
    "top_k": {"cross_entropy": {"top_k": 0.3}},
    "border": {"cross_entropy": {"border_weight": 3.0}},
    "binary_cross_entropy": {"binary_cross_entropy": {}},
    "boundary": {"boundary": {}},
    "focal": {"focal": {}},
    "focal_half": {"focal": {"gamma": 0.5}},
    "dice": {"dice": {}},
    "generalised_dice": {"generalised_dice": {}},
    "tversky": {"tversky": {}},
    "focal_tversky": {"tversky": {"false_positives": 0.2, "gamma": 4 / 3}},
    "lovasz": {"lovasz": {}},
    "lovasz_hinge": {"lovasz_hinge": {}},
    "cldice": {"cldice": {"iterations": 1}},
}
SHAPES = {
    "one class": ((2, 3, 4), 1),
    "two classes": ((2, 3, 4), 2),
    "seven classes": ((2, 2, 5), 7),
    "volumes": ((1, 3, 2, 4), 3),
    "multilabel": ((2, 3, 4), 3),
    "one pixel of one channel": ((1, 1, 1), 1),
    "regions": ((1, 4, 3), 3),
}
CASES = ("random", "absent", "ignored", "one pixel", "all ignored")


def make_problem(kind):
    """Returns a task, the shape [B, *n], and label and `on` [..., K] from class ids or bits."""
    shape, count = SHAPES[kind]
    names = tuple(map(str, range(count)))
    if kind in ("multilabel", "one pixel of one channel"):
        return make_task("multilabel", class_names=names), shape, count
    if kind == "regions":
        regions = (("a", (1, 2), 1), ("b", (2, 3), 2), ("c", (3,), 3))
        return make_task("regions", regions, class_names=("0", "1", "2", "3")), shape, count
    return exclusive(count), shape, count


def make_case(kind, case):
    """Returns a task and logits [B, *n, K], label, weight [B, *n] and `on` [B, *n, K]."""
    task, shape, count = make_problem(kind)
    rng = np.random.default_rng((sorted(SHAPES).index(kind), CASES.index(case)))
    logits = 2 * rng.normal(size=(*shape, count)).astype(np.float32)
    last = count - 1 if case == "absent" and count > 1 else count
    if task.label_shape:
        label = rng.integers(0, 2, (*shape, count))
        label[..., last:] = 0
        on = label
    elif kind == "regions":
        label = rng.integers(0, last + 1, shape)
        on = np.stack([np.isin(label, ids) for ids in ((1, 2), (2, 3), (3,))], -1)
    else:
        label = rng.integers(0, last, shape)
        on = label[..., None] == np.arange(count)
    weight = np.ones(shape, np.float32)
    if case == "ignored":
        weight = rng.uniform(0.2, 2.0, shape).astype(np.float32) * (rng.random(shape) < 0.6)
    elif case != "random":
        weight = weight * (case == "absent")
        weight.flat[weight.size // 2] = case in ("absent", "one pixel")
    return task, logits, label, weight.astype(np.float32), on.astype(np.float64)


@functools.cache
def compiled(kind, names=tuple(SECTIONS)):
    """Returns values and gradients of a task as one program."""
    task, _, _ = make_problem(kind)

    @jax.jit
    def compute(logits, label, weight):
        losses = {name: make_loss(SECTIONS[name], task) for name in names}
        batch = logits, label, weight, make_extras(logits.shape)
        return {name: jax.value_and_grad(loss)(*batch) for name, loss in losses.items()}

    return compute


def make_extras(shape):
    rng = np.random.default_rng(5)
    border, distance = rng.random(shape[:-1]), 3 * rng.normal(size=shape)
    return {"border": border.astype(np.float32), "distance": distance.astype(np.float32)}


def truths(kind, task, label, weight, on):
    """Returns the loop of each loss as a function of logits [B, *n, K]."""
    found, extras = {}, make_extras(on.shape)
    for name, section in SECTIONS.items():
        ((term, keys),) = section.items()
        more = {"shape": weight.shape} if term == "cldice" else {}
        if term == "boundary":
            more = {"distance": extras["distance"].reshape(-1, on.shape[-1])}
        if "border_weight" in keys:
            more = {"border": extras["border"].ravel()}
        function = functools.partial(
            getattr(loss_truth, term),
            on=on.reshape(-1, on.shape[-1]),
            weight=np.float64(weight).ravel(),
            exclusive=task.decides == "ids",
            **keys,
            **more,
        )
        found[name] = lambda z, f=function: f(z.reshape(-1, z.shape[-1]))
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", SHAPES)
def test_value_and_gradient_equal_a_loop(kind, case):
    task, logits, label, weight, on = make_case(kind, case)
    found = jax.device_get(compiled(kind)(logits, label, weight))
    rng = np.random.default_rng(0)
    places = rng.permutation([*np.ndindex(logits.shape)])[:5]
    for name, truth in truths(kind, task, label, weight, on).items():
        value, gradient = found[name]
        assert np.isfinite(gradient).all(), name
        np.testing.assert_allclose(value, truth(logits), rtol=2e-5, atol=2e-6, err_msg=name)
        assert not gradient[weight == 0].any(), name
        for place in map(tuple, places):
            expected = loss_truth.derivative(truth, logits, place)
            np.testing.assert_allclose(
                gradient[place], expected, rtol=1e-3, atol=2e-6, err_msg=f"{name} {place}"
            )
        if case == "all ignored":
            assert value == 0, name


@pytest.mark.parametrize("kind", ["two classes", "seven classes", "multilabel", "regions"])
def test_ignored_pixels_and_far_logits(kind):
    """What is ignored changes no byte; logits of +-100 leave gradients finite."""
    task, logits, label, weight, _ = make_case(kind, "ignored")
    compute = compiled(kind)
    there = (weight > 0)[..., None]
    other_label = np.where(there if task.label_shape else weight > 0, label, 1)
    found = compute(logits, label, weight)
    other = compute(np.where(there, logits, 7 - 9 * logits), other_label, weight)
    jax.tree.map(np.testing.assert_array_equal, found, other)
    for sign in (1, -1):
        far = 100 * sign * np.sign(logits)
        for leaf in jax.tree.leaves(compute(far, label, weight)):
            assert np.isfinite(leaf).all()


def test_no_gradient_where_everything_is_right():
    """At logits that are certain and right losses are 0, and so are their gradients."""
    _, _, label, weight, on = make_case("seven classes", "random")
    far = np.float32(400 * on - 200)
    for name, (value, gradient) in compiled("seven classes")(far, label, weight).items():
        if name != "boundary":  # which is the least there, but not 0
            np.testing.assert_allclose(value, 0, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(gradient, 0, atol=1e-6, err_msg=name)


def test_eight_devices_are_one():
    """Sums, ranks and neighbours are those of the whole batch, whoever holds its rows."""
    rng, shape = np.random.default_rng(2), (4, 8, 3)
    logits = rng.normal(size=(*shape, 3)).astype(np.float32)
    label, weight = rng.integers(0, 3, shape), rng.random(shape).astype(np.float32)
    weight *= rng.random(shape) < 0.8
    compute = compiled("volumes", ("top_k", "generalised_dice", "lovasz", "cldice"))
    where = make_shardings(4, space=2).images
    one = compute(logits, label, weight)
    eight = compute(*(jax.device_put(x, where) for x in (logits, label, weight)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        jax.device_get(one),
        jax.device_get(eight),
    )


def test_alpha_and_class_weights_of_channels_and_classes():
    alpha = (0.25, 0.9, 0.5)
    for kind in ("multilabel", "volumes"):
        task, logits, label, weight, on = make_case(kind, "ignored")
        value = make_loss({"focal": {"alpha": alpha}}, task)(
            *map(jnp.asarray, (logits, label, weight))
        )
        flat = logits.reshape(-1, 3), on.reshape(-1, 3), weight.ravel(), task.decides == "ids"
        np.testing.assert_allclose(value, loss_truth.focal(*flat, alpha=alpha), rtol=2e-5)
        loss = make_loss({"cross_entropy": {"class_weights": alpha, "top_k": 0.4}}, task)
        expected = loss_truth.cross_entropy(*flat, top_k=0.4, class_weights=alpha)
        np.testing.assert_allclose(loss(logits, label, weight), expected, rtol=2e-5)


@pytest.mark.parametrize("kind", ["multilabel", "volumes"])
def test_means_over_classes_by_weights_equal_a_loop(kind):
    sections = {
        "dice": {"class_weights": (0.5, 3.0, 0.0)},
        "tversky": {"class_weights": (2.0, 0.1, 1e6), "gamma": 4 / 3},
        "lovasz": {"class_weights": (0.2, 1.5, 40.0)},
        "lovasz_hinge": {"class_weights": (0.2, 0.0, 7.0)},
        "focal": {"alpha": (0.1, 0.7, 0.3), "gamma": 1.5},
    }
    task, *_ = make_problem(kind)

    @jax.jit
    def compute(logits, label, weight):
        losses = {name: make_loss({name: keys}, task) for name, keys in sections.items()}
        batch = logits, label, weight
        return {name: jax.value_and_grad(loss)(*batch) for name, loss in losses.items()}

    for case in ("ignored", "absent"):
        _, logits, label, weight, on = make_case(kind, case)
        found = jax.device_get(compute(logits, label, weight))
        for name, keys in sections.items():
            flat = on.reshape(-1, 3), np.float64(weight).ravel(), task.decides == "ids"

            def truth(z, name=name, flat=flat, keys=keys):
                return getattr(loss_truth, name)(z.reshape(-1, 3), *flat, **keys)

            value, gradient = found[name]
            np.testing.assert_allclose(value, truth(logits), rtol=2e-5, err_msg=name)
            for place in [*np.ndindex(logits.shape)][::13]:
                expected = loss_truth.derivative(truth, logits, place)
                np.testing.assert_allclose(
                    gradient[place], expected, rtol=1e-3, atol=2e-6, err_msg=f"{name} {place}"
                )


def test_a_rule_finds_the_factors_of_several_terms():
    config = make_config()
    terms = {"focal": {"alpha": "balanced"}, "dice": {"class_weights": "balanced"}}
    config.loss = page(loss=terms).loss
    made = assemble(config)
    train = made.dataset.splits["train"]
    labels = [train.read(index).label for index in range(len(train))]
    pixels = np.bincount(np.concatenate([x[x < 6] for x in labels]), minlength=6)
    inverse = [1 / n if n else 0.0 for n in pixels.tolist()]
    present = sum(n > 0 for n in pixels)
    dice = [pixels.sum() * one / present for one in inverse]
    assert made.config.loss.dice.class_weights == pytest.approx(dice)
    assert made.config.loss.focal.alpha == pytest.approx([x / sum(inverse) for x in inverse])
    assert made.class_weights.rule == "balanced"


@pytest.mark.parametrize(
    ("section", "kind", "named"),
    [
        (
            {
                "tversky": {"class_weights": ("balanced",)},
                "focal": {"alpha": ("median_frequency",)},
            },
            "seven classes",
            r"tversky\.class_weights='balanced' and .*alpha='median_frequency' are two rules",
        ),
        ({"focal": {"alpha": ("balanced",)}}, "multilabel", "is for classes that exclude each"),
    ],
)
def test_rules_that_no_run_can_have(section, kind, named):
    with pytest.raises(UserError, match=named):
        find_rules(section, make_problem(kind)[0])


def test_focal_is_optax_where_channels_are_independent():
    task, logits, label, weight, on = make_case("multilabel", "random")
    expected = optax.losses.sigmoid_focal_loss(logits, on.astype(np.float32), alpha=0.25, gamma=1.5)
    loss = make_loss({"focal": {"gamma": 1.5, "alpha": (0.25,) * 3}}, task)
    np.testing.assert_allclose(loss(logits, label, weight), expected.mean(), rtol=2e-5)


def test_pixels_with_equal_losses_count_together():
    """All that are equal to the last of the greatest count, in whatever order they lie."""
    task, label = exclusive(2), np.zeros((1, 1, 8), int)
    logits = np.zeros((1, 1, 8, 2), np.float32)
    logits[0, 0, :, 1] = (3, 1, 1, 1, 1, -2, 5, 5)
    weight = np.float32([[[1, 1, 1, 1, 1, 1, 0, 0]]])
    own = np.log1p(np.exp(np.float64([3, 1, 1, 1, 1])))
    for share, count in ((0.16, 1), (0.17, 1), (0.34, 5), (0.84, 5), (1.0, 6)):
        loss = make_loss({"cross_entropy": {"top_k": share}}, task)
        expected = own[:count].mean() if count < 6 else (own.sum() + np.log1p(np.exp(-2))) / 6
        np.testing.assert_allclose(loss(logits, label, weight), expected, rtol=1e-5)


def test_log_odds_keep_their_digits():
    logits = np.float32([[90, -3, 1], [0, 0, 0], [1e-3, 80, -80], [30, 30, -1]])
    z = np.float64(logits)
    others = np.stack([np.logaddexp.reduce(np.delete(z, k, -1), axis=-1) for k in range(3)], -1)
    found = exclusive(3).log_odds(jnp.asarray(logits))
    np.testing.assert_allclose(found, z - others, rtol=1e-6, atol=1e-12)


def test_skeletons_are_one_pixel_wide():
    """A bar of 5 x 15 pixels becomes its middle line, and a cuboid too."""
    for size, bar, line in (
        ((9, 19), np.s_[2:7, 2:17], np.s_[4, 4:15]),
        ((9, 9, 19), np.s_[2:7, 2:7, 2:17], np.s_[4, 4, 4:15]),
    ):
        image = np.zeros(size, np.float32)
        image[bar] = 1
        counts = jnp.ones((1, *size, 1), bool)
        thin = soft_skeleton(jnp.asarray(image)[None, ..., None], counts, 4)[0, ..., 0]
        expected = loss_truth.skeleton(image, np.ones(size, bool), 4)
        np.testing.assert_array_equal(thin, expected)
        inner = np.zeros(size)
        inner[line] = 1
        assert (expected >= inner).all()
        middle = (*(slice(None),) * (len(size) - 1), slice(6, 13))
        np.testing.assert_array_equal(expected[middle], inner[middle])


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"cross_entropy": {"top_k": 1.5}}, r"cross_entropy\.top_k=1\.5 must be the share"),
        ({"focal": {"gamma": -1.0}}, r"config\.loss\.focal\.gamma=-1\.0 must be 0 or more"),
        ({"focal": {"alpha": (0.5, 0.5)}}, r"focal\.alpha=\(0\.5, 0\.5\) has 2 values for 4"),
        ({"focal": {"alpha": (2.0,) * 4}}, r"focal\.alpha=.* must be numbers from 0 to 1"),
        ({"dice": {"ramp": (1.0,)}}, r"loss\.dice\.ramp=\(1\.0,\) must be two factors"),
        ({"boundary": {"ramp": (0.0, 1.5)}}, r"boundary\.ramp=\(0\.0, 1\.5\) must be two factors"),
        ({"dice": {"class_weights": (1.0,)}}, r"loss\.dice\.class_weights=.* has 1 values for 4"),
        ({"lovasz": {"class_weights": (0.0,) * 4}}, r"lovasz\.class_weights=.* above 0"),
        ({"tversky": {"class_weights": ("much",)}}, r"tversky\.class_weights=.* has 1 values"),
        ({"tversky": {"gamma": 0.5}}, r"config\.loss\.tversky\.gamma=0\.5 must be 1 or more"),
        (
            {"tversky": {"false_positives": 0.0, "false_negatives": 0.0}},
            r"tversky\.false_positives=0\.0 and .*false_negatives=0\.0 must not both be 0",
        ),
        ({"cldice": {"iterations": -1}}, r"config\.loss\.cldice\.iterations=-1 must be 0 or more"),
        ({"cldice": {"classes": (4,)}}, r"cldice\.classes=\(4,\) must be different .* 0 to 3"),
        ({"cldice": {"classes": (1, 1)}}, r"cldice\.classes=\(1, 1\) must be different"),
    ],
)
def test_values_out_of_range(section, named):
    with pytest.raises(UserError, match=named):
        check_loss(section, num_classes=4)


def test_every_term_is_tested():
    assert {name for section in SECTIONS.values() for name in section} == set(TERMS)
