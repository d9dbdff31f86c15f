"""The formats of exports by name. A new one is a module and its row here."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from unet_jax.export import bioimageio, onnx, page, safetensors, stablehlo
from unet_jax.export.bundle import Bundle


class Target(NamedTuple):
    """A format.

    Attributes:
        export: Writes a model's files into a folder that is there and empty.
        needs: Packages that it imports, inside of functions, and the pip extra `export` installs.
        axes: Of pixels that it has.
        needs_licence: Whether it cannot be without one.
        check: Refuses a model that it cannot have, before anything is made.
    """

    export: Callable[[Bundle, Path], None]
    needs: tuple[str, ...] = ()
    axes: tuple[int, ...] = (2, 3)
    needs_licence: bool = False
    check: Callable[[Bundle], object] = lambda bundle: None


EXPORTERS: dict[str, Target] = {
    "stablehlo": Target(stablehlo.export, ("flatbuffers",)),
    "onnx": Target(onnx.export, ("onnx",)),
    "safetensors": Target(safetensors.export),
    "bioimageio": Target(bioimageio.export, ("onnx",), axes=(2,), needs_licence=True),
    page.NAME: Target(page.export, ("onnx",), axes=(2,), check=page.facts_of),
}
"""By name in --format."""
