"""Images of a data set as the page shows them, read again only where they are shown."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from unet_jax import figures
from unet_jax.config import call
from unet_jax.data.base import Dataset, PairSource
from unet_jax.data.sources import open_data
from unet_jax.doctor.survey import Survey
from unet_jax.errors import UserError
from unet_jax.html.elements import Html, make

SIDE = 256  # pixels of a thumbnail's longer side at most
SAMPLES, COUNTED = 6, 16  # images of a split that are shown, and whose values are counted
BINS, FEW = 64, 64  # of a histogram; pixels along an axis, about, that are counted
ALPHA = 0.35  # of the colours of classes, so that the image under them is seen
_QUALITY = 90
_SEED = 0  # of the random samples


class Thumbnail(NamedTuple):
    """An image of a data set, ready to be embedded.

    Attributes:
        name: Of the image.
        split: That it is in.
        url: data:image/jpeg;base64,..., the image with its mask over it; "" where there is none.
        width: Pixels of the thumbnail.
        height: Likewise.
        note: What is to be said of it; "" for nothing.
    """

    name: str
    split: str
    url: str
    width: int = 0
    height: int = 0
    note: str = ""


class Histogram(NamedTuple):
    """How often values are, of some images of a split.

    Attributes:
        split: Its name.
        images: How many were counted.
        low: The smallest value that is counted, where the first of `BINS` equal bins begins.
        high: The largest.
        counts: int64 [C, BINS].
    """

    split: str
    images: int
    low: float
    high: float
    counts: np.ndarray


class Album:
    """Shows the images of a survey."""

    def __init__(self, survey: Survey) -> None:
        """Opens the data as the survey did; nothing is read."""
        self._survey = survey
        self._dataset: Dataset | None = None
        if survey.looks:
            data = survey.config.data.to_dict()
            self._dataset = call(open_data, "config.data", data, kept=None)[0]
        self._places = {
            name: (split, index)
            for split, looks in survey.looks.items()
            for index, one in enumerate(looks)
            for name in (one.id, *one.files)
        }

    def find(self, name: str) -> Thumbnail | None:
        """Shows the image of a file, or of an id; None where the survey has not seen it."""
        place = self._places.get(name)
        return self.show(*place) if place else None

    def marked(self, name: str, suspects: np.ndarray) -> Thumbnail | None:
        """Shows the image of an id in pale grey, with the pixels bool [*n] that are suspect."""
        place = self._places.get(name)
        if place is None or self._dataset is None:
            return None
        sample = self._dataset.splits[place[0]].read(place[1])
        axes = sample.image.ndim - 1
        image, label = figures.flat_image(sample.image), figures.flat_label(sample.truth(), axes)
        flat = figures.flat_label(suspects.astype(np.uint8), axes).astype(bool)
        if image.shape[:2] != label.shape[:2] or flat.shape != label.shape[:2]:
            return None
        other = np.where(flat.reshape(flat.shape + (1,) * (label.ndim - 2)), label == 0, label)
        parts = (shrink(part, is_label=True) for part in (label, other.astype(np.uint8)))
        return _thumbnail(
            name, place[0], figures.error_map(shrink(image), *parts), "suspect labels"
        )

    def samples(self, split: str) -> list[Thumbnail]:
        """Shows random images of a split, always the same, in their order."""
        return [self.show(split, index) for index in self._drawn(split)[:SAMPLES]]

    def _drawn(self, split: str) -> list[int]:
        looks = self._survey.looks[split]
        order = np.random.default_rng(_SEED).permutation(len(looks)).tolist()
        good = [index for index in order if not looks[index].failed]
        return sorted(good[:SAMPLES]) + sorted(good[SAMPLES:COUNTED])

    def show(self, split: str, index: int) -> Thumbnail:
        """Shows an image with its mask over it; without where its mask cannot be read."""
        look = self._survey.looks[split][index]
        assert self._dataset is not None
        source = self._dataset.splits[split]
        try:
            sample = source.read(index)
            axes = sample.image.ndim - 1
            label = figures.flat_label(sample.truth(), axes)
            image = figures.flat_image(sample.image)
            if image.shape[:2] != label.shape[:2]:
                return _thumbnail(
                    look.id, split, shrink(image), "without its mask, of another size"
                )
            drawn = figures.overlay(shrink(image), shrink(label, is_label=True), ALPHA)
            return _thumbnail(look.id, split, drawn, "")
        except UserError:
            if not isinstance(source, PairSource):
                return Thumbnail(look.id, split, "", note="cannot be read")
        try:
            image = source.pairs.read(source.indices[index]).decode_image(2)
        except UserError:
            return Thumbnail(look.id, split, "", note="cannot be read")
        return _thumbnail(
            look.id, split, shrink(figures.flat_image(image)), "its mask cannot be read"
        )

    def histogram(self, split: str) -> Histogram | None:
        """Counts the values of some images of a split; None where there are none of the usual kind.

        Of each image about every so many pixels that 64 are left along an axis. The bins are the
        same for all splits, from the smallest to the largest value of all images.
        """
        spec, looks = self._survey.spec, self._survey.looks
        seen = [one for _, one in self._survey.all() if one.spec and one.means is not None]
        if spec is None or self._dataset is None or not seen:
            return None
        low, high = min(one.low for one in seen), max(one.high for one in seen)
        # Of whole numbers, each bin holds as many values.
        end = high + 1 if np.issubdtype(spec.dtype, np.integer) or high == low else high
        counts, images = np.zeros((spec.channels, BINS), np.int64), 0
        for index in self._drawn(split):
            kind = looks[split][index].spec
            if kind is None or kind[:3] != spec[:3]:
                continue
            image = self._dataset.splits[split].read(index).image
            image = image[tuple(slice(None, None, max(1, n // FEW)) for n in image.shape[:-1])]
            for channel in range(spec.channels):
                values = image[..., channel].astype(np.float64)
                counts[channel] += np.histogram(values, BINS, (low, end))[0]
            images += 1
        return Histogram(split, images, low, high, counts) if images else None


def shrink(pixels: np.ndarray, *, is_label: bool = False) -> np.ndarray:
    """Makes an image no larger than `SIDE` along its longer side.

    Args:
        pixels: uint8 [H, W, 3], or the classes of pixels, uint8 [H, W] or [H, W, K].
        is_label: Whether they are classes, of which the nearest pixel's is taken.

    Returns:
        uint8 [h, w, ...] of the same aspect; the same pixels where they are small enough.
    """
    height, width = pixels.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if is_label:
        rows = ((np.arange(size[0]) + 0.5) * height // size[0]).astype(int)
        columns = ((np.arange(size[1]) + 0.5) * width // size[1]).astype(int)
        return pixels[rows[:, None], columns]
    small = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(small)


def _thumbnail(name: str, split: str, pixels: np.ndarray, note: str) -> Thumbnail:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Thumbnail(name, split, url, pixels.shape[1], pixels.shape[0], note)


def frame(one: Thumbnail) -> Html:
    """Makes the element of a thumbnail with its name."""
    said = f"{one.name}, {one.note}" if one.note else one.name
    if not one.url:
        return make("figure", make("div", one.note, kind="gone"), make("figcaption", one.name))
    size = {"width": str(one.width), "height": str(one.height)}
    kind = {"kind": "small"} if max(one.width, one.height) < 128 else {}
    image = make("img", src=one.url, alt=f"{said}, with its mask", **size, **kind)
    return make("figure", image, make("figcaption", f"{said} ({one.split})"))


def find_thumbnails(albums: Sequence[Album], files: Sequence[str], most: int) -> list[Thumbnail]:
    """Shows the first few images of some files, each once.

    Args:
        albums: Where they are looked for, in turn.
        files: Their names.
        most: How many are shown.

    Returns:
        The thumbnails.
    """
    found: dict[tuple[str, str], Thumbnail] = {}
    for name in files:
        if len(found) >= most:
            break
        for album in albums:
            thumbnail = album.find(name)
            if thumbnail is not None:
                found.setdefault((thumbnail.split, thumbnail.name), thumbnail)
                break
    return list(found.values())
