"""Which trials can be one program."""

from pathlib import Path

import numpy as np
import pytest

from unet_jax.compare import other_results
from unet_jax.defaults import to_config
from unet_jax.experiment import assemble
from unet_jax.studies.pack.grouping import numbers_of, pack, program_of, varying
from unet_jax.studies.pack.step import Member, inputs_of
from unet_jax.studies.pages import make_config


def page(**overrides):
    values = {
        "augment.colour.contrast": 0.1,
        "augment.zoom.aspect": 1.0,
        "loss.cross_entropy.class_weights": (1.0,) * 6,
        "model.dropout": (0.0, 0.5),
    }
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    return make_config("configs/tiny.py", values | given)


@pytest.mark.parametrize(
    "numbers",
    [
        {"train__seed": 7},
        {"optim__learning_rate": 0.1, "optim__momentum": 0.5, "optim__weight_decay": 0.0},
        {"optim__ema_decay": 0.5, "loss__dice__weight": 0.0},
        {"loss__cross_entropy__class_weights": (1.0, 2.0, 0.0, 1.0, 1.0, 1.0)},
        {"augment__colour__contrast": 0.7},
        {"model__dropout": (0.0, 0.1)},
    ],
)
def test_numbers_make_no_other_program(numbers):
    assert program_of(page(**numbers)) == program_of(page())


@pytest.mark.parametrize(
    "change",
    [
        {"model__up": "bilinear"},
        {"model__features": (4, 16)},
        {"train__duration": "41 steps"},
        {"train__batch_size": 16},
        {"data__split_seed": 1},
        {"data__folds": 3},
        {"optim__name": "sgd"},
        {"augment__flip__up_down": True},
        {"optim__ema_decay": 0.0},
        {"augment__colour__contrast": 0.0},
        {"augment__zoom__scale": (0.5, 1.0)},
        {"augment__zoom__aspect": 1.5},
        {"loss__cross_entropy__label_smoothing": 0.1},
        {"loss__cross_entropy__class_weights": ()},
        {"model__dropout": (0.5, 0.5)},
        {"model__dropout": ()},
    ],
)
def test_what_changes_the_program(change):
    assert program_of(page(**change)) != program_of(page())


def test_two_zooms_are_one_program():
    first, second = ({"augment__zoom__scale": zoom} for zoom in ((0.5, 1.0), (1.0, 2.0)))
    assert program_of(page(**first)) == program_of(page(**second))


def test_packs_hold_one_program_each_and_are_even():
    programs = {f"t{i}": "AB"[i % 5 == 0] for i in range(12)}  # 3 of B, 9 of A
    packs = pack(programs, 4)
    assert [len(names) for names in packs] == [3, 3, 3, 3]
    assert sorted(name for names in packs for name in names) == sorted(programs)
    assert all(len({programs[name] for name in names}) == 1 for names in packs)
    assert packs[0] == ("t0", "t5", "t10")


def test_varying_are_the_numbers_that_differ_but_seeds():
    configs = [page(), page(train__seed=1, optim__learning_rate=0.5, loss__dice__weight=2.0)]
    rate = configs[0].optim.learning_rate
    assert varying(configs) == {
        ("optim", "learning_rate"): [rate, 0.5],
        ("loss", "dice", "weight"): [1.0, 2.0],
    }


def test_the_numbers_are_those_that_the_functions_say():
    """A list apart from the signatures; those that switch something off where they are 0."""
    numbers, switches = (
        {".".join(path) for path, kind in numbers_of(page()).items() if kind.switches is switching}
        for switching in (False, True)
    )
    assert numbers == {
        "train.seed",
        "augment.zoom.scale",
        "augment.zoom.aspect",
        "augment.zoom.probability",
        "augment.colour.probability",
        "loss.cross_entropy.weight",
        "loss.cross_entropy.ramp",
        "loss.dice.ramp",
        "loss.dice.class_weights",
        "loss.cross_entropy.class_weights",
        "loss.dice.weight",
        "optim.learning_rate",
        "optim.momentum",
        "optim.weight_decay",
    }
    assert switches == {
        *(f"augment.colour.{name}" for name in ("brightness", "contrast", "saturation", "hue")),
        "loss.cross_entropy.label_smoothing",
        "loss.cross_entropy.top_k",
        "loss.cross_entropy.border_weight",
        "model.dropout",
        "model.stochastic_depth",
        "optim.clip_norm",
        "optim.ema_decay",
    }


def test_other_orders_of_steps_are_other_programs():
    first, second = page(), page()
    moved = second.augment.to_dict()
    second.augment = to_config({name: moved[name] for name in reversed(list(moved))})
    assert program_of(first) != program_of(second)
    assert other_results(first, second)[0].startswith("config.augment: ('flip', 'colour', 'zoom')")


def test_weights_that_the_data_say_are_numbers_of_one_program():
    given = {"loss.cross_entropy.class_weights": "balanced"}
    configs = [
        make_config("tests/support/quick.py", given | {"data.synthetic.train": 4}),
        make_config(
            "tests/support/quick.py",
            {
                "data.synthetic.train": 4,
                "loss.cross_entropy.class_weights": ("median_frequency",),
            },
        ),
    ]
    assert program_of(configs[0]) == program_of(configs[1])
    shared, members = None, []
    for config in configs:
        experiment = assemble(config, like=shared)
        shared = shared or experiment
        members.append(Member(Path("x"), config, experiment))
    source = shared.dataset.splits["train"]
    pixels, places = np.zeros(6, int), np.zeros(6, int)
    for index in range(4):
        label = source.read(index).truth()
        for k in range(6):
            pixels[k] += (label == k).sum()
            places[k] += label.size * (label == k).any()
    there = pixels > 0
    assert there.sum() > 2
    balanced = pixels.sum() / (there.sum() * np.maximum(pixels, 1)) * there
    shares = pixels / np.maximum(places, 1)
    median = np.median(shares[there]) / np.where(there, shares, np.inf)
    for own, expected in zip(inputs_of(members), (balanced, median), strict=True):
        assert list(own.numbers) == [("loss", "cross_entropy", "class_weights")]
        assert own.numbers["loss", "cross_entropy", "class_weights"] == pytest.approx(expected)
