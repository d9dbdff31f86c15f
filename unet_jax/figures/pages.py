"""Rows of pictures: input, truth, prediction and errors."""

import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from unet_jax.figures.canvas import MUTED, Page, plain, text_width
from unet_jax.figures.colours import (
    ERROR_COLOUR,
    IGNORED,
    error_map,
    hatch,
    overlay,
    palette,
    same_size,
)

_TILE = 256  # width of a shown picture, about, in pixels of the figure
_GAP, _MARGIN, _LINE = 10, 18, 20  # between tiles, around the page, height of a line of text
_MIN_COLUMN = 150  # room for a caption above very narrow pictures
_MAX_STEPS = 6


def _shown(picture: np.ndarray) -> np.ndarray:
    """Resizes a picture or label map to the width of a column, tall ones to one and a half of it.

    Small pictures are enlarged by a whole number, so that their pixels stay equal squares.
    """
    height, width = picture.shape[:2]
    scale = min(_TILE / width, 1.5 * _TILE / height)
    if scale >= 2:
        scale = round(scale)
    smooth = picture.ndim == 3 and scale < 2
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, method))


def _share_wrong(label: np.ndarray, prediction: np.ndarray) -> str:
    """The share of wrong pixels among those that count, in words."""
    counted = label != IGNORED
    if not counted.any():
        return "all pixels ignored"
    wrong = ((label != prediction) & counted).sum() / counted.sum()
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
        present[np.unique(ids)] = True
    swatches = [
        (name, np.broadcast_to(colour, (13, 20, 3)))
        for name, colour, seen in zip(
            class_names, palette(len(class_names)), present[: len(class_names)], strict=True
        )
        if seen or len(class_names) <= 24
    ]
    if any((label == IGNORED).any() for label in labels):
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


def _save_pages(
    path: str | os.PathLike[str],
    title: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, str, Sequence[np.ndarray], Sequence[str]]],
    legend: list[tuple[str, np.ndarray]],
) -> None:
    """Lays out rows of (id, note, tiles, caption of each tile) in columns under `headings`."""
    widths = [
        max(_MIN_COLUMN, *(tiles[column].shape[1] for _, _, tiles, _ in rows))
        for column in range(len(headings))
    ]
    lefts = [_MARGIN + sum(widths[:c]) + _GAP * c for c in range(len(headings))]
    width = lefts[-1] + widths[-1] + _MARGIN
    page = Page()
    page.text(_MARGIN, _MARGIN + 14, title, 13, width - 2 * _MARGIN, weight="bold")
    y = add_legend(page, legend, _MARGIN + 30, width)
    for left, heading in zip(lefts, headings, strict=True):
        page.text(left, y + 13, heading, 10.5, weight="bold", color=MUTED)
    y += _LINE
    for name, note, tiles, captions in rows:
        # The id may run on over the columns without a caption of their own.
        room = next((x for x, c in zip(lefts, captions, strict=True) if c), width) - _MARGIN - _GAP
        noted = text_width(plain(note), 9) + 10 if note else 0
        end = page.text(_MARGIN, y + 14, name, 9, room - noted, weight="bold")
        page.text(end + 10, y + 14, note, color=MUTED)
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
    scores: Sequence[float] | None = None,
    score_name: str = "mIoU",
) -> None:
    """Writes a PNG with a row per picture: input, truth, prediction, errors.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 pictures uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W]; 255 is ignored.
        predictions: N predicted label maps uint8[H, W].
        class_names: K names, by class id.
        title: heading of the figure.
        ids: N names of the pictures.
        scores: N scores shown beside the ids, or None; NaN is shown as "n/a".
        score_name: what the scores are.

    Raises:
        ValueError: if there is no picture, or counts or shapes do not match.
    """
    if not len(images):
        raise ValueError("prediction_grid needs at least one picture")
    notes = [""] * len(images)
    if scores is not None:
        notes = [
            f"{score_name} {s:.3f}" if math.isfinite(s) else f"{score_name} n/a" for s in scores
        ]
    rows = []
    for name, note, image, label, prediction in zip(
        ids, notes, images, labels, predictions, strict=True
    ):
        same_size(image, label, prediction)
        # Drawn at the size shown: contours and hatching stay fine on enlarged pictures.
        small, truth, guess = _shown(image), _shown(label), _shown(prediction)
        tiles = [
            small,
            overlay(small, truth),
            overlay(small, guess),
            error_map(small, truth, guess),
        ]
        rows.append((name, note, tiles, ["", "", "", _share_wrong(label, prediction)]))
    legend = legend_entries(labels, predictions, class_names, errors=True)
    _save_pages(path, title, ["input", "truth", "prediction", "errors"], rows, legend)


def prediction_history(
    path: str | os.PathLike[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    history: Sequence[tuple[int, Sequence[np.ndarray]]],
    class_names: Sequence[str],
    ids: Sequence[str],
    title: str = "Predictions during training",
) -> None:
    """Writes a PNG with a row per picture: input, truth, then the prediction at several steps.

    Args:
        path: file to write; missing folders are made.
        images: N >= 1 pictures uint8[H, W, 3]; each may have its own size.
        labels: N true label maps uint8[H, W]; 255 is ignored.
        history: at least one (step, N predicted label maps uint8[H, W]). Of more than six, six
            are shown, spread evenly, the first and the last among them.
        class_names: K names, by class id.
        ids: N names of the pictures.
        title: heading of the figure.

    Raises:
        ValueError: if there is no picture or no step, or counts or shapes do not match.
    """
    if not len(images) or not history:
        raise ValueError("prediction_history needs at least one picture and one recorded step")
    chosen = np.linspace(0, len(history) - 1, min(len(history), _MAX_STEPS)).round().astype(int)
    steps, recorded = zip(*(history[i] for i in chosen), strict=True)
    rows = []
    for name, image, label, guesses in zip(
        ids, images, labels, zip(*recorded, strict=True), strict=True
    ):
        same_size(image, label, *guesses)
        small = _shown(image)
        tiles = [small, *(overlay(small, _shown(classes)) for classes in (label, *guesses))]
        rows.append((name, "", tiles, ["", "", *(_share_wrong(label, g) for g in guesses)]))
    legend = legend_entries(
        labels, [g for maps in recorded for g in maps], class_names, errors=False
    )
    headings = ["input", "truth", *(f"step {step:,}" for step in steps)]
    _save_pages(path, title, headings, rows, legend)
