"""How long augmentation takes beside a train step.

python -m experiments.bench.augmentation [WIDTH@SIDE]

In turns: the train step of `workers` without augmentation (batch 8, 16@128 where no cell is named),
the same with the usual set in it, and the augmentation alone, of the usual set and of each step.
All are medians of wall time; a share is the median of a turn's ratio to that turn's step.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments.bench.workers import Train, make_train
from unet_jax.augment.make import make_augment
from unet_jax.data.sample import RGB
from unet_jax.process import runtime
from unet_jax.process.console import console

BATCH, TURNS = 8, 25
USUAL: dict[str, dict[str, Any]] = {
    "flip": {"left_right": True},
    "rotation": {"degrees": 15.0},
    "zoom": {"scale": (0.8, 1.25)},
    "translation": {"share": 0.1},
    "colour": {"brightness": 0.2, "contrast": 0.2},
    "gamma": {"power": (0.7, 1.5)},
    "noise": {"sigma": 0.05},
}
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "the usual set": USUAL,
    "the usual set, cubic": USUAL | {"sampling": {"cubic": True}},
    "elastic": {"elastic": {"deviation": 10.0}},
    "the usual set and elastic": USUAL | {"elastic": {"deviation": 10.0}},
    **{name: {name: keys} for name, keys in USUAL.items()},
    "turn": {"turn": {"quarters": (0, 1, 2, 3)}},
    "shear": {"shear": {"degrees": 10.0}},
    "saturation and hue": {"colour": {"saturation": 0.3, "hue": 0.03}},
    "blur": {"blur": {"sigma": 1.5}},
    "low_resolution": {"low_resolution": {"scale": 0.5}},
    "ringing": {"ringing": {"cut": 0.5}},
    "jpeg": {"jpeg": {"quality": 30.0}},
    "cutout": {"cutout": {"share": (0.02, 0.2)}},
    "cutmix": {"cutmix": {"share": (0.0, 1.0)}},
    "copy_paste": {"copy_paste": {"classes": (1,)}},
}


def _stepper(train: Train) -> Callable[[], Any]:
    """Returns what takes a step, and the next one after it."""
    state = train.state

    def run() -> Any:
        nonlocal state
        state, scalars = train.step(state, train.batch, train.key)
        return scalars

    return run


def _alone(train: Train, section: dict[str, dict[str, Any]]) -> Callable[[], Any]:
    augment = jax.jit(make_augment(section, RGB.value_range))
    arrays = [train.batch[name] for name in ("image", "label", "weight")]
    return lambda: augment(*arrays, train.key)


def _seconds(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - began


def main(cell: str = "16@128") -> None:
    """Prints what each augmentation takes.

    Args:
        cell: WIDTH@SIDE.
    """
    runtime.use_huge_pages()
    runtime.prepare()
    width, side = map(int, cell.split("@"))
    plain, usual = (make_train(width, side, BATCH, "float32", section) for section in ({}, USUAL))
    ways = {"step": _stepper(plain), "step with the usual set": _stepper(usual)}
    ways |= {name: _alone(plain, section) for name, section in SETS.items()}
    for way in ways.values():  # compiled, and warm
        _seconds(way)
        _seconds(way)
    turns = [{name: _seconds(way) for name, way in ways.items()} for _ in range(TURNS)]
    console.print(f"{cell}, batch {BATCH}, {jax.devices()[0].device_kind}, {TURNS} turns:")
    for name in ways:
        median = statistics.median(turn[name] for turn in turns)
        low, share, high = statistics.quantiles(turn[name] / turn["step"] for turn in turns)
        shares = f"{share:6.1%} of the step ({low:.1%} to {high:.1%})"
        console.print(f"  {name}: {median * 1000:.1f} ms, {shares}", soft_wrap=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
