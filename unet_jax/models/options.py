"""Checking the arguments of a U-Net, alone and together."""

from typing import Any

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.models.blocks import ACTIVATIONS, BLOCKS, NORMS, POOLS
from unet_jax.models.decoders import DECODERS
from unet_jax.models.resnet import ENCODERS
from unet_jax.models.scales import SCALES
from unet_jax.models.ways_up import INITIALS, UPS
from unet_jax.traced import is_on, is_traced

MOST_LEVELS, MOST_CHANNELS = 16, 2**16
MOST_REPEATS, MOST_REACH = 64, 256  # convolutions in a block; filter size and dilation
MOST_PIXELS = 2**12  # of the image, along an axis, that are one of the deepest level
CHOICES: dict[str, Any] = {
    "input_scale": SCALES,
    "encoder": ("blocks", *ENCODERS),
    "decoder": DECODERS,
    "block": BLOCKS,
    "decoder_block": ("", *BLOCKS),
    "padding": ("same", "valid"),
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "pool": POOLS,
    "up": UPS,
    "up_initial": INITIALS,
    "dtype": ("float32", "bfloat16"),
    "dimensions": (2, 3),
}


def check_options(model: Any) -> None:
    """Checks the arguments of a U-Net.

    Args:
        model: A `unet.UNet`.

    Raises:
        UserError: A value is not allowed, or not together with another.
    """
    for name, allowed in CHOICES.items():
        choose(dict.fromkeys(allowed), f"config.model.{name}", getattr(model, name))
    _check_numbers(model)
    _check_stages(model)
    _check_multiple(model)
    for message, holds in _combinations(model).items():
        if not holds:
            raise UserError(message)


def _check_numbers(model: Any) -> None:
    levels = len(model.features)
    are_counts = all(type(f) is int and 0 < f <= MOST_CHANNELS for f in model.features)
    if not 1 <= levels <= MOST_LEVELS or not are_counts:
        raise UserError(
            f"config.model.features={_short(model.features)} must be channels per level, each 1 "
            f"or more and {MOST_CHANNELS} or less, of 1 to {MOST_LEVELS} levels, such as "
            "(64, 128, 256)."
        )
    bottom, is_resnet = model.bottom(), model.encoder != "blocks"
    levels = bottom + 1
    counts = {
        "repeats": (levels, _is_count, f"1 or more, {MOST_REPEATS} or less"),
        "decoder_repeats": (bottom, _is_count, f"1 or more, {MOST_REPEATS} or less"),
        "dropout": (levels, _is_rate, "in [0, 1)"),
    }
    for name, (number, is_allowed, allowed) in counts.items():
        values = getattr(model, name)
        fits = len(values) in {1, number} or (name == "dropout" and not values)
        if not fits or not all(map(is_allowed, values)):
            raise UserError(
                f"config.model.{name}={_short(values)} must be one number for all levels or "
                f"{number}, one per level, each {allowed}."
            )
    dilations = model.bottom_dilations
    ranges = {
        "width": (
            0 < model.width <= MOST_CHANNELS and max(model.channels()) <= MOST_CHANNELS,
            f"above 0, and no level wider than {MOST_CHANNELS} channels",
        ),
        "fold": (model.fold >= 1, "1 or more"),
        "squeeze_excite": (model.squeeze_excite >= 0, "0 or more"),
        "stochastic_depth": (_is_rate(model.stochastic_depth), "in [0, 1)"),
        "bottom_dilations": (
            all(type(d) is int and 1 <= d <= MOST_REACH for d in dilations)
            and len(dilations) <= MOST_REPEATS,
            f"each 1 or more, {MOST_REACH} or less, and {MOST_REPEATS} at most",
        ),
        "deep_supervision": (
            0 <= model.deep_supervision <= max(0, bottom - 1),
            f"0 to {max(0, bottom - 1)}, the levels between the first and the bottom",
        ),
        "skips_off": (
            all(level in range(is_resnet, bottom) for level in model.skips_off),
            f"levels of {int(is_resnet)} to {bottom - 1}, which have skips",
        ),
        "remat": (
            all(level in range(levels - is_resnet) for level in model.remat),
            f"levels of 0 to {bottom - is_resnet}, which have blocks",
        ),
    }
    for name, (holds, allowed) in ranges.items():
        if not holds:
            value = _short(getattr(model, name))
            raise UserError(f"config.model.{name}={value} must be {allowed}.")


def _check_stages(model: Any) -> None:
    stages = model.bottom()
    key, triples = "config.model.up_filters", model.up_filters
    if len(triples) not in {1, stages} or not all(len(triple) == 3 for triple in triples):
        raise UserError(
            f"{key}={_short(triples)} must be one (f, p, s) for all stages or {stages}, one per "
            "stage from the deepest up."
        )
    for f, p, s in triples:
        are_whole = all(type(n) is int for n in (f, p, s))
        if not are_whole or s < 1 or not 1 <= f <= MOST_REACH or not 0 <= p < f:
            raise UserError(
                f"{key}: (f={f}, p={p}, s={s}) must have f, s >= 1 and 0 <= p < f, all whole, and "
                f"f <= {MOST_REACH}."
            )
        too_large = model.padding == "same" and f - 2 * p > s
        if too_large or s - f + 2 * p >= max(s, 1):
            low, high = max(0, -(-(f - s) // 2)), (f - 1) // 2
            raise UserError(
                f"{key}: (f={f}, p={p}, s={s}) does not make n pixels to s*n; f - 2p must be at "
                f"most s and at least 1: for f={f} and s={s}, p from {low} to {high}."
            )


def _check_multiple(model: Any) -> None:
    if model.multiple() > MOST_PIXELS:
        raise UserError(
            f"one pixel of the deepest of the {model.bottom() + 1} levels would be "
            f"{model.multiple()} of the image, more than {MOST_PIXELS}; use fewer "
            "config.model.features, or a smaller stride in config.model.up_filters or "
            "config.model.fold."
        )


def _combinations(model: Any) -> dict[str, bool]:
    """Returns what must hold between arguments, by the message if it does not."""
    is_valid, is_nested = model.padding == "valid", model.decoder == "unet++"
    first, last = model.bottom() - model.deep_supervision, model.bottom() - 1
    plain = "config.model.padding='valid' is the paper's U-Net: it needs "
    return {
        plain + "config.model.decoder='unet'.": not is_valid or model.decoder == "unet",
        plain + "config.model.pool='max' or 'average'.": not is_valid or model.pool != "stride",
        plain + "config.model.attention=False.": not is_valid or not model.attention,
        plain + "config.model.fold=1.": not is_valid or model.fold == 1,
        plain + "config.model.up='transpose' or 'pixel_shuffle'.": not is_valid
        or model.up in {"transpose", "pixel_shuffle"},
        plain + "config.model.deep_supervision=0.": not is_valid or not model.deep_supervision,
        "config.model.up='unpool' places values where max pooling found them: it needs "
        "config.model.pool='max'.": model.up != "unpool" or model.pool == "max",
        f"config.model.prune={model.prune} needs config.model.decoder='unet++' and a head at that "
        f"column: config.model.deep_supervision heads are at columns {first} to "
        f"{last}.": not model.prune or (is_nested and max(1, first) <= model.prune <= last),
        "config.model.stochastic_depth skips residual units: it needs config.model.block or "
        "config.model.decoder_block='residual' or 'bottleneck'.": not is_on(model.stochastic_depth)
        or bool({model.block, model.decoder_block} & {"residual", "bottleneck"}),
        f"config.model.up_initial={model.up_initial!r} is where a transposed convolution starts: "
        "it needs config.model.up='transpose'.": model.up_initial == "random"
        or model.up == "transpose",
        f"config.model.up_filters={model.up_filters}: f and p are those of a transposed "
        "convolution, and other ways up take s alone: (f, p, s) must be (s, 0, s), or "
        "config.model.up='transpose'.": model.up == "transpose" or _are_strides(model.up_filters),
        **(_full_scale_combinations(model) if model.decoder == "unet3+" else {}),
        **(_resnet_combinations(model) if model.encoder != "blocks" else {}),
    }


def _full_scale_combinations(model: Any) -> dict[str, bool]:
    """Returns what a full-scale decoder, which has its own blocks and ways up, needs."""
    needs = "config.model.decoder='unet3+' has its own blocks and interpolates: it needs "
    return {
        needs + "config.model.up='transpose', the default.": model.up == "transpose",
        needs + "config.model.up_initial='random'.": model.up_initial == "random",
        needs + "(f, p, s) of config.model.up_filters to be (s, 0, s).": _are_strides(
            model.up_filters
        ),
        needs + "config.model.decoder_block=''.": not model.decoder_block,
        needs + "config.model.decoder_repeats=(2,).": model.decoder_repeats == (2,),
        needs + "config.model.attention=False.": not model.attention,
    }


def _resnet_combinations(model: Any) -> dict[str, bool]:
    needs = f"config.model.encoder={model.encoder!r} is a whole encoder of five levels: it needs "
    strides = {s for _, _, s in model.up_filters}
    return {
        needs + "config.model.dimensions=2.": model.dimensions == 2,
        needs + "five config.model.features, of the decoder's levels.": len(model.features) == 5,
        needs + "stride 2 in config.model.up_filters.": strides == {2},
        needs + "config.model.padding='same'.": model.padding == "same",
        needs + "config.model.fold=1.": model.fold == 1,
        needs + "config.model.repeats=(2,), and has its own.": model.repeats == (2,),
        needs + "config.model.stem=False, and has its own.": not model.stem,
        needs + "config.model.pool='max', and has its own.": model.pool == "max",
        needs + "config.model.up other than 'unpool'.": model.up != "unpool",
        needs + "config.model.dropout=().": not model.dropout,
        needs + "config.model.bottom_dilations=().": not model.bottom_dilations,
    }


def _are_strides(triples: tuple[tuple[int, int, int], ...]) -> bool:
    return all((f, p) == (s, 0) for f, p, s in triples)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_REPEATS


def _short(values: Any) -> str:
    """Writes a value, a long tuple by its beginning."""
    is_long = isinstance(values, tuple) and len(values) > 2 * MOST_LEVELS
    if not is_long:
        return repr(values)
    return f"({', '.join(map(repr, values[:4]))}, ... {len(values)} values)"


def _is_rate(value: Any) -> bool:
    return is_traced(value) or (isinstance(value, int | float) and 0 <= value < 1)
