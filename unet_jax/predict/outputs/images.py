"""Results that are images of the input's own size: masks, colours, overlays, probabilities."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from unet_jax import figures
from unet_jax.data.by_class import OVERLAY, mask_name
from unet_jax.data.formats import find_format
from unet_jax.predict.outputs.base import Output, Predicted, write


class Masks(Output):
    """NAME.png, class ids in the class colours; see `Format.mask_suffix` for other formats.

    Of classes that may overlap each has a mask of 0 and 1, NAME_CLASS.png.
    """

    said: ClassVar[str] = "masks"

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the masks; see `Output`."""
        return tuple(f"{own}{suffix}" for own in _names(name, by_class))

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the masks; see `Output`."""
        values = 2 if found.is_by_class else len(self.class_names)
        for file, mask in zip(files, _masks(found), strict=True):
            find_format(file.name).write_mask(file, np.ascontiguousarray(mask), values)


class Ids(Output):
    """NAME_ids.png, class ids as grey values, for programs that replace a palette by its colours.

    Of classes that may overlap each has one of 0 and 1, NAME_CLASS_ids.png.
    """

    said: ClassVar[str] = "grey masks"
    axes: ClassVar[tuple[int, ...]] = (2,)

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the masks; see `Output`."""
        return tuple(f"{own}_ids.png" for own in _names(name, by_class))

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the masks; see `Output`."""
        for file, mask in zip(files, _masks(found), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(mask)).save(buffer, format="PNG")
            write(file, buffer.getvalue())


class Colours(Output):
    """NAME_colours.png, the colour of every pixel's class; black where there is none."""

    said: ClassVar[str] = "masks in colours"

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"{name}_colours.png",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file, of a volume its middle slice; see `Output`."""
        label = figures.flat_label(found.label, found.axes)
        figures.save_png(files[0], figures.class_colours(label))


class Overlays(Output):
    """NAME_overlay.png, the classes over the image; of a volume its middle slice."""

    said: ClassVar[str] = "overlays"

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"{name}_{OVERLAY}.png",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file; see `Output`."""
        shown = figures.flat_image(found.image), figures.flat_label(found.label, found.axes)
        figures.save_png(files[0], figures.overlay(*shown))


class _Map(Output):
    """NAME_KIND.npy, float32: what is computed of every pixel beside its class."""

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"{name}_{cls.needs}.npy",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file; see `Output`."""
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(found.maps[self.needs], np.float32))
        write(files[0], buffer.getvalue())


class Probabilities(_Map):
    """NAME_probability.npy, float32 [*n, K]: 4 K bytes for a pixel, in memory and in the file."""

    said: ClassVar[str] = "probabilities"
    needs: ClassVar[str] = "probability"


class Entropy(_Map):
    """NAME_entropy.npy, float32 [*n], or by class [*n, K]: that of the probability, in nats."""

    said: ClassVar[str] = "maps of entropy"
    needs: ClassVar[str] = "entropy"


class Disagreement(_Map):
    """NAME_disagreement.npy, float32 as the entropy: how far several predictions differ.

    It is the entropy of their mean less the mean of their entropies, in nats: 0 where all have the
    same probabilities (the mutual information of Houlsby et al., 2011, eq. 2, over predictions).
    """

    said: ClassVar[str] = "maps of disagreement"
    needs: ClassVar[str] = "disagreement"


def _names(name: str, by_class: Sequence[str]) -> list[str]:
    return [mask_name(name, class_name) for class_name in by_class] or [name]


def _masks(found: Predicted) -> list[np.ndarray]:
    return [*np.moveaxis(found.label, -1, 0)] if found.is_by_class else [found.label]
