"""Class colours, pictures coloured by class, and image files of them."""

import functools
import io
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

IGNORED = 255
"""Label value of pixels that count neither as right nor as wrong."""

ERROR_COLOUR = (214, 0, 84)
"""Wrong pixels: dark and saturated on a light grey picture, so that it is also a contrast in
lightness; `error_map` uses it for nothing else."""

# Okabe and Ito's eight, black last: as a first class it would hide the picture under the overlay.
_OKABE_ITO = "e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 000000"
# Chosen by eye for the next classes, since CIELAB overrates differences between blues.
_NEXT_COLOURS = "713900 c6e28d 8d0071 8de2ff 71712c 8d8dff ffe2c6 2828a0"


def _as_seen(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of u8[N,3] colours with normal, protan and deutan sight: float[N,3 sights,3]."""
    srgb = rgb / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    sights = np.array(  # linear RGB; the last two after Machado et al. 2009, full severity
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            [
                [0.152286, 1.052583, -0.204868],
                [0.114503, 0.786281, 0.099216],
                [-0.003882, -0.048116, 1.051998],
            ],
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ],
        ]
    )
    seen = np.clip(np.einsum("sij,nj->nsi", sights, linear), 0, 1)
    to_xyz = np.array(  # scaled by the D65 white point
        [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]]
    )
    xyz = seen @ to_xyz.T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


@functools.cache
def all_colours() -> np.ndarray:
    """All 256 class colours, u8[256,3]; each is the candidate farthest from all before it."""
    levels = np.linspace(0, 255, 10).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lightness = _as_seen(candidates)[:, 0, 0]  # very dark or pale: no colour under an overlay
    candidates = candidates[(lightness > 30) & (lightness < 92)]
    # Greys are taken by ignored pixels, contours and paper; the error colour by errors.
    reserved = np.array([(255, 255, 255), (190, 190, 190), (110, 110, 110), ERROR_COLOUR], np.uint8)
    seen = _as_seen(candidates)
    distance = np.full(len(candidates), np.inf)
    named = np.array([list(bytes.fromhex(c)) for c in f"{_OKABE_ITO} {_NEXT_COLOURS}".split()])
    colours = list(named.astype(np.uint8))

    def take(lab: np.ndarray) -> None:
        # The sight to which two colours look most alike decides how distinct they are.
        np.minimum(distance, np.linalg.norm(seen - lab, axis=-1).min(axis=-1), out=distance)

    for lab in _as_seen(np.concatenate([reserved, named])):
        take(lab)
    while len(colours) < 256:
        # A candidate taken has distance 0, so it cannot be chosen again.
        best = int(distance.argmax())
        colours.append(candidates[best])
        take(seen[best])
    return np.stack(colours)


def palette(num_classes: int) -> np.ndarray:
    """Distinct class colours that stay apart with the common kinds of colour blindness.

    Args:
        num_classes: K, from 1 to 256.

    Returns:
        uint8[K, 3] RGB, a new array. A class has the same colour whatever K is; the first eight
        are Okabe and Ito's, with black last.

    Raises:
        ValueError: if `num_classes` is outside 1..256.
    """
    if not 1 <= num_classes <= 256:
        raise ValueError(f"num_classes is {num_classes}; a palette has 1 to 256 colours")
    return all_colours()[:num_classes].copy()


def hatch(height: int, width: int) -> np.ndarray:
    """Neutral diagonal stripes for ignored pixels, u8[H,W] of 110 and 200."""
    y, x = np.ogrid[:height, :width]
    return np.where((x + y) % 7 < 2, 110, 200).astype(np.uint8)


def same_size(image: np.ndarray, *labels: np.ndarray) -> None:
    """Raises ValueError unless `image` is [H,W,3] and every label map is [H,W]."""
    shapes = [image.shape, *(label.shape for label in labels)]
    if len(shapes[0]) != 3 or shapes[0][2] != 3 or any(s != shapes[0][:2] for s in shapes[1:]):
        raise ValueError(f"expected a picture [H,W,3] and label maps [H,W], got {shapes}")


def overlay(image: np.ndarray, label: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blends class colours over a picture and draws the class boundaries.

    A boundary is a white line beside a black one, so that it shows on every colour and without
    colour vision; it fades out in speckle. Ignored pixels are hatched in grey.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] class ids; 255 is ignored.
        alpha: weight of the class colours, 0 (picture only) to 1 (colours only).

    Returns:
        uint8[H, W, 3].

    Raises:
        ValueError: if the shapes do not match.
    """
    same_size(image, label)
    colours = all_colours()[label]
    ignored = label == IGNORED
    colours[ignored] = hatch(*label.shape)[ignored][:, None]
    blended = image * (1 - alpha) + colours * alpha
    before, after = np.zeros_like(ignored), np.zeros_like(ignored)
    across, down = label[:, :-1] != label[:, 1:], label[:-1] != label[1:]
    before[:, :-1] |= across
    before[:-1] |= down
    after[:, 1:] |= across
    after[1:] |= down
    # Where classes change at nearly every pixel, contours would hide all colours: fade them out.
    drawn = (before | after).astype(np.uint8) * 255
    crowding = np.asarray(Image.fromarray(drawn).filter(ImageFilter.BoxBlur(3))) / 255
    strength = (np.clip((0.8 - crowding) / 0.3, 0, 1) * (before | after))[..., None]
    line = np.where(before, 255, 0)[..., None]
    return np.rint(blended * (1 - strength) + line * strength).astype(np.uint8)


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Marks the wrongly classified pixels on a pale grey version of the picture.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] true class ids; 255 is ignored.
        prediction: uint8[H, W] predicted class ids.

    Returns:
        uint8[H, W, 3]: `ERROR_COLOUR` at exactly the wrong pixels, grey stripes of 110 and 200 at
        ignored ones, grey of 150..255 elsewhere.

    Raises:
        ValueError: if the shapes do not match.
    """
    same_size(image, label, prediction)
    luma = image @ np.array([0.299, 0.587, 0.114])
    marked = np.rint(150 + luma * (105 / 255)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    ignored = label == IGNORED
    marked[ignored] = hatch(*label.shape)[ignored][:, None]
    marked[(label != prediction) & ~ignored] = ERROR_COLOUR
    return marked


def _write_image(
    path: str | os.PathLike[str], image: Image.Image, kind: str = "PNG", **options: Any
) -> None:
    """Writes `image` so that `path` holds either the old file or the whole new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are readable by their owner only, and would stay so.
    # Without the target's name, which may be as long as names can be.
    temporary = target.with_name(f".{os.getpid()}.{threading.get_ident()}.tmp")
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    try:
        temporary.write_bytes(buffer.getvalue())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def save_gif(
    path: str | os.PathLike[str], frames: Sequence[np.ndarray], seconds: Sequence[float]
) -> None:
    """Writes pictures as an animation that begins again at its end, atomically.

    Args:
        path: file to write; missing folders are made.
        frames: N >= 1 pictures uint8[H, W, 3] of one size.
        seconds: N numbers, how long each is shown.

    Raises:
        ValueError: if there is no frame, or counts or shapes do not match.
    """
    if len({frame.shape for frame in frames}) != 1 or len(seconds) != len(frames):
        shapes = [frame.shape for frame in frames]
        raise ValueError(f"expected frames of one shape, a time each, got {shapes}, {seconds}")
    # One palette for all frames, so that no colour flickers; Pillow keeps only what changes.
    stacked = Image.fromarray(np.concatenate(frames))
    colours = stacked.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    height = frames[0].shape[0]
    width = frames[0].shape[1]
    pictures = [colours.crop((0, k * height, width, (k + 1) * height)) for k in range(len(frames))]
    times = [round(1000 * s) for s in seconds]
    options = {"save_all": True, "append_images": pictures[1:], "duration": times, "loop": 0}
    _write_image(path, pictures[0], "GIF", **options)


def save_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes a picture as PNG, atomically.

    Args:
        path: file to write; missing folders are made.
        picture: uint8[H, W, 3] RGB.

    Raises:
        ValueError: if `picture` is not uint8[H, W, 3].
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"expected uint8[H, W, 3], got {picture.dtype}{list(picture.shape)}")
    _write_image(path, Image.fromarray(picture))


def save_drawing(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Writes a drawing of few colours as PNG, atomically, in a third of the bytes of `save_png`.

    Args:
        path: file to write; missing folders are made.
        picture: uint8[H, W, 3]; of more than 128 colours, similar ones become one.
    """
    image = Image.fromarray(picture).quantize(128, dither=Image.Dither.NONE)
    _write_image(path, image, optimize=True)


def encode_drawing(picture: np.ndarray, colours: int = 128) -> bytes:
    """Encodes a picture u8[H,W,3] as PNG of at most `colours` colours (256 or fewer)."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture).quantize(colours, dither=Image.Dither.NONE)
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_indexed_png(path: str | os.PathLike[str], label: np.ndarray, num_classes: int) -> None:
    """Writes class ids as an indexed PNG, which viewers show in the class colours.

    Args:
        path: file to write; missing folders are made.
        label: uint8[H, W] class ids; they are the pixel values of the file. 255 is ignored.
        num_classes: K, from 1 to 256; the file's palette begins with `palette(K)`, the rest is
            grey.

    Raises:
        ValueError: if `label` is not uint8[H, W], has an id that is neither below K nor 255, or
            `num_classes` is outside 1..256.
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(f"expected uint8[H, W], got {label.dtype}{list(label.shape)}")
    colours = np.full((256, 3), 190, np.uint8)  # grey for ignored pixels
    colours[:num_classes] = palette(num_classes)
    if np.any((label >= num_classes) & (label != IGNORED)):
        raise ValueError(f"the largest class id is {label.max()}, but num_classes is {num_classes}")
    image = Image.fromarray(label)
    image.putpalette(colours.tobytes())
    # A palette of 256 keeps 8 bits per pixel: of fewer, Pillow would cut larger values off.
    _write_image(path, image)
