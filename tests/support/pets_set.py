"""A small pets set as official archives, for several test files."""

import functools
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.sets.tfds_pets import Records, open_pets
from unet_jax.errors import UserError

SPLITS = {  # two of them are on tfds' list of corrupt samples: beagle_116 and Egyptian_Mau_139
    "trainval": ("Abyssinian_100", "american_bulldog_10", "beagle_116", "pug_7"),
    "test": ("Bengal_1", "Egyptian_Mau_139", "yorkshire_terrier_3"),
}
HEAD_BOX = (
    "<annotation><size><width>40</width><height>20</height></size><object><bndbox>"
    "<xmin>10</xmin><ymin>5</ymin><xmax>20</xmax><ymax>15</ymax></bndbox></object></annotation>"
)
PREPARED = "oxford_iiit_pet/4.0.0"


def encode(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def make_image(seed: int, mode: str = "RGB") -> Image.Image:
    # Blocks: noise as fine as pixels would not survive JPEG, so nothing could be compared.
    shape = (3, 5, 4) if mode == "RGBA" else (3, 5, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels.repeat(16, 0).repeat(16, 1))


@functools.cache
def originals() -> dict[str, bytes]:
    """Contents of the archives by member name."""
    files = {}
    names = [name for split in SPLITS.values() for name in split]
    for seed, name in enumerate(names):
        kind, mode = ("PNG", "RGBA") if name == "beagle_116" else ("JPEG", "RGB")
        files[f"images/{name}.jpg"] = encode(make_image(seed, mode), kind)
        trimap = np.random.default_rng(seed).integers(1, 4, (48, 80), np.uint8)
        files[f"annotations/trimaps/{name}.png"] = encode(Image.fromarray(trimap), "PNG")
    files["images/._pug_7.jpg"] = b"macOS"
    files["annotations/xmls/Abyssinian_100.xml"] = HEAD_BOX.encode()
    for split, members in SPLITS.items():
        files[f"annotations/{split}.txt"] = "".join(f"{n} 5 2 1\n" for n in members).encode()
    return files


def pack(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the archive pair; the second is a plain tar file, as the official ones are."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mode in (("images", "w:gz"), ("annotations", "w:")):
        with tarfile.open(folder / f"{name}.tar.gz", mode) as tar:
            for member, data in files.items():
                if member.startswith(f"{name}/"):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def prepare(folder: Path, **changes: bytes | None) -> dict[str, Records]:
    """Prepares from the originals with members replaced, or left out where None."""
    files = originals() | changes
    pack(folder, {name: data for name, data in files.items() if data is not None})
    return open_pets(str(folder), verify_checksums=False)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def nothing_prepared(folder: Path) -> bool:
    left = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return not [name for name in left if "4.0.0" in name or "names" in name or "extract_" in name]
