import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax.config import call
from unet_jax.errors import UserError
from unet_jax.optim.make import check_optimizer, make_optimizer
from unet_jax.optim.rates import check_parts
from unet_jax.optim.schedule import make_schedule


def make(**arguments):
    return make_optimizer(**{"total_steps": 100, "epoch_steps": 10.0, **arguments})


def make_checked(**arguments):
    length = {"total_steps": arguments.pop("total_steps", 100), "epoch_steps": 10.0}
    return call(make_optimizer, "config.optim", arguments, check_optimizer, **length)


def run(optimizer, params, given):
    """Takes steps as the train step does; returns the parameters and their average."""
    state, average = optimizer.init(params), optimizer.begin_average(params)
    for step, arguments in enumerate(given):
        updates, state = optimizer.update(*arguments, state, params)
        params = optax.apply_updates(params, updates)
        average = optimizer.average(average, params, state, jnp.asarray(step))
    return params, average


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    tree = lambda: {"kernel": jnp.asarray(rng.normal(size=(3, 2))), "bias": jnp.ones(2)}  # noqa: E731
    return tree(), [tree() for _ in range(6)]


def test_schedules_by_their_formulas():
    for step in (0, 5, 10, 40, 99, 100):
        warm, rest = min(step / 10, 1), max(0, step - 10) / 90
        expected = {
            "cosine": 0.5 * (1 + np.cos(np.pi * rest)),
            "polynomial": (1 - rest) ** 0.9,
            "constant": 1.0,
        }
        for kind, factor in expected.items():
            found = make_schedule(kind, 0.2, 10, 100)(step)
            np.testing.assert_allclose(found, 0.2 * (warm if step < 10 else factor), atol=1e-7)


def test_sgd_by_its_formula(problem):
    params, gradients = problem
    arguments = {"schedule": "constant", "warmup": "0", "clip_norm": 0.0, "learning_rate": 0.1}
    optimizer = make(name="sgd", momentum=0.8, weight_decay=0.01, **arguments)
    found, _ = run(optimizer, params, zip(gradients))
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        p, trace = np.float64(params[name]), 0.0
        for gradient in gradients:
            g = np.float64(gradient[name])
            trace = g + 0.8 * trace
            p = p - 0.1 * (g + 0.8 * trace + decay * p)
        np.testing.assert_allclose(found[name], p, rtol=1e-5)


def test_adamw_by_its_formula(problem):
    params, gradients = problem
    arguments = {"schedule": "constant", "warmup": "0", "clip_norm": 0.0, "learning_rate": 0.1}
    optimizer = make(momentum=0.7, weight_decay=0.01, **arguments)
    found, _ = run(optimizer, params, zip(gradients))
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        p, m, v = np.float64(params[name]), 0.0, 0.0
        for t, gradient in enumerate(gradients, 1):
            g = np.float64(gradient[name])
            m, v = 0.7 * m + 0.3 * g, 0.999 * v + 0.001 * g**2
            step = (m / (1 - 0.7**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            p = p - 0.1 * (step + decay * p)
        np.testing.assert_allclose(found[name], p, rtol=1e-4, atol=1e-5)


PLAIN = {"schedule": "constant", "warmup": "0", "clip_norm": 0.0, "learning_rate": 0.1}


def test_lion_by_its_formula(problem):
    params, gradients = problem
    found, _ = run(
        make(name="lion", momentum=0.7, weight_decay=0.01, **PLAIN), params, zip(gradients)
    )
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):  # Chen et al., 2023, algorithm 2
        p, m = np.float64(params[name]), 0.0
        for gradient in gradients:
            g = np.float64(gradient[name])
            p = p - 0.1 * (np.sign(0.7 * m + 0.3 * g) + decay * p)
            m = 0.99 * m + 0.01 * g
        np.testing.assert_allclose(found[name], p, rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_schedule_free_by_its_equations(problem, accumulate):
    params, gradients = problem
    own = PLAIN | {"warmup": "2 steps"}
    optimizer = make(
        name="schedule_free_adamw",
        momentum=0.8,
        weight_decay=0.01,
        accumulate=accumulate,
        total_steps=6 * accumulate,
        **own,
    )
    weigh = (lambda g: (g,)) if accumulate == 1 else (lambda g: ([g], [jnp.ones(())]))
    given = [weigh(g) for g in gradients for _ in range(accumulate)]
    found, average = run(optimizer, params, given)
    warmup = -(-2 // accumulate)
    for name, decay in (("kernel", 0.01), ("bias", 0.0)):
        # Defazio et al., 2024, algorithm 1 with Adam's step; weights are squares of the rate.
        y = z = x = np.float64(params[name])
        v, weights = 0.0, 0.0
        for t, gradient in enumerate(gradients, 1):
            g = np.float64(gradient[name])
            v = 0.999 * v + 0.001 * g**2
            rate = 0.1 * min((t - 1) / warmup, 1)
            z = z - rate * (g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * y)
            weight = (0.1 * min(t / warmup, 1)) ** 2
            weights += weight
            x = x + weight / weights * (z - x)
            y = 0.8 * x + 0.2 * z
        np.testing.assert_allclose(found[name], y, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(average[name], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_mean_of_late_parameters(problem, accumulate):
    params, gradients = problem
    plain = {"accumulate": accumulate, "total_steps": 6, "schedule": "constant", "warmup": "0"}
    weigh = (lambda g: (g,)) if accumulate == 1 else (lambda g: ([g], [jnp.ones(())]))
    counts = range(accumulate, 7, accumulate)
    after = [run(make(**plain), params, map(weigh, gradients[:n]))[0]["kernel"] for n in counts]
    for late, start in (("50%", 3), ("4 steps", 4), ("0", 0), ("100%", 6)):
        _, average = run(make(swa_from=late, **plain), params, map(weigh, gradients))
        first = min(-(-start // accumulate), len(after) - 1)
        expected = np.mean(np.float64(after[first:]), axis=0)
        np.testing.assert_allclose(average["kernel"], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion", "schedule_free_adamw"])
def test_parts_have_rates_of_their_own(problem, name):
    leaves, gradients = problem
    nest = lambda tree: {"encoder_0": dict(tree), "head": {"Conv_0": dict(tree)}}  # noqa: E731
    params, given = nest(leaves), [(nest(g),) for g in gradients]
    rates = (("encoder_0/bias", 3.0), ("encoder*", 0.5), ("*/bias", 2.0))
    rates_of = {
        ("encoder_0", "kernel"): 0.5,
        ("encoder_0", "bias"): 3.0,
        ("head", "Conv_0", "kernel"): 1.0,
        ("head", "Conv_0", "bias"): 2.0,
    }
    plain = PLAIN | {"name": name, "weight_decay": 0.1}
    found, _ = run(make(rates=rates, **plain), params, given)
    for place, rate in rates_of.items():  # alone, with that learning rate
        optimizer = make(**plain | {"learning_rate": 0.1 * rate})
        expected, _ = run(optimizer, leaves, zip(gradients))
        leaf = found
        for part in place:
            leaf = leaf[part]
        np.testing.assert_allclose(leaf, expected[place[-1]], rtol=2e-5, atol=2e-6)
    optimizer = make(frozen=("encoder_*",), **plain)
    found, average = run(optimizer, params, given)
    assert not (
        np.asarray(found["head"]["Conv_0"]["bias"]) == params["head"]["Conv_0"]["bias"]
    ).any()
    for tree in filter(None, (found, average)):
        for part in leaves:
            np.testing.assert_array_equal(tree["encoder_0"][part], params["encoder_0"][part])


def test_parts_that_are_not_there():
    params = {"encoder_0": {"Conv_0": {"kernel": 0}}, "head": {"bias": 0}}
    check_parts(("encoder_?",), (("*/kernel", 2.0), ("head", 0.5)), params)
    for frozen, rates, message in (
        (
            ("encoder",),
            (),
            r"config\.model\.frozen names 'encoder', .* parts are encoder_0, head\.",
        ),
        (("encoder_0/Conv_0",), (), "names 'encoder_0/Conv_0', and no part"),
        ((), (("head", 2.0), ("tail*", 2.0)), r"config\.optim\.rates names 'tail\*'"),
        (("enc*", "head"), (), "leaves no part of the model to train"),
    ):
        with pytest.raises(UserError, match=message):
            check_parts(frozen, rates, params)


def test_clipping_by_the_global_norm(problem):
    params, (gradient, *_) = problem
    plain = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}
    optimizer = make(warmup="0", clip_norm=0.5, learning_rate=1.0, **plain)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    assert optax.tree.norm(gradient) > 0.5
    np.testing.assert_allclose(optax.tree.norm(updates), 0.5, rtol=1e-6)


def test_accumulation_weighs_gradients(problem):
    params, gradients = problem
    arguments = {"warmup": "0", "schedule": "constant", "clip_norm": 1.0, "ema_decay": 0.5}
    optimizer = make(accumulate=3, total_steps=5, **arguments)
    weights = [1.0, 0.0, 3.0, 0.5, 2.5]
    given = [([g], [jnp.asarray(w)]) for g, w in zip(gradients[:5], weights, strict=True)]
    found, average = run(optimizer, params, given)

    def mean(start, stop):
        own = weights[start:stop]
        return jax.tree.map(
            lambda *g: sum(w * x for w, x in zip(own, g, strict=True)) / sum(own),
            *gradients[start:stop],
        )

    expected, expected_average = run(make(**arguments), params, zip([mean(0, 3), mean(3, 5)]))
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
        np.testing.assert_allclose(average[name], expected_average[name], rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_average_by_its_formula(problem, accumulate):
    params, gradients = problem
    plain = {"warmup": "0", "schedule": "constant", "accumulate": accumulate, "total_steps": 6}
    optimizer = make(ema_decay=0.3, **plain)
    weigh = (lambda g: (g,)) if accumulate == 1 else (lambda g: ([g], [jnp.ones(())]))
    _, average = run(optimizer, params, map(weigh, gradients))
    expected, after, t = params["kernel"], [], 0
    for count in range(1, 7):
        after.append(run(optimizer, params, map(weigh, gradients[:count]))[0]["kernel"])
        if count % accumulate == 0 or count == 6:
            d = min(0.3, (1 + t) / (10 + t))
            expected, t = d * expected + (1 - d) * after[-1], t + 1
    np.testing.assert_allclose(average["kernel"], expected, rtol=1e-5)
    without = make(**plain)
    assert without.begin_average(params) == without.average({}, params, (), jnp.asarray(0)) == {}


def test_the_logged_rate_is_the_one_that_is_used(problem):
    params, gradients = problem
    plain = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}
    optimizer = make(warmup="5%", **plain)
    state = optimizer.init(params)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update(gradient, state, params)
        np.testing.assert_allclose(
            updates["kernel"], -optimizer.schedule(step) * gradient["kernel"], rtol=1e-5, atol=1e-9
        )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "adam"}, "config.optim.name='adam'"),
        ({"schedule": "step"}, "config.optim.schedule='step'"),
        ({"warmup": "soon"}, "config.optim.warmup='soon'"),
        ({"learning_rate": 0.0}, "config.optim.learning_rate=0.0"),
        ({"accumulate": 0}, "config.optim.accumulate=0"),
        ({"ema_decay": 1.0}, "config.optim.ema_decay=1.0"),
        ({"swa_from": "late"}, "config.optim.swa_from='late'"),
        ({"swa_from": "50%", "ema_decay": 0.9}, "swa_from='50%' and config.optim.ema_decay=0.9"),
        ({"rates": (("head", -1.0),)}, r"config.optim.rates=\(\('head', -1.0\),\) must be pairs"),
        ({"rates": ("head", 2.0)}, "must be pairs of a pattern and a factor"),
        (
            {"name": "schedule_free_adamw", "ema_decay": 0.5},
            "set config.optim.schedule='constant' and config.optim.ema_decay=0.0",
        ),
        (
            {"name": "schedule_free_adamw", "schedule": "constant", "momentum": 0.0},
            "set config.optim.momentum above 0",
        ),
        (
            {"warmup": "101 steps"},
            "config.optim.warmup='101 steps' is 101 steps, and the run has 100",
        ),
    ],
)
def test_values_that_do_not_fit(arguments, named):
    with pytest.raises(UserError, match=named):
        make_checked(**arguments)


@pytest.mark.parametrize("kind", ["cosine", "polynomial", "constant"])
def test_a_run_of_a_horizon_begins_as_a_run_of_that_length(kind):
    same = {"schedule": kind, "warmup": "20%", "accumulate": 3}
    rate = make(**same, horizon="7 epochs", total_steps=11).schedule
    longer = make(**same, total_steps=70).schedule
    assert [rate(step) for step in range(11)] == [longer(step) for step in range(11)]
    with pytest.raises(UserError, match=r"horizon='1 epoch' is 10 steps, and config\.train.dur"):
        make_checked(horizon="1 epoch", total_steps=11)


@pytest.mark.parametrize("kind", ["cosine", "polynomial", "constant"])
def test_a_warm_up_ends_before_the_last_update(kind):
    for total, warmup, expected in (
        (1, 1, 0),
        (1, 0, 0),
        (2, 2, 1),
        (2, 1, 1),
        (9, 9, 8),
        (9, 4, 4),
    ):
        rate = make(
            warmup=f"{warmup} steps", schedule=kind, learning_rate=0.2, total_steps=total
        ).schedule
        for step in range(total):
            rest = (step - expected) / max(1, total - expected)
            after = {
                "cosine": 0.5 * (1 + np.cos(np.pi * rest)),
                "polynomial": (1 - max(rest, 0)) ** 0.9,
                "constant": 1.0,
            }[kind]
            factor = step / expected if step < expected else after
            np.testing.assert_allclose(rate(step), 0.2 * factor, atol=1e-7)
        assert rate(total - 1) > 0
