"""Draws and changes small folders of images and masks, in which faults are planted."""

import io

import numpy as np
from PIL import Image

from unet_jax.defaults import page

COUNT, SIZE = 16, (48, 64)
NAMES = ("back", "disk")
HOLDERS = (0, 3, 4, 5, 9, 14)  # none of which the seed 0 draws for validation
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def blob(seed, size=SIZE, radius=None):
    """Returns where a disk of some radius lies, bool [H, W]."""
    rng = np.random.default_rng(seed)
    radius = radius or int(rng.integers(9, 14))
    centre = [rng.integers(radius, n - radius) for n in size]
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def photo(seed, mask, bright=110):
    """Draws a bright disk before a dark ground that no other image has: uint8 [H, W, 3]."""
    rng = np.random.default_rng(1000 + seed)
    few = Image.fromarray(rng.integers(0, 90, (6, 8, 3), np.uint8))
    ground = np.asarray(few.resize(mask.shape[::-1], Image.Resampling.BICUBIC), np.float64)
    image = ground + bright * mask[..., None] + rng.normal(20, 4, (*mask.shape, 3))
    return image.clip(0, 250).astype(np.uint8)


def save(file, array, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = array if isinstance(array, Image.Image) else Image.fromarray(array)
    opened.save(file, **options)


def draw(root, count=COUNT, size=SIZE, radius=None, label=None):
    """Draws a folder without faults: images/N.png, masks/N.png."""
    for seed in range(count):
        mask = blob(seed, size, radius)
        save(root / "images" / f"{seed:02}.png", photo(seed, mask), compress_level=1)
        save(root / "masks" / f"{seed:02}.png", label(seed, mask) if label else np.uint8(mask))


def stripes(shape, values):
    """Returns a mask [H, W] whose columns hold some values in turn."""
    return np.resize(np.array(values, np.uint8), shape[1])[None].repeat(shape[0], 0)


def read(file):
    return np.array(Image.open(file))


def change(folder, function, which=None):
    """Saves images, or those of some numbers, as a function makes them of what they were."""
    for number, file in enumerate(sorted(folder.iterdir())):
        if which is None or number in which:
            save(file, function(read(file)))


def make(root, **changes):
    """Returns the config of a folder; changes are by key below config.data, with _ for a dot."""
    folder = {"class_names": NAMES, **changes.pop("folder", {})}
    data = {"source": "folder", "path": str(root), "image_size": SIZE, "val_fraction": 0.25}
    data |= {**changes, "folder": folder}
    loss = {"cross_entropy": {"weight": 1.0}}
    train = {"duration": "2 steps", "batch_size": 4, "eval_every": "2 steps"}
    return page(data=data, model={"features": (4, 8, 8)}, loss=loss, train=train)


def copy(root, one, other, quality=0):
    for kind in ("images", "masks"):
        save(root / kind / f"{other}.png", read(root / kind / f"{one}.png"))
    if quality:
        data = io.BytesIO()
        Image.open(root / "images" / f"{one}.png").save(data, "JPEG", quality=quality)
        save(root / "images" / f"{other}.png", read(data))


def lists(root, val, train=range(COUNT)):
    (root / "val.txt").write_text("".join(f"{n:02}\n" for n in val))
    (root / "train.txt").write_text("".join(f"{n:02}\n" for n in train if n not in val))
