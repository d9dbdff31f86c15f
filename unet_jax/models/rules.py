"""What must hold between the arguments of a U-Net, in the order in which it is checked."""

from typing import TYPE_CHECKING, Any

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.models.blocks import ACTIVATIONS, BLOCKS, NORMS, POOLS
from unet_jax.models.decoders import DECODERS
from unet_jax.models.encoders.resnet import ENCODERS
from unet_jax.models.scales import SCALES
from unet_jax.models.up.geometry import fitting_paddings, stage_geometry
from unet_jax.models.up.transposed import INITIALS
from unet_jax.models.up.ways import WAYS

if TYPE_CHECKING:
    from unet_jax.models.unet import UNet

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
    "up": WAYS,
    "up_initial": INITIALS,
    "dtype": ("float32", "bfloat16"),
    "dimensions": (2, 3),
}


def check_options(model: "UNet") -> None:
    """Checks the arguments of a U-Net.

    Args:
        model: The U-Net.

    Raises:
        UserError: A value is not allowed, or not together with another.
    """
    for name, allowed in CHOICES.items():
        choose(dict.fromkeys(allowed), f"config.model.{name}", getattr(model, name))
    _check_levels(model)
    _check_numbers(model)
    _check_stages(model)
    if model.padding == "valid":
        _check_valid(model)
    _check_prune(model)
    _check_residual(model)
    _check_way(model)
    if model.decoder == "unet3+":
        _check_full_scale(model)
    if model.has_resnet():
        _check_resnet(model)


def _check_levels(model: "UNet") -> None:
    """Checks what is one number for all levels, or one per level."""
    features, levels = model.features, len(model.features)
    are_counts = all(type(f) is int and 0 < f <= MOST_CHANNELS for f in features)
    _require(
        1 <= levels <= MOST_LEVELS and are_counts,
        f"config.model.features={_short(features)} must be channels per level, each 1 or more and "
        f"{MOST_CHANNELS} or less, of 1 to {MOST_LEVELS} levels, such as (64, 128, 256).",
    )
    bottom = model.bottom()
    counts = f"each 1 or more, {MOST_REPEATS} or less"
    _per_level(model, "repeats", bottom + 1, all(map(_is_count, model.repeats)), counts)
    are_counts = all(map(_is_count, model.decoder_repeats))
    _per_level(model, "decoder_repeats", bottom, are_counts, counts)
    if model.dropout:
        are_rates = all(map(_is_rate, model.dropout))
        _per_level(model, "dropout", bottom + 1, are_rates, "each in [0, 1)")


def _check_numbers(model: "UNet") -> None:
    """Checks the range of each number by itself."""
    bottom, first = model.bottom(), int(model.has_resnet())
    _must_be(
        model,
        "width",
        0 < model.width <= MOST_CHANNELS and max(model.channels()) <= MOST_CHANNELS,
        f"above 0, and no level wider than {MOST_CHANNELS} channels",
    )
    _must_be(model, "fold", model.fold >= 1, "1 or more")
    _must_be(model, "squeeze_excite", model.squeeze_excite >= 0, "0 or more")
    _must_be(model, "stochastic_depth", _is_rate(model.stochastic_depth), "in [0, 1)")
    dilations = model.bottom_dilations
    are_allowed = all(type(d) is int and 1 <= d <= MOST_REACH for d in dilations)
    _must_be(
        model,
        "bottom_dilations",
        are_allowed and len(dilations) <= MOST_REPEATS,
        f"each 1 or more, {MOST_REACH} or less, and {MOST_REPEATS} at most",
    )
    most = max(0, bottom - 1)
    _must_be(
        model,
        "deep_supervision",
        0 <= model.deep_supervision <= most,
        f"0 to {most}, the levels between the first and the bottom",
    )
    _must_be(
        model,
        "skips_off",
        all(level in range(first, bottom) for level in model.skips_off),
        f"levels of {first} to {bottom - 1}, which have skips",
    )
    _must_be(
        model,
        "remat",
        all(level in range(bottom + 1 - first) for level in model.remat),
        f"levels of 0 to {bottom - first}, which have blocks",
    )
    _must_be(
        model,
        "frozen",
        all(isinstance(pattern, str) for pattern in model.frozen),
        "patterns of names of modules, such as ('encoder*',)",
    )


def _check_stages(model: "UNet") -> None:
    """Checks the filters of the ways up, and how far down their strides lead."""
    stages, key, triples = model.bottom(), "config.model.up_filters", model.up_filters
    _require(
        len(triples) in {1, stages} and all(len(triple) == 3 for triple in triples),
        f"{key}={_short(triples)} must be one (f, p, s) for all stages or {stages}, one per "
        "stage from the deepest up.",
    )
    for f, p, s in triples:
        are_whole = all(type(n) is int for n in (f, p, s))
        _require(
            are_whole and s >= 1 and 1 <= f <= MOST_REACH and 0 <= p < f,
            f"{key}: (f={f}, p={p}, s={s}) must have f, s >= 1 and 0 <= p < f, all whole, and "
            f"f <= {MOST_REACH}.",
        )
        stage, (low, high) = stage_geometry(f, p, s), fitting_paddings(f, s)
        is_small = model.padding == "valid" or stage.excess <= 0
        _require(
            is_small and stage.output_padding < s,
            f"{key}: (f={f}, p={p}, s={s}) does not make n pixels to s*n; f - 2p must be at "
            f"most s and at least 1: for f={f} and s={s}, p from {low} to {high}.",
        )
    _require(
        model.multiple() <= MOST_PIXELS,
        f"one pixel of the deepest of the {stages + 1} levels would be {model.multiple()} of the "
        f"image, more than {MOST_PIXELS}; use fewer config.model.features, or a smaller stride in "
        "config.model.up_filters or config.model.fold.",
    )


def _check_valid(model: "UNet") -> None:
    """Checks that valid padding is that of the paper's U-Net."""
    why = "config.model.padding='valid' is the paper's U-Net"
    fitting = [name for name, way in WAYS.items() if not (way.pads or way.reads_skip)]
    _needs(why, model.decoder == "unet", "config.model.decoder='unet'")
    _needs(why, model.pool != "stride", "config.model.pool='max' or 'average'")
    _needs(why, not model.attention, "config.model.attention=False")
    _needs(why, model.fold == 1, "config.model.fold=1")
    _needs(why, model.up in fitting, f"config.model.up={_any_of(fitting)}")
    _needs(why, not model.deep_supervision, "config.model.deep_supervision=0")


def _check_prune(model: "UNet") -> None:
    """Checks that the column that is left has a head."""
    first, last = model.bottom() - model.deep_supervision, model.bottom() - 1
    has_head = model.decoder == "unet++" and max(1, first) <= model.prune <= last
    _require(
        not model.prune or has_head,
        f"config.model.prune={model.prune} needs config.model.decoder='unet++' and a head at that "
        f"column: config.model.deep_supervision heads are at columns {first} to {last}.",
    )


def _check_residual(model: "UNet") -> None:
    """Checks that stochastic depth has units to skip."""
    _needs(
        "config.model.stochastic_depth skips residual units",
        not model.stochastic_depth
        or bool({model.block, model.decoder_block} & {"residual", "bottleneck"}),
        "config.model.block or config.model.decoder_block='residual' or 'bottleneck'",
    )


def _check_way(model: "UNet") -> None:
    """Checks what the way up takes, by its row of the table."""
    up, way = model.up, WAYS[model.up]
    with_filter = f"config.model.up={_any_of([name for name in WAYS if WAYS[name].has_filter])}"
    if way.pool:
        why = f"config.model.up={up!r} undoes {way.pool} pooling"
        _needs(why, model.pool == way.pool, f"config.model.pool={way.pool!r}")
    _needs(
        f"config.model.up_initial={model.up_initial!r} is where a transposed convolution starts",
        model.up_initial == "random" or way.has_filter,
        with_filter,
    )
    _require(
        way.has_filter or _are_strides(model.up_filters),
        f"config.model.up_filters={model.up_filters}: f and p are those of a transposed "
        "convolution, and other ways up take s alone: (f, p, s) must be (s, 0, s), or "
        f"{with_filter}.",
    )


def _check_full_scale(model: "UNet") -> None:
    """Checks that nothing is set for a full-scale decoder that it does not read."""
    why = "config.model.decoder='unet3+' has its own blocks and interpolates"
    are_strides = _are_strides(model.up_filters)
    _needs(why, model.up == "transpose", "config.model.up='transpose', the default")
    _needs(why, model.up_initial == "random", "config.model.up_initial='random'")
    _needs(why, are_strides, "(f, p, s) of config.model.up_filters to be (s, 0, s)")
    _needs(why, not model.decoder_block, "config.model.decoder_block=''")
    _needs(why, model.decoder_repeats == (2,), "config.model.decoder_repeats=(2,)")
    _needs(why, not model.attention, "config.model.attention=False")


def _check_resnet(model: "UNet") -> None:
    """Checks that nothing is set for a contracting path of blocks, which a ResNet replaces."""
    why = f"config.model.encoder={model.encoder!r} is a whole encoder of five levels"
    strides = {s for _, _, s in model.up_filters}
    reading = " or ".join(repr(name) for name, way in WAYS.items() if way.reads_skip)
    _needs(why, model.dimensions == 2, "config.model.dimensions=2")
    _needs(why, len(model.features) == 5, "five config.model.features, of the decoder's levels")
    _needs(why, strides == {2}, "stride 2 in config.model.up_filters")
    _needs(why, model.padding == "same", "config.model.padding='same'")
    _needs(why, model.fold == 1, "config.model.fold=1")
    _needs(why, model.repeats == (2,), "config.model.repeats=(2,), and has its own")
    _needs(why, not model.stem, "config.model.stem=False, and has its own")
    _needs(why, model.pool == "max", "config.model.pool='max', and has its own")
    _needs(why, not WAYS[model.up].reads_skip, f"config.model.up other than {reading}")
    _needs(why, not model.dropout, "config.model.dropout=()")
    _needs(why, not model.bottom_dilations, "config.model.bottom_dilations=()")


def _require(holds: bool, error: str) -> None:
    if not holds:
        raise UserError(error)


def _needs(why: str, holds: bool, needed: str) -> None:
    _require(holds, f"{why}: it needs {needed}.")


def _must_be(model: "UNet", name: str, holds: bool, allowed: str) -> None:
    if not holds:
        value = _short(getattr(model, name))
        raise UserError(f"config.model.{name}={value} must be {allowed}.")


def _per_level(model: "UNet", name: str, levels: int, are_allowed: bool, allowed: str) -> None:
    fits = len(getattr(model, name)) in {1, levels}
    needed = (
        f"one number for all levels or {levels}, one per level of config.model.features, {allowed}"
    )
    _must_be(model, name, fits and are_allowed, needed)


def _are_strides(triples: tuple[tuple[int, int, int], ...]) -> bool:
    return all((f, p) == (s, 0) for f, p, s in triples)


def _any_of(names: list[str]) -> str:
    return " or ".join(map(repr, names))


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST_REPEATS


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _short(values: Any) -> str:
    """Writes a value, a long tuple by its beginning."""
    is_long = isinstance(values, tuple) and len(values) > 2 * MOST_LEVELS
    if not is_long:
        return repr(values)
    return f"({', '.join(map(repr, values[:4]))}, ... {len(values)} values)"
