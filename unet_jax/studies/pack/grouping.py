"""Which trials can train as one program: those that differ in numbers alone."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from unet_jax.augment.make import STEPS
from unet_jax.durations import make_plan
from unet_jax.losses.make import TERMS, every_term
from unet_jax.models.unet import UNet
from unet_jax.optim.make import make_optimizer
from unet_jax.traced import Traceable, traceable

Path = tuple[str, ...]


def numbers_of(config: ConfigDict) -> dict[Path, Traceable]:
    """Finds the numbers of a config that a program can take as inputs.

    The seed decides the initial parameters, the order of the images and what is drawn, which are
    inputs as well.

    Args:
        config: The whole config.

    Returns:
        What the functions that take them say of them, by path such as ("loss", "dice", "weight").
    """
    functions: dict[Path, Callable[..., Any]] = {
        ("train",): make_plan,
        ("model",): UNet,
        ("optim",): make_optimizer,
        **{("augment", name): STEPS[name].make for name in config.augment},
        **{("loss", name): TERMS[name].function for name in config.loss},
    }
    weights: dict[Path, Traceable] = {
        ("loss", name, key): kind
        for name in config.loss
        for key, kind in traceable(every_term).items()
    }
    own = {
        (*path, key): kind
        for path, function in functions.items()
        for key, kind in traceable(function).items()
    }
    return weights | own


def program_of(config: ConfigDict) -> str:
    """Names the program that trains a config.

    Args:
        config: The whole config.

    Returns:
        The same text for configs that differ in `numbers_of` alone, and in none of them by being
        0 where that switches something off. One that may end early has a program of its own.
    """
    values: dict[str, Any] = config.to_dict()
    if config.train.patience:
        values["whole"] = config.to_dict()
    for (*path, key), kind in numbers_of(config).items():
        section = _at(values, path)
        section[key] = _pattern(section[key], kind)
    # A step may be off for several of its numbers together.
    steps = config.augment.to_dict().items()
    values["on"] = {name: STEPS[name].make(**keys) is not None for name, keys in steps}
    values["order"] = [list(config[name]) for name in ("augment", "loss")]
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _at(values: Any, path: Sequence[str]) -> Any:
    """Returns the section at a path."""
    return functools.reduce(lambda section, name: section[name], path, values)


def _pattern(value: Any, kind: Traceable) -> Any:
    """Returns what a number decides about the program: how many there are, and which are 0."""
    if isinstance(value, tuple):
        return [_pattern(item, kind) for item in value]
    return bool(value) if kind.switches else "number"


def pack(programs: Mapping[str, str], most: int) -> list[tuple[str, ...]]:
    """Puts trials of one program together.

    Args:
        programs: `program_of` of every trial, by the trial's name.
        most: Trials in a pack.

    Returns:
        The packs, of sizes as equal as they can be, in the order of their first trials.
    """
    members: dict[str, list[str]] = {}
    for name, program in programs.items():
        members.setdefault(program, []).append(name)
    packs = []
    for names in members.values():
        count = -(-len(names) // most)
        ends = [round(i * len(names) / count) for i in range(count + 1)]
        packs += [tuple(names[a:b]) for a, b in itertools.pairwise(ends)]
    return packs


def varying(configs: Sequence[ConfigDict]) -> dict[Path, list[Any]]:
    """Finds the numbers in which trials of one program differ, but for their seeds.

    Args:
        configs: Of the trials.

    Returns:
        Values of all trials, by path; see `numbers_of`.
    """
    found = {}
    for path in numbers_of(configs[0]):
        values = [_at(config, path) for config in configs]
        if path[0] != "train" and any(value != values[0] for value in values):
            found[path] = values
    return found
