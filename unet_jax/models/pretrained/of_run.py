"""Weights of a trained U-Net of this program in another one, which may have other classes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import adapt_input, listed

_FIRST = (  # where images come in, by what is built
    ("params", "stem", "Conv_0", "kernel"),
    ("params", "encoder", "conv1", "kernel"),
    ("params", "encoder_0", "Conv_0", "kernel"),
)


def fill_from_run(
    variables: Mapping[str, Any],
    theirs: Mapping[tuple[str, ...], np.ndarray],
    *,
    keep_head: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Puts the variables of a run into those of a model.

    Args:
        variables: {"params": ..., "batch_stats": ...} as initialised.
        theirs: Of the run, by path.
        keep_head: Whether the heads (1x1 convolutions to classes) stay as initialised, for other
            classes.
        say: Takes a line that says how the first convolution was adapted to the channels of the
            images, where it was; see `torch_layout.adapt_input`.

    Returns:
        The variables with the run's values, of the same types and shapes.

    Raises:
        UserError: The run's network is another one.
    """
    ours: dict[tuple[str, ...], Any] = dict(flatten_dict(dict(variables)))
    given = dict(theirs)
    if keep_head:
        given = {path: x for path, x in given.items() if not path[1].startswith("head")}
        given |= {path: x for path, x in ours.items() if path[1].startswith("head")}
    first = next((path for path in _FIRST if path in ours and path in given), None)
    if first and _differ_in_channels(ours[first].shape, given[first].shape):
        channels, found = ours[first].shape[-2], given[first].shape[-2]
        given[first] = adapt_input(given[first], channels)
        say(f"its images had {found} channels and those of the data have {channels}: adapted")
    if wrong := _differences(ours, given):
        advice = "give config.model as the run has it (--config=RUN is a page with all its values)"
        if all(text.startswith("params/head") for text in wrong):
            advice = "config.pretrained.keep_head=True keeps the heads as initialised"
        raise UserError(f"its network is another one: {listed(wrong, '; ')}; {advice}.")
    # What is left of shapes alone was not filled.
    filled = {
        path: x if x is ours[path] else jnp.asarray(x, ours[path].dtype)
        for path, x in given.items()
    }
    return unflatten_dict({path: filled[path] for path in ours})


def _differ_in_channels(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    outputs = (*ours[:-2], ours[-1]), (*theirs[:-2], theirs[-1])
    return ours[-2] != theirs[-2] and outputs[0] == outputs[1]


def _differences(
    ours: Mapping[tuple[str, ...], Any], theirs: Mapping[tuple[str, ...], Any]
) -> list[str]:
    """Names the arrays that one of two networks lacks, or that have other shapes."""
    shapes = [{path: tuple(x.shape) for path, x in arrays.items()} for arrays in (ours, theirs)]
    found = []
    for path in sorted({*ours, *theirs}):
        wanted, there = (known.get(path, "absent") for known in shapes)
        if wanted != there:
            found.append(f"{'/'.join(path)} is {there} there and {wanted} in the model")
    return found
