"""Which trials can train as one program: those that differ in numbers alone."""

import copy
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

# Numbers that a program can take as inputs, by section. The seed decides the initial parameters,
# the order of the pictures and what is drawn, which are inputs as well.
NUMBERS: dict[str, tuple[str, ...]] = {
    "train": ("seed",),
    "augment": ("zoom", "aspect", "brightness", "contrast", "saturation", "hue"),
    "model": ("dropout", "stochastic_depth"),
    "loss": ("class_weights", "label_smoothing", "dice_weight"),
    "optim": ("learning_rate", "momentum", "weight_decay", "clip_norm", "ema_decay"),
}
_NO_SWITCH = ("seed", "class_weights", "dice_weight", "learning_rate", "momentum", "weight_decay")


def program_of(config: ConfigDict) -> str:
    """Names the program that trains a config.

    Args:
        config: The whole config.

    Returns:
        The same text for configs that differ in `NUMBERS` alone, and in none of them by being 0,
        which switches something off.
    """
    values = copy.deepcopy(config.to_dict())
    for section, keys in NUMBERS.items():
        for key in keys:
            values[section][key] = _pattern(section, key, values[section][key])
    augment = config.augment
    values["augment"]["crops"] = tuple(augment.zoom) != (1.0, 1.0) or augment.aspect != 1.0
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _pattern(section: str, key: str, value: Any) -> Any:
    """Returns what a number decides about the program: how many there are, and which are 0."""
    if isinstance(value, tuple):
        return [_pattern(section, key, item) for item in value]
    return "number" if key in _NO_SWITCH or (section, key) == ("augment", "zoom") else bool(value)


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


def varying(configs: Sequence[ConfigDict]) -> dict[str, dict[str, list[Any]]]:
    """Finds the numbers in which trials of one program differ, but for their seeds.

    Args:
        configs: Of the trials.

    Returns:
        Values of all trials, by section and key.
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for section, keys in NUMBERS.items():
        for key in keys if section != "train" else ():
            values = [config[section][key] for config in configs]
            if any(value != values[0] for value in values):
                found.setdefault(section, {})[key] = values
    return found
