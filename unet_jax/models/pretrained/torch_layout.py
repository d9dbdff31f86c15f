"""PyTorch's names and layouts of weights, turned into those of our linen modules.

Convolutions [O, I, *size] become [*size, I, O]. Transposed convolutions are [I, O, *size] there and
[*size, I, O] here; neither side flips the filter: input pixel i places tap k at i*stride + k.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.models.encoders.resnet import ENCODERS


class Tensor(NamedTuple):
    """A tensor of a file, on its way into a model.

    Attributes:
        name: In the file.
        value: In linen's layout.
        order: Axes of the file's layout, of which linen's axis i is number order[i].
    """

    name: str
    value: np.ndarray
    order: tuple[int, ...]

    def in_file(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Gives the shape in the file of an array of this shape in linen's layout."""
        if len(shape) != len(self.order):  # a network of other dimensions: keep linen's
            return shape
        return tuple(shape[self.order.index(axis)] for axis in range(len(shape)))


Tensors = dict[tuple[str, ...], Tensor]  # by collection, modules and name in linen

# For each kind of layer: the tensor's name in torch, then collection and name in linen.
_KERNEL, _BIAS = ("params", "kernel"), ("params", "bias")
_PARTS = {
    "conv": {"weight": _KERNEL},
    "biased conv": {"weight": _KERNEL, "bias": _BIAS},
    "transposed conv": {"weight": _KERNEL, "bias": _BIAS},
    "norm": {
        "weight": ("params", "scale"),
        "bias": _BIAS,
        "running_mean": ("batch_stats", "mean"),
        "running_var": ("batch_stats", "var"),
    },
}
_Layers = dict[str, tuple[str, tuple[str, ...]]]  # name in torch -> kind, path in linen


def resnet_variables(
    weights: Mapping[str, np.ndarray], variant: str, channels: int = 3
) -> dict[str, Any]:
    """Turns torchvision's weights of a ResNet into the variables of `encoders.resnet.ResNet`.

    The first convolution is adapted to the images' channels; see `adapt_input`.

    Args:
        weights: Tensors by torchvision's names; fc.* is not used.
        variant: A key of `encoders.resnet.ENCODERS`.
        channels: C of the images.

    Returns:
        {"params": ..., "batch_stats": ...} of arrays.

    Raises:
        UserError: A tensor is missing or unknown, or has values that no weight can have.
    """
    return _nested(resnet_tensors(weights, variant, channels))


def milesial_variables(
    weights: Mapping[str, np.ndarray], features: tuple[int, ...]
) -> dict[str, Any]:
    """Turns weights of milesial/Pytorch-UNet into the variables of `UNet(norm="batch")`.

    Its early versions had a bias before each batch normalisation; in inference that is the same
    as a smaller running mean, and in training it does nothing, so that is what it becomes.

    Args:
        weights: Tensors by that repository's names, of a model with transposed convolutions.
        features: Channels per level.

    Returns:
        {"params": ..., "batch_stats": ...} of arrays.

    Raises:
        UserError: A tensor is missing or unknown, or has values that no weight can have, or the
            weights have other features.
    """
    tensors = milesial_tensors(weights)
    if (found := milesial_features(tensors)) != tuple(features):
        raise UserError(
            f"the weights are of a U-Net of features {found} and not {tuple(features)}; "
            f"set config.model.features={found}."
        )
    return _nested(tensors)


def resnet_variant(weights: Mapping[str, np.ndarray]) -> str:
    """Finds which of `ENCODERS` weights with torchvision's names are of.

    Raises:
        UserError: They are of none.
    """
    blocks = {m[0] for name in weights if (m := re.match(r"layer([0-9]+)\.[0-9]+\.", name))}
    counts = tuple(sum(block.startswith(f"layer{i}.") for block in blocks) for i in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in weights
    for variant, layout in ENCODERS.items():
        if (layout.bottleneck, layout.blocks) == (bottleneck, counts):
            return variant
    kind = "bottleneck" if bottleneck else "basic"
    raise UserError(
        f"the weights are of a ResNet of {counts} {kind} blocks; known are {', '.join(ENCODERS)}."
    )


def resnet_tensors(weights: Mapping[str, np.ndarray], variant: str, channels: int) -> Tensors:
    """Does what `resnet_variables` does and keeps the names."""
    layout = choose(ENCODERS, "config.model.encoder", variant)
    layers: _Layers = {"conv1": ("conv", ("conv1",)), "bn1": ("norm", ("bn1",))}
    for layer, blocks in enumerate(layout.blocks, 1):
        for block in range(blocks):
            ours, theirs = f"layer{layer}_{block}", f"layer{layer}.{block}"
            for i in range(1, 4 if layout.bottleneck else 3):
                layers[f"{theirs}.conv{i}"] = ("conv", (ours, f"conv{i}"))
                layers[f"{theirs}.bn{i}"] = ("norm", (ours, f"bn{i}"))
            if block == 0 and (layer > 1 or layout.bottleneck):
                layers[f"{theirs}.downsample.0"] = ("conv", (ours, "downsample_0"))
                layers[f"{theirs}.downsample.1"] = ("norm", (ours, "downsample_1"))
    unused = r"fc\..*"
    _check_values(weights, unused)
    tensors = _convert(weights, layers, unused)
    return _adapt(tensors, ("params", "conv1", "kernel"), channels)


def adapt_input(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapts the kernel of a first convolution to images of another number of channels.

    Args:
        kernel: float32 [*size, I, F], of a file.
        channels: C of the images.

    Returns:
        [*size, C, F]. For C = 1 the sum over the I channels, which is what they compute of a grey
        image; for C = I as it is; else the I channels in turn, times I / C, so that an image whose
        channels are all equal gives the same again where I divides C, and activations keep their
        scale elsewhere (as timm's `adapt_input_conv` and segmentation_models.pytorch do).
    """
    found = kernel.shape[-2]
    if channels == found:
        return kernel
    if channels == 1:
        return kernel.sum(-2, keepdims=True)
    return kernel[..., np.arange(channels) % found, :] * np.float32(found / channels)


def _adapt(tensors: Tensors, path: tuple[str, ...], channels: int) -> Tensors:
    """Adapts the first convolution, which lies at a path."""
    return tensors | {
        path: tensors[path]._replace(value=adapt_input(tensors[path].value, channels))
    }


def milesial_tensors(
    weights: Mapping[str, np.ndarray], *, channels: int | None = None, keep_head: bool = False
) -> Tensors:
    """Does what `milesial_variables` does for any features and keeps the names.

    Args:
        weights: Tensors by that repository's names.
        channels: C of the images, to which the first convolution is adapted; None for the file's.
        keep_head: Whether the head's values, which are given like the others, are not to be used.

    Returns:
        The tensors.

    Raises:
        UserError: A tensor is missing or unknown, or has values that no weight can have.
    """
    unused = "mask_values"
    _check_values(weights, rf"{unused}|outc\..*" if keep_head else unused)
    downs = {int(m[1]) for name in weights if (m := re.match(r"down([0-9]{1,9})\.", name))}
    bottom = min(max(downs, default=0), len(downs))  # no more levels than the file holds
    blocks = _milesial_blocks(bottom)
    weights = dict(weights)
    for theirs in blocks:
        for i in range(2):
            conv, norm = (f"{theirs}.double_conv.{3 * i + j}" for j in range(2))
            bias, mean = weights.pop(f"{conv}.bias", None), f"{norm}.running_mean"
            if bias is not None and mean in weights:
                if bias.shape != weights[mean].shape:
                    raise UserError(
                        f"{conv}.bias has shape {bias.shape} and {mean} {weights[mean].shape}; "
                        "they must be alike."
                    )
                weights[mean] = weights[mean] - bias
    tensors = _convert(weights, _milesial_layers(bottom), unused)
    first = ("params", blocks["inc"], "Conv_0", "kernel")
    return tensors if channels is None else _adapt(tensors, first, channels)


def _milesial_blocks(bottom: int) -> dict[str, str]:
    """Returns the names of blocks here by those there."""
    blocks = {f"up{i}.conv": f"decoder_{bottom - i}" for i in range(1, bottom + 1)}
    for level in range(bottom + 1):
        theirs = f"down{level}.maxpool_conv.1" if level else "inc"
        blocks[theirs] = f"encoder_{level}" if level < bottom else f"bottom_{level}"
    return blocks


def _milesial_layers(bottom: int) -> _Layers:
    layers: _Layers = {"outc.conv": ("biased conv", ("head",))}
    for i in range(1, bottom + 1):
        layers[f"up{i}.up"] = ("transposed conv", (f"up_{bottom - i}",))
    for theirs, ours in _milesial_blocks(bottom).items():
        for i in range(2):
            conv, norm = (f"{theirs}.double_conv.{3 * i + j}" for j in range(2))
            layers[conv] = ("conv", (ours, f"Conv_{i}"))
            layers[norm] = ("norm", (ours, f"BatchNorm_{i}"))
    return layers


def milesial_weights(variables: Mapping[str, Any], bottom: int) -> dict[str, np.ndarray]:
    """Does the contrary of `milesial_variables`.

    Args:
        variables: {"params", "batch_stats"} of a U-Net as that repository has it.
        bottom: Its deepest level.

    Returns:
        Arrays in PyTorch's layout by that repository's names.
    """
    flat: dict[tuple[str, ...], Any] = flatten_dict(variables)
    return {
        f"{name}.{part}": in_torch_layout(flat[collection, *path, leaf], kind == "transposed conv")
        for name, (kind, path) in _milesial_layers(bottom).items()
        for part, (collection, leaf) in _PARTS[kind].items()
    }


def in_torch_layout(value: np.ndarray, is_transposed: bool = False) -> np.ndarray:
    """Returns a linen kernel [*size, I, O] as PyTorch has it: [O, I, *size], or [I, O, *size].

    Args:
        value: The kernel, or an array of one axis, which stays.
        is_transposed: Whether it is of a transposed convolution.

    Returns:
        The array.
    """
    last = value.ndim - 1
    if last < 1:
        return value
    order = (last - 1, last) if is_transposed else (last, last - 1)
    return np.ascontiguousarray(value.transpose(*order, *range(last - 1)))


def milesial_features(tensors: Tensors) -> tuple[int, ...]:
    """Gives channels per level of what `milesial_tensors` gave."""
    blocks = {path[1] for path in tensors if re.match("encoder_|bottom_", path[1])}
    ordered = sorted(blocks, key=lambda block: int(block.split("_")[1]))
    return tuple(tensors["params", b, "Conv_1", "kernel"].value.shape[-1] for b in ordered)


def listed(texts: Iterable[str], separator: str = ", ", most: int = 4) -> str:
    """Joins texts, but for those above `most`, which it counts."""
    texts = [shortened(text, 200) for text in texts]
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return separator.join([*texts[:most], *more])


def shortened(text: str, most: int = 100) -> str:
    """Returns a text in one line, without its end where it is long, as names in files may be."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}..."


def _check_values(weights: Mapping[str, np.ndarray], unused: str) -> None:
    """Refuses tensors whose values no weight can have, but for those that are not used."""
    used = {name: value for name, value in weights.items() if not _is_unused(name, unused)}
    wrong = [f"{name} {fault}" for name, value in used.items() if (fault := _fault(name, value))]
    if wrong:
        raise UserError(
            f"{listed(wrong, '; ')}; give finite numbers of a floating type, and variances of 0 or "
            "more."
        )


def _fault(name: str, value: np.ndarray) -> str:
    """Says what is wrong with a tensor's values; "" if nothing is."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return f"is of type {value.dtype}"
    with np.errstate(over="ignore"):
        value = value.astype(np.float32)
    if count := int(np.sum(~np.isfinite(value))):
        return f"has {count} of {value.size} values that are NaN, infinite or too large for float32"
    if name.endswith(".running_var") and np.any(value < 0):
        return f"has the negative variance {value.min():g}"
    return ""


def _is_unused(name: str, unused: str) -> bool:
    """Tells whether a tensor needs no place: one that `unused` matches, or a counter."""
    return re.fullmatch(rf"{unused}|.*\.num_batches_tracked", name) is not None


def _convert(weights: Mapping[str, np.ndarray], layers: _Layers, unused: str) -> Tensors:
    places = {
        f"{name}.{part}": ((collection, *path, leaf), kind)
        for name, (kind, path) in layers.items()
        for part, (collection, leaf) in _PARTS[kind].items()
    }
    missing = [name for name in places if name not in weights]
    unknown = [name for name in weights if name not in places and not _is_unused(name, unused)]
    if missing or unknown:
        lack = [f"lack {listed(missing)}"] if missing else []
        have = [f"have {listed(unknown)}, which nothing uses"] if unknown else []
        raise UserError(
            f"the weights {' and '.join(lack + have)}; give those of the whole network and of "
            "nothing else."
        )
    return {path: _tensor(name, weights[name], kind) for name, (path, kind) in places.items()}


def _tensor(name: str, value: np.ndarray, kind: str) -> Tensor:
    if kind == "norm" or name.endswith(".bias"):
        return Tensor(name, value, tuple(range(value.ndim)))
    if value.ndim < 3 or not value.size:
        raise UserError(f"{name} has shape {value.shape}, which is no convolution's.")
    size = range(2, value.ndim)
    order = (*size, 0, 1) if kind == "transposed conv" else (*size, 1, 0)
    return Tensor(name, value.transpose(order), order)


def _nested(tensors: Tensors) -> dict[str, Any]:
    return unflatten_dict({path: tensor.value for path, tensor in tensors.items()})
