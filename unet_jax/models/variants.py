"""Variants of the U-Net as data: each is the keyword arguments of `unet.UNet`.

A config page takes its model section from here, `"model": section("nnunet", norm="group")`, so that
every argument can be set on the command line.
"""

from typing import Any

from unet_jax import defaults
from unet_jax.errors import UserError

DEFAULTS = defaults.DEFAULTS["model"]

_NNUNET = {"norm": "instance", "activation": "leaky_relu", "conv_bias": True, "pool": "stride"}

_RESNET = {"features": (16, 32, 64, 128, 256), "input_scale": "imagenet"}

VARIANTS: dict[str, dict[str, Any]] = {
    # Today's usual form: same padding, normalisation, any size.
    "modern": {},
    # Ronneberger et al., 2015: valid convolutions, 572 -> 388, dropout at the end of the
    # contracting path.
    "paper": {"padding": "valid", "norm": "none", "dropout": (0.0, 0.0, 0.0, 0.5, 0.5)},
    # He et al., 2016, in both paths.
    "residual": {"block": "residual", "repeats": (1,), "decoder_repeats": (1,)},
    "bottleneck": {"block": "bottleneck"},
    # Oktay et al., 2018.
    "attention": {"attention": True},
    # Zhou et al., 2018.
    "unet++": {"decoder": "unet++", "deep_supervision": 3},
    # Huang et al., 2020.
    "unet3+": {"decoder": "unet3+", "deep_supervision": 3},
    # Isensee et al., 2021: the plain configuration.
    "nnunet": {
        **_NNUNET,
        "features": (32, 64, 128, 256, 512, 512, 512, 512),
        "deep_supervision": 6,
    },
    # Isensee et al., 2024: the residual encoder preset "M" with a light decoder.
    "nnunet_resenc": {
        **_NNUNET,
        "features": (32, 64, 128, 256, 512, 512, 512, 512),
        "block": "residual",
        "decoder_block": "plain",
        "stem": True,
        "repeats": (1, 3, 4, 6, 6, 6, 6, 6),
        "decoder_repeats": (1,),
        "deep_supervision": 6,
    },
    # Hu et al., 2018, after every block.
    "squeeze_excite": {"squeeze_excite": 16},
    # Dilated convolutions at the bottom, where the receptive field is largest (Yu & Koltun, 2016).
    "dilated": {"bottom_dilations": (1, 2, 4)},
    # Chollet, 2017.
    "depthwise": {"block": "depthwise"},
    # 2x2 pixels folded into channels before the first level and unfolded after the last.
    "folded": {"fold": 2},
    # ResNet encoders with torchvision's layout (He et al., 2016) and input.
    "resnet18": {"encoder": "resnet18", **_RESNET},
    "resnet34": {"encoder": "resnet34", **_RESNET},
    "resnet50": {"encoder": "resnet50", **_RESNET},
}


def section(variant: str = "modern", **changes: Any) -> dict[str, Any]:
    """Makes the model section of a config page.

    Args:
        variant: A key of `VARIANTS`.
        **changes: Arguments of `unet.UNet` that differ from the variant's.

    Returns:
        All arguments but the number of classes; those per level follow the number of features.

    Raises:
        UserError: The variant or an argument is unknown.
    """
    if variant not in VARIANTS:
        raise UserError(f"{variant!r} is no variant; allowed are {', '.join(VARIANTS)}.")
    for name in changes:
        if name not in DEFAULTS:
            raise UserError(f"{name!r} is no argument of UNet; allowed are {', '.join(DEFAULTS)}.")
    values = {**DEFAULTS, **VARIANTS[variant], **changes}
    levels = len(values["features"])
    fitted = {
        "repeats": values["repeats"][:levels],
        "dropout": values["dropout"][-levels:],  # at the end of the contracting path
        "deep_supervision": min(values["deep_supervision"], max(0, levels - 2)),
    }
    return {**values, **fitted, **changes}
