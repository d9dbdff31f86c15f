"""Weights of PyTorch, from a local file into a model, or of another run; without PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.errors import UserError
from unet_jax.models.pretrained.of_run import fill_from_run
from unet_jax.models.pretrained.torch_layout import (
    Tensors,
    listed,
    milesial_features,
    milesial_tensors,
    resnet_tensors,
    resnet_variant,
)
from unet_jax.models.pretrained.weight_files import read_weights
from unet_jax.process.console import console
from unet_jax.process.paths import expand

_FIRST = ("inc.double_conv.0.weight", "conv1.weight")  # convolutions, of milesial and torchvision
Load = Callable[[Mapping[str, Any]], dict[str, Any]]
Tree = Mapping[tuple[str, ...], np.ndarray]


def make_pretrained(
    file: str = "", keep_head: bool = False, *, read_run: Callable[[Path], Tree]
) -> Load | None:
    """Reads the pretrained section of a config.

    Args:
        file: Weights to start from, see `load_into`; or the directory of a run, whose best
            checkpoint is taken, see `of_run.fill_from_run`. "" for none.
        keep_head: Whether the head (1x1 convolution to classes) stays as initialised, with a run
            also those of deep supervision.
        read_run: Reads what a run is evaluated with, by path.

    Returns:
        load(variables) -> variables with the file's values; None without a file. Of variables that
        are shapes alone (`jax.ShapeDtypeStruct`), those that the file does not fill stay so.
    """
    if not file:
        return None

    path = expand(file, "config.pretrained.file")
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            console.print(f"config.pretrained.file: {line}")
        said.add(line)

    def from_run(variables: Mapping[str, Any]) -> dict[str, Any]:
        theirs = read_run(path)
        try:
            return fill_from_run(variables, theirs, keep_head=keep_head, say=say)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def load(variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if path.is_dir():
                return from_run(variables)
            return load_into(variables, path, keep_head=keep_head, say=say)
        except UserError as error:
            raise UserError(f"config.pretrained.file: {error}") from None

    return load


def load_into(
    variables: Mapping[str, Any],
    file: Path,
    *,
    keep_head: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Puts the weights of a file into a model's variables; names tell which network it is of.

    torchvision's ResNets fill the submodule "encoder", a U-Net of milesial/Pytorch-UNet fills the
    whole tree. They were trained on other inputs than `scale.standardise` makes, so the model
    must bring its input to theirs: `UNet(input_scale="imagenet")` for torchvision's, as the ResNet
    encoders of `variants.VARIANTS` have it, and `UNet(input_scale="unit")` for milesial's. The
    first convolution is adapted to the model's channels; see `torch_layout.adapt_input`.

    Args:
        variables: {"params": ..., "batch_stats": ...} as initialised.
        file: A .safetensors or .npz file.
        keep_head: Whether the head (1x1 convolution to classes) stays as initialised.
        say: Takes a line that says how the first convolution was adapted, where it was.

    Returns:
        The variables with the file's values, of the same types and shapes.

    Raises:
        UserError: The file cannot be read, is of neither network, does not fit the model, or a
            tensor that is used has values that no weight can have: of a type that is not floating,
            not finite as float32, or a negative variance.
    """
    weights = read_weights(file)
    flat: dict[tuple[str, ...], Any] = dict(flatten_dict(dict(variables)))
    try:
        prefix, found, advice = _recognise(weights, flat, keep_head=keep_head)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    tensors: Tensors = {(path[0], *prefix, *path[1:]): t for path, t in found.items()}
    places = {path: leaf for path, leaf in flat.items() if path[1 : 1 + len(prefix)] == prefix}
    if keep_head:
        tensors = {path: tensor for path, tensor in tensors.items() if path[1] != "head"}
        places = {path: leaf for path, leaf in places.items() if path[1] != "head"}
    _check_fit(file, tensors, places, advice)
    _say_adapted(weights, tensors, file, say)
    filled = {path: jnp.asarray(t.value, places[path].dtype) for path, t in tensors.items()}
    return unflatten_dict({**flat, **filled})


def _say_adapted(
    weights: Mapping[str, np.ndarray], tensors: Tensors, file: Path, say: Callable[[str], None]
) -> None:
    """Says in one line how the first convolution was adapted to the channels of the images."""
    first = next(name for name in _FIRST if name in weights)
    theirs = weights[first].shape[1]
    ours = next(t.value.shape[-2] for t in tensors.values() if t.name == first)
    if ours == theirs:
        return
    how = f"its channels come in turn, times {theirs}/{ours}"
    if ours == 1:
        how = "its channels are summed, which is what they say of a grey image"
    say(f"{first} of {file} has {theirs} channels and the images have {ours}: {how}")


def _recognise(
    weights: Mapping[str, np.ndarray], flat: Mapping[tuple[str, ...], Any], *, keep_head: bool
) -> tuple[tuple[str, ...], Tensors, str]:
    """Returns the submodule to fill, the tensors and what to change if they do not fit."""
    if "inc.double_conv.0.weight" in weights:
        first = flat.get(("params", "encoder_0", "Conv_0", "kernel"))
        channels = None if first is None else first.shape[-2]
        tensors = milesial_tensors(weights, channels=channels, keep_head=keep_head)
        advice = (
            f"The file holds a U-Net of {weights['outc.conv.weight'].shape[0]} classes: set "
            f'config.model.features={milesial_features(tensors)} and config.model.norm="batch".'
        )
        return (), tensors, advice
    if "layer1.0.conv1.weight" in weights:
        variant = resnet_variant(weights)
        advice = f"The file holds a {variant}: set config.model.encoder={variant!r}."
        first = flat.get(("params", "encoder", "conv1", "kernel"))
        if first is None:
            raise UserError(f"the model has no ResNet as its encoder. {advice}")
        return ("encoder",), resnet_tensors(weights, variant, first.shape[-2]), advice
    raise UserError(
        "the weights are neither of a ResNet of torchvision (conv1.weight, layer1.0.conv1.weight, "
        "...) nor of a U-Net of milesial/Pytorch-UNet (inc.double_conv.0.weight, ...); they are "
        f"{listed(sorted(weights)) or 'none'}."
    )


def _check_fit(
    file: Path, tensors: Tensors, places: Mapping[tuple[str, ...], Any], advice: str
) -> None:
    wrong = []
    for path, tensor in tensors.items():
        if path not in places:
            wrong.append(f"{tensor.name} has no place in the model")
        elif (wanted := places[path].shape) != tensor.value.shape:
            found, wanted = tensor.in_file(tensor.value.shape), tensor.in_file(wanted)
            wrong.append(f"{tensor.name} has shape {found}, the model wants {wanted}")
    wrong += [
        f"the file has nothing for {'/'.join(path)}" for path in sorted({*places} - {*tensors})
    ]
    if wrong and all(text.startswith("outc.conv.") for text in wrong):
        advice = (
            "The file was trained for another number of classes: config.pretrained.keep_head=True "
            "(load_into(..., keep_head=True)) keeps the model's head as initialised."
        )
    if wrong:
        raise UserError(f"{file} does not fit the model: {listed(wrong, '; ')}. {advice}")
