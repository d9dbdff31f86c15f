"""What every kind of results has in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from unet_jax.process.whole import write_whole


class Predicted(NamedTuple):
    """What is predicted for one image.

    Attributes:
        name: Its id.
        file: What lists call it: the id with the ending of its file.
        image: [*n, C].
        label: uint8 [*n], class ids; or [*n, K] of 0 and 1, of classes that may overlap.
        spacing: Lengths of a pixel's sides along each axis; 1 where its file does not tell.
        maps: What outputs ask for by `Output.needs`: "probability" float32 [*n, K] of the network's
            K channels, and "entropy" and "disagreement" float32 [*n], or of channels that do not
            exclude each other [*n, K]; see `averaging`.
    """

    name: str
    file: str
    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]
    maps: Mapping[str, np.ndarray] = MappingProxyType({})

    @property
    def axes(self) -> int:
        """Returns how many axes of pixels there are."""
        return self.image.ndim - 1

    @property
    def is_by_class(self) -> bool:
        """Whether a pixel may be of several classes."""
        return self.label.ndim > self.axes


class Output:
    """One kind of results: what files it has, and how they are written.

    A row of `OUTPUTS` is a class such as this one, of which a prediction makes one object.

    Attributes:
        said: What the command says that it wrote, in the plural.
        axes: Of the images that it can be written for.
        common: Names of the files of the whole prediction; the others are those of an image.
        needs: The name in `Predicted.maps` that it reads; "" for none.
    """

    said: ClassVar[str]
    axes: ClassVar[tuple[int, ...]] = (2, 3)
    common: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str] = ""

    def __init__(self, class_names: Sequence[str]) -> None:
        """Takes the names of the classes that labels hold, by id."""
        self.class_names = tuple(class_names)

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the files of one image, which are planned before any is read.

        Args:
            name: The image's id; it may begin with the names of folders.
            suffix: Of masks of its format; see `Format.mask_suffix`.
            by_class: Of classes that may overlap, their names; else ().
        """
        return ()

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Takes what is predicted for one image, and writes its files, whole or not at all.

        Args:
            found: What is predicted.
            files: Those of `files`, in the folder of the results.
        """
        raise NotImplementedError

    def close(self, files: Sequence[Path]) -> list[str]:
        """Writes the files of the whole prediction.

        Args:
            files: Those of `common`, in the folder of the results.

        Returns:
            Lines for the user, such as what could not be written exactly.
        """
        return []


def write(file: Path, data: bytes) -> None:
    """Writes a file whole or not at all; its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, data)
