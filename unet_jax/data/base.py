"""What every source of labelled pictures shares."""

import collections
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from unet_jax.data import images
from unet_jax.metrics import View

IGNORE = 255  # in a source's labels: pixels that count neither in the loss nor in the scores


class Source(Protocol):
    """Labelled pictures by index."""

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per picture."""
        ...

    def __len__(self) -> int:
        """Returns how many pictures there are."""
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 [H, W, 3], "label": uint8 [H, W], "id": str}.

        Labels are class ids in 0..K-1, or `IGNORE`.
        """
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of the label, without decoding."""
        ...


class Dataset(NamedTuple):
    """The splits of a data set: "train", "val" and, where there is one, "test".

    Attributes:
        splits: Sources by name.
        class_names: K names.
        views: Other ways to count the same predictions.
    """

    splits: Mapping[str, Source]
    class_names: tuple[str, ...]
    views: tuple[View, ...] = ()


class Encoded(NamedTuple):
    """An encoded picture with its encoded mask, and the files (or records) they came from."""

    image: bytes
    mask: bytes
    image_name: str
    mask_name: str


class Pairs(Protocol):
    """Encoded pictures and masks by index, from files or records."""

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per pair."""
        ...

    def read(self, index: int) -> Encoded:
        """Reads one pair, not decoded."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of the mask, without decoding."""
        ...

    def stamp(self, index: int) -> str:
        """Returns a text that changes when the pair changes, without reading it."""
        ...

    @property
    def place(self) -> str:
        """Returns where they lie, the same text for all splits of a data set."""
        ...


class PairSource:
    """A source that decodes the pairs of one split.

    Attributes:
        pairs: All pairs.
        indices: Those of the split, in its order.
        label_map: Class id, or `IGNORE`, of every value that a mask may hold.
        cure: What to do where a mask holds another value; "" where `label_map` is the user's.
        used: Names of the pairs that are in any split of the data set.
    """

    def __init__(
        self,
        pairs: Pairs,
        indices: Sequence[int],
        label_map: Mapping[int, int],
        cure: str = "",
        used: Collection[str] | None = None,
    ) -> None:
        """Describes the split; nothing is read. Where `used` is None, all pairs are."""
        self.pairs, self.indices, self.label_map = pairs, tuple(indices), dict(label_map)
        self.cure, self.used = cure, pairs.ids if used is None else used
        self._table = np.full(256, IGNORE, np.uint8)
        for value, class_id in label_map.items():
            self._table[value] = class_id

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per picture."""
        return [self.pairs.ids[position] for position in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads and decodes one pair; see `Source`."""
        position = self.indices[int(index)]
        encoded = self.pairs.read(position)
        image = images.decode_image(encoded.image, encoded.image_name)
        mask = images.decode_mask(encoded.mask, encoded.mask_name)
        return {"image": image, "label": self._table[mask], "id": self.pairs.ids[position]}

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a label, without decoding; see `Source`."""
        return self.pairs.size(self.indices[int(index)])


def pick(ids: Sequence[str], names: Iterable[str]) -> list[int]:
    """Finds the indices of some names, in their order; names that are not there are left out.

    Args:
        ids: N different names.
        names: Those to find.

    Returns:
        Indices into `ids`.
    """
    position = {name: index for index, name in enumerate(ids)}
    return [position[name] for name in names if name in position]


def split_off(
    ids: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Splits off a seeded share, the same share of every group.

    Args:
        ids: N names; the split depends on them and not on their order.
        groups: N groups, such as breeds; the same text for all where there are none.
        fraction: Share to split off, in [0, 1).
        seed: Of the shuffle.

    Returns:
        Indices kept and indices split off, each in the order of `ids`.
    """
    members = collections.defaultdict(list)
    for index in sorted(range(len(ids)), key=lambda i: ids[i]):
        members[groups[index]].append(index)
    rng = np.random.default_rng(seed)
    off: set[int] = set()
    total = 0
    for group in sorted(members):
        # Rounding the running total, and not each group's share, keeps the whole share exact.
        before, total = round(total * fraction), total + len(members[group])
        take = round(total * fraction) - before
        off.update(members[group][i] for i in rng.permutation(len(members[group]))[:take])
    return [i for i in range(len(ids)) if i not in off], sorted(off)
