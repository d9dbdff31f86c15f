"""Class colours, images coloured by class, and files of them."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from unet_jax.process.whole import write_whole

IGNORED = 255
"""Label value of pixels that count neither as right nor as wrong."""

ERROR_COLOUR = (214, 0, 84)
"""Wrong pixels: dark and saturated on a light grey image, so that it is also a contrast in
lightness; `error_map` uses it for nothing else."""

COLOURS = np.frombuffer(
    bytes.fromhex("""
    e69f00 56b4e9 009e73 f0e442 0072b2 d55e00 cc79a7 000000
    713900 c6e28d 8d0071 8de2ff 71712c 8d8dff ffe2c6 2828a0
    0000ff 7155ff 8eaa55 8ec68e 555539 5555c6 e3e371 551cc6 8e008e aa558e 8e0055 5539ff 7171ff
    558ec6 8eaac6 aae3e3 8ec655 e33939 71391c c6c639 c61caa 71aa71 e38e39 7171e3 c68e8e 717155
    718ee3 715571 aac6aa e3e3aa c63900 aac671 aa1c39 1c1ce3 8eaaff 71c6e3 8e398e aa71aa 8e8e55
    aac6ff 5539c6 5539aa aa00e3 aa0055 e3008e aaff00 3971c6 e3e355 1cffff 5555e3 c6718e 718e39
    c68e00 71551c aaaaaa 71ffc6 71ffe3 ff5571 008e00 e33971 00ff71 ffaaaa e3aae3 8ee3c6 8eaa39
    e38ec6 005571 00ffaa c671e3 ffaa71 ffc61c 00aaaa 55e355 551cff 00551c 717139 1c8e71 55718e
    aa8ec6 55398e e3c68e 711ce3 e38eff c6aa71 1c7100 5571aa c600c6 e3c655 1ce38e ff0055 ff00ff
    55ff55 e3e3ff ffaa00 ff718e 1c5500 c6c6e3 8eff8e aa1c71 aa71ff c68ee3 1c8e55 71e300 c68eaa
    1caa1c ff5555 71aa8e 8e55e3 ff5539 55c639 8e1c1c 008eff ffe38e ffe300 aa8e39 8e00aa c63939
    ff711c 8e55c6 c639aa e3391c e38e55 1c7139 005539 e3aac6 c6551c 00c6c6 aa55e3 007155 aa71c6
    ffc639 aac61c ffc671 1c558e ffc6e3 e339c6 8e5571 55e371 1c55ff c671c6 e3c6aa 558e8e aa1cff
    e31c55 00c68e 8e551c e3aa55 c6aaff 00c6ff 55e3aa ffc6c6 e3aa39 c60055 8e00ff e355aa 8e39aa
    8e00c6 39aa39 c6001c 55aae3 8e1c71 55c671 008e39 8ec6c6 00ff39 aa1c8e e35571 1cc655 8e71c6
    aa1caa 71c6aa 001cff 551ce3 8e3900 c65571 8e39e3 c6c6c6 c6711c 7100aa c60071 ffaa39 1c55c6
    c6398e c6e31c 8e55ff 1ce339 8e1c00 ff7171 5555aa 8e1c55 55aa55 71711c 8e7139 00aa71 55551c
    e3c671 555500 1c55e3 ff39c6 ff71aa 3939aa e38ee3 c6aac6 ff3900 ffc655 ff8eff c671ff 8e71e3
    1ce3e3 aa8e8e e339aa e3aa1c c6c68e e3c6e3 7155c6 ffaa55 ff0000 71c600 00ff8e 1ce3c6 1c718e
    aaaae3 ffe3aa c6c655 8e7155 3939e3 aae3aa c6aa39 ffc6aa 00aa8e c67139 c68e39 e3e3e3 1c71aa
    aa1ce3 3939c6 aa0071 8e3939 c6aa8e aa0000
"""),
    np.uint8,
).reshape(256, 3)
"""All class colours, RGB. The first eight are Okabe and Ito's, black last: as a first class it
would hide the image under the overlay. The next eight were chosen by eye, since CIELAB overrates
differences between blues. Each of the others is as far as can be from all before it, from greys
and from `ERROR_COLOUR`, for normal sight and two kinds of colour blindness;
`tests/support/sight.py` computes them."""


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
    return COLOURS[:num_classes].copy()


def hatch(height: int, width: int) -> np.ndarray:
    """Neutral diagonal stripes for ignored pixels, u8[H,W] of 110 and 200."""
    y, x = np.ogrid[:height, :width]
    return np.where((x + y) % 7 < 2, 110, 200).astype(np.uint8)


def same_size(image: np.ndarray, *labels: np.ndarray) -> None:
    """Raises ValueError unless `image` is [H,W,3] and every label map is [H,W] or [H,W,K]."""
    shapes = [image.shape, *(label.shape for label in labels)]
    is_image = len(shapes[0]) == 3 and shapes[0][2] == 3
    if not is_image or any(s[:2] != shapes[0][:2] or len(s) > 3 for s in shapes[1:]):
        raise ValueError(f"expected an image [H,W,3] and label maps [H,W] or [H,W,K]: {shapes}")


def ignored_pixels(label: np.ndarray) -> np.ndarray:
    """Tells bool[H,W] which pixels are ignored, in any class where there are several."""
    return (_by_class(label) == IGNORED).any(axis=-1)


def wrong_pixels(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Tells bool[H,W] where a prediction is wrong, in any class where there are several."""
    differs = (_by_class(label) != _by_class(prediction)).any(axis=-1)
    return differs & ~ignored_pixels(label)


def _by_class(label: np.ndarray) -> np.ndarray:
    """Views a label map [H,W] as one of a single class [H,W,1]; one of several stays."""
    return label.reshape(*label.shape[:2], -1)


def _colours_of(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Colours each pixel by its class; by the mean of its classes, or as it is without any."""
    if label.ndim == 2:
        return COLOURS[label]
    on = label == 1
    count = on.sum(axis=-1, keepdims=True)
    mean = on @ COLOURS[: label.shape[-1]].astype(np.float64) / np.maximum(count, 1)
    return np.where(count > 0, mean, image)


def overlay(image: np.ndarray, label: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """Blends class colours over an image and draws the class boundaries.

    A boundary is a white line beside a black one, so that it shows on every colour and without
    colour vision; it fades out in speckle. Ignored pixels are hatched in grey.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] class ids, or uint8[H, W, K], 1 where a class is; 255 is ignored. A pixel
            of several classes has the mean of their colours.
        alpha: weight of the class colours, 0 (image only) to 1 (colours only).

    Returns:
        uint8[H, W, 3].

    Raises:
        ValueError: if the shapes do not match.
    """
    same_size(image, label)
    colours, ignored, parts = _colours_of(image, label), ignored_pixels(label), _by_class(label)
    colours[ignored] = hatch(*ignored.shape)[ignored][:, None]
    blended = image * (1 - alpha) + colours * alpha
    before, after = np.zeros_like(ignored), np.zeros_like(ignored)
    across = (parts[:, :-1] != parts[:, 1:]).any(axis=-1)
    down = (parts[:-1] != parts[1:]).any(axis=-1)
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
    """Marks the wrongly classified pixels on a pale grey version of the image.

    Args:
        image: uint8[H, W, 3].
        label: uint8[H, W] true class ids, or uint8[H, W, K] by class; 255 is ignored.
        prediction: uint8, predicted ids, or by class likewise.

    Returns:
        uint8[H, W, 3]: `ERROR_COLOUR` at exactly the wrong pixels, grey stripes of 110 and 200 at
        ignored ones, grey of 150..255 elsewhere.

    Raises:
        ValueError: if the shapes do not match.
    """
    same_size(image, label, prediction)
    luma = image @ np.array([0.299, 0.587, 0.114])
    marked = np.rint(150 + luma * (105 / 255)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    ignored = ignored_pixels(label)
    marked[ignored] = hatch(*ignored.shape)[ignored][:, None]
    marked[wrong_pixels(label, prediction)] = ERROR_COLOUR
    return marked


def _write_image(
    path: str | os.PathLike[str], image: Image.Image, kind: str = "PNG", **options: Any
) -> None:
    """Writes `image` so that `path` holds either the old file or the whole new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    write_whole(target, buffer.getvalue())


def save_gif(
    path: str | os.PathLike[str], frames: Sequence[np.ndarray], seconds: Sequence[float]
) -> None:
    """Writes images as an animation that begins again at its end, atomically.

    Args:
        path: file to write; missing folders are made.
        frames: N >= 1 images uint8[H, W, 3] of one size.
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
    images = [colours.crop((0, k * height, width, (k + 1) * height)) for k in range(len(frames))]
    times = [round(1000 * s) for s in seconds]
    options = {"save_all": True, "append_images": images[1:], "duration": times, "loop": 0}
    _write_image(path, images[0], "GIF", **options)


def save_png(path: str | os.PathLike[str], drawing: np.ndarray) -> None:
    """Writes an image as PNG, atomically.

    Args:
        path: file to write; missing folders are made.
        drawing: uint8[H, W, 3] RGB.

    Raises:
        ValueError: if `drawing` is not uint8[H, W, 3].
    """
    if drawing.dtype != np.uint8 or drawing.ndim != 3 or drawing.shape[2] != 3:
        raise ValueError(f"expected uint8[H, W, 3], got {drawing.dtype}{list(drawing.shape)}")
    _write_image(path, Image.fromarray(drawing))


def save_drawing(path: str | os.PathLike[str], drawing: np.ndarray) -> None:
    """Writes a drawing of few colours as PNG, atomically, in a third of the bytes of `save_png`.

    Args:
        path: file to write; missing folders are made.
        drawing: uint8[H, W, 3]; of more than 128 colours, similar ones become one.
    """
    image = Image.fromarray(drawing).quantize(128, dither=Image.Dither.NONE)
    _write_image(path, image, optimize=True)


def encode_drawing(drawing: np.ndarray, colours: int, keep: np.ndarray) -> bytes:
    """Encodes a drawing as PNG of few colours, in which some stay exactly what they are.

    Args:
        drawing: uint8[H, W, 3].
        colours: 1 to 256, for all pixels but those of the kept colours; similar ones become one.
        keep: uint8[K, 3] RGB. With more than 256 colours in all, every pixel stays what it is.

    Returns:
        The bytes of the file.
    """
    buffer = io.BytesIO()
    image = Image.fromarray(drawing)
    if colours + len(keep) <= 256:
        image = image.quantize(colours, dither=Image.Dither.NONE)
        entries, pixels = np.reshape(image.getpalette("RGB") or [], (-1, 3)), np.array(image)
        for index, colour in enumerate(keep, len(entries)):
            pixels[(drawing == colour).all(axis=-1)] = index
        image = Image.fromarray(pixels)
        image.putpalette(np.concatenate([entries, keep]).astype(np.uint8).tobytes())
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_indexed_png(path: str | os.PathLike[str], label: np.ndarray, num_classes: int) -> None:
    """Writes class ids as an indexed PNG, atomically; see `encode_indexed_png`.

    Args:
        path: file to write; missing folders are made.
        label: uint8[H, W] class ids.
        num_classes: K, from 1 to 256.

    Raises:
        ValueError: see `encode_indexed_png`.
    """
    target, data = Path(path), encode_indexed_png(label, num_classes)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, data)


def encode_indexed_png(label: np.ndarray, num_classes: int) -> bytes:
    """Encodes class ids as an indexed PNG, which viewers show in the class colours.

    Args:
        label: uint8[H, W] class ids; they are the pixel values of the file. 255 is ignored.
        num_classes: K, from 1 to 256; the file's palette begins with `palette(K)`, the rest is
            grey.

    Returns:
        The bytes of the file.

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
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
