"""Numbers that make no sense: one line that names the key, or a run whose first step is finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from support.configs import changed, page
from support.tasks import exclusive

from unet_jax import experiment
from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.defaults import PARTS, complete, find_section
from unet_jax.errors import UserError
from unet_jax.losses.make import make_loss
from unet_jax.optim.make import make_optimizer
from unet_jax.studies.pack.grouping import numbers_of

INF, NAN = math.inf, math.nan
NUMBERS = (-1, 0, NAN, INF, -INF, 1e30, 1e39, 1e-30, 2**32, 2**63, 10**400)
CLASSES = 6
LENGTH = {"total_steps": 40, "epoch_steps": 1.0}


def numeric_keys(section=None, prefix=""):
    """Yields the keys of a page whose values are numbers, tuples of them, or durations."""
    for key, value in (page() if section is None else section).items():
        if isinstance(value, ConfigDict):
            yield from numeric_keys(value, f"{prefix}{key}.")
        elif isinstance(value, int | float | tuple) and not isinstance(value, bool):
            yield f"{prefix}{key}", value
    if not prefix:
        yield from [("loss.cross_entropy.class_weights", (1.0,) * CLASSES)]
        # Steps and terms that the page does not name.
        for part, steps in PARTS.items():
            named = find_section(section or page(), part)
            for name, keys in steps.items():
                for key, value in keys.items() if name not in named else ():
                    if isinstance(value, int | float | tuple) and not isinstance(value, bool):
                        yield f"{part}.{name}.{key}", value


DURATIONS = ("duration", "eval_every", "checkpoint_every", "log_every")
TIMES = [f"train.{name}" for name in DURATIONS] + ["optim.warmup"]


def cases():
    """Yields every numeric key with every number that could break it, in tuples as well."""
    for key, default in numeric_keys():
        if key.startswith("data.folder"):
            continue
        for number in NUMBERS:
            if not isinstance(default, tuple):
                yield key, number
                if type(default) is float and type(number) is int and abs(number) < 1e300:
                    yield key, float(number)
            elif default and isinstance(default[0], tuple):
                yield from ((key, ((number, 0, 2),)), (key, ((2, number, 2),)))
                yield key, ((2, 0, number),)
            else:
                yield from ((key, (number,) * max(1, len(default))), (key, (number,) * 5000))
    for key in TIMES:
        numbers = ("-1", "nan", "inf", "-inf", "1e400", "1e30", "-0", str(2**63), "9" * 400)
        units = ("", " steps", " epochs", "%")
        yield from ((key, f"{number}{unit}") for number in numbers for unit in units)


@pytest.fixture(scope="module")
def outcomes():
    """Returns what `assemble` says to every case: an error's text, or the experiment's parts."""
    found = {}
    for key, value in cases():
        config = changed(key, value)
        try:
            experiment.assemble(config)
            found[key, repr(value)] = config
        except UserError as error:
            found[key, repr(value)] = str(error)
    return found


def test_every_error_is_one_line_that_names_its_key(outcomes):
    errors = {case: text for case, text in outcomes.items() if isinstance(text, str)}
    assert len(errors) > 300
    for (key, value), text in errors.items():
        assert "\n" not in text
        assert len(text) < 1000 + len(value), text[:2000]
        *_, section, name = key.split(".")
        assert f"{section}.{name}" in text or (section == "mesh" and name in text), text


def test_what_is_accepted_makes_sense(outcomes):
    """Bounds of every key, as a table apart from the program's own."""
    accepted = {(key, value) for (key, value), found in outcomes.items() if type(found) is not str}
    assert not [case for case in accepted if "nan" in case[1] or "inf" in case[1]]
    negative = {key for key, value in accepted if value.startswith(("-1", "(-1", "((-1"))}
    assert negative == {"mesh.data", "mesh.fsdp", "mesh.space"} & negative
    huge = ("1e+30", str(2**32), str(2**63), "4294967296.0")
    large = {key for key, value in accepted if value in huge}
    # A huge rate or decay diverges, and the next step says so; any distance may be tolerated.
    free = {"optim.learning_rate", "optim.weight_decay", "optim.clip_norm"}
    free |= {"eval.metrics.surface.tolerance"}
    free |= {"eval.tiles.whole"}  # no image is large then
    assert large == free | {"eval.shown", "model.squeeze_excite"}


def numbers_in(config):
    """Returns the numbers of a config that packs trace, with all steps and terms, as floats."""
    values = complete(config).to_dict()
    for section in ("augment", "loss"):
        values[section] = PARTS[section] | values[section]
    values["loss"]["cross_entropy"] |= {
        "class_weights": values["loss"]["cross_entropy"]["class_weights"] or (1.0,) * CLASSES
    }
    found = {"augment": {}, "loss": {}, "optim": {}}
    for *path, name in numbers_of(ConfigDict(values)):
        if path[0] in found:
            section, taken = values, found
            for part in path:
                section, taken = section[part], taken.setdefault(part, {})
            taken[name] = jax.tree.map(float, section[name])
    return found


def test_a_step_of_what_is_accepted_is_finite(outcomes):
    rng = np.random.default_rng(0)
    image, label, weight = (rng.integers(0, n, (2, 4, 4), np.uint8) for n in (256, CLASSES, 2))
    image = np.repeat(image[..., None], 3, -1)
    extras = {"border": jnp.ones((2, 4, 4)), "distance": jnp.full((2, 4, 4, CLASSES), -2.0)}
    params = {"logits": jnp.asarray(rng.normal(size=(2, 4, 4, CLASSES)), jnp.float32)}

    @jax.jit
    def step(numbers):  # compiled once, since the numbers are inputs
        own_loss = make_loss(numbers["loss"], exclusive(CLASSES))
        augment = make_augment(numbers["augment"], RGB.value_range)
        optimizer = make_optimizer(**numbers["optim"], **LENGTH)
        pixels, _, _ = augment(image, label, weight, jax.random.key(0))
        batch = label, weight * 1.0, extras
        compute = jax.value_and_grad(lambda p: own_loss(p["logits"], *batch))
        value, gradient = compute(params)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        norm = optax.tree.norm(gradient)
        return norm, (value, norm, optimizer.schedule(0), updates["logits"], pixels)

    tried = set()
    for config in outcomes.values():
        if isinstance(config, str):
            continue
        numbers = numbers_in(config)
        if str(numbers) not in tried:
            norm, found = step(numbers)
            assert norm > 0, numbers
            assert all(np.all(np.isfinite(x)) for x in found), numbers
            tried.add(str(numbers))
    assert len(tried) > 15


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("optim.clip_norm", -1.0, "clip_norm=-1.0 must be 0 or more"),
        ("optim.weight_decay", -1.0, "weight_decay=-1.0 must be 0 or more"),
        ("optim.momentum", 1.5, r"momentum=1.5 must be in \[0, 1\)"),
        ("optim.momentum", -0.1, r"momentum=-0.1 must be in \[0, 1\)"),
        ("optim.warmup", "1000%", "warmup='1000%' is more than the whole run"),
        ("optim.warmup", "41 steps", "warmup='41 steps' is 41 steps, and the run has 40"),
        ("loss.dice.weight", -1.0, r"dice\.weight=-1.0 must be from 0 to 1e.06"),
        (
            "loss.cross_entropy.class_weights",
            (0.0,) * 6,
            r"class_weights=\(0.0, .* one or more of them above 0",
        ),
        ("augment.zoom.aspect", INF, "aspect=inf must be finite"),
        ("augment.zoom.scale", (1.0, NAN), r"scale\[1\]=nan must be finite"),
        ("augment.zoom.scale", (1.0, 1e30), r"zoom\.scale=\(1.0, 1e.30\) must be"),
        ("model.dropout", (NAN,), r"dropout\[0\]=nan must be finite"),
        ("model.width", NAN, "width=nan must be finite"),
        ("optim.learning_rate", 1e39, "learning_rate=1e.39 must be finite, also as float32"),
        ("train.seed", 2**32, "seed=4294967296 must be 4294967295 or less"),
        ("data.context", 5000, "context=5000 must be 4096 or less"),
        ("data.split_seed", 2**32, "split_seed=4294967296 must be 4294967295 or less"),
        ("data.synthetic.seed", 2**32, "seed=4294967296 must be 4294967295 or less"),
        ("train.duration", "1e400 steps", "duration='1e400 steps' is more than the 2,147,483,647"),
        ("train.duration", "-3 steps", "duration='-3 steps' is no duration"),
        ("model.features", (4,) * 999, r"features=\(4, 4, 4, 4, ... 999 values\) must be"),
    ],
)
def test_one_line(key, value, says):
    with pytest.raises(UserError, match=says) as error:
        experiment.assemble(changed(key, value))
    assert f"config.{key}" in str(error.value)
    assert "\n" not in str(error.value)


def test_seeds_below_the_bound_differ():
    keys = {tuple(jax.random.key_data(jax.random.key(s)).tolist()) for s in (0, 2**31, 2**32 - 1)}
    assert len(keys) == 3
