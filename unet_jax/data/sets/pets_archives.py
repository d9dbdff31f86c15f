"""What lies in the archives of Oxford-IIIT Pet: lists, images, masks and head boxes."""

import io
import warnings
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from tensorflow_datasets.datasets.oxford_iiit_pet import (
    oxford_iiit_pet_dataset_builder as stock,
)

from unet_jax.data.retry import one_line
from unet_jax.errors import UserError

ARCHIVES = ("images.tar.gz", "annotations.tar.gz")
LABELS = range(1, len(stock._LABEL_CLASSES) + 1)
SPECIES = range(1, len(stock._SPECIES_CLASSES) + 1)


def image_of(name: str) -> str:
    """Returns the member that holds an image."""
    return f"images/{name}.jpg"


def mask_of(name: str) -> str:
    """Returns the member that holds an image's mask."""
    return f"annotations/trimaps/{name}.png"


def read_list(folder: Path, split: str) -> list[tuple[str, int, int]]:
    """Reads name, label and species of a split's images and checks that their files are there."""
    member = f"annotations/{split}.txt"
    if not (folder / member).is_file():
        raise UserError(f"annotations.tar.gz has no {member}: download it again.")
    entries = []
    for line in (folder / member).read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            name, label, species, _ = line.split()
            # `index` refuses what is out of range; the records count from 0.
            entry = name, LABELS.index(int(label)), SPECIES.index(int(species))
        except ValueError as error:
            raise UserError(
                f"{member} in annotations.tar.gz: expected NAME LABEL SPECIES BREED, found "
                f"{line!r}; download the archive again."
            ) from error
        for needed, archive in zip((image_of(name), mask_of(name)), ARCHIVES, strict=True):
            if not (folder / needed).is_file():
                raise UserError(
                    f"{archive} has no {needed}, which {member} lists: download it again."
                )
        entries.append(entry)
    return entries


def read_image(folder: Path, name: str) -> bytes:
    """An image as a JPEG file: its own bytes where it is one, else encoded anew."""
    data = (folder / image_of(name)).read_bytes()
    image, warned = decode(data, image_of(name))
    clean = image.mode == "RGB" and not warned
    if data.startswith(b"\xff\xd8\xff") and (clean or name not in stock._CORRUPT_SAMPLES):
        return data
    if image.mode == "P":
        image = image.convert("RGBA")  # Pillow warns where a palette's transparency is dropped
    encoded, exif = io.BytesIO(), image.info.get("exif", b"")  # which may say how it lies
    image.convert("RGB").save(encoded, "JPEG", quality=95, exif=exif)
    return encoded.getvalue()


def decode(data: bytes, member: str) -> tuple[Image.Image, bool]:
    """Decodes all of an image; also says whether Pillow had to warn."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = Image.open(io.BytesIO(data))
            image.load()
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise unreadable(member, error) from error
    return image, bool(caught)


def read_head_box(folder: Path, name: str) -> Any:
    """Reads the box of a pet's head, as the stock builder does; the test images have none."""
    member = f"annotations/xmls/{name}.xml"
    try:
        return stock._get_head_bbox(folder / member)
    except FileNotFoundError:
        return stock._EMPTY_BBOX
    except Exception as error:  # not XML, or without the elements looked for
        raise unreadable(member, error) from error


def unreadable(member: str, error: Exception) -> UserError:
    """Returns the error that names a damaged member and its archive."""
    archive = f"{member.partition('/')[0]}.tar.gz"
    # Pillow's own message would show the address of a buffer.
    reason = "no image" if isinstance(error, UnidentifiedImageError) else one_line(error)
    return UserError(
        f"{member} in {archive} cannot be read ({reason}): download the archive again."
    )
