"""The formats of exports by name. A new one is a module and its row here."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unet_jax.export import stablehlo
from unet_jax.export.bundle import Bundle

EXPORTERS: dict[str, Callable[[Bundle, Path], None]] = {
    "stablehlo": stablehlo.export,
}
"""By name in --format: each writes its files into a folder."""


class Needs(NamedTuple):
    """What a format needs.

    Attributes:
        extra: The pip extra; "" for none.
        modules: What that installs and the format imports.
        axes: Of pixels that it has.
        licence: Whether it cannot be without one.
    """

    extra: str = ""
    modules: tuple[str, ...] = ()
    axes: tuple[int, ...] = (2, 3)
    licence: bool = False


NEEDS: dict[str, Needs] = {
    "stablehlo": Needs(),
}
