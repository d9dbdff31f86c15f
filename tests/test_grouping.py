"""Which trials can be one program."""

import runpy

import pytest
from conftest import ROOT

from experiments.pack.grouping import pack, program_of, varying


def page(**overrides):
    config = runpy.run_path(str(ROOT / "configs" / "tiny.py"))["get_config"]()
    config.augment.contrast, config.loss.class_weights = 0.1, (1.0,) * 6
    config.model.dropout = (0.0, 0.5)
    for key, value in overrides.items():
        section, name = key.split("__")
        config[section][name] = value
    return config


@pytest.mark.parametrize(
    "numbers",
    [
        {"train__seed": 7},
        {"optim__learning_rate": 0.1, "optim__momentum": 0.5, "optim__weight_decay": 0.0},
        {"optim__ema_decay": 0.5, "loss__dice_weight": 0.0},
        {"loss__class_weights": (1.0, 2.0, 0.0, 1.0, 1.0, 1.0)},
        {"augment__contrast": 0.7},
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
        {"optim__name": "sgd"},
        {"augment__flip_ud": True},
        {"optim__ema_decay": 0.0},
        {"augment__contrast": 0.0},
        {"augment__zoom": (0.5, 1.0)},
        {"augment__aspect": 1.5},
        {"loss__label_smoothing": 0.1},
        {"loss__class_weights": ()},
        {"model__dropout": (0.5, 0.5)},
        {"model__dropout": ()},
    ],
)
def test_what_changes_the_program(change):
    assert program_of(page(**change)) != program_of(page())


def test_two_zooms_are_one_program():
    first, second = ({"augment__zoom": zoom} for zoom in ((0.5, 1.0), (1.0, 2.0)))
    assert program_of(page(**first)) == program_of(page(**second))


def test_packs_hold_one_program_each_and_are_even():
    programs = {f"t{i}": "AB"[i % 5 == 0] for i in range(12)}  # 3 of B, 9 of A
    packs = pack(programs, 4)
    assert [len(names) for names in packs] == [3, 3, 3, 3]
    assert sorted(name for names in packs for name in names) == sorted(programs)
    assert all(len({programs[name] for name in names}) == 1 for names in packs)
    assert packs[0] == ("t0", "t5", "t10")


def test_varying_are_the_numbers_that_differ_but_seeds():
    configs = [page(), page(train__seed=1, optim__learning_rate=0.5, loss__dice_weight=2.0)]
    rate = configs[0].optim.learning_rate
    dice = configs[0].loss.dice_weight
    assert varying(configs) == {
        "optim": {"learning_rate": [rate, 0.5]},
        "loss": {"dice_weight": [dice, 2.0]},
    }
