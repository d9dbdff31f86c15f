"""Rows of images: input, truth, prediction and errors."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from unet_jax.figures.canvas import MUTED, Page, plain, text_width
from unet_jax.figures.colours import (
    ERROR_COLOUR,
    error_map,
    hatch,
    ignored_pixels,
    overlay,
    palette,
    same_size,
    wrong_pixels,
)

_TILE = 256  # width of a shown image, about, in pixels of the figure
_GAP, _MARGIN, _LINE = 10, 18, 20  # between tiles, around the page, height of a line of text
_MIN_COLUMN = 150  # room for a caption above very narrow images
_MAX_STEPS = 6


def shown(tile: np.ndarray) -> np.ndarray:
    """Resizes an image or label map to the width of a column, tall ones to one and a half of it.

    Small images are enlarged by a whole number, so that their pixels stay equal squares.
    """
    height, width = tile.shape[:2]
    scale = min(_TILE / width, 1.5 * _TILE / height)
    if scale >= 2:
        scale = round(scale)
    smooth = tile.ndim == 3 and scale < 2
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(tile).resize(size, method))


def shown_mask(label: np.ndarray) -> np.ndarray:
    """Resizes a label map, class by class where it has several; see `shown`."""
    if label.ndim == 2:
        return shown(label)
    return np.stack([shown(part) for part in np.moveaxis(label, -1, 0)], axis=-1)


def _share_wrong(label: np.ndarray, prediction: np.ndarray) -> str:
    """The share of wrong pixels among those that count, in words."""
    counted = ~ignored_pixels(label)
    if not counted.any():
        return "all pixels ignored"
    wrong = wrong_pixels(label, prediction).sum() / counted.sum()
    return "<0.1% wrong" if 0 < wrong < 0.001 else f"{wrong:.1%} wrong"


def legend_entries(
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    errors: bool,
) -> list[tuple[str, np.ndarray]]:
    """Legend entries as (name, swatch u8[13,20,3]); of many classes only those that occur."""
    present = np.zeros(256, bool)
    for ids in (*labels, *predictions):
        seen = np.unique(ids) if ids.ndim == 2 else np.flatnonzero((ids == 1).any(axis=(0, 1)))
        present[seen] = True
    swatches = [
        (name, np.broadcast_to(colour, (13, 20, 3)))
        for name, colour, seen in zip(
            class_names, palette(len(class_names)), present[: len(class_names)], strict=True
        )
        if seen or len(class_names) <= 24
    ]
    if any(ignored_pixels(label).any() for label in labels):
        swatches.append(("ignored", hatch(13, 20)[..., None].repeat(3, axis=-1)))
    if errors:
        swatches.append(("wrong", np.full((13, 20, 3), ERROR_COLOUR, np.uint8)))
    return swatches


def add_legend(page: Page, legend: list[tuple[str, np.ndarray]], y: int, width: int) -> int:
    """Adds the legend in as many lines as it needs; returns the y below it."""
    x = float(_MARGIN)
    for name, swatch in legend:
        need = 26 + min(text_width(plain(name), 9), width / 2)
        if x + need > width - _MARGIN and x > _MARGIN:
            x, y = float(_MARGIN), y + _LINE
        framed = np.pad(swatch, ((1, 1), (1, 1), (0, 0)), constant_values=90)
        page.tiles.append((round(x), y, framed))
        x = page.text(x + 27, y + 12, name, room=width / 2) + 18
    return y + _LINE + 10


def save_pages(
    path: str | os.PathLike[str],
    title: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, Sequence[np.ndarray], Sequence[str]]],
    legend: list[tuple[str, np.ndarray]],
    note: str = "",
) -> None:
    """Lays out rows of (id, tiles, caption of each tile) in columns under `headings`.

    A note stands below the title.
    """
    widths = [
        max(_MIN_COLUMN, *(tiles[column].shape[1] for _, tiles, _ in rows))
        for column in range(len(headings))
    ]
    lefts = [_MARGIN + sum(widths[:c]) + _GAP * c for c in range(len(headings))]
    width = lefts[-1] + widths[-1] + _MARGIN
    page = Page()
    page.text(_MARGIN, _MARGIN + 14, title, 13, width - 2 * _MARGIN, weight="bold")
    if note:
        page.text(_MARGIN, _MARGIN + 34, note, 9, width - 2 * _MARGIN, color=MUTED)
    y = add_legend(page, legend, _MARGIN + 30 + _LINE * bool(note), width)
    for left, heading, across in zip(lefts, headings, widths, strict=True):
        page.text(left, y + 13, heading, 10.5, across, weight="bold", color=MUTED)
    y += _LINE
    for name, tiles, captions in rows:
        # The id may run on over the columns without a caption of their own.
        room = next((x for x, c in zip(lefts, captions, strict=True) if c), width) - _MARGIN - _GAP
        page.text(_MARGIN, y + 14, name, 9, room, weight="bold")
        for left, caption, tile in zip(lefts, captions, tiles, strict=True):
            page.text(left, y + 14, caption)
            page.tiles.append((left, y + _LINE, np.asarray(tile)))
        y += _LINE + max(tile.shape[0] for tile in tiles) + _GAP
    page.save(path, width, y - _GAP + _MARGIN)


def prediction_grid(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    class_names: Sequence[str],
    title: str,
    ids: Sequence[str],
) -> None:
    """Writes a PNG with a row per image: input, truth, prediction, errors.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 images uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W], or uint8[H, W, K] by class; 255 is ignored.
        predictions: N predicted label maps, likewise.
        class_names: K names, by class id.
        title: heading of the figure.
        ids: N names of the images.

    Raises:
        ValueError: if there is no image, or counts or shapes do not match.
    """
    if not len(images):
        raise ValueError("prediction_grid needs at least one image")
    rows = []
    for name, image, label, prediction in zip(ids, images, labels, predictions, strict=True):
        same_size(image, label, prediction)
        # Drawn at the size shown: contours and hatching stay fine on enlarged images.
        small, truth, guess = shown(image), shown_mask(label), shown_mask(prediction)
        tiles = [
            small,
            overlay(small, truth),
            overlay(small, guess),
            error_map(small, truth, guess),
        ]
        rows.append((name, tiles, ["", "", "", _share_wrong(label, prediction)]))
    legend = legend_entries(labels, predictions, class_names, errors=True)
    save_pages(path, title, ["input", "truth", "prediction", "errors"], rows, legend)


def prediction_history(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    history: Sequence[tuple[int, Sequence[np.ndarray]]],
    class_names: Sequence[str],
    ids: Sequence[str],
    title: str = "Predictions during training",
) -> None:
    """Writes a PNG with a row per image: input, truth, then the prediction at several steps.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 images uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W], or uint8[H, W, K] by class; 255 is ignored.
        history: at least one (step, N predicted label maps). Of more than six, six
            are shown, spread evenly, the first and the last among them.
        class_names: K names, by class id.
        ids: N names of the images.
        title: heading of the figure.

    Raises:
        ValueError: if there is no image or no step, or counts or shapes do not match.
    """
    if not len(images) or not history:
        raise ValueError("prediction_history needs at least one image and one recorded step")
    chosen = np.linspace(0, len(history) - 1, min(len(history), _MAX_STEPS)).round().astype(int)
    steps, recorded = zip(*(history[i] for i in chosen), strict=True)
    rows = []
    for name, image, label, guesses in zip(
        ids, images, labels, zip(*recorded, strict=True), strict=True
    ):
        same_size(image, label, *guesses)
        small = shown(image)
        tiles = [small, *(overlay(small, shown_mask(classes)) for classes in (label, *guesses))]
        rows.append((name, tiles, ["", "", *(_share_wrong(label, g) for g in guesses)]))
    legend = legend_entries(
        labels, [g for maps in recorded for g in maps], class_names, errors=False
    )
    headings = ["input", "truth", *(f"step {step:,}" for step in steps)]
    save_pages(path, title, headings, rows, legend)
